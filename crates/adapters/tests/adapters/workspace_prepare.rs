//! Making and finding workspaces (Symphony §9.2, §9.5, §17.2).

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use dalsegno_engine::Workspaces as _;
use dalsegno_engine::core::{CommitId, KnownBranch, WorkspaceStrategy};

use crate::workspace::{World, commit_file, git, issue, within};

fn known(name: &str, commit: Option<&CommitId>) -> Option<KnownBranch> {
    Some(KnownBranch { name: name.to_owned(), commit: commit.cloned() })
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files
}

#[tokio::test]
pub(crate) async fn symphony_17_2_a_missing_workspace_is_made_and_an_existing_one_reused() {
    let world = World::new();
    let base = world.remote_branch("main").unwrap();
    let (workspace, created) = world.workspaces.prepare(&world.context(), false).await.unwrap();
    assert!(created);
    assert_eq!(workspace.path, world.at("workspaces/DS-1").display().to_string());
    assert_eq!(workspace.branch.as_deref(), Some("dalsegno/DS-1"));
    assert_eq!(workspace.base_commit.as_ref(), Some(&base));
    let path = PathBuf::from(&workspace.path);
    assert_eq!(git(&path, &["symbolic-ref", "HEAD"]), "refs/heads/dalsegno/DS-1");
    assert_eq!(git(&path, &["rev-parse", "HEAD", "origin/main"]), format!("{base}\n{base}"));
    assert_eq!(git(&path, &["status", "--porcelain"]), "");

    // As it is: neither the file nor the base that moved on meanwhile change anything.
    fs::write(path.join("half.txt"), "half").unwrap();
    world.somebody_pushes("main", "origin/main", "new.txt");
    let (again, created) = world.workspaces.prepare(&world.context(), false).await.unwrap();
    assert!(!created);
    assert_eq!(again, workspace);
    assert_eq!(fs::read_to_string(path.join("half.txt")).unwrap(), "half");
}

#[tokio::test]
pub(crate) async fn a_workspace_shares_nothing_and_knows_no_remote() {
    let mut world = World::new();
    let path = world.prepare().await;
    assert_eq!(git(&path, &["remote"]), "");
    assert!(!within(&path, "objects/info/alternates").exists());
    let objects = files_below(&within(&path, "objects"));
    assert!(!objects.is_empty());
    assert!(objects.iter().all(|file| fs::metadata(file).unwrap().nlink() == 1));
    let config = fs::read_to_string(within(&path, "config")).unwrap();
    assert!(!config.contains("remote.git"), "{config}");
}

#[tokio::test]
pub(crate) async fn tags_of_the_base_come_along() {
    let mut world = World::new();
    git(&world.at("project"), &["tag", "v1"]);
    git(&world.at("project"), &["push", "-q", "origin", "v1"]);
    let path = world.prepare().await;
    assert_eq!(git(&path, &["tag"]), "v1");
}

#[tokio::test]
pub(crate) async fn what_a_crash_left_half_made_is_never_taken_for_whole() {
    let world = World::new();
    // Cut while the clone was filled, and, from another life, a marker whose directory never came.
    let half = world.at("workspaces/.dalsegno/new/DS-1");
    fs::create_dir_all(half.join(".git")).unwrap();
    fs::write(half.join("junk.txt"), "junk").unwrap();
    fs::write(
        world.at("workspaces/.dalsegno/DS-1.json"),
        r#"{"format":1,"identifier":"DS-1","branch":"old","base_commit":null}"#,
    )
    .unwrap();
    let (workspace, created) = world.workspaces.prepare(&world.context(), false).await.unwrap();
    assert!(created);
    assert_eq!(workspace.branch.as_deref(), Some("dalsegno/DS-1"));
    let path = PathBuf::from(workspace.path);
    assert!(path.join("a.txt").exists() && !path.join("junk.txt").exists() && !half.exists());
}

#[tokio::test]
pub(crate) async fn a_directory_without_a_marker_is_moved_aside() {
    let world = World::new();
    fs::create_dir_all(world.at("workspaces/DS-1/.git")).unwrap();
    fs::write(world.at("workspaces/DS-1/somebodys.txt"), "work").unwrap();
    let (_, created) = world.workspaces.prepare(&world.context(), false).await.unwrap();
    assert!(created);
    assert!(world.at("workspaces/DS-1/a.txt").exists());
    assert_eq!(fs::read_to_string(world.at("workspaces/DS-1.kept-1/somebodys.txt")).unwrap(), "work");
}

#[tokio::test]
pub(crate) async fn the_journal_vouches_for_a_workspace_whose_marker_is_lost() {
    let mut world = World::new();
    let path = world.prepare().await;
    fs::remove_dir_all(world.at("workspaces/.dalsegno")).unwrap();
    fs::write(path.join("half.txt"), "half").unwrap();
    let (workspace, created) = world.workspaces.prepare(&world.context(), false).await.unwrap();
    assert!(!created);
    assert_eq!(Some(workspace), world.workspace);
    assert!(path.join("half.txt").exists() && world.at("workspaces/.dalsegno/DS-1.json").exists());
}

#[tokio::test]
pub(crate) async fn made_anew_it_keeps_dirty_work_aside_and_throws_clean_work_away() {
    let mut world = World::new();
    let path = world.prepare().await;
    fs::write(path.join("x.ignored"), "does not count").unwrap();
    assert!(world.workspaces.prepare(&world.context(), true).await.unwrap().1);
    assert!(!path.join("x.ignored").exists() && !world.at("workspaces/DS-1.kept-1").exists());

    fs::write(path.join("uncommitted.txt"), "x").unwrap();
    assert!(world.workspaces.prepare(&world.context(), true).await.unwrap().1);
    assert!(!path.join("uncommitted.txt").exists());
    assert!(world.at("workspaces/DS-1.kept-1/uncommitted.txt").exists());

    commit_file(&path, "unpushed.txt", "x");
    assert!(world.workspaces.prepare(&world.context(), true).await.unwrap().1);
    assert!(!path.join("unpushed.txt").exists());
    assert!(world.at("workspaces/DS-1.kept-2/unpushed.txt").exists());
}

#[tokio::test]
pub(crate) async fn locks_of_a_dead_daemon_are_removed_at_the_first_use_only() {
    let mut world = World::new();
    world.prepare().await;
    let lock = world.bare().join("packed-refs.lock");
    let deep = world.bare().join("refs/dalsegno/base/x.lock");
    fs::write(&lock, "").unwrap();
    fs::write(&deep, "").unwrap();
    world.issue = issue("DS-2");
    world.workspace = None;
    world.prepare().await;
    assert!(lock.exists() && deep.exists(), "a lock in this life may be somebody's");
    world.restart();
    world.issue = issue("DS-3");
    world.workspace = None;
    world.prepare().await;
    assert!(!lock.exists() && !deep.exists());
}

#[tokio::test]
pub(crate) async fn symphony_17_2_a_link_that_leads_out_of_the_root_is_refused() {
    let mut world = World::new();
    let outside = world.at("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious.txt"), "x").unwrap();
    let path = world.prepare().await;
    fs::remove_dir_all(&path).unwrap();
    symlink(&outside, &path).unwrap();
    let context = world.context();
    let prepared = world.workspaces.prepare(&context, false).await.unwrap_err();
    assert_eq!(prepared.code, "workspace_outside_root");
    assert_eq!(world.workspaces.prepare(&context, true).await.unwrap_err().code, "workspace_outside_root");
    assert_eq!(world.workspaces.remove(&context, None).await.unwrap_err().code, "workspace_outside_root");
    assert_eq!(world.workspaces.commit_leftovers(&context).await.unwrap_err().code, "workspace_outside_root");
    assert_eq!(world.workspaces.fetch_commit(&context).await.unwrap_err().code, "workspace_outside_root");
    assert!(outside.join("precious.txt").exists());

    // A path of the journal that is not below the root.
    world.workspace.as_mut().unwrap().path = outside.display().to_string();
    assert_eq!(world.workspaces.remove(&world.context(), None).await.unwrap_err().code, "workspace_outside_root");
    assert!(outside.join("precious.txt").exists());
}

#[tokio::test]
pub(crate) async fn our_own_directory_below_the_root_must_not_lead_out_either() {
    let world = World::new();
    let outside = world.at("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir_all(world.at("workspaces")).unwrap();
    symlink(&outside, world.at("workspaces/.dalsegno")).unwrap();
    let failure = world.workspaces.prepare(&world.context(), false).await.unwrap_err();
    assert_eq!(failure.code, "workspace_outside_root");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
pub(crate) async fn a_root_that_is_itself_reached_by_a_link_is_fine() {
    let mut world = World::new();
    fs::create_dir(world.at("real")).unwrap();
    symlink(world.at("real"), world.at("workspaces")).unwrap();
    let path = world.prepare().await;
    assert_eq!(path, world.at("real/DS-1"));
    assert!(!world.workspaces.prepare(&world.context(), false).await.unwrap().1);
}

#[tokio::test]
pub(crate) async fn symphony_17_2_a_file_in_the_place_of_a_workspace_is_an_error() {
    let world = World::new();
    fs::create_dir_all(world.at("workspaces")).unwrap();
    fs::write(world.at("workspaces/DS-1"), "a file").unwrap();
    let failure = world.workspaces.prepare(&world.context(), false).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("workspace_not_a_directory", false));
    assert_eq!(fs::read_to_string(world.at("workspaces/DS-1")).unwrap(), "a file");
}

#[tokio::test]
pub(crate) async fn symphony_17_2_identifiers_that_sanitise_alike_get_workspaces_of_their_own() {
    let mut world = World::new();
    let mut paths = Vec::new();
    let mut branches = Vec::new();
    for identifier in ["a/b", "a b", "a_b", "../a_b"] {
        world.issue = issue(identifier);
        world.workspace = None;
        let path = world.prepare().await;
        assert_eq!(path.parent(), Some(world.at("workspaces").as_path()));
        paths.push(path);
        branches.push(world.workspace.as_ref().unwrap().branch.clone());
    }
    paths.sort();
    paths.dedup();
    branches.sort();
    branches.dedup();
    assert_eq!((paths.len(), branches.len()), (4, 4));
}

#[tokio::test]
pub(crate) async fn a_marker_of_another_issue_is_no_marker_of_ours() {
    let mut world = World::new();
    world.prepare().await;
    // What a file system without case does with `ds-1`.
    let marker = fs::read_to_string(world.at("workspaces/.dalsegno/DS-1.json")).unwrap();
    fs::write(world.at("workspaces/.dalsegno/DS-1.json"), marker.replace("DS-1\",", "ds-1\",")).unwrap();
    assert_eq!(world.workspaces.prepare(&world.context(), false).await.unwrap_err().code, "workspace_key_taken");
}

#[tokio::test]
pub(crate) async fn an_existing_branch_is_adopted_only_at_the_commit_that_the_journal_knows() {
    let mut world = World::new();
    let theirs = world.somebody_pushes("dalsegno/DS-1", "origin/main", "theirs.txt");
    let base = world.remote_branch("main").unwrap();
    for journal in [None, known("dalsegno/DS-1", None), known("dalsegno/DS-1", Some(&base))] {
        world.known_branch = journal;
        let failure = world.workspaces.prepare(&world.context(), false).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("branch_in_use", false));
        assert!(!world.at("workspaces/DS-1").exists());
    }
    world.somebody_pushes("main", "origin/main", "later.txt");
    world.known_branch = known("dalsegno/DS-1", Some(&theirs));
    let path = world.prepare().await;
    assert_eq!(git(&path, &["rev-parse", "HEAD"]), theirs.to_string());
    assert!(path.join("theirs.txt").exists());
    assert_eq!(world.workspace.unwrap().base_commit, Some(base), "where the branch left the base");
}

#[tokio::test]
pub(crate) async fn a_known_branch_that_the_remote_lost_begins_at_the_base_again() {
    let mut world = World::new();
    let base = world.remote_branch("main").unwrap();
    world.known_branch = known("kept/name", Some(&CommitId("1".repeat(40))));
    let path = world.prepare().await;
    assert_eq!(git(&path, &["rev-parse", "HEAD"]), base.to_string());
    assert_eq!(git(&path, &["symbolic-ref", "--short", "HEAD"]), "kept/name");
}

#[tokio::test]
pub(crate) async fn a_branch_that_is_in_the_way_of_the_name_is_seen_at_once() {
    let world = World::new();
    world.somebody_pushes("dalsegno", "origin/main", "x.txt");
    assert_eq!(world.workspaces.prepare(&world.context(), false).await.unwrap_err().code, "branch_in_use");
}

#[tokio::test]
pub(crate) async fn the_base_may_be_a_branch_a_tag_or_a_commit_of_the_remote() {
    let mut world = World::new();
    let main = world.remote_branch("main").unwrap();
    let other = world.somebody_pushes("release/1", "origin/main", "r.txt");
    git(&world.at("project"), &["tag", "-a", "-m", "v1", "v1"]);
    git(&world.at("project"), &["push", "-q", "origin", "v1"]);
    for (n, (base, commit)) in
        [("release/1", &other), ("v1", &main), (main.as_str(), &main), ("refs/heads/main", &main)]
            .into_iter()
            .enumerate()
    {
        world.policy.workspace.base = Some(base.to_owned());
        world.issue = issue(&format!("B-{n}"));
        world.workspace = None;
        let path = world.prepare().await;
        assert_eq!(git(&path, &["rev-parse", "HEAD"]), commit.to_string(), "{base}");
    }
    for base in ["no-such-branch", &"1".repeat(40)] {
        world.policy.workspace.base = Some(base.to_owned());
        world.issue = issue("B-9");
        world.workspace = None;
        assert_eq!(
            world.workspaces.prepare(&world.context(), false).await.unwrap_err().code,
            "base_not_found",
            "{base}"
        );
    }
}

#[tokio::test]
pub(crate) async fn the_remote_may_be_relative_the_repository_itself_or_a_url() {
    let mut world = World::new();
    git(&world.at("project"), &["config", "remote.origin.url", "../remote.git"]);
    fs::create_dir(world.at("project/below")).unwrap();
    world.policy.workspace.repo = world.at("project/below").display().to_string();
    world.prepare().await;

    git(&world.at("project"), &["remote", "remove", "origin"]);
    let local = commit_file(&world.at("project"), "local.txt", "never pushed\n");
    world.issue = issue("DS-2");
    let path = world.prepare().await;
    assert_eq!(git(&path, &["rev-parse", "HEAD"]), local.to_string());

    world.policy.workspace.repo = format!("file://{}", world.remote().display());
    world.issue = issue("DS-3");
    let path = world.prepare().await;
    assert_eq!(git(&path, &["rev-parse", "HEAD"]), world.remote_branch("main").unwrap().to_string());
}

#[tokio::test]
pub(crate) async fn a_remote_that_does_not_answer_may_answer_later() {
    let world = World::new();
    fs::rename(world.remote(), world.at("away.git")).unwrap();
    let failure = world.workspaces.prepare(&world.context(), false).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("repo_unreachable", true));
    assert!(failure.hint.is_some());
    fs::rename(world.at("away.git"), world.remote()).unwrap();
    assert!(world.workspaces.prepare(&world.context(), false).await.unwrap().1);
}

#[tokio::test]
pub(crate) async fn a_remote_without_commits_has_no_base() {
    let mut world = World::new();
    fs::create_dir(world.at("empty.git")).unwrap();
    git(&world.at("empty.git"), &["init", "-q", "--bare"]);
    world.policy.workspace.repo = world.at("empty.git").display().to_string();
    assert_eq!(world.workspaces.prepare(&world.context(), false).await.unwrap_err().code, "base_not_found");
}

#[tokio::test]
pub(crate) async fn an_empty_workspace_has_no_git_and_an_existing_directory_is_reused() {
    let mut world = World::new();
    world.policy.workspace.strategy = WorkspaceStrategy::Empty;
    let (workspace, created) = world.workspaces.prepare(&world.context(), false).await.unwrap();
    assert!(created);
    assert_eq!((workspace.branch.as_ref(), workspace.base_commit.as_ref()), (None, None));
    assert_eq!(fs::read_dir(&workspace.path).unwrap().count(), 0);
    assert!(!world.workspaces.prepare(&world.context(), false).await.unwrap().1);

    world.issue = issue("DS-2");
    fs::create_dir_all(world.at("workspaces/DS-2")).unwrap();
    fs::write(world.at("workspaces/DS-2/there.txt"), "x").unwrap();
    assert!(!world.workspaces.prepare(&world.context(), false).await.unwrap().1);
    assert!(world.at("workspaces/DS-2/there.txt").exists());
}

#[tokio::test]
pub(crate) async fn canceled_it_gives_up_and_leaves_nothing_that_looks_whole() {
    let world = World::new();
    world.cancel.cancel();
    assert_eq!(world.workspaces.prepare(&world.context(), false).await.unwrap_err().code, "canceled");
    assert!(!world.at("workspaces/DS-1").exists());
}

#[tokio::test]
pub(crate) async fn several_issues_are_prepared_at_once() {
    let mut world = World::new();
    let mut contexts = Vec::new();
    for n in 0..6 {
        world.issue = issue(&format!("P-{n}"));
        contexts.push(world.context());
    }
    let made = futures::future::join_all(contexts.iter().map(|context| world.workspaces.prepare(context, false))).await;
    assert!(made.into_iter().all(|made| made.unwrap().1));
}

#[tokio::test]
pub(crate) async fn preflight_says_what_is_wrong_with_the_repository_and_the_root() {
    let mut world = World::new();
    world.workspaces.preflight(&world.policy).await.unwrap();
    let good = world.policy.clone();

    fs::create_dir(world.at("plain")).unwrap();
    for repo in ["no-such-directory", "plain"] {
        world.policy.workspace.repo = world.at(repo).display().to_string();
        let failure = world.workspaces.preflight(&world.policy).await.unwrap_err();
        assert_eq!(failure.code, "repo_not_found");
        assert_eq!(failure.hint.as_deref(), Some("set workspace.repo, or workspace.strategy: empty"));
        world.policy.workspace.strategy = WorkspaceStrategy::Empty;
        world.workspaces.preflight(&world.policy).await.unwrap();
        world.policy.workspace.strategy = WorkspaceStrategy::Clone;
    }

    world.policy = good.clone();
    world.policy.handoff.as_mut().unwrap().remote = "upsteam".to_owned();
    assert_eq!(world.workspaces.preflight(&world.policy).await.unwrap_err().code, "remote_not_found");

    world.policy = good;
    fs::write(world.at("file"), "").unwrap();
    world.policy.workspace.root = world.at("file/below").display().to_string();
    assert_eq!(world.workspaces.preflight(&world.policy).await.unwrap_err().code, "workspace_root_unusable");
}

#[tokio::test]
pub(crate) async fn a_making_that_was_cut_before_it_could_say_so_is_a_making_still() {
    let mut world = World::new();
    let path = world.prepare().await;
    fs::remove_dir_all(&path).unwrap();
    world.key = Some("run-2/prepare".to_owned());
    assert!(world.workspaces.prepare(&world.context(), false).await.unwrap().1);
    // Killed before the outcome was recorded: the next daemon performs the same effect again.
    world.restart();
    let (workspace, created) = world.workspaces.prepare(&world.context(), false).await.unwrap();
    assert_eq!((Path::new(&workspace.path), created), (path.as_path(), true));
    world.key = Some("run-3/prepare".to_owned());
    assert!(!world.workspaces.prepare(&world.context(), false).await.unwrap().1);
}
