//! What the writer does for effects and waits, inside the transactions that it makes for everybody.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use dalsegno_durable::store::{Lease, Place, ScopeRow, StoreError as Refused};
use rusqlite::{Connection, OptionalExtension, Statement};
use tokio::sync::watch;

use super::entries::Places;
use super::owners::Owner;
use super::records;
use super::request::{Request, Row, ScopeKey, Trouble, fingerprint};

/// Heads of chains are written when so many places are behind those that are right.
const HEADS_EVERY: i64 = 4_096;
/// Scopes, and replay keys of theirs, that are remembered at most; a forgotten one is read again.
const REMEMBERED_SCOPES: usize = 200_000;
const REMEMBERED_KEYS: usize = 4_000_000;

/// Fingerprints, which are spread already.
type Numbers = HashSet<u64, BuildHasherDefault<Spread>>;

/// Spreads numbers that nobody chooses to do harm: rows count up, and fingerprints are hashes.
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number.cast_unsigned());
    }
}

/// What is known of a scope that was opened.
pub(super) struct Known {
    pub(super) epoch: u64,
    pub(super) ended: bool,
    /// The newest of its effects; 0: none.
    pub(super) head: i64,
    /// Fingerprints of its replay keys.
    keys: Numbers,
    /// Which view of the database this is from.
    seen: u64,
}

impl Known {
    /// Whether an effect may be recorded under the replay key of this fingerprint.
    pub(super) fn has(&self, fingerprint: u64) -> bool {
        self.keys.contains(&fingerprint)
    }
}

/// The writer's side of effects and waits.
pub(crate) struct Durable<'db> {
    pub(super) db: &'db Connection,
    version: Statement<'db>,
    intent: Statement<'db>,
    outcome: Statement<'db>,
    pub(super) owner: Owner,
    pub(super) known: HashMap<i64, Known, BuildHasherDefault<Spread>>,
    keys: usize,
    /// Scopes with a head that is not written.
    unwritten: HashSet<i64>,
    data_version: i64,
    /// Counts the times that somebody else wrote.
    view: u64,
    next_place: i64,
    heads_through: i64,
    /// Everything behind `heads_through` is from here.
    own_tail: bool,
    pub(super) last_end: u64,
    /// Of effects that the journal has open.
    pub(super) places: Places,
    ends: watch::Sender<u64>,
}

impl<'db> Durable<'db> {
    pub(crate) fn prepare(db: &'db Connection, owner: Owner, ends: watch::Sender<u64>) -> rusqlite::Result<Self> {
        Ok(Self {
            db,
            version: db.prepare("PRAGMA data_version")?,
            intent: db.prepare(
                "INSERT INTO effects (place, previous, scope, replay_key, kind, hash, content, provenance, epoch, began_at, due_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?,
            outcome: db.prepare(
                "INSERT INTO outcomes (place, progress, state) SELECT ?1, ?2, ?3 FROM effects WHERE place = ?1 AND scope = ?4
                 ON CONFLICT (place) DO UPDATE SET progress = excluded.progress, state = excluded.state",
            )?,
            owner,
            known: HashMap::default(),
            keys: 0,
            unwritten: HashSet::new(),
            data_version: -1,
            view: 0,
            next_place: 1,
            heads_through: 0,
            own_tail: false,
            last_end: 0,
            places: Places::default(),
            ends,
        })
    }

    /// To be called when a transaction has begun: looks whether somebody else wrote since the last one.
    pub(crate) fn begin(&mut self) -> rusqlite::Result<()> {
        let version = self.version.query_row([], |row| row.get(0))?;
        if version == self.data_version {
            return Ok(());
        }
        let sql =
            "SELECT (SELECT coalesce(max(place), 0) FROM effects), (SELECT coalesce(max(number), 0) FROM wait_ends),
                   (SELECT value FROM meta WHERE key = 'heads_through')";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (last_place, last_end, heads_through) = self.db.prepare_cached(sql)?.query_row([], read)?;
        self.data_version = version;
        self.view += 1;
        self.heads_through = heads_through;
        // Never back: the newest effects may have been pruned.
        self.next_place = self.next_place.max(last_place + 1).max(heads_through + 1);
        self.own_tail = false;
        self.last_end = last_end.unsigned_abs();
        Ok(())
    }

    /// Does what is asked, and keeps the answer until it is on disk.
    pub(crate) fn answer(&mut self, request: &mut Request) -> rusqlite::Result<()> {
        match request {
            Request::Write(ask) => ask.hold(|(lease, row)| self.write(*lease, row)),
            Request::Open(ask) => ask.hold(|scope| self.open(scope)),
            Request::Load(ask) => ask.hold(|lease| self.load(*lease)),
            Request::Look(ask) => ask.hold(|ScopeKey(key)| self.look(key)),
            Request::OpenSagas(ask) => ask.hold(|asked| self.open_sagas(asked)),
            Request::End(ask) => ask.hold(|(lease, now)| self.end(*lease, *now)),
            Request::Register(ask) => ask.hold(|(name, deadline, now)| self.register(name, *deadline, *now)),
            Request::Resolve(ask) => ask.hold(|(name, resolution, now)| self.resolve(name, resolution, *now)),
            Request::Peek(ask) => ask.hold(|(name, now)| self.peek(name, *now)),
            Request::Cancel(ask) => ask.hold(|(session, now)| self.cancel(session, *now)),
            Request::Revoke(ask) => ask.hold(|(session, remove)| self.revoke(session, *remove)),
            Request::Prune(ask) => ask.hold(|before| self.prune(before)),
            Request::Ends(ask) => ask.hold(|after| self.ends_after(after)),
            Request::LastEnd(ask) => ask.hold(|()| Ok(self.last_end)),
        }
    }

    /// To be called before a transaction is committed.
    pub(crate) fn finish(&mut self) -> rusqlite::Result<()> {
        if self.next_place - 1 - self.heads_through >= HEADS_EVERY {
            self.write_heads()?;
        }
        if self.known.len() > REMEMBERED_SCOPES || self.keys > REMEMBERED_KEYS {
            self.write_heads()?;
            self.known.clear();
            self.keys = 0;
        }
        Ok(())
    }

    /// To be called when it was.
    pub(crate) fn committed(&self) {
        let last = self.last_end;
        self.ends.send_if_modified(|told| {
            let news = last > *told;
            *told = last.max(*told);
            news
        });
    }

    /// The scope of a lease, if the lease is in force.
    pub(super) fn leased(&mut self, lease: Lease) -> Result<&mut Known, Trouble> {
        let scope = lease.row.0;
        let is_seen = self.known.get(&scope).is_some_and(|known| known.seen == self.view);
        if !is_seen {
            self.see(lease)?;
        }
        let known = self.known.get_mut(&scope).ok_or(Refused::ScopeEnded)?;
        if known.epoch != lease.epoch {
            return Err(Refused::LeaseLost { current: known.epoch }.into());
        }
        Ok(known)
    }

    /// Reads again what is known of a scope.
    fn see(&mut self, lease: Lease) -> Result<(), Trouble> {
        let scope = lease.row.0;
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?));
        let mut query = self.db.prepare_cached("SELECT epoch, ended_at IS NOT NULL FROM scopes WHERE id = ?1")?;
        let Some((epoch, ended)) = query.query_row([scope], read).optional()? else {
            self.forget(scope);
            return Err(Refused::ScopeEnded.into());
        };
        if epoch != lease.epoch {
            self.forget(scope);
            return Err(Refused::LeaseLost { current: epoch }.into());
        }
        match self.known.get_mut(&scope) {
            // Nobody else can have added to a scope that is still under our epoch.
            Some(known) if known.epoch == epoch => (known.ended, known.seen) = (ended, self.view),
            Some(_) | None => {
                self.forget(scope);
                let head = self.head(scope)?;
                let records = records::chain(self.db, scope, head)?;
                self.remember(lease, ended, head, records.iter().map(|record| fingerprint(&record.replay_key)));
            }
        }
        Ok(())
    }

    pub(super) fn remember(&mut self, lease: Lease, ended: bool, head: i64, keys: impl Iterator<Item = u64>) {
        let keys: Numbers = keys.collect();
        self.forget(lease.row.0);
        self.keys += keys.len();
        self.known.insert(lease.row.0, Known { epoch: lease.epoch, ended, head, keys, seen: self.view });
    }

    pub(super) fn forget(&mut self, scope: i64) {
        if let Some(known) = self.known.remove(&scope) {
            self.keys = self.keys.saturating_sub(known.keys.len());
        }
    }

    /// The newest effect of a scope.
    pub(super) fn head(&mut self, scope: i64) -> Result<i64, Trouble> {
        if let Some(known) = self.known.get(&scope).filter(|known| known.seen == self.view) {
            return Ok(known.head);
        }
        if !self.own_tail {
            self.write_heads()?;
        }
        Ok(self.db.prepare_cached("SELECT head FROM scopes WHERE id = ?1")?.query_row([scope], |row| row.get(0))?)
    }

    /// Makes the heads of all chains right in the table: from memory when all new effects are from here, else by a look
    /// at the effects behind those that were looked at.
    fn write_heads(&mut self) -> rusqlite::Result<()> {
        if self.own_tail {
            let mut write = self.db.prepare_cached("UPDATE scopes SET head = ?2 WHERE id = ?1")?;
            for scope in self.unwritten.drain() {
                if let Some(known) = self.known.get(&scope) {
                    write.execute((scope, known.head))?;
                }
            }
        } else {
            self.unwritten.clear();
            let sql = "UPDATE scopes SET head = tail.last
                FROM (SELECT scope, max(place) AS last FROM effects WHERE place > ?1 GROUP BY scope) AS tail
                WHERE scopes.id = tail.scope AND scopes.head < tail.last";
            self.db.prepare_cached(sql)?.execute([self.heads_through])?;
        }
        let through = self.next_place - 1;
        if through > self.heads_through {
            let sql = "UPDATE meta SET value = ?1 WHERE key = 'heads_through'";
            self.db.prepare_cached(sql)?.execute([through])?;
            self.heads_through = through;
        }
        self.own_tail = true;
        Ok(())
    }

    pub(super) fn write(&mut self, lease: Lease, row: &Row) -> Result<Place, Trouble> {
        let known = self.leased(lease)?;
        if known.ended {
            return Err(Refused::ScopeEnded.into());
        }
        let ScopeRow(scope) = lease.row;
        match row {
            Row::Intent { record, fingerprint, state } => {
                let previous = known.head;
                if known.has(*fingerprint)
                    && records::chain(self.db, scope, previous)?
                        .iter()
                        .any(|other| other.replay_key == record.replay_key)
                {
                    return Err(Refused::Failed("an effect is recorded under its replay key already".to_owned()).into());
                }
                let place = self.next_place;
                let (epoch, began_at) = (record.state.epoch.cast_signed(), record.state.began_at.0);
                self.intent.execute((
                    place,
                    previous,
                    scope,
                    &record.replay_key,
                    record.kind.as_str(),
                    &record.hash.0[..],
                    record.content.as_deref(),
                    record.provenance.as_deref(),
                    epoch,
                    began_at,
                    record.state.due_at.map(|at| at.0),
                ))?;
                if let Some((progress, text)) = state {
                    self.outcome.execute((place, progress, text, scope))?;
                }
                self.next_place += 1;
                if let Some(known) = self.known.get_mut(&scope) {
                    known.head = place;
                    self.keys += usize::from(known.keys.insert(*fingerprint));
                }
                self.unwritten.insert(scope);
                Ok(Place(place))
            }
            Row::Change { place, progress, state } => {
                if self.outcome.execute((place.0, progress, state, scope))? == 0 {
                    return Err(Refused::Failed("the record is gone".to_owned()).into());
                }
                Ok(*place)
            }
        }
    }
}
