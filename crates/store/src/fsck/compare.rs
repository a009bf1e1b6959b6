//! Rows as they are, beside rows as they should be.

use std::cmp::Ordering;

use rusqlite::types::Value;
use rusqlite::{Connection, Rows};

use super::shadow::{Shadow, TABLES, Table};
use super::{Checked, Cure};
use crate::error::StoreError;
use crate::insert::integer;
use crate::open::OpenOptions;

/// Compares every table of projections with what the fold wrote.
pub(super) fn projections(main: &Connection, folded: &Shadow, checked: &mut Checked) -> Result<(), StoreError> {
    for table in &TABLES {
        let compared = Comparison { table, main, folded }.go(checked);
        checked.take(table.name, compared)?;
    }
    let epoch: i64 = main.query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| row.get(0))?;
    if epoch != integer(folded.state.epoch) {
        let found = format!("the epoch is {epoch}, and the journal's is {}", folded.state.epoch);
        checked.fault("meta", Cure::Rebuild, found);
    }
    shapes(main, checked)
}

/// Rows that the fold may not know any more say in their columns what they say in their content.
fn shapes(main: &Connection, checked: &mut Checked) -> Result<(), StoreError> {
    let runs = "SELECT id FROM runs WHERE NOT json_valid(data) OR id IS NOT data ->> '$.id' OR issue_id IS NOT data ->> '$.issue'
                OR started_at IS NOT data ->> '$.started_at' OR ended_at IS NOT data ->> '$.ended_at' LIMIT 20";
    let usage = "SELECT run FROM usage WHERE NOT json_valid(data) OR run IS NOT data ->> '$.run' OR turn IS NOT data ->> '$.turn'
                 OR place IS NOT data ->> '$.place' OR issue_id IS NOT data ->> '$.issue' OR day IS NOT data ->> '$.day'
                 OR model IS NOT data ->> '$.model' LIMIT 20";
    for (name, sql) in [("runs", runs), ("usage", usage)] {
        let mut query = main.prepare(sql)?;
        let found: Vec<String> = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for id in found {
            let told = checked.faults.iter().any(|fault| fault.check == name && fault.found.starts_with(&id));
            if !told {
                checked.fault(name, Cure::Restore, format!("{id}: its columns are not what its content says"));
            }
        }
    }
    Ok(())
}

struct Comparison<'a> {
    table: &'a Table,
    main: &'a Connection,
    folded: &'a Shadow,
}

impl Comparison<'_> {
    /// Both sides in the order of their keys.
    fn go(&self, checked: &mut Checked) -> Result<(), StoreError> {
        let Table { name, key, .. } = self.table;
        let sql = format!("SELECT {} FROM {name} ORDER BY {}", self.table.columns(), key.join(", "));
        let (mut main, mut shadow) = (self.main.prepare(&sql)?, self.folded.db.prepare(&sql)?);
        let (mut main, mut shadow) = (main.query([])?, shadow.query([])?);
        let pruned = self.pruned_through()?;
        let (mut is, mut should) = (self.next(&mut main)?, self.next(&mut shadow)?);
        loop {
            let order = match (&is, &should) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(is), Some(should)) => compared(&is[..key.len()], &should[..key.len()]),
            };
            checked.rows += 1;
            match (order, is.take(), should.take()) {
                (Ordering::Less, Some(row), kept) => {
                    if !self.may_be_older(&row) {
                        let found = format!("{}: a row that no event speaks of", named(&row[..key.len()]));
                        checked.fault(name, Cure::Rebuild, found);
                    }
                    (is, should) = (self.next(&mut main)?, kept);
                }
                (Ordering::Greater, kept, Some(row)) => {
                    if !self.may_be_pruned(&row, pruned)? {
                        checked.fault(name, Cure::Rebuild, format!("{}: its row is missing", named(&row[..key.len()])));
                    }
                    (is, should) = (kept, self.next(&mut shadow)?);
                }
                (_, Some(row), Some(expected)) => {
                    self.same(&row, &expected, checked);
                    (is, should) = (self.next(&mut main)?, self.next(&mut shadow)?);
                }
                (_, None, _) | (_, _, None) => return Ok(()),
            }
        }
    }

    fn next(&self, rows: &mut Rows<'_>) -> Result<Option<Vec<Value>>, StoreError> {
        let Some(row) = rows.next()? else { return Ok(None) };
        let width = self.table.key.len() + self.table.rest.len();
        let values = (0..width).map(|column| row.get(column)).collect::<rusqlite::Result<Vec<Value>>>();
        Ok(Some(values?))
    }

    /// The fold began later than what this row tells of.
    fn may_be_older(&self, row: &[Value]) -> bool {
        let begun_later = self.folded.after > 0;
        match self.table.name {
            "names" | "usage" => begun_later,
            "runs" => begun_later && row.get(3).is_some_and(|ended_at| *ended_at != Value::Null),
            _ => false,
        }
    }

    /// The oldest runs go when there are many: the end of the last one that may be gone.
    fn pruned_through(&self) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT count(*), min(ended_at) FROM runs WHERE ended_at IS NOT NULL";
        let (count, oldest): (i64, Option<i64>) = self.main.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(oldest.filter(|_| count.unsigned_abs() >= OpenOptions::default().keep_ended_runs))
    }

    fn may_be_pruned(&self, row: &[Value], pruned: Option<i64>) -> Result<bool, StoreError> {
        let Some(pruned) = pruned else { return Ok(false) };
        let ended_at = match (self.table.name, row) {
            ("runs", [_, _, _, Value::Integer(ended_at), ..]) => Some(*ended_at),
            ("usage", [Value::Text(run), ..]) => {
                let sql = "SELECT ended_at FROM runs WHERE id = ?1";
                self.folded.db.prepare_cached(sql)?.query_row([run], |row| row.get(0))?
            }
            _ => None,
        };
        Ok(ended_at.is_some_and(|ended_at| ended_at <= pruned))
    }

    fn same(&self, is: &[Value], should: &[Value], checked: &mut Checked) {
        let key = self.table.key.len();
        let columns = self.table.rest.iter().zip(is.iter().zip(should).skip(key));
        for (column, (is_value, should_value)) in columns {
            if is_value == should_value {
                continue;
            }
            let found = match (is_value, should_value) {
                (Value::Text(is), Value::Text(should)) if *column == "data" => match self.content(is, should) {
                    Some(found) => found,
                    None => continue,
                },
                (is, should) => format!("{column} is {}, not {}", shown(is), shown(should)),
            };
            checked.fault(self.table.name, Cure::Rebuild, format!("{}: {found}", named(&is[..key])));
        }
    }

    /// What of the content differs. The time at which a row of an issue was made may be that of a later event of its batch.
    fn content(&self, is: &str, should: &str) -> Option<String> {
        let read = |text: &str| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text);
        let (Ok(mut is), Ok(should)) = (read(is), read(should)) else {
            return Some("its content is unreadable".to_owned());
        };
        let null = serde_json::Value::Null;
        for (name, value) in &should {
            let has = is.remove(name).unwrap_or_default();
            if name == "changed_at"
                && let (Some(has), Some(value)) = (has.as_i64(), value.as_i64())
            {
                let earliest = if self.folded.after == 0 { value } else { i64::MIN };
                if (earliest..=self.folded.state.at.0).contains(&has) {
                    continue;
                }
            }
            if has != *value {
                return Some(format!("{name} is {}, not {}", clipped(&has.to_string()), clipped(&value.to_string())));
            }
        }
        is.into_iter().find(|(_, value)| *value != null).map(|(name, _)| format!("{name} is in it and should not be"))
    }
}

/// As SQLite orders them.
fn compared(one: &[Value], other: &[Value]) -> Ordering {
    one.iter().zip(other).map(|(one, other)| compare(one, other)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Integer(one), Value::Integer(other)) => one.cmp(other),
        (Value::Text(one), Value::Text(other)) => one.as_bytes().cmp(other.as_bytes()),
        // Columns of keys are of one type each.
        _ => Ordering::Equal,
    }
}

fn named(key: &[Value]) -> String {
    let words: Vec<String> = key.iter().map(shown).collect();
    words.join(" ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => clipped(text),
        Value::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}

fn clipped(text: &str) -> String {
    const LETTERS: usize = 80;
    match text.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
