//! The world outside, which remembers what was done to it, whoever dies.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dalsegno_durable::{Call, EffectError, ExecutionScope};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is recorded of an effect, seen from beside the host: through a connection of its own, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recorded {
    /// Nothing.
    Nothing,
    /// Its intent, and no outcome.
    Intent,
    /// Its outcome.
    Outcome,
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(super) enum Line {
    /// A process began to play.
    Began,
    /// An executor was called.
    Entered { scope: String, key: String, idempotency_key: String, attempt: u32, recorded: Recorded },
    /// A remote did something.
    Applied { idempotency_key: String, output: Value },
    /// A remote was asked whether it did.
    Probed { idempotency_key: String, found: bool },
    /// The script was told something.
    Told { what: String, value: Value },
    /// When a sleep or a pause is over, by its record.
    Due { what: String, at: i64 },
    /// The script came to its end.
    Ended,
}

type Look = dyn Fn(&ExecutionScope, &str) -> Recorded + Send + Sync;

/// The remotes of the script, its ledger, and the points that it passes.
pub struct World {
    path: PathBuf,
    ledger: Option<Mutex<File>>,
    look: Arc<Look>,
    point: fn(&str),
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("path", &self.path).finish_non_exhaustive()
    }
}

impl World {
    /// A world whose ledger is that file. `look` tells what is recorded of an effect at this moment, from beside the host;
    /// `point` is passed at each boundary of an effect.
    ///
    /// # Panics
    /// When the ledger cannot be opened.
    #[must_use]
    pub fn new(
        ledger: &Path,
        look: impl Fn(&ExecutionScope, &str) -> Recorded + Send + Sync + 'static,
        point: fn(&str),
    ) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(ledger).unwrap();
        let world = Self { path: ledger.to_owned(), ledger: Some(Mutex::new(file)), look: Arc::new(look), point };
        world.note(&Line::Began);
        world
    }

    /// A world to which nothing can be done any more: everything that the script asks for has to be recorded.
    #[must_use]
    pub fn frozen(ledger: &Path) -> Self {
        Self { path: ledger.to_owned(), ledger: None, look: Arc::new(|_, _| Recorded::Nothing), point: |_| {} }
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.ledger.is_none()
    }

    pub(super) fn point(&self, name: &str) {
        (self.point)(name);
    }

    /// One line, on disk when this returns.
    pub(super) fn note(&self, line: &Line) {
        let Some(ledger) = &self.ledger else { panic!("nothing is to happen any more: {line:?}") };
        let mut file = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = serde_json::to_string(line).unwrap();
        text.push('\n');
        file.write_all(text.as_bytes()).unwrap();
        file.sync_data().unwrap();
    }

    /// The ledger so far. A line that a kill cut short was not written.
    pub(super) fn lines(&self) -> Vec<Line> {
        let file = BufReader::new(File::open(&self.path).unwrap());
        file.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()).collect()
    }

    /// What of the ledger is of interest, oldest first.
    fn find<T>(&self, of_interest: impl Fn(Line) -> Option<T>) -> Vec<T> {
        self.lines().into_iter().filter_map(of_interest).collect()
    }

    pub(super) fn told(&self, what: &str) -> Option<Value> {
        let told = self.find(|line| if let Line::Told { what, value } = line { Some((what, value)) } else { None });
        told.into_iter().find(|(told, _)| told == what).map(|(_, value)| value)
    }

    fn doings(&self) -> Vec<(String, Value)> {
        self.find(|line| {
            if let Line::Applied { idempotency_key, output } = line { Some((idempotency_key, output)) } else { None }
        })
    }

    /// What the remote did under this key.
    pub(super) fn applied(&self, key: &str) -> Option<Value> {
        self.doings().into_iter().find(|(applied, _)| applied == key).map(|(_, output)| output)
    }

    /// The key of the last attempt of an effect that reached its executor.
    pub(super) fn last_key(&self, effect: &str) -> Option<String> {
        let entered = self.find(|line| {
            if let Line::Entered { key, idempotency_key, .. } = line { Some((key, idempotency_key)) } else { None }
        });
        entered.into_iter().rfind(|(key, _)| key == effect).map(|(_, idempotency_key)| idempotency_key)
    }

    /// An executor is called.
    pub(super) fn enter(&self, scope: &ExecutionScope, key: &str, call: &Call) {
        self.point("effect entered");
        let recorded = (self.look)(scope, key);
        self.note(&Line::Entered {
            scope: scope.to_string(),
            key: key.to_owned(),
            idempotency_key: call.idempotency_key.clone(),
            attempt: call.attempt,
            recorded,
        });
        self.point("effect noted");
    }

    /// Has a remote do something. One that deduplicates does it once for each key; every other one does it each time.
    pub(super) fn apply(&self, key: &str, call: &Call, deduplicates: bool) -> Result<Value, EffectError> {
        if deduplicates && let Some(output) = self.applied(&call.idempotency_key) {
            return Ok(output);
        }
        let output = json!({"did": key, "number": self.doings().len()});
        self.note(&Line::Applied { idempotency_key: call.idempotency_key.clone(), output: output.clone() });
        self.point("effect applied");
        Ok(output)
    }
}
