//! What queries see: projections by their indexes, and events by theirs.

use dalsegno_core::{DaemonView, IssueId, IssueView, RunView, Timestamp, Usage, UsageView};
use dalsegno_durable::ExecutionScope;
use dalsegno_durable::key::Secret;
use dalsegno_durable::saga::SagaView;
use dalsegno_engine::{
    EffectRow, EventFilter, EventPage, EventRow, Kept, KeptFile, ReadError, Reads, TranscriptPage, UsageBy,
    UsageFilter, UsageSum, WrittenEvent, WrittenPage,
};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::durable;
use crate::error::StoreError;
use crate::insert::{integer, key};
use crate::open::Store;
use crate::transcripts;

/// Most events, runs or lines in one answer.
const PAGE: usize = 10_000;
/// Most rows that a call looks at when no index serves the whole filter; the page then ends early.
const LOOKED_AT: usize = 10_000;
/// Most issues that one name may mean: those that had it one after the other.
const NAMESAKES: usize = 16;

impl Reads for Store {
    fn kept(&self) -> Kept {
        self.kept
    }

    fn journal_id(&self) -> &str {
        &self.journal_id
    }

    fn issues(&self, status: Option<&str>) -> Result<Vec<IssueView>, ReadError> {
        let sql = match status {
            Some(_) => "SELECT data FROM issues WHERE status = ?1 ORDER BY identifier_key",
            None => "SELECT data FROM issues ORDER BY identifier_key",
        };
        self.read(|db| views(db, sql, status.map(|status| Value::from(status.to_owned()))))
    }

    fn issue(&self, name: &str) -> Result<Option<IssueView>, ReadError> {
        // An identifier wins over an id, should one issue be called what another one is.
        let sql = "SELECT data FROM (SELECT data, 0 AS place FROM issues WHERE identifier_key = ?1
                   UNION ALL SELECT data, 1 FROM issues WHERE id_key = ?1) ORDER BY place LIMIT 1";
        self.read(|db| views(db, sql, [Value::from(key(name))])).map(|found| found.into_iter().next())
    }

    fn runs(&self, issue: Option<&IssueId>, limit: usize) -> Result<Vec<RunView>, ReadError> {
        let limit = Value::from(integer(limit.min(PAGE) as u64));
        self.read(|db| match issue {
            Some(issue) => views(
                db,
                "SELECT data FROM runs WHERE issue_id = ?2 ORDER BY started_at DESC, rowid DESC LIMIT ?1",
                [limit, Value::from(issue.as_str().to_owned())],
            ),
            None => views(db, "SELECT data FROM runs ORDER BY started_at DESC, rowid DESC LIMIT ?1", [limit]),
        })
    }

    fn run(&self, run: &str) -> Result<Option<RunView>, ReadError> {
        let found = self.read(|db| views(db, "SELECT data FROM runs WHERE id = ?1", [Value::from(run.to_owned())]))?;
        Ok(found.into_iter().next())
    }

    fn usage(&self, filter: &UsageFilter, limit: usize) -> Result<Vec<UsageView>, ReadError> {
        let UsageFilter { issue, run, day, model } = filter;
        let text = |name: &Option<String>| name.clone().map(Value::from);
        let wanted = [
            ("issue_id = ?", issue.as_ref().map(|issue| Value::from(issue.as_str().to_owned()))),
            ("run = ?", text(run)),
            ("day = ?", day.map(Value::from)),
            ("model = ?", text(model)),
        ];
        let (rules, mut values): (Vec<&str>, Vec<Value>) =
            wanted.into_iter().filter_map(|(rule, value)| Some((rule, value?))).unzip();
        let rules = if rules.is_empty() { String::new() } else { format!("WHERE {}", rules.join(" AND ")) };
        let sql = format!("SELECT data FROM usage {rules} ORDER BY day DESC, run, turn, place LIMIT ?");
        values.push(Value::from(integer(limit.min(PAGE) as u64)));
        self.read(|db| if has_ledger(db)? { views(db, &sql, values) } else { Ok(Vec::new()) })
    }

    fn usage_sums(&self, by: UsageBy) -> Result<Vec<UsageSum>, ReadError> {
        let key = match by {
            UsageBy::Issue => "issue_id",
            UsageBy::Run => "run",
            UsageBy::Day => "day",
            UsageBy::Model => "model",
        };
        // The newest sums of a long list are the ones that are wanted.
        // An agent may report any number; SQLite gives up a sum that does not fit.
        let sum = |figure| format!("CAST(min(total(data ->> '$.{figure}'), 9e18) AS INTEGER)");
        let sql = format!(
            "SELECT CAST({key} AS TEXT),
               {}, {}, {}, {}, {},
               max((data ->> '$.cost_nanousd') IS NULL AND (data ->> '$.usage.total_tokens') > 0),
               max(data ->> '$.incomplete'), max(data ->> '$.identifier')
             FROM usage GROUP BY {key} ORDER BY max(day) DESC, {key} DESC LIMIT ?1",
            sum("usage.input_tokens"),
            sum("usage.cached_input_tokens"),
            sum("usage.output_tokens"),
            sum("usage.total_tokens"),
            sum("cost_nanousd"),
        );
        self.read(|db| {
            if !has_ledger(db)? {
                return Ok(Vec::new());
            }
            let mut query = db.prepare_cached(&sql)?;
            let rows = query.query_map([integer(PAGE as u64)], usage_sum)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    fn daemon(&self) -> Result<Option<DaemonView>, ReadError> {
        let found = self.read(|db| views(db, "SELECT data FROM daemon", []))?;
        Ok(found.into_iter().next())
    }

    fn events_as_written(&self, after: u64, limit: usize, filter: &EventFilter) -> Result<WrittenPage, ReadError> {
        self.read(|db| events(db, after, limit.min(PAGE), filter))
    }

    fn bounds(&self) -> Result<(u64, u64), ReadError> {
        self.read(|db| Ok(db.prepare_cached(BOUNDS)?.query_row([], first_and_last)?))
    }

    fn effects(&self, run: &str, after: i64, limit: usize) -> Result<Vec<EffectRow>, ReadError> {
        let scope = ExecutionScope::process(run);
        let found = self.read(|db| durable::look(db, &scope, after, limit.min(PAGE)))?;
        Ok(found.into_iter().map(|(place, record)| EffectRow { place, record }).collect())
    }

    fn saga(&self, id: &str) -> Result<Option<SagaView>, ReadError> {
        self.read(|db| {
            let records = durable::look(db, &ExecutionScope::saga(id), 0, usize::MAX)?;
            let secret: [u8; 32] = db.query_row("SELECT value FROM meta WHERE key = 'secret'", [], |row| row.get(0))?;
            SagaView::of_records(id, records.iter().map(|(_, record)| record), &Secret::new(secret))
                .map_err(|damaged| StoreError::Corrupt(damaged.to_string()))
        })
    }

    fn transcript(&self, run: &str, offset: u64, limit: usize) -> Result<TranscriptPage, ReadError> {
        Ok(transcripts::read(&self.state_dir, run, offset, limit.min(PAGE))?)
    }

    fn kept_files(&self, run: &str, limit: usize) -> Result<Vec<KeptFile>, ReadError> {
        Ok(self.files_of_run(run, limit.min(PAGE))?)
    }

    fn kept_file(&self, file: &str) -> Result<Option<Result<Vec<u8>, String>>, ReadError> {
        Ok(self.file_content(file)?)
    }
}

impl Store {
    /// Runs `read` in one read transaction.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, ReadError> {
        let answer = self.pool.with(|db| {
            let tx = db.unchecked_transaction()?;
            let answer = read(&tx)?;
            tx.commit()?;
            Ok(answer)
        });
        Ok(answer?)
    }
}

/// Rows of a projection. Their number is bounded by what the writer keeps, or by the query.
fn views<T: DeserializeOwned>(
    db: &Connection,
    sql: &str,
    parameters: impl IntoIterator<Item = Value>,
) -> Result<Vec<T>, StoreError> {
    let mut query = db.prepare_cached(sql)?;
    let mut rows = query.query(params_from_iter(parameters))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(json(row, 0)?);
    }
    Ok(found)
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, StoreError> {
    let text = row.get_ref(column)?.as_str().map_err(|error| StoreError::Corrupt(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(format!("a row is unreadable: {error}")))
}

fn usage_sum(row: &Row<'_>) -> rusqlite::Result<UsageSum> {
    let number = |column: usize| row.get::<_, Option<i64>>(column).map(|sum| sum.unwrap_or(0).unsigned_abs());
    Ok(UsageSum {
        key: row.get(0)?,
        identifier: row.get(8)?,
        usage: Usage {
            input_tokens: number(1)?,
            cached_input_tokens: number(2)?,
            output_tokens: number(3)?,
            total_tokens: number(4)?,
        },
        cost_nanousd: number(5)?,
        unpriced: number(6)? > 0,
        incomplete: number(7)? > 0,
    })
}

/// Whether the database has the ledger's table: one of an older version, opened for a look, does not.
fn has_ledger(db: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'usage')";
    Ok(db.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

const BOUNDS: &str = "SELECT (SELECT min(seq) FROM events), (SELECT max(seq) FROM events)";

fn first_and_last(row: &Row<'_>) -> rusqlite::Result<(u64, u64)> {
    let (first, last): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
    Ok((first.unwrap_or(1).unsigned_abs(), last.unwrap_or(0).unsigned_abs()))
}

fn events(db: &Connection, after: u64, limit: usize, filter: &EventFilter) -> Result<WrittenPage, StoreError> {
    let (_, newest) = db.prepare_cached(BOUNDS)?.query_row([], first_and_last)?;
    let end = newest.max(after);
    if limit == 0 {
        return Ok(EventPage { events: Vec::new(), through: after });
    }
    let EventFilter { issue, run, kind } = filter;
    let issues = issue.as_deref().map(|name| namesakes(db, name)).transpose()?;
    let mut pages = Vec::new();
    let scan = Scan { after, limit, end, kind: kind.as_deref(), issues: issues.as_deref() };
    match (run, &issues, kind) {
        (Some(run), _, _) => pages.push(scan.index(db, "run = ?3 AND", Some(run))?),
        (None, Some(issues), _) => {
            for issue in issues {
                pages.push(scan.index(db, "issue_id = ?3 AND", Some(issue))?);
            }
        }
        (None, None, Some(kind)) => pages.push(scan.index(db, "kind = ?3 AND", Some(kind))?),
        (None, None, None) => pages.push(scan.index(db, "", None)?),
    }
    Ok(merge(pages, limit, end))
}

/// Ids of the issues that have or had this identifier or id.
fn namesakes(db: &Connection, name: &str) -> Result<Vec<String>, StoreError> {
    let mut query = db.prepare_cached("SELECT issue_id FROM names WHERE key = ?1 LIMIT ?2")?;
    let found = query.query_map((key(name), integer(NAMESAKES as u64)), |row| row.get(0))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// One walk along an index, in the order of the journal.
struct Scan<'a> {
    after: u64,
    limit: usize,
    /// Everything up to here was looked at when the walk comes to its end.
    end: u64,
    kind: Option<&'a str>,
    issues: Option<&'a [String]>,
}

impl Scan<'_> {
    fn index(&self, db: &Connection, by: &str, value: Option<&str>) -> Result<WrittenPage, StoreError> {
        let sql = format!(
            "SELECT seq, at, kind, identifier, run, issue_id, data FROM events
             WHERE {by} seq > ?1 ORDER BY seq LIMIT ?2"
        );
        let mut query = db.prepare_cached(&sql)?;
        let most = if self.kind.is_some() || self.issues.is_some() { LOOKED_AT } else { self.limit };
        let bounds = [Value::from(integer(self.after)), Value::from(integer(most as u64))];
        let parameters = bounds.into_iter().chain(value.map(|value| Value::from(value.to_owned())));
        let mut rows = query.query(params_from_iter(parameters))?;
        let mut events = Vec::new();
        let (mut looked_at, mut through) = (0, self.after);
        while let Some(row) = rows.next()? {
            looked_at += 1;
            through = row.get::<_, i64>(0)?.unsigned_abs();
            if self.matches(row)? {
                events.push(event_row(row, through)?);
                if events.len() == self.limit {
                    return Ok(EventPage { events, through });
                }
            }
        }
        Ok(EventPage { events, through: if looked_at == most { through } else { self.end } })
    }

    /// The parts of the filter that the index may not serve.
    fn matches(&self, row: &Row<'_>) -> Result<bool, StoreError> {
        let text = |column: usize| {
            row.get_ref(column)?.as_str_or_null().map_err(|error| StoreError::Corrupt(error.to_string()))
        };
        if let Some(kind) = self.kind
            && text(2)? != Some(kind)
        {
            return Ok(false);
        }
        let Some(issues) = self.issues else { return Ok(true) };
        let issue = text(5)?;
        Ok(issues.iter().any(|wanted| issue == Some(wanted)))
    }
}

fn event_row(row: &Row<'_>, seq: u64) -> Result<WrittenEvent, StoreError> {
    let kind: String = row.get(2)?;
    let unreadable = |error: &dyn std::fmt::Display| StoreError::Corrupt(format!("event {seq} is unreadable: {error}"));
    let text = row.get_ref(6)?.as_str().map_err(|error| unreadable(&error))?;
    let data = fact(&kind, text).map_err(|error| unreadable(&error))?;
    Ok(EventRow { seq, at: Timestamp(row.get(1)?), kind, issue: row.get(3)?, run: row.get(4)?, data })
}

/// An event's text without its kind, which stands at the front of all that are written: no value is made of it, but it is looked at
/// whether it is JSON.
fn fact(kind: &str, text: &str) -> serde_json::Result<Box<RawValue>> {
    let rest = text.strip_prefix(r#"{"kind":""#).and_then(|rest| rest.strip_prefix(kind)?.strip_prefix('"'));
    // What we write is one line, and streams send it as one.
    if let Some(rest) = rest
        && !text.contains('\n')
        && !text.contains('\r')
    {
        return RawValue::from_string(format!("{{{}", rest.strip_prefix(',').unwrap_or(rest)));
    }
    let mut event: serde_json::Value = serde_json::from_str(text)?;
    if let Some(fields) = event.as_object_mut() {
        fields.remove("kind");
    }
    serde_json::value::to_raw_value(&event)
}

/// Several walks as one page: it ends where the first of them ended.
fn merge(mut pages: Vec<WrittenPage>, limit: usize, end: u64) -> WrittenPage {
    if pages.len() == 1
        && let Some(page) = pages.pop()
    {
        return page;
    }
    let mut through = pages.iter().map(|page| page.through).min().unwrap_or(end);
    let mut events: Vec<_> = pages.into_iter().flat_map(|page| page.events).filter(|row| row.seq <= through).collect();
    events.sort_unstable_by_key(|row| row.seq);
    if events.len() > limit {
        events.truncate(limit);
        through = events.last().map_or(through, |row| row.seq);
    }
    EventPage { events, through }
}
