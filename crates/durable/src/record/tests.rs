#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects")]

use super::*;
use crate::envelope::{Command, Invocation};
use crate::scope::ExecutionScope;

fn envelope(input: i32) -> Envelope {
    let command = Command::DurableStep { name: "n".into(), input: input.into() };
    let invocation = Invocation {
        scope: ExecutionScope::turn("s", "1"),
        effect_id: "e".into(),
        kind: command.kind(),
        replay_key: "k".into(),
        caused_by: None,
        runtime: None,
    };
    #[expect(clippy::expect_used, reason = "a sample that is fit")]
    Envelope::new(invocation, command).expect("a sample that is fit")
}

fn intended() -> EffectRecord {
    EffectRecord::intended(&envelope(1), 1, Timestamp(10), None)
}

fn failed(class: fn(&str, &str) -> EffectError) -> Ended<Result<Value, EffectError>> {
    Ended::Answered(Err(class("busy", "try later")))
}

#[test]
fn a_call_meets_what_the_record_says() {
    assert_eq!(meet(None, &envelope(1)), Met::New);
    let mut record = intended();
    assert_eq!(meet(Some(&record), &envelope(1)), Met::InDoubt);
    assert!(matches!(meet(Some(&record), &envelope(2)), Met::Mismatch(found) if found.divergent == Some(1)));
    record.state.rest(1, Timestamp(11), Timestamp(20), EffectError::retryable("busy", "later"));
    assert_eq!(meet(Some(&record), &envelope(1)), Met::Resting(Timestamp(20)));
    record.state.park(1, "nobody knows".into());
    assert_eq!(meet(Some(&record), &envelope(1)), Met::Parked("nobody knows".into()));
    record.state.end(1, Timestamp(12), Outcome::Done(7.into()), None);
    assert_eq!(meet(Some(&record), &envelope(1)), Met::Recorded(Outcome::Done(7.into())));
    assert!(
        matches!(meet(Some(&record), &envelope(2)), Met::Mismatch(_)),
        "an outcome is no answer to another question"
    );
}

#[test]
fn what_is_retryable_is_tried_as_often_as_the_policy_says_and_then_stays_failed() {
    let retry = Retry { attempts: 3, base: Duration::from_millis(100), cap: Duration::from_millis(150) };
    let mut state = intended().state;
    let mut waits = Vec::new();
    loop {
        match ended(&state, failed(|code, text| EffectError::retryable(code, text)), &retry, Timestamp(0)) {
            Next::Rest { until, error } => {
                waits.push(until.0);
                state.rest(1, Timestamp(0), until, error);
                state.again(1);
            }
            Next::End(Outcome::Failed(error)) => {
                assert_eq!(error.class, ErrorClass::Permanent);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waits, [100, 150]);
    assert_eq!((state.attempt, state.failures.len()), (3, 2));
    // A doubt in between takes no attempt from the policy.
    let mut state = intended().state;
    state.doubts = 1;
    state.again(1);
    let retry = Retry::attempts(2);
    assert!(matches!(
        ended(&state, failed(|code, text| EffectError::retryable(code, text)), &retry, Timestamp(0)),
        Next::Rest { .. }
    ));
}

#[test]
fn what_nobody_knows_is_no_failure() {
    let retry = Retry::attempts(9);
    let state = intended().state;
    for over in [
        failed(|code, text| EffectError::unknown(code, text)),
        Ended::InDoubt(Doubt::Canceled),
        Ended::InDoubt(Doubt::Panic("boom".into())),
        Ended::InDoubt(Doubt::Deadline(Duration::from_secs(1))),
    ] {
        assert!(matches!(ended(&state, over, &retry, Timestamp(0)), Next::Doubt(_)));
    }
    assert_eq!(settle(&state, InDoubt::Rerun), Settle::Again);
    assert_eq!(settle(&state, InDoubt::SameKey), Settle::Again);
    assert_eq!(settle(&state, InDoubt::Probe), Settle::Probe);
    assert_eq!(settle(&state, InDoubt::Park), Settle::Park);
    let hopeless = EffectState { doubts: DOUBTS, ..state };
    assert_eq!(settle(&hopeless, InDoubt::Rerun), Settle::Park);
}

#[test]
fn a_generation_ends_only_when_it_was_shown_not_to_have_been_applied() {
    let mut state = intended().state;
    state.again(2);
    state.rest(2, Timestamp(1), Timestamp(2), EffectError::retryable("busy", "later"));
    state.again(3);
    assert_eq!((state.generation, state.attempt, state.epoch, state.due_at), (1, 3, 3, None));
    state.not_applied(3);
    assert_eq!((state.generation, state.attempt), (2, 4));
}

#[test]
fn failures_are_kept_up_to_a_limit_newest_last() {
    let mut state = intended().state;
    for attempt in 1..=40_u32 {
        state.rest(1, Timestamp(0), Timestamp(0), EffectError::retryable("busy", attempt.to_string()));
        state.again(1);
    }
    assert_eq!(state.failures.len(), FAILURES);
    assert_eq!(state.failures.last().map(|last| last.attempt), Some(40));
}

#[test]
fn a_state_survives_its_json() {
    let mut state = intended().state;
    for step in 0..4 {
        match step {
            0 => state.rest(1, Timestamp(1), Timestamp(2), EffectError::retryable("busy", "later")),
            1 => state.park(1, "nobody knows".into()),
            2 => {
                let settled = Settled { by: "me".into(), why: "I looked".into() };
                state.end(1, Timestamp(3), Outcome::Done(serde_json::json!({"a": [1]})), Some(settled));
            }
            _ => state.end(1, Timestamp(3), Outcome::Failed(EffectError::permanent("no", "never")), None),
        }
        let text = serde_json::to_string(&state).unwrap_or_default();
        assert_eq!(serde_json::from_str::<EffectState>(&text).ok().as_ref(), Some(&state), "{text}");
    }
}
