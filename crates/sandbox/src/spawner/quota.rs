//! The limit on disk of a workspace, where the file system keeps one: see [`crate::sys::quota`].
//!
//! A set of changes gets a project of its own when it is made, and keeps it when it becomes a
//! layer, then without a limit: nothing writes there any more. Changes that were made before the
//! file system had quotas have no project; they are watched by the server, as everywhere else.

use std::os::fd::BorrowedFd;

use super::state::{Level, State};
use crate::{
    Result,
    error::Step as _,
    protocol::files_within,
    sys::{
        check,
        quota::{self, Taken},
    },
};

/// Projects of ours have this bit, so that those that a person numbered are left alone.
const OURS: u32 = 1 << 30;

impl State {
    /// Whether the data folder's file system keeps the limit, and lets us set it.
    pub(super) fn has_quota(&self) -> bool {
        self.quota
    }

    /// Gives new, empty changes a project.
    pub(super) fn give_project(&self, upper: BorrowedFd<'_>) -> Result<()> {
        if !self.quota {
            return Ok(());
        }
        loop {
            let project = OURS | (random()? >> 2);
            // Two in a thousand million; but what is counted must be this one's alone.
            if quota::taken(upper, project).step("disk quota")? == Taken::default() {
                return quota::give(upper, project).step("disk quota");
            }
        }
    }

    /// Sets the limits of a workspace's changes, in bytes and in files, which count together with the folder that the
    /// overlay works in: files are moved from there.
    pub(super) fn limit_disk(
        &self,
        upper: BorrowedFd<'_>,
        work: BorrowedFd<'_>,
        bytes: u64,
    ) -> Result<()> {
        let Some(project) = self.project(upper)? else { return Ok(()) };
        quota::give(work, project).step("disk quota")?;
        let limit = Taken { bytes, inodes: files_within(bytes) };
        quota::limit(upper, project, limit).step("disk quota")
    }

    /// Takes the limit away from what is not written any more, so that nothing is left of it when
    /// its files go.
    pub(super) fn lift_limit(&self, upper: BorrowedFd<'_>) -> Result<()> {
        let Some(project) = self.project(upper)? else { return Ok(()) };
        quota::limit(upper, project, Taken::default()).step("disk quota")
    }

    /// What changes take as the file system counts them; none where it does not.
    pub(super) fn taken(&self, upper: BorrowedFd<'_>) -> Result<Option<Taken>> {
        let Some(project) = self.project(upper)? else { return Ok(None) };
        quota::taken(upper, project).step("disk quota").map(Some)
    }

    fn project(&self, upper: BorrowedFd<'_>) -> Result<Option<u32>> {
        if !self.quota {
            return Ok(None);
        }
        let project = quota::project(upper).step("disk quota")?;
        Ok(Some(project).filter(|project| project & OURS != 0))
    }
}

/// Whether limits can be kept in this folder: only the host's root may set them.
pub(super) fn probe(level: Level, folder: BorrowedFd<'_>) -> bool {
    level == Level::Root && quota::is_enforced(folder)
}

fn random() -> Result<u32> {
    let mut bytes = [0; 4];
    // SAFETY: a buffer of the length given.
    check(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) })
        .step("random number")?;
    Ok(u32::from_ne_bytes(bytes))
}
