//! The body of an answer whose connection is to be taken out of the HTTP server.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};

use super::{
    frame,
    socket::{Continuation, Socket},
};

/// Gives the stream's first bytes, then asks for the connection and never gives anything more.
pub(super) struct Parked {
    socket: Arc<Socket>,
    /// None once the first bytes are given.
    preamble: Option<Bytes>,
    /// None once the connection was asked for.
    continuation: Option<Continuation>,
}

impl Parked {
    pub(super) fn new(socket: Arc<Socket>, continuation: Continuation) -> Self {
        let preamble = Some(Bytes::from_static(frame::PREAMBLE.as_bytes()));
        Self { socket, preamble, continuation: Some(continuation) }
    }
}

impl Body for Parked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(preamble) = self.preamble.take() {
            return Poll::Ready(Some(Ok(Frame::data(preamble))));
        }
        if let Some(continuation) = self.continuation.take() {
            self.socket.want(continuation);
        }
        // The connection's task looks after each poll, so nobody needs to be woken.
        Poll::Pending
    }
}
