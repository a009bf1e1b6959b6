//! Whether issue files that are gone are to be believed: a checkout or a stash takes them away for a while.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One look at the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    /// Identifiers of the files; `None`: there is no folder.
    pub(super) files: Option<BTreeSet<String>>,
    /// Where the repository around it stands.
    pub(super) head: Head,
}

/// Where a repository stands; all that a checkout, a reset or a stash moves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// `HEAD`, the commit that it means, and the newest stash.
    pub(super) position: String,
    /// Git is at work at this moment.
    pub(super) locked: bool,
}

/// What was believed so far.
#[derive(Debug, Default)]
pub(super) struct Presence {
    believed: Option<Look>,
    /// The position at the poll before the last one: git may move first and take the files later.
    earlier: Option<String>,
    /// Files that the journal knows.
    known: BTreeSet<String>,
    doubted: Option<Doubt>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Doubt {
    folder: bool,
    missing: BTreeSet<String>,
    position: String,
}

impl Presence {
    /// Files that ought to be there at the first look.
    pub(super) fn remember(&mut self, identifiers: impl IntoIterator<Item = String>) {
        self.known.extend(identifiers);
    }

    /// Whether git stands where it stood at the last poll, and is not at work.
    pub(super) fn rests_at(&self, head: &Head) -> bool {
        !head.locked && self.believed.as_ref().is_some_and(|believed| believed.head == *head)
    }

    /// Takes a look in, or says why it is not believed yet. `poll`: looks that count towards agreement.
    pub(super) fn admit(&mut self, look: Look, poll: bool) -> Result<(), String> {
        let empty = BTreeSet::new();
        let files = look.files.as_ref().unwrap_or(&empty);
        let before = self.believed.as_ref().map_or(Some(&self.known), |look| look.files.as_ref()).unwrap_or(&empty);
        let missing: BTreeSet<String> = before.difference(files).cloned().collect();
        let why = match &self.believed {
            _ if missing.is_empty() => None,
            _ if look.files.is_none() => Some("the folder with the issues is gone".to_owned()),
            None if missing.len() == before.len() => Some("all issues that the journal knows are gone".to_owned()),
            None => None,
            Some(believed) => {
                let moved = look.head.locked
                    || look.head.position != believed.head.position
                    || self.earlier.as_ref().is_some_and(|earlier| *earlier != look.head.position);
                moved.then(|| {
                    let names: Vec<_> = missing.iter().take(5).cloned().collect();
                    format!("git moved, and with it went {} issue files ({})", missing.len(), names.join(", "))
                })
            }
        };
        if let Some(why) = why {
            let doubt = Doubt { folder: look.files.is_some(), missing, position: look.head.position.clone() };
            let agreed = poll && self.doubted.as_ref() == Some(&doubt);
            if !agreed {
                if poll {
                    self.doubted = Some(doubt);
                }
                return Err(why);
            }
        }
        if poll || self.believed.is_none() {
            self.earlier = self.believed.as_ref().map(|look| look.head.position.clone());
            self.doubted = None;
            self.believed = Some(look);
        } else if let Some(believed) = &mut self.believed {
            // A look between polls adds what is new; what it misses the next poll judges.
            believed.files.get_or_insert_default().extend(look.files.unwrap_or_default());
        }
        Ok(())
    }
}

/// Where the repository around `folder` stands; empty without one.
pub(super) fn head(folder: &Path) -> Head {
    let Some(git) = folder.ancestors().find_map(git_dir) else { return Head::default() };
    let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let common = match text(git.join("commondir")).trim() {
        "" => git.clone(),
        path => git.join(path),
    };
    let head = text(git.join("HEAD"));
    let commit = match head.trim().strip_prefix("ref: ") {
        Some(name) => [git.join(name), common.join(name)]
            .into_iter()
            .find_map(|path| fs::read_to_string(path).ok())
            .or_else(|| packed(&text(common.join("packed-refs")), name))
            .unwrap_or_default(),
        None => String::new(),
    };
    let stash = text(common.join("refs/stash"));
    Head {
        position: format!("{}\n{}\n{}", head.trim(), commit.trim(), stash.trim()),
        locked: git.join("index.lock").exists(),
    }
}

fn packed(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (commit, found) = line.split_once(' ')?;
        (found == name).then(|| commit.to_owned())
    })
}

fn git_dir(dir: &Path) -> Option<PathBuf> {
    let git = dir.join(".git");
    let meta = fs::metadata(&git).ok()?;
    if meta.is_dir() {
        return Some(git);
    }
    let text = fs::read_to_string(&git).ok()?;
    Some(dir.join(text.trim().strip_prefix("gitdir: ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(files: Option<&[&str]>, position: &str) -> Look {
        let files = files.map(|files| files.iter().map(|name| (*name).to_owned()).collect());
        Look { files, head: Head { position: position.to_owned(), locked: false } }
    }

    #[test]
    fn a_deleted_file_is_believed_at_once() {
        let mut presence = Presence::default();
        assert_eq!(presence.admit(look(Some(&["a", "b"]), "1"), true), Ok(()));
        assert_eq!(presence.admit(look(Some(&["a"]), "1"), true), Ok(()));
    }

    #[test]
    fn files_that_went_with_head_need_two_polls() {
        let mut presence = Presence::default();
        assert_eq!(presence.admit(look(Some(&["a", "b"]), "1"), true), Ok(()));
        assert!(presence.admit(look(Some(&["a"]), "2"), false).is_err());
        assert!(presence.admit(look(Some(&["a"]), "2"), true).is_err());
        assert!(presence.admit(look(Some(&["a"]), "2"), false).is_err(), "looks between polls do not agree");
        assert!(presence.admit(look(Some(&["a"]), "3"), true).is_err(), "another move begins anew");
        assert_eq!(presence.admit(look(Some(&["a"]), "3"), true), Ok(()));
    }

    #[test]
    fn files_that_come_back_end_the_doubt() {
        let mut presence = Presence::default();
        assert_eq!(presence.admit(look(Some(&["a"]), "1"), true), Ok(()));
        assert!(presence.admit(look(None, "1"), true).is_err());
        assert_eq!(presence.admit(look(Some(&["a"]), "1"), true), Ok(()));
        assert!(presence.admit(look(None, "1"), true).is_err());
        assert_eq!(presence.admit(look(None, "1"), true), Ok(()));
    }

    #[test]
    fn git_may_move_a_poll_before_the_files_go() {
        let mut presence = Presence::default();
        assert_eq!(presence.admit(look(Some(&["a"]), "1"), true), Ok(()));
        assert_eq!(presence.admit(look(Some(&["a"]), "2"), true), Ok(()));
        assert!(presence.admit(look(Some(&[]), "2"), true).is_err());
    }

    #[test]
    fn what_the_journal_knows_is_expected_at_the_first_look() {
        let mut presence = Presence::default();
        presence.remember(["a".to_owned(), "b".to_owned()]);
        assert!(presence.admit(look(Some(&[]), "1"), true).is_err());
        assert_eq!(presence.admit(look(Some(&["a"]), "1"), true), Ok(()));
    }
}
