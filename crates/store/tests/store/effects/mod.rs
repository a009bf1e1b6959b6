//! Effects and waits on SQLite: what only a database can do wrong. What every store must do is in the conformance suite.

mod crash;
mod damage;
mod entries;
mod fence;
mod kept;
mod mixed;
mod prune;
mod shared;
// Only debug builds have crash points.
#[cfg(debug_assertions)]
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dalsegno_durable::store::{Lease, Place, StoreError, Write};
use dalsegno_durable::wait::WaitAddress;
use dalsegno_durable::{
    Claim, Command, DurableStore, EffectError, EffectRecord, EffectState, Envelope, ExecutionScope, Invocation,
    Outcome, Resolution, Scope, StoredHost, Timestamp,
};
use dalsegno_store::SqliteDurable;
use serde_json::json;

pub(crate) fn database(dir: &Path) -> PathBuf {
    dir.join("effects.db")
}

pub(crate) fn store(dir: &Path) -> SqliteDurable {
    SqliteDurable::open(&database(dir)).unwrap()
}

pub(crate) fn host(store: &Arc<SqliteDurable>) -> StoredHost {
    StoredHost::new(Arc::clone(store) as Arc<dyn DurableStore>)
}

/// Another connection, for what only a test does to the database.
pub(crate) fn raw(dir: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(database(dir)).unwrap()
}

pub(crate) fn count(dir: &Path, table: &str) -> u64 {
    raw(dir).query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
}

pub(crate) fn scope(name: &str) -> ExecutionScope {
    ExecutionScope::turn("session-1", name)
}

pub(crate) fn address(name: &str, identity: &str) -> WaitAddress {
    WaitAddress { scope: scope(name), identity: identity.to_owned() }
}

pub(crate) fn answer(payload: i64) -> Resolution {
    Resolution::Answered { payload: json!(payload) }
}

/// The intent of a step, as the runner records it.
pub(crate) fn intent(scope: &ExecutionScope, replay_key: &str, epoch: u64) -> EffectRecord {
    let command = Command::DurableStep { name: replay_key.to_owned(), input: json!({"of": replay_key}) };
    let invocation = Invocation {
        scope: scope.clone(),
        effect_id: replay_key.to_owned(),
        kind: command.kind(),
        replay_key: replay_key.to_owned(),
        caused_by: None,
        runtime: None,
    };
    EffectRecord::intended(&Envelope::new(invocation, command).unwrap(), epoch, Timestamp(1_000), None)
}

/// The state of an effect that took place.
pub(crate) fn done(record: &EffectRecord, output: i64) -> EffectState {
    let mut state = record.state.clone();
    state.end(state.epoch, Timestamp(2_000), Outcome::Done(json!(output)), None);
    state
}

pub(crate) async fn intend(store: &SqliteDurable, lease: Lease, record: &EffectRecord) -> Result<Place, StoreError> {
    store.write(lease, Write::Intend(record.clone())).await
}

pub(crate) async fn step(scope: &Scope<'_>, name: &str, output: u64) -> u64 {
    scope.step(name, &name, || async move { Ok::<u64, EffectError>(output) }).await.unwrap()
}

/// A scope with so many effects, ended; answers its lease.
pub(crate) async fn ended_scope(store: &SqliteDurable, name: &str, effects: u32, at: i64) -> Lease {
    let scope = scope(name);
    let lease = store.open(&scope, Claim::IfFree).await.unwrap().lease;
    for number in 0..effects {
        let record = intent(&scope, &format!("effect-{number}"), lease.epoch);
        let place = intend(store, lease, &record).await.unwrap();
        store.write(lease, Write::Change(place, done(&record, number.into()))).await.unwrap();
    }
    store.end(lease, Timestamp(at)).await.unwrap();
    lease
}
