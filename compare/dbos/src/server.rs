//! A PostgreSQL server of our own: Debian's package or any other, reached over a socket in the task's directory.

use std::error::Error;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Failed = Box<dyn Error + Send + Sync>;

/// A running server; stopped when dropped.
pub struct Server {
    programs: PathBuf,
    dir: PathBuf,
    /// Whom it runs as, when we are root: PostgreSQL refuses that.
    user: Option<(u32, u32)>,
}

impl Server {
    /// Makes an empty cluster and starts it.
    pub fn start(dir: &Path, durable: bool) -> Result<Self, Failed> {
        let dir = dir.canonicalize()?;
        let is_root = id("-u", None)? == 0;
        let user = if is_root { Some((id("-u", Some("postgres"))?, id("-g", Some("postgres"))?)) } else { None };
        if let Some((uid, gid)) = user {
            chown(&dir, Some(uid), Some(gid))?;
        }
        let server = Self { programs: programs()?, dir, user };
        server.run("initdb", &["-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"])?;
        let commit = if durable { "on" } else { "off" };
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories=. -c synchronous_commit={commit} -c fsync=on \
             -c max_connections=100 -c shared_buffers=256MB -c max_wal_size=4GB"
        );
        // The socket's path is relative to the data directory.
        server.run("pg_ctl", &["-D", "data", "-l", "log", "-w", "-o", &options, "start"])?;
        Ok(server)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        let socket = self.dir.join("data").display().to_string().replace('/', "%2F");
        format!("postgres://postgres@localhost/postgres?host={socket}")
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), Failed> {
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let status = command.status()?;
        if status.success() { Ok(()) } else { Err(format!("{program} ended with {status}").into()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let began = Instant::now();
        while self.run("pg_ctl", &["-D", "data", "-m", "immediate", "-w", "stop"]).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                eprintln!("a PostgreSQL server is left over in {}", self.dir.display());
                return;
            }
        }
    }
}

/// The newest of Debian's, or what the path has.
fn programs() -> Result<PathBuf, Failed> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    found.sort();
    if let Some(newest) = found.into_iter().rfind(|bin| bin.join("initdb").is_file()) {
        return Ok(newest);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(|bin| bin.join("initdb").is_file());
    found.ok_or_else(|| "PostgreSQL is not installed (Debian: the package postgresql)".into())
}

fn id(what: &str, user: Option<&str>) -> Result<u32, Failed> {
    let output = Command::new("id").arg(what).args(user).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse().map_err(|_| "PostgreSQL needs the user postgres here")?)
}
