//! Child processes: how they are started, how a script is run within bounds, and how everything that
//! a run left behind is found and ended. Linux only: the sweep reads `/proc`.
//!
//! Every child carries two marks in its environment, and its own children inherit them:
//! [`RUN_VARIABLE`] names the run (a later daemon finds what a dead one left), [`CALL_VARIABLE`] names
//! the single start (a timeout ends exactly what that start brought about). Process groups alone are
//! not enough: agents put their commands into groups and sessions of their own.
//!
//! What this cannot find: a process that emptied its environment *and* whose parent is gone *and* that
//! left the process group of its start.

#[cfg(not(target_os = "linux"))]
compile_error!("dalsegno finds and ends child processes through /proc, which only Linux has");

mod bounded;
mod environment;
mod mounts;
mod nursery;
mod probe;
mod sandbox;
mod spawn;
mod sweep;
mod table;

#[cfg(test)]
mod tests;

pub use bounded::{Finished, run_bounded};
pub(crate) use bounded::{OutputPipe, Tail, describe};
pub use probe::{Probe, probe, ready};
pub use sandbox::{Cell, Inmate};
pub(crate) use spawn::command_with_credentials;
pub use spawn::{CALL_VARIABLE, Child, RUN_VARIABLE, Surroundings, command, shell, spawn};
pub use sweep::{Sweeper, marked};

/// Reads what passes for the kernel's tables of processes and mounts.
pub(crate) fn foreign(bytes: &[u8]) {
    table::foreign(bytes);
    mounts::foreign(bytes);
}
