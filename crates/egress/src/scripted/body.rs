//! The body of an answer: its pieces, at a pace, to one of several ends.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// How long the fault `silent` lasts before the stream ends: longer than any client waits.
const SILENCE: Duration = Duration::from_secs(900);

/// The body of an answer of the scripted provider.
#[derive(Debug)]
pub struct Body {
    pieces: VecDeque<Bytes>,
    pace: Duration,
    /// A longer pause, once so many pieces are left.
    pause: Option<(usize, Duration)>,
    end: End,
    wait: Option<Pin<Box<Sleep>>>,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All of it was one document, whose length is known.
    Document,
    /// The stream is over.
    Stream,
    /// The connection breaks off.
    Cut,
    /// Nothing comes any more.
    Silence,
}

impl Body {
    pub(super) fn document(bytes: impl Into<Bytes>) -> Self {
        let pieces = VecDeque::from([bytes.into()]);
        Self { pieces, pace: Duration::ZERO, pause: None, end: End::Document, wait: None }
    }

    pub(super) fn stream(pieces: Vec<String>, pace: Duration, end: End) -> Self {
        let pieces = pieces.into_iter().map(Bytes::from).collect();
        Self { pieces, pace, pause: None, end, wait: None }
    }

    /// Pauses for so long when half of it is sent.
    pub(super) fn pausing(self, length: Duration) -> Self {
        let left = self.pieces.len().div_ceil(2);
        Self { pause: Some((left, length)), ..self }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        let left = self.pieces.len();
        if let Some((_, length)) = self.pause.take_if(|(at, _)| *at == left) {
            self.wait = Some(Box::pin(sleep(length)));
            return self.poll_frame(context);
        }
        if let Some(piece) = self.pieces.pop_front() {
            if !self.pace.is_zero() {
                self.wait = Some(Box::pin(sleep(self.pace)));
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match self.end {
            End::Document | End::Stream => Poll::Ready(None),
            End::Cut => {
                self.end = End::Stream;
                let why = "the script cuts the answer here";
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why))))
            }
            End::Silence => {
                self.end = End::Stream;
                self.wait = Some(Box::pin(sleep(SILENCE)));
                self.poll_frame(context)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && matches!(self.end, End::Document)
    }

    fn size_hint(&self) -> SizeHint {
        match self.end {
            End::Document => {
                SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum())
            }
            _ => SizeHint::default(),
        }
    }
}
