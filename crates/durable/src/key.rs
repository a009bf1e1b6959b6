//! Markers made from idempotency keys.
//!
//! A key names one effect across all attempts (the machine gives it with the intent); a marker is what of it is shown to the outside
//! (in a prompt, in a comment) so that it can be found again and not be forged.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The secret of one store. Never logged, never printed.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Wraps 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Secret {
    /// HMAC-SHA256 over `message`, apart from the same message for any other purpose.
    #[must_use]
    pub(crate) fn mac(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        self.begin(purpose, message).finalize().into_bytes().into()
    }

    /// Whether `tag` is [`Secret::mac`] of the message; takes the same time for every wrong one.
    pub(crate) fn verify(&self, purpose: &str, message: &[u8], tag: &[u8]) -> bool {
        self.begin(purpose, message).verify_slice(tag).is_ok()
    }

    fn begin(&self, purpose: &str, message: &[u8]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(message);
        mac
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The marker of a key: the first 128 bits of HMAC-SHA256 over it, in hexadecimal. Nobody without
/// the secret can make one.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "HMAC takes keys of any length")]
pub fn marker(secret: &Secret, key: &str) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes keys of any length");
    mac.update(key.as_bytes());
    hex::encode(&mac.finalize().into_bytes()[..16])
}

/// The key that a remote may deduplicate on: the same for every attempt of one generation of an effect, in every process
/// that shares the store, and another one everywhere else.
#[must_use]
pub fn idempotency_key(secret: &Secret, scope: &str, replay_key: &str, generation: u32) -> String {
    let name = serde_json::json!([scope, replay_key, generation]).to_string();
    hex::encode(&secret.mac("idempotency", name.as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_depends_on_key_and_secret_alone() {
        let ours = Secret::new([7; 32]);
        let key = "run-1/prompt/1";
        assert_eq!(marker(&ours, key), marker(&ours, key));
        assert_ne!(marker(&ours, key), marker(&Secret::new([8; 32]), key));
        assert_ne!(marker(&ours, key), marker(&ours, "run-1/prompt/2"));
        assert_eq!(marker(&ours, key).len(), 32);
        assert_eq!(format!("{ours:?}"), "Secret(…)");
    }
}
