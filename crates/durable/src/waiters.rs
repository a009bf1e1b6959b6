//! Whoever is parked on a wait in this process, and how they are woken.
//!
//! Whoever parks is in the list before the store is read, so that no end falls in between. One task for all of them follows
//! the store's list of ends; a parked wait costs its place in the list, and no polling.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::store::{DurableStore, StoreError};
use crate::wait::{Terminal, WaitAddress};

/// First pause after the store could not be read, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Parked {
    next: u64,
    /// Mostly one for each wait, and there may be very many.
    waits: BTreeMap<Arc<WaitAddress>, Vec<(u64, oneshot::Sender<Terminal>)>>,
}

/// The list.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    parked: Mutex<Parked>,
    /// The task that follows the store's ends. It ends with the runtime in which somebody first waited, and this may outlive that.
    following: tokio::sync::Mutex<Option<AbortOnDropHandle<()>>>,
    /// The end that was heard of last.
    cursor: AtomicU64,
}

/// A place in the list; given up when dropped.
pub(crate) struct Place<'w> {
    waiters: &'w Waiters,
    address: Arc<WaitAddress>,
    number: u64,
    woken: oneshot::Receiver<Terminal>,
}

impl Waiters {
    /// Takes a place in the list. To be called before the store is read.
    pub(crate) fn park(&self, address: &Arc<WaitAddress>) -> Place<'_> {
        let (wake, woken) = oneshot::channel();
        let mut parked = self.lock();
        let number = parked.next;
        parked.next += 1;
        let places = parked.waits.entry(Arc::clone(address)).or_insert_with(|| Vec::with_capacity(1));
        places.push((number, wake));
        drop(parked);
        Place { waiters: self, address: Arc::clone(address), number, woken }
    }

    /// Wakes everybody who is parked on this wait.
    pub(crate) fn wake(&self, address: &WaitAddress, terminal: &Terminal) {
        let woken = self.lock().waits.remove(address).unwrap_or_default();
        for (_, wake) in woken {
            // Whoever left has nothing to be told.
            let _ = wake.send(terminal.clone());
        }
    }

    /// Whether the store's ends are followed. Somebody who is just beginning is not seen as doing so.
    pub(crate) fn is_following(&self) -> bool {
        let following = self.following.try_lock();
        following.is_ok_and(|following| following.as_ref().is_some_and(|following| !following.is_finished()))
    }

    /// Begins to follow the store's ends, unless somebody does. Whoever follows after another one begins where that one was.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        store: &Arc<dyn DurableStore>,
        clock: &Arc<dyn Clock>,
    ) -> Result<(), StoreError> {
        let mut following = self.following.lock().await;
        if following.as_ref().is_some_and(|following| !following.is_finished()) {
            return Ok(());
        }
        let mut changes = store.wait_changes();
        changes.mark_unchanged();
        if following.is_none() {
            self.cursor.store(store.wait_cursor().await?, Ordering::Relaxed);
        }
        let cursor = self.cursor.load(Ordering::Relaxed);
        let follow = follow(Arc::downgrade(self), Arc::clone(store), Arc::clone(clock), changes, cursor);
        *following = Some(AbortOnDropHandle::new(tokio::spawn(follow)));
        Ok(())
    }

    fn addresses(&self) -> Vec<Arc<WaitAddress>> {
        self.lock().waits.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// The end, when it comes.
    pub(crate) async fn woken(&mut self) -> Terminal {
        match (&mut self.woken).await {
            Ok(terminal) => terminal,
            // The list lives as long as this borrow of it, and drops no sender without a word.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut parked = self.waiters.lock();
        if let Some(places) = parked.waits.get_mut(&self.address) {
            places.retain(|(number, _)| *number != self.number);
            if places.is_empty() {
                parked.waits.remove(&self.address);
            }
        }
    }
}

async fn follow(
    waiters: Weak<Waiters>,
    store: Arc<dyn DurableStore>,
    clock: Arc<dyn Clock>,
    mut changes: tokio::sync::watch::Receiver<u64>,
    mut cursor: u64,
) {
    let mut pause = PAUSE;
    loop {
        match catch_up(&waiters, &*store, &*clock, cursor).await {
            Ok(next) if next > cursor => {
                cursor = next;
                pause = PAUSE;
            }
            Ok(_) => {
                if changes.changed().await.is_err() {
                    // The store is gone: nothing can end any more.
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "ends of waits cannot be read; whoever is parked waits on");
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Wakes whoever a page of ends concerns; answers the cursor behind it.
async fn catch_up(
    waiters: &Weak<Waiters>,
    store: &dyn DurableStore,
    clock: &dyn Clock,
    cursor: u64,
) -> Result<u64, StoreError> {
    let page = store.waits_ended_after(cursor).await?;
    let Some(waiters) = waiters.upgrade() else { return Ok(cursor) };
    if page.gap {
        for address in waiters.addresses() {
            match store.peek(&address, clock.now()).await {
                Ok(Some(terminal)) => waiters.wake(&address, &terminal),
                Ok(None) => {}
                Err(StoreError::UnknownWait) => waiters.wake(&address, &Terminal::Revoked),
                Err(error) => return Err(error),
            }
        }
    }
    for change in page.changes {
        waiters.wake(&change.address, &change.terminal);
    }
    waiters.cursor.store(page.next, Ordering::Relaxed);
    Ok(page.next)
}
