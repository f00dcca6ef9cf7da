//! What every request passes on its way in and out.
//!
//! ```text
//! request id ─► from where? ─► a free place? ─► not too often? ─► meant for us? ─► who? ─► begun?
//!                                               log ◄─ problem document ◄─ route ◄─────────────┘
//! ```
//!
//! What needs a caller waits until the server has taken up what an earlier one left
//! ([`Gate::begin`]); health and the page don't.
//!
//! One middleware does all of it, so that a request pays for one layer. A route (or the framework)
//! that fails leaves the [`Problem`] in the answer's extensions; it is written here, with the
//! request id, and its cause is logged here and nowhere else. Neither query nor body is ever
//! logged: they may hold a key.

use std::{
    error::Error as _,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use boatyard_api::{Problem, ProblemKind, problem};
use boatyard_model::OrganizationId;
use http::{Extensions, HeaderValue, Method, StatusCode, header};
use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    access::{self, Need},
    audit::{self, Audited},
    auth::{Asked, Auth, Caller, Hosts, Known, Refusal, Site, Via, cookie::Transport},
    calls::{Call, Calls},
    metrics,
    proxy::{self, Source},
    request_id::{self, RequestId},
    routes::answer::{AsItIs, Failure},
    sse::socket::Socket,
};

mod headers;
pub(crate) mod redirect;

/// Requests that may be worked on at a time. More than the bench's thousand workspaces at once,
/// few enough that their bodies fit into memory.
pub const REQUESTS_MAX: usize = 4096;

/// What `Retry-After` says when there is no free place, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// How long a request waits for the server to begin. It takes some milliseconds, and a second or
/// two with ten thousand workspaces.
const BEGIN_DEADLINE: Duration = Duration::from_secs(20);

/// What every request passes.
pub struct Gate {
    /// Who calls.
    pub auth: Auth,
    /// Whether a request was meant for this server.
    pub hosts: Hosts,
    /// No new work is taken once this is cancelled.
    pub stopping: CancellationToken,
    /// Where calls with keys are told.
    calls: Option<Calls>,
    /// Whether browsers reach the server over https only.
    transport: Transport,
    begun: SetOnce<()>,
    under_way: AtomicUsize,
    most: usize,
}

impl Gate {
    /// A gate that lets [`REQUESTS_MAX`] requests in at a time, once it is [begun](Self::begin).
    pub fn new(auth: Auth, hosts: Hosts, stopping: CancellationToken) -> Self {
        let begun = SetOnce::new();
        let (under_way, most) = (AtomicUsize::new(0), REQUESTS_MAX);
        let transport = Transport::Plain;
        Self { auth, hosts, stopping, calls: None, transport, begun, under_way, most }
    }

    /// The same, for browsers that come like this.
    #[must_use]
    pub const fn over(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// The same, with a log of calls with keys.
    #[must_use]
    pub fn logging(mut self, calls: Calls) -> Self {
        self.calls = Some(calls);
        self
    }

    /// Lets those in who need the whole server.
    pub fn begin(&self) {
        // Twice is once.
        let _ = self.begun.set(());
    }

    /// Waits until the server has begun.
    async fn begun(&self) -> Result<(), Problem> {
        if self.begun.initialized() {
            return Ok(());
        }
        let begun = async {
            tokio::select! {
                _ = self.begun.wait() => true,
                () = self.stopping.cancelled() => false,
            }
        };
        match tokio::time::timeout(BEGIN_DEADLINE, begun).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Problem::unavailable("the server has not begun yet")
                .with_next("Try again in a few seconds.")),
        }
    }

    /// Requests under way.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// A place for one more request, until it is dropped.
    fn place(&self) -> Result<Place<'_>, Problem> {
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.under_way);
        if before < self.most {
            return Ok(place);
        }
        let detail = format!("{} requests are under way", self.most);
        Err(Problem::new(ProblemKind::TooManyRequests, detail).advised())
    }

    /// The address under which browsers are to come, if a trusted proxy was asked over http.
    fn came_in_the_clear(&self, peer: Option<IpAddr>, request: &Request) -> Option<&str> {
        let https = self.hosts.https()?;
        let asked = self.hosts.proxies.asked(peer?, request.headers());
        (asked == proxy::Asked::Http).then_some(https)
    }

    async fn admit(&self, request: &mut Request, site: &Site) -> Result<(), Problem> {
        if self.stopping.is_cancelled() && !request.method().is_safe() {
            return Err(Problem::unavailable("the server is going down; no new work is taken")
                .with_next("Try again in a few seconds."));
        }
        let matched = request.extensions().get::<MatchedPath>();
        if let Some(path) = matched.filter(|path| !access::is_listed(path.as_str())) {
            tracing::error!(path = path.as_str(), "a route has no line in the table of operations");
            return Err(Problem::not_found("page", path.as_str()));
        }
        let entry = matched.and_then(|path| access::entry(request.method(), path.as_str()));
        let access = match entry {
            Some(entry) if entry.need == Need::Open => Access::Open,
            Some(_) => Access::Key,
            None => unlisted(request.uri().path()),
        };
        let source = request.extensions().get::<Source>().copied();
        self.auth.rates.begin(source, entry)?;
        let organization = take_organization(request)?;
        let asked = Asked {
            method: request.method(),
            headers: request.headers(),
            address: address(request.extensions()),
            site,
            organization,
        };
        let known = match self.auth.identify(&asked).await? {
            Ok(known) => Some(known),
            Err(refusal) if access == Access::Key => {
                if refusal == Refusal::Unknown {
                    self.auth.rates.unknown(source)?;
                }
                return Err(refusal.problem());
            }
            // A browser with an old cookie must still be able to sign in and to see the page.
            Err(_) => None,
        };
        if let Some(known) = known {
            let allowed = entry.map(|entry| entry.check(&known.caller));
            self.auth.rates.known(&known.caller, source, entry)?;
            // Also of whom is refused: the audit log names who it was.
            request.extensions_mut().insert(known);
            allowed.transpose()?;
        }
        match access {
            Access::Key => self.begun().await,
            Access::Open => Ok(()),
        }
    }
}

/// The other end of the connection that a request came over.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Where a request came from, as far as that is known: [`pass`] has found it out.
pub fn address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<Source>().map(|source| source.address)
}

/// The other end of a request's connection, while there is one.
fn peer(extensions: &Extensions) -> Option<IpAddr> {
    match extensions.get::<Peer>() {
        Some(Peer(address)) => Some(*address),
        None => extensions.get::<Arc<Socket>>()?.peer(),
    }
}

/// Takes the organization out of a stream's query: where a browser opens a stream, it can't send
/// the header that names it.
fn take_organization(request: &mut Request) -> Result<Option<OrganizationId>, Problem> {
    let uri = request.uri();
    let Some(query) = uri.query().filter(|_| uri.path().ends_with("/events")) else {
        return Ok(None);
    };
    let mut found = None;
    let mut rest = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if name == "organization" {
            let id = value.parse();
            let id = id.map_err(|error| Problem::invalid("query.organization", error))?;
            found = Some(id);
        } else {
            rest.append_pair(&name, &value);
        }
    }
    if found.is_some() {
        let rest = rest.finish();
        let path = uri.path();
        let text = if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") };
        *request.uri_mut() = text.parse().map_err(Problem::internal)?;
    }
    Ok(found)
}

/// What the log of calls says of one whose caller went away before its answer, as many servers do.
const HUNG_UP: u16 = 499;

/// A call that is told to the log of calls when it is over, with an answer or without.
struct Told<'r> {
    gate: &'r Gate,
    caller: Option<Caller>,
    method: &'r Method,
    path: &'r str,
    route: &'r str,
    status: u16,
    started: Instant,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let (Some(calls), Some(caller)) = (&self.gate.calls, self.caller.take()) else { return };
        let Via::Key(key) = caller.via else { return };
        calls.record(Call {
            owner: caller.owner,
            key,
            time: self.gate.auth.store().now(),
            method: self.method.clone(),
            path: self.path.to_owned(),
            route: self.route.into(),
            status: self.status,
            address: caller.address,
            took: self.started.elapsed(),
        });
    }
}

struct Place<'g>(&'g AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an address asks of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// To be known.
    Key,
    /// Nothing.
    Open,
}

/// What asks for no route of the [table](access::table): a file of the page is for everybody, what
/// the API does not have is nobody's business who is not known.
fn unlisted(path: &str) -> Access {
    let api = path == "/api" || path.starts_with("/api/") || path == "/metrics";
    if api { Access::Key } else { Access::Open }
}

/// The middleware.
pub async fn pass(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let peer = peer(request.extensions());
    let source = peer.map(|peer| gate.hosts.proxies.source(peer, request.headers()));
    if let Some(source) = source {
        request.extensions_mut().insert(source);
    }
    let span = tracing::info_span!("request", request.id = %id);
    let mut told = Told {
        gate: &gate,
        caller: None,
        method: &method,
        path: &path,
        route: route.as_ref().map_or("other", MatchedPath::as_str),
        status: HUNG_UP,
        started,
    };
    let work = async {
        let place = gate.place();
        let mut site = Site::Own;
        let clear = place.is_ok().then(|| gate.came_in_the_clear(peer, &request)).flatten();
        let mut response = match place {
            Ok(_) if let Some(https) = clear => {
                let led = redirect::to_https(https, &method, request.uri());
                led.unwrap_or_else(|problem| Failure(problem).into_response())
            }
            Ok(_place) => {
                let checked = gate.auth.rates.arrive(source);
                let checked =
                    checked.and_then(|()| gate.hosts.check(request.uri(), request.headers()));
                let admitted = match checked {
                    Ok(from) => {
                        site = from;
                        if headers::is_preflight(&request, &site) {
                            return headers::preflight(&site, &id);
                        }
                        gate.admit(&mut request, &site).await
                    }
                    Err(problem) => Err(problem),
                };
                told.caller = request.extensions().get::<Known>().map(|known| known.caller.clone());
                match admitted {
                    Ok(()) => audit::run(gate.auth.store(), request, &id, next).await,
                    Err(problem) => {
                        let audited = Audited::of(&request, &id);
                        Audited::refused(audited, gate.auth.store(), problem).await
                    }
                }
            }
            Err(problem) => Failure(problem).into_response(),
        };
        let failed = response.status().is_client_error() || response.status().is_server_error();
        if failed && response.extensions().get::<AsItIs>().is_none() {
            response = rendered(response, &id, &method);
        }
        let headers = response.headers_mut();
        headers.insert(request_id::HEADER, id.header());
        headers::secure(headers, gate.transport, &site);
        log(&method, &path, response.status(), started.elapsed());
        response
    };
    let response = work.instrument(span).await;
    told.status = response.status().as_u16();
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    metrics::request(&method, route, response.status(), started.elapsed());
    response
}

fn log(method: &Method, path: &str, status: StatusCode, took: Duration) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let status = status.as_u16();
    // Reads that went well are many and of little interest.
    if method.is_safe() && status < 400 {
        tracing::debug!(target: "boatyard::access", %method, path, status, micros);
    } else {
        tracing::info!(target: "boatyard::access", %method, path, status, micros);
    }
}

/// The answer as a problem document.
fn rendered(response: Response, id: &RequestId, method: &Method) -> Response {
    let (mut parts, _) = response.into_parts();
    let mut problem = parts.extensions.remove::<Problem>().unwrap_or_else(|| bare(parts.status));
    if problem.status >= 500 {
        let mut chain = String::new();
        let mut cause = problem.source();
        while let Some(error) = cause {
            if !chain.is_empty() {
                chain.push_str(": ");
            }
            chain.push_str(&error.to_string());
            cause = error.source();
        }
        tracing::error!(problem.kind = %problem.kind, detail = %problem.detail, cause = chain, "request failed");
    }
    problem.request_id = Some(id.to_string());
    if problem.is(ProblemKind::TooManyRequests) || problem.is(ProblemKind::Unavailable) {
        let wait = problem.retry_after.map_or(RETRY_AFTER, HeaderValue::from);
        parts.headers.insert(header::RETRY_AFTER, wait);
    }
    if problem.is(ProblemKind::Unauthenticated) {
        let bearer = HeaderValue::from_static("Bearer realm=\"boatyard\"");
        parts.headers.insert(header::WWW_AUTHENTICATE, bearer);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    let mime = HeaderValue::from_static(problem::MEDIA_TYPE);
    parts.headers.insert(header::CONTENT_TYPE, mime);
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    parts.status = status;
    // A problem is texts and a number: it can be written.
    let json = serde_json::to_vec(&problem).unwrap_or_default();
    let body = if *method == Method::HEAD { Body::empty() } else { Body::from(json) };
    Response::from_parts(parts, body)
}

/// A problem for an answer of the framework's own, which tells a status only.
fn bare(status: StatusCode) -> Problem {
    let kind = ProblemKind::ALL.iter().copied().find(|kind| kind.status() == status.as_u16());
    let fallback =
        if status.is_server_error() { ProblemKind::Internal } else { ProblemKind::Invalid };
    let mut problem = Problem::new(kind.unwrap_or(fallback), "").advised();
    if kind.is_none() {
        problem.status = status.as_u16();
    }
    problem
}

#[cfg(test)]
mod tests;
