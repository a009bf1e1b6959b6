//! `notify:` of the front matter: who is told, and of what.

use std::collections::BTreeSet;

use dalsegno_core::{Failure, NotifyPolicy, Receiver, Topic};
use serde_json::{Map, Value};

use super::secrets::{referenced, refuse_in_url};
use super::section::{invalid, shown};

/// Most entries.
const RECEIVERS: usize = 20;
/// What an entry may have.
const KEYS: [&str; 5] = ["webhook", "slack", "command", "secret", "on"];

pub(super) fn notify(config: &Map<String, Value>) -> Result<Vec<NotifyPolicy>, Failure> {
    let entries = match config.get("notify") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(entries)) if entries.len() <= RECEIVERS => entries,
        Some(Value::Array(entries)) => {
            return Err(invalid("notify", &format!("a list of {}", entries.len()), "up to 20 receivers"));
        }
        Some(value) => return Err(invalid("notify", &shown(value), "a list of receivers")),
    };
    let mut found: Vec<NotifyPolicy> = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let path = format!("notify[{at}]");
        let Value::Object(entry) = entry else {
            return Err(invalid(&path, &shown(entry), "a map with webhook, slack or command"));
        };
        let read = receiver(&path, entry)?;
        if found.iter().any(|other| other.receiver == read.receiver) {
            return Err(invalid(&path, "there already", "each receiver once; say in `on` all that it hears"));
        }
        found.push(read);
    }
    Ok(found)
}

fn receiver(path: &str, entry: &Map<String, Value>) -> Result<NotifyPolicy, Failure> {
    if let Some(key) = entry.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(invalid(&format!("{path}.{key}"), "unknown", &KEYS.join(", ")));
    }
    let text = |key: &str| match entry.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
        Some(value) => Err(invalid(&format!("{path}.{key}"), &shown(value), "a text")),
    };
    let reference = |key: &str, text: String| match referenced(&text) {
        Some(_) => Ok(text),
        None => Err(Failure::permanent(
            "literal_secret",
            format!("{path}.{key} holds a secret itself, and would be journaled"),
        )
        .hint(format!("Put it into a variable of the daemon's environment, and write {key}: $NAME."))),
    };
    let secret = text("secret")?;
    let receiver = match (text("webhook")?, text("slack")?, text("command")?) {
        (Some(address), None, None) => {
            if referenced(&address).is_none() {
                refuse_in_url(&format!("{path}.webhook"), &address)?;
                if address.contains('?') {
                    // A query is where such addresses keep their keys.
                    reference("webhook", address.clone())?;
                }
            }
            Receiver::Webhook { address, secret: secret.clone().map(|secret| reference("secret", secret)).transpose()? }
        }
        (None, Some(address), None) => Receiver::Slack { address: reference("slack", address)? },
        (None, None, Some(command)) => Receiver::Command { command },
        _ => return Err(invalid(path, "not one receiver", "exactly one of webhook, slack and command")),
    };
    if secret.is_some() && !matches!(receiver, Receiver::Webhook { .. }) {
        return Err(invalid(&format!("{path}.secret"), "set", "only beside webhook, which it signs"));
    }
    Ok(NotifyPolicy { receiver, on: topics(path, entry.get("on"))? })
}

fn topics(path: &str, value: Option<&Value>) -> Result<Vec<Topic>, Failure> {
    let words = match value {
        None | Some(Value::Null) => return Ok(Topic::NEEDS_SOMEBODY.to_vec()),
        Some(Value::Array(words)) if !words.is_empty() => words,
        Some(value) => return Err(invalid(&format!("{path}.on"), &shown(value), &all())),
    };
    let known = |word: &Value| {
        let topic = word.as_str().and_then(|word| Topic::ALL.into_iter().find(|topic| topic.as_str() == word.trim()));
        topic.ok_or_else(|| invalid(&format!("{path}.on"), &shown(word), &all()))
    };
    let topics: BTreeSet<Topic> = words.iter().map(known).collect::<Result<_, _>>()?;
    Ok(topics.into_iter().collect())
}

fn all() -> String {
    format!("a list of {}", Topic::ALL.map(Topic::as_str).join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Vec<NotifyPolicy>, Failure> {
        notify(json!({"notify": value}).as_object().unwrap())
    }

    #[test]
    fn receivers_are_read_as_they_are_written() {
        let read = read(json!([
            {"webhook": "https://example.org/hook", "secret": "$KEY", "on": ["done", "parked", "done"]},
            {"slack": "${SLACK}"},
            {"command": "notify-send"},
        ]))
        .unwrap();
        let webhook =
            Receiver::Webhook { address: "https://example.org/hook".to_owned(), secret: Some("$KEY".to_owned()) };
        assert_eq!(read[0], NotifyPolicy { receiver: webhook, on: vec![Topic::Parked, Topic::Done] });
        assert_eq!(read[1].receiver, Receiver::Slack { address: "${SLACK}".to_owned() });
        assert_eq!(read[1].on, Topic::NEEDS_SOMEBODY);
        assert_eq!(read[2].receiver.kind(), "command");
    }

    #[test]
    fn what_cannot_be_told_is_refused_by_its_place_and_secrets_are_not_shown() {
        for (value, code, place) in [
            (json!("x"), "invalid_config", "notify is"),
            (json!([{}]), "invalid_config", "notify[0] is"),
            (json!([{"webhook": "$A", "slack": "$B"}]), "invalid_config", "notify[0] is"),
            (json!([{"webhook": "$A", "every": 1}]), "invalid_config", "notify[0].every is"),
            (json!([{"command": "x", "secret": "$A"}]), "invalid_config", "notify[0].secret is"),
            (json!([{"command": "x", "on": ["all"]}]), "invalid_config", "notify[0].on is"),
            (json!([{"command": "x"}, {"command": "x", "on": ["done"]}]), "invalid_config", "notify[1] is"),
            (json!([{"slack": "https://hooks.slack.com/services/hunter2"}]), "literal_secret", "notify[0].slack"),
            (json!([{"webhook": "https://a/?key=hunter2"}]), "literal_secret", "notify[0].webhook"),
            (json!([{"webhook": "https://u:hunter2@a/"}]), "literal_secret", "notify[0].webhook"),
            (json!([{"webhook": "$A", "secret": "hunter2"}]), "literal_secret", "notify[0].secret"),
        ] {
            let failure = read(value).unwrap_err();
            assert_eq!(failure.code, code, "{failure}");
            assert!(failure.message.starts_with(place), "{failure}");
            assert!(!failure.to_string().contains("hunter2"), "{failure}");
        }
        assert_eq!(read(Value::Null).unwrap(), []);
    }
}
