//! What is below the root of the workspaces, and whose it is: for the look at what lies outside the journal.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dalsegno_engine::core::{CommitId, Failure, FoundWorkspace, LookFor, Policy, WorkspaceStanding as Standing};

use super::LocalWorkspaces;
use super::git::{Caller, io_failure};
use super::key::{KEPT, workspace_key};
use super::layout::Layout;
use super::place::{Marker, OURS, Place, blocking, kept_copies};
use super::work::Work;

/// Directories below a root that are looked at.
const DIRECTORIES: usize = 10_000;
/// Workspaces that nobody owns whose work is looked at in one look; each takes some calls of git.
const LOOKED_INTO: usize = 50;
/// Files and directories that are measured in one look, of all workspaces together.
const MEASURED: u64 = 2_000_000;

/// A directory below the root, before its work is looked at.
struct Listed {
    path: PathBuf,
    /// Its marker, if that is ours.
    ours: Option<Marker>,
    bytes: Option<u64>,
}

impl LocalWorkspaces {
    /// Every directory below the policy's root, and every workspace that the fold knows, wherever it is. `journals` are the
    /// identities whose markers are ours.
    ///
    /// # Errors
    /// `workspace_root_unusable` when the root cannot be read, `workspace_unreadable` when it has too many directories.
    pub async fn survey(
        &self,
        policy: &Policy,
        wanted: &LookFor,
        journals: &[String],
    ) -> Result<Vec<FoundWorkspace>, Failure> {
        let (root, known, ours) = (PathBuf::from(&policy.workspace.root), wanted.workspaces.clone(), journals.to_vec());
        let (mut found, listed) = blocking("workspace_root_unusable", "the root of the workspaces", move || {
            let mut budget = MEASURED;
            let found: Vec<FoundWorkspace> = known.iter().map(|path| of_known(path, &mut budget)).collect();
            let known: BTreeSet<PathBuf> = known.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
            let listed = list(&root, &known, &ours, &mut budget)?;
            Ok((found, listed))
        })
        .await?;
        let mut looks = 0;
        for Listed { path, ours, bytes } in listed {
            let standing = match &ours {
                Some(marker) if looks < LOOKED_INTO => {
                    looks += 1;
                    self.held_by(policy, &path, marker).await
                }
                Some(_) | None => Standing::Foreign,
            };
            let identifier = ours.map(|marker| marker.identifier);
            found.push(FoundWorkspace { path: path.to_string_lossy().into_owned(), identifier, standing, bytes });
        }
        Ok(found)
    }

    /// Removes a workspace that nobody owns, or with work in it moves it aside. Answers in words what was done.
    ///
    /// # Errors
    /// `workspace_*`.
    pub async fn put_away(
        &self,
        policy: &Policy,
        (path, identifier): (&str, &str),
        journals: &[String],
        keep: bool,
    ) -> Result<String, Failure> {
        self.tidy().await?;
        let place = Place::known(policy, path).await?;
        let Some(marker) = place.marker(identifier).await?.filter(|marker| is_ours(marker, journals)) else {
            return Ok("left alone: it is not ours any more".to_owned());
        };
        let at = place.path();
        let loss = match self.held_by(policy, &at, &marker).await {
            Standing::Clean => None,
            Standing::Holds(loss) => Some(loss),
            Standing::Unreadable(failure) => return Err(failure),
            Standing::Known | Standing::Missing | Standing::Foreign => return Ok("left alone".to_owned()),
        };
        match loss {
            None => {
                let layout = Layout::of(policy, &at);
                place.remove().await?;
                layout.forget().await?;
                Ok("removed: nothing was lost with it".to_owned())
            }
            Some(loss) if keep => {
                self.make_room(&Caller::look(), policy, &place, Some(&marker), true, None).await?;
                let (root, key) = (at.parent().unwrap_or(Path::new("/")), at.file_name().unwrap_or_default());
                let kept = kept_copies(root, key).filter(|copy| copy.is_dir()).last();
                let kept = kept.map_or_else(String::new, |kept| kept.display().to_string());
                Ok(format!("kept as {kept}: {loss}"))
            }
            Some(loss) => Ok(format!("left alone: it holds {loss}")),
        }
    }

    /// What would be lost with a workspace that no issue owns. What is not known to be on the remote counts.
    async fn held_by(&self, policy: &Policy, path: &Path, marker: &Marker) -> Standing {
        let look = async {
            self.tidy().await?;
            let caller = Caller::look().shut_in(policy, &self.state_dir, path)?;
            let own = marker.branch.as_deref();
            match Work::open(&caller, policy, path, &self.scratch()).await? {
                Some(work) => {
                    let known: Vec<&str> = marker.base_commit.iter().map(CommitId::as_str).collect();
                    work.loss(&known, own).await
                }
                None => {
                    let path = path.to_owned();
                    let empty = blocking("workspace_unreadable", "the workspace", move || {
                        Ok(fs::read_dir(path)?.next().is_none())
                    });
                    Ok((!empty.await?).then(|| "files without a repository".to_owned()))
                }
            }
        };
        match look.await {
            Ok(None) => Standing::Clean,
            Ok(Some(loss)) => Standing::Holds(loss),
            Err(failure) => Standing::Unreadable(failure),
        }
    }
}

fn is_ours(marker: &Marker, journals: &[String]) -> bool {
    marker.owner.as_ref().is_some_and(|owner| journals.contains(owner))
}

/// A workspace that the fold knows: there, or not.
fn of_known(path: &str, budget: &mut u64) -> FoundWorkspace {
    let at = Path::new(path);
    let standing = match fs::symlink_metadata(at) {
        Ok(meta) if meta.is_dir() => match fs::read_dir(at) {
            Ok(_) => Standing::Known,
            Err(error) => Standing::Unreadable(io_failure("workspace_unreadable", "it cannot be read", &error)),
        },
        Ok(_) => Standing::Unreadable(Failure::permanent("workspace_not_a_directory", "it is no directory")),
        Err(error) if error.kind() == ErrorKind::NotFound => match at.parent().map(|root| (root, root.join(OURS))) {
            // A root that is there without what we keep in it is not the one that we know: its disk is not mounted.
            Some((root, ours)) if root.exists() && !ours.exists() => {
                let why = format!("{} has nothing of ours in it; is its disk mounted?", root.display());
                Standing::Unreadable(Failure::retryable("workspace_root_unusable", why))
            }
            Some(_) | None => Standing::Missing,
        },
        Err(error) => Standing::Unreadable(io_failure("workspace_unreadable", "it cannot be looked at", &error)),
    };
    let bytes = if standing == Standing::Known { measure(at, budget) } else { None };
    FoundWorkspace { path: path.to_owned(), identifier: None, standing, bytes }
}

fn list(root: &Path, known: &BTreeSet<PathBuf>, journals: &[String], budget: &mut u64) -> io::Result<Vec<Listed>> {
    let root = match root.canonicalize() {
        Ok(root) => root,
        // None was ever made.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(&root)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if hidden || !entry.file_type()?.is_dir() || known.contains(&entry.path()) {
            continue;
        }
        if paths.len() >= DIRECTORIES {
            return Err(io::Error::other(format!(
                "there are more than {DIRECTORIES} directories in {}",
                root.display()
            )));
        }
        paths.push(entry.path());
    }
    paths.sort();
    let listed = paths.into_iter().map(|path| {
        let ours = marker_of(&root, &path).filter(|marker| is_ours(marker, journals));
        let bytes = measure(&path, budget);
        Listed { path, ours, bytes }
    });
    Ok(listed.collect())
}

/// The marker of a directory, if it is whole and of that very directory.
fn marker_of(root: &Path, path: &Path) -> Option<Marker> {
    let key = path.file_name()?.to_str().filter(|key| !key.contains(KEPT))?;
    let text = fs::read(root.join(OURS).join(format!("{key}.json"))).ok()?;
    let marker: Marker = serde_json::from_slice(&text).ok()?;
    (workspace_key(&marker.identifier) == key).then_some(marker)
}

/// What a directory takes on the disk; nothing when it has more than two million files.
#[must_use]
pub fn bytes_on_disk(top: &Path) -> Option<u64> {
    let mut budget = MEASURED;
    measure(top, &mut budget)
}

/// Bytes on the disk; nothing when there is more than may be measured. Links are not followed, and what goes meanwhile is left
/// out.
fn measure(top: &Path, budget: &mut u64) -> Option<u64> {
    let (mut open, mut bytes) = (vec![top.to_owned()], 0_u64);
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            *budget = budget.checked_sub(1)?;
            let Ok(meta) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(meta.blocks().saturating_mul(512));
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use super::*;

    #[test]
    fn a_root_whose_disk_is_not_mounted_is_not_a_root_without_workspaces() {
        let temp = tempfile::tempdir().unwrap();
        let (root, mut budget) = (temp.path().join("root"), MEASURED);
        let path = root.join("DS-1").to_string_lossy().into_owned();
        let mut standing = || of_known(&path, &mut budget).standing;
        assert_eq!(standing(), Standing::Missing, "removed with its root");
        fs::create_dir_all(&root).unwrap();
        assert!(matches!(standing(), Standing::Unreadable(failure) if failure.message.contains("mounted")));
        fs::create_dir_all(root.join(OURS)).unwrap();
        assert_eq!(standing(), Standing::Missing);
        fs::create_dir_all(root.join("DS-1")).unwrap();
        assert_eq!(standing(), Standing::Known);
    }

    #[test]
    fn what_is_too_much_is_not_measured() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(temp.path().join(name), vec![1; 10_000]).unwrap();
        }
        assert!(measure(temp.path(), &mut 3).is_some_and(|bytes| bytes >= 30_000));
        assert_eq!(measure(temp.path(), &mut 2), None);
    }
}
