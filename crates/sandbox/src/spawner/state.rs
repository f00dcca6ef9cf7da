//! What the spawner holds: folders, and the sandboxes that run. Its working folder is the
//! template.

use std::{
    collections::{HashMap, HashSet},
    ffi::{CStr, CString},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use super::{Config, ids::Ids, meta::Boot};
use crate::{
    Result,
    cgroup::host::Host,
    error::Step as _,
    inside::{seccomp, setup::Ids as InsideIds},
    names,
    protocol::{Capture, Isolation},
    sys::dir,
};

/// How the spawner makes user namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// As the host's root: a range of ids for each workspace, trees shown through it.
    Root,
    /// As an ordinary user with a range of subordinate ids, which all workspaces share.
    UserRange,
    /// As an ordinary user with nothing but its own id.
    UserSingle,
}

impl Level {
    /// The ids that exist inside.
    pub(super) const fn inside(self) -> InsideIds {
        match self {
            Self::Root | Self::UserRange => InsideIds::Range,
            Self::UserSingle => InsideIds::Single,
        }
    }

    /// The worker's ids on disk.
    pub(super) const fn worker(self) -> (u32, u32) {
        match self {
            Self::Root | Self::UserRange => (crate::WORKER_UID, crate::WORKER_GID),
            Self::UserSingle => (0, 0),
        }
    }
}

/// Everything that outlives one request.
#[derive(Debug)]
pub(super) struct State {
    pub(super) config: Config,
    pub(super) level: Level,
    pub(super) host: Host,
    pub(super) boot: Boot,
    pub(super) runner: OwnedFd,
    pub(super) filter: seccomp::Program,
    /// D.
    pub(super) data: OwnedFd,
    /// D/sandboxes, and folders in it.
    pub(super) sandboxes: OwnedFd,
    pub(super) layers: OwnedFd,
    pub(super) tools: OwnedFd,
    pub(super) workspaces: OwnedFd,
    pub(super) trash: OwnedFd,
    /// Held for its lock.
    pub(super) _lock: OwnedFd,
    pub(super) ids: Ids,
    /// Whether the file system keeps limits on disk.
    pub(super) quota: bool,
    /// How much of the network's traffic the kernel lets us catch.
    pub(super) capture: Capture,
    pub(super) running: HashMap<u128, Sandbox>,
    /// Workspaces whose files a worker is copying or moving.
    pub(super) copying: HashSet<u128>,
    /// Names in the trash so far.
    pub(super) discarded: u64,
    /// Groups that could not be removed yet.
    pub(super) left_groups: Vec<CString>,
}

/// A first process that lives, or whose end has not been dealt with.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) generation: u64,
    pub(super) phase: Phase,
}

/// Where a sandbox is in its life.
#[derive(Debug)]
pub(super) enum Phase {
    /// The child sets itself up.
    Starting(Starting),
    /// The program runs.
    Running,
    /// It was killed, or is dying; these requests wait for its end.
    Ending(Vec<Waiting>),
}

/// A start that is under way.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) request: u64,
    pub(super) sync: OwnedFd,
    pub(super) since: Instant,
    pub(super) clone_us: u32,
    pub(super) unclean: bool,
}

/// Who waits for the end of a sandbox, and what for.
#[derive(Debug)]
pub(super) enum Waiting {
    /// A kill: done when it is dead.
    Kill(u64),
    /// A start that failed, with its error.
    Start(u64, crate::protocol::Failure),
}

impl State {
    /// The level as it is reported; none when nothing enforces limits as root (as an ordinary
    /// user, that is what the level is known for).
    pub(super) fn isolation(&self) -> Option<Isolation> {
        use crate::protocol::LimitsBy;
        match (self.level, self.host.limits_by()) {
            (Level::Root, LimitsBy::CgroupV2) => Some(Isolation::Full),
            (Level::Root, LimitsBy::CgroupV1) => Some(Isolation::FullV1),
            (Level::Root, LimitsBy::Rlimits) => None,
            (Level::UserRange, _) => Some(Isolation::Rootless),
            (Level::UserSingle, _) => Some(Isolation::RootlessSingleId),
        }
    }

    /// The folder of a workspace.
    pub(super) fn workspace(&self, ws: u128) -> Result<OwnedFd> {
        dir::open_dir(self.workspaces.as_fd(), &names::workspace(ws)).step("open workspace")
    }

    /// Moves an entry to the trash, from where a worker removes it; its name there.
    pub(super) fn discard(&mut self, from: BorrowedFd<'_>, name: &CStr) -> Result<CString> {
        self.discarded += 1;
        // The process id keeps names of two lives apart.
        let new_name = format!("{}-{}", std::process::id(), self.discarded);
        let new_name = CString::new(new_name).unwrap_or_default();
        dir::rename(from, name, self.trash.as_fd(), &new_name).step("move to the trash")?;
        Ok(new_name)
    }
}
