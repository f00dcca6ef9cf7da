//! What the first process leaves to `serve`: connections, the spool, the group, and how the one
//! before ended. It can't be traced or looked into by the worker.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::{
    Result, cgroup,
    error::Step as _,
    fds,
    programs::Finder,
    sys::{process::close_on_exec_from, socket},
};

/// What `serve` was born with.
#[derive(Debug)]
pub struct Inherited {
    /// Link connections come here.
    pub connections: Connections,
    /// The spool, for reading and writing.
    pub spool: File,
    /// The workspace's own group, the parent of every session's; none where there is no
    /// version 2.
    pub group: Option<OwnedFd>,
    /// Finds out which program has a connection.
    pub finder: Finder,
    /// How many times the workspace was started.
    pub generation: u64,
    /// How many times `serve` was started in this generation, from 1.
    pub starts: u32,
    /// How the one before ended.
    pub last: Last,
}

/// How the `serve` before this one ended, in this generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// This is the first.
    None,
    /// It ended by itself; with another code than 0, what ran was lost.
    Exited(i32),
    /// A signal ended it, and what ran was lost.
    Signaled(i32),
}

impl Last {
    /// Whether agents and terminals were lost with it.
    pub const fn lost_work(self) -> bool {
        !matches!(self, Self::None | Self::Exited(0))
    }
}

/// The socket on which the first process passes link connections on.
///
/// A connection that was not taken when `serve` ends is given to the next, so `serve` may end
/// whenever it likes without losing one.
#[derive(Debug)]
pub struct Connections {
    socket: OwnedFd,
}

impl Connections {
    /// The next connection (a non-blocking stream socket whose greeting was read); none when
    /// there is none at the moment.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn next(&self) -> Result<Option<OwnedFd>> {
        let mut byte = [0];
        match socket::receive(self.socket.as_fd(), &mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            result => {
                let [connection, ..] = result.step("receive a connection")?.fds;
                Ok(connection)
            }
        }
    }
}

impl AsFd for Connections {
    /// Readable when there is a connection.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Connections {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

impl Inherited {
    /// Takes over the well-known descriptors, once, in a fork of the first process.
    pub(crate) fn take(generation: u64, starts: u32, last: Last) -> io::Result<Self> {
        close_on_exec_from(3)?;
        // SAFETY: the first process leaves both open, and nobody else in this process uses them.
        let (connections, spool) =
            unsafe { (OwnedFd::from_raw_fd(fds::CONNECTIONS), File::from_raw_fd(fds::SPOOL)) };
        Ok(Self {
            connections: Connections { socket: connections },
            spool,
            group: cgroup::inherited(),
            finder: Finder::inherited(),
            generation,
            starts,
            last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_of_its_own_accord_loses_nothing() {
        assert!(Last::Exited(1).lost_work() && Last::Signaled(9).lost_work());
        assert!(!Last::Exited(0).lost_work() && !Last::None.lost_work());
    }
}
