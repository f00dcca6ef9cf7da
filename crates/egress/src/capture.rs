//! Connections that a workspace's programs make without knowing of a proxy.
//!
//! ```text
//!  program ─ connect 198.18.0.7:443 ─► caught in its network namespace ─► accept here
//!      getsockname: where it wanted to go ─► the name that 198.18.0.7 stands for ─► [`Captured`]
//! ```
//!
//! Who takes it from here judges [`Captured::target`] as it judges that of a `CONNECT`, and then
//! looks at what the client says: a TLS client hello, an HTTP request, or neither (a protocol in
//! which the server speaks first says nothing at all, so that looking must have a deadline).

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use boatyard_model::WorkspaceId;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    task::{JoinError, JoinSet},
};

use crate::{
    Error, Policy, Proxy,
    dns::{self, Datagrams, Names},
    rules::{Host, Target},
};

/// The port at which names are asked, over TCP as over UDP.
const DNS_PORT: u16 = 53;
/// How many connections of one workspace may ask for names at one time.
const DNS_STREAMS: usize = 32;

/// What catches a workspace's connections: sockets inside its network, and a file.
#[derive(Debug)]
pub struct Sockets {
    /// Listeners that connections to anywhere arrive at.
    pub listeners: Vec<OwnedFd>,
    /// The UDP socket at which names are asked.
    pub dns: OwnedFd,
    /// The memory file that the names given are kept in.
    pub names: OwnedFd,
}

/// A connection that was caught.
#[derive(Debug)]
pub struct Captured {
    /// The program's side of it: what is written here, it reads. Nothing was read from it yet.
    pub stream: TcpStream,
    /// Where the program wanted to go: the name that it had resolved, or the bare address that it
    /// dialled.
    pub target: Target,
    /// Whether the program named its host: then [`Self::target`] has a name, and what it says in
    /// TLS or HTTP must agree with it. Else it dialled an address, and is judged by that.
    pub named: bool,
    /// The program's own end, as it is inside the workspace: its port tells which program it is.
    pub peer: SocketAddr,
}

/// Serves what a workspace's programs send without a proxy, their questions for names included,
/// until `shutdown` is ready; then as [`Proxy::serve`].
///
/// # Errors
///
/// When a descriptor is not what it should be, or fails.
pub async fn serve(
    proxy: &Proxy,
    workspace: WorkspaceId,
    sockets: Sockets,
    policy: watch::Receiver<Arc<Policy>>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let datagrams = Datagrams::adopt(sockets.dns)?;
    // Everything ends when the sender is dropped.
    let (going_on, over) = watch::channel(());
    let reception = Reception {
        names: Arc::new(Names::open(sockets.names)?),
        asking: Arc::new(Semaphore::new(DNS_STREAMS)),
        over,
    };
    let mut parts = JoinSet::new();
    for listener in sockets.listeners {
        let (proxy, policy, reception) = (proxy.clone(), policy.clone(), reception.clone());
        parts.spawn(async move {
            let over = until(reception.over.clone());
            let take = |stream| reception.take(stream);
            proxy.serve_captured(workspace, listener, take, policy, over).await
        });
    }
    parts.spawn(async move {
        tokio::select! {
            outcome = datagrams.serve(&reception.names) => outcome,
            () = until(reception.over) => Ok(()),
        }
    });
    let first = tokio::select! {
        () = shutdown => Ok(()),
        ended = parts.join_next() => outcome(ended),
    };
    drop(going_on);
    let mut all = first;
    while let Some(ended) = parts.join_next().await {
        all = all.and(outcome(Some(ended)));
    }
    all
}

/// Where a workspace's caught connections arrive.
#[derive(Clone)]
struct Reception {
    names: Arc<Names>,
    /// Room for connections that ask for names.
    asking: Arc<Semaphore>,
    over: watch::Receiver<()>,
}

impl Reception {
    /// Finds out where a connection wanted to go; none where it is over, or answered here.
    fn take(&self, stream: TcpStream) -> Option<Captured> {
        // The program may be gone already.
        let (wanted, peer) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
        if wanted.port() == DNS_PORT {
            self.answer(stream);
            return None;
        }
        // It dialled the listener itself, which is nobody's address.
        if wanted.ip().is_loopback() {
            return None;
        }
        let (target, named) = destination(wanted, &self.names);
        Some(Captured { stream, target, named, peer })
    }

    /// Answers questions for names that come by a connection, if there are not too many of those.
    fn answer(&self, stream: TcpStream) {
        let Ok(place) = Arc::clone(&self.asking).try_acquire_owned() else { return };
        let Self { names, over, .. } = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = dns::serve_stream(stream, &names) => {}
                () = until(over) => {}
            }
            drop(place);
        });
    }
}

/// Waits until the sender is gone.
async fn until(mut over: watch::Receiver<()>) {
    while over.changed().await.is_ok() {}
}

/// How a part ended; one that panicked is told as such by the runtime, and ended all the same.
fn outcome(ended: Option<Result<Result<(), Error>, JoinError>>) -> Result<(), Error> {
    match ended {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => Err(Error::Listener(std::io::Error::other(error))),
        None => Ok(()),
    }
}

/// Where it wanted to go, and whether the program named that.
fn destination(wanted: SocketAddr, names: &Names) -> (Target, bool) {
    let port = wanted.port();
    let name = match wanted.ip() {
        IpAddr::V4(address) => names.name(address),
        IpAddr::V6(_) => None,
    };
    match name {
        Some(name) => (Target { host: Host::Name(name), port }, true),
        None => (Target { host: Host::Address(wanted.ip()), port }, false),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn reception() -> Reception {
        let (_, over) = watch::channel(());
        let asking = Arc::new(Semaphore::new(1));
        Reception { names: Arc::new(Names::forgetful()), asking, over }
    }

    #[test]
    fn an_address_stands_for_its_name_and_an_unknown_one_for_itself() {
        let names = Names::forgetful();
        let address = names.address("api.example.com");
        let (target, named) = destination((address, 5432).into(), &names);
        assert_eq!((&*target.to_string(), named), ("api.example.com:5432", true));
        for bare in ["198.18.4.4:443", "93.184.216.34:443", "[2001:db8::1]:22"] {
            let (target, named) = destination(bare.parse().unwrap(), &names);
            assert_eq!((&*target.to_string(), named), (bare, false));
        }
    }

    #[tokio::test]
    async fn who_dials_the_listener_itself_is_sent_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(reception().take(accepted).is_none());
        assert_eq!(
            client.readable().await.map(|()| client.try_read(&mut [0])).unwrap().unwrap(),
            0
        );
    }
}
