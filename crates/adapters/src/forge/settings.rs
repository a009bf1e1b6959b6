//! `handoff.forge` and `handoff.provider`: which repository, where, and with which token.

use dalsegno_core::{Failure, ForgePolicy, HandoffPolicy};
use serde_json::Value;

use super::remote::{checked, hosted};
use crate::http::{Secret, checked_url};
use crate::workflow::{Environment, referenced};

/// Names the token when the policy does not.
const TOKEN_VARIABLE: &str = "GITHUB_TOKEN";
/// The host that is meant when nothing names one.
const PUBLIC_HOST: &str = "github.com";
const KEYS: [&str; 3] = ["token", "repository", "api_url"];

/// What a policy says of its forge.
#[derive(Debug)]
pub(super) struct Settings {
    repository: Option<String>,
    api_url: Option<String>,
    pub(super) token: Secret,
}

/// Where the API of a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// `owner/name`.
    pub(super) repository: String,
    /// REST.
    pub(super) api: String,
    /// GraphQL.
    pub(super) graphql: String,
}

fn invalid(message: String, hint: &str) -> Failure {
    Failure::permanent("invalid_config", message).hint(hint)
}

/// The variable of the environment that holds the token; `None` when there is no forge, or the policy names no variable.
pub(super) fn token_variable(handoff: &HandoffPolicy) -> Option<String> {
    match handoff.forge.as_ref()?.provider.get("token") {
        None | Some(Value::Null) => Some(TOKEN_VARIABLE.to_owned()),
        Some(value) => value.as_str().and_then(|text| referenced(text.trim())).map(str::to_owned),
    }
}

impl Settings {
    /// Reads a policy that has a forge.
    ///
    /// # Errors
    /// `invalid_config`, `missing_forge_secret`.
    pub(super) fn of(handoff: &HandoffPolicy, env: &Environment) -> Result<Self, Failure> {
        let Some(ForgePolicy { kind, provider }) = &handoff.forge else {
            return Err(invalid("handoff.forge is not set".to_owned(), "Set handoff.forge to github."));
        };
        if kind != "github" {
            return Err(invalid(format!("handoff.forge is `{kind}`; this version knows github"), "Set it to github."));
        }
        if let Some(key) = provider.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let known = KEYS.join(", ");
            return Err(invalid(
                format!("handoff.provider.{key} is unknown; known: {known}"),
                "Remove it, or mend its name.",
            ));
        }
        let text = |key: &str| match provider.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim())),
            Some(_) => {
                Err(invalid(format!("handoff.provider.{key} is no text"), "Write a text there, or remove the key."))
            }
        };
        let repository = text("repository")?
            .map(|text| {
                let wrong = || format!("handoff.provider.repository is `{text}`");
                checked(text).ok_or_else(|| invalid(wrong(), "Write owner/name."))
            })
            .transpose()?;
        let api_url = text("api_url")?
            .map(|url| {
                // What is refused is not shown: it may hold a password.
                let wrong = |why| format!("handoff.provider.api_url cannot be used: {why}");
                checked_url(url).map_err(|why| invalid(wrong(why), "Write a URL like https://git.example.org/api/v3."))
            })
            .transpose()?;
        let Some(name) = token_variable(handoff) else {
            return Err(invalid(
                "handoff.provider.token names no variable of the environment".to_owned(),
                "Write token: $NAME, and put the token into that variable of the daemon's environment.",
            ));
        };
        let value = env(&name).filter(|value| !value.trim().is_empty());
        let token = value.as_deref().and_then(Secret::new).ok_or_else(|| {
            let why = if value.is_some() { "holds something that is no token" } else { "is not set" };
            Failure::permanent(
                "missing_forge_secret",
                format!("the token of {kind} is missing: the variable {name} {why}"),
            )
            .hint(format!(
                "Set {name} in the daemon's environment, or name another variable in handoff.provider.token."
            ))
        })?;
        Ok(Self { repository, api_url, token })
    }

    /// Where the API is, for a remote with this URL.
    ///
    /// # Errors
    /// `forge_unknown_repository`.
    pub(super) fn place(&self, remote_url: &str) -> Result<Place, Failure> {
        let remote = hosted(remote_url);
        let derived = remote.as_ref().and_then(|remote| remote.repository.clone());
        let repository = self.repository.clone().or(derived).ok_or_else(|| {
            Failure::permanent(
                "forge_unknown_repository",
                "the URL of the handoff's remote names no repository of a forge",
            )
            .hint("Set handoff.provider.repository to owner/name.")
        })?;
        let host = remote.map_or_else(|| PUBLIC_HOST.to_owned(), |remote| remote.host);
        let api = match &self.api_url {
            Some(url) => url.clone(),
            None if host == PUBLIC_HOST => format!("https://api.{PUBLIC_HOST}"),
            None => format!("https://{host}/api/v3"),
        };
        let graphql = match api.strip_suffix("/api/v3") {
            Some(start) => format!("{start}/api/graphql"),
            None => format!("{api}/graphql"),
        };
        Ok(Place { repository, api, graphql })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn policy(provider: Value) -> HandoffPolicy {
        let provider = provider.as_object().unwrap().clone();
        HandoffPolicy { forge: Some(ForgePolicy { kind: "github".to_owned(), provider }), ..HandoffPolicy::default() }
    }

    fn settings(provider: Value) -> Result<Settings, Failure> {
        let env: Environment = Arc::new(|name| match name {
            "GITHUB_TOKEN" | "MINE" => Some("sesame\n".to_owned()),
            "BLANK" => Some(" ".to_owned()),
            "WORDS" => Some("two words".to_owned()),
            _ => None,
        });
        Settings::of(&policy(provider), &env)
    }

    #[test]
    fn the_api_is_where_the_remote_is_or_where_the_policy_says() {
        for (provider, url, api, graphql) in [
            (json!({}), "git@github.com:a/b.git", "https://api.github.com", "https://api.github.com/graphql"),
            (json!({}), "ssh://git@h.org:22/a/b", "https://h.org/api/v3", "https://h.org/api/graphql"),
            (json!({}), "https://h.org:8443/a/b", "https://h.org:8443/api/v3", "https://h.org:8443/api/graphql"),
            (
                json!({"api_url": "https://x.org/api/v3/"}),
                "git@h.org:a/b",
                "https://x.org/api/v3",
                "https://x.org/api/graphql",
            ),
            (json!({"api_url": "http://127.0.0.1:1"}), "/srv/a", "http://127.0.0.1:1", "http://127.0.0.1:1/graphql"),
            (json!({}), "/srv/a", "https://api.github.com", "https://api.github.com/graphql"),
        ] {
            let mut provider = provider;
            if url.starts_with('/') {
                provider["repository"] = json!("a/b");
            }
            let place = settings(provider).unwrap().place(url).unwrap();
            let repository = "a/b".to_owned();
            assert_eq!(place, Place { repository, api: api.to_owned(), graphql: graphql.to_owned() }, "{url}");
        }
    }

    #[test]
    fn a_repository_that_nothing_names_is_asked_for() {
        for url in ["/srv/a", "https://github.com/a", "file:///a/b"] {
            let failure = settings(json!({})).unwrap().place(url).unwrap_err();
            assert_eq!(failure.code, "forge_unknown_repository");
            assert!(failure.hint.unwrap().contains("handoff.provider.repository"));
        }
        let given = settings(json!({"repository": "c/d"})).unwrap().place("git@github.com:a/b").unwrap();
        assert_eq!(given.repository, "c/d");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_key() {
        for (provider, word) in [
            (json!({"tokn": "$MINE"}), "known: token, repository, api_url"),
            (json!({"repository": "widgets"}), "handoff.provider.repository"),
            (json!({"repository": "a/../b"}), "handoff.provider.repository"),
            (json!({"repository": 7}), "handoff.provider.repository"),
            (json!({"api_url": "http://h.org"}), "handoff.provider.api_url"),
            (json!({"token": "sesame"}), "handoff.provider.token"),
            (json!({"token": ["$MINE"]}), "handoff.provider.token"),
        ] {
            let failure = settings(provider).unwrap_err();
            assert_eq!(failure.code, "invalid_config", "{failure}");
            assert!(failure.message.contains(word) && failure.hint.is_some(), "{failure}");
            assert!(!failure.message.contains("sesame"), "{failure}");
        }
        let failure = settings(json!({"api_url": "https://me:s3cret@h.org"})).unwrap_err();
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
    }

    #[test]
    fn the_token_is_a_variable_that_is_set() {
        assert!(settings(json!({"token": "${MINE}"})).is_ok());
        for name in ["NOPE", "BLANK", "WORDS"] {
            let failure = settings(json!({"token": format!("${name}")})).unwrap_err();
            assert_eq!(failure.code, "missing_forge_secret");
            assert!(failure.message.contains(name) && !failure.message.contains("two words"), "{failure}");
        }
        assert_eq!(token_variable(&policy(json!({}))).as_deref(), Some("GITHUB_TOKEN"));
        assert_eq!(token_variable(&policy(json!({"token": "${MINE}"}))).as_deref(), Some("MINE"));
        assert_eq!(token_variable(&HandoffPolicy::default()), None);
    }
}
