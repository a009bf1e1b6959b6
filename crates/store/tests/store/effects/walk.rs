//! A process that dies at each of the points around a transaction, one by one.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use dalsegno_durable::EffectHost;

use super::{host, scope, store};

const DIRECTORY: &str = "DALSEGNO_EFFECTS_WALK_DIRECTORY";
const AT: &str = "DALSEGNO_EFFECTS_CRASH_AT";
const STEPS: u64 = 3;

/// Takes three steps, and dies at the point that it was told. Not a test of its own: the other one starts it.
#[tokio::test]
#[ignore = "the other test starts it in a process of its own"]
async fn steps_until_a_point() {
    let dir = std::env::var_os(DIRECTORY).unwrap();
    let dir = Path::new(&dir);
    dalsegno_engine::crash::arm(std::env::var(AT).unwrap().parse::<u64>().unwrap(), |_, _| std::process::abort());
    take_steps(dir).await;
}

async fn take_steps(dir: &Path) {
    let store = Arc::new(store(dir));
    let host = host(&store);
    let turn = host.scoped(scope("walk")).await.unwrap();
    for number in 0..STEPS {
        let run = || async move {
            note(dir, "ran", number);
            Ok::<u64, dalsegno_durable::EffectError>(number)
        };
        assert_eq!(turn.step(&format!("e{number}"), &number, run).await.unwrap(), number);
        note(dir, "heard", number);
    }
}

fn note(dir: &Path, file: &str, number: u64) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(dir.join(file)).unwrap();
    writeln!(file, "{number}").unwrap();
}

fn noted(dir: &Path, file: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Every point around every transaction: before it, before its commit, and between the commit and the answer.
#[tokio::test]
async fn a_death_at_any_point_runs_no_step_again_whose_outcome_was_heard() {
    let mut points = 0;
    loop {
        points += 1;
        let dir = tempfile::tempdir().unwrap();
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "effects::walk::steps_until_a_point", "--ignored", "--nocapture"])
            .envs([(DIRECTORY, dir.path().as_os_str()), (AT, points.to_string().as_ref())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        let heard = noted(dir.path(), "heard");
        let before = noted(dir.path(), "ran");
        if ended.success() {
            break;
        }
        take_steps(dir.path()).await;
        let ran = noted(dir.path(), "ran");
        for number in 0..STEPS {
            let times = ran.iter().filter(|one| **one == number).count();
            let most = if heard.contains(&number) || !before.contains(&number) { 1 } else { 2 };
            assert!((1..=most).contains(&times), "point {points}: step {number} ran {times} times");
        }
    }
    // Three points for each transaction: the opening, and intent and outcome of each step.
    assert_eq!(points - 1, 3 * (1 + 2 * STEPS));
}
