//! Scopes: the identity under which effects and waits live and end.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::canonical::Members;
use crate::error::DurableError;

/// The longest id, replay key or identity, in bytes.
pub const NAME_BYTES: usize = 1_024;

/// What effects and waits belong to. All of it takes part in every key: turn "1" of two sessions never meets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecutionScope {
    /// One turn of a session.
    Turn {
        /// The session.
        session: String,
        /// The turn.
        turn: String,
    },
    /// A process that outlives turns.
    Process {
        /// Its id.
        id: String,
    },
    /// One emptying of a session's queue.
    QueueDrain {
        /// The session.
        session: String,
        /// The drain.
        drain: String,
    },
    /// The deletion of a session.
    SessionDelete {
        /// The session.
        session: String,
    },
    /// Something that the runtime does by itself.
    RuntimeOperation {
        /// Its id.
        id: String,
    },
    /// A saga, whose log its records are.
    Saga {
        /// Its id.
        id: String,
    },
}

impl ExecutionScope {
    /// A turn of a session.
    #[must_use]
    pub fn turn(session: impl Into<String>, turn: impl Into<String>) -> Self {
        Self::Turn { session: session.into(), turn: turn.into() }
    }

    /// A process.
    #[must_use]
    pub fn process(id: impl Into<String>) -> Self {
        Self::Process { id: id.into() }
    }

    /// An operation of the runtime.
    #[must_use]
    pub fn operation(id: impl Into<String>) -> Self {
        Self::RuntimeOperation { id: id.into() }
    }

    /// A saga.
    #[must_use]
    pub fn saga(id: impl Into<String>) -> Self {
        Self::Saga { id: id.into() }
    }

    /// The id of the turn, drain, process, deletion, operation or saga.
    #[must_use]
    pub fn scope_id(&self) -> &str {
        match self {
            Self::Turn { turn: id, .. }
            | Self::Process { id }
            | Self::QueueDrain { drain: id, .. }
            | Self::SessionDelete { session: id }
            | Self::RuntimeOperation { id }
            | Self::Saga { id } => id,
        }
    }

    /// The turn's id, of a turn alone.
    #[must_use]
    pub fn turn_id(&self) -> Option<&str> {
        match self {
            Self::Turn { turn, .. } => Some(turn),
            Self::Process { .. }
            | Self::QueueDrain { .. }
            | Self::SessionDelete { .. }
            | Self::RuntimeOperation { .. }
            | Self::Saga { .. } => None,
        }
    }

    /// The session whose revocation and deletion reach this scope. A deletion is not reached by itself.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        match self {
            Self::Turn { session, .. } | Self::QueueDrain { session, .. } => Some(session),
            Self::Process { .. } | Self::SessionDelete { .. } | Self::RuntimeOperation { .. } | Self::Saga { .. } => {
                None
            }
        }
    }

    /// One text for one scope, different for different ones: a JSON list of its kind and ids.
    #[must_use]
    pub fn key(&self) -> String {
        let parts = match self {
            Self::Turn { session, turn } => json!(["turn", session, turn]),
            Self::Process { id } => json!(["process", id]),
            Self::QueueDrain { session, drain } => json!(["queue_drain", session, drain]),
            Self::SessionDelete { session } => json!(["session_delete", session]),
            Self::RuntimeOperation { id } => json!(["runtime_operation", id]),
            Self::Saga { id } => json!(["saga", id]),
        };
        parts.to_string()
    }

    /// The scope that [`ExecutionScope::key`] was made from.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        let parts: Vec<String> = serde_json::from_str(key).ok()?;
        let mut parts = parts.into_iter();
        let (kind, first, second) = (parts.next()?, parts.next()?, parts.next());
        let scope = match (kind.as_str(), second) {
            ("turn", Some(turn)) => Self::Turn { session: first, turn },
            ("queue_drain", Some(drain)) => Self::QueueDrain { session: first, drain },
            ("process", None) => Self::Process { id: first },
            ("session_delete", None) => Self::SessionDelete { session: first },
            ("runtime_operation", None) => Self::RuntimeOperation { id: first },
            ("saga", None) => Self::Saga { id: first },
            _ => return None,
        };
        (parts.next().is_none() && scope.check().is_ok()).then_some(scope)
    }

    /// Checks that no id is empty or too long.
    ///
    /// # Errors
    /// [`DurableError::MissingExecutionScopeId`], [`DurableError::Invalid`].
    pub fn check(&self) -> Result<(), DurableError> {
        let ids: [(&'static str, &str); 2] = match self {
            Self::Turn { session, turn } => [("session", session), ("turn", turn)],
            Self::QueueDrain { session, drain } => [("session", session), ("drain", drain)],
            Self::SessionDelete { session } => [("session", session), ("session", session)],
            Self::Process { id } | Self::RuntimeOperation { id } | Self::Saga { id } => [("id", id), ("id", id)],
        };
        for (what, id) in ids {
            if id.is_empty() {
                return Err(DurableError::MissingExecutionScopeId { what });
            }
            check_length(what, id)?;
        }
        Ok(())
    }
}

impl std::fmt::Display for ExecutionScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Turn { session, turn } => write!(f, "turn {turn} of session {session}"),
            Self::Process { id } => write!(f, "process {id}"),
            Self::QueueDrain { session, drain } => write!(f, "drain {drain} of session {session}"),
            Self::SessionDelete { session } => write!(f, "deletion of session {session}"),
            Self::RuntimeOperation { id } => write!(f, "operation {id}"),
            Self::Saga { id } => write!(f, "saga {id}"),
        }
    }
}

/// Where in its runtime an invocation came from. Provenance: recorded, and no part of the hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeScope {
    /// Session.
    pub session: String,
    /// Turn.
    pub turn: String,
    /// Position of the turn in its session, from 0.
    pub turn_index: u64,
    /// Round of model and tools within the turn, from 0.
    pub iteration: u64,
}

/// Refuses what is longer than [`NAME_BYTES`].
pub(crate) fn check_length(what: &'static str, text: &str) -> Result<(), DurableError> {
    if text.len() > NAME_BYTES {
        return Err(DurableError::Invalid {
            code: "name_too_long",
            message: format!("{what} has {} bytes, and {NAME_BYTES} are allowed", text.len()),
        });
    }
    Ok(())
}

/// Appends the scope as it stands in hashed content: canonical.
pub(crate) fn write_content(scope: &ExecutionScope, text: &mut String) {
    let mut members = Members::open(text);
    match scope {
        ExecutionScope::Turn { session, turn } => {
            members.string("session", session);
            members.string("turn", turn);
            members.string("type", "turn");
        }
        ExecutionScope::Process { id } => {
            members.string("id", id);
            members.string("type", "process");
        }
        ExecutionScope::QueueDrain { session, drain } => {
            members.string("drain", drain);
            members.string("session", session);
            members.string("type", "queue_drain");
        }
        ExecutionScope::SessionDelete { session } => {
            members.string("session", session);
            members.string("type", "session_delete");
        }
        ExecutionScope::RuntimeOperation { id } => {
            members.string("id", id);
            members.string("type", "runtime_operation");
        }
        ExecutionScope::Saga { id } => {
            members.string("id", id);
            members.string("type", "saga");
        }
    }
    members.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every() -> [ExecutionScope; 6] {
        [
            ExecutionScope::turn("s", "1"),
            ExecutionScope::process("1"),
            ExecutionScope::QueueDrain { session: "s".into(), drain: "1".into() },
            ExecutionScope::SessionDelete { session: "s".into() },
            ExecutionScope::operation("1"),
            ExecutionScope::saga("1"),
        ]
    }

    #[test]
    fn a_key_leads_back_to_its_scope_and_to_no_other() {
        for scope in every() {
            assert_eq!(ExecutionScope::from_key(&scope.key()), Some(scope));
        }
        let keys: std::collections::BTreeSet<String> = every().iter().map(ExecutionScope::key).collect();
        assert_eq!(keys.len(), 6);
        // Separators inside ids do not let two scopes meet.
        assert_ne!(ExecutionScope::turn("a\",\"b", "c").key(), ExecutionScope::turn("a", "b\",\"c").key());
        for key in
            ["", "[]", "[\"turn\",\"s\"]", "[\"turn\",\"\",\"1\"]", "[\"process\",\"1\",\"2\"]", "[\"other\",\"1\"]"]
        {
            assert_eq!(ExecutionScope::from_key(key), None, "{key}");
        }
    }

    #[test]
    fn empty_and_endless_ids_are_refused() {
        let code = |scope: ExecutionScope| scope.check().err().map(|error| error.code().to_owned());
        assert_eq!(code(ExecutionScope::turn("", "1")).as_deref(), Some("missing_execution_scope_id"));
        assert_eq!(code(ExecutionScope::turn("s", "")).as_deref(), Some("missing_execution_scope_id"));
        assert_eq!(code(ExecutionScope::process("x".repeat(NAME_BYTES + 1))).as_deref(), Some("name_too_long"));
        assert!(every().iter().all(|scope| scope.check().is_ok()));
    }

    #[test]
    fn hashed_content_is_what_serde_writes() {
        for scope in every() {
            let mut text = String::new();
            write_content(&scope, &mut text);
            assert_eq!(text, crate::canonical::canonical(&serde_json::to_value(&scope).unwrap_or_default()));
        }
    }
}
