//! Scopes: opened, read again, ended, and removed when they are old.

use dalsegno_durable::store::{Claim, Lease, ScopeRow, StoreError as Refused};
use dalsegno_durable::wait::Terminal;
use dalsegno_durable::{ExecutionScope, Timestamp};
use rusqlite::OptionalExtension;
use sha2::{Digest, Sha256};

use super::records;
use super::request::{OpenScope, Portion, PruneBefore, RawScope, SagasAfter, Trouble, fingerprint};
use super::writing::Durable;

/// Effects, and waits, that are removed at most in one portion.
const PORTION: i64 = 1_024;
/// Scopes that are removed at most in one portion.
const PORTION_SCOPES: u32 = 64;

/// What keys of sagas begin with, and what is behind the last of them.
pub(super) const SAGAS: &str = "[\"saga\",";
const SAGAS_END: &str = "[\"saga\"-";

/// What stays of a scope's key for ever.
fn digest(key: &str) -> [u8; 16] {
    let whole: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

impl Durable<'_> {
    pub(super) fn open(&mut self, asked: &OpenScope) -> Result<RawScope, Trouble> {
        let OpenScope { key, session, claim } = asked;
        let mut query =
            self.db.prepare_cached("SELECT id, epoch, owner, ended_at IS NOT NULL FROM scopes WHERE key = ?1")?;
        let found = query
            .query_row([key], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?, row.get(3)?)))
            .optional()?;
        let Some((scope, epoch, owner, ended)) = found else { return self.make(key, session.as_deref()) };
        let mut lease = Lease { row: ScopeRow(scope), epoch: epoch.unsigned_abs() };
        if ended {
            let head = self.head(scope)?;
            return Ok(RawScope { lease, ended, records: records::chain(self.db, scope, head)? });
        }
        if *claim == Claim::IfFree && owner != self.owner.id() && self.owner.is_alive(&owner) {
            return Err(Refused::Owned.into());
        }
        let head = self.head(scope)?;
        // Read first: damage refuses, and then nothing may have changed.
        let records = records::chain(self.db, scope, head)?;
        lease.epoch += 1;
        let mut take = self.db.prepare_cached("UPDATE scopes SET epoch = ?2, owner = ?3 WHERE id = ?1")?;
        take.execute((scope, lease.epoch.cast_signed(), self.owner.id()))?;
        self.remember(lease, ended, head, records.iter().map(|record| fingerprint(&record.replay_key)));
        Ok(RawScope { lease, ended, records })
    }

    pub(super) fn make(&mut self, key: &str, session: Option<&str>) -> Result<RawScope, Trouble> {
        if self.is_gone(key)? {
            return Err(Refused::ScopeEnded.into());
        }
        let sql = "INSERT INTO scopes (key, session, epoch, owner, head) VALUES (?1, ?2, 1, ?3, 0)";
        self.db.prepare_cached(sql)?.execute((key, session, self.owner.id()))?;
        let lease = Lease { row: ScopeRow(self.db.last_insert_rowid()), epoch: 1 };
        self.remember(lease, false, 0, std::iter::empty());
        Ok(RawScope { lease, ended: false, records: Vec::new() })
    }

    pub(super) fn look(&mut self, key: &str) -> Result<Option<RawScope>, Trouble> {
        let mut query = self.db.prepare_cached("SELECT id, epoch, ended_at IS NOT NULL FROM scopes WHERE key = ?1")?;
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?));
        let Some((scope, epoch, ended)) = query.query_row([key], read).optional()? else {
            return if self.is_gone(key)? { Err(Refused::ScopeEnded.into()) } else { Ok(None) };
        };
        let lease = Lease { row: ScopeRow(scope), epoch: epoch.unsigned_abs() };
        let head = self.head(scope)?;
        Ok(Some(RawScope { lease, ended, records: records::chain(self.db, scope, head)? }))
    }

    /// Ids of open sagas: their keys are together in the index, between these two.
    pub(super) fn open_sagas(&mut self, asked: &SagasAfter) -> Result<Vec<String>, Trouble> {
        let sql = "SELECT key FROM scopes WHERE key > ?1 AND key < ?2 AND ended_at IS NULL ORDER BY key LIMIT ?3";
        let mut query = self.db.prepare_cached(sql)?;
        let keys = query.query_map((&asked.key, SAGAS_END, asked.limit), |row| row.get::<_, String>(0))?;
        let mut ids = Vec::new();
        for key in keys {
            if let Some(ExecutionScope::Saga { id }) = ExecutionScope::from_key(&key?) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Whether only a tombstone is left of it.
    fn is_gone(&self, key: &str) -> rusqlite::Result<bool> {
        let mut query = self.db.prepare_cached("SELECT EXISTS (SELECT 1 FROM tombstones WHERE digest = ?1)")?;
        query.query_row([&digest(key)[..]], |row| row.get(0))
    }

    pub(super) fn load(&mut self, lease: Lease) -> Result<RawScope, Trouble> {
        let known = self.leased(lease)?;
        let (head, ended) = (known.head, known.ended);
        Ok(RawScope { lease, ended, records: records::chain(self.db, lease.row.0, head)? })
    }

    pub(super) fn end(&mut self, lease: Lease, now: Timestamp) -> Result<(), Trouble> {
        let known = self.leased(lease)?;
        if known.ended {
            return Ok(());
        }
        let (scope, head) = (lease.row.0, known.head);
        self.close_waits(scope, &Terminal::ScopeEnded, now)?;
        let mut end = self.db.prepare_cached("UPDATE scopes SET ended_at = ?2, head = ?3 WHERE id = ?1")?;
        end.execute((scope, now.0, head))?;
        // Whoever asks for it again is told what the table says.
        self.forget(scope);
        Ok(())
    }

    /// Removes one portion of what is old: scopes at once, their rows as far as a transaction should carry.
    pub(super) fn prune(&mut self, asked: &PruneBefore) -> Result<Portion, Trouble> {
        let most = asked.scopes.min(PORTION_SCOPES);
        let mut query = self
            .db
            .prepare_cached("SELECT id, key, head FROM scopes WHERE ended_at < ?1 ORDER BY ended_at, id LIMIT ?2")?;
        let read =
            |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?));
        let old: Vec<_> = query.query_map((asked.ended_before.0, most), read)?.collect::<rusqlite::Result<_>>()?;
        for (scope, key, head) in &old {
            self.forget(*scope);
            self.db
                .prepare_cached("INSERT OR IGNORE INTO tombstones (digest) VALUES (?1)")?
                .execute([&digest(key)[..]])?;
            self.db.prepare_cached("INSERT INTO pruned (scope, head) VALUES (?1, ?2)")?.execute((scope, head))?;
            self.db.prepare_cached("DELETE FROM scopes WHERE id = ?1")?.execute([scope])?;
        }
        let scopes = u32::try_from(old.len()).unwrap_or(u32::MAX);
        let rows_left = self.sweep()?;
        Ok(Portion { scopes, more: rows_left || (scopes > 0 && scopes == most) })
    }

    /// Removes rows of scopes that are gone; answers whether there are more.
    fn sweep(&mut self) -> Result<bool, Trouble> {
        let mut left = PORTION;
        while left > 0 {
            let mut query = self.db.prepare_cached("SELECT scope, head FROM pruned ORDER BY scope LIMIT 1")?;
            let next = query.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()?;
            let Some((scope, head)) = next else { return Ok(false) };
            let mut waits = self.db.prepare_cached(
                "DELETE FROM waits WHERE scope = ?1 AND identity IN (SELECT identity FROM waits WHERE scope = ?1 LIMIT ?2)",
            )?;
            left -= i64::try_from(waits.execute((scope, left))?).unwrap_or(PORTION);
            let mut at = head;
            while left > 0 && at > 0 {
                let mut effect =
                    self.db.prepare_cached("DELETE FROM effects WHERE place = ?1 AND scope = ?2 RETURNING previous")?;
                // A chain that is damaged ends there: the rest of it is found by nobody.
                let previous = effect.query_row((at, scope), |row| row.get::<_, i64>(0)).optional()?.unwrap_or(0);
                self.db.prepare_cached("DELETE FROM outcomes WHERE place = ?1")?.execute([at])?;
                at = if previous < at { previous } else { 0 };
                left -= 1;
            }
            if at > 0 || left <= 0 {
                self.db.prepare_cached("UPDATE pruned SET head = ?2 WHERE scope = ?1")?.execute((scope, at))?;
            } else {
                self.db.prepare_cached("DELETE FROM pruned WHERE scope = ?1")?.execute([scope])?;
            }
        }
        Ok(true)
    }
}
