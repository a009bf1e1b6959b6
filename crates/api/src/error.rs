//! The error envelope and its codes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Stable error codes. Each says what happened; the message says why, the hint what to do.
pub mod code {
    /// No issue with this identifier or id is known.
    pub const ISSUE_NOT_FOUND: &str = "issue_not_found";
    /// No run of this name is known.
    pub const RUN_NOT_FOUND: &str = "run_not_found";
    /// No file of this name is kept for the run.
    pub const FILE_NOT_FOUND: &str = "file_not_found";
    /// The file is not what was kept any more, or its receipt was taken back.
    pub const FILE_LOST: &str = "file_lost";
    /// No saga has this id.
    pub const SAGA_NOT_FOUND: &str = "saga_not_found";
    /// Nothing is served under this path.
    pub const ROUTE_NOT_FOUND: &str = "route_not_found";
    /// The path is served, with other methods.
    pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
    /// The path is no valid text, or too long.
    pub const INVALID_PATH: &str = "invalid_path";
    /// The query string cannot be read.
    pub const INVALID_QUERY: &str = "invalid_query";
    /// A query parameter that the route does not have.
    pub const UNKNOWN_PARAMETER: &str = "unknown_parameter";
    /// No action of this name is remembered.
    pub const ACTION_NOT_FOUND: &str = "action_not_found";
    /// A query parameter with a value that makes no sense.
    pub const INVALID_PARAMETER: &str = "invalid_parameter";
    /// The cursor is damaged or made up.
    pub const INVALID_CURSOR: &str = "invalid_cursor";
    /// The cursor belongs to another journal, is older than the retention, or lies beyond the head.
    pub const CURSOR_GONE: &str = "cursor_gone";
    /// The body is not what the route takes.
    pub const INVALID_BODY: &str = "invalid_body";
    /// The body is larger than the limit.
    pub const BODY_TOO_LARGE: &str = "body_too_large";
    /// The body did not arrive in time.
    pub const BODY_TIMEOUT: &str = "body_timeout";
    /// The request needs a token.
    pub const TOKEN_REQUIRED: &str = "token_required";
    /// The daemon does not know the token.
    pub const TOKEN_INVALID: &str = "token_invalid";
    /// The token's role does not allow this.
    pub const ROLE_TOO_LOW: &str = "role_too_low";
    /// The login link is used, over or made up.
    pub const LOGIN_LINK_INVALID: &str = "login_link_invalid";
    /// Too many requests with this token, or without one.
    pub const RATE_LIMITED: &str = "rate_limited";
    /// The operating system refuses random bytes.
    pub const NO_RANDOMNESS: &str = "no_randomness";
    /// The `Host` header names neither a loopback address nor a configured name.
    pub const HOST_REFUSED: &str = "host_refused";
    /// The request comes from a page of another origin.
    pub const ORIGIN_REFUSED: &str = "origin_refused";
    /// As many event streams are open as are allowed.
    pub const TOO_MANY_STREAMS: &str = "too_many_streams";
    /// WORKFLOW.md says nothing of webhooks of this service.
    pub const WEBHOOK_NOT_CONFIGURED: &str = "webhook_not_configured";
    /// A webhook is not signed, or not by who it says to be of.
    pub const WEBHOOK_SIGNATURE: &str = "webhook_signature";
    /// A webhook is signed, and too old or from the future.
    pub const WEBHOOK_STALE: &str = "webhook_stale";
    /// As many webhooks are being verified as are at once.
    pub const WEBHOOK_BUSY: &str = "webhook_busy";
    /// The change of a run is being looked at, or others are before it.
    pub const DIFF_BUSY: &str = "diff_busy";
    /// There is no workspace to look at.
    pub const WORKSPACE_MISSING: &str = "workspace_missing";
    /// A later run works in the workspace.
    pub const WORKSPACE_MOVED_ON: &str = "workspace_moved_on";
    /// The store cannot be read now.
    pub const STORE_UNREADABLE: &str = "store_unreadable";
    /// The engine did not answer in time, or is shutting down.
    pub const ENGINE_UNAVAILABLE: &str = "engine_unavailable";
    /// A bug of ours.
    pub const INTERNAL: &str = "internal";
    /// No daemon runs on the state directory.
    pub const DAEMON_NOT_RUNNING: &str = "daemon_not_running";
    /// A daemon should be there, and does not answer.
    pub const DAEMON_UNREACHABLE: &str = "daemon_unreachable";
    /// `daemon.json` or `token` cannot be read.
    pub const DAEMON_FILE_INVALID: &str = "daemon_file_invalid";
    /// The answer is not what this version understands.
    pub const INVALID_ANSWER: &str = "invalid_answer";
}

/// The body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable, `snake_case`; one of [`code`].
    pub code: String,
    /// What happened and why.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
    /// With `cursor_gone`: the cursor from which everything that is kept can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
}

impl ErrorDetail {
    /// An error without a hint.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: None, oldest: None }
    }
}
