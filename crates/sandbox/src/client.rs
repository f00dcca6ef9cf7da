//! The server's side of the spawner's socket.
//!
//! [`send`] and [`receive`] work on a borrowed descriptor and do not wait when it is
//! non-blocking, so that an async driver can use them under its own readiness; [`Client`] is the
//! blocking form for tools and tests.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use crate::{
    Error, Result,
    error::Step as _,
    protocol::{REPLY_MAX, Reply, Request, decode_reply, encode_request},
    sys::socket,
};

/// One reply as it came.
#[derive(Debug)]
pub struct Received {
    /// The id of its request; 0 when it answers none.
    pub id: u64,
    /// The reply.
    pub reply: Reply,
    /// The descriptor that was attached, for [`Reply::Spool`].
    pub fd: Option<OwnedFd>,
}

/// Sends `request` under `id` (not 0).
///
/// # Errors
/// [`Error::System`] with `WouldBlock` inside when the socket is non-blocking and full,
/// [`Error::SpawnerGone`] when the spawner has ended.
pub fn send(socket: BorrowedFd<'_>, id: u64, request: &Request) -> Result<()> {
    let bytes = encode_request(id, request)?;
    match socket::send(socket, &bytes, &[]) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::NotConnected
            ) =>
        {
            Err(Error::SpawnerGone)
        }
        result => result.step("send to the spawner"),
    }
}

/// Receives one reply; none when the socket is non-blocking and empty.
///
/// # Errors
/// [`Error::SpawnerGone`], [`Error::Malformed`].
pub fn receive(socket: BorrowedFd<'_>) -> Result<Option<Received>> {
    let mut buffer = vec![0; REPLY_MAX];
    let received = match socket::receive(socket, &mut buffer) {
        Ok(received) => received,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            return Err(Error::SpawnerGone);
        }
        Err(error) => return Err(Error::system("receive from the spawner", error)),
    };
    if received.length == 0 {
        return Err(Error::SpawnerGone);
    }
    let (id, reply) = decode_reply(&buffer[..received.length])?;
    let [fd, ..] = received.fds;
    Ok(Some(Received { id, reply, fd }))
}

/// A blocking client: one request at a time.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    next: u64,
    notices: VecDeque<Reply>,
}

/// How many unread notices a [`Client`] keeps; older ones are dropped.
const NOTICES_MAX: usize = 1024;

impl Client {
    /// Speaks over `socket`, as [`crate::spawner::Launched`] has it.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, next: 1, notices: VecDeque::new() }
    }

    /// Asks and waits for the answer, with the attached descriptor if there is one.
    ///
    /// # Errors
    /// [`Error::Refused`] when the spawner said no, [`Error::Deadline`], [`Error::SpawnerGone`].
    pub fn call(&mut self, request: &Request, limit: Duration) -> Result<(Reply, Option<OwnedFd>)> {
        let id = self.next;
        self.next += 1;
        let deadline = Instant::now() + limit;
        send(self.socket.as_fd(), id, request)?;
        loop {
            let Some(received) = self.next_before(deadline)? else {
                return Err(Error::Deadline {
                    step: "the spawner's answer".into(),
                    limit_ms: millis(limit),
                });
            };
            match received {
                Received { id: 0, reply, .. } => self.keep(reply),
                Received { id: got, reply: Reply::Failed(failure), .. } if got == id => {
                    return Err(Error::Refused(failure));
                }
                Received { id: got, reply, fd } if got == id => return Ok((reply, fd)),
                // The answer to a call whose deadline had passed.
                Received { .. } => {}
            }
        }
    }

    /// The next reply that answers no request; none when the time is over.
    ///
    /// # Errors
    /// [`Error::SpawnerGone`], [`Error::Malformed`].
    pub fn notice(&mut self, limit: Duration) -> Result<Option<Reply>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Ok(Some(notice));
            }
            match self.next_before(deadline)? {
                Some(Received { id: 0, reply, .. }) => self.keep(reply),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// The socket, to hand on.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    fn keep(&mut self, notice: Reply) {
        if self.notices.len() == NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }

    fn next_before(&self, deadline: Instant) -> Result<Option<Received>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // One more than the whole milliseconds, so that the wait does not end just short.
            let events = socket::wait(self.socket.as_fd(), libc::POLLIN, Some(millis(left) + 1))
                .step("wait for the spawner")?;
            if events == 0 {
                return Ok(None);
            }
            if let Some(received) = receive(self.socket.as_fd())? {
                return Ok(Some(received));
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Client {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
