//! Starting `serve`: a fork of the first process that goes on as something else.
//!
//! It is the same program, so nothing is executed: the pages that both need are there and shared,
//! and `serve` is up a millisecond sooner. The first process has one thread and holds nothing that
//! `serve` may not see but descriptors, which are closed.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use crate::{
    fds::{self, Listener},
    serve::{Inherited, Last},
    sys::{
        check,
        process::{exit, prctl},
    },
};

/// What `serve` is to be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Story {
    pub(super) generation: u64,
    pub(super) starts: u32,
    pub(super) last: Last,
    pub(super) has_group: bool,
    pub(super) has_diagnosis: bool,
}

/// Starts `serve`; its process id.
pub(super) fn start(
    serve: fn(Inherited) -> i32,
    story: Story,
    queue_end: &OwnedFd,
) -> io::Result<i32> {
    // SAFETY: this process has one thread, so the child may do whatever a process may.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        let code = match become_serve(story, queue_end) {
            Ok(inherited) => serve(inherited),
            Err(_) => 127,
        };
        exit(code);
    }
    Ok(pid)
}

/// The child: its signals and descriptors. What the first process holds is not dropped but closed
/// here by its number; nothing of it is used any more.
fn become_serve(story: Story, queue_end: &OwnedFd) -> io::Result<Inherited> {
    // SAFETY: integers and a valid structure. All well-known numbers are taken from the start, so
    // the queue's end is none of them.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut()))?;
        check(libc::setsid())?;
        check(libc::dup2(queue_end.as_raw_fd(), fds::CONNECTIONS))?;
        libc::close(Listener::Egress.fd());
        if !story.has_group {
            libc::close(fds::CGROUP);
        }
        let mut first = fds::CGROUP + 1;
        if story.has_diagnosis {
            check(libc::dup2(fds::DIAGNOSIS_KEPT, fds::DIAGNOSIS))?;
            first = fds::DIAGNOSIS + 1;
        }
        // The other listeners are among them.
        check(libc::syscall(libc::SYS_close_range, first, u32::MAX, 0))?;
    }
    // For people who look at the list of processes.
    // SAFETY: a constant C string.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, c"boatyard-serve".as_ptr()) })?;
    // A fork keeps it, but a change of ids on the way would not.
    prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
    Inherited::take(story.generation, story.starts, story.last)
}
