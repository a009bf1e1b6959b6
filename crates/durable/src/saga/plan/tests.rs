use super::*;

fn step(name: &str) -> Step {
    Step::compensatable(name).dedup(Dedup::RemoteKey).undo(Value::Null)
}

fn pivot(name: &str) -> Step {
    Step::pivot(name).dedup(Dedup::RemoteKey)
}

fn last(name: &str) -> Step {
    Step::retriable(name).dedup(Dedup::RemoteKey)
}

fn refused(plan: Result<SagaPlan, InvalidPlan>) -> (Option<String>, &'static str) {
    match plan {
        Ok(plan) => (None, Box::leak(format!("accepted: {plan:?}").into_boxed_str())),
        Err(invalid) => (invalid.step, invalid.rule.code()),
    }
}

#[track_caller]
fn breaks(steps: impl IntoIterator<Item = Step>, name: &str, code: &str) {
    assert_eq!(refused(SagaPlan::graph("s", 1, steps)), (Some(name.to_owned()), code));
}

#[test]
fn a_sequence_is_a_chain_and_counts_its_kinds() -> Result<(), InvalidPlan> {
    let plan = SagaPlan::sequence("s", 1, [Step::read("look"), step("a"), pivot("p"), last("b"), Step::verify("v")])?;
    let after: Vec<&[String]> = plan.steps.iter().map(|step| step.after.as_slice()).collect();
    assert_eq!(after, [&[] as &[String], &["look".into()], &["a".into()], &["p".into()], &["b".into()]]);
    assert_eq!(plan.counts(), Counts { read: 2, compensatable: 1, pivot: 1, retriable: 1 });
    Ok(())
}

#[test]
fn a_graph_is_put_in_order() -> Result<(), InvalidPlan> {
    let plan = SagaPlan::graph(
        "s",
        1,
        [last("c").after("p"), pivot("p").after("b").after("a"), step("b").after("a"), step("a")],
    )?;
    let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "p", "c"]);
    Ok(())
}

#[test]
fn every_rule_is_told_with_its_step() {
    assert_eq!(refused(SagaPlan::graph("s", 1, [])), (None, "saga_empty"));
    assert_eq!(refused(SagaPlan::graph("", 1, [step("a")])), (None, "saga_name_invalid"));
    assert_eq!(refused(SagaPlan::graph("s", 1, [step("a/b")])), (None, "saga_name_invalid"));
    assert_eq!(refused(SagaPlan::graph("s", 1, (0..300).map(|at| step(&at.to_string())))), (None, "saga_too_large"));
    breaks([step("a"), step("a")], "a", "saga_step_duplicate");
    breaks([step("a").after("z")], "a", "saga_step_unknown");
    breaks([step("a").after("b"), step("b").after("a")], "a", "saga_cycle");
    breaks([Step::compensatable("a").dedup(Dedup::Natural)], "a", "saga_undo_missing");
    breaks([pivot("p").undo(Value::Null)], "p", "saga_undo_not_possible");
    breaks([Step::read("r").undo(Value::Null)], "r", "saga_undo_not_possible");
    breaks([pivot("p"), pivot("q").after("p")], "q", "saga_second_pivot");
    breaks([pivot("p"), step("a").after("p")], "a", "saga_compensatable_not_before_pivot");
    breaks([pivot("p"), step("a")], "a", "saga_compensatable_not_before_pivot");
    breaks([last("a")], "a", "saga_retriable_not_after_pivot");
    breaks([pivot("p"), last("a")], "a", "saga_retriable_not_after_pivot");
    breaks([pivot("p"), Step::read("r").after("p")], "r", "saga_read_after_pivot");
    breaks([Step::verify("r"), pivot("p").after("r")], "r", "saga_read_after_pivot");
    breaks([Step::pivot("p")], "p", "saga_in_doubt_undeclared");
    breaks([step("a"), pivot("p").after("a").args(output("q", ""))], "p", "saga_reference_invalid");
    breaks([step("a").args(output("a", ""))], "a", "saga_reference_invalid");
    breaks([step("a"), step("b").args(output("a", ""))], "b", "saga_reference_invalid");
    breaks([step("a").args(json!({"deep": [{"$output": "a"}]}))], "a", "saga_reference_invalid");
    breaks([step("a").undo(output("b", "")), step("b").after("a")], "a", "saga_reference_invalid");
}

#[test]
fn what_the_rules_allow_is_accepted() {
    let plans = [
        SagaPlan::graph("s", 1, [step("a"), step("b")]),
        SagaPlan::graph("s", 1, [Step::read("r"), pivot("p"), Step::verify("v").after("p")]),
        SagaPlan::graph("s", 1, [Step::pivot("p").in_doubt_operator()]),
        SagaPlan::graph("s", 1, [Step::pivot("p").probe(), last("a").after("p"), last("b").after("a")]),
        SagaPlan::sequence("s", 1, [step("a").undo(output("a", "/id")), step("b").args(output("a", "/id"))]),
    ];
    for plan in plans {
        assert_eq!(plan.err(), None);
    }
}

#[test]
fn nested_plans_keep_the_rules_too() -> Result<(), InvalidPlan> {
    let mut inner = SagaPlan::graph("s", 1, [step("a")])?;
    inner.steps.push(step("a"));
    breaks([Step::pivot("p").saga(inner)], "a", "saga_step_duplicate");
    let mut plan = SagaPlan::graph("s", 1, [step("a")])?;
    for _ in 1..NESTING {
        plan = SagaPlan::graph("s", 1, [Step::pivot("p").saga(plan)])?;
    }
    assert_eq!(refused(SagaPlan::graph("s", 1, [Step::pivot("p").saga(plan)])), (None, "saga_too_large"));
    Ok(())
}

#[test]
fn references_become_outputs() {
    let open = json!({"number": 7, "urls": ["u"]});
    let find = |name: &str| (name == "open").then_some(&open);
    let args = json!({"close": output("open", "/number"), "all": [output("open", ""), 1]});
    assert_eq!(resolve(&args, &find), Ok(json!({"close": 7, "all": [open, 1]})));
    assert!(resolve(&output("open", "/none"), &find).is_err_and(|why| why.contains("/none")));
    assert!(resolve(&output("other", ""), &find).is_err_and(|why| why.contains("other")));
}

#[test]
fn a_plan_is_read_as_it_was_written() -> Result<(), Box<dyn std::error::Error>> {
    let plan = SagaPlan::sequence("s", 1, [step("a"), pivot("p").approval(Duration::from_secs(1)), last("b")])?;
    let plan = plan.deadline(Duration::from_secs(9));
    let read: SagaPlan = serde_json::from_str(&serde_json::to_string(&plan)?)?;
    assert_eq!(read, plan);
    assert_eq!(read.steps.first().and_then(|step| step.undo.clone()), Some(Value::Null));
    Ok(())
}

#[test]
fn pauses_double_up_to_their_cap() {
    let tries = Tries { attempts: 9, base_ms: 100, cap_ms: 1_000 };
    let pauses: Vec<u128> = [0, 1, 2, 3, 4, 5, 99].map(|failed| tries.pause(failed).as_millis()).to_vec();
    assert_eq!(pauses, [100, 100, 200, 400, 800, 1_000, 1_000]);
}
