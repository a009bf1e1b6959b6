//! Whatever comes in, in whatever order: the machine neither panics nor writes what cannot be replayed.

use crate::desk::*;
use dalsegno_core::*;
use proptest::prelude::*;

/// Something that happens to the machine.
#[derive(Debug, Clone)]
enum Happening {
    /// The oldest or newest outstanding effect ends like this.
    Ends {
        which: usize,
        how: u8,
    },
    /// An outstanding question is answered like this.
    Answered {
        which: usize,
        how: u8,
    },
    /// Somebody answers an effect or a question that was never asked.
    Stray {
        id: u64,
        how: u8,
    },
    Committed,
    Signal {
        tokens: u64,
        model: Option<String>,
    },
    Edit {
        issue: u32,
        how: u8,
    },
    Passes {
        ms: i64,
    },
    Jumps,
    Refresh,
    Webhook {
        named: Option<u8>,
    },
    Reload {
        turns: u32,
        broken: bool,
    },
    Restart,
    Restore,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (0..4_usize, any::<u8>()).prop_map(|(which, how)| Happening::Ends { which, how }),
        6 => (0..4_usize, any::<u8>()).prop_map(|(which, how)| Happening::Answered { which, how }),
        1 => (0..40_u64, any::<u8>()).prop_map(|(id, how)| Happening::Stray { id, how }),
        10 => Just(Happening::Committed),
        1 => (0..10_000_u64, prop::option::of("[ab]")).prop_map(|(tokens, model)| Happening::Signal { tokens, model }),
        2 => (1..4_u32, any::<u8>()).prop_map(|(issue, how)| Happening::Edit { issue, how }),
        3 => (-5_000..400_000_i64).prop_map(|ms| Happening::Passes { ms }),
        1 => Just(Happening::Jumps),
        1 => Just(Happening::Refresh),
        2 => proptest::option::of(0_u8..4).prop_map(|named| Happening::Webhook { named }),
        1 => (1..4_u32, any::<bool>()).prop_map(|(turns, broken)| Happening::Reload { turns, broken }),
        1 => Just(Happening::Restart),
        1 => Just(Happening::Restore),
    ]
}

/// An output, right or wrong for the effect.
fn output(effect: Option<&Effect>, how: u8) -> EffectOutput {
    let turns = [
        TurnOutcome::Completed,
        TurnOutcome::Failed { failure: retryable() },
        TurnOutcome::RateLimited { reset_at: Some(Timestamp(2_000_000)) },
        TurnOutcome::Asked { question: "?".into(), wants: Wants::Input },
        TurnOutcome::Interrupted,
        TurnOutcome::Completed,
    ];
    let starts = [
        SessionStart::New,
        SessionStart::Resumed,
        SessionStart::ResumedPromptFound,
        SessionStart::ResumedPromptMissing,
        SessionStart::Gone,
    ];
    let small = usize::from(how) / 16;
    match effect {
        _ if how % 16 == 15 => EffectOutput::Commented,
        None => EffectOutput::Pushed,
        Some(Effect::PrepareWorkspace { .. }) => workspace_ready(small % 2 == 0),
        Some(Effect::RunHook { .. }) => EffectOutput::HookEnded { output_tail: String::new() },
        Some(Effect::MoveIssue { to, .. }) => {
            EffectOutput::Moved { state: if small == 1 { "Done".into() } else { to.clone() } }
        }
        Some(Effect::StartSession { .. }) => EffectOutput::SessionStarted {
            session: "s1".into(),
            how: starts[small % starts.len()],
            usage: how.is_multiple_of(3).then(|| Usage::new(u64::from(how) * 50, 7)),
        },
        Some(Effect::Prompt { .. }) => turn_ended(turns[small % turns.len()].clone()),
        Some(Effect::StopAgent | Effect::Sweep) => EffectOutput::Swept { killed: 0 },
        Some(Effect::CommitLeftovers) => EffectOutput::LeftoversCommitted { committed: true },
        Some(Effect::FetchCommit) => EffectOutput::CommitFetched { commit: CommitId(format!("c{small}")) },
        Some(Effect::RunCheck { .. }) => {
            EffectOutput::CheckEnded { passed: small > 4, output_tail: String::new(), kept: None }
        }
        Some(Effect::HandOff { .. }) => EffectOutput::HandedOff {
            end: match how % 3 {
                0 => SagaEnd::Committed,
                1 => SagaEnd::Compensated,
                _ => SagaEnd::Abandoned,
            },
        },
        Some(Effect::TellSaga { .. }) => EffectOutput::SagaTold,
        Some(Effect::CarryOut { order, .. }) => match order {
            Order::Comment { .. } => EffectOutput::Commented,
            Order::Transition { to, .. } => EffectOutput::Moved { state: to.clone() },
            Order::Followup { .. } => EffectOutput::IssueMade { identifier: "DS-9".into() },
            Order::Steer { .. } | Order::Reply { .. } => EffectOutput::AgentTold,
        },
        Some(Effect::PushBranch { .. }) => EffectOutput::Pushed,
        Some(Effect::BringRemote) => EffectOutput::RemoteBrought { commit: CommitId(format!("r{small}")) },
        Some(Effect::Comment { .. }) => EffectOutput::Commented,
        Some(Effect::RemoveWorkspace { .. }) if small % 2 == 0 => EffectOutput::WorkspaceRemoved,
        Some(Effect::Notify { .. }) => EffectOutput::Notified,
        Some(Effect::Mend { .. }) => EffectOutput::Mended { done: "ended".into() },
        Some(Effect::RemoveWorkspace { .. }) => EffectOutput::WorkspaceKept { reason: "dirty".into() },
    }
}

fn outcome(effect: Option<&Effect>, how: u8) -> Outcome {
    match how % 16 {
        0 => Outcome::Failed { failure: retryable() },
        1 if matches!(effect, Some(Effect::PushBranch { .. })) => {
            Outcome::Failed { failure: Failure::permanent("branch_diverged", "somebody else pushed") }
        }
        1 => Outcome::Failed { failure: Failure::permanent("for_good", "no") },
        2 => Outcome::InDoubt { reason: "?".into() },
        _ => Outcome::Done { output: output(effect, how) },
    }
}

/// What may be found outside: orphans of all kinds, what is missing, what cannot be looked at.
fn seen(wanted: &LookFor, how: u8) -> Inspection {
    let standing = |number: usize| match (usize::from(how) + number) % 6 {
        0 => WorkspaceStanding::Missing,
        1 => WorkspaceStanding::Unreadable(retryable()),
        _ => WorkspaceStanding::Known,
    };
    let known = wanted.workspaces.iter().enumerate().map(|(number, path)| FoundWorkspace {
        path: path.clone(),
        identifier: None,
        standing: standing(number),
        bytes: Some(1),
    });
    let orphan = |number: u32, standing| FoundWorkspace {
        path: format!("/w/X-{number}"),
        identifier: Some(format!("X-{number}")),
        standing,
        bytes: None,
    };
    let orphans = [orphan(1, WorkspaceStanding::Clean), orphan(2, WorkspaceStanding::Holds("work".into()))];
    let process = |owner: &str| FoundProcess { owner: owner.to_owned(), pids: vec![7] };
    Inspection {
        workspaces: if how.is_multiple_of(7) { Err(retryable()) } else { Ok(known.chain(orphans).collect()) },
        processes: Ok(vec![process("run-1"), process("run-900"), process("issue-i1"), process("notice-n1")]),
        transcripts: Ok(vec![FoundTranscript { run: "run-1".into(), wrong: Ok("garbage".into()) }]),
        blobs: Ok(vec![
            FoundFile::OpenBatch { batch: "batch-3".into(), run: "run-1".into(), whole: how.is_multiple_of(2) },
            FoundFile::Broken { file: "1-0-check-1.log".into(), run: "run-1".into(), how: Broken::Missing },
            FoundFile::Unreceipted { file: "notes.txt".into() },
            FoundFile::Under {
                run: format!("run-{}", how % 4).as_str().into(),
                policy: "x".into(),
                agent: "acp".into(),
            },
        ]),
        database: if how.is_multiple_of(5) { Soundness::Checking } else { Soundness::Sound },
        free_bytes: Ok(if how.is_multiple_of(9) { 0 } else { u64::MAX }),
        state_bytes: None,
    }
}

fn answer(query: Option<&Query>, issues: &[Issue], how: u8) -> Answer {
    match (query, how % 12) {
        (_, 11) => Answer::Probe(ProbeAnswer::NotApplied),
        (Some(Query::Poll { .. }), 0) => Answer::poll(Err(retryable()), Ok(Vec::new()), Vec::new()),
        (Some(Query::Poll { .. }) | None, _) => Answer::poll(Ok(issues.to_vec()), Ok(issues.to_vec()), Vec::new()),
        (Some(Query::Assess { .. }), 0) => Answer::Assess { issue: Err(retryable()), work: Ok(with_commit()) },
        (Some(Query::Assess { .. }), 1) => Answer::Assess { issue: Ok(None), work: Ok(with_commit()) },
        (Some(Query::Assess { issue, .. }), 2) => {
            Answer::Assess { issue: Ok(Some(issue.clone())), work: Err(retryable()) }
        }
        (Some(Query::Assess { issue, .. }), kind) => {
            let now = issues.iter().find(|known| known.id == issue.id).cloned();
            let work = if kind % 3 == 0 {
                without_commit()
            } else if kind % 3 == 1 {
                dirty()
            } else {
                with_commit()
            };
            Answer::Assess { issue: Ok(now), work: Ok(work) }
        }
        (Some(Query::Look { .. }), 0) => Answer::Look(Err(retryable())),
        (Some(Query::Look { .. }), 1) => Answer::Look(Ok(None)),
        (Some(Query::Look { issue, .. }), _) => {
            Answer::Look(Ok(issues.iter().find(|known| known.id == *issue).cloned()))
        }
        (Some(Query::Inspect { wanted, .. }), _) => Answer::Inspect(Box::new(seen(wanted, how))),
        (Some(Query::LostWork { .. }), 0) => Answer::LostWork(Err(retryable())),
        (Some(Query::LostWork { .. }), 1..=3) => Answer::LostWork(Ok(Some(CommitId("lost".to_owned())))),
        (Some(Query::LostWork { request }), _) => {
            Answer::LostWork(Ok(request.known_branch.as_ref().and_then(|known| known.commit.clone())))
        }
        (Some(Query::Probe { request }), 0) => Answer::Probe(ProbeAnswer::Applied(output(Some(&request.effect), 32))),
        (Some(Query::Probe { .. }), 1..=4) => Answer::Probe(ProbeAnswer::Inconclusive(retryable())),
        (Some(Query::Probe { .. }), _) => Answer::Probe(ProbeAnswer::NotApplied),
    }
}

/// A machine whose batches are committed when the test says so.
struct Slow {
    machine: Machine,
    now: i64,
    epoch: u64,
    policy: Policy,
    issues: Vec<Issue>,
    synced: Vec<Recorded>,
    written: Option<Batch>,
    performs: Vec<EffectRequest>,
    asks: Vec<(QueryId, Query)>,
    boundaries: Vec<State>,
}

impl Slow {
    fn new(policy: Policy) -> Self {
        let mut slow = Self {
            machine: Machine::replay(None, []).unwrap(),
            now: 1_000_000,
            epoch: 0,
            policy,
            issues: vec![issue(1), issue(2)],
            synced: Vec::new(),
            written: None,
            performs: Vec::new(),
            asks: Vec::new(),
            boundaries: Vec::new(),
        };
        slow.restart();
        slow
    }

    /// The journal as far as it is synced is a backup that is restored.
    fn restore(&mut self) {
        self.epoch += 1_000;
        let kept = self.synced.len() as u64;
        self.boundaries.retain(|state| state.seq <= kept);
        let at = self.synced.last().map_or(Timestamp(self.now), |last| last.at);
        let journal = "lost".to_owned();
        let event = Event::JournalRestored { epoch: self.epoch, journal, backup_at: at, skipped: 100 };
        self.synced.push(Recorded { seq: self.synced.len() as u64 + 1, at, event });
        self.restart();
    }

    fn restart(&mut self) {
        self.written = None;
        self.performs.clear();
        self.asks.clear();
        let kept = self.synced.len() as u64;
        self.boundaries.retain(|state| state.seq <= kept);
        self.machine = Machine::replay(None, self.synced.iter().cloned()).unwrap();
        self.epoch = self.machine.state().epoch + 1;
        self.hand(Input::Started { epoch: self.epoch, version: "0".into(), pid: 1 });
        self.reload(false);
    }

    fn reload(&mut self, broken: bool) {
        if broken {
            self.hand(Input::PolicyRejected(Failure::permanent("workflow_parse_error", "no")));
        } else {
            let hash = PolicyHash(format!("p{}", self.policy.agent.max_turns));
            self.hand(Input::PolicyLoaded { hash, policy: Box::new(self.policy.clone()) });
        }
    }

    fn hand(&mut self, input: Input) {
        self.machine.handle(input, Timestamp(self.now));
        for outputs in 0.. {
            assert!(outputs < 10_000, "no end of outputs");
            match self.machine.poll_output() {
                Output::Append(batch) => {
                    assert!(self.written.is_none(), "one batch at a time");
                    self.boundaries.push(self.machine.state().clone());
                    self.written = Some(batch);
                }
                Output::Perform(request) => {
                    let intended = |recorded: &Recorded| match &recorded.event {
                        Event::EffectIntended { effect_id, attempt, .. } => {
                            (*effect_id, *attempt) == (request.id, request.attempt)
                        }
                        _ => false,
                    };
                    assert!(self.synced.iter().any(intended), "{} is performed before its intent", request.key);
                    self.performs.push(*request);
                }
                Output::Cancel(_) | Output::Reply { .. } => {}
                Output::Ask(id, query) => self.asks.push((id, query)),
                Output::Wait(_) => return,
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Ends { which, how } => {
                if self.performs.is_empty() {
                    return;
                }
                let request = self.performs.remove(which % self.performs.len());
                let outcome = outcome(Some(&request.effect), how);
                self.hand(Input::EffectEnded { id: request.id, outcome });
            }
            Happening::Answered { which, how } => {
                if self.asks.is_empty() {
                    return;
                }
                let (id, query) = self.asks.remove(which % self.asks.len());
                let answer = answer(Some(&query), &self.issues, how);
                self.hand(Input::Answered { id, answer });
            }
            Happening::Stray { id, how } => {
                self.performs.retain(|request| request.id != EffectId(id));
                self.asks.retain(|(query, _)| *query != QueryId(id));
                self.hand(Input::EffectEnded { id: EffectId(id), outcome: outcome(None, how) });
                let answer = answer(None, &self.issues, how);
                self.hand(Input::Answered { id: QueryId(id), answer });
            }
            Happening::Committed => {
                if let Some(batch) = self.written.take() {
                    let committed = batch.committed();
                    self.synced.extend(batch.events);
                    self.hand(Input::Committed(committed));
                }
            }
            Happening::Signal { tokens, model } => {
                let Some(run) = self.machine.state().runs.keys().next().cloned() else { return };
                self.hand(Input::Signal { run, signal: Signal::Usage(Report { usage: Usage::new(tokens, 1), model }) });
            }
            Happening::Edit { issue: number, how } => self.edit(number, how),
            Happening::Passes { ms } => {
                self.now += ms;
                self.hand(Input::Tick);
            }
            Happening::Jumps => self.hand(Input::ClockJumped),
            Happening::Refresh => self.hand(Input::Refresh),
            Happening::Webhook { named } => {
                self.hand(Input::Webhook { names: named.map(|number| format!("DS-{number}")).into_iter().collect() });
            }
            Happening::Reload { turns, broken } => {
                self.policy.agent.max_turns = turns;
                // One of two receivers comes and goes.
                let commands = ["say", "tell"].into_iter().take(if turns == 2 { 1 } else { 2 });
                let receivers = commands.map(|command| Receiver::Command { command: command.to_owned() });
                self.policy.notify =
                    receivers.map(|receiver| NotifyPolicy { receiver, on: Topic::ALL.to_vec() }).collect();
                self.reload(broken);
            }
            Happening::Restart => self.restart(),
            Happening::Restore => self.restore(),
        }
    }

    fn edit(&mut self, number: u32, how: u8) {
        let id = IssueId(format!("i{number}"));
        if how.is_multiple_of(8) {
            self.issues.retain(|issue| issue.id != id);
        } else if let Some(known) = self.issues.iter_mut().find(|issue| issue.id == id) {
            let states = ["Todo", "In Progress", "Rework", "Backlog", "Human Review", "Done"];
            known.state = states[usize::from(how) % states.len()].to_owned();
            known.dispatchable = !how.is_multiple_of(7);
        } else {
            self.issues.push(issue(number));
        }
    }
}

fn some_policy() -> impl Strategy<Value = Policy> {
    (any::<[bool; 8]>(), 1..4_u32, 1..4_u32).prop_map(|(on, turns, slots)| {
        let mut policy = policy();
        let hook = |on: bool| on.then(|| "true".to_owned());
        policy.hooks.after_create = hook(on[0]);
        policy.hooks.before_run = hook(on[1]);
        policy.hooks.after_run = hook(on[2]);
        policy.hooks.before_remove = hook(on[3]);
        policy.agent.max_turns = turns;
        policy.agent.max_concurrent_agents = slots;
        let handoff = policy.handoff.as_mut().unwrap();
        handoff.claim_state = on[4].then(|| "In Progress".to_owned());
        handoff.comment = hook(on[5]);
        handoff.state = on[6].then(|| "Human Review".to_owned());
        if on[7] && on[6] {
            policy.handoff = None;
        }
        policy.budget.issue.tokens = on[0].then_some(9_000);
        policy.budget.day.tokens = on[1].then_some(15_000);
        policy.budget.issue.turns = on[2].then_some(4);
        policy.budget.issue.wall_clock_ms = on[3].then_some(2_000_000);
        policy.breaker.no_progress_turns = turns;
        policy.quota.resume_at_reset = !on[4];
        policy
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_input_in_any_order_leaves_a_journal_whose_every_prefix_folds(
        policy in some_policy(),
        happenings in prop::collection::vec(happening(), 0..250),
    ) {
        let mut slow = Slow::new(policy);
        for happening in happenings {
            slow.happen(happening);
            let state = slow.machine.state();
            prop_assert_eq!(state.issues.values().filter(|entry| entry.current_run.is_some()).count(), state.runs.len());
            let issues = state.issues.values().chain(state.gone.values());
            let sums = issues.fold(Usage::default(), |sum, entry| {
                assert_eq!(entry.models.total(), entry.usage);
                sum.plus(entry.usage)
            });
            prop_assert_eq!(sums, state.usage);
        }
        let mut fold = State::default();
        for recorded in &slow.synced {
            let text = serde_json::to_string(recorded).unwrap();
            let read: Recorded = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, recorded);
            prop_assert!(recorded.at >= fold.at);
            if let Event::RunStarted { issue, .. } = &recorded.event {
                let looked = fold.issues.get(issue).is_some_and(|entry| entry.unproved.is_none());
                prop_assert!(looked, "nothing is dispatched after a restore before somebody looked");
            }
            fold.apply(recorded).unwrap();
            if let Some(live) = slow.boundaries.iter().rev().find(|live| live.seq == fold.seq) {
                prop_assert_eq!(live, &fold);
                let kept = Snapshot { format: SNAPSHOT_FORMAT, state: fold.clone() };
                let text = serde_json::to_string(&kept).unwrap();
                let kept: Snapshot = serde_json::from_str(&text).unwrap();
                let tail = slow.synced.iter().filter(|later| later.seq > fold.seq).cloned();
                let whole = Machine::replay(Some(kept), tail).unwrap();
                let straight = Machine::replay(None, slow.synced.iter().cloned()).unwrap();
                prop_assert_eq!(whole.state(), straight.state());
            }
        }
    }
}
