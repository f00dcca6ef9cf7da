//! A plain request to the proxy: judged by host, port, method and path, and passed on.
//!
//! The destination is what the request's line names; its `Host` is written anew from that, so
//! that the two can't differ. Headers that are between client and proxy go no further.

use http::{HeaderName, Request, Response, Uri, header, uri::Scheme};
use hyper::body::Incoming;

use super::{
    answer::{Answer, Wants},
    connection::Connection,
    exchange::{self, Route, malformed},
    upstream::Wire,
};
use crate::{
    log::{Pending, Record},
    rules::Target,
};

/// Headers that concern one connection only. What `Connection` names joins them.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
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
    let target = match destination(uri) {
        Ok(target) => target,
        Err(why) => {
            record.set(|record| record.path = Some(Record::path_of(uri.path())));
            return malformed(&mut record, why.to_owned()).answer(Wants::of(request.headers()));
        }
    };
    let route = Route { target: &target, wire: Wire::Http, granted: None, outside: None };
    exchange::pass(connection, &route, request, record).await
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
