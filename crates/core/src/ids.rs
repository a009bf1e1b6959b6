//! Names of things, one type each, so that they cannot be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

string_id! {
    /// The tracker's stable identity of an issue; opaque (Symphony §4.1.1 `id`).
    IssueId
}
impl IssueId {
    /// Of what is done for no issue.
    #[must_use]
    pub fn nobodys() -> Self {
        Self(String::new())
    }

    /// Whether it names none.
    #[must_use]
    pub fn is_nobodys(&self) -> bool {
        self.0.is_empty()
    }
}

string_id! {
    /// One attempt to work on an issue: `run-<number>`, numbered by the journal.
    RunId
}
string_id! {
    /// The agent's own name for its conversation; resumable by it.
    SessionId
}
string_id! {
    /// A git commit id in full hexadecimal.
    CommitId
}
string_id! {
    /// SHA-256 of a parsed policy, in hexadecimal.
    PolicyHash
}

/// One effect in the journal; numbered from 1 in the order of intents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectId(pub u64);

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}
