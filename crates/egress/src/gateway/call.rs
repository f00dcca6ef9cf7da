//! What was asked of models: one record for each request. Never headers, queries or bodies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use boatyard_model::{
    Timestamp, WorkspaceId,
    time::{Clock, SystemClock},
};
use tokio::sync::mpsc;

use crate::log::{MAX_PATH, Traffic};

/// One request to the gateway, told when it is over.
#[derive(Debug, Clone)]
pub struct Call {
    /// When it began.
    pub time: Timestamp,
    /// Which workspace it came from.
    pub workspace: WorkspaceId,
    /// The provider's name; empty where the request named none that there is.
    pub provider: String,
    /// The method.
    pub method: String,
    /// The path below the provider, without its query.
    pub path: String,
    /// The status of the answer, the provider's or ours; none if it ended before there was one.
    pub status: Option<u16>,
    /// How it ended.
    pub end: End,
    /// Bytes of the request's body.
    pub sent: u64,
    /// Bytes of the answer's body.
    pub received: u64,
    /// How long it took, to the last byte.
    pub duration: Duration,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The provider's answer passed to its end.
    Complete,
    /// The gateway answered by itself, with this text.
    Refused(String),
    /// The provider's answer broke off, for this reason.
    Broken(String),
    /// The client went away first, or the gateway was shut down.
    Cancelled,
}

/// Where calls go: a bounded channel. What does not fit is counted and dropped, so a slow reader
/// never holds up a workspace.
#[derive(Debug)]
pub struct Calls {
    calls: mpsc::Sender<Call>,
    dropped: AtomicU64,
}

impl Calls {
    /// Room for `capacity` calls, and where they come out.
    pub fn new(capacity: usize) -> (Arc<Self>, mpsc::Receiver<Call>) {
        let (calls, receiver) = mpsc::channel(capacity);
        (Arc::new(Self { calls, dropped: AtomicU64::new(0) }), receiver)
    }

    /// How many calls were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn tell(&self, call: Call) {
        if self.calls.try_send(call).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A call in the making. It is told when this is dropped, whatever ends it.
#[derive(Debug)]
pub(super) struct Pending {
    call: Option<Call>,
    calls: Arc<Calls>,
    begin: Instant,
    pub(super) traffic: Arc<Traffic>,
}

impl Pending {
    pub(super) fn new(workspace: WorkspaceId, method: &str, calls: Arc<Calls>) -> Self {
        let call = Call {
            time: SystemClock.now(),
            workspace,
            provider: String::new(),
            method: method.chars().take(32).collect(),
            path: String::new(),
            status: None,
            end: End::Cancelled,
            sent: 0,
            received: 0,
            duration: Duration::ZERO,
        };
        Self { call: Some(call), calls, begin: Instant::now(), traffic: Arc::default() }
    }

    pub(super) fn of(&mut self, provider: &str, path: &str) {
        if let Some(call) = &mut self.call {
            provider.clone_into(&mut call.provider);
            path[..path.floor_char_boundary(MAX_PATH)].clone_into(&mut call.path);
        }
    }

    pub(super) fn answered(&mut self, status: u16) {
        if let Some(call) = &mut self.call {
            call.status = Some(status);
        }
    }

    pub(super) fn ended(&mut self, end: End) {
        if let Some(call) = &mut self.call {
            call.end = end;
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(mut call) = self.call.take() {
            call.sent = self.traffic.sent.load(Ordering::Relaxed);
            call.received = self.traffic.received.load(Ordering::Relaxed);
            call.duration = self.begin.elapsed();
            self.calls.tell(call);
        }
    }
}
