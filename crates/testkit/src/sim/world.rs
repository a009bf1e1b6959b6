//! The simulated world: tracker, agents, workspaces, remote. It changes in atomic steps, remembers everything that
//! was done to it, and objects to what must never be done.

use std::collections::{BTreeMap, BTreeSet};

use dalsegno_core::{CommitId, EffectRequest, Issue, IssueId, Policy, RunId, Work, state_in};

use super::deed::{Pull, PullState};
use super::dice::Dice;
use super::outside::Astray;
use super::plan::{ACTIVE, LABEL, RESTING, TERMINAL, issue as new_issue};
use super::restore::Aftermath;
use super::{Mutation, Violation};

/// An issue as the tracker has it.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) issue: Issue,
    /// Changes of state, labels or description by others than the daemon.
    pub(crate) version: u64,
    pub(crate) deleted: bool,
    /// Keys of the comments.
    pub(crate) comments: Vec<String>,
    /// The last move by the daemon under each key.
    pub(crate) moves: BTreeMap<String, Move>,
}

/// A move by the daemon.
#[derive(Debug)]
pub(crate) struct Move {
    /// The version at the time.
    pub(crate) at: u64,
    /// The state before.
    from: String,
    /// Somebody put the issue back there since: then it looks as if it had never been moved.
    is_put_back: bool,
}

impl Tracked {
    /// Somebody else than the daemon moves it.
    pub(crate) fn put(&mut self, state: &str) {
        if self.issue.state == state {
            return;
        }
        state.clone_into(&mut self.issue.state);
        self.version += 1;
        for by_us in self.moves.values_mut() {
            by_us.is_put_back |= by_us.from == state;
        }
    }
}

/// A process that was started for a run.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) run: RunId,
    pub(crate) issue: IssueId,
    pub(crate) session: String,
    pub(crate) alive: bool,
    /// The daemon said that it could not end it, and parked.
    pub(crate) stray: bool,
}

/// Whether `after_create` ran in a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    Raw,
    Begun,
    Done,
}

/// A workspace.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) branch: String,
    /// The base, then every commit on it.
    pub(crate) commits: Vec<CommitId>,
    pub(crate) dirty: bool,
    pub(crate) created: Created,
    /// Key of the effect that made it.
    pub(crate) made_by: String,
    /// What the remote's branch is at was brought into it, and is not merged yet.
    pub(crate) brought: Option<CommitId>,
}

impl Tree {
    pub(crate) fn head(&self) -> CommitId {
        self.commits.last().cloned().unwrap_or_else(|| CommitId::from("base"))
    }
}

/// Everything outside the daemon.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// Numbers of notices that were heard of a journal that was restored since.
    pub(crate) heard: BTreeSet<u64>,
    /// Numbers of the notices in each message that somebody heard, by the first.
    pub(crate) messages: BTreeMap<u64, Vec<u64>>,
    pub(crate) tracked: BTreeMap<IssueId, Tracked>,
    /// Keys of the prompts in each session's history.
    pub(crate) sessions: BTreeMap<String, Vec<String>>,
    /// Tokens that the model took for each prompt of a session: the truth that the ledger is compared with.
    pub(crate) spent: BTreeMap<(String, String), u64>,
    /// Sessions say what they used in all when they are resumed.
    pub(crate) totals: bool,
    pub(crate) processes: Vec<Process>,
    pub(crate) trees: BTreeMap<IssueId, Tree>,
    /// Issues with a removal of the workspace whose end nobody knew.
    pub(crate) half_removed: BTreeSet<IssueId>,
    pub(crate) remote: BTreeMap<String, CommitId>,
    /// All commits that a commit holds, itself not among them; the base is in all.
    pub(crate) ancestors: BTreeMap<CommitId, BTreeSet<CommitId>>,
    /// Pushes that were applied, ever.
    pub(crate) pushes: BTreeSet<(String, CommitId)>,
    /// The same since the branch was made.
    pub(crate) fresh_pushes: BTreeSet<(String, CommitId)>,
    /// Pull requests, oldest first.
    pub(crate) pulls: Vec<Pull>,
    /// Issues that a probe of a handoff's move found where neither we nor the tracker's end had put them.
    pub(crate) moved_on: BTreeSet<IssueId>,
    /// Verdicts of checks, by commit and position.
    pub(crate) verdicts: BTreeMap<(CommitId, u32), bool>,
    /// What is outside and nobody's.
    pub(crate) astray: Astray,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) aftermath: Aftermath,
    /// The first thing that must never be done and was done.
    pub(crate) objection: Option<Violation>,
    commit_count: u64,
    session_count: u64,
}

impl World {
    pub(crate) fn new(issues: &[Issue]) -> Self {
        let mut world = Self::default();
        for issue in issues {
            world.add(issue.clone());
        }
        world
    }

    pub(super) fn add(&mut self, issue: Issue) {
        let id = issue.id.clone();
        let tracked = Tracked { issue, version: 1, deleted: false, comments: Vec::new(), moves: BTreeMap::new() };
        self.tracked.insert(id, tracked);
    }

    pub(crate) fn object(&mut self, rule: &'static str, detail: String) {
        if self.objection.is_none() {
            self.objection = Some(Violation { rule, detail });
        }
    }

    /// The issue as a read of the tracker gives it now. `updated_at` carries the version.
    pub(crate) fn read(&self, id: &IssueId, policy: &Policy) -> Option<Issue> {
        let tracked = self.tracked.get(id).filter(|tracked| !tracked.deleted)?;
        let mut issue = tracked.issue.clone();
        issue.updated_at = Some(dalsegno_core::Timestamp(i64::try_from(tracked.version).unwrap_or(0)));
        let open = issue
            .blocked_by
            .iter()
            .filter_map(|blocker| self.tracked.get(blocker.id.as_ref()?))
            .any(|blocker| !blocker.deleted && !state_in(&blocker.issue.state, &policy.tracker.terminal_states));
        issue.dispatchable = !open;
        issue.undispatchable_reason = open.then(|| "blocked".to_owned());
        Some(issue)
    }

    pub(crate) fn by_states(&self, states: &[String], policy: &Policy) -> Vec<Issue> {
        self.tracked
            .iter()
            .filter(|(_, tracked)| state_in(&tracked.issue.state, states))
            .filter_map(|(id, _)| self.read(id, policy))
            .collect()
    }

    pub(crate) fn by_ids(&self, ids: &[IssueId], policy: &Policy) -> Vec<Issue> {
        ids.iter().filter_map(|id| self.read(id, policy)).collect()
    }

    /// Moves the issue for the daemon, which took it to be in the state `meant`; the state that it is in afterwards, or nothing
    /// when it is gone.
    pub(crate) fn move_issue(&mut self, id: &IssueId, to: &str, meant: Option<&str>, key: &str) -> Option<String> {
        let tracked = self.tracked.get_mut(id).filter(|tracked| !tracked.deleted)?;
        if state_in(&tracked.issue.state, &TERMINAL.map(str::to_owned)) || tracked.issue.state == to {
            return Some(tracked.issue.state.clone());
        }
        let was = std::mem::replace(&mut tracked.issue.state, to.to_owned());
        let version = tracked.version;
        let by_us = Move { at: version, from: was.clone(), is_put_back: false };
        let before = tracked.moves.insert(key.to_owned(), by_us);
        if let Some(Move { at, from, is_put_back }) = before
            && (at == version || (from != was && meant != Some(was.as_str()) && !is_put_back))
        {
            // Only an issue that somebody put back to where it was, or was meant to be, looks as if it had never been moved; between
            // that look and the move somebody may move it once more.
            self.object("one_move", format!("{id} was moved from {was} for {key}, which had moved it from {from}"));
        }
        Some(to.to_owned())
    }

    /// Adds a comment with the key's marker, unless it is there.
    pub(crate) fn comment(&mut self, id: &IssueId, key: &str) -> bool {
        let twice = self.mutation == Some(Mutation::CommentWithoutMarker);
        let Some(tracked) = self.tracked.get_mut(id).filter(|tracked| !tracked.deleted) else { return false };
        if twice || !tracked.comments.iter().any(|other| other == key) {
            tracked.comments.push(key.to_owned());
        }
        if tracked.comments.iter().filter(|other| *other == key).count() > 1 {
            self.object("one_comment", format!("{id} has two comments for {key}"));
        }
        true
    }

    /// A commit on what the workspace has, with what was brought into it merged.
    pub(crate) fn new_commit(&mut self, issue: &IssueId) {
        let Some(tree) = self.trees.get_mut(issue) else { return };
        let parents = [Some(tree.head()), tree.brought.take()];
        let commit = self.commit("c", parents.into_iter().flatten());
        if let Some(tree) = self.trees.get_mut(issue) {
            tree.commits.push(commit);
        }
    }

    fn commit(&mut self, kind: &str, parents: impl Iterator<Item = CommitId>) -> CommitId {
        self.commit_count += 1;
        let commit = CommitId(format!("{kind}{}", self.commit_count));
        let mut holds = BTreeSet::new();
        for parent in parents {
            holds.extend(self.ancestors.get(&parent).into_iter().flatten().cloned());
            holds.insert(parent);
        }
        self.ancestors.insert(commit.clone(), holds);
        commit
    }

    /// Whether a commit is or has the other.
    pub(crate) fn holds(&self, commit: &CommitId, other: &CommitId) -> bool {
        commit == other || self.ancestors.get(commit).is_some_and(|holds| holds.contains(other))
    }

    /// A person pushes a commit of their own to the issue's branch, on what is there or on the base.
    pub(crate) fn push_by_hand(&mut self, id: &IssueId) -> String {
        let Some(tracked) = self.tracked.get(id) else { return "misses the issue".to_owned() };
        let branch = format!("dalsegno/{}", tracked.issue.identifier);
        let on = self.remote.get(&branch).cloned().unwrap_or_else(|| CommitId::from("base"));
        let commit = self.commit("p", std::iter::once(on));
        let words = format!("pushes {commit} to {branch}");
        self.remote.insert(branch, commit);
        words
    }

    pub(crate) fn new_session(&mut self) -> String {
        self.session_count += 1;
        let session = format!("s{}", self.session_count);
        self.sessions.insert(session.clone(), Vec::new());
        session
    }

    /// The model took so many tokens for a prompt so far.
    pub(crate) fn spend(&mut self, session: &str, key: &str, tokens: u64) {
        let spent = self.spent.entry((session.to_owned(), key.to_owned())).or_default();
        *spent = tokens.max(*spent);
    }

    /// Tokens that the model took for all prompts of a session.
    pub(crate) fn session_total(&self, session: &str) -> u64 {
        self.spent.iter().filter(|((of, _), _)| of == session).map(|(_, tokens)| tokens).sum()
    }

    pub(crate) fn live_process(&self, run: &RunId) -> Option<&Process> {
        self.processes.iter().find(|process| process.alive && process.run == *run)
    }

    /// Ends all processes of a run.
    pub(crate) fn kill(&mut self, run: &RunId) -> u32 {
        let mut killed = 0;
        for process in self.processes.iter_mut().filter(|process| process.alive && process.run == *run) {
            process.alive = false;
            killed += 1;
        }
        self.processes.retain(|process| process.alive);
        killed
    }

    /// A journal with so many notices takes the place of the one that was lost. Its messages have ids of their own.
    pub(crate) fn restored(&mut self, notices: u64, workspaces: BTreeSet<IssueId>) {
        (self.aftermath.restored, self.aftermath.workspaces) = (true, workspaces);
        // Nobody can tell what was run in them.
        self.half_removed.extend(self.trees.keys().cloned());
        self.heard.extend(std::mem::take(&mut self.messages).into_values().flatten());
        self.heard.retain(|number| *number <= notices);
        self.aftermath.sessions.extend(self.sessions.keys().cloned());
    }

    /// Where the branch of an issue is, for whoever looks for lost work.
    pub(crate) fn look_for_lost_work(&mut self, request: &EffectRequest) -> Option<CommitId> {
        let tip = self.remote.get(&format!("dalsegno/{}", request.issue.identifier)).cloned();
        self.aftermath.looks.insert(request.issue.id.clone(), tip.clone());
        match (self.mutation, &request.known_branch) {
            (Some(Mutation::LostWorkUnseen), known) => known.as_ref().and_then(|known| known.commit.clone()),
            (Some(_) | None, _) => tip,
        }
    }

    /// The daemon ends its agents, and itself.
    pub(crate) fn end_agents(&mut self) {
        self.processes.retain(|process| process.stray);
    }

    /// The daemon died: its agents die with their pipe, or not.
    pub(crate) fn orphan(&mut self, dice: &mut Dice) {
        for process in &mut self.processes {
            process.alive = dice.coin();
        }
        self.processes.retain(|process| process.alive);
    }

    /// Something would be lost with the workspace.
    pub(crate) fn unsaved(&self, issue: &IssueId) -> Option<String> {
        let tree = self.trees.get(issue)?;
        if tree.dirty {
            return Some("uncommitted files".to_owned());
        }
        let head = tree.head();
        let saved = tree.commits.len() <= 1 || self.pushes.contains(&(tree.branch.clone(), head.clone()));
        (!saved).then(|| format!("commit {head}"))
    }

    pub(crate) fn work(&self, issue: &IssueId, since: Option<&CommitId>) -> Option<Work> {
        let tree = self.trees.get(issue)?;
        let head = tree.head();
        let has_commits = match since {
            Some(since) => head != *since,
            None => tree.commits.len() > 1,
        };
        let uncommitted = if tree.dirty { vec!["a.txt".to_owned()] } else { Vec::new() };
        let diff_digest = tree.dirty.then(|| "dirty".to_owned());
        Some(Work { head: Some(head), has_commits, uncommitted, diff_digest })
    }

    pub(crate) fn verdict(&mut self, commit: &CommitId, index: u32, dice: &mut Dice, calm: bool) -> bool {
        let passes = calm || dice.permille(700);
        *self.verdicts.entry((commit.clone(), index)).or_insert(passes)
    }

    /// The agent moves its own issue by its tools: the daemon did not do it.
    pub(crate) fn agent_moves(&mut self, id: &IssueId, to: &str) {
        if let Some(tracked) = self.tracked.get_mut(id) {
            tracked.put(to);
        }
    }

    /// A person goes on with what was handed over, on its branch, and sends it back; or merely sends it back.
    pub(crate) fn review(&mut self, id: &IssueId, dice: &mut Dice) -> String {
        let pushed = if dice.permille(700) { self.push_by_hand(id) } else { "pushes nothing".to_owned() };
        let state = dice.pick(ACTIVE);
        let Some(tracked) = self.tracked.get_mut(id) else { return pushed };
        tracked.put(state);
        format!("{pushed}, and sends {id} back as {state}")
    }

    /// A person deletes the issue's branch on the remote.
    fn delete_branch(&mut self, id: &IssueId) -> String {
        let Some(tracked) = self.tracked.get(id) else { return "misses the issue".to_owned() };
        let branch = format!("dalsegno/{}", tracked.issue.identifier);
        self.remote.remove(&branch);
        self.fresh_pushes.retain(|(of, _)| *of != branch);
        format!("deletes {branch}")
    }

    /// A person closes the issue's pull request.
    fn close_pull(&mut self, id: &IssueId) -> String {
        let number = self.tracked.get(id).and_then(|tracked| self.open_pull_of(&tracked.issue.identifier));
        let number = number.map(|pull| pull.number);
        let Some(pull) = number.and_then(|number| self.pull(number)) else { return "misses a pull request".to_owned() };
        pull.state = PullState::Closed;
        format!("closes pull request {}", pull.number)
    }

    /// A person does something in the tracker or on the remote; in words.
    pub(crate) fn edit(&mut self, dice: &mut Dice) -> String {
        if dice.permille(120) {
            let number = self.tracked.len() as u64 + 1;
            self.add(new_issue(number, dice));
            return format!("adds i{number}");
        }
        let ids: Vec<IssueId> = self.tracked.keys().cloned().collect();
        let Some(id) = ids.get(usize::try_from(dice.below(ids.len() as u64)).unwrap_or(0)) else {
            return "sees no issue".to_owned();
        };
        let what = dice.below(15);
        if what == 12 {
            return self.push_by_hand(id);
        }
        if what == 13 && dice.permille(400) {
            return self.delete_branch(id);
        }
        if what == 14 {
            return self.close_pull(id);
        }
        let Some(tracked) = self.tracked.get_mut(id) else { return "misses the issue".to_owned() };
        match what % 12 {
            0..=3 => {
                let state = dice.pick(ACTIVE);
                tracked.put(state);
                format!("moves {id} to {state}")
            }
            4 => {
                let state = dice.pick(RESTING);
                tracked.put(state);
                format!("moves {id} to {state}")
            }
            5 | 6 => {
                let state = dice.pick(TERMINAL);
                tracked.put(state);
                format!("closes {id} as {state}")
            }
            7 | 8 => {
                match tracked.issue.labels.iter().position(|label| label == LABEL) {
                    Some(at) => drop(tracked.issue.labels.remove(at)),
                    None => tracked.issue.labels.push(LABEL.to_owned()),
                }
                tracked.version += 1;
                format!("changes the labels of {id}")
            }
            9 => {
                tracked.issue.description = Some(format!("words {}", dice.below(1_000_000)));
                tracked.version += 1;
                format!("rewrites {id}")
            }
            10 => {
                tracked.issue.title = format!("Title {}", dice.below(1_000_000));
                tracked.issue.priority = Some(dice.between(0, 6));
                format!("retitles {id}")
            }
            _ => {
                tracked.deleted = !tracked.deleted;
                tracked.version += 1;
                format!("deletes or restores {id}")
            }
        }
    }
}
