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
    mac.finalize().into_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
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
