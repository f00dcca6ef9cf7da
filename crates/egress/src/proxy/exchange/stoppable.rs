//! A request's body on its way out, where the broker may still find that it must not go.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::broker::{Body, BoxError, Refusal};

/// A body that the broker may stop; it is remembered why.
pub(super) struct Stoppable {
    pub(super) body: Body,
    pub(super) stopped: Arc<OnceLock<Refusal>>,
}

impl hyper::body::Body for Stoppable {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Err(error)) = &frame
            && let Some(refusal) = error.downcast_ref::<Refusal>()
        {
            self.stopped.get_or_init(|| refusal.clone());
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
