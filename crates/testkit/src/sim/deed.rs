//! What the steps of a handoff do to the world, and what is answered.

use dalsegno_core::{CommitId, EffectRequest, Failure, SagaStep};
use dalsegno_durable::saga::machine::Request;
use dalsegno_durable::saga::{self, Act, Found, Role, StepAnswer};
use serde_json::{Value, json};

use super::Mutation;
use super::acts::Fate;
use super::world::World;

/// A call of a step, as what it does to the world.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// Looks where the branch is.
    Look,
    /// `seen`: where that was.
    Push { commit: CommitId, expected: Option<CommitId>, seen: Option<Option<CommitId>> },
    /// Puts the branch back.
    TakeBack { commit: CommitId, before: Option<CommitId> },
    /// Opens a pull request, or goes on with the known one.
    Open { known: Option<u64> },
    /// Closes it, if the saga opened it.
    Close { number: u64, opened: bool },
    /// Marks it as ready for review.
    Ready { number: u64 },
    /// Comments on the issue.
    Comment,
    /// Moves the issue.
    Move { to: String, from: Option<String> },
}

/// A pull request on the simulated forge.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) number: u64,
    branch: String,
    /// Key of the call that opened it.
    key: String,
    pub(crate) state: PullState,
    was_ready: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullState {
    Draft,
    Ready,
    Closed,
}

impl Deed {
    /// What the call of a step does; `None`: no handoff has such a call.
    pub(crate) fn of(call: &Request) -> Option<Self> {
        let text = |name: &str| call.args.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = || call.args.get("number").and_then(Value::as_u64);
        let commit = || text("commit").map(CommitId);
        let seen = call.args.get("seen").filter(|seen| !seen.is_null());
        let seen = seen.map(|seen| seen.get("tip").and_then(Value::as_str).map(CommitId::from));
        let step = SagaStep::ALL.into_iter().find(|step| step.as_str() == call.step)?;
        let undo = call.act == Act::Call(Role::Undo);
        Some(match (step, undo) {
            (SagaStep::Look, false) => Self::Look,
            (SagaStep::Push, false) => Self::Push { commit: commit()?, expected: text("expected").map(CommitId), seen },
            (SagaStep::Push, true) => Self::TakeBack { commit: commit()?, before: seen? },
            (SagaStep::Open, false) => Self::Open { known: call.args.get("known").and_then(Value::as_u64) },
            (SagaStep::Open, true) => {
                Self::Close { number: number()?, opened: call.args.get("opened").and_then(Value::as_bool)? }
            }
            (SagaStep::Ready, false) => Self::Ready { number: number()? },
            (SagaStep::Comment, false) => Self::Comment,
            (SagaStep::Move, false) => Self::Move { to: text("to")?, from: text("from") },
            (SagaStep::Look | SagaStep::Ready | SagaStep::Comment | SagaStep::Move, true) => return None,
        })
    }

    /// Deeds by kind, beside the kinds of effects that they have in common.
    pub(crate) const KINDS: [&str; 5] = ["look", "undo_push", "open_pull", "close_pull", "ready_pull"];

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Push { .. } => "push_branch",
            Self::TakeBack { .. } => "undo_push",
            Self::Open { .. } => "open_pull",
            Self::Close { .. } => "close_pull",
            Self::Ready { .. } => "ready_pull",
            Self::Comment => "comment",
            Self::Move { .. } => "move_issue",
        }
    }

    /// Somebody who refuses it for good may be brought round.
    pub(crate) fn may_be_refused(&self) -> bool {
        match self {
            Self::Comment | Self::Move { .. } | Self::TakeBack { .. } | Self::Close { .. } => true,
            Self::Look | Self::Push { .. } | Self::Open { .. } | Self::Ready { .. } => false,
        }
    }

    /// What was sent and not answered may have arrived.
    fn may_have_arrived(&self) -> bool {
        match self {
            Self::Push { .. } | Self::TakeBack { .. } => true,
            Self::Look
            | Self::Open { .. }
            | Self::Close { .. }
            | Self::Ready { .. }
            | Self::Comment
            | Self::Move { .. } => false,
        }
    }
}

fn refused(code: &str) -> Failure {
    Failure::permanent(code, "the simulated world says so")
}

fn told(failure: &Failure) -> saga::Failure {
    saga::Failure::new(failure.code.clone(), failure.message.clone())
}

/// The keys under which a step may have been done: of a handoff of a backup, later generations too.
fn keys_of(request: &EffectRequest) -> Vec<String> {
    let mut keys = vec![request.key.clone()];
    if let Some((step, generation)) = request.key.rsplit_once('/').filter(|_| request.restored) {
        let generation: u32 = generation.parse().unwrap_or(0);
        keys.extend((1..=4).map(|later| format!("{step}/{}", generation + later)));
    }
    keys
}

fn branch_of(request: &EffectRequest) -> String {
    format!("dalsegno/{}", request.issue.identifier)
}

impl World {
    /// Does the deed, as far as its fate lets it; the answer is that of the executor of handoffs.
    pub(crate) fn perform(&mut self, request: &EffectRequest, deed: &Deed, fate: Fate) -> StepAnswer {
        let result = match fate {
            Fate::Fails => Err(Failure::retryable("simulated", "the world refused")),
            Fate::FailsForGood => Err(refused("simulated_for_good")),
            Fate::LostInDoubt => return StepAnswer::unknown("in_doubt", "nobody knows"),
            Fate::Done | Fate::DoneInDoubt => self.do_deed(request, deed),
        };
        match result {
            _ if fate == Fate::DoneInDoubt => StepAnswer::unknown("in_doubt", "nobody knows"),
            Ok(output) => StepAnswer::Done(output),
            Err(failure) if failure.retryable && deed.may_have_arrived() => StepAnswer::Unknown(told(&failure)),
            Err(failure) => StepAnswer::NotApplied { failure: told(&failure), retryable: failure.retryable },
        }
    }

    fn do_deed(&mut self, request: &EffectRequest, deed: &Deed) -> Result<Value, Failure> {
        let forgotten = self.mutation == Some(Mutation::UndoForgotten);
        match deed {
            Deed::TakeBack { .. } | Deed::Close { .. } if forgotten => Ok(Value::Null),
            Deed::Look => Ok(json!({"tip": self.remote.get(&branch_of(request))})),
            Deed::Push { commit, expected, seen } => {
                self.push(request, commit, expected.as_ref(), seen.as_ref().map(Option::as_ref))?;
                Ok(Value::Null)
            }
            Deed::TakeBack { commit, before } => {
                self.take_back(request, commit, before.as_ref())?;
                Ok(Value::Null)
            }
            Deed::Open { known } => self.open_pull(request, *known),
            Deed::Close { number, opened } => {
                if *opened && let Some(pull) = self.pull(*number) {
                    pull.state = PullState::Closed;
                }
                Ok(Value::Null)
            }
            Deed::Ready { number } => match self.pull(*number) {
                Some(pull) if pull.state == PullState::Closed => Err(refused("pull_request_closed")),
                Some(pull) => {
                    pull.state = PullState::Ready;
                    pull.was_ready = true;
                    Ok(Value::Null)
                }
                None => Err(refused("forge_not_found")),
            },
            Deed::Comment if self.comment(&request.issue.id, &request.key) => Ok(Value::Null),
            Deed::Move { to, from } => match self.move_issue(&request.issue.id, to, from.as_deref(), &request.key) {
                Some(state) => Ok(json!({"state": state})),
                None => Err(refused("issue_not_found")),
            },
            Deed::Comment => Err(refused("issue_not_found")),
        }
    }

    /// Whether the deed took place; a move is looked up elsewhere.
    pub(crate) fn found(&mut self, request: &EffectRequest, deed: &Deed) -> Found {
        let applied = |applied: bool| if applied { Found::Applied { output: Value::Null } } else { Found::NotApplied };
        match deed {
            Deed::Push { commit, .. } => applied(self.is_pushed(request, commit)),
            Deed::Open { .. } => {
                let keys = keys_of(request);
                let found = self.pulls.iter().rev().find(|pull| keys.contains(&pull.key));
                found.map_or(Found::NotApplied, |pull| Found::Applied { output: opened(pull.number, true) })
            }
            Deed::Ready { number } => applied(self.pull(*number).is_some_and(|pull| pull.state == PullState::Ready)),
            Deed::Comment => {
                let there = self.tracked.get(&request.issue.id);
                let blind = self.mutation == Some(Mutation::CommentWithoutMarker);
                let keys = keys_of(request);
                applied(!blind && there.is_some_and(|tracked| tracked.comments.iter().any(|key| keys.contains(key))))
            }
            Deed::Look | Deed::TakeBack { .. } | Deed::Close { .. } | Deed::Move { .. } => Found::NotApplied,
        }
    }

    /// The branch on the remote has the commit.
    pub(crate) fn is_pushed(&self, request: &EffectRequest, commit: &CommitId) -> bool {
        self.remote.get(&branch_of(request)).is_some_and(|there| self.holds(there, commit))
    }

    pub(crate) fn pull(&mut self, number: u64) -> Option<&mut Pull> {
        self.pulls.iter_mut().find(|pull| pull.number == number)
    }

    /// The open pull request of an issue.
    pub(crate) fn open_pull_of(&self, identifier: &str) -> Option<&Pull> {
        let branch = format!("dalsegno/{identifier}");
        self.pulls.iter().find(|pull| pull.branch == branch && pull.state != PullState::Closed)
    }

    pub(crate) fn was_ready(&self, number: Option<u64>) -> bool {
        self.pulls.iter().any(|pull| Some(pull.number) == number && pull.was_ready)
    }

    fn open_pull(&mut self, request: &EffectRequest, known: Option<u64>) -> Result<Value, Failure> {
        let branch = branch_of(request);
        if let Some(known) = known.and_then(|known| self.pull(known))
            && known.state != PullState::Closed
            && known.branch == branch
        {
            return Ok(opened(known.number, false));
        }
        if self.pulls.iter().any(|pull| pull.key == request.key) {
            self.object("one_pull", format!("{} opens a second pull request", request.key));
        }
        if self.open_pull_of(&request.issue.identifier).is_some() {
            return Err(refused("pull_request_exists"));
        }
        let number = self.pulls.len() as u64 + 1;
        self.pulls.push(Pull { number, branch, key: request.key.clone(), state: PullState::Draft, was_ready: false });
        Ok(opened(number, true))
    }

    fn take_back(
        &mut self,
        request: &EffectRequest,
        commit: &CommitId,
        before: Option<&CommitId>,
    ) -> Result<(), Failure> {
        let branch = branch_of(request);
        if before.is_some_and(|before| self.holds(before, commit)) {
            return Ok(());
        }
        let blind = self.mutation == Some(Mutation::BlindUndo);
        match self.remote.get(&branch).cloned() {
            Some(there) if there == *commit => {}
            Some(there) if blind => {
                if before != Some(&there) {
                    self.object("others_work", format!("{there} on {branch} is thrown away"));
                }
            }
            Some(there) if self.holds(&there, commit) => return Err(refused("branch_built_on")),
            Some(_) | None => return Ok(()),
        }
        match before {
            Some(before) => drop(self.remote.insert(branch.clone(), before.clone())),
            None => drop(self.remote.remove(&branch)),
        }
        let pushed = (branch, commit.clone());
        self.fresh_pushes.remove(&pushed);
        self.pushes.remove(&pushed);
        Ok(())
    }

    /// What a saga that was undone left behind.
    pub(crate) fn left_behind(
        &self,
        request: &EffectRequest,
        saga: &str,
        commit: &CommitId,
        before: Option<&CommitId>,
    ) -> Option<String> {
        let of_saga = format!("/open/{saga}/");
        let pull = self.pulls.iter().find(|pull| pull.state != PullState::Closed && pull.key.contains(&of_saga));
        if let Some(pull) = pull {
            return Some(format!("pull request {}", pull.number));
        }
        let there = self.remote.get(&branch_of(request))?;
        (there == commit && Some(there) != before).then(|| format!("{commit} on {}", branch_of(request)))
    }
}

fn opened(number: u64, opened: bool) -> Value {
    json!({"number": number, "url": format!("https://forge/pull/{number}"), "opened": opened})
}
