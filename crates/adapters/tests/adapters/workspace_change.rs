//! What a run changed, as git sees it, and what an agent can plant to be run, read or waited for by a look at it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use dalsegno_engine::core::{CommitId, Failure, WorkspaceStrategy};
use dalsegno_engine::{Change, ChangeWanted, Changes as _, FileChange, FileStatus};

use crate::workspace::{World, commit_file, git, within};

fn wanted(world: &World) -> ChangeWanted {
    let workspace = world.workspace.clone();
    let base = workspace.as_ref().and_then(|workspace| workspace.base_commit.clone());
    ChangeWanted { run: world.run.as_str().into(), workspace, base, commit: None }
}

async fn look(world: &World) -> Result<Change, Failure> {
    world.workspaces.change(&world.policy, &wanted(world)).await
}

fn file<'a>(change: &'a Change, path: &str) -> &'a FileChange {
    change.files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path} in {change:?}"))
}

/// All files of a git directory, with content and time of change.
fn frozen(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let (mut files, mut open) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                open.push(path);
            } else {
                files.insert(path.clone(), (fs::read(&path).unwrap_or_default(), meta.modified().unwrap()));
            }
        }
    }
    files
}

#[tokio::test]
async fn a_change_has_what_is_committed_and_what_is_not_and_leaves_the_workspace_alone() {
    for strategy in [WorkspaceStrategy::Clone, WorkspaceStrategy::Worktree] {
        let mut world = World::new();
        world.policy.workspace.strategy = strategy;
        let path = world.prepare().await;
        assert_eq!(look(&world).await.unwrap().files, [], "nothing is changed yet");
        let ten: String = (0..10).map(|n| format!("line {n}\n")).collect();
        commit_file(&path, "to-move.txt", &ten);
        let head = commit_file(&path, "work.txt", "done\n");
        fs::write(path.join("a.txt"), "one\ntwo\n").unwrap();
        fs::write(path.join("new file.txt"), "new\n").unwrap();
        fs::write(path.join("staged.txt"), "staged\n").unwrap();
        git(&path, &["add", "staged.txt"]);
        fs::write(path.join("junk.ignored"), "x").unwrap();
        symlink("/etc/passwd", path.join("link")).unwrap();
        fs::set_permissions(path.join(".gitignore"), fs::Permissions::from_mode(0o755)).unwrap();
        // Only its time changes.
        fs::File::options()
            .write(true)
            .open(path.join("work.txt"))
            .unwrap()
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        let before = frozen(&within(&path, ""));
        let change = look(&world).await.unwrap();
        assert_eq!(frozen(&within(&path, "")), before, "a look writes nothing");
        let told: Vec<_> = change.files.iter().map(|file| (file.path.as_str(), file.status, file.additions)).collect();
        assert_eq!(
            told,
            [
                (".gitignore", FileStatus::Modified, Some(0)),
                ("a.txt", FileStatus::Modified, Some(1)),
                ("link", FileStatus::Added, Some(1)),
                ("new file.txt", FileStatus::Added, Some(1)),
                ("staged.txt", FileStatus::Added, Some(1)),
                ("to-move.txt", FileStatus::Added, Some(10)),
                ("work.txt", FileStatus::Added, Some(1)),
            ]
        );
        assert_eq!((&change.head, change.from_workspace, change.truncated), (&Some(head), true, false));
        assert_eq!(change.base, world.workspace.as_ref().unwrap().base_commit);
        assert!(file(&change, "link").patch.as_deref().unwrap().contains("+/etc/passwd\n"), "a link is not followed");
        assert!(file(&change, "a.txt").patch.as_deref().unwrap().ends_with(" one\n+two\n"));
        assert_eq!(file(&change, "new file.txt").deletions, Some(0));
        assert!(file(&change, ".gitignore").patch.as_deref().unwrap().contains("new mode 100755"));
    }
}

#[tokio::test]
async fn names_and_contents_that_are_no_text_are_told_as_such() {
    let mut world = World::new();
    let path = world.prepare().await;
    fs::write(path.join("bin"), [0, 159, 146, 150]).unwrap();
    fs::write(path.join("latin.txt"), b"caf\xe9\n").unwrap();
    fs::write(path.join(OsStr::from_bytes(b"b\xe9d\n\"name\"")), "x\n").unwrap();
    fs::remove_file(path.join("a.txt")).unwrap();
    let change = look(&world).await.unwrap();
    let bin = file(&change, "bin");
    assert_eq!((bin.binary, bin.additions, &bin.patch, bin.truncated), (true, None, &None, false));
    assert!(file(&change, "latin.txt").patch.as_deref().unwrap().contains("+caf\u{fffd}\n"));
    assert!(file(&change, "b\u{fffd}d\n\"name\"").patch.as_deref().unwrap().ends_with("+x\n"));
    assert_eq!((file(&change, "a.txt").status, file(&change, "a.txt").deletions), (FileStatus::Deleted, Some(1)));
}

#[tokio::test]
async fn what_is_huge_is_named_and_not_read() {
    let mut world = World::new();
    let path = world.prepare().await;
    // To hash that takes minutes.
    fs::File::create(path.join("huge")).unwrap().set_len(64 << 30).unwrap();
    fs::File::options().write(true).open(path.join("a.txt")).unwrap().set_len(64 << 30).unwrap();
    fs::write(path.join("long.txt"), "0123456789\n".repeat(100_000)).unwrap();
    fs::write(path.join("one-line.txt"), "x".repeat(1_000_000)).unwrap();
    fs::write(path.join("small.txt"), "s\n").unwrap();
    let change = look(&world).await.unwrap();
    for (name, status) in [("huge", FileStatus::Added), ("a.txt", FileStatus::Modified)] {
        let huge = file(&change, name);
        assert_eq!((huge.status, huge.truncated, &huge.patch, huge.additions), (status, true, &None, None), "{name}");
    }
    let long = file(&change, "long.txt");
    assert_eq!((long.additions, long.truncated), (Some(100_000), true));
    assert!(change.truncated && change.total == 5);
    let kept: usize = change.files.iter().filter_map(|file| file.patch.as_ref()).map(String::len).sum();
    assert!(kept <= 1024 * 1024, "{kept}");
    nix::unistd::mkfifo(&path.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(look(&world).await.is_ok(), "a pipe is not waited for");
}

#[tokio::test]
async fn many_files_are_counted_and_the_first_are_named() {
    let mut world = World::new();
    let path = world.prepare().await;
    for n in 0..2_100 {
        fs::write(path.join(format!("{n:04}.txt")), "x\n").unwrap();
    }
    let change = look(&world).await.unwrap();
    assert_eq!((change.total, change.files.len(), change.truncated), (2_100, dalsegno_engine::MAX_CHANGED_FILES, true));
}

#[tokio::test]
async fn nothing_that_an_agent_configured_is_run_by_a_look() {
    let mut world = World::new();
    let path = world.prepare().await;
    let (evil, proof) = (world.at("evil.sh"), world.at("proof"));
    fs::write(&evil, format!("#!/bin/sh\necho \"$0 $*\" >> '{}'\ncat\n", proof.display())).unwrap();
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
    let program = evil.display().to_string();
    for key in [
        "core.fsmonitor",
        "core.pager",
        "pager.diff",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "diff.evil.command",
        "diff.evil.textconv",
        "diff.external",
        "core.sshCommand",
        "remote.origin.uploadpack",
        "alias.diff-index",
        "alias.add",
    ] {
        git(&path, &["config", key, &program]);
    }
    for (key, value) in [
        ("filter.evil.required", "true"),
        ("remote.origin.url", "/nowhere"),
        ("remote.origin.promisor", "true"),
        ("diff.submodule", "log"),
    ] {
        git(&path, &["config", key, value]);
    }
    for name in ["post-index-change", "reference-transaction", "fsmonitor-watchman"] {
        fs::create_dir_all(within(&path, "hooks")).unwrap();
        fs::copy(&evil, within(&path, "hooks").join(name)).unwrap();
    }
    let nested = path.join("nested");
    fs::create_dir(&nested).unwrap();
    git(&nested, &["init", "-q"]);
    commit_file(&nested, "n.txt", "n\n");
    git(&nested, &["config", "core.fsmonitor", &program]);
    fs::write(path.join(".gitattributes"), "* filter=evil diff=evil\n").unwrap();
    fs::write(path.join("a.txt"), "one\nplanted\n").unwrap();
    let change = look(&world).await.unwrap();
    assert!(!proof.exists(), "{}", fs::read_to_string(&proof).unwrap());
    assert!(file(&change, "a.txt").patch.as_deref().unwrap().contains("+planted"));
    assert_eq!(file(&change, "nested").status, FileStatus::Added);
}

#[tokio::test]
async fn a_repository_that_borrows_or_leads_elsewhere_is_refused() {
    let mut world = World::new();
    let path = world.prepare().await;
    fs::write(path.join(".git/objects/info/alternates"), world.at("project/.git/objects").display().to_string())
        .unwrap();
    assert_eq!(look(&world).await.unwrap_err().code, "workspace_unreadable");
    fs::remove_file(path.join(".git/objects/info/alternates")).unwrap();
    let mut elsewhere = world.workspace.clone().unwrap();
    elsewhere.path = world.at("project").display().to_string();
    let wanted = ChangeWanted { workspace: Some(elsewhere), ..wanted(&world) };
    assert_eq!(world.workspaces.change(&world.policy, &wanted).await.unwrap_err().code, "workspace_outside_root");
}

#[tokio::test]
async fn what_was_handed_over_is_shown_when_the_workspace_is_gone() {
    let mut world = World::new();
    let (path, commit) = world.worked().await;
    let wanted = ChangeWanted { commit: Some(commit.clone()), ..wanted(&world) };
    fs::write(path.join("loose.txt"), "x\n").unwrap();
    let standing = world.workspaces.change(&world.policy, &wanted).await.unwrap();
    assert_eq!((standing.from_workspace, standing.files.len()), (true, 2));
    fs::remove_dir_all(&path).unwrap();
    let gone = world.workspaces.change(&world.policy, &wanted).await.unwrap();
    assert_eq!((gone.from_workspace, &gone.head), (false, &Some(commit)));
    let told: Vec<_> =
        gone.files.iter().map(|file| (file.path.as_str(), file.patch.as_deref().unwrap_or_default())).collect();
    assert!(matches!(told.as_slice(), [("work.txt", patch)] if patch.ends_with("+done\n")), "{told:?}");

    let code = async |wanted: &ChangeWanted| world.workspaces.change(&world.policy, wanted).await.unwrap_err().code;
    let unknown = Some(CommitId("0123456789012345678901234567890123456789".to_owned()));
    assert_eq!(code(&ChangeWanted { commit: None, ..wanted.clone() }).await, "workspace_missing");
    assert_eq!(code(&ChangeWanted { commit: unknown.clone(), ..wanted.clone() }).await, "commit_missing");
    assert_eq!(code(&ChangeWanted { workspace: None, base: None, ..wanted.clone() }).await, "base_missing");
    assert_eq!(code(&ChangeWanted { workspace: None, base: unknown, ..wanted.clone() }).await, "base_missing");
}

#[tokio::test]
async fn a_history_that_was_made_anew_and_a_place_without_git_are_told() {
    let mut world = World::new();
    let path = world.prepare().await;
    fs::remove_dir_all(path.join(".git")).unwrap();
    git(&path, &["init", "-q", "-b", "main"]);
    commit_file(&path, "a.txt", "anew\n");
    assert_eq!(look(&world).await.unwrap_err().code, "base_missing");
    let workspace = world.workspace.as_mut().unwrap();
    (workspace.base_commit, workspace.branch) = (None, None);
    assert_eq!(look(&world).await.unwrap().files, [], "against its head, when nobody knows what it began with");
    fs::remove_dir_all(path.join(".git")).unwrap();
    assert_eq!(look(&world).await.unwrap_err().code, "no_repository");
}

#[tokio::test]
async fn a_file_in_conflict_is_told_once_as_it_lies_there() {
    let mut world = World::new();
    let path = world.prepare().await;
    git(&path, &["checkout", "-q", "-b", "other"]);
    commit_file(&path, "a.txt", "theirs\n");
    git(&path, &["checkout", "-q", "-"]);
    commit_file(&path, "a.txt", "ours\n");
    let merged = std::process::Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@b", "merge", "-q", "other"])
        .current_dir(&path)
        .output()
        .unwrap();
    assert!(!merged.status.success());
    let change = look(&world).await.unwrap();
    let told: Vec<_> = change.files.iter().map(|file| (file.path.as_str(), file.status)).collect();
    assert_eq!(told, [("a.txt", FileStatus::Modified)]);
    assert!(file(&change, "a.txt").patch.as_deref().unwrap().contains("\n+<<<<<<<"), "as it lies there");
}
