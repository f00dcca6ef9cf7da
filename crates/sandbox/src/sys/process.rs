//! Making, signalling and awaiting processes, by pidfd throughout.

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use super::{check, retry};
use crate::{WORKER_GID, WORKER_UID};

/// `CLONE_INTO_CGROUP`, which the libc crate lacks.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The kernel's `struct clone_args`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which side of a fork this is.
#[derive(Debug)]
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The old one, with what it needs to know about the new one.
    Parent(Process),
}

/// A child process that may still run or wait to be reaped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// Forks with `namespaces` (CLONE_NEW* flags) new, into `cgroup` (a folder of version 2) at once.
///
/// # Safety
/// The process must have one thread only, or the child must call nothing but async-signal-safe
/// functions until it has replaced its program or exited.
pub(crate) unsafe fn fork(namespaces: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: u64::from(namespaces.cast_unsigned()) | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args without a stack, which means fork semantics; the
    // caller answers for what the child does.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Fork::Child);
    }
    // SAFETY: the kernel made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Fork::Parent(Process { pid: pid as i32, pidfd }))
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// Reaps the child behind `pidfd` if it has ended; with `block`, waits for that.
pub(crate) fn reap(pidfd: BorrowedFd<'_>, wait: Wait) -> io::Result<Option<Status>> {
    let flags = match wait {
        Wait::Block => 0,
        Wait::Poll => libc::WNOHANG,
    };
    // SAFETY: all-zero is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    retry(|| {
        // SAFETY: `info` is writable for the kernel.
        check(unsafe {
            libc::waitid(
                libc::P_PIDFD,
                pidfd.as_raw_fd().cast_unsigned(),
                &raw mut info,
                libc::WEXITED | flags,
            )
        })
    })?;
    // SAFETY: waitid fills the child's fields, or leaves the zeros when nothing has ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok(match (pid, info.si_code) {
        (0, _) => None,
        (_, libc::CLD_EXITED) => Some(Status::Exited(status)),
        _ => Some(Status::Signaled(status)),
    })
}

/// Whether to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Block,
    Poll,
}

/// A descriptor for the process `pid`, which need not be a child.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only; the result is a new descriptor.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Sends `signal` to the process behind `pidfd`.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: no pointers but a null one, which means an ordinary signal.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}

/// When `pid` started, in clock ticks since boot: with the pid, this names a process for good.
pub(crate) fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything, so count from the last one: state is field 3,
    // the start time field 22.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no start time in stat"))
}

/// Marks every descriptor from `first` on to be closed when the program is replaced.
pub(crate) fn close_on_exec_from(first: i32) -> io::Result<()> {
    // SAFETY: integers only; changes flags.
    check(unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })?;
    Ok(())
}

/// `prctl` with up to two arguments.
pub(crate) fn prctl(option: i32, first: u64, second: u64) -> io::Result<i32> {
    // SAFETY: every use in this crate passes integers, no pointers.
    check(unsafe { libc::prctl(option, first, second, 0u64, 0u64) })
}

/// Ends this process at once, without running anything at exit.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(code) }
}

/// While it lives, this thread looks at files as the worker does: the environment of a process
/// is shown to its own user only, and the runner may not trace.
pub(crate) struct AsWorker {
    uid: i32,
    gid: i32,
}

impl AsWorker {
    pub(crate) fn begin() -> Self {
        // SAFETY: both calls take an integer, work on this thread only and return the old value.
        unsafe {
            let gid = libc::setfsgid(WORKER_GID);
            Self { uid: libc::setfsuid(WORKER_UID), gid }
        }
    }
}

impl Drop for AsWorker {
    fn drop(&mut self) {
        // SAFETY: as above; the old values are always allowed.
        unsafe {
            libc::setfsuid(self.uid.cast_unsigned());
            libc::setfsgid(self.gid.cast_unsigned());
        }
    }
}
