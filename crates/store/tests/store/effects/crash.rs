//! A process that is killed while it records effects: what it heard of is there, and each effect is there once.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use dalsegno_durable::{Claim, DurableStore, EffectHost, Progress};

use super::{host, raw, scope, step, store};

const DIRECTORY: &str = "DALSEGNO_EFFECTS_CRASH_DIRECTORY";
const KILLS: u64 = 8;

/// The process that is killed. Not a test of its own: the other one starts it.
#[tokio::test]
#[ignore = "the other test starts it in a process of its own"]
async fn records_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { panic!("{DIRECTORY} is not set") };
    let store = Arc::new(store(Path::new(&dir)));
    let mut tasks = Vec::new();
    for name in 0..8 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            let host = host(&store);
            let turn = host.scoped(scope(&name.to_string())).await.unwrap();
            let start = turn.controller().effects().await.unwrap().len() as u64;
            for number in start.saturating_sub(1).. {
                assert_eq!(step(&turn, &format!("e{number}"), number).await, number);
                let mut out = std::io::stdout();
                writeln!(out, "acknowledged {name} {number}").unwrap();
                out.flush().unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn every_acknowledged_effect_outlives_a_kill_and_its_owner_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = [None; 8];
    for round in 1..=KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "effects::crash::records_until_it_is_killed", "--ignored", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let kill_after = 1 + getrandom::u64().unwrap() % 2_000;
        let mut lines = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((name, number)) = line.strip_prefix("acknowledged ").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            let (Ok(name), Ok(number)) = (name.parse::<usize>(), number.parse::<u64>()) else { continue };
            last[name] = Some(number);
            lines += 1;
            if lines == kill_after {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(lines >= kill_after, "it ended by itself after {lines} of {kill_after} lines");
        let store = store(dir.path());
        for (name, last) in last.iter().enumerate() {
            // It is free at once: whoever had it is gone.
            let opened = store.open(&scope(&name.to_string()), Claim::IfFree).await.unwrap();
            let ended = |progress: &Progress| matches!(progress, Progress::Ended { .. });
            let outcomes = opened.effects.iter().filter(|(_, record)| ended(&record.state.progress)).count() as u64;
            let acknowledged = last.map_or(0, |number| number + 1);
            let context = format!("round {round}, scope {name}: {acknowledged} acknowledged, {outcomes} there");
            assert!(outcomes >= acknowledged && outcomes <= acknowledged + 1, "{context}");
            let keys: Vec<_> = opened.effects.iter().map(|(_, record)| record.replay_key.clone()).collect();
            let expected: Vec<_> = (0..keys.len()).map(|number| format!("e{number}")).collect();
            assert_eq!(keys, expected, "{context}");
        }
        drop(store);
        let check: String = raw(dir.path()).query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok", "round {round}");
    }
}
