//! A plain request: judged by host, port, method and path, and passed on.
//!
//! The destination is what the request's line names; its `Host` is written anew from that, so
//! that the two can't differ. Headers that are between client and proxy go no further.

use std::sync::Arc;

use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    uri::Scheme,
};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use super::{
    answer::{self, Answer, Passing, Way},
    connection::{Connection, lock, malformed},
};
use crate::{
    dial::{DialError, Purpose, Via, dial},
    log::{MAX_PATH, Outcome, Pending},
    rules::{Target, Wish},
};

/// A connection to a destination, kept for the next request to it.
pub(super) struct Upstream {
    target: String,
    sender: http1::SendRequest<Passing>,
    via: Option<Via>,
    driver: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Headers that concern one connection only. What `Connection` names joins them.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Judges a request, passes it on and gives back the answer.
pub(super) async fn answer(
    connection: &Connection,
    request: Request<Incoming>,
    mut record: Pending,
) -> Response<Answer> {
    let uri = request.uri();
    let path = uri.path().to_owned();
    let query = uri.query().map(str::to_owned);
    record.set(|record| {
        let end = path.floor_char_boundary(MAX_PATH);
        record.path = Some(path[..end].to_owned());
    });
    let target = match destination(uri) {
        Ok(target) => target,
        Err(why) => return malformed(&mut record, why),
    };
    let method = request.method().clone();
    if method == Method::TRACE {
        // It would show the client what was added on the way.
        return malformed(&mut record, "TRACE is not passed on");
    }
    let wish = Wish::Request { method: &method, path: &path, query: query.as_deref() };
    if let Some(denied) = connection.judge(&target, wish, &mut record).await {
        return denied;
    }
    let mut upstream = match upstream(connection, &target).await {
        Ok(upstream) => upstream,
        Err(error) => return connection.failed(&error, record),
    };
    let outgoing = match rewrite(request, &target, upstream.via.as_ref()) {
        Ok(request) => request,
        Err(why) => return malformed(&mut record, why),
    };
    let traffic = Arc::clone(&record.traffic);
    let outgoing = outgoing.map(|body| Passing::new(body, Way::Out, Arc::clone(&traffic), None));
    let response = match upstream.sender.send_request(outgoing).await {
        Ok(response) => response,
        Err(error) => return broken(&target, &error, record),
    };
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        record.set(|record| {
            record.outcome = Outcome::Failed { reason: "it switched protocols unasked".into() };
        });
        let why = format!("{target} switched protocols, which it was not asked to");
        return answer::error(StatusCode::BAD_GATEWAY, "http_protocol_error", "", &why);
    }
    strip(&mut head.headers);
    head.version = Version::HTTP_11;
    record.set(|record| record.outcome = Outcome::Passed { status: head.status.as_u16() });
    *lock(&connection.upstream) = Some(upstream);
    Response::from_parts(head, Passing::new(body, Way::In, traffic, Some(record)).boxed_unsync())
}

/// Where a request in absolute form goes.
fn destination(uri: &Uri) -> Result<Target, &'static str> {
    let Some(authority) = uri.authority() else {
        return Err("This is the proxy by which a workspace reaches the outside, and no web \
                    server: ask it for a full URL, or CONNECT");
    };
    if uri.scheme() != Some(&Scheme::HTTP) {
        return Err("only http:// is passed on; for anything else use CONNECT");
    }
    if authority.as_str().contains('@') {
        return Err("a user name in the URL is not passed on");
    }
    let host = authority.host().parse().map_err(|_| "the URL names no host")?;
    match authority.port() {
        None => Ok(Target { host, port: 80 }),
        Some(port) if port.as_u16() != 0 => Ok(Target { host, port: port.as_u16() }),
        Some(_) => Err("the URL names no port"),
    }
}

/// The connection of the last request if it fits, or a new one.
async fn upstream(connection: &Connection, target: &Target) -> Result<Upstream, DialError> {
    let name = target.to_string();
    let kept = lock(&connection.upstream).take().filter(|kept| kept.target == name);
    if let Some(mut kept) = kept
        && kept.sender.ready().await.is_ok()
    {
        return Ok(kept);
    }
    let parts = &connection.place.parts;
    let settings = &parts.settings;
    let dialled =
        dial(target, Purpose::Requests, &settings.outgoing, &settings.guard, &*parts.resolver)
            .await?;
    let failed = |error| DialError::Connect {
        target: target.to_string(),
        source: std::io::Error::other::<hyper::Error>(error),
    };
    let (sender, driver) = http1::Builder::new()
        .max_buf_size(settings.max_head)
        .handshake(TokioIo::new(dialled.stream))
        .await
        .map_err(failed)?;
    // How it ends shows in the request or its body.
    let driver = tokio::spawn(async move {
        let _ = driver.await;
    });
    Ok(Upstream { target: name, sender, via: dialled.via, driver })
}

/// The request as the destination, or an upstream proxy, is to see it.
fn rewrite(
    request: Request<Incoming>,
    target: &Target,
    via: Option<&Via>,
) -> Result<Request<Incoming>, &'static str> {
    let (mut head, body) = request.into_parts();
    strip(&mut head.headers);
    let host = if target.port == 80 { target.host.to_string() } else { target.to_string() };
    let host_header = HeaderValue::try_from(&host).map_err(|_| "the URL names no host")?;
    head.headers.insert(header::HOST, host_header);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = if via.is_some() { format!("http://{host}{path}") } else { path.to_owned() };
    head.uri = uri.parse().map_err(|_| "the URL has no legal path")?;
    if let Some(authorization) = via.and_then(|via| via.authorization.clone()) {
        head.headers.insert(header::PROXY_AUTHORIZATION, authorization);
    }
    head.version = Version::HTTP_11;
    head.extensions.clear();
    Ok(Request::from_parts(head, body))
}

/// Removes the headers that concern one connection only.
pub(crate) fn strip(headers: &mut http::HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A client must not be able to have these taken out.
        .filter(|name| !matches!(*name, header::HOST | header::CONTENT_LENGTH))
        .collect();
    for name in HOP_BY_HOP.iter().chain([&PROXY_CONNECTION]).chain(&named) {
        headers.remove(name);
    }
}

fn broken(target: &Target, error: &hyper::Error, mut record: Pending) -> Response<Answer> {
    let reason = format!("{target} did not answer: {error}");
    record.set(|record| record.outcome = Outcome::Failed { reason: reason.clone() });
    answer::error(StatusCode::BAD_GATEWAY, "http_response_incomplete", "", &reason)
}
