//! A project directory, with or without something that answers in the daemon's place.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use dalsegno_core::{
    ActionAnswer, ActionRequest, BudgetLine, Explanation, Failure, Issue, IssueStatus, IssueView, Phase, PolicyHash,
    Readiness, Receipt, Rule, RunId, RunOutcome, RunView, SessionId, Timestamp, Usage, View, Workspace, plan,
    readiness,
};
use dalsegno_engine::{
    Change, ChangeWanted, Clock, Delivery, FileChange, FileStatus, Heard, Reads, TranscriptEntry, TranscriptKind,
};
use dalsegno_gateway::{Access, App, Control, Gate, LiveRun, RefreshAnswer, serve};
use dalsegno_testkit::doubles::MemoryReads;
use futures::future::BoxFuture;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "operator-token-0123456789";

pub(crate) struct Project {
    dir: TempDir,
    reads: Arc<MemoryReads>,
    head: watch::Sender<u64>,
    /// The hold that a daemon has on its state directory.
    _lock: Option<File>,
    _runtime: Option<Runtime>,
}

pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The binary, in `dir`, with nothing of our environment that it would read.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dalsegno"));
    command.current_dir(dir).env_remove("DALSEGNO_DIR").env_remove("NO_COLOR");
    command
}

impl Project {
    /// A directory with a workflow, in which no daemon ever ran.
    pub(crate) fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("WORKFLOW.md"), "").unwrap();
        std::fs::create_dir(dir.path().join(".dalsegno")).unwrap();
        let reads = Arc::new(MemoryReads::new("journal-a"));
        Self { dir, reads, head: watch::channel(0).0, _lock: None, _runtime: None }
    }

    /// A daemon was killed: its file is there, and nobody listens.
    pub(crate) fn stale() -> Self {
        let project = Self::bare();
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        project.announce(port);
        project
    }

    /// With two issues, a run, a transcript and two events.
    pub(crate) fn served() -> Self {
        let mut project = Self::bare();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        project.announce(listener.local_addr().unwrap().port());
        std::fs::write(project.dir().join(".dalsegno/token"), TOKEN).unwrap();
        let lock = project.dir().join(".dalsegno/lock");
        std::fs::write(&lock, format!("{}\n", std::process::id())).unwrap();
        let lock = File::open(lock).unwrap();
        lock.try_lock().unwrap();
        project._lock = Some(lock);
        let reads: Arc<dyn Reads> = project.reads.clone();
        let control = Arc::new(Double { reads: Arc::clone(&project.reads), head: project.head.clone() });
        let app = App::new(reads, control, Arc::new(Still), Access::guarded(Gate::new(TOKEN)), "1.2.3");
        runtime.spawn(serve(listener, app, CancellationToken::new()));
        project.fill();
        project._runtime = Some(runtime);
        project
    }

    /// A daemon was killed, its file and its token are there, and somebody else listens at its address.
    pub(crate) fn usurped(port: u16) -> Self {
        let project = Self::bare();
        project.announce(port);
        std::fs::write(project.dir().join(".dalsegno/lock"), format!("{}\n", std::process::id())).unwrap();
        std::fs::write(project.dir().join(".dalsegno/token"), TOKEN).unwrap();
        project
    }

    fn announce(&self, port: u16) {
        let daemon = json!({
            "pid": std::process::id(), "url": format!("http://127.0.0.1:{port}"),
            "started_at": "2026-01-01T00:00:00.000Z", "version": "1.2.3",
        });
        std::fs::write(self.dir().join(".dalsegno/daemon.json"), daemon.to_string()).unwrap();
    }

    fn fill(&self) {
        self.reads.put(View::Issue(Box::new(issue("1", "DS-1", "Fix the parser", IssueStatus::Running))));
        self.reads.put(View::Issue(Box::new(issue("2", "DS-2", "Evil \u{1b}[2Jtitle", IssueStatus::Parked))));
        self.reads.put(View::Run(Box::new(run(false))));
        self.write(TranscriptKind::Prompt, "do it");
        self.write(TranscriptKind::Message, "hello\nworld");
        self.reads.push(Timestamp(0), "daemon_started", None, None, json!({"epoch": 1}));
        let data = json!({"issue": "1", "from": "queued", "to": "running", "reason": null});
        self.reads.push(Timestamp(0), "issue_status", Some("DS-1"), None, data);
        self.head.send_replace(2);
    }

    fn write(&self, kind: TranscriptKind, text: &str) {
        self.reads.write("run-1", TranscriptEntry { at: Timestamp(0), turn: 1, kind, text: text.to_owned() });
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn commit(&self) {
        let seq = self.reads.push(Timestamp(0), "usage", Some("DS-1"), Some("run-1"), json!({"turn": 1}));
        self.head.send_replace(seq);
    }

    pub(crate) fn end_run(&self) {
        self.write(TranscriptKind::Note, "the last word");
        self.reads.put(View::Run(Box::new(run(true))));
    }

    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = command(self.dir());
        command.args(arguments.split(' '));
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Output {
        let output = self.command(arguments).output().unwrap();
        Output {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    fn boottime_ms(&self) -> u64 {
        0
    }
}

struct Double {
    reads: Arc<MemoryReads>,
    head: watch::Sender<u64>,
}

impl Control for Double {
    fn explain(&self, key: &str) -> BoxFuture<'static, Result<Option<Explanation>, Failure>> {
        let rule = Rule {
            rule: "not_parked".to_owned(),
            pass: false,
            detail: "parked".to_owned(),
            remedy: Some("release it".to_owned()),
        };
        let found = self.reads.issue(key).unwrap().map(|view| Explanation {
            identifier: view.issue.identifier.clone(),
            status: view.status,
            rules: vec![rule],
        });
        Box::pin(async { Ok(found) })
    }

    fn refresh(&self) -> BoxFuture<'static, Result<RefreshAnswer, Failure>> {
        Box::pin(async { Ok(RefreshAnswer { coalesced: false }) })
    }

    fn hear(&self, _: Delivery, _: Timestamp) -> BoxFuture<'static, Result<Heard, Failure>> {
        Box::pin(async { Err(Failure::retryable("engine_unavailable", "a double")) })
    }

    fn webhook(&self, _: Vec<String>) -> BoxFuture<'static, Result<Option<String>, Failure>> {
        Box::pin(async { Err(Failure::retryable("engine_unavailable", "a double")) })
    }

    fn act(&self, _: ActionRequest) -> BoxFuture<'static, Result<ActionAnswer, Failure>> {
        Box::pin(async { Err(Failure::retryable("engine_unavailable", "a double")) })
    }

    fn receipt(&self, _: &str) -> BoxFuture<'static, Result<Option<Receipt>, Failure>> {
        Box::pin(async { Ok(None) })
    }

    fn budgets(&self) -> BoxFuture<'static, Result<Vec<BudgetLine>, Failure>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn writes_refused(&self, _: BTreeMap<String, u64>) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn change(&self, _: &PolicyHash, wanted: ChangeWanted) -> BoxFuture<'static, Result<Change, Failure>> {
        let file = FileChange {
            path: "a.txt".to_owned(),
            old_path: None,
            status: FileStatus::Modified,
            additions: Some(1),
            deletions: Some(0),
            binary: false,
            truncated: false,
            patch: Some(
                "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1,2 @@\n one\n+\ttwo\n".to_owned(),
            ),
        };
        let change =
            Change { base: wanted.base, from_workspace: true, files: vec![file], total: 1, ..Change::default() };
        Box::pin(async { Ok(change) })
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    fn rate_limits(&self) -> Option<dalsegno_engine::RateLimits> {
        None
    }

    fn live(&self, _: &str) -> Option<LiveRun> {
        None
    }

    fn readiness(&self) -> Option<Readiness> {
        Some(readiness(plan(&[]), false))
    }
}

fn issue(id: &str, identifier: &str, title: &str, status: IssueStatus) -> IssueView {
    let running = status == IssueStatus::Running;
    IssueView {
        issue: Issue {
            description: Some("It drops the last line.".to_owned()),
            ..Issue::new(id, identifier, title, "In Progress")
        }
        .into(),
        status,
        reason: (!running).then(|| "max_turns: no evidence".to_owned()),
        attempt: None,
        due_at: None,
        workspace: running.then(|| Workspace {
            path: "/w/DS-1".to_owned(),
            branch: Some("dalsegno/DS-1".to_owned()),
            base_commit: None,
            made_by: None,
        }),
        current_run: running.then(|| RunId::from("run-1")),
        handed_off: None,
        pull_request: None,
        question: None,
        allowed_actions: Vec::new(),
        usage: Usage::default(),
        seen_at: Timestamp(0),
        changed_at: Timestamp(0),
    }
}

fn run(ended: bool) -> RunView {
    RunView {
        id: "run-1".into(),
        issue: "1".into(),
        identifier: "DS-1".to_owned(),
        attempt: None,
        policy: PolicyHash::from("hash-1"),
        phase: if ended { Phase::Ended } else { Phase::Assessing },
        outcome: ended.then_some(RunOutcome::Completed),
        reason: None,
        evidence: None,
        session: Some(SessionId::from("session-1")),
        turns: 1,
        cut_turns: 0,
        handoff: None,
        usage: Usage::default(),
        started_at: Timestamp(0),
        ended_at: ended.then_some(Timestamp(1)),
    }
}
