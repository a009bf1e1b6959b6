//! Nothing is performed before its intent is acknowledged; independent issues go on side by side.

use std::time::Duration;

use dalsegno_engine::DriverEnd;
use dalsegno_engine::core::{Event, Failure, IssueStatus};
use dalsegno_testkit::doubles::{Act, Stage, issue, policy};

use crate::support::{had_status, start};

#[tokio::test(start_paused = true)]
async fn on_a_slow_journal_nothing_is_performed_before_its_intent_is_acknowledged() {
    let mut policy = policy();
    policy.hooks.after_create = Some("true".to_owned());
    policy.handoff.as_mut().unwrap().claim_state = Some("In Progress".to_owned());
    let stage = Stage::new(policy);
    let names = ["A", "B", "C", "D", "E"];
    for name in names {
        stage.tracker().put(issue(name));
    }
    stage.journal.slow(Duration::from_secs(3));
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    assert_eq!(stage.record.unintended(), []);
    for name in names {
        assert!(had_status(&stage, name, IssueStatus::HandedOff), "{name}");
        for what in ["prepare_workspace", "run_hook", "start_session", "prompt", "push", "comment"] {
            assert_eq!(stage.record.count_of(what, name), 1, "{what} of {name}");
        }
        assert_eq!(stage.record.count_of("move_issue", name), 2);
    }
    assert_eq!(stage.agents.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn once_waits_for_retries_and_ends_only_when_nothing_is_left() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.start.next(Act::Fail(Failure::retryable("agent_start_failed", "not now")));
    assert_eq!(start(&stage, true).end().await.unwrap(), DriverEnd::Quiet);
    assert!(had_status(&stage, "A", IssueStatus::WaitingRetry));
    assert!(had_status(&stage, "A", IssueStatus::HandedOff));
    let events = stage.journal.events();
    assert_eq!(events.iter().filter(|recorded| matches!(recorded.event, Event::RunStarted { .. })).count(), 2);
    assert!(matches!(events.last().unwrap().event, Event::DaemonStopped { .. }));
}
