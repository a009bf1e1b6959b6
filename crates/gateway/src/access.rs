//! Tokens, roles, sessions and rates: who somebody is, and what they may do.
//!
//! # States
//! A login link is fresh, then used or over: it opens one session, within [`LINK_LIFE`]. A session is open until
//! [`SESSION_LIFE`] is over, its token is revoked or the daemon ends: it is kept in memory alone. A caller is nobody, or
//! somebody with the role that their token has at this very request.
//!
//! # Invariants
//! - No secret is kept, and none is logged: tokens, links and sessions are known by their SHA-256. They are random and long, so
//!   a hash without salt cannot be guessed from, and comparing hashes tells nothing of a secret by its time.
//! - Nothing a caller sends makes memory grow: [`MAX_LINKS`], [`MAX_SESSIONS`], a rate for each token that there is and one
//!   for all strangers together, and a count for each code of a refusal.
//! - A cookie never makes a link, so that a session does not outlive its hours by itself.
//! - A cookie writes only with an `Origin` of our own (see [`crate::guard`]). `SameSite=Strict` alone would admit pages of
//!   other ports of this machine.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// How long a login link can be used.
pub(crate) const LINK_LIFE: Duration = Duration::from_secs(60);
/// How long a session lasts.
pub(crate) const SESSION_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Unused links at once; the oldest goes.
const MAX_LINKS: usize = 16;
/// Sessions at once; the oldest goes.
const MAX_SESSIONS: usize = 64;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// To read, contents too.
    Viewer,
    /// To act as well.
    Operator,
    /// Everything, also to see which tokens there are.
    Admin,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its name in files, arguments and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// SHA-256 of a secret.
pub type Hash = [u8; 32];

/// What is kept of a secret.
#[must_use]
pub fn hash_of(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

/// A token that somebody made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What its maker called it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// What is kept of it.
    pub hash: Hash,
    /// When it was made.
    pub made_at: String,
}

/// The tokens that there are now. Asked at each request that shows a secret, so it must be quick.
pub trait Tokens: Send + Sync + 'static {
    /// All of them; none when they cannot be read, for then nobody is known.
    fn all(&self) -> Arc<[Token]>;
}

struct NoTokens;

impl Tokens for NoTokens {
    fn all(&self) -> Arc<[Token]> {
        Arc::new([])
    }
}

/// What each token may ask in a second, and at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests in a second.
    pub per_second: f64,
    /// Requests at once, after a silence.
    pub burst: f64,
}

impl Default for Rate {
    /// Twice what the load targets ask of one client: it stops loops that went mad, and nobody who works.
    fn default() -> Self {
        Self { per_second: 50_000.0, burst: 100_000.0 }
    }
}

/// Whose secret was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// Of the token in the state directory.
    Daemon,
    /// Of the token with this hash.
    Token(Hash),
}

/// Who is known, and who may ask without being known.
pub struct Gate {
    daemon_token: Hash,
    tokens: Arc<dyn Tokens>,
    closed: bool,
    hosts: Vec<String>,
    rate: Rate,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    links: VecDeque<Entry>,
    sessions: VecDeque<Entry>,
    buckets: BTreeMap<Option<Owner>, Bucket>,
    refused: BTreeMap<String, u64>,
}

struct Entry {
    secret: Hash,
    owner: Owner,
    until: Instant,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Gate {
    /// A gate that knows this operator token alone. Loopback names are admitted, and the overview is open.
    #[must_use]
    pub fn new(daemon_token: &str) -> Self {
        Self {
            daemon_token: hash_of(daemon_token),
            tokens: Arc::new(NoTokens),
            closed: false,
            hosts: Vec::new(),
            rate: Rate::default(),
            memory: Mutex::default(),
        }
    }

    /// The same gate, which knows these tokens too.
    #[must_use]
    pub fn tokens(self, tokens: Arc<dyn Tokens>) -> Self {
        Self { tokens, ..self }
    }

    /// The same gate, where the overview needs a token too.
    #[must_use]
    pub fn closed(self, closed: bool) -> Self {
        Self { closed, ..self }
    }

    /// The same gate, which the world may also call by these names or addresses.
    #[must_use]
    pub fn hosts(self, hosts: Vec<String>) -> Self {
        Self { hosts, ..self }
    }

    /// The same gate with another limit.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        Self { rate, ..self }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether this is a name of ours besides the loopback ones.
    pub(crate) fn has_host(&self, name: &str) -> bool {
        self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }

    pub(crate) fn known_tokens(&self) -> Arc<[Token]> {
        self.tokens.all()
    }

    /// Whose token this is.
    pub(crate) fn owner_of(&self, token: &str) -> Option<Owner> {
        let hash = hash_of(token);
        if hash == self.daemon_token {
            return Some(Owner::Daemon);
        }
        self.tokens.all().iter().any(|token| token.hash == hash).then_some(Owner::Token(hash))
    }

    /// Role and name as they are now; `None` when the token is revoked.
    pub(crate) fn standing(&self, owner: Owner) -> Option<(Role, Arc<str>)> {
        match owner {
            Owner::Daemon => Some((Role::Operator, "the token of the state directory".into())),
            Owner::Token(hash) => {
                let tokens = self.tokens.all();
                let token = tokens.iter().find(|token| token.hash == hash)?;
                Some((token.role, token.name.as_str().into()))
            }
        }
    }

    /// The secret of a new login link.
    pub(crate) fn make_link(&self, owner: Owner) -> Result<String, getrandom::Error> {
        let secret = random()?;
        let until = Instant::now() + LINK_LIFE;
        put(&mut self.memory().links, Entry { secret: hash_of(&secret), owner, until }, MAX_LINKS);
        Ok(secret)
    }

    /// Uses a link up: the secret of the new session, or `None` when there is no such link (any more).
    pub(crate) fn log_in(&self, link: &str) -> Result<Option<String>, getrandom::Error> {
        let (hash, now, secret) = (hash_of(link), Instant::now(), random()?);
        let mut memory = self.memory();
        let found = memory.links.iter().position(|entry| entry.secret == hash && entry.until > now);
        let Some(owner) = found.and_then(|at| memory.links.remove(at)).map(|entry| entry.owner) else {
            return Ok(None);
        };
        put(&mut memory.sessions, Entry { secret: hash_of(&secret), owner, until: now + SESSION_LIFE }, MAX_SESSIONS);
        Ok(Some(secret))
    }

    /// Whose session this is.
    pub(crate) fn session(&self, secret: &str) -> Option<Owner> {
        let (hash, now) = (hash_of(secret), Instant::now());
        let memory = self.memory();
        memory.sessions.iter().find(|entry| entry.secret == hash && entry.until > now).map(|entry| entry.owner)
    }

    /// Counts a request of this owner, or of a stranger; the seconds to wait when there were too many.
    pub(crate) fn count(&self, owner: Option<Owner>) -> Result<(), u64> {
        let Rate { per_second, burst } = self.rate;
        let now = Instant::now();
        let mut memory = self.memory();
        if !memory.buckets.contains_key(&owner) {
            // Whoever is new may come in the place of somebody revoked; a full bucket is as good as none.
            memory.buckets.retain(|_, bucket| bucket.at + FORGOTTEN > now);
        }
        let bucket = memory.buckets.entry(owner).or_insert(Bucket { left: burst, at: now });
        bucket.left = (bucket.left + now.duration_since(bucket.at).as_secs_f64() * per_second).min(burst);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to a day")]
        let wait = ((1.0 - bucket.left) / per_second).ceil().clamp(1.0, 86_400.0) as u64;
        Err(wait)
    }

    /// Counts a write that was refused with this code.
    pub(crate) fn refused_write(&self, code: &str) {
        *self.memory().refused.entry(code.to_owned()).or_default() += 1;
    }

    /// What was refused since the last call, by code.
    pub(crate) fn take_refused(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.memory().refused)
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bucket that nobody touched for so long is full again with any sensible rate.
const FORGOTTEN: Duration = Duration::from_secs(60);

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("closed", &self.closed).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// Adds an entry; what is over goes, and the oldest when there are too many.
fn put(entries: &mut VecDeque<Entry>, entry: Entry, most: usize) {
    let now = Instant::now();
    entries.retain(|entry| entry.until > now);
    entries.push_back(entry);
    if entries.len() > most {
        entries.pop_front();
    }
}

fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_link_opens_one_session_within_a_minute_and_that_lasts_its_hours() {
        let gate = Gate::new("t");
        let link = gate.make_link(Owner::Daemon).unwrap();
        let session = gate.log_in(&link).unwrap().unwrap();
        assert_eq!(gate.log_in(&link).unwrap(), None, "used");
        assert_eq!(gate.session(&session), Some(Owner::Daemon));
        assert_eq!(gate.session(&link), None);
        let late = gate.make_link(Owner::Daemon).unwrap();
        tokio::time::advance(LINK_LIFE).await;
        assert_eq!(gate.log_in(&late).unwrap(), None, "over");
        tokio::time::advance(SESSION_LIFE).await;
        assert_eq!(gate.session(&session), None);
    }

    #[tokio::test]
    async fn links_sessions_and_rates_are_bounded() {
        let gate = Gate::new("t");
        let first = gate.make_link(Owner::Daemon).unwrap();
        for _ in 0..MAX_SESSIONS * 2 {
            let link = gate.make_link(Owner::Daemon).unwrap();
            gate.log_in(&link).unwrap().unwrap();
        }
        for _ in 0..MAX_LINKS {
            gate.make_link(Owner::Daemon).unwrap();
        }
        assert_eq!(gate.log_in(&first).unwrap(), None, "the oldest went");
        let memory = gate.memory();
        assert_eq!((memory.links.len(), memory.sessions.len()), (MAX_LINKS, MAX_SESSIONS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_of_one_token_fills_again_and_is_forgotten() {
        let gate = Gate::new("t").rate(Rate { per_second: 0.5, burst: 2.0 });
        assert_eq!((gate.count(None), gate.count(None), gate.count(None)), (Ok(()), Ok(()), Err(2)));
        assert_eq!(gate.count(Some(Owner::Daemon)), Ok(()), "another one's is another");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!((gate.count(None), gate.count(None)), (Ok(()), Err(2)));
        tokio::time::advance(FORGOTTEN).await;
        assert_eq!(gate.count(Some(Owner::Token([1; 32]))), Ok(()));
        assert_eq!(gate.memory().buckets.len(), 1);
    }
}
