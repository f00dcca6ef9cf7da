//! One connection from a workspace: requests one after another.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, header};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};

use super::{
    Place,
    body::Answer,
    call::{End, Pending},
    fault::Fault,
    held,
    payer::{Admission, Asked, Later, Own, Stopped},
    provider::{Api, Provider},
    rewrite,
    upstream::Upstream,
    work::Work,
};
use crate::{git, log::Traffic};

/// The most bytes of a request's head. Agents send little there.
const MAX_HEAD: usize = 64 * 1024;
/// How often within the time of silence it is looked whether there is silence.
const LOOKS: u32 = 8;

/// What the requests of one connection share.
pub(super) struct Connection {
    pub(super) place: Place,
    /// The client's end, inside the workspace's network.
    peer: Option<SocketAddr>,
    /// The connection that the last request went over, to be used again.
    pub(super) upstream: Mutex<Option<Upstream>>,
    /// The traffic of the request in hand, and how many there were: what the idle watch looks at.
    traffic: Mutex<Arc<Traffic>>,
    requests: AtomicU64,
    /// Requests that are held back, and since when the connection is there: while there are any,
    /// silence is nobody's fault.
    held: AtomicU64,
    since: Instant,
}

/// Serves a connection to its end.
pub(super) async fn run(stream: TcpStream, place: Place) {
    // Without this, pieces of an answer would wait for each other.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let peer = stream.peer_addr().ok();
    let settings = &place.parts.settings;
    let mut closing = place.closing.clone();
    let connection = Arc::new(Connection {
        place: place.clone(),
        peer,
        upstream: Mutex::default(),
        traffic: Mutex::default(),
        requests: AtomicU64::new(0),
        held: AtomicU64::new(0),
        since: Instant::now(),
    });
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request| {
            let connection = Arc::clone(&connection);
            async move { Ok::<_, Infallible>(Connection::answer(&connection, request).await) }
        })
    };
    // A client that closes its side is gone: what it asked for ends there, and costs no more.
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_within)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let closed = async {
        // An error here means that the gateway itself is gone, which is the same.
        let _ = closing.wait_for(|closing| *closing).await;
    };
    // Later than a request's own watch, which can still answer: this is for who does not read.
    let idle_after = settings.idle_after + settings.idle_after / 4;
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = until_quiet(idle_after, || connection.activity()) => return,
        () = closed => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        // Most often the client went away; what it asked for has its own record.
        tracing::debug!(workspace.id = %place.workspace, %error, "connection to the gateway");
    }
}

/// Waits until `activity` has given the same number for `idle_after`, and at most an eighth more.
pub(super) async fn until_quiet(idle_after: Duration, activity: impl Fn() -> u64) {
    let mut before = activity();
    let mut since = Instant::now();
    loop {
        sleep(idle_after / LOOKS).await;
        let now = activity();
        if now != before {
            before = now;
            since = Instant::now();
        } else if since.elapsed() >= idle_after {
            return;
        }
    }
}

/// A lock that is never held across anything that can panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    fn activity(&self) -> u64 {
        if self.held.load(Ordering::Relaxed) > 0 {
            return u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        }
        let passed = lock(&self.traffic).total();
        passed.wrapping_add(self.requests.load(Ordering::Relaxed) << 40)
    }

    /// Passes a request on, or says why not.
    async fn answer(self: &Arc<Self>, mut request: Request<Incoming>) -> Response<Answer> {
        let Place { parts, workspace, .. } = &self.place;
        let path = request.uri().path().strip_prefix('/');
        let git = path.and_then(|path| path.strip_prefix(git::NAME));
        if let (Some(gateway), Some(path)) = (&parts.settings.git, git)
            && (path.is_empty() || path.starts_with('/'))
        {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let path = path.to_owned();
            let traffic = Arc::<Traffic>::default();
            *lock(&self.traffic) = Arc::clone(&traffic);
            let (permits, peer) = (Arc::clone(&self.place.git), self.peer);
            let caller = git::serve::Caller { workspace: *workspace, peer, permits, traffic };
            return gateway.answer(caller, &path, request).await;
        }
        let (calls, purse) = (Arc::clone(&parts.calls), Arc::clone(&parts.settings.purse));
        let mut call = Pending::new(*workspace, request.method().as_str(), calls, purse);
        *lock(&self.traffic) = Arc::clone(&call.traffic);
        self.requests.fetch_add(1, Ordering::Relaxed);

        let session = rewrite::session(request.uri());
        let session = session.map(|(session, uri)| {
            *request.uri_mut() = uri;
            session
        });
        let (name, rest) = rewrite::split(request.uri().path());
        let provider = parts.providers.get(name).map(Arc::clone);
        call.of(provider.as_ref(), rest, session);
        // Where nobody knows whom it was meant for, this is the shape that most understand.
        let api = provider.as_ref().map_or(Api::Anthropic, |provider| provider.api());
        let own = match &provider {
            Some(provider) => {
                parts.settings.lender.lend(*workspace, session, provider.name()).await
            }
            None => None,
        };
        let (provider, permit) = match self.admit(provider.as_ref(), own.as_ref(), &request) {
            Ok((provider, permit)) => (Arc::clone(provider), permit),
            Err(fault) => return refuse(call, &fault, api),
        };
        let asked = Asked {
            workspace: *workspace,
            session,
            provider: provider.name().to_owned(),
            is_free: provider.is_free() || own.is_some(),
        };
        call.paid_by(own.as_ref().map(|own| &own.name));
        let work = Work::new(Arc::clone(self), (provider, session), request, call, permit);
        match parts.settings.purse.admit(&asked) {
            Admission::Go => work.run().await,
            Admission::Wait(wait) => self.hold(work, wait).await,
        }
    }

    /// Holds a request back until it may go, or is told why not.
    async fn hold(
        self: &Arc<Self>,
        work: Work,
        mut wait: Later<Result<(), Stopped>>,
    ) -> Response<Answer> {
        let held = Held::new(Arc::clone(self));
        let ping_after = self.place.parts.settings.ping_after;
        if let Ok(outcome) = timeout(ping_after, wait.as_mut()).await {
            return work.go(outcome, held).await;
        }
        let sign = held::sign(work.api());
        // A client that does not send the rest can't be told anything either.
        let read_within = self.place.parts.settings.head_within;
        match sign {
            Some(sign) if timeout(read_within, work.wants_stream()).await.unwrap_or(false) => {
                let rest = async move {
                    let outcome = wait.await;
                    work.go(outcome, held).await
                };
                held::stream(Box::pin(rest), sign)
            }
            _ => {
                let outcome = wait.await;
                work.go(outcome, held).await
            }
        }
    }

    /// Whether a request may be passed on, by its head.
    fn admit<'a>(
        &self,
        provider: Option<&'a Arc<Provider>>,
        own: Option<&Own>,
        request: &Request<Incoming>,
    ) -> Result<(&'a Arc<Provider>, OwnedSemaphorePermit), Fault> {
        let parts = &self.place.parts;
        let settings = &parts.settings;
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            // TRACE would show the key.
            return Err(Fault::Malformed("CONNECT and TRACE are not passed on"));
        }
        let Some(provider) = provider else {
            let known: Vec<&str> = parts.providers.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Fault::UnknownProvider { known });
        };
        let name = || provider.name().to_owned();
        if rewrite::gives_credentials(request.uri().path()) {
            return Err(Fault::Credentials { provider: name() });
        }
        if is_websocket(request.headers()) {
            return Err(Fault::Websocket { provider: name() });
        }
        if own.is_none() && !provider.is_ready() {
            return Err(Fault::NoKey { provider: name(), remedy: provider.remedy() });
        }
        if request.body().size_hint().lower() > settings.max_body {
            return Err(Fault::TooLarge { limit: settings.max_body });
        }
        let permit = Arc::clone(&self.place.requests).try_acquire_owned();
        let limit = settings.max_requests;
        Ok((provider, permit.map_err(|_| Fault::TooMany { limit })?))
    }

    /// The connection of the last request, if it is of use.
    pub(super) async fn kept(&self, provider: &Arc<Provider>) -> Option<Upstream> {
        let kept = lock(&self.upstream).take();
        let mut kept = kept.filter(|kept| Arc::ptr_eq(&kept.provider, provider))?;
        let within = self.place.parts.settings.connect_within;
        matches!(timeout(within, kept.sender.ready()).await, Ok(Ok(()))).then_some(kept)
    }
}

/// The answer to a request that is not passed on.
pub(super) fn refuse(mut call: Pending, fault: &Fault, api: Api) -> Response<Answer> {
    let (response, length) = fault.answer(api);
    call.answered(fault.status().as_u16());
    call.ended(End::Refused(fault.to_string()));
    call.traffic.received.fetch_add(length as u64, Ordering::Relaxed);
    response
}

/// A request is held back, for as long as this is there.
pub(super) struct Held {
    connection: Arc<Connection>,
    since: Instant,
}

impl Held {
    fn new(connection: Arc<Connection>) -> Self {
        connection.held.fetch_add(1, Ordering::Relaxed);
        Self { connection, since: Instant::now() }
    }

    /// For how long it was.
    pub(super) fn time(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.connection.held.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_websocket(headers: &HeaderMap) -> bool {
    headers.get_all(header::UPGRADE).iter().any(|value| {
        value.as_bytes().to_ascii_lowercase().windows(9).any(|part| part == b"websocket")
    })
}
