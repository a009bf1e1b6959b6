//! Forges: hosts of the code, where pull requests are.

mod github;
mod remote;
mod settings;

pub(crate) use github::foreign;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_core::{Failure, HandoffPolicy};
use dalsegno_engine::{Context, Forge, Forges};

use crate::http::Limits;
use crate::workflow::{Environment, process_environment};
use crate::workspace::remote_url;
pub use github::GitHub;
use settings::Settings;

/// Finds the forges that this version knows.
#[derive(Clone)]
pub struct LocalForges {
    env: Environment,
    limits: Limits,
}

impl LocalForges {
    /// Forges whose `$VAR`s mean the environment of this process.
    #[must_use]
    pub fn new() -> Self {
        Self::with_environment(process_environment())
    }

    /// Forges whose `$VAR`s mean `env`.
    #[must_use]
    pub fn with_environment(env: Environment) -> Self {
        Self { env, limits: Limits::default() }
    }

    /// The same, with this limit for each request to the forge; it is 30 s otherwise.
    #[must_use]
    pub fn call_limit(mut self, limit: Duration) -> Self {
        self.limits.call = limit;
        self
    }

    /// The forge of a handoff whose remote has this URL.
    ///
    /// # Errors
    /// As [`Forges::open`].
    pub fn at(&self, handoff: &HandoffPolicy, remote_url: &str) -> Result<Arc<dyn Forge>, Failure> {
        let settings = Settings::of(handoff, &self.env)?;
        Ok(Arc::new(GitHub::new(settings.place(remote_url)?, settings.token, self.limits)))
    }
}

impl Default for LocalForges {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Forges for LocalForges {
    fn preflight(&self, handoff: &HandoffPolicy) -> Result<(), Failure> {
        if handoff.forge.is_none() {
            return Ok(());
        }
        Settings::of(handoff, &self.env).map(drop)
    }

    async fn open(&self, context: &Context) -> Result<Arc<dyn Forge>, Failure> {
        let handoff = context.request.policy.handoff.clone().unwrap_or_default();
        // Before git is asked for anything.
        self.preflight(&handoff)?;
        self.at(&handoff, &remote_url(context).await?)
    }

    fn secret_environment_names(&self, handoff: &HandoffPolicy) -> Vec<String> {
        settings::token_variable(handoff).into_iter().collect()
    }
}
