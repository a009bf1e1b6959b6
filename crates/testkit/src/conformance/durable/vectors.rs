//! Hashes that must never change: a record is found by them for as long as its database lives.
//!
//! The file is made by `hash-vectors.py` beside it, which computes canonical text and hash by itself.

use dalsegno_durable::{Command, ContentHash, EffectKind, Envelope, Invocation};
use serde::Deserialize;
use serde_json::Value;

/// The vectors, as JSON: for hosts in other languages, too.
pub const HASH_VECTORS: &str = include_str!("hash-vectors.json");

#[derive(Deserialize)]
struct Vector {
    name: String,
    envelope: Asked,
    canonical: String,
    sha256: String,
}

#[derive(Deserialize)]
struct Asked {
    invocation: Invocation,
    command: Command,
}

/// Every vector's envelope has that text and that hash; every kind of command and of scope is among them.
///
/// # Panics
/// When one has another.
pub fn hash_vectors_are_fixed() {
    let vectors: Vec<Vector> = serde_json::from_str(HASH_VECTORS).unwrap();
    let mut kinds = std::collections::BTreeSet::<EffectKind>::new();
    let mut scopes = std::collections::BTreeSet::new();
    for Vector { name, envelope: Asked { invocation, command }, canonical, sha256 } in vectors {
        kinds.insert(command.kind());
        scopes.insert(invocation.scope.key());
        let envelope = Envelope::new(invocation, command).unwrap();
        assert_eq!(envelope.content(), canonical, "{name}");
        assert_eq!(envelope.hash().to_string(), sha256, "{name}");
        assert_eq!(ContentHash::of(&canonical), envelope.hash(), "{name}");
    }
    assert_eq!(kinds.len(), EffectKind::ALL.len());
    assert_eq!(scopes.len(), 5);
}

/// The same envelope, read from texts whose members stand in other orders, has one hash.
///
/// # Panics
/// When it has two.
pub fn hash_does_not_depend_on_the_order_of_fields() {
    let vectors: Vec<Value> = serde_json::from_str(HASH_VECTORS).unwrap();
    for vector in vectors {
        let turned = turned_around(&vector["envelope"]);
        let Asked { invocation, command } = serde_json::from_str(&turned).unwrap();
        let hash = Envelope::new(invocation, command).unwrap().hash();
        assert_eq!(Value::from(hash.to_string()), vector["sha256"], "{}", vector["name"]);
    }
}

/// JSON with the members of every object in the opposite order.
fn turned_around(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(turned_around).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let member =
                |(key, value): (&String, &Value)| format!("{}:{}", Value::from(key.as_str()), turned_around(value));
            let mut members: Vec<String> = members.iter().map(member).collect();
            members.reverse();
            format!("{{{}}}", members.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
