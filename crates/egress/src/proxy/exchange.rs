//! One request of which it is known where it goes: judged, given what it may have, passed on, and
//! its answer passed back. Bodies go through piece by piece, both ways at the same time.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, request,
    uri::Authority,
};
use http_body_util::BodyExt;
use hyper::{
    body::{Body as _, Incoming},
    upgrade::OnUpgrade,
};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::timeout};

use super::{
    answer::{Answer, End, Notice, Passing, Wants, Way, Withdrawn},
    connection::{After, Connection, Origin, lock},
    forward::strip,
    judge::{Matter, Passes, chain, unreachable},
    tunnel::{WITHDRAWN, until_withdrawn},
    upgrade::Upgrade,
    upstream::{ConnectError, Sender, Upstream, Wanted, Wire},
};
use crate::{
    broker::{Body, Call, Echo, Refusal},
    log::{Outcome, Pending, Record},
    policy::Policy,
    rules::{Host, Target, Wish},
};

mod stoppable;

use stoppable::Stoppable;

/// What a refused request may still send, so that its client comes to read why.
const DRAINED: usize = 1 << 20;
/// How long that may take.
const DRAINED_WITHIN: Duration = Duration::from_secs(1);

/// Where a request goes, and what is known of the way.
pub(super) struct Route<'a> {
    pub(super) target: &'a Target,
    pub(super) wire: Wire,
    pub(super) granted: Option<&'a Arc<str>>,
    /// A connection that was made already, for the first that comes.
    pub(super) outside: Option<&'a Mutex<Option<TcpStream>>>,
}

/// Passes a request on to the server that its connection leads to.
pub(super) async fn to_origin(
    connection: &Connection,
    origin: &Origin,
    request: Request<Incoming>,
    mut record: Pending,
) -> Response<Answer> {
    if let Some(other) = named_otherwise(&request, &origin.target) {
        let wants = Wants::of(request.headers());
        let target = &origin.target;
        let why = format!("This connection leads to {target}, but the request is for `{other}`");
        record.set(|record| {
            record.host = target.host.to_string();
            record.port = target.port;
            record.path = Some(Record::path_of(request.uri().path()));
            record.outcome = Outcome::Denied { reason: why.clone() };
        });
        let mut notice = Notice::new(StatusCode::MISDIRECTED_REQUEST, "http_request_denied", why);
        notice.mend = vec!["Make a connection of its own for each host.".to_owned()];
        drain(request.into_body()).await;
        return notice.answer(wants);
    }
    let route = Route {
        target: &origin.target,
        wire: origin.wire,
        granted: origin.granted.as_ref(),
        outside: Some(&origin.outside),
    };
    pass(connection, &route, request, record).await
}

/// The host for which a request is, if it is another than its connection leads to: nobody may speak
/// with one server under the name of another.
fn named_otherwise(request: &Request<Incoming>, target: &Target) -> Option<String> {
    let hosts = request.headers().get_all(header::HOST).iter();
    let named = hosts.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let named = named.chain(request.uri().authority().map(Authority::to_string));
    let is_same = |name: &String| {
        let Ok(authority) = name.parse::<Authority>() else { return false };
        let port = authority.port_u16().unwrap_or(target.port);
        !name.contains('@')
            && authority.host().parse::<Host>().is_ok_and(|host| host == target.host)
            && port == target.port
    };
    let other = named.into_iter().find(|name| !is_same(name))?;
    // It comes from the client: shown as plain text of a sane length.
    Some(other.chars().filter(char::is_ascii_graphic).take(100).collect())
}

/// Judges a request, passes it on and gives back the answer.
pub(super) async fn pass(
    connection: &Connection,
    route: &Route<'_>,
    mut request: Request<Incoming>,
    mut record: Pending,
) -> Response<Answer> {
    let wants = Wants::of(request.headers());
    // What comes after it is watched as a `GET`, and there is no other.
    let may_upgrade = request.version() == Version::HTTP_11 && *request.method() == Method::GET;
    let upgrade =
        (may_upgrade && is_websocket(request.headers())).then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    record.set(|record| record.path = Some(Record::path_of(head.uri.path())));
    match judged(connection, route, &head, &mut record).await {
        Ok(passes) => {
            let asked_for = head.uri.clone();
            let mut withdrawn = withdrawn(connection, route, &head);
            let sending = Sending { connection, route, passes, is_upgrade: upgrade.is_some() };
            let sent = tokio::select! {
                sent = sending.send(head, body, &mut record) => sent,
                () = withdrawn.as_mut() => {
                    let reason = WITHDRAWN.to_owned();
                    record.set(|record| record.outcome = Outcome::Denied { reason });
                    let why = format!("Boatyard cut this request off: {WITHDRAWN}");
                    Err(Notice::new(StatusCode::FORBIDDEN, "http_request_denied", why))
                }
            };
            match sent {
                Ok(begun) => {
                    let asked = (upgrade, asked_for);
                    back(connection, route, begun, Told { record, withdrawn }, asked, wants)
                }
                Err(notice) => notice.answer(wants),
            }
        }
        Err(notice) => {
            // A client that waits to be told to go on has sent nothing.
            if !head.headers.contains_key(header::EXPECT) {
                drain(body).await;
            }
            notice.answer(wants)
        }
    }
}

/// Waits until the rules no longer allow a request.
fn withdrawn(connection: &Connection, route: &Route<'_>, head: &request::Parts) -> Withdrawn {
    let (place, target) = (connection.place.clone(), route.target.clone());
    let (method, uri) = (head.method.clone(), head.uri.clone());
    Box::pin(async move {
        let wish = Wish::Request { method: &method, path: uri.path(), query: uri.query() };
        until_withdrawn(&place, &target, wish).await;
    })
}

async fn judged(
    connection: &Connection,
    route: &Route<'_>,
    head: &request::Parts,
    record: &mut Pending,
) -> Result<Passes, Notice> {
    if matches!(head.method, Method::TRACE | Method::CONNECT) {
        // TRACE would show the client what was added on the way.
        return Err(malformed(record, format!("{} is not passed on", head.method)));
    }
    let path = head.uri.path();
    if !path.starts_with('/') {
        return Err(malformed(record, "only requests for a path are passed on".to_owned()));
    }
    let matter = Matter {
        place: &connection.place,
        target: route.target,
        wish: Wish::Request { method: &head.method, path, query: head.uri.query() },
        request: Some((route.wire.scheme(), head)),
        granted: route.granted,
        stream: &connection.stream,
        peer: connection.peer,
        held: &connection.held,
    };
    matter.judge(record).await
}

/// A request that may leave.
struct Sending<'a> {
    connection: &'a Connection,
    route: &'a Route<'a>,
    passes: Passes,
    /// Whether it asks to go on in WebSocket.
    is_upgrade: bool,
}

/// What is told of a request, and what cuts it off.
struct Told {
    record: Pending,
    withdrawn: Withdrawn,
}

/// An answer that has begun.
struct Begun {
    response: Response<Incoming>,
    upstream: Upstream,
    echo: Echo,
    /// Held until the answer is out.
    room: OwnedSemaphorePermit,
}

impl Sending<'_> {
    async fn send(
        &self,
        head: request::Parts,
        body: Incoming,
        record: &mut Pending,
    ) -> Result<Begun, Notice> {
        let place = &self.connection.place;
        let parts = &place.parts;
        let room = self.room(record).await?;
        let policy = Arc::clone(&place.policy.borrow());
        let meter = self.connection.meter(&record.traffic);
        let mut head = outgoing(head, self.route).map_err(|why| malformed(record, why))?;
        say_length(&mut head.headers, &body);
        let body = Passing::new(body, Way::Out, meter, None).boxed_unsync();
        let call = self.call(&policy);
        let prepared = parts.settings.broker.prepare(call, &mut head, body).await;
        let mut prepared = prepared.map_err(|refusal| refused(&refusal, record))?;
        if let Some(used) = prepared.used.first() {
            let binding = policy.bindings().iter().find(|binding| binding.connection == *used);
            let name = binding.map(|binding| Arc::clone(&binding.name));
            record.set(|record| record.credential = name);
        }
        let body = std::mem::replace(&mut prepared.body, super::answer::whole(Bytes::new()));
        let stopped = Arc::new(OnceLock::new());
        let body = Stoppable { body, stopped: Arc::clone(&stopped) };
        let sent = self.exchange(head, body).await;
        let (response, upstream) = match sent {
            Ok(sent) => sent,
            Err(failure) => {
                return Err(match stopped.get() {
                    Some(refusal) => refused(refusal, record),
                    None => failed(&failure, self.route.target, record),
                });
            }
        };
        let status = response.status();
        record.set(|record| record.outcome = Outcome::Passed { status: status.as_u16() });
        if !prepared.used.is_empty() {
            parts.settings.broker.answered(call, &prepared.used, status);
        }
        Ok(Begun { response, upstream, echo: prepared.echo, room })
    }

    /// Waits until few enough requests of the workspace are under way.
    async fn room(&self, record: &mut Pending) -> Result<OwnedSemaphorePermit, Notice> {
        let place = &self.connection.place;
        let settings = &place.parts.settings;
        let room = Arc::clone(&place.requests).acquire_owned();
        if let Ok(Ok(room)) = timeout(settings.head_within, room).await {
            return Ok(room);
        }
        let why =
            format!("This workspace has {} requests under way already", settings.max_requests);
        record.set(|record| record.outcome = Outcome::Failed { reason: why.clone() });
        let mut notice =
            Notice::new(StatusCode::SERVICE_UNAVAILABLE, "proxy_internal_response", why);
        notice.mend = vec!["Read the answers to those, or end them.".to_owned()];
        Err(notice)
    }

    fn call<'a>(&'a self, policy: &'a Policy) -> Call<'a> {
        Call {
            workspace: self.connection.place.workspace,
            target: self.route.target,
            scheme: self.route.wire.scheme(),
            policy,
            leave: self.passes.leave(),
        }
    }

    /// Sends it over a connection that is there, or a new one. One that the destination closed just
    /// then is no fault of the request: it is sent once more, if that can't do anything twice.
    async fn exchange(
        &self,
        head: request::Parts,
        body: Stoppable,
    ) -> Result<(Response<Incoming>, Upstream), Failure> {
        let Route { target, wire, outside, .. } = *self.route;
        let place = &self.connection.place;
        let (parts, pool) = (&place.parts, &place.pool);
        let made = outside.and_then(|outside| lock(outside).take());
        let wanted = if self.is_upgrade { Wanted::Upgrade } else { Wanted::Request };
        let mut upstream = match made {
            Some(stream) => pool.adopt(parts, target, wire, stream).await?,
            None => pool.connect(parts, target, wire, wanted).await?,
        };
        let is_safe = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let again = (is_safe && body.is_end_stream() && upstream.is_reused).then(|| head.clone());
        let request = Request::from_parts(head, body.boxed_unsync());
        let (error, unsent) = match over(&mut upstream, request, target, self.is_upgrade).await {
            Ok(response) => return Ok((response, upstream)),
            Err(unanswered) => unanswered,
        };
        let again = unsent
            .or_else(|| Some(Request::from_parts(again?, super::answer::whole(Bytes::new()))));
        let Some(again) = again.filter(|_| upstream.is_reused) else { return Err(error.into()) };
        let mut upstream = pool.connect_anew(parts, target, wire).await?;
        match over(&mut upstream, again, target, self.is_upgrade).await {
            Ok(response) => Ok((response, upstream)),
            Err((error, _)) => Err(error.into()),
        }
    }
}

/// The answer's way back. `asked` is the client's side, if it wants to go on in WebSocket, and what
/// it asked for.
fn back(
    connection: &Connection,
    route: &Route<'_>,
    begun: Begun,
    told: Told,
    asked: (Option<OnUpgrade>, Uri),
    wants: Wants,
) -> Response<Answer> {
    let Begun { mut response, upstream, echo, room } = begun;
    let Told { mut record, withdrawn } = told;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(inside), uri) = asked else {
            return unasked(route.target, &mut record).answer(wants);
        };
        if !is_websocket(response.headers()) {
            return unasked(route.target, &mut record).answer(wants);
        }
        let outside = hyper::upgrade::on(&mut response);
        let target = route.target.clone();
        let upgrade = Upgrade { inside, outside, upstream, target, uri, record };
        *lock(&connection.after) = Some(After::Upgrade(upgrade));
        let (mut head, _) = response.into_parts();
        head.headers.remove(header::ALT_SVC);
        echo.head(&mut head);
        head.extensions.clear();
        return Response::from_parts(head, super::answer::whole(Bytes::new()));
    }
    let pool = &connection.place.pool;
    let (mut head, body) = response.into_parts();
    strip(&mut head.headers);
    // It would lead past us, to UDP, which there is none of.
    head.headers.remove(header::ALT_SVC);
    head.version = Version::HTTP_11;
    head.extensions.clear();
    echo.head(&mut head);
    let meter = connection.meter(&record.traffic);
    let packing = if body.is_end_stream() { Ok(None) } else { echo.packing(&mut head) };
    let packing = match packing {
        Ok(packing) => packing,
        Err(how) => return packed(&how, route.target, &mut record).answer(wants),
    };
    let upstream = if body.is_end_stream() {
        // Nobody will ask it for its end.
        pool.give_back(upstream);
        None
    } else {
        Some(upstream)
    };
    let end = End { record, withdrawn, upstream, pool: Arc::clone(pool), room };
    let body = Passing::new(body, Way::In, meter, Some(end)).boxed_unsync();
    Response::from_parts(head, echo.body(body, packing))
}

/// A credential may be in it, and can't be found.
fn packed(how: &str, target: &Target, record: &mut Pending) -> Notice {
    let how: String = how.chars().filter(|c| matches!(c, ' '..='~')).take(100).collect();
    let why = format!(
        "{target} packed its answer ({how}) although it was asked not to, so that Boatyard can't \
         see whether it repeats the credential that went with the request"
    );
    record.set(|record| record.outcome = Outcome::Failed { reason: why.clone() });
    Notice::new(StatusCode::BAD_GATEWAY, "http_response_content_coding", why)
}

fn unasked(target: &Target, record: &mut Pending) -> Notice {
    let why = format!("{target} switched protocols, which it was not asked to");
    record.set(|record| record.outcome = Outcome::Failed { reason: why.clone() });
    Notice::new(StatusCode::BAD_GATEWAY, "http_protocol_error", why)
}

/// Sends a request over a connection; with the error comes what was not sent at all.
async fn over(
    upstream: &mut Upstream,
    mut request: Request<Body>,
    target: &Target,
    is_upgrade: bool,
) -> Result<Response<Incoming>, (hyper::Error, Option<Request<Body>>)> {
    let scheme = upstream.wire().scheme();
    let authority =
        if target.port == scheme.port() { target.host.to_string() } else { target.to_string() };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    match &mut upstream.sender {
        Sender::Http1(sender) => {
            *request.version_mut() = Version::HTTP_11;
            let whole = format!("{}://{authority}{path}", scheme.name());
            let uri = if upstream.via.is_some() { &whole } else { &path };
            // It was one before its parts were put together anew.
            if let Ok(uri) = uri.parse() {
                *request.uri_mut() = uri;
            }
            let headers = request.headers_mut();
            if let Some(authorization) =
                upstream.via.as_ref().and_then(|via| via.authorization.clone())
            {
                headers.insert(header::PROXY_AUTHORIZATION, authorization);
            }
            if is_upgrade {
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            } else if headers.contains_key(header::TE) {
                headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
            }
            let sent = sender.try_send_request(request).await;
            sent.map_err(|mut error| (error.take_message(), error.into_error())).map_err(swap)
        }
        Sender::Http2(sender) => {
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(header::HOST);
            let sent = sender.try_send_request(request).await;
            sent.map_err(|mut error| (error.take_message(), error.into_error())).map_err(swap)
        }
    }
}

fn swap<A, B>((a, b): (A, B)) -> (B, A) {
    (b, a)
}

/// The request's head as the destination is to see it, with its URI in full.
fn outgoing(mut head: request::Parts, route: &Route<'_>) -> Result<request::Parts, String> {
    let takes_trailers = head.headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("trailers"))
    });
    strip(&mut head.headers);
    // The client was told to go on when its body was first asked for.
    head.headers.remove(header::EXPECT);
    if takes_trailers {
        head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    join_cookies(&mut head.headers);
    let scheme = route.wire.scheme();
    let target = route.target;
    let authority =
        if target.port == scheme.port() { target.host.to_string() } else { target.to_string() };
    let host = HeaderValue::try_from(&authority).map_err(|_| "the URL names no host".to_owned())?;
    head.headers.insert(header::HOST, host);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = format!("{}://{authority}{path}", scheme.name());
    head.uri = uri.parse::<Uri>().map_err(|_| "the URL has no legal path".to_owned())?;
    head.extensions.clear();
    Ok(head)
}

/// Has a length stand in a head only as far as it is the body's: one beside `Transfer-Encoding` is
/// none, and whoever believed it would see another request begin within the body.
fn say_length(headers: &mut HeaderMap, body: &Incoming) {
    if !headers.contains_key(header::CONTENT_LENGTH) {
        return;
    }
    match body.size_hint().exact() {
        Some(length) => headers.insert(header::CONTENT_LENGTH, length.into()),
        None => headers.remove(header::CONTENT_LENGTH),
    };
}

/// HTTP/2 may spread them over several lines, HTTP/1 may not.
fn join_cookies(headers: &mut HeaderMap) {
    let all: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if all.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// Whether the other side is to speak WebSocket from here on.
fn is_websocket(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| {
        headers.get_all(name).iter().any(|value| {
            value.to_str().is_ok_and(|value| {
                value.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted))
            })
        })
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

/// Reads what a refused client still sends, within limits.
async fn drain(mut body: Incoming) {
    let draining = async {
        let mut left = DRAINED;
        while let Some(Ok(frame)) = body.frame().await {
            let read = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(read) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Past it, the client may find its connection closed before it has read why.
    let _ = timeout(DRAINED_WITHIN, draining).await;
}

/// Why there is no answer.
enum Failure {
    Connect(ConnectError),
    Exchange(hyper::Error),
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Exchange(error)
    }
}

fn failed(failure: &Failure, target: &Target, record: &mut Pending) -> Notice {
    let mut notice = match failure {
        Failure::Connect(ConnectError::Dial(error)) => return unreachable(error, record),
        Failure::Connect(error) => {
            let kind = match error {
                ConnectError::Certificate { .. } => "tls_certificate_error",
                ConnectError::Tls { .. } => "tls_protocol_error",
                ConnectError::Late { .. } => "connection_timeout",
                _ => "http_protocol_error",
            };
            let why = format!("Boatyard did not pass this on: {}", chain(error));
            let mut notice = Notice::new(StatusCode::BAD_GATEWAY, kind, why);
            if kind == "tls_certificate_error" {
                notice.mend = vec![
                    "If an authority of your own has signed it, its certificate belongs into \
                     `[egress] ca_file` of Boatyard's settings."
                        .to_owned(),
                ];
            }
            notice
        }
        Failure::Exchange(error) => {
            let why = format!("{target} did not answer: {}", chain(error));
            Notice::new(StatusCode::BAD_GATEWAY, "http_response_incomplete", why)
        }
    };
    record.set(|record| {
        record.outcome = Outcome::Failed { reason: notice.why.clone() };
        notice.rule.clone_from(&record.rule);
    });
    notice
}

fn refused(refusal: &Refusal, record: &mut Pending) -> Notice {
    record.set(|record| record.outcome = Outcome::Denied { reason: refusal.why.clone() });
    let mut notice = Notice::new(refusal.status, "http_request_denied", refusal.why.clone());
    notice.mend = vec![refusal.mend.clone()];
    notice
}

pub(super) fn malformed(record: &mut Pending, why: String) -> Notice {
    record.set(|record| record.outcome = Outcome::Failed { reason: why.clone() });
    Notice::new(StatusCode::BAD_REQUEST, "http_request_error", why)
}
