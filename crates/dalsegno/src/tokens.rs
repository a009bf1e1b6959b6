//! The file of tokens: `tokens.json` in the state directory, for its owner alone. It holds hashes and no token.
//!
//! # States
//! A token is made and then revoked; nothing of it stays. What the daemon's own token is, see [`crate::presence`].
//!
//! # Invariants
//! - The file is replaced as a whole under a lock of its own: no reader sees half of it, and no two writers lose a token.
//! - It is read again at the first request after it changed, so that a token that is revoked opens nothing from then on.
//! - A file that cannot be read names nobody: nobody is let in by mistake.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dalsegno_api::exit;
use dalsegno_gateway::{Hash, Role, Token, Tokens, hash_of};
use serde::{Deserialize, Serialize};

use crate::error::CliError;
use crate::presence;

/// Name of the file.
pub(crate) const TOKENS_FILE: &str = "tokens.json";
/// What writers lock.
const LOCK_FILE: &str = "tokens.lock";
/// Most tokens.
const MAX_TOKENS: usize = 100;
/// Longest name, in bytes.
const MAX_NAME: usize = 64;
/// A full file is far smaller.
const MAX_FILE: u64 = 256 * 1024;
/// What a token begins with, so that people and scanners of secrets know it.
const PREFIX: &str = "dalsegno_";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    tokens: Vec<Line>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    name: String,
    role: String,
    sha256: String,
    made_at: String,
}

impl Line {
    fn token(self) -> Result<Token, String> {
        let Self { name, role, sha256, made_at } = self;
        let role = Role::ALL.into_iter().find(|known| known.as_str() == role);
        let role = role.ok_or_else(|| format!("{name:?} has a role that this version does not know"))?;
        let hash = hex::decode(sha256).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        let hash = hash.ok_or_else(|| format!("{name:?} has no SHA-256"))?;
        Ok(Token { name, role, hash, made_at })
    }
}

/// Tells one content of the file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// The tokens of a state directory.
pub(crate) struct TokenFile {
    state_dir: PathBuf,
    /// What was read last, and what the file was then.
    seen: Mutex<(Option<Stamp>, Arc<[Token]>)>,
}

impl TokenFile {
    /// The file of this state directory; it need not be there.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), seen: Mutex::new((None, Arc::new([]))) }
    }

    /// What the file says.
    ///
    /// # Errors
    /// `tokens_unreadable`.
    pub(crate) fn read(&self) -> Result<Vec<Token>, CliError> {
        let path = self.path();
        let unreadable = |why: String| {
            CliError::new("tokens_unreadable", format!("{} cannot be read: {why}", path.display()))
                .hint("see to its permissions; or remove it, which revokes all tokens, and make new ones")
        };
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => file.take(MAX_FILE).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let Content { tokens } = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        tokens.into_iter().map(Line::token).collect::<Result<_, _>>().map_err(unreadable)
    }

    /// Makes a token: itself, to be shown once, and what is kept of it.
    ///
    /// # Errors
    /// `token_name_invalid`, `token_name_taken`, `too_many_tokens`, `tokens_unreadable`, `token_unwritable`.
    pub(crate) fn make(&self, name: &str, role: Role) -> Result<(String, Token), CliError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._@".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
            return Err(CliError::new(
                "token_name_invalid",
                "a token's name has up to 64 letters, digits or any of - . _ @",
            )
            .exit(exit::USAGE));
        }
        let secret = format!("{PREFIX}{}", presence::random::<24>()?);
        let made_at = jiff::Timestamp::now().to_string();
        let made = Token { name: name.to_owned(), role, hash: hash_of(&secret), made_at };
        let kept = made.clone();
        self.change(|tokens| {
            if tokens.iter().any(|token| token.name.eq_ignore_ascii_case(name)) {
                return Err(CliError::new("token_name_taken", format!("there is a token named {name}"))
                    .hint("choose another name, or revoke that one first: `dalsegno token revoke`"));
            }
            if tokens.len() >= MAX_TOKENS {
                return Err(CliError::new("too_many_tokens", format!("there are {MAX_TOKENS} tokens"))
                    .hint("revoke those that nobody uses: `dalsegno token list`"));
            }
            tokens.push(kept);
            Ok(())
        })?;
        Ok((secret, made))
    }

    /// Revokes the token of this name.
    ///
    /// # Errors
    /// `token_not_found`, `tokens_unreadable`, `token_unwritable`.
    pub(crate) fn revoke(&self, name: &str) -> Result<(), CliError> {
        self.change(|tokens| {
            let before = tokens.len();
            tokens.retain(|token| !token.name.eq_ignore_ascii_case(name));
            if tokens.len() < before {
                return Ok(());
            }
            Err(CliError::new("token_not_found", "there is no token of this name")
                .exit(exit::NOT_FOUND)
                .hint("`dalsegno token list` shows all"))
        })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Token>) -> Result<(), CliError>) -> Result<(), CliError> {
        let unwritable = |error: io::Error| CliError::unwritable("token_unwritable", &self.path(), &error);
        // A token may be wanted before the first start.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.state_dir).map_err(unwritable)?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(self.state_dir.join(LOCK_FILE)).map_err(unwritable)?;
        lock.lock().map_err(unwritable)?;
        let mut tokens = self.read()?;
        change(&mut tokens)?;
        let lines = tokens.into_iter().map(|Token { name, role, hash, made_at }| {
            let (role, sha256) = (role.as_str().to_owned(), hex::encode(hash));
            Line { name, role, sha256, made_at }
        });
        let json = serde_json::to_vec_pretty(&Content { tokens: lines.collect() });
        presence::write(&self.path(), &json.map_err(|error| unwritable(error.into()))?).map_err(unwritable)
    }

    fn path(&self) -> PathBuf {
        self.state_dir.join(TOKENS_FILE)
    }
}

impl Tokens for TokenFile {
    fn all(&self) -> Arc<[Token]> {
        let stamp = fs::metadata(self.path()).ok().map(|file| Stamp {
            inode: file.ino(),
            size: file.size(),
            changed: (file.ctime(), file.ctime_nsec()),
        });
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp != seen.0 {
            let tokens = if stamp.is_some() { self.read() } else { Ok(Vec::new()) };
            let tokens = tokens.unwrap_or_else(|error| {
                tracing::error!(
                    ?error,
                    "{TOKENS_FILE} cannot be read: no token but that of the state directory is known"
                );
                Vec::new()
            });
            *seen = (stamp, tokens.into());
        }
        Arc::clone(&seen.1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_of_a_token_is_private_and_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::new(&dir.path().join("state"));
        let (secret, made) = file.make("ci", Role::Viewer).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains(secret.trim_start_matches(PREFIX)) && text.contains(&hex::encode(hash_of(&secret))));
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file.read().unwrap(), [made]);
    }

    #[test]
    fn a_running_reader_sees_each_change_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (reader, writer) = (TokenFile::new(dir.path()), TokenFile::new(dir.path()));
        for round in 0..20 {
            assert!(reader.all().is_empty(), "{round}");
            writer.make("ci", Role::Admin).unwrap();
            assert_eq!(reader.all().len(), 1, "{round}");
            writer.revoke("CI").unwrap();
        }
        fs::write(writer.path(), "{\"tokens\": [{}]}").unwrap();
        assert!(reader.all().is_empty());
        assert!(writer.make("x", Role::Viewer).is_err(), "what cannot be read is not written over");
    }

    #[test]
    fn writers_at_once_lose_no_token() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let file = TokenFile::new(dir.path());
                scope.spawn(move || file.make(&format!("t{n}"), Role::Operator).unwrap());
            }
        });
        assert_eq!(TokenFile::new(dir.path()).read().unwrap().len(), 8);
    }

    #[test]
    fn names_are_plain_and_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::new(dir.path());
        file.make("ci", Role::Viewer).unwrap();
        for bad in ["", "a b", "ü", "CI", &"x".repeat(65)] {
            assert!(file.make(bad, Role::Viewer).is_err(), "{bad}");
        }
        assert!(file.revoke("nobody").is_err());
    }
}
