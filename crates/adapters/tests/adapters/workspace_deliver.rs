//! Committing what is left, fetching, pushing, and telling whether a push took place.

use std::fs;

use dalsegno_engine::Workspaces as _;
use dalsegno_engine::core::{CommitId, EffectOutput, ProbeAnswer, WorkspaceStrategy};

use crate::workspace::{World, commit_file, git, within};

const BRANCH: &str = "dalsegno/DS-1";

#[tokio::test]
async fn an_index_without_bounds_is_not_copied() {
    let mut world = World::new();
    let path = world.prepare().await;
    let index = path.join(git(&path, &["rev-parse", "--git-path", "index"]).trim_end());
    let file = fs::File::options().write(true).open(&index).unwrap();
    let size = file.metadata().unwrap().len();
    file.set_len(1024 * 1024 * 1024 + 1).unwrap();
    let refused = world.workspaces.commit_leftovers(&world.context()).await.unwrap_err();
    assert!(refused.message.contains("larger than 1 GiB"), "{refused}");
    file.set_len(size).unwrap();
    assert!(!world.workspaces.commit_leftovers(&world.context()).await.unwrap());
}

#[tokio::test]
pub(crate) async fn leftovers_are_committed_once_with_the_issues_text_as_data() {
    let mut world = World::new();
    let path = world.prepare().await;
    let proof = world.at("proof");
    world.issue.title = format!("$(touch {0}) `touch {0}` \"; touch {0}\n#not a comment", proof.display());
    fs::write(path.join("x.ignored"), "").unwrap();
    assert!(!world.workspaces.commit_leftovers(&world.context()).await.unwrap());

    fs::write(path.join("new.txt"), "new").unwrap();
    fs::remove_file(path.join("a.txt")).unwrap();
    assert!(world.workspaces.commit_leftovers(&world.context()).await.unwrap());
    assert!(!world.workspaces.commit_leftovers(&world.context()).await.unwrap());
    let message = git(&path, &["log", "-1", "--format=%B"]);
    assert_eq!(message.trim_end(), format!("DS-1: {}", world.issue.title.replace('\n', " ")));
    assert_eq!(git(&path, &["status", "--porcelain"]), "");
    assert_eq!(git(&path, &["symbolic-ref", "--short", "HEAD"]), BRANCH);
    assert_eq!(git(&path, &["diff", "--name-status", "HEAD~", "HEAD"]), "D\ta.txt\nA\tnew.txt");
    assert!(!git(&path, &["log", "-1", "--format=%an%ae%cn%ce"]).is_empty());
    assert!(!proof.exists());
}

#[tokio::test]
pub(crate) async fn leftovers_without_any_commit_before_are_the_first_commit() {
    let mut world = World::new();
    world.policy.workspace.strategy = WorkspaceStrategy::Empty;
    let path = world.prepare().await;
    assert!(!world.workspaces.commit_leftovers(&world.context()).await.unwrap(), "no git, nothing to commit");
    assert_eq!(world.workspaces.fetch_commit(&world.context()).await.unwrap_err().code, "no_commit");
    git(&path, &["init", "-q", "-b", "main"]);
    assert_eq!(world.workspaces.fetch_commit(&world.context()).await.unwrap_err().code, "no_commit");
    assert!(!world.workspaces.commit_leftovers(&world.context()).await.unwrap());
    fs::write(path.join("first.txt"), "x").unwrap();
    assert!(world.workspaces.commit_leftovers(&world.context()).await.unwrap());
    assert_eq!(git(&path, &["ls-tree", "--name-only", "HEAD"]), "first.txt");
}

#[tokio::test]
pub(crate) async fn a_finished_merge_is_committed_as_one_and_an_unfinished_one_is_not() {
    let mut world = World::new();
    let path = world.prepare().await;
    let ours = commit_file(&path, "ours.txt", "x");
    git(&path, &["checkout", "-q", "-b", "side", "HEAD~"]);
    let side = commit_file(&path, "side.txt", "x");
    git(&path, &["checkout", "-q", BRANCH]);
    git(&path, &["merge", "-q", "--no-commit", "side"]);
    assert!(world.workspaces.commit_leftovers(&world.context()).await.unwrap());
    assert_eq!(git(&path, &["log", "-1", "--format=%P"]), format!("{ours} {side}"));
    assert_eq!(git(&path, &["status", "--porcelain"]), "");
    assert!(!within(&path, "MERGE_HEAD").exists());

    git(&path, &["checkout", "-q", "side"]);
    commit_file(&path, "both.txt", "one");
    git(&path, &["checkout", "-q", BRANCH]);
    let head = commit_file(&path, "both.txt", "two");
    let merged = std::process::Command::new("git").args(["merge", "-q", "side"]).current_dir(&path).output().unwrap();
    assert!(!merged.status.success());
    let failure = world.workspaces.commit_leftovers(&world.context()).await.unwrap_err();
    assert_eq!(failure.code, "commit_failed");
    assert_eq!(git(&path, &["rev-parse", "HEAD"]), head.to_string());
}

#[tokio::test]
pub(crate) async fn a_repository_inside_the_workspace_is_not_committed_as_an_empty_link() {
    let mut world = World::new();
    let path = world.prepare().await;
    fs::create_dir(path.join("dep")).unwrap();
    git(&path.join("dep"), &["init", "-q"]);
    commit_file(&path.join("dep"), "d.txt", "d");
    let failure = world.workspaces.commit_leftovers(&world.context()).await.unwrap_err();
    assert_eq!(failure.code, "commit_failed");
    assert!(failure.message.contains("dep") && failure.hint.is_some(), "{failure}");
}

#[tokio::test]
pub(crate) async fn the_head_is_fetched_under_the_name_of_the_run() {
    let mut world = World::new();
    let (path, commit) = world.worked().await;
    assert_eq!(git(&world.bare(), &["rev-parse", "refs/dalsegno/runs/run-1"]), commit.to_string());
    // A history that the agent rewrote is fetched as well.
    git(&path, &["commit", "-q", "--amend", "-m", "better"]);
    let amended = world.workspaces.fetch_commit(&world.context()).await.unwrap();
    assert_ne!(amended, commit);
    assert_eq!(git(&world.bare(), &["rev-parse", "refs/dalsegno/runs/run-1"]), amended.to_string());
    assert_eq!(git(&world.bare(), &["tag"]), "");
}

#[tokio::test]
pub(crate) async fn a_push_is_idempotent_and_the_probe_tells() {
    let mut world = World::new();
    let (path, commit) = world.worked().await;
    let context = world.context();
    assert_eq!(world.workspaces.probe_push(&context, &commit).await, ProbeAnswer::NotApplied);
    world.workspaces.push(&context, &commit, None, None).await.unwrap();
    assert_eq!(world.remote_branch(BRANCH), Some(commit.clone()));
    assert_eq!(world.workspaces.probe_push(&context, &commit).await, ProbeAnswer::Applied(EffectOutput::Pushed));
    world.workspaces.push(&context, &commit, None, None).await.unwrap();

    let next = commit_file(&path, "next.txt", "x");
    assert_eq!(world.workspaces.fetch_commit(&context).await.unwrap(), next);
    assert_eq!(world.workspaces.probe_push(&context, &next).await, ProbeAnswer::NotApplied);
    world.workspaces.push(&context, &next, Some(&commit), None).await.unwrap();
    world.workspaces.push(&context, &next, Some(&commit), None).await.unwrap();
    assert_eq!(world.remote_branch(BRANCH), Some(next.clone()));
    assert_eq!(world.workspaces.probe_push(&context, &commit).await, ProbeAnswer::Applied(EffectOutput::Pushed));
}

#[tokio::test]
pub(crate) async fn what_somebody_put_on_top_of_our_push_does_not_undo_it() {
    let mut world = World::new();
    let (_, commit) = world.worked().await;
    world.workspaces.push(&world.context(), &commit, None, None).await.unwrap();
    let theirs = world.somebody_pushes(BRANCH, &format!("origin/{BRANCH}"), "on-top.txt");
    let answer = world.workspaces.probe_push(&world.context(), &commit).await;
    assert_eq!(answer, ProbeAnswer::Applied(EffectOutput::Pushed));
    world.workspaces.push(&world.context(), &commit, None, None).await.unwrap();
    assert_eq!(world.remote_branch(BRANCH), Some(theirs));
}

#[tokio::test]
pub(crate) async fn a_branch_of_somebody_else_is_in_use_and_stays() {
    let mut world = World::new();
    let (_, commit) = world.worked().await;
    let theirs = world.somebody_pushes(BRANCH, "origin/main", "theirs.txt");
    let failure = world.workspaces.push(&world.context(), &commit, None, None).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("branch_in_use", false));
    assert_eq!(world.remote_branch(BRANCH), Some(theirs));
    assert_eq!(world.workspaces.probe_push(&world.context(), &commit).await, ProbeAnswer::NotApplied);
}

#[tokio::test]
pub(crate) async fn somebody_elses_branch_is_not_moved_even_where_git_would() {
    let mut world = World::new();
    let (_, commit) = world.worked().await;
    // At the base: our commit would be a fast-forward.
    git(&world.remote(), &["update-ref", &format!("refs/heads/{BRANCH}"), "refs/heads/main"]);
    let failure = world.workspaces.push(&world.context(), &commit, None, None).await.unwrap_err();
    assert_eq!(failure.code, "branch_in_use");
    assert_eq!(world.remote_branch(BRANCH), world.remote_branch("main"));
}

#[tokio::test]
pub(crate) async fn a_diverged_branch_is_never_overwritten() {
    let mut world = World::new();
    let (path, commit) = world.worked().await;
    world.workspaces.push(&world.context(), &commit, None, None).await.unwrap();
    let next = commit_file(&path, "next.txt", "x");
    world.workspaces.fetch_commit(&world.context()).await.unwrap();
    let theirs = world.somebody_pushes(BRANCH, &format!("origin/{BRANCH}"), "theirs.txt");
    let failure = world.workspaces.push(&world.context(), &next, Some(&commit), None).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("branch_diverged", false));
    assert_eq!(world.remote_branch(BRANCH), Some(theirs));
}

#[tokio::test]
pub(crate) async fn a_rewritten_history_is_not_forced() {
    let mut world = World::new();
    let (path, commit) = world.worked().await;
    world.workspaces.push(&world.context(), &commit, None, None).await.unwrap();
    git(&path, &["commit", "-q", "--amend", "-m", "rewritten"]);
    let rewritten = world.workspaces.fetch_commit(&world.context()).await.unwrap();
    let failure = world.workspaces.push(&world.context(), &rewritten, Some(&commit), None).await.unwrap_err();
    assert_eq!(failure.code, "branch_diverged");
    assert_eq!(world.remote_branch(BRANCH), Some(commit));
}

#[tokio::test]
pub(crate) async fn a_branch_that_was_deleted_meanwhile_is_made_again() {
    let mut world = World::new();
    let (path, commit) = world.worked().await;
    world.workspaces.push(&world.context(), &commit, None, None).await.unwrap();
    git(&world.remote(), &["update-ref", "-d", &format!("refs/heads/{BRANCH}")]);
    let next = commit_file(&path, "next.txt", "x");
    world.workspaces.fetch_commit(&world.context()).await.unwrap();
    world.workspaces.push(&world.context(), &next, Some(&commit), None).await.unwrap();
    assert_eq!(world.remote_branch(BRANCH), Some(next));
}

#[tokio::test]
pub(crate) async fn a_remote_that_refuses_or_is_away_is_told_apart() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut world = World::new();
    let (_, commit) = world.worked().await;
    let hook = world.remote().join("hooks/pre-receive");
    fs::create_dir_all(world.remote().join("hooks")).unwrap();
    fs::write(&hook, "#!/bin/sh\necho policy says no >&2\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let failure = world.workspaces.push(&world.context(), &commit, None, None).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("push_failed", true));
    assert!(failure.message.contains("pre-receive hook declined"), "{failure}");
    fs::remove_file(&hook).unwrap();

    fs::rename(world.remote(), world.at("away.git")).unwrap();
    let failure = world.workspaces.push(&world.context(), &commit, None, None).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("repo_unreachable", true));
    let answer = world.workspaces.probe_push(&world.context(), &commit).await;
    assert!(matches!(&answer, ProbeAnswer::Inconclusive(failure) if failure.code == "repo_unreachable"), "{answer:?}");
}

#[tokio::test]
pub(crate) async fn a_commit_that_was_never_fetched_is_not_pushed() {
    let mut world = World::new();
    let path = world.prepare().await;
    let commit = commit_file(&path, "work.txt", "x");
    let failure = world.workspaces.push(&world.context(), &commit, None, None).await.unwrap_err();
    assert_eq!(failure.code, "commit_missing");
    assert_eq!(world.remote_branch(BRANCH), None);
    let nowhere = CommitId("1".repeat(40));
    assert_eq!(world.workspaces.probe_push(&world.context(), &nowhere).await, ProbeAnswer::NotApplied);
}

#[tokio::test]
pub(crate) async fn passwords_in_the_remotes_url_are_in_no_message() {
    let mut world = World::new();
    git(&world.at("project"), &["config", "remote.origin.url", "https://me:s3cret@localhost:1/x.git"]);
    let failure = world.workspaces.prepare(&world.context(), false).await.unwrap_err();
    assert_eq!(failure.code, "repo_unreachable");
    assert!(!format!("{failure:?}").contains("s3cret"), "{failure:?}");
    world.policy.workspace.repo = "https://me:s3cret@localhost:1/x.git".to_owned();
    let failure = world.workspaces.prepare(&world.context(), false).await.unwrap_err();
    assert!(!format!("{failure:?}").contains("s3cret"), "{failure:?}");
}

#[tokio::test]
pub(crate) async fn a_push_is_taken_back_to_where_the_branch_was() {
    let mut world = World::new();
    let path = world.prepare().await;
    let (context, remote) = (world.context(), world.remote());
    let tip = || async { world.workspaces.remote_tip(&context).await.unwrap() };
    let first = commit_file(&path, "one.txt", "1");
    assert_eq!(world.workspaces.fetch_commit(&context).await.unwrap(), first);
    assert_eq!(tip().await, None);
    world.workspaces.push(&context, &first, None, Some(None)).await.unwrap();
    assert_eq!(tip().await.as_ref(), Some(&first));
    // Nowhere before: deleted, and nothing to do the second time.
    for _ in 0..2 {
        world.workspaces.undo_push(&context, &first, None).await.unwrap();
        assert_eq!(git(&remote, &["branch", "--list", BRANCH]), "");
    }

    // Somewhere before: put back there.
    world.workspaces.push(&context, &first, None, Some(None)).await.unwrap();
    let second = commit_file(&path, "two.txt", "2");
    world.workspaces.fetch_commit(&context).await.unwrap();
    world.workspaces.push(&context, &second, Some(&first), Some(Some(&first))).await.unwrap();
    for _ in 0..2 {
        world.workspaces.undo_push(&context, &second, Some(&first)).await.unwrap();
        assert_eq!(tip().await.as_ref(), Some(&first));
    }
    // It was there before: nothing was pushed, and nothing is taken back.
    world.workspaces.undo_push(&context, &first, Some(&first)).await.unwrap();
    assert_eq!(tip().await.as_ref(), Some(&first));
}

#[tokio::test]
pub(crate) async fn what_somebody_built_on_a_push_is_never_taken_back() {
    let mut world = World::new();
    let path = world.prepare().await;
    let (context, remote) = (world.context(), world.remote());
    let commit = commit_file(&path, "one.txt", "1");
    world.workspaces.fetch_commit(&context).await.unwrap();
    world.workspaces.push(&context, &commit, None, Some(None)).await.unwrap();
    let more = git(&remote, &["commit-tree", "-p", commit.as_str(), "-m", "more", &format!("{commit}^{{tree}}")]);
    git(&remote, &["update-ref", &format!("refs/heads/{BRANCH}"), &more]);
    let failure = world.workspaces.undo_push(&context, &commit, None).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("branch_built_on", false));
    assert_eq!(git(&remote, &["rev-parse", BRANCH]), more);
    // Somebody threw our commit away, and put theirs there: none of ours is left to take back.
    let theirs = git(&remote, &["commit-tree", "-m", "theirs", &format!("{commit}^{{tree}}")]);
    git(&remote, &["update-ref", &format!("refs/heads/{BRANCH}"), &theirs]);
    world.workspaces.undo_push(&context, &commit, None).await.unwrap();
    assert_eq!(git(&remote, &["rev-parse", BRANCH]), theirs);
}

#[tokio::test]
pub(crate) async fn a_branch_that_moved_since_it_was_looked_at_is_not_pushed_to() {
    let mut world = World::new();
    let path = world.prepare().await;
    let context = world.context();
    let first = commit_file(&path, "one.txt", "1");
    world.workspaces.fetch_commit(&context).await.unwrap();
    world.workspaces.push(&context, &first, None, Some(None)).await.unwrap();
    let second = commit_file(&path, "two.txt", "2");
    world.workspaces.fetch_commit(&context).await.unwrap();
    // Nowhere when it was seen, and now at what we pushed: to take that back would not be exact.
    let failure = world.workspaces.push(&context, &second, Some(&first), Some(None)).await.unwrap_err();
    assert_eq!(failure.code, "branch_diverged");
    git(&world.remote(), &["branch", "-D", BRANCH]);
    let failure = world.workspaces.push(&context, &second, Some(&first), Some(Some(&first))).await.unwrap_err();
    assert_eq!(failure.code, "branch_gone");
    // What has it already is content, wherever it was.
    world.workspaces.push(&context, &second, Some(&first), Some(None)).await.unwrap();
    world.workspaces.push(&context, &second, Some(&first), Some(Some(&first))).await.unwrap();
}

#[tokio::test]
async fn where_a_branch_is_can_be_told_before_there_is_a_workspace() {
    let mut world = World::new();
    assert_eq!(world.workspaces.branch_tip(&world.context()).await.unwrap(), None);
    let path = world.prepare().await;
    let first = commit_file(&path, "one.txt", "1");
    let context = world.context();
    assert_eq!(world.workspaces.fetch_commit(&context).await.unwrap(), first);
    world.workspaces.push(&context, &first, None, None).await.unwrap();
    assert_eq!(world.workspaces.branch_tip(&context).await.unwrap().as_ref(), Some(&first));
    // Another life knows nothing of it, and another issue has another one.
    (world.workspace, world.known_branch) = (None, None);
    assert_eq!(world.workspaces.branch_tip(&world.context()).await.unwrap(), Some(first));
    world.turn_to("DS-2");
    assert_eq!(world.workspaces.branch_tip(&world.context()).await.unwrap(), None);
}
