//! What an agent plants in its repository does not run by our hand (01-architecture.md, "Git is hostile ground").

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dalsegno_engine::Workspaces as _;

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
    let (passed, tail) = world.workspaces.run_check(&context, &commit, "cat a.txt new.txt").await.unwrap();
    assert!(passed, "{tail}");
    assert_eq!(tail, "changed\nnew\n");
    world.workspaces.push(&context, &commit, None).await.unwrap();
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
