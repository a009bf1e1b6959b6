//! What operators' actions do in the world.

use dalsegno_core::{EffectOutput, EffectRequest, Failure, Issue, IssueId, Order};

use super::world::World;

impl World {
    /// Carries an operator's action out.
    pub(super) fn carry_out(&mut self, request: &EffectRequest, order: &Order) -> Result<EffectOutput, Failure> {
        let id = &request.issue.id;
        let gone = || Failure::permanent("issue_not_found", "the issue is gone");
        match order {
            Order::Comment { .. } => self.comment(id, &request.key).then_some(EffectOutput::Commented).ok_or_else(gone),
            Order::Transition { to, then: _ } => {
                let tracked = self.tracked.get_mut(id).filter(|tracked| !tracked.deleted).ok_or_else(gone)?;
                tracked.put(to);
                Ok(EffectOutput::Moved { state: to.clone() })
            }
            Order::Followup { title, description: _ } => {
                let made = IssueId(format!("made-{}", request.key));
                let identifier = format!("MADE-{}", self.tracked.len() + 1);
                if !self.tracked.contains_key(&made) {
                    self.add(Issue::new(made.clone(), identifier, title, "Backlog"));
                }
                let identifier = self.tracked.get(&made).map_or_else(String::new, |made| made.issue.identifier.clone());
                Ok(EffectOutput::IssueMade { identifier })
            }
            // These agents take no words in their turns, and wait for no answers: both come with the next prompt.
            Order::Steer { .. } => Err(Failure::retryable("no_turn", "the agent takes no words in its turn")),
            Order::Reply { .. } => Err(Failure::retryable("not_waiting", "the agent does not wait")),
        }
    }
}
