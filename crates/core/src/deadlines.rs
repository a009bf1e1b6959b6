//! Deadlines of many things, of which the first is asked for at every input.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Timestamp;

/// At most one deadline for each key.
#[derive(Debug, PartialEq)]
pub(crate) struct Deadlines<K> {
    by_time: BTreeSet<(Timestamp, K)>,
    by_key: BTreeMap<K, Timestamp>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Deadlines<K> {
    /// From now on the key has this deadline, or none.
    pub(crate) fn set(&mut self, key: &K, due: Option<Timestamp>) {
        if self.by_key.get(key).copied() == due {
            return;
        }
        if let Some(before) = self.by_key.remove(key) {
            self.by_time.remove(&(before, key.clone()));
        }
        if let Some(due) = due {
            self.by_key.insert(key.clone(), due);
            self.by_time.insert((due, key.clone()));
        }
    }

    /// The first of all.
    pub(crate) fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Keys whose deadline has come, in their order.
    pub(crate) fn until(&self, now: Timestamp) -> Vec<K> {
        let due = self.by_time.iter().take_while(|(due, _)| *due <= now);
        let mut keys: Vec<K> = due.map(|(_, key)| key.clone()).collect();
        keys.sort_unstable();
        keys
    }
}
