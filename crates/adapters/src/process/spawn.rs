//! Starting children.

use std::ffi::OsStr;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Stdio;

use dalsegno_engine::Context;
use dalsegno_engine::core::Failure;
use tokio::process::Command;

use super::environment;
use super::nursery::{self, Place};
use super::sandbox::Cell;
use super::sweep::{Prey, hunt};

/// Names the run in the environment of everything that is started for it.
pub const RUN_VARIABLE: &str = "DALSEGNO_RUN";
/// Names one start in the environment of everything that came of it; random.
pub const CALL_VARIABLE: &str = "DALSEGNO_CALL";

/// What a child gets of its surroundings: the inherited environment without secrets (`environment.rs` says which) and
/// without the daemon's own settings (`DALSEGNO_*`), and the mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Value of [`RUN_VARIABLE`].
    pub mark: String,
    /// Variables that it does not get.
    pub secret_names: Vec<String>,
    /// The sandbox that it is started in.
    pub cell: Option<Cell>,
}

impl Surroundings {
    /// Those of the project's own programs: outside of any sandbox.
    #[must_use]
    pub fn of(context: &Context) -> Self {
        Self { mark: context.mark.clone(), secret_names: context.secret_names.clone(), cell: None }
    }
}

/// A command in its sandbox, in a process group of its own, with no standard input, that dies when its handle is dropped.
/// Working directory, arguments and further variables are the caller's to add.
#[must_use]
pub fn command(program: impl AsRef<OsStr>, surroundings: &Surroundings) -> Command {
    let mut command = command_with_credentials(program, surroundings);
    for name in environment::names(environment::is_outward) {
        command.env_remove(name);
    }
    command
}

/// The same with the user's own tokens of forges. For git alone, when it talks to the remote of the policy.
pub(crate) fn command_with_credentials(program: impl AsRef<OsStr>, surroundings: &Surroundings) -> Command {
    let mut command = match &surroundings.cell {
        None => Command::new(program),
        Some(cell) => {
            let mut words = cell.starting(Path::new(program.as_ref())).words().into_iter();
            let mut command = Command::new(words.next().unwrap_or_default());
            command.args(words).arg(program);
            command
        }
    };
    command.process_group(0).kill_on_drop(true).stdin(Stdio::null());
    // The daemon's own settings say where its state and its token are; a child has no business there.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"DALSEGNO_")) {
        command.env_remove(name);
    }
    for name in &surroundings.secret_names {
        command.env_remove(name);
    }
    command.env(RUN_VARIABLE, &surroundings.mark);
    command
}

/// `bash -lc <script>` as a [`command`]: how the specification runs agents (Symphony §10.1). Hooks are run by `sh -lc`,
/// which it allows for (§9.4).
#[must_use]
pub fn shell(script: &str, surroundings: &Surroundings) -> Command {
    let mut command = command("bash", surroundings);
    command.arg("-lc").arg(script);
    command
}

/// A running child. [`Child::end`] ends it with everything that came of it; a drop does the same as far as one
/// look at the process table goes.
#[derive(Debug)]
pub struct Child {
    child: tokio::process::Child,
    prey: Prey,
    ended: bool,
}

/// Starts a command that [`command`] or [`shell`] made, with a fresh [`CALL_VARIABLE`].
///
/// # Errors
/// `spawn_failed`: there is no such program or directory, the system refuses another process, or a file system does not
/// answer.
pub async fn spawn(mut command: Command) -> Result<Child, Failure> {
    let (token, place) = (token()?, Place::of(&command));
    command.env(CALL_VARIABLE, &token);
    let start = move || command.spawn().map_err(|error| spawn_failed(&command, &error));
    let child = nursery::born(place, start).await?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    Ok(Child { child, prey: Prey::call(&token, group), ended: false })
}

impl Child {
    /// Ends the process, its group, and whatever else came of this start. Answers how many processes were killed.
    ///
    /// # Errors
    /// `sweep_failed` when some outlived it.
    pub async fn end(&mut self) -> Result<u32, Failure> {
        let killed = hunt(self.prey.clone()).await?;
        self.ended = true;
        // Collects the zombie; it is dead, so this does not wait.
        if let Err(error) = self.child.wait().await {
            tracing::debug!(%error, "an ended child could not be collected");
        }
        Ok(killed)
    }

    /// The process ended by itself, and what it left running may stay until the run's sweep.
    pub fn release(&mut self) {
        self.ended = true;
    }
}

impl Deref for Child {
    type Target = tokio::process::Child;

    fn deref(&self) -> &Self::Target {
        &self.child
    }
}

impl DerefMut for Child {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.child
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let prey = self.prey.clone();
        // A drop may not wait, but nothing that we started may live on because somebody lost interest in it.
        let spawned = std::thread::Builder::new().name("sweep-dropped".to_owned()).spawn(move || match prey.hunt() {
            Ok(hunted) if hunted.outlived.is_empty() => {}
            Ok(hunted) => tracing::warn!(outlived = ?hunted.outlived, "processes outlived the end of their start"),
            Err(error) => tracing::warn!(%error, "a dropped child could not be swept"),
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "a dropped child could not be swept");
        }
    }
}

/// 128 random bits in hexadecimal.
fn token() -> Result<String, Failure> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::retryable("spawn_failed", format!("the system gives no random bytes: {error}")))?;
    Ok(hex::encode(bytes))
}

fn spawn_failed(command: &Command, error: &io::Error) -> Failure {
    let command = command.as_std();
    let program = command.get_program().to_string_lossy();
    let place = command.get_current_dir().map_or_else(String::new, |dir| format!(" in {}", dir.display()));
    let message = format!("{program} could not be started{place}: {error}");
    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) {
        return Failure::permanent("spawn_failed", message)
            .hint(format!("see that {program} is installed and on PATH, and that the directory is there"));
    }
    Failure::retryable("spawn_failed", message)
}
