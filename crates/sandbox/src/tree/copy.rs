//! Copying a tree as an overlay's upper layer needs it: owners, modes, times, the overlay's
//! attributes, whiteouts and hard links included; contents are shared where the file system can.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use super::DEPTH_MAX;
use crate::sys::{
    check,
    dir::{self, Entries},
    retry,
};

/// `FICLONE`.
const FICLONE: libc::c_ulong = 0x4004_9409;
/// How much one call copies at most, so that each returns soon.
const CHUNK: usize = 64 << 20;
/// The longest attribute value and list, by the kernel's own limits.
const ATTRIBUTE_MAX: usize = 64 << 10;

/// Copies everything inside `from`, which nobody changes meanwhile, into the empty folder `to`,
/// and makes `to` itself like `from`.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut work = Copy { root: to.try_clone_to_owned()?, links: HashMap::new(), path: Vec::new() };
    work.folder(from, to)
}

struct Copy {
    /// The top of the new tree.
    root: OwnedFd,
    /// Where the first name of a file with several is, below the new top.
    links: HashMap<(u64, u64), CString>,
    /// The names from the top to the folder at work.
    path: Vec<CString>,
}

impl Copy {
    fn folder(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        if self.path.len() > DEPTH_MAX {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        for entry in Entries::open(from)? {
            let name = entry?.name;
            let stat = dir::stat(from, &name)?;
            match stat.st_mode & libc::S_IFMT {
                libc::S_IFDIR => {
                    dir::make(to, &name, 0o700)?;
                    let source = dir::open_dir(from, &name)?;
                    let target = dir::open_dir(to, &name)?;
                    self.path.push(name);
                    self.folder(source.as_fd(), target.as_fd())?;
                    self.path.pop();
                }
                kind => self.other(from, to, &name, &stat, kind)?,
            }
        }
        attributes(from, to)?;
        finish(to, &dir::stat(from, c"")?)
    }

    /// Anything but a folder.
    fn other(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &libc::stat,
        kind: u32,
    ) -> io::Result<()> {
        if stat.st_nlink > 1 {
            let file = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&file) {
                return link(self.root.as_fd(), first, to, name);
            }
            self.links.insert(file, self.path_of(name)?);
        }
        match kind {
            libc::S_IFREG => {
                let source = dir::open_file(from, name, libc::O_RDONLY | libc::O_NONBLOCK)?;
                let flags = libc::O_WRONLY | libc::O_EXCL;
                let target = dir::create_file(to, name, flags, 0o600)?;
                contents(&source, &target, stat.st_size)?;
                attributes(source.as_fd(), target.as_fd())?;
                finish(target.as_fd(), stat)
            }
            libc::S_IFLNK => {
                symlink(from, to, name)?;
                finish_named(to, name, stat, Mode::None)
            }
            // Whiteouts are device nodes 0:0, which everybody may make; fifos and sockets are
            // made anew. The mode counts for the latter.
            _ => {
                // SAFETY: an open folder, a C string and integers.
                check(unsafe {
                    libc::mknodat(to.as_raw_fd(), name.as_ptr(), stat.st_mode, stat.st_rdev)
                })?;
                finish_named(to, name, stat, Mode::Set)
            }
        }
    }

    fn path_of(&self, name: &CStr) -> io::Result<CString> {
        let mut path = Vec::new();
        for part in &self.path {
            path.extend_from_slice(part.to_bytes());
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        Ok(CString::new(path)?)
    }
}

fn link(root: BorrowedFd<'_>, first: &CStr, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: open folders and C strings.
    check(unsafe {
        libc::linkat(root.as_raw_fd(), first.as_ptr(), to.as_raw_fd(), name.as_ptr(), 0)
    })?;
    Ok(())
}

fn symlink(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let mut target = vec![0u8; libc::PATH_MAX as usize + 1];
    // SAFETY: the buffer is as long as said; the last byte stays for the terminating zero.
    let length = check(unsafe {
        libc::readlinkat(
            from.as_raw_fd(),
            name.as_ptr(),
            target.as_mut_ptr().cast(),
            target.len() - 1,
        )
    })?;
    target.truncate(length.unsigned_abs());
    let target = CString::new(target)?;
    // SAFETY: C strings and an open folder.
    check(unsafe { libc::symlinkat(target.as_ptr(), to.as_raw_fd(), name.as_ptr()) })?;
    Ok(())
}

/// Shares or copies `size` bytes, holes kept.
fn contents(from: &OwnedFd, to: &OwnedFd, size: i64) -> io::Result<()> {
    // SAFETY: two open files; the call takes a descriptor as its argument.
    if unsafe { libc::ioctl(to.as_raw_fd(), FICLONE, from.as_raw_fd()) } == 0 {
        return Ok(());
    }
    // SAFETY: open files and integers in all calls of this function.
    let seek = |at, whence| unsafe { libc::lseek(from.as_raw_fd(), at, whence) };
    // SAFETY: as above.
    check(unsafe { libc::ftruncate(to.as_raw_fd(), size) })?;
    let mut at = 0;
    while at < size {
        let start = seek(at, libc::SEEK_DATA);
        if start < 0 {
            // Nothing but a hole is left.
            return Ok(());
        }
        let end = seek(start, libc::SEEK_HOLE).min(size);
        if end <= start {
            return Ok(());
        }
        range(from, to, start, end)?;
        at = end;
    }
    Ok(())
}

fn range(from: &OwnedFd, to: &OwnedFd, start: i64, end: i64) -> io::Result<()> {
    let (mut input, mut output) = (start, start);
    while input < end {
        let length = usize::try_from(end - input).unwrap_or(CHUNK).min(CHUNK);
        let copied = retry(|| {
            // SAFETY: open files, and offsets that the call moves on.
            check(unsafe {
                libc::copy_file_range(
                    from.as_raw_fd(),
                    &raw mut input,
                    to.as_raw_fd(),
                    &raw mut output,
                    length,
                    0,
                )
            })
        })?;
        if copied == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Copies the attributes that the overlay and users keep (`user.*`).
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a null list of length 0 asks for the length only.
    let needed = unsafe { libc::flistxattr(from.as_raw_fd(), std::ptr::null_mut(), 0) };
    if needed <= 0 {
        return Ok(());
    }
    let mut names = vec![0u8; needed.unsigned_abs().min(ATTRIBUTE_MAX)];
    // SAFETY: the buffer is as long as said.
    let length = check(unsafe {
        libc::flistxattr(from.as_raw_fd(), names.as_mut_ptr().cast(), names.len())
    })?;
    names.truncate(length.unsigned_abs());
    let mut value = vec![0u8; ATTRIBUTE_MAX];
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if !name.to_bytes().starts_with(b"user.") {
            continue;
        }
        // SAFETY: a C string and buffers as long as said.
        unsafe {
            let length = check(libc::fgetxattr(
                from.as_raw_fd(),
                name.as_ptr(),
                value.as_mut_ptr().cast(),
                value.len(),
            ))?;
            check(libc::fsetxattr(
                to.as_raw_fd(),
                name.as_ptr(),
                value.as_ptr().cast(),
                length.unsigned_abs(),
                0,
            ))?;
        }
    }
    Ok(())
}

/// Owner, mode and times of an open file or folder; in this order, since a change of owner
/// clears bits of the mode.
fn finish(to: BorrowedFd<'_>, stat: &libc::stat) -> io::Result<()> {
    dir::own(to, stat.st_uid, stat.st_gid)?;
    let times = times(stat);
    // SAFETY: an open descriptor, integers, and two times.
    unsafe {
        check(libc::fchmod(to.as_raw_fd(), stat.st_mode & 0o7777))?;
        check(libc::futimens(to.as_raw_fd(), times.as_ptr()))?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Set,
    /// A symbolic link has none.
    None,
}

fn finish_named(to: BorrowedFd<'_>, name: &CStr, stat: &libc::stat, mode: Mode) -> io::Result<()> {
    let times = times(stat);
    // SAFETY: an open folder, a C string, integers, and two times.
    unsafe {
        check(libc::fchownat(
            to.as_raw_fd(),
            name.as_ptr(),
            stat.st_uid,
            stat.st_gid,
            libc::AT_SYMLINK_NOFOLLOW,
        ))?;
        if mode == Mode::Set {
            // The entry was made a moment ago in a folder that is ours alone: it is no link.
            check(libc::fchmodat(to.as_raw_fd(), name.as_ptr(), stat.st_mode & 0o7777, 0))?;
        }
        check(libc::utimensat(
            to.as_raw_fd(),
            name.as_ptr(),
            times.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
        ))?;
    }
    Ok(())
}

fn times(stat: &libc::stat) -> [libc::timespec; 2] {
    [
        libc::timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec },
        libc::timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec },
    ]
}
