//! Timers by name: each can be set anew or taken back, and the earliest is always known.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

#[derive(Debug)]
pub(super) struct Timers<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Clone + Ord> Timers<K> {
    /// Sets a timer, in place of the one of the same name.
    pub(super) fn set(&mut self, key: K, at: Instant) {
        self.cancel(&key);
        self.by_key.insert(key.clone(), at);
        self.by_time.insert((at, key));
    }

    /// Sets a timer unless there is one of the same name.
    pub(super) fn set_if_absent(&mut self, key: K, at: Instant) {
        if !self.by_key.contains_key(&key) {
            self.set(key, at);
        }
    }

    pub(super) fn cancel(&mut self, key: &K) {
        if let Some(at) = self.by_key.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }

    pub(super) fn clear(&mut self) {
        self.by_time.clear();
        self.by_key.clear();
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer whose time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.deadline()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}
