//! System calls as they stand in the registers of a stopped thread: which one it is, how it is taken away, and how it fails.

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{Call, Process};

#[cfg(target_arch = "x86_64")]
mod known {
    use nix::errno::Errno;
    use nix::libc::{self, c_long, user_regs_struct};
    use nix::sys::ptrace::{getregs, setregs};
    use nix::unistd::Pid;

    use super::Kind;

    pub(super) const ARE_KNOWN: bool = true;
    pub(in crate::calls) type Registers = user_regs_struct;

    pub(super) fn read(pid: Pid) -> nix::Result<Registers> {
        getregs(pid)
    }

    pub(super) fn number_and_arguments(registers: &Registers) -> (c_long, [u64; 4]) {
        let number = c_long::try_from(registers.orig_rax).unwrap_or(-1);
        (number, [registers.rdi, registers.rsi, registers.rdx, registers.r10])
    }

    /// There is no call of this number, so the system does nothing.
    pub(super) fn take_away(pid: Pid, registers: &Registers) -> nix::Result<()> {
        setregs(pid, Registers { orig_rax: u64::MAX, ..*registers })
    }

    pub(super) fn fail(pid: Pid, errno: Errno) -> nix::Result<()> {
        let registers = getregs(pid)?;
        setregs(pid, Registers { rax: (-i64::from(errno as i32)).cast_unsigned(), ..registers })
    }

    /// Calls that only this processor has.
    pub(super) fn kind(number: c_long) -> Option<Kind> {
        Some(match number {
            libc::SYS_open => Kind::Open { directory: None, path: 0, flags: 1 },
            libc::SYS_creat => Kind::Path("open", None, 0),
            libc::SYS_rename => Kind::Path("rename", None, 1),
            libc::SYS_unlink => Kind::Path("unlink", None, 0),
            libc::SYS_rmdir => Kind::Path("rmdir", None, 0),
            libc::SYS_mkdir => Kind::Path("mkdir", None, 0),
            libc::SYS_link => Kind::Path("link", None, 1),
            libc::SYS_chmod => Kind::Path("chmod", None, 0),
            _ => return None,
        })
    }
}

/// A processor whose registers nobody wrote down here: nothing can be traced.
#[cfg(not(target_arch = "x86_64"))]
mod known {
    use nix::errno::Errno;
    use nix::libc::c_long;
    use nix::unistd::Pid;

    use super::Kind;

    pub(super) const ARE_KNOWN: bool = false;

    #[derive(Clone, Copy)]
    pub(in crate::calls) struct Registers;

    pub(super) fn read(_: Pid) -> nix::Result<Registers> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn number_and_arguments(_: &Registers) -> (c_long, [u64; 4]) {
        (-1, [0; 4])
    }

    pub(super) fn take_away(_: Pid, _: &Registers) -> nix::Result<()> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn fail(_: Pid, _: Errno) -> nix::Result<()> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn kind(_: c_long) -> Option<Kind> {
        None
    }
}

pub(super) const ARE_KNOWN: bool = known::ARE_KNOWN;
pub(super) use known::Registers;

/// Where a call has its file, by the places of its arguments.
enum Kind {
    /// A descriptor.
    File(&'static str, usize),
    /// A path, from a directory on if that is an argument.
    Path(&'static str, Option<usize>, usize),
    /// The same, with flags that say whether it is for writing.
    Open { directory: Option<usize>, path: usize, flags: usize },
}

/// The registers of a stopped thread.
pub(super) fn read(pid: Pid) -> nix::Result<Registers> {
    known::read(pid)
}

/// The call that a thread stands before, if it changes a file.
pub(super) fn call(registers: &Registers, process: &Process) -> Option<Call> {
    use nix::libc;

    let (number, arguments) = known::number_and_arguments(registers);
    let kind = match number {
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_pwritev | libc::SYS_pwritev2 => {
            Kind::File("write", 0)
        }
        libc::SYS_sendfile => Kind::File("write", 0),
        libc::SYS_copy_file_range => Kind::File("write", 2),
        libc::SYS_fdatasync => Kind::File("fdatasync", 0),
        libc::SYS_fsync => Kind::File("fsync", 0),
        libc::SYS_ftruncate => Kind::File("ftruncate", 0),
        libc::SYS_fallocate => Kind::File("fallocate", 0),
        libc::SYS_fchmod => Kind::File("chmod", 0),
        libc::SYS_openat => Kind::Open { directory: Some(0), path: 1, flags: 2 },
        libc::SYS_renameat | libc::SYS_renameat2 => Kind::Path("rename", Some(2), 3),
        libc::SYS_linkat => Kind::Path("link", Some(2), 3),
        libc::SYS_unlinkat => Kind::Path("unlink", Some(0), 1),
        libc::SYS_mkdirat => Kind::Path("mkdir", Some(0), 1),
        libc::SYS_fchmodat => Kind::Path("chmod", Some(0), 1),
        other => known::kind(other)?,
    };
    let argument = |place: usize| arguments.get(place).copied();
    let (name, path) = match kind {
        Kind::File(name, place) => (name, process.file(argument(place)?)?),
        Kind::Path(name, directory, place) => (name, process.path(directory.and_then(argument), argument(place)?)?),
        Kind::Open { directory, path, flags } => {
            let writes = u64::from((libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC).unsigned_abs());
            if argument(flags)? & writes == 0 {
                return None;
            }
            ("open", process.path(directory.and_then(argument), argument(path)?)?)
        }
    };
    Some(Call { name, path })
}

/// Has the system do nothing for the call that a thread stands before.
pub(super) fn take_away(pid: Pid, registers: &Registers) -> nix::Result<()> {
    known::take_away(pid, registers)
}

/// Has a call that was taken away end with this.
pub(super) fn fail(pid: Pid, errno: Errno) -> nix::Result<()> {
    known::fail(pid, errno)
}
