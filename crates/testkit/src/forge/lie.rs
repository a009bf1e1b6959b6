//! What can go wrong between a forge and who calls it.

use std::time::Duration;

/// What a request gets instead of an honest answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Done, and the connection is closed without an answer.
    DoneUnanswered,
    /// Answered as if it were done, and not done.
    AnsweredUndone,
    /// Done, and answered after so long.
    Slow(Duration),
    /// Not done: this status, with a page that is no JSON.
    Status(u16),
    /// Done, and this status, with a page that is no JSON: what is in front of the server did not wait for it.
    DoneStatus(u16),
    /// Not done: 429, to be asked again after so many seconds.
    TooMany(u64),
    /// Not done: 403, with the headers of a rate limit that is used up.
    RateLimited,
    /// Not done: moved to another place.
    Moved,
    /// Done, and the answer breaks off in the midst of its body.
    Cut,
    /// Done, and the answer's body is no JSON.
    Garbage,
    /// Done, and the answer's body is JSON of another kind.
    OtherJson,
}

impl Lie {
    /// Whether what was asked for is done all the same.
    pub(super) fn does_it(self) -> bool {
        match self {
            Self::DoneUnanswered
            | Self::Slow(_)
            | Self::DoneStatus(_)
            | Self::Cut
            | Self::Garbage
            | Self::OtherJson => true,
            Self::AnsweredUndone | Self::Status(_) | Self::TooMany(_) | Self::RateLimited | Self::Moved => false,
        }
    }
}

/// Which requests get a lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LieFor {
    /// Like `POST`.
    pub method: &'static str,
    /// Path without `/api/v3` before it; a `*` at its end stands for any rest.
    pub path: String,
    /// So many of them.
    pub times: u32,
}

impl LieFor {
    /// The next request with this method and path.
    #[must_use]
    pub fn next(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), times: 1 }
    }

    pub(super) fn is_for(&self, method: &str, path: &str) -> bool {
        let fits = match self.path.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == self.path,
        };
        self.times > 0 && self.method == method && fits
    }
}
