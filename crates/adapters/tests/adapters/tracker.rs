//! The local tracker: the conformance suite, and people who edit at the same time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_adapters::tracker::local::NewIssue;
use dalsegno_adapters::tracker::{LocalTracker, LocalTrackers};
use dalsegno_adapters::workflow::{Environment, WorkflowFile};
use dalsegno_core::{Issue, IssueId, Policy};
use dalsegno_engine::{Tracker, Trackers, Workflow};
use dalsegno_testkit::conformance::tracker::{Seed, TrackerFixture};

struct Local {
    dir: tempfile::TempDir,
    tracker: LocalTracker,
}

fn env() -> Environment {
    Arc::new(|name| (name == "HOME").then(|| "/home/ada".to_owned()))
}

fn policy(dir: &Path, provider: &str) -> Policy {
    let text = format!("---\ntracker: {{kind: local, provider: {provider}}}\nagent: {{kind: acp, command: a}}\n---\n");
    fs::write(dir.join("WORKFLOW.md"), text).unwrap();
    WorkflowFile::with_environment(dir.join("WORKFLOW.md"), env()).load().unwrap()
}

impl Local {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("issues")).unwrap();
        let tracker = LocalTracker::open(&policy(dir.path(), "{}"), &env()).unwrap();
        Self { dir, tracker }
    }

    fn issues(&self) -> PathBuf {
        self.dir.path().join("issues")
    }

    fn file(&self, identifier: &str) -> PathBuf {
        self.issues().join(format!("{identifier}.md"))
    }

    fn write(&self, identifier: &str, text: &str) {
        fs::write(self.file(identifier), text).unwrap();
    }

    fn text(&self, identifier: &str) -> String {
        fs::read_to_string(self.file(identifier)).unwrap()
    }

    async fn todo(&self) -> Vec<Issue> {
        self.tracker.fetch_issues_by_states(&["Todo".to_owned()]).await.unwrap()
    }

    fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"])
            .args(arguments)
            .current_dir(self.dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.issues()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".md")).collect()
    }
}

fn todo(extra: &str, body: &str) -> String {
    format!("---\nid: i-1\ntitle: One\nstate: Todo\n{extra}---\n{body}")
}

#[async_trait]
impl TrackerFixture for Local {
    fn tracker(&self) -> Arc<dyn Tracker> {
        Arc::new(self.tracker.clone())
    }

    fn reopened(&self) -> Arc<dyn Tracker> {
        LocalTrackers::with_environment(env()).open(&policy(self.dir.path(), "{}")).unwrap()
    }

    async fn put(&self, seed: &Seed) {
        let json = |value: &dyn erased::Json| value.json();
        let mut text = String::from("---\n");
        if let Some(id) = &seed.id {
            text.push_str(&format!("id: {}\n", json(id)));
        }
        text.push_str(&format!("title: {}\nstate: {}\n", json(&seed.title), json(&seed.state)));
        text.push_str(&format!("labels: {}\nblocked_by: {}\n", json(&seed.labels), json(&seed.blocked_by)));
        for (key, value) in [("priority", &seed.priority), ("created_at", &seed.created_at)] {
            if !value.is_empty() {
                text.push_str(&format!("{key}: {value}\n"));
            }
        }
        for (key, value) in [("parent", &seed.parent), ("assignee", &seed.assignee)] {
            if let Some(value) = value {
                text.push_str(&format!("{key}: {}\n", json(value)));
            }
        }
        text.push_str(&format!("---\n\n{}\n", seed.description));
        self.write(&seed.identifier, &text);
    }

    async fn remove(&self, identifier: &str) {
        fs::remove_file(self.file(identifier)).unwrap();
    }

    async fn damage(&self, identifier: &str) {
        self.write(identifier, "---\ntitle: half a file\nsta");
    }

    async fn cut(&self) {
        fs::rename(self.issues(), self.dir.path().join("away")).unwrap();
        fs::write(self.issues(), "not a folder").unwrap();
    }

    async fn mend(&self) {
        fs::remove_file(self.issues()).unwrap();
        fs::rename(self.dir.path().join("away"), self.issues()).unwrap();
    }

    async fn comments(&self, identifier: &str) -> Vec<String> {
        let (_, comments) = self.tracker.show(identifier).await.unwrap().unwrap();
        comments.into_iter().map(|comment| comment.body).collect()
    }

    fn active_states(&self) -> [String; 3] {
        ["Todo", "In Progress", "Rework"].map(str::to_owned)
    }

    fn terminal_states(&self) -> [String; 2] {
        ["Done", "Canceled"].map(str::to_owned)
    }
}

mod erased {
    /// A value as JSON, which is YAML too.
    pub(super) trait Json {
        fn json(&self) -> String;
    }
    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> String {
            serde_json::to_string(self).unwrap()
        }
    }
}

mod conformance {
    use super::Local;

    dalsegno_testkit::tracker_conformance!(Local::new());
}

#[test]
fn s17_3_configuration_errors_have_their_category() {
    let dir = tempfile::tempdir().unwrap();
    let trackers = LocalTrackers::with_environment(env());
    let mut wrong = policy(dir.path(), "{}");
    wrong.tracker.kind = "linear".to_owned();
    assert_eq!(trackers.open(&wrong).err().unwrap().code, "unsupported_tracker_kind");
    for provider in ["{path: [1]}", "{path: $UNSET}", "{path: WORKFLOW.md}", "{prefix: 'a b'}"] {
        let failure = trackers.open(&policy(dir.path(), provider)).err().unwrap();
        assert_eq!(failure.code, "invalid_tracker_config", "{provider}");
        assert!(failure.hint.is_some());
    }
    assert!(trackers.open(&policy(dir.path(), "{path: ~/somewhere, other: 1}")).is_ok());
}

#[tokio::test]
async fn edits_keep_every_other_byte() {
    let local = Local::new();
    let before = "\u{feff}---\r\n# a note\r\ntitle: \"One: two\"\r\nlabels: [b,  a]\r\nstate:   'To do'  # now\r\nid: i-1\r\nunknown: {x: 1}\r\n---\r\n\r\nBody\twith tabs  \r\nand no end";
    local.write("DS-1", before);
    let id = IssueId::from("i-1");
    assert_eq!(local.tracker.transition(&id, "In Progress", &[]).await.unwrap(), "In Progress");
    let moved = before.replace("'To do'", "In Progress");
    assert_eq!(local.text("DS-1"), moved);
    assert_eq!(local.tracker.transition(&id, "yes: #1", &[]).await.unwrap(), "yes: #1");
    assert_eq!(local.text("DS-1"), before.replace("'To do'", "\"yes: #1\""));
    local.tracker.transition(&id, "In Progress", &[]).await.unwrap();
    local.tracker.comment(&id, "Hello\nthere", "m").await.unwrap();
    let text = local.text("DS-1");
    assert!(text.starts_with(&moved));
    let added = &text[moved.len()..];
    assert!(added.starts_with("\r\n\r\n## Comments\r\n\r\n### 2"), "{added:?}");
    assert!(added.ends_with(" · dalsegno\r\n<!-- dalsegno:m -->\r\n\r\nHello\r\nthere\r\n"), "{added:?}");
    assert_eq!(added.matches('\n').count(), added.matches("\r\n").count());
    assert_eq!(local.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn states_that_cannot_be_edited_safely_are_left_alone() {
    let local = Local::new();
    for state in ["state: >-\n  Todo\n", "state: To\n  do\n", "other: &a Todo\nstate: *a\nagain: *a\n"] {
        let text = format!("---\nid: i-1\ntitle: One\n{state}---\n");
        local.write("DS-1", &text);
        match local.tracker.transition(&IssueId::from("i-1"), "Done", &[]).await {
            Ok(_) => {
                let issues = local.tracker.fetch_issues_by_states(&["Done".to_owned()]).await.unwrap();
                assert_eq!(issues.len(), 1, "{state}");
                assert!(local.text("DS-1").contains("again: *a"), "{state}");
            }
            Err(failure) => {
                assert_eq!((failure.code.as_str(), failure.retryable), ("tracker_response", false), "{state}");
                assert_eq!(local.text("DS-1"), text);
            }
        }
    }
}

#[tokio::test]
async fn required_fields_are_taken_as_they_stand() {
    let local = Local::new();
    local.write("DS-1", "---\nid: 007\ntitle: 1.10\nstate: Todo\n---\n");
    let issues = local.todo().await;
    assert_eq!((issues[0].id.as_str(), issues[0].title.as_str()), ("007", "1.10"));
    for broken in [
        "title: x\n",
        "state: Todo\n",
        "title: ''\nstate: Todo\n",
        "title: [a]\nstate: Todo\n",
        "title: null\nstate: Todo\n",
    ] {
        local.write("DS-1", &format!("---\nid: 007\n{broken}---\n"));
        assert_eq!(local.todo().await, vec![], "{broken}");
        let failure = local.tracker.fetch_issues_by_ids(&[IssueId::from("007")]).await.unwrap_err();
        assert_eq!(failure.code, "tracker_response", "{broken}");
    }
}

#[tokio::test]
async fn an_id_that_is_a_whole_text_is_malformed() {
    let local = Local::new();
    for (length, issues) in [(256, 1), (257, 0)] {
        let id = "x".repeat(length);
        local.write("DS-1", &format!("---\nid: {id}\ntitle: x\nstate: Todo\n---\n"));
        assert_eq!(local.todo().await.len(), issues);
    }
    let failure = local.tracker.fetch_issues_by_ids(&[IssueId::from("x".repeat(256).as_str())]).await.unwrap_err();
    assert_eq!(failure.code, "tracker_response");
    assert!(failure.message.contains("257 bytes, and 256 fit"), "{failure}");
}

#[tokio::test]
async fn half_saved_files_fail_the_refresh_and_hold_up_nobody() {
    let local = Local::new();
    local.write("DS-2", &todo("", "").replace("i-1", "i-2"));
    for half in [&b""[..], b"---\ntitle: x\n", b"---\ntitle: [x\n---\n", b"---\ntitle: \xff\n---\n", b"no front matter"]
    {
        local.write("DS-1", &todo("", "text"));
        assert_eq!(local.todo().await.len(), 2);
        fs::write(local.file("DS-1"), half).unwrap();
        assert_eq!(local.todo().await.len(), 1);
        let failure = local.tracker.fetch_issues_by_ids(&[IssueId::from("i-1")]).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("tracker_response", true), "{half:?}");
        let failure = local.tracker.transition(&IssueId::from("i-1"), "Done", &[]).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("tracker_response", true), "{half:?}");
        assert_eq!(fs::read(local.file("DS-1")).unwrap(), half, "nothing is written into a half-saved file");
    }
    let (_, broken) = local.tracker.list().await.unwrap();
    assert_eq!(broken.len(), 1);
}

#[tokio::test]
async fn a_half_saved_blocker_or_child_still_counts() {
    let local = Local::new();
    local.write("DS-1", &todo("blocked_by: [DS-2]\n", ""));
    local.write("DS-2", &todo("", "").replace("i-1", "i-2").replace("Todo", "Done"));
    local.write("DS-3", &todo("", "").replace("i-1", "i-3"));
    local.write("DS-4", &todo("parent: DS-3\n", "").replace("i-1", "i-4"));
    let dispatchable =
        |issues: Vec<Issue>, name: &str| issues.iter().find(|i| i.identifier == name).unwrap().dispatchable;
    assert!(dispatchable(local.todo().await, "DS-1"));
    local.write("DS-2", "");
    local.write("DS-4", "---\n");
    assert!(!dispatchable(local.todo().await, "DS-1"));
    assert!(!dispatchable(local.todo().await, "DS-3"));
}

#[tokio::test]
async fn a_lost_id_is_kept_by_name() {
    let local = Local::new();
    local.tracker.remember(&[(IssueId::from("from-journal"), "DS-1".to_owned())]);
    local.write("DS-1", "---\ntitle: x\nstate: Todo\n---\n");
    assert_eq!(local.todo().await[0].id.as_str(), "from-journal");
    local.write("DS-2", "---\ntitle: x\nstate: Todo\n---\n");
    assert_eq!(local.todo().await[1].id.as_str(), "DS-2");
    local.write("DS-3", "---\nid: own\ntitle: x\nstate: Todo\n---\n");
    assert_eq!(local.todo().await[2].id.as_str(), "own");
    local.write("DS-3", "---\ntitle: x\nstate: Todo\n---\n");
    assert_eq!(local.todo().await[2].id.as_str(), "own");
}

#[tokio::test]
async fn a_copied_file_does_not_share_an_id() {
    let local = Local::new();
    local.write("DS-1", &todo("", ""));
    assert_eq!(local.todo().await.len(), 1);
    fs::copy(local.file("DS-1"), local.file("DS-2")).unwrap();
    let issues = local.todo().await;
    assert_eq!(issues.len(), 1);
    assert_eq!(issues[0].identifier, "DS-1");
    let (_, broken) = local.tracker.list().await.unwrap();
    assert!(broken[0].reason.contains("DS-1"), "{broken:?}");
}

#[tokio::test]
async fn identifiers_that_differ_only_by_case_are_an_error() {
    let local = Local::new();
    local.write("DS-1", &todo("", ""));
    local.write("ds-1", &todo("", ""));
    let failure = local.tracker.fetch_issues_by_states(&["Todo".to_owned()]).await.unwrap_err();
    assert_eq!(failure.code, "tracker_response");
    assert!(failure.message.contains("DS-1.md") && failure.message.contains("ds-1.md"), "{failure}");
}

#[tokio::test]
async fn a_write_looks_at_its_own_file_and_at_all_when_that_is_not_there() {
    let local = Local::new();
    local.write("DS-1", &todo("", ""));
    assert_eq!(local.todo().await.len(), 1);
    let (id, other) = (IssueId::from("i-1"), "---\nid: i-2\ntitle: Two\nstate: Todo\n---\n");
    // A look at all would end at these two.
    local.write("OP-1", other);
    local.write("op-1", other);
    local.tracker.comment(&id, "here", "m-1").await.unwrap();
    assert!(local.text("DS-1").contains("m-1"));
    fs::remove_file(local.file("op-1")).unwrap();

    fs::rename(local.file("DS-1"), local.file("DS-7")).unwrap();
    local.tracker.comment(&id, "there", "m-2").await.unwrap();
    assert!(local.text("DS-7").contains("m-2"));
    // It belongs to another issue now, whose words these would not be.
    local.write("DS-7", "---\nid: i-7\ntitle: Seven\nstate: Todo\n---\n");
    assert_eq!(local.tracker.comment(&id, "where", "m-3").await.unwrap_err().code, "tracker_status");
    assert!(!local.text("DS-7").contains("m-3"));
}

#[tokio::test]
async fn what_is_no_issue_file_is_left_alone() {
    let local = Local::new();
    local.write("DS-1", &todo("", ""));
    for name in [".DS-1.md.swp", "DS-1.md~", ".#DS-1.md", "#DS-1.md#", "notes.txt", "README.md", ".hidden.md"] {
        fs::write(local.issues().join(name), todo("", "")).unwrap();
    }
    fs::create_dir(local.issues().join("folder.md")).unwrap();
    let (issues, broken) = local.tracker.list().await.unwrap();
    assert_eq!((issues.len(), broken.len()), (1, 0), "{broken:?}");
    std::os::unix::fs::symlink(local.file("DS-1"), local.file("DS-2")).unwrap();
    nix::unistd::mkfifo(&local.file("DS-3"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    local.write("DS-4", &todo("", &"x".repeat(1024 * 1024)));
    let (issues, broken) = local.tracker.list().await.unwrap();
    assert_eq!((issues.len(), broken.len()), (1, 3));
    let reasons: Vec<_> = broken.iter().map(|broken| broken.reason.as_str()).collect();
    assert!(
        reasons[0].contains("symbolic link") && reasons[1].contains("regular") && reasons[2].contains("1 MiB"),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn a_folder_that_vanished_is_an_error_until_two_polls_agree() {
    let local = Local::new();
    local.write("DS-1", &todo("", ""));
    let (states, ids) = (["Todo".to_owned()], [IssueId::from("i-1")]);
    assert_eq!(local.todo().await.len(), 1);
    let away = local.dir.path().join("away");
    fs::rename(local.issues(), &away).unwrap();
    assert_eq!(local.tracker.fetch_issues_by_states(&states).await.unwrap_err().code, "tracker_request");
    assert_eq!(local.tracker.fetch_issues_by_ids(&ids).await.unwrap_err().code, "tracker_request");
    fs::rename(&away, local.issues()).unwrap();
    assert_eq!(local.todo().await.len(), 1);
    fs::rename(local.issues(), &away).unwrap();
    assert!(local.tracker.fetch_issues_by_states(&states).await.is_err());
    assert_eq!(local.todo().await, vec![]);
    assert_eq!(local.tracker.fetch_issues_by_ids(&ids).await.unwrap(), vec![]);
}

#[tokio::test]
async fn files_that_went_with_a_checkout_or_a_stash_need_two_polls() {
    let local = Local::new();
    local.git(&["init", "-q"]);
    local.git(&["commit", "-q", "--allow-empty", "-m", "empty"]);
    local.git(&["checkout", "-q", "-b", "work"]);
    local.write("DS-1", &todo("", ""));
    local.git(&["add", "issues/DS-1.md"]);
    local.git(&["commit", "-q", "-m", "issue"]);
    local.write("DS-2", &todo("", "").replace("i-1", "i-2"));
    assert_eq!(local.todo().await.len(), 2);
    let states = ["Todo".to_owned()];
    local.git(&["checkout", "-q", "main"]);
    assert_eq!(local.tracker.fetch_issues_by_states(&states).await.unwrap_err().code, "tracker_request");
    local.git(&["checkout", "-q", "work"]);
    assert_eq!(local.todo().await.len(), 2);
    local.git(&["stash", "-q", "-u"]);
    assert_eq!(local.tracker.fetch_issues_by_states(&states).await.unwrap_err().code, "tracker_request");
    assert_eq!(local.todo().await.len(), 1, "two polls agree");
    local.git(&["stash", "pop", "-q"]);
    assert_eq!(local.todo().await.len(), 2);
    assert_eq!(local.todo().await.len(), 2);
    fs::remove_file(local.file("DS-2")).unwrap();
    assert_eq!(local.todo().await.len(), 1, "a file that was just deleted is believed at once");
}

#[tokio::test]
async fn new_issues_never_collide() {
    let local = Local::new();
    local.write("DS-7", &todo("", ""));
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let tracker = LocalTracker::open(&policy(local.dir.path(), "{}"), &env()).unwrap();
            tokio::spawn(async move {
                let title = format!("{number}: \"quoted\" # no comment");
                let labels = vec!["A b".to_owned()];
                let blocked_by = vec!["DS-7".to_owned()];
                let description = Some("Text.\n<!-- dalsegno:x -->".to_owned());
                tracker
                    .new_issue(NewIssue { title, labels, blocked_by, description, ..NewIssue::default() })
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut made = BTreeSet::new();
    for task in tasks {
        assert!(made.insert(task.await.unwrap()));
    }
    assert_eq!(made.len(), 20);
    let issues = local.todo().await;
    assert_eq!(issues.len(), 21);
    let new = issues.iter().find(|issue| issue.identifier == "DS-8").unwrap();
    assert!(new.title.ends_with("\"quoted\" # no comment"));
    assert_eq!((new.labels.as_slice(), new.dispatchable), (&["a b".to_owned()][..], false));
    assert!(new.created_at.is_some());
    assert_eq!(issues.iter().map(|issue| &issue.id).collect::<BTreeSet<_>>().len(), 21);
    assert_eq!(local.tracker.new_issue(NewIssue::default()).await.unwrap_err().code, "tracker_response");
    assert_eq!(local.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn people_comment_under_their_name() {
    let local = Local::new();
    local.write("DS-1", &todo("", "Body."));
    let id = IssueId::from("i-1");
    for body in ["Same.", "Same."] {
        local.tracker.comment_as(&id, "Ada\nL.", body, None).await.unwrap();
    }
    let (issue, comments) = local.tracker.show("ds-1").await.unwrap().unwrap();
    assert_eq!(issue.description.as_deref(), Some("Body."));
    assert_eq!(comments.len(), 2);
    assert_eq!((comments[0].author.as_str(), comments[0].body.as_str()), ("Ada L.", "Same."));
    assert!(comments[0].at.ends_with('Z'));
    assert_eq!(local.tracker.show("DS-9").await.unwrap(), None);
}

#[tokio::test]
async fn an_edit_that_was_killed_between_its_steps_loses_nothing() {
    use sha2::Digest as _;
    let hash = |text: &str| hex::encode(&sha2::Sha256::digest(text.as_bytes())[..8]);
    let local = Local::new();
    let (read, ours, saved) = (todo("", "read"), todo("", "ours"), todo("", "saved by somebody"));
    let temp = local.issues().join(format!(".DS-1.md.{}-{}.dalsegno", hash(&read), hash(&ours)));
    // Killed before the exchange.
    local.write("DS-1", &read);
    fs::write(&temp, &ours).unwrap();
    local.tracker.comment(&IssueId::from("i-1"), "x", "m1").await.unwrap();
    assert!(local.text("DS-1").starts_with(&read));
    assert_eq!(local.leftovers(), Vec::<String>::new());
    // Killed after it, with the text of somebody who saved just before.
    local.write("DS-1", &ours);
    fs::write(&temp, &saved).unwrap();
    local.tracker.comment(&IssueId::from("i-1"), "x", "m2").await.unwrap();
    assert!(local.text("DS-1").starts_with(&saved));
    assert_eq!(local.leftovers(), Vec::<String>::new());
    // The same, and somebody went on since: both texts are there.
    let later = todo("", "later");
    local.write("DS-1", &later);
    fs::write(&temp, &saved).unwrap();
    local.tracker.comment(&IssueId::from("i-1"), "x", "m3").await.unwrap();
    assert!(local.text("DS-1").starts_with(&later));
    let left = local.leftovers();
    assert_eq!(left.len(), 1);
    assert_eq!(fs::read_to_string(local.issues().join(&left[0])).unwrap(), saved);
}

const ROUNDS: usize = 200;

fn with_line(text: &str, number: usize) -> String {
    text.replacen("<end>", &format!("edit-{number};\n<end>"), 1)
}

/// A machine that is busy with other things may find no moment between two saves: the tracker then says so,
/// and the caller tries again, as the daemon does.
async fn insist<T>(mut call: impl AsyncFnMut() -> Result<T, dalsegno_core::Failure>) -> T {
    for _try in 0..20 {
        match call().await {
            Ok(done) => return done,
            Err(failure) => assert!(failure.retryable, "{failure}"),
        }
    }
    panic!("the tracker never found a moment");
}

async fn work(local: &Local, prefix: &str) {
    let id = IssueId::from("i-1");
    for round in 0..ROUNDS / 2 {
        let (body, marker) = (format!("comment {round}"), format!("{prefix}-{round}-"));
        insist(async || local.tracker.comment(&id, &body, &marker).await).await;
        let to = if round % 2 == 0 { "In Progress" } else { "Rework" };
        assert_eq!(insist(async || local.tracker.transition(&id, to, &[]).await).await, to);
    }
}

fn assert_edits(local: &Local, edits: usize) {
    let mut text = local.text("DS-1");
    for name in local.leftovers() {
        assert!(name.contains(".conflict-"), "{name}");
        text.push_str(&fs::read_to_string(local.issues().join(name)).unwrap());
    }
    for number in 0..edits {
        assert!(text.contains(&format!("edit-{number};")), "edit {number} of {edits} is lost");
    }
}

/// Opens the file, reads, truncates and writes it again, in place.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_beside_an_editor_that_saves_in_place() {
    let local = Local::new();
    local.write("DS-1", &todo("", "Text.\n<end>\n"));
    let stop = Arc::new(AtomicBool::new(false));
    let (path, stopped) = (local.file("DS-1"), Arc::clone(&stop));
    let editor = std::thread::spawn(move || {
        let mut edits = 0;
        while !stopped.load(Ordering::Relaxed) {
            let mut file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            let text = with_line(&text, edits);
            file.set_len(0).unwrap();
            file.rewind().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            drop(file);
            edits += 1;
            // The pace of the editor; nothing waits for it.
            std::thread::sleep(Duration::from_millis(12));
        }
        edits
    });
    work(&local, "m").await;
    stop.store(true, Ordering::Relaxed);
    let edits = editor.join().unwrap();
    assert!(edits > 0);
    assert_edits(&local, edits);
    let text = local.text("DS-1");
    for round in 0..ROUNDS / 2 {
        assert_eq!(text.matches(&format!("<!-- dalsegno:m-{round}- -->")).count(), 1, "comment {round}");
    }
    assert!(text.contains("\nstate: Rework\n"), "{}", &text[..200.min(text.len())]);
}

/// Writes a new file and puts it in the place of the old one. It looks at what it replaced only to tell the
/// test which of our comments it overwrote itself, with a text that it had read before.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_beside_an_editor_that_saves_by_rename() {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let local = Local::new();
    local.write("DS-1", &todo("", "Text.\n<end>\n"));
    let stop = Arc::new(AtomicBool::new(false));
    let (path, stopped) = (local.file("DS-1"), Arc::clone(&stop));
    let editor = std::thread::spawn(move || {
        let temp = path.with_file_name("DS-1.md~");
        let (mut edits, mut overwritten) = (0, BTreeSet::new());
        while !stopped.load(Ordering::Relaxed) {
            let text = with_line(&fs::read_to_string(&path).unwrap(), edits);
            File::create(&temp).unwrap().write_all(text.as_bytes()).unwrap();
            renameat2(AT_FDCWD, &temp, AT_FDCWD, &path, RenameFlags::RENAME_EXCHANGE).unwrap();
            let replaced = fs::read_to_string(&temp).unwrap();
            overwritten.extend(markers(&replaced).difference(&markers(&text)).cloned());
            fs::remove_file(&temp).unwrap();
            edits += 1;
            std::thread::sleep(Duration::from_millis(12));
        }
        (edits, overwritten)
    });
    work(&local, "m").await;
    stop.store(true, Ordering::Relaxed);
    let (edits, overwritten) = editor.join().unwrap();
    assert!(edits > 0);
    assert_edits(&local, edits);
    let present = markers(&local.text("DS-1"));
    for round in 0..ROUNDS / 2 {
        let marker = format!("m-{round}-");
        assert!(present.contains(&marker) || overwritten.contains(&marker), "comment {round} is lost");
    }
    assert!(overwritten.len() < ROUNDS / 4, "{} overwritten", overwritten.len());
}

fn markers(text: &str) -> BTreeSet<String> {
    let found = text.lines().filter_map(|line| line.strip_prefix("<!-- dalsegno:")?.strip_suffix(" -->"));
    found.map(str::to_owned).collect()
}

/// Two daemons, or a daemon and the command line, take turns.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_writers_take_turns() {
    let local = Local::new();
    local.write("DS-1", &todo("", "Text.\n"));
    let tasks: Vec<_> = (0..4)
        .map(|writer| {
            let tracker = LocalTracker::open(&policy(local.dir.path(), "{}"), &env()).unwrap();
            tokio::spawn(async move {
                for round in 0..10 {
                    tracker.comment(&IssueId::from("i-1"), "x", &format!("w{writer}-{round}")).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(markers(&local.text("DS-1")).len(), 40);
}

#[tokio::test]
async fn every_prefix_of_a_file_is_whole_or_refused() {
    let local = Local::new();
    let whole =
        "---\r\nid: i-1\nstate: 'To do' # é\ntitle: \"x\"\n---\n```\n## Comments\n\n### é · me\n<!-- dalsegno:é -->\n";
    for end in 0..whole.len() {
        fs::write(local.file("DS-1"), &whole.as_bytes()[..end]).unwrap();
        let (issues, broken) = local.tracker.list().await.unwrap();
        assert_eq!(issues.len() + broken.len(), 1, "prefix of {end} bytes");
    }
}
