//! Every kind of action in every status, over HTTP, against the table of docs/actions.md; and every kind over a kill between its receipt and its
//! effect, sent by thirty-two at once.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc;
use std::thread;

use dalsegno_api::{Action, Client, Receipt, Target};
use dalsegno_core::ActionKind;
use dalsegno_testkit::forge::{FakeForge, FakeSetup};
use serde_json::{Value, json};

use crate::codex::side_by_side;
use crate::http::Api;
use crate::judge;
use crate::project::{Daemon, Project};
use crate::table::rows;

const FRONT: &str =
    "polling: {interval_ms: 200}\nagent: {kind: scripted, script: agent.yaml, max_concurrent_agents: 20, AGENT}\n";
const HANGS: &str = "default:\n  - [ {say: \"I look around\"}, {sh: \"sleep 300\"} ]\n  - [ {sh: \"sleep 300\"} ]\n";
const WORKS: &str = "default:\n  - [ {sh: \"echo work >> work.txt && git add -A && git commit -qm work\"} ]\n";
const ASKS: &str =
    "default:\n  - [ {ask: {text: \"Which colour?\"}}, {sh: \"sleep 300\"} ]\n  - [ {sh: \"sleep 300\"} ]\n";
const WANTS: &str =
    "default:\n  - [ {permission: \"rm -rf build\"}, {sh: \"sleep 300\"} ]\n  - [ {sh: \"sleep 300\"} ]\n";
/// They begin together, as what one of them hears of its provider holds up whoever has not begun.
const LIMITED: &str =
    "default:\n  - [ {sh: \"while [ ! -e ../../go ]; do sleep 0.1; done\"}, {rate_limit: {reset_in: 60m}} ]\n";
const HANDOFF: &str = "handoff: {state: Human Review}\n";
/// A step that is past the pivot and cannot be done.
const BAD_COMMENT: &str = "handoff: {state: Human Review, comment: '{{ nothing.like.this }}'}\n";

/// The statuses of the table.
const PLACES: [&str; 16] = [
    "idle",
    "queued",
    "running",
    "paused",
    "waiting_retry",
    "waiting_quota",
    "question",
    "permission",
    "approval",
    "handing_off",
    "past_pivot",
    "parked",
    "parked_step",
    "handed_off",
    "completed",
    "canceled",
];

/// A project whose issues are all in one status.
struct Stage {
    project: Project,
    daemon: Daemon,
    _forge: Option<FakeForge>,
}

impl Stage {
    fn at(place: &str, issues: &[String]) -> Self {
        let plain = format!("{FRONT}{HANDOFF}");
        let (front, agent) = match place {
            "waiting_quota" => (plain, LIMITED),
            "question" => (plain, ASKS),
            "permission" => (plain, WANTS),
            "approval" => (
                format!("{FRONT}handoff: {{state: Human Review, approval: required}}\n")
                    .replace("AGENT", "sandbox: command env"),
                WORKS,
            ),
            "waiting_retry" => (format!("{plain}hooks: {{before_run: 'exit 3'}}\n"), WORKS),
            "parked" => (format!("{plain}hooks: {{before_run: 'exit 3'}}\nbreaker: {{same_failure: 1}}\n"), WORKS),
            "parked_step" => (format!("{FRONT}{BAD_COMMENT}"), WORKS),
            "queued" => (plain.replace("agents: 20", "agents: 1"), HANGS),
            "handing_off" | "past_pivot" | "handed_off" | "completed" => (plain, WORKS),
            _ => (plain, HANGS),
        };
        let project = Project::new(&front.replace(", AGENT", ""), agent);
        let forge = (place == "handing_off").then(|| {
            let setup = FakeSetup { git_dir: Some(project.remote()), ..FakeSetup::new(project.dir.join("forge")) };
            let forge = FakeForge::start(setup).unwrap();
            let provider = format!("{{token: $FORGE_TOKEN, repository: acme/widgets, api_url: '{}'}}", forge.url());
            let handoff = format!("handoff: {{forge: github, state: Human Review, provider: {provider}}}\n");
            project.front(&format!("{FRONT}{handoff}").replace(", AGENT", ""));
            forge
        });
        if matches!(place, "handing_off" | "past_pivot") {
            // The push is under way until it may end.
            let hook = project.remote().join("hooks/pre-receive");
            fs::create_dir_all(hook.parent().unwrap()).unwrap();
            let go = project.dir.join("go");
            fs::write(&hook, format!("#!/bin/sh\nwhile [ ! -e '{}' ]; do sleep 0.1; done\n", go.display())).unwrap();
            fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        }
        if place == "queued" {
            project.issue("HOG-1", "state: Todo\npriority: 1");
        }
        if place == "idle" {
            project.issue("HOG-1", "state: Backlog");
        }
        let rest = if place == "idle" { "\nblocked_by: [HOG-1]" } else { "" };
        let add = || issues.iter().for_each(|issue| project.issue(issue, &format!("state: Todo{rest}")));
        if place != "queued" {
            add();
        }
        let daemon = project.daemon();
        if place == "queued" {
            project.wait_for("HOG-1", "running");
            add();
        }
        let stage = Self { project, daemon, _forge: forge };
        stage.reach(place, issues);
        stage
    }

    fn reach(&self, place: &str, issues: &[String]) {
        let project = &self.project;
        let all = |status: &str| issues.iter().for_each(|issue| project.wait_for(issue, status));
        let turns = || project.wait_until("turns", || self.count("turn_started") >= issues.len());
        let each = |kind: &str| {
            all("running");
            turns();
            issues.iter().for_each(|issue| drop(self.done(&self.client().act(&action(kind, issue, "first")).unwrap())));
        };
        match place {
            "paused" => each("pause"),
            "canceled" => each("cancel"),
            "running" => {
                all("running");
                turns();
            }
            "waiting_quota" => {
                all("running");
                turns();
                self.go();
                all("waiting_quota");
            }
            "question" | "permission" => all("waiting_question"),
            "approval" => all("waiting_approval"),
            "handing_off" | "past_pivot" => {
                all("handing_off");
                let pushes = || {
                    let events = project.events();
                    let of_it = events.iter().filter(|event| event.kind == "saga_step" && event.data["step"] == "push");
                    of_it.filter(|event| event.data["state"]["state"] == "intended").count()
                };
                project.wait_until("the pushes", || pushes() >= issues.len());
            }
            "parked_step" => all("parked"),
            "completed" => {
                all("handed_off");
                issues.iter().for_each(|issue| project.set_state(issue, "Done"));
                all("completed");
            }
            status => all(status),
        }
        project.wait_until("the daemon serves", || Client::discover(&project.state_dir()).is_ok());
    }

    /// Lets go what waits for it.
    fn go(&self) {
        fs::write(self.project.dir.join("go"), "").unwrap();
    }

    fn client(&self) -> Client {
        Client::discover(&self.project.state_dir()).unwrap()
    }

    fn count(&self, kind: &str) -> usize {
        self.project.events().iter().filter(|event| event.kind == kind).count()
    }

    /// Kills the daemon, and starts another one.
    fn restart(&mut self) {
        self.daemon.kill();
        self.daemon = self.project.daemon();
        Api::of(&self.project, &self.daemon);
    }

    /// Waits for the action's one end, and tells which it is.
    fn done(&self, receipt: &Receipt) -> String {
        assert_eq!(receipt.status, "accepted", "{receipt:?}");
        let state = || self.client().action(&receipt.action_id).ok();
        let what = format!("the end of {} ({})", receipt.action_kind, receipt.action_id);
        self.project.wait_until(&what, || state().is_some_and(|state| state.completion.is_some()));
        let events = self.project.events();
        let of_it = events.iter().filter(|event| event.data["action_id"] == *receipt.action_id);
        let ends: Vec<_> =
            of_it.filter(|event| event.kind == "action_completed" || event.kind == "action_failed").collect();
        assert_eq!(ends.len(), 1, "{receipt:?}: {ends:?}");
        assert_eq!(ends[0].data["correlation_id"], *receipt.correlation_id);
        ends[0].kind.clone()
    }
}

fn payload(kind: &str) -> Value {
    match kind {
        "steer" | "answer" => json!({"text": "blue"}),
        "comment" => json!({"body": "only once"}),
        "transition_issue" => json!({"state": "Icebox"}),
        "create_followup" => json!({"title": "What follows"}),
        "set_budget" => json!({"tokens": 5_000_000}),
        "settle" => json!({"step": "comment", "verb": "skip"}),
        _ => json!({}),
    }
}

fn action(kind: &str, issue: &str, key: &str) -> Action {
    let kind_of_target = if issue.is_empty() { "daemon" } else { "issue" };
    let Value::Object(payload) = payload(kind) else { panic!("no object") };
    Action {
        schema_version: 1,
        action_kind: kind.to_owned(),
        target: Target { kind: kind_of_target.to_owned(), id: issue.to_owned() },
        correlation_id: Some("c-1".to_owned()),
        idempotency_key: Some(format!("{kind}-{issue}-{key}")),
        on_duplicate: None,
        payload,
    }
}

#[test]
fn every_kind_in_every_status_is_answered_as_the_table_says_and_ends_once_over_a_kill() {
    side_by_side(&PLACES, walk);
}

/// All kinds in one status, each on an issue of its own; then the daemon is killed, and the next one ends what was accepted.
fn walk(place: &str) {
    let rows = rows();
    let kinds: Vec<&str> = rows.iter().flat_map(|row| row.kinds.clone()).collect();
    let issues: Vec<String> = (1..=kinds.len()).map(|number| format!("DS-{number}")).collect();
    let mut stage = Stage::at(place, &issues);
    let refused = |kind: &str| rows.iter().find(|row| row.kinds.contains(&kind)).unwrap().refused(place);
    let mut expected: Vec<&str> = kinds.iter().copied().filter(|kind| refused(kind).is_none()).collect();
    expected.sort_unstable();
    let api = Api::of(&stage.project, &stage.daemon);
    let mut accepted = Vec::new();
    for (kind, issue) in kinds.iter().zip(&issues) {
        let mut allowed = stage.client().issue(issue).unwrap().issue.allowed_actions;
        allowed.sort_unstable();
        assert_eq!(allowed, expected, "{place}: what is told of {issue}");
        let answer = api.post("/api/v1/actions", &json!(action(kind, issue, "k")).to_string());
        let receipt: Receipt = serde_json::from_value(answer.body.clone())
            .unwrap_or_else(|error| panic!("{place}: {kind}: no receipt ({error}): {} {}", answer.status, answer.body));
        let told = (answer.status, receipt.status.as_str(), receipt.code.as_deref());
        let named = ActionKind::named(kind).unwrap();
        match refused(kind) {
            None => {
                assert_eq!(told, (202, "accepted", None), "{place}: {kind}: {receipt:?}");
                let followups = [&["action_completion"], named.followups()].concat();
                assert_eq!(receipt.expected_followups, followups, "{place}: {kind}");
                accepted.push(receipt);
            }
            Some((code, words)) => {
                assert_eq!(told, (409, "rejected", Some(code)), "{place}: {kind}: {receipt:?}");
                assert!(receipt.reason.as_deref().unwrap_or_default().contains(words), "{place}: {kind}: {receipt:?}");
                assert!(receipt.expected_followups.is_empty(), "{place}: {kind}: {receipt:?}");
            }
        }
    }
    stage.restart();
    stage.go();
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for receipt in &accepted {
        *ends.entry(stage.done(receipt)).or_default() += 1;
    }
    let rejected = stage.count("action_rejected");
    assert_eq!(rejected, kinds.len() - accepted.len(), "{place}: each refusal is in the journal");
    println!("{place}: {} accepted, {rejected} refused; {ends:?}", accepted.len());
    judge::no_gap(&stage.project);
    stage.daemon.kill();
}

/// Each kind, the status in which it is done, and whether it is of the daemon.
const KINDS: [(&str, &str); 20] = [
    ("cancel", "running"),
    ("retry", "canceled"),
    ("rehydrate", "handed_off"),
    ("pause", "running"),
    ("resume", "paused"),
    ("steer", "running"),
    ("comment", "idle"),
    ("transition_issue", "idle"),
    ("create_followup", "idle"),
    ("approve", "approval"),
    ("deny", "permission"),
    ("answer", "question"),
    ("settle", "parked_step"),
    ("set_budget", "idle"),
    ("release", "parked"),
    ("refresh", ""),
    ("drain", ""),
    ("undrain", ""),
    ("reload", ""),
    ("set_budget", ""),
];

#[test]
fn every_kind_that_thirty_two_send_at_once_takes_effect_once_over_a_kill_at_the_first_receipt() {
    let tested: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
    let missing: Vec<_> = ActionKind::ALL.into_iter().filter(|kind| !tested.contains(&kind.as_str())).collect();
    assert!(missing.is_empty(), "kinds that are not tested: {missing:?}");
    side_by_side(&KINDS, |(kind, place)| race(kind, place));
}

fn race(kind: &str, place: &str) {
    let who = format!("{kind} in {place:?}");
    let issue = if place.is_empty() { "" } else { "DS-1" };
    let mut stage = match place {
        "" => Stage::at(if kind == "reload" { "approval" } else { "idle" }, &["DS-1".to_owned()]),
        place => Stage::at(place, &["DS-1".to_owned()]),
    };
    if kind == "reload" {
        let front = fs::read_to_string(stage.project.workflow()).unwrap();
        let changed = front.replace("handoff:", "hooks: {before_run: 'true'}\nhandoff:");
        fs::write(stage.project.workflow(), changed).unwrap();
        stage.project.wait_for_event("workflow_rejected");
    }
    let wanted = action(kind, issue, "k");
    let (first, arrived) = mpsc::sync_channel::<()>(32);
    let receipts: Vec<Receipt> = thread::scope(|scope| {
        let sends: Vec<_> = (0..32)
            .map(|_| {
                let (client, first, wanted) = (stage.client(), first.clone(), wanted.clone());
                scope.spawn(move || {
                    let receipt = client.act(&wanted).ok();
                    let _ = first.send(());
                    receipt
                })
            })
            .collect();
        arrived.recv().unwrap();
        stage.daemon.kill();
        sends.into_iter().filter_map(|send| send.join().unwrap()).collect()
    });
    assert!(receipts.iter().filter(|receipt| !receipt.replayed).count() <= 1, "{who}: {receipts:?}");
    stage.daemon = stage.project.daemon();
    Api::of(&stage.project, &stage.daemon);
    stage.go();
    let again = stage.client().act(&wanted).unwrap();
    assert!(again.replayed, "{who}: it was forgotten: {receipts:?}, then {again:?}");
    assert!(receipts.iter().all(|receipt| receipt.action_id == again.action_id), "{who}: {receipts:?}, then {again:?}");
    assert_eq!(stage.done(&again), "action_completed", "{who}");
    let events = stage.project.events();
    let accepted = events.iter().filter(|event| event.kind == "action_accepted" && event.data["action_kind"] == kind);
    assert_eq!(accepted.count(), 1, "{who}");
    seen(&stage, kind, &who);
    judge::no_gap(&stage.project);
    println!("{who}: {} of 32 were answered before the kill", receipts.len());
    stage.daemon.kill();
}

/// What carries an action out, at whose beginning and end the daemon is killed. Those of live agents are walked with the real Codex.
#[rustfmt::skip]
const POINTS: [(&str, &str, &str); 14] = [
    ("comment", "idle", "comment_issue.before"), ("comment", "idle", "comment_issue.after"),
    ("create_followup", "idle", "create_issue.before"), ("create_followup", "idle", "create_issue.after"),
    ("transition_issue", "idle", "transition_issue.before"), ("transition_issue", "idle", "transition_issue.after"),
    ("retry", "handed_off", "transition_issue.before"), ("retry", "handed_off", "transition_issue.after"),
    ("approve", "approval", "tell_saga.before"), ("approve", "approval", "tell_saga.after"),
    ("deny", "approval", "tell_saga.before"), ("deny", "approval", "tell_saga.after"),
    ("settle", "parked_step", "tell_saga.before"), ("settle", "parked_step", "tell_saga.after"),
];

#[test]
fn what_is_carried_out_is_carried_out_once_when_the_daemon_is_killed_before_or_after_it() {
    side_by_side(&POINTS, |(kind, place, point)| {
        let who = format!("{kind} in {place}, killed at {point}");
        let mut stage = Stage::at(place, &["DS-1".to_owned()]);
        stage.daemon.kill();
        let point = format!("effect.{point}");
        stage.daemon = stage.project.daemon_with(&[("DALSEGNO_CRASH_AT", &point)]);
        Api::of(&stage.project, &stage.daemon);
        let wanted = action(kind, "DS-1", "k");
        // The answer may die with the daemon; what was accepted does not.
        let sent = stage.client().act(&wanted);
        stage.daemon.wait();
        stage.daemon = stage.project.daemon();
        Api::of(&stage.project, &stage.daemon);
        let again = stage.client().act(&wanted).unwrap();
        assert!(again.replayed, "{who}: {sent:?} was forgotten");
        assert_eq!(stage.done(&again), "action_completed", "{who}");
        match kind {
            "deny" => stage.project.wait_for("DS-1", "parked"),
            kind => seen(&stage, kind, &who),
        }
        judge::no_gap(&stage.project);
        stage.daemon.kill();
    });
}

/// What is seen of it outside the action's own events, once.
fn seen(stage: &Stage, kind: &str, who: &str) {
    let project = &stage.project;
    let text = project.issue_text("DS-1");
    match kind {
        "cancel" => project.wait_for("DS-1", "canceled"),
        "pause" => project.wait_for("DS-1", "paused"),
        "approve" => project.wait_for("DS-1", "handed_off"),
        "settle" => project.wait_for("DS-1", "handed_off"),
        "resume" | "steer" | "answer" | "deny" => project.wait_until(who, || stage.count("session_resumed") > 0),
        "retry" | "rehydrate" => project.wait_until(who, || stage.count("run_started") == 2),
        "comment" => assert_eq!(text.matches("only once").count(), 1, "{who}: {text}"),
        "transition_issue" => assert!(text.contains("state: Icebox"), "{who}: {text}"),
        "create_followup" => {
            let files = fs::read_dir(project.issue_file("DS-1").parent().unwrap()).unwrap();
            let made = files.filter(|file| {
                fs::read_to_string(file.as_ref().unwrap().path()).is_ok_and(|text| text.contains("Follows from DS-1"))
            });
            assert_eq!(made.count(), 1, "{who}");
        }
        "set_budget" => assert_eq!(stage.count("budget_set"), 1, "{who}"),
        "release" => assert_eq!(stage.count("released"), 1, "{who}"),
        "drain" | "undrain" => assert_eq!(stage.count("drained"), 1, "{who}"),
        "reload" => assert_eq!(stage.count("workflow_loaded"), 2, "{who}"),
        _ => {}
    }
}
