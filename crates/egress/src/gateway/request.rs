//! The body of a request: passed on as it comes, and kept where it may have to be sent again.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::{
    body::{BodyError, chain},
    usage::ModelFinder,
};
use crate::log::Traffic;

/// What of a body is kept to be sent again; one that is larger is sent once.
const MAX_KEPT: usize = 16 * 1024 * 1024;

/// Whether a body is kept while it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Up to a limit.
    Pieces,
    /// It passes once.
    Nothing,
}

/// The body of a request from a workspace.
pub(super) struct Source {
    shared: Mutex<Shared>,
    /// Set where there is more of it than may be.
    pub(super) too_large: AtomicBool,
    /// The model that it names, as soon as that has passed.
    pub(super) model: Arc<OnceLock<String>>,
}

struct Shared {
    body: Incoming,
    keep: Keep,
    pieces: Vec<Bytes>,
    kept: usize,
    /// The first pieces are gone.
    is_cut: bool,
    is_over: bool,
    left: u64,
    /// What it was at first.
    hint: SizeHint,
    finder: ModelFinder,
    traffic: Arc<Traffic>,
}

impl Source {
    pub(super) fn new(body: Incoming, keep: Keep, limit: u64, traffic: Arc<Traffic>) -> Self {
        let (hint, is_over) = (body.size_hint(), body.is_end_stream());
        let shared = Shared {
            body,
            keep,
            pieces: Vec::new(),
            kept: 0,
            is_cut: false,
            is_over,
            left: limit,
            hint,
            finder: ModelFinder::default(),
            traffic,
        };
        let (shared, model) = (Mutex::new(shared), Arc::default());
        Self { shared, too_large: AtomicBool::new(false), model }
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what comes from here on, as far as nothing has passed.
    pub(super) fn keep(&self) {
        let mut shared = self.shared();
        shared.keep = Keep::Pieces;
    }

    /// Whether all of it can be sent once more.
    pub(super) fn is_kept(&self) -> bool {
        let shared = self.shared();
        shared.keep == Keep::Pieces && !shared.is_cut
    }

    /// Whether it is known to be small enough to be kept whole.
    pub(super) fn fits(&self) -> bool {
        self.hint().exact().is_some_and(|length| length <= MAX_KEPT as u64)
    }

    /// The piece of this number.
    fn poll(&self, at: usize, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let shared = &mut *self.shared();
        if let Some(piece) = shared.pieces.get(at).filter(|_| !shared.is_cut) {
            return Poll::Ready(Some(Ok(piece.clone())));
        }
        if shared.is_over {
            return Poll::Ready(None);
        }
        loop {
            let Some(frame) = ready!(Pin::new(&mut shared.body).poll_frame(cx)) else {
                shared.is_over = true;
                return Poll::Ready(None);
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            };
            // Trailers could hold a credential of the caller's, and nobody sends any.
            let Ok(piece) = frame.into_data() else {
                shared.is_over = true;
                return Poll::Ready(None);
            };
            if piece.is_empty() {
                continue;
            }
            let length = piece.len() as u64;
            let Some(left) = shared.left.checked_sub(length) else {
                self.too_large.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err("the body is too large".into())));
            };
            shared.left = left;
            shared.traffic.sent.fetch_add(length, Ordering::Relaxed);
            if self.model.get().is_none()
                && let Some(model) = shared.finder.pass(&piece)
            {
                // Somebody who set it before was of the same mind.
                let _ = self.model.set(model.to_owned());
            }
            if shared.keep == Keep::Pieces && !shared.is_cut {
                shared.kept += piece.len();
                if shared.kept > MAX_KEPT {
                    (shared.is_cut, shared.pieces) = (true, Vec::new());
                } else {
                    shared.pieces.push(piece.clone());
                }
            }
            return Poll::Ready(Some(Ok(piece)));
        }
    }

    /// All of it, read to its end.
    ///
    /// # Errors
    /// When it breaks off, or is too large to be kept.
    pub(super) async fn whole(&self) -> Result<Bytes, String> {
        let mut at = 0;
        while let Some(piece) = poll_fn(|cx| self.poll(at, cx)).await {
            if let Err(error) = piece {
                return Err(chain(&*error));
            }
            if !self.is_kept() {
                return Err(format!("it has more than {MAX_KEPT} bytes"));
            }
            at += 1;
        }
        let shared = self.shared();
        let mut whole = BytesMut::with_capacity(shared.kept);
        for piece in &shared.pieces {
            whole.extend_from_slice(piece);
        }
        Ok(whole.freeze())
    }

    /// What it was said to be.
    fn hint(&self) -> SizeHint {
        self.shared().hint
    }

    fn is_empty(&self) -> bool {
        self.hint().exact() == Some(0)
    }
}

/// The body of a request on its way to a provider.
pub(super) enum Outward {
    /// As it comes.
    Passing {
        source: Arc<Source>,
        /// The number of the next piece.
        at: usize,
        passed: u64,
    },
    /// Changed, or to be signed: whole.
    Whole(Option<Bytes>),
}

impl Outward {
    pub(super) fn passing(source: Arc<Source>) -> Self {
        Self::Passing { source, at: 0, passed: 0 }
    }
}

impl Body for Outward {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Passing { source, at, passed } => {
                let piece = ready!(source.poll(*at, cx));
                *at += 1;
                if let Some(Ok(piece)) = &piece {
                    *passed += piece.len() as u64;
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_none(),
            Self::Passing { source, .. } => source.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Passing { source, passed, .. } => match source.hint().exact() {
                Some(all) => SizeHint::with_exact(all.saturating_sub(*passed)),
                None => SizeHint::default(),
            },
        }
    }
}
