//! Surfaces: what is found, what the plan does about it, and how ready the daemon is. The numbers are the lines of the
//! contract of recovery.

use std::sync::Arc;

use crate::desk::*;
use dalsegno_core::*;

fn finding(surface: Surface, condition: Condition) -> Finding {
    Finding::of(surface, condition, "m", "words".to_owned())
}

/// What a single finding leads to.
fn leads_to(surface: Surface, condition: Condition) -> (Remedy, &'static str, ReadyState, bool) {
    let found = readiness(plan(&[finding(surface, condition)]), false);
    let step = &found.steps[0];
    assert_eq!((step.surface, step.member.as_str()), (surface, "m"));
    (step.action, step.reason, found.state, found.takes_work())
}

#[test]
fn line_2_what_is_missing_blocks_or_is_rebuilt_by_its_criticality() {
    use Condition::Missing;
    assert_eq!(leads_to(Surface::Permissions, Missing), (Remedy::Block, "missing", ReadyState::Blocked, true));
    assert_eq!(
        leads_to(Surface::Workspace, Missing),
        (Remedy::RecreateWorkspace, "missing", ReadyState::Degraded, true)
    );
    assert_eq!(
        leads_to(Surface::AgentSession, Missing),
        (Remedy::RebuildFromProvider, "missing", ReadyState::Degraded, true)
    );
    assert_eq!(leads_to(Surface::VcsRef, Missing).0, Remedy::VerifyDestination);
    assert_eq!(leads_to(Surface::Transcripts, Missing).2, ReadyState::Degraded);
}

#[test]
fn line_3_what_cannot_be_read_and_has_a_provider_is_rebuilt_and_blocks_nothing() {
    let found = readiness(plan(&[finding(Surface::Tracker, Condition::Corrupt)]), false);
    let todo: Vec<Remedy> =
        found.steps.iter().filter(|step| step.action != Remedy::None).map(|step| step.action).collect();
    assert_eq!(todo, [Remedy::RebuildFromProvider]);
    assert_eq!((found.state, found.reason), (ReadyState::Degraded, "runtime_store_rebuild_in_progress"));
}

#[test]
fn line_4_a_newer_schema_is_quarantined_by_its_name_and_blocks() {
    assert_eq!(
        leads_to(Surface::Database, Condition::FutureSchema),
        (Remedy::Quarantine, "future_schema", ReadyState::Blocked, false)
    );
    assert_eq!(
        leads_to(Surface::Database, Condition::Corrupt),
        (Remedy::RestoreBackup, "corrupt_database", ReadyState::Blocked, false)
    );
}

#[test]
fn line_5_what_is_stale_blocks_its_run_in_stable_words() {
    for (condition, words) in [
        (Condition::StaleRun, "stale run id"),
        (Condition::StaleCapability, "stale capability snapshot"),
        (Condition::StalePolicy, "stale behavior fingerprint"),
    ] {
        let found = readiness(plan(&[finding(Surface::Policy, condition)]), false);
        assert_eq!((found.steps[0].action, found.steps[0].reason), (Remedy::Block, words));
        assert_eq!(found.steps[0].scope, Scope::Run);
        assert!(found.state == ReadyState::Blocked && found.takes_work(), "{words}: no more than its run stands still");
    }
}

#[test]
fn line_6_all_in_line_is_exactly_one_none_for_each_surface_and_ready() {
    let found = readiness(plan(&inspect(&State::default())), false);
    assert_eq!((found.state, found.reason, found.remaining), (ReadyState::Ready, "runtime_store_manifest_valid", 0));
    let told: Vec<(Surface, Remedy)> = found.steps.iter().map(|step| (step.surface, step.action)).collect();
    assert_eq!(told, Surface::ALL.map(|surface| (surface, Remedy::None)));
    // One finding takes the place of its surface's `none`, and of no other's.
    let steps = plan(&[finding(Surface::Sagas, Condition::IntentOpen), finding(Surface::Sagas, Condition::Drifted)]);
    assert_eq!(steps.len(), Surface::ALL.len() + 1);
}

#[test]
fn what_has_a_format_says_which_can_be_read() {
    let schemas = Surface::ALL.map(|surface| (surface.as_str(), surface.descriptor().schema));
    let told: Vec<_> = schemas.iter().filter_map(|(name, schema)| Some((*name, (*schema)?))).collect();
    assert_eq!(told, [("db.main", (1, DATABASE_SCHEMA)), ("journal", (1, EVENT_FORMAT))]);
}

/// A state in which everything that line 7 speaks of is broken.
fn broken() -> State {
    let mut desk = Desk::new(policy());
    desk.poll(&[issue(1), issue(2)]);
    let mut state = desk.machine.state().clone();
    let id = |number: u32| IssueId(format!("i{number}"));
    let mut first = state.runs.values().next().unwrap().clone();
    first.turn_open = true;
    first.session = None;
    first.policy = "gone".into();
    first.handoff = Some(Handoff {
        commit: "c1".into(),
        saga: None,
        steps: vec![(SagaStep::Push, StepState::Done)],
        turned_back: None,
        heard: 0,
        before: None,
        pull_request: None,
    });
    first.evidence = None;
    let second = Run { id: "run-9".into(), policy: "p".into(), turn_open: false, handoff: None, ..first.clone() };
    let open = state.open_effects.values().next().unwrap().clone();
    state.open_effects.insert(EffectId(99), OpenEffect { run: Some("run-0".into()), ..open });
    state.runs = [first, second].into_iter().map(|run| (run.id.clone(), run)).collect();
    for number in [1, 2] {
        let entry = Arc::make_mut(state.issues.get_mut(&id(number)).unwrap());
        entry.workspace = Some(Workspace { path: "/w/same".into(), branch: None, base_commit: None, made_by: None });
    }
    let entry = Arc::make_mut(state.issues.get_mut(&id(2)).unwrap());
    entry.current_run = None;
    entry.question = Some(Question {
        text: "may I?".to_owned(),
        wants: Wants::Permission,
        live: Some(1),
        asked_at: Timestamp(1),
        expires_at: Timestamp(2),
    });
    state
}

#[test]
fn line_7_every_broken_invariant_is_told_with_its_member_in_a_fixed_order() {
    let state = broken();
    let told: Vec<String> = violations(&state).into_iter().map(|found| found.detail).collect();
    assert_eq!(
        told,
        [
            "run run-1 has an open turn, and no record of its session",
            "run run-1 was started under policy gone, and that is not kept",
            "DS-2 has a question of an open turn, and no live run",
            "DS-1 has two live runs, run-1 and run-9",
            "/w/same belongs to DS-1 and to DS-2",
            "run run-1 hands over without evidence",
            "e2 (prepare_workspace) is open, and its run run-2 is not live",
            "e99 (prepare_workspace) is open, and its run run-0 is not live",
        ]
    );
    assert!(violations(&Desk::new(policy()).machine.state().clone()).is_empty());
    // Each is a step of the plan, so that no open intent is without one.
    let steps = plan(&inspect(&state));
    assert!(steps.iter().filter(|step| step.action != Remedy::None).count() >= told.len());
}

/// What was told of readiness, in the order of the journal.
fn told(desk: &Desk) -> Vec<(ReadyState, Vec<Surface>)> {
    let told = desk.journal.iter().filter_map(|recorded| match &recorded.event {
        Event::Readiness { told, .. } => Some((told.state, told.surfaces.clone())),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_restart_is_recovering_until_it_is_swept_and_a_second_one_finds_the_same() {
    let mut desk = Desk::new(policy());
    desk.poll(&[issue(1)]);
    desk.done("prepare_workspace", workspace_ready(true));
    desk.done("start_session", session(SessionStart::New));
    assert!(told(&desk).is_empty(), "a start with nothing to recover says nothing");
    assert!(desk.machine.readiness().takes_work());

    desk.restart();
    let once = desk.machine.readiness().clone();
    assert_eq!((once.state, once.reason), (ReadyState::Recovering, "runtime_store_recovery_required"));
    assert_eq!(once.surfaces(), [Surface::AgentProcess, Surface::AgentSession]);
    assert!(!once.takes_work());
    desk.restart();
    let twice = desk.machine.readiness();
    assert_eq!((twice.state, twice.surfaces(), twice.remaining), (once.state, once.surfaces(), once.remaining));

    desk.done("sweep", EffectOutput::Swept { killed: 1 });
    assert_eq!(desk.machine.readiness().state, ReadyState::Degraded, "whether the prompt was heard is looked at");
    desk.done("start_session", session(SessionStart::Resumed));
    let last = told(&desk).pop().unwrap();
    assert_eq!(last, (ReadyState::Ready, Vec::new()));
    assert_eq!(desk.machine.state().told, Told::default());
}

#[test]
fn a_sweep_that_fails_blocks_its_run_and_no_more_until_it_is_released() {
    let mut desk = Desk::new(policy());
    desk.poll(&[issue(1), issue(2)]);
    desk.restart();
    while desk.open().contains(&"sweep") {
        desk.fail("sweep", Failure::permanent("sweep_failed", "process 7 outlived it"));
        desk.fail("stop_agent", Failure::permanent("sweep_failed", "process 7 outlived it"));
    }
    let found = desk.machine.readiness();
    assert_eq!((found.state, found.surfaces()), (ReadyState::Blocked, vec![Surface::AgentProcess]));
    assert!(found.takes_work(), "the others are taken");
    let step = &found.steps[0];
    assert_eq!((step.action, step.scope, step.member.as_str()), (Remedy::Block, Scope::Run, "DS-1"));
    assert!(step.detail.contains("process 7 outlived it"), "{}", step.detail);
}

#[test]
fn a_tracker_that_cannot_be_read_degrades_until_it_can() {
    let mut desk = Desk::new(policy());
    desk.poll_fails();
    let found = desk.machine.readiness();
    assert_eq!((found.state, found.surfaces()), (ReadyState::Degraded, vec![Surface::Tracker]));
    assert_eq!(found.steps[0].action, Remedy::RebuildFromProvider);
    desk.pass(120_000);
    desk.poll(&[issue(1)]);
    assert_eq!(desk.machine.readiness().state, ReadyState::Ready);
    assert_eq!(
        told(&desk),
        [(ReadyState::Degraded, vec![Surface::Tracker]), (ReadyState::Ready, Vec::new())],
        "each change once"
    );
}

#[test]
fn a_plan_without_end_is_told_up_to_its_limit() {
    let many: Vec<Finding> = (0..1_000)
        .map(|number| Finding { member: format!("{number:04}"), ..finding(Surface::Effects, Condition::IntentOpen) })
        .collect();
    let found = readiness(plan(&many), false);
    assert_eq!(found.remaining, 1_000);
    assert_eq!(found.steps.len(), STEPS + Surface::ALL.len() - 1);
}
