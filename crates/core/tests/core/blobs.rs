//! Files beside the database: what a look finds of them is mended in the words of the contract, and what a run was not started
//! under goes no further.

use crate::desk::*;
use dalsegno_core::*;

fn seeing(blobs: Vec<FoundFile>) -> Desk {
    let mut desk = Desk::new(policy());
    desk.outside = Some(with(blobs));
    desk.restart();
    desk
}

fn with(blobs: Vec<FoundFile>) -> Inspection {
    Inspection { blobs: Ok(blobs), ..Inspection::clear(1 << 40) }
}

fn open_steps(desk: &Desk) -> Vec<(Remedy, &'static str, String)> {
    let steps = desk.machine.readiness().steps.iter();
    let open = steps.filter(|step| step.surface == Surface::Blobs && step.action != Remedy::None);
    open.map(|step| (step.action, step.reason, step.member.clone())).collect()
}

fn recovered(desk: &Desk) -> Vec<(Remedy, String, String)> {
    let events = desk.journal.iter().filter_map(|recorded| match &recorded.event {
        Event::Recovered { surface: Surface::Blobs, action, reason, member, .. } => {
            Some((*action, reason.clone(), member.clone()))
        }
        _ => None,
    });
    events.collect()
}

fn open_batch(whole: bool) -> FoundFile {
    FoundFile::OpenBatch { batch: "batch-7".into(), run: "run-1".into(), whole }
}

fn broken(how: Broken) -> FoundFile {
    FoundFile::Broken { file: "7-0-check-1.log".into(), run: "run-1".into(), how }
}

/// Each finding, and what follows from it.
fn findings() -> Vec<(FoundFile, Remedy, &'static str, &'static str, Mend)> {
    let file = || "7-0-check-1.log".to_owned();
    let settle = |whole| Mend::SettleBatch { batch: "batch-7".into(), whole };
    let void = |how| Mend::VoidReceipt { file: file(), how };
    vec![
        (open_batch(true), Remedy::RollForward, "open intent", "batch-7", settle(true)),
        (open_batch(false), Remedy::VoidIntent, "open intent", "batch-7", settle(false)),
        (broken(Broken::Missing), Remedy::RebuildFromProvider, "missing", "7-0-check-1.log", void(Broken::Missing)),
        (broken(Broken::Differs), Remedy::RebuildFromProvider, "corrupt", "7-0-check-1.log", void(Broken::Differs)),
        (broken(Broken::UnknownRun), Remedy::Quarantine, "stale run id", "7-0-check-1.log", void(Broken::UnknownRun)),
        (
            FoundFile::Unreceipted { file: "notes.txt".into() },
            Remedy::Quarantine,
            "orphan",
            "notes.txt",
            Mend::SetFileAside { file: "notes.txt".into() },
        ),
    ]
}

#[test]
fn what_is_found_of_files_is_mended_once_in_stable_words_and_holds_up_nobody() {
    for (found, action, reason, member, mend) in findings() {
        let mut desk = seeing(vec![found.clone()]);
        assert_eq!(open_steps(&desk), [(action, reason, member.to_owned())], "{found:?}");
        assert_eq!(desk.machine.readiness().state, ReadyState::Degraded, "{found:?}");
        assert!(desk.machine.readiness().takes_work());
        desk.poll(&[issue(1)]);
        assert_eq!(desk.dispatched(), ["i1"], "{found:?}");
        assert_eq!(mends(&desk), [mend], "{found:?}");
        desk.outside = Some(with(Vec::new()));
        desk.done("mend", EffectOutput::Mended { done: "done".into() });
        desk.pass(10_000);
        assert_eq!((open_steps(&desk), mends(&desk)), (Vec::new(), Vec::new()), "{found:?}");
        assert_eq!(recovered(&desk), [(action, reason.to_owned(), member.to_owned())], "{found:?}");
    }
}

fn mends(desk: &Desk) -> Vec<Mend> {
    let requests = desk.performs.iter().filter_map(|request| match &request.effect {
        Effect::Mend { mend } => Some(mend.clone()),
        _ => None,
    });
    requests.collect()
}

#[test]
fn line_2_a_receipt_without_its_file_is_rebuilt_and_a_project_without_receipts_is_ready() {
    let desk = seeing(vec![broken(Broken::Missing)]);
    assert_eq!(open_steps(&desk)[0].0, Remedy::RebuildFromProvider);
    let desk = seeing(Vec::new());
    assert_eq!(desk.machine.readiness().state, ReadyState::Ready);
}

#[test]
fn line_5_receipts_of_another_policy_or_agent_stop_their_run_and_no_other() {
    let desk = || {
        let mut desk = Desk::new(policy());
        desk.poll(&[issue(1), issue(2)]);
        desk
    };
    let (run, hash) = {
        let desk = desk();
        let run = desk.machine.state().runs.values().next().unwrap().clone();
        (run.id, run.policy)
    };
    let kind = policy().agent.kind.as_str().to_owned();
    let under = |policy: &PolicyHash, agent: &str| FoundFile::Under {
        run: run.clone(),
        policy: policy.clone(),
        agent: agent.to_owned(),
    };
    for (found, reason) in [
        (under(&"another".into(), &kind), Some("stale behavior fingerprint")),
        (under(&hash, "another"), Some("stale capability snapshot")),
        (under(&hash, &kind), None),
    ] {
        let mut desk = desk();
        desk.outside = Some(with(vec![found]));
        desk.pass(5_001);
        desk.hand(Input::Refresh);
        let Some(reason) = reason else {
            assert_eq!(open_steps(&desk), []);
            assert_eq!(desk.machine.state().runs[&run].ending, None, "it is what it was started under");
            continue;
        };
        assert_eq!(open_steps(&desk), [(Remedy::Block, reason, run.to_string())]);
        let ends: Vec<bool> = desk.machine.state().runs.values().map(|run| run.ending.is_some()).collect();
        assert_eq!(ends, [true, false], "{reason}: one stands still, the other works");
        let open = desk.open();
        assert!(mends(&desk).is_empty(), "nobody but an operator decides: {open:?}");
        // It ends, and its issue waits for somebody; the step is gone with the run, and the issue's is there.
        for _ in 0..8 {
            let next = desk.performs.iter().find(|request| request.run.as_ref() == Some(&run));
            let Some(kind) = next.map(|request| request.effect.kind()) else { break };
            match kind {
                "prepare_workspace" => desk.done(kind, workspace_ready(true)),
                _ => desk.done(kind, EffectOutput::Swept { killed: 0 }),
            };
        }
        assert_eq!((desk.status(1), desk.status(2)), (IssueStatus::Parked, IssueStatus::Running));
        assert_eq!(desk.entry(1).parked.as_ref().map(|parked| parked.code.as_str()), Some("stale_receipt"));
        assert_eq!(open_steps(&desk), [(Remedy::Block, "drifted", "DS-1".to_owned())]);
    }
}

#[test]
fn what_a_check_said_is_told_with_its_receipt() {
    let kept = FileReceipt { file: "7-0-check-1.log".into(), sha256: "ab".repeat(32), bytes: 12 };
    let mut desk = Desk::new(policy());
    desk.reach_checks();
    // What is kept is kept under the policy's name in the journal, whatever a later version would name it.
    let request = desk.performs.iter().find(|request| request.effect.kind() == "run_check").unwrap();
    assert_eq!(request.policy_hash, desk.run().policy);
    let output = EffectOutput::CheckEnded { passed: true, output_tail: "tail".into(), kept: Some(kept.clone()) };
    desk.done("run_check", output);
    let told = desk.journal.iter().find_map(|recorded| match &recorded.event {
        Event::CheckEnded { kept, .. } => Some(kept.clone()),
        _ => None,
    });
    assert_eq!(told, Some(Some(kept)));
}

#[test]
fn a_run_that_lost_its_workspace_as_well_is_not_tried_again_and_its_issue_waits_for_somebody() {
    let mut desk = Desk::new(policy());
    desk.reach_turn();
    let run = desk.machine.state().runs.keys().next().unwrap().clone();
    let kind = policy().agent.kind.as_str().to_owned();
    let gone =
        FoundWorkspace { path: "/w/i".to_owned(), identifier: None, standing: WorkspaceStanding::Missing, bytes: None };
    let under = FoundFile::Under { run, policy: "another".into(), agent: kind };
    desk.outside = Some(Inspection { workspaces: Ok(vec![gone]), ..with(vec![under]) });
    desk.pass(5_001);
    desk.hand(Input::Refresh);
    assert_eq!(desk.phase(), Some(Phase::Stopping));
    let ending = desk.machine.state().runs.values().next().unwrap().ending.as_ref();
    assert_eq!(ending.map(|ending| ending.reason.as_str()), Some("stale_receipt"));
}
