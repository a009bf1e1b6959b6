//! Running programs: what is run is printed, what it prints is passed through, and every wait has a limit.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a line says that something long still runs.
const STILL_RUNNING: Duration = Duration::from_secs(20);

/// What a chore ends with: nothing, or what went wrong and what to do.
pub(crate) type Done = Result<(), String>;

/// Prints one line for the person at the terminal. Silent in unit tests: what they make up must not be counted
/// by the `cargo xtask test` that runs them.
pub(crate) fn say(line: impl Display) {
    if cfg!(test) {
        return;
    }
    let mut out = std::io::stdout().lock();
    // When nobody reads any more there is nobody to tell.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The root of the checkout that this program was built from.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Cargo, in the root of the checkout, without standard input.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    // `cargo run` sets these for this program; to the programs that it starts they would be lies.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    command
}

/// How a command looks when it is typed.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let set = command.get_envs().filter_map(|(name, value)| value.map(|value| (name, value)));
    let names_worth_showing = |name: &str| name.starts_with("DALSEGNO_") || name == "HOME" || name.ends_with("FLAGS");
    let mut words: Vec<String> = set
        .filter(|(name, _)| names_worth_showing(&name.to_string_lossy()))
        .map(|(name, value)| format!("{}={:?}", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    words.push(program.to_string_lossy().into_owned());
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs the command to its end; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Done {
    say(format_args!("$ {}", shown(command)));
    let status = command.status().map_err(|error| cannot_start(command, &error))?;
    judged(command, status)
}

/// Runs the command, and ends it when it takes longer than `limit`. Now and then a line says that it still runs.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Done {
    say(format_args!("$ {}   (at most {} s)", shown(command), limit.as_secs()));
    let mut child = command.spawn().map_err(|error| cannot_start(command, &error))?;
    wait_within(command, &mut child, limit, true)
}

/// Runs the command silently, within `limit`, and answers its standard output.
pub(crate) fn output_within(command: &mut Command, limit: Duration) -> Result<String, String> {
    let kept = TempDir::new("output")?;
    let path = kept.path().join("stdout");
    let file = std::fs::File::create(&path).map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
    let spawned = command.stdout(file).stderr(Stdio::null()).spawn();
    let mut child = spawned.map_err(|error| cannot_start(command, &error))?;
    wait_within(command, &mut child, limit, false)?;
    std::fs::read_to_string(&path).map_err(|error| format!("the output of `{}`: {error}", shown(command)))
}

fn wait_within(command: &Command, child: &mut Child, limit: Duration, aloud: bool) -> Done {
    let began = Instant::now();
    let mut next_word = STILL_RUNNING;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return judged(command, status),
            Ok(None) if began.elapsed() < limit => {
                if aloud && began.elapsed() >= next_word {
                    say(format_args!("… still running after {} s", next_word.as_secs()));
                    next_word += STILL_RUNNING;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(None) => {
                let ended = child.kill().and_then(|()| child.wait());
                let left = ended.err().map(|error| format!("; it could not be ended: {error}")).unwrap_or_default();
                return Err(format!("`{}` took longer than {} s{left}", shown(command), limit.as_secs()));
            }
            Err(error) => return Err(format!("`{}` cannot be waited for: {error}", shown(command))),
        }
    }
}

/// Runs the command and hands over each line of its standard output, after passing it through.
pub(crate) fn run_lines(command: &mut Command, mut line_seen: impl FnMut(&str)) -> Done {
    say(format_args!("$ {}", shown(command)));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| cannot_start(command, &error))?;
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {
                    let text = String::from_utf8_lossy(&line);
                    let text = text.trim_end_matches(['\n', '\r']);
                    say(text);
                    line_seen(text);
                }
                Err(error) => return Err(format!("the output of `{}` cannot be read: {error}", shown(command))),
            }
        }
    }
    let status = child.wait().map_err(|error| format!("`{}` cannot be waited for: {error}", shown(command)))?;
    judged(command, status)
}

/// Runs the command silently and answers its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| cannot_start(command, &error))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{}` ended with {}:\n{}", shown(command), output.status, stderr.trim_end()));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("`{}` printed something that is no UTF-8", shown(command)))
}

fn judged(command: &Command, status: ExitStatus) -> Done {
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", shown(command))) }
}

fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("`{}` cannot be started: {error}", shown(command))
}

/// A directory of our own; gone when dropped.
pub(crate) struct TempDir {
    path: PathBuf,
    keep: bool,
}

impl TempDir {
    /// Makes an empty directory that nobody else has.
    pub(crate) fn new(purpose: &str) -> Result<Self, String> {
        Self::within(&std::env::temp_dir(), purpose)
    }

    /// The same under another directory.
    pub(crate) fn within(parent: &Path, purpose: &str) -> Result<Self, String> {
        let stamp = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        let path = parent.join(format!("dalsegno-{purpose}-{}-{stamp}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
        Ok(Self { path, keep: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory where it is.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if self.keep {
            say(format_args!("kept: {}", self.path.display()));
        } else if let Err(error) = std::fs::remove_dir_all(&self.path) {
            say(format_args!("note: {} is left over: {error}", self.path.display()));
        }
    }
}

/// Gives the command a home of its own. Cargo, rustup and the real parts keep theirs, or nothing could be built and all
/// parts would be fetched again.
pub(crate) fn with_empty_home(command: &mut Command, home: &Path) {
    let old_home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        command.env(name, std::env::var_os(name).unwrap_or_else(|| old_home.join(folder).into_os_string()));
    }
    if let Ok(places) = dalsegno_parts::Places::from_env() {
        command.env(dalsegno_parts::FOLDER_VARIABLE, places.folder);
    }
    for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "GIT_CONFIG_GLOBAL"] {
        command.env_remove(name);
    }
    command.env("HOME", home);
}

/// The given seed, or a fresh one.
pub(crate) fn seed_or_fresh(seed: Option<u64>) -> u64 {
    seed.unwrap_or_else(|| std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_that_never_ends_is_ended() {
        let done = run_within(&mut shell("exec sleep 1000"), Duration::from_millis(50));
        assert!(done.is_err_and(|problem| problem.contains("took longer")));
    }

    #[test]
    fn an_exit_code_is_a_failure() {
        assert_eq!(run_within(&mut shell("exit 0"), Duration::from_secs(60)), Ok(()));
        assert!(run_within(&mut shell("exit 3"), Duration::from_secs(60)).is_err());
        assert!(
            run(&mut Command::new("no-such-program-anywhere"))
                .is_err_and(|problem| problem.contains("cannot be started"))
        );
    }

    #[test]
    fn lines_are_handed_over_whatever_their_bytes() {
        let mut lines = Vec::new();
        let done = run_lines(&mut shell("printf 'a\\r\\n\\377b\\nno end'; exit 1"), |line| lines.push(line.to_owned()));
        assert!(done.is_err());
        assert_eq!(lines, ["a", "\u{fffd}b", "no end"]);
    }

    #[test]
    fn an_empty_home_keeps_the_tools() {
        let home = TempDir::new("test-home");
        let path = home.as_ref().map(|home| home.path().to_path_buf()).unwrap_or_default();
        let mut command =
            shell("test -d \"$HOME\" && test -z \"$(ls -A \"$HOME\")\" && test \"$CARGO_HOME\" != \"$HOME/.cargo\"");
        with_empty_home(&mut command, &path);
        assert_eq!(run(&mut command), Ok(()));
        drop(home);
        assert!(!path.exists());
    }
}
