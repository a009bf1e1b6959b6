//! Lock files that a killed git leaves behind: `index.lock`, `HEAD.lock`, and those below `refs/`.

use std::ffi::OsString;
use std::io;

use super::held::Held;
use super::layout::Layout;

/// Directories below `refs/` that are looked into, at most: a repository with more has other worries.
const DIRECTORIES: usize = 10_000;

/// Removes git's lock files from the git directory of a workspace. Follows no symbolic link: it belongs to an agent, and a
/// link may lead anywhere. With `branch` it is one of a shared repository, of which that branch alone is looked at as well.
pub(super) fn remove_locks(layout: &Layout, branch: Option<&str>) -> io::Result<()> {
    let opened = match layout.hold() {
        Ok(opened) => opened,
        // No repository, or none of ours to tidy.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => return Ok(()),
        Err(error) => return Err(error),
    };
    remove_in(&opened.git_dir)?;
    if let Some(branch) = branch {
        return remove_of_branch(&opened.common, branch);
    }
    let mut folders: Vec<Held> = opened.git_dir.sub("refs").into_iter().collect();
    let mut looked = 0;
    while let Some(folder) = folders.pop() {
        looked += 1;
        if looked > DIRECTORIES {
            break;
        }
        for name in remove_in(&folder)? {
            // One that is a link by now does not count.
            if let Ok(below) = folder.sub(&name) {
                folders.push(below);
            }
        }
    }
    Ok(())
}

fn remove_of_branch(common: &Held, branch: &str) -> io::Result<()> {
    let (parents, name) = branch.rsplit_once('/').unwrap_or(("", branch));
    let mut folder = common.sub("refs")?.sub("heads")?;
    for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
        match folder.sub(parent) {
            Ok(below) => folder = below,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    folder.remove(format!("{name}.lock"))
}

/// Removes the lock files directly in `folder`; answers the names of its folders.
fn remove_in(folder: &Held) -> io::Result<Vec<OsString>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder.path())? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            folders.push(entry.file_name());
        } else if kind.is_file() && entry.file_name().as_encoded_bytes().ends_with(b".lock") {
            folder.remove(entry.file_name())?;
        }
    }
    Ok(folders)
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
        let layout = |work: &std::path::Path| Layout { git_dir: work.join(".git"), common: work.join(".git") };
        remove_locks(&layout(&work), None).unwrap();
        assert!(!work.join(".git/index.lock").exists() && !work.join(".git/refs/heads/dalsegno/DS-1.lock").exists());
        assert!(work.join(".git/index").exists() && work.join("package.lock").exists());
        assert!(outside.join("precious.lock").exists());
        remove_locks(&layout(dir.path()), None).unwrap();
        std::os::unix::fs::symlink(&outside, dir.path().join(".git")).unwrap();
        remove_locks(&layout(dir.path()), None).unwrap();
        assert!(outside.join("precious.lock").exists());
    }
}
