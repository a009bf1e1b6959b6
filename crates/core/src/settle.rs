//! What operators say of a handoff: they approve its pivot or refuse it, and say how a parked step goes on.
//!
//! An accepted word is an effect: the saga is told, and the action is complete when the saga has recorded it. A saga that took another
//! turn meanwhile refuses it, and the action fails with the saga's own code.
//!
//! # Invariants
//! - One word about a step is on its way at a time: who comes second is refused at once, as with the questions of agents. So there are
//!   never more words on their way than steps that wait for one, however fast somebody sends them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::{ActionRequest, Refusal, refusal};
use crate::effect::{Effect, EffectOutput, Failure};
use crate::event::Event;
use crate::ids::IssueId;
use crate::machine::Machine;
use crate::run::{Handoff, SagaStep, StepState};
use crate::state::State;

/// Longest name or reason that an operator gives, in bytes.
const WORDS: usize = 1_024;

/// What an operator says of a handoff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum SagaWord {
    /// The step may be done.
    Approve {
        /// Of what was asked.
        fingerprint: String,
    },
    /// It may not: what was done is undone.
    Deny {
        /// Of what was asked.
        fingerprint: String,
    },
    /// How a parked step goes on.
    Settle {
        /// How.
        verb: SettleVerb,
    },
}

/// How a parked step goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettleVerb {
    /// It took place.
    Applied,
    /// It did not.
    NotApplied,
    /// It is tried again.
    Retry,
    /// It was undone by hand.
    Undone,
    /// It is left as it is.
    Skip,
}

impl SettleVerb {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Applied, Self::NotApplied, Self::Retry, Self::Undone, Self::Skip];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NotApplied => "not_applied",
            Self::Retry => "retry",
            Self::Undone => "undone",
            Self::Skip => "skip",
        }
    }
}

/// What an operator says, and of which step of which saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saying {
    pub(crate) issue: IssueId,
    pub(crate) saga: String,
    pub(crate) step: SagaStep,
    pub(crate) word: SagaWord,
    pub(crate) by: String,
    pub(crate) why: String,
}

impl Machine {
    /// Whether what is said can be said now.
    pub(crate) fn judged_saying(&self, request: &ActionRequest) -> Result<Saying, Refusal> {
        let allowed: &[&str] = match request.kind.as_str() {
            "settle" => &["step", "verb", "by", "why"],
            _ => &["fingerprint", "by", "why"],
        };
        let text = |name: &str| texts(&request.payload, name);
        only(&request.payload, allowed)?;
        let (issue, handoff) = self.handoff_of(request)?;
        let Some(saga) = handoff.saga.clone() else {
            return Err(refusal("not_found", "not found: the handoff was begun by an older version"));
        };
        let by = text("by")?.unwrap_or_else(|| "operator".to_owned());
        let why = text("why")?.unwrap_or_default();
        let (step, word) = if request.kind == "settle" {
            let step = known(text("step")?, "step", &SagaStep::ALL, |step| step.as_str())?;
            let verb = known(text("verb")?, "verb", &SettleVerb::ALL, |verb| verb.as_str())?;
            match handoff.step(step) {
                Some(StepState::Parked { .. }) => match self.state.word_on_its_way(&issue, step) {
                    None => (step, SagaWord::Settle { verb }),
                    Some(first) => {
                        let reason = format!("{first} is telling the handoff already how {} goes on", step.as_str());
                        return Err(refusal("not_parked", reason));
                    }
                },
                state => {
                    let state = state.map_or("no step of this handoff", StepState::as_str);
                    return Err(refusal("not_parked", format!("{} is {state}, and not parked", step.as_str())));
                }
            }
        } else {
            let none = || refusal("no_open_question", "no approval of this handoff is waited for");
            let (step, fingerprint, expires_at) = approval(&handoff).ok_or_else(none)?;
            if expires_at <= self.now {
                return Err(refusal("no_open_question", "the question has expired"));
            }
            if let Some(first) = self.state.word_on_its_way(&issue, step) {
                return Err(refusal("no_open_question", format!("{first} answers it already")));
            }
            if text("fingerprint")?.is_some_and(|given| given != fingerprint) {
                return Err(refusal("no_open_question", "something else is to be approved now: look at it again"));
            }
            let word = match request.kind.as_str() {
                "approve" => SagaWord::Approve { fingerprint },
                _ => SagaWord::Deny { fingerprint },
            };
            (step, word)
        };
        Ok(Saying { issue, saga, step, word, by, why })
    }

    /// The live handoff of an issue, of a run, or of this id.
    fn handoff_of(&self, request: &ActionRequest) -> Result<(IssueId, Handoff), Refusal> {
        let target = request.target_id.as_str();
        let runs = self.state.runs.values();
        let run = match request.target_kind.as_str() {
            "issue" => {
                let issue = self.target(request)?;
                runs.into_iter().find(|run| run.issue == issue)
            }
            "run" => runs.into_iter().find(|run| run.id.as_str().eq_ignore_ascii_case(target)),
            "saga" => runs.into_iter().find(|run| {
                let saga = run.handoff.as_ref().and_then(|handoff| handoff.saga.as_ref());
                saga.is_some_and(|saga| saga.eq_ignore_ascii_case(target))
            }),
            other => {
                let reason = format!("{} has no target of kind {other:?}", request.kind);
                return Err(refusal("invalid_payload", reason));
            }
        };
        let found = run.and_then(|run| Some((run.issue.clone(), run.handoff.clone()?)));
        found.ok_or_else(|| match request.target_kind.as_str() {
            "issue" if request.kind == "settle" => refusal("not_parked", "no handoff of the issue is under way"),
            "issue" => refusal("no_open_question", "no handoff of the issue is under way"),
            _ => refusal("not_found", "not found: no handoff under way has this id"),
        })
    }

    /// The saga is told; its answer completes the action.
    pub(crate) fn tell(&mut self, saying: Saying, action_id: &str, correlation_id: &str) {
        let Saying { issue, saga, step, word, by, why } = saying;
        let effect = Effect::TellSaga {
            saga,
            step,
            word,
            by,
            why,
            action_id: action_id.to_owned(),
            correlation_id: correlation_id.to_owned(),
        };
        self.intend(&issue, None, action_id, effect);
    }

    /// The saga has answered, or cannot be told.
    pub(crate) fn after_telling(
        &mut self,
        issue: &IssueId,
        (action_id, correlation_id): (&str, &str),
        result: Result<EffectOutput, Failure>,
    ) {
        let (action_id, correlation_id, issue) = (action_id.to_owned(), correlation_id.to_owned(), Some(issue.clone()));
        self.emit(match result {
            Ok(_) => Event::ActionCompleted { action_id, correlation_id, issue, note: None },
            Err(failure) => Event::ActionFailed { action_id, correlation_id, issue, failure },
        });
    }
}

impl State {
    /// The action whose word about this step of the issue's handoff the saga has not answered yet.
    pub(crate) fn word_on_its_way(&self, issue: &IssueId, about: SagaStep) -> Option<&str> {
        self.open_effects.values().filter(|open| open.issue == *issue).find_map(|open| {
            let Effect::TellSaga { step, action_id, .. } = &open.effect else { return None };
            (*step == about).then_some(action_id.as_str())
        })
    }
}

/// The approval that a handoff waits for: the step, of what, and until when.
pub(crate) fn approval(handoff: &Handoff) -> Option<(SagaStep, String, crate::time::Timestamp)> {
    handoff.steps.iter().find_map(|(step, state)| match state {
        StepState::AwaitingApproval { fingerprint, expires_at } => Some((*step, fingerprint.clone(), *expires_at)),
        StepState::Pending
        | StepState::Intended
        | StepState::Waiting { .. }
        | StepState::InDoubt { .. }
        | StepState::Done
        | StepState::NotApplied { .. }
        | StepState::Undoing
        | StepState::Undone
        | StepState::Skipped
        | StepState::Parked { .. } => None,
    })
}

pub(crate) fn only(payload: &Value, allowed: &[&str]) -> Result<(), Refusal> {
    let fields = match payload {
        Value::Null => return Ok(()),
        Value::Object(fields) => fields,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(refusal("invalid_payload", "the payload is no object"));
        }
    };
    match fields.keys().find(|name| !allowed.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let name: String = name.chars().take(40).collect();
            Err(refusal("invalid_payload", format!("{name:?} is no field of the payload; {} are", allowed.join(", "))))
        }
    }
}

pub(crate) fn texts(payload: &Value, name: &str) -> Result<Option<String>, Refusal> {
    match payload.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= WORDS && !text.contains(char::is_control) => Ok(Some(text.clone())),
        Some(_) => Err(refusal("invalid_payload", format!("{name} is no plain text of at most {WORDS} bytes"))),
    }
}

/// Words of an operator, over several lines if need be.
pub(crate) fn prose(payload: &Value, name: &str, limit: usize) -> Result<String, Refusal> {
    let plain = |text: &str| !text.contains(|letter: char| letter.is_control() && letter != '\n' && letter != '\t');
    match payload.get(name) {
        Some(Value::String(text)) if !text.trim().is_empty() && text.len() <= limit && plain(text) => Ok(text.clone()),
        _ => Err(refusal("invalid_payload", format!("{name} is no plain text of 1 to {limit} bytes"))),
    }
}

fn known<T: Copy>(word: Option<String>, what: &str, all: &[T], named: fn(T) -> &'static str) -> Result<T, Refusal> {
    let found = word.and_then(|word| all.iter().copied().find(|one| named(*one) == word));
    found.ok_or_else(|| {
        let names: Vec<_> = all.iter().copied().map(named).collect();
        refusal("invalid_payload", format!("{what} is none of {}", names.join(", ")))
    })
}
