//! The name of a policy in the journal.

use dalsegno_core::{Policy, PolicyHash};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 of the policy's canonical JSON (keys sorted, no blanks), in hexadecimal.
#[must_use]
pub fn policy_hash(policy: &Policy) -> PolicyHash {
    // Every policy has a JSON form. If one ever had none, its debug text would still tell it from others.
    let value = serde_json::to_value(policy).unwrap_or_else(|error| Value::String(format!("{error}: {policy:?}")));
    PolicyHash(content_hash(&value))
}

/// SHA-256 of canonical JSON (keys sorted, no blanks), in hexadecimal.
#[must_use]
pub fn content_hash(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    hex::encode(Sha256::digest(text.as_bytes()))
}

// The order of a JSON map depends on a feature of `serde_json` that any crate of the build may turn on.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}
