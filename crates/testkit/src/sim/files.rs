//! Files beside the simulated database, in batches with receipts: the rows, what is on the disk, and what a look and a mend make of
//! both. Who writes them is `keeping.rs`.

use std::collections::{BTreeMap, BTreeSet};

use dalsegno_core::{Broken, FileReceipt, FoundFile, Mend, PolicyHash, RunId};

use super::dice::Dice;
use super::{Mutation, Violation};

/// Number of a batch.
pub(crate) type Number = u64;
/// What is in a file, as its hash tells.
pub(crate) type Content = u64;

/// A file that was cut while it was written.
const TORN: Content = 0;
/// A file that somebody changed.
const CHANGED: Content = 1;
/// The first content that is what somebody wanted to write.
pub(crate) const SAID: Content = 2;
/// What the name of a batch begins with.
const BATCH: &str = "batch-";

/// Whose files are kept, and under what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) run: RunId,
    pub(crate) policy: PolicyHash,
    pub(crate) agent: String,
}

/// How far a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preparing,
    /// With its place among those that are.
    Committed(u64),
    Failed,
}

/// A file, as the rows of its batch say it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    file: String,
    content: Content,
    /// Its receipt was taken back.
    voided: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Batch {
    owner: Owner,
    epoch: u64,
    state: State,
    entries: Vec<Entry>,
}

impl Batch {
    /// Its receipts that should hold.
    fn holding(&self) -> impl Iterator<Item = &Entry> {
        let committed = matches!(self.state, State::Committed(_));
        self.entries.iter().filter(move |entry| committed && !entry.voided)
    }
}

/// The rows, which are in the same database as the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    batches: BTreeMap<Number, Batch>,
    last: Number,
    watermark: u64,
}

/// A draft: what it is meant to be, and its own number.
pub(crate) type Draft = (Content, u64);

/// Why a writer gets no further with its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another daemon has taken over.
    StaleEpoch,
    /// The batch is ended, and not as its writer wanted.
    Ended,
    /// A draft is not there.
    NoDraft,
}

/// Rows and disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    rows: Rows,
    /// Files under their names.
    disk: BTreeMap<String, Content>,
    drafts: BTreeMap<Draft, Content>,
    /// What was set aside, and how often.
    aside: BTreeMap<String, u32>,
    next_draft: u64,
    /// The first draft of this life: what is before it, nobody writes any more.
    first_draft: u64,
    /// Batches that this life of the daemon writes and whose number it does not know yet.
    pub(crate) beginning: u32,
    /// Batches that this life of the daemon writes.
    pub(crate) writing: BTreeSet<Number>,
    /// Files that somebody took away or changed, or whose run is none.
    harmed: BTreeSet<String>,
    planted: u64,
    /// What looks told.
    told: BTreeSet<String>,
    /// Something was left for a look to find, and none came since.
    pub(crate) unseen: bool,
    mutation: Option<Mutation>,
    /// The first thing that must never be done and was done.
    pub(crate) objection: Option<Violation>,
}

/// Files as a backup has them.
#[derive(Debug, Clone)]
pub(crate) struct Copied {
    rows: Rows,
    /// They are copied after the rows; none yet: nobody came to it.
    disk: Option<(BTreeMap<String, Content>, BTreeSet<String>)>,
}

fn batch_name(batch: Number) -> String {
    format!("{BATCH}{batch}")
}

impl Files {
    pub(crate) fn new(mutation: Option<Mutation>) -> Self {
        Self { mutation, ..Self::default() }
    }

    fn object(&mut self, rule: &'static str, detail: String) {
        if self.objection.is_none() {
            self.objection = Some(Violation { rule, detail });
        }
    }

    /// The writer's part: an intent, with what each file will be.
    pub(crate) fn begin(
        &mut self,
        owner: Owner,
        epoch: u64,
        fence: u64,
        contents: &[(String, Content)],
    ) -> Result<Number, Refused> {
        if epoch != fence && self.mutation != Some(Mutation::EpochUnchecked) {
            return Err(Refused::StaleEpoch);
        }
        self.rows.last += 1;
        let batch = self.rows.last;
        let entry = |(place, (name, content)): (usize, &(String, Content))| Entry {
            file: format!("{batch}-{place}-{name}"),
            content: *content,
            voided: false,
        };
        let entries: Vec<Entry> = contents.iter().enumerate().map(entry).collect();
        let there = |entry: &&Entry| self.disk.contains_key(&entry.file) || self.entry(&entry.file).is_some();
        if let Some(taken) = entries.iter().find(there).map(|entry| entry.file.clone()) {
            self.object("one_name", format!("{taken} is another batch's already"));
        }
        self.rows.batches.insert(batch, Batch { owner, epoch, state: State::Preparing, entries });
        Ok(batch)
    }

    /// A draft is on disk.
    pub(crate) fn draft(&mut self, content: Content) -> Draft {
        let draft = self.new_draft(content);
        self.drafts.insert(draft, content);
        draft
    }

    fn new_draft(&mut self, content: Content) -> Draft {
        self.next_draft += 1;
        (content, self.next_draft)
    }

    /// A draft was being written when the machine stopped: it is there, it is not, or a part of it is.
    pub(crate) fn cut_draft(&mut self, content: Content, dice: &mut Dice) -> Draft {
        let draft = self.new_draft(content);
        if let Some(is) = dice.pick([None, Some(TORN), Some(content)]) {
            self.drafts.insert(draft, is);
        }
        draft
    }

    /// A draft gets its name.
    pub(crate) fn name(&mut self, batch: Number, place: usize, draft: Draft) -> Result<(), Refused> {
        let content = self.drafts.remove(&draft).ok_or(Refused::NoDraft)?;
        self.rename(batch, place, content);
        Ok(())
    }

    fn rename(&mut self, batch: Number, place: usize, content: Content) {
        let entry = self.rows.batches.get(&batch).and_then(|batch| batch.entries.get(place));
        let Some(file) = entry.map(|entry| entry.file.clone()) else { return };
        if self.disk.insert(file.clone(), content).is_some() {
            self.object("one_name", format!("{file} is written over"));
        }
    }

    /// All of its files are on disk, says who writes it.
    pub(crate) fn commit(&mut self, batch: Number, fence: u64) -> Result<(), Refused> {
        let unchecked = self.mutation == Some(Mutation::EpochUnchecked);
        match self.rows.batches.get(&batch).map(|batch| (batch.state, batch.epoch)) {
            Some((State::Committed(_), _)) => Ok(()),
            Some((State::Preparing, epoch)) if epoch == fence || unchecked => {
                self.receipts(batch);
                Ok(())
            }
            Some((State::Preparing, _)) => Err(Refused::StaleEpoch),
            Some((State::Failed, _)) | None => Err(Refused::Ended),
        }
    }

    /// Whether it is not ended.
    pub(crate) fn is_open(&self, batch: Number) -> bool {
        self.rows.batches.get(&batch).is_some_and(|batch| batch.state == State::Preparing)
    }

    fn receipts(&mut self, batch: Number) {
        self.rows.watermark += 1;
        let mark = self.rows.watermark;
        if let Some(batch) = self.rows.batches.get_mut(&batch) {
            batch.state = State::Committed(mark);
        }
    }

    /// Its writer takes a batch back: what has a name goes.
    pub(crate) fn unname(&mut self, batch: Number, place: usize) {
        let entry = self.rows.batches.get(&batch).and_then(|batch| batch.entries.get(place));
        if let Some(file) = entry.map(|entry| entry.file.clone()) {
            self.disk.remove(&file);
        }
    }

    /// Ends a batch as failed, if its writer may and it is open. Answers whether that is what it is now.
    pub(crate) fn fail(&mut self, batch: Number) -> bool {
        match self.rows.batches.get_mut(&batch) {
            Some(batch) if batch.state == State::Preparing => {
                batch.state = State::Failed;
                true
            }
            Some(batch) => batch.state == State::Failed,
            None => false,
        }
    }

    /// The receipt of a file of a batch.
    pub(crate) fn receipt(&self, batch: Number, place: usize) -> Option<FileReceipt> {
        self.rows.batches.get(&batch)?.entries.get(place).map(receipt)
    }

    /// A receipt that somebody tells: its batch is committed, and it is one of it.
    pub(crate) fn vouches(&self, told: &FileReceipt) -> bool {
        let committed = self.rows.batches.values().filter(|batch| matches!(batch.state, State::Committed(_)));
        committed.flat_map(|batch| &batch.entries).any(|entry| entry.file == told.file && receipt(entry) == *told)
    }

    /// A daemon opens the store: drafts of no open batch go.
    pub(crate) fn open(&mut self) {
        let open = self.rows.batches.values().filter(|batch| batch.state == State::Preparing);
        let wanted: BTreeSet<Content> = open.flat_map(|batch| &batch.entries).map(|entry| entry.content).collect();
        self.drafts.retain(|(content, _), _| wanted.contains(content));
        self.first_draft = self.next_draft + 1;
        self.unseen = true;
    }

    /// The daemon is gone: nobody writes any more.
    pub(crate) fn orphan(&mut self) {
        self.beginning = 0;
        self.writing.clear();
    }

    fn may_write(&self, batch: Number) -> bool {
        self.beginning > 0 || self.writing.contains(&batch)
    }

    fn entry(&self, file: &str) -> Option<(&Batch, &Entry)> {
        let number: Number = file.split_once('-')?.0.parse().ok()?;
        let batch = self.rows.batches.get(&number)?;
        Some((batch, batch.entries.iter().find(|entry| entry.file == file)?))
    }

    /// Files of a batch that have no name yet, each with the draft that is to have it; none: not all of it is on disk. No draft is taken that
    /// this life writes, nor one twice.
    fn unnamed(&self, batch: &Batch) -> Option<Vec<(usize, Draft)>> {
        let mut taken = Vec::new();
        for (place, entry) in batch.entries.iter().enumerate() {
            match self.disk.get(&entry.file) {
                Some(is) if *is == entry.content => {}
                Some(_) => return None,
                None => {
                    let left = self.drafts.iter().filter(|((_, number), _)| *number < self.first_draft);
                    let mut whole = left.filter(|((meant, _), is)| *meant == entry.content && **is == *meant);
                    let free = whole.find(|(draft, _)| !taken.iter().any(|(_, other)| other == *draft))?;
                    taken.push((place, *free.0));
                }
            }
        }
        Some(taken)
    }

    /// What a look tells; `known`: the journal knows a run.
    pub(crate) fn look(&mut self, live: &[RunId], known: impl Fn(&RunId) -> bool) -> Vec<FoundFile> {
        let mut found = self.wrong(known);
        if self.beginning == 0 {
            self.unseen = false;
        }
        self.told.extend(found.iter().filter_map(member));
        if self.mutation == Some(Mutation::StaleReceiptsUntold) {
            return found;
        }
        for run in live {
            let mut owners: Vec<&Owner> = Vec::new();
            for batch in self.rows.batches.values().filter(|batch| batch.owner.run == *run) {
                if !owners.contains(&&batch.owner) {
                    owners.push(&batch.owner);
                }
            }
            found.extend(owners.into_iter().cloned().map(|Owner { run, policy, agent }| FoundFile::Under {
                run,
                policy,
                agent,
            }));
        }
        found
    }

    /// Batches that nobody writes any more, receipts that do not hold, files without one.
    fn wrong(&self, known: impl Fn(&RunId) -> bool) -> Vec<FoundFile> {
        let mut found = Vec::new();
        let mut unspoken: BTreeSet<&String> = self.disk.keys().collect();
        for (number, batch) in &self.rows.batches {
            let run = &batch.owner.run;
            if batch.state == State::Preparing {
                unspoken.retain(|file| batch.entries.iter().all(|entry| entry.file != **file));
                if !self.may_write(*number) {
                    let whole = self.unnamed(batch).is_some();
                    found.push(FoundFile::OpenBatch { batch: batch_name(*number), run: run.clone(), whole });
                }
                continue;
            }
            for entry in batch.holding() {
                unspoken.remove(&entry.file);
                let how = match self.disk.get(&entry.file) {
                    None => Some(Broken::Missing),
                    Some(is) if *is != entry.content => Some(Broken::Differs),
                    Some(_) if !known(run) => Some(Broken::UnknownRun),
                    // Whoever reads it does so no better than it can.
                    Some(_) if self.mutation == Some(Mutation::GoodFileSetAside) => Some(Broken::Differs),
                    Some(_) => None,
                };
                found.extend(how.map(|how| FoundFile::Broken { file: entry.file.clone(), run: run.clone(), how }));
            }
        }
        found.extend(unspoken.into_iter().map(|file| FoundFile::Unreceipted { file: file.clone() }));
        found
    }

    /// Puts something right, or `half` of it: what is on the disk, and not the rows. Answers what was done.
    pub(crate) fn mend(&mut self, mend: &Mend, known: impl Fn(&RunId) -> bool, half: bool) -> String {
        if !self.told.contains(mend.member()) {
            self.object("left_alone", format!("{mend:?}, and no look told of it"));
        }
        match mend {
            Mend::SettleBatch { batch, whole: _ } => self.settle(batch, half),
            Mend::VoidReceipt { file, how: _ } => self.void(file, known, half),
            Mend::SetFileAside { file } => {
                if self.entry(file).is_some_and(|(batch, entry)| {
                    batch.state == State::Preparing || batch.holding().any(|holds| holds == entry)
                }) {
                    return "left alone: it has a receipt".to_owned();
                }
                self.set_aside(file);
                "moved".to_owned()
            }
            Mend::RemoveWorkspace { .. }
            | Mend::KeepWorkspace { .. }
            | Mend::EndProcesses { .. }
            | Mend::SetTranscriptAside { .. } => "nothing: it is not about kept files".to_owned(),
        }
    }

    fn settle(&mut self, name: &str, half: bool) -> String {
        let number = name.strip_prefix(BATCH).and_then(|number| number.parse().ok()).unwrap_or(0);
        if self.mutation == Some(Mutation::BatchNeverSettled) {
            return "settled".to_owned();
        }
        if self.may_write(number) {
            return "left alone: it is being written".to_owned();
        }
        let open = self.rows.batches.get(&number).filter(|batch| batch.state == State::Preparing).cloned();
        let Some(batch) = open else { return "left alone: it is ended".to_owned() };
        let mut unnamed = self.unnamed(&batch);
        if self.mutation == Some(Mutation::ForwardThoughTorn) {
            unnamed = unnamed.or(Some(Vec::new()));
        }
        match unnamed {
            Some(drafts) => {
                for (place, draft) in drafts {
                    // It was there a moment ago.
                    let _ = self.name(number, place, draft);
                }
                if !half {
                    self.receipts(number);
                }
                "committed".to_owned()
            }
            None => {
                for place in 0..batch.entries.len() {
                    self.unname(number, place);
                }
                if !half {
                    self.fail(number);
                }
                "taken back".to_owned()
            }
        }
    }

    fn void(&mut self, file: &str, known: impl Fn(&RunId) -> bool, half: bool) -> String {
        let Some((batch, entry)) = self.entry(file) else { return "left alone: there is no receipt".to_owned() };
        let holds = batch.holding().any(|holds| holds == entry);
        let good = self.disk.get(file) == Some(&entry.content) && known(&batch.owner.run);
        if !holds {
            return "left alone: there is no such receipt any more".to_owned();
        }
        if good && self.mutation != Some(Mutation::GoodFileSetAside) {
            return "left alone: it is what its receipt says".to_owned();
        }
        if good {
            self.object("good_file", format!("{file} is what its receipt says, and is set aside"));
        }
        self.set_aside(file);
        if !half {
            let entries = self.rows.batches.values_mut().flat_map(|batch| &mut batch.entries);
            entries.filter(|entry| entry.file == file).for_each(|entry| entry.voided = true);
        }
        "taken back".to_owned()
    }

    fn set_aside(&mut self, file: &str) {
        if self.disk.remove(file).is_some() {
            *self.aside.entry(file.to_owned()).or_default() += 1;
        }
    }

    /// After a mend that was done: what it was about is not told any more, and doing it again changes nothing.
    pub(crate) fn judge_mend(&mut self, mend: &Mend, known: impl Fn(&RunId) -> bool) {
        if self.wrong(&known).iter().filter_map(member).any(|left| left == mend.member()) {
            self.object("mended", format!("{mend:?} is done, and {} is as it was", mend.member()));
        }
        let once = self.clone();
        self.mend(mend, known, false);
        if *self != once && self.objection.is_none() {
            self.object("mended", format!("{mend:?} is done twice, and that is not what once is"));
        }
    }

    /// Somebody harms what is kept; `live`: runs with what they were started under.
    pub(crate) fn go_astray(&mut self, live: &[Owner], dice: &mut Dice) {
        for _ in 0..dice.below(3) {
            self.planted += 1;
            let number = self.planted;
            let kept: Vec<(String, Content)> = self
                .rows
                .batches
                .values()
                .flat_map(Batch::holding)
                .map(|entry| (entry.file.clone(), entry.content))
                .collect();
            let some = kept.get(usize::try_from(dice.below(kept.len() as u64)).unwrap_or(0)).cloned();
            match (dice.below(6), some) {
                (0, Some((file, _))) => {
                    self.disk.remove(&file);
                    self.harmed.insert(file);
                }
                (1, Some((file, _))) => {
                    if let Some(is) = self.disk.get_mut(&file) {
                        *is = dice.pick([TORN, CHANGED]);
                    }
                    self.harmed.insert(file);
                }
                (2, _) => drop(self.disk.insert(format!("stray-{number}.log"), SAID)),
                (3, _) => {
                    let run = RunId(format!("run-{}", 100_000 + number));
                    let owner = Owner { run, policy: PolicyHash("p1".to_owned()), agent: "acp".to_owned() };
                    let planted = self.plant(owner);
                    self.harmed.extend(planted);
                }
                (4, _) if dice.permille(300) => {
                    let some = usize::try_from(dice.below(live.len() as u64)).unwrap_or(0);
                    let Some(mut owner) = live.get(some).cloned() else { continue };
                    if dice.coin() {
                        owner.policy = PolicyHash("another".to_owned());
                    } else {
                        owner.agent = "another".to_owned();
                    }
                    self.plant(owner);
                }
                _ => {}
            }
        }
    }

    /// A batch that somebody wrote as if it were whole; answers its file.
    fn plant(&mut self, owner: Owner) -> Option<String> {
        let batch = self.begin(owner, 0, 0, &[("check-9.log".to_owned(), SAID)]).ok()?;
        self.rename(batch, 0, SAID);
        self.receipts(batch);
        self.receipt(batch, 0).map(|receipt| receipt.file)
    }

    /// Live runs with receipts that say that they were started under something else.
    pub(crate) fn stale(&self, live: &[Owner]) -> BTreeSet<RunId> {
        let other = |owner: &&Owner| {
            self.rows.batches.values().any(|batch| batch.owner.run == owner.run && batch.owner != **owner)
        };
        live.iter().filter(other).map(|owner| owner.run.clone()).collect()
    }

    /// Each committed batch has its files, unless somebody harmed them; the watermark counts the batches.
    pub(crate) fn whole(&self) -> Result<(), Violation> {
        let broken = |detail: String| Err(Violation { rule: "kept_files", detail });
        let mut marks = BTreeSet::new();
        let mut names = BTreeSet::new();
        for (number, batch) in &self.rows.batches {
            if let Some(twice) = batch.entries.iter().find(|entry| !names.insert(&entry.file)) {
                return broken(format!("{} is a name of two files", twice.file));
            }
            let State::Committed(mark) = batch.state else { continue };
            marks.insert(mark);
            for entry in batch.entries.iter().filter(|entry| !self.harmed.contains(&entry.file)) {
                if entry.voided || self.disk.get(&entry.file) != Some(&entry.content) {
                    let (file, voided) = (&entry.file, entry.voided);
                    return broken(format!("batch {number} is committed, and {file} is lost (taken back: {voided})"));
                }
            }
        }
        if !marks.iter().copied().eq(1..=self.rows.watermark) {
            return broken(format!("the watermark is {}, and the batches are {marks:?}", self.rows.watermark));
        }
        Ok(())
    }

    /// What is wrong still and would be told by a look.
    pub(crate) fn left(&self, known: impl Fn(&RunId) -> bool) -> BTreeSet<String> {
        self.wrong(known).iter().filter_map(member).collect()
    }

    /// The rows as a backup has them; the files follow.
    pub(crate) fn copy_rows(&self) -> Copied {
        Copied { rows: self.rows.clone(), disk: None }
    }

    /// The files that the copied rows speak of, as they are by now.
    pub(crate) fn copy_files(&self, copied: &mut Copied) {
        if copied.disk.is_some() {
            return;
        }
        let open = copied.rows.batches.values().filter(|batch| batch.state == State::Preparing);
        let holding = copied.rows.batches.values().flat_map(Batch::holding);
        let known = open.flat_map(|batch| &batch.entries).chain(holding);
        let there = known.filter_map(|entry| Some((entry.file.clone(), *self.disk.get(&entry.file)?)));
        copied.disk = Some((there.collect(), self.harmed.clone()));
    }

    /// A backup takes the place of what was lost.
    pub(crate) fn restore(&mut self, copied: Copied) {
        self.orphan();
        self.rows = copied.rows;
        (self.disk, self.harmed) = copied.disk.unwrap_or_default();
        let names: BTreeSet<&String> =
            self.rows.batches.values().flat_map(|batch| &batch.entries).map(|entry| &entry.file).collect();
        self.harmed.retain(|file| names.contains(file));
        self.drafts.clear();
        self.aside.clear();
    }
}

fn receipt(entry: &Entry) -> FileReceipt {
    FileReceipt { file: entry.file.clone(), sha256: entry.content.to_string(), bytes: entry.content }
}

/// What a finding is about, if it is one that is mended.
fn member(found: &FoundFile) -> Option<String> {
    match found {
        FoundFile::OpenBatch { batch, .. } => Some(batch.clone()),
        FoundFile::Broken { file, .. } | FoundFile::Unreceipted { file } => Some(file.clone()),
        FoundFile::Under { .. } | FoundFile::Unreadable { .. } => None,
    }
}
