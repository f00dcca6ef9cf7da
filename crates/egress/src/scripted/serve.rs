//! The provider as a server of its own: for tests, and for agents outside of a workspace.

use std::{future::Future, io, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

use super::Scripted;

/// How many connections it has at once; more wait to be accepted.
const MOST_CONNECTIONS: usize = 256;

/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

impl Scripted {
    /// Serves on this listener until `shutdown` is ready; open connections end with it.
    ///
    /// # Errors
    ///
    /// When the listener can't be accepted from.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        // Dropped with this future, and with it every connection.
        let mut connections = JoinSet::new();
        tokio::select! {
            outcome = self.accept(&listener, &mut connections) => outcome,
            () = shutdown => Ok(()),
        }
    }

    async fn accept(
        &self,
        listener: &TcpListener,
        connections: &mut JoinSet<()>,
    ) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
            let (stream, _) = listener.accept().await?;
            while connections.try_join_next().is_some() {}
            let service = self.clone();
            connections.spawn(async move {
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_WITHIN)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    // A client that went away, or the fault `cut`.
                    tracing::debug!(%error, "a connection to the scripted provider ended early");
                }
                drop(place);
            });
        }
    }
}
