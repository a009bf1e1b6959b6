//! Actions: decided once, durable before they are answered, and what they change survives a restart.

use crate::desk::*;
use dalsegno_core::*;
use serde_json::{Value, json};

pub(crate) fn request(kind: &str, target: (&str, &str), payload: Value) -> ActionRequest {
    ActionRequest {
        kind: kind.into(),
        target_kind: target.0.into(),
        target_id: target.1.into(),
        correlation_id: None,
        idempotency_key: None,
        reject_duplicate: false,
        by: None,
        content: format!("{kind} {target:?} {payload}"),
        payload,
    }
}

pub(crate) fn act(desk: &mut Desk, request: ActionRequest) -> Receipt {
    desk.hand(Input::Action { caller: 7, request: Box::new(request) });
    let (caller, receipt) = desk.replies.pop().expect("an answer");
    assert_eq!(caller, 7);
    receipt
}

fn spent() -> Desk {
    let mut limited = policy();
    limited.budget.issue.tokens = Some(1_000);
    let mut desk = Desk::new(limited);
    desk.reach_turn();
    desk.report(Usage::new(1_000, 0), None);
    desk.stop();
    assert!(desk.reason(1).starts_with("budget_exceeded"));
    desk
}

#[test]
fn a_raised_budget_lets_an_issue_go_on_that_was_parked_for_it_and_is_remembered() {
    let mut desk = spent();
    let receipt = act(&mut desk, request("set_budget", ("issue", "ds-1"), json!({"turns": 50})));
    assert!(receipt.accepted && receipt.completed_at.is_some());
    assert_eq!(desk.status(1), IssueStatus::Parked);
    act(&mut desk, request("set_budget", ("issue", "DS-1"), json!({"tokens": 1_000})));
    assert_eq!(desk.status(1), IssueStatus::Parked);
    act(&mut desk, request("set_budget", ("issue", "i1"), json!({"tokens": 1_500})));
    assert_eq!(desk.status(1), IssueStatus::Idle);
    desk.restart();
    desk.next_run(&issue(1));
    desk.report(Usage::new(499, 0), None);
    assert!(desk.cancels.is_empty());
    desk.report(Usage::new(500, 0), None);
    desk.stop();
    assert!(desk.reason(1).contains("1500 of 1500 tokens"), "{}", desk.reason(1));
}

#[test]
fn the_days_limit_can_be_raised_for_the_day_alone() {
    let mut limited = policy();
    limited.budget.day.tokens = Some(100);
    let mut desk = Desk::new(limited);
    desk.reach_turn();
    desk.report(Usage::new(100, 0), None);
    desk.stop();
    act(&mut desk, request("set_budget", ("daemon", ""), json!({"tokens": 1_000})));
    assert_eq!(desk.status(1), IssueStatus::Idle);
    let lines = desk.machine.budgets(Timestamp(desk.now));
    assert_eq!((lines[0].limits.tokens, lines[0].usage.total_tokens), (Some(1_000), 100));
    desk.now += 86_400_000;
    assert_eq!(desk.machine.budgets(Timestamp(desk.now))[0].limits.tokens, Some(100));
}

#[test]
fn a_release_ends_the_hold_of_a_breaker_and_counts_start_over() {
    let mut desk = Desk::new(policy());
    for _ in 0..3 {
        desk.poll(&[issue(1)]);
        desk.fail("prepare_workspace", retryable());
        desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
        desk.now += 400_000;
    }
    assert!(desk.reason(1).starts_with("breaker_same_failure"));
    assert!(act(&mut desk, request("release", ("issue", "DS-1"), json!({}))).accepted);
    assert_eq!((desk.entry(1).runs, desk.entry(1).breaker.failures.len()), (0, 0));
    desk.restart();
    desk.poll(&[issue(1)]);
    assert_eq!(desk.status(1), IssueStatus::Running);
    let again = act(&mut desk, request("release", ("issue", "DS-1"), json!({})));
    assert_eq!(again.code.as_deref(), Some("not_parked"));
}

#[test]
fn what_is_wrong_or_not_there_is_refused_and_recorded() {
    let mut desk = spent();
    for (kind, target, payload, code) in [
        ("release", ("issue", "DS-9"), json!({}), "not_found"),
        ("release", ("daemon", ""), json!({}), "invalid_payload"),
        ("set_budget", ("issue", "DS-1"), json!({}), "invalid_payload"),
        ("set_budget", ("issue", "DS-1"), json!({"tokens": -1}), "invalid_payload"),
        ("set_budget", ("issue", "DS-1"), json!({"tokens": 1.5}), "invalid_payload"),
        ("set_budget", ("issue", "DS-1"), json!({"cost_usd": "x"}), "invalid_payload"),
        ("set_budget", ("issue", "DS-1"), json!({"token": 1}), "invalid_payload"),
        ("set_budget", ("daemon", ""), json!({"runs": 1}), "invalid_payload"),
        ("pause", ("issue", "DS-1"), json!({}), "not_running"),
        ("explode", ("issue", "DS-1"), json!({}), "unknown_action"),
    ] {
        let receipt = act(&mut desk, request(kind, target, payload));
        assert_eq!((receipt.accepted, receipt.code.as_deref()), (false, Some(code)), "{kind}");
        assert_eq!(desk.machine.receipt(&receipt.action_id), Some(receipt));
    }
    assert_eq!(desk.kinds().iter().filter(|kind| **kind == "action_rejected").count(), 10);
    assert_eq!(desk.status(1), IssueStatus::Parked);
}

#[test]
fn a_key_is_executed_once_over_restarts_and_another_content_is_a_conflict() {
    let mut desk = spent();
    let keyed = |tokens: u64| ActionRequest {
        idempotency_key: Some("k".into()),
        ..request("set_budget", ("issue", "DS-1"), json!({"tokens": tokens}))
    };
    // A refused one does not use the key up.
    let wrong = ActionRequest { target_id: "DS-9".into(), ..keyed(5_000) };
    assert!(!act(&mut desk, wrong).accepted);
    let first = act(&mut desk, keyed(5_000));
    desk.restart();
    let events = desk.journal.len();
    let second = act(&mut desk, keyed(5_000));
    assert_eq!(second, Receipt { replayed: true, ..first.clone() });
    assert_eq!(desk.journal.len(), events, "a repetition appends nothing");
    let other = act(&mut desk, keyed(6_000));
    assert_eq!(other.code.as_deref(), Some("idempotency_conflict"));
    let strict = act(&mut desk, ActionRequest { reject_duplicate: true, ..keyed(5_000) });
    assert!(!strict.accepted && strict.reason.unwrap().contains("duplicate idempotency key"));
    assert_eq!(desk.entry(1).limits.tokens, Some(5_000));
}

#[test]
fn the_answer_leaves_when_what_it_tells_is_durable() {
    let mut desk = spent();
    let request = request("release", ("issue", "DS-1"), json!({}));
    let now = Timestamp(desk.now);
    desk.machine.handle(Input::Action { caller: 1, request: Box::new(request) }, now);
    let Output::Append(batch) = desk.machine.poll_output() else { panic!("it is appended first") };
    while let output = desk.machine.poll_output()
        && !matches!(output, Output::Wait(_))
    {
        assert!(!matches!(output, Output::Reply { .. }), "answered before it was durable");
    }
    desk.machine.handle(Input::Committed(batch.committed()), now);
    assert!(matches!(desk.machine.poll_output(), Output::Reply { caller: 1, .. }));
}

#[test]
fn only_so_many_are_remembered() {
    let mut desk = spent();
    for number in 0..1_100 {
        let keyed = ActionRequest {
            idempotency_key: Some(format!("k{number}")),
            ..request("set_budget", ("issue", "DS-1"), json!({"tokens": 1}))
        };
        act(&mut desk, keyed);
        act(&mut desk, request("explode", ("daemon", ""), json!({})));
        desk.now += 100;
    }
    let state = desk.machine.state();
    assert_eq!((state.actions.len(), state.refusals.len()), (1_000, 1_000));
}

#[test]
fn a_flood_of_refused_actions_is_written_down_as_far_as_it_is_remembered_for_a_minute() {
    let mut desk = spent();
    let nonsense =
        || ActionRequest { idempotency_key: Some("k".into()), ..request("release", ("issue", "DS-9"), json!({})) };
    let first = act(&mut desk, nonsense());
    desk.now += 1_000;
    for _ in 1..ACTIONS_KEPT {
        assert_eq!(act(&mut desk, nonsense()).code.as_deref(), Some("not_found"));
    }
    let refused_unrecorded = |desk: &mut Desk| {
        let (events, answers) = (desk.journal.len(), desk.replies.len());
        desk.hand(Input::Action { caller: 8, request: Box::new(nonsense()) });
        let told = desk.unrecorded.pop().map(|(caller, failure)| (caller, failure.code));
        assert_eq!((desk.journal.len(), desk.replies.len()), (events, answers + usize::from(told.is_none())));
        told
    };
    let without = Some((8, "not_found".to_owned()));
    assert_eq!(refused_unrecorded(&mut desk), without);
    desk.now += 58_999;
    desk.restart();
    assert_eq!(refused_unrecorded(&mut desk), without, "the limit survives a restart");
    assert_eq!(desk.machine.receipt(&first.action_id), Some(first.clone()), "it is remembered for a minute");
    // Nobody who is not refused is held up, and the key of who was is as good as new.
    let fine = ActionRequest { target_id: "DS-1".into(), ..nonsense() };
    assert!(act(&mut desk, fine).accepted);
    desk.now += 1;
    let other = || ActionRequest { idempotency_key: None, ..nonsense() };
    assert_eq!(act(&mut desk, other()).code.as_deref(), Some("not_found"));
    assert_eq!(desk.machine.receipt(&first.action_id), None);
    desk.hand(Input::Action { caller: 8, request: Box::new(other()) });
    assert!(desk.unrecorded.pop().is_some(), "the second one is not a minute old");
}

fn asking() -> Policy {
    let mut asking = policy();
    asking.handoff.as_mut().unwrap().approval_ms = Some(1_000);
    asking
}

fn load(desk: &mut Desk, hash: &str, policy: &Policy) {
    desk.hand(Input::PolicyLoaded { hash: hash.into(), policy: Box::new(policy.clone()) });
}

fn in_force(desk: &Desk) -> &str {
    desk.machine.state().policy.as_ref().unwrap().as_str()
}

#[test]
fn under_approvals_a_reload_that_runs_other_code_or_loosens_a_rule_waits_for_an_operator() {
    type Change = fn(&mut Policy);
    let changes: [(&str, Change); 8] = [
        ("hooks.before_run", |policy| policy.hooks.before_run = Some("curl".into())),
        ("agent.command", |policy| policy.agent.command = Some("other".into())),
        ("agent.sandbox", |policy| policy.agent.sandbox = Sandbox::Command("env".into())),
        ("codex", |policy| policy.agent.codex.approval_policy = Some(json!("never"))),
        ("handoff.checks", |policy| policy.handoff.as_mut().unwrap().checks.clear()),
        ("handoff.approval", |policy| policy.handoff.as_mut().unwrap().approval_ms = None),
        ("handoff.remote", |policy| policy.handoff = None),
        ("questions.auto_approve", |policy| policy.auto_approve = AutoApprove::All),
    ];
    for (key, change) in changes {
        let mut desk = Desk::new(asking());
        let mut other = asking();
        change(&mut other);
        load(&mut desk, "other", &other);
        let failure = desk.machine.state().workflow_failure.clone().unwrap();
        assert_eq!((in_force(&desk), failure.code.as_str()), ("p", WORKFLOW_HELD));
        assert!(failure.message.contains(key), "{key}: {failure}");
        desk.poll(&[issue(1)]);
        assert!(desk.dispatched().is_empty());

        let receipt = act(&mut desk, request("reload", ("daemon", ""), json!({})));
        assert!(receipt.accepted && receipt.completed_at.is_some());
        assert_eq!((in_force(&desk), &desk.machine.state().workflow_failure), ("other", &None));
        let again = act(&mut desk, request("reload", ("daemon", ""), json!({})));
        assert_eq!(again.code.as_deref(), Some("nothing_held"));
    }
}

#[test]
fn what_is_held_is_let_go_by_another_file_and_taken_by_a_restart() {
    let mut desk = Desk::new(asking());
    let mut other = asking();
    other.hooks.before_run = Some("curl".into());
    load(&mut desk, "other", &other);
    load(&mut desk, "p", &asking());
    assert_eq!((in_force(&desk), &desk.machine.state().workflow_failure), ("p", &None));
    assert!(!act(&mut desk, request("reload", ("daemon", ""), json!({}))).accepted);

    load(&mut desk, "other", &other);
    desk.hand(Input::PolicyRejected(Failure::permanent("workflow_parse_error", "broken")));
    let refused = act(&mut desk, request("reload", ("daemon", ""), json!({})));
    assert!(refused.reason.unwrap().contains("workflow_parse_error"));

    // What neither runs code nor loosens a rule goes through, and so does everything without approvals, and what asks for them.
    let mut more = asking();
    (more.agent.max_turns, more.prompt_template) = (3, "Do it.".into());
    load(&mut desk, "more", &more);
    assert_eq!(in_force(&desk), "more");
    desk.machine = Machine::replay(None, desk.journal.iter().cloned()).unwrap();
    load(&mut desk, "other", &other);
    assert_eq!(in_force(&desk), "other", "whoever starts the daemon means the file");
    let mut free = Desk::new(policy());
    load(&mut free, "other", &other);
    assert_eq!(in_force(&free), "other");
}

#[test]
fn who_acted_is_in_the_journal_in_the_receipt_and_in_what_an_agent_is_told() {
    let mut desk = spent();
    let by = |who: &str, kind: &str, target: &str| ActionRequest {
        by: Some(who.to_owned()),
        ..request(kind, ("issue", target), json!({}))
    };
    let accepted = act(&mut desk, by("ada (ci)", "release", "DS-1"));
    assert_eq!((accepted.accepted, accepted.by.as_deref()), (true, Some("ada (ci)")));
    let rejected = act(&mut desk, by("bob", "release", "DS-99"));
    assert_eq!((rejected.accepted, rejected.by.as_deref()), (false, Some("bob")));
    let told: Vec<Option<String>> = desk
        .journal
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::ActionAccepted { by, .. } | Event::ActionRejected { by, .. } => Some(by.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(told, [Some("ada (ci)".to_owned()), Some("bob".to_owned())]);
    desk.restart();
    for receipt in [accepted, rejected] {
        assert_eq!(desk.machine.receipt(&receipt.action_id).unwrap().by, receipt.by, "after a restart");
    }
}

#[test]
fn refused_writes_are_one_event_and_none_when_there_are_none() {
    let mut desk = spent();
    let before = desk.journal.len();
    desk.hand(Input::WritesRefused([].into()));
    desk.hand(Input::WritesRefused([("token_required".to_owned(), 0)].into()));
    assert_eq!(desk.journal.len(), before);
    let mut counts: std::collections::BTreeMap<String, u64> = (0..100).map(|n| (format!("made_up_{n}"), 1)).collect();
    counts.insert("a".to_owned(), u64::MAX);
    desk.hand(Input::WritesRefused(counts));
    let [Recorded { event: Event::WritesRefused { counts }, .. }] = &desk.journal[before..] else {
        panic!("one event: {:?}", &desk.journal[before..]);
    };
    assert_eq!((counts.len(), counts["a"]), (64, u64::MAX), "however many codes there are");
}
