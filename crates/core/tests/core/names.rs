//! Lists that are written beside a closed match hold all that it has.

use std::collections::BTreeSet;

use dalsegno_core::*;

/// The phase after this one in [`Phase::ALL`]. A new one does not compile until it has its place here.
fn next(phase: Phase) -> Option<Phase> {
    match phase {
        Phase::Preparing => Some(Phase::AfterCreate),
        Phase::AfterCreate => Some(Phase::Claiming),
        Phase::Claiming => Some(Phase::BeforeRun),
        Phase::BeforeRun => Some(Phase::Launching),
        Phase::Launching => Some(Phase::Prompting),
        Phase::Prompting => Some(Phase::Assessing),
        Phase::Assessing => Some(Phase::Committing),
        Phase::Committing => Some(Phase::Fetching),
        Phase::Fetching => Some(Phase::Checking { index: 0 }),
        Phase::Checking { .. } => Some(Phase::Closing),
        Phase::Closing => Some(Phase::Delivering),
        Phase::Delivering => Some(Phase::Bringing),
        Phase::Bringing => Some(Phase::Stopping),
        Phase::Stopping => Some(Phase::AfterRun),
        Phase::AfterRun => Some(Phase::Ended),
        Phase::Ended => None,
    }
}

/// An effect for each order.
fn orders() -> Vec<Effect> {
    let action = ActionRef { action_id: String::new(), correlation_id: String::new() };
    let message =
        Message { action_id: String::new(), by: String::new(), text: String::new(), question: None, unsure: false };
    let (run, empty) = (RunId::from("run-1"), String::new);
    let orders = [
        Order::Comment { body: empty(), by: empty() },
        Order::Transition { to: empty(), then: None },
        Order::Followup { title: empty(), description: empty() },
        Order::Steer { run: run.clone(), message },
        Order::Reply { run, ask: 1, question: empty(), reply: Reply::Granted, by: empty() },
    ];
    orders.map(|order| Effect::CarryOut { order, action: action.clone() }).into()
}

/// An effect of the kind after this one's in [`Effect::KINDS`], the first before all. The same.
fn after(effect: Option<&Effect>) -> Option<Effect> {
    let commit = || CommitId::from("c");
    let Some(effect) = effect else { return Some(Effect::PrepareWorkspace { fresh: false }) };
    match effect {
        Effect::PrepareWorkspace { .. } => Some(Effect::RunHook { hook: Hook::BeforeRun }),
        Effect::RunHook { .. } => Some(Effect::MoveIssue { to: String::new(), from: None }),
        Effect::MoveIssue { .. } => Some(Effect::StartSession { resume: None, seek: None }),
        Effect::StartSession { .. } => {
            Some(Effect::Prompt { turn: 1, prompt: PromptSpec::AfterCut, messages: Vec::new() })
        }
        Effect::Prompt { .. } => Some(Effect::StopAgent),
        Effect::StopAgent => Some(Effect::Sweep),
        Effect::Sweep => Some(Effect::CommitLeftovers),
        Effect::CommitLeftovers => Some(Effect::FetchCommit),
        Effect::FetchCommit => Some(Effect::RunCheck { commit: commit(), index: 0 }),
        Effect::RunCheck { .. } => Some(Effect::HandOff {
            saga: String::new(),
            commit: commit(),
            expected: None,
            from: None,
            pull_request: None,
        }),
        Effect::HandOff { .. } => Some(Effect::TellSaga {
            saga: String::new(),
            step: SagaStep::Push,
            word: SagaWord::Settle { verb: SettleVerb::Retry },
            by: String::new(),
            why: String::new(),
            action_id: String::new(),
            correlation_id: String::new(),
        }),
        Effect::TellSaga { .. } => Some(orders().remove(0)),
        Effect::CarryOut { order, .. } => {
            let at = orders().iter().position(|effect| effect.kind() == order.kind()).expect("each has a place");
            let next = orders().into_iter().nth(at + 1);
            Some(next.unwrap_or(Effect::PushBranch { commit: commit(), expected: None }))
        }
        Effect::PushBranch { .. } => Some(Effect::BringRemote),
        Effect::BringRemote => Some(Effect::Comment { commit: commit(), checks: Vec::new() }),
        Effect::Comment { .. } => Some(Effect::RemoveWorkspace { handed_off: None }),
        Effect::RemoveWorkspace { .. } => {
            let receiver = Receiver::Slack { address: String::new() };
            Some(Effect::Notify { receiver, notices: Vec::new(), missed: 0 })
        }
        Effect::Notify { .. } => Some(Effect::Mend { mend: Mend::EndProcesses { owner: String::new() } }),
        Effect::Mend { .. } => None,
    }
}

#[test]
fn the_lists_of_phases_kinds_and_steps_are_whole() {
    let phases: Vec<Phase> = std::iter::successors(Some(Phase::Preparing), |phase| next(*phase)).collect();
    assert_eq!(phases, Phase::ALL);
    let effects: Vec<Effect> = std::iter::successors(after(None), |effect| after(Some(effect))).collect();
    assert_eq!(effects.iter().map(Effect::kind).collect::<Vec<_>>(), Effect::KINDS);
    let words: BTreeSet<&str> = Phase::ALL.into_iter().map(Phase::as_str).collect();
    assert_eq!(words.len(), Phase::ALL.len());
    let order = |step| match step {
        SagaStep::Look => 0,
        SagaStep::Push => 1,
        SagaStep::Open => 2,
        SagaStep::Ready => 3,
        SagaStep::Comment => 4,
        SagaStep::Move => 5,
    };
    assert_eq!(SagaStep::ALL.map(order), [0, 1, 2, 3, 4, 5]);
}
