//! What steno records, in SQLite. Steno has no durable store of its own, so this one is as quick as we could make it and still durable: one
//! thread writes, takes everything that is queued into one transaction, and answers when its commit is synced. JSON is written by whoever asks.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use rusqlite::Connection;
use steno::{SagaCachedState, SagaCreateParams, SagaId, SagaNodeEvent, SecStore};
use tokio::sync::oneshot;

use crate::Failed;

/// Most requests in one transaction.
const GROUP: usize = 1_024;

/// The store. Its thread ends with it.
#[derive(Debug)]
pub struct Store {
    queue: Sender<Asked>,
}

#[derive(Debug)]
struct Asked {
    what: Record,
    synced: oneshot::Sender<()>,
}

#[derive(Debug)]
enum Record {
    Saga { id: String, dag: String },
    Event { saga: String, node: u32, event: String },
    State { id: String, state: SagaCachedState },
}

impl Store {
    pub fn open(path: &Path) -> Result<Self, Failed> {
        let db = Connection::open(path)?;
        // As Dalsegno has its own.
        db.pragma_update(None, "page_size", 8_192)?;
        let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(format!("the database is in mode {mode}").into());
        }
        db.pragma_update(None, "synchronous", "FULL")?;
        db.execute_batch(
            "CREATE TABLE sagas (id TEXT PRIMARY KEY, dag TEXT NOT NULL, state TEXT NOT NULL) WITHOUT ROWID;
             CREATE TABLE events (place INTEGER PRIMARY KEY, saga TEXT NOT NULL, node INTEGER NOT NULL, event TEXT NOT NULL);",
        )?;
        let (queue, asked) = channel();
        std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            if let Err(error) = write(&db, &asked) {
                // Steno has no way to be told that an event is not recorded.
                eprintln!("the store failed: {error}");
                std::process::exit(1);
            }
        })?;
        Ok(Self { queue })
    }

    async fn record(&self, what: Record) {
        let (synced, heard) = oneshot::channel();
        self.queue.send(Asked { what, synced }).expect("the writer lives as long as the store");
        heard.await.expect("the writer answers everything");
    }
}

fn write(db: &Connection, asked: &Receiver<Asked>) -> rusqlite::Result<()> {
    while let Ok(first) = asked.recv() {
        let mut group = vec![first];
        group.extend(asked.try_iter().take(GROUP - 1));
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for Asked { what, .. } in &group {
            match what {
                Record::Saga { id, dag } => {
                    db.prepare_cached("INSERT INTO sagas VALUES (?1, ?2, 'running')")?.execute((id, dag))?
                }
                Record::Event { saga, node, event } => db
                    .prepare_cached("INSERT INTO events (saga, node, event) VALUES (?1, ?2, ?3)")?
                    .execute((saga, node, event))?,
                Record::State { id, state } => {
                    db.prepare_cached("UPDATE sagas SET state = ?2 WHERE id = ?1")?.execute((id, state.to_string()))?
                }
            };
        }
        db.prepare_cached("COMMIT")?.execute([])?;
        for Asked { synced, .. } in group {
            // Whoever asked may have gone.
            let _ = synced.send(());
        }
    }
    Ok(())
}

#[async_trait::async_trait]
impl SecStore for Store {
    async fn saga_create(&self, saga: SagaCreateParams) -> Result<(), anyhow::Error> {
        self.record(Record::Saga { id: saga.id.to_string(), dag: saga.dag.to_string() }).await;
        Ok(())
    }

    async fn record_event(&self, event: SagaNodeEvent) {
        let text = serde_json::to_string(&event.event_type).expect("it was made of JSON");
        self.record(Record::Event { saga: event.saga_id.to_string(), node: event.node_id.into(), event: text }).await;
    }

    async fn saga_update(&self, id: SagaId, state: SagaCachedState) {
        self.record(Record::State { id: id.to_string(), state }).await;
    }
}
