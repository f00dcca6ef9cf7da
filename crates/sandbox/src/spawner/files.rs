//! A workspace's folders: making, listing, freezing into layers. What was kept of workspaces is in
//! [`super::kept`].

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{
    hint::refuse,
    meta::Meta,
    state::{Phase, State},
};
use crate::{
    Result,
    error::Step as _,
    names,
    protocol::{Entry, FailureKind, PAGE, Reply},
    sys::dir,
};

/// A workspace's own changes.
pub(super) const UPPER: &CStr = c"u";
/// Events that the server has not stored yet.
const SPOOL: &CStr = c"spool";

impl State {
    /// Makes the folders of a new workspace.
    pub(super) fn create(&mut self, ws: u128) -> Result<Reply> {
        match dir::make(self.workspaces.as_fd(), &names::workspace(ws), 0o755) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(refuse(FailureKind::Exists, "workspace"));
            }
            result => result.step("make workspace")?,
        }
        let folder = self.workspace(ws)?;
        self.make_upper(folder.as_fd())?;
        dir::create_file(folder.as_fd(), SPOOL, libc::O_RDWR, 0o600).step("make spool")?;
        Ok(Reply::Done)
    }

    /// The workspace's folder; the right refusal when it is not there.
    pub(super) fn existing(&self, ws: u128) -> Result<OwnedFd> {
        match self.workspace(ws) {
            Err(error) if error.errno() == Some(libc::ENOENT) => {
                Err(refuse(FailureKind::Missing, "workspace"))
            }
            result => result,
        }
    }

    /// Refuses while the workspace has a process, or a worker is at its files.
    pub(super) fn quiet(&self, ws: u128) -> Result<()> {
        if self.running.contains_key(&ws) {
            return Err(refuse(FailureKind::Running, "workspace"));
        }
        if self.copying.contains(&ws) {
            return Err(refuse(FailureKind::Busy, "workspace"));
        }
        Ok(())
    }

    /// The name of the running workspace; the right refusal when it does not run.
    pub(super) fn alive(&self, ws: u128) -> Result<CString> {
        match self.running.get(&ws) {
            Some(sandbox) if matches!(sandbox.phase, Phase::Running) => Ok(names::workspace(ws)),
            _ => Err(refuse(FailureKind::NotRunning, "workspace")),
        }
    }

    /// The first process of the workspace.
    pub(super) fn first(&self, ws: u128) -> Result<i32> {
        let sandbox = self.running.get(&ws);
        sandbox
            .map(|sandbox| sandbox.pid)
            .ok_or_else(|| refuse(FailureKind::NotRunning, "workspace"))
    }

    /// Takes a workspace away from sight; its name in the trash.
    pub(super) fn remove(&mut self, ws: u128) -> Result<CString> {
        self.quiet(ws)?;
        let workspace = self.existing(ws)?;
        if let Ok(upper) = dir::open_dir(workspace.as_fd(), UPPER) {
            self.lift_limit(upper.as_fd())?;
        }
        let folder = self.workspaces.try_clone().step("open workspaces")?;
        let name = self.discard(folder.as_fd(), &names::workspace(ws))?;
        self.ids.release(ws)?;
        // There may be one if its first process ended while no spawner lived.
        self.unlink_link(ws);
        Ok(name)
    }

    /// The changes of a workspace that does not run become a layer; it goes on with none.
    pub(super) fn freeze_into_layer(&self, ws: u128, layer: u128) -> Result<Reply> {
        self.quiet(ws)?;
        let folder = self.existing(ws)?;
        match dir::rename(folder.as_fd(), UPPER, self.layers.as_fd(), &names::layer(layer)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(refuse(FailureKind::Exists, "layer"));
            }
            result => result.step("move changes to a layer")?,
        }
        let frozen = dir::open_dir(self.layers.as_fd(), &names::layer(layer)).step("open layer")?;
        self.lift_limit(frozen.as_fd())?;
        self.make_upper(folder.as_fd())?;
        Ok(Reply::Done)
    }

    /// An empty set of changes: `work` and `home/agent`, the worker's, and `home/sessions`.
    pub(super) fn make_upper(&self, workspace: BorrowedFd<'_>) -> Result<()> {
        let (uid, gid) = self.level.worker();
        let upper = dir::ensure(workspace, UPPER, 0o755).step("make folders")?;
        self.give_project(upper.as_fd())?;
        let make = || -> io::Result<()> {
            let work = dir::ensure(upper.as_fd(), c"work", 0o755)?;
            let home = dir::ensure(upper.as_fd(), c"home", 0o755)?;
            let agent = dir::ensure(home.as_fd(), c"agent", 0o755)?;
            // The runner's, which gives each session a home in it. Here it is made ten times as
            // fast as in the overlay.
            dir::ensure(home.as_fd(), c"sessions", 0o755)?;
            dir::own(work.as_fd(), uid, gid)?;
            dir::own(agent.as_fd(), uid, gid)
        };
        make().step("make folders")
    }

    /// A page of workspaces.
    pub(super) fn list(&self, after: u128) -> Result<Reply> {
        let ids = ids_in(self.workspaces.as_fd(), names::parse_workspace)?;
        let (ids, more) = page(ids, after);
        let mut entries = Vec::with_capacity(ids.len());
        for ws in ids {
            let (generation, pid) = match self.running.get(&ws) {
                Some(sandbox) => (sandbox.generation, sandbox.pid.unsigned_abs()),
                None => {
                    let meta = Meta::read(self.existing(ws)?.as_fd()).step("read meta")?;
                    (meta.map_or(0, |meta| meta.generation), 0)
                }
            };
            entries.push(Entry { ws, generation, pid });
        }
        Ok(Reply::Workspaces { entries, more })
    }

    /// The spool, for reading.
    pub(super) fn open_spool(&self, ws: u128) -> Result<OwnedFd> {
        let folder = self.existing(ws)?;
        dir::open_file(folder.as_fd(), SPOOL, libc::O_RDONLY).step("open spool")
    }
}

/// The spool for the first process: it writes there.
pub(super) fn spool(folder: BorrowedFd<'_>) -> Result<OwnedFd> {
    dir::create_file(folder, SPOOL, libc::O_RDWR, 0o600).step("open spool")
}

pub(super) fn ids_in(folder: BorrowedFd<'_>, parse: fn(&str) -> Option<u128>) -> Result<Vec<u128>> {
    let mut ids = Vec::new();
    for entry in dir::list(folder).step("list")? {
        ids.extend(entry.folder_name().and_then(parse).filter(|id| !names::is_throw_away(*id)));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// The first [`PAGE`] ids after `after`, and whether there are more.
pub(super) fn page(ids: Vec<u128>, after: u128) -> (Vec<u128>, bool) {
    let mut rest = ids.into_iter().filter(|id| *id > after);
    let page = rest.by_ref().take(PAGE).collect();
    (page, rest.next().is_some())
}
