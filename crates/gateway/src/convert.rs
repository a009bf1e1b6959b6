//! From the core's views to the wire. Every conversion names every field, so that a new one cannot be forgotten.

use std::sync::Arc;

use dalsegno_api as api;
use dalsegno_core::{
    BlockerRef, Explanation, Failure, FileReceipt, Handoff, Issue, IssueStatus, IssueView, PullRequest, Rule, RunView,
    StepState, Timestamp, Usage, Workspace,
};
use dalsegno_durable::saga::SagaView;
use dalsegno_durable::{self as durable, EffectError, EffectRecord, EffectState, Progress};
use dalsegno_engine::{
    EffectRow, EventRow, KeptFile, RateLimits, RateWindow, ReadError, TranscriptEntry, TranscriptKind, WrittenEvent,
};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::app::LiveRun;
use crate::costs::Costs;
use crate::guard::Caller;
use crate::withhold::{is_open_rule, open_evidence, open_reason, withhold};

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn time(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.0).unwrap_or(if at.0 < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    format!("{time:.3}")
}

fn usage(usage: Usage, cost_usd: Option<f64>) -> api::Usage {
    let Usage { input_tokens, cached_input_tokens: _, output_tokens, total_tokens } = usage;
    api::Usage { input_tokens, output_tokens, total_tokens, cost_usd }
}

fn tokens(usage: Usage) -> api::Tokens {
    let Usage { input_tokens, cached_input_tokens: _, output_tokens, total_tokens } = usage;
    api::Tokens { input_tokens, output_tokens, total_tokens }
}

pub(crate) fn totals(usage: Usage, run_ms: u64) -> api::Totals {
    let Usage { input_tokens, cached_input_tokens: _, output_tokens, total_tokens } = usage;
    let seconds_running = std::time::Duration::from_millis(run_ms).as_secs_f64();
    api::Totals { input_tokens, output_tokens, total_tokens, seconds_running }
}

pub(crate) fn rate_limits(limits: RateLimits) -> api::RateLimits {
    let RateLimits { at, windows } = limits;
    let windows = windows.into_iter().map(|window| {
        let RateWindow { name, used_percent, window_minutes, resets_at } = window;
        api::RateWindow { name, used_percent, window_minutes, resets_at: resets_at.map(time) }
    });
    api::RateLimits { at: time(at), windows: windows.collect() }
}

fn workspace(workspace: Workspace) -> api::Workspace {
    let Workspace { path, branch, base_commit: _, made_by: _ } = workspace;
    api::Workspace { path, branch }
}

/// A reason as the caller may read it.
fn told(reason: Option<String>, caller: Caller) -> Option<String> {
    if caller.reads() { reason } else { reason.as_deref().and_then(open_reason) }
}

pub(crate) fn problem(failure: Failure, caller: Caller) -> api::Problem {
    let Failure { code, message, hint, retryable: _ } = failure;
    api::Problem { code, message: Some(message).filter(|_| caller.reads()), hint: hint.filter(|_| caller.reads()) }
}

/// What the detail of an issue has over the line of a list.
struct Rest {
    description: Option<String>,
    blocked_by: Vec<BlockerRef>,
    parent: Option<String>,
    seen_at: Timestamp,
    changed_at: Timestamp,
}

pub(crate) fn issue(view: IssueView, costs: &Costs, caller: Caller) -> api::Issue {
    split(view, costs, caller).0
}

fn split(view: IssueView, costs: &Costs, caller: Caller) -> (api::Issue, Rest) {
    let IssueView {
        issue,
        status,
        reason,
        attempt,
        due_at,
        workspace: directory,
        current_run,
        handed_off,
        pull_request: pull,
        question,
        allowed_actions,
        usage: used,
        seen_at,
        changed_at,
    } = view;
    let Issue {
        id,
        native_ref: _,
        identifier,
        title,
        description,
        priority,
        state,
        branch_name: _,
        url,
        assignee_id: _,
        labels,
        blocked_by,
        parent,
        dispatchable: _,
        undispatchable_reason: _,
        created_at: _,
        updated_at: _,
    } = Arc::unwrap_or_clone(issue);
    let cost_usd = costs.issue(&id, used);
    let line = api::Issue {
        identifier,
        id: id.0,
        title,
        status: status.as_str().to_owned(),
        tracker_state: state,
        reason: told(reason, caller),
        attempt,
        workspace: directory.map(workspace),
        usage: usage(used, cost_usd),
        current_run: current_run.map(|run| run.0),
        url,
        labels,
        priority,
        due_at: due_at.map(time),
        handed_off_commit: handed_off.map(|commit| commit.0),
        pull_request: pull.map(pull_request),
        question: question.filter(|_| caller.reads()).map(|question| api::Question {
            text: question.text,
            wants: question.wants.as_str().to_owned(),
            asked_at: time(question.asked_at),
            expires_at: time(question.expires_at),
        }),
        allowed_actions: allowed_actions.into_iter().map(|kind| kind.as_str().to_owned()).collect(),
    };
    (line, Rest { description, blocked_by, parent, seen_at, changed_at })
}

/// What a detail is made of beside the issue itself.
pub(crate) struct DetailParts {
    pub(crate) running: Option<api::IssueRunning>,
    /// Newest first.
    pub(crate) runs: Vec<RunView>,
    pub(crate) recent: Vec<EventRow>,
    pub(crate) costs: Costs,
    pub(crate) caller: Caller,
}

pub(crate) fn issue_detail(view: IssueView, parts: DetailParts) -> api::IssueDetail {
    let DetailParts { running, runs, recent, costs, caller } = parts;
    let waits = matches!(view.status, IssueStatus::WaitingRetry | IssueStatus::WaitingQuota);
    let failed = waits || matches!(view.status, IssueStatus::Failed | IssueStatus::Parked);
    let (issue, rest) = split(view, &costs, caller);
    let Rest { description, blocked_by, parent, seen_at, changed_at } = rest;
    let attempt = issue.attempt.unwrap_or(0);
    api::IssueDetail {
        description: description.filter(|_| caller.reads()),
        blocked_by: blocked_by.into_iter().filter_map(blocker).collect(),
        parent,
        seen_at: time(seen_at),
        changed_at: time(changed_at),
        issue_identifier: issue.identifier.clone(),
        issue_id: issue.id.clone(),
        attempts: api::Attempts { restart_count: attempt.saturating_sub(1), current_retry_attempt: attempt },
        running,
        retry: waits.then(|| api::Retry { attempt, due_at: issue.due_at.clone(), error: issue.reason.clone() }),
        logs: api::Logs {
            codex_session_logs: runs
                .iter()
                .map(|run| api::LogFile {
                    label: run.id.0.clone(),
                    path: None,
                    url: Some(format!("/api/v1/runs/{}/transcript", run.id)),
                })
                .collect(),
        },
        last_run: runs.into_iter().next().map(|view| run(view, &costs, caller)),
        recent_events: recent.into_iter().map(|row| recent_event(row, caller)).collect(),
        last_error: issue.reason.clone().filter(|_| failed),
        tracked: std::collections::BTreeMap::new(),
        issue,
    }
}

fn blocker(blocker: BlockerRef) -> Option<String> {
    let BlockerRef { id, identifier, state: _ } = blocker;
    identifier.or(id.map(|id| id.0))
}

fn recent_event(row: EventRow, caller: Caller) -> api::RecentEvent {
    let EventRow { seq: _, at, kind, issue: _, run: _, mut data } = row;
    if !caller.reads() {
        withhold(&kind, &mut data);
    }
    let message = message(&kind, &data);
    api::RecentEvent { at: time(at), event: kind, message }
}

/// How a run ended, and why.
fn ended(data: &serde_json::Value) -> Option<String> {
    let word = |name: &str| data.get(name).and_then(serde_json::Value::as_str);
    let reason = word("reason").map(|reason| format!(": {reason}")).unwrap_or_default();
    Some(format!("{}{reason}", word("outcome")?))
}

/// An event in words, from what its caller may read.
pub(crate) fn message(kind: &str, data: &serde_json::Value) -> Option<String> {
    let word = |name: &str| data.get(name).and_then(serde_json::Value::as_str);
    let turn = data.get("turn").and_then(serde_json::Value::as_u64);
    match (kind, turn) {
        ("turn_started", Some(turn)) => return Some(format!("turn {turn}")),
        ("turn_ended", Some(turn)) => {
            return Some(format!("turn {turn}: {}", word("outcome").unwrap_or("over")));
        }
        ("saga_step", _) => return Some(format!("{} {}", word("step")?, data.get("state")?.get("state")?.as_str()?)),
        ("check_ended", _) => {
            let passed = data.get("passed").and_then(serde_json::Value::as_bool)?;
            return Some(if passed { "passed" } else { "failed" }.to_owned());
        }
        ("action_accepted" | "action_rejected", _) => {
            let by = word("by").map(|by| format!(" by {by}")).unwrap_or_default();
            let why = word("reason").map(|why| format!(": {why}")).unwrap_or_default();
            return Some(format!("{}{by}{why}", word("action_kind")?));
        }
        ("run_ended", _) => return ended(data),
        ("run_ending", _) => return ended(data.get("ending")?),
        ("progress", _) => {
            let progressed = data.get("progressed").and_then(serde_json::Value::as_bool)?;
            return Some(if progressed { "something changed" } else { "nothing changed" }.to_owned());
        }
        ("run_phase", _) => return Some(data.get("phase")?.get("name")?.as_str()?.to_owned()),
        ("effect_ended", _) => {
            let outcome = data.get("outcome")?;
            let came_to = outcome.get("output").and_then(|output| output.get("output")?.as_str());
            let failed = || Some(format!("failed: {}", outcome.get("failure")?.get("code")?.as_str()?));
            return came_to.map(str::to_owned).or_else(failed);
        }
        ("hook_ended", _) => {
            let code = data.get("failure").and_then(|failure| failure.get("code")?.as_str());
            return Some(format!(
                "{} {}",
                word("hook")?,
                code.map_or("done".to_owned(), |code| format!("failed: {code}"))
            ));
        }
        ("usage", _) => return Some(format!("{} tokens", data.get("usage")?.get("total_tokens")?.as_u64()?)),
        ("issue_seen" | "issue_changed", _) => return Some(data.get("issue")?.get("title")?.as_str()?.to_owned()),
        _ => {}
    }
    match (word("from"), word("to"), word("reason")) {
        (Some(from), Some(to), Some(reason)) => Some(format!("{from} → {to}: {reason}")),
        (Some(from), Some(to), None) => Some(format!("{from} → {to}")),
        (_, _, reason) => reason.or_else(|| word("outcome")).map(str::to_owned),
    }
}

/// The live run of an issue, from its view and what the engine knows besides.
pub(crate) fn issue_running(run: &RunView, state: &str, live: Option<LiveRun>, caller: Caller) -> api::IssueRunning {
    let (last_event, last_event_at, last_message) = match live {
        Some(LiveRun { last_event, last_event_at, last_message }) => {
            (Some(last_event), Some(time(last_event_at)), last_message)
        }
        None => (None, None, String::new()),
    };
    api::IssueRunning {
        run: run.id.0.clone(),
        phase: run.phase.as_str().to_owned(),
        session_id: run.session.as_ref().map(|session| session.0.clone()),
        turn_count: run.turns,
        state: state.to_owned(),
        started_at: time(run.started_at),
        last_event,
        last_message: if caller.reads() { last_message } else { String::new() },
        last_event_at,
        tokens: tokens(run.usage),
    }
}

pub(crate) fn running_issue(view: IssueView, run: api::IssueRunning, caller: Caller) -> api::RunningIssue {
    // A list of the state tells tokens of runs, and no costs.
    let issue = issue(view, &Costs::default(), caller);
    api::RunningIssue {
        issue_id: issue.id,
        issue_identifier: issue.identifier,
        issue_url: issue.url,
        title: issue.title,
        status: issue.status,
        attempt: issue.attempt,
        run,
    }
}

pub(crate) fn waiting_issue(view: IssueView, caller: Caller) -> api::WaitingIssue {
    let issue = issue(view, &Costs::default(), caller);
    api::WaitingIssue {
        issue_id: issue.id,
        issue_identifier: issue.identifier,
        issue_url: issue.url,
        title: issue.title,
        status: issue.status,
        state: issue.tracker_state,
        attempt: issue.attempt.unwrap_or(0),
        due_at: issue.due_at,
        error: issue.reason,
    }
}

pub(crate) fn run(view: RunView, costs: &Costs, caller: Caller) -> api::Run {
    let RunView {
        id,
        issue,
        identifier,
        attempt,
        policy,
        phase,
        outcome,
        reason,
        evidence,
        session,
        turns,
        cut_turns,
        handoff: handing,
        usage: used,
        started_at,
        ended_at,
    } = view;
    let cost_usd = costs.run(&id, used);
    api::Run {
        id: id.0,
        issue: identifier,
        issue_id: issue.0,
        attempt,
        phase: phase.as_str().to_owned(),
        outcome: outcome.map(|outcome| outcome.as_str().to_owned()),
        reason: told(reason, caller),
        evidence: evidence.map(|evidence| if caller.reads() { evidence } else { open_evidence(&evidence) }),
        session_id: session.map(|session| session.0),
        turns,
        cut_turns,
        handoff: handing.map(|handing| handoff(handing, caller)),
        usage: usage(used, cost_usd),
        policy: policy.0,
        started_at: time(started_at),
        ended_at: ended_at.map(time),
    }
}

fn pull_request(pull: PullRequest) -> api::PullRequest {
    let PullRequest { number, url } = pull;
    api::PullRequest { number, url }
}

fn handoff(handoff: Handoff, caller: Caller) -> api::Handoff {
    let Handoff { commit, saga, steps, turned_back, heard: _, before: _, pull_request: pull } = handoff;
    let steps = steps
        .into_iter()
        .map(|(step, state)| {
            let word = state.as_str().to_owned();
            let (failures, due_at, reason) = match state {
                StepState::Pending
                | StepState::Intended
                | StepState::Done
                | StepState::Undoing
                | StepState::Undone
                | StepState::Skipped => (0, None, None),
                StepState::Waiting { failures, due_at } => (failures, Some(due_at), None),
                StepState::AwaitingApproval { expires_at: due_at, .. } | StepState::InDoubt { due_at } => {
                    (0, Some(due_at), None)
                }
                StepState::NotApplied { reason } | StepState::Parked { reason } => (0, None, Some(reason)),
            };
            let (due_at, reason) = (due_at.map(time), told(reason, caller));
            api::HandoffStep { step: step.as_str().to_owned(), state: word, failures, due_at, reason }
        })
        .collect();
    let turned_back = told(turned_back.map(|failure| failure.to_string()), caller);
    api::Handoff { commit: commit.0, saga, turned_back, pull_request: pull.map(pull_request), steps }
}

pub(crate) fn explanation(explanation: Explanation, caller: Caller) -> api::Explanation {
    let Explanation { identifier, status, rules } = explanation;
    let rules = rules.into_iter().map(|Rule { rule, pass, detail, remedy }| {
        let detail = if caller.reads() || is_open_rule(&rule) { detail } else { String::new() };
        api::Rule { rule, pass, detail, remedy }
    });
    api::Explanation { identifier, status: status.as_str().to_owned(), rules: rules.collect() }
}

/// An event as its caller may read it, for whoever looks into its fact.
pub(crate) fn event(mut row: EventRow, journal: &str, caller: Caller) -> api::Event {
    let text = |name: &str| row.data.get(name)?.as_str().map(str::to_owned);
    // What the caller made up itself is content.
    let action =
        ActionNames { action_id: text("action_id"), correlation_id: text("correlation_id").filter(|_| caller.reads()) };
    let content_withheld = !caller.reads() && withhold(&row.kind, &mut row.data);
    wire(row, journal, action, content_withheld)
}

/// The same for whoever passes it on: from one who may read all of it nothing is withheld, and its fact goes as it is written.
pub(crate) fn event_as_written(
    row: WrittenEvent,
    journal: &str,
    caller: Caller,
) -> Result<api::Event<Box<RawValue>>, ReadError> {
    let seq = row.seq;
    let unreadable = |error: serde_json::Error| ReadError(format!("event {seq} is unreadable: {error}"));
    if caller.reads() {
        let names = if row.data.get().contains(ACTION_ID) {
            serde_json::from_str(row.data.get())
        } else {
            Ok(ActionNames::default())
        };
        return Ok(wire(row, journal, names.map_err(unreadable)?, false));
    }
    let api::Event { cursor, seq, at, kind, issue, run, action_id, correlation_id, caused_by, data, content_withheld } =
        event(row.parsed()?, journal, caller);
    let data = to_raw_value(&data).map_err(unreadable)?;
    Ok(api::Event { cursor, seq, at, kind, issue, run, action_id, correlation_id, caused_by, data, content_withheld })
}

/// What an event of an action has, as it is written.
const ACTION_ID: &str = r#""action_id":"#;

/// What an event of an action is joined by.
#[derive(Debug, Default, Deserialize)]
struct ActionNames {
    #[serde(default)]
    action_id: Option<String>,
    #[serde(default)]
    correlation_id: Option<String>,
}

fn wire<Data>(row: EventRow<Data>, journal: &str, action: ActionNames, content_withheld: bool) -> api::Event<Data> {
    let EventRow { seq, at, kind, issue, run, data } = row;
    let ActionNames { action_id, correlation_id } = action;
    api::Event {
        cursor: api::Cursor::event(journal, seq).to_string(),
        seq,
        at: time(at),
        kind,
        issue,
        run,
        action_id,
        correlation_id,
        caused_by: None,
        data,
        content_withheld,
    }
}

pub(crate) fn kept_file(file: KeptFile) -> api::KeptFile {
    let KeptFile { name, receipt: FileReceipt { file, sha256, bytes }, lost } = file;
    api::KeptFile { file, name, bytes, sha256, lost }
}

pub(crate) fn transcript_entry(entry: TranscriptEntry) -> api::TranscriptEntry {
    let TranscriptEntry { at, turn, kind, text } = entry;
    let kind = match kind {
        TranscriptKind::Prompt => "prompt",
        TranscriptKind::Message => "message",
        TranscriptKind::Thought => "thought",
        TranscriptKind::Tool => "tool",
        TranscriptKind::Stderr => "stderr",
        TranscriptKind::Malformed => "malformed",
        TranscriptKind::Note => "note",
    };
    api::TranscriptEntry { at: time(at), turn, kind: kind.to_owned(), text }
}

/// An effect, from its record to the wire.
pub(crate) fn saga(view: SagaView) -> api::Saga {
    let SagaView { id, name, version, state, turned_back, steps } = view;
    let at = |at: durable::Timestamp| time(Timestamp(at.0));
    let wire = |durable::saga::Failure { code, message }| api::EffectError { code, message };
    let steps = steps.into_iter().map(|step| api::SagaStep {
        name: step.name,
        kind: step.kind,
        after: step.after,
        state: step.state,
        generation: step.generation,
        attempts: step.attempts,
        undo_attempts: step.undo_attempts,
        key: step.key,
        probe: step.probe,
        failure: step.failure.map(wire),
        due_at: step.due_at.map(at),
        approval: step
            .approval
            .map(|question| api::Approval { fingerprint: question.fingerprint, expires_at: at(question.expires_at) }),
        verbs: step.verbs,
        saga: step.saga,
    });
    api::Saga { id, name, version, state, turned_back: turned_back.map(wire), steps: steps.collect() }
}

pub(crate) fn effect(row: EffectRow) -> api::Effect {
    let EffectRow { place: _, record } = row;
    let EffectRecord { replay_key, kind, hash, content, provenance: _, state } = record;
    let EffectState { generation, attempt, doubts, epoch: _, began_at, due_at, failures, progress } = state;
    let at = |at: durable::Timestamp| time(Timestamp(at.0));
    let wire = |EffectError { code, message, class: _ }: EffectError| api::EffectError { code, message };
    let word = progress.as_str().to_owned();
    // What keeps it waiting: the last failure, unless something else is said of it.
    let last = failures.into_iter().next_back().map(|failed| wire(failed.error));
    let (result, output, error, settled) = match progress {
        Progress::Open | Progress::Resting => (None, None, last, None),
        Progress::Parked { reason } => {
            (None, None, Some(api::EffectError { code: "in_doubt".to_owned(), message: reason }), None)
        }
        Progress::Ended { outcome: durable::Outcome::Done(output), settled } => {
            (Some("done"), Some(output), None, settled)
        }
        Progress::Ended { outcome: durable::Outcome::Failed(error), settled } => {
            (Some("failed"), None, Some(wire(error)), settled)
        }
    };
    // The content is canonical JSON of ours; what is asked for is its command.
    let command = content.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    api::Effect {
        key: replay_key,
        kind: kind.as_str().to_owned(),
        command: command.and_then(|mut content| content.get_mut("command").map(serde_json::Value::take)),
        hash: hash.to_string(),
        progress: word,
        attempts: attempt,
        doubts,
        generation,
        began_at: at(began_at),
        due_at: due_at.map(at),
        result: result.map(str::to_owned),
        output,
        error,
        settled_by: settled.map(|who| who.by),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use super::*;

    #[test]
    fn times_are_rfc_3339_with_milliseconds_whatever_the_number() {
        assert_eq!(time(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(Timestamp(1_767_225_600_123)), "2026-01-01T00:00:00.123Z");
        assert!(time(Timestamp(i64::MAX)).starts_with("9999"));
        assert!(time(Timestamp(i64::MIN)).starts_with("-009999"));
    }

    #[test]
    fn what_is_passed_on_as_it_is_written_says_what_is_parsed_and_written_again() {
        let mut kinds = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../store/tests/golden")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ending| ending != "jsonl") {
                continue;
            }
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let mut data: serde_json::Value = serde_json::from_str(line).unwrap();
                let kind = data.as_object_mut().unwrap().remove("kind").unwrap();
                let kind = kind.as_str().unwrap().to_owned();
                let (issue, run) = (Some("DS-1".to_owned()), None);
                for caller in [Caller::NOBODY, Caller::VIEWER] {
                    let (seq, at, kind, issue, run) = (7, Timestamp(0), kind.clone(), issue.clone(), run.clone());
                    let written = EventRow { seq, at, kind, issue, run, data: to_raw_value(&data).unwrap() };
                    let parsed = event(written.clone().parsed().unwrap(), "j", caller);
                    let passed = event_as_written(written, "j", caller).unwrap();
                    let [parsed, passed] =
                        [serde_json::to_value(&parsed), serde_json::to_value(&passed)].map(Result::unwrap);
                    assert_eq!(passed, parsed, "{line}");
                }
                kinds.insert(kind);
            }
        }
        assert!(kinds.len() > 50, "{kinds:?}");
    }

    #[test]
    fn events_are_told_in_words_that_everybody_may_read() {
        use serde_json::json;
        for (kind, data, words) in [
            ("turn_started", json!({"turn": 2, "repeated": false}), Some("turn 2")),
            ("turn_ended", json!({"turn": 2, "outcome": "failed", "summary": "secret"}), Some("turn 2: failed")),
            ("saga_step", json!({"step": "push", "state": {"state": "done"}}), Some("push done")),
            ("check_ended", json!({"command": "secret", "passed": false}), Some("failed")),
            ("run_ended", json!({"outcome": "failed", "reason": "agent_exit"}), Some("failed: agent_exit")),
            ("issue_status", json!({"from": "idle", "to": "queued", "reason": null}), Some("idle → queued")),
            ("session_started", json!({"session": "s"}), None),
            ("progress", json!({"turn": 3, "progressed": false}), Some("nothing changed")),
            ("run_phase", json!({"run": "run-1", "phase": {"name": "launching"}}), Some("launching")),
            (
                "run_ending",
                json!({"ending": {"outcome": "failed", "reason": "agent_exit", "then": {}}}),
                Some("failed: agent_exit"),
            ),
            (
                "effect_ended",
                json!({"outcome": {"result": "done", "output": {"output": "mended", "done": "removed"}}}),
                Some("mended"),
            ),
            (
                "effect_ended",
                json!({"outcome": {"result": "failed", "failure": {"code": "hook_failed", "message": "secret"}}}),
                Some("failed: hook_failed"),
            ),
            ("hook_ended", json!({"hook": "before_run", "failure": null}), Some("before_run done")),
            (
                "hook_ended",
                json!({"hook": "before_run", "failure": {"code": "hook_failed"}}),
                Some("before_run failed: hook_failed"),
            ),
            ("usage", json!({"usage": {"total_tokens": 1280}}), Some("1280 tokens")),
            ("issue_changed", json!({"issue": {"title": "T", "description": "secret"}}), Some("T")),
        ] {
            assert_eq!(message(kind, &data).as_deref(), words, "{kind}");
        }
    }
}
