//! Who tells people outside: webhooks, Slack, and commands of the user's.

mod address;
mod command;
mod slack;
mod webhook;

use async_trait::async_trait;
use dalsegno_core::{Failure, Policy, Receiver};
use dalsegno_engine::{Context, Notification, Notifier};
use serde_json::{Value, json};

use crate::http::{Answer, Call, Http, Limits, Method, NoAnswer, Secret, Verdict};
use crate::workflow::{Environment, process_environment, referenced};

/// Version of what receivers get.
const SCHEMA_VERSION: u32 = 1;

/// Tells the receivers that this version knows.
#[derive(Clone)]
pub struct LocalNotifier {
    env: Environment,
    limits: Limits,
}

impl LocalNotifier {
    /// One whose `$VAR`s mean the environment of this process.
    #[must_use]
    pub fn new() -> Self {
        Self::with_environment(process_environment())
    }

    /// One whose `$VAR`s mean `env`.
    #[must_use]
    pub fn with_environment(env: Environment) -> Self {
        Self { env, limits: Limits::default() }
    }
}

impl Default for LocalNotifier {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Notifier for LocalNotifier {
    fn preflight(&self, policy: &Policy) -> Result<(), Failure> {
        policy.notify.iter().try_for_each(|entry| match &entry.receiver {
            Receiver::Webhook { address, secret } => {
                address::resolved(address, &self.env)?;
                secret.as_deref().map_or(Ok(()), |secret| address::secret(secret, &self.env).map(drop))
            }
            Receiver::Slack { address } => address::resolved(address, &self.env).map(drop),
            Receiver::Command { .. } => Ok(()),
        })
    }

    async fn notify(&self, context: &Context, receiver: &Receiver, message: &Notification) -> Result<(), Failure> {
        match receiver {
            Receiver::Webhook { address, secret } => {
                let url = address::resolved(address, &self.env)?;
                let secret = secret.as_deref().map(|secret| address::secret(secret, &self.env)).transpose()?;
                let body = document(message).to_string();
                let now = jiff::Timestamp::now().as_second();
                post(&url, webhook::headers(&message.id, secret.as_deref(), now, &body), body, self.limits).await
            }
            Receiver::Slack { address } => {
                let url = address::resolved(address, &self.env)?;
                post(&url, Vec::new(), slack::body(message).to_string(), self.limits).await
            }
            Receiver::Command { command } => command::tell(context, command, document(message).to_string()).await,
        }
    }

    fn secret_environment_names(&self, policy: &Policy) -> Vec<String> {
        let named = policy.notify.iter().flat_map(|entry| match &entry.receiver {
            Receiver::Webhook { address, secret } => [Some(address), secret.as_ref()],
            Receiver::Slack { address } => [Some(address), None],
            Receiver::Command { .. } => [None, None],
        });
        named.flatten().filter_map(|text| referenced(text)).map(str::to_owned).collect()
    }
}

/// What programs are told.
fn document(message: &Notification) -> Value {
    let Notification { id, notices, missed } = message;
    let notices = notices.iter().map(|notice| {
        json!({
            "topic": notice.topic,
            "issue": notice.identifier,
            "title": notice.title,
            "text": notice.text,
            "url": notice.url,
            "at": jiff::Timestamp::from_millisecond(notice.at.0).ok().map(|at| format!("{at:.3}")),
        })
    });
    json!({"schema_version": SCHEMA_VERSION, "id": id, "notices": notices.collect::<Vec<_>>(), "missed": missed})
}

/// Posts, and takes any answer of success for heard. The URL may be a secret, and is in no failure.
async fn post(url: &str, headers: Vec<(&'static str, String)>, body: String, limits: Limits) -> Result<(), Failure> {
    let no_url = || Failure::permanent("notify_failed", "the address of the receiver is no URL");
    let http = Http::new(Secret::new(url).ok_or_else(no_url)?, limits);
    let call = Call { method: Method::Post, url: url.to_owned(), headers, bearer: false, body: Some(body) };
    let answer = http.call(call).await.map_err(|none| match none {
        NoAnswer::NotSent(why) | NoAnswer::Unanswered(why) => Failure::retryable("notify_failed", why),
    })?;
    match answer.verdict() {
        Verdict::Done => Ok(()),
        Verdict::Refused if !matches!(answer.status, 408 | 429) => Err(refused(&answer)),
        Verdict::Refused | Verdict::Unclear => {
            Err(Failure::retryable("notify_failed", format!("the receiver answered {}", answer.status)))
        }
    }
}

fn refused(answer: &Answer) -> Failure {
    Failure::permanent("notify_refused", format!("the receiver answered {}", answer.status))
        .hint("See that the address in notify of WORKFLOW.md, or in the variable that it names, is right.")
}

#[cfg(test)]
mod tests;
