//! The last steps of the child: what the first process finds, and becoming it. The numbers are in
//! [`crate::fds`].

use std::{
    convert::Infallible,
    ffi::CString,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use super::setup::{Ids, PARKING, Setup, Trees};
use crate::{
    Error, Result,
    error::Step as _,
    fds,
    sys::{check, process::close_on_exec_from},
};

/// Puts the well-known descriptors in their places and marks all others to be closed.
pub(super) fn descriptors(
    setup: &Setup<'_>,
    trees: &Trees,
    network: Vec<(i32, OwnedFd)>,
) -> Result<()> {
    // SAFETY: a constant C string; the result is a new descriptor.
    let null = unsafe {
        let fd = check(libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC));
        OwnedFd::from_raw_fd(fd.step("open /dev/null")?)
    };
    let mut wanted = vec![
        (0, Some(null.as_fd())),
        (1, Some(null.as_fd())),
        (2, Some(null.as_fd())),
        (fds::LINK_LISTENER, Some(trees.link.as_fd())),
        (fds::SPOOL, Some(trees.spool.as_fd())),
        (fds::CGROUP, setup.cgroup),
        (fds::RUNNER, Some(setup.runner)),
    ];
    wanted.extend(fds::NETWORK.map(|wanted| {
        let made = network.iter().find(|(number, _)| *number == wanted);
        (wanted, made.map(|(_, descriptor)| descriptor.as_fd()))
    }));
    // First all out of the way, since a source may sit on another's place.
    let mut parked = Vec::with_capacity(wanted.len());
    for (target, source) in wanted {
        let copy = match source {
            None => None,
            // SAFETY: integers; the result is a new descriptor.
            Some(source) => Some(unsafe {
                let fd = check(libc::fcntl(source.as_raw_fd(), libc::F_DUPFD_CLOEXEC, PARKING));
                OwnedFd::from_raw_fd(fd.step("descriptors")?)
            }),
        };
        parked.push((target, copy));
    }
    for (target, source) in &parked {
        match source {
            // SAFETY: what sat at `target` was parked above or is not needed any more.
            Some(source) => unsafe {
                check(libc::dup2(source.as_raw_fd(), *target)).step("descriptors")?;
            },
            // SAFETY: as above; it may not be open at all.
            None => unsafe {
                libc::close(*target);
            },
        }
    }
    // What is owned here may have been at a number that is well known by now: nothing is closed
    // but on exec.
    std::mem::forget((null, network, parked));
    close_on_exec_from(fds::LAST + 1).step("descriptors")
}

/// Becomes the first process's program; returns only when that failed.
pub(super) fn exec(setup: &Setup<'_>) -> Result<Infallible> {
    let ids = match setup.ids {
        Ids::Range => "range",
        Ids::Single => "single",
    };
    let text = |text: String| CString::new(text).map_err(|_| Error::invalid("zero byte"));
    let environment = [
        text(format!("{}={}", fds::ENV_GENERATION, setup.generation))?,
        text(format!("{}={ids}", fds::ENV_IDS))?,
    ];
    let environment = [environment[0].as_ptr(), environment[1].as_ptr(), std::ptr::null()];
    let arguments = [c"boatyard-runner".as_ptr(), c"init".as_ptr(), std::ptr::null()];
    // SAFETY: an open descriptor, C strings, null-terminated arrays of such.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fds::RUNNER,
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Err(Error::last("exec of the runner"))
}
