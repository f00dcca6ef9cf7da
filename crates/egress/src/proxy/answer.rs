//! What the proxy itself answers, and the bodies that pass through it.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::log::{Pending, Traffic};

/// A body that the proxy sends.
pub(super) type Answer = UnsyncBoxBody<Bytes, hyper::Error>;

/// A text of ours.
pub(super) fn text(status: StatusCode, text: &str) -> Response<Answer> {
    let body = Full::new(Bytes::from(format!("{}\n", text.trim_end())));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// A text of ours that says which of the standard's errors (RFC 9209) it is.
pub(super) fn error(status: StatusCode, error: &str, rule: &str, why: &str) -> Response<Answer> {
    let mut response = text(status, why);
    let first_line = why.lines().next().unwrap_or_default();
    let mut value = format!("boatyard; error={error}; details={}", quoted(first_line));
    if !rule.is_empty() {
        value.push_str(&format!("; rule={}", quoted(rule)));
    }
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert("proxy-status", value);
    }
    response
}

/// A text as a quoted string of a structured header: plain ASCII.
fn quoted(text: &str) -> String {
    let escaped = text
        .chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]));
    ['"'].into_iter().chain(escaped).chain(['"']).collect()
}

/// An empty answer: the tunnel begins after it.
pub(super) fn tunnel() -> Response<Answer> {
    Response::new(Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync())
}

/// Which way a body goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Out,
    In,
}

/// A body on its way through, counted as it passes. The last holder of the record tells it.
pub(super) struct Passing {
    body: Incoming,
    way: Way,
    traffic: Arc<Traffic>,
    _record: Option<Pending>,
}

impl Passing {
    pub(super) fn new(
        body: Incoming,
        way: Way,
        traffic: Arc<Traffic>,
        record: Option<Pending>,
    ) -> Self {
        Self { body, way, traffic, _record: record }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let counter = match self.way {
                Way::Out => &self.traffic.sent,
                Way::In => &self.traffic.received,
            };
            counter.fetch_add(data.remaining() as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
