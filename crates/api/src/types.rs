//! The bodies of requests and answers. Field names are the contract.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /healthz`: the process is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// Version of the daemon.
    pub version: String,
    /// Its process id: tells it from another process that took over its port.
    pub pid: u32,
}

/// `GET /readyz`: 200 when the daemon has recovered and takes work, else 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// `ready`, `degraded`, `blocked` (what hangs on some surfaces stands still), `recovering` or `ending`.
    pub status: String,
}

/// `GET /api/v1/capabilities`: what this daemon can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Capabilities {
    /// Version of the daemon.
    pub version: String,
    /// Version of this API.
    pub api: u32,
    /// Words of `agent.kind`.
    pub agents: Vec<String>,
    /// Words of `tracker.kind`.
    pub trackers: Vec<String>,
    /// Words of `handoff.forge`.
    pub forges: Vec<String>,
    /// Services whose webhooks it understands: words of `tracker.webhooks`, and of `POST /api/v1/webhooks/{tracker}`.
    #[serde(default)]
    pub webhooks: Vec<String>,
    /// Words of an issue's `status`.
    pub statuses: Vec<String>,
    /// Actions.
    pub actions: Vec<ActionCapability>,
    /// How much it keeps.
    #[serde(default)]
    pub retention: Retention,
}

/// How much a daemon keeps. By count alone: no age makes anything go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Retention {
    /// The newest so many events; older ones go in portions, and only when nothing needs them for a recovery.
    pub events: u64,
    /// Days that events are kept, counted back from the newest; older ones go in the same way.
    #[serde(default)]
    pub event_days: u32,
    /// Cursor before the oldest event that is there now. One from before it is answered with `cursor_gone`.
    pub oldest: String,
    /// The newest so many ended runs, with their transcripts and what they used.
    pub ended_runs: u64,
    /// Receipts of the newest so many accepted actions, and of as many rejected ones.
    pub receipts: u64,
    /// A key is known as long as its accepted action: until so many were accepted after it.
    pub idempotency_keys: u64,
}

/// A kind of action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActionCapability {
    /// The word for `action_kind`.
    pub kind: String,
    /// Words of `target.kind` that it takes.
    pub targets: Vec<String>,
}

/// `POST /api/v1/login-links`: lets a browser in, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginLink {
    /// Path and query, on the daemon's address.
    pub path: String,
    /// Seconds until it is over.
    pub expires_in_s: u64,
}

/// `GET /api/v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// In the order in which they were made.
    pub tokens: Vec<TokenInfo>,
}

/// What may be told of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    /// What its maker called it.
    pub name: String,
    /// `viewer`, `operator`, `admin`.
    pub role: String,
    /// When it was made.
    pub made_at: String,
}

/// Tokens and cost.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens read by the model.
    pub input_tokens: u64,
    /// Tokens written by the model.
    pub output_tokens: u64,
    /// What the agent calls the total.
    pub total_tokens: u64,
    /// Cost in US dollars; null when the price of some of it is not known, or its rows of the ledger are not kept any more.
    pub cost_usd: Option<f64>,
}

/// Tokens, in the shape of the Symphony specification (§13.7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// Tokens read by the model.
    pub input_tokens: u64,
    /// Tokens written by the model.
    pub output_tokens: u64,
    /// What the agent calls the total.
    pub total_tokens: u64,
}

/// Tokens and time of all runs (§13.7.2 `codex_totals`).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// Tokens read by the model.
    pub input_tokens: u64,
    /// Tokens written by the model.
    pub output_tokens: u64,
    /// What the agents call the total.
    pub total_tokens: u64,
    /// Seconds of all runs, live ones up to now.
    pub seconds_running: f64,
}

/// A directory that one issue owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Workspace {
    /// Absolute path.
    pub path: String,
    /// Branch that is handed over.
    pub branch: Option<String>,
}

/// One issue in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Issue {
    /// What people call it.
    pub identifier: String,
    /// The tracker's stable identity.
    pub id: String,
    /// One line.
    pub title: String,
    /// Where it is in its life: `queued`, `running`, `parked`, …
    pub status: String,
    /// The tracker's own name of the state.
    pub tracker_state: String,
    /// Why it has that status.
    pub reason: Option<String>,
    /// Null on the first run, then the count of retries.
    pub attempt: Option<u32>,
    /// Its directory.
    pub workspace: Option<Workspace>,
    /// Tokens of all its runs.
    pub usage: Usage,
    /// Its live run.
    pub current_run: Option<String>,
    /// Where a person can look at it.
    pub url: Option<String>,
    /// Lowercase labels.
    pub labels: Vec<String>,
    /// `1` (most urgent) to `4`.
    pub priority: Option<i64>,
    /// When a waiting issue goes on.
    pub due_at: Option<String>,
    /// The commit that was handed over last.
    pub handed_off_commit: Option<String>,
    /// The pull request that its work goes into.
    #[serde(default)]
    pub pull_request: Option<PullRequest>,
    /// What its agent asks and nobody has answered yet; withheld from callers without a token.
    #[serde(default)]
    pub question: Option<Question>,
    /// The kinds of actions that would be accepted on it now, given a fitting payload.
    #[serde(default)]
    pub allowed_actions: Vec<String>,
}

/// What an agent asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Question {
    /// Its words.
    pub text: String,
    /// `input`: an answer (`answer`). `permission`: `approve` or `deny`.
    pub wants: String,
    /// When it was asked.
    pub asked_at: String,
    /// When it expires, and the issue parks.
    pub expires_at: String,
}

/// A pull request (merge request) on the forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullRequest {
    /// What people call it.
    pub number: u64,
    /// Where people find it.
    pub url: String,
}

/// `GET /api/v1/issues`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IssueList {
    /// By identifier.
    pub issues: Vec<Issue>,
    /// How many match, those beyond `limit` among them.
    pub total: u64,
}

/// `GET /api/v1/{identifier}` and `GET /api/v1/issues/{id}`: the issue, and the Symphony shape (§13.7.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IssueDetail {
    /// The fields of the list.
    #[serde(flatten)]
    pub issue: Issue,
    /// The body; withheld from callers without a token.
    pub description: Option<String>,
    /// Identifiers (or ids) of the issues that block it.
    pub blocked_by: Vec<String>,
    /// Identifier of its parent.
    pub parent: Option<String>,
    /// When it was first seen.
    pub seen_at: String,
    /// When anything of it changed here.
    pub changed_at: String,
    /// Its latest run, live or ended.
    pub last_run: Option<Run>,
    /// The same as `identifier`.
    pub issue_identifier: String,
    /// The same as `id`.
    pub issue_id: String,
    /// Counts of runs.
    pub attempts: Attempts,
    /// The live run.
    pub running: Option<IssueRunning>,
    /// The wait before the next run.
    pub retry: Option<Retry>,
    /// Where to read what the agent did.
    pub logs: Logs,
    /// The newest events, oldest first; at most 20.
    pub recent_events: Vec<RecentEvent>,
    /// Why the issue waits, failed or is parked.
    pub last_error: Option<String>,
    /// Free for extensions, as in the Symphony specification (§13.7.2); this version has none, and it is always empty.
    pub tracked: BTreeMap<String, serde_json::Value>,
}

/// Counts of runs (§13.7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Attempts {
    /// Retries before the current one.
    pub restart_count: u32,
    /// The current retry; 0 on the first run.
    pub current_retry_attempt: u32,
}

/// The live run of an issue (§13.7.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssueRunning {
    /// Name of the run.
    pub run: String,
    /// Where the run is: `preparing`, `prompting`, …
    pub phase: String,
    /// The agent's session.
    pub session_id: Option<String>,
    /// Turns so far.
    pub turn_count: u32,
    /// The tracker's state.
    pub state: String,
    /// When the run began.
    pub started_at: String,
    /// What the agent did last.
    pub last_event: Option<String>,
    /// Its last words; empty for callers without a token.
    pub last_message: String,
    /// When.
    pub last_event_at: Option<String>,
    /// Tokens of the run.
    pub tokens: Tokens,
}

/// A wait before the next run (§13.7.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Retry {
    /// Which retry it will be.
    pub attempt: u32,
    /// When.
    pub due_at: Option<String>,
    /// Why.
    pub error: Option<String>,
}

/// Where to read what the agent did (§13.7.2).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Logs {
    /// One entry per run that has a transcript, newest first.
    pub codex_session_logs: Vec<LogFile>,
}

/// A transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogFile {
    /// Name of the run.
    pub label: String,
    /// Null: transcripts are read over the API.
    pub path: Option<String>,
    /// Path of the API, relative to its base.
    pub url: Option<String>,
}

/// An event in short (§13.7.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecentEvent {
    /// When.
    pub at: String,
    /// Its kind.
    pub event: String,
    /// In words, if there are any.
    pub message: Option<String>,
}

/// Something that is wrong with the project or its surroundings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable code.
    pub code: String,
    /// What happened and why; withheld from callers without a token.
    pub message: Option<String>,
    /// What to do; withheld likewise.
    pub hint: Option<String>,
}

/// What an agent's provider last said of its quotas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RateLimits {
    /// When it came.
    pub at: String,
    /// The quotas.
    pub windows: Vec<RateWindow>,
}

/// How much of a quota is used in its window of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RateWindow {
    /// Which quota, as the agent names it.
    pub name: String,
    /// From 0 to 100.
    pub used_percent: f64,
    /// Length of the window.
    pub window_minutes: Option<u64>,
    /// When it begins anew.
    pub resets_at: Option<String>,
}

/// `GET /api/v1/state`: the Symphony shape (§13.7.2) and ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct State {
    /// When this was put together.
    pub generated_at: String,
    /// The daemon has recovered and takes work.
    pub ready: bool,
    /// How many of which; lists below hold at most 500 each.
    pub counts: Counts,
    /// Issues that a run works on.
    pub running: Vec<RunningIssue>,
    /// Issues that wait for a retry or a quota.
    pub retrying: Vec<WaitingIssue>,
    /// Issues that wait for an operator.
    pub parked: Vec<WaitingIssue>,
    /// Issues that an operator holds.
    pub paused: Vec<WaitingIssue>,
    /// Issues that wait for a slot.
    pub queued: Vec<WaitingIssue>,
    /// Issues that wait for an answer or an approval.
    pub waiting: Vec<WaitingIssue>,
    /// The same as `totals`, under its Symphony name.
    pub codex_totals: Totals,
    /// Tokens and time of all runs.
    pub totals: Totals,
    /// The newest rate-limit report of an agent; null when there is none.
    pub rate_limits: Option<RateLimits>,
    /// WORKFLOW.md is broken; the last good one is in force.
    pub workflow_error: Option<Problem>,
    /// The tracker cannot be read.
    pub tracker_error: Option<Problem>,
    /// Hash of the policy in force.
    pub policy: Option<String>,
    /// Fencing number of the daemon that wrote last.
    pub epoch: u64,
    /// Cursor at the end of the journal, taken before anything above was read.
    pub head: String,
}

/// How many issues are where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Length of `running`.
    pub running: u64,
    /// Issues that wait for a retry or a quota.
    pub retrying: u64,
    /// Issues that wait for an operator.
    pub parked: u64,
    /// Issues that an operator holds.
    pub paused: u64,
    /// Issues that wait for a slot.
    pub queued: u64,
    /// Issues that wait for an answer or an approval.
    pub waiting: u64,
    /// All visible issues.
    pub total: u64,
    /// All visible issues by status.
    pub by_status: BTreeMap<String, u64>,
}

/// An issue that a run works on (§13.7.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunningIssue {
    /// The tracker's stable identity.
    pub issue_id: String,
    /// What people call it.
    pub issue_identifier: String,
    /// Where a person can look at it.
    pub issue_url: Option<String>,
    /// One line.
    pub title: String,
    /// `running` or `handing_off`.
    pub status: String,
    /// Retry count of the run.
    pub attempt: Option<u32>,
    /// Run, session, turns, tokens.
    #[serde(flatten)]
    pub run: IssueRunning,
}

/// An issue that waits for something (§13.7.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingIssue {
    /// The tracker's stable identity.
    pub issue_id: String,
    /// What people call it.
    pub issue_identifier: String,
    /// Where a person can look at it.
    pub issue_url: Option<String>,
    /// One line.
    pub title: String,
    /// Its exact status.
    pub status: String,
    /// The tracker's state.
    pub state: String,
    /// Which retry it will be; 0 for none.
    pub attempt: u32,
    /// When it goes on.
    pub due_at: Option<String>,
    /// Why it waits.
    pub error: Option<String>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Its name.
    pub id: String,
    /// Identifier of its issue.
    pub issue: String,
    /// Id of its issue.
    pub issue_id: String,
    /// Null on the first run of the issue, then the count of retries.
    pub attempt: Option<u32>,
    /// Where it is: `preparing`, `prompting`, …, `ended`.
    pub phase: String,
    /// How it ended: `completed`, `failed`, `canceled`, `interrupted`.
    pub outcome: Option<String>,
    /// Why it ended, or is going to.
    pub reason: Option<String>,
    /// What shows that the work is right.
    pub evidence: Option<String>,
    /// The agent's session.
    pub session_id: Option<String>,
    /// Turns so far, cut ones among them.
    pub turns: u32,
    /// Turns that were cut, or whose prompt was sent again: by a restart, or by the end of the agent.
    pub cut_turns: u32,
    /// The handoff, once it has begun.
    pub handoff: Option<Handoff>,
    /// Tokens.
    pub usage: Usage,
    /// Hash of the policy that it keeps.
    pub policy: String,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
}

/// The handoff of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Handoff {
    /// What is handed over.
    pub commit: String,
    /// Its saga, for `GET /api/v1/sagas/{id}`; none where an older version handed over.
    pub saga: Option<String>,
    /// Why it is being undone, or was.
    pub turned_back: Option<String>,
    /// The pull request that it opened, or found open.
    #[serde(default)]
    pub pull_request: Option<PullRequest>,
    /// Steps in their order.
    pub steps: Vec<HandoffStep>,
}

/// One step of a handoff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HandoffStep {
    /// `look`, `push`, `open`, `ready`, `comment`, `move`.
    pub step: String,
    /// `pending`, `awaiting_approval`, `intended`, `waiting`, `in_doubt`, `done`, `not_applied`, `undoing`, `undone`, `skipped`,
    /// `parked`.
    pub state: String,
    /// Failures so far, while it waits.
    pub failures: u32,
    /// When it is tried again, when the doubt is looked into, or when the approval expires.
    pub due_at: Option<String>,
    /// Why it was refused, or is parked.
    pub reason: Option<String>,
}

/// `GET /api/v1/runs` and `GET /api/v1/issues/{id}/runs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunList {
    /// Newest first.
    pub runs: Vec<Run>,
}

/// `GET /api/v1/issues/{id}/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Whose.
    pub identifier: String,
    /// Its status.
    pub status: String,
    /// Every rule of dispatch, in the order in which they are asked.
    pub rules: Vec<Rule>,
}

/// One rule of dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rule {
    /// Stable name.
    pub rule: String,
    /// Whether it lets the issue through.
    pub pass: bool,
    /// What was found.
    pub detail: String,
    /// What would change it.
    pub remedy: Option<String>,
}

/// One event of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(bound = "")]
pub struct Event<Data = serde_json::Value> {
    /// The position after it.
    pub cursor: String,
    /// Its number, without gaps.
    pub seq: u64,
    /// When it was decided.
    pub at: String,
    /// What kind of fact.
    pub kind: String,
    /// Identifier of the issue that it concerns.
    pub issue: Option<String>,
    /// Run that it concerns.
    pub run: Option<String>,
    /// Action that it belongs to.
    pub action_id: Option<String>,
    /// Correlation of that action, where the event has it; withheld from callers without a token.
    pub correlation_id: Option<String>,
    /// The event that led to it; the journal of this version does not record it, and it is always null.
    pub caused_by: Option<u64>,
    /// The fact.
    #[schema(value_type = serde_json::Value)]
    pub data: Data,
    /// Texts were left out of `data`, because the caller gave no token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub content_withheld: bool,
}

/// `GET /api/v1/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(bound = "")]
pub struct EventPage<Data = serde_json::Value> {
    /// Oldest first.
    #[schema(value_type = Vec<Event>)]
    pub events: Vec<Event<Data>>,
    /// Where the next page begins; always there.
    pub next: String,
    /// The end of the journal.
    pub head: String,
}

/// `GET /api/v1/runs/{id}/transcript`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TranscriptPage {
    /// Name of the run.
    pub run: String,
    /// Oldest first.
    pub entries: Vec<TranscriptEntry>,
    /// Where the next page begins; always there.
    pub next: String,
    /// The run was over before this page was read: an empty page is the end.
    pub ended: bool,
}

/// One line of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TranscriptEntry {
    /// When it was received.
    pub at: String,
    /// Turn that it belongs to; 0 before the first.
    pub turn: u32,
    /// `prompt`, `message`, `thought`, `tool`, `stderr`, `malformed`, `note`.
    pub kind: String,
    /// Its text.
    pub text: String,
}

/// `GET /api/v1/runs/{id}/effects`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EffectPage {
    /// Name of the run.
    pub run: String,
    /// In the order of their intents.
    pub effects: Vec<Effect>,
    /// Where the next page begins; always there.
    pub next: String,
}

/// One interaction with the outside world: what was intended, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Effect {
    /// Identity within its run.
    pub key: String,
    /// `llm_call`, `external`, `exec_code`, `process`, `direct`, ….
    pub kind: String,
    /// What was to be done; null when it was too large to be kept.
    pub command: Option<serde_json::Value>,
    /// SHA-256 of what was to be done.
    pub hash: String,
    /// `open`: intended, and no outcome is recorded; `resting`: tried again when it is due; `parked`: an operator has to say what became of it; `ended`.
    pub progress: String,
    /// Attempts that began.
    pub attempts: u32,
    /// Times that nobody knew how an attempt ended.
    pub doubts: u32,
    /// Rises when it was shown that the effect had not been applied.
    pub generation: u32,
    /// When it was first intended.
    pub began_at: String,
    /// When the next attempt is due.
    pub due_at: Option<String>,
    /// `done` or `failed`, once it ended.
    pub result: Option<String>,
    /// What it came to.
    pub output: Option<serde_json::Value>,
    /// Why it failed, or waits for an operator.
    pub error: Option<EffectError>,
    /// Who settled it, if an operator did.
    pub settled_by: Option<String>,
}

/// Why an effect failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectError {
    /// Stable code.
    pub code: String,
    /// For people.
    pub message: String,
}

/// `POST /api/v1/refresh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refreshed {
    /// Always true.
    pub queued: bool,
    /// An earlier request is still waiting and serves this one too.
    pub coalesced: bool,
    /// When it came in.
    pub requested_at: String,
    /// What will be done.
    pub operations: Vec<String>,
}

/// `POST /api/v1/webhooks/{tracker}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookTaken {
    /// `accepted`, or `duplicate`: this delivery came before, and nothing more is done for it.
    pub status: String,
    /// What is looked at for it: `issue` alone, or the whole `tracker`; nothing for a duplicate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks_at: Option<String>,
    /// Identifier of the issue that is looked at alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
}

/// `GET /api/v1/usage`: the ledger's sums, newest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// By issue; `key` is the identifier.
    pub issues: Vec<UsageSum>,
    /// By run.
    pub runs: Vec<UsageSum>,
    /// By UTC day; `key` is the date.
    pub days: Vec<UsageSum>,
    /// By model; `key` is null where no model is known.
    pub models: Vec<UsageSum>,
}

/// A sum of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageSum {
    /// Of what.
    pub key: Option<String>,
    /// How much, and what it costs as far as prices are known.
    #[serde(flatten)]
    pub usage: Usage,
    /// Tokens read from the provider's cache; part of the tokens read.
    pub cached_input_tokens: u64,
    /// Some of it has no price.
    pub unpriced: bool,
    /// A turn in it was cut or failed: it may be more.
    pub incomplete: bool,
}

/// `GET /api/v1/budget`: use and limits.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct BudgetReport {
    /// Of all issues on this UTC day; absent before a policy was loaded.
    pub day: Option<BudgetLine>,
    /// Of the issues that were worked on, the most tokens first.
    pub issues: Vec<BudgetLine>,
}

/// Use and limits of an issue, or of the day; a limit that is null does not exist.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetLine {
    /// Identifier of the issue.
    pub issue: Option<String>,
    /// Tokens used.
    pub tokens: u64,
    /// Most tokens.
    pub tokens_limit: Option<u64>,
    /// US dollars spent, as far as prices are known.
    pub cost_usd: f64,
    /// Most US dollars.
    pub cost_usd_limit: Option<f64>,
    /// Some of it has no price.
    pub unpriced: bool,
    /// Turns that came to an end.
    pub turns: u32,
    /// Most turns.
    pub turns_limit: Option<u32>,
    /// Runs since the count last started over.
    pub runs: u32,
    /// Most runs.
    pub runs_limit: Option<u32>,
    /// Milliseconds that its runs took.
    pub wall_clock_ms: u64,
    /// Most milliseconds.
    pub wall_clock_ms_limit: Option<u64>,
}
