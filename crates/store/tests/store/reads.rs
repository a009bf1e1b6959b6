//! What queries see: projections, pages of events, filters.

use std::sync::Arc;

use dalsegno_core::{IssueId, IssueStatus, View};
use dalsegno_engine::{EventFilter, Journal, Reads};
use dalsegno_store::{Opened, Store};

use crate::support::{batch, issue_view, open, phase, plain, plain_batch, raw, recorded, run_started, run_view, seen};

fn by_issue(name: &str) -> EventFilter {
    EventFilter { issue: Some(name.to_owned()), ..EventFilter::default() }
}

fn by_run(name: &str) -> EventFilter {
    EventFilter { run: Some(name.to_owned()), ..EventFilter::default() }
}

fn by_kind(name: &str) -> EventFilter {
    EventFilter { kind: Some(name.to_owned()), ..EventFilter::default() }
}

fn found(store: &Store, after: u64, limit: usize, filter: &EventFilter) -> (Vec<u64>, u64) {
    let page = store.events(after, limit, filter).unwrap();
    (page.events.iter().map(|row| row.seq).collect(), page.through)
}

async fn write(opened: &Opened, events: Vec<dalsegno_core::Recorded>, views: Vec<View>) {
    let mut next = batch(1, events);
    next.views = views;
    opened.journal.append(next, Vec::new()).await.unwrap();
}

#[tokio::test]
async fn an_empty_store_answers() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    assert_eq!(store.bounds().unwrap(), (1, 0));
    assert!(store.issues(None).unwrap().is_empty());
    assert!(store.issue("DS-1").unwrap().is_none());
    assert!(store.runs(None, 10).unwrap().is_empty());
    assert!(store.run("run-1").unwrap().is_none());
    assert!(store.daemon().unwrap().is_none());
    assert_eq!(found(&store, 0, 10, &EventFilter::default()), (vec![], 0));
    assert_eq!(found(&store, 0, 10, &by_issue("DS-1")), (vec![], 0));
}

#[tokio::test]
async fn projections_show_the_latest_and_forget_the_gone() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let views = vec![
        issue_view("i2", "DS-2", IssueStatus::Idle),
        issue_view("i1", "ds-1", IssueStatus::Queued),
        issue_view("i3", "DS-3", IssueStatus::Queued),
        run_view("run-1", "i1", 10, None),
        run_view("run-2", "i2", 20, None),
        run_view("run-3", "i1", 20, None),
    ];
    write(&opened, vec![plain(1)], views).await;
    let store = &opened.store;
    let names = |status| -> Vec<String> {
        store.issues(status).unwrap().into_iter().map(|view| view.issue.identifier.clone()).collect()
    };
    assert_eq!(names(None), ["ds-1", "DS-2", "DS-3"]);
    assert_eq!(names(Some("queued")), ["ds-1", "DS-3"]);
    for name in ["DS-1", "ds-1", "I1", "i1"] {
        assert_eq!(store.issue(name).unwrap().unwrap().issue.id.as_str(), "i1", "{name}");
    }
    assert!(store.issue("DS-4").unwrap().is_none());
    let runs = |issue: Option<&str>, limit| -> Vec<String> {
        let issue = issue.map(IssueId::from);
        store.runs(issue.as_ref(), limit).unwrap().into_iter().map(|view| view.id.0).collect()
    };
    assert_eq!(runs(None, 10), ["run-3", "run-2", "run-1"]);
    assert_eq!(runs(None, 2), ["run-3", "run-2"]);
    assert_eq!(runs(Some("i1"), 10), ["run-3", "run-1"]);

    let daemon = dalsegno_core::DaemonView {
        epoch: 1,
        policy: None,
        workflow_failure: None,
        tracker_failure: None,
        usage: dalsegno_core::Usage::new(7, 8),
        run_ms: 9,
    };
    let views = vec![
        issue_view("i1", "DS-100", IssueStatus::Running),
        View::IssueGone("i3".into()),
        run_view("run-1", "i1", 10, Some(30)),
        View::Daemon(Box::new(daemon.clone())),
    ];
    write(&opened, vec![plain(2)], views).await;
    assert_eq!(names(None), ["DS-100", "DS-2"]);
    assert!(store.issue("ds-1").unwrap().is_none());
    assert_eq!(store.run("run-1").unwrap().unwrap().ended_at, Some(dalsegno_core::Timestamp(30)));
    assert_eq!(store.daemon().unwrap(), Some(daemon));
    assert_eq!(runs(None, 10), ["run-3", "run-2", "run-1"], "an update does not move a run");
}

/// An agent reports what it likes.
#[tokio::test]
async fn absurd_figures_add_up_to_a_lot_and_to_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let used = |turn, tokens| {
        View::Usage(Box::new(dalsegno_core::UsageView {
            run: "run-1".into(),
            turn,
            place: 0,
            issue: "i1".into(),
            identifier: "DS-1".to_owned(),
            session: None,
            model: None,
            day: 20_000,
            usage: dalsegno_core::Usage::new(tokens, 8),
            cost_nanousd: Some(tokens),
            incomplete: false,
        }))
    };
    write(&opened, vec![plain(1)], vec![used(1, i64::MAX as u64), used(2, i64::MAX as u64), used(3, u64::MAX)]).await;
    let sums = opened.store.usage_sums(dalsegno_engine::UsageBy::Run).unwrap();
    let [sum] = sums.as_slice() else { panic!("one run") };
    assert_eq!((sum.usage.input_tokens, sum.usage.output_tokens), (9_000_000_000_000_000_000, 24));
    assert_eq!(sum.cost_nanousd, 9_000_000_000_000_000_000);
}

#[tokio::test]
async fn pages_walk_the_journal_without_gap_or_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    opened.journal.append(plain_batch(1, 1, 25), Vec::new()).await.unwrap();
    let everything = EventFilter::default();
    assert_eq!(found(&opened.store, 0, 10, &everything), ((1..=10).collect(), 10));
    assert_eq!(found(&opened.store, 10, 10, &everything), ((11..=20).collect(), 20));
    assert_eq!(found(&opened.store, 20, 10, &everything), ((21..=25).collect(), 25));
    assert_eq!(found(&opened.store, 25, 10, &everything), (vec![], 25));
    assert_eq!(found(&opened.store, 99, 10, &everything), (vec![], 99));
    assert_eq!(found(&opened.store, 3, 0, &everything), (vec![], 3));
    let row = opened.store.events(4, 1, &everything).unwrap().events.remove(0);
    assert_eq!((row.seq, row.at.0, row.kind.as_str()), (5, 5, "daemon_stopped"));
    assert_eq!(row.data, serde_json::json!({"reason": "number 5"}));
    assert_eq!((row.issue, row.run), (None, None));
}

#[tokio::test]
async fn events_know_their_issue_through_their_run() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let events = vec![seen(1, "i1", "DS-1"), run_started(2, "run-1", "i1"), phase(3, "run-1"), plain(4)];
    write(&opened, events, vec![]).await;
    drop((opened.store, opened.journal));
    // Opened again, nothing is remembered: it comes from the tables.
    let opened = open(dir.path());
    write(&opened, vec![phase(5, "run-1"), phase(6, "run-unknown")], vec![]).await;
    let rows = opened.store.events(0, 10, &EventFilter::default()).unwrap().events;
    let issues: Vec<_> = rows.iter().map(|row| row.issue.as_deref()).collect();
    assert_eq!(issues, [Some("DS-1"), Some("DS-1"), Some("DS-1"), None, Some("DS-1"), None]);
    let runs: Vec<_> = rows.iter().map(|row| row.run.as_deref()).collect();
    assert_eq!(runs, [None, Some("run-1"), Some("run-1"), None, Some("run-1"), Some("run-unknown")]);
    for name in ["ds-1", "I1"] {
        assert_eq!(found(&opened.store, 0, 10, &by_issue(name)), (vec![1, 2, 3, 5], 6), "{name}");
    }
}

#[tokio::test]
async fn filters_combine() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let events = vec![
        seen(1, "i1", "DS-1"),
        seen(2, "i2", "DS-2"),
        run_started(3, "run-1", "i1"),
        run_started(4, "run-2", "i2"),
        phase(5, "run-1"),
        phase(6, "run-2"),
        phase(7, "run-1"),
    ];
    write(&opened, events, vec![]).await;
    let store = &opened.store;
    assert_eq!(found(store, 0, 10, &by_run("run-1")), (vec![3, 5, 7], 7));
    assert_eq!(found(store, 3, 1, &by_run("run-1")), (vec![5], 5));
    assert_eq!(found(store, 0, 10, &by_kind("run_phase")), (vec![5, 6, 7], 7));
    assert_eq!(found(store, 0, 10, &by_issue("DS-2")), (vec![2, 4, 6], 7));
    let mut all = by_run("run-1");
    all.kind = Some("run_phase".to_owned());
    assert_eq!(found(store, 0, 10, &all), (vec![5, 7], 7));
    assert_eq!(found(store, 0, 1, &all), (vec![5], 5));
    all.issue = Some("ds-1".to_owned());
    assert_eq!(found(store, 5, 10, &all), (vec![7], 7));
    all.issue = Some("DS-2".to_owned());
    assert_eq!(found(store, 0, 10, &all), (vec![], 7));
    all.issue = Some("DS-3".to_owned());
    assert_eq!(found(store, 0, 10, &all), (vec![], 7));
}

#[tokio::test]
async fn a_name_finds_every_issue_that_had_it() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let gone = recorded(3, dalsegno_core::Event::IssueGone { issue: "i1".into() });
    let renamed =
        recorded(6, dalsegno_core::Event::IssueChanged { issue: Arc::new(crate::support::issue("i2", "DS-7")) });
    let events = vec![seen(1, "i1", "DS-1"), plain(2), gone, seen(4, "i2", "DS-1"), plain(5), renamed];
    write(&opened, events, vec![]).await;
    let store = &opened.store;
    assert_eq!(found(store, 0, 10, &by_issue("DS-1")), (vec![1, 3, 4, 6], 6));
    assert_eq!(found(store, 0, 2, &by_issue("DS-1")), (vec![1, 3], 3));
    assert_eq!(found(store, 3, 1, &by_issue("DS-1")), (vec![4], 4));
    assert_eq!(found(store, 0, 10, &by_issue("ds-7")), (vec![4, 6], 6));
    assert_eq!(found(store, 0, 10, &by_issue("i1")), (vec![1, 3], 6));
}

#[tokio::test]
async fn a_rare_match_ends_a_page_early_and_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    write(&opened, vec![seen(1, "i1", "DS-1"), run_started(2, "run-1", "i1")], vec![]).await;
    write(&opened, (3..=25_000).map(|seq| phase(seq, "run-1")).collect(), vec![]).await;
    let last = dalsegno_core::Event::QuestionAsked {
        run: "run-1".into(),
        question: "Which?".to_owned(),
        wants: dalsegno_core::Wants::Input,
        live: None,
        expires_at: None,
    };
    write(&opened, vec![recorded(25_001, last)], vec![]).await;
    let rare = EventFilter { run: Some("run-1".to_owned()), issue: None, kind: Some("question_asked".to_owned()) };
    let (mut after, mut calls) = (0, 0);
    let seq = loop {
        let (seqs, through) = found(&opened.store, after, 10, &rare);
        calls += 1;
        assert!(through > after, "every call gets further");
        after = through;
        if let Some(seq) = seqs.first() {
            break *seq;
        }
    };
    assert_eq!((seq, calls), (25_001, 3));
}

#[tokio::test]
async fn pages_and_filters_are_served_by_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    opened.journal.append(plain_batch(1, 1, 10), Vec::new()).await.unwrap();
    let db = raw(dir.path());
    for (by, index) in [
        ("", "INTEGER PRIMARY KEY (rowid>?)"),
        ("run = 'x' AND", "events_by_run (run=? AND rowid>?)"),
        ("issue_id = 'x' AND", "events_by_issue (issue_id=? AND rowid>?)"),
        ("kind = 'x' AND", "events_by_kind (kind=? AND rowid>?)"),
    ] {
        let sql = format!("EXPLAIN QUERY PLAN SELECT data FROM events WHERE {by} seq > 3 ORDER BY seq LIMIT 9");
        let plan: Vec<String> = {
            let mut query = db.prepare(&sql).unwrap();
            query.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        assert!(plan.len() == 1 && plan[0].contains(index), "{by}: {plan:?}");
    }
}

#[tokio::test]
async fn more_readers_than_connections_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    opened.journal.append(plain_batch(1, 1, 100), Vec::new()).await.unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(opened.store.events(0, 100, &EventFilter::default()).unwrap().events.len(), 100);
                }
            });
        }
    });
}
