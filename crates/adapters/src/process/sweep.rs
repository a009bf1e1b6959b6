//! Finding and ending processes by their marks.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dalsegno_engine::Processes;
use dalsegno_engine::core::{Failure, FoundProcess};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::spawn::{CALL_VARIABLE, RUN_VARIABLE};
use super::table::{self, Entry};

/// How long a hunt goes on before it gives up. A killed process can linger in an uninterruptible wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// Looks at the table within one round, while processes are stopped and their newest children found.
const LOOKS_PER_ROUND: u32 = 8;

/// What is to be ended.
#[derive(Debug, Clone)]
pub(super) struct Prey {
    /// `NAME=value` in the environment; children inherit it.
    variable: String,
    /// First process of the start, with its start time: it leads the group of all that stayed in it, so that
    /// children with an emptied environment are found as well.
    leader: Option<(i32, u64)>,
}

impl Prey {
    /// Everything of a run.
    pub(super) fn run(mark: &str) -> Self {
        Self { variable: format!("{RUN_VARIABLE}={mark}"), leader: None }
    }

    /// Everything that one start brought about.
    pub(super) fn call(token: &str, leader: Option<i32>) -> Self {
        let leader = leader.and_then(|pid| Some((pid, table::look(pid)?.start)));
        Self { variable: format!("{CALL_VARIABLE}={token}"), leader }
    }

    /// What of it is in the table, with all descendants. Never this process, never process 1.
    fn find(&self) -> io::Result<BTreeMap<i32, Entry>> {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let table = table::snapshot()?;
        // The number of a group is given anew only when the group is empty: then its leader is another process.
        let group = self.leader.and_then(|(pid, start)| {
            let same = table.iter().find(|entry| entry.pid == pid).is_none_or(|entry| entry.start == start);
            same.then_some(pid)
        });
        let mut children: BTreeMap<i32, Vec<Entry>> = BTreeMap::new();
        let mut open = Vec::new();
        for entry in &table {
            children.entry(entry.parent).or_default().push(*entry);
            let ours =
                !entry.zombie && (group == Some(entry.group) || table::carries(entry.pid, self.variable.as_bytes()));
            if ours {
                open.push(*entry);
            }
        }
        let mut found = BTreeMap::new();
        while let Some(entry) = open.pop() {
            if entry.pid == own || entry.pid <= 1 || entry.zombie || found.contains_key(&entry.pid) {
                continue;
            }
            found.insert(entry.pid, entry);
            open.extend(children.get(&entry.pid).into_iter().flatten().copied());
        }
        Ok(found)
    }

    /// Kills until nothing is found any more; answers how many there were, and what outlived it.
    pub(super) fn hunt(&self) -> io::Result<Hunted> {
        let begun = Instant::now();
        let mut killed: BTreeSet<(i32, u64)> = BTreeSet::new();
        loop {
            let mut found = self.find()?;
            if found.is_empty() {
                return Ok(Hunted { killed: killed.len(), outlived: Vec::new() });
            }
            if begun.elapsed() > PATIENCE {
                return Ok(Hunted { killed: killed.len(), outlived: found.into_keys().collect() });
            }
            // Stopped processes make no children; without this, one that is born between look and kill, with an
            // emptied environment, would lose its parent and with it the only trace to us.
            let mut stopped: BTreeSet<i32> = BTreeSet::new();
            for _ in 0..LOOKS_PER_ROUND {
                let fresh: Vec<i32> = found.keys().filter(|pid| !stopped.contains(*pid)).copied().collect();
                if fresh.is_empty() {
                    break;
                }
                for pid in fresh {
                    // It may be gone by now; the next look tells.
                    let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
                    stopped.insert(pid);
                }
                found.extend(self.find()?);
            }
            for (pid, entry) in &found {
                if kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok() {
                    killed.insert((*pid, entry.start));
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What came of a hunt.
#[derive(Debug)]
pub(super) struct Hunted {
    pub(super) killed: usize,
    pub(super) outlived: Vec<i32>,
}

impl Hunted {
    /// The number of killed processes, or why some are left.
    pub(super) fn into_result(self) -> Result<u32, Failure> {
        if self.outlived.is_empty() {
            return Ok(u32::try_from(self.killed).unwrap_or(u32::MAX));
        }
        let shown: Vec<String> = self.outlived.iter().take(10).map(ToString::to_string).collect();
        Err(Failure::retryable(
            "sweep_failed",
            format!(
                "{} processes live on {} s after SIGKILL: {}",
                self.outlived.len(),
                PATIENCE.as_secs(),
                shown.join(", ")
            ),
        )
        .hint(
            "see what they wait for with `ps -o pid,stat,wchan,args`; a hanging network file system is the usual cause",
        ))
    }
}

/// Ends what carries a mark; the port's implementation on this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sweeper;

#[async_trait]
impl Processes for Sweeper {
    async fn sweep(&self, mark: &str) -> Result<u32, Failure> {
        hunt(Prey::run(mark)).await
    }
}

/// Everything that carries a mark of this journal, by what follows its identity in the mark.
///
/// # Errors
/// `processes_unreadable` when the process table cannot be read.
pub async fn marked(journal: &str) -> Result<Vec<FoundProcess>, Failure> {
    let beginning = format!("{RUN_VARIABLE}={journal}/");
    let look = move || -> io::Result<BTreeMap<String, Vec<i32>>> {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for entry in table::snapshot()?.into_iter().filter(|entry| !entry.zombie && entry.pid != own) {
            if let Some(owner) = table::rest_of(entry.pid, beginning.as_bytes()) {
                found.entry(owner).or_default().push(entry.pid);
            }
        }
        Ok(found)
    };
    let unreadable = |why: String| {
        Failure::retryable("processes_unreadable", format!("/proc cannot be read: {why}"))
            .hint("the daemon needs a mounted /proc that shows its own processes")
    };
    match tokio::task::spawn_blocking(look).await {
        Ok(Ok(found)) => Ok(found.into_iter().map(|(owner, pids)| FoundProcess { owner, pids }).collect()),
        Ok(Err(error)) => Err(unreadable(error.to_string())),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// [`Prey::hunt`] away from the async threads: it reads files and sleeps.
pub(super) async fn hunt(prey: Prey) -> Result<u32, Failure> {
    match tokio::task::spawn_blocking(move || prey.hunt()).await {
        Ok(Ok(hunted)) => hunted.into_result(),
        Ok(Err(error)) => Err(Failure::retryable("sweep_failed", format!("/proc cannot be read: {error}"))
            .hint("the daemon needs a mounted /proc that shows its own processes")),
        Err(error) => Err(Failure::retryable("sweep_failed", format!("the sweep was cut: {error}"))),
    }
}
