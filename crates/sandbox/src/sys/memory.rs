//! Memory files: sealed ones, programs that run without a path and that nobody can write, and
//! plain ones.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Write as _},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::check;

/// A memory file with `content` that nothing can change any more, executable, open for reading.
pub(crate) fn sealed(name: &CStr, content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(create(name)?);
    file.write_all(content)?;
    // SAFETY: both calls take integers only.
    unsafe {
        check(libc::fchmod(file.as_raw_fd(), 0o555))?;
        check(libc::fcntl(
            file.as_raw_fd(),
            libc::F_ADD_SEALS,
            libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE | libc::F_SEAL_SEAL,
        ))?;
    }
    // The writable descriptor would make every execve of it fail with "text file busy".
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map(OwnedFd::from)
}

/// An empty memory file, to be read and written, never to be run.
pub(crate) fn plain(name: &CStr) -> io::Result<OwnedFd> {
    let make = |flags| {
        // SAFETY: `name` is a C string; the result is a new descriptor or an error.
        check(unsafe { libc::memfd_create(name.as_ptr(), flags | libc::MFD_CLOEXEC) })
    };
    // Kernels before 6.3 do not know the flag; later ones complain without it.
    let fd = make(libc::MFD_NOEXEC_SEAL).or_else(|_| make(0))?;
    // SAFETY: just made, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn create(name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let make = |flags| {
        // SAFETY: `name` is a C string; the result is a new descriptor or an error.
        check(unsafe { libc::memfd_create(name.as_ptr(), flags) })
    };
    // Kernels before 6.3 do not know MFD_EXEC; later ones may be set to want it.
    let fd = make(flags | libc::MFD_EXEC).or_else(|_| make(flags))?;
    // SAFETY: just made, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
