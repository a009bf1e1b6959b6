//! What is no plain file or directory in a git directory. git writes through links, which may lead anywhere, and waits
//! at pipes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Directories that are looked into, at most: a repository with more loose refs has other worries.
const MAX_DIRECTORIES: usize = 10_000;

/// Why the git directory is refused: something in it that git writes or takes objects from is a link.
pub(super) fn refused(git_dir: &Path) -> io::Result<Option<&'static str>> {
    for name in ["HEAD", "config", "index", "packed-refs", "info", "refs", "logs", "objects"] {
        match fs::symlink_metadata(git_dir.join(name)) {
            Ok(meta) if !meta.is_file() && !meta.is_dir() => {
                return Ok(Some("its git directory has links or pipes in it"));
            }
            Ok(_) | Err(_) => {}
        }
    }
    // Of the objects the first level will do: below it are files alone.
    if holds_odd(&git_dir.join("objects"), &mut Vec::new())? {
        return Ok(Some("its objects are behind links"));
    }
    let mut open: Vec<PathBuf> = vec![git_dir.join("refs"), git_dir.join("logs")];
    let mut looked = 0;
    while let Some(dir) = open.pop() {
        looked += 1;
        if looked > MAX_DIRECTORIES {
            return Ok(Some("it has more refs than can be looked through"));
        }
        if holds_odd(&dir, &mut open)? {
            return Ok(Some("its refs are links or pipes"));
        }
    }
    Ok(None)
}

/// Whether something is directly in the directory that is neither file nor directory; adds its directories to `found`.
fn holds_odd(dir: &Path, found: &mut Vec<PathBuf>) -> io::Result<bool> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.push(entry.path());
        } else if !kind.is_file() {
            return Ok(true);
        }
    }
    Ok(false)
}
