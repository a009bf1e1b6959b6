//! Path values of WORKFLOW.md: `~`, `$VAR`, and what is relative (Symphony §6.1).

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use dalsegno_core::Failure;

/// Reads environment variables; a function, so that tests need not change the process.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The environment of this process.
#[must_use]
pub fn process_environment() -> Environment {
    Arc::new(|name| std::env::var(name).ok())
}

/// Makes an absolute path of the value of `key`.
pub(crate) fn resolve(key: &str, value: &str, base: &Path, env: &Environment) -> Result<PathBuf, Failure> {
    let expanded = expand(key, value, env)?;
    let path = Path::new(&expanded);
    let joined = if path.is_absolute() { path.to_path_buf() } else { base.join(path) };
    Ok(lexical(&joined))
}

/// The home directory, or why `key` cannot be made without one.
pub(crate) fn home(key: &str, env: &Environment) -> Result<String, Failure> {
    env("HOME").filter(|home| !home.is_empty()).ok_or_else(|| {
        Failure::permanent("invalid_config", format!("{key}: the home directory is needed, and HOME is not set"))
            .hint(format!("Set HOME, or write an absolute path in {key}."))
    })
}

fn expand(key: &str, value: &str, env: &Environment) -> Result<String, Failure> {
    let mut rest = value;
    let mut out = String::new();
    if rest == "~" || rest.starts_with("~/") {
        out.push_str(&home(key, env)?);
        rest = rest.get(1..).unwrap_or_default();
    }
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        let (name, next) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, next)) => (name, next),
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            }
        };
        if name.is_empty() {
            out.push('$');
            rest = after;
            continue;
        }
        let found = env(name).filter(|found| !found.is_empty()).ok_or_else(|| {
            Failure::permanent("invalid_config", format!("{key} is `{value}`, and the variable {name} is not set"))
                .hint(format!("Set {name} in the daemon's environment, or write the path itself."))
        })?;
        out.push_str(&found);
        rest = next;
    }
    out.push_str(rest);
    if out.contains('\0') {
        return Err(
            Failure::permanent("invalid_config", format!("{key} holds a zero byte")).hint("Write a plain path.")
        );
    }
    Ok(out)
}

// Without a look at the disk: the path need not exist yet.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => out.push(part),
        }
    }
    out
}

/// The working tree or bare repository that `dir` lies in.
pub(crate) fn enclosing_repository(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().find(|at| is_repository(at)).map(Path::to_path_buf)
}

fn is_repository(dir: &Path) -> bool {
    // An empty `.git` is none: sandboxes leave such directories where they keep a repository from being made.
    let git = dir.join(".git");
    git.is_file()
        || git.join("HEAD").symlink_metadata().is_ok()
        || (dir.join("HEAD").is_file() && dir.join("objects").is_dir() && dir.join("refs").is_dir())
}

/// Whether a repository is named by URL (`https://…`, `git@host:path`) and not by path.
pub(crate) fn is_url(value: &str) -> bool {
    if value.contains("://") {
        return true;
    }
    match value.split_once(':') {
        Some((host, _)) => !host.is_empty() && !host.contains('/') && !value.starts_with(['.', '~', '$']),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn env() -> Environment {
        Arc::new(|name| match name {
            "HOME" => Some("/home/ada".to_owned()),
            "SPACE" => Some("/big/disk".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn symphony_6_1_expands_home_and_variables_and_resolves_relative_paths() {
        let base = Path::new("/project");
        let made = |value: &str| resolve("workspace.root", value, base, &env()).unwrap();
        assert_eq!(made("~/w"), Path::new("/home/ada/w"));
        assert_eq!(made("$SPACE/w"), Path::new("/big/disk/w"));
        assert_eq!(made("${SPACE}"), Path::new("/big/disk"));
        assert_eq!(made("../w/./x"), Path::new("/w/x"));
        assert_eq!(made("a~b"), Path::new("/project/a~b"));
        for value in ["$EMPTY/w", "$NOPE"] {
            let failure = resolve("workspace.root", value, base, &env()).unwrap_err();
            assert_eq!(failure.code, "invalid_config");
            assert!(failure.message.contains("workspace.root"));
        }
    }

    #[test]
    fn urls_are_no_paths() {
        assert!(is_url("https://example.org/a.git"));
        assert!(is_url("git@example.org:a.git"));
        assert!(!is_url("../a:b"));
        assert!(!is_url("/srv/a.git"));
    }
}
