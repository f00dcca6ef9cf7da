//! The proxy: what a workspace's programs find at `HTTP_PROXY`.
//!
//! ```text
//!  listener of a workspace ─► accept ─► connection (hyper, HTTP/1.1)
//!                                          │ CONNECT host:port         │ GET http://host/…
//!                                          ▼                           ▼
//!                                   rules ─► guard ─► dial ─► relay   rules ─► guard ─► forward
//! ```
//!
//! The workspace is known by the listener, never by what a client says. Each listener has its own
//! loop ([`Proxy::serve`]) with its own limit of connections. Rules come through a watch: the next
//! request is judged by the newest, and a tunnel that they no longer allow is ended.

mod answer;
mod connection;
pub(crate) mod forward;
mod tunnel;

use std::{
    future::Future,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use boatyard_model::WorkspaceId;
use tokio::{net::TcpStream, sync::watch};

use crate::{
    Error,
    dial::Outgoing,
    listener,
    log::LogSink,
    policy::{Asker, Nobody, Policy},
    resolve::{Guard, Resolver},
};

/// How a proxy behaves. [`Settings::default`] has what suits a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which addresses may be reached although they are not public.
    pub guard: Guard,
    /// Where our own outgoing traffic goes.
    pub outgoing: Outgoing,
    /// How many connections one workspace may have; more are answered 503.
    pub max_connections: usize,
    /// The most bytes of a request's head.
    pub max_head: usize,
    /// How long the head of a request may take, and how long a connection may wait for the next.
    pub head_within: Duration,
    /// After how long without a byte in either direction a request or tunnel is ended.
    pub idle_after: Duration,
    /// How long connections may go on once the proxy is to shut down.
    pub drain_within: Duration,
    /// What a person can do about a denial; a sentence at the end of each.
    pub how_to_ask: String,
    /// Who asks people, where a rule says so.
    pub asker: Arc<dyn Asker>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            guard: Guard::default(),
            outgoing: Outgoing::default(),
            max_connections: 512,
            max_head: 64 * 1024,
            head_within: Duration::from_secs(30),
            idle_after: Duration::from_secs(600),
            drain_within: Duration::from_secs(5),
            how_to_ask: "Ask the owner of this workspace to allow it in its egress rules.".into(),
            asker: Arc::new(Nobody),
        }
    }
}

/// The proxy of a server, for all its workspaces. Cheap to clone.
#[derive(Clone)]
pub struct Proxy(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) log: Arc<dyn LogSink>,
    connections: AtomicUsize,
}

/// What one workspace's connections share.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) parts: Arc<Parts>,
    pub(crate) workspace: WorkspaceId,
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    /// Turns true when the proxy shuts down.
    pub(crate) closing: watch::Receiver<bool>,
}

impl Proxy {
    /// A proxy with these settings.
    pub fn new(settings: Settings, resolver: Arc<dyn Resolver>, log: Arc<dyn LogSink>) -> Self {
        Self(Arc::new(Parts { settings, resolver, log, connections: AtomicUsize::new(0) }))
    }

    /// How many connections are open, of all workspaces.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// Serves one workspace on its listener until `shutdown` is ready; then no more connections
    /// are taken and those that are open get [`Settings::drain_within`] to end.
    ///
    /// When the sender of `policy` is gone, the last one stays.
    ///
    /// # Errors
    ///
    /// When the descriptor is not a listening TCP socket, or can't be accepted from any more.
    pub async fn serve(
        &self,
        workspace: WorkspaceId,
        listener: OwnedFd,
        policy: watch::Receiver<Arc<Policy>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let listener = listener::adopt(listener)?;
        let (close, closing) = watch::channel(false);
        let place = Place { parts: Arc::clone(&self.0), workspace, policy, closing };
        let service = listener::Service {
            workspace,
            max_connections: self.0.settings.max_connections,
            drain_within: self.0.settings.drain_within,
            close,
            run: |stream| {
                let counted = Counted::new(Arc::clone(&self.0));
                let place = place.clone();
                async move {
                    connection::run(stream, place).await;
                    drop(counted);
                }
            },
            refuse,
        };
        service.serve(listener, shutdown).await
    }
}

/// Says why and closes. The client may not have sent anything yet, and need not.
fn refuse(stream: &TcpStream) {
    // One try; whoever opens so many connections at once can do without a word.
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n\
          Content-Length: 45\r\n\r\nThis workspace has too many connections open\n",
    );
}

/// Counts one connection while it lives.
struct Counted(Arc<Parts>);

impl Counted {
    fn new(parts: Arc<Parts>) -> Self {
        parts.connections.fetch_add(1, Ordering::Relaxed);
        Self(parts)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("connections", &self.connections()).finish_non_exhaustive()
    }
}
