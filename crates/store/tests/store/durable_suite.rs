//! The conformance suite of durable hosts, on SQLite.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use dalsegno_durable::DurableStore;
use dalsegno_store::SqliteDurable;
use dalsegno_testkit::conformance::durable::{StoreFixture, Stores};

/// A database of its own in a folder of its own.
struct Database {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Database {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { path: dir.path().join("effects.db"), _dir: dir }
    }
}

#[async_trait]
impl Stores for Database {
    async fn open(&self) -> Arc<dyn DurableStore> {
        Arc::new(SqliteDurable::open(&self.path).unwrap())
    }
}

dalsegno_testkit::durable_conformance!(StoreFixture::new(Database::new()).await);

mod sagas {
    use super::Database;

    dalsegno_testkit::saga_conformance!(Database::new());
}
