//! `tracker.webhooks` of the front matter: whose webhooks are heard, and what they are signed with.

use std::collections::BTreeMap;

use dalsegno_core::{Failure, WebhookPolicy};
use serde_json::{Map, Value};

use super::secrets::referenced;
use super::section::{Section, invalid, shown};
use crate::webhook::SERVICES;

pub(super) fn webhooks(config: &Map<String, Value>) -> Result<BTreeMap<String, WebhookPolicy>, Failure> {
    let tracker = Section::of(config, "tracker")?;
    let mut found = BTreeMap::new();
    for (service, value) in &tracker.map("webhooks")? {
        let path = format!("{}.{service}", tracker.path_of("webhooks"));
        if !SERVICES.contains(&service.as_str()) {
            return Err(invalid(&path, "unknown", &SERVICES.join(", ")));
        }
        let Value::Object(webhook) = value else { return Err(invalid(&path, &shown(value), "a map with secret")) };
        if let Some(key) = webhook.keys().find(|key| *key != "secret") {
            return Err(invalid(&format!("{path}.{key}"), "unknown", "secret"));
        }
        let secret = match webhook.get("secret") {
            Some(Value::String(secret)) if !secret.trim().is_empty() => secret.trim(),
            // Without one nobody could tell who sent it. What stands there is not told.
            None | Some(_) => return Err(invalid(&format!("{path}.secret"), "not set, or no text", "$NAME")),
        };
        if referenced(secret).is_none() {
            let why = format!("{path}.secret holds a secret itself, and would be journaled");
            return Err(Failure::permanent("literal_secret", why)
                .hint(format!("Put it into a variable of the daemon's environment, and write {path}.secret: $NAME.")));
        }
        found.insert(service.clone(), WebhookPolicy { secret: secret.to_owned() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<BTreeMap<String, WebhookPolicy>, Failure> {
        webhooks(json!({"tracker": {"kind": "local", "webhooks": value}}).as_object().unwrap())
    }

    #[test]
    fn each_service_has_a_secret_by_reference() {
        let read_two = read(&json!({"github": {"secret": " $HOOK "}, "linear": {"secret": "${L}"}})).unwrap();
        let secrets: Vec<(&str, &str)> =
            read_two.iter().map(|(service, webhook)| (service.as_str(), webhook.secret.as_str())).collect();
        assert_eq!(secrets, [("github", "$HOOK"), ("linear", "${L}")]);
        assert!(read(&Value::Null).unwrap().is_empty());
        assert!(webhooks(&Map::new()).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_verified_is_refused_by_its_place_and_secrets_are_not_shown() {
        for (value, code, place) in [
            (json!("x"), "invalid_config", "tracker.webhooks is"),
            (json!({"bitbucket": {"secret": "$A"}}), "invalid_config", "tracker.webhooks.bitbucket is"),
            (json!({"github": "$A"}), "invalid_config", "tracker.webhooks.github is"),
            (json!({"github": {}}), "invalid_config", "tracker.webhooks.github.secret is"),
            (json!({"github": {"secret": 4_711}}), "invalid_config", "tracker.webhooks.github.secret is"),
            (
                json!({"github": {"secret": "$A", "token": "hunter2"}}),
                "invalid_config",
                "tracker.webhooks.github.token is",
            ),
            (json!({"github": {"secret": "hunter2"}}), "literal_secret", "tracker.webhooks.github.secret"),
        ] {
            let failure = read(&value).unwrap_err();
            assert_eq!(failure.code, code, "{failure}");
            assert!(failure.message.starts_with(place), "{failure}");
            assert!(!failure.to_string().contains("hunter2"), "{failure}");
        }
    }
}
