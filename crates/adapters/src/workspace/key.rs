//! Names for directories, branches and repositories, made from text that others wrote.

use sha2::{Digest as _, Sha256};

/// Room for the suffixes that lock files, markers and kept copies add, below the 255 bytes of a file name.
const MAX_KEY_BYTES: usize = 120;
/// A branch is a path below `refs/heads/`; long ones break on file systems, and nobody reads them.
const MAX_BRANCH_BYTES: usize = 200;
/// 64 bits.
const HASH_DIGITS: usize = 16;
/// Between the name of a workspace and the number of a copy that was moved aside.
pub(super) const KEPT: &str = ".kept-";

/// The directory name of an issue's workspace (Symphony §4.2, §9.5 invariant 3).
///
/// An identifier of `[A-Za-z0-9._-]` is its own key. Anything else gets a hash of the original as a suffix, and so
/// does an identifier that looks like the key of another, or like something of ours.
#[must_use]
pub fn workspace_key(identifier: &str) -> String {
    let clean: String = identifier.chars().map(|c| if is_key_char(c) { c } else { '_' }).collect();
    let stands = clean == identifier
        && !clean.is_empty()
        && clean.len() <= MAX_KEY_BYTES
        && !clean.starts_with(['.', '-'])
        && !has_hash_suffix(&clean)
        && !has_kept_suffix(&clean);
    if stands {
        return clean;
    }
    let body: String = clean.trim_start_matches(['.', '-']).chars().take(MAX_KEY_BYTES - HASH_DIGITS - 1).collect();
    let body = if body.is_empty() { "_".to_owned() } else { body };
    format!("{body}-{}", hash(identifier))
}

/// A branch name that git takes, made from a rendered template. Unchanged if it already is one, else with a hash of
/// the original.
#[must_use]
pub fn branch_name(rendered: &str) -> String {
    let rendered = rendered.trim();
    let clean: Vec<String> = rendered.split('/').map(branch_component).filter(|part| !part.is_empty()).collect();
    let clean = clean.join("/");
    if clean == rendered && !clean.is_empty() && clean.len() <= MAX_BRANCH_BYTES && clean != "HEAD" {
        return clean;
    }
    let body: String = clean.chars().take(MAX_BRANCH_BYTES - HASH_DIGITS - 1).collect();
    let body = if body.is_empty() { "issue".to_owned() } else { body };
    let body = body.trim_end_matches(['/', '.']);
    format!("{body}-{}", hash(rendered))
}

/// git-check-ref-format(1), more narrowly: a component of `[A-Za-z0-9._-]` without a dot in front or behind, without
/// two dots in a row, and not ending in `.lock`.
fn branch_component(part: &str) -> String {
    let mut clean: String = part.chars().map(|c| if is_key_char(c) { c } else { '_' }).collect();
    while clean.contains("..") {
        clean = clean.replace("..", ".");
    }
    let mut clean = clean.trim_matches('.').trim_start_matches('-').to_owned();
    while let Some(short) = clean.strip_suffix(".lock") {
        clean = short.trim_end_matches('.').to_owned();
    }
    clean
}

/// The directory name of the daemon's own repository for a remote: readable, and one for each remote.
pub(super) fn repository_key(remote: &str) -> String {
    let last = remote.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    let last = last.strip_suffix(".git").unwrap_or(last);
    let name: String = last.chars().map(|c| if is_key_char(c) { c } else { '_' }).take(40).collect();
    let name = name.trim_start_matches(['.', '-']);
    format!("{}-{}", if name.is_empty() { "repository" } else { name }, hash(remote))
}

fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn has_hash_suffix(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == HASH_DIGITS && end.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn has_kept_suffix(name: &str) -> bool {
    name.rsplit_once(KEPT).is_some_and(|(_, end)| end.bytes().all(|b| b.is_ascii_digit()))
}

fn hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..HASH_DIGITS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symphony_17_2_an_identifier_that_needs_no_change_is_its_own_key() {
        for identifier in ["DS-1", "abc", "A.b_c-9", "x..y", "a.kept", "9"] {
            assert_eq!(workspace_key(identifier), identifier);
        }
    }

    #[test]
    fn symphony_17_2_identifiers_that_sanitise_to_the_same_text_do_not_meet() {
        let meets = ["a/b", "a b", "a:b", "a\u{e4}b", "a_b"];
        let mut keys: Vec<String> = meets.iter().map(|text| workspace_key(text)).collect();
        assert!(keys.iter().all(|key| key.starts_with("a_b")), "{keys:?}");
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), meets.len());
    }

    #[test]
    fn an_identifier_cannot_pose_as_the_key_of_another() {
        let key = workspace_key("a/b");
        assert_ne!(workspace_key(&key), key);
        assert_ne!(workspace_key("DS-1.kept-1"), "DS-1.kept-1");
    }

    #[test]
    fn every_key_is_one_plain_name() {
        let long = "x".repeat(4000);
        for identifier in ["", ".", "..", "...", ".git", ".dalsegno", "-rf", "../../etc", "/", "a\0b", "\n", &long] {
            let key = workspace_key(identifier);
            assert!(key.bytes().all(|b| is_key_char(char::from(b))), "{key}");
            assert!(!key.is_empty() && !key.starts_with(['.', '-']) && key.len() <= MAX_KEY_BYTES, "{key}");
        }
    }

    #[test]
    fn a_good_branch_name_stays() {
        for name in ["main", "dalsegno/DS-1", "a/b/c.d"] {
            assert_eq!(branch_name(name), name);
        }
    }

    #[test]
    fn a_bad_branch_name_becomes_a_good_one_of_its_own() {
        let bad = [
            "",
            "/",
            "HEAD",
            "a b",
            "a..b",
            "-x",
            "x.lock",
            "a/.b",
            "a//b",
            "x@{1}",
            "a~1",
            "a^",
            "x.",
            "a.lock.lock/",
        ];
        let mut names: Vec<String> = bad.iter().map(|text| branch_name(text)).collect();
        for name in &names {
            assert_eq!(&branch_name(name), name, "the result needs no further change");
            assert!(!name.starts_with('-') && !name.contains("..") && !name.ends_with('/'));
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), bad.len());
    }

    #[test]
    fn repositories_of_the_same_name_are_told_apart() {
        let one = repository_key("/a/remote.git");
        let two = repository_key("ssh://git@host/b/remote.git");
        assert!(one.starts_with("remote-") && two.starts_with("remote-"));
        assert_ne!(one, two);
    }
}
