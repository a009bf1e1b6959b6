//! A real process that is stopped at each system call by which it changes a file: the calls are counted, one of them fails, or all from one on, or the
//! process is killed before one. A disk that is full, broken or read-only, without such a disk.
//!
//! The process and its threads are traced (ptrace); programs that it starts are not, and see a healthy disk. What is written through a
//! mapping of memory is no call. [`Call`] has a path whether the call names one or a file that is open.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

mod registers;

use registers::Registers;

/// Calls that are remembered, at most: the last ones.
const REMEMBERED: usize = 4096;
/// Longest path that is read of a process.
const PATH_BYTES: u64 = 4096;

/// A system call that changes a file, or says that it will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name: `write`, `fdatasync`, `open` (for writing), `rename`, `unlink`, `mkdir`, …, whichever of its variants it is.
    pub name: &'static str,
    /// The file; of a rename, its new name.
    pub path: PathBuf,
}

/// What becomes of the calls that are watched, which are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens to them.
    Never,
    /// This one fails, and is not carried out.
    Once(u64, Errno),
    /// This one and all after it fail: the disk is broken.
    From(u64, Errno),
    /// The process is killed before this one.
    Kill(u64),
}

/// How a traced process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Watched calls, the failed ones among them.
    pub calls: u64,
    /// Calls that failed, or before which it was killed; the first 4096.
    pub hit: Vec<Call>,
}

/// A process whose calls are watched. When it is dropped, the process is killed.
#[derive(Debug)]
pub struct Traced {
    pid: Pid,
    shared: Arc<Shared>,
    ended: Receiver<Result<Ended, String>>,
    tracer: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    calls: u64,
    hit: Vec<Call>,
}

impl Default for State {
    fn default() -> Self {
        Self { fault: Fault::Never, calls: 0, hit: Vec::new() }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command that waits to be traced before it becomes `program`: give it arguments, environment and outputs, and then to [`Traced::start`].
/// Its standard input is empty.
#[must_use]
pub fn waiting(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "read go && exec \"$@\" </dev/null", "sh"]).arg(program);
    command
}

/// Whether processes can be traced here. Where not, a test that needs it should return; in CI this is a failure.
///
/// # Panics
/// When they cannot be and `CI` is set.
#[must_use]
#[expect(clippy::print_stderr, reason = "a skipped test says so where the person sees it")]
pub fn can_be_traced() -> bool {
    let tried = Traced::start(waiting(Path::new("true")), |_| false, Fault::Never)
        .and_then(|mut traced| traced.wait(Duration::from_secs(60)));
    match tried {
        Ok(_) => true,
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "no process can be traced here: {why}");
            eprintln!("SKIPPED a test: no process can be traced here: {why}");
            false
        }
    }
}

impl Traced {
    /// Starts a command that [`waiting`] made, and watches the calls that `watched` names.
    ///
    /// # Errors
    /// When it cannot be started, or not be traced: a sentence.
    pub fn start(
        mut command: Command,
        watched: impl Fn(&Call) -> bool + Send + 'static,
        fault: Fault,
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared { state: Mutex::new(State { fault, ..State::default() }) });
        let of_tracer = Arc::clone(&shared);
        let (begun, pid) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let trace = move || {
            // Who starts a process is the one who may trace it, and hears of its threads alone.
            let mut tracer = match Tracer::start(&mut command, Box::new(watched), of_tracer) {
                Ok(tracer) => tracer,
                Err(why) => return drop(begun.send(Err(why))),
            };
            if begun.send(Ok(tracer.leader)).is_ok() {
                let _ = end.send(tracer.run());
            }
        };
        let tracer =
            std::thread::Builder::new().name("tracer".to_owned()).spawn(trace).map_err(|error| error.to_string())?;
        let pid = pid.recv().map_err(|_| "the tracer panicked".to_owned())??;
        Ok(Self { pid, shared, ended, tracer: Some(tracer) })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// From the next watched call on, all fail.
    pub fn fail_from_now_on(&self, errno: Errno) {
        let mut state = self.shared.lock();
        state.fault = Fault::From(state.calls + 1, errno);
    }

    /// From now on, nothing fails any more.
    pub fn heal(&self) {
        self.shared.lock().fault = Fault::Never;
    }

    /// How many of its calls failed so far.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.shared.lock().hit.len()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself; whoever waits for it sees that.
        let _ = kill(self.pid, signal);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not come in that time (then it is killed), or the tracing went wrong: a sentence.
    pub fn wait(&mut self, patience: Duration) -> Result<Ended, String> {
        match self.ended.recv_timeout(patience) {
            Ok(ended) => ended,
            Err(RecvTimeoutError::Timeout) => {
                self.signal(Signal::SIGKILL);
                Err(format!("process {} did not end by itself within {patience:?}", self.pid))
            }
            Err(RecvTimeoutError::Disconnected) => Err("the tracer panicked, or its end was told before".to_owned()),
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let Some(tracer) = self.tracer.take() else { return };
        if !tracer.is_finished() {
            self.signal(Signal::SIGKILL);
        }
        // Its panic was told by who waited; here nobody is left to hear it.
        let _ = tracer.join();
    }
}

/// What a stopped thread is in the middle of.
#[derive(Debug, Clone, Copy)]
enum Inside {
    /// A call that goes its way.
    Call,
    /// One that was taken away, and ends with this.
    Failing(Errno),
}

/// The side that traces: a thread of its own, which is the parent of the process.
struct Tracer {
    leader: Pid,
    watched: Box<dyn Fn(&Call) -> bool>,
    shared: Arc<Shared>,
    inside: BTreeMap<Pid, Inside>,
}

impl Tracer {
    fn start(command: &mut Command, watched: Box<dyn Fn(&Call) -> bool>, shared: Arc<Shared>) -> Result<Self, String> {
        if !registers::ARE_KNOWN {
            return Err("the registers of this processor are not known".to_owned());
        }
        let mut child = command.stdin(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let leader = Pid::from_raw(i32::try_from(child.id()).map_err(|error| error.to_string())?);
        let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
        // It is asked to stop, so that from then on it stops at its calls; then it may go.
        let seized = ptrace::seize(leader, options).and_then(|()| ptrace::interrupt(leader));
        let go = child.stdin.take();
        if let Err(errno) = seized {
            // Without its word it ends.
            drop(go);
            let _ = child.wait();
            return Err(format!("ptrace: {}", errno.desc()));
        }
        let tracer = Self { leader, watched, shared, inside: BTreeMap::new() };
        go.map_or(Ok(()), |mut go| go.write_all(b"go\n")).map_err(|error| error.to_string())?;
        Ok(tracer)
    }

    /// Lets the process go from stop to stop until it ends.
    fn run(&mut self) -> Result<Ended, String> {
        loop {
            // Of this thread's processes alone: others have children of their own.
            let status = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(|errno| format!("waiting for {}: {}", self.leader, errno.desc()))?,
            };
            let code = match status {
                WaitStatus::Exited(pid, code) if pid == self.leader => Some(code),
                WaitStatus::Signaled(pid, ..) if pid == self.leader => None,
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                    self.inside.remove(&pid);
                    continue;
                }
                WaitStatus::PtraceSyscall(pid) => {
                    self.stopped(pid)?;
                    self.go_on(pid, None)?;
                    continue;
                }
                WaitStatus::Stopped(pid, signal) => {
                    self.go_on(pid, Some(signal))?;
                    continue;
                }
                WaitStatus::PtraceEvent(pid, ..) => {
                    self.go_on(pid, None)?;
                    continue;
                }
                WaitStatus::Continued(_) | WaitStatus::StillAlive => continue,
            };
            let mut state = self.shared.lock();
            return Ok(Ended { code, calls: state.calls, hit: std::mem::take(&mut state.hit) });
        }
    }

    fn go_on(&self, pid: Pid, signal: Option<Signal>) -> Result<(), String> {
        gone_is_fine(ptrace::syscall(pid, signal))
    }

    /// A thread stands before a call, or behind the one that it stood before.
    fn stopped(&mut self, pid: Pid) -> Result<(), String> {
        match self.inside.remove(&pid) {
            Some(Inside::Call) => Ok(()),
            Some(Inside::Failing(errno)) => gone_is_fine(registers::fail(pid, errno)),
            None => {
                let inside = match registers::read(pid) {
                    Ok(registers) => self.before(pid, &registers)?,
                    Err(errno) => return gone_is_fine(Err(errno)),
                };
                self.inside.insert(pid, inside);
                Ok(())
            }
        }
    }

    fn before(&self, pid: Pid, registers: &Registers) -> Result<Inside, String> {
        let Some(call) = registers::call(registers, &Process(pid)).filter(|call| (self.watched)(call)) else {
            return Ok(Inside::Call);
        };
        let mut state = self.shared.lock();
        state.calls += 1;
        let number = state.calls;
        let inside = match state.fault {
            Fault::Once(at, errno) if number == at => Inside::Failing(errno),
            Fault::From(from, errno) if number >= from => Inside::Failing(errno),
            Fault::Kill(at) if number == at => {
                // Nothing of the call happens: it is dead before it begins.
                gone_is_fine(kill(self.leader, Signal::SIGKILL))?;
                state.hit.push(call);
                return Ok(Inside::Call);
            }
            Fault::Never | Fault::Once(..) | Fault::From(..) | Fault::Kill(_) => return Ok(Inside::Call),
        };
        if state.hit.len() < REMEMBERED {
            state.hit.push(call);
        }
        gone_is_fine(registers::take_away(pid, registers))?;
        Ok(inside)
    }
}

/// A thread may be killed at any moment; its end is heard of by itself.
fn gone_is_fine(done: nix::Result<()>) -> Result<(), String> {
    match done {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(format!("ptrace: {}", errno.desc())),
    }
}

/// A stopped thread, as its files are seen.
struct Process(Pid);

impl Process {
    /// The file behind a descriptor.
    fn file(&self, descriptor: u64) -> Option<PathBuf> {
        // Of 64 bits that hold one, the lower half counts.
        let descriptor = descriptor & u64::from(u32::MAX);
        std::fs::read_link(format!("/proc/{}/fd/{descriptor}", self.0)).ok()
    }

    /// The path at this address, from this directory on.
    fn path(&self, directory: Option<u64>, address: u64) -> Option<PathBuf> {
        let mut memory = File::open(format!("/proc/{}/mem", self.0)).ok()?;
        memory.seek(SeekFrom::Start(address)).ok()?;
        // Page by page: behind the text there may be nothing.
        let (mut text, mut page) = (Vec::new(), [0; 64]);
        while (text.len() as u64) < PATH_BYTES {
            let read = memory.read(&mut page).ok()?;
            let part = page.get(..read).filter(|part| !part.is_empty())?;
            match part.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    text.extend_from_slice(&part[..end]);
                    break;
                }
                None => text.extend_from_slice(part),
            }
        }
        let path = PathBuf::from(String::from_utf8(text).ok()?);
        if path.is_absolute() {
            return Some(path);
        }
        let from = match directory {
            Some(descriptor) if descriptor as u32 != nix::libc::AT_FDCWD as u32 => self.file(descriptor)?,
            _ => std::fs::read_link(format!("/proc/{}/cwd", self.0)).ok()?,
        };
        Some(from.join(path))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests;
