//! System calls as attackers make them: by number, with raw arguments.

use std::{ffi::CString, io, os::fd::RawFd, path::Path};

use crate::sys::check;

/// A system call with integer arguments; pointers among them must be null or valid.
pub(super) fn call(number: libc::c_long, arguments: &[usize]) -> io::Result<i64> {
    let at = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: a refused call touches nothing; callers pass null or valid pointers.
    check(unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) })
}

/// The same for a call that gives a descriptor, which is closed again.
pub(super) fn call_fd(number: libc::c_long, arguments: &[usize]) -> io::Result<()> {
    close(call(number, arguments)?);
    Ok(())
}

/// Closes a descriptor that a call gave.
pub(super) fn close(fd: i64) {
    if let Ok(fd) = RawFd::try_from(fd) {
        // SAFETY: the attack's own descriptor.
        unsafe { libc::close(fd) };
    }
}

/// -1, as an argument.
pub(super) const MINUS_ONE: usize = usize::MAX;

/// `AT_FDCWD`, as an argument.
pub(super) const HERE: usize = libc::AT_FDCWD as isize as usize;

/// Text for a call; a zero byte ends it.
pub(super) fn text(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or("")).unwrap_or_default()
}

/// A path for a call.
pub(super) fn path(path: &Path) -> CString {
    text(&path.to_string_lossy())
}

/// The address of text, as an argument.
pub(super) fn at(text: &CString) -> usize {
    text.as_ptr() as usize
}

/// Runs `attempt` in a fork and gives its exit code, or the signal that ended it as a negative
/// number.
pub(super) fn forked(attempt: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: the attack's process has one thread.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        let code = attempt();
        crate::sys::process::exit(code);
    }
    let mut status = 0;
    // SAFETY: `status` is writable.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) })
}

/// The name of an error.
pub(super) fn errno(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else { return error.to_string() };
    let name = match number {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::ESRCH => "ESRCH",
        libc::EIO => "EIO",
        libc::ENXIO => "ENXIO",
        libc::EBADF => "EBADF",
        libc::ECHILD => "ECHILD",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::EFAULT => "EFAULT",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::EXDEV => "EXDEV",
        libc::ENODEV => "ENODEV",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::EINVAL => "EINVAL",
        libc::EMFILE => "EMFILE",
        libc::ENOTTY => "ENOTTY",
        libc::ETXTBSY => "ETXTBSY",
        libc::ENOSPC => "ENOSPC",
        libc::EROFS => "EROFS",
        libc::ELOOP => "ELOOP",
        libc::ENOSYS => "ENOSYS",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EPROTONOSUPPORT => "EPROTONOSUPPORT",
        libc::EAFNOSUPPORT => "EAFNOSUPPORT",
        libc::EADDRINUSE => "EADDRINUSE",
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::EHOSTUNREACH => "EHOSTUNREACH",
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::ECONNRESET => "ECONNRESET",
        libc::EPIPE => "EPIPE",
        libc::ETIMEDOUT => "ETIMEDOUT",
        libc::EDQUOT => "EDQUOT",
        libc::ENOKEY => "ENOKEY",
        libc::ESTALE => "ESTALE",
        _ => return format!("errno {number}"),
    };
    name.to_owned()
}
