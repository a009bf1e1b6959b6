//! Waits: the rules of [`WaitRecord`] over rows.

use dalsegno_durable::store::{StoreError as Refused, WaitChange, WaitChanges};
use dalsegno_durable::wait::{Registered, Resolved, Terminal, WaitAddress, WaitRecord};
use dalsegno_durable::{ExecutionScope, Resolution, Timestamp};
use rusqlite::Row;

use super::request::{EndsAfter, Trouble, WaitName};
use super::writing::Durable;

/// Ends of waits that are kept for those who follow.
const ENDS: u64 = 65_536;
/// Old ends are removed when so many came.
const ENDS_AT_ONCE: u64 = 256;
/// Ends in one page, and bytes of their JSON after which a page is full.
const PAGE: i64 = 1_024;
const PAGE_BYTES: usize = 4 << 20;

/// A wait as it stands in the table.
struct Found {
    scope: i64,
    wait: WaitRecord,
    is_there: bool,
}

impl Durable<'_> {
    pub(super) fn register(
        &mut self,
        name: &WaitName,
        deadline: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Registered, Trouble> {
        self.on_wait(name, true, |wait| wait.register(deadline, now))
    }

    pub(super) fn resolve(
        &mut self,
        name: &WaitName,
        resolution: &Resolution,
        now: Timestamp,
    ) -> Result<Resolved, Trouble> {
        let told = self.on_wait(name, true, |wait| wait.resolve(resolution.clone(), now))?;
        Ok(told.ok_or(Refused::UnknownWait)?)
    }

    pub(super) fn peek(&mut self, name: &WaitName, now: Timestamp) -> Result<Option<Terminal>, Trouble> {
        self.on_wait(name, false, |wait| {
            wait.expire(now);
            wait.terminal.clone()
        })
    }

    pub(super) fn cancel(&mut self, session: &str, now: Timestamp) -> Result<u64, Trouble> {
        self.close_session(session, &Terminal::Resolved { resolution: Resolution::Canceled }, now)
    }

    pub(super) fn revoke(&mut self, session: &str, remove: bool) -> Result<u64, Trouble> {
        // Deadlines that passed unnoticed are revoked with the others: there is nobody to tell.
        let count = self.close_session(session, &Terminal::Revoked, Timestamp(i64::MIN))?;
        self.db.prepare_cached("INSERT OR IGNORE INTO revoked_sessions (session) VALUES (?1)")?.execute([session])?;
        if remove {
            let sql = "DELETE FROM waits WHERE scope IN (SELECT id FROM scopes WHERE session = ?1)";
            self.db.prepare_cached(sql)?.execute([session])?;
        }
        Ok(count)
    }

    fn close_session(&mut self, session: &str, terminal: &Terminal, now: Timestamp) -> Result<u64, Trouble> {
        let mut query = self.db.prepare_cached("SELECT id FROM scopes WHERE session = ?1 ORDER BY id")?;
        let scopes: Vec<i64> = query.query_map([session], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut count = 0;
        for scope in scopes {
            count += self.close_waits(scope, terminal, now)?;
        }
        Ok(count)
    }

    /// Ends the open waits of a scope; answers how many.
    pub(super) fn close_waits(&mut self, scope: i64, terminal: &Terminal, now: Timestamp) -> Result<u64, Trouble> {
        let mut query =
            self.db.prepare_cached("SELECT identity, deadline FROM waits WHERE scope = ?1 AND terminal IS NULL")?;
        let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?));
        let open: Vec<_> = query.query_map([scope], read)?.collect::<rusqlite::Result<_>>()?;
        if open.is_empty() {
            return Ok(0);
        }
        let mut query = self.db.prepare_cached("SELECT key FROM scopes WHERE id = ?1")?;
        let scope_key: String = query.query_row([scope], |row| row.get(0))?;
        let mut count = 0;
        for (identity, deadline) in open {
            let mut wait = WaitRecord { deadline: deadline.map(Timestamp), terminal: None };
            count += u64::from(wait.close(terminal.clone(), now));
            self.put(scope, &identity, &wait)?;
            self.note_end(&scope_key, &identity, wait.terminal.as_ref())?;
        }
        Ok(count)
    }

    /// Does something to a wait; writes what it changed, and notes it when that ended it. `keep`: one that is new is
    /// written, too, even if nothing is known of it yet.
    fn on_wait<T>(
        &mut self,
        name: &WaitName,
        keep: bool,
        change: impl FnOnce(&mut WaitRecord) -> T,
    ) -> Result<T, Trouble> {
        let Found { scope, mut wait, is_there } = self.find(name)?;
        let before = wait.clone();
        let told = change(&mut wait);
        if wait != before || (keep && !is_there) {
            self.put(scope, &name.identity, &wait)?;
        }
        if before.terminal.is_none() && wait.terminal.is_some() {
            self.note_end(&name.scope_key, &name.identity, wait.terminal.as_ref())?;
        }
        Ok(told)
    }

    /// The wait, unless there may be none.
    fn find(&self, name: &WaitName) -> Result<Found, Trouble> {
        if let Some(session) = &name.session {
            let mut query =
                self.db.prepare_cached("SELECT EXISTS (SELECT 1 FROM revoked_sessions WHERE session = ?1)")?;
            if query.query_row([session], |row| row.get(0))? {
                return Err(Refused::UnknownWait.into());
            }
        }
        let mut query = self.db.prepare_cached(
            "SELECT s.id, s.ended_at IS NOT NULL, w.scope IS NOT NULL, w.deadline, w.terminal
             FROM scopes AS s LEFT JOIN waits AS w ON w.scope = s.id AND w.identity = ?2 WHERE s.key = ?1",
        )?;
        let mut rows = query.query((&name.scope_key, &name.identity))?;
        let row = rows.next()?.ok_or(Refused::UnknownWait)?;
        let (ended, is_there): (bool, bool) = (row.get(1)?, row.get(2)?);
        if ended && !is_there {
            return Err(Refused::UnknownWait.into());
        }
        let deadline: Option<i64> = row.get(3)?;
        Ok(Found {
            scope: row.get(0)?,
            wait: WaitRecord { deadline: deadline.map(Timestamp), terminal: terminal(row, 4)? },
            is_there,
        })
    }

    fn put(&self, scope: i64, identity: &str, wait: &WaitRecord) -> Result<(), Trouble> {
        let WaitRecord { deadline, terminal } = wait;
        let terminal = terminal.as_ref().map(text).transpose()?;
        let mut put = self.db.prepare_cached(
            "INSERT INTO waits (scope, identity, deadline, terminal) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (scope, identity) DO UPDATE SET deadline = excluded.deadline, terminal = excluded.terminal",
        )?;
        put.execute((scope, identity, deadline.map(|at| at.0), terminal))?;
        Ok(())
    }

    /// Adds to the list that others follow. An answer is not written twice: it is in the wait's own row.
    fn note_end(&mut self, scope_key: &str, identity: &str, terminal: Option<&Terminal>) -> Result<(), Trouble> {
        let is_answer = matches!(terminal, Some(Terminal::Resolved { resolution: Resolution::Answered { .. } }));
        let terminal = terminal.filter(|_| !is_answer).map(text).transpose()?;
        let number = self.last_end + 1;
        let mut note = self
            .db
            .prepare_cached("INSERT INTO wait_ends (number, scope_key, identity, terminal) VALUES (?1, ?2, ?3, ?4)")?;
        note.execute((number.cast_signed(), scope_key, identity, terminal))?;
        self.last_end = number;
        if number.is_multiple_of(ENDS_AT_ONCE) {
            let last_old = number.saturating_sub(ENDS);
            self.db.prepare_cached("DELETE FROM wait_ends WHERE number <= ?1")?.execute([last_old.cast_signed()])?;
        }
        Ok(())
    }

    pub(super) fn ends_after(&mut self, after: &EndsAfter) -> Result<WaitChanges, Trouble> {
        let EndsAfter(cursor) = *after;
        let mut query = self.db.prepare_cached("SELECT min(number) FROM wait_ends")?;
        let oldest: Option<i64> = query.query_row([], |row| row.get(0))?;
        let oldest = oldest.map_or(self.last_end + 1, i64::unsigned_abs);
        let mut page = WaitChanges { changes: Vec::new(), next: cursor, gap: cursor.saturating_add(1) < oldest };
        let mut query = self.db.prepare_cached(
            "SELECT e.number, e.scope_key, e.identity, e.terminal, w.terminal FROM wait_ends AS e
             LEFT JOIN scopes AS s ON e.terminal IS NULL AND s.key = e.scope_key
             LEFT JOIN waits AS w ON w.scope = s.id AND w.identity = e.identity
             WHERE e.number > ?1 ORDER BY e.number LIMIT ?2",
        )?;
        let mut rows = query.query((i64::try_from(cursor).unwrap_or(i64::MAX), PAGE))?;
        let mut bytes = 0;
        while let Some(row) = rows.next()?
            && bytes < PAGE_BYTES
        {
            page.next = row.get::<_, i64>(0)?.unsigned_abs();
            let length =
                |column| row.get_ref(column).ok().and_then(|value| value.as_bytes().ok()).map_or(0, <[u8]>::len);
            bytes += length(4) + length(1);
            match end(row) {
                Ok(Some(change)) => page.changes.push(change),
                // Its answer was removed since: whoever is still parked has to look.
                Ok(None) => page.gap = true,
                Err(Trouble::Refused(_)) => {
                    tracing::warn!(
                        number = page.next,
                        "the end of a wait is damaged; whoever is parked looks at the waits themselves"
                    );
                    page.gap = true;
                }
                Err(error @ Trouble::Database(_)) => return Err(error),
            }
        }
        Ok(page)
    }
}

/// A row of the list, with the end that it has or its wait has.
fn end(row: &Row<'_>) -> Result<Option<WaitChange>, Trouble> {
    let scope = row.get_ref(1)?.as_str().ok().and_then(ExecutionScope::from_key).ok_or_else(damaged)?;
    let address = WaitAddress { scope, identity: row.get(2)? };
    let noted = terminal(row, 3)?;
    let end = if noted.is_some() { noted } else { terminal(row, 4)? };
    Ok(end.map(|terminal| WaitChange { address, terminal }))
}

fn text(terminal: &Terminal) -> Result<String, Refused> {
    serde_json::to_string(terminal).map_err(|error| Refused::Failed(format!("cannot encode: {error}")))
}

fn terminal(row: &Row<'_>, column: usize) -> Result<Option<Terminal>, Trouble> {
    let text = row.get_ref(column)?.as_str_or_null().map_err(|_| damaged())?;
    Ok(text.map(|text| serde_json::from_str(text).map_err(|_| damaged())).transpose()?)
}

/// Says nothing of what is there: it may be an answer.
fn damaged() -> Refused {
    Refused::Failed("a wait is damaged: what is recorded of its end is unreadable; restore a backup".to_owned())
}
