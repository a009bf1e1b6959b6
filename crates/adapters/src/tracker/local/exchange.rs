//! Writing a file that somebody else may be saving at this moment.
//!
//! The new text is exchanged with the file in one step, and then what came out is looked at. If it is what was
//! read before, nobody saved in between. If not, it is put back at once and the edit begins anew with it. A
//! program that has the old file open for writing counts as saving. Writers of ours take turns by a lock on the folder.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dalsegno_core::Failure;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::merge::merge;
use super::record::{ReadProblem, read};
use super::text::Text;

/// How long an edit tries to get between the saves of somebody else.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before another try.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a half-saved file may take to become whole.
const HALF_SAVED: Duration = Duration::from_millis(500);
/// How our temporary files end. The part before it names the texts: `<old>-<new>`.
const SUFFIX: &str = ".dalsegno";

/// Why an edit could not be applied to a text.
pub(super) enum EditProblem {
    /// The text is not whole; it may be by the next look.
    HalfSaved(String),
    /// It never will be possible.
    Impossible(Failure),
}

/// An edit: the new text, or `None` when nothing is to be changed.
pub(super) type Edit<'a> = dyn Fn(&[u8]) -> Result<Option<Vec<u8>>, EditProblem> + 'a;

fn io_failure(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::retryable("tracker_request", format!("{doing} {} failed: {error}", path.display()))
        .hint("Look at the folder's permissions and at the free space of its disk.")
}

/// Takes the turn among our own writers to this folder; gives up after [`PATIENCE`].
pub(super) fn lock(dir: &Path) -> Result<Flock<fs::File>, Failure> {
    let mut file = fs::File::open(dir).map_err(|error| io_failure("opening", dir, &error))?;
    let until = Instant::now() + PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::errno::Errno::EWOULDBLOCK | nix::errno::Errno::EINTR)) if Instant::now() < until => {
                file = back;
                std::thread::sleep(PAUSE);
            }
            Err((_file, errno)) => return Err(io_failure("locking", dir, &errno.into())),
        }
    }
}

/// Applies `edit` to the file and answers its text afterwards. Nothing that anybody saves meanwhile is lost.
pub(super) fn update(path: &Path, edit: &Edit<'_>) -> Result<Vec<u8>, Failure> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(
            Failure::permanent("tracker_request", "the issue has no file").hint("Look at tracker.provider.path.")
        );
    };
    let _turn = lock(dir)?;
    recover(dir)?;
    let until = Instant::now() + PATIENCE;
    let mut half_since: Option<Instant> = None;
    let mut pause = PAUSE;
    let mut undone: Option<Undone> = None;
    while Instant::now() < until {
        let (old, meta) = match read(path) {
            Ok(found) => found,
            // An editor that removes and then renames: the name comes back.
            Err(ReadProblem::Gone) if half_since.get_or_insert_with(Instant::now).elapsed() < HALF_SAVED => {
                std::thread::sleep(PAUSE);
                continue;
            }
            Err(ReadProblem::Gone) => {
                return Err(Failure::retryable("tracker_request", format!("{} is gone", path.display()))
                    .hint("Put the file back, or cancel the issue."));
            }
            Err(ReadProblem::Unusable(why)) => {
                return Err(Failure::retryable("tracker_response", format!("{}: {why}", path.display()))
                    .hint("Make it a plain file that the daemon may read."));
            }
        };
        let new = match edit(&old) {
            Ok(Some(new)) => new,
            // It holds our edit although that was taken back: it was made from the text that stood there for an instant,
            // and lacks what was saved before.
            Ok(None) => match undone.take().and_then(|undone| undone.merged(&old, edit)) {
                Some(merged) if merged != old => merged,
                Some(_) | None => return Ok(old),
            },
            Err(EditProblem::HalfSaved(_)) if half_since.get_or_insert_with(Instant::now).elapsed() < HALF_SAVED => {
                std::thread::sleep(PAUSE);
                continue;
            }
            Err(EditProblem::HalfSaved(why)) => {
                return Err(Failure::retryable("tracker_response", format!("{}: {why}", path.display()))
                    .hint("Save the file as a whole, with `---` lines around its front matter."));
            }
            Err(EditProblem::Impossible(failure)) => return Err(failure),
        };
        half_since = None;
        let temp = dir.join(format!(".{name}.{}-{}{SUFFIX}", short_hash(&old), short_hash(&new)));
        write_temp(&temp, &new, &meta)?;
        if let Some(done) = swap(path, &temp, &old, new, edit, &mut undone)? {
            return Ok(done);
        }
        // Whoever read our text while it stood there gets time to save what they make of it.
        std::thread::sleep(if undone.is_some() { PAUSE * 10 } else { pause });
        pause = (pause * 2).min(PAUSE * 8);
    }
    Err(Failure::retryable(
        "tracker_request",
        format!("{} is being saved by somebody else all the time", path.display()),
    )
    .hint("Close the program that has the file open for writing."))
}

// One exchange. `None`: somebody saved in between, their text is back in place, and the edit is to begin anew.
fn swap(
    path: &Path,
    temp: &Path,
    old: &[u8],
    new: Vec<u8>,
    edit: &Edit<'_>,
    undone: &mut Option<Undone>,
) -> Result<Option<Vec<u8>>, Failure> {
    // A handle for syncing. The sync comes after the exchange, so that the time in which a save can come between is
    // short; the old text stays on disk until then, and `recover` puts it back if the new one did not make it.
    let written = fs::File::open(temp).map_err(|error| io_failure("opening", temp, &error))?;
    // A last look: whoever reads the file between an exchange and its undoing reads a text without the newest save.
    if !matches!(read(path), Ok((current, _)) if current == old) {
        discard(temp)?;
        return Ok(None);
    }
    match exchange(temp, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            discard(temp)?;
            return Ok(None);
        }
        Err(error) if unsupported(&error) => return replace(path, temp, &written, old, new),
        Err(error) => {
            discard(temp)?;
            return Err(io_failure("exchanging", path, &error));
        }
    }
    let names = [file_name(path), file_name(temp)];
    if let Ok((out, meta)) = read(temp)
        && out == old
        && !open_for_writing(&[&names[0], &names[1]], &meta)
        // Somebody may have opened the file by name just before the exchange; a second look settles it.
        && matches!(read(temp), Ok((again, _)) if again == old)
        && !open_for_writing(&[&names[0], &names[1]], &meta)
    {
        written.sync_all().map_err(|error| io_failure("syncing", path, &error))?;
        sync_dir(path)?;
        discard(temp)?;
        return Ok(Some(new));
    }
    if let Err(error) = exchange(temp, path) {
        if error.kind() == io::ErrorKind::NotFound {
            // The name is gone: what somebody saved must not go with it.
            fs::rename(temp, path).map_err(|error| io_failure("putting back", path, &error))?;
            return Ok(None);
        }
        return Err(io_failure("putting back", path, &error));
    }
    // What comes out now was ours. If somebody saved over it in that instant, both texts count.
    let meta = fs::symlink_metadata(temp).map_err(|error| io_failure("reading", temp, &error))?;
    let until = Instant::now() + Duration::from_secs(2);
    while open_for_writing(&[&names[0], &names[1]], &meta) && Instant::now() < until {
        std::thread::sleep(PAUSE);
    }
    let theirs = match read(temp) {
        Ok((bytes, _)) => bytes,
        Err(ReadProblem::Gone) => return Ok(None),
        Err(ReadProblem::Unusable(why)) => {
            return Err(Failure::retryable("tracker_response", format!("{}: {why}", temp.display()))
                .hint("Look at this file: it holds what somebody saved while the issue was edited."));
        }
    };
    if theirs == new {
        if let Ok((saved, _)) = read(path) {
            *undone = Some(Undone { ours: new, saved });
        }
        discard(temp)?;
        return Ok(None);
    }
    reconcile(path, temp, &new, &theirs, edit)
}

/// An exchange that was taken back.
struct Undone {
    ours: Vec<u8>,
    saved: Vec<u8>,
}

impl Undone {
    fn merged(self, current: &[u8], edit: &Edit<'_>) -> Option<Vec<u8>> {
        let edited = edit(&self.saved).ok()??;
        merge(&self.ours, &edited, current)
    }
}

// `theirs` was saved over our text, `path` holds a text that was saved before ours was taken back.
fn reconcile(
    path: &Path,
    temp: &Path,
    ours: &[u8],
    theirs: &[u8],
    edit: &Edit<'_>,
) -> Result<Option<Vec<u8>>, Failure> {
    let current = match read(path) {
        Ok((bytes, _)) => bytes,
        Err(ReadProblem::Gone | ReadProblem::Unusable(_)) => Vec::new(),
    };
    let edited = match edit(&current) {
        Ok(Some(edited)) => edited,
        Ok(None) | Err(_) => current.clone(),
    };
    let merged = merge(ours, &edited, theirs);
    let meta = fs::symlink_metadata(temp).map_err(|error| io_failure("reading", temp, &error))?;
    if let Some(merged) = merged {
        let dir = path.parent().unwrap_or(Path::new("."));
        let next = dir.join(format!(".{}.{}-{}{SUFFIX}", file_name(path), short_hash(&current), short_hash(&merged)));
        write_temp(&next, &merged, &meta)?;
        fs::File::open(&next).and_then(|file| file.sync_all()).map_err(|error| io_failure("syncing", &next, &error))?;
        exchange(&next, path).map_err(|error| io_failure("exchanging", path, &error))?;
        match read(&next) {
            Ok((out, _)) if out == current => {
                discard(&next)?;
                discard(temp)?;
                return Ok(None);
            }
            Ok(_) | Err(_) => {
                // A third save within the same instant: it stays, and the merged text is kept beside it.
                exchange(&next, path).map_err(|error| io_failure("putting back", path, &error))?;
                keep_aside(path, &next)?;
            }
        }
    }
    keep_aside(path, temp)?;
    Ok(None)
}

// Where the system cannot exchange two files, a short time remains in which a save would be lost.
fn replace(path: &Path, temp: &Path, written: &fs::File, old: &[u8], new: Vec<u8>) -> Result<Option<Vec<u8>>, Failure> {
    written.sync_all().map_err(|error| io_failure("syncing", temp, &error))?;
    match read(path) {
        Ok((current, _)) if current == old => {
            fs::rename(temp, path).map_err(|error| io_failure("replacing", path, &error))?;
            sync_dir(path)?;
            Ok(Some(new))
        }
        Ok(_) | Err(_) => {
            discard(temp)?;
            Ok(None)
        }
    }
}

fn keep_aside(path: &Path, temp: &Path) -> Result<(), Failure> {
    let bytes = fs::read(temp).unwrap_or_default();
    let aside = path.with_file_name(format!("{}.conflict-{}", file_name(path), short_hash(&bytes)));
    fs::rename(temp, &aside).map_err(|error| io_failure("keeping", &aside, &error))?;
    tracing::warn!(file = %aside.display(), "two versions of an issue file could not be merged; one is kept beside it");
    Ok(())
}

/// Finishes what killed processes left of their edits. A folder that is not there has none.
pub(super) fn finish(dir: &Path) -> Result<(), Failure> {
    if !dir.exists() {
        return Ok(());
    }
    let _turn = lock(dir)?;
    recover(dir)
}

/// Finishes what a killed process left between an exchange and the look at what came out. Needs the lock.
fn recover(dir: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(dir).map_err(|error| io_failure("reading", dir, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| io_failure("reading", dir, &error))?;
        let Some(left) = entry.file_name().to_str().and_then(Leftover::parse) else { continue };
        let temp = entry.path();
        let Ok((bytes, _)) = read(&temp) else { continue };
        let hash = short_hash(&bytes);
        let path = dir.join(&left.name);
        if hash == left.old && matches!(read(&path), Ok((current, _)) if Text::parse(&current).is_err()) {
            // The machine stopped before the new text was on disk.
            exchange(&temp, &path).map_err(|error| io_failure("putting back", &path, &error))?;
            keep_aside(&path, &temp)?;
            continue;
        }
        if hash == left.new || hash == left.old {
            discard(&temp)?;
            continue;
        }
        // It holds what somebody saved just before. Back in place, unless the file went on since.
        let ours = matches!(read(&path), Ok((current, _)) if short_hash(&current) == left.new);
        if ours && exchange(&temp, &path).is_ok() {
            tracing::warn!(file = %path.display(), "an interrupted edit was taken back; somebody had saved the file meanwhile");
            discard(&temp)?;
        } else {
            keep_aside(&path, &temp)?;
        }
    }
    Ok(())
}

struct Leftover {
    name: String,
    old: String,
    new: String,
}

impl Leftover {
    fn parse(file: &str) -> Option<Self> {
        let (name, hashes) = file.strip_prefix('.')?.strip_suffix(SUFFIX)?.rsplit_once('.')?;
        let (old, new) = hashes.split_once('-')?;
        Some(Self { name: name.to_owned(), old: old.to_owned(), new: new.to_owned() })
    }
}

fn short_hash(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..8])
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn write_temp(temp: &Path, bytes: &[u8], like: &fs::Metadata) -> Result<(), Failure> {
    let written = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(temp)?;
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o777))
    };
    written().map_err(|error| {
        // What is there of it is of no use; the error that matters is the first.
        let _ignored = fs::remove_file(temp);
        io_failure("writing", temp, &error)
    })
}

fn discard(temp: &Path) -> Result<(), Failure> {
    match fs::remove_file(temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_failure("removing", temp, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_dir(file: &Path) -> Result<(), Failure> {
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| io_failure("syncing", dir, &error))
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE).map_err(io::Error::from)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn exchange(_a: &Path, _b: &Path) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

fn unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::ENOSYS | nix::libc::ENOTSUP))
}

/// Whether a process that we may look into has this very file open for writing. `names`: what it may be called.
fn open_for_writing(names: &[&str], meta: &fs::Metadata) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        let process = process.path();
        let numeric = process.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
        numeric && process_writes(&process, names, meta)
    })
}

fn process_writes(process: &Path, names: &[&str], meta: &fs::Metadata) -> bool {
    let Ok(handles) = fs::read_dir(process.join("fd")) else { return false };
    handles.flatten().any(|handle| {
        // By name first: asking every open file for its identity could wait on a dead network disk.
        let path: PathBuf = handle.path();
        let Ok(target) = fs::read_link(&path) else { return false };
        let target = file_name(&target);
        let target = target.strip_suffix(" (deleted)").unwrap_or(&target);
        names.contains(&target)
            && fs::metadata(&path).is_ok_and(|found| (found.dev(), found.ino()) == (meta.dev(), meta.ino()))
            && may_write(&process.join("fdinfo").join(handle.file_name()))
    })
}

fn may_write(info: &Path) -> bool {
    let Ok(text) = fs::read_to_string(info) else { return false };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 0o3 != 0)
}
