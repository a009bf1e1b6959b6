//! Events of operators' actions, questions and messages: the newest part of the third version.

use dalsegno_core::{
    ActionRef, Effect, EffectId, EffectOutput, Ending, Event, Failure, IssueId, IssueStatus, Message, Missing, Notice,
    Order, Outcome, PromptSpec, ReadyState, Receiver, Reply, RunId, RunOutcome, Start, Stop, StopWish, Surface, Then,
    Timestamp, Told, Topic, TurnOutcome, Wants,
};

fn action(number: u32) -> ActionRef {
    ActionRef { action_id: format!("act-{number}"), correlation_id: format!("c-act-{number}") }
}

fn message(question: Option<&str>, unsure: bool) -> Message {
    let (by, text) = ("ada".to_owned(), "mind the tests".to_owned());
    Message { action_id: "act-4".to_owned(), by, text, question: question.map(str::to_owned), unsure }
}

fn carried_out(id: u64, order: Order) -> Event {
    Event::EffectIntended {
        effect_id: EffectId(id),
        issue: IssueId::from("i1"),
        run: None,
        key: "issue/i1/act-5".to_owned(),
        attempt: 1,
        effect: Effect::CarryOut { order, action: action(5) },
    }
}

fn ended(id: u64, output: EffectOutput) -> Event {
    let (issue, outcome) = (IssueId::from("i1"), Outcome::Done { output });
    Event::EffectEnded { effect_id: EffectId(id), issue, run: None, outcome, probed: false }
}

/// Each with the shapes that it has.
pub(crate) fn operated() -> Vec<Event> {
    let (issue, run, at) = (IssueId::from("i1"), RunId::from("run-4"), Timestamp(1_790_000_000_123));
    let question = || "Which colour?".to_owned();
    let answered = |reply: Reply| {
        let (issue, by, action_id) = (IssueId::from("i1"), "ada".to_owned(), "act-4".to_owned());
        Event::QuestionAnswered { issue, reply, by, action_id }
    };
    let reply = || Reply::Text { text: "blue".to_owned() };
    let asked = |wants: Wants, live: Option<u64>| {
        let (run, question) = (RunId::from("run-4"), question());
        Event::QuestionAsked { run, question, wants, live, expires_at: Some(at) }
    };
    let ending = |then: Then| {
        let (outcome, reason) = (RunOutcome::Interrupted, "paused by an operator".to_owned());
        Event::RunEnding { run: RunId::from("run-4"), ending: Ending { outcome, reason, then } }
    };
    let planned = |start: Start| Event::StartPlanned { issue: IssueId::from("i1"), start };
    let stop = |stop: Stop| Event::StopAsked { run: RunId::from("run-4"), wish: StopWish { stop, action: action(6) } };
    let prompt = |id: u64, prompt: PromptSpec, messages: Vec<Message>| Event::EffectIntended {
        effect_id: EffectId(id),
        issue: IssueId::from("i1"),
        run: Some(RunId::from("run-4")),
        key: "run-4/prompt/1".to_owned(),
        attempt: 1,
        effect: Effect::Prompt { turn: 1, prompt, messages },
    };
    let turn_outcome = TurnOutcome::Asked { question: question(), wants: Wants::Permission };
    let waiting = Event::IssueStatus {
        issue: issue.clone(),
        from: IssueStatus::Running,
        to: IssueStatus::WaitingQuestion,
        reason: Some("question_asked: Which colour?".to_owned()),
        due_at: Some(at),
    };
    vec![
        asked(Wants::Input, Some(1)),
        asked(Wants::Permission, None),
        waiting,
        Event::QuestionWithdrawn { run: run.clone() },
        Event::QuestionExpired { issue: issue.clone() },
        answered(reply()),
        answered(Reply::Granted),
        answered(Reply::Denied { why: "no".to_owned() }),
        Event::MessageQueued { issue: issue.clone(), message: message(Some("Which colour?"), true) },
        Event::MessageHeard { run: run.clone(), message: message(None, false) },
        stop(Stop::Pause),
        stop(Stop::Cancel),
        ending(Then::Pause),
        ending(Then::Cancel),
        ending(Then::Ask),
        planned(Start::New),
        planned(Start::Resume),
        planned(Start::Rehydrate),
        prompt(11, PromptSpec::Resumed, vec![message(None, false)]),
        Event::HandoffMissing { run: run.clone(), missing: Missing::Messages },
        Event::TurnEnded { run: run.clone(), turn: 1, turn_outcome, summary: String::new(), cut: false },
        carried_out(12, Order::Comment { body: "seen".to_owned(), by: "ada".to_owned() }),
        carried_out(13, Order::Transition { to: "Todo".to_owned(), then: None }),
        carried_out(14, Order::Transition { to: "Todo".to_owned(), then: Some(Start::Rehydrate) }),
        carried_out(15, Order::Followup { title: "Next".to_owned(), description: String::new() }),
        carried_out(16, Order::Steer { run: run.clone(), message: message(None, false) }),
        carried_out(17, Order::Reply { run, ask: 1, question: question(), reply: reply(), by: "ada".to_owned() }),
        ended(15, EffectOutput::IssueMade { identifier: "DS-9".to_owned() }),
        ended(16, EffectOutput::AgentTold),
        Event::ActionCompleted {
            action_id: "act-5".to_owned(),
            correlation_id: "c-act-5".to_owned(),
            issue: Some(issue),
            note: Some("DS-9".to_owned()),
        },
        Event::Drained { on: true, action_id: "act-7".to_owned() },
        Event::Readiness {
            told: Told { state: ReadyState::Blocked, surfaces: vec![Surface::Database, Surface::Workspace] },
            remaining: 2,
        },
        Event::NoticeQueued { receiver: webhook(), notice: notice() },
        Event::EffectIntended {
            effect_id: EffectId(18),
            issue: "i1".into(),
            run: None,
            key: "issue/i1/notify/7/1".to_owned(),
            attempt: 1,
            effect: Effect::Notify { receiver: webhook(), notices: vec![notice()], missed: 3 },
        },
        ended(18, EffectOutput::Notified),
        Event::NoticesDropped {
            receiver: Receiver::Slack { address: "$SLACK".to_owned() },
            first: 7,
            count: 4,
            all: false,
            failure: Failure::retryable("notify_failed", "the receiver answered 503"),
        },
        Event::NoticesDropped {
            receiver: Receiver::Command { command: "notify-send".to_owned() },
            first: 8,
            count: 1,
            all: true,
            failure: Failure::permanent("receiver_gone", "WORKFLOW.md does not name this receiver any more"),
        },
    ]
}

fn webhook() -> Receiver {
    Receiver::Webhook { address: "$HOOK".to_owned(), secret: Some("$KEY".to_owned()) }
}

fn notice() -> Notice {
    Notice {
        number: 7,
        topic: Topic::Question,
        issue: "i1".into(),
        identifier: "DS-1".to_owned(),
        title: "The title of DS-1".to_owned(),
        text: "may I?".to_owned(),
        url: Some("https://forge.example/pull/1".to_owned()),
        at: Timestamp(9),
    }
}
