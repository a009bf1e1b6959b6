//! What the cases share.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dalsegno_durable::{
    Call, Command, DurableError, EffectError, EffectHost, EffectRecord, ExecutionScope, Resolution, Resolved, Scope,
};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::HostFixture;
use crate::durable::Faults;

/// The longest that a case may take; longer means that somebody waits for what never comes.
const LIMIT: Duration = Duration::from_secs(120);

/// Fails by name what does not end.
///
/// # Panics
/// When it takes too long.
pub async fn within<T>(what: &str, doing: impl Future<Output = T>) -> T {
    let Ok(done) = tokio::time::timeout(LIMIT, doing).await else { panic!("{what} did not end within {LIMIT:?}") };
    done
}

/// A moment of real time, for showing that something does not happen. What does happen is never waited for like this.
pub(super) async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

pub(super) fn turn(id: &str) -> ExecutionScope {
    ExecutionScope::turn("session-1", id)
}

pub(super) async fn open(host: &Arc<dyn EffectHost>, scope: ExecutionScope) -> Scope<'_> {
    host.scoped(scope).await.unwrap()
}

/// A scope for a task of its own. Hosts that have none are told so by their case; the others go on.
pub(super) async fn owned(host: &Arc<dyn EffectHost>, scope: ExecutionScope) -> Scope<'static> {
    host.scoped_static(scope).await.unwrap().unwrap()
}

pub(super) fn direct(input: impl Into<Value>) -> Command {
    Command::Direct { name: "do".to_owned(), input: input.into() }
}

pub(super) fn answer(payload: impl Into<Value>) -> Resolution {
    Resolution::Answered { payload: payload.into() }
}

pub(super) fn already(terminal: Resolution) -> Resolved {
    Resolved::AlreadyResolved { terminal }
}

/// The code of a refusal.
pub(super) fn code<T: std::fmt::Debug>(told: Result<T, DurableError>) -> String {
    told.unwrap_err().code().to_owned()
}

pub(super) async fn record(scope: &Scope<'_>, replay_key: &str) -> Option<EffectRecord> {
    let effects = scope.controller().effects().await.unwrap();
    effects.into_iter().find(|record| record.replay_key == replay_key)
}

/// Faults of the fixture; says so when it has none.
pub(super) fn faults_of(fixture: &dyn HostFixture) -> Option<Arc<Faults>> {
    let faults = fixture.faults();
    if faults.is_none() {
        skipped("this host has no place for faults of its store");
    }
    faults
}

/// Says loudly that a case, or the rest of it, is not for this host.
#[expect(clippy::print_stderr, reason = "a case that was left out is said where people look")]
pub(super) fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// An executor with a script: it notes each call, and answers by turns.
#[derive(Debug, Default)]
pub(super) struct Executor {
    calls: Mutex<Vec<Call>>,
    script: Mutex<VecDeque<Act>>,
    entered: Arc<Semaphores>,
}

#[derive(Debug)]
struct Semaphores {
    entered: Semaphore,
    open: Semaphore,
}

impl Default for Semaphores {
    fn default() -> Self {
        Self { entered: Semaphore::new(0), open: Semaphore::new(0) }
    }
}

/// What an executor does when it is called.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Answer(Value),
    Fail(EffectError),
    Panic,
    /// Never answers.
    Hang,
    /// Answers when it is let.
    Halt(Value),
}

impl Executor {
    /// By turns; panics when it is called more often.
    pub(super) fn new(script: impl IntoIterator<Item = Act>) -> Self {
        Self { script: Mutex::new(script.into_iter().collect()), ..Self::default() }
    }

    /// Answers that once.
    pub(super) fn once(output: impl Into<Value>) -> Self {
        Self::new([Act::Answer(output.into())])
    }

    /// Must not be called.
    pub(super) fn never() -> Self {
        Self::new([])
    }

    /// To be the closure of an effect.
    pub(super) fn run(&self, call: Call) -> impl Future<Output = Result<Value, EffectError>> + Send + use<> {
        let cancel = call.cancel.clone();
        let number = {
            let mut calls = lock(&self.calls);
            calls.push(call);
            calls.len()
        };
        let act = lock(&self.script).pop_front();
        let semaphores = Arc::clone(&self.entered);
        let Some(act) = act else { panic!("the executor is called for the {number}. time") };
        async move {
            semaphores.entered.add_permits(1);
            match act {
                Act::Answer(output) => Ok(output),
                Act::Fail(error) => Err(error),
                Act::Panic => panic!("the executor panics because the case wants it"),
                Act::Hang => {
                    // Not even a cancel makes it answer.
                    let _cancel = cancel;
                    std::future::pending().await
                }
                Act::Halt(output) => {
                    semaphores.open.acquire().await.unwrap().forget();
                    Ok(output)
                }
            }
        }
    }

    /// Waits until it was entered once more.
    pub(super) async fn entered(&self) {
        self.entered.entered.acquire().await.unwrap().forget();
    }

    /// Lets one that halts answer.
    pub(super) fn release(&self) {
        self.entered.open.add_permits(1);
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.calls).len()
    }

    /// The keys that it was called with.
    pub(super) fn keys(&self) -> Vec<String> {
        lock(&self.calls).iter().map(|call| call.idempotency_key.clone()).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
