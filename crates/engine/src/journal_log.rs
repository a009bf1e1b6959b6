//! What the log says of the journal: one line for each event, with the context that finds it again (Symphony §13.1).
//!
//! INFO is what a person wants to see go by; each effect and each phase is DEBUG. The words of agents, programs and
//! issues are in the journal and the transcripts, and only a reason of them, cut short, comes here.

use dalsegno_core::{
    Batch, Event, Failure, IssueId, IssueStatus, Missing, ReadyState, Recorded, RunId, RunOutcome, SagaStep, SessionId,
    State, StepState, Stop, Timestamp, Told, TurnOutcome, View,
};
use tracing::Level;

/// Characters of a reason in a line.
const REASON_LIMIT: usize = 300;

/// A line that is ready to be logged when its event is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    level: Level,
    seq: u64,
    message: String,
    outcome: Option<&'static str>,
    reason: Option<String>,
    context: Context,
}

/// Whose event it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Context {
    issue_id: Option<String>,
    issue_identifier: Option<String>,
    run: Option<String>,
    session_id: Option<String>,
}

/// The lines of a batch. `state` is the machine's, with the batch folded in; what has ended is in the batch's views.
pub(crate) fn lines(batch: &Batch, state: &State) -> Vec<Line> {
    batch.events.iter().map(|recorded| log_event(recorded, &batch.views, state)).collect()
}

impl Line {
    /// Hands the line to whoever writes logs.
    pub(crate) fn log(&self) {
        let Self { level, seq, message, outcome, reason, context } = self;
        let Context { issue_id, issue_identifier, run, session_id } = context;
        macro_rules! at {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    outcome = outcome.map(tracing::field::display),
                    reason = reason.as_deref(),
                    issue_id = issue_id.as_ref().map(tracing::field::display),
                    issue_identifier = issue_identifier.as_ref().map(tracing::field::display),
                    run = run.as_ref().map(tracing::field::display),
                    session_id = session_id.as_ref().map(tracing::field::display),
                    seq,
                    "{message}"
                )
            };
        }
        match *level {
            Level::ERROR => at!(Level::ERROR),
            Level::WARN => at!(Level::WARN),
            Level::INFO => at!(Level::INFO),
            Level::DEBUG => at!(Level::DEBUG),
            Level::TRACE => at!(Level::TRACE),
        }
    }
}

/// The line of one event.
fn log_event(recorded: &Recorded, views: &[View], state: &State) -> Line {
    let Recorded { seq, at, event } = recorded;
    let context = Context::of(event, views, state);
    let Said { level, words, outcome, reason } = say(event, *at);
    let message = match &context.issue_identifier {
        Some(identifier) => format!("{identifier}: {words}"),
        None => words,
    };
    Line { level, seq: *seq, message, outcome, reason: reason.as_deref().map(cut), context }
}

impl Context {
    fn of(event: &Event, views: &[View], state: &State) -> Self {
        let run = event.run();
        let viewed = views.iter().find_map(|view| match view {
            View::Run(viewed) if Some(&viewed.id) == run => Some(viewed),
            View::Run(_) | View::Issue(_) | View::IssueGone(_) | View::Usage(_) | View::Daemon(_) => None,
        });
        let live = run.and_then(|run| state.runs.get(run));
        let of_run = viewed.map(|viewed| &viewed.issue).or(live.map(|live| &live.issue));
        let issue = event.issue().or(of_run);
        let session: Option<&SessionId> =
            viewed.and_then(|viewed| viewed.session.as_ref()).or(live.and_then(|live| live.session.as_ref()));
        Self {
            issue_id: issue.map(|issue| issue.0.clone()),
            issue_identifier: viewed
                .map(|viewed| viewed.identifier.clone())
                .or_else(|| issue.and_then(|issue| identifier(issue, event, state))),
            run: run.map(|RunId(run)| run.clone()),
            session_id: session.map(|SessionId(session)| session.clone()),
        }
    }
}

fn identifier(issue: &IssueId, event: &Event, state: &State) -> Option<String> {
    if let Event::IssueSeen { issue } | Event::IssueChanged { issue } = event {
        return Some(issue.identifier.clone());
    }
    let entry = state.issues.get(issue).or_else(|| state.gone.get(issue));
    entry.map(|entry| entry.issue.identifier.clone())
}

/// What a line says.
struct Said {
    level: Level,
    words: String,
    outcome: Option<&'static str>,
    reason: Option<String>,
}

impl Said {
    fn at(level: Level, words: impl Into<String>) -> Self {
        Self { level, words: words.into(), outcome: None, reason: None }
    }

    fn info(words: impl Into<String>) -> Self {
        Self::at(Level::INFO, words)
    }

    fn warn(words: impl Into<String>) -> Self {
        Self::at(Level::WARN, words)
    }

    fn debug(words: impl Into<String>) -> Self {
        Self::at(Level::DEBUG, words)
    }

    fn outcome(mut self, outcome: &'static str) -> Self {
        self.outcome = Some(outcome);
        self
    }

    fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    fn perhaps(mut self, reason: Option<&String>) -> Self {
        self.reason = reason.cloned();
        self
    }

    fn failure(self, failure: &Failure) -> Self {
        self.reason(failure.to_string())
    }
}

fn say(event: &Event, at: Timestamp) -> Said {
    match event {
        Event::DaemonStarted { epoch, version, pid } => {
            Said::info(format!("dalsegno {version} takes over the journal (epoch {epoch}, pid {pid})"))
                .outcome("started")
        }
        Event::DaemonStopped { reason } => Said::info("the daemon ends").outcome("stopped").reason(reason),
        Event::WorkflowLoaded { hash, policy: _ } => {
            Said::info(format!("WORKFLOW.md is in force (policy {})", short(hash.as_str()))).outcome("loaded")
        }
        Event::WorkflowRejected { failure } if failure.code == dalsegno_core::WORKFLOW_HELD => {
            Said::warn("WORKFLOW.md is held; the last good one stays in force, and nothing new starts")
                .outcome("held")
                .failure(failure)
        }
        // Whoever loads it says it at once and in full.
        Event::WorkflowRejected { failure } => {
            Said::debug("WORKFLOW.md is broken").outcome("rejected").failure(failure)
        }
        Event::TrackerHealth { failure: Some(failure) } => {
            Said::warn("the tracker cannot be read; the next poll tries again").outcome("failed").failure(failure)
        }
        Event::TrackerHealth { failure: None } => Said::info("the tracker can be read again").outcome("recovered"),
        Event::IssueSeen { issue } => Said::debug(format!("seen in state {:?}", issue.state)).outcome("seen"),
        Event::IssueChanged { issue } => Said::debug(format!("changed; state {:?}", issue.state)).outcome("changed"),
        Event::IssueGone { .. } => Said::info("not visible in the tracker any more").outcome("gone"),
        Event::IssueStatus { from, to, reason, due_at, issue: _ } => status(*from, *to, reason.as_ref(), *due_at, at),
        Event::IssueReopened { .. } => Said::info("somebody changed it; it may run again").outcome("reopened"),
        Event::WorkspaceReady { workspace, created: true, .. } => {
            Said::info(format!("the workspace is made at {}", workspace.path)).outcome("created")
        }
        Event::WorkspaceReady { created: false, .. } => Said::debug("the workspace is there").outcome("found"),
        Event::WorkspaceRemoved { .. } => Said::info("the workspace is removed").outcome("removed"),
        Event::WorkspaceKept { reason, .. } => {
            Said::warn("the workspace stays, because work would be lost with it").outcome("kept").reason(reason)
        }
        Event::HookEnded { hook, failure: Some(failure), .. } => {
            Said::warn(format!("hook {} failed", hook.as_str())).outcome("failed").failure(failure)
        }
        Event::HookEnded { hook, failure: None, .. } => {
            Said::debug(format!("hook {} ended", hook.as_str())).outcome("completed")
        }
        Event::EffectIntended { effect_id, attempt, effect, key, .. } => {
            Said::debug(format!("{effect_id} {} is intended (try {attempt}, key {key})", effect.kind()))
                .outcome("intended")
        }
        Event::EffectEnded { effect_id, outcome, probed, .. } => effect_ended(*effect_id, outcome, *probed),
        Event::EffectInDoubt { effect_id, reason, .. } => {
            Said::info(format!("nobody knows whether {effect_id} took place; it is settled"))
                .outcome("in_doubt")
                .reason(reason)
        }
        Event::RecoveryStep { step, .. } => Said::info(format!("recovery: {step}")).outcome("recovered"),
        Event::Parked { reason, detail, .. } => {
            let coded = detail.strip_prefix(reason.as_str()).is_some_and(|rest| rest.starts_with(':'));
            let reason = match detail.as_str() {
                "" => reason.clone(),
                detail if coded => detail.to_owned(),
                detail => format!("{reason}: {detail}"),
            };
            Said::warn("PARKED, and needs you").outcome("parked").reason(reason)
        }
        Event::AgentSuspended { agent, until, run: _ } => {
            let kind = agent.as_str();
            Said::warn(format!("no run of {kind} starts for {}: its quota is used up", span(until.since_ms(at))))
                .outcome("suspended")
        }
        Event::AgentResumed { agent } => {
            Said::info(format!("the quota of {} resets", agent.as_str())).outcome("resumed")
        }
        Event::ActionAccepted { action_id, action_kind, by, .. } => {
            Said::info(format!("action {action_kind} ({action_id}){}", asked_by(by.as_ref()))).outcome("accepted")
        }
        Event::ActionRejected { action_id, action_kind, reason, by, .. } => {
            Said::warn(format!("action {} ({action_id}){}", cut(action_kind), asked_by(by.as_ref())))
                .outcome("rejected")
                .reason(reason)
        }
        Event::ActionCompleted { action_id, .. } => Said::debug(format!("{action_id} is done")).outcome("completed"),
        Event::ActionFailed { action_id, failure, .. } => {
            Said::warn(format!("{action_id} could not be done")).outcome("failed").failure(failure)
        }
        Event::BudgetSet { issue, .. } => {
            let whose = if issue.is_some() { "its budget" } else { "the budget of this day" };
            Said::info(format!("an operator set {whose}")).outcome("set")
        }
        Event::Released { .. } => Said::info("an operator released it").outcome("released"),
        Event::WritesRefused { counts } => {
            let told: Vec<String> = counts.iter().map(|(code, count)| format!("{code}: {count}")).collect();
            let count = counts.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
            Said::warn(format!("{count} writes were refused in the last minute ({})", told.join(", ")))
                .outcome("refused")
        }
        Event::JournalRestored { .. } => {
            Said::warn("the journal was restored from a backup; what was done since is looked for").outcome("restored")
        }
        Event::RestoreProbed { found: Some(found), .. } => {
            Said::warn("work since the backup was found").outcome("found").reason(found)
        }
        Event::RestoreProbed { found: None, .. } => {
            Said::info("nothing was done for it since the backup").outcome("proved")
        }
        Event::QuestionExpired { .. } => Said::warn("nobody answered the agent in time").outcome("expired"),
        Event::QuestionAnswered { by, .. } => Said::info(format!("{} answered the agent", cut(by))).outcome("answered"),
        Event::MessageQueued { message, .. } => {
            Said::info(format!("the agent hears from {} with its next prompt", cut(&message.by))).outcome("queued")
        }
        Event::StartPlanned { .. } => Said::debug("how its next run begins is decided"),
        Event::Drained { on: true, .. } => Said::info("an operator wants no new work to be taken").outcome("drained"),
        Event::Drained { on: false, .. } => Said::info("new work is taken again").outcome("undrained"),
        Event::Readiness { told, remaining } => readiness(told, *remaining),
        Event::Recovered { surface, action, member, done, failure, .. } => {
            let what = format!("{} of {member}: {} ({done})", surface.as_str(), action.as_str());
            match failure {
                None => Said::info(what).outcome("recovered"),
                Some(failure) => Said::warn(what).outcome("failed").failure(failure),
            }
        }
        Event::NoticeQueued { receiver, notice } => {
            Said::debug(format!("{} hears of it ({})", receiver.kind(), notice.topic.as_str())).outcome("queued")
        }
        Event::NoticesDropped { receiver, count, failure, .. } => {
            Said::warn(format!("a {} could not be told, and {count} notices are given up", receiver.kind()))
                .outcome("dropped")
                .failure(failure)
        }
        Event::RunStarted { .. }
        | Event::Progress { .. }
        | Event::RunPhase { .. }
        | Event::RunEnding { .. }
        | Event::RunEnded { .. }
        | Event::SessionStarted { .. }
        | Event::SessionResumed { .. }
        | Event::SessionRehydrated { .. }
        | Event::TurnStarted { .. }
        | Event::TurnEnded { .. }
        | Event::Usage { .. }
        | Event::RateLimited { .. }
        | Event::QuestionAsked { .. }
        | Event::QuestionWithdrawn { .. }
        | Event::MessageHeard { .. }
        | Event::StopAsked { .. }
        | Event::CheckEnded { .. }
        | Event::HandoffMissing { .. }
        | Event::SagaStarted { .. }
        | Event::SagaStep { .. }
        | Event::PullRequestLinked { .. }
        | Event::SagaTurnedBack { .. }
        | Event::BranchDiverged { .. }
        | Event::SagaEnded { .. } => say_of_run(event, at),
    }
}

fn readiness(told: &Told, remaining: u64) -> Said {
    let names: Vec<&str> = told.surfaces.iter().map(|surface| surface.as_str()).collect();
    let words = match told.state {
        ReadyState::Ready => return Said::info("everything is in line").outcome("ready"),
        ReadyState::Recovering => Said::info(format!("recovering, {remaining} to do: {}", names.join(", "))),
        ReadyState::Degraded => Said::info(format!("works, and settles what is left of {}", names.join(", "))),
        ReadyState::Blocked => Said::warn(format!("somebody has to look at {}", names.join(", "))),
    };
    words.outcome(told.state.as_str())
}

fn say_of_run(event: &Event, at: Timestamp) -> Said {
    match event {
        Event::RunStarted { run, attempt, .. } => {
            let retry = attempt.map_or(String::new(), |attempt| format!(" (retry {attempt})"));
            Said::info(format!("{run} begins{retry}")).outcome("started")
        }
        Event::RunPhase { phase, .. } => Said::debug(format!("phase {}", phase.as_str())),
        Event::RunEnding { ending, .. } => {
            Said::debug(format!("the run is going to end as {}", ending.outcome.as_str())).reason(&ending.reason)
        }
        Event::RunEnded { run, outcome, reason, evidence } => {
            let level = if *outcome == RunOutcome::Failed { Level::WARN } else { Level::INFO };
            let words = match evidence {
                Some(evidence) => format!("{run} ended; {}", cut(evidence)),
                None => format!("{run} ended"),
            };
            Said::at(level, words).outcome(outcome.as_str()).perhaps(reason.as_ref())
        }
        Event::SessionStarted { .. } => Said::info("the agent has a session").outcome("started"),
        Event::SessionResumed { .. } => Said::info("the agent goes on in its old session").outcome("resumed"),
        Event::SessionRehydrated { .. } => {
            Said::warn("the old session is gone; a new one takes over with an account of it").outcome("rehydrated")
        }
        Event::TurnStarted { turn, repeated: true, .. } => {
            Said::info(format!("turn {turn}: its prompt had not arrived, and is sent again")).outcome("started")
        }
        Event::TurnStarted { turn, repeated: false, .. } => Said::info(format!("turn {turn}")).outcome("started"),
        Event::TurnEnded { turn, cut: true, .. } => {
            Said::info(format!("turn {turn} was cut by the restart; its prompt is not sent again")).outcome("cut")
        }
        Event::TurnEnded { turn, turn_outcome, .. } => turn_ended(*turn, turn_outcome),
        Event::Usage { turn, usage, .. } => {
            Said::debug(format!("turn {turn}: {} tokens in, {} out", usage.input_tokens, usage.output_tokens))
        }
        Event::Progress { progressed: true, .. } => Said::debug("something was done since the last look"),
        Event::Progress { progressed: false, turn, .. } => {
            Said::info(format!("turn {turn} brought no commit, no change and no new tool result")).outcome("idle")
        }
        Event::RateLimited { reset_at, .. } => {
            let until = reset_at.map_or(String::new(), |reset| format!(" for {}", span(reset.since_ms(at))));
            Said::warn(format!("the model's provider refuses{until}")).outcome("rate_limited")
        }
        Event::QuestionAsked { question, .. } => Said::warn("the agent asks").outcome("asked").reason(question),
        Event::QuestionWithdrawn { .. } => {
            Said::info("the agent does not wait for an answer any more").outcome("withdrawn")
        }
        Event::MessageHeard { message, .. } => {
            Said::info(format!("the agent hears from {}", cut(&message.by))).outcome("told")
        }
        Event::StopAsked { wish, .. } => match wish.stop {
            Stop::Pause => Said::info("an operator pauses it"),
            Stop::Cancel => Said::info("an operator cancels it"),
        }
        .outcome("stopping"),
        Event::CheckEnded { command, passed: true, commit, .. } => {
            Said::info(format!("check `{}` passes on {}", cut(command), short(commit.as_str()))).outcome("passed")
        }
        Event::CheckEnded { command, passed: false, commit, .. } => {
            Said::info(format!("check `{}` fails on {}", cut(command), short(commit.as_str()))).outcome("failed")
        }
        Event::HandoffMissing { missing, .. } => match missing {
            Missing::NoCommit => Said::info("nothing is committed yet; the agent gets another turn"),
            Missing::Uncommitted { files } => {
                Said::info(format!("{} files are not committed; the agent gets another turn", files.len()))
            }
            Missing::CheckFailed { .. } => Said::info("the agent gets another turn with the check's output"),
            Missing::Diverged { .. } => Said::info("the agent gets a turn to merge what others pushed"),
            Missing::Messages => Said::debug("an operator has something to say; the agent gets another turn"),
            Missing::StillActive => Said::debug("the issue is still active; the agent gets another turn"),
        }
        .outcome("continued"),
        Event::SagaStarted { commit, .. } => {
            Said::info(format!("commit {} is handed over", short(commit.as_str()))).outcome("started")
        }
        Event::SagaStep { step, state, .. } => saga_step(*step, state, at),
        Event::PullRequestLinked { pull_request, .. } => {
            Said::info(format!("its pull request is {}", pull_request.url)).outcome("linked")
        }
        Event::SagaTurnedBack { failure, .. } => {
            Said::warn("the handoff is undone").outcome("turned_back").failure(failure)
        }
        Event::BranchDiverged { remote, .. } => {
            let remote = short(remote.as_str());
            Said::warn(format!("somebody else pushed {remote} to the branch; the agent merges it")).outcome("diverged")
        }
        Event::SagaEnded { committed: true, .. } => Said::debug("the handoff is complete").outcome("completed"),
        Event::SagaEnded { committed: false, .. } => Said::warn("the handoff was given up").outcome("failed"),
        Event::DaemonStarted { .. }
        | Event::DaemonStopped { .. }
        | Event::WorkflowLoaded { .. }
        | Event::WorkflowRejected { .. }
        | Event::TrackerHealth { .. }
        | Event::IssueSeen { .. }
        | Event::IssueChanged { .. }
        | Event::IssueGone { .. }
        | Event::IssueStatus { .. }
        | Event::IssueReopened { .. }
        | Event::WorkspaceReady { .. }
        | Event::WorkspaceRemoved { .. }
        | Event::WorkspaceKept { .. }
        | Event::HookEnded { .. }
        | Event::EffectIntended { .. }
        | Event::EffectEnded { .. }
        | Event::EffectInDoubt { .. }
        | Event::RecoveryStep { .. }
        | Event::AgentSuspended { .. }
        | Event::AgentResumed { .. }
        | Event::ActionAccepted { .. }
        | Event::ActionRejected { .. }
        | Event::ActionCompleted { .. }
        | Event::ActionFailed { .. }
        | Event::BudgetSet { .. }
        | Event::Released { .. }
        | Event::WritesRefused { .. }
        | Event::JournalRestored { .. }
        | Event::RestoreProbed { .. }
        | Event::QuestionExpired { .. }
        | Event::QuestionAnswered { .. }
        | Event::MessageQueued { .. }
        | Event::StartPlanned { .. }
        | Event::Drained { .. }
        | Event::NoticeQueued { .. }
        | Event::NoticesDropped { .. }
        | Event::Readiness { .. }
        | Event::Recovered { .. }
        | Event::Parked { .. } => Said::debug(event.kind()),
    }
}

/// Who acted, behind what they did.
fn asked_by(by: Option<&String>) -> String {
    by.map_or_else(String::new, |by| format!(", asked for by {}", cut(by)))
}

/// Changes of status that no other event tells are for people.
fn status(
    from: IssueStatus,
    to: IssueStatus,
    reason: Option<&String>,
    due_at: Option<Timestamp>,
    at: Timestamp,
) -> Said {
    let due = due_at.map_or(String::new(), |due| format!(" in {}", span(due.since_ms(at))));
    match to {
        IssueStatus::HandedOff => Said::info("HANDED OFF").outcome("handed_off"),
        IssueStatus::WaitingRetry => Said::info(format!("tries again{due}")).outcome("retrying").perhaps(reason),
        IssueStatus::WaitingQuota => {
            Said::info(format!("goes on{due}, when the quota resets")).outcome("waiting").perhaps(reason)
        }
        IssueStatus::WaitingQuestion | IssueStatus::WaitingApproval => {
            Said::warn(format!("is {}", to.as_str())).outcome("waiting").perhaps(reason)
        }
        IssueStatus::Failed => Said::warn("failed").outcome("failed").perhaps(reason),
        IssueStatus::Completed => Said::info("the tracker says that it is done").outcome("completed"),
        IssueStatus::Canceled => Said::info("canceled").outcome("canceled").perhaps(reason),
        IssueStatus::Paused => Said::info("paused").outcome("paused").perhaps(reason),
        IssueStatus::Idle
        | IssueStatus::Queued
        | IssueStatus::Running
        | IssueStatus::HandingOff
        | IssueStatus::Parked => Said::debug(format!("{} → {}", from.as_str(), to.as_str())).perhaps(reason),
    }
}

fn turn_ended(turn: u32, outcome: &TurnOutcome) -> Said {
    let ended = |level| Said::at(level, format!("turn {turn} ended")).outcome(outcome.as_str());
    match outcome {
        TurnOutcome::Completed | TurnOutcome::Interrupted => ended(Level::INFO),
        // The events that follow tell these to people.
        TurnOutcome::Failed { failure } => ended(Level::DEBUG).failure(failure),
        TurnOutcome::RateLimited { .. } => ended(Level::DEBUG),
        TurnOutcome::Asked { question, wants: _ } => ended(Level::DEBUG).reason(question),
    }
}

fn saga_step(step: SagaStep, state: &StepState, at: Timestamp) -> Said {
    let name = step.as_str();
    match state {
        StepState::Done => match step {
            SagaStep::Look => Said::debug("where the branch was on the remote is known"),
            SagaStep::Push => Said::info("the branch is pushed"),
            SagaStep::Open => Said::info("the pull request is there"),
            SagaStep::Ready => Said::info("the pull request is ready for review"),
            SagaStep::Comment => Said::info("the issue has its comment"),
            SagaStep::Move => Said::info("the issue is moved"),
        }
        .outcome("completed"),
        StepState::Waiting { failures, due_at } => {
            let due = span(due_at.since_ms(at));
            Said::warn(format!("{name} failed {failures} times; tries again in {due}")).outcome("retrying")
        }
        StepState::Parked { reason } => Said::warn(format!("{name} needs you")).outcome("parked").reason(reason),
        StepState::AwaitingApproval { .. } => {
            Said::warn(format!("{name} waits for an approval")).outcome("awaiting_approval")
        }
        StepState::InDoubt { due_at } => {
            let due = span(due_at.since_ms(at));
            Said::warn(format!("nobody knows whether {name} took place; looks in {due}")).outcome("in_doubt")
        }
        StepState::NotApplied { reason } => Said::warn(format!("{name} was refused")).outcome("failed").reason(reason),
        StepState::Pending => Said::debug(format!("{name} is to be done")).outcome("pending"),
        StepState::Intended => Said::debug(format!("{name} is intended")).outcome("intended"),
        StepState::Undoing => Said::info(format!("{name} is being undone")).outcome("undoing"),
        StepState::Undone => Said::info(format!("{name} is undone")).outcome("undone"),
        StepState::Skipped => Said::info(format!("{name} is left as it is")).outcome("skipped"),
    }
}

fn effect_ended(id: dalsegno_core::EffectId, outcome: &dalsegno_core::Outcome, probed: bool) -> Said {
    use dalsegno_core::Outcome;
    let how = if probed { " (the world says so)" } else { "" };
    let ended = Said::debug(format!("{id} ended{how}"));
    match outcome {
        Outcome::Done { .. } => ended.outcome("done"),
        Outcome::Failed { failure } => ended.outcome("failed").failure(failure),
        Outcome::InDoubt { reason } => ended.outcome("in_doubt").reason(reason),
    }
}

/// One line, not long, without control characters.
fn cut(text: &str) -> String {
    let mut words: String =
        text.chars().take(REASON_LIMIT).map(|character| if character.is_control() { ' ' } else { character }).collect();
    if text.chars().nth(REASON_LIMIT).is_some() {
        words.push('…');
    }
    words
}

/// The beginning of a hash.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// A span of time, as people read it.
fn span(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        10_000..600_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests;
