//! Connections of a server that speaks https: both TLS and what comes in the clear, on one port.
//!
//! ```text
//! first byte ─┬─ of a handshake ─► TLS ─┬─ an authority looks ─► over
//!             │                         └─► HTTP
//!             └─ another ─┬─ from this machine ─► HTTP, as without TLS
//!                         └─ else ─► led to https
//! ```

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::{HEAD_TIMEOUT, builder, connection};
use crate::{gate::Peer, sse::socket::Socket, tls};

/// How a server speaks https.
#[derive(Clone)]
pub struct Encryption {
    /// Its certificate.
    pub tls: tls::Tls,
    /// What those are answered who come in the clear.
    pub clear: Router,
}

/// What a handshake begins with (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// How long a handshake may take.
const WITHIN: Duration = Duration::from_secs(10);

/// A connection that begins.
pub(super) struct Begun {
    pub(super) stream: TcpStream,
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// Serves a connection to its end.
pub(super) async fn serve(
    begun: Begun,
    encryption: Encryption,
    router: Router,
    stopping: CancellationToken,
) {
    let Begun { stream, place } = begun;
    let Ok(peer) = stream.peer_addr() else { return };
    let is_here = peer.ip().to_canonical().is_loopback()
        || stream.local_addr().is_ok_and(|own| own.ip() == peer.ip());
    let mut first = [0; 1];
    let looked = timeout(HEAD_TIMEOUT, stream.peek(&mut first));
    match stopping.run_until_cancelled(looked).await {
        Some(Ok(Ok(1..))) => {}
        // It said nothing, or is gone.
        _ => return,
    }
    if first[0] != HANDSHAKE {
        let router = if is_here { router } else { encryption.clear };
        return connection(Socket::new(stream, place), router, stopping).await;
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection is gone before it began");
        return;
    }
    let stream = match timeout(WITHIN, encryption.tls.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!("a handshake took too long");
            return;
        }
    };
    if stream.get_ref().1.alpn_protocol() == Some(tls::CHALLENGE) {
        // The handshake was all that it wanted.
        return;
    }
    http(TokioIo::new(stream), peer.ip(), router, stopping).await;
    drop(place);
}

async fn http<I>(io: I, peer: IpAddr, router: Router, stopping: CancellationToken)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        // A router is always ready.
        router.clone().call(request.map(Body::new))
    });
    let mut served = std::pin::pin!(builder().serve_connection(io, service).with_upgrades());
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stopping.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}

/// What those are answered who come in the clear to a server that is reached under `url`, which
/// begins with `https://`: an authority that looks whether the host is ours what it wants to know,
/// everybody else where to go.
pub fn clear(url: &str, certificates: Option<Arc<tls::Certificates>>) -> Router {
    let url: Arc<str> = url.trim_end_matches('/').into();
    Router::new().fallback(move |request: axum::extract::Request| {
        let (url, certificates) = (Arc::clone(&url), certificates.clone());
        async move { answer(&url, certificates.as_deref(), &request) }
    })
}

fn answer(
    url: &str,
    certificates: Option<&tls::Certificates>,
    request: &axum::extract::Request,
) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    let word = request.uri().path().strip_prefix("/.well-known/acme-challenge/");
    if let Some(answer) = word.and_then(|word| certificates?.answer(word)) {
        return answer.into_response();
    }
    crate::gate::redirect::to_https(url, request.method(), request.uri()).unwrap_or_else(
        |problem| {
            let status = http::StatusCode::FORBIDDEN;
            let next = problem.next.clone().unwrap_or_default();
            (status, format!("{}. {next}\n", problem.detail)).into_response()
        },
    )
}
