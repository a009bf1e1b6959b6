//! A policy is journaled and shown. So a secret is not written into WORKFLOW.md: a variable of the environment holds it,
//! and the file names the variable.

use dalsegno_core::Failure;
use serde_json::{Map, Value};

/// What names of secrets contain, in lowercase and without what parts their words.
const SECRET: [&str; 8] = ["token", "secret", "password", "passwd", "passphrase", "credential", "apikey", "privatekey"];

/// Refuses a value that a key of `map` calls a secret, unless it is `$NAME` or `${NAME}`. The value is not told.
pub(super) fn refuse_literal(path: &str, map: &Map<String, Value>) -> Result<(), Failure> {
    map.iter().try_for_each(|(key, value)| look(&format!("{path}.{key}"), value, is_secret(key)))
}

/// Refuses a URL that has a password in it, or over HTTP anything before the host. It is not told.
pub(super) fn refuse_in_url(path: &str, url: &str) -> Result<(), Failure> {
    let Some((scheme, rest)) = url.split_once("://") else { return Ok(()) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _host)) = authority.rsplit_once('@') else { return Ok(()) };
    if user.contains(':') || scheme.to_ascii_lowercase().starts_with("http") {
        return Err(Failure::permanent(
            "literal_secret",
            format!("{path} has a secret in its URL, and would be journaled"),
        )
        .hint("Take it out of the URL, and let git's credential helper or an SSH key give it."));
    }
    Ok(())
}

fn look(path: &str, value: &Value, secret: bool) -> Result<(), Failure> {
    match value {
        // Everything in a secret is one.
        Value::Object(map) => {
            map.iter().try_for_each(|(key, value)| look(&format!("{path}.{key}"), value, secret || is_secret(key)))
        }
        Value::Array(items) => items.iter().try_for_each(|item| look(path, item, secret)),
        Value::String(text) if text.trim().is_empty() || referenced(text.trim()).is_some() => Ok(()),
        Value::String(_) | Value::Number(_) if secret => {
            Err(Failure::permanent("literal_secret", format!("{path} holds a secret itself, and would be journaled"))
                .hint(format!("Put it into a variable of the daemon's environment, and write {path}: $NAME.")))
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => Ok(()),
    }
}

fn is_secret(key: &str) -> bool {
    let letters: String = key.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>().to_lowercase();
    letters == "key" || letters.ends_with("accesskey") || SECRET.iter().any(|word| letters.contains(word))
}

/// The variable that `$NAME` or `${NAME}` names.
pub(crate) fn referenced(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${").and_then(|inner| inner.strip_suffix('}')).or_else(|| text.strip_prefix('$'))?;
    let mut letters = name.chars();
    let plain = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    plain.then_some(name)
}
