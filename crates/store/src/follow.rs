//! Following a log live, without a gap and without repetition.
//!
//! A [`Follower`] is a cursor: "everything up to `after` is known". [`Follower::next`] gives what
//! comes after it, oldest first, and moves it. Where that comes from is the follower's business:
//!
//! ```text
//! commit ─► publish ─► ring of the newest entries ─► follower that keeps up   (memory only)
//!                      the table                  ─► follower that is behind  (one query a batch)
//! ```
//!
//! - The ring knows the place just before its first entry (`base`), and holds every entry since.
//!   A cursor at or after `base` is served from the ring, any other from the table, so a slow
//!   reader costs nobody anything and loses nothing.
//! - A follower registers for the next publication before it looks; publication comes after the
//!   commit; so nothing falls between.
//! - Entries that a completing event replaced may be seen (the follower was fast) or not (it was
//!   slow); both are right, since clients upsert.
//! - A ring exists only while somebody follows.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::Notify;

use crate::{Result, Store, events::StoredEvent, feed::FeedEntry};

/// Entries that a ring keeps, and that one batch holds at most.
const RING: usize = 512;
/// Bytes of JSON that a ring keeps at most, so that many sessions with large events stay small.
const RING_BYTES: usize = 512 * 1024;
/// Entries that one read of the table gives at most.
const PAGE: u32 = 512;

/// An entry of a log.
pub trait Sequenced: Clone + Send + Sync + 'static {
    /// Its place.
    fn seq(&self) -> u64;

    #[doc(hidden)]
    fn bytes(&self) -> usize {
        0
    }
}

/// The newest entries of one log, while somebody follows it.
pub(crate) struct Channel<T> {
    ring: Mutex<Ring<T>>,
    published: Notify,
}

struct Ring<T> {
    /// Every entry after this place, up to the newest, is in `entries`. None before the first
    /// publication.
    base: Option<u64>,
    entries: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for Channel<T> {
    fn default() -> Self {
        let ring = Ring { base: None, entries: VecDeque::new(), bytes: 0 };
        Self { ring: Mutex::new(ring), published: Notify::new() }
    }
}

impl<T: Sequenced> Channel<T> {
    /// Adds what was committed. `before` is the last place given before the first of `entries`.
    pub(crate) fn publish(&self, before: u64, entries: impl IntoIterator<Item = T>) {
        {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            ring.base.get_or_insert(before);
            for entry in entries {
                ring.bytes += entry.bytes();
                ring.entries.push_back(entry);
            }
            while ring.entries.len() > RING || ring.bytes > RING_BYTES {
                let Some(dropped) = ring.entries.pop_front() else { break };
                ring.bytes -= dropped.bytes();
                ring.base = Some(dropped.seq());
            }
        }
        self.published.notify_waiters();
    }

    /// What the ring has after `after`; none if it can't know all of it.
    fn after(&self, after: u64) -> Option<Vec<T>> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.base.is_none_or(|base| after < base) {
            return None;
        }
        let first = ring.entries.partition_point(|entry| entry.seq() <= after);
        Some(ring.entries.range(first..).cloned().collect())
    }
}

/// The channels of the sessions that somebody follows.
pub(crate) struct Channels<K, T>(Mutex<HashMap<K, Weak<Channel<T>>>>);

impl<K, T> Default for Channels<K, T> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: std::hash::Hash + Eq + Copy, T: Sequenced> Channels<K, T> {
    pub(crate) fn get_or_open(&self, key: K) -> Arc<Channel<T>> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = map.get(&key).and_then(Weak::upgrade) {
            return open;
        }
        // Closed ones are dropped when the map has doubled since: amortized, no timer.
        if map.len() == map.capacity() {
            map.retain(|_, channel| channel.strong_count() > 0);
        }
        let channel = Arc::new(Channel::default());
        map.insert(key, Arc::downgrade(&channel));
        channel
    }

    pub(crate) fn get(&self, key: K) -> Option<Arc<Channel<T>>> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(&key).and_then(Weak::upgrade)
    }
}

/// Where a log's entries are read when the ring doesn't have them.
pub trait Source: Sequenced {
    #[doc(hidden)]
    type Key: Copy + Send + Sync;

    #[doc(hidden)]
    fn read(
        store: &Store,
        key: Self::Key,
        after: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Self>>> + Send;
}

/// A cursor in a log; see the module. Dropping it ends it.
pub struct Follower<T: Source> {
    store: Store,
    key: T::Key,
    channel: Arc<Channel<T>>,
    after: u64,
}

impl<T: Source> Follower<T> {
    pub(crate) fn open(store: Store, key: T::Key, channel: Arc<Channel<T>>, after: u64) -> Self {
        Self { store, key, channel, after }
    }

    /// The place up to which everything was given.
    pub fn after(&self) -> u64 {
        self.after
    }

    /// The next entries, at least one, oldest first. Waits as long as there are none. May be
    /// dropped and called again: nothing is lost.
    ///
    /// # Errors
    /// When the table can't be read; the cursor stays, so it may be tried again.
    pub async fn next(&mut self) -> Result<Vec<T>> {
        loop {
            let channel = Arc::clone(&self.channel);
            let mut published = std::pin::pin!(channel.published.notified());
            // Registered before looking: what is published from here on wakes us.
            published.as_mut().enable();
            let entries = self.try_next().await?;
            if !entries.is_empty() {
                return Ok(entries);
            }
            published.await;
        }
    }

    /// What there is now after the cursor, oldest first, without waiting for more; moves the
    /// cursor.
    ///
    /// # Errors
    /// When the table can't be read.
    pub async fn try_next(&mut self) -> Result<Vec<T>> {
        let entries = match self.channel.after(self.after) {
            Some(entries) => entries,
            None => T::read(&self.store, self.key, self.after, PAGE).await?,
        };
        if let Some(last) = entries.last() {
            self.after = last.seq();
        }
        Ok(entries)
    }
}

impl Source for StoredEvent {
    type Key = boatyard_model::SessionId;

    async fn read(store: &Store, key: Self::Key, after: u64, limit: u32) -> Result<Vec<Self>> {
        store.read_events(key, after, limit).await
    }
}

impl Source for FeedEntry {
    type Key = boatyard_model::OrganizationId;

    async fn read(store: &Store, key: Self::Key, after: u64, limit: u32) -> Result<Vec<Self>> {
        store.read_feed(key, after, limit).await
    }
}
