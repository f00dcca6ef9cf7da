//! `epoll`, level-triggered.

use std::{
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use crate::{
    Result,
    error::Step as _,
    sys::{check, retry},
};

/// Events taken at once.
const BATCH: usize = 64;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Events {
    Read,
    Write,
    Both,
}

#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(super) fn new() -> Result<Self> {
        // SAFETY: an integer; the result is a new descriptor.
        let epoll = unsafe {
            let fd = check(libc::epoll_create1(libc::EPOLL_CLOEXEC)).step("epoll")?;
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { epoll })
    }

    pub(super) fn add(&self, fd: BorrowedFd<'_>, token: u64, events: Events) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, events)
    }

    pub(super) fn change(&self, fd: BorrowedFd<'_>, token: u64, events: Events) -> Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, events)
    }

    pub(super) fn remove(&self, fd: BorrowedFd<'_>) -> Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Events::Read)
    }

    /// The tokens of what is ready; none when the time is over.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Result<Vec<u64>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        // Rounded up, so that a wait does not end just short of its time.
        let timeout = timeout
            .map_or(-1, |left| i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        let count = retry(|| {
            // SAFETY: room for as many events as said.
            check(unsafe {
                libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), BATCH as i32, timeout)
            })
        })
        .step("epoll wait")?;
        let count = usize::try_from(count).unwrap_or(0);
        Ok(events[..count].iter().map(|event| event.u64).collect())
    }

    fn control(&self, what: i32, fd: BorrowedFd<'_>, token: u64, events: Events) -> Result<()> {
        let events = match events {
            Events::Read => libc::EPOLLIN,
            Events::Write => libc::EPOLLOUT,
            Events::Both => libc::EPOLLIN | libc::EPOLLOUT,
        };
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token };
        // SAFETY: open descriptors and a valid event.
        check(unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), what, fd.as_raw_fd(), &raw mut event)
        })
        .step("epoll")?;
        Ok(())
    }
}

/// Makes reading and writing `fd` never wait.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: integers only.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL)).step("fcntl")?;
        check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK))
            .step("fcntl")?;
    }
    Ok(())
}
