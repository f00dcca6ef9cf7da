//! Control groups: one for each session inside ([`SessionGroup`], for `serve`), and the
//! workspace's own with its limits (for the spawner, in `host`).
//!
//! Version 2 groups are used for tracking and killing even where the limits live in version 1.
//! Where there is no version 2, a session's processes carry a marker in their environment and
//! are found through `/proc` (`walk`): good enough against everything but a process that hides
//! on purpose.

pub(crate) mod host;
mod walk;

use std::{
    ffi::{CString, OsString},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use crate::{
    Error, Result,
    error::Step as _,
    fds,
    sys::{check, dir},
};

/// The variable that marks a session's processes where there are no control groups.
pub const MARKER: &str = "BOATYARD_GROUP";

/// The longest name of a group in bytes.
const NAME_MAX: usize = 64;

/// The workspace's own group as the first process inherited it; none where there is no
/// version 2.
///
/// Takes over descriptor [`fds::CGROUP`]; call it once, at the start of `serve`.
pub fn inherited() -> Option<OwnedFd> {
    // SAFETY: a query on a number; the first process leaves it open or closed, and nothing else
    // of `serve` uses it before this call.
    unsafe {
        let open = libc::fcntl(fds::CGROUP, libc::F_GETFD) >= 0;
        open.then(|| <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fds::CGROUP))
    }
}

/// The processes of one session: everything that [`crate::spawn::Command::group`] started, and
/// whatever they started.
#[derive(Debug)]
pub struct SessionGroup {
    name: String,
    /// The workspace's group and this one below it.
    dirs: Option<(OwnedFd, OwnedFd)>,
}

impl SessionGroup {
    /// Makes the group `name` (letters, digits, `-` and `_`) below `parent`, the folder of the
    /// workspace's group; without one, processes are tracked by a marker.
    ///
    /// # Errors
    /// The name is not allowed or taken; the kernel refuses.
    pub fn create(parent: Option<BorrowedFd<'_>>, name: &str) -> Result<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(allowed) {
            return Err(Error::invalid(format!("`{name}` is no name for a group")));
        }
        let dirs = match parent {
            None => None,
            Some(parent) => {
                let path = CString::new(name).map_err(|_| Error::invalid("zero byte"))?;
                dir::make(parent, &path, 0o755).step("make group")?;
                let group = dir::open_dir(parent, &path).step("open group")?;
                Some((parent.try_clone_to_owned().step("open group")?, group))
            }
        };
        Ok(Self { name: name.to_owned(), dirs })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kills every process of the group, including what is being forked at this moment.
    ///
    /// The kernel does it in one go; [`Self::is_empty`] follows within milliseconds, and
    /// [`Self::events`] tells when.
    ///
    /// # Errors
    /// The kernel refuses, or (without control groups) processes remain after many rounds.
    pub fn kill(&self) -> Result<()> {
        match &self.dirs {
            Some((_, group)) => dir::write(group.as_fd(), c"cgroup.kill", b"1").step("kill group"),
            None => walk::kill(&self.name),
        }
    }

    /// Whether no process is left (one that has ended but was not reaped does not count).
    ///
    /// # Errors
    /// The group can't be read.
    pub fn is_empty(&self) -> Result<bool> {
        match &self.dirs {
            Some((_, group)) => {
                let events = dir::read(group.as_fd(), c"cgroup.events").step("read group")?;
                Ok(events.lines().any(|line| line == "populated 0"))
            }
            None => Ok(walk::members(&self.name)?.is_empty()),
        }
    }

    /// `cgroup.events`, which has an exceptional condition (`POLLPRI`) whenever the group
    /// becomes empty or inhabited; none without control groups. Read it once before waiting.
    ///
    /// # Errors
    /// The group is gone.
    pub fn events(&self) -> Result<Option<OwnedFd>> {
        let Some((_, group)) = &self.dirs else { return Ok(None) };
        dir::open_file(group.as_fd(), c"cgroup.events", libc::O_RDONLY)
            .step("open group events")
            .map(Some)
    }

    /// The ids of its processes, as seen by the caller.
    ///
    /// # Errors
    /// The group can't be read.
    pub fn members(&self) -> Result<Vec<u32>> {
        match &self.dirs {
            Some((_, group)) => {
                let list = dir::read(group.as_fd(), c"cgroup.procs").step("read group")?;
                Ok(list.lines().filter_map(|line| line.parse().ok()).collect())
            }
            None => walk::members(&self.name),
        }
    }

    /// Takes the empty group away.
    ///
    /// # Errors
    /// A process is left (`EBUSY`); the group is given back to try again.
    pub fn remove(self) -> Result<(), (Self, Error)> {
        let Some((parent, _)) = &self.dirs else { return Ok(()) };
        match remove_below(parent.as_fd(), &self.name) {
            Ok(()) => Ok(()),
            Err(source) => Err((self, Error::system("remove group", source))),
        }
    }

    /// `cgroup.procs`, open for writing.
    pub(crate) fn procs(&self) -> Result<Option<OwnedFd>> {
        let Some((_, group)) = &self.dirs else { return Ok(None) };
        dir::open_file(group.as_fd(), c"cgroup.procs", libc::O_WRONLY).step("open group").map(Some)
    }

    /// The variable that marks members where there are no control groups.
    pub(crate) fn marker(&self) -> Option<(OsString, OsString)> {
        self.dirs.is_none().then(|| (MARKER.into(), self.name.clone().into()))
    }
}

/// Kills and removes the groups below `parent` that an earlier `serve` left; their processes are
/// dead already (the first process saw to that). Returns their names.
///
/// # Errors
/// The folder can't be read.
pub fn clear(parent: BorrowedFd<'_>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in dir::list(parent).step("list groups")? {
        let Some(name) = entry.folder_name() else { continue };
        if let Ok(group) = dir::open_dir(parent, &entry.name) {
            // Gone in the meantime, or empty: both are what is wanted.
            let _ = dir::write(group.as_fd(), c"cgroup.kill", b"1");
        }
        if remove_below(parent, name).is_ok() {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn remove_below(parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: an open folder and a C string.
    check(unsafe { libc::unlinkat(parent.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) })?;
    Ok(())
}
