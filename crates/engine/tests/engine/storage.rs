//! A journal that fails, panics or hangs ends the daemon before it does anything unrecorded.

use dalsegno_engine::core::IssueStatus;
use dalsegno_engine::{AppendError, DriverError};
use dalsegno_testkit::doubles::{Act, MemoryJournal, Stage, issue};

use crate::support::{called, start, status};

/// A stage with an agent in a turn, on which the next append does as `fails` says.
async fn fails(fails: impl Fn(&MemoryJournal)) -> (Stage, DriverError) {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    stage.agents.turns.next_of("A", Act::Hang);
    let life = start(&stage, false);
    called(&stage, "prompt", "A").await;
    assert_eq!(stage.agents.alive(), 1);
    let effects = |stage: &Stage| stage.record.calls().iter().filter(|call| call.effect).count();
    let before = effects(&stage);
    fails(&stage.journal);
    stage.tracker().put(issue("B"));
    life.handle.refresh().await;
    let error = life.end().await.unwrap_err();
    assert_eq!(effects(&stage), before, "nothing is performed afterwards");
    assert_eq!(stage.agents.alive(), 0);
    assert_eq!(stage.record.count_of("processes.sweep", "journal/run-1"), 1);
    (stage, error)
}

#[tokio::test(start_paused = true)]
async fn an_append_that_fails_ends_the_daemon_and_its_agents() {
    let kinds = [
        AppendError::StaleEpoch { ours: 1, current: 2 },
        AppendError::UnexpectedSequence { expected: 1, found: 2 },
        AppendError::Storage("disk_full".to_owned()),
        AppendError::Poisoned("disk_full".to_owned()),
    ];
    for kind in kinds {
        let (stage, error) = fails(|journal| journal.fail_next(kind.clone())).await;
        assert!(matches!(error, DriverError::Append(found) if found == kind));
        assert!(!stage.journal.kinds().contains(&"daemon_stopped"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_panics_ends_the_daemon() {
    let (_, error) = fails(MemoryJournal::panic_next).await;
    assert!(matches!(error, DriverError::Append(AppendError::Storage(why)) if why.contains("scripted panic")));
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_hangs_holds_back_effects_and_does_not_keep_the_daemon_from_ending() {
    let stage = Stage::default();
    stage.tracker().put(issue("A"));
    let life = start(&stage, false);
    status(&stage, "A", IssueStatus::HandedOff).await;
    stage.journal.hang_next();
    stage.tracker().put(issue("B"));
    life.handle.refresh().await;
    crate::support::pass(600).await;
    assert_eq!(stage.record.count_of("prepare_workspace", "B"), 0);
    assert!(life.handle.explain("A").await.flatten().is_some(), "questions are answered all the same");
    let error = life.stop().await.unwrap_err();
    assert!(matches!(error, DriverError::Append(AppendError::Storage(why)) if why.contains("no answer within")));
}
