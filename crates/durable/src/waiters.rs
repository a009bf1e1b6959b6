//! Whoever is parked on a wait in this process, and how they are woken.
//!
//! Whoever parks is in the list before the store is read, so that no end falls in between. One task for all of them follows
//! the store's list of ends; a parked wait costs its place in the list, and no polling. There may be very many of them, so the list knows
//! addresses by their digests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::store::{DurableStore, StoreError};
use crate::wait::{Terminal, WaitAddress};

/// First pause after the store could not be read, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Parked {
    next: u64,
    /// By wait, and by number: mostly there is one for each wait.
    waits: BTreeMap<(Digest, u64), oneshot::Sender<Woken>>,
}

/// What somebody who is parked is told.
#[derive(Debug)]
pub(crate) enum Woken {
    /// How the wait ended.
    Ended(Terminal),
    /// It may have ended; look.
    Look,
}

/// Stands for an address. Half of SHA-256: nobody finds two addresses with one.
type Digest = [u8; 16];

fn digest(address: &WaitAddress) -> Digest {
    let WaitAddress { scope, identity } = address;
    let scope = scope.key();
    // The length keeps the two apart.
    let parts = Sha256::new().chain_update(scope.len().to_be_bytes()).chain_update(scope).chain_update(identity);
    let whole: [u8; 32] = parts.finalize().into();
    let mut half = Digest::default();
    half.copy_from_slice(&whole[..16]);
    half
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
    address: Digest,
    number: u64,
    woken: oneshot::Receiver<Woken>,
}

impl Waiters {
    /// Takes a place in the list. To be called before the store is read.
    pub(crate) fn park(&self, address: &WaitAddress) -> Place<'_> {
        let address = digest(address);
        let (wake, woken) = oneshot::channel();
        let mut parked = self.lock();
        let number = parked.next;
        parked.next += 1;
        parked.waits.insert((address, number), wake);
        drop(parked);
        Place { waiters: self, address, number, woken }
    }

    /// Wakes everybody who is parked on this wait.
    pub(crate) fn wake(&self, address: &WaitAddress, terminal: &Terminal) {
        let address = digest(address);
        let mut parked = self.lock();
        while let Some((&place, _)) = parked.waits.range((address, 0)..=(address, u64::MAX)).next()
            && let Some(wake) = parked.waits.remove(&place)
        {
            // Whoever left has nothing to be told.
            let _ = wake.send(Woken::Ended(terminal.clone()));
        }
    }

    /// Begins to follow the store's ends, unless somebody does. Whoever follows after another one begins where that one was.
    pub(crate) async fn follow(self: &Arc<Self>, store: &Arc<dyn DurableStore>) -> Result<(), StoreError> {
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
        let follow = follow(Arc::downgrade(self), Arc::clone(store), changes, cursor);
        *following = Some(AbortOnDropHandle::new(tokio::spawn(follow)));
        Ok(())
    }

    /// Lets everybody look.
    fn wake_all(&self) {
        let all = std::mem::take(&mut self.lock().waits);
        for wake in all.into_values() {
            let _ = wake.send(Woken::Look);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// The end, when it comes.
    pub(crate) async fn woken(&mut self) -> Woken {
        match (&mut self.woken).await {
            Ok(woken) => woken,
            // The list lives as long as this borrow of it, and drops no sender without a word.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiters.lock().waits.remove(&(self.address, self.number));
    }
}

async fn follow(
    waiters: Weak<Waiters>,
    store: Arc<dyn DurableStore>,
    mut changes: tokio::sync::watch::Receiver<u64>,
    mut cursor: u64,
) {
    let mut pause = PAUSE;
    loop {
        match catch_up(&waiters, &*store, cursor).await {
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
async fn catch_up(waiters: &Weak<Waiters>, store: &dyn DurableStore, cursor: u64) -> Result<u64, StoreError> {
    let page = store.waits_ended_after(cursor).await?;
    let Some(waiters) = waiters.upgrade() else { return Ok(cursor) };
    if page.gap {
        waiters.wake_all();
    }
    for change in page.changes {
        waiters.wake(&change.address, &change.terminal);
    }
    waiters.cursor.store(page.next, Ordering::Relaxed);
    Ok(page.next)
}
