//! A machine on a desk: batches are committed at once, effects and queries wait for the test.

use dalsegno_core::*;

pub(crate) struct Desk {
    pub(crate) machine: Machine,
    pub(crate) now: i64,
    pub(crate) journal: Vec<Recorded>,
    /// Rows of the ledger, as a store would have them.
    pub(crate) rows: std::collections::BTreeMap<(String, u32, u32), UsageView>,
    pub(crate) performs: Vec<EffectRequest>,
    pub(crate) asks: Vec<(QueryId, Query)>,
    pub(crate) cancels: Vec<EffectId>,
    pub(crate) replies: Vec<(u64, Receipt)>,
    /// Why callers were refused without a receipt.
    pub(crate) unrecorded: Vec<(u64, Failure)>,
    pub(crate) wake: Option<Timestamp>,
    pub(crate) policy: Policy,
    pub(crate) epoch: u64,
    /// What each look outside sees; `None`: looks wait for the test.
    pub(crate) outside: Option<Inspection>,
}

pub(crate) fn policy() -> Policy {
    Policy {
        handoff: Some(HandoffPolicy {
            checks: vec!["./test".into()],
            state: Some("Human Review".into()),
            ..HandoffPolicy::default()
        }),
        ..Policy::of(
            "/p",
            WorkspacePolicy::of("/w", "."),
            AgentPolicy { command: Some("agent".into()), max_turns: 3, ..AgentPolicy::of(AgentKind::Acp) },
        )
    }
}

pub(crate) fn issue(number: u32) -> Issue {
    Issue::new(IssueId(format!("i{number}")), format!("DS-{number}"), "title", "Todo")
}

pub(crate) fn in_state(number: u32, state: &str) -> Issue {
    Issue { state: state.into(), ..issue(number) }
}

pub(crate) fn workspace_ready(created: bool) -> EffectOutput {
    EffectOutput::WorkspaceReady {
        workspace: Workspace {
            path: "/w/i".into(),
            branch: Some("b".into()),
            base_commit: Some("base".into()),
            made_by: None,
        },
        created,
    }
}

pub(crate) fn turn_ended(turn: TurnOutcome) -> EffectOutput {
    EffectOutput::TurnEnded {
        turn,
        usage: Usage::new(100, 10),
        summary: "words".into(),
        model: None,
        tool_digest: None,
    }
}

pub(crate) fn turn_ended_with(turn: TurnOutcome, usage: Usage) -> EffectOutput {
    EffectOutput::TurnEnded { turn, usage, summary: String::new(), model: None, tool_digest: None }
}

pub(crate) fn session(how: SessionStart) -> EffectOutput {
    EffectOutput::SessionStarted { session: "s1".into(), how, usage: None }
}

pub(crate) fn retryable() -> Failure {
    Failure::retryable("test_failure", "it failed")
}

impl Desk {
    pub(crate) fn new(policy: Policy) -> Self {
        let mut desk = Self {
            machine: Machine::replay(None, []).unwrap(),
            now: 1_000_000,
            journal: Vec::new(),
            rows: std::collections::BTreeMap::new(),
            performs: Vec::new(),
            asks: Vec::new(),
            cancels: Vec::new(),
            replies: Vec::new(),
            unrecorded: Vec::new(),
            wake: None,
            policy,
            epoch: 0,
            outside: Some(Inspection::clear(u64::MAX)),
        };
        desk.start();
        desk
    }

    fn start(&mut self) {
        self.epoch += 1;
        let policy = Box::new(self.policy.clone());
        self.hand(Input::Started { epoch: self.epoch, version: "0".into(), pid: 1 });
        self.hand(Input::PolicyLoaded { hash: "p".into(), policy });
    }

    /// The daemon dies and a new one takes over.
    pub(crate) fn restart(&mut self) {
        self.machine = Machine::replay(None, self.journal.iter().cloned()).unwrap();
        self.performs.clear();
        self.asks.clear();
        self.cancels.clear();
        self.start();
    }

    pub(crate) fn hand(&mut self, input: Input) {
        self.machine.handle(input, Timestamp(self.now));
        self.pump();
    }

    fn pump(&mut self) {
        loop {
            match self.machine.poll_output() {
                Output::Append(batch) => {
                    let committed = batch.committed();
                    for view in &batch.views {
                        if let View::Usage(row) = view {
                            self.rows.insert((row.run.0.clone(), row.turn, row.place), (**row).clone());
                        }
                    }
                    self.journal.extend(batch.events);
                    self.machine.handle(Input::Committed(committed), Timestamp(self.now));
                }
                Output::Perform(request) => self.performs.push(*request),
                Output::Cancel(id) => self.cancels.push(id),
                Output::Reply { caller, answer: ActionAnswer::Decided(receipt) } => {
                    self.replies.push((caller, *receipt))
                }
                Output::Reply { caller, answer: ActionAnswer::Unrecorded(failure) } => {
                    self.unrecorded.push((caller, failure));
                }
                Output::Ask(id, query) => match (&self.outside, &query) {
                    (Some(seen), Query::Inspect { .. }) => {
                        let answer = Answer::Inspect(Box::new(seen.clone()));
                        self.machine.handle(Input::Answered { id, answer }, Timestamp(self.now));
                    }
                    (Some(_) | None, _) => self.asks.push((id, query)),
                },
                Output::Wait(wake) => {
                    self.wake = wake;
                    return;
                }
            }
        }
    }

    pub(crate) fn pass(&mut self, ms: i64) {
        self.now += ms;
        self.hand(Input::Tick);
    }

    /// Answers the open poll: these are all issues of the tracker.
    pub(crate) fn poll(&mut self, issues: &[Issue]) {
        self.answer_poll(self.poll_answer(issues));
    }

    /// Answers the open poll: the tracker cannot be read.
    pub(crate) fn poll_fails(&mut self) {
        let failure = || Err(retryable());
        self.answer_poll(Answer::poll(failure(), failure(), Vec::new()));
    }

    fn answer_poll(&mut self, answer: Answer) {
        if !self.asks.iter().any(|(_, query)| matches!(query, Query::Poll { .. })) {
            self.hand(Input::Refresh);
        }
        let at = self.asks.iter().position(|(_, query)| matches!(query, Query::Poll { .. })).unwrap();
        let (id, _) = self.asks.remove(at);
        self.hand(Input::Answered { id, answer });
    }

    pub(crate) fn poll_answer(&self, issues: &[Issue]) -> Answer {
        let active = issues.iter().filter(|issue| state_in(&issue.state, &self.policy.tracker.active_states));
        Answer::poll(Ok(active.cloned().collect()), Ok(issues.to_vec()), Vec::new())
    }

    pub(crate) fn answer_assess(&mut self, issue: Option<Issue>, work: Work) {
        let at =
            self.asks.iter().position(|(_, query)| matches!(query, Query::Assess { .. })).expect("no look is open");
        let (id, _) = self.asks.remove(at);
        self.hand(Input::Answered { id, answer: Answer::Assess { issue: Ok(issue), work: Ok(work) } });
    }

    pub(crate) fn answer_probe(&mut self, answer: ProbeAnswer) {
        let at =
            self.asks.iter().position(|(_, query)| matches!(query, Query::Probe { .. })).expect("no probe is open");
        let (id, _) = self.asks.remove(at);
        self.hand(Input::Answered { id, answer: Answer::Probe(answer) });
    }

    /// Kinds of the effects under way.
    pub(crate) fn open(&self) -> Vec<&'static str> {
        self.performs.iter().map(|request| request.effect.kind()).collect()
    }

    /// Takes the first effect of the kind off the desk.
    pub(crate) fn take(&mut self, kind: &str) -> EffectRequest {
        let at = self.performs.iter().position(|request| request.effect.kind() == kind);
        let open = self.open();
        self.performs.remove(at.unwrap_or_else(|| panic!("no {kind} among {open:?}")))
    }

    pub(crate) fn done(&mut self, kind: &str, output: EffectOutput) -> EffectRequest {
        let request = self.take(kind);
        self.hand(Input::EffectEnded { id: request.id, outcome: Outcome::Done { output } });
        request
    }

    pub(crate) fn fail(&mut self, kind: &str, failure: Failure) {
        let request = self.take(kind);
        self.hand(Input::EffectEnded { id: request.id, outcome: Outcome::Failed { failure } });
    }

    /// Ends a request that was taken.
    pub(crate) fn end(&mut self, request: &EffectRequest, outcome: Outcome) {
        self.hand(Input::EffectEnded { id: request.id, outcome });
    }

    pub(crate) fn doubt(&mut self, kind: &str) {
        let request = self.take(kind);
        self.hand(Input::EffectEnded { id: request.id, outcome: Outcome::InDoubt { reason: "test".into() } });
    }

    pub(crate) fn status(&self, number: u32) -> IssueStatus {
        self.entry(number).status
    }

    pub(crate) fn entry(&self, number: u32) -> &IssueEntry {
        &self.machine.state().issues[&IssueId(format!("i{number}"))]
    }

    pub(crate) fn phase(&self) -> Option<Phase> {
        self.machine.state().runs.values().next().map(|run| run.phase)
    }

    /// Issues of the runs that started, in order.
    pub(crate) fn dispatched(&self) -> Vec<String> {
        self.journal
            .iter()
            .filter_map(|recorded| match &recorded.event {
                Event::RunStarted { issue, .. } => Some(issue.0.clone()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.journal.iter().map(|recorded| recorded.event.kind()).collect()
    }

    /// Brings a fresh issue 1 into its first turn.
    pub(crate) fn reach_turn(&mut self) {
        self.poll(&[issue(1)]);
        self.done("prepare_workspace", workspace_ready(true));
        self.done("start_session", session(SessionStart::New));
        assert_eq!(self.phase(), Some(Phase::Prompting));
    }

    /// The live run.
    pub(crate) fn run(&self) -> &Run {
        self.machine.state().runs.values().next().expect("no run is live")
    }

    /// The agent reports what its turn used so far.
    pub(crate) fn report(&mut self, usage: Usage, model: Option<&str>) {
        self.now += 2_000;
        let (run, model) = (self.run().id.clone(), model.map(str::to_owned));
        self.hand(Input::Signal { run, signal: Signal::Usage(Report { usage, model }) });
    }

    /// The turn ends with this usage.
    pub(crate) fn turn_of(&mut self, usage: Usage, model: Option<&str>, tool_digest: Option<&str>) {
        self.done(
            "prompt",
            EffectOutput::TurnEnded {
                turn: TurnOutcome::Completed,
                usage,
                summary: String::new(),
                model: model.map(str::to_owned),
                tool_digest: tool_digest.map(str::to_owned),
            },
        );
    }

    /// Everything of a run that is stopping comes to its end.
    pub(crate) fn stop(&mut self) {
        if self.open().contains(&"prompt") {
            self.done("prompt", turn_ended_with(TurnOutcome::Interrupted, Usage::default()));
        }
        self.done("stop_agent", EffectOutput::Swept { killed: 1 });
    }

    /// From a poll to the first turn of the next run.
    pub(crate) fn next_run(&mut self, issue: &Issue) {
        self.poll(std::slice::from_ref(issue));
        self.done("prepare_workspace", workspace_ready(false));
        self.done("start_session", session(SessionStart::New));
    }

    pub(crate) fn reason(&self, number: u32) -> String {
        self.entry(number).reason.clone().unwrap_or_default()
    }

    pub(crate) fn turn(&mut self, turn: TurnOutcome) -> EffectRequest {
        self.done("prompt", turn_ended(turn))
    }

    /// From a turn that ended well to the fetched commit.
    pub(crate) fn reach_checks(&mut self) {
        self.reach_turn();
        self.turn(TurnOutcome::Completed);
        self.answer_assess(Some(issue(1)), with_commit());
        self.done("fetch_commit", EffectOutput::CommitFetched { commit: "c1".into() });
    }

    /// The saga of the handoff moved: these of its steps are there now.
    pub(crate) fn steps(&mut self, moved: &[(SagaStep, StepState)]) {
        self.progress(moved, None, None);
    }

    pub(crate) fn progress(
        &mut self,
        moved: &[(SagaStep, StepState)],
        turned_back: Option<Failure>,
        state: Option<&str>,
    ) {
        let effect = self.performs.iter().find(|request| request.effect.kind() == "hand_off").expect("no handoff").id;
        let mut steps = self.run().handoff.clone().unwrap().steps;
        for (step, state) in moved {
            steps.iter_mut().find(|(known, _)| known == step).unwrap().1 = state.clone();
        }
        let entry = self.run().handoff.as_ref().unwrap().heard + 1;
        let opened = steps.iter().any(|(step, state)| (*step, state) == (SagaStep::Open, &StepState::Done));
        let pull_request = opened.then(pull_request);
        let progress = SagaProgress { entry, steps, turned_back, moved: state.map(str::to_owned), pull_request };
        self.hand(Input::SagaMoved { effect, progress });
    }

    /// The draft is there.
    pub(crate) fn opened(&mut self) {
        for step in [SagaStep::Look, SagaStep::Push, SagaStep::Open] {
            self.steps(&[(step, StepState::Done)]);
        }
    }

    /// The push is done, and what hangs on it is under way.
    pub(crate) fn pushed(&mut self) {
        self.steps(&[
            (SagaStep::Push, StepState::Done),
            (SagaStep::Comment, StepState::Intended),
            (SagaStep::Move, StepState::Intended),
        ]);
    }

    /// All steps are done, the issue is in this state, and the saga is over.
    pub(crate) fn delivered(&mut self, state: &str) {
        let steps: Vec<_> = self.run().handoff.clone().unwrap().steps;
        let done: Vec<_> = steps.iter().map(|(step, _)| (*step, StepState::Done)).collect();
        self.progress(&done, None, Some(state));
        self.done("hand_off", EffectOutput::HandedOff { end: SagaEnd::Committed });
    }

    /// The push was refused for good, and with that the saga is over.
    pub(crate) fn refused(&mut self, failure: &Failure) {
        let state = StepState::NotApplied { reason: failure.to_string() };
        self.progress(&[(SagaStep::Push, state)], Some(failure.clone()), None);
        self.done("hand_off", EffectOutput::HandedOff { end: SagaEnd::Compensated });
    }

    /// To the moment when the push is under way.
    pub(crate) fn reach_delivery(&mut self) {
        self.reach_checks();
        self.done("run_check", EffectOutput::CheckEnded { passed: true, output_tail: String::new(), kept: None });
        self.done("stop_agent", EffectOutput::Swept { killed: 1 });
        assert_eq!((self.phase(), self.open()), (Some(Phase::Delivering), vec!["hand_off"]));
        self.steps(&[(SagaStep::Push, StepState::Intended)]);
    }

    /// To the end of the handoff.
    pub(crate) fn hand_off(&mut self) {
        self.reach_delivery();
        self.pushed();
        self.delivered("Human Review");
    }
}

/// What a handoff to a forge opens.
pub(crate) fn pull_request() -> PullRequest {
    PullRequest { number: 7, url: "https://forge.example/o/n/pull/7".into() }
}

/// [`policy`], with a forge that has pull requests.
pub(crate) fn forge_policy() -> Policy {
    let mut policy = policy();
    policy.handoff.as_mut().unwrap().forge =
        Some(ForgePolicy { kind: "github".into(), provider: serde_json::Map::new() });
    policy
}

pub(crate) fn with_commit() -> Work {
    Work { head: Some("c1".into()), has_commits: true, uncommitted: Vec::new(), diff_digest: None }
}

pub(crate) fn without_commit() -> Work {
    Work { head: Some("base".into()), has_commits: false, uncommitted: Vec::new(), diff_digest: None }
}

pub(crate) fn dirty() -> Work {
    Work { uncommitted: vec!["a.txt".into()], ..with_commit() }
}
