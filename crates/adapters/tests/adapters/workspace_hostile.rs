//! What an agent plants in its repository does not run by our hand.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dalsegno_engine::{Checked, Workspaces as _};

use crate::workspace::{World, commit_file, git, within};

/// Plants a program wherever a git configuration can name one.
fn plant(path: &Path, proof: &Path) {
    let script = within(path, "evil.sh");
    fs::write(&script, format!("#!/bin/sh\necho \"$0 $*\" >> '{}'\ncat\n", proof.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let evil = script.display().to_string();
    for key in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.editor",
        "core.gitProxy",
        "core.alternateRefsCommand",
        "filter.evil.clean",
        "filter.evil.smudge",
        "diff.evil.command",
        "diff.evil.textconv",
        "diff.external",
        "merge.evil.driver",
        "gpg.program",
        "credential.helper",
        "uploadpack.packObjectsHook",
        "remote.origin.uploadpack",
        "alias.status",
    ] {
        git(path, &["config", key, &evil]);
    }
    git(path, &["config", "commit.gpgSign", "true"]);
    git(path, &["config", "filter.evil.required", "true"]);
    git(path, &["config", "remote.origin.url", "/nowhere"]);
    git(path, &["config", "remote.origin.promisor", "true"]);
    let hooks = within(path, "hooks");
    fs::create_dir_all(&hooks).unwrap();
    for name in [
        "pre-commit",
        "commit-msg",
        "post-commit",
        "post-checkout",
        "post-index-change",
        "reference-transaction",
        "pre-push",
        "pre-auto-gc",
        "post-rewrite",
    ] {
        fs::copy(&script, hooks.join(name)).unwrap();
    }
    fs::write(path.join(".gitattributes"), "* filter=evil diff=evil merge=evil\n").unwrap();
}

/// All files below, with their content.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Works in a workspace while somebody puts a link to the user's own repository in the place of its git directory and
/// takes it away again, as fast as he can.
async fn work_while_it_is_swapped(world: &mut World, swapped: &Path, theirs: &Path) {
    let path = PathBuf::from(&world.workspace.as_ref().unwrap().path);
    let before = content(theirs);
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (at, away, theirs, stop) = (swapped.to_owned(), world.at("away"), theirs.to_owned(), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                fs::rename(&at, &away).unwrap();
                symlink(&theirs, &at).unwrap();
                std::thread::sleep(Duration::from_micros(500));
                fs::remove_file(&at).unwrap();
                fs::rename(&away, &at).unwrap();
                std::thread::sleep(Duration::from_micros(500));
            }
        })
    };
    let mut committed = 0;
    for n in 0..40 {
        fs::write(path.join(format!("{n}.txt")), "x").unwrap();
        // It may be refused, or meet nothing at all.
        if let Ok(true) = world.workspaces.commit_leftovers(&world.context()).await {
            committed += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
    let after = content(theirs);
    let changed: Vec<&PathBuf> =
        before.keys().chain(after.keys()).filter(|file| before.get(*file) != after.get(*file)).collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert!(committed > 0, "it never came to a commit");
}

/// A repository that an agent must not get at, with a merge under way.
fn precious(world: &World) -> PathBuf {
    let dir = world.at("precious");
    git(&world.at("."), &["clone", "-q", &world.remote().display().to_string(), "precious"]);
    fs::write(dir.join(".git/MERGE_HEAD"), git(&dir, &["rev-parse", "HEAD"])).unwrap();
    dir.join(".git")
}

#[tokio::test]
async fn a_git_directory_that_is_swapped_leads_to_nobody_elses() {
    let mut world = World::new();
    let path = world.prepare().await;
    let theirs = precious(&world);
    work_while_it_is_swapped(&mut world, &path.join(".git"), &theirs).await;
}

#[tokio::test]
async fn links_in_a_shared_repository_lead_to_nobody_elses() {
    let mut world = World::new();
    world.policy.workspace.strategy = dalsegno_engine::core::WorkspaceStrategy::Worktree;
    let path = world.prepare().await;
    let theirs = precious(&world);
    fs::create_dir_all(theirs.join("worktrees/DS-1")).unwrap();
    fs::write(theirs.join("worktrees/DS-1/index"), "precious").unwrap();
    let shared: PathBuf = within(&path, "").components().collect();
    let before = content(&theirs);
    fs::remove_dir_all(shared.join("worktrees")).unwrap();
    symlink(theirs.join("worktrees"), shared.join("worktrees")).unwrap();
    fs::remove_dir_all(&path).unwrap();
    assert!(world.workspaces.remove(&world.context(), None).await.is_err());
    assert!(world.workspaces.prepare(&world.context(), true).await.is_err());
    let workspace = world.workspace.clone().unwrap();
    fs::create_dir_all(&path).unwrap();
    world.workspaces.unlock(&world.policy, &workspace).await.unwrap();
    assert_eq!(content(&theirs), before);
}

#[tokio::test]
pub(crate) async fn nothing_that_an_agent_configured_is_run() {
    let mut world = World::new();
    let path = world.prepare().await;
    let proof = world.at("proof");
    plant(&path, &proof);
    fs::write(path.join("a.txt"), "changed\n").unwrap();
    fs::write(path.join("new.txt"), "new\n").unwrap();

    let context = world.context();
    let workspace = world.workspace.clone().unwrap();
    let work = world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap();
    assert_eq!(work.uncommitted.len(), 3, "{work:?}");
    assert!(world.workspaces.commit_leftovers(&context).await.unwrap());
    let commit = world.workspaces.fetch_commit(&context).await.unwrap();
    let Checked { passed, output: tail } =
        world.workspaces.run_check(&context, &commit, "cat a.txt new.txt").await.unwrap();
    assert!(passed, "{tail}");
    assert_eq!(tail, "changed\nnew\n");
    world.workspaces.push(&context, &commit, None, None).await.unwrap();
    world.workspaces.prepare(&context, false).await.unwrap();
    assert!(!proof.exists(), "{}", fs::read_to_string(&proof).unwrap());

    // The same repository is dangerous to who calls git in it as usual.
    fs::write(path.join("a.txt"), "changed again\n").unwrap();
    git(&path, &["diff", "--stat"]);
    assert!(proof.exists());
    fs::remove_file(&proof).unwrap();
    git(&path, &["checkout", "-q", "--", "a.txt"]);
    fs::remove_file(&proof).unwrap();

    assert_eq!(world.workspaces.remove(&context, Some(&commit)).await.unwrap(), None);
    assert!(!path.exists() && !proof.exists());
}

#[tokio::test]
pub(crate) async fn nested_repositories_are_not_entered() {
    let mut world = World::new();
    let path = world.prepare().await;
    let proof = world.at("proof");
    let nested = path.join("nested");
    fs::create_dir(&nested).unwrap();
    git(&nested, &["init", "-q"]);
    commit_file(&nested, "n.txt", "n\n");
    git(&path, &["add", "nested"]);
    git(&path, &["commit", "-q", "-m", "a link"]);
    plant(&nested, &proof);
    fs::write(nested.join("n.txt"), "changed\n").unwrap();
    fs::write(path.join("a.txt"), "changed\n").unwrap();
    let workspace = world.workspace.clone().unwrap();
    let work = world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap();
    assert_eq!(work.uncommitted, ["a.txt"]);
    assert!(world.workspaces.commit_leftovers(&world.context()).await.unwrap());
    assert!(!proof.exists(), "{}", fs::read_to_string(&proof).unwrap());
}

#[tokio::test]
pub(crate) async fn borrowed_objects_and_borrowed_refs_are_refused() {
    let mut world = World::new();
    let (path, commit) = world.worked().await;
    let workspace = world.workspace.clone().unwrap();
    for (name, text) in [("objects/info/alternates", "/tmp"), ("commondir", "/tmp")] {
        let file = within(&path, name);
        fs::write(&file, text).unwrap();
        let context = world.context();
        assert_eq!(world.workspaces.fetch_commit(&context).await.unwrap_err().code, "workspace_unreadable", "{name}");
        assert_eq!(world.workspaces.commit_leftovers(&context).await.unwrap_err().code, "workspace_unreadable");
        let inspected = world.workspaces.inspect(&world.policy, &workspace, None).await;
        assert_eq!(inspected.unwrap_err().code, "workspace_unreadable");
        // What cannot be read may hold anything: it stays.
        assert!(world.workspaces.remove(&context, Some(&commit)).await.unwrap().is_some());
        fs::remove_file(&file).unwrap();
    }
    world.workspaces.fetch_commit(&world.context()).await.unwrap();
}

#[tokio::test]
pub(crate) async fn a_git_directory_that_leads_elsewhere_is_refused() {
    let mut world = World::new();
    let path = world.prepare().await;
    fs::rename(path.join(".git"), world.at("moved.git")).unwrap();
    let context = world.context();
    std::os::unix::fs::symlink(world.at("moved.git"), path.join(".git")).unwrap();
    assert_eq!(world.workspaces.fetch_commit(&context).await.unwrap_err().code, "workspace_unreadable");
    fs::remove_file(path.join(".git")).unwrap();
    fs::write(path.join(".git"), format!("gitdir: {}\n", world.at("moved.git").display())).unwrap();
    assert_eq!(world.workspaces.fetch_commit(&context).await.unwrap_err().code, "workspace_unreadable");
    fs::remove_file(path.join(".git")).unwrap();
    assert_eq!(world.workspaces.fetch_commit(&context).await.unwrap_err().code, "workspace_unreadable");
}

#[tokio::test]
pub(crate) async fn a_missing_object_is_a_failed_fetch_and_not_a_broken_repository_of_ours() {
    let mut world = World::new();
    let path = world.prepare().await;
    commit_file(&path, "work.txt", "done\n");
    let blob = git(&path, &["rev-parse", "HEAD:work.txt"]);
    let (dir, file) = blob.split_at(2);
    fs::remove_file(within(&path, "objects").join(dir).join(file)).unwrap();
    assert_eq!(world.workspaces.fetch_commit(&world.context()).await.unwrap_err().code, "fetch_failed");
    git(&world.bare(), &["fsck", "--connectivity-only"]);
}
