//! Ways out of the sandbox, tried with the real bubblewrap from where an agent stands. Each must be shut.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use dalsegno_adapters::process::{
    Cell, Finished, Inmate, Surroundings, Sweeper, command, probe, ready, run_bounded, spawn,
};
use dalsegno_engine::core::{Sandbox, SandboxNetwork};
use dalsegno_engine::{Checked, Processes as _, Workspaces as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::workspace::{World, commit_file, git};

/// Whether the sandbox can be had here. Without it a test is skipped loudly, and fails in CI.
#[allow(clippy::print_stderr, reason = "a skipped test says so where the person sees it")]
pub(crate) async fn there() -> bool {
    let verdict = probe().await.verdict();
    if let Err(failure) = &verdict {
        assert!(std::env::var_os("CI").is_none(), "{failure}");
        eprintln!("SKIPPED a test of the sandbox: {failure}");
    }
    verdict.is_ok()
}

/// A world whose agents are shut in, with a prepared workspace, secrets in the state directory and somebody else's
/// workspace beside it.
struct Jail {
    world: World,
    place: PathBuf,
}

impl Jail {
    async fn new() -> Option<Self> {
        if !there().await {
            return None;
        }
        let mut world = World::new();
        world.policy.agent.sandbox = Sandbox::Bubblewrap;
        let place = world.prepare().await;
        fs::write(world.at("state/token"), "the token\n").unwrap();
        fs::write(world.at("state/dalsegno.db"), "the journal\n").unwrap();
        fs::create_dir(world.at("workspaces/DS-2")).unwrap();
        fs::write(world.at("workspaces/DS-2/theirs.txt"), "theirs\n").unwrap();
        Some(Self { world, place })
    }

    fn surroundings(&self, inmate: Inmate) -> Surroundings {
        let cell = Cell::of(&self.world.policy, &self.world.at("state"), inmate, &self.place).unwrap();
        Surroundings { cell, ..Surroundings::of(&self.world.context()) }
    }

    /// Runs a script as the agent would.
    async fn run(&self, script: &str) -> Finished {
        self.run_as(Inmate::Agent, script).await
    }

    async fn run_as(&self, inmate: Inmate, script: &str) -> Finished {
        let mut command = command("bash", &self.surroundings(inmate));
        command.args(["-c", script]).current_dir(&self.place);
        run_bounded(command, None, Duration::from_secs(60), &CancellationToken::new(), 4096).await.unwrap()
    }

    /// Runs it and expects that it gets nowhere.
    async fn fails(&self, script: &str) {
        let ended = self.run(script).await;
        assert!(!ended.success(), "`{script}` got through: {}", ended.tail);
        assert!(!ended.tail.contains("bwrap:"), "the sandbox could not be made: {}", ended.tail);
    }
}

#[tokio::test]
async fn the_agent_works_in_its_workspace_and_sees_the_project() {
    let Some(jail) = Jail::new().await else { return };
    let project = jail.world.at("project").display().to_string();
    let ended = jail
        .run(&format!("pwd; cat a.txt '{project}/a.txt'; echo new > new.txt && git add -A && git -c user.name=A -c user.email=a@b commit -qm x && echo scratch > /tmp/x && cat /tmp/x"))
        .await;
    assert!(ended.success(), "{}", ended.tail);
    assert_eq!(ended.tail, format!("{}\none\none\nscratch\n", jail.place.display()));
    assert!(jail.place.join("new.txt").exists() && !Path::new("/tmp/x").exists());
}

#[tokio::test]
async fn nothing_outside_the_workspace_can_be_written() {
    let Some(mut jail) = Jail::new().await else { return };
    let project = jail.world.at("project");
    let remote = jail.world.remote();
    // Nothing that anybody misses, should it be written after all.
    let elsewhere = std::env::current_exe().unwrap().with_file_name(format!("from-the-sandbox-{}", std::process::id()));
    symlink(&project, jail.place.join("out")).unwrap();
    for target in [project.join("x"), remote.join("x"), jail.place.join("out/x")] {
        jail.fails(&format!("echo x > '{}'", target.display())).await;
        assert!(!target.exists(), "{}", target.display());
    }
    // Where the tests were built in a private place it may write one of its own there, and nothing comes out.
    if !["/tmp", "/var/tmp", "/run"].iter().any(|private| elsewhere.starts_with(private)) {
        jail.fails(&format!("echo x > '{}'", elsewhere.display())).await;
    }
    jail.run(&format!("mkdir -p '{}'; echo x > '{}'", elsewhere.parent().unwrap().display(), elsewhere.display()))
        .await;
    assert!(!elsewhere.exists(), "{}", elsewhere.display());
    jail.fails("git push -q ../../remote.git HEAD:refs/heads/mine").await;
    jail.fails(&format!("mv '{0}' '{0}.away'", jail.place.display())).await;
    jail.fails("mount -o remount,bind,rw /").await;
    jail.fails(&format!("mount -o remount,rw / || unshare -Urm mount -o remount,bind,rw '{}'", project.display()))
        .await;
    // What the policy opens is open.
    jail.world.policy.agent.sandbox_write = vec![project.display().to_string()];
    assert!(jail.run(&format!("echo x > '{}/opened'", project.display())).await.success());
    assert!(project.join("opened").exists());
}

/// `/tmp` is another one in the sandbox; an agent that somebody keeps there is started all the same.
#[tokio::test]
async fn an_agent_that_lies_in_a_private_place_is_seen_there() {
    let Some(mut jail) = Jail::new().await else { return };
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let program = folder.path().join("agent");
    fs::write(folder.path().join("part"), "whole\n").unwrap();
    fs::write(&program, "#!/bin/sh\nexec cat \"$(dirname \"$0\")/part\"\n").unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let script = format!("'{}' --acp", program.display());
    assert!(!jail.run(&script).await.success(), "nothing names it yet");
    jail.world.policy.agent.command = Some(script.clone());
    let ended = jail.run(&script).await;
    assert_eq!((ended.success(), ended.tail.as_str()), (true, "whole\n"));
    jail.fails(&format!("echo x > '{}'", program.display())).await;

    // One that is started by its path, and not by a shell.
    jail.world.policy.agent.command = None;
    fs::write(&program, "#!/bin/sh\necho alone\n").unwrap();
    let mut command = command(&program, &jail.surroundings(Inmate::Agent));
    command.current_dir(&jail.place);
    let ended = run_bounded(command, None, Duration::from_secs(60), &CancellationToken::new(), 4096).await.unwrap();
    assert_eq!((ended.success(), ended.tail.as_str()), (true, "alone\n"));
}

#[tokio::test]
async fn the_state_directory_and_other_workspaces_are_hidden() {
    let Some(mut jail) = Jail::new().await else { return };
    let (state, top) = (jail.world.at("state"), jail.world.dir.path().to_owned());
    symlink(state.join("token"), jail.place.join("token")).unwrap();
    symlink(&state, jail.world.at("project").join("state")).unwrap();
    // Even what opens everything around it does not open these.
    jail.world.policy.agent.sandbox_write = vec![top.display().to_string()];
    for secret in [
        state.join("token"),
        state.join("dalsegno.db"),
        jail.place.join("token"),
        jail.world.at("project/state/token"),
        jail.world.at("workspaces/DS-2/theirs.txt"),
        jail.world.at("workspaces/.dalsegno/DS-1.json"),
    ] {
        assert!(fs::read(&secret).is_ok(), "{} is there", secret.display());
        jail.fails(&format!("cat '{}'", secret.display())).await;
    }
    jail.fails(&format!("echo x > '{}/token'", state.display())).await;
    jail.fails(&format!("umount -l '{0}'; cat '{0}/token'", state.display())).await;
    jail.fails(&format!("umount '{0}' || unshare -Urm umount -l '{0}'; cat '{0}/token'", state.display())).await;
    let listed = jail.run(&format!("ls '{}'; ls '{}'", jail.world.at("workspaces").display(), state.display())).await;
    assert_eq!(listed.tail.lines().collect::<Vec<_>>(), ["DS-1", "agents"], "nothing but its own");
}

#[tokio::test]
async fn the_daemon_is_neither_seen_nor_killed() {
    let Some(jail) = Jail::new().await else { return };
    let own = std::process::id();
    jail.fails(&format!("kill -0 {own} && grep -qz CARGO /proc/{own}/environ")).await;
    let mut victim = spawn(plain_sleep(&jail)).await.unwrap();
    let pid = victim.id().unwrap();
    let seen = jail.run(&format!("kill -9 {pid}; ls /proc | grep -c '^[0-9]'; test -e /proc/{pid}")).await;
    assert!(victim.try_wait().unwrap().is_none(), "it was killed: {}", seen.tail);
    // The environment of the first process in the sandbox is the sandbox's own.
    let environments = jail.run("cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c ^DALSEGNO_RUN=").await;
    assert!(environments.success(), "{}", environments.tail);
    victim.end().await.unwrap();
}

fn plain_sleep(jail: &Jail) -> tokio::process::Command {
    let mut sleep = command("sleep", &Surroundings::of(&jail.world.context()));
    sleep.arg("1000");
    sleep
}

#[tokio::test]
async fn the_network_is_as_the_policy_says_and_git_never_has_one() {
    let Some(mut jail) = Jail::new().await else { return };
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let call = format!("exec 3<>/dev/tcp/127.0.0.1/{}", listener.local_addr().unwrap().port());
    for (network, agent, check) in
        [(SandboxNetwork::All, true, true), (SandboxNetwork::Agent, true, false), (SandboxNetwork::None, false, false)]
    {
        jail.world.policy.agent.sandbox_network = network;
        for (inmate, reaches) in [(Inmate::Agent, agent), (Inmate::Check, check), (Inmate::Git, false)] {
            let ended = jail.run_as(inmate, &call).await;
            assert_eq!(ended.success(), reaches, "{network:?} {inmate:?}: {}", ended.tail);
        }
    }
}

#[tokio::test]
async fn what_runs_in_it_is_found_by_its_mark_and_dies_with_its_first_process() {
    let Some(jail) = Jail::new().await else { return };
    let escape = "setsid env -i bash -c 'echo $$ > deep; exec sleep 1000' & \
                  setsid sleep 1000 & while [ ! -s deep ]; do :; done; echo up > up; wait";
    let start = async |script: &str| {
        let mut agent = command("bash", &jail.surroundings(Inmate::Agent));
        agent.args(["-c", script]).current_dir(&jail.place);
        // What escapes must not hold the pipes of who runs the tests.
        agent.stdout(Stdio::null()).stderr(Stdio::null());
        spawn(agent).await.unwrap()
    };
    let up = async || {
        let there = async {
            while !jail.place.join("up").exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), there).await.expect("it does not come up");
        fs::remove_file(jail.place.join("up")).unwrap();
        fs::remove_file(jail.place.join("deep")).unwrap();
    };
    let mark = jail.world.context().mark;
    let mut agent = start(escape).await;
    up().await;
    // How many it kills by itself is left to chance: the sandbox ends all the others.
    assert!(Sweeper.sweep(&mark).await.unwrap() >= 1);
    let ended = tokio::time::timeout(Duration::from_secs(20), agent.wait()).await;
    assert!(!ended.expect("its first process lives on").unwrap().success());
    assert_eq!((Sweeper.sweep(&mark).await.unwrap(), running(&jail.place)), (0, 0));
    // One signal to the outermost process is enough.
    let mut agent = start(escape).await;
    up().await;
    agent.start_kill().unwrap();
    agent.wait().await.unwrap();
    agent.release();
    let gone = async {
        while running(&jail.place) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), gone).await.is_err() {
        Sweeper.sweep(&mark).await.unwrap();
        panic!("it lives on");
    }
}

/// Processes that work in the directory.
fn running(place: &Path) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == place)).count()
}

#[tokio::test]
async fn a_whole_run_of_the_workspace_works_inside() {
    let Some(mut jail) = Jail::new().await else { return };
    let state = jail.world.at("state");
    commit_file(&jail.place, "work.txt", "done\n");
    fs::write(jail.place.join("left.txt"), "left\n").unwrap();
    let workspace = jail.world.workspace.clone().unwrap();
    let work = jail.world.workspaces.inspect(&jail.world.policy, &workspace, None).await.unwrap();
    assert_eq!((work.uncommitted, work.has_commits), (vec!["left.txt".to_owned()], true));
    let base = workspace.base_commit.clone();
    let wanted = dalsegno_engine::ChangeWanted { run: "run-1".into(), workspace: Some(workspace), base, commit: None };
    let change = dalsegno_engine::Changes::change(&jail.world.workspaces, &jail.world.policy, &wanted).await.unwrap();
    let changed: Vec<&str> = change.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(changed, ["left.txt", "work.txt"]);
    let context = jail.world.context();
    assert!(jail.world.workspaces.commit_leftovers(&context).await.unwrap());
    let commit = jail.world.workspaces.fetch_commit(&context).await.unwrap();
    let check = format!("cat left.txt && ! cat '{}/token' && echo built > out.txt", state.display());
    let Checked { passed, output: tail } = jail.world.workspaces.run_check(&context, &commit, &check).await.unwrap();
    assert!(passed && tail.starts_with("left\n"), "{tail}");
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let call = format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}'", listener.local_addr().unwrap().port());
    for (network, reaches) in [(SandboxNetwork::All, true), (SandboxNetwork::Agent, false)] {
        jail.world.policy.agent.sandbox_network = network;
        let Checked { passed, output: tail } =
            jail.world.workspaces.run_check(&jail.world.context(), &commit, &call).await.unwrap();
        assert_eq!(passed, reaches, "{tail}");
    }
    jail.world.workspaces.push(&context, &commit, None, None).await.unwrap();
    assert_eq!(jail.world.remote_branch("dalsegno/DS-1"), Some(commit.clone()));
    assert_eq!(jail.world.workspaces.remove(&context, Some(&commit)).await.unwrap(), None);
    assert_eq!(git(&jail.world.remote(), &["show", &format!("{commit}:left.txt")]), "left");
}

#[tokio::test]
async fn a_wrapper_of_the_users_own_gets_program_and_arguments() {
    let mut world = World::new();
    let place = world.prepare().await;
    let seen = world.at("seen");
    world.policy.agent.sandbox =
        Sandbox::Command(format!("echo \"$DALSEGNO_SANDBOX_FOR $*\" >> '{}';", seen.display()));
    ready(&world.policy).await.unwrap();
    let cell = Cell::of(&world.policy, &world.at("state"), Inmate::Agent, &place).unwrap();
    let mut agent = command("printf", &Surroundings { cell, ..Surroundings::of(&world.context()) });
    agent.args(["%s|", "a b", "c'd"]).current_dir(&place);
    let ended = run_bounded(agent, None, Duration::from_secs(60), &CancellationToken::new(), 100).await.unwrap();
    assert_eq!((ended.success(), ended.tail.as_str()), (true, "a b|c'd|"));
    commit_file(&place, "work.txt", "done\n");
    world.workspaces.fetch_commit(&world.context()).await.unwrap();
    let seen = fs::read_to_string(seen).unwrap();
    assert!(
        seen.contains("agent printf %s") && seen.contains("git git -c") && seen.contains("git git upload-pack"),
        "{seen}"
    );
    world.policy.agent.sandbox = Sandbox::Command("false;".to_owned() + " exit 3;");
    assert_eq!(world.workspaces.preflight(&world.policy).await.unwrap_err().code, "sandbox_unavailable");
}

#[tokio::test]
async fn a_root_that_holds_the_project_cannot_be_hidden() {
    let mut world = World::new();
    world.policy.agent.sandbox = Sandbox::Bubblewrap;
    world.policy.workspace.root = world.dir.path().display().to_string();
    let cell = Cell::of(&world.policy, &world.at("state"), Inmate::Agent, &world.at("project"));
    assert_eq!(cell.unwrap_err().code, "sandbox_unavailable");
}

#[tokio::test]
async fn a_sandbox_outlives_the_thread_that_asked_for_it() {
    let Some(jail) = Jail::new().await else { return };
    let mut agent = command("sh", &jail.surroundings(Inmate::Agent));
    agent.args(["-c", "echo > up; exec head -n1"]).current_dir(&jail.place);
    agent.stdin(Stdio::piped()).stdout(Stdio::piped());
    let (runtime, up) = (tokio::runtime::Handle::current(), jail.place.join("up"));
    let asked = std::thread::spawn(move || {
        let _inside = runtime.enter();
        let agent = runtime.block_on(spawn(agent)).unwrap();
        while !up.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        (agent, fs::read_link("/proc/thread-self").unwrap())
    });
    let (mut agent, thread) = asked.join().unwrap();
    // Joined is not yet gone; its children are told when it is.
    while Path::new("/proc").join(&thread).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    agent.stdin.take().unwrap().write_all(b"still here\n").await.unwrap();
    let mut said = String::new();
    agent.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "still here\n");
    // What is inside may say its last words while bubblewrap is killed; how that ended tells.
    assert!(agent.wait().await.unwrap().success());
    agent.release();
}

/// Set in a second process of this test, in which one directory is mounted twice and the home is a temporary one.
const TWICE: &str = "SANDBOX_TEST_SECOND_MOUNT";

#[tokio::test]
async fn neither_a_second_mount_nor_the_home_leads_to_secrets() {
    if !there().await {
        return;
    }
    let Some(second) = std::env::var_os(TWICE).map(PathBuf::from) else {
        let dir = tempfile::TempDir::new().unwrap();
        for name in ["first", "second"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::create_dir_all(dir.path().join("home/.ssh")).unwrap();
        fs::write(dir.path().join("home/.ssh/id"), "a key\n").unwrap();
        fs::write(dir.path().join("home/.netrc"), "a password\n").unwrap();
        fs::write(dir.path().join("home/.profile"), "a setting\n").unwrap();
        let again = "mount --bind \"$1/first\" \"$1/second\" && exec \"$0\" --exact --nocapture \"$2\"";
        let ended = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", again])
            .arg(std::env::current_exe().unwrap())
            .arg(dir.path())
            .arg("sandbox::neither_a_second_mount_nor_the_home_leads_to_secrets")
            .env(TWICE, dir.path().join("second"))
            .env("TMPDIR", dir.path().join("first"))
            .env("HOME", dir.path().join("home"))
            .output()
            .unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        return;
    };
    let Some(mut jail) = Jail::new().await else { return };
    jail.world.policy.agent.sandbox_write = vec![second.display().to_string()];
    let same = second.join(jail.world.dir.path().file_name().unwrap());
    assert_eq!(fs::read(same.join("state/token")).unwrap(), b"the token\n");
    assert!(jail.run(&format!("cat '{}'", same.join("project/a.txt").display())).await.success());
    for secret in [same.join("state/token"), same.join("workspaces/DS-2/theirs.txt")] {
        jail.fails(&format!("cat '{}'", secret.display())).await;
    }
    assert!(jail.run("cat ~/.profile").await.success());
    jail.fails("cat ~/.ssh/id").await;
    jail.fails("cat ~/.netrc").await;
    jail.fails("echo x >> ~/.ssh/authorized_keys").await;
    jail.fails("echo x >> ~/.profile").await;
    jail.world.policy.agent.sandbox_write = vec![std::env::var("HOME").unwrap() + "/.ssh"];
    assert!(jail.run("cat ~/.ssh/id").await.success(), "what the policy names is open");
}
