//! The orchestrator's nouns and its state machine.
//!
//! Pure: no I/O, no clock, no environment, no randomness, no `async`. What happened comes in as
//! [`Input`], what is to be done comes out as [`Output`], and time is an argument.
//!
//! # Invariants
//! - [`State::apply`] is the only writer of state; the fold of any prefix of the journal equals the
//!   live state at that point.
//! - [`Output::Perform`] leaves the machine only after [`Input::Committed`] for the batch that holds
//!   its intent.
//! - [`Machine::handle`] is total: it never fails and never blocks.

mod action;
mod blob;
mod breaker;
mod budget;
mod deadlines;
mod effect;
mod event;
mod explain;
mod fold;
mod guard;
mod handoff;
mod ids;
mod index;
mod inspection;
mod issue;
mod ledger;
mod machine;
mod notify;
mod operate;
mod outside;
mod policy;
mod question;
mod quota;
mod recovery;
mod restored;
mod rules;
mod run;
mod run_end;
mod run_life;
mod schedule;
mod settle;
mod silence;
mod state;
mod surface;
mod time;
mod turn;
mod usage;
mod view;
mod webhook;

pub use action::{ACTIONS_KEPT, ActionAnswer, ActionRecord, ActionRequest, Receipt};
pub use blob::{Broken, FileReceipt, FoundFile};
pub use breaker::{Breaker, FailedRun, Seen, signature};
pub use budget::{BudgetLimit, BudgetLine, BudgetOverride, DayUse, nanousd};
pub use effect::{
    Answer, Effect, EffectOutput, EffectRequest, Failure, InDoubtPolicy, KnownBranch, Missing, Outcome, ProbeAnswer,
    PromptSpec, Query, SagaEnd, SeenIssues, SessionStart, TurnOutcome, Work,
};
pub use event::{EVENT_FORMAT, Event, Recorded};
pub use explain::{Explanation, Rule};
pub use fold::{apply_with_views, views};
pub use guard::HELD as WORKFLOW_HELD;
pub use ids::{CommitId, EffectId, IssueId, PolicyHash, RunId, SessionId};
pub use inspection::{
    DiskUse, FoundProcess, FoundTranscript, FoundWorkspace, Inspection, LookFor, MIN_FREE_BYTES, Mend, Soundness,
    Standing as WorkspaceStanding, USES_TOLD, WorkspaceUse,
};
pub use issue::{
    BlockerRef, Fingerprint, Issue, IssueEntry, IssueStatus, Parking, Workspace, normalized_state, state_in,
};
pub use ledger::{ByModel, Cost, TurnLedger, UsageRow, day_of, next_day};
pub use machine::{Batch, Committed, CorruptJournal, Input, Machine, Output, QueryId, SNAPSHOT_EVERY, Signal};
pub use notify::{Notice, NotifyPolicy, Outbox, Queue, Receiver, Topic};
pub use operate::{ActionRef, Order, Stop, StopWish, WRITES, WRITES_AT_ONCE};
pub use outside::{NO_ROOM, inspect_outside, mends};
pub use policy::{
    AgentKind, AgentPolicy, AutoApprove, BreakerPolicy, BudgetPolicy, CodexPolicy, CommitMode, ForgePolicy,
    HandoffPolicy, Hook, HooksPolicy, Limits, Policy, Price, QuestionPolicy, QuotaPolicy, Sandbox, SandboxNetwork,
    TrackerPolicy, WebhookPolicy, WorkspacePolicy, WorkspaceStrategy,
};
pub use question::{Held, Message, Question, Reply, Start, Wants};
pub use restored::{Restored, Unproved};
pub use rules::{ActionKind, Standing};
pub use run::{Ending, Handoff, Phase, PullRequest, Run, RunOutcome, SagaProgress, SagaStep, StepState, Then};
pub use settle::{SagaWord, SettleVerb};
pub use state::{IllegalEvent, OpenEffect, SNAPSHOT_FORMAT, Snapshot, State};
pub use surface::{
    Condition, Criticality, DATABASE_SCHEMA, Descriptor, Finding, MANIFEST_VALID, REBUILDING, RECOVERY_REQUIRED,
    Readiness, ReadyState, Remedy, STEPS, Scope, Step, Surface, Told, Verdict, inspect, plan, readiness, readiness_of,
    violations,
};
pub use time::{Timestamp, span_ms};
pub use usage::{Report, Usage};
pub use view::{DaemonView, IssueView, RunView, UsageView, View};
