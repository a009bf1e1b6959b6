use std::error::Error;

use serde_json::json;

use super::super::plan::output;
use super::*;

const NOW: Timestamp = Timestamp(1_000);

/// Saves everything that is to be saved; answers with the calls that come of it.
fn save(machine: &mut SagaMachine, log: &mut Vec<Entry>) -> Vec<Request> {
    let mut calls = Vec::new();
    while let Some(batch) = machine.batch() {
        log.push(batch.entry().clone());
        calls.extend(machine.calls(batch.saved()));
    }
    calls
}

#[test]
fn a_step_whose_arguments_are_missing_parks_again_when_it_is_retried() -> Result<(), Box<dyn Error>> {
    let plan = SagaPlan::sequence(
        "arguments",
        1,
        [
            Step::pivot("publish").dedup(Dedup::Natural),
            Step::retriable("tell").dedup(Dedup::Natural).args(output("publish", "/nothing")),
        ],
    )?;
    let (mut machine, mut log) = (SagaMachine::begin("saga", plan, 1, NOW)?, Vec::new());
    save(&mut machine, &mut log);
    machine.answered("publish", Role::Do, StepAnswer::Done(json!({"id": 1})), NOW);
    for _ in 0..2 {
        assert!(save(&mut machine, &mut log).is_empty(), "nobody can call it");
        let (_, record) = machine.state().step("tell").ok_or("no such step")?;
        assert_eq!(record.state, StepState::Parked(Role::Do));
        assert!(machine.state().is_resting());
        machine.settle("tell", Verb::Retry, ("ann", "once more"), Value::Null, NOW)?;
    }
    save(&mut machine, &mut log);
    assert_eq!(SagaState::replay("saga", &log)?, *machine.state());
    Ok(())
}

#[test]
fn a_probe_of_a_read_that_answers_after_the_end_changes_nothing() -> Result<(), Box<dyn Error>> {
    let plan = SagaPlan::sequence("look", 1, [Step::read("look").probe()])?;
    let mut log = Vec::new();
    save(&mut SagaMachine::begin("saga", plan, 1, NOW)?, &mut log);
    let mut machine = SagaMachine::resume("saga", &log, 2, NOW)?;
    let calls = save(&mut machine, &mut log);
    assert_eq!(calls.iter().map(|call| call.act).collect::<Vec<_>>(), [Act::Probe]);
    assert!(machine.cancel("ann", "changed her mind", NOW)?);
    save(&mut machine, &mut log);
    assert_eq!(machine.state().end(), Some(SagaEnd::Compensated));
    machine.probed("look", Found::NotApplied, NOW);
    assert_eq!(machine.broken(), None);
    assert!(machine.batch().is_none());
    Ok(())
}

#[test]
fn a_batch_that_waits_is_recorded_at_the_time_by_which_it_was_judged() -> Result<(), Box<dyn Error>> {
    let step = |name| Step::compensatable(name).dedup(Dedup::Natural).undo(Value::Null);
    let asks = step("right").approval(Duration::from_millis(50));
    let plan = SagaPlan::graph("two", 1, [step("left"), asks])?;
    let (mut machine, mut log) = (SagaMachine::begin("saga", plan, 1, NOW)?, Vec::new());
    save(&mut machine, &mut log);
    let question = machine.questions().pop().ok_or("no question")?;
    machine.decided("right", &question.fingerprint, Decision::Approve { by: "ann".to_owned() }, Timestamp(NOW.0 + 10));
    // The approval is over by the time at which the intent that it allowed gets its turn at the store.
    machine.answered("left", Role::Do, StepAnswer::Done(Value::Null), Timestamp(NOW.0 + 100));
    assert_eq!(save(&mut machine, &mut log).len(), 1);
    assert_eq!(SagaState::replay("saga", &log)?, *machine.state());
    Ok(())
}
