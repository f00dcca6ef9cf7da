//! The HTTP server's connections.
//!
//! HTTP/1.1 only: Boatyard stands alone or behind a proxy that speaks more. Each
//! connection is one task with deadlines on a request's head, and the whole is bounded in number.
//! When `stopping` is cancelled, no new connection is taken, connections end after the answer
//! under way, and those that don't are cut at the end of the grace.

use std::{
    future::{Future as _, poll_fn},
    io,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::{Router, body::Body};
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service as _;

use crate::sse::socket::{Continuation, Io, Socket};

mod encrypted;

pub use encrypted::{Encryption, clear};

/// Connections at a time; past it, new ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 60_000;

/// How long a client may take to send a request's head, and how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest head of a request, in bytes.
const HEAD_MAX: usize = 32 << 10;

/// The most headers of a request.
const HEADERS_MAX: usize = 64;

/// How long a connection may go on after the server was told to stop: answers under way.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long to wait when the system has no descriptors left, before asking again.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Connections that may wait in the kernel to be taken: a burst of watchers that come back.
const BACKLOG: i32 = 4096;

/// Serves requests until `stopping` is cancelled, and a little longer those under way.
pub async fn serve(listener: TcpListener, router: Router, stopping: CancellationToken) {
    serve_over(listener, router, None, stopping).await;
}

/// The same, over https where there is a certificate.
pub async fn serve_over(
    listener: TcpListener,
    router: Router,
    encryption: Option<Encryption>,
    stopping: CancellationToken,
) {
    if let Err(error) = socket2::SockRef::from(&listener).listen(BACKLOG) {
        tracing::debug!(%error, "the queue of connections stays as it is");
    }
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tracker = TaskTracker::new();
    loop {
        let accepted = async {
            // Never closed, so there is always a place in the end.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (stream, place) = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => (stream, place),
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
        };
        let (router, stopping) = (router.clone(), stopping.clone());
        match &encryption {
            Some(encryption) => {
                let begun = encrypted::Begun { stream, place };
                tracker.spawn(encrypted::serve(begun, encryption.clone(), router, stopping));
            }
            None => {
                tracker.spawn(connection(Socket::new(stream, place), router, stopping));
            }
        }
    }
    drop(listener);
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::info!(connections = tracker.len(), "connections were cut at the end of the grace");
    }
}

/// How HTTP is spoken.
fn builder() -> hyper::server::conn::http1::Builder {
    // No `pipeline_flush`: a connection may be taken only when all that was written is out.
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX);
    builder
}

async fn pause_after(error: &io::Error) {
    let of_the_client =
        matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset);
    if !of_the_client {
        tracing::warn!(%error, "no connection can be taken");
        tokio::time::sleep(EXHAUSTED).await;
    }
}

/// What may stay for hours, the socket, is small and was allocated beside others of its kind; what
/// goes when it is taken has memory elsewhere. Interleaved, each watcher would keep pages of memory
/// from being given back.
async fn connection(socket: Arc<Socket>, router: Router, stopping: CancellationToken) {
    if let Err(error) = socket.send_at_once() {
        tracing::debug!(%error, "a connection is gone before it began");
        return;
    }
    if let Some(continuation) = Box::pin(until_taken(&socket, router, stopping)).await {
        continuation(socket);
    }
}

/// Serves a connection to its end, or until a route takes it.
async fn until_taken(
    socket: &Arc<Socket>,
    router: Router,
    stopping: CancellationToken,
) -> Option<Continuation> {
    let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(socket));
        // A router is always ready.
        router.clone().call(request.map(Body::new))
    });
    let io = TokioIo::new(Io(Arc::clone(socket)));
    let mut served = std::pin::pin!(builder().serve_connection(io, service).with_upgrades());
    let mut stopped = std::pin::pin!(stopping.cancelled());
    let mut told = false;
    poll_fn(|cx| {
        if !told && stopped.as_mut().poll(cx).is_ready() {
            told = true;
            served.as_mut().graceful_shutdown();
        }
        match served.as_mut().poll(cx) {
            Poll::Ready(result) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended");
                }
                Poll::Ready(None)
            }
            // What could be written is written by now.
            Poll::Pending => socket.take().map_or(Poll::Pending, |taken| Poll::Ready(Some(taken))),
        }
    })
    .await
}
