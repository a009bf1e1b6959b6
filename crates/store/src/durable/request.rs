//! What a durable store asks of the writer, in the form that the writer has the least to do with.

use std::hash::{DefaultHasher, Hash, Hasher};

use dalsegno_durable::store::{Claim, Lease, Place, StoreError as Refused, WaitChanges, Write};
use dalsegno_durable::wait::{Registered, Resolved, Terminal, WaitAddress};
use dalsegno_durable::{EffectRecord, EffectState, ExecutionScope, Progress, Resolution, Timestamp};
use tokio::sync::oneshot;

use super::records::RawRecord;

/// A question, and where its answer goes. The answer is given to the asker only when it is on disk.
///
/// The question is in a box, because it goes through queues, and goes back with the answer: memory is best given back by the thread
/// that took it, and the writer has other things to do.
pub(crate) struct Ask<Q, A> {
    pub(super) question: Box<Q>,
    held: Option<Result<A, Refused>>,
    asker: oneshot::Sender<(Result<A, Refused>, Box<Q>)>,
}

/// The asker's end.
pub(super) type Answer<Q, A> = oneshot::Receiver<(Result<A, Refused>, Box<Q>)>;

impl<Q, A> Ask<Q, A> {
    pub(super) fn new(question: Q) -> (Self, Answer<Q, A>) {
        let (asker, answer) = oneshot::channel();
        (Self { question: Box::new(question), held: None, asker }, answer)
    }

    /// Answers the question by what `find` says, unless the database fails.
    pub(super) fn hold(&mut self, find: impl FnOnce(&Q) -> Result<A, Trouble>) -> rusqlite::Result<()> {
        self.held = Some(match find(&self.question) {
            Ok(answer) => Ok(answer),
            Err(Trouble::Refused(refused)) => Err(refused),
            Err(Trouble::Database(error)) => return Err(error),
        });
        Ok(())
    }

    fn tell(self) {
        let answer = self.held.unwrap_or_else(|| Err(Refused::Failed("the writer left it out".to_owned())));
        // Whoever asked may have stopped waiting; what was done is there all the same.
        let _ = self.asker.send((answer, self.question));
    }

    fn fail(self, reason: &str) {
        let _ = self.asker.send((Err(Refused::Failed(reason.to_owned())), self.question));
    }
}

/// Why a question has no answer.
pub(super) enum Trouble {
    /// It was looked into and refused; nothing was written for it.
    Refused(Refused),
    /// The database failed, and with it the whole transaction.
    Database(rusqlite::Error),
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        // A row that is not what was written is no reason to stop for all others.
        if let rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) = error
        {
            return Self::Refused(Refused::Failed("a row of effects or waits is damaged".to_owned()));
        }
        Self::Database(error)
    }
}

/// A scope as its rows say it.
#[derive(Debug)]
pub(crate) struct RawScope {
    pub(super) lease: Lease,
    pub(super) ended: bool,
    /// Newest first.
    pub(super) records: Vec<RawRecord>,
}

/// Which scope, and how it is taken.
pub(crate) struct OpenScope {
    pub(super) key: String,
    pub(super) session: Option<String>,
    pub(super) claim: Claim,
}

/// Which wait, as the tables name it.
pub(crate) struct WaitName {
    pub(super) scope_key: String,
    pub(super) session: Option<String>,
    pub(super) identity: String,
}

impl WaitName {
    pub(super) fn of(address: &WaitAddress) -> Self {
        Self {
            scope_key: address.scope.key(),
            session: address.scope.session().map(str::to_owned),
            identity: address.identity.clone(),
        }
    }
}

impl OpenScope {
    pub(super) fn of(scope: &ExecutionScope, claim: Claim) -> Self {
        Self { key: scope.key(), session: scope.session().map(str::to_owned), claim }
    }
}

/// A row to be written.
#[allow(clippy::large_enum_variant, reason = "it is in a box already")]
pub(crate) enum Row {
    /// A new effect.
    Intent {
        record: EffectRecord,
        fingerprint: u64,
        /// What the columns of an intent do not say.
        state: Option<(&'static str, String)>,
    },
    /// What became of one.
    Change { place: Place, progress: &'static str, state: String },
}

impl Row {
    /// Writes the JSON, so that the writer does not have to.
    pub(super) fn of(write: Write) -> Result<Self, Refused> {
        let text = |state: &EffectState| {
            serde_json::to_string(state).map_err(|error| Refused::Failed(format!("cannot encode: {error}")))
        };
        Ok(match write {
            Write::Intend(record) => {
                let state = if is_plain(&record.state) {
                    None
                } else {
                    Some((record.state.progress.as_str(), text(&record.state)?))
                };
                Self::Intent { fingerprint: fingerprint(&record.replay_key), state, record }
            }
            Write::Change(place, state) => {
                Self::Change { place, progress: state.progress.as_str(), state: text(&state)? }
            }
        })
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Intent { record, state, .. } => {
                record.content.as_ref().map_or(0, String::len) + state.as_ref().map_or(0, |(_, text)| text.len())
            }
            Self::Change { state, .. } => state.len(),
        }
    }
}

/// Whether the columns of an intent say all of it.
fn is_plain(state: &EffectState) -> bool {
    let EffectState { generation, attempt, doubts, epoch: _, began_at: _, due_at: _, failures, progress } = state;
    (generation, attempt, doubts, progress) == (&1, &1, &0, &Progress::Open) && failures.is_empty()
}

/// A short stand-in for a replay key: different ones may share it, equal ones always do.
pub(super) fn fingerprint(replay_key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    replay_key.hash(&mut hasher);
    hasher.finish()
}

/// The scope that is looked into.
pub(crate) struct ScopeKey(pub(super) String);

/// Which open sagas are wanted: so many, behind the one of this key.
pub(crate) struct SagasAfter {
    pub(super) key: String,
    pub(super) limit: u32,
}

/// Which ends of waits are wanted: those after this one.
pub(crate) struct EndsAfter(pub(super) u64);

/// One portion of what is old.
pub(crate) struct PruneBefore {
    pub(super) ended_before: Timestamp,
    pub(super) scopes: u32,
}

/// What came of a portion.
pub(crate) struct Portion {
    /// Scopes that are gone.
    pub(super) scopes: u32,
    /// There are rows left to be removed.
    pub(super) more: bool,
}

/// A question to the writer.
pub(crate) enum Request {
    Open(Ask<OpenScope, RawScope>),
    Load(Ask<Lease, RawScope>),
    Look(Ask<ScopeKey, Option<RawScope>>),
    OpenSagas(Ask<SagasAfter, Vec<String>>),
    Write(Ask<(Lease, Row), Place>),
    End(Ask<(Lease, Timestamp), ()>),
    Register(Ask<(WaitName, Option<Timestamp>, Timestamp), Registered>),
    Resolve(Ask<(WaitName, Resolution, Timestamp), Resolved>),
    Peek(Ask<(WaitName, Timestamp), Option<Terminal>>),
    Cancel(Ask<(String, Timestamp), u64>),
    Revoke(Ask<(String, bool), u64>),
    Prune(Ask<PruneBefore, Portion>),
    Ends(Ask<EndsAfter, WaitChanges>),
    LastEnd(Ask<(), u64>),
}

impl Request {
    /// About how many bytes it writes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Write(ask) => ask.question.1.bytes(),
            Self::Open(_)
            | Self::Load(_)
            | Self::Look(_)
            | Self::OpenSagas(_)
            | Self::End(_)
            | Self::Register(_)
            | Self::Resolve(_)
            | Self::Peek(_)
            | Self::Cancel(_)
            | Self::Revoke(_)
            | Self::Prune(_)
            | Self::Ends(_)
            | Self::LastEnd(_) => 0,
        }
    }

    /// Whether it is there to be recorded, rather than to be looked up.
    pub(crate) fn records(&self) -> bool {
        !matches!(
            self,
            Self::Load(_)
                | Self::Look(_)
                | Self::OpenSagas(_)
                | Self::Peek(_)
                | Self::Ends(_)
                | Self::LastEnd(_)
                | Self::Prune(_)
        )
    }

    /// Gives the answer to whoever asked.
    pub(crate) fn tell(self) {
        match self {
            Self::Open(ask) => ask.tell(),
            Self::Load(ask) => ask.tell(),
            Self::Look(ask) => ask.tell(),
            Self::OpenSagas(ask) => ask.tell(),
            Self::Write(ask) => ask.tell(),
            Self::End(ask) => ask.tell(),
            Self::Register(ask) => ask.tell(),
            Self::Resolve(ask) => ask.tell(),
            Self::Peek(ask) => ask.tell(),
            Self::Cancel(ask) => ask.tell(),
            Self::Revoke(ask) => ask.tell(),
            Self::Prune(ask) => ask.tell(),
            Self::Ends(ask) => ask.tell(),
            Self::LastEnd(ask) => ask.tell(),
        }
    }

    /// Tells whoever asked that nobody knows.
    pub(crate) fn fail(self, reason: &str) {
        match self {
            Self::Open(ask) => ask.fail(reason),
            Self::Load(ask) => ask.fail(reason),
            Self::Look(ask) => ask.fail(reason),
            Self::OpenSagas(ask) => ask.fail(reason),
            Self::Write(ask) => ask.fail(reason),
            Self::End(ask) => ask.fail(reason),
            Self::Register(ask) => ask.fail(reason),
            Self::Resolve(ask) => ask.fail(reason),
            Self::Peek(ask) => ask.fail(reason),
            Self::Cancel(ask) => ask.fail(reason),
            Self::Revoke(ask) => ask.fail(reason),
            Self::Prune(ask) => ask.fail(reason),
            Self::Ends(ask) => ask.fail(reason),
            Self::LastEnd(ask) => ask.fail(reason),
        }
    }
}
