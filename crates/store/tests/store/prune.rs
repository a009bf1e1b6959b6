//! Retention: old events go in portions, and never what a snapshot does not cover.

use dalsegno_engine::{EventFilter, Journal, Kept, Reads, Transcripts};
use dalsegno_store::{OpenOptions, Opened, Store, TranscriptFiles};

use crate::support::{append, batch, issue_view, plain, plain_batch, plain_snapshot, recorded, run_view, seen};

fn keeping(dir: &std::path::Path, events: u64, runs: u64) -> Opened {
    Store::open(dir, OpenOptions { keep_events: events, keep_ended_runs: runs, ..OpenOptions::default() }).unwrap()
}

#[tokio::test]
async fn old_events_go_only_as_far_as_a_snapshot_covers_them() {
    let dir = tempfile::tempdir().unwrap();
    let opened = keeping(dir.path(), 100, 10);
    for first in (1..=2_000).step_by(10) {
        opened.journal.append(plain_batch(1, first, first + 9), Vec::new()).await.unwrap();
    }
    assert_eq!(opened.store.bounds().unwrap(), (1, 2_000), "no snapshot, so nothing may go");
    for at in [2_010, 2_020] {
        let mut covered = plain_batch(1, at - 9, at);
        covered.snapshot = Some(plain_snapshot(at));
        append(&opened, covered).await;
    }
    for first in (2_021..=3_000).step_by(10) {
        opened.journal.append(plain_batch(1, first, first + 9), Vec::new()).await.unwrap();
    }
    assert_eq!(opened.store.bounds().unwrap(), (2_011, 3_000), "up to the older of the two snapshots");
    let page = opened.store.events(0, 5, &EventFilter::default()).unwrap();
    assert_eq!(page.events[0].seq, 2_011);
    drop((opened.store, opened.journal));
    let again = keeping(dir.path(), 100, 10);
    assert_eq!(again.loaded.snapshot, Some(*plain_snapshot(2_020)));
    assert_eq!(again.loaded.events, (2_021..=3_000).map(plain).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_number_of_events_stays_bounded_with_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let opened = keeping(dir.path(), 500, 10);
    for first in (1..=10_000).step_by(50) {
        let mut next = plain_batch(1, first, first + 49);
        next.snapshot = ((first / 50) % 4 == 0).then(|| plain_snapshot(first + 49));
        append(&opened, next).await;
    }
    let (first, last) = opened.store.bounds().unwrap();
    assert_eq!(last, 10_000);
    assert!(first > 8_000 && first <= 9_501, "{first}");
    assert_eq!(opened.store.kept(), Kept { events: 500, event_days: 90, ended_runs: 10 }, "and clients are told so");
}

#[tokio::test]
async fn events_that_are_too_old_go_however_few_there_are_and_only_as_far_as_a_snapshot_covers_them() {
    const DAY: i64 = 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open(dir.path(), OpenOptions { keep_event_days: 3, ..OpenOptions::default() }).unwrap();
    // A hundred events a day.
    for day in 0..40_u64 {
        let (first, last) = (day * 100 + 1, day * 100 + 100);
        let mut next = plain_batch(1, first, last);
        next.events.iter_mut().for_each(|event| event.at.0 = day as i64 * DAY);
        // The last snapshot covers thirty days.
        next.snapshot = (day < 30 && day % 5 == 4).then(|| plain_snapshot(last));
        append(&opened, next).await;
        let (oldest, _) = opened.store.bounds().unwrap();
        assert!(
            oldest <= (day.saturating_sub(3)) * 100 + 1,
            "what is younger than three days went on day {day}: {oldest}"
        );
    }
    let (oldest, newest) = opened.store.bounds().unwrap();
    assert_eq!(newest, 4_000);
    assert!(
        (2_001..=2_501).contains(&oldest),
        "all but a portion of what the older of two snapshots covers is gone: {oldest}"
    );
}

#[tokio::test]
async fn names_of_gone_issues_go_with_their_events() {
    let dir = tempfile::tempdir().unwrap();
    let opened = keeping(dir.path(), 10, 10);
    let gone = |seq, id: &str| recorded(seq, dalsegno_core::Event::IssueGone { issue: id.into() });
    let mut first = batch(1, vec![seen(1, "i1", "DS-1"), seen(2, "i2", "DS-2"), gone(3, "i1"), gone(4, "i2")]);
    // The second one is back, though no event that is left says so.
    first.views.push(issue_view("i2", "DS-2", dalsegno_core::IssueStatus::Idle));
    opened.journal.append(first, Vec::new()).await.unwrap();
    for (first, last) in [(5, 500), (501, 1_000), (1_001, 1_500), (1_501, 2_000)] {
        let mut next = plain_batch(1, first, last);
        next.snapshot = Some(plain_snapshot(last));
        append(&opened, next).await;
    }
    assert!(opened.store.bounds().unwrap().0 > 4);
    let names: Vec<String> = {
        let db = crate::support::raw(dir.path());
        let mut query = db.prepare("SELECT key FROM names ORDER BY key").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(names, ["ds-2", "i2"]);
}

#[tokio::test]
async fn rows_and_transcripts_of_old_runs_go() {
    let dir = tempfile::tempdir().unwrap();
    let files = TranscriptFiles::open(dir.path()).unwrap();
    for run in ["run-1", "run-900"] {
        files.append(&run.into(), crate::transcripts::entry("said"));
    }
    files.flush();
    let opened = keeping(dir.path(), 100_000, 100);
    let mut live = plain_batch(1, 1, 1);
    live.views.push(run_view("run-live", "i1", 0, None));
    opened.journal.append(live, Vec::new()).await.unwrap();
    for seq in 2..=1_000_u64 {
        let mut next = plain_batch(1, seq, seq);
        next.views.push(run_view(&format!("run-{}", seq - 1), "i1", seq as i64, Some(seq as i64 + 1)));
        opened.journal.submit(next).await.unwrap().await.unwrap();
    }
    let runs = opened.store.runs(None, 10_000).unwrap();
    assert!((100..=100 + 256 + 1).contains(&runs.len()), "{}", runs.len());
    assert_eq!(runs[0].id.as_str(), "run-999");
    assert_eq!(runs.last().unwrap().id.as_str(), "run-live", "a live run stays, however old");
    drop(opened.journal);
    assert!(!dir.path().join("transcripts/run-1.jsonl").exists());
    assert!(dir.path().join("transcripts/run-900.jsonl").exists());
}
