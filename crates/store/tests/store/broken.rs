//! A disk that breaks under a store: a process of its own appends, and some of its system calls fail.

use std::path::PathBuf;
use std::time::Duration;

use dalsegno_core::Event;
use dalsegno_engine::{AppendError, Journal as _};
use dalsegno_store::{OpenOptions, Store};
use dalsegno_testkit::calls::{Fault, Traced, can_be_traced, waiting};
use nix::errno::Errno;

use crate::support::{batch, numbers, open, plain};

const DIRECTORY: &str = "DALSEGNO_BROKEN_STORE_DIRECTORY";
/// With the log beside the writer, or not.
const APART: &str = "DALSEGNO_BROKEN_STORE_APART";
const PATIENCE: Duration = Duration::from_secs(300);
/// The log may have so many bytes when its pages cannot be copied into the database.
const LONGEST_LOG: u64 = 48 << 20;

/// The process whose disk breaks. Not a test of its own: the others start it.
#[tokio::test]
#[ignore = "the other tests start it in a process of its own"]
async fn appends_until_it_is_refused() {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { panic!("{DIRECTORY} is not set") };
    let options = OpenOptions { apart_checkpoints: std::env::var_os(APART).is_some(), ..OpenOptions::default() };
    let opened = Store::open(&dir, options).unwrap();
    let reason = "x".repeat(100_000);
    for seq in 1.. {
        let mut event = plain(seq);
        event.event = Event::DaemonStopped { reason: reason.clone() };
        match opened.journal.append(batch(1, vec![event]), Vec::new()).await {
            Ok(_) => std::fs::write(dir.join("acknowledged"), seq.to_string()).unwrap(),
            Err(error) => {
                std::fs::write(dir.join("refused"), error.to_string()).unwrap();
                assert!(matches!(error, AppendError::Storage(_) | AppendError::Poisoned(_)));
                return;
            }
        }
        let log = std::fs::metadata(dir.join("dalsegno.db-wal")).unwrap().len();
        assert!(log <= LONGEST_LOG, "the log has {log} bytes, and nobody was told");
    }
}

#[test]
fn a_database_that_takes_no_pages_is_told_before_its_log_is_long() {
    if !can_be_traced() {
        return;
    }
    for apart in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let mut command = waiting(&std::env::current_exe().unwrap());
        command.args(["--exact", "broken::appends_until_it_is_refused", "--ignored", "--nocapture"]);
        command.env(DIRECTORY, dir.path()).envs(apart.then_some((APART, "1")));
        let database = dir.path().join("dalsegno.db");
        let mut traced = Traced::start(command, move |call| call.name == "write" && call.path == database, Fault::From(1, Errno::EIO)).unwrap();
        let ended = traced.wait(PATIENCE).unwrap();
        assert_eq!(ended.code, Some(0), "apart: {apart}");
        assert!(!ended.hit.is_empty());
        let told = std::fs::read_to_string(dir.path().join("refused")).unwrap();
        assert!(told.contains("disk I/O error"), "{told}");
        // Nothing that was acknowledged is lost, and the good disk takes more.
        let acknowledged: u64 = std::fs::read_to_string(dir.path().join("acknowledged")).unwrap().parse().unwrap();
        let events = numbers(&open(dir.path()).loaded.events);
        assert_eq!(events, (1..=acknowledged).collect::<Vec<_>>());
    }
}
