//! Where workspaces lie: containment on resolved paths, markers that say "whole", moving aside and removing.
//!
//! ```text
//! <root>/<key>/                  a workspace
//! <root>/<key>.kept-<n>/         one that was moved aside, because somebody's work is in it
//! <root>/.dalsegno/<key>.json    marker: the workspace is whole, and what it was made from
//! <root>/.dalsegno/new/<key>/    one that is being made
//! <root>/.dalsegno/old/<key>/    one that is being removed
//! <root>/.dalsegno/shared/       repositories of worktrees: see `layout.rs`
//! ```

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use dalsegno_engine::core::{CommitId, Failure, Policy};
use serde::{Deserialize, Serialize};

use super::git::io_failure;
use super::key::{KEPT, workspace_key};

/// Version of the marker's format.
const MARKER_FORMAT: u32 = 1;
/// Copies of one workspace that are kept aside before somebody has to look.
pub(super) const MAX_KEPT: u32 = 100;
/// Directory below ours that holds the repositories of worktrees.
pub(super) const SHARED: &str = "shared";
/// Directory below the root that is ours.
pub(super) const OURS: &str = ".dalsegno";

/// Says that a workspace is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    pub(super) format: u32,
    /// The issue that it belongs to; two that meet on a file system without case are told apart by it.
    pub(super) identifier: String,
    pub(super) branch: Option<String>,
    pub(super) base_commit: Option<CommitId>,
    /// Key of the effect that made it: when it is performed again, because nobody knows how it ended, it made it still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) made_by: Option<String>,
    /// Identity of the journal that it belongs to; none on markers of older versions. Only what is ours is ever put away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<String>,
}

impl Marker {
    pub(super) fn new(identifier: &str, branch: Option<String>, base_commit: Option<CommitId>) -> Self {
        Self {
            format: MARKER_FORMAT,
            identifier: identifier.to_owned(),
            branch,
            base_commit,
            made_by: None,
            owner: None,
        }
    }
}

/// What is at the path of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Empty,
    Directory,
}

/// The paths of one issue's workspace; the root is resolved and there.
#[derive(Debug, Clone)]
pub(super) struct Place {
    root: PathBuf,
    key: String,
}

impl Place {
    /// The place of an issue under the policy's root, which is made if it is not there.
    ///
    /// # Errors
    /// `workspace_root_unusable`, `disk_full`.
    pub(super) async fn of(policy: &Policy, identifier: &str) -> Result<Self, Failure> {
        let root = resolved_root(policy).await?;
        Ok(Self { root, key: workspace_key(identifier) })
    }

    /// The place that the journal knows by its path.
    ///
    /// # Errors
    /// `workspace_outside_root`, `workspace_not_a_directory`, `workspace_root_unusable`.
    pub(super) async fn known(policy: &Policy, path: &str) -> Result<Self, Failure> {
        let root = resolved_root(policy).await?;
        let given = PathBuf::from(path);
        run_blocking(move || {
            // The root may be spelled through a link; what counts is where it leads.
            let parent = given.parent().and_then(|parent| parent.canonicalize().ok());
            let (Some(parent), Some(name)) = (parent, given.file_name().map(|name| name.to_string_lossy())) else {
                return Err(outside(&given, &root));
            };
            if parent != root || name.starts_with('.') {
                return Err(outside(&given, &root));
            }
            let place = Self { root: root.clone(), key: name.into_owned() };
            look(&place.path())?;
            Ok(place)
        })
        .await
    }

    pub(super) fn path(&self) -> PathBuf {
        self.root.join(&self.key)
    }

    pub(super) fn new_path(&self) -> PathBuf {
        self.root.join(OURS).join("new").join(&self.key)
    }

    fn old_path(&self) -> PathBuf {
        self.root.join(OURS).join("old").join(&self.key)
    }

    fn marker_path(&self) -> PathBuf {
        self.root.join(OURS).join(format!("{}.json", self.key))
    }

    /// Looks at what is there; never follows a link.
    ///
    /// # Errors
    /// `workspace_not_a_directory`, `workspace_outside_root`, `workspace_unreadable`.
    pub(super) async fn look(&self) -> Result<Found, Failure> {
        let path = self.path();
        run_blocking(move || look(&path)).await
    }

    /// The marker, if there is one that is whole.
    ///
    /// # Errors
    /// `workspace_unreadable` when it is there and cannot be read, `workspace_key_taken` when the marker is of another issue.
    pub(super) async fn marker(&self, identifier: &str) -> Result<Option<Marker>, Failure> {
        let path = self.marker_path();
        let text = match tokio::fs::read(&path).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let why = format!("{} cannot be read: {error}", path.display());
                return Err(Failure::retryable("workspace_unreadable", why)
                    .hint("see to the permissions and the disk of the workspaces' directory"));
            }
        };
        let marker: Marker = match serde_json::from_slice(&text) {
            Ok(marker) => marker,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the marker of a workspace is damaged and does not count");
                return Ok(None);
            }
        };
        if marker.format > MARKER_FORMAT {
            return Err(Failure::permanent(
                "workspace_format_too_new",
                format!("{} was written by a newer dalsegno (format {})", path.display(), marker.format),
            )
            .hint("use the newer version, or move the workspace and its marker away"));
        }
        if marker.identifier != identifier {
            return Err(Failure::permanent(
                "workspace_key_taken",
                format!("the workspace {} belongs to issue {}", self.path().display(), marker.identifier),
            )
            .hint("two identifiers differ only by case; rename one of the issues"));
        }
        Ok(Some(marker))
    }

    /// Writes the marker, synced and whole or not at all.
    pub(super) async fn write_marker(&self, marker: &Marker) -> Result<(), Failure> {
        self.check_ours().await?;
        let path = self.marker_path();
        let text = serde_json::to_vec_pretty(marker).map_err(|error| {
            Failure::permanent("workspace_unwritable", format!("the marker cannot be written: {error}"))
        })?;
        blocking("workspace_unwritable", "the workspace's marker", move || {
            let half = path.with_extension("json.new");
            let mut file = fs::File::create(&half)?;
            io::Write::write_all(&mut file, &text)?;
            file.sync_all()?;
            fs::rename(&half, &path)?;
            sync_parent(&path)
        })
        .await
    }

    /// An empty directory to make the workspace in; leftovers of an earlier try go.
    pub(super) async fn begin(&self) -> Result<PathBuf, Failure> {
        self.check_ours().await?;
        let (new, old) = (self.new_path(), self.old_path());
        let made = new.clone();
        blocking("workspace_unwritable", "the place for a new workspace", move || {
            for path in [&new, &old] {
                remove_tree(path)?;
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
            }
            fs::create_dir(&new)
        })
        .await?;
        Ok(made)
    }

    /// Puts the finished directory in its place. The marker is written first: a directory in place is a whole one.
    pub(super) async fn finish(&self, marker: &Marker) -> Result<(), Failure> {
        self.write_marker(marker).await?;
        let (from, to) = (self.new_path(), self.path());
        blocking("workspace_unwritable", "the new workspace", move || {
            // An empty directory that is in the way is replaced by the rename.
            fs::rename(&from, &to)?;
            sync_parent(&to)
        })
        .await
    }

    /// Moves what is there to `<key>.kept-<n>`.
    ///
    /// # Errors
    /// `workspace_too_many_kept`.
    pub(super) async fn move_aside(&self) -> Result<PathBuf, Failure> {
        let (root, key, marker) = (self.root.clone(), self.key.clone(), self.marker_path());
        let kept = blocking("workspace_unwritable", "the workspace", move || {
            for to in kept_copies(&root, key.as_ref()) {
                if fs::symlink_metadata(&to).is_ok() {
                    continue;
                }
                fs::rename(root.join(&key), &to)?;
                remove_file(&marker)?;
                sync_parent(&to)?;
                return Ok(Some(to));
            }
            Ok(None)
        })
        .await?;
        kept.ok_or_else(|| {
            Failure::permanent(
                "workspace_too_many_kept",
                format!("{} has {MAX_KEPT} copies that were kept aside", self.path().display()),
            )
            .hint("look through the .kept- directories and remove those that nobody needs")
        })
    }

    /// Removes the workspace and its marker; out of its place at once, then bit by bit.
    pub(super) async fn remove(&self) -> Result<(), Failure> {
        self.check_ours().await?;
        let (path, old, marker) = (self.path(), self.old_path(), self.marker_path());
        blocking("workspace_remove_failed", "the workspace", move || {
            remove_tree(&old)?;
            if let Some(parent) = old.parent() {
                fs::create_dir_all(parent)?;
            }
            match fs::rename(&path, &old) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            remove_file(&marker)?;
            sync_parent(&path)?;
            remove_tree(&old)
        })
        .await
    }

    /// Our own directory below the root must not lead anywhere else.
    async fn check_ours(&self) -> Result<(), Failure> {
        let root = self.root.clone();
        run_blocking(move || {
            let ours = root.join(OURS);
            for path in [ours.clone(), ours.join("new"), ours.join("old"), ours.join(SHARED)] {
                if let Ok(meta) = fs::symlink_metadata(&path)
                    && !meta.is_dir()
                {
                    return Err(outside(&path, &root));
                }
            }
            fs::create_dir_all(&ours).map_err(|error| {
                io_failure("workspace_root_unusable", &format!("{} cannot be made", ours.display()), &error)
            })
        })
        .await
    }
}

/// The policy's root, made and resolved.
///
/// # Errors
/// `workspace_root_unusable`, `disk_full`.
pub(super) async fn resolved_root(policy: &Policy) -> Result<PathBuf, Failure> {
    let root = PathBuf::from(&policy.workspace.root);
    run_blocking(move || {
        if !root.is_absolute() {
            return Err(Failure::permanent(
                "workspace_root_unusable",
                format!("{} is no absolute path", root.display()),
            )
            .hint("set workspace.root to an absolute path"));
        }
        let unusable = |error: io::Error| {
            io_failure(
                "workspace_root_unusable",
                &format!("the workspace root {} cannot be made", root.display()),
                &error,
            )
            .hint("set workspace.root to a directory that the daemon's user may write")
        };
        fs::create_dir_all(&root).map_err(unusable)?;
        root.canonicalize().map_err(unusable)
    })
    .await
}

/// Checks the path of a workspace that the journal knows: a directory directly below the root, no link.
///
/// # Errors
/// `workspace_missing`, `workspace_outside_root`, `workspace_not_a_directory`.
pub(super) async fn contained(policy: &Policy, path: &str) -> Result<PathBuf, Failure> {
    let place = Place::known(policy, path).await?;
    match place.look().await? {
        Found::Nothing => Err(missing(&place.path())),
        Found::Empty | Found::Directory => Ok(place.path()),
    }
}

fn look(path: &Path) -> Result<Found, Failure> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => {
            return Err(io_failure("workspace_unreadable", &format!("{} cannot be looked at", path.display()), &error));
        }
    };
    if meta.file_type().is_symlink() {
        return Err(outside(path, path.parent().unwrap_or(path)));
    }
    if !meta.is_dir() {
        return Err(Failure::permanent("workspace_not_a_directory", format!("{} is not a directory", path.display()))
            .hint("move the file away; workspaces need this name"));
    }
    let mut entries = fs::read_dir(path)
        .map_err(|error| io_failure("workspace_unreadable", &format!("{} cannot be read", path.display()), &error))?;
    Ok(if entries.next().is_none() { Found::Empty } else { Found::Directory })
}

fn missing(path: &Path) -> Failure {
    Failure::retryable("workspace_missing", format!("there is no workspace at {}", path.display()))
        .hint("somebody removed it; a new run makes it anew")
}

fn outside(path: &Path, root: &Path) -> Failure {
    Failure::permanent(
        "workspace_outside_root",
        format!("{} is not a plain directory below the workspace root {}", path.display(), root.display()),
    )
    .hint("remove the symbolic link, or set workspace.root to where the workspaces are")
}

/// File work away from the async threads; its errors get the code and the words.
pub(super) async fn blocking<T: Send + 'static>(
    code: &'static str,
    what: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let what = format!("{what} cannot be changed");
    run_blocking(move || work().map_err(|error| io_failure(code, &what, &error))).await
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::retryable("workspace_cut", format!("work on files was cut: {error}"))),
    }
}

/// Where copies of the workspace `key` are kept aside, in the order in which the places are taken.
pub(super) fn kept_copies(root: &Path, key: &OsStr) -> impl Iterator<Item = PathBuf> {
    let (root, key) = (root.to_owned(), key.to_owned());
    (1..=MAX_KEPT).map(move |n| {
        let mut name = key.clone();
        name.push(format!("{KEPT}{n}"));
        root.join(name)
    })
}

pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a tree; read-only directories in it are opened first, links are not followed, and gone is fine.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    // What a background process still writes while we remove may need a second look.
    let mut last = Ok(());
    for _ in 0..5 {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
            Ok(meta) if !meta.is_dir() => return remove_file(path),
            Ok(_) => {}
        }
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                open_up(path);
                last = Err(error);
            }
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => last = Err(error),
            done => return done,
        }
    }
    last
}

/// Gives the owner back what it needs to remove the directories below. Best effort: the removal tells.
fn open_up(top: &Path) {
    let mut open = vec![top.to_owned()];
    while let Some(dir) = open.pop() {
        if let Err(error) = fs::set_permissions(&dir, Permissions::from_mode(0o700)) {
            tracing::debug!(path = %dir.display(), %error, "a directory's mode cannot be changed");
        }
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        open.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
    }
}
