//! What was asked, and what became of it.

use serde::Serialize;
use serde_json::Value;

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recorded {
    /// Like `POST`.
    pub method: String,
    /// Path without `/api/v3` before it.
    pub path: String,
    /// The query, as it came.
    pub query: String,
    /// Login of who asks; `None`: nobody that is known here.
    pub account: Option<String>,
    /// What was sent; null when it was nothing, or no JSON.
    pub body: Value,
    /// Status of the answer; `None`: there was none.
    pub status: Option<u16>,
    /// It changed something.
    pub changed: bool,
    /// The lie that it got.
    pub lie: Option<String>,
}
