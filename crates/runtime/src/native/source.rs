//! Where the sockets to spawners come from.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::{io::Interest, net::UnixStream, sync::mpsc};

/// Where the socket to the spawner comes from, and to the next one when that dies.
#[derive(Debug)]
pub struct Source(From);

#[derive(Debug)]
enum From {
    /// One spawner and never another.
    Single(Option<OwnedFd>),
    /// Whoever holds the other end starts them.
    Channel(mpsc::Receiver<OwnedFd>),
    /// A process that starts them: each message is one byte with the socket attached.
    Supervisor(UnixStream),
}

impl Source {
    /// This spawner and no other: when it dies, everything fails with
    /// [`crate::Error::SpawnerGone`].
    pub const fn single(socket: OwnedFd) -> Self {
        Self(From::Single(Some(socket)))
    }

    /// Each spawner that comes over this channel, one after the other.
    pub const fn channel(sockets: mpsc::Receiver<OwnedFd>) -> Self {
        Self(From::Channel(sockets))
    }

    /// What the supervisor starts ([`super::supervisor`]). Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the descriptor can't be watched.
    pub fn supervisor(supervised: super::supervisor::Supervised) -> io::Result<Self> {
        Ok(Self(From::Supervisor(watched(supervised.into_socket())?)))
    }

    /// The socket to the next spawner; nothing when there will be none.
    pub(super) async fn next(&mut self) -> Option<OwnedFd> {
        match &mut self.0 {
            From::Single(socket) => socket.take(),
            From::Channel(sockets) => sockets.recv().await,
            From::Supervisor(socket) => {
                let receive = || receive_descriptor(socket.as_fd());
                match socket.async_io(Interest::READABLE, receive).await {
                    Ok(received) => received.map(|(_, spawner)| spawner),
                    Err(error) => {
                        tracing::error!(%error, "the supervisor's socket failed");
                        None
                    }
                }
            }
        }
    }
}

/// Watches a socket for readiness. Its messages are sent and received by other means; tokio's
/// type for streams is the one that watches any unix socket without unsafe code.
pub(super) fn watched(socket: OwnedFd) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

/// Receives one byte with one descriptor attached; nothing when the other side has closed.
pub(super) fn receive_descriptor(socket: BorrowedFd<'_>) -> io::Result<Option<(u8, OwnedFd)>> {
    let Some((byte, descriptors)) = receive_descriptors(socket)? else { return Ok(None) };
    match <[OwnedFd; 1]>::try_from(descriptors) {
        Ok([descriptor]) => Ok(Some((byte, descriptor))),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "one descriptor was expected")),
    }
}

/// The most descriptors that come with one byte.
const DESCRIPTORS_MAX: usize = 6;

/// Receives one byte with descriptors attached; nothing when the other side has closed.
pub(super) fn receive_descriptors(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(u8, Vec<OwnedFd>)>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    // What was cut off was closed by the kernel, what is here is closed with the error.
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
    }
    Ok(Some((byte[0], descriptors)))
}
