//! Streams of events as ordinary bodies.

use std::{convert::Infallible, pin::Pin};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderValue, header};
use serde::Serialize;
use tokio::time::timeout;

use super::{Context, Counted, Following, KEEP_ALIVE, Log, frame};

/// A log's entries, where the connection can't be taken.
pub(super) fn following<T: Log>(
    context: Context<T>,
    key: T::Key,
    after: u64,
    following: Following,
    counted: Counted,
) -> Body
where
    T::Key: 'static,
{
    struct State<T: Log> {
        context: Context<T>,
        follower: boatyard_store::follow::Follower<T>,
        following: Following,
        over: bool,
        _counted: Counted,
    }
    let follower = T::follow(&context.store, key, after);
    let state = State { context, follower, following, over: false, _counted: counted };
    let frames = stream::unfold(state, |mut state| async move {
        if state.over {
            return None;
        }
        let next = async {
            match state.following {
                Following::Live => timeout(KEEP_ALIVE, state.follower.next()).await,
                Following::Stored => Ok(state.follower.try_next().await),
            }
        };
        let next = tokio::select! {
            biased;
            next = next => Some(next),
            () = state.context.stopping.cancelled() => None,
        };
        let (bytes, over) = match next {
            None => (Bytes::from_static(frame::GOODBYE.as_bytes()), true),
            Some(Err(_)) => (Bytes::from_static(frame::ALIVE.as_bytes()), false),
            Some(Ok(Err(error))) => {
                tracing::error!(%error, "a log can't be read for a watcher");
                (Bytes::from_static(frame::FAILED.as_bytes()), true)
            }
            Some(Ok(Ok(entries))) => {
                let over = entries.last().is_none_or(Log::ends);
                let mut frames = frame::frames(&entries);
                if over {
                    frames.extend_from_slice(frame::END.as_bytes());
                }
                (frames.freeze(), over)
            }
        };
        state.over = over;
        Some((Ok::<_, Infallible>(bytes), state))
    });
    let preamble = Ok(Bytes::from_static(frame::PREAMBLE.as_bytes()));
    Body::from_stream(stream::once(async { preamble }).chain(frames))
}

/// Pieces of something that goes on, each as a frame: a command's output.
pub fn pieces<S>(pieces: S) -> Response
where
    S: Stream<Item: Serialize + Send> + Send + Unpin + 'static,
{
    let frames = stream::unfold(pieces, |mut pieces| async move {
        let bytes = match timeout(KEEP_ALIVE, pieces.next()).await {
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
        Some((Ok::<_, Infallible>(bytes), pieces))
    });
    let frames: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(frames);
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    let mime = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, mime);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
