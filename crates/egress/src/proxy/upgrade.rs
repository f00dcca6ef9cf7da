//! A request that was upgraded to WebSocket: bytes both ways, each side perhaps within TLS.

use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use http::{Method, Uri};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::{
    Place,
    connection::until_idle,
    tunnel::{WITHDRAWN, until_withdrawn},
    upstream::Upstream,
};
use crate::{
    log::{Outcome, Pending, Traffic},
    rules::{Target, Wish},
};

/// What may be on its way in one direction.
const BUFFER: usize = 16 * 1024;

/// An upgrade that both sides have agreed to.
pub(super) struct Upgrade {
    /// Gives the client's connection once the answer is out.
    pub(super) inside: OnUpgrade,
    pub(super) outside: OnUpgrade,
    /// Held, since the connection ends with it.
    pub(super) upstream: Upstream,
    pub(super) target: Target,
    /// What was asked for.
    pub(super) uri: Uri,
    pub(super) record: Pending,
}

/// Passes bytes until either side ends.
pub(super) async fn run(upgrade: Upgrade, place: &Place) {
    let Upgrade { inside, outside, upstream, target, uri, mut record } = upgrade;
    let (Ok(inside), Ok(outside)) = (inside.await, outside.await) else {
        let reason = "one side went away before it could begin".to_owned();
        return record.set(|record| record.outcome = Outcome::Failed { reason });
    };
    let traffic = Arc::clone(&record.traffic);
    let mut inside = Counted { io: TokioIo::new(inside), traffic: &traffic, way: Way::Out };
    let mut outside = Counted { io: TokioIo::new(outside), traffic: &traffic, way: Way::In };
    let wish = Wish::Request { method: &Method::GET, path: uri.path(), query: uri.query() };
    let ended = tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER, BUFFER) => {
            match copied {
                Err(error) if !is_gone(&error) => {
                    Err(Outcome::Failed { reason: error.to_string() })
                }
                // Most clients just go.
                Ok(_) | Err(_) => Ok(()),
            }
        }
        () = until_idle(place.parts.settings.idle_after, || traffic.total()) => {
            Err(Outcome::Failed { reason: "no byte passed for too long".into() })
        }
        () = until_withdrawn(place, &target, wish) => {
            Err(Outcome::Denied { reason: WITHDRAWN.into() })
        }
    };
    drop(upstream);
    if let Err(outcome) = ended {
        record.set(|record| record.outcome = outcome);
    }
}

/// Whether an error only says that the other side has ended without saying so.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
    )
}

/// Which counter what is read belongs to.
#[derive(Clone, Copy)]
enum Way {
    Out,
    In,
}

/// Counts what is read.
struct Counted<'a, S> {
    io: S,
    traffic: &'a Traffic,
    way: Way,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let counter = match self.way {
            Way::Out => &self.traffic.sent,
            Way::In => &self.traffic.received,
        };
        counter.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
