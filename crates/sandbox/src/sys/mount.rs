//! The mount calls, on descriptors where they exist.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use super::check;

/// `MOUNT_ATTR_*` bits.
pub(crate) const RDONLY: u64 = 0x1;
pub(crate) const NOSUID: u64 = 0x2;
pub(crate) const NODEV: u64 = 0x4;
pub(crate) const NOEXEC: u64 = 0x8;
const IDMAP: u64 = 0x0010_0000;

const OPEN_TREE_CLONE: i32 = 1;
const AT_RECURSIVE: i32 = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;

/// The kernel's `struct mount_attr`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Whether the mounts below are meant too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    One,
    All,
}

impl Depth {
    const fn flag(self) -> i32 {
        match self {
            Self::One => 0,
            Self::All => AT_RECURSIVE,
        }
    }
}

/// A copy of the mount at `path` below `dir` (an empty path: `dir` itself), attached nowhere.
pub(crate) fn copy(dir: BorrowedFd<'_>, path: &CStr, depth: Depth) -> io::Result<OwnedFd> {
    copy_at(dir.as_raw_fd(), path, depth)
}

/// The same for a path that the caller trusts, absolute or below the working folder.
pub(crate) fn copy_absolute(path: &CStr, depth: Depth) -> io::Result<OwnedFd> {
    copy_at(libc::AT_FDCWD, path, depth)
}

fn copy_at(dir: i32, path: &CStr, depth: Depth) -> io::Result<OwnedFd> {
    // SAFETY: a C string and integers; the result is a new descriptor.
    unsafe {
        let fd = check(libc::syscall(
            libc::SYS_open_tree,
            dir,
            path.as_ptr(),
            OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH | depth.flag(),
        ))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Sets attributes of the mount behind `tree`.
pub(crate) fn restrict(tree: BorrowedFd<'_>, attributes: u64, depth: Depth) -> io::Result<()> {
    set_attributes(tree, &MountAttr { set: attributes, ..MountAttr::default() }, depth)
}

/// Makes every mount private, so that nothing is propagated into or out of this namespace.
pub(crate) fn make_private(tree: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    set_attributes(tree, &attributes, Depth::All)
}

/// Shows the owners on the detached mount `tree` through the id map of the user namespace. Whatever
/// the host mounts it as, programs may be run from it: what is mounted so is seen in sandboxes only.
pub(crate) fn map_ids(tree: BorrowedFd<'_>, userns: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = MountAttr {
        set: IDMAP | NOSUID | NODEV,
        clear: NOEXEC,
        userns: userns.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    set_attributes(tree, &attributes, Depth::One)
}

fn set_attributes(tree: BorrowedFd<'_>, attributes: &MountAttr, depth: Depth) -> io::Result<()> {
    // SAFETY: an open tree, an empty path, a valid structure of the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | depth.flag(),
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Attaches `tree` at `path`, absolute or below the working folder.
pub(crate) fn attach_here(tree: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    // SAFETY: an open tree and C strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// `mount(2)`: a new file system of type `kind` at `target`.
pub(crate) fn mount(kind: &CStr, target: &CStr, flags: u64, options: &CStr) -> io::Result<()> {
    // SAFETY: C strings; the options are text for every type that is used here.
    check(unsafe {
        libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast())
    })?;
    Ok(())
}

/// Shows `source` at `target` too.
pub(crate) fn bind(source: &CStr, target: &CStr) -> io::Result<()> {
    // SAFETY: C strings; a bind takes no type and no options.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            std::ptr::null(),
            libc::MS_BIND,
            std::ptr::null(),
        )
    })?;
    Ok(())
}

/// Takes the mount at `target` away, at once from sight and for good when it is unused.
pub(crate) fn detach(target: &CStr) -> io::Result<()> {
    // SAFETY: a C string.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) })?;
    Ok(())
}

/// Makes the working folder, a mount, the root; nothing of the old root stays reachable.
pub(crate) fn pivot_here() -> io::Result<()> {
    // SAFETY: C strings. With both names `.`, the old root ends up mounted over the new one and
    // is taken away at once.
    unsafe {
        check(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))?;
    }
    detach(c".")?;
    // SAFETY: a C string.
    check(unsafe { libc::chdir(c"/".as_ptr()) })?;
    Ok(())
}

/// Makes the open folder the working folder.
pub(crate) fn enter(dir: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an open folder.
    check(unsafe { libc::fchdir(dir.as_raw_fd()) })?;
    Ok(())
}
