//! Events of what lies outside the journal: the newest part of the third version.

use dalsegno_core::{Effect, EffectId, EffectOutput, Event, Failure, IssueId, Mend, Outcome, Remedy, RunId, Surface};

/// Each with the shapes that it has.
pub(crate) fn outside() -> Vec<Event> {
    let (path, identifier) = (|| "/work/spaces/X-1".to_owned(), || "X-1".to_owned());
    let mends = [
        Mend::RemoveWorkspace { path: path(), identifier: identifier() },
        Mend::KeepWorkspace { path: path(), identifier: identifier() },
        Mend::EndProcesses { owner: "run-9".to_owned() },
        Mend::SetTranscriptAside { run: RunId::from("run-9") },
    ];
    let intended = mends.into_iter().zip(30..).map(|(mend, number)| Event::EffectIntended {
        effect_id: EffectId(number),
        issue: IssueId::nobodys(),
        run: None,
        key: format!("mend/{}/{number}", mend.surface().as_str()),
        attempt: 1,
        effect: Effect::Mend { mend },
    });
    let ended = Event::EffectEnded {
        effect_id: EffectId(30),
        issue: IssueId::nobodys(),
        run: None,
        outcome: Outcome::Done { output: EffectOutput::Mended { done: "removed".to_owned() } },
        probed: false,
    };
    let recovered = |failure| Event::Recovered {
        surface: Surface::Workspace,
        action: Remedy::Reap,
        reason: "orphan".to_owned(),
        member: path(),
        done: "removed".to_owned(),
        failure,
    };
    let failure = Failure::retryable("workspace_remove_failed", "EBUSY");
    intended.chain([ended, recovered(None), recovered(Some(failure))]).collect()
}
