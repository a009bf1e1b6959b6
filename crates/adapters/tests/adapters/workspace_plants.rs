//! One test for each thing that an agent, or a repository, can plant: nothing of the daemon's runs it, reads through it
//! or pushes elsewhere by it, and what cannot be worked with is a clear error.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use dalsegno_engine::core::{CommitId, Failure};
use dalsegno_engine::{Checked, Workspaces as _};

use crate::workspace::{World, commit_file, git, within};

/// Everything that the daemon does with a workspace after a turn; answers the commit that was pushed.
async fn all_of_it(world: &World) -> Result<CommitId, Failure> {
    let context = world.context();
    let workspace = world.workspace.clone().unwrap();
    world.workspaces.inspect(&world.policy, &workspace, None).await?;
    world.workspaces.commit_leftovers(&context).await?;
    let commit = world.workspaces.fetch_commit(&context).await?;
    let Checked { passed, output: tail } =
        world.workspaces.run_check(&context, &commit, "git log --oneline | cat").await?;
    assert!(passed, "{tail}");
    world.workspaces.push(&context, &commit, None, None).await?;
    world.workspaces.prepare(&context, false).await?;
    git(&world.bare(), &["fsck", "--connectivity-only"]);
    Ok(commit)
}

fn program(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program that leaves a proof.
fn evil(world: &World) -> String {
    let program_path = world.at("evil.sh");
    program(&program_path, &format!("echo \"$0 $*\" >> '{}'\ncat", world.at("proof").display()));
    program_path.display().to_string()
}

fn assert_nothing_ran(world: &World) {
    let proof = world.at("proof");
    assert!(!proof.exists(), "{}", fs::read_to_string(&proof).unwrap());
}

#[tokio::test]
pub(crate) async fn urls_that_are_rewritten_lead_nowhere() {
    let mut world = World::new();
    let path = world.prepare().await;
    let elsewhere = world.at("elsewhere.git");
    fs::create_dir(&elsewhere).unwrap();
    git(&elsewhere, &["init", "-q", "--bare", "-b", "main"]);
    let target = format!("url.{}", elsewhere.display());
    for from in [world.remote(), world.bare(), path.clone()] {
        git(&path, &["config", "--add", &format!("{target}.insteadOf"), &from.display().to_string()]);
        git(&path, &["config", "--add", &format!("{target}.pushInsteadOf"), &from.display().to_string()]);
    }
    commit_file(&path, "work.txt", "done\n");
    let commit = all_of_it(&world).await.unwrap();
    assert_eq!(world.remote_branch("dalsegno/DS-1"), Some(commit));
    assert_eq!(git(&elsewhere, &["for-each-ref"]), "");
}

#[tokio::test]
pub(crate) async fn included_configuration_and_a_hooks_path_are_not_run() {
    let mut world = World::new();
    let path = world.prepare().await;
    let evil = evil(&world);
    let hooks = world.at("hooks");
    fs::create_dir(&hooks).unwrap();
    for name in
        ["reference-transaction", "post-checkout", "pre-push", "post-index-change", "post-merge", "fsmonitor-watchman"]
    {
        fs::copy(&evil, hooks.join(name)).unwrap();
    }
    fs::write(
        world.at("included"),
        format!(
            "[core]\n\tfsmonitor = {evil}\n\thooksPath = {}\n\tsshCommand = {evil}\n[filter \"x\"]\n\tclean = {evil}\n\tsmudge = {evil}\n\tprocess = {evil}\n\trequired = true\n[alias]\n\trev-parse = !{evil}\n\tfetch = !{evil}\n[credential]\n\thelper = {evil}\n[uploadpack]\n\tpackObjectsHook = {evil}\n[user]\n\tname = $({evil})\n",
            hooks.display()
        ),
    )
    .unwrap();
    git(&path, &["config", "include.path", &world.at("included").display().to_string()]);
    fs::write(path.join(".gitattributes"), "* filter=x\n").unwrap();
    fs::write(path.join("work.txt"), "done\n").unwrap();
    all_of_it(&world).await.unwrap();
    assert_nothing_ran(&world);
    // It is dangerous to who is not careful.
    let _ = std::process::Command::new("git").arg("status").current_dir(&path).output().unwrap();
    assert!(world.at("proof").exists());
}

#[tokio::test]
pub(crate) async fn a_work_tree_that_is_said_to_be_elsewhere_is_the_workspace_nevertheless() {
    let mut world = World::new();
    let path = world.prepare().await;
    fs::create_dir(world.at("private")).unwrap();
    fs::write(world.at("private/secret.txt"), "secret\n").unwrap();
    // A worktree heeds only what is in its own configuration.
    git(&path, &["config", "extensions.worktreeConfig", "true"]);
    git(&path, &["config", "--worktree", "core.worktree", &world.at("private").display().to_string()]);
    fs::write(path.join("work.txt"), "done\n").unwrap();
    let commit = all_of_it(&world).await.unwrap();
    assert_eq!(git(&world.remote(), &["ls-tree", "--name-only", commit.as_str()]), ".gitignore\na.txt\nwork.txt");
}

#[tokio::test]
pub(crate) async fn objects_behind_an_alternate_or_a_link_are_refused() {
    let mut world = World::new();
    let (path, _) = world.worked().await;
    let workspace = world.workspace.clone().unwrap();
    for name in ["objects/info/alternates", "objects/info/http-alternates"] {
        fs::create_dir_all(within(&path, "objects/info")).unwrap();
        fs::write(within(&path, name), world.at("project/.git/objects").display().to_string()).unwrap();
        let refused = world.workspaces.fetch_commit(&world.context()).await.unwrap_err();
        assert_eq!((refused.code.as_str(), refused.retryable), ("workspace_unreadable", false), "{name}");
        fs::remove_file(within(&path, name)).unwrap();
    }
    for name in ["refs/heads", "logs/HEAD", "objects/pack", "HEAD", "packed-refs", "index", "config"] {
        let (there, aside) = (within(&path, name), world.at("aside"));
        let was = there.exists();
        if was {
            fs::rename(&there, &aside).unwrap();
        }
        fs::create_dir_all(there.parent().unwrap()).unwrap();
        symlink(&aside, &there).unwrap();
        let refused = world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap_err();
        assert_eq!(refused.code, "workspace_unreadable", "{name}");
        fs::remove_file(&there).unwrap();
        if was {
            fs::rename(&aside, &there).unwrap();
        }
    }
    world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap();
}

#[tokio::test]
pub(crate) async fn a_pipe_in_the_git_directory_is_not_waited_for() {
    let mut world = World::new();
    let (path, _) = world.worked().await;
    let made = std::process::Command::new("mkfifo").arg(within(&path, "refs/heads/pipe")).status().unwrap();
    assert!(made.success());
    let refused = world.workspaces.fetch_commit(&world.context()).await.unwrap_err();
    assert_eq!(refused.code, "workspace_unreadable");
}

#[tokio::test]
pub(crate) async fn submodules_stay_as_they_are_and_nothing_of_theirs_is_run() {
    let mut world = World::new();
    let evil = evil(&world);
    let library = world.at("library");
    fs::create_dir(&library).unwrap();
    git(&library, &["init", "-q", "-b", "main"]);
    let linked = commit_file(&library, "l.txt", "l\n");
    let project = world.at("project");
    git(&project, &["submodule", "--quiet", "add", &library.display().to_string(), "lib"]);
    git(&project, &["commit", "-qam", "modules"]);
    git(&project, &["push", "-q", "origin", "main"]);
    let path = world.prepare().await;
    assert!(path.join("lib").is_dir() && fs::read_dir(path.join("lib")).unwrap().next().is_none());
    fs::write(path.join("work.txt"), "done\n").unwrap();
    git(&path, &["config", "submodule.lib.update", &format!("!{evil}")]);
    git(&path, &["config", "submodule.lib.active", "true"]);
    git(&path, &["config", "submodule.recurse", "true"]);
    let commit = all_of_it(&world).await.unwrap();
    assert_eq!(git(&world.remote(), &["rev-parse", &format!("{commit}:lib")]), linked.as_str());
    assert_nothing_ran(&world);
    // A command in .gitmodules is refused before it gets to anybody else.
    for bad in [format!("update = !{evil}"), format!("url = ext::{evil}\n\tpath = -x")] {
        fs::write(path.join(".gitmodules"), format!("[submodule \"lib\"]\n\tpath = lib\n\t{bad}\n")).unwrap();
        world.workspaces.commit_leftovers(&world.context()).await.unwrap();
        let refused = world.workspaces.fetch_commit(&world.context()).await.unwrap_err();
        assert_eq!((refused.code.as_str(), refused.retryable), ("fetch_failed", false), "{refused}");
        assert!(refused.message.contains("gitmodules"), "{refused}");
    }
    assert_nothing_ran(&world);
}

#[tokio::test]
pub(crate) async fn links_in_the_work_tree_are_committed_as_links_and_read_by_nobody() {
    let mut world = World::new();
    let path = world.prepare().await;
    let secret = world.at("state/token");
    fs::write(&secret, "the token\n").unwrap();
    symlink(&secret, path.join("file")).unwrap();
    symlink(world.at("state"), path.join("directory")).unwrap();
    fs::remove_file(path.join(".gitignore")).unwrap();
    symlink(&secret, path.join(".gitignore")).unwrap();
    symlink(&secret, within(&path, "index.dalsegno")).unwrap();
    let commit = all_of_it(&world).await.unwrap();
    let shown = git(&world.remote(), &["show", &format!("{commit}:file")]);
    assert_eq!(shown, secret.display().to_string());
    assert_eq!(git(&world.remote(), &["ls-tree", "-r", "--name-only", commit.as_str()]).lines().count(), 4);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "the token\n", "it was written through a link");
}

#[tokio::test]
pub(crate) async fn a_workspace_that_became_a_link_is_refused() {
    let mut world = World::new();
    let (path, commit) = world.worked().await;
    fs::rename(&path, world.at("moved")).unwrap();
    symlink(world.at("moved"), &path).unwrap();
    let context = world.context();
    for failure in [
        world.workspaces.fetch_commit(&context).await.unwrap_err(),
        world.workspaces.commit_leftovers(&context).await.unwrap_err(),
        world.workspaces.prepare(&context, false).await.unwrap_err(),
        world.workspaces.remove(&context, Some(&commit)).await.unwrap_err(),
        world.workspaces.unlock(&world.policy, world.workspace.as_ref().unwrap()).await.unwrap_err(),
    ] {
        assert_eq!(failure.code, "workspace_outside_root");
    }
    assert!(world.at("moved/work.txt").exists());
}

#[tokio::test]
pub(crate) async fn branches_below_ours_are_in_the_way_of_its_name() {
    let world = World::new();
    world.somebody_pushes("dalsegno/DS-1/part", "main", "b.txt");
    let refused = world.workspaces.prepare(&world.context(), false).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.retryable), ("branch_in_use", false));
    assert!(refused.message.contains("refs/heads/dalsegno/DS-1/part"), "{refused}");
    // Made later, it is noticed by the push.
    let mut world = World::new();
    let (_, commit) = world.worked().await;
    world.somebody_pushes("dalsegno/DS-1/part", "main", "b.txt");
    let refused = world.workspaces.push(&world.context(), &commit, None, None).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.retryable), ("branch_in_use", false), "{refused}");
}

#[tokio::test]
pub(crate) async fn stale_locks_in_a_workspace_are_told_and_go_after_the_sweep() {
    let mut world = World::new();
    let (path, _) = world.worked().await;
    let workspace = world.workspace.clone().unwrap();
    for name in ["index.lock", "HEAD.lock", "packed-refs.lock", "refs/heads/dalsegno/DS-1.lock"] {
        fs::write(within(&path, name), "").unwrap();
    }
    fs::write(path.join("more.txt"), "more\n").unwrap();
    let told = world.workspaces.commit_leftovers(&world.context()).await.unwrap_err();
    assert!(told.code == "commit_failed" && told.message.contains(".lock"), "{told}");
    world.workspaces.unlock(&world.policy, &workspace).await.unwrap();
    all_of_it(&world).await.unwrap();
}

#[tokio::test]
pub(crate) async fn stale_locks_in_our_own_repository_go_at_the_first_use_of_a_new_daemon() {
    let mut world = World::new();
    world.worked().await;
    for name in ["HEAD.lock", "packed-refs.lock", "config.lock", "shallow.lock", "refs/dalsegno/runs/run-1.lock"] {
        fs::write(world.bare().join(name), "").unwrap();
    }
    assert_eq!(world.workspaces.fetch_commit(&world.context()).await.unwrap_err().code, "repo_unusable");
    world.restart();
    all_of_it(&world).await.unwrap();
}

#[tokio::test]
pub(crate) async fn replaced_and_grafted_commits_are_taken_for_what_they_are() {
    let mut world = World::new();
    let (path, commit) = world.worked().await;
    let base = world.workspace.clone().unwrap().base_commit.unwrap();
    // The base is said to follow on the work; so nothing would be new.
    let tree = format!("{base}^{{tree}}");
    let replacement = git(&path, &["commit-tree", &tree, "-p", commit.as_str(), "-m", "not the base"]);
    git(&path, &["update-ref", &format!("refs/replace/{base}"), &replacement]);
    let workspace = world.workspace.clone().unwrap();
    let work = world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap();
    assert!(work.has_commits && work.head == Some(commit.clone()));
    assert_eq!(all_of_it(&world).await.unwrap(), commit);
    git(&path, &["update-ref", "-d", &format!("refs/replace/{base}")]);
    // The same by a graft; and a head without parents, whose history would not arrive.
    fs::create_dir_all(within(&path, "info")).unwrap();
    for grafts in [format!("{base} {commit}\n"), format!("{commit}\n")] {
        fs::write(within(&path, "info/grafts"), grafts).unwrap();
        let work = world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap();
        assert!(work.has_commits, "{work:?}");
    }
    fs::remove_dir_all(world.at("state/repos")).unwrap();
    world.restart();
    match world.workspaces.fetch_commit(&world.context()).await {
        Ok(taken) => assert_eq!(taken, commit),
        Err(failure) => assert_eq!(failure.code, "fetch_failed"),
    }
    git(&world.bare(), &["fsck", "--connectivity-only"]);
}

#[tokio::test]
pub(crate) async fn odd_and_long_file_names_are_files_like_others() {
    let mut world = World::new();
    let path = world.prepare().await;
    let long = "l".repeat(255);
    let deep = vec!["d".repeat(100); 20].join("/");
    let names: Vec<&[u8]> = vec![
        b"new\nline",
        b"quote\"s'",
        b"not-utf8-\xff\xfe",
        b"-rf",
        b"--force",
        b" ",
        b"tab\t",
        b":(glob)*",
        b"back\\slash",
        long.as_bytes(),
    ];
    for name in &names {
        fs::write(path.join(OsStr::from_bytes(name)), "odd\n").unwrap();
    }
    fs::create_dir_all(path.join(&deep)).unwrap();
    fs::write(path.join(&deep).join("x"), "deep\n").unwrap();
    let workspace = world.workspace.clone().unwrap();
    let work = world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap();
    assert_eq!(work.uncommitted.len(), names.len() + 1);
    let commit = all_of_it(&world).await.unwrap();
    let listed = std::process::Command::new("git")
        .args(["ls-tree", "-r", "-z", "--name-only", commit.as_str()])
        .current_dir(world.remote())
        .output()
        .unwrap();
    let listed: Vec<&[u8]> = listed.stdout.split(|byte| *byte == 0).collect();
    assert!(names.iter().all(|name| listed.contains(name)));
    let work = world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap();
    assert_eq!(work.uncommitted, Vec::<String>::new());
}

#[tokio::test]
pub(crate) async fn a_shallow_workspace_makes_no_shallow_repository_of_ours() {
    let mut world = World::new();
    commit_file(&world.at("project"), "second.txt", "2\n");
    git(&world.at("project"), &["push", "-q", "origin", "main"]);
    let path = world.prepare().await;
    let base = world.workspace.clone().unwrap().base_commit.unwrap();
    fs::write(within(&path, "shallow"), format!("{base}\n")).unwrap();
    let commit = commit_file(&path, "work.txt", "done\n");
    assert_eq!(all_of_it(&world).await.unwrap(), commit);
    assert!(!world.bare().join("shallow").exists());
    assert_eq!(git(&world.remote(), &["rev-list", "--count", commit.as_str()]), "3");
    // A history that is cut where our repository has nothing is refused.
    git(&path, &["checkout", "-q", "--orphan", "cut"]);
    let cut = commit_file(&path, "cut.txt", "cut\n");
    let last = commit_file(&path, "last.txt", "last\n");
    fs::write(within(&path, "shallow"), format!("{base}\n{last}\n")).unwrap();
    let object = cut.as_str().split_at(2);
    fs::remove_file(within(&path, "objects").join(object.0).join(object.1)).unwrap();
    assert_eq!(world.workspaces.fetch_commit(&world.context()).await.unwrap_err().code, "fetch_failed");
    assert!(!world.bare().join("shallow").exists());
    git(&world.bare(), &["fsck", "--connectivity-only"]);
}

#[tokio::test]
pub(crate) async fn a_corrupt_repository_is_a_clear_error() {
    for (name, text) in [
        ("HEAD", "garbage"),
        ("config", "[core\n"),
        ("packed-refs", "garbage"),
        ("config", "[core]\n\trepositoryFormatVersion = 9\n"),
    ] {
        let mut world = World::new();
        let (path, commit) = world.worked().await;
        fs::write(within(&path, name), text).unwrap();
        let workspace = world.workspace.clone().unwrap();
        let refused = world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap_err();
        assert_eq!(refused.code, "workspace_unreadable", "{name}: {refused}");
        assert!(world.workspaces.fetch_commit(&world.context()).await.is_err());
        // Nobody knows what is in it; so it stays.
        assert!(world.workspaces.remove(&world.context(), Some(&commit)).await.unwrap().is_some());
    }
    let mut world = World::new();
    let (path, _) = world.worked().await;
    fs::write(within(&path, "index"), "DIRC garbage").unwrap();
    let workspace = world.workspace.clone().unwrap();
    let refused = world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap_err();
    assert_eq!(refused.code, "workspace_unreadable");
}

#[tokio::test]
pub(crate) async fn a_base_that_was_rewritten_changes_nothing_for_a_workspace_that_is_there() {
    let mut world = World::new();
    let path = world.prepare().await;
    let base = world.workspace.clone().unwrap().base_commit;
    let project = world.at("project");
    git(&project, &["commit", "-q", "--amend", "-m", "rewritten"]);
    git(&project, &["push", "-q", "--force", "origin", "main"]);
    let commit = commit_file(&path, "work.txt", "done\n");
    assert_eq!(all_of_it(&world).await.unwrap(), commit);
    let (again, made) = world.workspaces.prepare(&world.context(), false).await.unwrap();
    assert!(!made && again.base_commit == base);
    // A new workspace starts from what the base is now.
    world.issue = crate::workspace::issue("DS-2");
    world.workspace = None;
    let fresh = world.workspaces.prepare(&world.context(), false).await.unwrap().0;
    assert_eq!(fresh.base_commit.unwrap().as_str(), git(&project, &["rev-parse", "HEAD"]));
}

#[tokio::test]
pub(crate) async fn pointers_of_lfs_stay_pointers_without_lfs() {
    let mut world = World::new();
    let project = world.at("project");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    fs::write(project.join(".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n").unwrap();
    commit_file(&project, "big.bin", pointer);
    git(&project, &["push", "-q", "origin", "main"]);
    let path = world.prepare().await;
    assert_eq!(fs::read_to_string(path.join("big.bin")).unwrap(), pointer);
    let evil = evil(&world);
    for key in ["clean", "smudge", "process"] {
        git(&path, &["config", &format!("filter.lfs.{key}"), &evil]);
    }
    git(&path, &["config", "filter.lfs.required", "true"]);
    fs::write(path.join("more.bin"), pointer).unwrap();
    let workspace = world.workspace.clone().unwrap();
    let work = world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap();
    assert_eq!(work.uncommitted, ["more.bin"]);
    let commit = all_of_it(&world).await.unwrap();
    assert_eq!(git(&world.remote(), &["show", &format!("{commit}:more.bin")]), pointer.trim_end());
    assert_nothing_ran(&world);
}

#[tokio::test]
pub(crate) async fn the_hash_of_what_is_uncommitted_follows_its_content() {
    let mut world = World::new();
    let path = world.prepare().await;
    let workspace = world.workspace.clone().unwrap();
    let look = async || world.workspaces.inspect(&world.policy, &workspace, None).await.unwrap().diff_digest;
    assert_eq!(look().await, None);
    let mut seen = Vec::new();
    let changes: [&dyn Fn(); 5] = [
        &|| fs::write(path.join("a.txt"), "two\n").unwrap(),
        &|| fs::write(path.join("a.txt"), "six\n").unwrap(),
        &|| fs::create_dir_all(path.join("d/e")).unwrap(),
        &|| fs::write(path.join("d/e/f"), "in a directory that git names as a whole\n").unwrap(),
        &|| fs::write(path.join("d/e/f"), "in a directory that git names as a Whole\n").unwrap(),
    ];
    for (at, change) in changes.iter().enumerate() {
        change();
        let now = look().await;
        assert_eq!(look().await, now);
        // git knows no empty directories.
        assert_eq!(seen.contains(&now), at == 2, "{at}");
        seen.push(now);
    }
}
