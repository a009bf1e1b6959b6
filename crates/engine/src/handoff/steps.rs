//! Does the steps of a handoff, looks whether they took place, and undoes them.

use std::sync::Arc;

use async_trait::async_trait;
use dalsegno_core::{CommitId, Effect, EffectOutput, EffectRequest, Failure, ProbeAnswer, SagaStep};
use dalsegno_durable::key::marker;
use dalsegno_durable::saga::{self, Found, StepAnswer, StepCall, StepExecutor};
use serde_json::{Value, json};

use super::plan::{Comment, Move, Open, Opened, Push, Ready, Tip, left_by_us};
use crate::crash;
use crate::executor::Executor;
use crate::forge::{Draft, Forge, ForgeError, Pull, PullState};
use crate::ports::Context;

/// Generations of a step that a lost life may have been ahead of its backup, at most: each was shown not to have taken place,
/// which seldom happens once.
const LATER_GENERATIONS: u32 = 4;

/// Does the steps of one handoff.
pub(super) struct Steps {
    executor: Arc<Executor>,
    request: Arc<EffectRequest>,
}

#[async_trait]
impl StepExecutor for Steps {
    async fn act(&self, call: StepCall) -> StepAnswer {
        crash::point(&format!("handoff.{}.before", call.step));
        let answer = match self.done_before(&call).await {
            Some(answer) => answer,
            None => self.try_step(&call).await.unwrap_or_else(|failure| refused(&failure)),
        };
        crash::point(&format!("handoff.{}.after", call.step));
        answer
    }

    async fn undo(&self, call: StepCall) -> StepAnswer {
        crash::point(&format!("handoff.{}.undo.before", call.step));
        let answer = match self.request.restored {
            true => refused(&kept_by_restore(&call)),
            false => self.try_undo(&call).await.unwrap_or_else(|failure| refused(&failure)),
        };
        crash::point(&format!("handoff.{}.undo.after", call.step));
        answer
    }

    async fn probe(&self, call: StepCall) -> Found {
        self.look(&call).await.unwrap_or_else(|failure| Found::Inconclusive { failure: told(&failure) })
    }
}

impl Steps {
    pub(super) fn new(executor: Arc<Executor>, request: Arc<EffectRequest>) -> Self {
        Self { executor, request }
    }

    /// In a handoff of a backup that was restored each step may have been done since: it is looked for before it is done. And what the backup
    /// says is done may have been taken back since: no pull request is asked for when the branch is not there any more.
    async fn done_before(&self, call: &StepCall) -> Option<StepAnswer> {
        if !self.request.restored {
            return None;
        }
        if let Some(answer) = self.built_on_nothing(call).await {
            return Some(answer);
        }
        match self.look(call).await {
            Ok(Found::Applied { output }) => Some(StepAnswer::Done(output)),
            Ok(Found::NotApplied) => None,
            Ok(Found::Inconclusive { failure }) => Some(StepAnswer::Unknown(failure)),
            Err(failure) => Some(StepAnswer::Unknown(told(&failure))),
        }
    }

    /// The answer to a step that needs the branch on the remote, when it is not there, or nobody can tell.
    async fn built_on_nothing(&self, call: &StepCall) -> Option<StepAnswer> {
        let needs_branch = matches!(step_of(call), Ok(SagaStep::Open | SagaStep::Ready));
        let Effect::HandOff { commit, .. } = &self.request.effect else { return None };
        if !needs_branch {
            return None;
        }
        let found = match self.context(call) {
            Ok(context) => self.executor.world().workspaces.probe_push(&context, commit).await,
            Err(failure) => ProbeAnswer::Inconclusive(failure),
        };
        match found {
            ProbeAnswer::Applied(_) => None,
            ProbeAnswer::NotApplied => Some(refused(&push_taken_back(commit))),
            ProbeAnswer::Inconclusive(failure) => Some(StepAnswer::Unknown(told(&failure))),
        }
    }

    /// Does a step. An error: it certainly did not take place, and never will.
    async fn try_step(&self, call: &StepCall) -> Result<StepAnswer, Failure> {
        Ok(match step_of(call)? {
            SagaStep::Look => {
                let context = self.context(call)?;
                let tip = self.executor.world().workspaces.remote_tip(&context).await;
                done_or(tip.map(|tip| json!(Tip { tip })), retried)
            }
            SagaStep::Push => {
                let Push { commit, expected, seen } = args_of(call)?;
                let context = self.context(call)?;
                let seen = seen.as_ref().map(|seen| seen.tip.as_ref());
                let pushed = self.executor.world().workspaces.push(&context, &commit, expected.as_ref(), seen).await;
                // A push that was cut may have arrived.
                done_or(pushed.map(|()| Value::Null), |failure| StepAnswer::Unknown(told(failure)))
            }
            SagaStep::Open => match self.open(call).await {
                Ok(opened) => StepAnswer::Done(json!(opened)),
                Err(error) => not_done(&error),
            },
            SagaStep::Ready => {
                let Ready { number } = args_of(call)?;
                match self.forge(call).await {
                    Ok(forge) => match forge.mark_ready(number).await {
                        Ok(_) => StepAnswer::Done(Value::Null),
                        Err(error) => not_done(&error),
                    },
                    Err(failure) => not_done(&failure.into()),
                }
            }
            SagaStep::Comment => {
                let Comment { commit, checks, pull_request } = args_of(call)?;
                let body = self.executor.account(&self.request, &commit, &checks, pull_request.as_deref())?;
                let tracker = self.executor.tracker(&self.request.policy)?;
                let mark = self.mark(call);
                let issue = &self.request.issue.id;
                let Err(failure) = tracker.comment(issue, &body, &mark).await else {
                    return Ok(StepAnswer::Done(Value::Null));
                };
                // A tracker says `retryable` when it wrote nothing for certain; anything else has to be looked at.
                match failure.retryable {
                    true => retried(&failure),
                    false => match tracker.has_comment(issue, &mark).await {
                        Ok(true) => StepAnswer::Done(Value::Null),
                        Ok(false) => refused(&failure),
                        Err(_) => StepAnswer::Unknown(told(&failure)),
                    },
                }
            }
            SagaStep::Move => {
                let Move { to, from: _ } = args_of(call)?;
                let terminal = &self.request.policy.tracker.terminal_states;
                let tracker = self.executor.tracker(&self.request.policy)?;
                let moved = tracker.transition(&self.request.issue.id, &to, terminal).await;
                done_or(moved.map(|state| json!({"state": state})), retried)
            }
        })
    }

    /// Opens a draft, or goes on with the open pull request of an earlier handoff: that one is never closed and opened again.
    async fn open(&self, call: &StepCall) -> Result<Opened, ForgeError> {
        let Open { commit, checks, known } = args_of(call)?;
        let head = self.head()?;
        let forge = self.forge(call).await?;
        if let Some(known) = known
            && let Some(pull) = forge.look(known).await?
            && goes_on(&pull, head)
        {
            return Ok(Opened { pull_request: pull.id, opened: false });
        }
        let issue = &self.request.issue;
        let mut body = self.executor.account(&self.request, &commit, &checks, None)?;
        if let Some(url) = &issue.url {
            body.push_str(&format!("\n\nIssue: {url}"));
        }
        let draft = Draft {
            head: head.to_owned(),
            base: self.request.policy.workspace.base.clone(),
            title: format!("{}: {}", issue.identifier, issue.title),
            body,
            marker: self.mark(call),
        };
        let pull = forge.open_draft(&draft).await?;
        Ok(Opened { pull_request: pull.id, opened: true })
    }

    /// Undoes a step. An error: it is not undone, and needs somebody.
    async fn try_undo(&self, call: &StepCall) -> Result<StepAnswer, Failure> {
        Ok(match step_of(call)? {
            SagaStep::Push => {
                let Push { commit, expected: _, seen } = args_of(call)?;
                let Some(Tip { tip }) = seen else {
                    return Err(Failure::permanent("step_arguments", "nobody looked where the branch was before"));
                };
                let context = self.context(call)?;
                let undone = self.executor.world().workspaces.undo_push(&context, &commit, tip.as_ref()).await;
                done_or(undone.map(|()| Value::Null), |failure| StepAnswer::Unknown(told(failure)))
            }
            SagaStep::Open => {
                let Opened { pull_request, opened } = args_of(call)?;
                if !opened {
                    return Ok(StepAnswer::Done(Value::Null));
                }
                match self.forge(call).await {
                    Ok(forge) => match forge.close(pull_request.number).await {
                        Ok(()) => StepAnswer::Done(Value::Null),
                        Err(error) => not_done(&error),
                    },
                    Err(failure) => not_done(&failure.into()),
                }
            }
            SagaStep::Look | SagaStep::Ready | SagaStep::Comment | SagaStep::Move => {
                return Err(Failure::permanent("unknown_step", format!("{} cannot be undone", call.step)));
            }
        })
    }

    /// Whether a step took place.
    async fn look(&self, call: &StepCall) -> Result<Found, Failure> {
        let found = match step_of(call)? {
            SagaStep::Look => ProbeAnswer::NotApplied,
            SagaStep::Push => {
                let Push { commit, .. } = args_of(call)?;
                self.executor.world().workspaces.probe_push(&self.context(call)?, &commit).await
            }
            SagaStep::Open => {
                let forge = self.forge(call).await?;
                for mark in self.marks(call) {
                    if let Some(pull) = forge.find(self.head()?, &mark).await? {
                        return Ok(Found::Applied { output: json!(Opened { pull_request: pull.id, opened: true }) });
                    }
                }
                return Ok(Found::NotApplied);
            }
            SagaStep::Ready => {
                let Ready { number } = args_of(call)?;
                let pull = self.forge(call).await?.look(number).await?;
                return Ok(match pull.map(|pull| pull.state) {
                    Some(PullState::Open | PullState::Merged) => Found::Applied { output: Value::Null },
                    Some(PullState::Draft | PullState::Closed) | None => Found::NotApplied,
                });
            }
            SagaStep::Comment => {
                let tracker = self.executor.tracker(&self.request.policy)?;
                for mark in self.marks(call) {
                    if tracker.has_comment(&self.request.issue.id, &mark).await? {
                        return Ok(Found::Applied { output: Value::Null });
                    }
                }
                ProbeAnswer::NotApplied
            }
            SagaStep::Move => {
                let Move { to, from } = args_of(call)?;
                let found = self.executor.probe_move(&self.request, &to, from.as_deref()).await?;
                left_by_us(found, &to, &self.request.policy.tracker.terminal_states)
            }
        };
        Ok(match found {
            ProbeAnswer::Applied(EffectOutput::Moved { state }) => Found::Applied { output: json!({"state": state}) },
            ProbeAnswer::Applied(_) => Found::Applied { output: Value::Null },
            ProbeAnswer::NotApplied => Found::NotApplied,
            ProbeAnswer::Inconclusive(failure) => Found::Inconclusive { failure: told(&failure) },
        })
    }

    fn context(&self, call: &StepCall) -> Result<Context, Failure> {
        self.executor.context(&self.request, &call.cancel)
    }

    async fn forge(&self, call: &StepCall) -> Result<Arc<dyn Forge>, Failure> {
        self.executor.world().forges.open(&self.context(call)?).await
    }

    /// What the remote finds what this call wrote by.
    fn mark(&self, call: &StepCall) -> String {
        marker(&self.executor.world().secret, &call.idempotency_key)
    }

    /// The marks that the step may have left: in a handoff of a backup, the lost life may have done it under a later generation.
    fn marks(&self, call: &StepCall) -> Vec<String> {
        let secret = &self.executor.world().secret;
        let more = if self.request.restored { LATER_GENERATIONS } else { 0 };
        let later = (1..=more).map(|later| call.key_of_generation(secret, call.generation.saturating_add(later)));
        let later = later.map(|key| marker(secret, &key));
        std::iter::once(self.mark(call)).chain(later).collect()
    }

    fn head(&self) -> Result<&str, Failure> {
        self.request.branch().ok_or_else(|| {
            Failure::permanent("push_failed", format!("{} has no branch to push", self.request.issue.identifier))
        })
    }
}

/// Whether it is a pull request of ours for this branch that is still open.
fn goes_on(pull: &Pull, head: &str) -> bool {
    let open = match pull.state {
        PullState::Draft | PullState::Open => true,
        PullState::Merged | PullState::Closed => false,
    };
    pull.ours && open && pull.head.as_deref() == Some(head)
}

fn not_done(error: &ForgeError) -> StepAnswer {
    match error {
        ForgeError::NotApplied(failure) if failure.retryable => retried(failure),
        ForgeError::NotApplied(failure) => refused(failure),
        ForgeError::Unknown(failure) => StepAnswer::Unknown(told(failure)),
    }
}

/// What the lost life of a restored journal may have handed over since is not taken back: somebody has to look.
fn kept_by_restore(call: &StepCall) -> Failure {
    let why = format!(
        "the journal was restored from a backup, and the handoff may have been finished since: {} is left as it is",
        call.step
    );
    Failure::permanent("restored_undo", why).hint("look at branch and pull request, then `dalsegno settle` the step")
}

/// The lost life of a restored journal, or somebody since, took the branch back.
fn push_taken_back(commit: &CommitId) -> Failure {
    let why = format!(
        "the journal was restored from a backup that says {commit} is pushed, and the remote branch does not have it"
    );
    Failure::permanent("restored_push_missing", why)
        .hint("look at the branch on the remote, then `dalsegno settle` the step")
}

fn step_of(call: &StepCall) -> Result<SagaStep, Failure> {
    let known = SagaStep::ALL.into_iter().find(|step| step.as_str() == call.step);
    known.ok_or_else(|| Failure::permanent("unknown_step", format!("a handoff has no step {}", call.step)))
}

fn args_of<T: serde::de::DeserializeOwned>(call: &StepCall) -> Result<T, Failure> {
    T::deserialize(&call.args).map_err(|error| {
        let why = format!("what {} is called with cannot be understood: {error}", call.step);
        Failure::permanent("step_arguments", why)
    })
}

fn done_or(result: Result<Value, Failure>, retryable: impl Fn(&Failure) -> StepAnswer) -> StepAnswer {
    match result {
        Ok(output) => StepAnswer::Done(output),
        Err(failure) if failure.retryable => retryable(&failure),
        Err(failure) => refused(&failure),
    }
}

fn retried(failure: &Failure) -> StepAnswer {
    StepAnswer::NotApplied { failure: told(failure), retryable: true }
}

fn refused(failure: &Failure) -> StepAnswer {
    StepAnswer::NotApplied { failure: told(failure), retryable: false }
}

/// A failure for the record, with what to do about it.
fn told(failure: &Failure) -> saga::Failure {
    let hint = failure.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
    saga::Failure::new(failure.code.clone(), format!("{}{hint}", failure.message))
}
