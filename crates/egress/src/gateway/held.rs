//! Requests that are held back until somebody lets them go, as when a budget is spent.
//!
//! Nothing of such a request is lost, and its client must not run out of patience meanwhile: where
//! a stream was asked for and its protocol has signs of life, the answer begins with them. What the
//! provider says then follows in the same stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{
    body::{Answer, BodyError},
    payer::Later,
    provider::Api,
};

/// How often a client is told that it still waits.
const EVERY: Duration = Duration::from_secs(10);
/// The most of an error that is put into a stream.
const MAX_ERROR: usize = 64 * 1024;

/// The sign of life in a protocol; none where it has none.
pub(super) fn sign(api: Api) -> Option<&'static [u8]> {
    match api {
        Api::Anthropic => Some(b"event: ping\ndata: {\"type\": \"ping\"}\n\n"),
        // A comment, as others that stand before it send.
        Api::OpenAi => Some(b": waiting for a person\n\n"),
        Api::Gemini | Api::Bedrock | Api::Vertex => None,
    }
}

/// A stream that begins with signs of life and goes on with what `answer` comes to.
pub(super) fn stream(answer: Later<Response<Answer>>, sign: &'static [u8]) -> Response<Answer> {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let body = Waiting { state: State::Held(answer), every, sign };
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

struct Waiting {
    state: State,
    every: Interval,
    sign: &'static [u8],
}

enum State {
    Held(Later<Response<Answer>>),
    Passing(Answer),
    /// The provider answered with an error, which becomes an event.
    Error(Answer, BytesMut),
    Over,
}

fn is_stream(response: &Response<Answer>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    response.status().is_success() && kind.starts_with("text/event-stream")
}

impl Body for Waiting {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Held(answer) => match answer.as_mut().poll(cx) {
                    Poll::Ready(response) if is_stream(&response) => {
                        this.state = State::Passing(response.into_body());
                    }
                    Poll::Ready(response) => {
                        this.state = State::Error(response.into_body(), BytesMut::new());
                    }
                    Poll::Pending => {
                        ready!(this.every.poll_tick(cx));
                        let sign = Bytes::from_static(this.sign);
                        return Poll::Ready(Some(Ok(Frame::data(sign))));
                    }
                },
                State::Passing(body) => return Pin::new(body).poll_frame(cx),
                State::Error(body, said) => match ready!(Pin::new(body).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        if let Ok(piece) = frame.into_data() {
                            let room = MAX_ERROR.saturating_sub(said.len());
                            said.extend_from_slice(&piece[..piece.len().min(room)]);
                        }
                    }
                    Some(Err(error)) => {
                        this.state = State::Over;
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => {
                        let event = event(said);
                        this.state = State::Over;
                        return Poll::Ready(Some(Ok(Frame::data(event))));
                    }
                },
                State::Over => return Poll::Ready(None),
            }
        }
    }
}

/// An error as an event: on one line, whatever it is.
fn event(said: &[u8]) -> Bytes {
    let mut event = b"event: error\ndata: ".to_vec();
    event.extend(said.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    event.extend(b"\n\n");
    event.into()
}
