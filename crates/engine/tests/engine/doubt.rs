//! Panics, deadlines and deaf executors end in doubt, and the doubt is settled; nobody else is held up.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dalsegno_engine::DriverEnd;
use dalsegno_engine::core::{Event, IssueStatus, Recorded};
use dalsegno_testkit::doubles::{Act, Stage, issue, policy};

use crate::support::{called, doubts, event, had_status, pass, start, status, step_doubts, within};

#[tokio::test(start_paused = true)]
async fn a_panic_anywhere_is_in_doubt_and_settled_and_holds_nobody_up() {
    let panics: [(&str, fn(&Stage)); 5] = [
        ("prepare_workspace", |stage| stage.workspaces.prepare.next_of("A", Act::Panic)),
        ("start_session", |stage| stage.agents.start.next_of("A", Act::Panic)),
        ("prompt", |stage| stage.agents.turns.next_of("A", Act::Panic)),
        ("fetch_commit", |stage| stage.workspaces.fetch.next_of("A", Act::Panic)),
        ("run_check", |stage| stage.workspaces.check.next_of("A", Act::Panic)),
    ];
    for (kind, panics) in panics {
        let stage = Stage::default();
        stage.tracker().put(issue("A"));
        stage.tracker().put(issue("B"));
        panics(&stage);
        assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
        let reasons = doubts(&stage, "A");
        assert_eq!(reasons.len(), 1, "{kind}: {reasons:?}");
        assert!(reasons.iter().all(|reason| reason.contains("scripted panic")), "{kind}: {reasons:?}");
        assert_eq!(doubts(&stage, "B"), Vec::<String>::new(), "{kind}");
        for name in ["A", "B"] {
            assert!(had_status(&stage, name, IssueStatus::HandedOff), "{kind} of {name}");
            assert!(!had_status(&stage, name, IssueStatus::WaitingRetry), "{kind} of {name}");
        }
        assert_eq!(stage.record.unintended(), [], "{kind}");
        assert_eq!(stage.agents.alive(), 0, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_handoff_that_panics_is_in_doubt_and_looked_for() {
    let panics: [(&str, fn(&Stage)); 3] = [
        ("push", |stage| stage.workspaces.push.next_of("A", Act::Panic)),
        ("comment", |stage| stage.tracker().comment.next_of("A", Act::Panic)),
        ("move", |stage| stage.tracker().transition.next_of("A", Act::Panic)),
    ];
    for (step, panics) in panics {
        let stage = Stage::default();
        stage.tracker().put(issue("A"));
        panics(&stage);
        assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
        assert_eq!((step_doubts(&stage), doubts(&stage, "A")), (vec![step], Vec::new()));
        assert!(had_status(&stage, "A", IssueStatus::HandedOff), "{step}");
        assert_eq!(stage.record.unintended(), [], "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_effect_past_its_deadline_is_in_doubt_and_others_do_not_wait_for_it() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.tracker().put(issue("B"));
    stage.workspaces.push.next_of("A", Act::Hang);
    let life = start(&stage, true);
    status(&stage, "B", IssueStatus::HandedOff).await;
    assert_eq!(step_doubts(&stage), Vec::<&str>::new(), "B did not wait for A's deadline");
    assert_eq!(life.end().await.unwrap(), DriverEnd::Quiet);
    assert_eq!(step_doubts(&stage), ["push"]);
    assert_eq!(stage.record.count_of("workspaces.probe_push", "A"), 1);
    assert_eq!(stage.record.count_of("push", "A"), 2);
    assert!(had_status(&stage, "A", IssueStatus::HandedOff));
}

#[tokio::test(start_paused = true)]
async fn a_push_that_hangs_for_ever_parks_and_gives_its_slot_back() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.workspaces.push.always(Act::Hang);
    let life = start(&stage, true);
    assert_eq!(life.end().await.unwrap(), DriverEnd::Quiet);
    assert!(had_status(&stage, "A", IssueStatus::Parked));
    assert_eq!(stage.record.count_of("push", "A"), 8);
    assert_eq!(stage.record.count_of("workspaces.probe_push", "A"), 8);
    let why = stage.journal.events().into_iter().find_map(|recorded| match recorded.event {
        Event::Parked { detail, .. } => Some(detail),
        _ => None,
    });
    let why = why.expect("it parked");
    assert!(why.starts_with("no_answer: push: no answer within 900s"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_history_is_replayed_for_long_is_resumed_and_not_in_doubt() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next(Act::Hang);
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    life.drop_it().await;
    // An adapter is patient while lines come: 60 times 5 s, for one answer.
    stage.agents.start.next(Act::Late(Duration::from_secs(300), ()));
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    let starts = stage.record.count_of("start_session", "A");
    assert_eq!((starts, doubts(&stage, "A").len()), (2, 1), "the doubt is the crash's own");
    let resumed = |recorded: &Recorded| matches!(recorded.event, Event::SessionResumed { .. });
    assert!(stage.journal.events().iter().any(resumed));
    assert!(had_status(&stage, "A", IssueStatus::HandedOff));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_answers_no_cancel_is_in_doubt_and_its_agent_ended() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next(Act::Hang);
    stage.agents.deaf.store(true, Ordering::SeqCst);
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    let mut gone = issue("A");
    gone.state = "Done".to_owned();
    stage.tracker().put(gone);
    event(&stage, |event| matches!(event, Event::RunEnded { .. })).await;
    assert_eq!(doubts(&stage, "A"), ["canceled, and no answer within the grace time"]);
    assert_eq!(stage.agents.alive(), 0);
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_starting_while_its_run_is_stopped_does_not_live_on() {
    // Faster than the grace after a cancel, and slower.
    for seconds in [32, 60] {
        let stage = Stage::default();
        stage.tracker().put(issue("A"));
        stage.agents.start.next_of("A", Act::Late(Duration::from_secs(seconds), ()));
        let life = start(&stage, false);
        called(&stage, "start_session", "A").await;
        let mut gone = issue("A");
        gone.state = "Backlog".to_owned();
        stage.tracker().put(gone);
        event(&stage, |event| matches!(event, Event::RunEnded { .. })).await;
        assert_eq!(stage.agents.alive(), 0, "{seconds}");
        assert_eq!(stage.record.count_of("prompt", "A"), 0);
        assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_hook_between_runs_left_running_is_swept_before_it_runs_again() {
    let mut policy = policy();
    policy.hooks.before_remove = Some("true".to_owned());
    let stage = Stage::new(policy);
    stage.tracker().put(issue("A"));
    stage.workspaces.hook.next(Act::Panic);
    let life = start(&stage, false);
    status(&stage, "A", IssueStatus::HandedOff).await;
    let mut done = issue("A");
    done.state = "Done".to_owned();
    stage.tracker().put(done);
    event(&stage, |event| matches!(event, Event::WorkspaceRemoved { .. })).await;
    let calls = stage.record.calls();
    let hooks: Vec<usize> = (0..calls.len()).filter(|at| calls[*at].what == "run_hook").collect();
    let sweep = calls.iter().position(|call| call.about == "journal/issue-A").expect("a sweep");
    assert!(matches!(hooks.as_slice(), [first, again] if *first < sweep && sweep < *again), "{calls:?}");
    assert_eq!(life.stop().await.unwrap(), DriverEnd::Stopped);
}

/// Dies while the move is under way; a person moves the issue to Rework, and another daemon takes over.
async fn moved_on_meanwhile(stage: &Stage, which: usize) {
    stage.tracker().put(issue("A"));
    for _ in 1..which {
        stage.tracker().transition.next(Act::Answer("In Progress".to_owned()));
    }
    stage.tracker().transition.next(Act::Hang);
    let life = start(stage, false);
    within(async {
        while stage.record.count_of("move_issue", "A") < which {
            pass(1).await;
        }
    })
    .await;
    life.drop_it().await;
    let mut theirs = issue("A");
    theirs.state = "Rework".to_owned();
    stage.tracker().put(theirs);
}

#[tokio::test(start_paused = true)]
async fn a_move_in_doubt_takes_back_nothing_that_a_person_did() {
    let mut policy = policy();
    policy.tracker.active_states.push("Rework".to_owned());
    policy.handoff.as_mut().unwrap().claim_state = Some("In Progress".to_owned());
    // The claim, and the handoff's own move.
    for which in [1, 2] {
        let stage = Stage::new(policy.clone());
        moved_on_meanwhile(&stage, which).await;
        stage.agents.turns.always(Act::Hang);
        let life = start(&stage, false);
        within(async {
            while stage.record.count_of("prompt", "A") < which {
                pass(1).await;
            }
        })
        .await;
        assert_eq!(stage.tracker().state("A").as_deref(), Some(if which == 1 { "Rework" } else { "In Progress" }));
        let moves = stage.record.count_of("move_issue", "A");
        assert_eq!(moves, [1, 3][which - 1], "the move in doubt was not made again");
        assert_eq!(had_status(&stage, "A", IssueStatus::HandedOff), which == 2);
        life.stop_now.cancel();
        assert_eq!(life.end().await.unwrap(), DriverEnd::Stopped);
    }
}
