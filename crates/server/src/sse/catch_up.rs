//! A watcher that is not in step: new, or slower than the log.

use std::{io, sync::Arc};

use bytes::{Buf as _, Bytes};
use tokio::time::timeout;

use super::{
    Context, Counted, Following, Log, STALLED,
    frame::{self, Then},
    socket::Socket,
};
use crate::access::leases::{Lease, Over};

/// A watcher's connection and place.
pub(super) struct Watcher {
    /// Where its bytes go.
    pub(super) socket: Arc<Socket>,
    /// Everything up to here was sent.
    pub(super) after: u64,
    /// The right to follow.
    pub(super) lease: Arc<Lease>,
    /// It counts as long as it lives.
    pub(super) _counted: Counted,
}

/// What a socket that was full did not take.
pub(super) struct Rest {
    /// The bytes.
    pub(super) bytes: Bytes,
    /// Whether they are the last.
    pub(super) then: Then,
}

/// Sends what was left over and what the watcher missed; then it joins the log's fan-out.
pub(super) async fn run<T: Log>(
    context: Context<T>,
    key: T::Key,
    mut watcher: Watcher,
    following: Following,
    rest: Option<Rest>,
) where
    T::Key: std::hash::Hash + Eq + 'static,
{
    let behind = Behind::begin();
    let lease = Arc::clone(&watcher.lease);
    // Whether what was written last is whole.
    let mut is_whole = true;
    let work = async {
        if let Some(rest) = rest {
            is_whole = false;
            write_all(&watcher.socket, rest.bytes).await?;
            is_whole = true;
            if rest.then == Then::Ends {
                return Ok(Outcome::Over);
            }
        }
        let mut follower = T::follow(&context.store, key, watcher.after);
        loop {
            let entries = match follower.try_next().await {
                Ok(entries) => entries,
                Err(error) => {
                    tracing::error!(%error, "a log can't be read for a watcher");
                    write_all(&watcher.socket, frame::last_words(frame::FAILED)).await?;
                    return Ok(Outcome::Over);
                }
            };
            let Some(last) = entries.last() else {
                if following == Following::Live {
                    return Ok(Outcome::InStep);
                }
                write_all(&watcher.socket, frame::last_words(frame::END)).await?;
                return Ok(Outcome::Over);
            };
            let then = if last.ends() { Then::Ends } else { Then::GoesOn };
            is_whole = false;
            write_all(&watcher.socket, frame::chunk(&entries, then)).await?;
            is_whole = true;
            watcher.after = last.seq();
            if then == Then::Ends {
                return Ok(Outcome::Over);
            }
        }
    };
    let outcome: io::Result<Outcome> = tokio::select! {
        biased;
        outcome = work => outcome,
        () = context.stopping.cancelled() => Ok(Outcome::Stopping),
        over = lease.ended() => Ok(Outcome::Closed(over)),
    };
    drop(behind);
    match outcome {
        Ok(Outcome::InStep) => context.fanouts.clone().join(context, key, watcher).await,
        Ok(Outcome::Over) => watcher.socket.finish(),
        // A frame may be cut in the middle: the client must see a cut, not an end.
        Ok(Outcome::Stopping) => {}
        Ok(Outcome::Closed(over)) if is_whole => {
            let words = frame::last_words(&frame::over(&over));
            match write_all(&watcher.socket, words).await {
                Ok(()) => watcher.socket.finish(),
                Err(error) => tracing::debug!(%error, "a watcher is gone"),
            }
        }
        Ok(Outcome::Closed(_)) => {}
        Err(error) => tracing::debug!(%error, "a watcher is gone"),
    }
}

/// One that is not in step, in the figures.
struct Behind;

impl Behind {
    fn begin() -> Self {
        metrics::gauge!("boatyard_watchers_behind").increment(1.0);
        Self
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        metrics::gauge!("boatyard_watchers_behind").decrement(1.0);
    }
}

enum Outcome {
    InStep,
    Over,
    Stopping,
    Closed(Over),
}

/// Writes all of it, waiting for the socket, but not for ever.
async fn write_all(socket: &Socket, mut bytes: Bytes) -> io::Result<()> {
    while bytes.has_remaining() {
        match socket.try_write(&bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes.advance(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                timeout(STALLED, socket.writable()).await??;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
