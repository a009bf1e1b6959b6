//! What was asked, and what clients were told that it cost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use super::script::Tokens;

/// Requests that are kept; older ones are forgotten.
const KEPT: usize = 4096;
/// Models that are counted apart; what comes beyond is counted together.
const MODELS: usize = 64;

/// A request for an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asked {
    /// From 1, in the order of arrival.
    pub number: u64,
    /// Path, without the query.
    pub path: String,
    /// Headers, lowercase; the values of those that hold a secret are left out.
    pub headers: BTreeMap<String, String>,
    /// What was sent.
    pub body: Value,
    /// The script that it gets.
    pub script: String,
    /// The step of it, from 0.
    pub step: usize,
    /// A call without tools, such as one for a title.
    pub side: bool,
}

/// What clients were told of one model's usage. It counts when it goes to the connection: whether a client that was
/// killed has read it, nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reported {
    /// Everything.
    pub all: Tokens,
    /// The part of it that is of side calls.
    pub side: Tokens,
}

impl Default for Reported {
    fn default() -> Self {
        Self { all: Tokens::ZERO, side: Tokens::ZERO }
    }
}

/// What the server notes.
#[derive(Debug)]
pub(super) struct Record {
    asked: Mutex<VecDeque<Asked>>,
    newest: watch::Sender<u64>,
    usage: Mutex<BTreeMap<String, Reported>>,
}

impl Record {
    pub(super) fn new() -> Self {
        Self { asked: Mutex::default(), newest: watch::Sender::new(0), usage: Mutex::default() }
    }

    /// Notes a request under the next number.
    pub(super) fn note(&self, mut asked: Asked) -> Asked {
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.number = all.back().map_or(0, |last| last.number) + 1;
        if all.len() >= KEPT {
            all.pop_front();
        }
        all.push_back(asked.clone());
        self.newest.send_replace(asked.number);
        asked
    }

    pub(super) fn report(&self, model: &str, tokens: Tokens, side: bool) {
        if tokens == Tokens::ZERO {
            return;
        }
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let name = if usage.len() < MODELS || usage.contains_key(model) { model } else { "others" };
        let reported = usage.entry(name.to_owned()).or_default();
        reported.all.add(tokens);
        if side {
            reported.side.add(tokens);
        }
    }

    pub(super) fn requests(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(super) fn usage(&self) -> BTreeMap<String, Reported> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The request of this number, once it has come. `None`: it was forgotten.
    pub(super) async fn asked(&self, number: u64) -> Option<Asked> {
        self.newest.subscribe().wait_for(|newest| *newest >= number).await.ok()?;
        self.requests().into_iter().find(|asked| asked.number == number)
    }
}
