//! What keeps the daemon's own bare repositories small and whole: refs that nobody needs any more, `git gc`, and a new
//! repository in the place of a damaged one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use dalsegno_engine::core::Failure;

use super::git::{Caller, Git, Reach, Said, git};
use super::place::{blocking, remove_tree, sync_parent};
use super::repository::init;

/// What every call in a bare repository begins with. Locks of refs are held for moments, and are waited for.
pub(super) const IN_BARE: [&str; 5] =
    ["-c", "core.filesRefLockTimeout=5000", "-c", "core.packedRefsTimeout=5000", "--git-dir=."];
/// A large repository is packed for long. Nobody waits for it.
const GC_LIMIT: Duration = Duration::from_secs(3600);
/// So many fetches, and it is looked whether there is something to tidy.
const FETCHES: u32 = 64;
/// Refs of runs whose commits are on no remote, and refs of what the remote was at: the newest stay. What loses its ref
/// loses no object before git's own two weeks are over.
const KEPT: &[(&str, usize)] = &[
    ("refs/dalsegno/runs", 500),
    ("refs/dalsegno/base", 100),
    ("refs/dalsegno/branch", 500),
    ("refs/dalsegno/seen", 500),
];

/// A call in the bare repository `dir`, without credentials.
pub(super) fn local<'a>(caller: &'a Caller, dir: &Path) -> Git<'a> {
    git(caller, Reach::Local, dir).args(IN_BARE)
}

/// By which the next daemon finds what this one left at work on a repository.
pub(super) fn mark(dir: &Path) -> String {
    format!("upkeep of {}", dir.display())
}

/// When a repository is tidied: one at a time, and apart from all who use it.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    under_way: Arc<AtomicBool>,
    fetches: AtomicU32,
}

impl Upkeep {
    /// Something was fetched.
    pub(super) fn fetched(&self, dir: &Path) {
        if self.fetches.fetch_add(1, Ordering::Relaxed) % FETCHES == FETCHES - 1 {
            self.begin(dir);
        }
    }

    /// Tidies in the background, unless that is under way. It belongs to no run: its end must not end it.
    pub(super) fn begin(&self, dir: &Path) {
        if self.under_way.swap(true, Ordering::SeqCst) {
            return;
        }
        let (dir, under_way) = (dir.to_owned(), Arc::clone(&self.under_way));
        tokio::spawn(async move {
            let caller = Caller::marked(&mark(&dir));
            if let Err(failure) = tidy(&caller, &dir).await {
                tracing::warn!(repository = %dir.display(), reason = %failure.message, "the repository could not be tidied");
            }
            under_way.store(false, Ordering::SeqCst);
        });
    }
}

async fn tidy(caller: &Caller, dir: &Path) -> Result<(), Failure> {
    // One step that fails is no reason to leave out the next.
    let refs = bound_refs(caller, dir, KEPT).await;
    let said = local(caller, dir).args(["gc", "--auto", "--quiet"]).limit(GC_LIMIT).run().await?;
    if !said.ok() {
        return Err(said.failure("repo_unusable", "git gc"));
    }
    refs
}

/// Drops refs of runs that are on the remote, and the oldest beyond the bounds.
async fn bound_refs(caller: &Caller, dir: &Path, kept: &[(&str, usize)]) -> Result<(), Failure> {
    let remote = ["refs/dalsegno/base", "refs/dalsegno/branch", "refs/dalsegno/seen"];
    let said = listed(caller, dir, &["--format=%(objectname)"], &remote).await?;
    forget_runs(caller, dir, &said.lines().collect::<Vec<_>>()).await?;
    for (below, kept) in kept {
        let delete = ["--sort=-committerdate", "--format=delete %(refname) %(objectname)"];
        let said = listed(caller, dir, &delete, &[*below]).await?;
        let old: Vec<&str> = said.lines().skip(*kept).collect();
        if !old.is_empty() {
            tracing::info!(repository = %dir.display(), below, count = old.len(), "the oldest refs are dropped");
            update(caller, dir, &old.join("\n")).await?;
        }
    }
    Ok(())
}

/// Drops the refs of runs whose commits are in one of `commits`, which are on the remote.
pub(super) async fn forget_runs(caller: &Caller, dir: &Path, commits: &[&str]) -> Result<(), Failure> {
    if commits.is_empty() {
        return Ok(());
    }
    let mut options: Vec<String> = commits.iter().map(|commit| format!("--merged={commit}")).collect();
    options.push("--format=delete %(refname) %(objectname)".to_owned());
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let said = listed(caller, dir, &options, &["refs/dalsegno/runs"]).await?;
    if said.is_empty() { Ok(()) } else { update(caller, dir, &said).await }
}

async fn listed(caller: &Caller, dir: &Path, options: &[&str], below: &[&str]) -> Result<String, Failure> {
    let said = local(caller, dir).arg("for-each-ref").args(options).args(below);
    Ok(said.must("repo_unusable", "the refs of the daemon's own repository cannot be read").await?.text())
}

/// Each line with the old value: a ref that somebody moved meanwhile stays, and all with it.
async fn update(caller: &Caller, dir: &Path, lines: &str) -> Result<(), Failure> {
    local(caller, dir)
        .args(["update-ref", "--stdin"])
        .stdin(format!("{}\n", lines.trim_end()).into_bytes())
        .must("repo_unusable", "refs of the daemon's own repository cannot be dropped")
        .await
        .map(drop)
}

/// Whether a failure may come of objects or refs of ours that are not what they were. Others' words are in it too; so
/// this is a reason to look, and no more.
pub(super) fn smells_of_damage(failure: &Failure) -> bool {
    speaks_of_damage(&failure.message)
}

fn speaks_of_damage(text: &str) -> bool {
    [
        "bad object",
        "corrupt",
        "unable to read",
        "could not read",
        "not our ref",
        "did not send all necessary objects",
        "invalid sha1 pointer",
        "reference broken",
        "broken ref",
        "unable to parse",
        "could not parse",
        "unable to find",
        "does not match index",
        "inflate",
        "missing object",
        "object file",
        "unresolved delta",
        "wrong index",
    ]
    .iter()
    .any(|words| text.contains(words))
}

/// By these the machine refuses to read now; what is on the disk may be whole.
const REFUSALS: [&str; 4] =
    ["Permission denied", "Too many open files", "Cannot allocate memory", "Operation not permitted"];

/// Whether objects that refs of the repository need are missing or unreadable. First what is quickly told.
///
/// # Errors
/// `repo_unusable`: nobody can tell.
pub(super) async fn is_damaged(caller: &Caller, dir: &Path) -> Result<bool, Failure> {
    for how in ["--connectivity-only", "--full"] {
        let said =
            local(caller, dir).args(["fsck", how, "--no-dangling", "--no-reflogs", "--no-progress"]).run().await?;
        if tells_damage(&said)? {
            tracing::warn!(repository = %dir.display(), said = %said.err.trim(), "the daemon's own repository is damaged");
            return Ok(true);
        }
    }
    Ok(false)
}

/// fsck also complains of what people wrote into old commits; that is no damage. 2: something that refs need is missing;
/// 4: a pack is broken.
fn tells_damage(said: &Said) -> Result<bool, Failure> {
    if let Some(refusal) = REFUSALS.into_iter().find(|words| said.err.contains(words)) {
        return Err(Failure::retryable(
            "repo_unusable",
            format!("the repository could not be read through: {refusal}"),
        ));
    }
    Ok(match said.code {
        None | Some(0) => false,
        Some(code) => (code < 128 && code & 6 != 0) || speaks_of_damage(&said.err),
    })
}

/// Puts a new repository in the place of a damaged one, with all refs whose objects are whole. What was there is kept
/// beside it, once.
pub(super) async fn make_anew(caller: &Caller, dir: &Path) -> Result<(), Failure> {
    let half = init(caller, dir).await?;
    let names = listed(caller, dir, &["--format=%(refname)"], &["refs/dalsegno"]).await.unwrap_or_default();
    for name in names.lines() {
        let said = local(caller, &half)
            .allow_directories()
            .args(["fetch", "--quiet", "--no-write-fetch-head", "--"])
            .arg(dir)
            .arg(format!("+{name}:{name}"))
            .run()
            .await?;
        if !said.ok() {
            tracing::warn!(%name, reason = %said.err.trim(), "a ref is dropped: its objects are damaged");
        }
    }
    let (dir, damaged): (PathBuf, PathBuf) = (dir.to_owned(), dir.with_extension("damaged"));
    tracing::warn!(repository = %dir.display(), kept = %damaged.display(), "the daemon's own repository was made anew");
    blocking("repo_unusable", "the daemon's own repository", move || {
        remove_tree(&damaged)?;
        std::fs::rename(&dir, &damaged)?;
        std::fs::rename(&half, &dir)?;
        sync_parent(&dir)
    })
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

    use super::*;

    #[tokio::test]
    async fn refs_that_nobody_needs_are_bounded() {
        let temp = tempfile::tempdir().unwrap();
        let caller = Caller::look();
        let dir = temp.path().join("x.git");
        std::fs::rename(init(&caller, &dir).await.unwrap(), &dir).unwrap();
        let tree = local(&caller, &dir).args(["hash-object", "-w", "-t", "tree", "--stdin"]).stdin(Vec::new());
        let tree = tree.run().await.unwrap().text();
        let commit = async |text: &str| {
            let mut call = local(&caller, &dir).args(["commit-tree", &tree, "-m", text]);
            for name in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
                call = call.env(name, "ann");
            }
            call.run().await.unwrap().text()
        };
        let (on_remote, not) = (commit("pushed").await, commit("not pushed").await);
        let mut lines =
            format!("create refs/dalsegno/seen/a {on_remote}\ncreate refs/dalsegno/base/main {on_remote}\n");
        for n in 0..30 {
            lines.push_str(&format!("create refs/dalsegno/runs/pushed-{n} {on_remote}\n"));
            lines.push_str(&format!("create refs/dalsegno/runs/not-{n} {not}\n"));
            lines.push_str(&format!("create refs/dalsegno/branch/b-{n} {not}\n"));
        }
        update(&caller, &dir, &lines).await.unwrap();
        let kept = [("refs/dalsegno/runs", 20), ("refs/dalsegno/branch", 20)];
        bound_refs(&caller, &dir, &kept).await.unwrap();
        let count = async |below: &str| {
            listed(&caller, &dir, &["--format=%(refname)"], &[below]).await.unwrap().lines().count()
        };
        // Of the pushed ones none; `branch` says as much of the others, whose commit it is.
        assert_eq!((count("refs/dalsegno/runs").await, count("refs/dalsegno/branch").await), (0, 20));
        assert_eq!((count("refs/dalsegno/seen").await, count("refs/dalsegno/base").await), (1, 1));
        let other = commit("on no remote").await;
        let lines: Vec<String> = (0..30).map(|n| format!("create refs/dalsegno/runs/more-{n} {other}")).collect();
        update(&caller, &dir, &lines.join("\n")).await.unwrap();
        bound_refs(&caller, &dir, &kept).await.unwrap();
        assert_eq!(count("refs/dalsegno/runs").await, 20);
    }

    #[test]
    fn neither_old_commits_nor_a_machine_that_refuses_to_read_are_damage() {
        let told = |code, err: &str| {
            tells_damage(&Said { code: Some(code), out: Vec::new(), err: err.to_owned(), cut: false })
        };
        assert!(!told(1, "error in commit 0a: missingSpaceBeforeEmail: invalid author line").unwrap());
        assert!(!told(0, "").unwrap());
        assert!(told(2, "").unwrap() && told(4, "").unwrap());
        assert!(told(128, "fatal: loose object 0a (stored in ./objects/0a/0a) is corrupt").unwrap());
        let unknown = told(2, "error: unable to open objects/0a/0a: Too many open files").unwrap_err();
        assert!(unknown.retryable && unknown.message.contains("Too many open files"), "{unknown}");
    }
}
