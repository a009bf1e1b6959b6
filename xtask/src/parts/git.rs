//! The real programs that the tests run against. A part that is missing skips loudly, and fails in CI.

use std::process::Command;

use crate::shell::{output, say};

/// Oldest git that does everything that is asked of it (`GIT_CONFIG_GLOBAL` in the environment).
const OLDEST_GIT: (u32, u32) = (2, 32);

/// Looks for git. `Ok(None)`: there; `Ok(Some(why))`: not usable, and the tests that need it are left out.
///
/// # Errors
/// In CI, where nothing may be left out.
pub(crate) fn git() -> Result<Option<String>, String> {
    let found = output(Command::new("git").arg("--version")).and_then(|answer| usable(&answer));
    match found {
        Ok(version) => {
            say(format_args!("git {}.{}: ok", version.0, version.1));
            Ok(None)
        }
        Err(problem) => {
            let remedy = format!("install git {}.{} or newer", OLDEST_GIT.0, OLDEST_GIT.1);
            if std::env::var_os("CI").is_some() {
                return Err(format!("{problem}; {remedy}"));
            }
            Ok(Some(format!("{problem}; {remedy}")))
        }
    }
}

fn usable(answer: &str) -> Result<(u32, u32), String> {
    let version = parse_version(answer).ok_or_else(|| format!("git answers {answer:?} when asked for its version"))?;
    if version < OLDEST_GIT { Err(format!("git {}.{} is too old", version.0, version.1)) } else { Ok(version) }
}

fn parse_version(answer: &str) -> Option<(u32, u32)> {
    let mut numbers = answer.trim().strip_prefix("git version ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_numbers() {
        assert_eq!(parse_version("git version 2.47.3\n"), Some((2, 47)));
        assert_eq!(parse_version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(parse_version("git version unknown"), None);
    }

    #[test]
    fn two_nine_is_older_than_two_thirty_one() {
        assert!(usable("git version 2.9.0").is_err());
        assert!(usable("git version 2.30.9").is_err());
        assert_eq!(usable("git version 2.32.0"), Ok((2, 32)));
        assert_eq!(usable("git version 3.0.0"), Ok((3, 0)));
    }
}
