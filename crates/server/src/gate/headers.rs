//! What every answer tells browsers: what they may do with it, and which other sites may read it.

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::{
    auth::{Site, cookie::Transport},
    request_id::{self, RequestId},
};

/// What is no page may load nothing and stand in no frame.
const NO_PAGE: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'");

/// On every answer.
const FIXED: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    // An address may name a session or carry a code: no other site is told.
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// For a year, once a browser has come over https; not for other names of the domain.
const HTTPS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What pages of other sites may do, where they may anything.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// What they may send.
const SENT: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, last-event-id, x-boatyard-organization, \
     x-request-id",
);
/// What they may read beside the body.
const READ: HeaderValue = HeaderValue::from_static("location, retry-after, x-request-id");
/// How long browsers need not ask again, in seconds.
const ASKED_FOR: HeaderValue = HeaderValue::from_static("600");

/// Adds what an answer lacks.
pub(super) fn secure(headers: &mut HeaderMap, transport: Transport, site: &Site) {
    for (name, value) in &FIXED {
        headers.insert(name, value.clone());
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(NO_PAGE);
    if transport == Transport::Tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HTTPS_ONLY);
    }
    if let Site::Allowed(origin) = site {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READ);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
}

/// Whether a browser asks on behalf of another site's page what that may do.
pub(super) fn is_preflight(request: &Request, site: &Site) -> bool {
    matches!(site, Site::Allowed(_))
        && request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Tells it.
pub(super) fn preflight(site: &Site, id: &RequestId) -> Response<Body> {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    secure(headers, Transport::Plain, site);
    headers.insert(request_id::HEADER, id.header());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, SENT);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, ASKED_FOR);
    response
}
