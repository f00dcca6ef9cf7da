//! What left a workspace, and what was kept from leaving: one record for each try.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use boatyard_model::{
    AskState, RequestVerdict, RequestWay, SessionId, Timestamp, WorkspaceId,
    time::{Clock, SystemClock},
};
use tokio::sync::mpsc;

use crate::rules::LEARNED;

/// The longest path that a record repeats, in bytes.
pub(crate) const MAX_PATH: usize = 512;

/// One request or tunnel, told when it is over.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it began.
    pub time: Timestamp,
    /// Which workspace it came from.
    pub workspace: WorkspaceId,
    /// By which way it left, or tried to.
    pub way: RequestWay,
    /// The program inside, where it is known.
    pub program: Option<Arc<str>>,
    /// The session that the program was started by, where that is known.
    pub session: Option<SessionId>,
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
    /// What came of asking a person, where one was asked.
    pub asked: Option<AskState>,
    /// What people call the credential that was added on the way.
    pub credential: Option<Arc<str>>,
    /// Bytes from the workspace: of the body, or of the tunnel.
    pub sent: u64,
    /// Bytes to the workspace.
    pub received: u64,
    /// How long it took.
    pub duration: Duration,
}

impl Record {
    /// A request that begins now, of which nothing is known but where it comes from.
    pub fn new(workspace: WorkspaceId, way: RequestWay, method: &str) -> Self {
        Self {
            time: SystemClock.now(),
            workspace,
            way,
            program: None,
            session: None,
            method: method.chars().take(32).collect(),
            host: String::new(),
            port: 0,
            path: None,
            outcome: Outcome::Failed { reason: "cut short".into() },
            rule: None,
            asked: None,
            credential: None,
            sent: 0,
            received: 0,
            duration: Duration::ZERO,
        }
    }

    /// The path of a request, without its query, cut to what a record repeats.
    pub fn path_of(path: &str) -> String {
        let path = path.split('?').next().unwrap_or_default();
        path[..path.floor_char_boundary(MAX_PATH)].to_owned()
    }

    /// What became of it, in a word.
    pub fn verdict(&self) -> RequestVerdict {
        let learned = self.rule.as_deref() == Some(LEARNED);
        match (&self.outcome, self.asked) {
            (_, Some(AskState::Withdrawn | AskState::Open)) => RequestVerdict::AskedWithdrawn,
            (_, Some(AskState::Expired)) => RequestVerdict::AskedExpired,
            (_, Some(AskState::Denied)) => RequestVerdict::AskedDenied,
            (Outcome::Denied { .. }, _) => RequestVerdict::Denied,
            (Outcome::Passed { .. } | Outcome::Failed { .. }, None) if learned => {
                RequestVerdict::Learned
            }
            (Outcome::Failed { .. }, _) => RequestVerdict::Failed,
            (Outcome::Passed { .. }, Some(AskState::Allowed)) => RequestVerdict::AskedAllowed,
            (Outcome::Passed { .. }, None) => RequestVerdict::Allowed,
        }
    }
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

/// The program that has a connection, known when somebody has found it out.
#[derive(Debug, Clone, Default)]
pub struct Who(Arc<OnceLock<Named>>);

/// A program inside a workspace, as it calls itself.
#[derive(Debug, Clone)]
pub struct Named {
    /// The file that it runs, without its folder.
    pub program: Arc<str>,
    /// The session that it was started by, if it was by one.
    pub session: Option<SessionId>,
}

impl Who {
    /// It is found out; what was found first holds.
    pub fn is(&self, named: Named) {
        self.0.get_or_init(|| named);
    }
}

/// Where records go. Called in the path of requests: it must not block.
pub trait LogSink: Send + Sync + 'static {
    /// Takes one record.
    fn record(&self, record: Record);

    /// A connection has begun, whose own end inside the workspace is at this address, and whose other
    /// end is at that: what will be known of the program behind it, if anybody looks.
    fn begun(
        &self,
        _workspace: WorkspaceId,
        _peer: SocketAddr,
        _to: Option<SocketAddr>,
    ) -> Option<Who> {
        None
    }
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
    who: Option<Who>,
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
        let record = Record::new(workspace, RequestWay::Proxy, method);
        let begin = std::time::Instant::now();
        Self { record: Some(record), who: None, sink, begin, traffic: Arc::default() }
    }

    /// Tells nothing: it was no request to the outside.
    pub(crate) fn forget(&mut self) {
        self.record = None;
    }

    /// Who asks, as far as it will be known by the end.
    pub(crate) fn by(mut self, who: Option<&Who>) -> Self {
        self.who = who.cloned();
        self
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
            if let Some(named) = self.who.as_ref().and_then(|who| who.0.get()) {
                record.program.get_or_insert_with(|| Arc::clone(&named.program));
                record.session = record.session.or(named.session);
            }
            self.sink.record(record);
        }
    }
}

impl std::fmt::Debug for dyn LogSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogSink")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_in_a_word_what_became_of_it() {
        let check = |outcome: Outcome, asked, rule: Option<&str>, expected| {
            let mut record = Record::new(WorkspaceId::new(), RequestWay::Proxy, "GET");
            (record.outcome, record.asked, record.rule) = (outcome, asked, rule.map(Arc::from));
            assert_eq!(record.verdict(), expected, "{record:?}");
        };
        let passed = || Outcome::Passed { status: 200 };
        let failed = || Outcome::Failed { reason: "x".into() };
        let denied = || Outcome::Denied { reason: "x".into() };
        check(passed(), None, Some("npm"), RequestVerdict::Allowed);
        check(failed(), None, Some("npm"), RequestVerdict::Failed);
        check(denied(), None, None, RequestVerdict::Denied);
        check(passed(), None, Some(LEARNED), RequestVerdict::Learned);
        check(failed(), None, Some(LEARNED), RequestVerdict::Learned);
        check(denied(), None, Some(LEARNED), RequestVerdict::Denied);
        check(passed(), Some(AskState::Allowed), Some("ask"), RequestVerdict::AskedAllowed);
        check(failed(), Some(AskState::Allowed), Some("ask"), RequestVerdict::Failed);
        check(denied(), Some(AskState::Denied), Some("ask"), RequestVerdict::AskedDenied);
        check(denied(), Some(AskState::Expired), Some("ask"), RequestVerdict::AskedExpired);
        check(failed(), Some(AskState::Withdrawn), Some("ask"), RequestVerdict::AskedWithdrawn);
    }

    #[test]
    fn a_record_repeats_no_query() {
        assert_eq!(Record::path_of("/a/b?token=secret"), "/a/b");
        assert_eq!(Record::path_of(&"/é".repeat(400)).len(), MAX_PATH - 1);
    }
}
