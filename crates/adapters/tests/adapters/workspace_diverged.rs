//! A branch of ours that somebody else went on with, or made while we looked away.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use dalsegno_engine::Workspaces as _;
use dalsegno_engine::core::CommitId;

use crate::workspace::{World, commit_file, git, within};

/// Our branch is on the remote, and somebody committed on it since; answers our commit, and theirs.
async fn diverged(world: &mut World) -> (CommitId, CommitId) {
    let (_, ours) = world.worked().await;
    world.workspaces.push(&world.context(), &ours, None, None).await.unwrap();
    let theirs = world.somebody_pushes("dalsegno/DS-1", "origin/dalsegno/DS-1", "theirs.txt");
    (ours, theirs)
}

#[tokio::test]
pub(crate) async fn the_remotes_commits_are_brought_merged_and_pushed() {
    let mut world = World::new();
    let (ours, theirs) = diverged(&mut world).await;
    let path = std::path::PathBuf::from(&world.workspace.as_ref().unwrap().path);
    let next = commit_file(&path, "next.txt", "next\n");
    world.workspaces.fetch_commit(&world.context()).await.unwrap();
    let refused = world.workspaces.push(&world.context(), &next, Some(&ours), None).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.retryable), ("branch_diverged", false));
    assert_eq!(world.workspaces.bring_remote(&world.context()).await.unwrap(), theirs);
    // A second time, as after a crash, is the same.
    assert_eq!(world.workspaces.bring_remote(&world.context()).await.unwrap(), theirs);
    assert_eq!(git(&path, &["rev-parse", "refs/remotes/origin/dalsegno/DS-1"]), theirs.as_str());
    assert_eq!(git(&path, &["rev-parse", "HEAD"]), next.as_str(), "the work itself is not touched");
    git(&path, &["merge", "-q", "origin/dalsegno/DS-1"]);
    let merged = world.workspaces.fetch_commit(&world.context()).await.unwrap();
    world.workspaces.push(&world.context(), &merged, Some(&ours), None).await.unwrap();
    assert_eq!(world.remote_branch("dalsegno/DS-1"), Some(merged));
}

#[tokio::test]
pub(crate) async fn bringing_runs_nothing_of_the_workspace() {
    let mut world = World::new();
    diverged(&mut world).await;
    let path = std::path::PathBuf::from(&world.workspace.as_ref().unwrap().path);
    let (evil, proof) = (world.at("evil.sh"), world.at("proof"));
    fs::write(&evil, format!("#!/bin/sh\necho \"$0 $*\" >> '{}'\n", proof.display())).unwrap();
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
    let run = evil.display().to_string();
    // git takes a path on the command line for the name of a remote, if there is one.
    for name in ["origin".to_owned(), world.bare().display().to_string(), world.remote().display().to_string()] {
        git(&path, &["config", &format!("remote.{name}.uploadpack"), &run]);
        git(&path, &["config", &format!("remote.{name}.url"), &format!("ext::{run}")]);
    }
    git(&path, &["config", &format!("url.ext::{run} .insteadOf"), "/"]);
    fs::create_dir_all(within(&path, "hooks")).unwrap();
    for name in ["reference-transaction", "post-merge", "post-checkout"] {
        fs::copy(&evil, within(&path, "hooks").join(name)).unwrap();
    }
    world.workspaces.bring_remote(&world.context()).await.unwrap();
    assert!(!proof.exists(), "{}", fs::read_to_string(&proof).unwrap());
}

#[tokio::test]
pub(crate) async fn a_branch_that_is_gone_cannot_be_brought() {
    let mut world = World::new();
    diverged(&mut world).await;
    git(&world.remote(), &["update-ref", "-d", "refs/heads/dalsegno/DS-1"]);
    let failure = world.workspaces.bring_remote(&world.context()).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("branch_gone", false));
}

#[tokio::test]
pub(crate) async fn a_diverged_branch_is_brought_from_inside_the_sandbox() {
    if !crate::sandbox::there().await {
        return;
    }
    let mut world = World::new();
    world.policy.agent.sandbox = dalsegno_engine::core::Sandbox::Bubblewrap;
    let (_, theirs) = diverged(&mut world).await;
    assert_eq!(world.workspaces.bring_remote(&world.context()).await.unwrap(), theirs);
}

/// Between our look and our push, somebody does `meanwhile` on the remote: the push goes through a program of the test.
fn meddle(world: &World, meanwhile: &str) {
    let ssh = world.at("ssh.sh");
    let text = format!("#!/bin/sh\n{meanwhile}\nfor last; do :; done\nexec sh -c \"$last\"\n");
    fs::write(&ssh, text).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let bare = world.bare();
    git(&bare, &["config", "core.sshCommand", &ssh.display().to_string()]);
    git(&bare, &["config", "ssh.variant", "ssh"]);
    git(&bare, &["config", "url.ssh://there/.pushInsteadOf", "/"]);
}

#[tokio::test]
pub(crate) async fn a_branch_made_between_look_and_push_is_not_moved_on() {
    let mut world = World::new();
    let (_, commit) = world.worked().await;
    let base = world.workspace.clone().unwrap().base_commit;
    // At our base: git alone would move it on.
    meddle(&world, &format!("git -C '{}' branch -q dalsegno/DS-1 main", world.remote().display()));
    let refused = world.workspaces.push(&world.context(), &commit, None, None).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.retryable), ("branch_in_use", false));
    assert_eq!(world.remote_branch("dalsegno/DS-1"), base);
}

#[tokio::test]
pub(crate) async fn a_branch_moved_between_look_and_push_is_not_overwritten() {
    let mut world = World::new();
    let (path, first) = world.worked().await;
    world.workspaces.push(&world.context(), &first, None, None).await.unwrap();
    let second = commit_file(&path, "second.txt", "2\n");
    world.workspaces.fetch_commit(&world.context()).await.unwrap();
    let base = world.workspace.clone().unwrap().base_commit;
    // Put back to our base: git alone would move it on from there.
    meddle(&world, &format!("git -C '{}' update-ref refs/heads/dalsegno/DS-1 main", world.remote().display()));
    let refused = world.workspaces.push(&world.context(), &second, Some(&first), None).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.retryable), ("branch_diverged", false));
    assert_eq!(world.remote_branch("dalsegno/DS-1"), base);
}
