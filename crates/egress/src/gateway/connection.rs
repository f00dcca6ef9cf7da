//! One connection from a workspace: requests one after another.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, StatusCode, header, request};
use http_body_util::BodyExt;
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
    body::{Answer, Inward, Outward, chain},
    call::{End, Pending},
    echo::Echo,
    fault::Fault,
    provider::{Api, Provider},
    rewrite,
    upstream::{self, Upstream},
};
use crate::log::Traffic;

/// The most bytes of a request's head. Agents send little there.
const MAX_HEAD: usize = 64 * 1024;
/// How often within the time of silence it is looked whether there is silence.
const LOOKS: u32 = 8;

/// What the requests of one connection share.
struct Connection {
    place: Place,
    /// The connection that the last request went over, to be used again.
    upstream: Mutex<Option<Upstream>>,
    /// The traffic of the request in hand, and how many there were: what the idle watch looks at.
    traffic: Mutex<Arc<Traffic>>,
    requests: AtomicU64,
}

/// Serves a connection to its end.
pub(super) async fn run(stream: TcpStream, place: Place) {
    // Without this, pieces of an answer would wait for each other.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let settings = &place.parts.settings;
    let mut closing = place.closing.clone();
    let connection = Arc::new(Connection {
        place: place.clone(),
        upstream: Mutex::default(),
        traffic: Mutex::default(),
        requests: AtomicU64::new(0),
    });
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request| {
            let connection = Arc::clone(&connection);
            async move { Ok::<_, Infallible>(connection.answer(request).await) }
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
async fn until_quiet(idle_after: Duration, activity: impl Fn() -> u64) {
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
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    fn activity(&self) -> u64 {
        let passed = lock(&self.traffic).total();
        passed.wrapping_add(self.requests.load(Ordering::Relaxed) << 40)
    }

    /// Passes a request on, or says why not.
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let Place { parts, workspace, .. } = &self.place;
        let calls = Arc::clone(&parts.calls);
        let mut call = Pending::new(*workspace, request.method().as_str(), calls);
        *lock(&self.traffic) = Arc::clone(&call.traffic);
        self.requests.fetch_add(1, Ordering::Relaxed);

        let (name, rest) = rewrite::split(request.uri().path());
        let provider = parts.providers.get(name).map(Arc::clone);
        call.of(provider.as_ref().map_or("", |provider| provider.name()), rest);
        // Where nobody knows whom it was meant for, this is the shape that most understand.
        let api = provider.as_ref().map_or(Api::Anthropic, |provider| provider.api());
        let passed = match self.admit(provider.as_ref(), &request) {
            Ok((provider, permit)) => {
                let echo = Echo::new(Arc::clone(provider));
                self.pass(provider, request, &call).await.map(|r| (r, echo, permit))
            }
            Err(fault) => Err(fault),
        };
        match passed {
            Ok((response, echo, permit)) => {
                call.answered(response.status().as_u16());
                let idle_after = parts.settings.idle_after;
                response
                    .map(|body| Inward::new(body, echo, call, idle_after, permit).boxed_unsync())
            }
            Err(fault) => {
                let (response, length) = fault.answer(api);
                call.answered(fault.status().as_u16());
                call.ended(End::Refused(fault.to_string()));
                call.traffic.received.fetch_add(length as u64, Ordering::Relaxed);
                response
            }
        }
    }

    /// Whether a request may be passed on, by its head.
    fn admit<'a>(
        &self,
        provider: Option<&'a Arc<Provider>>,
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
        if !provider.is_ready() {
            return Err(Fault::NoKey { provider: name(), remedy: provider.remedy() });
        }
        if request.body().size_hint().lower() > settings.max_body {
            return Err(Fault::TooLarge { limit: settings.max_body });
        }
        let permit = Arc::clone(&self.place.requests).try_acquire_owned();
        let limit = settings.max_requests;
        Ok((provider, permit.map_err(|_| Fault::TooMany { limit })?))
    }

    /// Passes a request on and gives back its answer, when its head is there.
    async fn pass(
        &self,
        provider: &Arc<Provider>,
        request: Request<Incoming>,
        call: &Pending,
    ) -> Result<Response<Incoming>, Fault> {
        let settings = &self.place.parts.settings;
        let name = || provider.name().to_owned();
        let too_large = Arc::new(AtomicBool::new(false));
        let (head, body) = request.into_parts();
        let host = head.headers.get(header::HOST).cloned();
        let traffic = Arc::clone(&call.traffic);
        let body = Outward::new(body, settings.max_body, traffic, Arc::clone(&too_large));
        let sending = self.send(provider, head, body);
        let answered = tokio::select! {
            answered = sending => answered,
            () = until_quiet(settings.idle_after, || call.traffic.total()) => {
                Err(Fault::TimedOut { provider: name(), after: settings.idle_after })
            }
        };
        if too_large.load(Ordering::Relaxed) && answered.is_err() {
            return Err(Fault::TooLarge { limit: settings.max_body });
        }
        let (upstream, response) = answered?;
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let why = "it switched protocols, which it was not asked to".to_owned();
            return Err(Fault::Broken { provider: name(), why });
        }
        rewrite::incoming(&mut head, provider, host.as_ref())?;
        *lock(&self.upstream) = Some(upstream);
        Ok(Response::from_parts(head, body))
    }

    /// Sends a request over the last connection or a new one.
    async fn send(
        &self,
        provider: &Arc<Provider>,
        head: request::Parts,
        body: Outward,
    ) -> Result<(Upstream, Response<Incoming>), Fault> {
        let parts = &self.place.parts;
        let broken = |error: &hyper::Error| Fault::Broken {
            provider: provider.name().to_owned(),
            why: chain(error),
        };
        let (mut upstream, is_kept) = match self.kept(provider).await {
            Some(upstream) => (upstream, true),
            None => (upstream::connect(parts, provider).await?, false),
        };
        let head = rewrite::outgoing(head, provider, upstream.via.as_ref())?;
        let request = Request::from_parts(head, body);
        let mut error = match upstream.sender.try_send_request(request).await {
            Ok(response) => return Ok((upstream, response)),
            Err(error) => error,
        };
        // A kept connection may have ended just now, before anything of the request was sent.
        let Some(request) = error.take_message().filter(|_| is_kept) else {
            return Err(broken(error.error()));
        };
        upstream = upstream::connect(parts, provider).await?;
        let response = upstream.sender.send_request(request).await;
        response.map(|response| (upstream, response)).map_err(|error| broken(&error))
    }

    /// The connection of the last request, if it is of use.
    async fn kept(&self, provider: &Arc<Provider>) -> Option<Upstream> {
        let kept = lock(&self.upstream).take();
        let mut kept = kept.filter(|kept| Arc::ptr_eq(&kept.provider, provider))?;
        let within = self.place.parts.settings.connect_within;
        matches!(timeout(within, kept.sender.ready()).await, Ok(Ok(()))).then_some(kept)
    }
}

fn is_websocket(headers: &HeaderMap) -> bool {
    headers.get_all(header::UPGRADE).iter().any(|value| {
        value.as_bytes().to_ascii_lowercase().windows(9).any(|part| part == b"websocket")
    })
}
