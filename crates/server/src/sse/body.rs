//! Streams of events as ordinary bodies.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use axum::{body::Body, response::Response};
use boatyard_api::Problem;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderValue, header};
use serde::Serialize;
use tokio::{sync::broadcast, time::timeout};

use super::{Context, Counted, Following, KEEP_ALIVE, Log, Sees, aside, frame};
use crate::access::leases::{Lease, Over};

/// Somebody who follows by an ordinary body.
pub(super) struct Watcher<T: Log> {
    /// Everything up to here is known.
    pub(super) after: u64,
    /// Whether to wait for more.
    pub(super) following: Following,
    /// The right to follow.
    pub(super) lease: Arc<Lease>,
    /// What is left out.
    pub(super) sees: Option<Sees<T>>,
    /// It counts as long as it lives.
    pub(super) _counted: Counted,
}

/// What comes next.
enum Next<T> {
    Entries(boatyard_store::Result<Vec<T>>),
    Aside(Bytes),
    Nothing,
    Stopping,
    Closed(Over),
}

/// A log's entries, where the connection can't be taken.
pub(super) fn following<T: Log>(context: Context<T>, key: T::Key, watcher: Watcher<T>) -> Body
where
    T::Key: 'static,
{
    struct State<T: Log> {
        context: Context<T>,
        follower: boatyard_store::follow::Follower<T>,
        watcher: Watcher<T>,
        asides: Option<broadcast::Receiver<Bytes>>,
        over: bool,
    }
    let follower = T::follow(&context.store, key, watcher.after);
    let asides = T::asides(&context.leases, key);
    T::joined(&context.leases, key);
    let state = State { context, follower, watcher, asides, over: false };
    let frames = stream::unfold(state, |mut state| async move {
        if state.over {
            return None;
        }
        let entries = async {
            match state.watcher.following {
                Following::Live => match timeout(KEEP_ALIVE, state.follower.next()).await {
                    Ok(entries) => Next::Entries(entries),
                    Err(_) => Next::Nothing,
                },
                Following::Stored => Next::Entries(state.follower.try_next().await),
            }
        };
        let next = tokio::select! {
            biased;
            over = state.watcher.lease.ended() => Next::Closed(over),
            next = entries => next,
            bytes = aside(&mut state.asides) => Next::Aside(bytes),
            () = state.context.stopping.cancelled() => Next::Stopping,
        };
        let words = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let (bytes, over) = match next {
            Next::Stopping => (words(frame::GOODBYE), true),
            Next::Closed(over) => (frame::over(&over).into(), true),
            Next::Aside(bytes) => (bytes, false),
            Next::Nothing => (words(frame::ALIVE), false),
            Next::Entries(Err(error)) => {
                tracing::error!(%error, "a log can't be read for a watcher");
                (words(frame::FAILED), true)
            }
            Next::Entries(Ok(entries)) => {
                let over = entries.last().is_none_or(Log::ends);
                match seen(entries, state.watcher.sees.as_ref()).await {
                    Ok(entries) => {
                        let mut frames = frame::frames(&entries);
                        if over {
                            frames.extend_from_slice(frame::END.as_bytes());
                        }
                        (frames.freeze(), over)
                    }
                    Err(problem) => {
                        tracing::error!(detail = %problem.detail, "what may be seen is not known");
                        (words(frame::FAILED), true)
                    }
                }
            }
        };
        state.over = over;
        Some((Ok::<_, Infallible>(bytes), state))
    });
    let preamble = Ok(Bytes::from_static(frame::PREAMBLE.as_bytes()));
    Body::from_stream(stream::once(async { preamble }).chain(frames))
}

/// Those of some entries that one may see.
async fn seen<T: Log>(entries: Vec<T>, sees: Option<&Sees<T>>) -> Result<Vec<T>, Problem> {
    let Some(sees) = sees else { return Ok(entries) };
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        if sees(entry.clone()).await? {
            kept.push(entry);
        }
    }
    Ok(kept)
}

/// Pieces of something that goes on, each as a frame, for as long as the right to it lasts: a
/// command's output.
pub fn pieces<S>(pieces: S, lease: Arc<Lease>) -> Response
where
    S: Stream<Item: Serialize + Send> + Send + Unpin + 'static,
{
    let frames = stream::unfold(Some((pieces, lease)), |state| async move {
        let (mut pieces, lease) = state?;
        let next = tokio::select! {
            biased;
            over = lease.ended() => {
                let bytes = Bytes::from(frame::over(&over));
                return Some((Ok::<_, Infallible>(bytes), None));
            }
            next = timeout(KEEP_ALIVE, pieces.next()) => next,
        };
        let bytes = match next {
            Ok(Some(piece)) => match serde_json::to_string(&piece) {
                Ok(json) => Bytes::from(format!("data: {json}\n\n")),
                Err(error) => {
                    tracing::error!(%error, "a piece can't be written");
                    return None;
                }
            },
            Ok(None) => return None,
            Err(_) => Bytes::from_static(frame::ALIVE.as_bytes()),
        };
        Some((Ok::<_, Infallible>(bytes), Some((pieces, lease))))
    });
    let frames: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(frames);
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    let mime = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, mime);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
