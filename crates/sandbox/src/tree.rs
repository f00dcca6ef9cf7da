//! Whole trees of files: removing, measuring, copying. No symbolic link is followed, and what a
//! worker did to its files (depth, modes, names, special files) is survived.

mod copy;

use std::{
    collections::{HashSet, VecDeque},
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

pub(crate) use copy::copy;

use crate::sys::dir::{self, Entries};

/// The deepest tree that is measured or copied; removing knows no limit. Each level holds up to
/// three descriptors, and 1,024 are always allowed.
const DEPTH_MAX: usize = 256;

/// Deletes everything inside `top`, which nobody else changes meanwhile, but not `top` itself.
///
/// Works at depth one only: a folder that is not empty is first moved to the top.
pub(crate) fn remove_inside(top: BorrowedFd<'_>) -> io::Result<()> {
    let mut waiting: VecDeque<CString> = VecDeque::new();
    let mut moved: u64 = 0;
    empty(top, top, &mut waiting, &mut moved)?;
    while let Some(name) = waiting.pop_front() {
        let folder = dir::open_dir(top, &name)?;
        empty(top, folder.as_fd(), &mut waiting, &mut moved)?;
        dir::remove_empty(top, &name)?;
    }
    Ok(())
}

/// Deletes or moves to the top every entry of `folder`, which may be the top itself.
fn empty(
    top: BorrowedFd<'_>,
    folder: BorrowedFd<'_>,
    waiting: &mut VecDeque<CString>,
    moved: &mut u64,
) -> io::Result<()> {
    let in_top = std::os::fd::AsRawFd::as_raw_fd(&top) == std::os::fd::AsRawFd::as_raw_fd(&folder);
    for entry in dir::list(folder)? {
        match dir::unlink(folder, &entry.name) {
            Err(error) if error.raw_os_error() == Some(libc::EISDIR) => {}
            // Some file systems say this for folders.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            result => {
                result?;
                continue;
            }
        }
        if dir::remove_empty(folder, &entry.name).is_ok() {
            continue;
        }
        if in_top {
            waiting.push_back(entry.name);
            continue;
        }
        let name = loop {
            *moved += 1;
            let name = CString::new(format!(".removing-{moved}"))?;
            match dir::rename(folder, &entry.name, top, &name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => {
                    result?;
                    break name;
                }
            }
        };
        waiting.push_back(name);
    }
    Ok(())
}

/// What a tree takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

/// Adds up blocks and inodes below `top`, a file with several names once. What vanishes while it
/// is looked at does not count.
///
/// # Errors
/// The tree is deeper than is measured (`ELOOP`): more than any honest one.
pub(crate) fn measure(top: BorrowedFd<'_>) -> io::Result<Usage> {
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    let mut levels = vec![(top.try_clone_to_owned()?, Entries::open(top)?)];
    while let Some((folder, entries)) = levels.last_mut() {
        let Some(entry) = entries.next() else {
            levels.pop();
            continue;
        };
        let entry = entry?;
        let stat = match dir::stat(folder.as_fd(), &entry.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result?,
        };
        let is_folder = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if !is_folder && stat.st_nlink > 1 && !linked.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        usage.inodes += 1;
        usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if !is_folder {
            continue;
        }
        match open_level(folder, &entry.name) {
            Err(error) if gone(&error) => {}
            Err(error) => return Err(error),
            Ok(_) if levels.len() == DEPTH_MAX => {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            Ok(level) => levels.push(level),
        }
    }
    Ok(usage)
}

/// Whether there is nothing below `top`, which nobody changes meanwhile, but files, folders and
/// symbolic links.
///
/// # Errors
/// As [`measure`].
pub(crate) fn is_plain(top: BorrowedFd<'_>) -> io::Result<bool> {
    let mut levels = vec![(top.try_clone_to_owned()?, Entries::open(top)?)];
    while let Some((folder, entries)) = levels.last_mut() {
        let Some(entry) = entries.next() else {
            levels.pop();
            continue;
        };
        let entry = entry?;
        // Not every file system tells the kind with the name.
        match dir::stat(folder.as_fd(), &entry.name)?.st_mode & libc::S_IFMT {
            libc::S_IFREG | libc::S_IFLNK => {}
            libc::S_IFDIR => {
                let level = open_level(folder, &entry.name)?;
                if levels.len() == DEPTH_MAX {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                levels.push(level);
            }
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn open_level(parent: &OwnedFd, name: &CStr) -> io::Result<(OwnedFd, Entries)> {
    let folder = dir::open_dir(parent.as_fd(), name)?;
    let entries = Entries::open(folder.as_fd())?;
    Ok((folder, entries))
}

/// Whether what was listed a moment ago is gone or something else by now.
fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

#[cfg(test)]
mod tests;
