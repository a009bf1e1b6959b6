//! What git says of a change, taken apart: the list of files with their lines, and the text of each.

use std::collections::BTreeMap;

use dalsegno_engine::{FileChange, FileStatus};

/// Of the patch of one file so much is kept.
const MAX_FILE_PATCH_BYTES: usize = 128 * 1024;
/// What the patch of each file begins with. No line of a content does: those begin with one of ` +-\@`.
const HEADER: &[u8] = b"diff --git ";

/// A file as `--raw` names it.
struct Raw<'a> {
    status: FileStatus,
    same_mode: bool,
    old: &'a [u8],
    new: &'a [u8],
}

/// The files of a change, from the answer to `--raw --numstat -z` and the patch; `cut`: the patch goes on.
pub(super) fn files(listed: &[u8], patch: &[u8], cut: bool) -> Vec<FileChange> {
    let (raws, lines) = list(listed);
    let mut sections = sections(patch).into_iter().peekable();
    let mut files: Vec<FileChange> = Vec::new();
    for raw in raws {
        let section = sections.next_if(|section| section.starts_with(&header(raw.old, raw.new)));
        let lines = lines.get(&(raw.old, raw.new)).copied();
        // The last section of a patch that was cut may be cut itself, and what follows is missing.
        let last = sections.peek().is_none() && cut;
        let untouched = raw.status == FileStatus::Modified
            && raw.same_mode
            && !matches!(lines, Some(Lines::Text(1.., _) | Lines::Text(_, 1..)));
        if section.is_none() && !last && untouched {
            // Its time changed, and nothing else.
            continue;
        }
        files.push(file(&raw, lines, section, last));
    }
    files
}

/// The names of `--name-status -z`, and what became of them.
pub(super) fn named(listed: &[u8]) -> Vec<(Vec<u8>, FileStatus)> {
    let mut fields = listed.split(|byte| *byte == 0);
    let mut named: Vec<(Vec<u8>, FileStatus)> = Vec::new();
    while let (Some(letter), Some(name)) = (fields.next(), fields.next()) {
        named.push((name.to_vec(), status(letter)));
    }
    named
}

fn status(letter: &[u8]) -> FileStatus {
    match letter.first() {
        Some(b'A' | b'C') => FileStatus::Added,
        Some(b'D') => FileStatus::Deleted,
        Some(b'R') => FileStatus::Renamed,
        Some(b'T') => FileStatus::TypeChanged,
        Some(_) | None => FileStatus::Modified,
    }
}

/// A file that was not read.
pub(super) fn unread(name: &[u8], status: FileStatus) -> FileChange {
    FileChange {
        path: text(name),
        old_path: None,
        status,
        additions: None,
        deletions: None,
        binary: false,
        truncated: true,
        patch: None,
    }
}

fn file(raw: &Raw<'_>, lines: Option<Lines>, section: Option<&[u8]>, last: bool) -> FileChange {
    let (binary, additions, deletions) = match lines {
        Some(Lines::Text(added, deleted)) => (false, Some(added), Some(deleted)),
        Some(Lines::Binary) => (true, None, None),
        None => (false, None, None),
    };
    let kept = section.filter(|_| !binary).map(bounded);
    let cut = kept.is_some_and(|kept| section.is_some_and(|whole| kept.len() < whole.len()));
    FileChange {
        path: text(raw.new),
        old_path: (raw.old != raw.new).then(|| text(raw.old)),
        status: raw.status,
        additions,
        deletions,
        binary,
        truncated: cut || (last && !binary),
        patch: kept.map(text),
    }
}

/// Lines of a file that came and went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lines {
    Text(u64, u64),
    Binary,
}

/// Lines by old and new name.
type Counts<'a> = BTreeMap<(&'a [u8], &'a [u8]), Lines>;

/// Takes `--raw --numstat -z` apart: first all records of the one, then all of the other.
fn list(listed: &[u8]) -> (Vec<Raw<'_>>, Counts<'_>) {
    let (mut raws, mut lines) = (Vec::new(), BTreeMap::new());
    let mut fields = listed.split(|byte| *byte == 0);
    while let Some(field) = fields.next() {
        if let Some(raw) = field.strip_prefix(b":") {
            let words: Vec<&[u8]> = raw.split(|byte| *byte == b' ').collect();
            let letter = words.get(4).copied().unwrap_or_default();
            let Some(old) = fields.next() else { break };
            let (old, new) = match letter.first() {
                Some(b'R') => (old, fields.next().unwrap_or(old)),
                Some(_) | None => (old, old),
            };
            let status = status(letter);
            raws.push(Raw { status, same_mode: words.first() == words.get(1), old, new });
        } else if !field.is_empty() {
            let mut columns = field.splitn(3, |byte| *byte == b'\t');
            let (added, deleted) = (columns.next().and_then(number), columns.next().and_then(number));
            let count = added.zip(deleted).map_or(Lines::Binary, |(added, deleted)| Lines::Text(added, deleted));
            let names = match columns.next() {
                Some(name) if !name.is_empty() => Some((name, name)),
                // Renamed: the names follow.
                Some(_) | None => fields.next().zip(fields.next()),
            };
            if let Some(names) = names {
                lines.insert(names, count);
            }
        }
    }
    (raws, lines)
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The patch, file by file.
fn sections(patch: &[u8]) -> Vec<&[u8]> {
    let begins = |at: &usize| patch.get(*at..).is_some_and(|rest| rest.starts_with(HEADER));
    let starts: Vec<usize> = line_starts(patch).filter(begins).collect();
    let ends = starts.iter().skip(1).copied().chain([patch.len()]);
    starts.iter().zip(ends).filter_map(|(start, end)| patch.get(*start..end)).collect()
}

fn line_starts(text: &[u8]) -> impl Iterator<Item = usize> {
    let after = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(after)
}

/// The first line of a file's patch.
fn header(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut line = HEADER.to_vec();
    line.extend(quoted(b"a/", old));
    line.push(b' ');
    line.extend(quoted(b"b/", new));
    line.push(b'\n');
    line
}

/// A name as git writes it with `core.quotePath=false`.
fn quoted(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    if !name.iter().any(|byte| matches!(byte, 0..=31 | 127 | b'"' | b'\\')) {
        return [prefix, name].concat();
    }
    let mut out = vec![b'"'];
    out.extend_from_slice(prefix);
    for byte in name {
        match byte {
            7 => out.extend_from_slice(b"\\a"),
            8 => out.extend_from_slice(b"\\b"),
            9 => out.extend_from_slice(b"\\t"),
            10 => out.extend_from_slice(b"\\n"),
            11 => out.extend_from_slice(b"\\v"),
            12 => out.extend_from_slice(b"\\f"),
            13 => out.extend_from_slice(b"\\r"),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0..=31 | 127 => out.extend(format!("\\{byte:03o}").bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
    out
}

/// At most so much, up to the end of a line if there is one.
fn bounded(section: &[u8]) -> &[u8] {
    let Some(head) = section.get(..MAX_FILE_PATCH_BYTES).filter(|head| head.len() < section.len()) else {
        return section;
    };
    let end = head.iter().rposition(|byte| *byte == b'\n').map_or(head.len(), |at| at + 1);
    head.get(..end).unwrap_or(head)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads what passes for git's list of changed files, up to a byte that is in no UTF-8, and behind it the patch.
pub(crate) fn foreign(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0xff);
    let (listed, patch) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    drop(named(listed));
    drop(files(listed, patch, false));
    drop(files(listed, patch, true));
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &str = ":100644 100644 a b M\0a b\0:100644 100644 a b R90\0old\nname\0n\"ew\0:000000 100644 0 b A\0bin\0\
                       :100644 100644 a 0 M\0touched\0:100644 100755 a 0 M\0mode\0";
    const NUMBERS: &str = "1\t2\ta b\x003\t0\t\0old\nname\0n\"ew\0-\t-\tbin\x000\t0\ttouched\x000\t0\tmode\0";
    const PATCH: &str = "diff --git a/a b b/a b\n@@\n-x\n-y\n+diff --git a/fake b/fake\n\
                         diff --git \"a/old\\nname\" \"b/n\\\"ew\"\n@@\n+1\n+2\n+3\n\
                         diff --git a/bin b/bin\nBinary files differ\ndiff --git a/mode b/mode\nold mode 100644\n";

    #[test]
    fn each_file_gets_its_own_part_of_the_patch() {
        let files = files(format!("{RAW}{NUMBERS}").as_bytes(), PATCH.as_bytes(), false);
        let told: Vec<_> = files
            .iter()
            .map(|file| (file.path.as_str(), file.status.as_str(), file.additions, file.deletions))
            .collect();
        assert_eq!(
            told,
            [
                ("a b", "modified", Some(1), Some(2)),
                ("n\"ew", "renamed", Some(3), Some(0)),
                ("bin", "added", None, None),
                ("mode", "modified", Some(0), Some(0)),
            ],
            "what was only touched is no change"
        );
        let patch = |at: usize| files.get(at).and_then(|file| file.patch.as_deref());
        assert!(patch(0).is_some_and(|patch| patch.ends_with("+diff --git a/fake b/fake\n")));
        assert!(patch(1).is_some_and(|patch| patch.ends_with("+3\n")));
        assert_eq!(patch(2), None);
        assert_eq!(files.get(1).and_then(|file| file.old_path.as_deref()), Some("old\nname"));
        assert!(files.iter().all(|file| !file.truncated));
    }

    #[test]
    fn what_a_cut_patch_does_not_reach_is_told_and_not_left_out() {
        let cut = &PATCH.as_bytes()[..PATCH.find("+2").unwrap_or_default()];
        let files = files(format!("{RAW}{NUMBERS}").as_bytes(), cut, true);
        let told: Vec<_> =
            files.iter().map(|file| (file.path.as_str(), file.truncated, file.patch.is_some())).collect();
        assert_eq!(
            told,
            [
                ("a b", false, true),
                ("n\"ew", true, true),
                ("bin", false, false),
                ("touched", true, false),
                ("mode", true, false)
            ]
        );
    }

    #[test]
    fn the_patch_of_one_file_is_bounded_at_the_end_of_a_line() {
        let line = format!("+{}\n", "x".repeat(998));
        let patch = format!("diff --git a/f b/f\n{}", line.repeat(1_000));
        let files = files(b":100644 100644 a b M\0f\x001000\t0\tf\0", patch.as_bytes(), false);
        let kept = files.first().and_then(|file| file.patch.as_deref()).unwrap_or_default();
        assert!(kept.len() <= MAX_FILE_PATCH_BYTES && kept.ends_with("x\n") && files.iter().all(|file| file.truncated));
    }
}
