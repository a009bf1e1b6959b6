//! A hold on one saga that is run: waiting for it, and telling it something.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::error::SagaError;
use super::event::{SagaEnd, Verb};
use super::machine::Refused;
use super::view::SagaView;

/// Where a saga is when nothing of it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It is over.
    Ended(SagaEnd),
    /// An operator has to say how it goes on.
    Parked,
}

/// A hold on one saga. Dropping it does not stop the saga.
#[derive(Debug, Clone)]
pub struct Saga {
    pub(super) id: String,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) told: watch::Receiver<Told>,
}

/// What is durable of a saga.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) end: Option<SagaEnd>,
    pub(super) rests: bool,
    pub(super) stopped: Option<Arc<SagaError>>,
}

pub(super) enum Command {
    Cancel {
        by: String,
        why: String,
        reply: oneshot::Sender<Result<bool, SagaError>>,
    },
    Settle {
        step: String,
        verb: Verb,
        by: String,
        why: String,
        output: Value,
        reply: oneshot::Sender<Result<(), SagaError>>,
    },
    View {
        reply: oneshot::Sender<SagaView>,
    },
}

impl Saga {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits for its end, as long as that takes: also over a time in which it is parked.
    ///
    /// # Errors
    /// [`SagaError`] when it is let go of in this process.
    pub async fn ended(&self) -> Result<SagaEnd, SagaError> {
        self.until(|told| told.end).await
    }

    /// Waits until nothing of it moves: it is over, or parked.
    ///
    /// # Errors
    /// As [`Saga::ended`].
    pub async fn rest(&self) -> Result<Rest, SagaError> {
        self.until(|told| told.end.map(Rest::Ended).or(told.rests.then_some(Rest::Parked))).await
    }

    async fn until<T>(&self, found: impl Fn(&Told) -> Option<T>) -> Result<T, SagaError> {
        let mut told = self.told.clone();
        loop {
            {
                let now = told.borrow_and_update();
                if let Some(found) = found(&now) {
                    return Ok(found);
                }
                if let Some(why) = &now.stopped {
                    return Err((**why).clone());
                }
            }
            if told.changed().await.is_err() {
                return Err(self.gone());
            }
        }
    }

    /// Has it undone. Answers whether that is new. When this returns, it is recorded.
    ///
    /// # Errors
    /// [`Refused::TooLate`], [`Refused::Ended`].
    pub async fn cancel(&self, by: &str, why: &str) -> Result<bool, SagaError> {
        let (by, why) = (by.to_owned(), why.to_owned());
        self.ask(|reply| Command::Cancel { by, why, reply }).await?
    }

    /// Says how a parked step goes on. When this returns, it is recorded.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn settle(&self, step: &str, verb: Verb, by: &str, why: &str, output: Value) -> Result<(), SagaError> {
        let (step, by, why) = (step.to_owned(), by.to_owned(), why.to_owned());
        self.ask(|reply| Command::Settle { step, verb, by, why, output, reply }).await?
    }

    /// It for people.
    ///
    /// # Errors
    /// [`SagaError::Stopped`] when it is not run here any more: ask [`SagaHost::view`](super::SagaHost::view) then.
    pub async fn view(&self) -> Result<SagaView, SagaError> {
        self.ask(|reply| Command::View { reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, SagaError> {
        let (reply, answer) = oneshot::channel();
        let end = self.told.borrow().end;
        if let Some(end) = end {
            return Err(Refused::Ended { end }.into());
        }
        self.commands.send(command(reply)).await.map_err(|_| self.gone())?;
        answer.await.map_err(|_| self.gone())
    }

    fn gone(&self) -> SagaError {
        let told = self.told.borrow();
        match (&told.end, &told.stopped) {
            (Some(end), _) => Refused::Ended { end: *end }.into(),
            (None, Some(why)) => (**why).clone(),
            (None, None) => SagaError::Stopped { id: self.id.clone(), why: "its task ended".to_owned() },
        }
    }
}

/// A hold on a saga that is over.
pub(super) fn over(id: String, end: SagaEnd) -> Saga {
    let (commands, _) = mpsc::channel(1);
    let (_, told) = watch::channel(Told { end: Some(end), ..Told::default() });
    Saga { id, commands, told }
}
