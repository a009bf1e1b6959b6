//! Exit codes of the command line. Stable: scripts may rely on them.

/// It worked; also when the reader of the output went away.
pub const OK: u8 = 0;
/// It failed, and nothing below says it better.
pub const FAILURE: u8 = 1;
/// The arguments make no sense.
pub const USAGE: u8 = 2;
/// No such issue, run or project.
pub const NOT_FOUND: u8 = 3;
/// No daemon answers, and one is needed.
pub const NO_DAEMON: u8 = 4;
/// The daemon refused: token, conflict, a cursor that is gone.
pub const REFUSED: u8 = 5;
/// `doctor` or `fsck` found something that ought to be seen to, and nothing that keeps a daemon from running.
pub const WARNINGS: u8 = 6;
/// Ended by Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// All codes with their meaning, for the reference.
pub const ALL: [(u8, &str); 8] = [
    (OK, "it worked; also when the reader of the output went away"),
    (FAILURE, "it failed, and no other code says it better"),
    (USAGE, "the arguments make no sense"),
    (NOT_FOUND, "no such issue, run or project"),
    (NO_DAEMON, "no daemon answers, and one is needed"),
    (REFUSED, "the daemon refused: wrong token, conflict, a cursor that is gone"),
    (WARNINGS, "`doctor` or `fsck` found something to see to, and nothing that keeps a daemon from running"),
    (INTERRUPTED, "ended by Ctrl-C"),
];

/// The exit code for an answer of the daemon with this HTTP status.
#[must_use]
pub fn of_status(status: u16) -> u8 {
    match status {
        200..=299 => OK,
        400 | 422 => USAGE,
        404 => NOT_FOUND,
        401 | 403 | 409 | 410 => REFUSED,
        _ => FAILURE,
    }
}
