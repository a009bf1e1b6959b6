//! Waits: durable one-shot promises, and the signed keys that resolve them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::error::DurableError;
use crate::key::Secret;
use crate::scope::{ExecutionScope, check_length};

/// The largest resolution, in bytes of JSON.
pub const RESOLUTION_BYTES: usize = 1 << 20;
/// Version of the key's text.
const VERSION: &str = "dw1";

/// Which wait: an identity within a scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitAddress {
    /// The scope that it lives in.
    pub scope: ExecutionScope,
    /// Its name there.
    pub identity: String,
}

/// The right to resolve one wait: its address, signed by the store. Whoever has it can resolve; treat it as a password.
#[derive(Clone, PartialEq, Eq)]
pub struct WaitKey {
    text: String,
}

impl std::fmt::Debug for WaitKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WaitKey(…)")
    }
}

impl WaitKey {
    /// Signs an address.
    ///
    /// # Errors
    /// [`DurableError::MissingExecutionScopeId`], or [`DurableError::Invalid`] with `missing_wait_identity` or `name_too_long`.
    pub fn sign(secret: &Secret, address: &WaitAddress) -> Result<Self, DurableError> {
        address.scope.check()?;
        if address.identity.is_empty() {
            let message = "a wait needs an identity within its scope, and it is empty".to_owned();
            return Err(DurableError::Invalid { code: "missing_wait_identity", message });
        }
        check_length("wait identity", &address.identity)?;
        let named = named(address);
        let tag = secret.mac("wait", named.as_bytes());
        Ok(Self { text: format!("{VERSION}.{}.{}", hex::encode(&named), hex::encode(tag)) })
    }

    /// A key as it came from outside; nothing of it is believed before [`WaitKey::verify`].
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// Its text: letters, digits and dots.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address, if this store signed it.
    ///
    /// # Errors
    /// [`DurableError::WaitUnknownOrRevoked`], whatever is wrong with it.
    pub fn verify(&self, secret: &Secret) -> Result<WaitAddress, DurableError> {
        let refused = || DurableError::WaitUnknownOrRevoked;
        let mut parts = self.text.split('.');
        let (version, named, tag) = (parts.next(), parts.next(), parts.next());
        let (Some(VERSION), Some(named), Some(tag), None) = (version, named, tag, parts.next()) else {
            return Err(refused());
        };
        let (named, tag) = (unhex(named).ok_or_else(refused)?, unhex(tag).ok_or_else(refused)?);
        if !secret.verify("wait", &named, &tag) {
            return Err(refused());
        }
        let (scope, identity): (String, String) = serde_json::from_slice(&named).map_err(|_| refused())?;
        let scope = ExecutionScope::from_key(&scope).ok_or_else(refused)?;
        Ok(WaitAddress { scope, identity })
    }
}

fn named(address: &WaitAddress) -> String {
    serde_json::json!([address.scope.key(), address.identity]).to_string()
}

/// One spelling for one key: lower-case digits alone.
fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode(text).ok()
}

/// What a wait was resolved with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum Resolution {
    /// Somebody answered.
    Answered {
        /// With this.
        payload: Value,
    },
    /// Nobody wants to know any more.
    Canceled,
    /// The deadline passed.
    Timeout,
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum Terminal {
    /// It was resolved.
    Resolved {
        /// With this.
        resolution: Resolution,
    },
    /// Its session was revoked.
    Revoked,
    /// Its scope ended.
    ScopeEnded,
}

/// What a store keeps of a wait.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WaitRecord {
    /// When it is over.
    pub deadline: Option<Timestamp>,
    /// Its end.
    pub terminal: Option<Terminal>,
}

/// What whoever is going to be parked meets.
#[derive(Debug, Clone, PartialEq)]
pub enum Registered {
    /// Nothing yet; the deadline that is in force.
    Open {
        /// When it is over.
        deadline: Option<Timestamp>,
    },
    /// Its end.
    Ended(Terminal),
}

/// The answer to a resolution.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolved {
    /// It is the first one, and stays.
    Accepted,
    /// There was one before.
    AlreadyResolved {
        /// It.
        terminal: Resolution,
    },
}

impl WaitRecord {
    /// Somebody is going to wait. The first deadline stays, so that it does not start over after a crash; one that is over
    /// already ends the wait at once.
    pub fn register(&mut self, deadline: Option<Timestamp>, now: Timestamp) -> Registered {
        if self.terminal.is_none() {
            self.deadline = self.deadline.or(deadline);
            self.expire(now);
        }
        match &self.terminal {
            Some(terminal) => Registered::Ended(terminal.clone()),
            None => Registered::Open { deadline: self.deadline },
        }
    }

    /// The first resolution stays. A deadline that passed was first, whether or not somebody noted it.
    ///
    /// `None`: the wait is not to be resolved any more, because it was revoked or its scope ended.
    pub fn resolve(&mut self, resolution: Resolution, now: Timestamp) -> Option<Resolved> {
        self.expire(now);
        match &self.terminal {
            Some(Terminal::Resolved { resolution }) => Some(Resolved::AlreadyResolved { terminal: resolution.clone() }),
            Some(Terminal::Revoked | Terminal::ScopeEnded) => None,
            None => {
                self.terminal = Some(Terminal::Resolved { resolution });
                Some(Resolved::Accepted)
            }
        }
    }

    /// Ends it by something else than a resolution, unless it has ended.
    pub fn close(&mut self, terminal: Terminal, now: Timestamp) -> bool {
        self.expire(now);
        let open = self.terminal.is_none();
        if open {
            self.terminal = Some(terminal);
        }
        open
    }

    /// Notes that the deadline has passed.
    pub fn expire(&mut self, now: Timestamp) {
        if self.terminal.is_none() && self.deadline.is_some_and(|deadline| deadline <= now) {
            self.terminal = Some(Terminal::Resolved { resolution: Resolution::Timeout });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> WaitAddress {
        WaitAddress { scope: ExecutionScope::turn("s", "1"), identity: "approve".into() }
    }

    fn key(secret: &Secret) -> String {
        WaitKey::sign(secret, &address()).map(|key| key.as_str().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_key_is_stable_and_leads_to_its_address() {
        let secret = Secret::new([7; 32]);
        assert_eq!(key(&secret), key(&secret));
        assert_eq!(WaitKey::from_text(key(&secret)).verify(&secret).ok(), Some(address()));
    }

    #[test]
    fn a_key_with_any_character_changed_is_refused() {
        let secret = Secret::new([7; 32]);
        let good = key(&secret);
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = if *byte == b'0' { b'1' } else { b'0' };
            }
            let forged = WaitKey::from_text(String::from_utf8_lossy(&bytes));
            assert!(forged.verify(&secret).is_err(), "changed at {at}");
        }
        let capitals = good.to_uppercase().replacen("DW", "dw", 1);
        for text in ["", "dw1", "dw1..", "dw1.zz.zz", &format!("{good}.1"), &capitals, &good[..good.len() - 1]] {
            assert!(WaitKey::from_text(text).verify(&secret).is_err(), "{text}");
        }
        assert!(WaitKey::from_text(good).verify(&Secret::new([8; 32])).is_err(), "another store's");
    }

    #[test]
    fn the_first_end_stays() {
        let answer = |payload: i32| Resolution::Answered { payload: payload.into() };
        let mut wait = WaitRecord::default();
        assert_eq!(
            wait.register(Some(Timestamp(10)), Timestamp(0)),
            Registered::Open { deadline: Some(Timestamp(10)) }
        );
        assert_eq!(
            wait.register(Some(Timestamp(99)), Timestamp(5)),
            Registered::Open { deadline: Some(Timestamp(10)) }
        );
        let mut late = wait.clone();
        assert_eq!(
            late.resolve(answer(1), Timestamp(10)),
            Some(Resolved::AlreadyResolved { terminal: Resolution::Timeout })
        );
        assert_eq!(wait.resolve(answer(1), Timestamp(9)), Some(Resolved::Accepted));
        let first = Some(Resolved::AlreadyResolved { terminal: answer(1) });
        assert_eq!(wait.resolve(answer(2), Timestamp(11)), first);
        assert!(!wait.close(Terminal::Revoked, Timestamp(11)));
        let mut revoked = WaitRecord::default();
        assert!(revoked.close(Terminal::Revoked, Timestamp(0)));
        assert_eq!(revoked.resolve(answer(1), Timestamp(0)), None);
    }
}
