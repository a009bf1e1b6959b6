//! What takes its time: effects, turns of agents, and queries.
#![allow(clippy::wildcard_enum_match_arm, reason = "a simulation looks at the cases that it needs")]

use dalsegno_core::{
    Answer, Effect, EffectId, EffectOutput, EffectRequest, Failure, IssueId, Order, Outcome, ProbeAnswer, Query,
    QueryId, Report, RunId, Signal, TurnOutcome, Usage, Wants,
};

use super::Mutation;
use super::acts::Fate;
use super::drive::{Item, Sim, Work};
use super::keeping::mend_of_files;
use super::plan::MODELS;

/// Of 1,000 turns, those in which the agent asks and waits.
const ASKS: u64 = 25;
/// The same in a history that aims at the death of the daemon beside an answer.
const ASKS_WHEN_AIMED: u64 = 500;
/// How long an agent waits for its answer.
const LIVE_WAIT_MS: i64 = 600_000;
/// When the driver gives up on a prompt that never ends.
const DEADLINE_MS: i64 = 3_600_000;
/// Of 1,000 deaths in a turn, those that take the prompt with them.
pub(super) const FORGETS: u64 = 250;

impl Sim {
    /// How long something takes.
    pub(super) fn duration(&mut self, effect: &Effect) -> i64 {
        let slow = if self.times.permille(self.plan.rates.slow) { 60 } else { 1 };
        slow * match effect {
            Effect::RunCheck { .. } => self.times.between(10, 20_000),
            Effect::RunHook { .. } | Effect::PrepareWorkspace { .. } => self.times.between(5, 4_000),
            _ => self.times.between(1, 800),
        }
    }

    pub(super) fn fate(&mut self, request: &EffectRequest) -> Fate {
        let rates = &self.plan.rates;
        // What ends processes is more reliable than the rest.
        let share = if matches!(request.effect, Effect::StopAgent | Effect::Sweep) { 10 } else { 1 };
        let (fail, permanent, doubt) = (rates.fail / share, rates.permanent / share, rates.doubt / share);
        if self.fates.permille(fail) {
            Fate::Fails
        } else if self.fates.permille(permanent) {
            Fate::FailsForGood
        } else if self.fates.permille(doubt) {
            if self.fates.coin() { Fate::DoneInDoubt } else { Fate::LostInDoubt }
        } else {
            Fate::Done
        }
    }

    /// The world changes, or not; the outcome is on its way.
    pub(super) fn apply(&mut self, request: Box<EffectRequest>, fate: Fate) {
        if let Effect::Prompt { .. } = request.effect {
            self.prompt(request, fate);
            return;
        }
        let outcome = match (&request.effect, fate) {
            (Effect::CarryOut { order: Order::Reply { ask, .. }, action: _ }, Fate::Done | Fate::DoneInDoubt) => {
                match self.reply(*ask) {
                    _ if fate == Fate::DoneInDoubt => Outcome::InDoubt { reason: "nobody knows".to_owned() },
                    Ok(output) => Outcome::Done { output },
                    Err(failure) => Outcome::Failed { failure },
                }
            }
            (Effect::Mend { mend }, _) if mend_of_files(&request.effect).is_some() => self.mend_files(mend, fate),
            _ => self.world.act(&request, fate, &mut self.fates, self.calm),
        };
        let Some((request, outcome)) = self.check_applied(request, outcome) else { return };
        let slow = if self.times.permille(self.plan.rates.slow) { 100 } else { 1 };
        let after = slow * self.times.between(0, 100);
        self.schedule(after, Item::Outcome { request, outcome });
    }

    fn prompt(&mut self, request: Box<EffectRequest>, fate: Fate) {
        let Some(run) = request.run.clone() else { return };
        let failed = |code: &str| Outcome::Failed { failure: Failure::retryable(code, "simulated") };
        match fate {
            Fate::Fails | Fate::FailsForGood => {
                let outcome = failed("agent_protocol");
                self.schedule(50, Item::Outcome { request, outcome });
                return;
            }
            Fate::LostInDoubt => {
                let outcome = Outcome::InDoubt { reason: "nobody knows".to_owned() };
                self.schedule(50, Item::Outcome { request, outcome });
                return;
            }
            Fate::Done | Fate::DoneInDoubt => {}
        }
        if self.world.hear(&request).is_none() {
            let outcome = failed("agent_exit");
            self.schedule(5, Item::Outcome { request, outcome });
            return;
        }
        if self.mutation == Some(Mutation::PromptSentTwice) && self.fates.permille(50) {
            self.world.hear(&request);
        }
        let issue = request.issue.id.clone();
        let slow = if self.times.permille(self.plan.rates.slow) { 20 } else { 1 };
        let takes = slow * self.times.between(100, 40_000);
        let tokens = self.fates.below(5_000);
        let model = self.fates.pick([None, Some(MODELS[0]), Some(MODELS[0]), Some(MODELS[1])]).map(str::to_owned);
        let session = self.world.live_process(&run).map(|process| process.session.clone()).unwrap_or_default();
        self.signals(&run, &request.key, takes, tokens, model.as_deref());
        let bad = self.fates.permille(self.plan.rates.bad_turn);
        let (turn, work) = if bad { self.bad_turn() } else { (Some(TurnOutcome::Completed), self.good_work(&request)) };
        let exits = matches!(work, Some(Work::Exit));
        if let Some(work) = work {
            self.schedule(takes / 2, Item::Work { run, issue, work });
        }
        let mut usage = Usage::new(tokens, 0);
        if self.mutation == Some(Mutation::BudgetCountedTwice) {
            usage = Usage::new(self.world.session_total(&session) + tokens, 0);
        }
        let (takes, outcome) = match turn {
            _ if fate == Fate::DoneInDoubt => (takes, Outcome::InDoubt { reason: "nobody knows".to_owned() }),
            _ if exits => (takes, failed("agent_exit")),
            Some(turn) => {
                let tool_digest = self.fates.coin().then(|| format!("t{}", self.fates.below(12)));
                let output = EffectOutput::TurnEnded { turn, usage, summary: String::new(), model, tool_digest };
                (takes, Outcome::Done { output })
            }
            None => (DEADLINE_MS, Outcome::InDoubt { reason: "the deadline is over".to_owned() }),
        };
        let asks = if self.plan.rates.target == Some("answer_agent") { ASKS_WHEN_AIMED } else { ASKS };
        if !self.calm && self.fates.permille(asks) {
            self.ask_live(&request, takes / 2, outcome);
            let wants = if self.fates.coin() { Wants::Input } else { Wants::Permission };
            let turn = TurnOutcome::Asked { question: format!("Which, for {}?", request.key), wants };
            let (summary, model) = (String::new(), None);
            let output = EffectOutput::TurnEnded { turn, usage, summary, model, tool_digest: None };
            self.schedule(takes + LIVE_WAIT_MS, Item::Outcome { request, outcome: Outcome::Done { output } });
            return;
        }
        self.schedule(takes, Item::Outcome { request, outcome });
    }

    /// The agent asks in the middle of its turn, and ends it as it would have when it has an answer.
    fn ask_live(&mut self, request: &EffectRequest, after: i64, end: Outcome) {
        let Some(run) = request.run.clone() else { return };
        let ask = 1 + self.asked.len() as u64;
        self.asked.push(Some((request.id, end)));
        let wants = if self.fates.coin() { Wants::Input } else { Wants::Permission };
        let signal = Signal::Asked { ask, question: format!("Which, for {}?", request.key), wants };
        self.schedule(after, Item::Signal { run, key: request.key.clone(), signal });
    }

    /// What an operator said to a question reaches the agent, if it still waits.
    fn reply(&mut self, ask: u64) -> Result<EffectOutput, Failure> {
        let not_waiting = || Failure::retryable("not_waiting", "the agent does not wait for the answer any more");
        let place = usize::try_from(ask).unwrap_or(0).saturating_sub(1);
        let (prompt, end) = self.asked.get_mut(place).and_then(Option::take).ok_or_else(not_waiting)?;
        let waits = |item: &Item| matches!(item, Item::Outcome { request, .. } if request.id == prompt);
        let key = self.agenda.iter().find(|(_, item)| waits(item)).map(|(key, _)| *key).ok_or_else(not_waiting)?;
        if let Some(Item::Outcome { request, .. }) = self.agenda.remove(&key) {
            let after = self.times.between(100, 20_000);
            self.schedule(after, Item::Outcome { request, outcome: end });
        }
        Ok(EffectOutput::AgentTold)
    }

    /// The model took what the turn's end says, also when nobody hears of it.
    pub(super) fn spend_turn(&mut self, request: &EffectRequest, outcome: &Outcome, share: u64) {
        let (Effect::Prompt { .. }, Outcome::Done { output: EffectOutput::TurnEnded { usage, .. } }) =
            (&request.effect, outcome)
        else {
            return;
        };
        if self.mutation == Some(Mutation::BudgetCountedTwice) {
            return;
        }
        let sessions = &self.world.sessions;
        let heard =
            sessions.iter().find(|(_, history)| history.contains(&request.key)).map(|(session, _)| session.clone());
        if let Some(session) = heard {
            self.world.spend(&session, &request.key, usage.total_tokens * share / 1_000);
        }
    }

    /// An agent that died in a turn may not have written down what it was asked.
    pub(super) fn forget_prompt(&mut self, key: &str) {
        let mut lost = false;
        for (session, history) in &mut self.world.sessions {
            let before = history.len();
            history.retain(|other| other != key);
            if history.len() < before {
                lost = true;
                // What the model took for it stays taken, and the prompt's next sending costs anew.
                if let Some(tokens) = self.world.spent.remove(&(session.clone(), key.to_owned())) {
                    let again = format!("{key}, lost {}", self.coverage.lost_prompts);
                    self.world.spent.insert((session.clone(), again), tokens);
                }
            }
        }
        if lost {
            self.coverage.lost_prompts += 1;
            self.note(|_| format!("the session lost {key}"));
        }
    }

    /// Signs of life while a turn goes on; its use grows to `tokens`.
    fn signals(&mut self, run: &RunId, key: &str, takes: i64, tokens: u64, model: Option<&str>) {
        let mut at = self.times.between(200, 20_000);
        let mut used = 0;
        while at < takes {
            used += self.fates.below(tokens - used + 1);
            let signal = match self.fates.coin() {
                true => Signal::Activity,
                false => {
                    let model = model.filter(|_| self.fates.coin()).map(str::to_owned);
                    Signal::Usage(Report { usage: Usage::new(used, 0), model })
                }
            };
            self.schedule(at, Item::Signal { run: run.clone(), key: key.to_owned(), signal });
            at += self.times.between(100, 25_000);
        }
    }

    /// How a turn goes wrong; no outcome: it hangs.
    fn bad_turn(&mut self) -> (Option<TurnOutcome>, Option<Work>) {
        let reset_at = Some(dalsegno_core::Timestamp(self.now().0 + 900_000)).filter(|_| self.fates.coin());
        match self.fates.below(8) {
            0 => (Some(failed_turn(true)), None),
            1 if self.fates.permille(200) => (Some(failed_turn(false)), None),
            1 | 2 => (Some(TurnOutcome::RateLimited { reset_at }), Some(Work::Mess)),
            3 if self.fates.permille(500) => {
                let wants = if self.fates.coin() { Wants::Input } else { Wants::Permission };
                (Some(TurnOutcome::Asked { question: "Which?".to_owned(), wants }), None)
            }
            3 | 4 => (None, Some(Work::Commit)),
            5 => (Some(TurnOutcome::Interrupted), None),
            6 => (Some(TurnOutcome::Completed), Some(Work::Exit)),
            _ => (Some(TurnOutcome::Completed), None),
        }
    }

    fn good_work(&mut self, request: &EffectRequest) -> Option<Work> {
        if request.policy.handoff.is_none() {
            return match self.fates.below(4) {
                0 => Some(Work::MoveIssue("Done")),
                1 => Some(Work::MoveIssue("Human Review")),
                _ => Some(Work::Commit),
            };
        }
        match self.fates.below(10) {
            _ if self.calm => Some(Work::Commit),
            0..=3 => Some(Work::Commit),
            4..=7 => Some(Work::CommitAndMess),
            8 => Some(Work::Mess),
            _ => None,
        }
    }

    /// An agent that lives does something to its workspace.
    pub(super) fn work(&mut self, run: &RunId, issue: &IssueId, work: &Work) {
        if self.world.live_process(run).is_none() {
            return;
        }
        self.note(|_| format!("the agent of {run} works: {work:?}"));
        match work {
            Work::Commit => {
                // It commits everything that is there.
                if let Some(tree) = self.world.trees.get_mut(issue) {
                    tree.dirty = false;
                }
                self.world.new_commit(issue);
            }
            Work::CommitAndMess => {
                self.world.new_commit(issue);
                self.mess(issue);
            }
            Work::Mess => self.mess(issue),
            Work::MoveIssue(to) => self.world.agent_moves(issue, to),
            Work::Exit => {
                self.world.kill(run);
            }
        }
    }

    fn mess(&mut self, issue: &IssueId) {
        if let Some(tree) = self.world.trees.get_mut(issue) {
            tree.dirty = true;
        }
    }

    /// The machine wants an effect given up: it is, or it is too late for that.
    pub(super) fn cancel(&mut self, id: EffectId) {
        self.note(|_| format!("cancel {id}"));
        if self.cancel_saga(id) || self.cancel_check(id) {
            return;
        }
        let found = self.agenda.iter().find(|(_, item)| match item {
            Item::Apply { request, .. } | Item::Outcome { request, .. } | Item::SagaBegin { request } => {
                request.id == id
            }
            _ => false,
        });
        let Some(key) = found.map(|(key, _)| *key) else { return };
        let stays = self.fates.permille(300);
        match self.agenda.remove(&key) {
            Some(Item::Apply { request, fate }) if stays => {
                // Too late.
                self.schedule(10, Item::Apply { request, fate });
            }
            Some(Item::SagaBegin { mut request }) => {
                request.unwanted = true;
                self.schedule(5, Item::SagaBegin { request });
            }
            Some(Item::Apply { request, .. }) => {
                let outcome = match request.effect {
                    Effect::Prompt { .. } => interrupted(),
                    _ => Outcome::Failed { failure: Failure::retryable("canceled", "given up") },
                };
                let after = self.times.between(0, 500);
                self.schedule(after, Item::Outcome { request, outcome });
            }
            Some(Item::Outcome { request, outcome }) => {
                let prompt = matches!(request.effect, Effect::Prompt { .. });
                let outcome = if prompt && !stays { interrupted() } else { outcome };
                let after = self.times.between(0, 2_000);
                self.schedule(after, Item::Outcome { request, outcome });
            }
            Some(_) | None => {}
        }
    }

    pub(super) fn ask(&mut self, id: QueryId, query: Query) {
        let slow = if self.times.permille(self.plan.rates.slow) { 100 } else { 1 };
        let after = slow * self.times.between(0, 150);
        self.schedule(after, Item::Read { id, query });
    }

    /// The world is looked at; what was seen is on its way.
    pub(super) fn read(&mut self, id: QueryId, query: &Query) {
        let fails = self.fates.permille(self.plan.rates.query_fail);
        let failure = || Failure::retryable("tracker_request", "the tracker does not answer");
        self.coverage.failed_queries += u64::from(fails);
        let answer = match query {
            Query::Poll { .. } if fails => Answer::poll(Err(failure()), Ok(Vec::new()), Vec::new()),
            Query::Poll { states, ids, policy } => {
                let mut reading = (self.world.by_states(states, policy), self.world.by_ids(ids, policy));
                if self.mutation == Some(Mutation::StaleAnswers) {
                    let earlier = self.last_reading.replace(reading.clone());
                    reading = earlier.unwrap_or(reading);
                }
                Answer::poll(Ok(reading.0), Ok(reading.1), Vec::new())
            }
            Query::Assess { .. } if fails && self.fates.coin() => {
                Answer::Assess { issue: Err(failure()), work: Err(failure()) }
            }
            Query::Assess { issue, since, policy, .. } => {
                let work = self.world.work(&issue.id, since.as_ref());
                let work = work.ok_or_else(|| Failure::retryable("workspace_missing", "no workspace"));
                let work = if fails { Err(failure()) } else { work };
                Answer::Assess { issue: Ok(self.world.read(&issue.id, policy)), work }
            }
            Query::Look { .. } if fails => Answer::Look(Err(failure())),
            Query::Look { issue, policy } => Answer::Look(Ok(self.world.read(issue, policy))),
            Query::Inspect { wanted, .. } => {
                let unkind = !self.calm && self.plan.rates.query_fail > 0;
                self.looks += u32::from(self.calm);
                let mut seen = self.world.look_outside(wanted, &mut self.outside, unkind);
                if let Ok(found) = &mut seen.blobs {
                    *found = self.look_at_files(id, wanted);
                }
                Answer::Inspect(Box::new(seen))
            }
            Query::LostWork { .. } if fails => Answer::LostWork(Err(failure())),
            Query::LostWork { request } => Answer::LostWork(Ok(self.world.look_for_lost_work(request))),
            Query::Probe { .. } if fails => Answer::Probe(ProbeAnswer::Inconclusive(failure())),
            Query::Probe { request } => Answer::Probe(self.world.probe(request)),
        };
        let slow = if self.times.permille(self.plan.rates.slow) { 100 } else { 1 };
        let after = slow * self.times.between(0, 200);
        self.schedule(after, Item::Answer { id, answer });
    }
}

fn interrupted() -> Outcome {
    let output = EffectOutput::TurnEnded {
        turn: TurnOutcome::Interrupted,
        usage: Usage::default(),
        summary: String::new(),
        model: None,
        tool_digest: None,
    };
    Outcome::Done { output }
}

fn failed_turn(retryable: bool) -> TurnOutcome {
    let mut failure = Failure::retryable("model_error", "the model failed");
    failure.retryable = retryable;
    TurnOutcome::Failed { failure }
}
