//! Handoffs to a forge: the real program, a real repository, and a forge behind a real port that may lie.

use dalsegno_testkit::crash::{Kill, Ran};
use dalsegno_testkit::forge::{FakeForge, FakeSetup, Lie, LieFor};

use super::judge;
use super::project::Project;

/// The agent must not see the token, and its work is one commit.
const AGENT: &str = "default:\n  - [ {sh: \"rm -f .git/index.lock; test -z \\\"$FORGE_TOKEN\\\" && echo work > work.txt && git add -A && git commit -qm work\"} ]\n";

/// A project whose handoff opens pull requests, and its forge.
pub(crate) struct Scene {
    pub(crate) project: Project,
    pub(crate) forge: FakeForge,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let project = Project::new("handoff: {}\n", AGENT);
        let setup = FakeSetup { git_dir: Some(project.remote()), ..FakeSetup::new(project.dir.join("forge")) };
        let forge = FakeForge::start(setup).unwrap();
        project.front(&format!(
            "polling: {{interval_ms: 200}}\nagent: {{kind: scripted, script: agent.yaml, max_retry_backoff_ms: 200}}\n\
             handoff:\n  forge: github\n  provider: {{token: $FORGE_TOKEN, repository: acme/widgets, api_url: '{}'}}\n  \
             checks: [\"test -s work.txt\"]\n  state: Human Review\n",
            forge.url()
        ));
        project.issue("DS-1", "state: Todo");
        Self { project, forge }
    }

    /// The forge lets nothing be ready.
    pub(crate) fn refusing() -> Self {
        let scene = Self::new();
        scene.forge.lie(LieFor { times: u32::MAX, ..LieFor::next("POST", "/graphql") }, Lie::Status(403));
        scene
    }

    pub(crate) fn run_with_kill(&self, how: Kill) -> Ran {
        self.project.run_with_kill(how)
    }

    /// One push, one pull request, one comment, one move.
    pub(crate) fn handed_off(&self) {
        judge::all_handed_off(&self.project, &["DS-1"]);
        let pulls = self.forge.pulls();
        let told: Vec<_> = pulls.iter().map(|pull| (pull.head.as_str(), pull.open, pull.draft)).collect();
        assert_eq!(told, [("dalsegno/DS-1", true, false)]);
        let issue = self.project.issue_text("DS-1");
        assert!(issue.contains("Pull request: https://forge.example/acme/widgets/pull/1"), "{issue}");
    }

    /// The remote is as it was, and the issue says why.
    pub(crate) fn undone(&self) {
        let (status, reason) = self.project.status("DS-1").unwrap();
        assert!(status == "parked" && reason.starts_with("forge_denied"), "{status}: {reason}");
        let branches = self.project.git(&self.project.remote(), &["branch", "--list", "dalsegno/*"]);
        assert_eq!(branches, "", "the branch is still there");
        assert!(self.forge.pulls().iter().all(|pull| !pull.open), "{:?}", self.forge.pulls());
        assert!(self.forge.pulls().len() <= 1, "{:?}", self.forge.pulls());
        let issue = self.project.issue_text("DS-1");
        assert!(issue.contains("state: Todo") && !issue.contains("<!-- dalsegno:"), "{issue}");
        assert!(self.project.workspace("DS-1").join("work.txt").exists(), "the work is still there");
        judge::no_gap(&self.project);
        judge::at_rest(&self.project);
    }

    fn words(&self, arguments: &[&str]) -> String {
        let output = self.project.output(arguments);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }
}

#[test]
fn a_pull_request_is_opened_once_however_the_forge_lies() {
    let scene = Scene::new();
    // Opened and not answered; seen late; marked as ready and not answered, then slowly.
    scene.forge.lie(LieFor::next("POST", "/repos/acme/widgets/pulls"), Lie::DoneUnanswered);
    scene.forge.lie(LieFor::next("GET", "/repos/acme/widgets/pulls*"), Lie::Status(502));
    scene.forge.lie(LieFor::next("POST", "/graphql"), Lie::AnsweredUndone);
    assert!(scene.project.once(&[]).wait().success());
    scene.handed_off();
    let shown = scene.words(&["show", "DS-1"]);
    assert!(shown.contains("/pull/1"), "{shown}");
    let drawn = scene.words(&["show", "run-1.handoff"]);
    for part in ["look", "compensatable", "└ open", "└ ready", "pivot", "└ comment"] {
        assert!(drawn.contains(part), "{part} in {drawn}");
    }
    let issue = scene.project.json(&["show", "DS-1", "--json"]);
    assert_eq!(issue["pull_request"]["number"], 1);
}

#[test]
fn a_push_that_somebody_built_on_is_not_taken_back_and_settled_by_hand() {
    let scene = Scene::refusing();
    let (project, remote) = (&scene.project, scene.project.remote());
    // Somebody goes on with the branch as soon as it is there.
    let hook = remote.join("hooks/post-receive");
    let commit = "c=$(git commit-tree -p refs/heads/dalsegno/DS-1 -m more 'refs/heads/dalsegno/DS-1^{tree}') && \
                  git update-ref refs/heads/dalsegno/DS-1 $c";
    let names = "export GIT_AUTHOR_NAME=P GIT_AUTHOR_EMAIL=p@p GIT_COMMITTER_NAME=P GIT_COMMITTER_EMAIL=p@p";
    std::fs::write(&hook, format!("#!/bin/sh\n{names}\n{commit}\n")).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(project.once(&[]).wait().success());
    let (status, reason) = project.status("DS-1").unwrap();
    assert!(status == "parked" && reason.contains("branch_built_on"), "{status}: {reason}");
    let log = project.git(&remote, &["log", "--format=%s", "dalsegno/DS-1"]);
    assert!(log.starts_with("more\nwork"), "nothing of theirs is lost: {log}");
    assert!(scene.forge.pulls().iter().all(|pull| !pull.open), "the other undo went on");

    let mut daemon = project.daemon();
    project.wait_until("the daemon takes the word", || {
        scene.words(&["settle", "DS-1", "push", "skip", "--why", "it stays"]).contains("It is settled")
    });
    project.wait_until("the saga ends", || project.json(&["show", "run-1.handoff", "--json"])["state"] == "abandoned");
    daemon.stop();
}

#[test]
fn a_missing_token_is_said_at_the_start() {
    let scene = Scene::new();
    let mut command = scene.project.command(&["run", "--once", "--port", "0"]);
    let output = command.env_remove("FORGE_TOKEN").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("missing_forge_secret"), "{said}");
    let record = std::fs::read_to_string(scene.project.dir.join("daemon.log")).unwrap_or_default();
    assert!(!record.contains(dalsegno_testkit::forge::OURS.token));
}
