//! What left a workspace, and what was kept from leaving: one record for each try.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use boatyard_model::{
    Timestamp, WorkspaceId,
    time::{Clock, SystemClock},
};
use tokio::sync::mpsc;

/// The longest path that a record repeats, in bytes.
pub(crate) const MAX_PATH: usize = 512;

/// One request or tunnel, told when it is over.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it began.
    pub time: Timestamp,
    /// Which workspace it came from.
    pub workspace: WorkspaceId,
    /// `CONNECT` or the request's method.
    pub method: String,
    /// The host as it was asked for; empty where the request named none.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path without its query, for a request that could be seen.
    pub path: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// The rule that allowed it, or came nearest.
    pub rule: Option<Arc<str>>,
    /// Bytes from the workspace: of the body, or of the tunnel.
    pub sent: u64,
    /// Bytes to the workspace.
    pub received: u64,
    /// How long it took.
    pub duration: Duration,
}

/// What became of a request or tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was allowed and answered: with this status, or for a tunnel 200.
    Passed {
        /// The status of the answer.
        status: u16,
    },
    /// It was kept from leaving, for this reason.
    Denied {
        /// As it was told to the client.
        reason: String,
    },
    /// It was allowed and failed, for this reason.
    Failed {
        /// As it was told to the client, where it could be.
        reason: String,
    },
}

/// Where records go. Called in the path of requests: it must not block.
pub trait LogSink: Send + Sync + 'static {
    /// Takes one record.
    fn record(&self, record: Record);
}

/// A sink that puts records into a bounded channel. What does not fit is counted and dropped, so
/// a slow reader never holds up a workspace.
#[derive(Debug)]
pub struct Channel {
    records: mpsc::Sender<Record>,
    dropped: AtomicU64,
}

impl Channel {
    /// A sink with room for `capacity` records, and where they come out.
    pub fn new(capacity: usize) -> (Arc<Self>, mpsc::Receiver<Record>) {
        let (records, receiver) = mpsc::channel(capacity);
        (Arc::new(Self { records, dropped: AtomicU64::new(0) }), receiver)
    }

    /// How many records were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl LogSink for Channel {
    fn record(&self, record: Record) {
        if self.records.try_send(record).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A record in the making. It is told when this is dropped, whatever ends it.
#[derive(Debug)]
pub(crate) struct Pending {
    record: Option<Record>,
    sink: Arc<dyn LogSink>,
    begin: std::time::Instant,
    pub(crate) traffic: Arc<Traffic>,
}

/// Bytes so far, counted where they pass.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

impl Traffic {
    /// A number that changes whenever anything passes.
    pub(crate) fn total(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).wrapping_add(self.received.load(Ordering::Relaxed))
    }
}

impl Pending {
    pub(crate) fn new(workspace: WorkspaceId, method: &str, sink: Arc<dyn LogSink>) -> Self {
        let record = Record {
            time: SystemClock.now(),
            workspace,
            method: method.chars().take(32).collect(),
            host: String::new(),
            port: 0,
            path: None,
            outcome: Outcome::Failed { reason: "cut short".into() },
            rule: None,
            sent: 0,
            received: 0,
            duration: Duration::ZERO,
        };
        let begin = std::time::Instant::now();
        Self { record: Some(record), sink, begin, traffic: Arc::default() }
    }

    pub(crate) fn set(&mut self, change: impl FnOnce(&mut Record)) {
        self.record.as_mut().map(change);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.sent = self.traffic.sent.load(Ordering::Relaxed);
            record.received = self.traffic.received.load(Ordering::Relaxed);
            record.duration = self.begin.elapsed();
            self.sink.record(record);
        }
    }
}

impl std::fmt::Debug for dyn LogSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogSink")
    }
}
