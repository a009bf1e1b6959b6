//! Looking at work, and removing workspaces without losing any.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use dalsegno_engine::Workspaces as _;
use dalsegno_engine::core::WorkspaceStrategy;

use crate::workspace::{World, commit_file, git, within};

#[tokio::test]
pub(crate) async fn work_is_what_is_uncommitted_and_what_is_beyond_the_point_asked_for() {
    let mut world = World::new();
    let path = world.prepare().await;
    let workspace = world.workspace.clone().unwrap();
    let base = workspace.base_commit.clone().unwrap();
    let fresh = world.workspaces.inspect(&world.policy, &workspace, Some(&base)).await.unwrap();
    assert_eq!((fresh.head.as_ref(), fresh.has_commits, fresh.uncommitted.len()), (Some(&base), false, 0));

    fs::write(path.join("x.ignored"), "").unwrap();
    fs::write(path.join("new file \u{e4}.txt"), "").unwrap();
    fs::remove_file(path.join("a.txt")).unwrap();
    let dirty = world.workspaces.inspect(&world.policy, &workspace, Some(&base)).await.unwrap();
    assert_eq!(dirty.uncommitted, ["a.txt", "new file \u{e4}.txt"]);
    assert!(!dirty.has_commits);

    let commit = commit_file(&path, "b.txt", "b");
    let done = world.workspaces.inspect(&world.policy, &workspace, Some(&base)).await.unwrap();
    assert_eq!((done.head.as_ref(), done.has_commits, done.uncommitted.len()), (Some(&commit), true, 0));
    let handed = world.workspaces.inspect(&world.policy, &workspace, Some(&commit)).await.unwrap();
    assert!(!handed.has_commits);

    for n in 0..80 {
        fs::write(path.join(format!("many-{n}")), "").unwrap();
    }
    assert_eq!(world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap().uncommitted.len(), 50);
}

#[tokio::test]
pub(crate) async fn a_look_leaves_the_index_and_its_lock_alone() {
    let mut world = World::new();
    let path = world.prepare().await;
    fs::write(within(&path, "index.lock"), "the agent's git is at work").unwrap();
    let before = fs::read(within(&path, "index")).unwrap();
    fs::write(path.join("a.txt"), "changed").unwrap();
    let workspace = world.workspace.clone().unwrap();
    let work = world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap();
    assert_eq!(work.uncommitted, ["a.txt"]);
    assert_eq!(fs::read(within(&path, "index")).unwrap(), before);
    assert!(within(&path, "index.lock").exists());
}

#[tokio::test]
pub(crate) async fn a_workspace_that_is_gone_is_missing_to_who_needs_it() {
    let mut world = World::new();
    let path = world.prepare().await;
    fs::remove_dir_all(&path).unwrap();
    let workspace = world.workspace.clone().unwrap();
    let failure = world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap_err();
    assert_eq!(failure.code, "workspace_missing");
    assert_eq!(world.workspaces.remove(&world.context(), None).await.unwrap(), None);
    assert!(!world.at("workspaces/.dalsegno/DS-1.json").exists());
}

#[tokio::test]
pub(crate) async fn a_workspace_goes_when_nothing_is_lost_with_it() {
    let mut world = World::new();
    let (path, commit) = world.worked().await;
    let why = world.workspaces.remove(&world.context(), None).await.unwrap().unwrap();
    assert!(why.contains(commit.as_str()), "{why}");

    fs::write(path.join("left.txt"), "").unwrap();
    let why = world.workspaces.remove(&world.context(), Some(&commit)).await.unwrap().unwrap();
    assert!(why.contains("left.txt"), "{why}");
    fs::remove_file(path.join("left.txt")).unwrap();

    git(&path, &["branch", "idea"]);
    git(&path, &["checkout", "-q", "idea"]);
    let idea = commit_file(&path, "idea.txt", "an idea");
    git(&path, &["checkout", "-q", "dalsegno/DS-1"]);
    let why = world.workspaces.remove(&world.context(), Some(&commit)).await.unwrap().unwrap();
    assert!(why.contains(idea.as_str()), "{why}");
    git(&path, &["branch", "-q", "-D", "idea"]);

    fs::write(path.join("a.txt"), "stashed").unwrap();
    git(&path, &["stash", "-q"]);
    assert!(world.workspaces.remove(&world.context(), Some(&commit)).await.unwrap().is_some());
    git(&path, &["stash", "drop", "-q"]);
    assert!(path.exists());

    fs::write(path.join("x.ignored"), "does not count").unwrap();
    assert_eq!(world.workspaces.remove(&world.context(), Some(&commit)).await.unwrap(), None);
    assert!(!path.exists() && !world.at("workspaces/.dalsegno/DS-1.json").exists());
    assert_eq!(world.workspaces.remove(&world.context(), Some(&commit)).await.unwrap(), None, "gone is gone");
}

#[tokio::test]
pub(crate) async fn read_only_files_and_directories_do_not_stop_a_removal() {
    let mut world = World::new();
    let path = world.prepare().await;
    let deep = path.join("cache.ignored/deep");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "").unwrap();
    std::os::unix::fs::symlink(world.at("project"), deep.join("link")).unwrap();
    for (name, mode) in [("cache.ignored/deep/file", 0o400), ("cache.ignored/deep", 0o500), ("cache.ignored", 0o500)] {
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    assert_eq!(world.workspaces.remove(&world.context(), None).await.unwrap(), None);
    assert!(!path.exists());
    assert!(!world.at("workspaces/.dalsegno/old/DS-1").exists());
    assert!(world.at("project/a.txt").exists(), "links are not followed");
}

#[tokio::test]
pub(crate) async fn a_removal_that_was_cut_is_finished_by_the_next() {
    let mut world = World::new();
    let path = world.prepare().await;
    fs::create_dir_all(world.at("workspaces/.dalsegno/old")).unwrap();
    fs::rename(&path, world.at("workspaces/.dalsegno/old/DS-1")).unwrap();
    assert_eq!(world.workspaces.remove(&world.context(), None).await.unwrap(), None);
    assert!(!world.at("workspaces/.dalsegno/old/DS-1").exists());
}

#[tokio::test]
pub(crate) async fn an_empty_workspace_goes_unless_a_repository_in_it_has_work() {
    let mut world = World::new();
    world.policy.workspace.strategy = WorkspaceStrategy::Empty;
    let path = world.prepare().await;
    fs::write(path.join("notes.txt"), "x").unwrap();
    assert_eq!(world.workspaces.remove(&world.context(), None).await.unwrap(), None);
    assert!(!path.exists());

    world.workspace = None;
    let path = world.prepare().await;
    git(&path, &["clone", "-q", &world.remote().display().to_string(), "."]);
    let commit = commit_file(&path, "work.txt", "x");
    assert!(world.workspaces.remove(&world.context(), None).await.unwrap().unwrap().contains(commit.as_str()));
    git(&path, &["push", "-q", "origin", "HEAD:main"]);
    assert_eq!(world.workspaces.remove(&world.context(), None).await.unwrap(), None);
    assert!(!path.exists());
}
