//! The proxy: what a workspace's programs find at `HTTP_PROXY`, and what takes the connections
//! that they make without knowing of it.
//!
//! ```text
//!  listener ─► accept ─┬─ CONNECT host:port ──┐                          ┌─ opened: TLS ─► requests
//!                      │                      ├► policy ─► peek ─► what? ┼─ plain HTTP ──► requests
//!  caught connection ──┼─ host:port ──────────┘                          └─ unopened ────► relay
//!                      └─ GET http://host/… ────────────────────────────────────────────► requests
//!
//!  each request ─► host as promised? ─► policy ─► (a person) ─► broker ─► upstream ─► answer
//! ```
//!
//! The workspace is known by the listener, never by what a client says. Each listener has its own
//! loop ([`Proxy::serve`], [`Proxy::serve_captured`]) with its own limit of connections. Policies
//! come through a watch: the next request is judged by the newest, and a tunnel that it no longer
//! allows is ended.
//!
//! - `connection`: what a connection's requests share, and HTTP in either version;
//! - `aim`: a connection of which it is known where it goes: opened, looked into, relayed or refused;
//! - `exchange`: one request;
//! - `judge`: asks the policy, and people;
//! - `upstream`: connections to destinations, kept for reuse.

mod aim;
mod answer;
mod connection;
mod exchange;
mod forward;
mod inside;
mod judge;
mod peek;
mod tunnel;
mod upgrade;
mod upstream;

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
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
};

pub(crate) use self::forward::strip;
use self::upstream::Pool;
use crate::{
    Error,
    broker::{self, Broker},
    capture::Captured,
    dial::Outgoing,
    listener,
    log::LogSink,
    open::Opener,
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
    /// How many requests of one workspace may be under way, over all of its connections: each takes
    /// memory of ours for as long as its client does not read. Those beyond wait for
    /// [`Settings::head_within`], and are then answered 503.
    pub max_requests: usize,
    /// The most bytes of a request's head.
    pub max_head: usize,
    /// How long the head of a request may take, and how long a connection may wait for the next.
    pub head_within: Duration,
    /// After how long without a byte in either direction a request or tunnel is ended.
    pub idle_after: Duration,
    /// How long a client is waited for that says nothing, where what it says decides. One whose
    /// server is to speak first never says anything.
    pub silent_for: Duration,
    /// How long connections may go on once the proxy is to shut down.
    pub drain_within: Duration,
    /// What a person can do about a denial; a sentence at the end of each.
    pub how_to_ask: String,
    /// Who asks people, where a rule says so.
    pub asker: Arc<dyn Asker>,
    /// Who opens TLS where it has to be; without, what would have to be opened is denied.
    pub opener: Option<Arc<Opener>>,
    /// Who puts credentials in.
    pub broker: Arc<dyn Broker>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            guard: Guard::default(),
            outgoing: Outgoing::default(),
            max_connections: 512,
            max_requests: 512,
            max_head: 64 * 1024,
            head_within: Duration::from_secs(30),
            idle_after: Duration::from_secs(600),
            silent_for: Duration::from_secs(3),
            drain_within: Duration::from_secs(5),
            how_to_ask: "Or ask the owner of this workspace to allow it in its egress rules."
                .into(),
            asker: Arc::new(Nobody),
            opener: None,
            broker: Arc::new(broker::Nothing),
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
    /// Connections to destinations.
    pool: Arc<Pool>,
    /// Room for requests.
    requests: Arc<Semaphore>,
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
    /// When the sender of `policy` is gone, the last policy stays.
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
        let (place, close) = self.place(workspace, policy);
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

    /// Serves the connections that were caught in one workspace. `captured` says where each wanted
    /// to go; where it can't, the connection is closed.
    ///
    /// # Errors
    ///
    /// As [`Proxy::serve`].
    pub async fn serve_captured<F>(
        &self,
        workspace: WorkspaceId,
        listener: OwnedFd,
        captured: F,
        policy: watch::Receiver<Arc<Policy>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error>
    where
        F: Fn(TcpStream) -> Option<Captured>,
    {
        let listener = listener::adopt(listener)?;
        let (place, close) = self.place(workspace, policy);
        let service = listener::Service {
            workspace,
            max_connections: self.0.settings.max_connections,
            drain_within: self.0.settings.drain_within,
            close,
            run: |stream| {
                let counted = Counted::new(Arc::clone(&self.0));
                let place = place.clone();
                let captured = captured(stream);
                async move {
                    if let Some(captured) = captured {
                        aim::captured(captured, place).await;
                    }
                    drop(counted);
                }
            },
            // What it speaks is not known, so there is nothing to tell it in.
            refuse: crate::relay::reset,
        };
        service.serve(listener, shutdown).await
    }

    fn place(
        &self,
        workspace: WorkspaceId,
        policy: watch::Receiver<Arc<Policy>>,
    ) -> (Place, watch::Sender<bool>) {
        let (close, closing) = watch::channel(false);
        let (parts, pool) = (Arc::clone(&self.0), Arc::default());
        let requests = Arc::new(Semaphore::new(parts.settings.max_requests));
        (Place { parts, workspace, policy, closing, pool, requests }, close)
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
