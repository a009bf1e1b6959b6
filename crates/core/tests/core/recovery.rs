//! After a restart: for every phase, what comes first, and what comes after the sweep.

use crate::desk::*;
use dalsegno_core::*;

fn everything() -> Policy {
    let mut policy = policy();
    for hook in [
        &mut policy.hooks.after_create,
        &mut policy.hooks.before_run,
        &mut policy.hooks.after_run,
        &mut policy.hooks.before_remove,
    ] {
        *hook = Some("true".into());
    }
    policy.handoff.as_mut().unwrap().claim_state = Some("In Progress".into());
    policy
}

pub(crate) fn hook() -> EffectOutput {
    EffectOutput::HookEnded { output_tail: String::new() }
}

/// A step of a full life: which effect is under way, and how it ends.
type Step = (&'static str, Option<EffectOutput>);

pub(crate) fn life() -> Vec<(Step, &'static str, &'static [&'static str])> {
    let check = EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None };
    vec![
        // (effect and its end, phase while it is open, what is under way after restart and sweep)
        (("prepare_workspace", Some(workspace_ready(true))), "preparing", &["prepare_workspace"]),
        (("run_hook", Some(hook())), "after_create", &["prepare_workspace"]),
        (("move_issue", Some(EffectOutput::Moved { state: "In Progress".into() })), "claiming", &["probe"]),
        (("run_hook", Some(hook())), "before_run", &["run_hook"]),
        (("start_session", Some(session(SessionStart::New))), "launching", &["start_session"]),
        (("prompt", Some(turn_ended(TurnOutcome::Completed))), "prompting", &["start_session"]),
        (("assess", None), "assessing", &["assess"]),
        (
            ("commit_leftovers", Some(EffectOutput::LeftoversCommitted { committed: true })),
            "committing",
            &["commit_leftovers"],
        ),
        (("fetch_commit", Some(EffectOutput::CommitFetched { commit: "c1".into() })), "fetching", &["fetch_commit"]),
        (("run_check", Some(check.clone())), "checking", &["run_check"]),
        (("stop_agent", Some(EffectOutput::Swept { killed: 1 })), "closing", &["stop_agent"]),
        // Somebody else went on with the branch: the agent merges that, and the way to the push is gone again.
        (("hand_off", None), "delivering", &["hand_off"]),
        (
            ("bring_remote", Some(EffectOutput::RemoteBrought { commit: "theirs".into() })),
            "bringing",
            &["bring_remote"],
        ),
        (("start_session", Some(session(SessionStart::Resumed))), "launching", &["start_session"]),
        (("prompt", Some(turn_ended(TurnOutcome::Completed))), "prompting", &["start_session"]),
        (("assess", None), "assessing", &["assess"]),
        (
            ("commit_leftovers", Some(EffectOutput::LeftoversCommitted { committed: true })),
            "committing",
            &["commit_leftovers"],
        ),
        (("fetch_commit", Some(EffectOutput::CommitFetched { commit: "c2".into() })), "fetching", &["fetch_commit"]),
        (("run_check", Some(check)), "checking", &["run_check"]),
        (("stop_agent", Some(EffectOutput::Swept { killed: 1 })), "closing", &["stop_agent"]),
        (("hand_off", Some(EffectOutput::HandedOff { end: SagaEnd::Committed })), "delivering", &["hand_off"]),
        (("run_hook", Some(hook())), "after_run", &["run_hook"]),
    ]
}

/// A desk whose run has the first `steps` steps of a full life behind it.
pub(crate) fn lived(steps: usize) -> Desk {
    let mut desk = Desk::new(everything());
    live(&mut desk, steps);
    desk
}

fn live(desk: &mut Desk, steps: usize) {
    desk.poll(&[issue(1)]);
    for ((kind, output), phase, _) in life().into_iter().take(steps) {
        assert_eq!(desk.phase().map(Phase::as_str), Some(phase), "before {kind}");
        match (kind, output) {
            ("hand_off", Some(_)) => desk.delivered("Human Review"),
            (_, Some(output)) => drop(desk.done(kind, output)),
            ("hand_off", None) => desk.refused(&Failure::permanent("branch_diverged", "somebody else pushed")),
            (_, None) => desk.answer_assess(Some(in_state(1, "In Progress")), dirty()),
        }
    }
}

/// Effects and looks under way, polls left out.
pub(crate) fn under_way(desk: &Desk) -> Vec<&'static str> {
    let looks = desk.asks.iter().filter_map(|(_, query)| match query {
        Query::Poll { .. } | Query::Inspect { .. } => None,
        Query::Assess { .. } => Some("assess"),
        Query::LostWork { .. } => Some("lost_work"),
        Query::Probe { .. } => Some("probe"),
        Query::Look { .. } => Some("look"),
    });
    desk.open().into_iter().chain(looks).collect()
}

#[test]
fn every_phase_is_swept_first_and_goes_on_as_the_table_says() {
    for (step, ((kind, _), phase, after)) in life().into_iter().enumerate() {
        let mut desk = lived(step);
        desk.restart();
        assert_eq!(under_way(&desk), ["sweep"], "{phase}, while {kind} was open");
        desk.done("sweep", EffectOutput::Swept { killed: 0 });
        assert_eq!(under_way(&desk), after, "{phase}, while {kind} was open");
    }
    let desk = lived(life().len());
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
}

#[test]
fn a_run_that_was_stopping_is_swept_and_ends_as_it_was_decided() {
    let mut desk = lived(5);
    desk.poll(&[in_state(1, "Backlog")]);
    assert_eq!(desk.phase(), Some(Phase::Stopping));
    desk.restart();
    assert_eq!(under_way(&desk), ["sweep"]);
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    desk.done("run_hook", hook());
    assert_eq!(desk.status(1), IssueStatus::Idle);
}

#[test]
fn after_create_in_doubt_makes_the_workspace_anew() {
    let mut desk = lived(1);
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    assert_eq!(desk.take("prepare_workspace").effect, Effect::PrepareWorkspace { fresh: true });
}

#[test]
fn after_create_runs_when_the_making_of_the_workspace_was_in_doubt() {
    let mut desk = lived(0);
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    let again = desk.done("prepare_workspace", workspace_ready(false));
    assert_eq!(again.effect, Effect::PrepareWorkspace { fresh: false });
    assert_eq!(desk.phase(), Some(Phase::AfterCreate));
}

fn restarted_in_a_turn() -> Desk {
    let mut desk = lived(5);
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    let request = desk.performs.first().unwrap();
    let seek = Some("run-1/prompt/1".to_owned());
    assert_eq!(request.effect, Effect::StartSession { resume: Some("s1".into()), seek });
    desk
}

#[test]
fn a_prompt_that_the_history_has_is_never_sent_again() {
    let mut desk = restarted_in_a_turn();
    desk.done("start_session", session(SessionStart::ResumedPromptFound));
    let request = desk.take("prompt");
    assert_eq!(request.effect, Effect::Prompt { turn: 2, prompt: PromptSpec::AfterCut, messages: Vec::new() });
    assert_eq!(request.key, "run-1/prompt/2");
}

#[test]
fn a_prompt_that_never_arrived_is_sent_again_under_its_key() {
    let mut desk = restarted_in_a_turn();
    desk.done("start_session", session(SessionStart::ResumedPromptMissing));
    let request = desk.take("prompt");
    assert_eq!((request.key.as_str(), request.attempt), ("run-1/prompt/1", 2));
    let repeated = |recorded: &Recorded| matches!(recorded.event, Event::TurnStarted { turn: 1, repeated: true, .. });
    assert!(desk.journal.iter().any(repeated));
}

#[test]
fn a_session_that_is_gone_is_told_what_was_done() {
    let mut desk = restarted_in_a_turn();
    desk.done("start_session", session(SessionStart::Gone));
    let request = desk.take("prompt");
    let prompt = PromptSpec::Rehydrate { attempt: None, turns: 1 };
    assert_eq!(request.effect, Effect::Prompt { turn: 2, prompt, messages: Vec::new() });
}

#[test]
fn what_was_missing_is_said_although_a_restart_came_between() {
    let mut desk = lived(9);
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    desk.done("run_check", EffectOutput::CheckEnded { passed: false, output_tail: "no".into(), kept: None });
    desk.done("start_session", session(SessionStart::Resumed));
    let missing = Missing::CheckFailed { command: "./test".into(), output_tail: "no".into() };
    let prompt = PromptSpec::Continue { missing };
    assert_eq!(desk.take("prompt").effect, Effect::Prompt { turn: 2, prompt, messages: Vec::new() });
}

#[test]
fn a_handoff_is_taken_up_under_its_saga_and_heard_from_where_it_is() {
    let mut desk = lived(11);
    desk.pushed();
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    let again = desk.take("hand_off");
    assert_eq!((again.key.as_str(), again.attempt, again.unwanted), ("run-1/handoff", 2, false));
    assert!(matches!(&again.effect, Effect::HandOff { saga, .. } if saga == "run-1.handoff"));
    desk.performs.push(again);
    let (before, effect) = (desk.kinds().len(), desk.performs[0].id);
    let handoff = desk.run().handoff.clone().unwrap();
    for entry in 1..=handoff.heard {
        let steps = handoff.steps.iter().map(|(step, _)| (*step, StepState::Intended)).collect();
        let progress = SagaProgress { entry, steps, turned_back: None, moved: None, pull_request: None };
        desk.hand(Input::SagaMoved { effect, progress });
    }
    assert_eq!(desk.kinds().len(), before, "what was heard before is no news");
    desk.delivered("Human Review");
    desk.done("run_hook", hook());
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
}

#[test]
fn a_handoff_of_an_older_version_parks_and_does_nothing() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    let at = desk.journal.iter().position(|recorded| recorded.event.kind() == "saga_started").unwrap();
    for recorded in &mut desk.journal[at..] {
        match &mut recorded.event {
            Event::SagaStarted { saga, .. } => *saga = None,
            Event::EffectIntended { effect: effect @ Effect::HandOff { .. }, .. } => {
                *effect = Effect::PushBranch { commit: "c1".into(), expected: None };
            }
            _ => {}
        }
    }
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    assert_eq!((desk.status(1), desk.open()), (IssueStatus::Parked, Vec::new()));
    assert!(desk.reason(1).starts_with("handoff_outdated"), "{}", desk.reason(1));
}

#[test]
fn a_claim_in_doubt_is_probed_before_it_is_done_again() {
    let mut desk = lived(2);
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    desk.answer_probe(ProbeAnswer::Applied(EffectOutput::Moved { state: "In Progress".into() }));
    assert_eq!(desk.phase(), Some(Phase::BeforeRun));
}

#[test]
fn a_probe_that_cannot_tell_is_asked_again_ever_later_and_thirty_times_at_most() {
    let mut desk = lived(2);
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    for again in 1..=30 {
        assert_eq!(under_way(&desk), ["probe"], "before pause {again}");
        desk.answer_probe(ProbeAnswer::Inconclusive(retryable()));
        let pause = (1_000 << again.min(16)).min(60_000);
        desk.pass(pause - 1);
        assert_eq!(under_way(&desk), [""; 0], "in pause {again}");
        desk.pass(1);
    }
    desk.answer_probe(ProbeAnswer::Inconclusive(retryable()));
    desk.pass(60_000);
    assert_eq!((under_way(&desk).contains(&"probe"), desk.phase()), (false, Some(Phase::Stopping)));
}

#[test]
fn work_that_could_not_be_looked_at_is_looked_at_again() {
    let mut desk = lived(6);
    let at = desk.asks.iter().position(|(_, query)| matches!(query, Query::Assess { .. })).unwrap();
    let (id, _) = desk.asks.remove(at);
    desk.hand(Input::Answered { id, answer: Answer::Assess { issue: Err(retryable()), work: Ok(dirty()) } });
    assert_eq!(under_way(&desk), [""; 0]);
    desk.pass(60_000);
    assert_eq!(under_way(&desk), ["assess"]);
}

#[test]
fn a_sweep_that_fails_never_leaves_a_run_stuck() {
    for (step, (_, phase, _)) in life().into_iter().enumerate() {
        for doubt in [false, true] {
            let mut desk = lived(step);
            desk.restart();
            for _ in 0..10 {
                if !desk.open().contains(&"sweep") {
                    break;
                }
                if doubt { desk.doubt("sweep") } else { desk.fail("sweep", Failure::permanent("sweep_failed", "no")) }
            }
            let busy = !under_way(&desk).is_empty();
            assert!(busy || desk.machine.state().runs.is_empty(), "{phase} is stuck after a failed sweep");
        }
    }
}

#[test]
fn after_run_in_doubt_again_and_again_comes_to_an_end() {
    let mut desk = lived(life().len() - 1);
    for _ in 0..20 {
        match under_way(&desk).as_slice() {
            ["run_hook"] => desk.doubt("run_hook"),
            ["sweep"] => drop(desk.done("sweep", EffectOutput::Swept { killed: 0 })),
            _ => break,
        }
    }
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
}

#[test]
fn after_run_that_answers_something_else_ends_the_run_whatever_others_do() {
    let mut desk = lived(life().len() - 1);
    desk.poll(&[in_state(1, "Human Review"), issue(2)]);
    assert_eq!(desk.open(), ["run_hook", "prepare_workspace"]);
    desk.done("run_hook", EffectOutput::Commented);
    assert_eq!((desk.status(1), desk.machine.state().runs.len()), (IssueStatus::HandedOff, 1));
}

#[test]
fn after_run_in_doubt_once_is_swept_and_not_given_up() {
    let mut desk = lived(life().len() - 1);
    desk.doubt("run_hook");
    assert_eq!(under_way(&desk), ["sweep"]);
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    assert_eq!((under_way(&desk), desk.phase()), (vec!["run_hook"], Some(Phase::AfterRun)));
}

#[test]
fn what_cannot_be_ended_is_tried_five_times_and_no_more() {
    let mut desk = Desk::new(policy());
    desk.reach_checks();
    desk.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
    for again in 1..=5 {
        assert_eq!((desk.open(), desk.performs[0].attempt), (vec!["stop_agent"], again));
        desk.doubt("stop_agent");
    }
    assert_ne!(desk.performs[0].attempt, 6, "{:?}", desk.open());
}

#[test]
fn a_sweep_that_fails_at_the_end_parks_what_is_not_handed_over_and_leaves_what_is() {
    let failed = |mut desk: Desk| {
        desk.doubt("run_hook");
        desk.fail("sweep", Failure::permanent("sweep_failed", "it does not end"));
        while desk.open().contains(&"run_hook") {
            desk.done("run_hook", hook());
        }
        (desk.status(1), desk.reason(1))
    };
    assert_eq!(failed(lived(life().len() - 1)).0, IssueStatus::HandedOff);
    let mut stopped = lived(5);
    stopped.fail("prompt", Failure::permanent("agent_refused", "no"));
    stopped.done("stop_agent", EffectOutput::Swept { killed: 0 });
    assert_eq!(stopped.phase(), Some(Phase::AfterRun));
    let (status, reason) = failed(stopped);
    assert_eq!(status, IssueStatus::Parked);
    assert!(reason.starts_with("sweep_failed"), "{reason}");
}

#[test]
fn effects_in_doubt_while_the_daemon_lives_are_swept_and_settled_within_a_limit() {
    let mut desk = lived(4);
    for _ in 0..5 {
        desk.doubt("start_session");
        if desk.phase() == Some(Phase::Stopping) {
            break;
        }
        desk.done("sweep", EffectOutput::Swept { killed: 1 });
    }
    assert_eq!(desk.phase(), Some(Phase::Stopping));
}

#[test]
fn an_agent_that_dies_in_a_turn_goes_on_in_its_session_twice_and_then_fails_the_run() {
    let died = || Failure::retryable("agent_exit", "signal 9");
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    for turn in 1..=2_u32 {
        desk.fail("prompt", died());
        // What it left running is ended before another process has the session.
        assert_eq!(desk.open(), ["sweep"]);
        desk.done("sweep", EffectOutput::Swept { killed: 1 });
        let start = desk.done("start_session", session(SessionStart::ResumedPromptFound));
        assert!(matches!(start.effect, Effect::StartSession { resume: Some(_), seek: Some(_) }));
        let next = desk.take("prompt");
        assert_eq!(next.effect, Effect::Prompt { turn: turn + 1, prompt: PromptSpec::AfterCut, messages: Vec::new() });
        desk.performs.push(next);
    }
    assert_eq!(desk.run().cut_turns, 2);
    desk.fail("prompt", died());
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    assert_eq!(desk.status(1), IssueStatus::WaitingRetry);
}

#[test]
fn a_handoff_that_always_breaks_off_parks_within_a_limit() {
    let mut desk = Desk::new(policy());
    desk.reach_delivery();
    for attempt in 1..=5_u32 {
        let handoff = desk.take("hand_off");
        assert_eq!((handoff.key.as_str(), handoff.attempt), ("run-1/handoff", attempt));
        desk.performs.push(handoff);
        desk.doubt("hand_off");
    }
    assert_eq!((desk.status(1), desk.open()), (IssueStatus::Parked, Vec::new()));
    assert!(desk.reason(1).starts_with("handoff_in_doubt: hand_off"), "{}", desk.reason(1));
    assert_eq!(desk.entry(1).handed_off, None);
}

#[test]
fn a_move_says_where_the_issue_was_and_what_somebody_did_since_is_theirs() {
    let mut desk = lived(2);
    let claim = desk.take("move_issue");
    assert_eq!(claim.effect, Effect::MoveIssue { to: "In Progress".into(), from: Some("Todo".into()) });
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    // Claimed or not: the work begins from where somebody put it.
    desk.answer_probe(ProbeAnswer::Applied(EffectOutput::Moved { state: "Rework".into() }));
    assert_eq!((desk.phase(), desk.entry(1).issue.state.as_str()), (Some(Phase::BeforeRun), "Rework"));

    let mut desk = lived(life().len() - 2);
    let handoff = desk.take("hand_off");
    assert!(matches!(&handoff.effect, Effect::HandOff { from: Some(from), .. } if from == "In Progress"));
    desk.performs.push(handoff);
    desk.delivered("Human Review");
    desk.done("run_hook", hook());
    // What they moved it to after the handoff is a wish for another run, not a part of the handoff.
    assert_eq!(desk.status(1), IssueStatus::HandedOff);
    for _ in 0..2 {
        // The first may be older than what the probe saw.
        desk.poll(&[in_state(1, "Rework")]);
    }
    assert_eq!(desk.status(1), IssueStatus::Running);
}

/// Handed over, done and sent back, with a workspace whose removal never came to an end: it may be gone.
fn removed_or_not() -> Desk {
    let mut policy = everything();
    policy.hooks.before_remove = None;
    let mut desk = Desk::new(policy);
    live(&mut desk, life().len());
    for _ in 0..2 {
        desk.poll(&[in_state(1, "Done")]);
    }
    for _ in 0..5 {
        assert_eq!(desk.open(), ["remove_workspace"]);
        desk.restart();
    }
    desk.poll(&[in_state(1, "Rework")]);
    desk
}

#[test]
fn after_run_does_not_run_in_a_workspace_that_the_run_never_had() {
    let mut desk = removed_or_not();
    desk.fail("prepare_workspace", retryable());
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    assert_eq!((desk.open(), desk.status(1)), (Vec::new(), IssueStatus::WaitingRetry));
}

#[test]
fn after_create_runs_when_removal_and_making_of_the_workspace_were_both_in_doubt() {
    let mut desk = removed_or_not();
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    // Found now: by the try before, which made it, or from before its removal.
    desk.done("prepare_workspace", workspace_ready(false));
    assert_eq!(desk.phase(), Some(Phase::AfterCreate));

    // Nobody doubts what was found at the first try.
    let mut desk = removed_or_not();
    desk.done("prepare_workspace", workspace_ready(false));
    assert_ne!(desk.phase(), Some(Phase::AfterCreate));
}

#[test]
fn after_create_runs_in_a_workspace_that_was_made_again_by_a_try_that_nobody_heard_of() {
    let made = |key: &str, created| {
        let EffectOutput::WorkspaceReady { workspace, .. } = workspace_ready(created) else { panic!("it is ready") };
        EffectOutput::WorkspaceReady { workspace: Workspace { made_by: Some(key.into()), ..workspace }, created }
    };
    for (maker, is_new) in [("run-2/prepare", true), ("run-1/prepare", false)] {
        let mut policy = policy();
        policy.hooks.after_create = Some("true".into());
        let mut desk = Desk::new(policy);
        let next_run = |desk: &mut Desk, failed: &str| {
            desk.fail(failed, Failure::retryable(failed, "no"));
            desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
            desk.pass(3_600_000);
            desk.poll(&[issue(1)]);
        };
        desk.poll(&[issue(1)]);
        desk.done("prepare_workspace", made("run-1/prepare", true));
        desk.done("run_hook", EffectOutput::HookEnded { output_tail: String::new() });
        next_run(&mut desk, "start_session");
        // Somebody has removed it; the next making is cut, and fails in the end.
        desk.restart();
        desk.done("sweep", EffectOutput::Swept { killed: 0 });
        next_run(&mut desk, "prepare_workspace");
        desk.done("prepare_workspace", made(maker, false));
        assert_eq!(desk.phase() == Some(Phase::AfterCreate), is_new, "{maker}");
    }
}

#[test]
fn a_handoff_that_is_not_wanted_any_more_before_it_is_taken_up_is_undone_and_not_forgotten() {
    let mut desk = Desk::new(forge_policy());
    desk.reach_delivery();
    desk.opened();
    desk.restart();
    let sweep = desk.take("sweep");
    let poll = desk.asks.iter().position(|(_, query)| matches!(query, Query::Poll { .. })).unwrap();
    let (id, _) = desk.asks.remove(poll);
    let answer = desk.poll_answer(&[in_state(1, "Done")]);
    // Both come before the journal has the handoff's next attempt.
    let outcome = Outcome::Done { output: EffectOutput::Swept { killed: 0 } };
    desk.machine.handle(Input::EffectEnded { id: sweep.id, outcome }, Timestamp(desk.now));
    desk.machine.handle(Input::Answered { id, answer }, Timestamp(desk.now));
    desk.hand(Input::Tick);
    let again = desk.take("hand_off");
    assert_eq!((again.attempt, again.unwanted, desk.cancels.clone()), (2, true, vec![again.id]));
    assert_eq!(desk.phase(), Some(Phase::Delivering));
}
