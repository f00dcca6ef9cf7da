//! The log of calls with API keys.
//!
//! ```text
//!  gate ─ Call ─► bounded queue ─► writer: what is alike within a moment is one row ─► store
//!        (never waits)
//! ```
//!
//! A program that asks for the same thing a thousand times a second costs one row a second, one that
//! asks for as many different things some hundreds. What the queue or the store can't take is
//! counted and lost: a log is no reason to hold up work. Neither queries nor headers nor bodies come
//! here.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use boatyard_model::{KeyId, Timestamp};
use boatyard_store::{KeyCallRow, Owner, Store};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::flush::{Flush, Flushes};

/// Calls that wait to be taken up: what comes within some tenths of a second.
const QUEUE: usize = 8192;
/// How long what is alike is gathered into one row.
const MOMENT: Duration = Duration::from_secs(1);
/// Different paths that one moment keeps apart; past them, a call is kept by its route.
const PATHS: usize = 256;
/// The longest path that is kept, in bytes.
const PATH: usize = 300;
/// The newest rows of each key that are kept.
const KEPT: u64 = 1000;

/// One call with a key.
#[derive(Debug, Clone)]
pub struct Call {
    /// Whose the key is.
    pub owner: Owner,
    /// The key.
    pub key: KeyId,
    /// When its answer began.
    pub time: Timestamp,
    /// Its method.
    pub method: http::Method,
    /// Its path.
    pub path: String,
    /// The route that it was matched by.
    pub route: Arc<str>,
    /// The status of its answer.
    pub status: u16,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// How long it took until its answer began.
    pub took: Duration,
}

/// Where calls are told. A cheap clone.
#[derive(Debug, Clone)]
pub struct Calls {
    queue: mpsc::Sender<Call>,
    flushes: Flush,
    lost: Arc<AtomicU64>,
}

impl Calls {
    /// A log in this store. Its writer runs until nobody can tell anything any more.
    pub fn start(store: Store) -> Self {
        let (queue, calls) = mpsc::channel(QUEUE);
        let (flushes, flushed) = Flush::new();
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { store, lost: Arc::clone(&lost), rows: HashMap::new() };
        tokio::spawn(writer.run(calls, flushed));
        Self { queue, flushes, lost }
    }

    /// Tells of one call. Never waits.
    pub fn record(&self, call: Call) {
        if self.queue.try_send(call).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("boatyard_key_calls_dropped_total").increment(1);
        }
    }

    /// How many calls the log lacks since the start.
    pub fn dropped(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes what waits: the server ends, or somebody looks.
    pub async fn flush(&self) {
        self.flushes.flush("calls with keys").await;
    }
}

/// What makes calls alike.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    key: KeyId,
    method: http::Method,
    path: String,
    status: u16,
    address: Option<IpAddr>,
}

struct Writer {
    store: Store,
    lost: Arc<AtomicU64>,
    rows: HashMap<Kind, KeyCallRow>,
}

impl Writer {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>, mut flushes: Flushes) {
        let mut due = Instant::now();
        loop {
            tokio::select! {
                call = calls.recv() => {
                    let Some(call) = call else { break };
                    if self.rows.is_empty() {
                        due = Instant::now() + MOMENT;
                    }
                    self.take(call);
                }
                () = sleep_until(due), if !self.rows.is_empty() => self.write().await,
                Some(done) = flushes.recv() => {
                    while let Ok(call) = calls.try_recv() {
                        self.take(call);
                    }
                    self.write().await;
                    // Who asked may have given up waiting.
                    let _ = done.send(());
                }
            }
        }
        self.write().await;
    }

    fn take(&mut self, call: Call) {
        let mut path = call.path;
        path.truncate(path.floor_char_boundary(PATH));
        let Call { key, method, status, address, .. } = call;
        let mut kind = Kind { key, method, path, status, address };
        if self.rows.len() >= PATHS && !self.rows.contains_key(&kind) {
            kind.path = call.route.as_ref().to_owned();
        }
        let micros = u64::try_from(call.took.as_micros()).unwrap_or(u64::MAX);
        if let Some(row) = self.rows.get_mut(&kind) {
            row.calls += 1;
            row.micros = row.micros.max(micros);
            return;
        }
        let row = KeyCallRow {
            owner: call.owner,
            number: 0,
            api_key: kind.key,
            time: call.time,
            method: kind.method.as_str().to_owned(),
            path: kind.path.clone(),
            status: u32::from(kind.status),
            address: kind.address.map(|address| address.to_string()),
            calls: 1,
            micros,
        };
        self.rows.insert(kind, row);
    }

    async fn write(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let mut rows: Vec<KeyCallRow> = self.rows.drain().map(|(_, row)| row).collect();
        rows.sort_by_key(|row| row.time);
        let count: u64 = rows.iter().map(|row| row.calls).sum();
        let written = self
            .store
            .write(move |tx| Box::pin(async move { tx.log_key_calls(rows, KEPT).await }))
            .await;
        if let Err(error) = written {
            self.lost.fetch_add(count, Ordering::Relaxed);
            metrics::counter!("boatyard_key_calls_dropped_total").increment(count);
            tracing::error!(count, error = %crate::chain(&error), "calls are missing in the log of keys");
        }
    }
}

#[cfg(test)]
mod tests {
    use boatyard_store::{NewKey, Options};

    use super::*;

    async fn store() -> (tempfile::TempDir, Store, KeyId) {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(data.path().join("boatyard.db"))).await.unwrap();
        let new = NewKey::local(Owner::BUILT_IN, "k".into(), "by_k".into(), "hash".into());
        let key = store.write(|tx| Box::pin(tx.create_key(new))).await.unwrap();
        (data, store, key)
    }

    fn call(key: KeyId, path: &str, status: u16) -> Call {
        Call {
            owner: Owner::BUILT_IN,
            key,
            time: Timestamp(1),
            method: http::Method::GET,
            path: path.to_owned(),
            route: "/api/tasks/{id}".into(),
            status,
            address: Some(IpAddr::from([127, 0, 0, 1])),
            took: Duration::from_micros(7),
        }
    }

    #[tokio::test]
    async fn what_is_alike_is_one_row_and_what_fails_is_another() {
        let (_data, store, key) = store().await;
        let calls = Calls::start(store.clone());
        for _ in 0..50 {
            calls.record(call(key, "/api/tasks", 200));
        }
        calls.record(call(key, "/api/tasks", 403));
        calls.flush().await;
        let rows = store.key_calls(key, u64::MAX, false, 10).await.unwrap();
        let mut counts: Vec<_> = rows.iter().map(|row| (row.status, row.calls)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [(200, 50), (403, 1)]);
        let failed = store.key_calls(key, u64::MAX, true, 10).await.unwrap();
        assert_eq!(failed.len(), 1);
        let row = store.find_key(key).await.unwrap().unwrap();
        assert_eq!(row.last_address.as_deref(), Some("127.0.0.1"));
        assert_eq!(calls.dropped(), 0);
    }

    #[tokio::test]
    async fn rows_are_bounded_whatever_is_asked_for() {
        let (_data, store, key) = store().await;
        let calls = Calls::start(store.clone());
        for round in 0..8 {
            for n in 0..400 {
                calls.record(call(key, &format!("/api/tasks/{round}-{n}"), 200));
            }
            calls.flush().await;
        }
        let rows = store.key_calls(key, u64::MAX, false, 5000).await.unwrap();
        assert_eq!(rows.len() as u64, KEPT, "the newest are kept");
        let by_route = rows.iter().find(|row| row.path == "/api/tasks/{id}").unwrap();
        assert_eq!(by_route.calls, 400 - PATHS as u64);
    }
}
