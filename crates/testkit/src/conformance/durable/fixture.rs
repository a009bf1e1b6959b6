//! What the cases are run on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dalsegno_durable::{DurableStore, EffectHost, HostOptions, MemoryStore, StoredHost};
use tokio_util::sync::CancellationToken;

use crate::durable::{Faults, FaultyStore, ManualClock};

/// How long ended scopes are kept by the hosts of a [`StoreFixture`].
const RETENTION: Duration = Duration::from_secs(3_600);
/// How long a store that nobody holds may take to be gone.
const GONE: Duration = Duration::from_secs(20);

/// A durable host whose instances, clock and faults the cases control. On an empty database at first.
#[async_trait]
pub trait HostFixture: Send + Sync {
    /// The host under test; the same instance until [`HostFixture::reopen`].
    fn host(&self) -> Arc<dyn EffectHost>;
    /// Another instance on the same database, as in another process that is alive beside the first.
    async fn another(&self) -> Arc<dyn EffectHost>;
    /// Drops every instance and opens the database again, as a new process does. Cases hold no instance when they call it.
    async fn reopen(&self);
    /// The clock of all instances.
    fn clock(&self) -> Arc<ManualClock>;
    /// How long the hosts keep what has ended.
    fn retention(&self) -> Duration;
    /// Whether what is recorded is to outlive the process.
    fn durable(&self) -> bool;
    /// Faults of the store below; `None` for a host that has no such place. Cases that need them say so and pass.
    fn faults(&self) -> Option<Arc<Faults>> {
        None
    }
    /// Waits that are parked at once.
    fn parked_waits(&self) -> usize {
        100_000
    }
}

/// How a database's stores are opened.
#[async_trait]
pub trait Stores: Send + Sync {
    /// One more owner of the database, as in a process of its own.
    async fn open(&self) -> Arc<dyn DurableStore>;
}

#[async_trait]
impl Stores for MemoryStore {
    async fn open(&self) -> Arc<dyn DurableStore> {
        Arc::new(self.another())
    }
}

/// Hosts over stores.
pub struct StoreFixture<S> {
    stores: S,
    clock: Arc<ManualClock>,
    faults: Arc<Faults>,
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    host: Option<Arc<StoredHost>>,
    /// For every store that was opened: fires when it is gone.
    stores: Vec<CancellationToken>,
}

impl<S: Stores> StoreFixture<S> {
    /// On the database that `stores` opens.
    pub async fn new(stores: S) -> Self {
        let fixture = Self { stores, clock: ManualClock::new(), faults: Arc::default(), opened: Mutex::default() };
        let host = fixture.open().await;
        fixture.opened().host = Some(host);
        fixture
    }

    async fn open(&self) -> Arc<StoredHost> {
        let store = Arc::new(FaultyStore::new(self.stores.open().await, Arc::clone(&self.faults)));
        self.opened().stores.push(store.gone());
        let clock: Arc<ManualClock> = Arc::clone(&self.clock);
        Arc::new(StoredHost::with(store, HostOptions { retention: RETENTION, clock }))
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<S: Stores> HostFixture for StoreFixture<S> {
    fn host(&self) -> Arc<dyn EffectHost> {
        let host = self.opened().host.clone();
        host.unwrap()
    }

    async fn another(&self) -> Arc<dyn EffectHost> {
        self.open().await
    }

    async fn reopen(&self) {
        let stores = {
            let mut opened = self.opened();
            opened.host = None;
            std::mem::take(&mut opened.stores)
        };
        for store in stores {
            // Tasks that held the store end when the runtime comes to them.
            let gone = tokio::time::timeout(GONE, store.cancelled()).await;
            assert!(gone.is_ok(), "a dropped host keeps its store, or the case a host");
        }
        let host = self.open().await;
        self.opened().host = Some(host);
    }

    fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.clock)
    }

    fn retention(&self) -> Duration {
        RETENTION
    }

    fn durable(&self) -> bool {
        self.host().supports_durable_effects()
    }

    fn faults(&self) -> Option<Arc<Faults>> {
        Some(Arc::clone(&self.faults))
    }
}
