//! Events as people read them: one short sentence for each that is worth one.

use dalsegno_api::Event;
use serde_json::Value;

use crate::text::{clean, clock, commit, count, short, span};

/// Characters of a foreign text in a sentence.
const FOREIGN: usize = 60;

/// How a sentence is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Something goes on.
    Plain,
    /// Something came out well.
    Good,
    /// Something took another way than hoped, and goes on.
    Odd,
    /// Something needs somebody, or went wrong.
    Bad,
}

impl Tone {
    /// The sentence in the colour that goes with it.
    pub(crate) fn paint(self, text: &str, color: bool) -> String {
        let code = match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Odd => Some("33"),
            Self::Bad => Some("31"),
        };
        match code.filter(|_| color) {
            Some(code) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            None => text.to_owned(),
        }
    }
}

/// The sentence of an event; `None` for those that are there for machines.
pub(crate) fn tell(event: &Event) -> Option<(Tone, String)> {
    use Tone::{Bad, Good, Odd, Plain};
    let facts = Facts(&event.data);
    let (tone, text) = match event.kind.as_str() {
        "daemon_started" => (Plain, format!("the daemon takes over (epoch {})", facts.number("epoch"))),
        "daemon_stopped" => (Plain, format!("the daemon ends: {}", facts.foreign("reason"))),
        "workflow_rejected" if facts.word("code") == "workflow_held" => {
            (Odd, "WORKFLOW.md waits for `dalsegno reload`; the last good one stays in force".to_owned())
        }
        "workflow_rejected" => (Bad, "WORKFLOW.md is broken; the last good one stays in force".to_owned()),
        "tracker_health" if facts.has("failure") => (Bad, "the tracker cannot be read".to_owned()),
        "journal_restored" => {
            (Bad, "the journal was restored from a backup; what was done since is looked for".to_owned())
        }
        "restore_probed" if facts.has("found") => {
            (Bad, format!("work since the backup was found: {}", facts.foreign("found")))
        }
        "restore_probed" => (Good, "nothing was done for it since the backup".to_owned()),
        "tracker_health" => (Good, "the tracker can be read again".to_owned()),
        "issue_reopened" => (Plain, "somebody changed it; it may run again".to_owned()),
        "issue_gone" => (Plain, "not visible in the tracker any more".to_owned()),
        "issue_status" => return status(&facts),
        "run_started" => match facts.get("attempt").and_then(Value::as_u64) {
            Some(attempt) => (Plain, format!("a run begins (retry {attempt})")),
            None => (Plain, "a run begins".to_owned()),
        },
        "run_ended" => match facts.word("outcome") {
            "completed" => (Plain, "the run is over: completed".to_owned()),
            outcome => (Odd, facts.with_reason(&format!("the run is over: {outcome}"))),
        },
        "workspace_ready" if facts.flag("created") => (Plain, "the workspace is made".to_owned()),
        "workspace_ready" => (Plain, "the workspace is there".to_owned()),
        "workspace_removed" => (Plain, "the workspace is removed".to_owned()),
        "workspace_kept" => (Odd, facts.with_reason("the workspace stays")),
        "hook_ended" if facts.has("failure") => (Bad, format!("hook {} failed", facts.word("hook"))),
        "hook_ended" => (Plain, format!("hook {} ended", facts.word("hook"))),
        "session_started" => (Plain, "the agent has a session".to_owned()),
        "session_resumed" => (Plain, "the agent goes on in its old session".to_owned()),
        "session_rehydrated" => (Odd, "a new session takes over from a lost one".to_owned()),
        "turn_started" if facts.flag("repeated") => {
            (Odd, format!("turn {}: the prompt had not arrived, and is sent again", facts.number("turn")))
        }
        "turn_started" => (Plain, format!("turn {}", facts.number("turn"))),
        "turn_ended" if facts.flag("cut") => {
            (Odd, format!("turn {} was cut, and its prompt is not sent again", facts.number("turn")))
        }
        "turn_ended" => turn_ended(&facts),
        "agent_suspended" => {
            let agent = clean(facts.word("agent"));
            (Odd, format!("no run of {agent} starts before {}: its quota is used up", facts.time("until")))
        }
        "agent_resumed" => (Good, format!("the quota of {} is reset", clean(facts.word("agent")))),
        "rate_limited" => (Odd, "the model's provider refuses for a while".to_owned()),
        "question_asked" => (Odd, format!("the agent asks: {}", facts.foreign("question"))),
        "question_withdrawn" => (Plain, "the agent does not wait for an answer any more".to_owned()),
        "question_expired" => (Bad, "nobody answered in time".to_owned()),
        "question_answered" => (Good, format!("{} answered", facts.foreign("by"))),
        "message_queued" => (Plain, format!("{} tells the agent with its next prompt", words_of(&facts))),
        "message_heard" => (Plain, format!("{} told the agent", words_of(&facts))),
        "stop_asked" => match facts.inner("wish", "stop") {
            "pause" => (Plain, "an operator pauses it".to_owned()),
            _ => (Plain, "an operator cancels it".to_owned()),
        },
        "drained" if facts.flag("on") => (Odd, "no new work is taken".to_owned()),
        "drained" => (Plain, "new work is taken again".to_owned()),
        "notice_queued" => return None,
        "notices_dropped" => (
            Odd,
            format!(
                "{} notices for a {} are given up: {}",
                facts.number("count"),
                facts.inner("receiver", "kind"),
                short(&clean(facts.inner("failure", "message")), FOREIGN)
            ),
        ),
        "readiness" => match facts.word("state") {
            "ready" => (Good, "everything is in line".to_owned()),
            "recovering" => (Plain, "what the last daemon left is settled".to_owned()),
            "degraded" => (Odd, format!("it works, and brings back in line: {}", facts.words("surfaces"))),
            "blocked" => (Bad, format!("somebody has to look at: {}", facts.words("surfaces"))),
            _ => return None,
        },
        "check_ended" if facts.flag("passed") => {
            (Good, format!("check `{}` passes on a clean checkout", facts.foreign("command")))
        }
        "check_ended" => (Odd, format!("check `{}` fails", facts.foreign("command"))),
        "handoff_missing" => match facts.inner("missing", "what") {
            "no_commit" => (Odd, "nothing is committed yet: the agent gets another turn".to_owned()),
            "uncommitted" => (Odd, "files are not committed: the agent gets another turn".to_owned()),
            "check_failed" => (Plain, "the agent gets another turn, with the check's output".to_owned()),
            "messages" => (Plain, "an operator has something to say: the agent gets another turn".to_owned()),
            "diverged" => (Odd, "what somebody else pushed is not merged: the agent gets another turn".to_owned()),
            _ => return None,
        },
        "saga_started" => (Plain, format!("commit {} is handed over", commit(facts.word("commit")))),
        "saga_step" => return saga_step(&facts),
        "pull_request_linked" => (Plain, format!("its pull request is {}", clean(facts.inner("pull_request", "url")))),
        "saga_turned_back" => (Odd, "the handoff is undone".to_owned()),
        "branch_diverged" => (
            Odd,
            format!("somebody else pushed {} to the branch, and the push was refused", commit(facts.word("remote"))),
        ),
        "saga_ended" if !facts.flag("committed") => (Bad, "the handoff was given up".to_owned()),
        "effect_in_doubt" => (Odd, facts.with_reason("nobody knows whether an effect took place")),
        "recovered" => {
            let what = format!("{} of {}: {}", facts.word("surface"), facts.word("member"), facts.word("done"));
            (Odd, what)
        }
        "recovery_step" => (Odd, "what the dead daemon left running is swept".to_owned()),
        "parked" => (Bad, facts.with_reason("PARKED")),
        "released" => (Plain, "an operator released it: it may run again".to_owned()),
        "budget_set" => (Plain, budget_set(&facts)),
        "action_accepted" => (Plain, format!("{} {} is accepted", whose(&facts), facts.action())),
        "action_rejected" => (Odd, facts.with_reason(&format!("{} {} is refused", whose(&facts), facts.action()))),
        "writes_refused" => (Odd, writes_refused(&facts)),
        "action_failed" => (Bad, format!("the {} could not be done", facts.action())),
        "action_completed" => (Good, format!("the {} is done", facts.action())),
        _ => return None,
    };
    Some((tone, text))
}

/// Whose action it is.
fn whose(facts: &Facts<'_>) -> String {
    match facts.foreign("by").as_str() {
        "" => "an operator's".to_owned(),
        by => format!("{by}'s"),
    }
}

/// How many writes were refused, and why.
fn writes_refused(facts: &Facts<'_>) -> String {
    let counts = facts.get("counts").and_then(Value::as_object);
    let counts: Vec<(String, u64)> =
        counts.into_iter().flatten().map(|(code, count)| (clean(code), count.as_u64().unwrap_or_default())).collect();
    let total = counts.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    let told: Vec<String> = counts.iter().map(|(code, count)| format!("{code}: {count}")).collect();
    format!("{total} writes over HTTP were refused within a minute ({})", told.join(", "))
}

/// Who says something to the agent.
fn words_of(facts: &Facts<'_>) -> String {
    short(&clean(facts.inner("message", "by")), FOREIGN)
}

/// Only what no other event tells.
fn status(facts: &Facts<'_>) -> Option<(Tone, String)> {
    Some(match facts.word("to") {
        "handed_off" => (Tone::Good, "HANDED OFF".to_owned()),
        "waiting_retry" => (Tone::Odd, facts.with_reason("tries again later")),
        "waiting_quota" => (Tone::Odd, "waits for the quota".to_owned()),
        "waiting_question" | "waiting_approval" => (Tone::Bad, "waits for an answer".to_owned()),
        "paused" => (Tone::Odd, "paused".to_owned()),
        "failed" => (Tone::Bad, facts.with_reason("failed")),
        "canceled" => (Tone::Odd, facts.with_reason("canceled")),
        "completed" => (Tone::Good, "the tracker says that it is done".to_owned()),
        _ => return None,
    })
}

/// Whose limits were set, and to what.
fn budget_set(facts: &Facts<'_>) -> String {
    let whose = if facts.has("issue") { "its budget" } else { "the budget of a UTC day" };
    let limits = facts.get("limits").unwrap_or(&Value::Null);
    let whole = |name: &str| limits.get(name).and_then(Value::as_u64);
    let told: Vec<String> = [
        whole("tokens").map(|tokens| format!("{} tokens", count(tokens))),
        whole("cost_nanousd").map(|cost| format!("${}.{:02}", cost / 1_000_000_000, cost % 1_000_000_000 / 10_000_000)),
        whole("turns").map(|turns| format!("{turns} turns")),
        whole("runs").map(|runs| format!("{runs} runs")),
        whole("wall_clock_ms").map(|ms| format!("{} of runs", span(i64::try_from(ms / 1_000).unwrap_or(i64::MAX)))),
    ]
    .into_iter()
    .flatten()
    .collect();
    match told.is_empty() {
        true => format!("an operator set {whose}"),
        false => format!("an operator set {whose}: {}", told.join(", ")),
    }
}

fn turn_ended(facts: &Facts<'_>) -> (Tone, String) {
    let code = facts.get("failure").and_then(|failure| failure.get("code")).and_then(Value::as_str);
    let turn = facts.number("turn");
    match (facts.word("outcome"), code) {
        ("completed", _) => (Tone::Plain, format!("turn {turn} is over")),
        (outcome, Some(code)) => (Tone::Odd, format!("turn {turn} {}: {}", clean(outcome), clean(code))),
        (outcome, None) => (Tone::Odd, format!("turn {turn} {}", clean(outcome))),
    }
}

fn saga_step(facts: &Facts<'_>) -> Option<(Tone, String)> {
    let step = facts.word("step");
    Some(match (facts.inner("state", "state"), step) {
        ("done", "push") => (Tone::Plain, "the branch is pushed".to_owned()),
        ("done", "open") => (Tone::Plain, "the pull request is there".to_owned()),
        ("done", "ready") => (Tone::Plain, "the pull request is ready for review".to_owned()),
        ("done", "comment") => (Tone::Plain, "the issue has its comment".to_owned()),
        ("done", "move") => (Tone::Plain, "the issue is moved".to_owned()),
        ("waiting", _) => (Tone::Odd, format!("{} failed and is tried again", clean(step))),
        ("awaiting_approval", _) => (Tone::Odd, format!("{} waits for an approval", clean(step))),
        ("in_doubt", _) => (Tone::Odd, format!("nobody knows whether {} took place", clean(step))),
        ("not_applied", _) => (Tone::Bad, format!("{} was refused", clean(step))),
        ("undone", _) => (Tone::Plain, format!("{} is undone", clean(step))),
        ("skipped", _) => (Tone::Odd, format!("{} is left as it is", clean(step))),
        ("parked", _) => (Tone::Bad, format!("{} needs somebody", clean(step))),
        _ => return None,
    })
}

/// The facts of an event, none of which is sure to be there.
pub(crate) struct Facts<'a>(pub(crate) &'a Value);

impl<'a> Facts<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !value.is_null())
    }

    /// A text, or nothing.
    pub(crate) fn word(&self, name: &str) -> &'a str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Words of ours in a list.
    fn words(&self, name: &str) -> String {
        let list = self.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    }

    /// The text of a tag inside a nested fact.
    pub(crate) fn inner(&self, name: &str, tag: &str) -> &'a str {
        self.get(name).and_then(|value| value.get(tag)).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Whether it is said to be so.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A time of the journal, as people read it.
    fn time(&self, name: &str) -> String {
        let ms = self.get(name).and_then(Value::as_i64);
        let time = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        time.map_or_else(|| "the provider's reset".to_owned(), |time| clock(&time.to_string()))
    }

    /// An operator's action, by its kind where it is told, and its name.
    fn action(&self) -> String {
        match (self.foreign("action_kind"), self.foreign("action_id")) {
            (kind, id) if kind.is_empty() => format!("action {id}"),
            (kind, id) => format!("action {kind} ({id})"),
        }
    }

    fn foreign(&self, name: &str) -> String {
        short(&clean(self.word(name)), FOREIGN)
    }

    fn with_reason(&self, text: &str) -> String {
        match self.foreign("reason") {
            reason if reason.is_empty() => text.to_owned(),
            reason => format!("{text}: {reason}"),
        }
    }
}

/// The tokens that an event of kind `usage` tells.
pub(crate) fn tokens(event: &Event) -> Option<String> {
    let usage = event.data.get("usage").filter(|_| event.kind == "usage")?;
    let number = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
    Some(format!("{} tokens in, {} out", count(number("input_tokens")), count(number("output_tokens"))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, data: Value) -> Event {
        Event {
            cursor: String::new(),
            seq: 1,
            at: "2026-01-01T00:00:00.000Z".to_owned(),
            kind: kind.to_owned(),
            issue: None,
            run: None,
            action_id: None,
            correlation_id: None,
            caused_by: None,
            data,
            content_withheld: false,
        }
    }

    #[test]
    fn what_matters_has_a_sentence_and_machinery_has_none() {
        let told = |kind: &str, data: Value| tell(&event(kind, data));
        assert_eq!(
            told("parked", json!({"reason": "no\u{1b}[2J way\nout"})),
            Some((Tone::Bad, "PARKED: no[2J way out".to_owned()))
        );
        assert_eq!(
            told("issue_status", json!({"from": "handing_off", "to": "handed_off"})),
            Some((Tone::Good, "HANDED OFF".to_owned()))
        );
        let failed = json!({"turn": 2, "outcome": "failed", "failure": {"code": "agent_exit"}});
        assert_eq!(told("turn_ended", failed), Some((Tone::Odd, "turn 2 failed: agent_exit".to_owned())));
        assert_eq!(told("effect_intended", json!({"effect_id": 1})), None);
        assert_eq!(told("issue_status", json!({"from": "idle", "to": "running"})), None);
        assert_eq!(told("unheard_of", json!(null)), None);
    }

    /// Kinds that are there for machines: other events tell what came of them.
    const QUIET: [&str; 10] = [
        "effect_ended",
        "effect_intended",
        "issue_changed",
        "issue_seen",
        "progress",
        "run_ending",
        "run_phase",
        "start_planned",
        "usage",
        "workflow_loaded",
    ];

    #[test]
    fn every_kind_of_event_is_told_or_said_to_be_for_machines() {
        let kinds = include_str!("../../core/src/event.rs").lines().filter_map(|line| {
            let (variant, kind) = line.trim().split_once(" { .. } => \"")?;
            variant.starts_with("Self::").then(|| kind.trim_end_matches("\","))
        });
        let source = include_str!("story.rs");
        let (told, _) = source.split_once("#[cfg(test)]").unwrap_or((source, ""));
        let mut number = 0;
        for kind in kinds {
            number += 1;
            let has_words = told.contains(&format!("        \"{kind}\" "));
            assert_ne!(has_words, QUIET.contains(&kind), "{kind}");
        }
        assert!(number > 40, "the kinds were found: {number}");
    }

    #[test]
    fn what_an_operator_did_and_what_a_provider_or_somebody_else_does_is_told() {
        let told = |kind: &str, data: Value| tell(&event(kind, data)).map(|(_, text)| text).unwrap_or_default();
        let limits =
            json!({"tokens": 5000, "cost_nanousd": 2_500_000_000_u64, "turns": null, "wall_clock_ms": 7_200_000});
        for (kind, data, words) in [
            (
                "branch_diverged",
                json!({"remote": "c0ffee".repeat(7)}),
                "somebody else pushed c0ffeec0ffee to the branch",
            ),
            ("handoff_missing", json!({"missing": {"what": "diverged"}}), "somebody else pushed is not merged"),
            (
                "agent_suspended",
                json!({"agent": "codex", "until": 1_767_225_600_000_i64}),
                "no run of codex starts before ",
            ),
            ("agent_suspended", json!({"agent": "codex", "until": 1_767_225_600_000_i64}), ": its quota is used up"),
            ("agent_resumed", json!({"agent": "codex"}), "the quota of codex is reset"),
            ("budget_set", json!({"issue": "1", "limits": limits}), "its budget: 5.0k tokens, $2.50, 2h 0m of runs"),
            ("budget_set", json!({"issue": null, "day": 1, "limits": {}}), "an operator set the budget of a UTC day"),
            ("released", json!({"issue": "1", "action_id": "act-1"}), "an operator released it"),
            (
                "action_accepted",
                json!({"action_id": "act-1", "action_kind": "release"}),
                "action release (act-1) is accepted",
            ),
            (
                "action_accepted",
                json!({"action_id": "act-3", "action_kind": "release", "by": "ada"}),
                "ada's action release",
            ),
            (
                "writes_refused",
                json!({"counts": {"rate_limited": 40, "token_required": 2}}),
                "42 writes over HTTP were refused within a minute (rate_limited: 40, token_required: 2)",
            ),
            ("action_rejected", json!({"action_id": "act-2", "action_kind": "x", "reason": "no"}), "is refused: no"),
            ("action_completed", json!({"action_id": "act-1"}), "the action act-1 is done"),
        ] {
            assert!(told(kind, data).contains(words), "{kind}");
        }
    }

    #[test]
    fn a_sentence_is_painted_only_in_colour() {
        assert_eq!(Tone::Bad.paint("x", true), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Tone::Bad.paint("x", false), "x");
        assert_eq!(Tone::Plain.paint("x", true), "x");
    }
}
