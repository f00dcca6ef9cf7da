//! Replies that wait for the server to read.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use super::poller::Events;
use crate::{
    Result,
    error::Step as _,
    protocol::{Reply, encode_reply},
    sys::socket,
};

/// From this many on, no request is read. What comes on top is bounded by what is in flight then:
/// workers, starts and sandboxes.
const FULL: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    replies: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
}

impl Outbox {
    pub(super) fn push(&mut self, id: u64, reply: &Reply, fd: Option<OwnedFd>) {
        self.replies.push_back((encode_reply(id, reply), fd));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.replies.len() >= FULL
    }

    pub(super) fn clear(&mut self) {
        self.replies.clear();
    }

    /// What to wait for on the socket.
    pub(super) fn interest(&self) -> Events {
        if self.is_empty() {
            Events::Read
        } else if self.is_full() {
            Events::Write
        } else {
            Events::Both
        }
    }

    /// Sends what the socket takes; false when the server is gone.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<bool> {
        while let Some((bytes, fd)) = self.replies.front() {
            let fds: Vec<i32> = fd.iter().map(AsRawFd::as_raw_fd).collect();
            match socket::send(socket, bytes, &fds) {
                Ok(()) => {
                    self.replies.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    return Ok(false);
                }
                Err(error) => return Err(error).step("send reply"),
            }
        }
        Ok(true)
    }
}
