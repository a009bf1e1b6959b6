//! A small project behind a gateway.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use dalsegno_core::{
    ActionAnswer, ActionRequest, BudgetLine, CommitId, DaemonView, DiskUse, Explanation, Failure, FileReceipt, Handoff,
    Issue, IssueStatus, IssueView, Phase, PolicyHash, Readiness, Receipt, Rule, RunId, RunOutcome, RunView, SagaStep,
    SessionId, StepState, Timestamp, Usage, View, Workspace, plan, readiness,
};
use dalsegno_engine::{
    Change, ChangeWanted, Clock, Delivery, FileChange, FileStatus, Heard, KeptFile, Reads, TranscriptEntry,
    TranscriptKind,
};
use dalsegno_gateway::{Access, App, Control, Gate, Limits, LiveRun, Offers, RefreshAnswer, router};
use dalsegno_testkit::doubles::MemoryReads;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

pub(crate) const TOKEN: &str = "operator-token-0123456789";
pub(crate) const NOW: Timestamp = Timestamp(1_767_225_600_000);

const OFFERS: Offers = Offers { agents: &[], trackers: &[], forges: &[], webhooks: &["github", "linear"] };

/// Ports that the tests drive.
pub(crate) struct World {
    pub(crate) reads: Arc<MemoryReads>,
    pub(crate) head: watch::Sender<u64>,
    pub(crate) waiting_refresh: AtomicBool,
    pub(crate) engine_gone: AtomicBool,
    /// What a look at a change comes to.
    pub(crate) change: Mutex<Result<Change, Failure>>,
    /// What was looked at.
    pub(crate) wanted: Mutex<Vec<ChangeWanted>>,
    /// What webhooks named, one after the other.
    pub(crate) named: Mutex<Vec<Vec<String>>>,
    /// What the last look found of the disk.
    pub(crate) disk: Mutex<Option<DiskUse>>,
}

impl World {
    pub(crate) fn empty() -> Arc<Self> {
        Arc::new(Self {
            reads: Arc::new(MemoryReads::new("journal-a")),
            head: watch::channel(0).0,
            waiting_refresh: AtomicBool::new(false),
            engine_gone: AtomicBool::new(false),
            change: Mutex::new(Ok(change())),
            wanted: Mutex::default(),
            named: Mutex::default(),
            disk: Mutex::default(),
        })
    }

    /// Six issues, one run that goes on and one that ended, a file that is kept for each, and ten events.
    pub(crate) fn new() -> Arc<Self> {
        let world = Self::empty();
        let issues = [
            ("1", "DS-1", IssueStatus::Running),
            ("2", "DS-2", IssueStatus::Queued),
            ("3", "DS-3", IssueStatus::Parked),
            ("4", "DS-4", IssueStatus::HandedOff),
            ("5", "state", IssueStatus::WaitingRetry),
            ("6", "Ünï/6", IssueStatus::Idle),
        ];
        for (id, identifier, status) in issues {
            world.reads.put(View::Issue(Box::new(issue(id, identifier, status))));
        }
        world.reads.put(View::Run(Box::new(run("run-1", "4", "DS-4", true))));
        world.reads.put(View::Run(Box::new(run("run-2", "1", "DS-1", false))));
        world.reads.put(View::Daemon(Box::new(DaemonView {
            epoch: 3,
            policy: Some(PolicyHash::from("hash-1")),
            workflow_failure: Some(Failure::permanent("workflow_parse_error", "secret line").hint("secret hint")),
            tracker_failure: None,
            usage: Usage::new(50, 24),
            run_ms: 1_500,
        })));
        for turn in 0..5 {
            let kind = if turn == 0 { TranscriptKind::Prompt } else { TranscriptKind::Message };
            world.reads.write("run-2", TranscriptEntry { at: NOW, turn, kind, text: format!("line {turn}") });
        }
        world.keep("run-1", "3-0-check-1.log", "secret words of run-1\n", None);
        world.keep("run-2", "7-0-check-2.log", "secret words\n", None);
        for n in 1..=10_u64 {
            let (issue, run) = if n % 2 == 0 { ("DS-1", Some("run-2")) } else { ("DS-4", None) };
            let data = json!({"n": n, "summary": "secret words", "outcome": {"result": "done"}});
            world.commit(if n == 10 { "turn_ended" } else { "effect_ended" }, Some(issue), run, data);
        }
        world
    }

    /// Keeps a file for a run; `lost`: its receipt was taken back, and why.
    pub(crate) fn keep(&self, run: &str, file: &str, content: impl AsRef<[u8]>, lost: Option<&str>) {
        let content = content.as_ref();
        let receipt = FileReceipt { file: file.to_owned(), sha256: format!("of {file}"), bytes: content.len() as u64 };
        let name = file.splitn(3, '-').last().unwrap().to_owned();
        self.reads.keep_file(run, KeptFile { name, receipt, lost: lost.map(str::to_owned) }, content);
    }

    pub(crate) fn commit(&self, kind: &str, issue: Option<&str>, run: Option<&str>, data: Value) -> u64 {
        let seq = self.reads.push(NOW, kind, issue, run, data);
        self.head.send_replace(seq);
        seq
    }

    pub(crate) fn app(self: &Arc<Self>) -> App {
        self.app_with(Limits::default())
    }

    pub(crate) fn app_with(self: &Arc<Self>, limits: Limits) -> App {
        let reads: Arc<dyn Reads> = self.reads.clone();
        let control = Arc::new(Driven(Arc::clone(self)));
        App::new(reads, control, Arc::new(Still), Access::guarded(Gate::new(TOKEN)), "1.2.3")
            .limits(limits)
            .offers(OFFERS)
    }

    pub(crate) fn router_behind(self: &Arc<Self>, gate: Gate) -> Router {
        let reads: Arc<dyn Reads> = self.reads.clone();
        let control = Arc::new(Driven(Arc::clone(self)));
        router(App::new(reads, control, Arc::new(Still), Access::guarded(gate), "1.2.3").offers(OFFERS))
    }

    pub(crate) fn router(self: &Arc<Self>) -> Router {
        router(self.app())
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW.after_ms(500)
    }
    fn boottime_ms(&self) -> u64 {
        0
    }
}

struct Driven(Arc<World>);

impl Driven {
    fn here(&self) -> Result<(), Failure> {
        if self.0.engine_gone.load(Ordering::SeqCst) {
            return Err(Failure::retryable("engine_unavailable", "the engine is shutting down"));
        }
        Ok(())
    }
}

impl Control for Driven {
    fn explain(&self, key: &str) -> BoxFuture<'static, Result<Option<Explanation>, Failure>> {
        let found = self.here().and_then(|()| {
            let issue = self.0.reads.issue(key).map_err(|error| Failure::retryable("x", error.to_string()))?;
            Ok(issue.map(|view| Explanation {
                identifier: view.issue.identifier.clone(),
                status: view.status,
                rules: [("slot_free", "1 of 1 taken"), ("status_allows", "status is parked (hook_failed: secret)")]
                    .map(|(rule, detail)| Rule {
                        rule: rule.to_owned(),
                        pass: false,
                        detail: detail.to_owned(),
                        remedy: Some("wait".to_owned()),
                    })
                    .into(),
            }))
        });
        Box::pin(async { found })
    }

    fn refresh(&self) -> BoxFuture<'static, Result<RefreshAnswer, Failure>> {
        let answer =
            self.here().map(|()| RefreshAnswer { coalesced: self.0.waiting_refresh.swap(true, Ordering::SeqCst) });
        Box::pin(async move { answer })
    }

    /// A webhook of GitHub with the header `x-mark: right` names the issue in its body.
    fn hear(&self, delivery: Delivery, now: Timestamp) -> BoxFuture<'static, Result<Heard, Failure>> {
        assert_eq!(now, NOW.after_ms(500));
        let failed = |code: &str| Err(Failure::permanent(code, "no").hint("do"));
        let heard = match (delivery.service.as_str(), delivery.header("x-mark")) {
            ("github", Some("hang")) => return Box::pin(std::future::pending()),
            ("github", Some("right")) => {
                let names = String::from_utf8(delivery.body.clone()).unwrap();
                let names = names.split_whitespace().map(str::to_owned).collect();
                Ok(Heard { id: delivery.header("x-id").map(str::to_owned), names })
            }
            ("github", Some("old")) => failed("webhook_stale"),
            ("github", Some("text")) => failed("invalid_body"),
            ("github", _) => failed("webhook_signature"),
            _ => failed("webhook_not_configured"),
        };
        Box::pin(async { heard })
    }

    fn webhook(&self, names: Vec<String>) -> BoxFuture<'static, Result<Option<String>, Failure>> {
        let here = self.here();
        let looked = here.map(|()| {
            self.0.named.lock().unwrap().push(names.clone());
            names.into_iter().find(|name| name == "DS-1")
        });
        Box::pin(async { looked })
    }

    fn act(&self, request: ActionRequest) -> BoxFuture<'static, Result<ActionAnswer, Failure>> {
        let answer = self.here().map(|()| match request.target_id.as_str() {
            "DS-1001" => ActionAnswer::Unrecorded(Failure::permanent("not_found", "not found").hint("less of it")),
            _ => ActionAnswer::Decided(Box::new(receipt_of(&request))),
        });
        Box::pin(async { answer })
    }

    fn receipt(&self, action: &str) -> BoxFuture<'static, Result<Option<Receipt>, Failure>> {
        let request = ActionRequest {
            kind: "release".to_owned(),
            target_kind: "issue".to_owned(),
            target_id: "DS-1".to_owned(),
            correlation_id: None,
            idempotency_key: None,
            reject_duplicate: false,
            by: None,
            content: String::new(),
            payload: serde_json::Value::Null,
        };
        let known = self.here().map(|()| (action == "act-1").then(|| receipt_of(&request)));
        Box::pin(async { known })
    }

    fn budgets(&self) -> BoxFuture<'static, Result<Vec<BudgetLine>, Failure>> {
        let lines = self.here().map(|()| Vec::new());
        Box::pin(async { lines })
    }

    fn writes_refused(&self, _: BTreeMap<String, u64>) -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn change(&self, policy: &PolicyHash, wanted: ChangeWanted) -> BoxFuture<'static, Result<Change, Failure>> {
        assert_eq!(policy.0, "hash-1");
        let change = self.0.change.lock().unwrap().clone();
        self.0.wanted.lock().unwrap().push(wanted);
        Box::pin(async { change })
    }

    fn head(&self) -> watch::Receiver<u64> {
        self.0.head.subscribe()
    }

    fn rate_limits(&self) -> Option<dalsegno_engine::RateLimits> {
        let (name, resets_at) = ("primary".to_owned(), Some(NOW.after_ms(60_000)));
        let window = dalsegno_engine::RateWindow { name, used_percent: 42.5, window_minutes: Some(300), resets_at };
        Some(dalsegno_engine::RateLimits { at: NOW, windows: vec![window] })
    }

    fn live(&self, run: &str) -> Option<LiveRun> {
        (run == "run-2").then(|| LiveRun {
            last_event: "message".to_owned(),
            last_event_at: NOW,
            last_message: "secret words".to_owned(),
        })
    }

    fn readiness(&self) -> Option<Readiness> {
        let disk = self.0.disk.lock().unwrap().clone();
        Some(Readiness { looked_at: disk.as_ref().map(|_| NOW), disk, ..readiness(plan(&[]), false) })
    }
}

/// `release` of DS-1 is done; the answer to anything else depends on its words.
fn receipt_of(request: &ActionRequest) -> Receipt {
    let code = match (request.kind.as_str(), request.target_id.as_str()) {
        ("release", "DS-1") => None,
        ("release", "DS-4") => Some("not_parked"),
        ("release", _) => Some("not_found"),
        _ => Some("invalid_payload"),
    };
    Receipt {
        action_id: "act-1".to_owned(),
        correlation_id: "c-1".to_owned(),
        action_kind: request.kind.clone(),
        target_kind: request.target_kind.clone(),
        target_id: request.target_id.clone(),
        accepted: code.is_none(),
        code: code.map(str::to_owned),
        reason: code.map(str::to_owned),
        by: request.by.clone(),
        issued_at: NOW,
        completed_at: code.is_none().then_some(NOW),
        failure: None,
        note: None,
        replayed: request.idempotency_key.as_deref() == Some("again"),
    }
}

/// Two files: one with a patch, and one that is too large.
fn change() -> Change {
    let file = |path: &str| FileChange {
        path: path.to_owned(),
        old_path: None,
        status: FileStatus::Added,
        additions: None,
        deletions: None,
        binary: false,
        truncated: true,
        patch: None,
    };
    let patch = "diff --git a/s b/s\n--- /dev/null\n+++ b/s\n@@ -0,0 +1 @@\n+secret <b>line</b>\n";
    let with_patch = FileChange {
        additions: Some(1),
        deletions: Some(0),
        truncated: false,
        patch: Some(patch.to_owned()),
        ..file("s")
    };
    Change {
        base: Some(CommitId::from("ba5e")),
        head: Some(CommitId::from("c0ffee")),
        from_workspace: true,
        files: vec![with_patch, file("huge")],
        total: 2,
        truncated: true,
    }
}

fn issue(id: &str, identifier: &str, status: IssueStatus) -> IssueView {
    let state = if id == "4" { "Human Review" } else { "Todo" };
    IssueView {
        issue: Issue {
            description: Some("secret words".to_owned()),
            priority: Some(2),
            url: Some(format!("https://tracker.example/{id}")),
            labels: vec!["backend".to_owned()],
            ..Issue::new(id, identifier, format!("Title of {identifier}"), state)
        }
        .into(),
        status,
        reason: matches!(status, IssueStatus::Parked | IssueStatus::WaitingRetry)
            .then(|| "hook_failed: secret output".to_owned()),
        attempt: (status == IssueStatus::WaitingRetry).then_some(2),
        due_at: (status == IssueStatus::WaitingRetry).then(|| NOW.after_ms(9_000)),
        workspace: (status == IssueStatus::Running).then(|| Workspace {
            path: "/w/DS-1".to_owned(),
            branch: Some("dalsegno/DS-1".to_owned()),
            base_commit: None,
            made_by: None,
        }),
        current_run: (status == IssueStatus::Running).then(|| RunId::from("run-2")),
        pull_request: None,
        question: None,
        allowed_actions: Vec::new(),
        handed_off: (status == IssueStatus::HandedOff).then(|| CommitId::from("c0ffee")),
        usage: Usage::new(3, 4),
        seen_at: NOW,
        changed_at: NOW,
    }
}

pub(crate) fn run(id: &str, issue: &str, identifier: &str, ended: bool) -> RunView {
    RunView {
        id: id.into(),
        issue: issue.into(),
        identifier: identifier.to_owned(),
        attempt: None,
        policy: PolicyHash::from("hash-1"),
        phase: if ended { Phase::Ended } else { Phase::Checking { index: 1 } },
        outcome: ended.then_some(RunOutcome::Completed),
        reason: ended.then(|| "canceled: secret reason".to_owned()),
        evidence: ended.then(|| "passed on c0ffee: secret --check".to_owned()),
        session: Some(SessionId::from("session-1")),
        turns: 2,
        cut_turns: 1,
        handoff: ended.then(|| Handoff {
            before: None,
            pull_request: None,
            saga: Some("run-1.handoff".to_owned()),
            turned_back: None,
            heard: 4,
            commit: CommitId::from("c0ffee"),
            steps: vec![
                (SagaStep::Push, StepState::Done),
                (SagaStep::Comment, StepState::Waiting { failures: 2, due_at: NOW }),
                (SagaStep::Move, StepState::Parked { reason: "tracker_status: secret answer".to_owned() }),
            ],
        }),
        usage: Usage::new(1, 2),
        started_at: NOW,
        ended_at: ended.then_some(NOW),
    }
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        assert!(self.body["error"]["message"].is_string(), "no envelope: {}", self.body);
        self.body["error"]["code"].as_str().unwrap()
    }
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let answer = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let bytes = to_bytes(body, 10_000_000).await.unwrap();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Answer { status: parts.status, headers: parts.headers, body }
}

pub(crate) fn request(method: &str, target: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(target).header("host", "127.0.0.1:7272")
}

/// As the operator.
pub(crate) async fn get(router: &Router, target: &str) -> Answer {
    let request = request("GET", target).header("authorization", format!("Bearer {TOKEN}"));
    send(router, request.body(Body::empty()).unwrap()).await
}

/// Without a token.
pub(crate) async fn get_open(router: &Router, target: &str) -> Answer {
    send(router, request("GET", target).body(Body::empty()).unwrap()).await
}
