//! Who keeps files in the simulation: a batch that was begun goes on to its end while the daemon lives, whoever stops waiting for it, and
//! the daemon may die between any two of its steps.
#![allow(clippy::wildcard_enum_match_arm, reason = "a simulation looks at the cases that it needs")]

use dalsegno_core::{
    Effect, EffectId, EffectOutput, EffectRequest, Failure, FoundFile, LookFor, Machine, Mend, Outcome, QueryId, RunId,
    Surface,
};

use super::acts::Fate;
use super::drive::{Item, Sim};
use super::files::{Content, Draft, Number, Owner, Refused, SAID};
use super::{Mutation, Violation};

/// What is being done for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Its intent and its drafts are being written.
    Begun,
    /// Its drafts are on disk; its intent is being written.
    Drafted,
    /// Its intent is on disk; its drafts are being written.
    Intended,
    /// Its files get their names.
    Naming,
    /// Its receipts are being written.
    Committing,
    /// It could not be written: it is being ended.
    Failing,
    /// It is ended: what has a name goes.
    Removing,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Drafted => "drafted",
            Self::Intended => "intended",
            Self::Naming => "naming",
            Self::Committing => "committing",
            Self::Failing => "failing",
            Self::Removing => "removing",
        }
    }
}

/// Steps of a batch, in words.
pub(super) const STEPS: [&str; 7] = ["begun", "drafted", "intended", "naming", "committing", "failing", "removing"];

/// A batch that somebody writes.
#[derive(Debug, Clone)]
pub(super) struct Keeping {
    owner: Owner,
    /// The epoch of its writer.
    epoch: u64,
    contents: Vec<(String, Content)>,
    batch: Option<Number>,
    /// None while they are not on disk.
    drafts: Vec<Draft>,
    step: Step,
    /// Something went wrong that explains it when nothing is kept.
    met: bool,
    /// The check that waits for it, and whether it passed.
    waiter: Option<(Box<EffectRequest>, bool)>,
}

/// What the journal says that live runs were started under.
pub(super) fn live_owners(machine: &Machine) -> Vec<Owner> {
    let state = machine.state();
    let owner = |run: &dalsegno_core::Run| {
        let agent = state.policies.get(&run.policy)?.agent.kind.as_str().to_owned();
        Some(Owner { run: run.id.clone(), policy: run.policy.clone(), agent })
    };
    state.runs.values().filter_map(owner).collect()
}

/// The mend of an effect, if it is one of kept files.
pub(super) fn mend_of_files(effect: &Effect) -> Option<&Mend> {
    match effect {
        Effect::Mend { mend } if mend.surface() == Surface::Blobs => Some(mend),
        _ => None,
    }
}

impl Sim {
    /// A check ended: what it said is kept, and then it is told. When nobody waits for it any more, its batch goes on all the same. What is
    /// answered is told at once.
    pub(super) fn check_applied(
        &mut self,
        request: Box<EffectRequest>,
        outcome: Outcome,
    ) -> Option<(Box<EffectRequest>, Outcome)> {
        let Some(mut keeping) = self.begin_keeping(&request, &outcome) else { return Some((request, outcome)) };
        let answer = match outcome {
            Outcome::Done { output: EffectOutput::CheckEnded { passed, .. } } => {
                keeping.waiter = Some((request, passed));
                None
            }
            outcome => Some((request, outcome)),
        };
        self.files.beginning += 1;
        self.keep_count += 1;
        let keep = self.keep_count;
        self.keepings.insert(keep, keeping);
        self.next_step_of(keep);
        answer
    }

    /// What there is to keep of an effect that took place, or may have.
    fn begin_keeping(&mut self, request: &EffectRequest, outcome: &Outcome) -> Option<Keeping> {
        let Effect::RunCheck { commit, index } = &request.effect else { return None };
        let said = match outcome {
            Outcome::Done { .. } => true,
            // It was cut while it ran, or while what it said was being kept.
            Outcome::InDoubt { .. } => self.kept.coin(),
            Outcome::Failed { .. } => false,
        };
        let passed = *self.world.verdicts.get(&(commit.clone(), *index)).filter(|_| said)?;
        let mut owners = live_owners(self.machine.as_ref()?).into_iter();
        let owner = owners.find(|owner| Some(&owner.run) == request.run.as_ref())?;
        // Checks say the same again and again, and on both of their streams.
        let content = SAID + 2 * u64::from(*index) + u64::from(passed);
        let mut contents = vec![(format!("check-{}.log", index + 1), content)];
        if self.kept.permille(300) {
            contents.push((format!("check-{}.err", index + 1), content + self.kept.below(2)));
        }
        let (epoch, drafts) = (self.store.fence, Vec::new());
        let (batch, step, met, waiter) = (None, Step::Begun, false, None);
        Some(Keeping { owner, epoch, contents, batch, drafts, step, met, waiter })
    }

    fn next_step_of(&mut self, keep: u64) {
        let after = self.kept.between(0, 40);
        self.schedule(after, Item::Keep { keep });
    }

    /// The outcome of a check is on its way.
    fn check_ended(&mut self, request: Box<EffectRequest>, passed: bool, kept: Option<dalsegno_core::FileReceipt>) {
        let output = EffectOutput::CheckEnded { passed, output_tail: "output".to_owned(), kept };
        let slow = if self.times.permille(self.plan.rates.slow) { 100 } else { 1 };
        let after = slow * self.times.between(0, 100);
        self.schedule(after, Item::Outcome { request, outcome: Outcome::Done { output } });
    }

    /// Another step of a batch is done.
    pub(super) fn keep_on(&mut self, keep: u64) {
        let Some(mut keeping) = self.keepings.remove(&keep) else { return };
        let step = keeping.step;
        let next = self.step_on(&mut keeping);
        self.note(|_| format!("batch {:?} of {}: {} is done", keeping.batch, keeping.owner.run, step.as_str()));
        match next {
            Ok(step) => {
                keeping.step = step;
                self.keepings.insert(keep, keeping);
                self.next_step_of(keep);
            }
            Err(kept) => self.keeping_ended(keeping, kept),
        }
    }

    /// What comes next for it, or whether it is kept.
    fn step_on(&mut self, keeping: &mut Keeping) -> Result<Step, bool> {
        match (keeping.step, self.mutation == Some(Mutation::ReceiptBeforeFile)) {
            (Step::Begun, _) if self.kept.coin() => {
                self.draft(keeping);
                Ok(Step::Drafted)
            }
            (Step::Begun, _) => self.intend(keeping).map(|()| Step::Intended),
            (Step::Drafted, _) => self.intend(keeping).map(|()| both(keeping)),
            (Step::Intended, _) => {
                self.draft(keeping);
                Ok(both(keeping))
            }
            (Step::Naming, false) => Ok(if self.name(keeping) { Step::Committing } else { Step::Failing }),
            (Step::Naming, true) => self.commit(keeping).map(|()| Step::Committing),
            (Step::Committing, false) => Err(self.commit(keeping).is_ok()),
            (Step::Committing, true) => Err(self.name(keeping)),
            (Step::Failing, _) => {
                if !self.writer_takes() {
                    keeping.met = true;
                    return Err(false);
                }
                let failed = keeping.batch.is_some_and(|batch| self.files.fail(batch));
                if failed { Ok(Step::Removing) } else { Err(false) }
            }
            (Step::Removing, _) => {
                self.unname(keeping, 1_000);
                Err(false)
            }
        }
    }

    fn intend(&mut self, keeping: &mut Keeping) -> Result<(), bool> {
        if !self.writer_takes() {
            keeping.met = true;
            return Err(false);
        }
        let begun = self.files.begin(keeping.owner.clone(), keeping.epoch, self.store.fence, &keeping.contents);
        let batch = begun.map_err(|_| false)?;
        keeping.batch = Some(batch);
        self.files.beginning -= 1;
        self.files.writing.insert(batch);
        Ok(())
    }

    fn draft(&mut self, keeping: &mut Keeping) {
        let rate = self.plan.rates.fail.max(self.plan.rates.no_draft);
        let fails = self.disk_is_ill() || self.kept.permille(rate);
        let all = keeping.contents.len();
        let written = if fails { usize::try_from(self.kept.below(all as u64)).unwrap_or(0) } else { all };
        for (_, content) in keeping.contents.iter().take(written) {
            let draft = self.files.draft(*content);
            keeping.drafts.push(draft);
        }
        keeping.met |= fails;
    }

    fn name(&mut self, keeping: &Keeping) -> bool {
        let Some(batch) = keeping.batch else { return false };
        let named = keeping.drafts.iter().enumerate().map(|(place, draft)| self.files.name(batch, place, *draft));
        named.collect::<Vec<_>>().into_iter().all(|named| named.is_ok())
    }

    fn unname(&mut self, keeping: &Keeping, permille: u64) {
        let Some(batch) = keeping.batch else { return };
        for place in 0..keeping.contents.len() {
            if self.kept.permille(permille) {
                self.files.unname(batch, place);
            }
        }
    }

    fn commit(&mut self, keeping: &mut Keeping) -> Result<(), bool> {
        if !self.writer_takes() {
            keeping.met = true;
            return Err(false);
        }
        let committed =
            keeping.batch.ok_or(Refused::Ended).and_then(|batch| self.files.commit(batch, self.store.fence));
        committed.map_err(|_| false)
    }

    fn keeping_ended(&mut self, keeping: Keeping, kept: bool) {
        *self.coverage.batches.entry(if kept { "committed" } else { "not kept" }).or_default() += 1;
        match keeping.batch {
            Some(batch) => drop(self.files.writing.remove(&batch)),
            None => self.files.beginning -= 1,
        }
        self.files.unseen |= !kept;
        let batch = keeping.batch.filter(|_| kept);
        let receipt = batch.and_then(|batch| self.files.receipt(batch, 0));
        if receipt.is_none() && !keeping.met {
            let detail = format!("nothing went wrong, and {:?} of {} is not kept", keeping.batch, keeping.owner.run);
            self.world.object("kept", detail);
        }
        if let Some((request, passed)) = keeping.waiter {
            self.check_ended(request, passed, receipt);
        }
    }

    /// The check is not wanted any more; its batch goes on to its own end. Answers whether there was one.
    pub(super) fn cancel_check(&mut self, id: EffectId) -> bool {
        let waits = |keeping: &&mut Keeping| keeping.waiter.as_ref().is_some_and(|(request, _)| request.id == id);
        let Some(keeping) = self.keepings.values_mut().find(waits) else { return false };
        // Or it is too late for that.
        if !self.fates.permille(300)
            && let Some((request, _)) = keeping.waiter.take()
        {
            let failure = Failure::retryable("canceled", "given up");
            let after = self.times.between(0, 500);
            self.schedule(after, Item::Outcome { request, outcome: Outcome::Failed { failure } });
        }
        true
    }

    /// The daemon is gone: of what it was writing some is on disk, and some is not.
    pub(super) fn drop_keepings(&mut self) -> Vec<Keeping> {
        let mut dropped = Vec::new();
        for (_, mut keeping) in std::mem::take(&mut self.keepings) {
            *self.coverage.cut_batches.entry(keeping.step.as_str()).or_default() += 1;
            if keeping.waiter.is_some() {
                self.coverage.around("run_check").crashed_after += 1;
            }
            self.cut(&mut keeping);
            dropped.push(keeping);
        }
        self.files.orphan();
        dropped
    }

    /// The daemon died when a check had just ended.
    pub(super) fn cut_check(&mut self, request: &EffectRequest, outcome: &Outcome) {
        if let Some(mut keeping) = self.begin_keeping(request, outcome) {
            *self.coverage.cut_batches.entry(keeping.step.as_str()).or_default() += 1;
            self.cut(&mut keeping);
        }
    }

    fn cut(&mut self, keeping: &mut Keeping) {
        let early = self.mutation == Some(Mutation::ReceiptBeforeFile);
        let intends = matches!(keeping.step, Step::Begun | Step::Drafted) && self.kept.coin();
        if intends {
            let begun = self.files.begin(keeping.owner.clone(), keeping.epoch, keeping.epoch, &keeping.contents);
            keeping.batch = begun.ok();
        }
        match (keeping.step, keeping.batch) {
            (Step::Begun | Step::Intended, _) => {
                for (_, content) in &keeping.contents {
                    keeping.drafts.push(self.files.cut_draft(*content, &mut self.kept));
                }
            }
            (Step::Drafted, _) | (_, None) => {}
            (Step::Naming, Some(batch)) if !early => self.cut_names(batch, &keeping.drafts),
            (Step::Committing, Some(batch)) if early => self.cut_names(batch, &keeping.drafts),
            (Step::Naming | Step::Committing, Some(batch)) => {
                if self.kept.coin() {
                    let _ = self.files.commit(batch, keeping.epoch);
                }
            }
            (Step::Failing, Some(batch)) => {
                if self.kept.coin() {
                    self.files.fail(batch);
                }
            }
            (Step::Removing, Some(_)) => self.unname(keeping, 500),
        }
    }

    fn cut_names(&mut self, batch: Number, drafts: &[Draft]) {
        for (place, draft) in drafts.iter().enumerate() {
            if self.kept.coin() {
                let _ = self.files.name(batch, place, *draft);
            }
        }
    }

    /// An old daemon goes on with a batch although another one has taken over: it records nothing.
    pub(super) fn keep_late(&mut self, keeping: &Keeping) -> Result<(), Violation> {
        let broken = |detail: String| Err(Violation { rule: "one_owner", detail });
        let fence = self.store.fence;
        let Some(batch) = keeping.batch else {
            return match self.files.begin(keeping.owner.clone(), keeping.epoch, fence, &keeping.contents) {
                Err(_) => Ok(()),
                Ok(batch) => broken(format!("the old daemon began batch {batch}")),
            };
        };
        if keeping.step == Step::Naming {
            self.cut_names(batch, &keeping.drafts);
        }
        self.files.unseen = true;
        let open = self.files.is_open(batch);
        match self.files.commit(batch, fence) {
            Ok(()) if open => broken(format!("the old daemon committed batch {batch}")),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// What a look tells of kept files, and remembers for the judge.
    pub(super) fn look_at_files(&mut self, id: QueryId, wanted: &LookFor) -> Vec<FoundFile> {
        let live = self.machine.as_ref().map(live_owners).unwrap_or_default();
        let stale = self.files.stale(&live);
        if !stale.is_empty() {
            self.stale.insert(id, stale);
        }
        let runs = &self.store.rows.runs;
        self.files.look(&wanted.runs, |run| runs.contains_key(run))
    }

    /// Puts something right about kept files, or some of it.
    pub(super) fn mend_files(&mut self, mend: &Mend, fate: Fate) -> Outcome {
        let failure = |permanent| match permanent {
            true => Failure::permanent("simulated_for_good", "the world refuses for good"),
            false => Failure::retryable("blob_unmended", "the world refused"),
        };
        let takes = fate.applies() && self.writer_takes();
        if takes {
            let runs = &self.store.rows.runs;
            let known = |run: &RunId| runs.contains_key(run);
            let done = self.files.mend(mend, known, false);
            self.files.judge_mend(mend, known);
            *self.coverage.batches.entry(mend.remedy().as_str()).or_default() += 1;
            return match fate {
                Fate::Done => Outcome::Done { output: EffectOutput::Mended { done } },
                _ => Outcome::InDoubt { reason: "nobody knows".to_owned() },
            };
        }
        // What it does on the disk comes first.
        self.half_mend(mend);
        match fate {
            Fate::LostInDoubt | Fate::DoneInDoubt => Outcome::InDoubt { reason: "nobody knows".to_owned() },
            Fate::Done | Fate::Fails | Fate::FailsForGood => {
                Outcome::Failed { failure: failure(fate == Fate::FailsForGood) }
            }
        }
    }

    /// Some of a mend: nothing, what it does on the disk, or all of it.
    pub(super) fn half_mend(&mut self, mend: &Mend) {
        let runs = &self.store.rows.runs;
        let known = |run: &RunId| runs.contains_key(run);
        self.files.unseen = true;
        if self.kept.coin() {
            self.files.mend(mend, known, self.kept.coin());
        }
    }
}

fn both(keeping: &Keeping) -> Step {
    if keeping.drafts.len() < keeping.contents.len() { Step::Failing } else { Step::Naming }
}
