//! One batch into the tables: events with their issue and run resolved, projections; and snapshots.

use std::collections::HashMap;

use dalsegno_core::{Batch, EVENT_FORMAT, Event, Recorded, View};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Statement, ToSql};

use crate::format::encode_event;
use crate::snapshots::Written;

/// Snapshots that are kept: the newest, and one to fall back to.
const SNAPSHOTS: u32 = 2;
/// Names that are remembered at most; a forgotten one is looked up again.
const REMEMBERED: usize = 20_000;

/// A batch's JSON, made by the caller so that the writer does not have to.
pub(crate) struct Encoded {
    text: Vec<u8>,
    /// Where each event ends in `text`, then each view.
    ends: Vec<usize>,
}

impl Encoded {
    pub(crate) fn of(batch: &Batch) -> serde_json::Result<Self> {
        let pieces = batch.events.len() + batch.views.len();
        let mut text = Vec::with_capacity(pieces * 640);
        let mut ends = Vec::with_capacity(pieces);
        for recorded in &batch.events {
            encode_event(&recorded.event, &mut text)?;
            ends.push(text.len());
        }
        for view in &batch.views {
            match view {
                View::Issue(issue) => serde_json::to_writer(&mut text, issue)?,
                View::Run(run) => serde_json::to_writer(&mut text, run)?,
                View::Usage(row) => serde_json::to_writer(&mut text, row)?,
                View::Daemon(daemon) => serde_json::to_writer(&mut text, daemon)?,
                View::IssueGone(_) => {}
            }
            ends.push(text.len());
        }
        Ok(Self { text, ends })
    }

    /// Bytes of JSON.
    pub(crate) fn size(&self) -> usize {
        self.text.len()
    }

    /// The pieces, events first, in the order of the batch.
    fn pieces(&self) -> impl Iterator<Item = Json<'_>> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let piece = self.text.get(start..end).unwrap_or_default();
            start = end;
            Json(piece)
        })
    }
}

/// JSON as a text column; it is UTF-8 because a serializer wrote it.
pub(crate) struct Json<'a>(pub(crate) &'a [u8]);

impl ToSql for Json<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// A number of ours as SQLite has them. Journals do not grow to 2⁶³ events; a number that large is
/// refused by the order of sequences before it comes here.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How names are compared: without case.
pub(crate) fn key(name: &str) -> String {
    name.to_lowercase()
}

/// The writer's statements, prepared once, and the names that it remembers.
pub(crate) struct Inserts<'db> {
    event: Statement<'db>,
    name: Statement<'db>,
    issue: Statement<'db>,
    issue_gone: Statement<'db>,
    run: Statement<'db>,
    usage: Statement<'db>,
    daemon: Statement<'db>,
    snapshot: Statement<'db>,
    old_snapshots: Statement<'db>,
    issue_of_run: Statement<'db>,
    identifier_of_issue: Statement<'db>,
    names: Names,
    /// Rows of ended runs written since this was last asked for.
    ended_runs: u64,
}

/// Which issue a run belongs to, and what the issue is called. Whatever is not here is in the tables.
#[derive(Default)]
struct Names {
    issue_of_run: HashMap<String, String>,
    identifier_of_issue: HashMap<String, String>,
}

impl<'db> Inserts<'db> {
    pub(crate) fn prepare(db: &'db Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            event: db.prepare(
                "INSERT INTO events (seq, at, kind, issue_id, identifier, run, format, data)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?,
            name: db.prepare("INSERT OR IGNORE INTO names (key, issue_id) VALUES (?1, ?2)")?,
            issue: db.prepare(
                "INSERT INTO issues (id, id_key, identifier, identifier_key, status, data)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (id) DO UPDATE SET identifier = excluded.identifier,
                 identifier_key = excluded.identifier_key, status = excluded.status, data = excluded.data",
            )?,
            issue_gone: db.prepare("DELETE FROM issues WHERE id = ?1")?,
            run: db.prepare(
                "INSERT INTO runs (id, issue_id, started_at, ended_at, data) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO UPDATE SET ended_at = excluded.ended_at, data = excluded.data",
            )?,
            usage: db.prepare(
                "INSERT INTO usage (run, turn, place, issue_id, day, model, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (run, turn, place) DO UPDATE SET model = excluded.model, data = excluded.data",
            )?,
            daemon: db.prepare(
                "INSERT INTO daemon (id, data) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET data = excluded.data",
            )?,
            snapshot: db
                .prepare("INSERT OR REPLACE INTO snapshots (seq, format, sha256, data) VALUES (?1, ?2, ?3, ?4)")?,
            old_snapshots: db.prepare(
                "DELETE FROM snapshots WHERE seq NOT IN (SELECT seq FROM snapshots ORDER BY seq DESC LIMIT ?1)",
            )?,
            issue_of_run: db.prepare(
                "SELECT issue_id FROM events WHERE run = ?1 AND issue_id IS NOT NULL
                 UNION ALL SELECT issue_id FROM runs WHERE id = ?1 LIMIT 1",
            )?,
            identifier_of_issue: db.prepare(
                "SELECT identifier FROM (SELECT identifier FROM events
                   WHERE issue_id = ?1 AND identifier IS NOT NULL ORDER BY seq DESC LIMIT 1)
                 UNION ALL SELECT identifier FROM issues WHERE id = ?1 LIMIT 1",
            )?,
            names: Names::default(),
            ended_runs: 0,
        })
    }

    /// Writes everything of a batch whose place was checked, except its snapshot.
    pub(crate) fn batch(&mut self, batch: &Batch, encoded: &Encoded) -> rusqlite::Result<()> {
        let mut pieces = encoded.pieces();
        for (recorded, json) in batch.events.iter().zip(&mut pieces) {
            self.event(recorded, &json)?;
        }
        for (view, json) in batch.views.iter().zip(&mut pieces) {
            self.view(view, &json)?;
        }
        Ok(())
    }

    /// Rows of ended runs written since the last call.
    pub(crate) fn take_ended_runs(&mut self) -> u64 {
        std::mem::take(&mut self.ended_runs)
    }

    pub(crate) fn event(&mut self, recorded: &Recorded, json: &Json<'_>) -> rusqlite::Result<()> {
        let Recorded { seq, at, event } = recorded;
        self.learn(event)?;
        let run = event.run().map(|run| run.as_str());
        let issue = match (event.issue(), run) {
            (Some(issue), _) => Some(issue.as_str()),
            (None, Some(run)) => look_up(&mut self.names.issue_of_run, &mut self.issue_of_run, run)?,
            (None, None) => None,
        };
        let identifier = match issue {
            Some(issue) => look_up(&mut self.names.identifier_of_issue, &mut self.identifier_of_issue, issue)?,
            None => None,
        };
        self.event.execute((integer(*seq), at.0, event.kind(), issue, identifier, run, EVENT_FORMAT, json))?;
        if let Event::RunEnded { run, .. } = event {
            self.names.issue_of_run.remove(run.as_str());
        }
        Ok(())
    }

    /// Takes note of what an event says of names.
    fn learn(&mut self, event: &Event) -> rusqlite::Result<()> {
        if let Event::IssueSeen { issue } | Event::IssueChanged { issue } = event {
            self.learn_names(issue.id.as_str(), &issue.identifier)?;
        } else if let Event::RunStarted { run, issue, .. } = event {
            remember(&mut self.names.issue_of_run, run.as_str(), issue.as_str().to_owned());
        }
        Ok(())
    }

    /// Takes note of what an issue is called.
    pub(crate) fn learn_names(&mut self, id: &str, identifier: &str) -> rusqlite::Result<()> {
        let known = &mut self.names.identifier_of_issue;
        if known.get(id).map(String::as_str) != Some(identifier) {
            for name in [id, identifier] {
                self.name.execute((key(name), id))?;
            }
            remember(known, id, identifier.to_owned());
        }
        Ok(())
    }

    pub(crate) fn view(&mut self, view: &View, json: &Json<'_>) -> rusqlite::Result<()> {
        match view {
            View::Issue(view) => {
                let (id, identifier) = (view.issue.id.as_str(), view.issue.identifier.as_str());
                self.issue.execute((id, key(id), identifier, key(identifier), view.status.as_str(), json))?;
            }
            View::IssueGone(id) => {
                self.issue_gone.execute([id.as_str()])?;
            }
            View::Run(view) => {
                let ended_at = view.ended_at.map(|at| at.0);
                self.run.execute((view.id.as_str(), view.issue.as_str(), view.started_at.0, ended_at, json))?;
                self.ended_runs += u64::from(ended_at.is_some());
            }
            View::Usage(row) => {
                let (run, issue) = (row.run.as_str(), row.issue.as_str());
                self.usage.execute((run, row.turn, row.place, issue, row.day, row.model.as_deref(), json))?;
            }
            View::Daemon(_) => {
                self.daemon.execute([json])?;
            }
        }
        Ok(())
    }

    /// Writes a snapshot, and lets go of older ones.
    pub(crate) fn snapshot(&mut self, snapshot: &Written) -> rusqlite::Result<()> {
        let Written { seq, format, sha256, data } = snapshot;
        self.snapshot.execute((integer(*seq), format, sha256, data))?;
        self.old_snapshots.execute([SNAPSHOTS])?;
        Ok(())
    }
}

fn remember(names: &mut HashMap<String, String>, name: &str, value: String) {
    if names.len() >= REMEMBERED {
        names.clear();
    }
    names.insert(name.to_owned(), value);
}

/// The remembered value of `name`, else what the tables say.
fn look_up<'names>(
    names: &'names mut HashMap<String, String>,
    query: &mut Statement<'_>,
    name: &str,
) -> rusqlite::Result<Option<&'names str>> {
    if !names.contains_key(name) {
        let found: Option<String> = query.query_row([name], |row| row.get(0)).optional()?;
        match found {
            Some(value) => remember(names, name, value),
            None => return Ok(None),
        }
    }
    Ok(names.get(name).map(String::as_str))
}
