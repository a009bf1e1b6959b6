//! One event of every kind, and more where a field has several shapes.

use std::collections::BTreeMap;
use std::sync::Arc;

use dalsegno_core::{
    AgentKind, AgentPolicy, AutoApprove, BudgetLimit, BudgetOverride, CommitId, Effect, EffectId, EffectOutput, Ending,
    Event, Failure, HandoffPolicy, Hook, HooksPolicy, IssueId, IssueStatus, Missing, Outcome, Phase, Policy,
    PolicyHash, PromptSpec, PullRequest, RunId, RunOutcome, SagaEnd, SagaStep, SagaWord, SessionId, SettleVerb,
    StepState, Then, Timestamp, TrackerPolicy, TurnOutcome, Usage, Wants, Workspace, WorkspacePolicy,
};

use crate::support::issue;

/// How many kinds of events there are.
pub(crate) const KINDS: usize = 63;

/// The number of an event's kind. A new kind does not compile until it has one here, [`KINDS`] counts it,
/// and the golden file has a line of it.
pub(crate) fn number(event: &Event) -> usize {
    match event {
        Event::DaemonStarted { .. } => 0,
        Event::DaemonStopped { .. } => 1,
        Event::WorkflowLoaded { .. } => 2,
        Event::WorkflowRejected { .. } => 3,
        Event::TrackerHealth { .. } => 4,
        Event::IssueSeen { .. } => 5,
        Event::IssueChanged { .. } => 6,
        Event::IssueGone { .. } => 7,
        Event::IssueStatus { .. } => 8,
        Event::IssueReopened { .. } => 9,
        Event::RunStarted { .. } => 10,
        Event::RunPhase { .. } => 11,
        Event::RunEnding { .. } => 12,
        Event::RunEnded { .. } => 13,
        Event::WorkspaceReady { .. } => 14,
        Event::WorkspaceRemoved { .. } => 15,
        Event::WorkspaceKept { .. } => 16,
        Event::HookEnded { .. } => 17,
        Event::SessionStarted { .. } => 18,
        Event::SessionResumed { .. } => 19,
        Event::SessionRehydrated { .. } => 20,
        Event::TurnStarted { .. } => 21,
        Event::TurnEnded { .. } => 22,
        Event::Usage { .. } => 23,
        Event::RateLimited { .. } => 24,
        Event::QuestionAsked { .. } => 25,
        Event::CheckEnded { .. } => 26,
        Event::HandoffMissing { .. } => 27,
        Event::SagaStarted { .. } => 28,
        Event::SagaStep { .. } => 29,
        Event::SagaEnded { .. } => 30,
        Event::EffectIntended { .. } => 31,
        Event::EffectEnded { .. } => 32,
        Event::EffectInDoubt { .. } => 33,
        Event::RecoveryStep { .. } => 34,
        Event::Parked { .. } => 35,
        Event::Progress { .. } => 36,
        Event::AgentSuspended { .. } => 37,
        Event::AgentResumed { .. } => 38,
        Event::BranchDiverged { .. } => 39,
        Event::ActionAccepted { .. } => 40,
        Event::ActionRejected { .. } => 41,
        Event::ActionCompleted { .. } => 42,
        Event::BudgetSet { .. } => 43,
        Event::Released { .. } => 44,
        Event::SagaTurnedBack { .. } => 45,
        Event::ActionFailed { .. } => 46,
        Event::PullRequestLinked { .. } => 47,
        Event::QuestionWithdrawn { .. } => 48,
        Event::QuestionExpired { .. } => 49,
        Event::QuestionAnswered { .. } => 50,
        Event::MessageQueued { .. } => 51,
        Event::MessageHeard { .. } => 52,
        Event::StopAsked { .. } => 53,
        Event::StartPlanned { .. } => 54,
        Event::Drained { .. } => 55,
        Event::Readiness { .. } => 56,
        Event::NoticeQueued { .. } => 57,
        Event::NoticesDropped { .. } => 58,
        Event::WritesRefused { .. } => 59,
        Event::JournalRestored { .. } => 60,
        Event::RestoreProbed { .. } => 61,
        Event::Recovered { .. } => 62,
    }
}

fn failure() -> Failure {
    Failure::retryable("tracker_request", "no answer within 5 s").hint("look at the network")
}

fn workspace() -> Workspace {
    Workspace {
        path: "/work/spaces/DS-1".to_owned(),
        branch: Some("dalsegno/DS-1".to_owned()),
        base_commit: Some(CommitId::from("b45e")),
        made_by: None,
    }
}

pub(crate) fn policy() -> Policy {
    let provider = serde_json::json!({"path": "issues", "depth": 2});
    let agent = AgentPolicy {
        script: Some("/project/agent.yaml".to_owned()),
        max_concurrent_agents_by_state: BTreeMap::from([("todo".to_owned(), 2)]),
        stall_timeout_ms: -1,
        ..AgentPolicy::of(AgentKind::Scripted)
    };
    Policy {
        tracker: TrackerPolicy {
            provider: provider.as_object().unwrap().clone(),
            required_labels: vec!["agent".to_owned()],
            active_states: vec!["Todo".to_owned()],
            terminal_states: vec!["Done".to_owned()],
            ..TrackerPolicy::default()
        },
        hooks: HooksPolicy { after_create: Some("make".to_owned()), ..HooksPolicy::default() },
        handoff: Some(HandoffPolicy {
            checks: vec!["./test".to_owned()],
            claim_state: Some("In Progress".to_owned()),
            state: Some("Human Review".to_owned()),
            comment: Some("Pushed {{ branch }}".to_owned()),
            ..HandoffPolicy::default()
        }),
        auto_approve: AutoApprove::Workspace,
        prompt_template: "Do {{ issue.title }}.".to_owned(),
        ..Policy::of("/project", WorkspacePolicy::of("/work/spaces", "/project"), agent)
    }
}

/// The samples, in an order that the fold takes as far as `foldable` says.
pub(crate) fn samples() -> Vec<Event> {
    let mut events = foldable();
    events.extend(others());
    events
}

/// A legal beginning of a journal: a run with its handoff under way and an effect open.
pub(crate) fn foldable() -> Vec<Event> {
    let (id, run) = (IssueId::from("i1"), RunId::from("run-1"));
    let hash = PolicyHash::from("5ha256");
    let status = |from, to| Event::IssueStatus { issue: IssueId::from("i1"), from, to, reason: None, due_at: None };
    let phase = |phase| Event::RunPhase { run: RunId::from("run-1"), phase };
    let intended = |effect_id, effect| Event::EffectIntended {
        effect_id: EffectId(effect_id),
        issue: IssueId::from("i1"),
        run: Some(RunId::from("run-1")),
        key: format!("run-1/{effect_id}/1"),
        attempt: 1,
        effect,
    };
    let ended = |effect_id, output| Event::EffectEnded {
        effect_id: EffectId(effect_id),
        issue: IssueId::from("i1"),
        run: Some(RunId::from("run-1")),
        outcome: Outcome::Done { output },
        probed: false,
    };
    vec![
        Event::DaemonStarted { epoch: 1, version: "0.1.0".to_owned(), pid: 4711 },
        Event::WorkflowLoaded { hash: hash.clone(), policy: Box::new(policy()) },
        Event::TrackerHealth { failure: Some(failure()) },
        Event::TrackerHealth { failure: None },
        Event::IssueSeen { issue: Arc::new(issue("i1", "DS-1")) },
        Event::IssueChanged { issue: Arc::new(issue("i1", "DS-1")) },
        status(IssueStatus::Idle, IssueStatus::Queued),
        status(IssueStatus::Queued, IssueStatus::Running),
        Event::RunStarted { run: run.clone(), issue: id.clone(), attempt: Some(1), policy: hash },
        intended(1, Effect::PrepareWorkspace { fresh: false }),
        ended(1, EffectOutput::WorkspaceReady { workspace: workspace(), created: true }),
        Event::WorkspaceReady { issue: id.clone(), run: run.clone(), workspace: workspace(), created: true },
        phase(Phase::AfterCreate),
        Event::HookEnded { issue: id, run: Some(run.clone()), hook: Hook::AfterCreate, failure: Some(failure()) },
        phase(Phase::Launching),
        Event::SessionStarted { run: run.clone(), session: SessionId::from("s-1") },
        phase(Phase::Prompting),
        intended(2, Effect::Prompt { turn: 1, prompt: PromptSpec::First { attempt: Some(1) }, messages: Vec::new() }),
        Event::TurnStarted { run: run.clone(), turn: 1, repeated: false },
        Event::Usage {
            run: run.clone(),
            turn: 1,
            usage: Usage::new(1_200, 80),
            model: Some("m-1".to_owned()),
            settled: false,
        },
        ended(
            2,
            EffectOutput::TurnEnded {
                turn: TurnOutcome::Completed,
                usage: Usage::new(1_200, 80),
                summary: "done".to_owned(),
                model: Some("m-1".to_owned()),
                tool_digest: Some("0f".to_owned()),
            },
        ),
        Event::TurnEnded {
            run: run.clone(),
            turn: 1,
            turn_outcome: TurnOutcome::Completed,
            summary: "done".to_owned(),
            cut: false,
        },
        phase(Phase::Checking { index: 0 }),
        Event::CheckEnded {
            run: run.clone(),
            commit: CommitId::from("c0ff"),
            command: "./test".to_owned(),
            passed: true,
            kept: None,
        },
        Event::SagaStarted {
            run: run.clone(),
            commit: CommitId::from("c0ff"),
            evidence: "./test passed".to_owned(),
            saga: None,
        },
        phase(Phase::Delivering),
        Event::SagaStep { run, step: SagaStep::Push, state: StepState::Intended, entry: 0 },
        intended(3, Effect::PushBranch { commit: CommitId::from("c0ff"), expected: None }),
    ]
}

fn others() -> Vec<Event> {
    let (issue, run) = (IssueId::from("i1"), RunId::from("run-1"));
    let at = Timestamp(1_790_000_000_123);
    let turn_outcome = TurnOutcome::Failed { failure: failure() };
    vec![
        Event::DaemonStopped { reason: "SIGTERM".to_owned() },
        Event::WorkflowRejected { failure: Failure::permanent("workflow_parse_error", "line 3: no map") },
        Event::IssueStatus {
            issue: issue.clone(),
            from: IssueStatus::Running,
            to: IssueStatus::WaitingRetry,
            reason: Some("agent_exit: it ended with code 1".to_owned()),
            due_at: Some(at),
        },
        Event::IssueReopened { issue: issue.clone() },
        Event::RunEnding {
            run: run.clone(),
            ending: Ending {
                outcome: RunOutcome::Failed,
                reason: "agent_exit".to_owned(),
                then: Then::RetryAfterFailure { not_before: Some(at) },
            },
        },
        Event::RunEnded {
            run: run.clone(),
            outcome: RunOutcome::Completed,
            reason: None,
            evidence: Some("no evidence".to_owned()),
        },
        Event::WorkspaceRemoved { issue: issue.clone() },
        Event::WorkspaceKept { issue: issue.clone(), reason: "uncommitted files: a.txt".to_owned() },
        Event::SessionResumed { run: run.clone(), session: SessionId::from("s-1") },
        Event::SessionRehydrated { run: run.clone(), session: SessionId::from("s-2") },
        Event::TurnEnded { run: run.clone(), turn: 2, turn_outcome, summary: String::new(), cut: true },
        Event::RateLimited { run: run.clone(), reset_at: Some(at) },
        Event::QuestionAsked {
            run: run.clone(),
            question: "Which colour?".to_owned(),
            wants: Wants::Input,
            live: None,
            expires_at: None,
        },
        Event::HandoffMissing { run: run.clone(), missing: Missing::Uncommitted { files: vec!["a.txt".to_owned()] } },
        Event::SagaStep {
            run: run.clone(),
            step: SagaStep::Move,
            state: StepState::Waiting { failures: 2, due_at: at },
            entry: 0,
        },
        Event::BranchDiverged { run: run.clone(), remote: CommitId::from("7e1e") },
        Event::SagaEnded { run: run.clone(), committed: true },
        Event::EffectEnded {
            effect_id: EffectId(4),
            issue: issue.clone(),
            run: None,
            outcome: Outcome::Failed { failure: failure() },
            probed: true,
        },
        Event::EffectInDoubt {
            effect_id: EffectId(5),
            issue: issue.clone(),
            run: Some(run.clone()),
            reason: "no answer within 30s".to_owned(),
        },
        Event::RecoveryStep { issue: issue.clone(), run: Some(run.clone()), step: "sweep".to_owned() },
        Event::Parked {
            issue: issue.clone(),
            run: Some(run),
            reason: "max_turns".to_owned(),
            detail: "20 of 20 turns".to_owned(),
            limit: Some(BudgetLimit::IssueTurns),
            held_until: Some(at),
        },
        Event::Progress {
            run: RunId::from("run-1"),
            turn: 3,
            progressed: true,
            head: Some(CommitId::from("c0ff")),
            diff_digest: Some("d1".to_owned()),
            tool_digest: Some("0f".to_owned()),
        },
        Event::AgentSuspended { agent: AgentKind::Scripted, until: at, run: RunId::from("run-1") },
        Event::AgentResumed { agent: AgentKind::Scripted },
        Event::ActionAccepted {
            action_id: "act-1".to_owned(),
            correlation_id: "c-1".to_owned(),
            action_kind: "set_budget".to_owned(),
            target_kind: "issue".to_owned(),
            target_id: "DS-1".to_owned(),
            issue: Some(issue.clone()),
            idempotency_key: Some("k-1".to_owned()),
            content: "0f".to_owned(),
            by: None,
        },
        Event::BudgetSet {
            issue: Some(issue.clone()),
            day: None,
            limits: BudgetOverride { tokens: Some(9_000), runs: Some(3), ..BudgetOverride::default() },
            action_id: "act-1".to_owned(),
        },
        Event::ActionCompleted {
            action_id: "act-1".to_owned(),
            correlation_id: "c-1".to_owned(),
            issue: Some(issue.clone()),
            note: None,
        },
        Event::ActionRejected {
            action_id: "act-2".to_owned(),
            correlation_id: "c-2".to_owned(),
            action_kind: "release".to_owned(),
            target_kind: "issue".to_owned(),
            target_id: "DS-9".to_owned(),
            code: "not_found".to_owned(),
            reason: "not found".to_owned(),
            by: None,
        },
        Event::Released { issue: issue.clone(), action_id: "act-3".to_owned() },
        Event::IssueGone { issue },
    ]
}

/// Shapes that version 2 got after its golden file was written. An old reader takes them for what they were before.
pub(crate) fn added() -> Vec<Event> {
    let moves = |id, from: Option<&str>| Event::EffectIntended {
        effect_id: EffectId(id),
        issue: IssueId::from("i1"),
        run: Some(RunId::from("run-1")),
        key: "run-1/move".to_owned(),
        attempt: 1,
        effect: Effect::MoveIssue { to: "Human Review".to_owned(), from: from.map(str::to_owned) },
    };
    vec![moves(6, None), moves(7, Some("In Progress"))]
}

/// Events that only the third version writes: handoffs as sagas.
pub(crate) fn sagas() -> Vec<Event> {
    let run = RunId::from("run-2");
    let at = Timestamp(1_790_000_000_123);
    let reason = || "branch_in_use: no".to_owned();
    let states = [
        StepState::AwaitingApproval { fingerprint: "f1".to_owned(), expires_at: at },
        StepState::InDoubt { due_at: at },
        StepState::NotApplied { reason: reason() },
        StepState::Parked { reason: reason() },
        StepState::Undoing,
        StepState::Undone,
        StepState::Skipped,
    ];
    let started = Event::SagaStarted {
        run: run.clone(),
        commit: CommitId::from("c0ff"),
        evidence: "./test passed".to_owned(),
        saga: Some("run-2.handoff".to_owned()),
    };
    let intended = Event::EffectIntended {
        effect_id: EffectId(8),
        issue: IssueId::from("i1"),
        run: Some(run.clone()),
        key: "run-2/handoff".to_owned(),
        attempt: 1,
        effect: Effect::HandOff {
            saga: "run-2.handoff".to_owned(),
            commit: CommitId::from("c0ff"),
            expected: None,
            from: Some("Todo".to_owned()),
            pull_request: None,
        },
    };
    let again = Event::EffectIntended {
        effect_id: EffectId(10),
        issue: IssueId::from("i1"),
        run: Some(RunId::from("run-3")),
        key: "run-3/handoff".to_owned(),
        attempt: 1,
        effect: Effect::HandOff {
            saga: "run-3.handoff".to_owned(),
            commit: CommitId::from("c1ff"),
            expected: Some(CommitId::from("c0ff")),
            from: None,
            pull_request: Some(7),
        },
    };
    let linked = Event::PullRequestLinked {
        run: run.clone(),
        pull_request: PullRequest { number: 7, url: "https://forge.example/o/n/pull/7".to_owned() },
    };
    let opened = [SagaStep::Look, SagaStep::Open, SagaStep::Ready];
    let opened =
        opened.map(|step| Event::SagaStep { run: RunId::from("run-2"), step, state: StepState::Done, entry: 4 });
    let ends = [SagaEnd::Committed, SagaEnd::Compensated, SagaEnd::Abandoned];
    let ended = ends.map(|end| Event::EffectEnded {
        effect_id: EffectId(8),
        issue: IssueId::from("i1"),
        run: Some(run.clone()),
        outcome: Outcome::Done { output: EffectOutput::HandedOff { end } },
        probed: false,
    });
    let words = [
        SagaWord::Approve { fingerprint: "f1".to_owned() },
        SagaWord::Deny { fingerprint: "f1".to_owned() },
        SagaWord::Settle { verb: SettleVerb::NotApplied },
    ];
    let told = words.map(|word| Event::EffectIntended {
        effect_id: EffectId(9),
        issue: IssueId::from("i1"),
        run: None,
        key: "issue/i1/act-3".to_owned(),
        attempt: 1,
        effect: Effect::TellSaga {
            saga: "run-2.handoff".to_owned(),
            step: SagaStep::Push,
            word,
            by: "ada".to_owned(),
            why: "it is not there".to_owned(),
            action_id: "act-3".to_owned(),
            correlation_id: "c-act-3".to_owned(),
        },
    });
    let heard = Event::EffectEnded {
        effect_id: EffectId(9),
        issue: IssueId::from("i1"),
        run: None,
        outcome: Outcome::Done { output: EffectOutput::SagaTold },
        probed: false,
    };
    let failed = Event::ActionFailed {
        action_id: "act-3".to_owned(),
        correlation_id: "c-act-3".to_owned(),
        issue: Some(IssueId::from("i1")),
        failure: failure(),
    };
    let steps = states.map(|state| Event::SagaStep { run: run.clone(), step: SagaStep::Push, state, entry: 3 });
    let back = Event::SagaTurnedBack { run: run.clone(), failure: failure() };
    let before_forges = [started, intended, back, heard, failed].into_iter().chain(steps).chain(ended).chain(told);
    before_forges.chain([linked, again]).chain(opened).collect()
}
