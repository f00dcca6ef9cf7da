//! The system calls that the crate needs, one thin safe function each.
//!
//! - [`socket`]: pairs, messages with descriptors.
//! - [`process`]: `clone3`, pidfds, waiting.
//! - [`dir`]: files and folders below an open folder, no symbolic link followed.
//! - [`mount`]: the mount calls that work on descriptors.
//! - [`memory`]: memory files.
//! - [`quota`]: limits that the file system keeps.

pub(crate) mod dir;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod quota;
pub(crate) mod socket;

use std::io;

/// What a system call returns: negative when it failed.
pub(crate) trait Returned: Copy + PartialOrd + Default {}

impl Returned for i32 {}
impl Returned for i64 {}
impl Returned for isize {}

/// Turns the result of a system call into a `Result`.
pub(crate) fn check<T: Returned>(result: T) -> io::Result<T> {
    if result < T::default() { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Repeats a system call that a signal interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
