//! How git is called: argument vectors, hardened surroundings, time limits, bounded output.
//!
//! There are two kinds of calls. [`Reach::Remote`] talks to the policy's remote from the daemon's own bare repository
//! and has the user's credentials. [`Reach::Local`] has none, reads no configuration but that of the repository it is
//! pointed at, and may speak no protocol but the local one. Calls that touch an agent's work tree do not even read
//! the agent's configuration: see `work.rs`.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use dalsegno_engine::Context;
use dalsegno_engine::core::{Failure, Policy};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::process::{self, Cell, Inmate, RUN_VARIABLE, Surroundings};

/// For what happens on this machine's disk.
const LOCAL_LIMIT: Duration = Duration::from_secs(300);
/// For all that one effect says to a remote. Well below the 15 minutes after which nobody waits for the effect: what git
/// says of its remote is a failure with words, and no doubt.
pub(super) const REMOTE_LIMIT: Duration = Duration::from_secs(600);
/// The same for a probe, which is waited for two minutes.
const PROBE_LIMIT: Duration = Duration::from_secs(100);
/// How ssh is called when the user says nothing else: a host that is gone is told within a minute or two.
const SSH: &str = "ssh -o ConnectTimeout=30 -o ServerAliveInterval=20 -o ServerAliveCountMax=5";
/// How long pipes may stay open after git ended.
const PIPE_GRACE: Duration = Duration::from_secs(2);
/// More than this of an answer is a failure; 50,000 paths fit.
const MAX_OUTPUT_BYTES: usize = 8 * 1024 * 1024;
/// What is kept of the error output.
const MAX_ERROR_BYTES: usize = 4 * 1024;

/// Configuration that holds for every call, whatever a file says.
const FIXED_CONFIG: &[(&str, &str)] = &[
    ("core.fsmonitor", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.untrackedCache", "false"),
    ("core.pager", "cat"),
    ("core.editor", "false"),
    ("protocol.ext.allow", "never"),
    ("protocol.fd.allow", "never"),
    ("diff.ignoreSubmodules", "dirty"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("push.recurseSubmodules", "no"),
    ("push.followTags", "false"),
    ("push.gpgSign", "false"),
    ("commit.gpgSign", "false"),
    ("log.showSignature", "false"),
    ("gc.autoDetach", "false"),
    ("maintenance.autoDetach", "false"),
    ("maintenance.auto", "false"),
    ("advice.detachedHead", "false"),
    ("advice.addEmbeddedRepo", "false"),
    ("advice.graftFileDeprecated", "false"),
    ("core.quotePath", "false"),
    ("fetch.writeCommitGraph", "false"),
    // What a ref names is on disk before the ref is: packs are synced, and of loose objects git's default syncs none.
    ("fetch.unpackLimit", "1"),
    ("core.fsync", "all"),
    ("core.fsyncMethod", "batch"),
    // A server that says nothing at all for so long is gone; one that works sends signs of life.
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "120"),
    ("init.defaultBranch", "main"),
];

/// Variables that point git somewhere else than we do; a daemon that was started from a hook has some of them.
pub(super) const POINTING: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_QUARANTINE_PATH",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_EXTERNAL_DIFF",
    "GIT_TEMPLATE_DIR",
];

/// What a call may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// This machine's files, without credentials and without the user's configuration.
    Local,
    /// The remote, with the user's configuration and credentials.
    Remote,
}

/// Who calls: what ends up in the surroundings of a child.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) surroundings: Surroundings,
    pub(super) cancel: CancellationToken,
    /// When it has talked to remotes for long enough.
    pub(super) until: Instant,
}

impl Caller {
    pub(super) fn of(context: &Context) -> Self {
        Self {
            surroundings: Surroundings::of(context),
            cancel: context.cancel.clone(),
            until: Instant::now() + REMOTE_LIMIT,
        }
    }

    /// For a probe.
    pub(super) fn probing(context: &Context) -> Self {
        Self { until: Instant::now() + PROBE_LIMIT, ..Self::of(context) }
    }

    /// The same in the sandbox of git, for calls on a repository in `place` that an agent can write. Of the state
    /// directory such a call sees `scratch`, where its own git directory is.
    ///
    /// # Errors
    /// `sandbox_unavailable`.
    pub(super) fn shut_in(&self, policy: &Policy, state_dir: &Path, place: &Path) -> Result<Self, Failure> {
        let cell = match Cell::of(policy, state_dir, Inmate::Git, place)? {
            None => return Ok(self.clone()),
            Some(cell) => {
                let scratch = state_dir.join("scratch");
                std::fs::create_dir_all(&scratch).map_err(|error| {
                    io_failure("state_dir_unusable", "the place for a look at the workspace", &error)
                })?;
                Some(cell.with(&scratch)?)
            }
        };
        Ok(Self { surroundings: Surroundings { cell, ..self.surroundings.clone() }, ..self.clone() })
    }

    /// The same with one more directory to read.
    ///
    /// # Errors
    /// `sandbox_unavailable`.
    pub(super) fn reading(self, place: &Path) -> Result<Self, Failure> {
        let Self { mut surroundings, cancel, until } = self;
        surroundings.cell = surroundings.cell.map(|cell| cell.reading(place)).transpose()?;
        Ok(Self { surroundings, cancel, until })
    }

    /// For looks that belong to no run.
    pub(super) fn look() -> Self {
        Self::marked("look")
    }

    /// For what belongs to no run and is found by this mark.
    pub(super) fn marked(mark: &str) -> Self {
        let surroundings = Surroundings { mark: mark.to_owned(), secret_names: Vec::new(), cell: None };
        Self { surroundings, cancel: CancellationToken::new(), until: Instant::now() + REMOTE_LIMIT }
    }

    /// Waits, unless it is canceled meanwhile.
    ///
    /// # Errors
    /// `canceled`.
    pub(super) async fn patiently<T>(&self, what: &str, wait: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            got = wait => Ok(got),
            () = self.cancel.cancelled() => {
                Err(Failure::retryable("canceled", format!("the wait for {what} was stopped on request")))
            }
        }
    }
}

/// One call of git, not run yet.
pub(super) struct Git<'a> {
    caller: &'a Caller,
    reach: Reach,
    dir: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
    limit: Option<Duration>,
    /// More than so many bytes of the answer are not waited for.
    enough: Option<usize>,
}

/// What a call that ran to its end said.
#[derive(Debug)]
pub(super) struct Said {
    /// Exit code; `None` when a signal ended it.
    pub(super) code: Option<i32>,
    /// Standard output.
    pub(super) out: Vec<u8>,
    /// The end of standard error.
    pub(super) err: String,
    /// There was more than was [`Git::enough`]: git was let go of, and its exit code says nothing.
    pub(super) cut: bool,
}

impl Said {
    pub(super) fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Standard output as text, without the last line's end.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).trim_end_matches('\n').to_owned()
    }

    /// A failure that quotes what git said; `disk_full` when that is what it said.
    pub(super) fn failure(&self, code: &str, what: &str) -> Failure {
        let quoted = redact(self.err.trim());
        let quoted =
            if quoted.is_empty() { format!("git ended with {:?} and said nothing", self.code) } else { quoted };
        if is_disk_full(&quoted) {
            return disk_full(&format!("{what}: {quoted}"));
        }
        Failure::retryable(code, format!("{what}: {quoted}"))
    }
}

/// A call in the current directory `dir`.
pub(super) fn git<'a>(caller: &'a Caller, reach: Reach, dir: &Path) -> Git<'a> {
    Git { caller, reach, dir: dir.into(), args: Vec::new(), env: Vec::new(), stdin: None, limit: None, enough: None }
}

impl Git<'_> {
    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(super) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(super) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(super) fn stdin(mut self, bytes: Vec<u8>) -> Self {
        self.stdin = Some(bytes);
        self
    }

    /// Another limit than that of its kind.
    pub(super) fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Reads so many bytes of the answer and then lets git go.
    pub(super) fn enough(mut self, bytes: usize) -> Self {
        self.enough = Some(bytes.min(MAX_OUTPUT_BYTES));
        self
    }

    /// ssh gives up on a host that does not answer. Only where the user has not said how ssh is called.
    pub(super) fn impatient_ssh(self) -> Self {
        self.env("GIT_SSH_COMMAND", SSH)
    }

    /// Lets a local call fetch from another directory.
    pub(super) fn allow_directories(self) -> Self {
        self.env("GIT_ALLOW_PROTOCOL", "file")
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// `git_not_found`, `git_timeout`, `git_output_too_long`, `canceled`; an exit code other than 0 is no error here.
    pub(super) async fn run(self) -> Result<Said, Failure> {
        let limit = self.limit.unwrap_or_else(|| match self.reach {
            Reach::Local => LOCAL_LIMIT,
            Reach::Remote => self.caller.until.saturating_duration_since(Instant::now()),
        });
        let what = self.words();
        let cancel = self.caller.cancel.clone();
        let mut command = self.command();
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.stdin(if self.stdin.is_some() { std::process::Stdio::piped() } else { std::process::Stdio::null() });
        let child = self.caller.patiently(&what, process::spawn(command)).await?;
        let mut child = child.map_err(|failure| git_not_found(&failure))?;
        let (stdin, out_pipe, err_pipe) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let bytes = self.stdin.unwrap_or_default();
        let (mut out, mut whole, mut err) = (Vec::new(), true, Vec::new());
        let (most, goes_on) = (self.enough.unwrap_or(MAX_OUTPUT_BYTES), self.enough.is_none());
        let ended = {
            let reading = async {
                let read_out = read(out_pipe, &mut out, &mut whole, most, goes_on);
                tokio::join!(read_out, read_tail(err_pipe, &mut err), feed(stdin, &bytes));
            };
            tokio::pin!(reading);
            let whole_run = async {
                let mut read = false;
                loop {
                    tokio::select! {
                        status = child.wait() => {
                            // A connection that ssh keeps for later holds the pipes; all that git said is in them.
                            if !read && tokio::time::timeout(PIPE_GRACE, &mut reading).await.is_err() {
                                tracing::debug!("a child of git holds its pipes");
                            }
                            return status;
                        }
                        () = &mut reading, if !read => read = true,
                    }
                }
            };
            tokio::select! {
                ended = tokio::time::timeout(limit, whole_run) => ended.map_err(|_| {
                    Failure::retryable("git_timeout", format!("{what} was not done within {} s and was ended", limit.as_secs()))
                        .hint("see whether the remote or the disk answers")
                }),
                () = cancel.cancelled() => {
                    Err(Failure::retryable("canceled", format!("{what} was stopped on request")))
                }
            }
        };
        let status = match ended {
            Ok(status) => status,
            Err(failure) => {
                if let Err(left) = child.end().await {
                    tracing::warn!(code = %left.code, reason = %left.message, "git could not be ended");
                }
                return Err(failure);
            }
        };
        child.release();
        if !whole && goes_on {
            return Err(Failure::permanent(
                "git_output_too_long",
                format!("{what} answered more than {MAX_OUTPUT_BYTES} bytes"),
            ));
        }
        let status =
            status.map_err(|error| io_failure("git_failed", &format!("{what} could not be awaited"), &error))?;
        Ok(Said { code: status.code(), out, err: String::from_utf8_lossy(&err).into_owned(), cut: !whole })
    }

    /// Runs it and takes any exit code but 0 as a failure with this code.
    pub(super) async fn must(self, code: &str, what: &str) -> Result<Said, Failure> {
        let said = self.run().await?;
        if said.ok() { Ok(said) } else { Err(said.failure(code, what)) }
    }

    /// The verb only: arguments hold URLs and other people's text.
    fn words(&self) -> String {
        let verb = self.args.iter().find(|arg| !arg.to_string_lossy().starts_with('-'));
        format!("git {}", verb.map(|verb| verb.to_string_lossy()).unwrap_or_default())
    }

    fn command(&self) -> Command {
        // Helpers of git take tokens from the environment, as on the user's own command line.
        let mut command = process::command_with_credentials("git", &self.caller.surroundings);
        match self.reach {
            Reach::Local => isolate(&mut command, &self.caller.surroundings),
            Reach::Remote => {
                for name in POINTING {
                    command.env_remove(name);
                }
                // A daemon has nobody to ask.
                if std::env::var_os("SSH_ASKPASS").is_none() {
                    command.env("SSH_ASKPASS", "/bin/false").env("SSH_ASKPASS_REQUIRE", "force");
                }
            }
        }
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").env("GIT_NO_REPLACE_OBJECTS", "1");
        for (name, value) in &self.env {
            command.env(name, value);
        }
        for (name, value) in FIXED_CONFIG {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.current_dir(&self.dir).args(&self.args);
        command
    }
}

/// Nothing of the daemon's environment but what a program needs to start; no configuration but the repository's; no
/// protocol but local files, and no fetching of missing objects behind our back.
fn isolate(command: &mut Command, surroundings: &Surroundings) {
    command.env_clear();
    for name in ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "GIT_EXEC_PATH", "XDG_CONFIG_HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env(RUN_VARIABLE, &surroundings.mark)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_GRAFT_FILE", "/dev/null")
        .env("GIT_ALLOW_PROTOCOL", "none");
}

async fn feed(pipe: Option<tokio::process::ChildStdin>, bytes: &[u8]) {
    use tokio::io::AsyncWriteExt as _;
    if let Some(mut pipe) = pipe
        && let Err(error) = pipe.write_all(bytes).await
    {
        tracing::debug!(%error, "git did not read its standard input");
    }
}

/// Reads to the end; `whole` becomes false when there was more than `most`. Then it reads on only if it `goes_on`: otherwise the
/// pipe is closed, by which git ends.
async fn read(pipe: Option<impl AsyncRead + Unpin>, all: &mut Vec<u8>, whole: &mut bool, most: usize, goes_on: bool) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0_u8; 16 * 1024];
    loop {
        let got = pipe.read(&mut buffer).await.unwrap_or(0);
        if got == 0 {
            return;
        }
        if *whole {
            let room = most.saturating_sub(all.len());
            all.extend_from_slice(buffer.get(..got.min(room)).unwrap_or_default());
            *whole = got <= room;
        }
        if !*whole && !goes_on {
            return;
        }
    }
}

/// Reads to the end and keeps the last of it.
async fn read_tail(pipe: Option<impl AsyncRead + Unpin>, tail: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0_u8; 4096];
    loop {
        let got = pipe.read(&mut buffer).await.unwrap_or(0);
        if got == 0 {
            return;
        }
        tail.extend_from_slice(buffer.get(..got).unwrap_or_default());
        let over = tail.len().saturating_sub(MAX_ERROR_BYTES);
        tail.drain(..over);
    }
}

fn git_not_found(failure: &Failure) -> Failure {
    let mut failure = failure.clone();
    if !failure.retryable {
        "git_not_found".clone_into(&mut failure.code);
        failure.hint = Some("install git (2.32 or newer) and see that it is on PATH".to_owned());
    }
    failure
}

/// A failure of the file system; `disk_full` when that is what it is.
pub(super) fn io_failure(code: &str, what: &str, error: &std::io::Error) -> Failure {
    let message = format!("{what}: {error}");
    if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
        return disk_full(&message);
    }
    let failure = Failure::retryable(code, message);
    if matches!(error.kind(), std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem) {
        return Failure { retryable: false, ..failure }.hint("see that the daemon's user may write there");
    }
    failure
}

/// Whether a program complained of a full disk or quota.
pub(super) fn is_disk_full(text: &str) -> bool {
    ["No space left on device", "Disk quota exceeded", "ENOSPC", "EDQUOT"].iter().any(|words| text.contains(words))
}

pub(super) fn disk_full(message: &str) -> Failure {
    Failure::retryable("disk_full", message.to_owned()).hint("make room on the disk; the daemon tries again by itself")
}

/// Takes what stands before an `@` out of URLs: git quotes them with their passwords.
pub(super) fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        let end = after.find(|c: char| c == '/' || c == '\'' || c == '"' || c.is_whitespace()).unwrap_or(after.len());
        let (host, tail) = after.split_at(end);
        clean.push_str(host.rsplit_once('@').map_or(host, |(_, host)| host));
        rest = tail;
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_taken_out() {
        let text = "fatal: unable to access 'https://me:s3cret@host.example/x.git/': no, nor ssh://git@h/y; a@b stays";
        let clean = redact(text);
        assert_eq!(clean, "fatal: unable to access 'https://host.example/x.git/': no, nor ssh://h/y; a@b stays");
    }

    #[test]
    fn a_host_that_is_gone_is_not_waited_for_by_ssh() {
        let caller = Caller::look();
        let call = git(&caller, Reach::Remote, Path::new("/")).impatient_ssh().command();
        let ssh = call.as_std().get_envs().find(|(name, _)| *name == "GIT_SSH_COMMAND").and_then(|(_, value)| value);
        assert!(ssh.is_some_and(|value| value.to_string_lossy().contains("ConnectTimeout")), "{ssh:?}");
        assert!(call.as_std().get_args().any(|arg| arg == "http.lowSpeedTime=120"));
    }

    #[test]
    fn a_remote_call_ends_before_nobody_waits_for_its_effect_any_more() {
        assert!(REMOTE_LIMIT + LOCAL_LIMIT <= Duration::from_secs(15 * 60));
        assert!(PROBE_LIMIT < Duration::from_secs(120));
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let said = |err: &str| Said { code: Some(128), out: Vec::new(), err: err.to_owned(), cut: false };
        let full = said("error: file write error: No space left on device").failure("fetch_failed", "the fetch");
        assert_eq!((full.code.as_str(), full.retryable), ("disk_full", true));
        assert_eq!(said("fatal: something").failure("fetch_failed", "the fetch").code, "fetch_failed");
        let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(io_failure("x", "y", &error).code, "disk_full");
    }
}
