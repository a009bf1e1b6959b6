//! `purity`: proves that the lints which keep the core pure bite.
//!
//! `crates/core/clippy.toml` names what the core must not call. A typo there would silence it without a sign, so this
//! verb puts that very file beside a crate which does everything that is forbidden, and counts the complaints.

use std::fs;
use std::process::Stdio;

use crate::shell::{Done, TempDir, cargo, root, say};

/// Prove that crates/core/clippy.toml stops clocks, environment, files, network and unordered maps.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {}

/// Each line is an offence of its own, with the word that the complaint must contain.
const OFFENCES: [(&str, &str); 12] = [
    ("let _ = std::time::SystemTime::now();", "std::time::SystemTime::now"),
    ("let _ = std::time::Instant::now();", "std::time::Instant::now"),
    ("let _ = std::env::var(\"X\");", "std::env::var"),
    ("let _ = std::env::current_dir();", "std::env::current_dir"),
    ("let _ = std::fs::read(\"x\");", "std::fs::read"),
    ("let _ = std::fs::write(\"x\", \"\");", "std::fs::write"),
    ("let _ = std::fs::File::open(\"x\");", "std::fs::File"),
    ("let _ = std::net::TcpStream::connect(\"x\");", "std::net::TcpStream"),
    ("let _ = std::process::Command::new(\"x\");", "std::process::Command"),
    ("let _: std::collections::HashMap<u8, u8> = Default::default();", "std::collections::HashMap"),
    ("let _: std::collections::HashSet<u8> = Default::default();", "std::collections::HashSet"),
    ("let _ = std::thread::spawn(|| ());", "std::thread::spawn"),
];

pub(crate) fn run(_: &Arguments) -> Done {
    let folder = TempDir::new("purity")?;
    let path = folder.path();
    let lints = root().join("crates/core/clippy.toml");
    let body: String =
        OFFENCES.iter().enumerate().map(|(n, (line, _))| format!("pub fn f{n}() {{ {line} }}\n")).collect();
    let source = format!("#![warn(clippy::disallowed_methods, clippy::disallowed_types)]\n{body}");
    let manifest = "[package]\nname = \"offender\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[workspace]\n";
    let written = fs::copy(&lints, path.join("clippy.toml"))
        .and_then(|_| fs::write(path.join("Cargo.toml"), manifest))
        .and_then(|()| fs::write(path.join("lib.rs"), source));
    written.map_err(|error| format!("the offending crate cannot be made: {error}"))?;

    let output = cargo(&["clippy", "--quiet", "--offline", "--message-format", "short"])
        .current_dir(path)
        .env("CARGO_TARGET_DIR", path.join("target"))
        .env_remove("CLIPPY_CONF_DIR")
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("cargo clippy cannot be started: {error}"))?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("the offending crate does not compile:\n{complaints}"));
    }
    let missed = missed(&complaints);
    if missed.is_empty() {
        say(format_args!("all {} offences against the core's purity are found", OFFENCES.len()));
        Ok(())
    } else {
        Err(format!("crates/core/clippy.toml lets through: {}\n{complaints}", missed.join(", ")))
    }
}

/// Offences on whose line (they begin at the second) no complaint names what was called.
fn missed(complaints: &str) -> Vec<&'static str> {
    let found = |index: usize, word: &str| {
        let place = format!("lib.rs:{}:", index + 2);
        complaints.lines().any(|line| line.starts_with(&place) && line.contains("disallowed") && line.contains(word))
    };
    OFFENCES.iter().enumerate().filter(|(index, (_, word))| !found(*index, word)).map(|(_, (_, word))| *word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_not_taken_for_success() {
        assert_eq!(missed("").len(), OFFENCES.len());
        let one = "lib.rs:2:20: warning: use of a disallowed method `std::time::SystemTime::now`";
        assert_eq!(missed(one).len(), OFFENCES.len() - 1);
    }
}
