//! Proves that what is kept is what the journal says: the fold is made once more beside the database, by the same code that wrote the rows, and
//! compared with them row by row.
//!
//! The proof begins at the first event where that is kept, else at the oldest good snapshot; the rows of what had ended before that are not in
//! the fold any more, and are looked at for themselves. Nothing is changed; [`Store::rebuild`] mends what is a projection.

mod compare;
mod effects;
mod files;
mod shadow;

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::dir::{self, DirLock};
use crate::error::StoreError;
use crate::in_use::InUse;
use crate::open::{Store, connect, set_up};
use crate::schema::{self, DAEMON, Found};
use shadow::Shadow;

/// Faults of one check that are told one by one; beyond, they are counted.
const TOLD: usize = 20;

/// What mends a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cure {
    /// Nothing has to be mended for a daemon to work: somebody should look.
    Look,
    /// Making the projections anew.
    Rebuild,
    /// Going back to a backup.
    Restore,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What was checked: the name of a table, or of a rule.
    pub check: &'static str,
    /// What was found.
    pub found: String,
    /// What mends it.
    pub cure: Cure,
}

/// What a check of the whole store came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// The state that was folded from: after this event.
    pub after: u64,
    /// The last event.
    pub through: u64,
    /// Rows that were compared, events among them.
    pub rows: u64,
    /// What is wrong, in the order of the checks.
    pub faults: Vec<Fault>,
    /// Faults that are not told one by one.
    pub more: u64,
}

impl Checked {
    fn fault(&mut self, check: &'static str, cure: Cure, found: impl Into<String>) {
        if self.faults.iter().filter(|fault| fault.check == check).count() < TOLD {
            self.faults.push(Fault { check, found: found.into(), cure });
        } else {
            self.more += 1;
        }
    }

    /// What a reading came to: that it failed on damage is a fault like others.
    fn take<T>(&mut self, check: &'static str, read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(StoreError::Corrupt(why)) => {
                self.fault(check, Cure::Restore, why);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether something is wrong that making the projections anew does not mend.
    #[must_use]
    pub fn is_beyond_rebuild(&self) -> bool {
        self.faults.iter().any(|fault| fault.cure == Cure::Restore)
    }
}

impl Store {
    /// Checks everything that is kept. Changes nothing, and works beside a daemon.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read at all; damage is in the answer.
    pub fn check(&self) -> Result<Checked, StoreError> {
        let path = dir::database(&self.state_dir);
        let mut checked = self.at_once(|db| match schema::versions(db, &path, &DAEMON)? {
            Found::Tables => check(db).map(|(checked, _)| checked),
            Found::Older(version) => Err(outdated(version)),
            Found::Nothing => Err(missing(&self.state_dir)),
        })?;
        files::transcripts(&self.state_dir, self, &mut checked)?;
        files::blobs(self, &mut checked)?;
        Ok(checked)
    }

    /// Makes the projections anew from the journal, in one transaction; answers what was wrong with them. Takes the state directory as a
    /// daemon does.
    ///
    /// # Errors
    /// [`StoreError`]: `daemon_running`; `corrupt_database` where the journal itself cannot be folded. Nothing is changed then.
    pub fn rebuild(state_dir: &Path) -> Result<Checked, StoreError> {
        let path = dir::database(state_dir);
        if !path.is_file() {
            return Err(missing(state_dir));
        }
        let _lock = DirLock::take(state_dir)?;
        match schema::look(&path, &DAEMON)? {
            Found::Tables => {}
            Found::Nothing => return Err(missing(state_dir)),
            Found::Older(version) => return Err(outdated(version)),
        }
        let _in_use = InUse::of(&path);
        let mut db = connect(&path)?;
        set_up(&db, &path, None)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (checked, folded) = check(&tx)?;
        let Some(folded) = folded else {
            let why = checked.faults.iter().find(|fault| fault.cure == Cure::Restore);
            let why = why.map_or("the journal cannot be folded".to_owned(), |fault| fault.found.clone());
            return Err(StoreError::Corrupt(format!("the projections cannot be made anew: {why}")));
        };
        folded.write_into(&tx)?;
        tx.commit()?;
        Ok(checked)
    }
}

fn missing(state_dir: &Path) -> StoreError {
    StoreError::Missing(format!("no daemon ever ran with {}", state_dir.display()))
}

fn outdated(version: u32) -> StoreError {
    let text = format!("the database has version {version}: start a daemon once, which brings it up to date");
    StoreError::Unavailable(text)
}

/// Checks the database; answers the fold too, where it could be made.
fn check(db: &Connection) -> Result<(Checked, Option<Shadow>), StoreError> {
    let mut checked = Checked::default();
    integrity(db, &mut checked)?;
    let folded = Shadow::fold(db, &mut checked);
    let folded = checked.take("journal", folded)?;
    if let Some(folded) = &folded {
        (checked.after, checked.through) = (folded.after, folded.through);
        compare::projections(db, folded, &mut checked)?;
    }
    effects::foreign(db, &mut checked)?;
    effects::scopes(db, &mut checked)?;
    Ok((checked, folded))
}

/// SQLite's own look at every page and index.
fn integrity(db: &Connection, checked: &mut Checked) -> Result<(), StoreError> {
    let mut query = db.prepare("PRAGMA integrity_check(20)")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            checked.fault("integrity", Cure::Restore, line);
        }
    }
    Ok(())
}
