//! What was asked of models: one record for each request. Never headers, queries or bodies.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use boatyard_model::{
    SessionId, Timestamp, WorkspaceId,
    time::{Clock, SystemClock},
};
use tokio::sync::mpsc;

use super::{payer::Purse, provider::Provider, usage::Usage};
use crate::log::{MAX_PATH, Traffic};

/// One request to the gateway, told when it is over.
#[derive(Debug, Clone)]
pub struct Call {
    /// When it began.
    pub time: Timestamp,
    /// Which workspace it came from.
    pub workspace: WorkspaceId,
    /// The session that its path named. To be believed if it is one of that workspace.
    pub session: Option<SessionId>,
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
    /// For how long of that it was held back before it went.
    pub held: Duration,
    /// The model: as it was asked for, else as the answer names it.
    pub model: Option<String>,
    /// What it used, where that is known.
    pub usage: Option<Usage>,
    /// What that cost, in millionths of a US dollar; none where no price is known.
    pub micros: Option<u64>,
    /// The connection by which a person paid; none where the provider's own credential went.
    pub paid_by: Option<Arc<str>>,
    /// The provider refused what Boatyard asked it with.
    pub is_unauthorized: bool,
    /// It was asked for from another provider or model, which this one took the place of.
    pub instead_of: Option<InsteadOf>,
    /// The provider that was asked after this one had given no answer of use.
    pub next: Option<String>,
}

/// What a request was meant for that another provider or model answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsteadOf {
    /// The provider.
    pub provider: String,
    /// The model, where it is known.
    pub model: Option<String>,
    /// Why it was given up.
    pub why: String,
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

    pub(super) fn tell(&self, call: Call) {
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
    purse: Arc<dyn Purse>,
    provider: Option<Arc<Provider>>,
    begin: Instant,
    pub(super) traffic: Arc<Traffic>,
    /// The model that the request's body names, once that has passed; none before it was sent on.
    sent: Option<Arc<OnceLock<String>>>,
}

impl Pending {
    pub(super) fn new(
        workspace: WorkspaceId,
        method: &str,
        calls: Arc<Calls>,
        purse: Arc<dyn Purse>,
    ) -> Self {
        let call = Call {
            time: SystemClock.now(),
            workspace,
            session: None,
            provider: String::new(),
            method: method.chars().take(32).collect(),
            path: String::new(),
            status: None,
            end: End::Cancelled,
            sent: 0,
            received: 0,
            duration: Duration::ZERO,
            held: Duration::ZERO,
            model: None,
            usage: None,
            micros: None,
            paid_by: None,
            is_unauthorized: false,
            instead_of: None,
            next: None,
        };
        let (call, provider) = (Some(call), None);
        let (begin, traffic, sent) = (Instant::now(), Arc::default(), None);
        Self { call, calls, purse, provider, begin, traffic, sent }
    }

    pub(super) fn of(
        &mut self,
        provider: Option<&Arc<Provider>>,
        path: &str,
        session: Option<SessionId>,
    ) {
        self.provider = provider.map(Arc::clone);
        if let Some(call) = &mut self.call {
            provider.map_or("", |provider| provider.name()).clone_into(&mut call.provider);
            path[..path.floor_char_boundary(MAX_PATH)].clone_into(&mut call.path);
            call.session = session;
        }
    }

    /// The model, where the request names it.
    pub(super) fn asks_for(&mut self, model: Option<&str>) {
        if let (Some(call), Some(model)) = (&mut self.call, model)
            // Who stands in may have been asked for another one.
            && call.instead_of.is_none()
        {
            call.model = Some(model.to_owned());
        }
    }

    /// It is sent to a provider from here on, who may be paid for it.
    pub(super) fn sent(&mut self, model: &Arc<OnceLock<String>>) {
        self.sent = Some(Arc::clone(model));
    }

    /// Reckons what a provider read of a request whose client went away, or whose answer broke off,
    /// before anything was told of it: who asks and does not listen pays all the same.
    fn reckon(&mut self) {
        let Some((call, model)) = self.call.as_mut().zip(self.sent.take()) else { return };
        if call.model.is_none() {
            call.model = model.get().cloned();
        }
        let is_lost = matches!(call.end, End::Cancelled | End::Broken(_))
            && call.status.is_none_or(|status| (200..300).contains(&status));
        let counts = call.path.to_ascii_lowercase().replace('_', "").ends_with("counttokens");
        if is_lost && !counts && call.usage.is_none() && call.model.is_some() {
            let sent = self.traffic.sent.load(Ordering::Relaxed);
            self.used(Usage::of_bytes(sent));
        }
    }

    pub(super) fn held(&mut self, held: Duration) {
        if let Some(call) = &mut self.call {
            call.held = held;
        }
    }

    pub(super) fn is_paid_by_a_person(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.paid_by.is_some())
    }

    /// It goes with a person's own credential of this name, or with the provider's.
    pub(super) fn paid_by(&mut self, name: Option<&Arc<str>>) {
        if let Some(call) = &mut self.call {
            call.paid_by = name.map(Arc::clone);
        }
    }

    pub(super) fn unauthorized(&mut self) {
        if let Some(call) = &mut self.call {
            call.is_unauthorized = true;
        }
    }

    /// The provider gave no answer of use, and `next` is asked in its place, for `model` where that
    /// is another one. What was asked of the first is told as a call of its own.
    pub(super) fn goes_on_with(
        &mut self,
        next: &Arc<Provider>,
        model: Option<&str>,
        status: Option<u16>,
        why: String,
    ) {
        let Some(call) = &mut self.call else { return };
        let mut first = call.clone();
        first.status = status;
        first.end = End::Broken(why.clone());
        first.next = Some(next.name().to_owned());
        first.sent = self.traffic.sent.load(Ordering::Relaxed);
        first.duration = self.begin.elapsed();
        self.calls.tell(first);
        let (provider, asked) = (call.provider.clone(), call.model.clone());
        // What it was meant for at first is what people know.
        call.instead_of.get_or_insert(InsteadOf { provider, model: asked, why });
        next.name().clone_into(&mut call.provider);
        if let Some(model) = model {
            call.model = Some(model.to_owned());
        }
        self.provider = Some(Arc::clone(next));
    }

    /// What was used; may be told again while more passes.
    pub(super) fn used(&mut self, usage: Option<Usage>) {
        let (Some(call), Some(usage)) = (&mut self.call, usage) else { return };
        let prices = self.provider.as_ref().map(|provider| provider.prices());
        call.micros = prices.and_then(|prices| prices.micros(&usage, call.model.as_deref()));
        if call.model.is_none() {
            call.model.clone_from(&usage.model);
        }
        call.usage = Some(usage);
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
        self.reckon();
        if let Some(mut call) = self.call.take() {
            call.sent = self.traffic.sent.load(Ordering::Relaxed);
            call.received = self.traffic.received.load(Ordering::Relaxed);
            call.duration = self.begin.elapsed();
            self.purse.ended(&call);
            self.calls.tell(call);
        }
    }
}
