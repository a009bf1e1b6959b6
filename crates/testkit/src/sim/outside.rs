//! What goes astray in the simulated world: workspaces and processes that nobody owns, transcripts that cannot be read,
//! directories that somebody removed, disks that are full or do not answer.

use std::collections::{BTreeMap, BTreeSet};

use dalsegno_core::{
    Failure, FoundProcess, FoundTranscript, FoundWorkspace, Inspection, IssueId, LookFor, Machine, Mend, Remedy, RunId,
    Soundness, Surface, WorkspaceStanding,
};

use super::dice::Dice;
use super::world::World;
use super::{Mutation, Violation};

/// Room that is enough.
const ROOM: u64 = 1 << 40;

/// What is outside and nobody's.
#[derive(Debug, Default)]
pub(crate) struct Astray {
    /// Workspaces that nobody owns, by path: whether work is in them.
    orphans: BTreeMap<String, bool>,
    /// Those that were set aside.
    kept: BTreeSet<String>,
    /// Marks of processes that nobody owns.
    strays: BTreeSet<String>,
    /// Runs whose transcript cannot be read.
    garbled: BTreeSet<RunId>,
    /// Issues whose workspace a person removed.
    pub(crate) by_hand: BTreeSet<IssueId>,
    planted: u64,
}

impl World {
    /// A daemon died, or none ran yet, and things go astray.
    pub(crate) fn go_astray(&mut self, dice: &mut Dice) {
        for _ in 0..dice.below(3) {
            let astray = &mut self.astray;
            astray.planted += 1;
            let number = astray.planted;
            match dice.below(5) {
                0 | 1 => drop(astray.orphans.insert(format!("/w/X-{number}"), dice.coin())),
                2 => drop(astray.strays.insert(format!("run-{}", 100_000 + number))),
                3 => drop(astray.strays.insert(format!("notice-n{}", 100_000 + number))),
                _ => drop(astray.garbled.insert(RunId(format!("run-{}", 1 + dice.below(4))))),
            }
        }
        if dice.permille(150)
            && let Some(id) = self.trees.keys().find(|id| self.unsaved(id).is_none()).cloned()
        {
            self.trees.remove(&id);
            self.astray.by_hand.insert(id);
        }
    }

    /// What a look sees.
    pub(crate) fn look_outside(&self, wanted: &LookFor, dice: &mut Dice, unkind: bool) -> Inspection {
        let refused = || Failure::retryable("simulated", "the disk does not answer");
        let here = |path: &String| match self.trees.keys().any(|id| *path == format!("/w/{id}")) {
            true => WorkspaceStanding::Known,
            false => WorkspaceStanding::Missing,
        };
        let known = wanted.workspaces.iter().map(|path| (path.clone(), None, here(path)));
        let orphans = self.astray.orphans.iter().map(|(path, holds)| {
            let standing = if *holds { WorkspaceStanding::Holds("work".to_owned()) } else { WorkspaceStanding::Clean };
            (path.clone(), path.strip_prefix("/w/").map(str::to_owned), standing)
        });
        let mut found: Vec<FoundWorkspace> = known
            .chain(orphans)
            .map(|(path, identifier, standing)| FoundWorkspace { path, identifier, standing, bytes: Some(1) })
            .collect();
        if unkind
            && dice.permille(30)
            && let Some(found) = found.first_mut()
        {
            found.standing = WorkspaceStanding::Unreadable(refused());
        }
        let ours = self.processes.iter().filter(|process| process.alive).map(|process| process.run.0.clone());
        let marks: BTreeSet<String> = ours.chain(self.astray.strays.iter().cloned()).collect();
        let processes = marks.into_iter().map(|owner| FoundProcess { owner, pids: vec![7] }).collect();
        let wrong = |run: &RunId| FoundTranscript { run: run.clone(), wrong: Ok("line 3 is no entry".to_owned()) };
        let mut fails = |permille| unkind && dice.permille(permille);
        Inspection {
            workspaces: if fails(30) { Err(refused()) } else { Ok(found) },
            processes: if fails(30) { Err(refused()) } else { Ok(processes) },
            transcripts: if fails(30) { Err(refused()) } else { Ok(self.astray.garbled.iter().map(wrong).collect()) },
            blobs: if fails(30) { Err(refused()) } else { Ok(Vec::new()) },
            database: if fails(50) { Soundness::Checking } else { Soundness::Sound },
            free_bytes: if fails(30) { Err(refused()) } else { Ok(if fails(50) { 0 } else { ROOM }) },
            state_bytes: None,
        }
    }

    /// Puts something right, and objects to what must never be done.
    pub(crate) fn mend(&mut self, mend: &Mend) -> String {
        match mend {
            Mend::RemoveWorkspace { path, .. } => {
                let holds = self.astray.orphans.get(path).copied();
                if self.trees.keys().any(|id| *path == format!("/w/{id}")) {
                    self.object("owner_keeps", format!("{path} has an owner, and is removed as an orphan"));
                }
                if holds == Some(true) {
                    self.object("nothing_lost", format!("{path} holds work, and is removed"));
                }
                self.astray.orphans.remove(path);
                "removed".to_owned()
            }
            Mend::KeepWorkspace { path, .. } => {
                let lost = self.mutation == Some(Mutation::OrphanThrownAway);
                if self.astray.orphans.remove(path) == Some(true) && !lost && !self.astray.kept.insert(path.clone()) {
                    self.object("kept_once", format!("{path} is set aside twice"));
                }
                if !self.astray.kept.contains(path) {
                    self.object("nothing_lost", format!("{path} holds work, and is not kept"));
                }
                "kept".to_owned()
            }
            Mend::EndProcesses { owner } => {
                if self.processes.iter().any(|process| process.alive && !process.stray && process.run.as_str() == owner)
                {
                    self.object("owner_keeps", format!("{owner} has a live agent, and is ended as an orphan"));
                }
                self.astray.strays.remove(owner);
                "ended".to_owned()
            }
            Mend::SetTranscriptAside { run } => {
                self.astray.garbled.remove(run);
                "set aside".to_owned()
            }
            Mend::SettleBatch { .. } | Mend::VoidReceipt { .. } | Mend::SetFileAside { .. } => {
                self.object("left_alone", format!("{mend:?} is no mend of the world's"));
                "nothing".to_owned()
            }
        }
    }

    /// The world is kind and the machine quiet: what was astray is mended, or the daemon says that it gave it up.
    /// `files`: what is wrong with kept files.
    pub(crate) fn still_astray(&self, machine: &Machine, files: &BTreeSet<String>) -> Result<(), Violation> {
        let Astray { orphans, kept: _, strays, garbled, by_hand: _, planted: _ } = &self.astray;
        let steps = &machine.readiness().steps;
        let given_up = |member: &str| steps.iter().any(|step| step.reason == "not_mended" && step.member == member);
        let left =
            orphans.keys().chain(strays).chain(files).map(String::as_str).chain(garbled.iter().map(RunId::as_str));
        if let Some(member) = left.into_iter().find(|member| !given_up(member)) {
            return Err(Violation { rule: "mended", detail: format!("{member} is astray, and nobody sees to it") });
        }
        let outside = [
            Surface::Database,
            Surface::Workspace,
            Surface::AgentProcess,
            Surface::Blobs,
            Surface::Transcripts,
            Surface::Disk,
        ];
        let open = steps
            .iter()
            .find(|step| outside.contains(&step.surface) && !matches!(step.action, Remedy::None | Remedy::Block));
        match open {
            Some(step) => Err(Violation { rule: "plan_ends", detail: format!("{step:?} is still to be done") }),
            None => Ok(()),
        }
    }
}
