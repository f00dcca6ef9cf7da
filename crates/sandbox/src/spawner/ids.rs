//! Which workspace has which range of user ids on the host.
//!
//! Each running workspace has 65,536 ids of its own, so that two never share one. The file
//! `D/sandboxes/ids` holds one 16-byte record for each range: the workspace's id, or zeros. A
//! range is given at creation and is free again when the workspace is removed. Files on disk do
//! not depend on it: they have the ids that the sandbox sees, and are shown through the range.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::{fd::BorrowedFd, unix::fs::FileExt as _},
};

use crate::{Error, Result, error::Step as _, sys::dir};

/// The first id of the first range.
const FIRST: u32 = 0x4000_0000;
/// Ids of one range.
pub(super) const RANGE: u32 = 0x1_0000;
/// How many ranges there are; the top of the 32 bits is left alone (-1 and its neighbours).
const COUNT: u32 = (0xf000_0000 - FIRST) / RANGE;
/// Bytes of one record.
const RECORD: usize = 16;

/// The table.
#[derive(Debug)]
pub(super) struct Ids {
    file: fs::File,
    by_workspace: HashMap<u128, u32>,
    taken: HashSet<u32>,
    /// Where to look first: another place for each installation of this machine.
    next: u32,
}

impl Ids {
    /// Reads the table; ranges of workspaces that do not exist any more are free.
    pub(super) fn open(
        sandboxes: BorrowedFd<'_>,
        instance: &str,
        reserved: HashSet<u32>,
        exists: impl Fn(u128) -> bool,
    ) -> Result<Self> {
        let file = dir::create_file(sandboxes, c"ids", libc::O_RDWR, 0o600).step("open ids")?;
        let file = fs::File::from(file);
        let length = file.metadata().step("open ids")?.len().min(u64::from(COUNT) * RECORD as u64);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0).step("read ids")?;
        let start = u32::from_str_radix(instance.get(..8).unwrap_or("0"), 16).unwrap_or(0);
        let mut ids =
            Self { file, by_workspace: HashMap::new(), taken: reserved, next: start % COUNT };
        for (slot, record) in (0..).zip(bytes.chunks_exact(RECORD)) {
            let workspace = record.try_into().map(u128::from_le_bytes).unwrap_or(0);
            if workspace != 0 && exists(workspace) && ids.taken.insert(slot) {
                ids.by_workspace.insert(workspace, slot);
            }
        }
        Ok(ids)
    }

    /// The first id of the workspace's range, given to it now if it has none.
    pub(super) fn base(&mut self, workspace: u128) -> Result<u32> {
        let slot = match self.by_workspace.get(&workspace) {
            Some(slot) => *slot,
            None => self.give(workspace)?,
        };
        Ok(FIRST + slot * RANGE)
    }

    /// Frees the workspace's range.
    pub(super) fn release(&mut self, workspace: u128) -> Result<()> {
        let Some(slot) = self.by_workspace.remove(&workspace) else { return Ok(()) };
        self.taken.remove(&slot);
        self.record(slot, 0).step("write ids")
    }

    fn give(&mut self, workspace: u128) -> Result<u32> {
        let slot = (0..COUNT)
            .map(|offset| (self.next + offset) % COUNT)
            .find(|slot| !self.taken.contains(slot))
            .ok_or_else(|| {
                Error::system("take an id range", io::Error::from_raw_os_error(libc::ENOSPC))
            })?;
        self.record(slot, workspace).step("write ids")?;
        self.next = (slot + 1) % COUNT;
        self.taken.insert(slot);
        self.by_workspace.insert(workspace, slot);
        Ok(slot)
    }

    fn record(&self, slot: u32, workspace: u128) -> io::Result<()> {
        self.file.write_all_at(&workspace.to_le_bytes(), u64::from(slot) * RECORD as u64)
    }
}

/// Ranges that overlap what the administrator gave to users.
pub(super) fn reserved() -> Result<HashSet<u32>> {
    let mut taken = HashSet::new();
    for path in ["/etc/subuid", "/etc/subgid"] {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.step(path)?,
        };
        taken.extend(text.lines().filter_map(overlapping).flatten());
    }
    Ok(taken)
}

/// The ranges that a line `name:first:count` overlaps.
fn overlapping(line: &str) -> Option<std::ops::Range<u32>> {
    let mut fields = line.trim().split(':').skip(1).map(|field| field.parse::<u64>().ok());
    let first = fields.next()??;
    let end = first.checked_add(fields.next()??)?;
    let (low, high) = (u64::from(FIRST), u64::from(FIRST) + u64::from(COUNT) * u64::from(RANGE));
    let (first, end) = (first.clamp(low, high) - low, end.clamp(low, high) - low);
    let range = u64::from(RANGE);
    Some(u32::try_from(first / range).ok()?..u32::try_from(end.div_ceil(range)).ok()?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use super::*;

    fn folder(temp: &tempfile::TempDir) -> OwnedFd {
        let path = std::ffi::CString::new(temp.path().to_str().unwrap()).unwrap();
        dir::open_absolute(&path).unwrap()
    }

    #[test]
    fn ranges_are_apart_and_survive_a_restart() {
        let temp = tempfile::tempdir().unwrap();
        let folder = folder(&temp);
        let mut ids = Ids::open(folder.as_fd(), "00000000", HashSet::new(), |_| true).unwrap();
        let (one, two) = (ids.base(1).unwrap(), ids.base(2).unwrap());
        assert_eq!(one.abs_diff(two) % RANGE, 0);
        assert_ne!(one, two);
        assert!(one >= FIRST);
        let mut ids = Ids::open(folder.as_fd(), "00000000", HashSet::new(), |id| id == 2).unwrap();
        assert_eq!(ids.base(2).unwrap(), two);
        assert_eq!(ids.base(3).unwrap(), one, "the range of a workspace that is gone is free");
        ids.release(2).unwrap();
        assert_eq!(ids.base(9).unwrap(), two);
    }

    #[test]
    fn given_ranges_are_avoided() {
        assert_eq!(overlapping("me:100000:65536"), Some(0..0));
        assert_eq!(overlapping("me:1073741824:65536"), Some(0..1));
        assert_eq!(overlapping("me:1073741823:65538"), Some(0..2));
        assert_eq!(overlapping("garbage"), None);
        assert_eq!(overlapping("me:5:99999999999999999999"), None);
    }
}
