//! What the saga of a handoff is to do, and what of its state the machine is told.

use std::time::Duration;

use dalsegno_core::{
    CommitId, EffectOutput, Failure, HandoffPolicy, ProbeAnswer, PullRequest, SagaProgress, SagaStep, StepState,
    Timestamp, state_in,
};
use dalsegno_durable::saga::plan::{Tries, output};
use dalsegno_durable::saga::{self, Dedup, InvalidPlan, Role, SagaPlan, SagaState, Step};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Name of the plans of handoffs.
pub(super) const NAME: &str = "handoff";
/// Version of the plans that are made now. A step's meaning changes with a new one alone.
pub(super) const VERSION: u32 = 1;
/// Calls of a step that may not be applied, before it fails or parks: some three minutes.
const TRIES: Tries = Tries { attempts: 8, base_ms: 2_000, cap_ms: 60_000 };
/// Longest push.
const PUSH_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Longest write to the tracker.
const TRACKER_LIMIT: Duration = Duration::from_secs(2 * 60);

/// Calls of a forge that may not be applied: rate limits of an hour pass meanwhile.
const FORGE_TRIES: Tries = Tries { attempts: 12, base_ms: 2_000, cap_ms: 900_000 };
/// Longest call of a step that asks the forge more than once.
const FORGE_LIMIT: Duration = Duration::from_secs(4 * 60);

/// Where the remote's branch was before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Tip {
    pub(super) tip: Option<CommitId>,
}

/// What is pushed, and from where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Push {
    pub(super) commit: CommitId,
    pub(super) expected: Option<CommitId>,
    /// Where the branch was when that was looked up; `None`: nobody looked, since the push is not undone.
    #[serde(default)]
    pub(super) seen: Option<Tip>,
}

/// What a pull request is opened for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) commit: CommitId,
    pub(super) checks: Vec<String>,
    /// The pull request of an earlier handoff.
    pub(super) known: Option<u64>,
}

/// The pull request that was opened, or found open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Opened {
    #[serde(flatten)]
    pub(super) pull_request: PullRequest,
    /// This saga opened it.
    pub(super) opened: bool,
}

/// The pull request that is marked as ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) number: u64,
}

/// What is commented.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Comment {
    pub(super) commit: CommitId,
    pub(super) checks: Vec<String>,
    /// Where the pull request is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pull_request: Option<String>,
}

/// Where the issue is moved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Move {
    pub(super) to: String,
    pub(super) from: Option<String>,
}

/// What the saga of a handoff is to do.
///
/// With a forge: look, push, open a draft, mark it as ready. Each of the first is undone if it does not come to the last, which is the pivot.
/// Without one, the push is the pivot. Comment and move hang on the pivot, and not on each other.
///
/// # Errors
/// [`InvalidPlan`] when what is to be handed over does not fit into a plan.
pub fn handoff_plan(
    policy: &HandoffPolicy,
    commit: &CommitId,
    expected: Option<&CommitId>,
    from: Option<&str>,
    pull_request: Option<u64>,
) -> Result<SagaPlan, InvalidPlan> {
    let [look, push, open, ready] =
        [SagaStep::Look, SagaStep::Push, SagaStep::Open, SagaStep::Ready].map(SagaStep::as_str);
    let pushing = |step: Step| step.dedup(Dedup::Natural).probe().tries(TRIES).limit(PUSH_LIMIT);
    let with_forge = |step: Step| step.probe().tries(FORGE_TRIES).undo_tries(FORGE_TRIES).limit(FORGE_LIMIT);
    let mut steps = match &policy.forge {
        None => vec![pushing(Step::pivot(push)).args(json!({"commit": commit, "expected": expected}))],
        Some(_) => vec![
            Step::read(look).tries(TRIES).limit(PUSH_LIMIT),
            pushing(Step::compensatable(push))
                .after(look)
                .args(json!({"commit": commit, "expected": expected, "seen": output(look, "")}))
                .undo(json!({"commit": commit, "expected": expected, "seen": output(look, "")}))
                .undo_tries(TRIES),
            with_forge(Step::compensatable(open))
                .after(push)
                .args(json!(Open { commit: commit.clone(), checks: policy.checks.clone(), known: pull_request }))
                .undo(output(open, "")),
            with_forge(Step::pivot(ready))
                .after(open)
                .dedup(Dedup::Natural)
                .args(json!({"number": output(open, "/number")})),
        ],
    };
    if let Some(expires) = policy.approval_ms
        && let Some(pivot) = steps.pop()
    {
        steps.push(pivot.approval(Duration::from_millis(expires)));
    }
    let pivot = policy.forge.as_ref().map_or(push, |_| ready);
    let tracked = |step: SagaStep, dedup, args| {
        let step = Step::retriable(step.as_str()).after(pivot).dedup(dedup).probe();
        step.tries(TRIES).limit(TRACKER_LIMIT).args(args)
    };
    if policy.comment.is_some() {
        let mut args = json!(Comment { commit: commit.clone(), checks: policy.checks.clone(), pull_request: None });
        if policy.forge.is_some() {
            args["pull_request"] = output(open, "/url");
        }
        steps.push(tracked(SagaStep::Comment, Dedup::None, args));
    }
    if let Some(to) = &policy.state {
        let args = Move { to: to.clone(), from: from.map(str::to_owned) };
        steps.push(tracked(SagaStep::Move, Dedup::Natural, json!(args)));
    }
    SagaPlan::graph(NAME, VERSION, steps)
}

/// What the machine is told of a saga whose log has so many entries.
#[must_use]
pub fn handoff_progress(state: &SagaState, entry: u64) -> SagaProgress {
    let steps = state.steps().filter_map(|(step, record)| {
        let named = SagaStep::ALL.into_iter().find(|known| known.as_str() == step.name)?;
        let why = || record.failure.as_ref().map_or_else(String::new, ToString::to_string);
        let at = |at: &dalsegno_durable::Timestamp| Timestamp(at.0);
        Some((
            named,
            match &record.state {
                saga::StepState::Pending => StepState::Pending,
                saga::StepState::AwaitingApproval { fingerprint, expires_at } => {
                    StepState::AwaitingApproval { fingerprint: fingerprint.clone(), expires_at: at(expires_at) }
                }
                saga::StepState::Open(Role::Do) => StepState::Intended,
                saga::StepState::Resting(Role::Do, due) => {
                    StepState::Waiting { failures: record.failures, due_at: at(due) }
                }
                saga::StepState::InDoubt(Role::Do, due) => StepState::InDoubt { due_at: at(due) },
                saga::StepState::Open(Role::Undo)
                | saga::StepState::Resting(Role::Undo, _)
                | saga::StepState::InDoubt(Role::Undo, _) => StepState::Undoing,
                saga::StepState::Done => StepState::Done,
                saga::StepState::NotApplied => StepState::NotApplied { reason: why() },
                saga::StepState::Undone => StepState::Undone,
                saga::StepState::Skipped => StepState::Skipped,
                saga::StepState::Parked(_) => StepState::Parked { reason: why() },
            },
        ))
    });
    let moved = state.step(SagaStep::Move.as_str()).and_then(|(_, record)| {
        let output = record.output.as_ref()?;
        output.get("state").and_then(Value::as_str).map(str::to_owned)
    });
    let opened = state.step(SagaStep::Open.as_str()).and_then(|(_, record)| record.output.as_ref());
    let opened = opened.and_then(|opened| Opened::deserialize(opened).ok());
    let turned_back = state.turned_back().map(|failure| Failure::permanent(&failure.code, failure.message.as_str()));
    let pull_request = opened.map(|opened| opened.pull_request);
    SagaProgress { entry, steps: steps.collect(), turned_back, moved, pull_request }
}

/// A move in doubt whose issue is somewhere else now took place, or never will: somebody went on with it. Ours is the state that we
/// moved it to, and what the tracker says beyond that is somebody else's change, which the next poll takes in.
#[must_use]
pub fn left_by_us(found: ProbeAnswer, to: &str, terminal: &[String]) -> ProbeAnswer {
    match found {
        ProbeAnswer::Applied(EffectOutput::Moved { state }) if !state_in(&state, terminal) => {
            ProbeAnswer::Applied(EffectOutput::Moved { state: to.to_owned() })
        }
        found @ (ProbeAnswer::Applied(_) | ProbeAnswer::NotApplied | ProbeAnswer::Inconclusive(_)) => found,
    }
}
