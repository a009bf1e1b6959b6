//! What each effect does to the simulated world, and what its performer answers.

use dalsegno_core::{
    CommitId, Effect, EffectOutput, EffectRequest, Failure, Hook, Notice, Outcome, ProbeAnswer, SessionId,
    SessionStart, Usage, Workspace, state_in,
};

use super::Mutation;
use super::dice::Dice;
use super::world::{Created, Process, Tree, World};

/// What becomes of one performance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It takes place, and its performer says so.
    Done,
    /// It does not take place, and may be tried again.
    Fails,
    /// It does not take place, and never will.
    FailsForGood,
    /// It takes place, and nobody knows.
    DoneInDoubt,
    /// It does not take place, and nobody knows.
    LostInDoubt,
}

impl Fate {
    pub(crate) fn applies(self) -> bool {
        matches!(self, Self::Done | Self::DoneInDoubt)
    }
}

impl World {
    /// Performs everything but a prompt.
    pub(crate) fn act(&mut self, request: &EffectRequest, fate: Fate, dice: &mut Dice, calm: bool) -> Outcome {
        if matches!(request.effect, Effect::StopAgent | Effect::Sweep) && !fate.applies() {
            // Its answer is that something outlived it.
            for process in self.processes.iter_mut().filter(|process| Some(&process.run) == request.run.as_ref()) {
                process.stray = true;
            }
        }
        if matches!(request.effect, Effect::RunHook { hook: Hook::AfterCreate })
            && let Some(tree) = self.trees.get_mut(&request.issue.id)
            && !fate.applies()
        {
            // It may have done half of its work.
            tree.created = Created::Begun;
        }
        let outcome = match fate {
            Fate::Fails => Err(Failure::retryable("simulated", "the world refused")),
            Fate::FailsForGood => Err(Failure::permanent("simulated_for_good", "the world refuses for good")),
            Fate::LostInDoubt => return in_doubt(),
            Fate::Done | Fate::DoneInDoubt => self.apply(request, dice, calm),
        };
        if fate == Fate::DoneInDoubt {
            return in_doubt();
        }
        match outcome {
            Ok(output) => Outcome::Done { output },
            Err(failure) => Outcome::Failed { failure },
        }
    }

    fn apply(&mut self, request: &EffectRequest, dice: &mut Dice, calm: bool) -> Result<EffectOutput, Failure> {
        let id = &request.issue.id;
        match &request.effect {
            Effect::PrepareWorkspace { fresh } => self.prepare(request, *fresh),
            // Whoever failed to make the workspace anew may have removed the old one: the script has no directory then, and
            // its failure is ignored.
            Effect::RunHook { hook: Hook::BeforeRemove } if !self.trees.contains_key(id) => {
                Err(Failure::retryable("hook_failed", "there is no directory"))
            }
            Effect::RunHook { .. } | Effect::StartSession { .. } if self.astray.by_hand.contains(id) => {
                Err(Failure::retryable("workspace_missing", "somebody removed it"))
            }
            Effect::RunHook { .. } if self.aftermath.workspaces.contains(id) && !self.trees.contains_key(id) => {
                Err(Failure::retryable("hook_failed", "there is no directory"))
            }
            Effect::RunHook { hook } => {
                self.hook(request, *hook);
                Ok(EffectOutput::HookEnded { output_tail: String::new() })
            }
            Effect::MoveIssue { to, from } => match self.move_issue(id, to, from.as_deref(), &request.key) {
                Some(state) => Ok(EffectOutput::Moved { state }),
                None => Err(Failure::permanent("issue_not_found", "the issue is gone")),
            },
            Effect::StartSession { resume, seek } => self.start(request, resume.as_ref(), seek.as_deref(), dice, calm),
            Effect::Prompt { .. } => Err(Failure::permanent("simulator", "prompts are performed elsewhere")),
            Effect::StopAgent | Effect::Sweep => {
                let skip = self.mutation == Some(Mutation::SweepSkipped) && matches!(request.effect, Effect::Sweep);
                let killed = match &request.run {
                    Some(run) if !skip => self.kill(run),
                    Some(_) | None => 0,
                };
                Ok(EffectOutput::Swept { killed })
            }
            Effect::CommitLeftovers => {
                let dirty = self.trees.get_mut(id).is_some_and(|tree| std::mem::replace(&mut tree.dirty, false));
                if dirty {
                    self.new_commit(id);
                }
                Ok(EffectOutput::LeftoversCommitted { committed: dirty })
            }
            Effect::FetchCommit => match self.trees.get(id) {
                Some(tree) if tree.commits.len() > 1 => Ok(EffectOutput::CommitFetched { commit: tree.head() }),
                Some(_) | None => Err(Failure::retryable("no_commit", "nothing to fetch")),
            },
            Effect::RunCheck { commit, index } => {
                let passed = self.verdict(commit, *index, dice, calm);
                Ok(EffectOutput::CheckEnded { passed, output_tail: "output".to_owned(), kept: None })
            }
            Effect::HandOff { .. } | Effect::TellSaga { .. } | Effect::PushBranch { .. } | Effect::Comment { .. } => {
                Err(Failure::permanent("simulator", "handoffs are performed elsewhere"))
            }
            Effect::CarryOut { order, action: _ } => self.carry_out(request, order),
            Effect::BringRemote => {
                let there = self.remote.get(&format!("dalsegno/{}", request.issue.identifier)).cloned();
                let tree = self.trees.get_mut(id);
                match (there, tree) {
                    (Some(commit), Some(tree)) => {
                        tree.brought = Some(commit.clone());
                        Ok(EffectOutput::RemoteBrought { commit })
                    }
                    (None, _) => Err(Failure::permanent("branch_gone", "there is no such branch")),
                    (Some(_), None) => Err(Failure::retryable("workspace_missing", "there is no workspace")),
                }
            }
            Effect::RemoveWorkspace { handed_off } => Ok(self.remove(request, handed_off.as_ref())),
            Effect::Mend { mend } => Ok(EffectOutput::Mended { done: self.mend(mend) }),
            Effect::Notify { notices, .. } => {
                self.told(notices);
                Ok(EffectOutput::Notified)
            }
        }
    }

    /// A receiver knows a message by its first notice.
    fn told(&mut self, notices: &[Notice]) {
        let mut numbers: Vec<u64> = notices.iter().map(|notice| notice.number).collect();
        let (Some(id), Some(last)) = (numbers.first().copied(), numbers.last().copied()) else { return };
        match self.mutation {
            Some(Mutation::NoticeSwallowed) => return,
            Some(Mutation::MessageGrows) if self.messages.contains_key(&id) => numbers.push(last + 1),
            Some(_) | None => {}
        }
        if let Some(before) = self.messages.insert(id, numbers.clone())
            && before != numbers
        {
            self.object("same_message", format!("message {id} was {before:?}, and is {numbers:?}"));
        }
    }

    fn prepare(&mut self, request: &EffectRequest, fresh: bool) -> Result<EffectOutput, Failure> {
        let id = &request.issue.id;
        let branch = format!("dalsegno/{}", request.issue.identifier);
        // What the lost life left there is moved aside, and not lost.
        let kept = self.aftermath.restored;
        if fresh
            && !kept
            && let Some(lost) = self.unsaved(id)
        {
            self.object("nothing_lost", format!("the workspace of {id} is made anew over {lost}"));
        }
        let made = fresh || !self.trees.contains_key(id);
        if made {
            self.astray.by_hand.remove(id);
            let mut commits = vec![CommitId::from("base")];
            if let Some(there) = self.remote.get(&branch) {
                let known = request.known_branch.as_ref().and_then(|known| known.commit.as_ref());
                if known != Some(there) {
                    self.trees.remove(id);
                    return Err(Failure::permanent("branch_in_use", "the branch is somebody else's"));
                }
                commits.push(there.clone());
            }
            let tree = Tree {
                branch: branch.clone(),
                commits,
                dirty: false,
                created: Created::Raw,
                made_by: request.key.clone(),
                brought: None,
            };
            self.trees.insert(id.clone(), tree);
        }
        // As the marker of a real workspace says: what this very effect made, it made still when it is performed again.
        let made_by = self.trees.get(id).map(|tree| tree.made_by.clone());
        let created = made_by.as_ref() == Some(&request.key);
        let base_commit = Some(CommitId::from("base"));
        let workspace = Workspace { path: format!("/w/{id}"), branch: Some(branch), base_commit, made_by };
        Ok(EffectOutput::WorkspaceReady { workspace, created })
    }

    fn hook(&mut self, request: &EffectRequest, hook: Hook) {
        let id = &request.issue.id;
        let Some(tree) = self.trees.get_mut(id) else {
            self.object("hook_in_workspace", format!("{} of {id} runs without a workspace", hook.as_str()));
            return;
        };
        if hook == Hook::AfterCreate {
            // Where nobody knows whether the workspace was removed and made anew, the script runs rather once too often.
            if tree.created != Created::Raw && !self.half_removed.contains(id) {
                self.object("after_create_once", format!("after_create ran twice in one workspace of {id}"));
            } else {
                tree.created = Created::Done;
            }
        }
    }

    fn start(
        &mut self,
        request: &EffectRequest,
        resume: Option<&SessionId>,
        seek: Option<&str>,
        dice: &mut Dice,
        calm: bool,
    ) -> Result<EffectOutput, Failure> {
        let id = request.issue.id.clone();
        let Some(run) = request.run.clone() else {
            return Err(Failure::permanent("no_run", "a session belongs to a run"));
        };
        if let Some(other) =
            self.processes.iter().find(|process| process.alive && process.issue == id && !process.stray)
        {
            let detail = format!("{run} starts an agent on {id} while one of {} lives", other.run);
            self.object("swept_first", detail);
        }
        let raw = request.policy.hooks.after_create.is_some();
        match self.trees.get(&id).map(|tree| tree.created) {
            None => self.object("workspace_first", format!("{run} starts an agent without a workspace")),
            Some(Created::Raw | Created::Begun) if raw && !self.aftermath.workspaces.contains(&id) => {
                self.object("after_create_first", format!("{run} starts an agent before after_create was through"));
            }
            Some(Created::Raw | Created::Begun | Created::Done) => {}
        }
        let gone = !calm && dice.permille(60);
        let (session, how) = match resume {
            None => (self.new_session(), SessionStart::New),
            Some(_) if gone => (self.new_session(), SessionStart::Gone),
            Some(old) => match (self.sessions.get(old.as_str()), seek) {
                (None, _) => (self.new_session(), SessionStart::Gone),
                (Some(_), None) => (old.0.clone(), SessionStart::Resumed),
                (Some(history), Some(key)) => {
                    let found = history.iter().any(|other| *other == key);
                    let blind = self.mutation == Some(Mutation::PromptSentBlindly);
                    let how = match found && !blind {
                        true => SessionStart::ResumedPromptFound,
                        false => SessionStart::ResumedPromptMissing,
                    };
                    (old.0.clone(), how)
                }
            },
        };
        let resumed = !matches!(how, SessionStart::New | SessionStart::Gone);
        let usage = (resumed && self.totals).then(|| Usage::new(self.session_total(&session), 0));
        self.processes.push(Process { run, issue: id, session: session.clone(), alive: true, stray: false });
        Ok(EffectOutput::SessionStarted { session: SessionId(session), how, usage })
    }

    /// A prompt arrives. Nothing when there is no agent to hear it.
    pub(crate) fn hear(&mut self, request: &EffectRequest) -> Option<()> {
        let session = self.live_process(request.run.as_ref()?)?.session.clone();
        let history = self.sessions.get_mut(&session)?;
        let twice = history.contains(&request.key);
        history.push(request.key.clone());
        if twice {
            self.object("prompt_once", format!("{} was sent again to {session}, which has it", request.key));
        }
        Some(())
    }

    pub(super) fn push(
        &mut self,
        request: &EffectRequest,
        commit: &CommitId,
        expected: Option<&CommitId>,
        seen: Option<Option<&CommitId>>,
    ) -> Result<(), Failure> {
        let branch = format!("dalsegno/{}", request.issue.identifier);
        let checks = request.policy.handoff.as_ref().map_or(0, |handoff| handoff.checks.len());
        for index in 0..u32::try_from(checks).unwrap_or(0) {
            if self.verdicts.get(&(commit.clone(), index)) != Some(&true) {
                self.object("evidence", format!("{commit} is pushed, and its check {index} did not pass"));
            }
        }
        let there = self.remote.get(&branch);
        if there.is_some_and(|there| self.holds(there, commit)) {
            return Ok(());
        }
        if seen.is_some_and(|seen| seen != there) && there.is_none() {
            return Err(Failure::permanent("branch_gone", "somebody deleted the branch"));
        }
        match (there, expected) {
            (None, _) => {}
            (Some(_), None) => return Err(Failure::permanent("branch_in_use", "the branch is somebody else's")),
            (Some(there), Some(_)) if self.holds(commit, there) && seen.is_none_or(|seen| seen == Some(there)) => {}
            (Some(_), Some(_)) => {
                return Err(Failure::permanent("branch_diverged", "the remote branch has what the commit does not"));
            }
        }
        self.remote.insert(branch.clone(), commit.clone());
        self.pushes.insert((branch.clone(), commit.clone()));
        if !self.fresh_pushes.insert((branch.clone(), commit.clone())) {
            self.object("one_push", format!("{commit} was pushed twice to {branch}"));
        }
        Ok(())
    }

    fn remove(&mut self, request: &EffectRequest, handed_off: Option<&CommitId>) -> EffectOutput {
        let id = &request.issue.id;
        if request.attempt > 1 {
            self.half_removed.insert(id.clone());
        }
        let Some(tree) = self.trees.get(id) else { return EffectOutput::WorkspaceRemoved };
        let head = tree.head();
        let beyond = tree.commits.len() > 1 && Some(&head) != handed_off;
        if (tree.dirty || beyond) && self.mutation != Some(Mutation::DirtyWorkspaceRemoved) {
            return EffectOutput::WorkspaceKept { reason: "work would be lost".to_owned() };
        }
        if let Some(lost) = self.unsaved(id) {
            self.object("nothing_lost", format!("the workspace of {id} was removed with {lost}"));
        }
        if let Some(process) =
            self.processes.iter().find(|process| process.alive && process.issue == *id && !process.stray)
        {
            let detail = format!("the workspace of {id} was removed while an agent of {} lives", process.run);
            self.object("swept_first", detail);
        }
        self.trees.remove(id);
        EffectOutput::WorkspaceRemoved
    }

    /// Whether an effect took place.
    pub(crate) fn probe(&self, request: &EffectRequest) -> ProbeAnswer {
        let id = &request.issue.id;
        let applied = match &request.effect {
            Effect::MoveIssue { to, from } => self
                .tracked
                .get(id)
                .filter(|tracked| !tracked.deleted)
                .map(|tracked| tracked.issue.state.clone())
                .filter(|state| {
                    state == to
                        || from.as_ref().is_some_and(|from| state != from)
                        || state_in(state, &request.policy.tracker.terminal_states)
                })
                .map(|state| EffectOutput::Moved { state }),
            Effect::PrepareWorkspace { .. }
            | Effect::RunHook { .. }
            | Effect::StartSession { .. }
            | Effect::Prompt { .. }
            | Effect::StopAgent
            | Effect::Sweep
            | Effect::CommitLeftovers
            | Effect::FetchCommit
            | Effect::RunCheck { .. }
            | Effect::HandOff { .. }
            | Effect::TellSaga { .. }
            | Effect::CarryOut { .. }
            | Effect::PushBranch { .. }
            | Effect::Comment { .. }
            | Effect::BringRemote
            | Effect::Notify { .. }
            | Effect::Mend { .. }
            | Effect::RemoveWorkspace { .. } => None,
        };
        applied.map_or(ProbeAnswer::NotApplied, ProbeAnswer::Applied)
    }
}

fn in_doubt() -> Outcome {
    Outcome::InDoubt { reason: "nobody knows".to_owned() }
}
