//! The listener inside a workspace's network namespace, as it comes by descriptor, and the loop
//! that takes its connections.

use std::{future::Future, io, os::fd::OwnedFd, time::Duration};

use boatyard_model::WorkspaceId;
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::Error;

/// How long to wait when the system has no descriptors left.
const NO_DESCRIPTORS_PAUSE: Duration = Duration::from_millis(100);

/// How a workspace's connections are served.
pub(crate) struct Service<R, F> {
    /// Whose they are.
    pub(crate) workspace: WorkspaceId,
    /// How many there may be at once.
    pub(crate) max_connections: usize,
    /// What those under way get to end.
    pub(crate) drain_within: Duration,
    /// Tells them that the end has come.
    pub(crate) close: watch::Sender<bool>,
    /// Serves one.
    pub(crate) run: R,
    /// Is told of one too many, which is closed after it.
    pub(crate) refuse: F,
}

impl<R, C, F> Service<R, F>
where
    R: Fn(TcpStream) -> C,
    C: Future<Output = ()> + Send + 'static,
    F: Fn(&TcpStream),
{
    /// Takes connections until `shutdown` is ready, then lets those under way end.
    ///
    /// # Errors
    ///
    /// When the listener can't be accepted from any more.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let mut connections = JoinSet::new();
        let outcome = tokio::select! {
            outcome = self.accept(&listener, &mut connections) => outcome,
            () = shutdown => Ok(()),
        };
        drop(listener);
        self.close.send_replace(true);
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(self.drain_within, drained).await.is_err() {
            connections.shutdown().await;
        }
        outcome
    }

    /// Accepts until the listener fails.
    async fn accept(
        &self,
        listener: &TcpListener,
        connections: &mut JoinSet<()>,
    ) -> Result<(), Error> {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) if is_shortage(&error) => {
                    tracing::warn!(workspace.id = %self.workspace, %error, "can't accept for now");
                    sleep(NO_DESCRIPTORS_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(Error::Listener(error)),
            };
            // Finished ones are still counted until they are joined.
            while connections.try_join_next().is_some() {}
            if connections.len() < self.max_connections {
                connections.spawn((self.run)(stream));
            } else {
                (self.refuse)(&stream);
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// `EMFILE`, `ENFILE`, `ENOBUFS` and `ENOMEM`: it passes.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Takes the descriptor for what it should be: a listening TCP socket. It came from inside a
/// sandbox, so it is looked at first.
///
/// # Errors
///
/// [`Error::NotAListener`] when it is something else.
pub(crate) fn adopt(descriptor: OwnedFd) -> Result<TcpListener, Error> {
    let found = |found| Error::NotAListener { found };
    {
        let socket = SockRef::from(&descriptor);
        if socket.r#type().map_err(|_| found("not a socket"))? != Type::STREAM {
            return Err(found("not a stream socket"));
        }
        if !matches!(socket.domain(), Ok(Domain::IPV4 | Domain::IPV6)) {
            return Err(found("not of the Internet's families"));
        }
        if socket.protocol().map_err(Error::Listener)? != Some(Protocol::TCP) {
            return Err(found("not TCP"));
        }
        if !socket.is_listener().map_err(Error::Listener)? {
            return Err(found("not listening"));
        }
    }
    let listener = std::net::TcpListener::from(descriptor);
    listener.set_nonblocking(true).map_err(Error::Listener)?;
    TcpListener::from_std(listener).map_err(Error::Listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(descriptor: impl Into<OwnedFd>, expected: &str) {
        match adopt(descriptor.into()) {
            Err(Error::NotAListener { found }) => assert_eq!(found, expected),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn only_listening_tcp_sockets_are_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        check(std::fs::File::open("/dev/null").unwrap(), "not a socket");
        check(std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), "not a stream socket");
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        check(unix, "not of the Internet's families");
        check(std::net::TcpStream::connect(address).unwrap(), "not listening");
        assert_eq!(adopt(listener.into()).unwrap().local_addr().unwrap(), address);
    }
}
