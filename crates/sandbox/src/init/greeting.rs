//! Connections that have not said what they want: a fixed number, each with a deadline.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::{
    fds::{HELLO_LENGTH, Hello, Kind},
    sys::check,
};

/// How many may be undecided at one time; more wait in the listener's backlog.
pub(super) const SLOTS: usize = 16;
/// How long one may take to say hello.
const HELLO_LIMIT_MS: u64 = 1000;

/// Undecided connections.
pub(super) struct Greetings {
    slots: [Option<Pending>; SLOTS],
}

struct Pending {
    connection: OwnedFd,
    deadline_ms: u64,
    hello: [u8; HELLO_LENGTH],
    length: usize,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Events {
    pub(super) children: bool,
    pub(super) listener: bool,
}

/// What became of a slot.
pub(super) enum State {
    /// Empty, undecided, or closed because it was late or wrong.
    Waiting,
    /// It has said what it wants.
    Greeted(OwnedFd, Kind),
}

impl Greetings {
    pub(super) fn new() -> Self {
        Self { slots: [const { None }; SLOTS] }
    }

    /// Waits for a child's end, a connection, bytes on one, or the first deadline.
    pub(super) fn wait(
        &self,
        children: BorrowedFd<'_>,
        listener: BorrowedFd<'_>,
        now_ms: u64,
    ) -> io::Result<Events> {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // A negative number is passed over.
        let mut polls = [poll(-1); SLOTS + 2];
        polls[0] = poll(children.as_raw_fd());
        if self.slots.iter().any(Option::is_none) {
            polls[1] = poll(listener.as_raw_fd());
        }
        let mut timeout = -1;
        for (slot, entry) in self.slots.iter().zip(&mut polls[2..]) {
            let Some(pending) = slot else { continue };
            *entry = poll(pending.connection.as_raw_fd());
            let left = pending.deadline_ms.saturating_sub(now_ms).min(HELLO_LIMIT_MS) as i32;
            timeout = if timeout < 0 { left } else { left.min(timeout) };
        }
        // SAFETY: as many entries as said.
        let result =
            check(unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, timeout) });
        match result {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            Err(_) => Ok(Events { children: false, listener: false }),
            Ok(_) => {
                Ok(Events { children: polls[0].revents != 0, listener: polls[1].revents != 0 })
            }
        }
    }

    /// Accepts what there is room for.
    pub(super) fn accept(&mut self, listener: BorrowedFd<'_>, now_ms: u64) {
        for slot in self.slots.iter_mut().filter(|slot| slot.is_none()) {
            // SAFETY: no address is wanted; the result is a new descriptor.
            let accepted = check(unsafe {
                libc::accept4(
                    listener.as_raw_fd(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                )
            });
            // Nobody is there any more; an error concerns that connection only.
            let Ok(fd) = accepted else { return };
            // SAFETY: just accepted, ours alone.
            let connection = unsafe { OwnedFd::from_raw_fd(fd) };
            if is_from_inside(&connection) {
                continue;
            }
            *slot = Some(Pending {
                connection,
                deadline_ms: now_ms + HELLO_LIMIT_MS,
                hello: [0; HELLO_LENGTH],
                length: 0,
            });
        }
    }

    /// Reads on; never beyond the greeting, since what follows is `serve`'s.
    pub(super) fn read(&mut self, slot: usize, now_ms: u64) -> State {
        let Some(pending) = &mut self.slots[slot] else { return State::Waiting };
        let rest = &mut pending.hello[pending.length..];
        // SAFETY: a buffer of the length given.
        let result = check(unsafe {
            libc::recv(
                pending.connection.as_raw_fd(),
                rest.as_mut_ptr().cast(),
                rest.len(),
                libc::MSG_DONTWAIT,
            )
        });
        match result {
            Ok(length) if length > 0 => pending.length += length.unsigned_abs(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if now_ms >= pending.deadline_ms {
                    self.slots[slot] = None;
                }
                return State::Waiting;
            }
            // Closed, or broken.
            _ => {
                self.slots[slot] = None;
                return State::Waiting;
            }
        }
        if pending.length < HELLO_LENGTH {
            return State::Waiting;
        }
        let hello = Hello::decode(&pending.hello);
        match (self.slots[slot].take(), hello) {
            (Some(pending), Some(hello)) => State::Greeted(pending.connection, hello.kind),
            _ => State::Waiting,
        }
    }
}

/// Whether the other side is a process of this sandbox: one from outside has no id here.
fn is_from_inside(connection: &OwnedFd) -> bool {
    let mut peer = libc::ucred { pid: -1, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: a structure of the length given.
    let result = check(unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    });
    result.is_err() || peer.pid != 0
}
