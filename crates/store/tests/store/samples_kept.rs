//! Events of files beside the database: the last part of the third version.

use dalsegno_core::{
    Broken, CommitId, Effect, EffectId, EffectOutput, Event, FileReceipt, IssueId, Mend, Outcome, Remedy, RunId,
    Surface, Workspace,
};

/// Each with the shapes that it has.
pub(crate) fn kept() -> Vec<Event> {
    let file = || "7-0-check-1.log".to_owned();
    let receipt = || FileReceipt { file: file(), sha256: "5d".repeat(32), bytes: 7_310 };
    let batch = || "batch-7".to_owned();
    let mends = [
        Mend::SettleBatch { batch: batch(), whole: true },
        Mend::SettleBatch { batch: batch(), whole: false },
        Mend::VoidReceipt { file: file(), how: Broken::Missing },
        Mend::VoidReceipt { file: file(), how: Broken::Differs },
        Mend::VoidReceipt { file: file(), how: Broken::UnknownRun },
        Mend::SetFileAside { file: "notes.txt".to_owned() },
    ];
    let intended = mends.into_iter().zip(40..).map(|(mend, number)| Event::EffectIntended {
        effect_id: EffectId(number),
        issue: IssueId::nobodys(),
        run: None,
        key: format!("mend/blobs/{number}"),
        attempt: 1,
        effect: Effect::Mend { mend },
    });
    let (run, commit) = (RunId::from("run-9"), CommitId::from("c0ff"));
    let output =
        EffectOutput::CheckEnded { passed: false, output_tail: "1 test failed\n".to_owned(), kept: Some(receipt()) };
    let told = [
        Event::EffectEnded {
            effect_id: EffectId(39),
            issue: IssueId::from("X-1"),
            run: Some(run.clone()),
            outcome: Outcome::Done { output },
            probed: false,
        },
        Event::WorkspaceReady {
            issue: IssueId::from("X-1"),
            run: run.clone(),
            workspace: Workspace {
                path: "/work/spaces/X-1".to_owned(),
                branch: None,
                base_commit: None,
                made_by: Some("run-9/prepare".to_owned()),
            },
            created: false,
        },
        Event::CheckEnded { run, commit, command: "./test".to_owned(), passed: false, kept: Some(receipt()) },
        Event::Recovered {
            surface: Surface::Blobs,
            action: Remedy::RollForward,
            reason: "open intent".to_owned(),
            member: batch(),
            done: "all 1 files are there: it is committed".to_owned(),
            failure: None,
        },
    ];
    intended.chain(told).collect()
}
