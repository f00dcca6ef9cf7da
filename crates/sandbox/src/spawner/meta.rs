//! `ws/<id>/meta`: which process a workspace's last start made, so that the next spawner finds
//! it, and in which boot, so that it knows what a host crash may have torn.
//!
//! One record of fixed size, written by one call over the old one.

use std::{
    fs,
    io::{self, Read as _},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
};

use crate::sys::{
    dir,
    process::{pidfd_open, start_time},
};

const FILE: &std::ffi::CStr = c"meta";
const MAGIC: &[u8; 8] = b"BYmeta01";
const LENGTH: usize = 64;

/// The kernel's name for one boot.
pub(super) type Boot = [u8; 16];

/// The record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Meta {
    pub(super) generation: u64,
    pub(super) pid: i32,
    pub(super) start_time: u64,
    pub(super) boot: Boot,
}

impl Meta {
    /// Reads the record in the workspace's folder; none when it was never started.
    pub(super) fn read(workspace: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let file = match dir::open_file(workspace, FILE, libc::O_RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        let mut bytes = [0; LENGTH];
        let mut file = fs::File::from(file);
        Ok(match file.read_exact(&mut bytes) {
            Ok(()) => Self::decode(&bytes),
            // Cut by a host crash: then nothing of it runs.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        })
    }

    /// Writes the record.
    pub(super) fn write(&self, workspace: BorrowedFd<'_>) -> io::Result<()> {
        let file = dir::create_file(workspace, FILE, libc::O_WRONLY, 0o600)?;
        fs::File::from(file).write_all_at(&self.encode(), 0)
    }

    /// The process, if it is this boot's and still runs.
    pub(super) fn process(&self, boot: &Boot) -> Option<OwnedFd> {
        if self.pid <= 0 || self.boot != *boot {
            return None;
        }
        let pidfd = pidfd_open(self.pid).ok()?;
        // After opening, so that the number can't have been given to another in between.
        let same = start_time(self.pid).is_ok_and(|time| time == self.start_time);
        (same && !has_ended(pidfd.as_fd())).then_some(pidfd)
    }

    fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.pid.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.start_time.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.boot);
        bytes
    }

    fn decode(bytes: &[u8; LENGTH]) -> Option<Self> {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        if &bytes[..8] != MAGIC {
            return None;
        }
        let mut boot = [0; 16];
        boot.copy_from_slice(&bytes[32..48]);
        Some(Self {
            generation: word(8),
            pid: (word(16) as u32).cast_signed(),
            start_time: word(24),
            boot,
        })
    }
}

/// Whether the process behind `pidfd` has ended, reaped or not.
pub(super) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, alive until the call returns.
    unsafe { libc::poll(&raw mut poll, 1, 0) > 0 }
}

/// This boot.
pub(super) fn boot() -> io::Result<Boot> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map(u128::to_be_bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_comes_back_and_a_torn_one_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let path = std::ffi::CString::new(temp.path().to_str().unwrap()).unwrap();
        let folder = dir::open_absolute(&path).unwrap();
        assert_eq!(Meta::read(folder.as_fd()).unwrap(), None);
        let meta = Meta { generation: 7, pid: 42, start_time: 99, boot: boot().unwrap() };
        meta.write(folder.as_fd()).unwrap();
        assert_eq!(Meta::read(folder.as_fd()).unwrap(), Some(meta));
        fs::write(temp.path().join("meta"), b"BYmeta01").unwrap();
        assert_eq!(Meta::read(folder.as_fd()).unwrap(), None);
    }

    #[test]
    fn a_process_is_found_by_its_start_only() {
        let pid = std::process::id().cast_signed();
        let boot = boot().unwrap();
        let meta = Meta { generation: 1, pid, start_time: start_time(pid).unwrap(), boot };
        assert!(meta.process(&boot).is_some());
        assert!(Meta { start_time: meta.start_time + 1, ..meta }.process(&boot).is_none());
        assert!(meta.process(&[0; 16]).is_none());
    }
}
