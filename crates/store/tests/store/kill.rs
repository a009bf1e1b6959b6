//! A process that is killed while it appends: what was acknowledged is there, and nothing is half there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use dalsegno_core::{Event, Recorded, Timestamp};
use dalsegno_engine::Reads;
use dalsegno_store::{OpenOptions, Store};

use crate::support::{batch, issue_view, open, plain_snapshot};

const DIRECTORY: &str = "DALSEGNO_STORE_KILL_DIRECTORY";
const KILLS: u64 = 12;
/// Events in every batch.
const BATCH: u64 = 3;

fn event(seq: u64) -> Recorded {
    Recorded {
        seq,
        at: Timestamp(seq as i64),
        event: Event::DaemonStopped { reason: "y".repeat((seq % 900) as usize) },
    }
}

/// The process that is killed. Not a test of its own: the other one starts it.
#[test]
#[ignore = "the other test starts it in a process of its own"]
fn appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { panic!("{DIRECTORY} is not set") };
    // Pruning and snapshots take part.
    let options = OpenOptions { keep_events: 2_000, ..OpenOptions::default() };
    let opened = Store::open(Path::new(&dir), options).unwrap();
    let snapshot = opened.loaded.snapshot.map_or(0, |snapshot| snapshot.state.seq);
    let mut next = opened.loaded.events.last().map_or(snapshot, |recorded| recorded.seq) + 1;
    let epoch = opened.loaded.epoch + 1;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut pending = std::collections::VecDeque::new();
        let mut out = std::io::stdout();
        loop {
            let last = next + BATCH - 1;
            let mut events = batch(epoch, (next..=last).map(event).collect());
            events.views.push(issue_view("i1", &format!("DS-{last}"), dalsegno_core::IssueStatus::Idle));
            events.snapshot = (next % 50 < BATCH).then(|| plain_snapshot(last));
            next = last + 1;
            pending.push_back((last, opened.journal.submit(events).await.unwrap()));
            if pending.len() == 4 {
                let (last, answer) = pending.pop_front().unwrap();
                answer.await.unwrap();
                writeln!(out, "acknowledged {epoch} {last}").unwrap();
                out.flush().unwrap();
            }
        }
    });
}

#[test]
fn everything_acknowledged_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 1..=KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::appends_until_it_is_killed", "--ignored", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let kill_after = 1 + getrandom::u64().unwrap() % 300;
        let mut acknowledged = 0;
        let mut lines = 0;
        // After the kill the pipe still holds what was acknowledged before.
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((epoch, last)) = line.strip_prefix("acknowledged ").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            assert_eq!(epoch.parse(), Ok(round), "one life, one epoch");
            let Ok(last) = last.parse::<u64>() else { continue };
            acknowledged = last;
            lines += 1;
            if lines == kill_after {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(lines >= kill_after, "it ended by itself after {lines} of {kill_after} lines");

        let opened = open(dir.path());
        let through = opened.loaded.snapshot.as_ref().map_or(0, |snapshot| snapshot.state.seq);
        let last = opened.loaded.events.last().map_or(through, |recorded| recorded.seq);
        let context = format!("round {round}: {acknowledged} acknowledged, {last} there, killed after {kill_after}");
        assert!(last >= acknowledged && acknowledged > before, "{context}");
        assert_eq!(last % BATCH, 0, "half a batch is there; {context}");
        assert!(last <= acknowledged + 5 * BATCH, "more is there than was ever in flight; {context}");
        let expected: Vec<_> = (through + 1..=last).map(event).collect();
        assert!(opened.loaded.events == expected, "what is there is not what was written; {context}");
        assert_eq!(opened.loaded.epoch, round, "{context}");
        let views = opened.store.issues(None).unwrap();
        assert_eq!(views[0].issue.identifier, format!("DS-{last}"), "projections belong to the last event; {context}");
        let check: String =
            crate::support::raw(dir.path()).query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok", "{context}");
        before = acknowledged;
    }
}
