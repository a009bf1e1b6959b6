//! The fold of the journal as rows, in a database of its own that is gone with it.

use dalsegno_core::{Event, IssueId, Recorded, State, View, apply_with_views, views};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use super::effects::{Effects, Mend};
use super::{Checked, Cure};
use crate::error::StoreError;
use crate::format::{checksum, decode_snapshot};
use crate::insert::{Inserts, integer};
use crate::load::good_snapshots;
use crate::schema;
use crate::walk::{self, Row};

/// A table of projections.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// What names a row.
    pub(super) key: &'static [&'static str],
    /// What else is in it.
    pub(super) rest: &'static [&'static str],
    /// In which order the rows came.
    order: &'static str,
}

pub(super) const TABLES: [Table; 5] = [
    Table { name: "names", key: &["key", "issue_id"], rest: &[], order: "key, issue_id" },
    Table {
        name: "issues",
        key: &["id"],
        rest: &["id_key", "identifier", "identifier_key", "status", "data"],
        order: "rowid",
    },
    Table { name: "runs", key: &["id"], rest: &["issue_id", "started_at", "ended_at", "data"], order: "rowid" },
    Table {
        name: "usage",
        key: &["run", "turn", "place"],
        rest: &["issue_id", "day", "model", "data"],
        order: "run, turn, place",
    },
    Table { name: "daemon", key: &["id"], rest: &["data"], order: "id" },
];

impl Table {
    pub(super) fn columns(&self) -> String {
        let columns: Vec<&str> = self.key.iter().chain(self.rest).copied().collect();
        columns.join(", ")
    }
}

/// The rows that the fold writes.
pub(super) struct Shadow {
    pub(super) db: Connection,
    /// It was folded from the state after this event.
    pub(super) after: u64,
    pub(super) through: u64,
    pub(super) state: State,
    /// Records of effects that have to be written again.
    mends: Vec<Mend>,
}

impl Shadow {
    /// Folds the journal, and looks at each event on the way.
    pub(super) fn fold(main: &Connection, checked: &mut Checked) -> Result<Self, StoreError> {
        let (first, last) = walk::bounds(main)?;
        let snapshots = snapshots(main, checked)?;
        let base = if first == 1 { None } else { good_snapshots(main, u64::MAX)?.oldest };
        let (mut state, after) = match base {
            Some(oldest) => (walk::state_at(main, oldest)?, oldest),
            None if first == 1 => (State::default(), 0),
            None => {
                let why = format!("no snapshot is undamaged, and the events before {first} are gone");
                return Err(StoreError::Corrupt(why));
            }
        };
        // Before what can be folded: each event is there and can be read.
        walk::walk(main, first - 1, after.max(first - 1), |row| {
            checked.rows += 1;
            kind(row, &row.recorded()?, checked);
            Ok(())
        })?;
        let db = Connection::open("")?;
        db.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
        schema::make_projections(&db)?;
        let mut effects = Effects::of(&state);
        {
            let mut inserts = Inserts::prepare(&db)?;
            db.execute_batch("BEGIN")?;
            for entry in state.issues.values().chain(state.gone.values()) {
                inserts.learn_names(entry.issue.id.as_str(), &entry.issue.identifier)?;
            }
            for view in views(&state) {
                inserts.one_view(&view)?;
            }
            walk::walk(main, after, last.max(after), |row| {
                checked.rows += 1;
                let recorded = row.recorded()?;
                kind(row, &recorded, checked);
                inserts.shell(&recorded)?;
                columns(&db, row, checked)?;
                effects.before(&state, &recorded);
                let changed = apply_with_views(&mut state, &recorded)
                    .map_err(|illegal| StoreError::Corrupt(illegal.to_string()))?;
                for view in &changed {
                    inserts.one_view(view)?;
                }
                effects.after(main, &state, recorded, checked)?;
                if let Some((_, kept)) = snapshots.iter().find(|(seq, _)| *seq == state.seq)
                    && *kept != checksum(&encoded(&state)?)
                {
                    let found = format!("the snapshot after event {} is not what the events say", state.seq);
                    checked.fault("snapshots", Cure::Look, found);
                }
                Ok(())
            })?;
            db.execute_batch("COMMIT")?;
        }
        let mends = effects.finish(main, &state, checked)?;
        Ok(Self { db, after, through: state.seq, state, mends })
    }

    /// Puts the rows in the place of those that are there.
    pub(super) fn write_into(&self, main: &Connection) -> Result<(), StoreError> {
        let whole = self.after == 0;
        for table in &TABLES {
            match table.name {
                // What had ended before the fold begins has no other place.
                "names" | "usage" if !whole => {}
                "runs" if !whole => self.forget_runs(main)?,
                name => drop(main.execute(&format!("DELETE FROM {name}"), [])?),
            }
            self.copy(table, main)?;
        }
        self.columns_into(main)?;
        for mend in &self.mends {
            mend.write(main)?;
        }
        main.execute("UPDATE meta SET value = ?1 WHERE key = 'epoch'", [integer(self.state.epoch)])?;
        Ok(())
    }

    /// Removes the runs that are live by their rows and by no event.
    fn forget_runs(&self, main: &Connection) -> Result<(), StoreError> {
        let mut query = main.prepare("SELECT id FROM runs WHERE ended_at IS NULL")?;
        let live: Vec<String> = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut known = self.db.prepare("SELECT EXISTS (SELECT 1 FROM runs WHERE id = ?1)")?;
        for run in live {
            if !known.query_row([&run], |row| row.get::<_, bool>(0))? {
                main.execute("DELETE FROM runs WHERE id = ?1", [&run])?;
            }
        }
        Ok(())
    }

    /// Rows that are there keep their place: it is their order.
    fn copy(&self, table: &Table, main: &Connection) -> Result<(), StoreError> {
        let (columns, order) = (table.columns(), table.order);
        let width = table.key.len() + table.rest.len();
        let places: Vec<String> = (1..=width).map(|place| format!("?{place}")).collect();
        let mut read = self.db.prepare(&format!("SELECT {columns} FROM {} ORDER BY {order}", table.name))?;
        let set: Vec<String> = table.rest.iter().map(|column| format!("{column} = excluded.{column}")).collect();
        let change = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
        let mut write = main.prepare(&format!(
            "INSERT INTO {} ({columns}) VALUES ({}) ON CONFLICT ({}) DO {change}",
            table.name,
            places.join(", "),
            table.key.join(", ")
        ))?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            let values = (0..width).map(|column| row.get(column)).collect::<rusqlite::Result<Vec<Value>>>()?;
            write.execute(params_from_iter(values))?;
        }
        Ok(())
    }

    /// The columns of events that are found by: resolved again.
    fn columns_into(&self, main: &Connection) -> Result<(), StoreError> {
        let mut read = self.db.prepare("SELECT seq, kind, issue_id, identifier, run FROM events ORDER BY seq")?;
        let mut write = main.prepare(
            "UPDATE events SET kind = ?2, issue_id = ?3, identifier = ?4, run = ?5
             WHERE seq = ?1 AND (kind IS NOT ?2 OR issue_id IS NOT ?3 OR identifier IS NOT ?4 OR run IS NOT ?5)",
        )?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()? {
            let values = (0..5).map(|column| row.get(column)).collect::<rusqlite::Result<Vec<Value>>>()?;
            write.execute(params_from_iter(values))?;
        }
        Ok(())
    }
}

/// Looks at the snapshots; answers the place of each good one, and the checksum of its state as this program writes it.
fn snapshots(main: &Connection, checked: &mut Checked) -> Result<Vec<(u64, String)>, StoreError> {
    let mut query = main.prepare("SELECT seq, format, sha256, data FROM snapshots ORDER BY seq")?;
    let mut rows = query.query([])?;
    let mut good = Vec::new();
    let (mut damaged, mut kept) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)?.unsigned_abs();
        let data = row.get_ref(3)?.as_bytes().map_err(|error| StoreError::Corrupt(error.to_string()))?;
        checked.rows += 1;
        if checksum(data) != row.get::<_, String>(2)? {
            damaged.push(seq);
            continue;
        }
        let snapshot = decode_snapshot(row.get(1)?, data)?;
        if snapshot.state.seq != seq {
            let found = format!("snapshot {seq} holds the state after event {}", snapshot.state.seq);
            checked.fault("snapshots", Cure::Restore, found);
        }
        kept += 1;
        good.push((seq, checksum(&encoded(&snapshot.state)?)));
    }
    for seq in damaged {
        let found = format!("the snapshot after event {seq} is damaged: its checksum does not hold");
        checked.fault("snapshots", if kept > 0 { Cure::Look } else { Cure::Rebuild }, found);
    }
    Ok(good)
}

fn encoded(state: &State) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(state).map_err(|error| StoreError::Corrupt(format!("the state cannot be written: {error}")))
}

/// The kind in the column is that of the event.
fn kind(row: &Row<'_>, recorded: &Recorded, checked: &mut Checked) {
    if row.kind != recorded.event.kind() {
        let found = format!("event {} is a {}, and its row says {}", row.seq, recorded.event.kind(), row.kind);
        checked.fault("events", Cure::Rebuild, found);
    }
}

/// What an event is found by is what the names say that were known by then.
fn columns(shadow: &Connection, row: &Row<'_>, checked: &mut Checked) -> Result<(), StoreError> {
    let sql = "SELECT issue_id, identifier, run FROM events WHERE seq = ?1";
    type Columns = (Option<String>, Option<String>, Option<String>);
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let found: Option<Columns> = shadow.prepare_cached(sql)?.query_row([integer(row.seq)], read).optional()?;
    let Some((issue, identifier, run)) = found else { return Ok(()) };
    for (column, has, should) in
        [("issue_id", row.issue, issue), ("identifier", row.identifier, identifier), ("run", row.run, run)]
    {
        if has != should.as_deref() {
            let (has, should) = (has.unwrap_or("nothing"), should.as_deref().unwrap_or("nothing"));
            checked.fault("events", Cure::Rebuild, format!("event {}: {column} is {has}, not {should}", row.seq));
        }
    }
    Ok(())
}

impl Inserts<'_> {
    /// Writes an event without its content: as much of it as others are found by.
    fn shell(&mut self, recorded: &Recorded) -> rusqlite::Result<()> {
        self.event(recorded, &crate::insert::Json(b""))
    }

    fn one_view(&mut self, view: &View) -> Result<(), StoreError> {
        let json = match view {
            View::Issue(issue) => serde_json::to_vec(issue),
            View::Run(run) => serde_json::to_vec(run),
            View::Usage(row) => serde_json::to_vec(row),
            View::Daemon(daemon) => serde_json::to_vec(daemon),
            View::IssueGone(IssueId(_)) => Ok(Vec::new()),
        };
        let json = json.map_err(|error| StoreError::Corrupt(format!("a row cannot be written: {error}")))?;
        Ok(self.view(view, &crate::insert::Json(&json))?)
    }
}

/// Whether an event begins the life of another daemon.
pub(super) fn is_start(event: &Event) -> bool {
    matches!(event, Event::DaemonStarted { .. })
}
