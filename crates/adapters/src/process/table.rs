//! The kernel's process table, as far as it is needed here.

use std::fs;
use std::io::{self, Read};

/// No environment is larger than this; the kernel's own limit is below.
const MAX_ENVIRONMENT_BYTES: u64 = 16 * 1024 * 1024;

/// One process. `start` tells two processes with the same number apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// Ticks since boot.
    pub(super) start: u64,
    /// Dead already, only not collected by its parent.
    pub(super) zombie: bool,
}

/// All processes that are there now. One that goes while we look is left out.
pub(super) fn snapshot() -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for item in fs::read_dir("/proc")? {
        let Ok(item) = item else { continue };
        let Some(pid) = item.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        entries.extend(look(pid));
    }
    Ok(entries)
}

/// One process, if it is there.
pub(super) fn look(pid: i32) -> Option<Entry> {
    // The name of a command need not be UTF-8.
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &String::from_utf8_lossy(&bytes))
}

/// proc_pid_stat(5). The command in parentheses may hold anything, parentheses too; so the last one counts.
fn parse(pid: i32, text: &str) -> Option<Entry> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // Field 22 is the start time; after the state (3), the parent (4) and the group (5) it is the 17th.
    let start = fields.nth(16)?.parse().ok()?;
    Some(Entry { pid, parent, group, start, zombie: matches!(state, "Z" | "X" | "x") })
}

/// Whether the process was started with exactly this `NAME=value` in its environment.
///
/// A process whose environment may not be read is another user's, and not ours to end.
pub(super) fn carries(pid: i32, variable: &[u8]) -> bool {
    environment(pid).split(|byte| *byte == 0).any(|entry| entry == variable)
}

/// What follows this beginning of an entry in the environment that the process was started with.
pub(super) fn rest_of(pid: i32, beginning: &[u8]) -> Option<String> {
    let environment = environment(pid);
    let rest = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(beginning))?;
    String::from_utf8(rest.to_vec()).ok()
}

fn environment(pid: i32) -> Vec<u8> {
    let mut environment = Vec::new();
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/environ")) {
        // A read that breaks off (the process goes) still leaves what was read so far.
        let _ = file.take(MAX_ENVIRONMENT_BYTES).read_to_end(&mut environment);
    }
    environment
}

/// Reads what passes for a process's line in the table. Its own name is in it, and that may be anything.
pub(super) fn foreign(bytes: &[u8]) {
    let _ = parse(1, &String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let text = "7 (a) b) R (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3\n";
        let entry = parse(7, text);
        assert_eq!(entry, Some(Entry { pid: 7, parent: 1, group: 42, start: 987_654, zombie: false }));
    }

    #[test]
    fn our_own_entry_is_in_the_table() {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let found = snapshot().unwrap_or_default().into_iter().any(|entry| entry.pid == own && !entry.zombie);
        assert!(found);
    }
}
