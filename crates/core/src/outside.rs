//! What lies outside the journal and can disagree with it: workspaces, processes, transcripts, the database's pages, the disk.
//!
//! It is looked at through a port, by a daemon that starts before it takes work and then now and then. What was seen is held
//! against the fold: what nobody owns, what is missing, what cannot be read. What has to be done about it is an effect like
//! any other ([`Mend`]): intended, performed, told. Nothing that holds somebody's work is ever removed.

use std::collections::{BTreeMap, BTreeSet};

use crate::blob::FoundFile;
use crate::effect::{Effect, EffectOutput, Failure, Query};
use crate::event::Event;
use crate::ids::{EffectId, IssueId, RunId};
use crate::inspection::{
    DiskUse, FoundProcess, FoundTranscript, FoundWorkspace, Inspection, LookFor, Mend, Owners, Room, Soundness,
    Standing, limit_of, needs_workspace,
};
use crate::issue::{Issue, IssueEntry, Workspace};
use crate::machine::{Machine, Purpose};
use crate::state::{OpenEffect, State};
use crate::surface::{Condition, Finding, Remedy, Scope, Surface, Verdict};
use crate::time::Timestamp;

/// How long after a look the next one is due.
const LOOK_EVERY_MS: u64 = 300_000;
/// The same where something could not be looked at, is not looked through yet, or has no room.
const LOOK_AGAIN_MS: u64 = 30_000;
/// A look that is asked for comes no sooner than this after the last one.
const LOOK_PAUSE_MS: u64 = 5_000;
/// Times that something is mended in one life of the daemon before somebody has to look.
const TRIES: u32 = 3;
/// What is mended at once, at most.
const AT_ONCE: usize = 16;
/// What the marks begin with of what is done for an issue between runs, and of messages.
const ISSUE: &str = "issue-";
const NOTICE: &str = "notice-";
/// Reason of a disk without room.
pub const NO_ROOM: &str = "disk_limit";

/// Something found, and what the machine does about it.
struct Judged {
    finding: Finding,
    mend: Option<Mend>,
}

/// What was seen, held against the fold. In a fixed order.
#[must_use]
pub fn inspect_outside(state: &State, seen: &Inspection) -> Vec<Finding> {
    judge(state, seen).into_iter().map(|judged| judged.finding).collect()
}

/// What can be done about it without a decision of somebody's.
#[must_use]
pub fn mends(state: &State, seen: &Inspection) -> Vec<Mend> {
    judge(state, seen).into_iter().filter_map(|judged| judged.mend).collect()
}

fn judge(state: &State, seen: &Inspection) -> Vec<Judged> {
    let mut found = Vec::new();
    let plain = |finding| Judged { finding, mend: None };
    match &seen.database {
        Soundness::Sound => {}
        Soundness::Checking => found.push(plain(Finding::of(
            Surface::Database,
            Condition::IntentOpen,
            "dalsegno.db",
            "a large database is still being read through".to_owned(),
        ))),
        Soundness::Damaged(words) => {
            found.push(plain(Finding::of(Surface::Database, Condition::Corrupt, "dalsegno.db", words.clone())));
        }
        Soundness::Unread(failure) => found.push(plain(unseen(Surface::Database, "dalsegno.db", failure))),
    }
    match &seen.processes {
        Ok(processes) => found.extend(processes.iter().filter_map(|process| stray(state, process))),
        Err(failure) => found.push(plain(unseen(Surface::AgentProcess, "/proc", failure))),
    }
    match &seen.workspaces {
        Ok(workspaces) => {
            let owners = Owners::of(state);
            found.extend(workspaces.iter().filter_map(|workspace| of_workspace(state, &owners, workspace)));
        }
        Err(failure) => found.push(plain(unseen(Surface::Workspace, "workspace.root", failure))),
    }
    match &seen.transcripts {
        Ok(transcripts) => found.extend(transcripts.iter().map(of_transcript)),
        Err(failure) => found.push(plain(unseen(Surface::Transcripts, "transcripts", failure))),
    }
    match &seen.blobs {
        Ok(files) => found.extend(files.iter().filter_map(|file| of_file(state, file))),
        Err(failure) => found.push(plain(unseen(Surface::Blobs, "blobs", failure))),
    }
    match &seen.free_bytes {
        Ok(_) => {
            let why = Room::of(seen).and_then(|room| room.lacking(limit_of(state)));
            found.extend(why.map(|why| {
                let verdict = Verdict { action: Remedy::Block, reason: NO_ROOM, scope: Scope::Project };
                plain(Finding::of(Surface::Disk, Condition::Drifted, "workspaces", why).with(verdict))
            }));
        }
        Err(failure) => found.push(plain(unseen(Surface::Disk, "workspaces", failure))),
    }
    found
}

/// A whole surface that could not be looked at: what hangs on it waits, and nothing of it is touched.
fn unseen(surface: Surface, member: &str, failure: &Failure) -> Finding {
    let found = Finding::of(surface, Condition::IoError, member, failure.to_string());
    match surface.stands_still() {
        true => found.with(Verdict { action: Remedy::Block, reason: "io_error", scope: Scope::Project }),
        false => found,
    }
}

/// The mark of what is done between runs, after the journal's identity.
fn mark_between(open: &OpenEffect) -> String {
    if let Effect::Notify { notices, .. } = &open.effect {
        format!("{NOTICE}n{}", notices.first().map_or(0, |first| first.number))
    } else {
        format!("{ISSUE}{}", open.issue)
    }
}

fn stray(state: &State, process: &FoundProcess) -> Option<Judged> {
    let FoundProcess { owner, pids } = process;
    let mut between = state.open_effects.values().filter(|open| open.run.is_none());
    if state.runs.contains_key(&RunId(owner.clone())) || between.any(|open| mark_between(open) == *owner) {
        return None;
    }
    let shown: Vec<String> = pids.iter().take(10).map(ToString::to_string).collect();
    let detail = format!("{} carries this journal's mark, and is nobody's: process {}", owner, shown.join(", "));
    let finding = Finding::of(Surface::AgentProcess, Condition::Orphan, owner, detail);
    Some(Judged { finding, mend: Some(Mend::EndProcesses { owner: owner.clone() }) })
}

fn of_workspace(state: &State, owners: &Owners<'_>, found: &FoundWorkspace) -> Option<Judged> {
    let FoundWorkspace { path, identifier, standing, bytes: _ } = found;
    let owner = owners.owner(found);
    let orphan = |detail: String, mend: Mend| {
        let verdict = Verdict { action: mend.remedy(), reason: mend.reason(), scope: Scope::Run };
        let finding = Finding::of(Surface::Workspace, Condition::Orphan, path, detail).with(verdict);
        Some(Judged { finding, mend: Some(mend) })
    };
    match (standing, owner) {
        (Standing::Known | Standing::Foreign, _) | (Standing::Clean | Standing::Holds(_), Some(_)) => None,
        (Standing::Clean, None) => {
            let (path, identifier) = (path.clone(), identifier.clone()?);
            let detail = format!("no issue owns {path}, and nothing would be lost with it");
            orphan(detail, Mend::RemoveWorkspace { path, identifier })
        }
        (Standing::Holds(loss), None) => {
            let (path, identifier) = (path.clone(), identifier.clone()?);
            orphan(format!("no issue owns {path}, and it holds {loss}"), Mend::KeepWorkspace { path, identifier })
        }
        (Standing::Missing, Some(entry)) => {
            // Only what the fold says now counts: meanwhile it may have been removed.
            entry.workspace.as_ref().filter(|workspace| workspace.path == *path)?;
            let run = entry.current_run.as_ref().and_then(|run| state.runs.get(run));
            if run.is_some_and(|run| !needs_workspace(run)) || !state.issues.contains_key(&entry.issue.id) {
                return None;
            }
            let finding = Finding::of(
                Surface::Workspace,
                Condition::Missing,
                &entry.issue.identifier,
                format!("the workspace {path} is not there any more"),
            );
            let fence = Verdict { action: Remedy::FenceRun, reason: "missing", scope: Scope::Run };
            Some(Judged { finding: if run.is_some() { finding.with(fence) } else { finding }, mend: None })
        }
        (Standing::Missing, None) => None,
        (Standing::Unreadable(failure), owner) => {
            let member = owner.map_or(path, |entry| &entry.issue.identifier);
            let detail = format!("{path}: {failure}");
            Some(Judged { finding: Finding::of(Surface::Workspace, Condition::IoError, member, detail), mend: None })
        }
    }
}

fn of_transcript(found: &FoundTranscript) -> Judged {
    let FoundTranscript { run, wrong } = found;
    match wrong {
        Ok(words) => Judged {
            finding: Finding::of(Surface::Transcripts, Condition::Corrupt, run.as_str(), words.clone()),
            mend: Some(Mend::SetTranscriptAside { run: run.clone() }),
        },
        Err(failure) => Judged {
            finding: Finding::of(Surface::Transcripts, Condition::IoError, run.as_str(), failure.to_string()),
            mend: None,
        },
    }
}

fn of_file(state: &State, found: &FoundFile) -> Option<Judged> {
    let finding = match found {
        FoundFile::Under { run, .. } => {
            let (condition, detail) = stale_receipts(state, found)?;
            Finding::of(Surface::Blobs, condition, run.as_str(), detail)
        }
        FoundFile::OpenBatch { .. }
        | FoundFile::Broken { .. }
        | FoundFile::Unreceipted { .. }
        | FoundFile::Unreadable { .. } => found.finding()?,
    };
    Some(Judged { finding, mend: found.mend() })
}

/// Receipts of a live run that say that it was started under something else.
fn stale_receipts(state: &State, found: &FoundFile) -> Option<(Condition, String)> {
    let FoundFile::Under { run, policy, agent } = found else { return None };
    let live = state.runs.get(run)?;
    if live.policy != *policy {
        let detail = format!("run {run} was started under policy {}, and has receipts of {policy}", live.policy);
        return Some((Condition::StalePolicy, detail));
    }
    let kind = state.policies.get(policy)?.agent.kind.as_str();
    let detail = format!("run {run} was started with {kind}, and has receipts of {agent}");
    (kind != agent).then_some((Condition::StaleCapability, detail))
}

/// What the fold had when a look was asked for: what ended or changed since is judged by the next look.
#[derive(Debug, Default)]
struct Asked {
    /// The last run of the issue that has each workspace.
    last: BTreeMap<String, Option<RunId>>,
    /// Marks that somebody had.
    marks: BTreeSet<String>,
    /// Workspaces that were made ready since: where the look saw none, there is one now.
    made: BTreeSet<String>,
}

/// What this daemon knows of what is outside. Belongs to its life: the next one looks for itself.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    seen: Option<Inspection>,
    at: Timestamp,
    due_at: Timestamp,
    in_flight: bool,
    room: Option<Room>,
    /// Workspaces that cannot be looked at: path, the name on the marker, why.
    unreadable: Vec<(String, Option<String>, Failure)>,
    /// What the fold had when the look was asked for.
    asked: Asked,
    /// Processes could be looked at once: what a dead daemon left between runs was seen then.
    saw_processes: bool,
    /// Times that something was mended, by member.
    tries: BTreeMap<String, u32>,
}

impl Machine {
    /// Whether this daemon has looked outside.
    pub(crate) fn has_looked_outside(&self) -> bool {
        self.outside.seen.is_some()
    }

    /// When that was.
    pub(crate) fn looked_outside_at(&self) -> Option<Timestamp> {
        self.outside.seen.as_ref().map(|_| self.outside.at)
    }

    /// What was seen, held against the fold as it is now.
    pub(crate) fn found_outside(&self) -> Vec<Finding> {
        let Some(seen) = &self.outside.seen else { return Vec::new() };
        let judged = judge(&self.state, seen).into_iter();
        judged
            .map(|Judged { finding, mend }| match mend {
                Some(mend) if self.is_given_up(&mend) => {
                    finding.with(Verdict { action: Remedy::Block, reason: "not_mended", scope: Scope::Run })
                }
                Some(_) | None => finding,
            })
            .collect()
    }

    /// How the disk is used, as far as that is known.
    pub(crate) fn disk_use(&self) -> Option<DiskUse> {
        self.outside.seen.as_ref().and_then(|seen| DiskUse::of(&self.state, seen))
    }

    /// Why nothing new is begun at all: what is outside was not looked at, or could not be.
    pub(crate) fn nothing_seen_outside(&self) -> Option<String> {
        let Some(seen) = &self.outside.seen else {
            return Some("what is outside the journal is being looked at".to_owned());
        };
        let Inspection { workspaces, processes, transcripts: _, blobs: _, database: _, free_bytes, state_bytes: _ } =
            seen;
        let whole = [workspaces.as_ref().err(), processes.as_ref().err(), free_bytes.as_ref().err()];
        whole.into_iter().flatten().next().map(ToString::to_string)
    }

    /// The same, or why nothing is begun for this issue: its workspace cannot be read.
    pub(crate) fn unseen_outside(&self, entry: &IssueEntry) -> Option<String> {
        if let Some(why) = self.nothing_seen_outside() {
            return Some(why);
        }
        let path = entry.workspace.as_ref().map(|workspace| workspace.path.as_str());
        let of_it = |found: &&(String, Option<String>, Failure)| {
            let (at, identifier, _) = found;
            path == Some(at) || identifier.as_ref() == Some(&entry.issue.identifier)
        };
        self.outside.unreadable.iter().find(of_it).map(|(at, _, failure)| format!("{at}: {failure}"))
    }

    /// There are workspaces that cannot be looked at, each of which may hold up an issue of its own.
    pub(crate) fn has_unreadable(&self) -> bool {
        !self.outside.unreadable.is_empty()
    }

    /// Why no workspace is begun: there is no room on the disk.
    pub(crate) fn without_room(&self) -> Option<String> {
        self.outside.room.and_then(|room| room.lacking(limit_of(&self.state)))
    }

    /// When the next look is due.
    pub(crate) fn outside_due(&self) -> Option<Timestamp> {
        (!self.outside.in_flight && self.state.policy.is_some() && !self.draining).then_some(self.outside.due_at)
    }

    /// Somebody wants it looked at again.
    pub(crate) fn look_outside_soon(&mut self) {
        let soon = if self.outside.seen.is_some() { self.outside.at.after_ms(LOOK_PAUSE_MS) } else { self.now };
        self.outside.due_at = self.outside.due_at.min(soon);
    }

    /// Looks, if it is time.
    pub(crate) fn look_outside(&mut self) {
        if self.outside_due().is_none_or(|due| due > self.now) {
            return;
        }
        let Some(policy) = self.state.policy() else { return };
        self.outside.in_flight = true;
        let entries = self.state.issues.values();
        let last = entries.filter_map(|entry| Some((entry.workspace.as_ref()?.path.clone(), entry.last_run.clone())));
        let between = self.state.open_effects.values().filter(|open| open.run.is_none());
        let marks = self.state.runs.keys().map(ToString::to_string);
        let marks = marks.chain(between.map(mark_between));
        self.outside.asked = Asked { last: last.collect(), marks: marks.collect(), made: BTreeSet::new() };
        self.ask(Purpose::Inspect, Query::Inspect { wanted: LookFor::of(&self.state), policy });
    }

    /// A workspace is ready: what an older look saw of its place is no news.
    pub(crate) fn made_workspace(&mut self, path: &str) {
        if self.outside.in_flight {
            self.outside.asked.made.insert(path.to_owned());
        }
    }

    /// The look told nothing.
    pub(crate) fn look_outside_later(&mut self) {
        self.outside.in_flight = false;
        self.outside.due_at = self.now.after_ms(LOOK_AGAIN_MS);
    }

    /// What is outside was looked at.
    pub(crate) fn looked_outside(&mut self, mut seen: Inspection) {
        let Inspection { workspaces, processes, transcripts, blobs, database, free_bytes, state_bytes: _ } = &seen;
        let whole = workspaces.is_ok()
            && processes.is_ok()
            && transcripts.is_ok()
            && blobs.is_ok()
            && free_bytes.is_ok()
            && matches!(database, Soundness::Sound | Soundness::Damaged(_));
        let room = Room::of(&seen).is_none_or(|room| room.lacking(limit_of(&self.state)).is_none());
        let wait = if whole && room { LOOK_EVERY_MS } else { LOOK_AGAIN_MS };
        let held = self.holds_dispatch();
        let Outside { asked, saw_processes, tries, .. } = &self.outside;
        if let Ok(processes) = &mut seen.processes {
            // Whose run or effect ended since the look is being ended anyway; between runs, only what a dead daemon left is known
            // to be nobody's.
            processes.retain(|process| {
                let between = process.owner.starts_with(NOTICE) || process.owner.starts_with(ISSUE);
                let nobodys = || tries.contains_key(&format!("{}/{}", Surface::AgentProcess.as_str(), process.owner));
                let known = asked.marks.contains(&process.owner) || (between && *saw_processes && !nobodys());
                !known && stray(&self.state, process).is_some()
            });
            self.outside.saw_processes = true;
        }
        self.outside.in_flight = false;
        self.outside.at = self.now;
        self.outside.due_at = self.now.after_ms(wait);
        self.outside.room = Room::of(&seen);
        let found = seen.workspaces.iter().flatten().filter_map(|found| match &found.standing {
            Standing::Unreadable(failure) => Some((found.path.clone(), found.identifier.clone(), failure.clone())),
            Standing::Known | Standing::Missing | Standing::Clean | Standing::Holds(_) | Standing::Foreign => None,
        });
        self.outside.unreadable = found.collect();
        self.outside.seen = Some(seen);
        self.surfaces_stale = true;
        // First what needs somebody: a run ends once, and one that lost its workspace, too, would be tried again.
        self.stop_stale();
        self.forget_missing();
        if held && !self.holds_dispatch() {
            self.poll_soon();
        }
    }

    /// Nothing is begun, for what is or is not known of outside.
    fn holds_dispatch(&self) -> bool {
        let Some(seen) = &self.outside.seen else { return true };
        let held = |finding: &Finding| {
            finding.verdict.is_some_and(|verdict| verdict.action == Remedy::Block && verdict.scope == Scope::Project)
        };
        inspect_outside(&self.state, seen).iter().any(held)
    }

    /// Does what can be done about what was found. A workspace is judged only when the tracker has said which issues there are.
    pub(crate) fn mend_outside(&mut self) {
        // Whenever something is handed in, this is asked: most looks find nothing that is to be mended.
        let Some(seen) = self.outside.seen.as_ref().filter(|seen| !self.draining && has_to_mend(seen)) else { return };
        let open: BTreeSet<String> = self.open_mends().map(|mend| mend.member().to_owned()).collect();
        let room = AT_ONCE.saturating_sub(open.len());
        let due: Vec<Mend> = judge(&self.state, seen)
            .into_iter()
            .filter_map(|judged| judged.mend)
            .filter(|mend| !open.contains(mend.member()) && !self.is_given_up(mend))
            .filter(|mend| mend.surface() != Surface::Workspace || self.polls_answered() > 0)
            .take(room)
            .collect();
        for mend in due {
            *self.outside.tries.entry(tried(&mend)).or_default() += 1;
            let key = format!("mend/{}/{}", mend.surface().as_str(), self.state.effect_count + 1);
            self.intend_under(key, &IssueId::nobodys(), None, Effect::Mend { mend });
        }
    }

    /// A workspace that is not there is made anew by the next run; a run that has lost it ends.
    fn forget_missing(&mut self) {
        let Some(seen) = &self.outside.seen else { return };
        let missing: Vec<String> = judge(&self.state, seen)
            .into_iter()
            .filter(|judged| judged.finding.surface == Surface::Workspace)
            .filter(|judged| judged.finding.condition == Condition::Missing)
            .map(|judged| judged.finding.member)
            .collect();
        for identifier in missing {
            let named = self.index.named(&identifier).and_then(|id| self.state.issues.get(id));
            let Some(entry) = named else { continue };
            let (issue, run) = (entry.issue.id.clone(), entry.current_run.clone());
            let path =
                entry.workspace.as_ref().map_or_else(String::new, |workspace: &Workspace| workspace.path.clone());
            let asked = self.outside.asked.last.get(&path);
            // Made anew meanwhile, or somebody is at it: the next look tells.
            if asked != Some(&entry.last_run)
                || self.outside.asked.made.contains(&path)
                || self.has_issue_effect(&issue)
            {
                continue;
            }
            let action = if run.is_some() { Remedy::FenceRun } else { Remedy::RecreateWorkspace };
            let done = match &run {
                Some(run) => format!("{run} ends; the next run makes {path} anew"),
                None => format!("the next run makes {path} anew"),
            };
            if let Some(run) = &run {
                let failure =
                    Failure::retryable("workspace_missing", format!("there is no workspace at {path} any more"));
                self.fail_run(run, &failure);
            }
            self.emit(Event::Recovered {
                surface: Surface::Workspace,
                action,
                reason: "missing".to_owned(),
                member: identifier,
                done,
                failure: None,
            });
            self.emit(Event::WorkspaceRemoved { issue });
        }
        if let Some(Ok(found)) = self.outside.seen.as_mut().map(|seen| seen.workspaces.as_mut()) {
            found.retain(|workspace| workspace.standing != Standing::Missing);
        }
    }

    /// A run whose receipts are those of another policy or agent goes no further: its issue waits for somebody to look.
    fn stop_stale(&mut self) {
        let found = self.outside.seen.iter().flat_map(|seen| seen.blobs.iter().flatten());
        let stale: Vec<(RunId, String)> = found
            .filter_map(|found| match found {
                FoundFile::Under { run, .. } => Some((run.clone(), stale_receipts(&self.state, found)?.1)),
                FoundFile::OpenBatch { .. }
                | FoundFile::Broken { .. }
                | FoundFile::Unreceipted { .. }
                | FoundFile::Unreadable { .. } => None,
            })
            .collect();
        for (run, detail) in stale {
            let hint = "see who wrote them (`dalsegno doctor`), then `dalsegno release` the issue";
            self.fail_run(&run, &Failure::permanent("stale_receipt", detail).hint(hint));
        }
    }

    /// Something outside was mended, or could not be.
    pub(crate) fn after_mend(&mut self, mend: &Mend, result: Result<EffectOutput, Failure>) {
        let (done, failure) = match result {
            Ok(EffectOutput::Mended { done }) => (done, None),
            Ok(_) => ("nothing".to_owned(), Some(Failure::retryable("wrong_output", "a mend answered something else"))),
            Err(failure) => ("nothing".to_owned(), Some(failure)),
        };
        if failure.is_none()
            && let Some(seen) = &mut self.outside.seen
        {
            forget(seen, mend);
        } else {
            // One that a dead daemon began counts as tried in this life, too, and is known to be nobody's.
            self.outside.tries.entry(tried(mend)).or_insert(1);
        }
        self.surfaces_stale = true;
        self.emit(Event::Recovered {
            surface: mend.surface(),
            action: mend.remedy(),
            reason: mend.reason().to_owned(),
            member: mend.member().to_owned(),
            done,
            failure,
        });
        // What is left, and what the next look finds of it.
        self.look_outside_soon();
    }

    /// What the effect of a mend is performed with: nobody's issue.
    pub(crate) fn mend_request(&self, id: EffectId, open: &OpenEffect, mend: &Mend) -> Option<crate::EffectRequest> {
        let issue = Issue::new(IssueId::nobodys(), mend.identifier().unwrap_or_default(), "", "");
        self.request_beside(id, open, issue)
    }

    /// Something is done to a directory that the issue's workspace would be in.
    pub(crate) fn is_being_mended(&self, entry: &IssueEntry) -> bool {
        self.open_mends().any(|mend| mend.identifier() == Some(entry.issue.identifier.as_str()))
    }

    fn open_mends(&self) -> impl Iterator<Item = &Mend> {
        self.state.open_effects.values().filter_map(|open| open.effect.mend())
    }

    fn is_given_up(&self, mend: &Mend) -> bool {
        let open = self.open_mends().any(|other| other == mend);
        !open && self.outside.tries.get(&tried(mend)).is_some_and(|tries| *tries >= TRIES)
    }
}

fn has_to_mend(seen: &Inspection) -> bool {
    let orphan = |found: &FoundWorkspace| matches!(found.standing, Standing::Clean | Standing::Holds(_));
    seen.workspaces.iter().flatten().any(orphan)
        || seen.processes.iter().flatten().next().is_some()
        || seen.transcripts.iter().flatten().next().is_some()
        || seen.blobs.iter().flatten().any(|found| found.mend().is_some())
}

fn tried(mend: &Mend) -> String {
    format!("{}/{}", mend.surface().as_str(), mend.member())
}

/// What was mended is not seen any more.
fn forget(seen: &mut Inspection, mend: &Mend) {
    match mend {
        Mend::RemoveWorkspace { path, .. } | Mend::KeepWorkspace { path, .. } => {
            if let Ok(found) = &mut seen.workspaces {
                found.retain(|workspace| workspace.path != *path);
            }
        }
        Mend::EndProcesses { owner } => {
            if let Ok(found) = &mut seen.processes {
                found.retain(|process| process.owner != *owner);
            }
        }
        Mend::SetTranscriptAside { run } => {
            if let Ok(found) = &mut seen.transcripts {
                found.retain(|transcript| transcript.run != *run);
            }
        }
        Mend::SettleBatch { .. } | Mend::VoidReceipt { .. } | Mend::SetFileAside { .. } => {
            if let Ok(found) = &mut seen.blobs {
                found.retain(|found| !found.is(mend.member()));
            }
        }
    }
}
