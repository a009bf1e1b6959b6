//! The tables, their version, and the look at a database before anything of it is changed.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::durable::tables::effects_tables;
use crate::error::StoreError;

/// Version of the tables, kept in the database as `user_version`.
pub const SCHEMA_VERSION: u32 = dalsegno_core::DATABASE_SCHEMA;

/// What a kind of database holds, and how it came to it.
pub(crate) struct Layout {
    /// Marks a database as one of this kind.
    pub(crate) application_id: u32,
    /// What each version added, from the first one on. The newest is the last.
    pub(crate) steps: &'static [&'static str],
    /// Whether a journal is in it, with an identity of its own.
    pub(crate) has_journal: bool,
}

/// The database of a daemon: its journal, and the effects and waits beside it. Marked `DalS`.
pub(crate) const DAEMON: Layout =
    Layout { application_id: 0x4461_6c53, steps: &[TABLES, LEDGER, EFFECTS, FILES], has_journal: true };

/// A database of effects and waits alone, which several processes may share. Marked `DalE`.
///
/// Marked differently, because whoever opens a daemon's database believes to be the only one who writes it.
pub(crate) const EFFECTS_ALONE: Layout =
    Layout { application_id: 0x4461_6c45, steps: &[EFFECTS_BASE], has_journal: false };

const _: () = assert!(DAEMON.steps.len() == SCHEMA_VERSION as usize, "each version has its step");

impl Layout {
    fn version(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }
}

/// Bytes that every SQLite database begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The tables of version 1.
///
/// `events` is the truth. `names`, `issues`, `runs` and `daemon` are projections. An event's `issue_id`
/// and `identifier` are resolved when it is written, also for events that only name their run.
const TABLES: &str = "
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta (key, value) VALUES ('epoch', 0);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    issue_id TEXT,
    identifier TEXT,
    run TEXT,
    format INTEGER NOT NULL,
    data TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_issue ON events (issue_id) WHERE issue_id IS NOT NULL;
CREATE INDEX events_by_run ON events (run) WHERE run IS NOT NULL;
CREATE INDEX events_by_kind ON events (kind);
CREATE TABLE names (
    key TEXT NOT NULL,
    issue_id TEXT NOT NULL,
    PRIMARY KEY (key, issue_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE issues (
    id TEXT PRIMARY KEY,
    id_key TEXT NOT NULL,
    identifier TEXT NOT NULL,
    identifier_key TEXT NOT NULL,
    status TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;
CREATE INDEX issues_by_id_key ON issues (id_key);
CREATE INDEX issues_by_identifier ON issues (identifier_key);
CREATE INDEX issues_by_status ON issues (status, identifier_key);
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    issue_id TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    data TEXT NOT NULL
) STRICT;
CREATE INDEX runs_by_start ON runs (started_at);
CREATE INDEX runs_by_issue ON runs (issue_id, started_at);
CREATE INDEX runs_by_end ON runs (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE daemon (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    data TEXT NOT NULL
) STRICT;
CREATE TABLE snapshots (
    seq INTEGER PRIMARY KEY,
    format INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
";

/// What version 2 adds: the ledger.
const LEDGER: &str = "
CREATE TABLE usage (
    run TEXT NOT NULL,
    turn INTEGER NOT NULL,
    place INTEGER NOT NULL,
    issue_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    model TEXT,
    data TEXT NOT NULL,
    PRIMARY KEY (run, turn, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_by_issue ON usage (issue_id);
CREATE INDEX usage_by_day ON usage (day);
CREATE INDEX usage_by_model ON usage (model);
";

/// The first version of a database of effects alone.
const EFFECTS_BASE: &str = concat!(
    "CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
",
    effects_tables!()
);

/// What version 3 adds: effects and waits.
const EFFECTS: &str = effects_tables!();

/// What version 4 adds: files beside the database, in batches with receipts. The number of a batch is never used twice, because
/// it is in the names of its files.
const FILES: &str = "
CREATE TABLE file_batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL,
    policy TEXT NOT NULL,
    agent TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('preparing', 'committed', 'failed')),
    watermark INTEGER UNIQUE,
    why TEXT,
    CHECK ((state = 'committed') = (watermark IS NOT NULL))
) STRICT;
CREATE INDEX file_batches_by_run ON file_batches (run);
CREATE INDEX file_batches_open ON file_batches (id) WHERE state = 'preparing';
CREATE TABLE file_receipts (
    batch INTEGER NOT NULL REFERENCES file_batches (id),
    place INTEGER NOT NULL,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    voided TEXT,
    PRIMARY KEY (batch, place)
) STRICT, WITHOUT ROWID;
INSERT INTO meta (key, value) VALUES ('file_watermark', 0);
";

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// No database, or one without tables.
    Nothing,
    /// Tables of an older version, which have to be brought up to this one.
    Older(u32),
    /// Tables of this version.
    Tables,
}

/// Looks at the database at `path` and changes nothing. Its first page says almost all; the log beside it,
/// when a crash left one, may hold a newer first page.
pub(crate) fn look(path: &Path, layout: &Layout) -> Result<Found, StoreError> {
    if crate::in_use::is_in_use(path) {
        return versions(&look_with_sqlite(path)?, path, layout);
    }
    let mut head = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(100).read_to_end(&mut head).map_err(|error| StoreError::io(path, &error))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(StoreError::io(path, &error)),
    };
    let has_log = std::fs::metadata(log_path(path)).is_ok_and(|log| log.len() > 0);
    if head.is_empty() && !has_log {
        return Ok(Found::Nothing);
    }
    if !head.starts_with(MAGIC) {
        return Err(StoreError::Corrupt(format!("{} is not a SQLite database", path.display())));
    }
    let (Some(version), Some(application)) = (big_endian(&head, 60), big_endian(&head, 68)) else {
        return Err(StoreError::Corrupt(format!("{} ends within its first page", path.display())));
    };
    let found = judge(path, layout, version, application)?;
    if !has_log {
        return Ok(found);
    }
    versions(&look_with_sqlite(path)?, path, layout)
}

fn look_with_sqlite(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}

/// The same question to an open database.
pub(crate) fn versions(db: &Connection, path: &Path, layout: &Layout) -> Result<Found, StoreError> {
    let version: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: u32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    judge(path, layout, version, application)
}

fn judge(path: &Path, layout: &Layout, version: u32, application: u32) -> Result<Found, StoreError> {
    let known = layout.version();
    if (application, version) == (0, 0) {
        return Ok(Found::Nothing);
    }
    if application != layout.application_id || version == 0 {
        return Err(StoreError::Corrupt(format!("{} is a database of another program", path.display())));
    }
    match version {
        older if older < known => Ok(Found::Older(older)),
        same if same == known => Ok(Found::Tables),
        found => Err(StoreError::FutureSchema { what: "database", found, known }),
    }
}

fn big_endian(head: &[u8], at: usize) -> Option<u32> {
    let bytes: [u8; 4] = head.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// The write-ahead log beside a database.
pub(crate) fn log_path(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Makes the tables, and the identities and the secret, unless they are there.
pub(crate) fn create(db: &mut Connection, path: &Path, layout: &Layout) -> Result<(), StoreError> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if versions(&tx, path, layout)? != Found::Nothing {
        return Ok(());
    }
    let tables: u32 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 {
        return Err(StoreError::Corrupt(format!("{} is a database of another program", path.display())));
    }
    for step in layout.steps {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "application_id", layout.application_id)?;
    tx.pragma_update(None, "user_version", layout.version())?;
    let (mut id, mut secret) = ([0; 16], [0; 32]);
    for bytes in [&mut id[..], &mut secret[..]] {
        getrandom::fill(bytes).map_err(|error| StoreError::Unavailable(format!("no random bytes: {error}")))?;
    }
    let mut insert = tx.prepare("INSERT INTO meta (key, value) VALUES (?1, ?2)")?;
    if layout.has_journal {
        insert.execute(("journal_id", hex::encode(id)))?;
    }
    insert.execute(("secret", &secret[..]))?;
    drop(insert);
    tx.commit()?;
    Ok(())
}

/// Makes the tables of projections and events alone, for a fold beside the database.
pub(crate) fn make_projections(db: &Connection) -> Result<(), StoreError> {
    db.execute_batch(TABLES)?;
    db.execute_batch(LEDGER)?;
    Ok(())
}

/// Brings the tables of an older version up to this one: in one transaction, after a copy of the database was put
/// beside it and is sure to be there. Only adds; what is there stays as it is.
pub(crate) fn migrate(db: &mut Connection, path: &Path, layout: &Layout) -> Result<(), StoreError> {
    let Found::Older(version) = versions(db, path, layout)? else { return Ok(()) };
    let copy = back_up(db, path, version)?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in layout.steps.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        tx.execute_batch(step)?;
    }
    let newest = layout.version();
    tx.pragma_update(None, "user_version", newest)?;
    tx.commit()?;
    tracing::info!(
        "the database was brought from version {version} to {newest}; as it was, it is in {}",
        copy.display()
    );
    Ok(())
}

/// Copies of one version that are kept beside a database, at most.
const COPIES: u32 = 100;

/// Where the copy of a database of this version is kept: `.v1`, and if that is another one's `.v1.2`, `.v1.3`, ….
fn copy_path(path: &Path, version: u32, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".v{version}"));
    if number > 1 {
        name.push(format!(".{number}"));
    }
    name.into()
}

/// Puts a whole copy beside the database, under its name only when it is complete, and on disk with its name before
/// this ends. A copy from before an earlier upgrade stays as it is: it stands for this one only if it is the same.
fn back_up(db: &Connection, path: &Path, version: u32) -> Result<PathBuf, StoreError> {
    let mut unfinished = copy_path(path, version, 1).into_os_string();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let remove = |path: &Path| crate::dir::remove(path).map_err(|error| StoreError::io(path, &error));
    remove(&unfinished)?;
    // It holds the secret: its owner alone reads it, from the first byte on.
    crate::dir::touch(&unfinished)?;
    let target = unfinished.to_string_lossy().into_owned();
    db.execute("VACUUM INTO ?1", [target])?;
    let file = File::open(&unfinished).map_err(|error| StoreError::io(&unfinished, &error))?;
    file.sync_all().map_err(|error| StoreError::io(&unfinished, &error))?;
    for number in 1..=COPIES {
        let copy = copy_path(path, version, number);
        if !copy.exists() {
            std::fs::rename(&unfinished, &copy).map_err(|error| StoreError::io(&copy, &error))?;
            crate::dir::sync_parent(&copy).map_err(|error| StoreError::io(&copy, &error))?;
            return Ok(copy);
        }
        if same_content(&copy, &unfinished).map_err(|error| StoreError::io(&copy, &error))? {
            remove(&unfinished)?;
            return Ok(copy);
        }
    }
    remove(&unfinished)?;
    let text =
        format!("{COPIES} copies of version {version} lie beside {}: remove those that nobody needs", path.display());
    Err(StoreError::Unavailable(text))
}

/// Bytes of the first page that count how often a database was changed or copied, and by which SQLite.
const COUNTERS: [std::ops::Range<usize>; 3] = [24..28, 40..44, 92..100];

/// Whether two databases hold the same, byte by byte but for those counters.
fn same_content(one: &Path, other: &Path) -> std::io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    if first_bytes(&mut one)? != first_bytes(&mut other)? {
        return Ok(false);
    }
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if left.get(..length) != right.get(..length) {
            return Ok(false);
        }
        if length == 0 {
            return Ok(left.len() == right.len());
        }
        one.consume(length);
        other.consume(length);
    }
}

fn first_bytes(file: &mut impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(100).read_to_end(&mut head)?;
    for counter in COUNTERS {
        head.get_mut(counter).into_iter().for_each(|bytes| bytes.fill(0));
    }
    Ok(head)
}
