//! The daemon's own bare repository: whose trouble it is when it is slow, damaged, or cannot reach its remote.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dalsegno_engine::core::CommitId;
use dalsegno_engine::{Checked, Workspaces as _};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::workspace::{World, commit_file, git};

/// Longer than anything here takes, and shorter than any limit of git.
const PATIENCE: Duration = Duration::from_secs(90);

/// Makes git wait at `path` for as long as nobody writes.
fn stall(path: &Path) {
    let _ = fs::remove_file(path);
    mkfifo(path, Mode::S_IRWXU).unwrap();
}

/// Waits until a program with this word among its arguments is at work in the directory.
async fn at_work(word: &str, dir: &Path) {
    let there = || {
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let mut inside = processes.filter(|path| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == dir));
        inside.any(|path| {
            let words = fs::read(path.join("cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).any(|it| it.ends_with(word.as_bytes()))
        })
    };
    while !there() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_gc_that_does_not_end_holds_up_nobody() {
    let mut world = World::new();
    world.worked().await;
    let bare = world.bare();
    // Enough for `gc --auto` to find that there is something to do, and then it waits for who else does it.
    fs::create_dir_all(bare.join("objects/17")).unwrap();
    for n in 0..100 {
        fs::write(bare.join(format!("objects/17/{n:038}")), "").unwrap();
    }
    stall(&bare.join("gc.pid"));
    world.restart();
    world.turn_to("DS-2");
    let prepared = tokio::time::timeout(PATIENCE, world.prepare()).await;
    commit_file(&prepared.expect("the issue waits"), "more.txt", "more\n");
    tokio::time::timeout(PATIENCE, at_work("gc", &bare)).await.unwrap();
    tokio::time::timeout(PATIENCE, world.workspaces.fetch_commit(&world.context())).await.unwrap().unwrap();
}

fn packs(bare: &Path) -> Vec<PathBuf> {
    let packs = fs::read_dir(bare.join("objects/pack")).unwrap().map(|entry| entry.unwrap().path());
    packs.filter(|path| path.extension().is_some_and(|it| it == "pack")).collect()
}

fn object(bare: &Path, id: &str) -> PathBuf {
    let (dir, file) = id.split_at(2);
    bare.join("objects").join(dir).join(file)
}

fn cut(path: &Path, length: u64) {
    let mut mode = fs::metadata(path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
    fs::set_permissions(path, mode).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

#[tokio::test]
async fn what_is_fetched_lies_in_packs_which_git_syncs() {
    let mut world = World::new();
    world.worked().await;
    assert!(git(&world.bare(), &["count-objects"]).starts_with("0 objects"));
    assert!(!packs(&world.bare()).is_empty());
}

/// A world whose repository has a run's commit, in a pack of its own or loose.
async fn fetched(loose: bool) -> (World, CommitId) {
    let mut world = World::new();
    world.prepare().await;
    let before = packs(&world.bare());
    let path = PathBuf::from(&world.workspace.as_ref().unwrap().path);
    let commit = commit_file(&path, "work.txt", "done\n");
    world.workspaces.fetch_commit(&world.context()).await.unwrap();
    let pack = packs(&world.bare()).into_iter().find(|pack| !before.contains(pack)).unwrap();
    if loose {
        let away = world.at("away.pack");
        fs::rename(&pack, &away).unwrap();
        fs::remove_file(pack.with_extension("idx")).unwrap();
        let script = format!("git unpack-objects -q < '{}'", away.display());
        let said = std::process::Command::new("sh").args(["-c", &script]).current_dir(world.bare()).status().unwrap();
        assert!(said.success());
        assert!(object(&world.bare(), commit.as_str()).exists());
    } else {
        cut(&pack, 20);
    }
    (world, commit)
}

/// Other issues go on, and what is whole of the repository is there still.
async fn others_go_on(mut world: World) {
    world.restart();
    world.turn_to("DS-2");
    let path = world.prepare().await;
    let commit = commit_file(&path, "other.txt", "other\n");
    assert_eq!(world.workspaces.fetch_commit(&world.context()).await.unwrap(), commit);
    world.workspaces.push(&world.context(), &commit, None, None).await.unwrap();
    git(&world.bare(), &["fsck", "--full"]);
    let refs = git(&world.bare(), &["for-each-ref", "--format=%(refname)"]);
    assert!(refs.contains("refs/dalsegno/base/") && !refs.contains("run-1"), "{refs}");
}

#[tokio::test]
async fn a_pack_that_lost_its_end_is_one_runs_loss_alone() {
    let (world, _) = fetched(false).await;
    others_go_on(world).await;
}

#[tokio::test]
async fn an_object_that_a_power_cut_emptied_is_one_runs_loss_alone() {
    let (world, commit) = fetched(true).await;
    cut(&object(&world.bare(), commit.as_str()), 0);
    others_go_on(world).await;
}

#[tokio::test]
async fn a_run_whose_objects_were_lost_takes_them_from_its_workspace_again() {
    let (mut world, commit) = fetched(true).await;
    let tree = git(&world.bare(), &["rev-parse", &format!("{commit}^{{tree}}")]);
    let kept = git(&world.bare(), &["rev-parse", "refs/dalsegno/runs/run-1"]);
    git(&world.bare(), &["update-ref", "refs/dalsegno/runs/run-0", &kept]);
    cut(&object(&world.bare(), &tree), 10);
    world.restart();
    let Checked { passed, output: tail } =
        world.workspaces.run_check(&world.context(), &commit, "cat work.txt").await.unwrap();
    assert!(passed, "{tail}");
    world.workspaces.push(&world.context(), &commit, None, None).await.unwrap();
    git(&world.bare(), &["fsck", "--full"]);
}

/// While one issue hangs at `at` on the way to the remote, another does what it needs no remote for.
async fn local_work_goes_on(world: &mut World, word: &str, at: &Path) {
    world.prepare().await;
    let path = PathBuf::from(&world.workspace.as_ref().unwrap().path);
    let other = (world.workspace.clone(), world.issue.clone(), world.run.clone());
    let here = world.context();
    world.turn_to("DS-2");
    stall(at);
    let there = world.context();
    let hanging = world.workspaces.prepare(&there, false);
    let meanwhile = async {
        at_work(word, &world.remote()).await;
        let commit = commit_file(&path, "work.txt", "done\n");
        assert_eq!(world.workspaces.fetch_commit(&here).await.unwrap(), commit);
        let Checked { passed, output: tail } =
            world.workspaces.run_check(&here, &commit, "cat work.txt").await.unwrap();
        assert!(passed, "{tail}");
    };
    tokio::select! {
        made = hanging => panic!("it does not hang: {made:?}"),
        () = async { tokio::time::timeout(PATIENCE, meanwhile).await.expect("the other issue waits") } => {}
    }
    (world.workspace, world.issue, world.run) = other;
}

#[tokio::test]
async fn a_remote_that_does_not_answer_holds_up_no_local_work_of_others() {
    let mut world = World::new();
    let at = world.remote().join("packed-refs");
    local_work_goes_on(&mut world, "upload-pack", &at).await;
}

#[tokio::test]
async fn a_remote_that_stops_in_the_midst_of_a_fetch_holds_up_no_local_work_of_others() {
    let mut world = World::new();
    world.prepare().await;
    let commit = world.somebody_pushes("main", "origin/main", "theirs.txt");
    let blob = git(&world.remote(), &["rev-parse", &format!("{commit}:theirs.txt")]);
    let at = object(&world.remote(), &blob);
    assert!(at.exists());
    local_work_goes_on(&mut world, "pack-objects", &at).await;
}

#[tokio::test]
async fn refs_of_runs_that_were_pushed_do_not_stay() {
    let mut world = World::new();
    world.prepare().await;
    let path = PathBuf::from(&world.workspace.as_ref().unwrap().path);
    let runs = |world: &World| {
        git(&world.bare(), &["for-each-ref", "--format=%(refname)", "refs/dalsegno/runs"]).lines().count()
    };
    let mut pushed = None;
    for n in 0..6 {
        world.run = format!("run-{n}");
        let commit = commit_file(&path, &format!("{n}.txt"), "x\n");
        world.workspaces.fetch_commit(&world.context()).await.unwrap();
        // Every other run ends without a push; the next one has its commit.
        if n % 2 == 1 {
            world.workspaces.push(&world.context(), &commit, pushed.as_ref(), None).await.unwrap();
            assert_eq!(runs(&world), 0);
            pushed = Some(commit);
        } else {
            assert_eq!(runs(&world), 1);
        }
    }
}
