//! A child that is killed before a system call that would change a file or directory below a given one, whoever makes it: its own code,
//! the standard library or SQLite. Where points of [`crate::crash`] are put into the code by hand, these are all there are.
//!
//! The child calls [`wait_to_be_watched`], and from then on each of its threads stops at each of its system calls (`ptrace`). The number of
//! a call is its place among those that are watched for: threads that work side by side may come in another order the next time.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::crash::{Kill, Ran};

/// What a child says when it is ready.
const READY: &str = "ready to be watched";
/// Most bytes of a path.
const PATH_BYTES: usize = 4096;

/// To be called by a child of [`run_traced`] when what comes next is to be watched.
///
/// # Panics
/// When nobody watches it.
#[expect(clippy::print_stdout, reason = "the parent reads it there")]
pub fn wait_to_be_watched() {
    println!("{READY}");
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    assert!(read.is_ok_and(|bytes| bytes > 0), "nobody watches this process");
}

/// How a child ended, and what it said.
#[derive(Debug)]
pub struct Traced {
    /// By itself, with the number of calls that were watched for; or by the kill.
    pub ran: Ran,
    /// What it printed, line by line.
    pub said: Vec<String>,
    /// The call before which it was killed, in words.
    pub call: Option<String>,
}

/// Runs a child to its end, or until it is about to make a system call that changes what is `below`.
///
/// # Panics
/// When it cannot be watched, or ends in another way; the message has what it said.
#[must_use]
pub fn run_traced(command: &mut Command, below: &Path, how: Kill) -> Traced {
    match try_traced(command, below, how) {
        Ok(traced) => traced,
        Err(problem) => panic!("the child could not be watched: {problem}"),
    }
}

fn try_traced(command: &mut Command, below: &Path, how: Kill) -> std::io::Result<Traced> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let missing = || std::io::Error::other("a pipe is missing");
    let (mut stdin, stdout, mut stderr) = (
        child.stdin.take().ok_or_else(missing)?,
        child.stdout.take().ok_or_else(missing)?,
        child.stderr.take().ok_or_else(missing)?,
    );
    let lines = lines_of(stdout);
    let complaint = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let mut said = Vec::new();
    let is_ready = lines.iter().any(|line| {
        let is_it = line.contains(READY);
        said.push(line);
        is_it
    });
    if !is_ready {
        let status = child.wait()?;
        return Err(std::io::Error::other(format!(
            "it ended with {status} before it was ready; it said:\n{}\n{}",
            said.join("\n"),
            complaint.join().unwrap_or_default()
        )));
    }
    let mut watch = Watch { pid, below: [below.to_owned(), below.canonicalize()?], how, passed: 0, call: None };
    watch.seize()?;
    // From here on the child is reaped by its id: the handle is not waited for any more.
    stdin.write_all(b"go\n")?;
    let ended = watch.until_it_ends()?;
    said.extend(lines);
    let complaint = complaint.join().unwrap_or_default();
    let ran = match (ended, how) {
        (WaitStatus::Exited(_, 0), _) => Ran::ToItsEnd { points: Some(watch.passed) },
        (WaitStatus::Signaled(_, Signal::SIGKILL, _), Kill::At(_)) => Ran::Killed,
        (ended, _) => panic!("the child ended with {ended:?}; it said:\n{}\n{complaint}", said.join("\n")),
    };
    Ok(Traced { ran, said, call: watch.call })
}

fn lines_of(stdout: ChildStdout) -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    lines
}

/// The watch over one child. It belongs to the thread that began it.
struct Watch {
    pid: Pid,
    /// The directory by both its names, where a link leads to it.
    below: [PathBuf; 2],
    how: Kill,
    passed: u64,
    call: Option<String>,
}

impl Watch {
    fn seize(&self) -> std::io::Result<()> {
        let options = Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let Some(task) = task?.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw) else {
                continue;
            };
            ptrace::seize(task, options)?;
            ptrace::interrupt(task)?;
        }
        Ok(())
    }

    fn until_it_ends(&mut self) -> std::io::Result<WaitStatus> {
        // Children of other threads of this process are theirs.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            let status = match waitpid(None, Some(flags)) {
                Err(Errno::EINTR) => continue,
                status => status?,
            };
            match status {
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) if pid == self.pid => return Ok(status),
                WaitStatus::PtraceSyscall(task) => {
                    self.passes(task)?;
                    resume(task, None)?;
                }
                WaitStatus::PtraceEvent(task, ..) => resume(task, None)?,
                WaitStatus::Stopped(task, signal) => resume(task, Some(signal))?,
                WaitStatus::Exited(..)
                | WaitStatus::Signaled(..)
                | WaitStatus::Continued(_)
                | WaitStatus::StillAlive => {}
            }
        }
    }

    /// A thread is about to make a system call, or has just made it.
    fn passes(&mut self, task: Pid) -> std::io::Result<()> {
        if self.call.is_some() {
            return Ok(());
        }
        match ptrace::syscall_info(task) {
            Ok(info) if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY => {}
            Ok(_) | Err(Errno::ESRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let Some(call) = Call::of(task) else { return Ok(()) };
        let Some(what) = call.changes(task, &self.below) else { return Ok(()) };
        self.passed += 1;
        if self.how == Kill::At(self.passed) {
            self.call = Some(what);
            // A thread that is killed while it stops here does not make the call.
            kill(self.pid, Signal::SIGKILL)?;
        }
        Ok(())
    }
}

/// Has a thread go on to its next system call. One that was killed is gone.
fn resume(task: Pid, signal: Option<Signal>) -> std::io::Result<()> {
    match ptrace::syscall(task, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A system call that is about to be made.
struct Call {
    number: i64,
    arguments: [u64; 6],
}

/// Where a call has what it changes.
enum Target {
    /// The handle in this argument.
    Handle(usize),
    /// The path in this argument.
    Path(usize),
}

impl Call {
    fn of(task: Pid) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{task}/syscall")).ok()?;
        let mut words = text.split_whitespace();
        let number = words.next()?.parse().ok()?;
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        }
        Some(Self { number, arguments })
    }

    fn argument(&self, place: usize) -> u64 {
        self.arguments.get(place).copied().unwrap_or_default()
    }

    /// Name, and what of it is changed; `None`: it changes no file.
    fn meaning(&self) -> Option<(&'static str, &'static [Target])> {
        use Target::{Handle, Path};
        let makes = |flags: usize| self.argument(flags) & (libc::O_CREAT | libc::O_TRUNC) as u64 != 0;
        Some(match self.number {
            libc::SYS_write => ("write", &[Handle(0)]),
            libc::SYS_pwrite64 => ("pwrite64", &[Handle(0)]),
            libc::SYS_writev => ("writev", &[Handle(0)]),
            libc::SYS_pwritev => ("pwritev", &[Handle(0)]),
            libc::SYS_pwritev2 => ("pwritev2", &[Handle(0)]),
            libc::SYS_ftruncate => ("ftruncate", &[Handle(0)]),
            libc::SYS_fallocate => ("fallocate", &[Handle(0)]),
            libc::SYS_fsync => ("fsync", &[Handle(0)]),
            libc::SYS_fdatasync => ("fdatasync", &[Handle(0)]),
            libc::SYS_fchmod => ("fchmod", &[Handle(0)]),
            libc::SYS_sendfile => ("sendfile", &[Handle(0)]),
            libc::SYS_copy_file_range => ("copy_file_range", &[Handle(2)]),
            libc::SYS_openat if makes(2) => ("openat", &[Path(1)]),
            libc::SYS_mkdirat => ("mkdirat", &[Path(1)]),
            libc::SYS_unlinkat => ("unlinkat", &[Path(1)]),
            libc::SYS_linkat => ("linkat", &[Path(3)]),
            libc::SYS_symlinkat => ("symlinkat", &[Path(2)]),
            libc::SYS_renameat2 => ("renameat2", &[Path(1), Path(3)]),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open if makes(1) => ("open", &[Path(0)]),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_creat => ("creat", &[Path(0)]),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mkdir => ("mkdir", &[Path(0)]),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rmdir => ("rmdir", &[Path(0)]),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink => ("unlink", &[Path(0)]),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_link => ("link", &[Path(1)]),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => ("rename", &[Path(0), Path(1)]),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_renameat => ("renameat", &[Path(1), Path(3)]),
            _ => return None,
        })
    }

    /// The call in words, if it changes something below one of these.
    fn changes(&self, task: Pid, below: &[PathBuf]) -> Option<String> {
        let (name, targets) = self.meaning()?;
        let path = |target: &Target| match target {
            Target::Handle(place) => std::fs::read_link(format!("/proc/{task}/fd/{}", self.argument(*place))).ok(),
            Target::Path(place) => path_at(task, self.argument(*place)),
        };
        let path = targets.iter().filter_map(path).find(|path| below.iter().any(|below| path.starts_with(below)))?;
        Some(format!("{name} {}", path.display()))
    }
}

/// The path that lies at an address of the child.
fn path_at(task: Pid, address: u64) -> Option<PathBuf> {
    let memory = File::open(format!("/proc/{task}/mem")).ok()?;
    let mut bytes = vec![0; PATH_BYTES];
    // What comes after the path may be nobody's memory: then less is read.
    let length = memory.read_at(&mut bytes, address).ok()?;
    let path = bytes.get(..length)?.split(|byte| *byte == 0).next()?;
    Some(PathBuf::from(String::from_utf8_lossy(path).into_owned()))
}
