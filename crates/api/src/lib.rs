//! What goes over the wire between the daemon and its clients: types, error codes, cursors, exit
//! codes, and a blocking client.
//!
//! Stands alone: it knows nothing of the engine, so that a client needs nothing of the engine.
//!
//! # Invariants
//! - A time is an RFC 3339 string in UTC with milliseconds.
//! - Readers ignore fields that they do not know; writers never take a field away within `v1`.
//! - The operator token is shown to the process that holds the state directory, and to nobody else.
//! - A cursor is opaque to clients: it names its journal, so that it cannot be misread in another.

mod action;
mod client;
mod cursor;
mod daemon;
mod diff;
mod error;
pub mod exit;
mod files;
pub mod foreign;
mod http;
mod readiness;
mod saga;
mod sse;
mod types;

pub use action::{Action, ActionState, Completion, Receipt, Target, refusal_status};
pub use client::{Client, ClientError, EventQuery, Method, Reply, Request, Transport};
pub use cursor::{Cursor, CursorError};
pub use daemon::{DAEMON_FILE, Daemon, LOCK_FILE, STATE_DIR, TOKEN_FILE};
pub use diff::{FileDiff, RunDiff};
pub use error::{ErrorBody, ErrorDetail, code};
pub use files::{Check, FileList, KeptFile};
pub use http::HttpTransport;
pub use readiness::{DiskUse, PlanStep, Readiness, SchemaRange, Surface, WorkspaceUse};
pub use saga::{Approval, Saga, SagaStep};
pub use sse::{EventStream, Frame, FrameReader};
pub use types::{
    ActionCapability, Attempts, BudgetLine, BudgetReport, Capabilities, Counts, Effect, EffectError, EffectPage, Event,
    EventPage, Explanation, Handoff, HandoffStep, Health, Issue, IssueDetail, IssueList, IssueRunning, LogFile,
    LoginLink, Logs, Problem, PullRequest, Question, RateLimits, RateWindow, Ready, RecentEvent, Refreshed, Retention,
    Retry, Rule, Run, RunList, RunningIssue, State, TokenInfo, TokenList, Tokens, Totals, TranscriptEntry,
    TranscriptPage, Usage, UsageReport, UsageSum, WaitingIssue, WebhookTaken, Workspace,
};
