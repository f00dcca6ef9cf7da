//! The listener inside a workspace's network namespace, as it comes by descriptor.

use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::TcpListener;

use crate::Error;

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
