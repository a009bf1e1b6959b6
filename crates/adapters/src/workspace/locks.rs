//! Lock files that a killed git leaves behind: `index.lock`, `HEAD.lock`, and those below `refs/`.

use std::io;
use std::path::{Path, PathBuf};

/// Directories below `refs/` that are looked into, at most: a repository with more has other worries.
const DIRECTORIES: usize = 10_000;

/// Removes git's lock files from a git directory. Follows no symbolic link: it belongs to an agent, and a link may lead
/// anywhere. With `branch` it is one of a shared repository, of which that branch alone is looked at as well.
pub(super) fn remove_locks(repository: &Path, branch: Option<&str>) -> io::Result<()> {
    if !is_directory(repository) {
        return Ok(());
    }
    remove_in(repository)?;
    if let Some(branch) = branch {
        let common = repository.ancestors().nth(2).unwrap_or(repository);
        let lock = common.join("refs/heads").join(format!("{branch}.lock"));
        // What leads there is looked at when the workspace is opened, and a lock by that name is nothing else.
        return match std::fs::remove_file(lock) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
    }
    let mut folders = vec![repository.join("refs")];
    let mut looked = 0;
    while let Some(folder) = folders.pop() {
        looked += 1;
        if looked > DIRECTORIES || !is_directory(&folder) {
            continue;
        }
        folders.extend(remove_in(&folder)?);
    }
    Ok(())
}

/// Removes the lock files directly in `folder`; answers its folders.
fn remove_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            folders.push(entry.path());
        } else if kind.is_file() && entry.file_name().as_encoded_bytes().ends_with(b".lock") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(folders)
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use std::fs;

    use super::*;

    #[test]
    fn locks_go_and_nothing_else_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (work, outside) = (dir.path().join("work"), dir.path().join("outside"));
        fs::create_dir_all(work.join(".git/refs/heads/dalsegno")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        for file in [".git/index.lock", ".git/index", ".git/refs/heads/dalsegno/DS-1.lock", "package.lock"] {
            fs::write(work.join(file), "x").unwrap();
        }
        fs::write(outside.join("precious.lock"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, work.join(".git/refs/away")).unwrap();
        remove_locks(&work.join(".git"), None).unwrap();
        assert!(!work.join(".git/index.lock").exists() && !work.join(".git/refs/heads/dalsegno/DS-1.lock").exists());
        assert!(work.join(".git/index").exists() && work.join("package.lock").exists());
        assert!(outside.join("precious.lock").exists());
        remove_locks(&dir.path().join(".git"), None).unwrap();
    }
}
