//! A connection that can be taken out of the HTTP server.
//!
//! The server reads and writes through [`Io`]. A route that wants the raw socket for the rest of
//! the connection's life answers with a body that, when the server asks it for more than its first
//! bytes, marks the socket as wanted. The server then flushes what it has; once that is in the
//! kernel, [`Socket::take`] gives the route's continuation, the server's half is dropped, and the
//! continuation owns the connection. HTTP's framing goes on where the server left it: chunks.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use rustix::net::SendFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};

/// What happens with a connection that was taken.
pub type Continuation = Box<dyn FnOnce(Arc<Socket>) + Send>;

/// A connection.
pub struct Socket {
    stream: TcpStream,
    /// The last write could not place all its bytes.
    blocked: AtomicBool,
    wanted: AtomicBool,
    continuation: Mutex<Option<Continuation>>,
    /// The connection's place among the server's connections.
    _place: Option<OwnedSemaphorePermit>,
}

impl Socket {
    /// A connection, with its place among the server's connections.
    pub fn new(stream: TcpStream, place: Option<OwnedSemaphorePermit>) -> Arc<Self> {
        Arc::new(Self {
            stream,
            blocked: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            continuation: Mutex::new(None),
            _place: place,
        })
    }

    /// Has small writes sent at once.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send_at_once(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)
    }

    /// The address of the other end, while there is one.
    pub fn peer(&self) -> Option<std::net::IpAddr> {
        self.stream.peer_addr().ok().map(|address| address.ip())
    }

    /// Asks for the connection, once the server has written what it has.
    pub(super) fn want(&self, continuation: Continuation) {
        *self.continuation.lock().unwrap_or_else(PoisonError::into_inner) = Some(continuation);
        self.wanted.store(true, Ordering::Release);
    }

    /// What to do with the connection, if somebody wants it and everything is written. To be
    /// asked after the server has done all it can for now.
    pub fn take(&self) -> Option<Continuation> {
        if !self.wanted.load(Ordering::Acquire) || self.blocked.load(Ordering::Acquire) {
            return None;
        }
        self.continuation.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Writes what fits, without waiting and without asking the reactor first, which for thousands
    /// of sockets in a row would cost a cache miss each.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits; others when the connection is gone.
    pub(super) fn offer(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
        Ok(rustix::net::send(&self.stream, bytes, flags)?)
    }

    /// Writes what fits, without waiting; to be followed by [`Self::writable`] where nothing does.
    ///
    /// # Errors
    /// As [`Self::offer`].
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }

    /// Waits until something fits, after [`Self::try_write`] found that nothing does.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Says that nothing more is written.
    pub(super) fn finish(&self) {
        // A connection that is gone already needs no end.
        let _ = socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write);
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>, wanted: usize) {
        let blocked = match result {
            Poll::Ready(Ok(n)) => *n < wanted,
            Poll::Ready(Err(_)) => false,
            Poll::Pending => true,
        };
        self.blocked.store(blocked, Ordering::Release);
    }
}

/// The HTTP server's half of a connection.
pub struct Io(pub Arc<Socket>);

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            match self.0.stream.try_read(buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Io {
    fn poll_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_write_ready(cx))?;
            match write(&self.0.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = self.poll_with(cx, |stream| stream.try_write(buf));
        self.0.wrote(&result, buf.len());
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.poll_with(cx, |stream| stream.try_write_vectored(bufs));
        self.0.wrote(&result, bufs.iter().map(|buf| buf.len()).sum());
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.finish();
        Poll::Ready(Ok(()))
    }
}
