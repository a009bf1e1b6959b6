//! What services send when something changed there: who signed it, and which issue it names.
//!
//! # What holds
//! - A signature is checked over the bytes as they came, before anything of them is read, and in constant time.
//! - Nothing of a webhook is believed but that it came and whom it names: what the issue is now, the tracker says.
//! - A header that comes twice is none. No secret is in any failure.

mod foreign;
mod forgejo;
mod github;
mod gitlab;
mod jira;
mod linear;
mod sign;

pub(crate) use foreign::foreign;

use dalsegno_core::{Failure, Policy, Timestamp};
use dalsegno_engine::{Delivery, Heard, Webhooks};
use serde::de::DeserializeOwned;

use crate::workflow::{Environment, process_environment, referenced};

/// Verifies a delivery with a secret, and reads it.
type Scheme = fn(&Delivery, &str, Timestamp) -> Result<Heard, Refused>;

/// Services whose webhooks are understood, by the words of `tracker.webhooks`.
pub const SERVICES: [&str; 5] = ["github", "gitlab", "linear", "jira", "forgejo"];

/// Longest name of an issue that is looked for, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Why a delivery is not believed, or cannot be.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// No signature, or a wrong one.
    Signature(&'static str),
    /// Its signature is right, and it is too old or from the future.
    Stale(&'static str),
    /// Its signature is right, and it is no JSON.
    Unreadable(String),
}

/// The webhooks that this version understands.
#[derive(Clone)]
pub struct LocalWebhooks {
    env: Environment,
}

impl LocalWebhooks {
    /// Whose `$VAR`s mean the environment of this process.
    #[must_use]
    pub fn new() -> Self {
        Self::with_environment(process_environment())
    }

    /// Whose `$VAR`s mean `env`.
    #[must_use]
    pub fn with_environment(env: Environment) -> Self {
        Self { env }
    }

    fn secret(&self, service: &str, reference: &str) -> Result<String, Failure> {
        let name = referenced(reference.trim()).unwrap_or_default();
        let value = (self.env)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        value.ok_or_else(|| {
            let why = format!("tracker.webhooks.{service} names the variable {name}, and it is not set");
            Failure::permanent("missing_webhook_secret", why)
                .hint(format!("Set {name} in the daemon's environment, or name another variable."))
        })
    }
}

impl Default for LocalWebhooks {
    fn default() -> Self {
        Self::new()
    }
}

impl Webhooks for LocalWebhooks {
    fn preflight(&self, policy: &Policy) -> Result<(), Failure> {
        policy.webhooks.iter().try_for_each(|(service, webhook)| self.secret(service, &webhook.secret).map(drop))
    }

    fn read(&self, policy: &Policy, delivery: &Delivery, now: Timestamp) -> Result<Heard, Failure> {
        let service = delivery.service.as_str();
        let (Some(scheme), Some(webhook)) = (scheme(service), policy.webhooks.get(service)) else {
            return Err(not_configured(service));
        };
        let secret = self.secret(service, &webhook.secret)?;
        let heard = scheme(delivery, &secret, now).map_err(|refused| refused.failure(service))?;
        // Another service's issues are not the tracker's, whatever they are called.
        let own = policy.tracker.kind == service;
        Ok(Heard { names: if own { heard.names } else { Vec::new() }, ..heard })
    }

    fn secret_environment_names(&self, policy: &Policy) -> Vec<String> {
        policy.webhooks.values().filter_map(|webhook| referenced(webhook.secret.trim())).map(str::to_owned).collect()
    }
}

fn scheme(service: &str) -> Option<Scheme> {
    match service {
        "github" => Some(github::read),
        "gitlab" => Some(gitlab::read),
        "linear" => Some(linear::read),
        "jira" => Some(jira::read),
        "forgejo" => Some(forgejo::read),
        _ => None,
    }
}

fn not_configured(service: &str) -> Failure {
    if SERVICES.contains(&service) {
        let why = format!("WORKFLOW.md says nothing of webhooks of {service}");
        return Failure::permanent("webhook_not_configured", why).hint(format!(
            "Write `webhooks: {{{service}: {{secret: $NAME}}}}` under `tracker`, and set NAME in the daemon's environment."
        ));
    }
    Failure::permanent("webhook_not_configured", "webhooks of such a service are not understood")
        .hint(format!("There are those of {}.", SERVICES.join(", ")))
}

impl Refused {
    fn failure(self, service: &str) -> Failure {
        match self {
            Self::Signature(why) => {
                Failure::permanent("webhook_signature", format!("this is not signed as {service} signs: {why}")).hint(
                    "See that the service and the daemon have the same secret, and that no proxy changes the body.",
                )
            }
            Self::Stale(why) => Failure::permanent("webhook_stale", format!("the webhook is out of time: {why}"))
                .hint("See that this machine's clock is right; an old one is not sent again."),
            Self::Unreadable(why) => {
                Failure::permanent("invalid_body", format!("the webhook is signed, and no JSON: {why}"))
                    .hint("Choose JSON (application/json) as the content type where the webhook is set up.")
            }
        }
    }
}

/// The part of a JSON body that a scheme knows. One with other types is valid and tells nothing.
fn part<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Refused> {
    match serde_json::from_slice(body) {
        Ok(part) => Ok(part),
        Err(error) if error.is_data() => Ok(T::default()),
        Err(error) => Err(Refused::Unreadable(error.to_string())),
    }
}

fn heard(id: Option<&str>, names: impl IntoIterator<Item = Option<String>>) -> Heard {
    let fits = |name: &String| !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    Heard { id: id.map(str::to_owned), names: names.into_iter().flatten().filter(fits).collect() }
}

/// `owner/repository#7`, as forges call an issue across repositories.
fn across(repository: Option<String>, number: Option<u64>) -> Option<String> {
    repository.zip(number).map(|(repository, number)| format!("{repository}#{number}"))
}

#[cfg(test)]
mod tests;
