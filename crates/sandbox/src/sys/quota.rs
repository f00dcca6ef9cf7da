//! Project quotas: a limit on what everything below a folder takes, kept by the file system.
//!
//! A project is a number that a file carries; a folder that hands it down ([`give`]) gives it to
//! all that is made inside, whoever makes it. Only a process of the host's own user namespace can
//! change it, so nothing inside a sandbox can. ext4 and XFS answer the same calls.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use super::check;

/// `quotactl` on an open folder (Linux 5.14); the number is the same on every architecture.
const SYS_QUOTACTL_FD: libc::c_long = 443;
/// Quotas of projects, in the lowest byte of a command.
const PRJQUOTA: u32 = 2;
const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
/// Which quotas are on, for every file system.
const Q_XGETQSTAT: u32 = 0x5805;
/// In its answer: limits of projects are enforced.
const ENFORCED: u16 = 1 << 5;
/// `dqb_valid`: the limits on space count.
const QIF_BLIMITS: u32 = 1;
/// `dqb_valid`: those on files count.
const QIF_ILIMITS: u32 = 1 << 2;
/// What limits on space are counted in, in bytes.
const BLOCK: u64 = 1024;

const FS_IOC_FSGETXATTR: u64 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;
/// What is made inside belongs to the same project.
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Default)]
struct Account {
    hard_blocks: u64,
    soft_blocks: u64,
    bytes: u64,
    hard_inodes: u64,
    soft_inodes: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// What a project takes, or may take: bytes, and files and folders of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Taken {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

/// Whether the file system of this folder enforces limits of projects.
pub(crate) fn is_enforced(folder: BorrowedFd<'_>) -> bool {
    // `struct fs_quota_stat` is 80 bytes: the version, then the flags at offset 2.
    let mut answer = [0u16; 64];
    quotactl(folder, Q_XGETQSTAT, 0, answer.as_mut_ptr().cast()).is_ok()
        && answer[1] & ENFORCED != 0
}

/// The project of a folder; 0 is none.
pub(crate) fn project(folder: BorrowedFd<'_>) -> io::Result<u32> {
    attributes(folder).map(|attributes| attributes.projid)
}

/// Makes an empty folder part of a project, and all that is made inside.
pub(crate) fn give(folder: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = attributes(folder)?;
    attributes.projid = project;
    attributes.xflags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: an open folder, and a structure of the kind that the call reads.
    check(unsafe {
        libc::ioctl(folder.as_raw_fd(), FS_IOC_FSSETXATTR as _, &raw const attributes)
    })?;
    Ok(())
}

/// Limits what a project takes; 0 is no limit.
pub(crate) fn limit(folder: BorrowedFd<'_>, project: u32, limit: Taken) -> io::Result<()> {
    let mut account = Account {
        hard_blocks: limit.bytes.div_ceil(BLOCK),
        hard_inodes: limit.inodes,
        valid: QIF_BLIMITS | QIF_ILIMITS,
        ..Account::default()
    };
    quotactl(folder, Q_SETQUOTA, project, (&raw mut account).cast())
}

/// What a project takes.
pub(crate) fn taken(folder: BorrowedFd<'_>, project: u32) -> io::Result<Taken> {
    let mut account = Account::default();
    match quotactl(folder, Q_GETQUOTA, project, (&raw mut account).cast()) {
        // XFS knows nothing of a project without files.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Taken::default()),
        result => result.map(|()| Taken { bytes: account.bytes, inodes: account.inodes }),
    }
}

fn attributes(folder: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: an open folder, and a structure of the kind that the call fills.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSGETXATTR as _, &raw mut attributes) })?;
    Ok(attributes)
}

fn quotactl(
    folder: BorrowedFd<'_>,
    command: u32,
    project: u32,
    argument: *mut libc::c_void,
) -> io::Result<()> {
    // SAFETY: an open folder; the callers pass what the command reads or fills, alive until the
    // call returns.
    check(unsafe {
        libc::syscall(
            SYS_QUOTACTL_FD,
            folder.as_raw_fd(),
            command << 8 | PRJQUOTA,
            project,
            argument,
        )
    })?;
    Ok(())
}
