//! Identity of a policy.

use dalsegno_core::{Policy, PolicyHash};
use sha2::{Digest, Sha256};

/// SHA-256 over the policy's JSON. Field order is the declaration's and maps are sorted, so equal policies have
/// equal hashes on every machine.
#[must_use]
pub fn policy_hash(policy: &Policy) -> PolicyHash {
    let json = serde_json::to_vec(policy).unwrap_or_default();
    PolicyHash(Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect())
}
