//! What of the sandbox works on this machine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use dalsegno_engine::core::{Failure, Policy, Sandbox};
use tokio_util::sync::CancellationToken;

use super::bounded::run_bounded;
use super::sandbox::BASE;
use super::spawn::{Surroundings, command};

/// Making a sandbox takes milliseconds; a machine that takes longer than this does not work.
const LIMIT: Duration = Duration::from_secs(10);
/// What is kept of a complaint.
const MAX_TAIL_BYTES: usize = 1024;
/// Runs a program that does nothing, in a login shell's surroundings.
const NOTHING: [&str; 3] = ["sh", "-c", ":"];

/// What was found out about bubblewrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Where the program is; `None`: not on `PATH`.
    pub program: Option<PathBuf>,
    /// What it says of itself, as `bubblewrap 0.8.0`.
    pub version: Option<String>,
    /// Whether it can shut a program in, else what it said.
    pub contains: Result<(), String>,
    /// Whether it can also take the network away, else what it said.
    pub cuts_network: Result<(), String>,
}

impl Probe {
    /// Whether `agent.sandbox: bubblewrap` holds what it promises. git in a workspace never has a network, so a sandbox
    /// that cannot take it away is none.
    ///
    /// # Errors
    /// `sandbox_unavailable`, with what to do.
    pub fn verdict(&self) -> Result<(), Failure> {
        if self.program.is_none() {
            return Err(unavailable("the program `bwrap` is not on PATH")
                .hint("install bubblewrap (the package of that name), or set agent.sandbox to none"));
        }
        let Err(said) = self.contains.as_ref().and(self.cuts_network.as_ref()) else { return Ok(()) };
        Err(unavailable(&format!("bubblewrap cannot make a sandbox here: {said}")).hint(
            "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns, user.max_user_namespaces; in a container its seccomp and \
             /proc settings), or set agent.sandbox to none",
        ))
    }
}

/// Tries bubblewrap out.
pub async fn probe() -> Probe {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&path).map(|dir| dir.join("bwrap")).find(|program| program.is_file());
    if program.is_none() {
        let missing = || Err("bwrap is not on PATH".to_owned());
        return Probe { program, version: None, contains: missing(), cuts_network: missing() };
    }
    let version = attempt(["bwrap", "--version"].map(OsString::from).to_vec()).await.ok();
    let with = |more: &[&str]| {
        let words = BASE.iter().chain(&["--tmpfs", "/tmp"]).chain(more).chain(&["--"]).chain(&NOTHING);
        attempt(words.map(OsString::from).collect())
    };
    Probe {
        program,
        version,
        contains: with(&[]).await.map(drop),
        cuts_network: with(&["--unshare-net"]).await.map(drop),
    }
}

/// Whether the policy's sandbox can be had on this machine.
///
/// # Errors
/// `sandbox_unavailable`.
pub async fn ready(policy: &Policy) -> Result<(), Failure> {
    match &policy.agent.sandbox {
        Sandbox::None => Ok(()),
        Sandbox::Bubblewrap => probe().await.verdict(),
        Sandbox::Command(wrapper) => {
            let words = ["sh", "-c", &format!("{wrapper} \"$@\""), "sandbox"].map(OsString::from);
            attempt(words.into_iter().chain(NOTHING.map(OsString::from)).collect()).await.map(drop).map_err(|said| {
                unavailable(&format!("its command cannot start a program: {said}"))
                    .hint("the command gets a program and its arguments as its own, and has to run it")
            })
        }
    }
}

fn unavailable(why: &str) -> Failure {
    Failure::permanent("sandbox_unavailable", format!("agent.sandbox cannot be had on this machine: {why}"))
}

/// What the program says when it ends well, else what it complains of.
async fn attempt(words: Vec<OsString>) -> Result<String, String> {
    let surroundings = Surroundings { mark: "look".to_owned(), secret_names: Vec::new(), cell: None };
    let mut words = words.into_iter();
    let mut trial = command(words.next().unwrap_or_default(), &surroundings);
    trial.args(words).current_dir("/");
    let ended = run_bounded(trial, None, LIMIT, &CancellationToken::new(), MAX_TAIL_BYTES).await;
    match ended {
        Ok(ended) if ended.success() => Ok(ended.tail.trim().to_owned()),
        Ok(ended) if ended.tail.trim().is_empty() => Err(ended.how()),
        Ok(ended) => Err(ended.tail.trim().to_owned()),
        Err(failure) => Err(failure.message),
    }
}
