//! Bodies on their way through: counted, bounded, unpacked where they are looked at, and never
//! held back.

use std::{
    future::Future,
    io::Write as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use flate2::write::GzDecoder;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep},
};

use crate::{
    gateway::body::{BodyError, chain},
    log::{Outcome, Pending, Traffic},
};

/// How much of a packed body is unpacked at once: it may grow by a factor of a thousand.
const PACKED_PIECE: usize = 1024;

/// A body that comes from git, unpacked if it was packed.
pub(super) struct Unpacked {
    body: Incoming,
    gzip: Option<Gzip>,
    left: u64,
    too_large: Arc<AtomicBool>,
}

struct Gzip {
    decoder: GzDecoder<Vec<u8>>,
    packed: Bytes,
    is_over: bool,
}

impl Unpacked {
    /// Lets `limit` bytes pass, as they are unpacked; `too_large` is set when there are more.
    pub(super) fn new(
        body: Incoming,
        is_packed: bool,
        limit: u64,
        too_large: Arc<AtomicBool>,
    ) -> Self {
        let gzip = is_packed.then(|| Gzip {
            decoder: GzDecoder::new(Vec::new()),
            packed: Bytes::new(),
            is_over: false,
        });
        Self { body, gzip, left: limit, too_large }
    }

    /// The next piece.
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        let piece = match ready!(self.poll_any(cx)) {
            Some(Ok(piece)) => piece,
            other => return Poll::Ready(other),
        };
        match self.left.checked_sub(piece.len() as u64) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(piece)))
            }
            None => {
                self.too_large.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err("the request is too large".into())))
            }
        }
    }

    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if let Some(gzip) = &mut self.gzip
                && let Some(piece) = gzip.next()
            {
                return Poll::Ready(Some(piece));
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => {
                    let ended = self.gzip.as_mut().and_then(Gzip::end);
                    return Poll::Ready(ended);
                }
            };
            // Trailers could hold a credential of the caller's, and nobody sends any.
            let Ok(data) = frame.into_data() else { continue };
            match &mut self.gzip {
                Some(gzip) => gzip.packed = data,
                None if data.is_empty() => {}
                None => return Poll::Ready(Some(Ok(data))),
            }
        }
    }

    /// How much there is still to come, where that is known.
    fn size_hint(&self) -> SizeHint {
        match &self.gzip {
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}

impl Gzip {
    /// Unpacks some more of what there is; none when more has to come first.
    fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        while !self.packed.is_empty() {
            let piece = self.packed.split_to(self.packed.len().min(PACKED_PIECE));
            if let Err(error) = self.decoder.write_all(&piece) {
                return Some(Err(error.into()));
            }
            let unpacked = std::mem::take(self.decoder.get_mut());
            if !unpacked.is_empty() {
                return Some(Ok(unpacked.into()));
            }
        }
        None
    }

    fn end(&mut self) -> Option<Result<Bytes, BodyError>> {
        if std::mem::replace(&mut self.is_over, true) {
            return None;
        }
        if let Err(error) = self.decoder.try_finish() {
            return Some(Err(error.into()));
        }
        let unpacked = std::mem::take(self.decoder.get_mut());
        (!unpacked.is_empty()).then(|| Ok(unpacked.into()))
    }
}

/// The body of a request as it goes out: what was read of it before, and the rest.
pub(super) struct Outward {
    first: Option<Bytes>,
    rest: Option<Unpacked>,
    traffic: Arc<Traffic>,
}

impl Outward {
    pub(super) fn new(first: Option<Bytes>, rest: Option<Unpacked>, traffic: Arc<Traffic>) -> Self {
        Self { first, rest, traffic }
    }
}

impl Body for Outward {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = match (self.first.take(), &mut self.rest) {
            (Some(first), _) => first,
            (None, Some(rest)) => match ready!(rest.poll_piece(cx)) {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            },
            (None, None) => return Poll::Ready(None),
        };
        self.traffic.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none()
            && self
                .rest
                .as_ref()
                .is_none_or(|rest| rest.gzip.is_none() && rest.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let rest = match &self.rest {
            Some(rest) => rest.size_hint(),
            None => SizeHint::with_exact(0),
        };
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(first + rest),
            None => SizeHint::default(),
        }
    }
}

/// The body of an answer. It ends its record, and gives back the request's permit.
pub(super) struct Inward {
    body: Incoming,
    record: Option<Pending>,
    traffic: Arc<Traffic>,
    idle_after: Duration,
    /// Runs from when the other side was first waited for.
    idle: Pin<Box<Sleep>>,
    is_waiting: bool,
    status: u16,
    _permit: OwnedSemaphorePermit,
    /// Keeps the connection that it comes over.
    _connection: Box<dyn Send>,
}

impl Inward {
    pub(super) fn new(
        body: Incoming,
        record: Pending,
        status: u16,
        idle_after: Duration,
        permit: OwnedSemaphorePermit,
        connection: Box<dyn Send>,
    ) -> Self {
        let traffic = Arc::clone(&record.traffic);
        Self {
            body,
            record: Some(record),
            traffic,
            idle_after,
            idle: Box::pin(sleep(idle_after)),
            is_waiting: false,
            status,
            _permit: permit,
            _connection: connection,
        }
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(mut record) = self.record.take() {
            record.set(|record| record.outcome = outcome);
        }
    }

    fn break_off(&mut self, reason: String) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.end(Outcome::Failed { reason: reason.clone() });
        Poll::Ready(Some(Err(reason.into())))
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
        if this.record.is_none() {
            return Poll::Ready(None);
        }
        loop {
            let polled = match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(polled) => polled,
                Poll::Pending => {
                    // Not while the client was the one that did not read.
                    if !this.is_waiting {
                        this.is_waiting = true;
                        this.idle.as_mut().reset(Instant::now() + this.idle_after);
                    }
                    ready!(this.idle.as_mut().poll(cx));
                    let seconds = this.idle_after.as_secs();
                    return this.break_off(format!("no byte came for {seconds} s"));
                }
            };
            this.is_waiting = false;
            match polled {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    this.traffic.received.fetch_add(data.remaining() as u64, Ordering::Relaxed);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    return this.break_off(format!("the answer broke off: {}", chain(&error)));
                }
                None => {
                    this.end(Outcome::Passed { status: this.status });
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.record.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Inward {
    fn drop(&mut self) {
        // Whoever sends a body of a known length does not ask for more than that.
        if self.body.is_end_stream() {
            self.end(Outcome::Passed { status: self.status });
        }
    }
}
