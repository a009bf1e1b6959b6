//! The paths that a directory has: a bind mount shows it in more than one place.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A line of proc_pid_mountinfo(5).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    device: String,
    /// What of its file system is mounted.
    root: PathBuf,
    point: PathBuf,
}

/// Every other path by which `path` (resolved) or something in it is reached.
pub(super) fn other_paths(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mounts = parse(&fs::read("/proc/self/mountinfo")?);
    let mut others = candidates(&mounts, path);
    let own = fs::metadata(path)?;
    others.retain(|(other, whole)| match fs::metadata(other) {
        // Something else may lie on top of it there.
        Ok(meta) => !whole || (meta.dev(), meta.ino()) == (own.dev(), own.ino()),
        Err(_) => false,
    });
    Ok(others.into_iter().map(|(other, _)| other).collect())
}

/// Paths by the mounts alone; `true`: the path itself, `false`: a part of it.
fn candidates(mounts: &[Mount], path: &Path) -> Vec<(PathBuf, bool)> {
    // Of two mounts on one point the later one is seen.
    let Some(home) = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .reduce(|best, mount| if mount.point.as_os_str().len() >= best.point.as_os_str().len() { mount } else { best })
    else {
        return Vec::new();
    };
    let Ok(rest) = path.strip_prefix(&home.point) else { return Vec::new() };
    let inside = join(&home.root, rest);
    let mut found = Vec::new();
    for mount in mounts.iter().filter(|mount| mount.device == home.device) {
        let other = if let Ok(rest) = inside.strip_prefix(&mount.root) {
            (join(&mount.point, rest), true)
        } else if mount.root.starts_with(&inside) {
            (mount.point.clone(), false)
        } else {
            continue;
        };
        if !other.0.starts_with(path) && !found.contains(&other) {
            found.push(other);
        }
    }
    found
}

/// Without the slash that an empty rest would leave.
fn join(path: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { path.to_owned() } else { path.join(rest) }
}

fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ').skip(2);
            let device = String::from_utf8_lossy(fields.next()?).into_owned();
            Some(Mount { device, root: unescape(fields.next()?), point: unescape(fields.next()?) })
        })
        .collect()
}

/// Blanks, tabs, line ends and backslashes are written as `\ooo`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

/// Reads what passes for the table of mounts.
pub(super) fn foreign(bytes: &[u8]) {
    drop(candidates(&parse(bytes), Path::new("/srv/p")));
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    const TABLE: &[u8] = b"21 1 8:1 / / rw - ext4 /dev/a rw\n\
        22 21 8:2 /home /home rw - ext4 /dev/b rw\n\
        23 21 8:2 / /mnt/all rw - ext4 /dev/b rw\n\
        24 21 8:2 /home/ann/p/.state/repos /srv/a\\040b rw - ext4 /dev/b rw\n\
        25 21 8:2 /home/bob /srv/bob rw - ext4 /dev/b rw\n\
        26 21 8:3 / /srv/other rw - ext4 /dev/c rw\n";

    #[test]
    fn a_directory_is_found_in_every_mount_that_shows_it_or_a_part_of_it() {
        let found = candidates(&parse(TABLE), Path::new("/home/ann/p/.state"));
        let expected = [(PathBuf::from("/mnt/all/home/ann/p/.state"), true), (PathBuf::from("/srv/a b"), false)];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_lies_in_one_mount_alone_has_no_other_path() {
        assert_eq!(candidates(&parse(TABLE), Path::new("/srv/other/x")), []);
    }

    #[test]
    fn the_table_of_this_machine_is_read() {
        let root = parse(&fs::read("/proc/self/mountinfo").unwrap_or_default());
        assert!(root.iter().any(|mount| mount.point == Path::new("/")), "{root:?}");
        assert_eq!(unescape(b"a\\134\\0b").as_os_str().as_bytes(), b"a\\\\0b");
    }
}
