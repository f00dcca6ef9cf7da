//! What the proxy itself answers, and the bodies that pass through it.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    tunnel::WITHDRAWN,
    upstream::{Pool, Upstream},
};
use crate::{
    broker::BoxError,
    log::{Outcome, Pending, Traffic},
};

/// A body that the proxy sends, either way.
pub(super) type Answer = crate::broker::Body;

/// What the proxy says instead of an answer of the destination.
#[derive(Debug, Clone)]
pub(super) struct Notice {
    pub(super) status: StatusCode,
    /// One of the errors of RFC 9209.
    pub(super) kind: &'static str,
    /// The rule that decided, if one did.
    pub(super) rule: Option<Arc<str>>,
    /// What is wrong: one sentence.
    pub(super) why: String,
    /// What can be done about it, a line each.
    pub(super) mend: Vec<String>,
}

impl Notice {
    pub(super) fn new(status: StatusCode, kind: &'static str, why: impl Into<String>) -> Self {
        Self { status, kind, rule: None, why: why.into(), mend: Vec::new() }
    }

    /// The answer, in the form that the client reads.
    pub(super) fn answer(&self, wants: Wants) -> Response<Answer> {
        let (kind, text) = match wants {
            Wants::Text => ("text/plain; charset=utf-8", self.text()),
            Wants::Json => ("application/problem+json", self.json()),
        };
        let mut response = Response::new(whole(text.into()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let mut value = format!("boatyard; error={}; details={}", self.kind, quoted(&self.why));
        if let Some(rule) = &self.rule {
            value.push_str(&format!("; rule={}", quoted(rule)));
        }
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert("proxy-status", value);
        }
        response
    }

    fn text(&self) -> String {
        let mut text = format!("{}.\n", self.why.trim_end_matches('.'));
        for line in &self.mend {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn json(&self) -> String {
        serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.why,
            "error": self.kind,
            "rule": self.rule,
            "mend": self.mend,
        })
        .to_string()
    }
}

/// In which form a client takes what went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    Text,
    Json,
}

impl Wants {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let names_json = |value: &HeaderValue| {
            value.to_str().is_ok_and(|value| value.contains("/json") || value.contains("+json"))
        };
        if headers.get_all(header::ACCEPT).iter().any(names_json) { Self::Json } else { Self::Text }
    }
}

/// A body that is there as a whole.
pub(super) fn whole(bytes: Bytes) -> Answer {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
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
    Response::new(whole(Bytes::new()))
}

/// Which way a body goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Out,
    In,
}

/// Counts what passes.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    pub(super) traffic: Arc<Traffic>,
    /// Of the whole connection: what its idle watch looks at.
    pub(super) activity: Arc<AtomicU64>,
}

impl Meter {
    pub(super) fn count(&self, way: Way, bytes: usize) {
        let counter = match way {
            Way::Out => &self.traffic.sent,
            Way::In => &self.traffic.received,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        // An empty piece is a sign of life, too.
        self.activity.fetch_add(1, Ordering::Relaxed);
    }
}

/// A body on its way through, counted as it passes. The last holder of the record tells it.
pub(super) struct Passing<B> {
    body: B,
    way: Way,
    meter: Meter,
    end: Option<End>,
}

/// Waits until the rules no longer allow something.
pub(super) type Withdrawn = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What happens when a body is over.
pub(super) struct End {
    /// Told when the body goes, wherever it stands.
    pub(super) record: Pending,
    /// Ready when the rules no longer allow what the body answers.
    pub(super) withdrawn: Withdrawn,
    /// Given back, if the body came to its end.
    pub(super) upstream: Option<Upstream>,
    pub(super) pool: Arc<Pool>,
    /// Makes room for the next when the body goes.
    #[expect(dead_code, reason = "held for its end")]
    pub(super) room: OwnedSemaphorePermit,
}

impl<B> Passing<B> {
    pub(super) fn new(body: B, way: Way, meter: Meter, end: Option<End>) -> Self {
        Self { body, way, meter, end }
    }
}

impl<B> Body for Passing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(end) = &mut self.end
            && end.withdrawn.as_mut().poll(cx).is_ready()
        {
            let reason = WITHDRAWN.to_owned();
            end.record.set(|record| record.outcome = Outcome::Denied { reason });
            return Poll::Ready(Some(Err(WITHDRAWN.into())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.meter.count(self.way, data.remaining());
        }
        let is_over = match &frame {
            None => true,
            Some(Ok(_)) => self.body.is_end_stream(),
            Some(Err(_)) => false,
        };
        if is_over
            && let Some(end) = &mut self.end
            && let Some(upstream) = end.upstream.take()
        {
            end.pool.give_back(upstream);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
