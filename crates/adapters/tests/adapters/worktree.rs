//! The tests of workspaces once more, with `workspace.strategy: worktree`.

use std::fs;

use dalsegno_engine::Workspaces as _;

use crate::workspace::{World, commit_file, git, issue, on_worktrees, within};

macro_rules! again {
    ($($file:ident: $($test:ident),* $(,)?;)*) => {
        $(mod $file { $(#[test] fn $test() { super::on_worktrees(crate::$file::$test); })* })*
    };
}

again! {
    workspace_deliver: leftovers_are_committed_once_with_the_issues_text_as_data, leftovers_without_any_commit_before_are_the_first_commit, a_finished_merge_is_committed_as_one_and_an_unfinished_one_is_not, a_repository_inside_the_workspace_is_not_committed_as_an_empty_link, the_head_is_fetched_under_the_name_of_the_run, a_push_is_idempotent_and_the_probe_tells, what_somebody_put_on_top_of_our_push_does_not_undo_it, a_branch_of_somebody_else_is_in_use_and_stays, somebody_elses_branch_is_not_moved_even_where_git_would, a_diverged_branch_is_never_overwritten, a_rewritten_history_is_not_forced, a_branch_that_was_deleted_meanwhile_is_made_again, a_remote_that_refuses_or_is_away_is_told_apart, a_commit_that_was_never_fetched_is_not_pushed, passwords_in_the_remotes_url_are_in_no_message;
    workspace_diverged: the_remotes_commits_are_brought_merged_and_pushed, bringing_runs_nothing_of_the_workspace, a_branch_that_is_gone_cannot_be_brought, a_diverged_branch_is_brought_from_inside_the_sandbox, a_branch_made_between_look_and_push_is_not_moved_on, a_branch_moved_between_look_and_push_is_not_overwritten;
    workspace_hostile: nothing_that_an_agent_configured_is_run, nested_repositories_are_not_entered, borrowed_objects_and_borrowed_refs_are_refused, a_git_directory_that_leads_elsewhere_is_refused, a_missing_object_is_a_failed_fetch_and_not_a_broken_repository_of_ours;
    workspace_plants: urls_that_are_rewritten_lead_nowhere, included_configuration_and_a_hooks_path_are_not_run, a_work_tree_that_is_said_to_be_elsewhere_is_the_workspace_nevertheless, objects_behind_an_alternate_or_a_link_are_refused, a_pipe_in_the_git_directory_is_not_waited_for, submodules_stay_as_they_are_and_nothing_of_theirs_is_run, links_in_the_work_tree_are_committed_as_links_and_read_by_nobody, a_workspace_that_became_a_link_is_refused, branches_below_ours_are_in_the_way_of_its_name, stale_locks_in_a_workspace_are_told_and_go_after_the_sweep, stale_locks_in_our_own_repository_go_at_the_first_use_of_a_new_daemon, replaced_and_grafted_commits_are_taken_for_what_they_are, odd_and_long_file_names_are_files_like_others, a_shallow_workspace_makes_no_shallow_repository_of_ours, a_corrupt_repository_is_a_clear_error, a_base_that_was_rewritten_changes_nothing_for_a_workspace_that_is_there, pointers_of_lfs_stay_pointers_without_lfs, the_hash_of_what_is_uncommitted_follows_its_content;
    workspace_prepare: symphony_17_2_a_missing_workspace_is_made_and_an_existing_one_reused, a_workspace_shares_nothing_and_knows_no_remote, tags_of_the_base_come_along, what_a_crash_left_half_made_is_never_taken_for_whole, a_directory_without_a_marker_is_moved_aside, the_journal_vouches_for_a_workspace_whose_marker_is_lost, made_anew_it_keeps_dirty_work_aside_and_throws_clean_work_away, locks_of_a_dead_daemon_are_removed_at_the_first_use_only, symphony_17_2_a_link_that_leads_out_of_the_root_is_refused, our_own_directory_below_the_root_must_not_lead_out_either, a_root_that_is_itself_reached_by_a_link_is_fine, symphony_17_2_a_file_in_the_place_of_a_workspace_is_an_error, symphony_17_2_identifiers_that_sanitise_alike_get_workspaces_of_their_own, a_marker_of_another_issue_is_no_marker_of_ours, an_existing_branch_is_adopted_only_at_the_commit_that_the_journal_knows, a_known_branch_that_the_remote_lost_begins_at_the_base_again, a_branch_that_is_in_the_way_of_the_name_is_seen_at_once, the_base_may_be_a_branch_a_tag_or_a_commit_of_the_remote, the_remote_may_be_relative_the_repository_itself_or_a_url, a_remote_that_does_not_answer_may_answer_later, a_remote_without_commits_has_no_base, an_empty_workspace_has_no_git_and_an_existing_directory_is_reused, canceled_it_gives_up_and_leaves_nothing_that_looks_whole, several_issues_are_prepared_at_once, a_making_that_was_cut_before_it_could_say_so_is_a_making_still, preflight_says_what_is_wrong_with_the_repository_and_the_root;
    workspace_remove: work_is_what_is_uncommitted_and_what_is_beyond_the_point_asked_for, a_look_leaves_the_index_and_its_lock_alone, a_workspace_that_is_gone_is_missing_to_who_needs_it,  read_only_files_and_directories_do_not_stop_a_removal, a_removal_that_was_cut_is_finished_by_the_next, an_empty_workspace_goes_unless_a_repository_in_it_has_work;
    workspace_scripts: a_hook_runs_in_the_workspace_and_knows_its_issue_by_the_environment, symphony_17_2_a_failing_hook_says_what_it_said, the_output_of_a_hook_is_bounded, symphony_17_2_the_limit_of_a_hook_holds_for_its_background_children, a_background_child_that_holds_the_pipes_does_not_hold_up_a_hook, a_check_sees_the_commit_and_nothing_else, a_check_answers_what_it_said_whole_or_how_much_of_it_is_left_out, a_check_that_takes_too_long_did_not_pass_and_leaves_nothing, a_check_gets_neither_secrets_nor_the_users_git, a_check_of_an_unknown_commit_is_a_failure_and_not_a_verdict, checkouts_of_a_dead_daemon_are_removed, canceled_scripts_end_soon;
}

fn world() -> World {
    let mut world = World::new();
    world.policy.workspace.strategy = dalsegno_engine::core::WorkspaceStrategy::Worktree;
    world
}

#[tokio::test]
async fn the_repository_is_shared_by_worktrees_alone() {
    let mut world = world();
    let first = world.prepare().await;
    let shared = within(&first, "");
    assert!(shared.starts_with(world.at("workspaces/.dalsegno/shared")), "{}", shared.display());
    let worktrees = |dir: &std::path::Path| git(dir, &["worktree", "list"]).lines().count();
    assert_eq!((worktrees(&world.at("project")), worktrees(&world.bare())), (1, 1));
    world.issue = issue("DS-2");
    world.workspace = None;
    let second = world.prepare().await;
    assert_eq!(within(&second, ""), shared);
    assert_eq!(git(&second, &["branch", "--show-current"]), "dalsegno/DS-2");
    // What is weaker: one agent sees, and may move, the branches of the others.
    let commit = commit_file(&first, "first.txt", "1\n");
    assert_eq!(git(&second, &["rev-parse", "dalsegno/DS-1"]), commit.as_str());
}

#[tokio::test]
async fn a_worktree_goes_with_its_branch_and_leaves_the_others_alone() {
    let mut world = world();
    let (path, commit) = world.worked().await;
    let shared = within(&path, "");
    assert!(world.workspaces.remove(&world.context(), None).await.unwrap().unwrap().contains(commit.as_str()));
    fs::write(path.join("left.txt"), "").unwrap();
    assert!(world.workspaces.remove(&world.context(), Some(&commit)).await.unwrap().unwrap().contains("left.txt"));
    fs::remove_file(path.join("left.txt")).unwrap();
    // Not lost with the workspace: it is in the shared repository.
    git(&path, &["branch", "idea"]);
    assert_eq!(world.workspaces.remove(&world.context(), Some(&commit)).await.unwrap(), None);
    assert!(!path.exists() && !shared.join("worktrees/DS-1").exists());
    assert_eq!(git(&shared, &["for-each-ref", "--format=%(refname)", "refs/heads"]), "refs/heads/idea");
    world.workspace = None;
    world.prepare().await;
}

#[tokio::test]
async fn a_worktree_that_is_kept_aside_keeps_its_commits() {
    let mut world = world();
    let path = world.prepare().await;
    let commit = commit_file(&path, "work.txt", "done\n");
    fs::write(path.join("left.txt"), "left\n").unwrap();
    let (_, made) = world.workspaces.prepare(&world.context(), true).await.unwrap();
    assert!(made && !path.join("left.txt").exists());
    let kept = world.at("workspaces/DS-1.kept-1");
    assert_eq!(git(&kept, &["rev-parse", "HEAD"]), commit.as_str());
    assert_eq!(git(&kept, &["status", "--porcelain"]), "?? left.txt");
    assert_eq!(git(&path, &["status", "--porcelain"]), "");
}

/// As a kill leaves it between the move of the directory and that of its git directory.
#[tokio::test]
async fn a_worktree_that_is_half_kept_aside_is_followed_when_its_place_is_taken() {
    let mut world = world();
    let path = world.prepare().await;
    let shared = within(&path, "");
    let commit = commit_file(&path, "work.txt", "done\n");
    fs::write(path.join("staged.txt"), "staged\n").unwrap();
    git(&path, &["add", "staged.txt"]);
    git(&path, &["checkout", "-q", "--detach"]);
    let kept = world.at("workspaces/DS-1.kept-1");
    fs::rename(&path, &kept).unwrap();
    let (_, made) = world.workspaces.prepare(&world.context(), true).await.unwrap();
    assert!(made && path.exists());
    assert_eq!(git(&kept, &["rev-parse", "HEAD"]), commit.as_str());
    assert_eq!(git(&kept, &["status", "--porcelain"]), "A  staged.txt");
    assert_eq!(git(&path, &["status", "--porcelain"]), "");
    assert_eq!(git(&path, &["symbolic-ref", "HEAD"]), "refs/heads/dalsegno/DS-1");
    assert!(shared.join("worktrees/DS-1.kept-1").is_dir());
}

#[tokio::test]
async fn a_pointer_that_leads_elsewhere_is_refused() {
    let mut world = world();
    let (path, _) = world.worked().await;
    fs::write(path.join(".git"), format!("gitdir: {}\n", world.at("project/.git").display())).unwrap();
    let refused = world.workspaces.fetch_commit(&world.context()).await.unwrap_err();
    assert_eq!(refused.code, "workspace_unreadable");
}

#[tokio::test]
async fn worktrees_work_in_the_sandbox() {
    if !crate::sandbox::there().await {
        return;
    }
    let mut world = world();
    world.policy.agent.sandbox = dalsegno_engine::core::Sandbox::Bubblewrap;
    let path = world.prepare().await;
    fs::write(path.join("work.txt"), "done\n").unwrap();
    assert!(world.workspaces.commit_leftovers(&world.context()).await.unwrap());
    let commit = world.workspaces.fetch_commit(&world.context()).await.unwrap();
    world.workspaces.push(&world.context(), &commit, None, None).await.unwrap();
    assert_eq!(world.remote_branch("dalsegno/DS-1"), Some(commit.clone()));
    assert_eq!(world.workspaces.remove(&world.context(), Some(&commit)).await.unwrap(), None);
}

#[tokio::test]
async fn commits_on_the_branch_are_no_less_work_because_head_is_elsewhere() {
    let mut world = world();
    let path = world.prepare().await;
    let shared = within(&path, "");
    let commit = commit_file(&path, "work.txt", "done\n");
    git(&path, &["checkout", "-q", "--detach", "HEAD~"]);
    let kept = world.workspaces.remove(&world.context(), None).await.unwrap();
    assert!(kept.is_some_and(|why| why.contains(commit.as_str())) && path.exists());
    // Made anew, the branch begins at the base, and what it was at has a name still.
    let (_, made) = world.workspaces.prepare(&world.context(), true).await.unwrap();
    assert!(made && !path.join("work.txt").exists());
    assert_eq!(git(&shared, &["rev-parse", "dalsegno/DS-1.kept-1"]), commit.as_str());
    assert_eq!(git(&path, &["rev-parse", "dalsegno/DS-1"]), git(&path, &["rev-parse", "HEAD"]));
}

#[tokio::test]
async fn a_branch_outlives_a_workspace_that_somebody_removed() {
    let mut world = world();
    let path = world.prepare().await;
    let shared = within(&path, "");
    let commit = commit_file(&path, "work.txt", "done\n");
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(world.workspaces.remove(&world.context(), None).await.unwrap(), None);
    assert_eq!(git(&shared, &["rev-parse", "dalsegno/DS-1"]), commit.as_str());
    world.prepare().await;
    assert_eq!(git(&shared, &["rev-parse", "dalsegno/DS-1.kept-1"]), commit.as_str());
    assert!(!path.join("work.txt").exists());
}
