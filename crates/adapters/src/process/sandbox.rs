//! The sandbox around agents, checks and git in a workspace (`agent.sandbox`).
//!
//! With bubblewrap a child sees the machine's files read-only, with
//! - fresh `/dev` and `/proc` (so no other process), and empty places for `/tmp`, `/var/tmp` and `/run`;
//! - its own place (a workspace, a check's checkout) writable, and what the policy says (`agent.sandbox_write`);
//! - the state directory and the root of the workspaces empty, but for what is its own, by every path that a mount
//!   gives to them;
//! - the usual places of the user's credentials empty;
//! - no network, if the policy says so, no capability, and no way to gain one.
//!
//! All of it dies with the first process of the sandbox, and that one with the daemon. The mark is in its environment
//! as in every child's, so the sweep finds it from outside.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dalsegno_engine::core::{AgentKind, Failure, Policy, Sandbox, SandboxNetwork, WorkspaceStrategy};
use dalsegno_engine::{Context, Launch};

use super::environment;
use super::mounts::other_paths;
use super::spawn::Surroundings;
use crate::workspace::SHARED_REPOSITORIES;

/// Places in which every program may write, and where sockets of other programs are.
const PRIVATE: &[&str] = &["/tmp", "/var/tmp", "/run", "/var/run"];
/// Below the home directory: by these a program gets at somebody's remotes, and no agent needs them.
const CREDENTIALS: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".netrc",
    ".git-credentials",
    ".config/git/credentials",
    ".config/gh",
    ".config/glab-cli",
    ".aws",
    ".azure",
    ".config/gcloud",
    ".kube",
    ".docker",
];
/// What leads to programs outside, or to places that are not there in the sandbox.
const DANGLING: &[&str] = &["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "SSH_AGENT_PID"];

/// Who is shut in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inmate {
    /// The agent and all that it starts.
    Agent,
    /// A check on a commit that an agent made.
    Check,
    /// git, called by the daemon on a repository that an agent can write.
    Git,
}

impl Inmate {
    fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Check => "check",
            Self::Git => "git",
        }
    }

    fn has_network(self, policy: SandboxNetwork) -> bool {
        match (self, policy) {
            (Self::Git, _) | (_, SandboxNetwork::None) | (Self::Check, SandboxNetwork::Agent) => false,
            (Self::Agent | Self::Check, SandboxNetwork::All) | (Self::Agent, SandboxNetwork::Agent) => true,
        }
    }
}

/// The sandbox of one child: what it sees and where it may write. All paths are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    wall: Wall,
    inmate: Inmate,
    network: bool,
    /// Where it starts, and may write.
    place: PathBuf,
    /// Empty and writable.
    private: Vec<PathBuf>,
    /// Lies in a private place and is to be seen there nevertheless.
    reshown: Vec<PathBuf>,
    /// Writable by the policy.
    written: Vec<PathBuf>,
    /// Empty and not writable; files cannot be opened.
    hidden: Vec<PathBuf>,
    /// Lies in what is hidden and is to be read nevertheless.
    shown: Vec<PathBuf>,
    /// Its own beside the place, writable; may lie in what is hidden.
    own: Vec<PathBuf>,
}

/// What contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wall {
    Bubblewrap,
    Command(String),
}

impl Surroundings {
    /// Those of an agent: in the sandbox of its policy, if there is one.
    ///
    /// # Errors
    /// `sandbox_unavailable`.
    pub fn of_agent(launch: &Launch) -> Result<Self, Failure> {
        let context = &launch.context;
        let place = context.request.workspace.as_ref().map(|workspace| PathBuf::from(&workspace.path));
        let cell = match place {
            Some(place) => Cell::of(&context.request.policy, &launch.state_dir, Inmate::Agent, &place)?,
            // Nothing is started without a workspace.
            None => None,
        };
        Ok(Self { cell, ..Self::of(context) })
    }

    /// Those of a check that runs in `place`: it runs code that an agent wrote, and gets no credentials.
    ///
    /// # Errors
    /// `sandbox_unavailable`.
    pub fn of_check(context: &Context, state_dir: &Path, place: &Path) -> Result<Self, Failure> {
        let cell = Cell::of(&context.request.policy, state_dir, Inmate::Check, place)?;
        let mut of_check = Self { cell, ..Self::of(context) };
        of_check.secret_names.extend(environment::names(environment::is_credential));
        Ok(of_check)
    }
}

impl Cell {
    /// The sandbox that the policy wants for a child in `place`; `None`: none.
    ///
    /// # Errors
    /// `sandbox_unavailable` when the places that the policy names cannot be told apart.
    pub fn of(policy: &Policy, state_dir: &Path, inmate: Inmate, place: &Path) -> Result<Option<Self>, Failure> {
        let wall = match &policy.agent.sandbox {
            Sandbox::None => return Ok(None),
            Sandbox::Bubblewrap => Wall::Bubblewrap,
            Sandbox::Command(command) => Wall::Command(command.clone()),
        };
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let root = resolved(Path::new(&policy.workspace.root))?;
        for (what, path) in
            [("the project", Some(Path::new(&policy.project_dir))), ("the home directory", home.as_deref())]
        {
            if path.and_then(|path| path.canonicalize().ok()).is_some_and(|path| path.starts_with(&root)) {
                return Err(unusable(format!("workspace.root is {}, and {what} lies in it", root.display()))
                    .hint("set workspace.root to a directory that holds workspaces alone"));
            }
        }
        let place = resolved(place)?;
        let state = if state_dir.exists() { Some(resolved(state_dir)?) } else { None };
        let written = match inmate {
            Inmate::Agent | Inmate::Check => there(policy.agent.sandbox_write.iter().map(PathBuf::from)),
            Inmate::Git => Vec::new(),
        };
        let mut hidden = BTreeSet::new();
        for path in state.iter().chain([&root]) {
            hidden.insert(path.clone());
            hidden.extend(other_paths(path).map_err(|error| unusable(format!("the mounts cannot be read: {error}")))?);
        }
        let credentials = home.iter().flat_map(|home| CREDENTIALS.iter().map(move |name| home.join(name)));
        // What the policy opens by its name stays open.
        hidden.extend(there(credentials).into_iter().filter(|path| !written.iter().any(|it| it.starts_with(path))));
        if hidden.iter().any(|path| path.parent().is_none()) {
            return Err(unusable("what has to be hidden is the top of a file system".to_owned())
                .hint("put workspaces and state into directories of their own"));
        }
        let mut own = own_places(policy.agent.kind, inmate, state_dir, home.as_deref())?;
        if policy.workspace.strategy == WorkspaceStrategy::Worktree && inmate != Inmate::Check {
            own.extend(there([root.join(SHARED_REPOSITORIES)]));
        }
        let private = there(PRIVATE.iter().map(PathBuf::from));
        let policy_places = [Some(&policy.project_dir), Some(&policy.workspace.repo), policy.agent.script.as_ref()];
        let seen = policy_places.into_iter().flatten().map(PathBuf::from).filter(|path| path.is_absolute());
        let programs = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
        // A program that the agent's command names by its path; the files beside it are often part of it.
        let named = policy.agent.command.iter().flat_map(|command| command.split_whitespace()).map(|word| {
            let path = Path::new(word.trim_matches(['\'', '"']));
            path.parent().filter(|folder| !PRIVATE.iter().any(|it| *folder == Path::new(it))).unwrap_or(path).to_owned()
        });
        let seen = seen.chain(named.filter(|path| path.is_absolute()));
        let seen = seen.chain(home.clone()).chain(std::env::current_exe().ok()).chain(programs.into_iter().flatten());
        let reshown =
            there(seen).into_iter().filter(|path| private.iter().any(|it| path != it && path.starts_with(it)));
        let shown = there(policy.agent.script.iter().map(PathBuf::from));
        Ok(Some(Self {
            wall,
            inmate,
            network: inmate.has_network(policy.agent.sandbox_network),
            own,
            reshown: reshown.collect(),
            shown: shown.into_iter().filter(|path| hidden.iter().any(|it| path.starts_with(it))).collect(),
            hidden: hidden.into_iter().collect(),
            place,
            private,
            written,
        }))
    }

    /// Lets it write one more place, although it may be hidden.
    ///
    /// # Errors
    /// `sandbox_unavailable` when the place is not there.
    pub fn with(mut self, place: &Path) -> Result<Self, Failure> {
        self.own.push(resolved(place)?);
        Ok(self)
    }

    /// Lets it read one more place, although it may be hidden.
    ///
    /// # Errors
    /// `sandbox_unavailable` when the place is not there.
    pub fn reading(mut self, place: &Path) -> Result<Self, Failure> {
        self.shown.push(resolved(place)?);
        Ok(self)
    }

    /// The same for a child that is this program: it sees its file, wherever that is.
    pub(super) fn starting(&self, program: &Path) -> Self {
        let mut cell = self.clone();
        if program.is_absolute() && self.private.iter().any(|it| program.starts_with(it)) {
            cell.reshown.push(program.to_owned());
        }
        cell
    }

    /// The words that stand before the program.
    pub(super) fn words(&self) -> Vec<OsString> {
        match &self.wall {
            Wall::Bubblewrap => self.bubblewrap(),
            Wall::Command(command) => self.wrapper(command),
        }
    }

    /// The order counts: what comes later lies on top of what came before.
    fn bubblewrap(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = BASE.iter().map(OsString::from).collect();
        let mut add = |option: &str, paths: &[&Path]| {
            words.push(option.into());
            words.extend(paths.iter().map(|path| path.as_os_str().to_owned()));
        };
        if !self.network {
            add("--unshare-net", &[]);
        }
        for path in &self.private {
            add("--tmpfs", &[path]);
        }
        // Where names are looked up is often written in /run.
        if let Ok(names) = Path::new("/etc/resolv.conf").canonicalize()
            && self.network
            && self.private.iter().any(|it| names.starts_with(it))
        {
            add("--ro-bind-try", &[&names, &names]);
        }
        for path in &self.reshown {
            add("--ro-bind", &[path, path]);
        }
        for path in &self.written {
            add("--bind", &[path, path]);
        }
        for path in &self.hidden {
            if path.is_dir() {
                add("--tmpfs", &[path]);
            } else {
                add("--ro-bind-try", &[Path::new("/dev/null"), path]);
            }
        }
        for path in &self.shown {
            add("--ro-bind", &[path, path]);
        }
        for path in self.own.iter().chain([&self.place]) {
            add("--bind", &[path, path]);
        }
        for path in self.hidden.iter().filter(|path| path.is_dir()) {
            add("--remount-ro", &[path]);
        }
        add("--chdir", &[&self.place]);
        words.extend(["--setenv", "TMPDIR", "/tmp"].map(OsString::from));
        for name in DANGLING {
            words.extend(["--unsetenv", name].map(OsString::from));
        }
        words.push("--".into());
        words
    }

    /// What the wrapper has to know it gets by its environment.
    fn wrapper(&self, command: &str) -> Vec<OsString> {
        let list = |name: &str, paths: &mut dyn Iterator<Item = &PathBuf>| {
            let mut word = OsString::from(name);
            for (at, path) in paths.enumerate() {
                word.push(if at == 0 { "=" } else { ":" });
                word.push(path);
            }
            word
        };
        let network = if self.network { "yes" } else { "no" };
        vec![
            "env".into(),
            format!("DALSEGNO_SANDBOX_FOR={}", self.inmate.as_str()).into(),
            format!("DALSEGNO_SANDBOX_NETWORK={network}").into(),
            list("DALSEGNO_SANDBOX_WRITE", &mut [&self.place].into_iter().chain(&self.own).chain(&self.written)),
            list("DALSEGNO_SANDBOX_HIDE", &mut self.hidden.iter()),
            "sh".into(),
            "-c".into(),
            format!("{command} \"$@\"").into(),
            "sandbox".into(),
        ]
    }

    /// Program and arguments in the sandbox as one word of a shell.
    #[must_use]
    pub fn shell_line(&self, program: &[&str]) -> OsString {
        let mut line = OsString::new();
        for word in self.words().into_iter().chain(program.iter().map(OsString::from)) {
            if !line.is_empty() {
                line.push(" ");
            }
            line.push(quoted(&word));
        }
        line
    }
}

/// What every call of bubblewrap begins with.
pub(super) const BASE: &[&str] = &[
    "bwrap",
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--new-session",
    "--cap-drop",
    "ALL",
    "--ro-bind",
    "/",
    "/",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
];

/// A word of a shell.
fn quoted(word: &OsString) -> OsString {
    let mut quoted = Vec::from(b"'");
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(br"'\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    std::os::unix::ffi::OsStringExt::from_vec(quoted)
}

/// What an agent of this kind keeps for itself outside its workspace.
fn own_places(kind: AgentKind, inmate: Inmate, state_dir: &Path, home: Option<&Path>) -> Result<Vec<PathBuf>, Failure> {
    let place = match (inmate, kind) {
        (Inmate::Agent, AgentKind::Scripted) => Some(state_dir.join("agents").join("scripted")),
        (Inmate::Agent, AgentKind::Codex) => {
            std::env::var_os("CODEX_HOME").map(PathBuf::from).or_else(|| home.map(|home| home.join(".codex")))
        }
        // The policy names them: agent.sandbox_write.
        (Inmate::Agent, AgentKind::Acp) | (Inmate::Check | Inmate::Git, _) => None,
    };
    let Some(place) = place else { return Ok(Vec::new()) };
    std::fs::create_dir_all(&place).map_err(|error| cannot_resolve(&place, &error))?;
    Ok(vec![resolved(&place)?])
}

/// Those that are there, resolved, each once.
fn there(paths: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let found: BTreeSet<PathBuf> = paths.into_iter().filter_map(|path| path.canonicalize().ok()).collect();
    found.into_iter().collect()
}

fn resolved(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| cannot_resolve(path, &error))
}

fn cannot_resolve(path: &Path, error: &io::Error) -> Failure {
    unusable(format!("{} cannot be resolved: {error}", path.display()))
}

fn unusable(why: String) -> Failure {
    Failure::permanent("sandbox_unavailable", format!("agent.sandbox cannot be set up: {why}"))
}
