//! What is outside the journal: what a look finds is held against the fold, and put right or told.

use crate::desk::*;
use dalsegno_core::*;

const ROOM: u64 = 1 << 40;

fn clear() -> Inspection {
    Inspection::clear(ROOM)
}

fn found(path: &str, identifier: Option<&str>, standing: WorkspaceStanding) -> FoundWorkspace {
    FoundWorkspace { path: path.to_owned(), identifier: identifier.map(str::to_owned), standing, bytes: Some(7) }
}

/// A desk whose daemon looks, and sees what the test says.
fn seeing(seen: Inspection) -> Desk {
    let mut desk = Desk::new(policy());
    desk.outside = Some(seen);
    desk.restart();
    desk
}

fn look_again(desk: &mut Desk, seen: Inspection) {
    desk.outside = Some(seen);
    desk.pass(5_001);
    desk.hand(Input::Refresh);
}

fn mends(desk: &Desk) -> Vec<Mend> {
    let requests = desk.performs.iter().filter_map(|request| match &request.effect {
        Effect::Mend { mend } => Some(mend.clone()),
        _ => None,
    });
    requests.collect()
}

/// Surface, action, reason and member of each recovery that the journal has.
fn recovered(desk: &Desk) -> Vec<(Surface, Remedy, String, String)> {
    let events = desk.journal.iter().filter_map(|recorded| match &recorded.event {
        Event::Recovered { surface, action, reason, member, .. } => {
            Some((*surface, *action, reason.clone(), member.clone()))
        }
        _ => None,
    });
    events.collect()
}

fn open_steps(desk: &Desk) -> Vec<(Surface, Remedy, &'static str)> {
    let steps = desk.machine.readiness().steps.iter().filter(|step| step.action != Remedy::None);
    steps.map(|step| (step.surface, step.action, step.reason)).collect()
}

fn rule(desk: &Desk, name: &str) -> Rule {
    let explained = desk.machine.explain("DS-1").unwrap();
    explained.rules.into_iter().find(|rule| rule.rule == name).unwrap()
}

#[test]
fn nothing_is_dispatched_and_the_tracker_is_not_read_before_somebody_looked() {
    let mut desk = Desk::new(policy());
    desk.outside = None;
    desk.restart();
    assert_eq!(desk.asks.len(), 1, "one look and no poll: {:?}", desk.asks);
    assert!(matches!(desk.asks[0].1, Query::Inspect { .. }));
    let readiness = desk.machine.readiness();
    assert_eq!((readiness.state, readiness.takes_work()), (ReadyState::Recovering, false));
    let (id, _) = desk.asks.remove(0);
    desk.hand(Input::Answered { id, answer: Answer::Inspect(Box::new(clear())) });
    assert!(desk.machine.readiness().takes_work());
    desk.poll(&[issue(1)]);
    assert_eq!(desk.dispatched(), ["i1"]);
}

#[test]
fn what_could_not_be_looked_at_is_no_none_and_holds_up_what_hangs_on_it() {
    let failure = || Failure::permanent("workspace_root_unusable", "EIO");
    let mut desk = seeing(Inspection { workspaces: Err(failure()), ..clear() });
    desk.poll(&[issue(1)]);
    assert_eq!(open_steps(&desk), [(Surface::Workspace, Remedy::Block, "io_error")]);
    assert!(desk.dispatched().is_empty(), "it fails closed");
    assert!(!rule(&desk, "outside_seen").pass && rule(&desk, "outside_seen").detail.contains("EIO"));
    desk.outside = Some(clear());
    desk.pass(30_001);
    desk.poll(&[issue(1)]);
    assert_eq!(desk.dispatched(), ["i1"], "it is looked at again by itself, and soon");
    assert_eq!(desk.machine.readiness().state, ReadyState::Ready);
}

#[test]
fn a_workspace_that_cannot_be_read_holds_up_its_own_issue_alone() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let unreadable =
        found("/w/i", None, WorkspaceStanding::Unreadable(Failure::permanent("workspace_unreadable", "EIO")));
    desk.fail("prompt", Failure::retryable("model_error", "no"));
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    desk.outside = Some(Inspection { workspaces: Ok(vec![unreadable]), ..clear() });
    desk.restart();
    desk.pass(60_000);
    desk.poll(&[issue(1), issue(2)]);
    assert_eq!(desk.dispatched(), ["i1", "i2"], "the first is its run before");
    assert_eq!(open_steps(&desk), [(Surface::Workspace, Remedy::Block, "io_error")]);
    assert!(desk.machine.readiness().takes_work());
    assert!(rule(&desk, "outside_seen").detail.contains("/w/i"));
}

#[test]
fn orphans_are_judged_when_the_tracker_has_said_what_there_is() {
    let workspaces = vec![
        found("/w/DS-1", Some("DS-1"), WorkspaceStanding::Clean),
        found("/w/X-1", Some("X-1"), WorkspaceStanding::Clean),
        found("/w/X-2", Some("X-2"), WorkspaceStanding::Holds("1 uncommitted path".into())),
        found("/w/other", None, WorkspaceStanding::Foreign),
    ];
    let mut desk = seeing(Inspection { workspaces: Ok(workspaces), ..clear() });
    assert!(mends(&desk).is_empty(), "DS-1 may be in the tracker");
    desk.poll(&[issue(1)]);
    let (path, identifier) = (|name: &str| format!("/w/{name}"), |name: &str| name.to_owned());
    assert_eq!(
        mends(&desk),
        [
            Mend::RemoveWorkspace { path: path("X-1"), identifier: identifier("X-1") },
            Mend::KeepWorkspace { path: path("X-2"), identifier: identifier("X-2") },
        ]
    );
    assert_eq!(desk.machine.readiness().state, ReadyState::Degraded, "it is seen to, and blocks nothing");
    desk.done("mend", EffectOutput::Mended { done: "removed".into() });
    desk.done("mend", EffectOutput::Mended { done: "kept".into() });
    let step = |action, member: &str| (Surface::Workspace, action, "orphan".to_owned(), path(member));
    assert_eq!(recovered(&desk), [step(Remedy::Reap, "X-1"), step(Remedy::Quarantine, "X-2")]);
    assert_eq!(desk.machine.readiness().state, ReadyState::Ready);
    assert!(mends(&desk).is_empty(), "what was mended is not mended again");
}

#[test]
fn a_daemon_that_is_ending_mends_nothing_more() {
    let process = |number: i32| FoundProcess { owner: format!("run-{number}"), pids: vec![number] };
    let mut desk = seeing(Inspection { processes: Ok((1..=50).map(process).collect()), ..clear() });
    let begun = mends(&desk).len();
    assert!(begun > 0 && begun < 50, "a few at a time: {begun}");
    desk.hand(Input::Drain);
    desk.done("mend", EffectOutput::Mended { done: "ended".into() });
    assert_eq!(mends(&desk).len(), begun - 1);
}

#[test]
fn an_issue_does_not_start_while_its_directory_is_put_away() {
    let orphan = found("/w/DS-1", Some("DS-1"), WorkspaceStanding::Clean);
    let mut desk = seeing(Inspection { workspaces: Ok(vec![orphan]), ..clear() });
    desk.poll(&[]);
    assert_eq!(mends(&desk).len(), 1);
    desk.outside = Some(clear());
    desk.poll(&[issue(1)]);
    assert!(desk.dispatched().is_empty() && !rule(&desk, "workspace_free").pass);
    desk.done("mend", EffectOutput::Mended { done: "removed".into() });
    desk.poll(&[issue(1)]);
    assert_eq!(desk.dispatched(), ["i1"]);
}

#[test]
fn a_process_of_a_live_run_is_left_alone_and_one_of_nobody_is_ended() {
    let process = |owner: &str| FoundProcess { owner: owner.to_owned(), pids: vec![7] };
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let all = ["run-1", "run-9", "issue-i1", "notice-n4"].map(process).to_vec();
    look_again(&mut desk, Inspection { processes: Ok(all.clone()), ..clear() });
    let owner = |name: &str| Mend::EndProcesses { owner: name.to_owned() };
    assert_eq!(mends(&desk), [owner("run-9")], "between runs, only what a dead daemon left is known to be nobody's");
    // A new daemon has done nothing yet.
    let mut desk = seeing(Inspection { processes: Ok(all), ..clear() });
    assert_eq!(mends(&desk), [owner("run-1"), owner("run-9"), owner("issue-i1"), owner("notice-n4")]);
    for _ in 0..4 {
        desk.done("mend", EffectOutput::Mended { done: "1 processes ended".into() });
    }
    assert_eq!(desk.machine.readiness().state, ReadyState::Ready);
}

#[test]
fn line_3_a_transcript_that_cannot_be_read_is_set_aside_once_and_nothing_else_is_done() {
    let garbled = FoundTranscript { run: "run-4".into(), wrong: Ok("byte 7 is no entry".into()) };
    let mut desk = seeing(Inspection { transcripts: Ok(vec![garbled]), ..clear() });
    assert_eq!(open_steps(&desk), [(Surface::Transcripts, Remedy::RebuildFromProvider, "corrupt")]);
    assert_eq!(desk.machine.readiness().state, ReadyState::Degraded);
    assert!(desk.machine.readiness().takes_work());
    desk.outside = Some(clear());
    desk.done("mend", EffectOutput::Mended { done: "moved".into() });
    desk.pass(10_000);
    assert_eq!((mends(&desk), desk.machine.readiness().state), (Vec::new(), ReadyState::Ready));
    assert_eq!(recovered(&desk).len(), 1);
}

#[test]
fn what_cannot_be_mended_is_tried_three_times_and_then_told() {
    let process = FoundProcess { owner: "run-9".to_owned(), pids: vec![7] };
    let mut desk = seeing(Inspection { processes: Ok(vec![process]), ..clear() });
    for _ in 0..3 {
        assert!(open_steps(&desk).iter().all(|(.., reason)| *reason != "not_mended"), "it is being tried");
        desk.fail("mend", Failure::retryable("sweep_failed", "it lives on"));
        desk.pass(300_001);
    }
    assert!(mends(&desk).is_empty());
    assert_eq!(open_steps(&desk), [(Surface::AgentProcess, Remedy::Block, "not_mended")]);
    assert!(desk.machine.readiness().takes_work(), "a plan ends, and work goes on");
}

#[test]
fn a_workspace_that_is_gone_is_made_anew_and_a_run_that_lost_it_is_fenced() {
    let gone = || Inspection { workspaces: Ok(vec![found("/w/i", None, WorkspaceStanding::Missing)]), ..clear() };
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    look_again(&mut desk, gone());
    assert_eq!(recovered(&desk), [(Surface::Workspace, Remedy::FenceRun, "missing".to_owned(), "DS-1".to_owned())]);
    assert_eq!(desk.phase(), Some(Phase::Stopping));
    assert!(desk.entry(1).workspace.is_none());
    // The same between runs: it is forgotten, and nothing more.
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.fail("prompt", Failure::permanent("broken", "no"));
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    look_again(&mut desk, gone());
    assert_eq!(recovered(&desk)[0].1, Remedy::RecreateWorkspace);
    assert!(desk.entry(1).workspace.is_none() && desk.entry(1).status == IssueStatus::Parked);
}

#[test]
fn a_look_that_is_older_than_the_workspace_says_nothing_of_it() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    desk.fail("prompt", Failure::retryable("model_error", "no"));
    desk.done("stop_agent", EffectOutput::Swept { killed: 0 });
    desk.outside = None;
    desk.pass(300_001);
    let at = desk.asks.iter().position(|(_, query)| matches!(query, Query::Inspect { .. })).unwrap();
    let (id, _) = desk.asks.remove(at);
    // Meanwhile the next run made it anew.
    desk.poll(&[issue(1)]);
    desk.done("prepare_workspace", workspace_ready(true));
    let seen = Inspection { workspaces: Ok(vec![found("/w/i", None, WorkspaceStanding::Missing)]), ..clear() };
    desk.hand(Input::Answered { id, answer: Answer::Inspect(Box::new(seen)) });
    assert!(recovered(&desk).is_empty() && desk.entry(1).workspace.is_some());
    assert_eq!(desk.machine.readiness().surfaces(), []);
}

#[test]
fn a_look_that_is_older_than_the_second_making_by_one_run_says_nothing_of_it() {
    let mut hooked = policy();
    hooked.hooks.after_create = Some("true".into());
    let mut desk = Desk::new(hooked);
    desk.poll(&[issue(1)]);
    desk.done("prepare_workspace", workspace_ready(true));
    // The daemon dies in after_create; the next one looks, and makes the workspace anew meanwhile.
    desk.outside = None;
    desk.restart();
    desk.done("sweep", EffectOutput::Swept { killed: 0 });
    desk.done("prepare_workspace", workspace_ready(true));
    assert_eq!(desk.phase(), Some(Phase::AfterCreate));
    let at = desk.asks.iter().position(|(_, query)| matches!(query, Query::Inspect { .. })).unwrap();
    let (id, _) = desk.asks.remove(at);
    let seen = Inspection { workspaces: Ok(vec![found("/w/i", None, WorkspaceStanding::Missing)]), ..clear() };
    desk.hand(Input::Answered { id, answer: Answer::Inspect(Box::new(seen)) });
    assert!(recovered(&desk).is_empty() && desk.entry(1).workspace.is_some());
    assert_eq!(desk.phase(), Some(Phase::AfterCreate));
}

#[test]
fn without_room_no_run_starts_until_there_is_some() {
    let mut limited = policy();
    limited.workspace.disk_limit_bytes = Some(7);
    let full = || Inspection { workspaces: Ok(vec![found("/w/x", None, WorkspaceStanding::Foreign)]), ..clear() };
    for (policy, seen) in [(limited, full()), (policy(), Inspection::clear(MIN_FREE_BYTES - 1))] {
        let mut desk = Desk::new(policy);
        desk.outside = Some(seen);
        desk.restart();
        desk.poll(&[issue(1)]);
        assert!(desk.dispatched().is_empty() && !rule(&desk, "disk_room").pass);
        assert_eq!(desk.status(1), IssueStatus::Queued);
        assert_eq!(open_steps(&desk), [(Surface::Disk, Remedy::Block, NO_ROOM)]);
        desk.outside = Some(clear());
        desk.pass(30_001);
        desk.poll(&[issue(1)]);
        assert_eq!(desk.dispatched(), ["i1"]);
    }
}

#[test]
fn a_damaged_database_takes_no_work_and_one_that_is_being_read_does() {
    let mut desk = seeing(Inspection { database: Soundness::Checking, ..clear() });
    assert_eq!(open_steps(&desk), [(Surface::Database, Remedy::RollForward, "open intent")]);
    assert!(desk.machine.readiness().takes_work());
    desk.outside = Some(Inspection { database: Soundness::Damaged("page 7".into()), ..clear() });
    desk.pass(30_001);
    assert_eq!(open_steps(&desk), [(Surface::Database, Remedy::RestoreBackup, "corrupt_database")]);
    assert!(!desk.machine.readiness().takes_work());
}

#[test]
fn a_mend_that_a_dead_daemon_began_is_done_again_under_its_key() {
    let process = FoundProcess { owner: "run-9".to_owned(), pids: vec![7] };
    let mut desk = seeing(Inspection { processes: Ok(vec![process]), ..clear() });
    let before = desk.take("mend");
    desk.outside = Some(clear());
    desk.restart();
    let again = desk.done("mend", EffectOutput::Mended { done: "1 processes ended".into() });
    assert_eq!((again.key, again.attempt), (before.key, 2));
    assert_eq!(recovered(&desk).len(), 1);
}

#[test]
fn a_mend_that_a_dead_daemon_began_and_that_fails_is_tried_again() {
    let process = FoundProcess { owner: "notice-n4".to_owned(), pids: vec![7] };
    let seen = || Inspection { processes: Ok(vec![process.clone()]), ..clear() };
    let mut desk = seeing(seen());
    desk.restart();
    // Seen once more while it is being ended: of this life's look only the first knows what a dead daemon left.
    look_again(&mut desk, seen());
    desk.fail("mend", Failure::retryable("sweep_failed", "it lives on"));
    look_again(&mut desk, seen());
    assert_eq!(mends(&desk), [Mend::EndProcesses { owner: "notice-n4".to_owned() }]);
}

#[test]
fn a_held_session_of_another_kind_of_agent_is_rediscovered() {
    let mut state = Desk::new(policy()).machine.state().clone();
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let mut entry = desk.entry(1).clone();
    entry.current_run = None;
    entry.held = Some(Held {
        session: "s1".into(),
        agent: AgentKind::Codex,
        turns: 1,
        counted_turns: 1,
        session_total: Usage::default(),
        grants: Vec::new(),
    });
    state.issues.insert(entry.issue.id.clone(), entry.into());
    let steps = plan(&inspect(&state));
    let step = steps.iter().find(|step| step.surface == Surface::Capability).unwrap();
    assert_eq!((step.action, step.member.as_str()), (Remedy::RediscoverCapability, "DS-1"));
}
