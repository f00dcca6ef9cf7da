//! The log of what left workspaces, and of what was kept from leaving.
//!
//! ```text
//!  proxies, gateways ─ Record ─► bounded queue ─► writer ─┬─► refusals, told in sessions at once
//!                      (never waits)                      └─► rows, written by the hundred
//! ```
//!
//! Whoever lets something leave tells it by [`Traffic::record`] when it is over; that never waits.
//! What the queue or the store can't take is counted, shown, and lost: a log is no reason to hold
//! up work. Neither queries nor headers nor bodies come here.

mod denied;
mod place;
mod programs;

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use boatyard_egress::{
    LogSink, Outcome, Record,
    gateway::{Call, End, Gateway},
    log::{Channel, Who},
};
use boatyard_model::{RequestVerdict, RequestWay, WorkspaceId};
use boatyard_store::{RequestRow, Store};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::{denied::Denied, place::Places, programs::Programs};
use crate::{
    flush::{Flush, Flushes},
    hub::Hub,
};

/// Records that wait to be written: what a burst of some tenths of a second leaves.
const QUEUE: usize = 8192;
/// Rows that are written together.
const BATCH: usize = 512;
/// How long a row may wait for others.
const WAIT: Duration = Duration::from_millis(200);
/// The longest reason, rule or program that is kept, in bytes.
const TEXT: usize = 300;

/// Where everybody tells what left. A cheap clone.
#[derive(Debug, Clone)]
pub struct Traffic {
    queue: Arc<Channel>,
    lost: Arc<AtomicU64>,
    flushes: Flush,
    /// Finds out whose connections are, once the hub is there to be asked.
    who: Arc<OnceLock<Programs>>,
}

impl LogSink for Traffic {
    fn record(&self, record: Record) {
        self.queue.record(record);
    }

    fn begun(
        &self,
        workspace: WorkspaceId,
        peer: SocketAddr,
        to: Option<SocketAddr>,
    ) -> Option<Who> {
        self.who.get()?.look(workspace, peer, to)
    }
}

impl Traffic {
    /// A log in this store. Its writer runs until nobody can tell anything any more.
    pub fn start(store: Store) -> Self {
        let (queue, records) = Channel::new(QUEUE);
        let (flushes, flushed) = Flush::new();
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            places: Places::new(store.clone()),
            denied: Denied::new(store.clone()),
            store,
            queue: Arc::downgrade(&queue),
            dropped: 0,
            lost: Arc::clone(&lost),
            batch: Vec::new(),
        };
        tokio::spawn(writer.run(records, flushed));
        Self { queue, lost, flushes, who: Arc::default() }
    }

    /// From now on programs are looked for, by this hub.
    pub fn ask(&self, hub: &Hub) {
        self.who.get_or_init(|| Programs::new(hub));
    }

    /// Tells of one request or tunnel that is over. Never waits.
    pub fn record(&self, record: Record) {
        self.queue.record(record);
    }

    /// Tells of a request to a model.
    pub fn call(&self, call: &Call, gateway: &Gateway) {
        let mut record = Record::new(call.workspace, RequestWay::Model, &call.method);
        let provider = gateway.provider(&call.provider);
        let (host, port) = provider.and_then(|provider| provider.destination()).unwrap_or_default();
        record.time = call.time;
        record.host = host;
        record.port = port;
        record.path = Some(Record::path_of(&call.path));
        record.rule = provider.map(|provider| Arc::from(format!("model {}", provider.name())));
        record.credential =
            provider.filter(|provider| provider.is_keyed()).map(|p| Arc::from(p.name()));
        record.outcome = match (&call.end, call.status) {
            (End::Refused(reason), _) => Outcome::Denied { reason: reason.clone() },
            (End::Broken(reason), _) => Outcome::Failed { reason: reason.clone() },
            (End::Complete | End::Cancelled, Some(status)) => Outcome::Passed { status },
            (End::Complete | End::Cancelled, None) => {
                Outcome::Failed { reason: "the client went away before there was an answer".into() }
            }
        };
        (record.sent, record.received, record.duration) = (call.sent, call.received, call.duration);
        self.record(record);
    }

    /// How many requests the log lacks since the start.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped() + self.lost.load(Ordering::Relaxed)
    }

    /// Writes what waits: the server ends, or somebody looks.
    pub async fn flush(&self) {
        self.flushes.flush("requests").await;
    }
}

struct Writer {
    store: Store,
    places: Places,
    denied: Denied,
    /// For what it dropped; no reason to go on.
    queue: std::sync::Weak<Channel>,
    dropped: u64,
    lost: Arc<AtomicU64>,
    batch: Vec<Record>,
}

impl Writer {
    async fn run(mut self, mut records: mpsc::Receiver<Record>, mut flushes: Flushes) {
        let mut due = Instant::now();
        loop {
            tokio::select! {
                record = records.recv() => {
                    let Some(record) = record else { break };
                    if self.batch.is_empty() {
                        due = Instant::now() + WAIT;
                    }
                    self.take(record).await;
                    if self.batch.len() >= BATCH {
                        self.write().await;
                    }
                }
                () = sleep_until(due), if !self.batch.is_empty() => self.write().await,
                Some(done) = flushes.recv() => {
                    while let Ok(record) = records.try_recv() {
                        self.take(record).await;
                    }
                    self.write().await;
                    // Who asked may have given up waiting.
                    let _ = done.send(());
                }
            }
        }
        self.write().await;
    }

    async fn take(&mut self, record: Record) {
        count(&record);
        tracing::debug!(target: "boatyard::egress", ?record);
        self.denied.saw(&record).await;
        self.batch.push(record);
    }

    async fn write(&mut self) {
        self.tell_dropped();
        if self.batch.is_empty() {
            return;
        }
        let mut rows = Vec::with_capacity(self.batch.len());
        for record in self.batch.drain(..) {
            let place = self.places.of(record.workspace).await;
            rows.push(row(record, &place));
        }
        let count = rows.len() as u64;
        let written =
            self.store.write(move |tx| Box::pin(async move { tx.log_requests(rows).await })).await;
        if let Err(error) = written {
            self.lost.fetch_add(count, Ordering::Relaxed);
            metrics::counter!("boatyard_egress_log_dropped_total").increment(count);
            tracing::error!(count, error = %crate::chain(&error), "requests are missing in the log");
        }
    }

    fn tell_dropped(&mut self) {
        let Some(dropped) = self.queue.upgrade().map(|queue| queue.dropped()) else { return };
        if dropped > self.dropped {
            let count = dropped - self.dropped;
            self.dropped = dropped;
            metrics::counter!("boatyard_egress_log_dropped_total").increment(count);
            tracing::warn!(count, "more requests came at once than the log could take");
        }
    }
}

fn count(record: &Record) {
    let labels = [("verdict", record.verdict().as_str()), ("way", record.way.as_str())];
    metrics::counter!("boatyard_egress_requests_total", &labels).increment(1);
    for (direction, bytes) in [("sent", record.sent), ("received", record.received)] {
        let labels = [("way", record.way.as_str()), ("direction", direction)];
        metrics::counter!("boatyard_egress_bytes_total", &labels).increment(bytes);
    }
    metrics::histogram!("boatyard_egress_request_seconds", "way" => record.way.as_str())
        .record(record.duration.as_secs_f64());
}

/// A record as it is kept.
fn row(record: Record, place: &place::Place) -> RequestRow {
    let verdict = record.verdict();
    let cut = |text: &str| text[..text.floor_char_boundary(TEXT)].to_owned();
    let (status, reason) = match &record.outcome {
        Outcome::Passed { status } => (Some(u32::from(*status)), None),
        Outcome::Denied { reason } | Outcome::Failed { reason } => (None, Some(cut(reason))),
    };
    let is_rule = verdict != RequestVerdict::Learned;
    RequestRow {
        session: record.session.or(place.session),
        task: place.task,
        way: record.way,
        program: record.program.as_deref().map(cut),
        method: record.method,
        host: cut(&record.host),
        port: u32::from(record.port),
        path: record.path,
        verdict,
        rule: record.rule.as_deref().filter(|_| is_rule).map(cut),
        reason,
        credential: record.credential.as_deref().map(cut),
        status,
        sent: record.sent,
        received: record.received,
        micros: u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX),
        ..RequestRow::new(place.owner, record.workspace, record.time)
    }
}
