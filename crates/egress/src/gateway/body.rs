//! Answers on their way through: counted, bounded, and never held back.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep},
};

use super::{
    call::{End, Pending},
    echo::Echo,
    usage::Meter,
};

/// Why a body broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body that the gateway sends to a workspace.
pub(crate) type Answer = UnsyncBoxBody<Bytes, BodyError>;

/// The body of a provider's answer. It ends its call, and gives back the request's permit.
pub(super) struct Inward {
    body: Incoming,
    echo: Echo,
    meter: Meter,
    call: Pending,
    idle_after: Duration,
    /// Runs from when the provider was first waited for.
    idle: Pin<Box<Sleep>>,
    is_waiting: bool,
    is_over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Inward {
    pub(super) fn new(
        body: Incoming,
        echo: Echo,
        meter: Meter,
        call: Pending,
        idle_after: Duration,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let idle = Box::pin(sleep(idle_after));
        let (is_waiting, is_over) = (false, false);
        Self { body, echo, meter, call, idle_after, idle, is_waiting, is_over, _permit: permit }
    }

    /// Nothing came so far: until there has been silence for too long.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Not while the client was the one that did not read.
        if !self.is_waiting {
            self.is_waiting = true;
            self.idle.as_mut().reset(Instant::now() + self.idle_after);
        }
        match self.idle.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let seconds = self.idle_after.as_secs();
                self.break_off(format!("no byte came for {seconds} s"))
            }
        }
    }

    fn break_off(&mut self, why: String) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.call.ended(End::Broken(why.clone()));
        self.is_over = true;
        Poll::Ready(Some(Err(why.into())))
    }
}

impl Body for Inward {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        loop {
            let polled = match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(polled) => polled,
                Poll::Pending => return this.wait(cx),
            };
            this.is_waiting = false;
            match polled {
                Some(Ok(frame)) => {
                    // Trailers are between two neighbours.
                    let Ok(data) = frame.into_data() else { continue };
                    this.call.traffic.received.fetch_add(data.len() as u64, Ordering::Relaxed);
                    this.meter.pass(&data);
                    let mut data = this.echo.pass(data);
                    if this.body.is_end_stream() {
                        // Whoever sends a body of a known length does not ask for more than that.
                        data = [data, this.echo.rest()].concat().into();
                    }
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Err(error)) => {
                    return this.break_off(format!("the answer broke off: {}", chain(&error)));
                }
                None => {
                    this.is_over = true;
                    this.call.ended(End::Complete);
                    let rest = this.echo.rest();
                    let rest = (!rest.is_empty()).then(|| Ok(Frame::data(rest)));
                    return Poll::Ready(rest);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Inward {
    fn drop(&mut self) {
        // Whoever sends a body of a known length does not ask for more than that.
        if !self.is_over && self.body.is_end_stream() {
            self.call.ended(End::Complete);
        }
        let sent = self.call.traffic.sent.load(Ordering::Relaxed);
        self.call.used(self.meter.usage(sent));
    }
}

/// An error with what caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some repeat their cause.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
