//! Connecting to the first process of a workspace over its socket below `run`.
//!
//! Every connection begins with a 16-byte [`Hello`]; the formats are in
//! [`boatyard_sandbox::fds`]. What comes back is from a workspace and therefore checked.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use boatyard_model::WorkspaceId;
use boatyard_sandbox::fds::{Hello, Kind, LISTENER_OK, Listener, PONG_LENGTH, Pong};
use rustix::{
    fs::{FileType, Mode, OFlags},
    net::{AddressFamily, SocketType, sockopt},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
    time::timeout,
};

use super::source::{receive_descriptor, receive_descriptors};
use crate::{Capture, Error};

/// `init` accepts at once unless the workspace is frozen or the machine is far beyond its means.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long to wait before connecting again to a socket whose queue is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(2);

/// The folder with the link sockets, held open.
#[derive(Debug)]
pub(super) struct Sockets {
    folder: OwnedFd,
}

impl Sockets {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { folder: rustix::fs::open(folder, flags, Mode::empty())? })
    }

    /// Opens a connection and says what it is for.
    pub(super) async fn connect(
        &self,
        workspace: WorkspaceId,
        kind: Kind,
    ) -> Result<UnixStream, Error> {
        // By way of the open folder, because a socket's path has at most 108 bytes and the data
        // folder may lie deep.
        let path = format!("/proc/self/fd/{}/{workspace}.sock", self.folder.as_raw_fd());
        let connect = async {
            loop {
                match UnixStream::connect(&path).await {
                    // Unlike TCP, a full queue refuses at once.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        tokio::time::sleep(QUEUE_FULL_PAUSE).await;
                    }
                    result => break result,
                }
            }
        };
        let mut stream = timeout(DEADLINE, connect)
            .await
            .map_err(|_| Error::Timeout("connecting to the workspace"))?
            .map_err(|source| not_running(workspace, source))?;
        // 16 bytes always fit the buffer of a new socket.
        stream
            .write_all(&Hello { kind }.encode())
            .await
            .map_err(|source| not_running(workspace, source))?;
        Ok(stream)
    }

    /// The generation of the first process; [`Error::NotRunning`] when it is gone.
    pub(super) async fn ping(&self, workspace: WorkspaceId) -> Result<Pong, Error> {
        let mut stream = self.connect(workspace, Kind::Ping).await?;
        let mut pong = [0; PONG_LENGTH];
        timeout(DEADLINE, stream.read_exact(&mut pong))
            .await
            .map_err(|_| Error::Timeout("the workspace's first process"))?
            .map_err(|source| not_running(workspace, source))?;
        Pong::decode(&pong).ok_or_else(|| nonsense("read the answer of a workspace"))
    }

    /// A duplicate of a listener, which is checked to be one.
    pub(super) async fn listener(
        &self,
        workspace: WorkspaceId,
        listener: Listener,
    ) -> Result<OwnedFd, Error> {
        const ACTION: &str = "take a listener of a workspace";
        let stream = self.connect(workspace, Kind::Listener(listener)).await?;
        let receive = stream.async_io(Interest::READABLE, || receive_descriptor(stream.as_fd()));
        let received = timeout(DEADLINE, receive)
            .await
            .map_err(|_| Error::Timeout("the workspace's first process"))?;
        let (byte, socket) = match received {
            Ok(Some(received)) => received,
            Ok(None) => return Err(self.no_listener(workspace, listener.name()).await),
            Err(source) if source.kind() == io::ErrorKind::ConnectionReset => {
                return Err(self.no_listener(workspace, listener.name()).await);
            }
            Err(source) => return Err(Error::Io { action: ACTION, source }),
        };
        match is_tcp_listener(socket.as_fd()) {
            Ok(true) if byte == LISTENER_OK => Ok(socket),
            Ok(_) => Err(nonsense(ACTION)),
            Err(source) => Err(Error::Io { action: ACTION, source }),
        }
    }

    /// Duplicates of all that catches, each checked to be what it should be.
    pub(super) async fn capture(&self, workspace: WorkspaceId) -> Result<Capture, Error> {
        const ACTION: &str = "take what catches a workspace's connections";
        const NAME: &str = "capture listener";
        let stream = self.connect(workspace, Kind::Capture).await?;
        let receive = stream.async_io(Interest::READABLE, || receive_descriptors(stream.as_fd()));
        let received = timeout(DEADLINE, receive)
            .await
            .map_err(|_| Error::Timeout("the workspace's first process"))?;
        let descriptors = match received {
            Ok(Some((LISTENER_OK, descriptors))) => descriptors,
            Ok(Some(_)) => return Err(nonsense(ACTION)),
            Ok(None) => return Err(self.no_listener(workspace, NAME).await),
            Err(source) if source.kind() == io::ErrorKind::ConnectionReset => {
                return Err(self.no_listener(workspace, NAME).await);
            }
            Err(source) => return Err(Error::Io { action: ACTION, source }),
        };
        let mut descriptors = descriptors.into_iter();
        let (Some(dns), Some(names)) = (descriptors.next(), descriptors.next()) else {
            return Err(nonsense(ACTION));
        };
        let listeners: Vec<OwnedFd> = descriptors.collect();
        let failed = |source| Error::Io { action: ACTION, source };
        let mut fits = !listeners.is_empty() && is_datagrams(dns.as_fd()).map_err(failed)?;
        for listener in &listeners {
            fits &= is_tcp_listener(listener.as_fd()).map_err(failed)?;
        }
        let kind = rustix::fs::fstat(&names).map_err(|errno| failed(errno.into()))?.st_mode;
        fits &= FileType::from_raw_mode(kind) == FileType::RegularFile;
        if fits { Ok(Capture { listeners, dns, names }) } else { Err(nonsense(ACTION)) }
    }

    /// Why the first process hung up: it is gone, or it is of a version that knew no such listener.
    async fn no_listener(&self, workspace: WorkspaceId, listener: &'static str) -> Error {
        match self.ping(workspace).await {
            Ok(_) => Error::NoListener { workspace, listener },
            Err(error) => error,
        }
    }
}

/// Whether a descriptor is what it should be; anything may come out of a workspace.
fn is_tcp_listener(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let family = match sockopt::socket_domain(fd) {
        Ok(family) => family,
        Err(rustix::io::Errno::NOTSOCK) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let of_internet = family == AddressFamily::INET || family == AddressFamily::INET6;
    Ok(of_internet
        && sockopt::socket_type(fd)? == SocketType::STREAM
        && sockopt::socket_acceptconn(fd)?)
}

/// Whether a descriptor is a socket for datagrams of the Internet.
fn is_datagrams(fd: BorrowedFd<'_>) -> io::Result<bool> {
    match sockopt::socket_domain(fd) {
        Ok(AddressFamily::INET) => Ok(sockopt::socket_type(fd)? == SocketType::DGRAM),
        Ok(_) | Err(rustix::io::Errno::NOTSOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn nonsense(action: &'static str) -> Error {
    let source = io::Error::new(io::ErrorKind::InvalidData, "the workspace answered nonsense");
    Error::Io { action, source }
}

/// A socket that nobody listens on, or none at all, means that the first process is gone.
fn not_running(workspace: WorkspaceId, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe => Error::NotRunning(workspace),
        _ => Error::Io { action: "connect to a workspace", source },
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{IoSlice, Read, Write},
        mem::MaybeUninit,
        net::{TcpListener, UdpSocket},
        os::{fd::AsFd, unix::net::UnixListener},
        thread,
    };

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    /// Answers one connection with `bytes` and `fd`, after its hello.
    fn answer(
        folder: &Path,
        workspace: WorkspaceId,
        bytes: &'static [u8],
        fd: Option<OwnedFd>,
    ) -> thread::JoinHandle<[u8; 16]> {
        let listener = UnixListener::bind(folder.join(format!("{workspace}.sock"))).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0; 16];
            stream.read_exact(&mut hello).unwrap();
            let Some(fd) = fd else {
                stream.write_all(bytes).unwrap();
                return hello;
            };
            let fds = [fd.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            sendmsg(&stream, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
            hello
        })
    }

    async fn check_listener(bytes: &'static [u8], fd: Option<OwnedFd>) -> Result<OwnedFd, Error> {
        let folder = tempfile::tempdir().unwrap();
        let workspace = WorkspaceId::new();
        let peer = answer(folder.path(), workspace, bytes, fd);
        let sockets = Sockets::open(folder.path()).unwrap();
        let result = sockets.listener(workspace, Listener::Gateway).await;
        let hello = peer.join().unwrap();
        assert_eq!(Hello::decode(&hello), Some(Hello { kind: Kind::Listener(Listener::Gateway) }));
        result
    }

    #[tokio::test]
    async fn only_a_listening_tcp_socket_is_taken_as_a_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = check_listener(b"E", Some(listener.into())).await.unwrap();
        assert_eq!(TcpListener::from(taken).local_addr().unwrap(), address);

        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(matches!(check_listener(b"E", Some(udp.into())).await, Err(Error::Io { .. })));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(check_listener(b"E", Some(file.into())).await, Err(Error::Io { .. })));
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(check_listener(b"E", Some(stream.into())).await, Err(Error::Io { .. })));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(check_listener(b"?", Some(listener.into())).await, Err(Error::Io { .. })));
        assert!(matches!(check_listener(b"E", None).await, Err(Error::Io { .. })));
        assert!(matches!(check_listener(b"", None).await, Err(Error::NotRunning(_))));
    }

    #[tokio::test]
    async fn an_earlier_version_without_the_listener_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = WorkspaceId::new();
        let socket = UnixListener::bind(folder.path().join(format!("{workspace}.sock"))).unwrap();
        let peer = thread::spawn(move || {
            // The first release answers what it does not know by hanging up.
            for answer in [
                Vec::new(),
                Pong { generation: 1, serve_pid: 0, serve_starts: 0 }.encode().to_vec(),
            ] {
                let (mut stream, _) = socket.accept().unwrap();
                stream.read_exact(&mut [0; 16]).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        let sockets = Sockets::open(folder.path()).unwrap();
        let refused = sockets.listener(workspace, Listener::Gateway).await.unwrap_err();
        peer.join().unwrap();
        assert!(matches!(refused, Error::NoListener { .. }), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains(&format!("`boatyard workspace stop {workspace}`")), "{text}");
    }

    #[tokio::test]
    async fn a_ping_tells_the_generation() {
        let folder = tempfile::tempdir().unwrap();
        let sockets = Sockets::open(folder.path()).unwrap();
        let workspace = WorkspaceId::new();
        assert!(matches!(sockets.ping(workspace).await, Err(Error::NotRunning(_))));
        let pong = Pong { generation: 7, serve_pid: 3, serve_starts: 2 }.encode();
        let peer = answer(folder.path(), workspace, pong.to_vec().leak(), None);
        assert_eq!(sockets.ping(workspace).await.unwrap().generation, 7);
        peer.join().unwrap();
        // The socket's path is there, and nobody listens.
        assert!(matches!(sockets.ping(workspace).await, Err(Error::NotRunning(_))));
    }

    #[tokio::test]
    async fn a_deep_data_folder_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(90)).join("y".repeat(90));
        std::fs::create_dir_all(&deep).unwrap();
        let sockets = Sockets::open(&deep).unwrap();
        let workspace = WorkspaceId::new();
        // Bound as the spawner does it, by way of the folder.
        let path = format!("/proc/self/fd/{}", sockets.folder.as_raw_fd());
        let peer = answer(Path::new(&path), workspace, b"", None);
        assert!(matches!(sockets.ping(workspace).await, Err(Error::NotRunning(_))));
        peer.join().unwrap();
    }
}
