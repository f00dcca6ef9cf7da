//! What was kept of workspaces: layers, and tools. Trees that nobody writes any more.
//!
//! A tool is what an installation, which is not to be trusted, left in `/work` of a workspace of
//! its own. It is moved by renaming and shown read-only, without set-user-id and devices; pipes and
//! sockets, which two sandboxes could talk through, are refused. Nothing in it is ever opened here
//! but folders, and no symbolic link is followed.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use super::{
    files::{UPPER, ids_in, page},
    hint::refuse,
    state::State,
};
use crate::{
    Error, Result,
    error::Step as _,
    names,
    protocol::{Failure, FailureKind, Reply},
    sys::{check, dir},
    tree,
};

/// A workspace's `/work` among its changes.
const WORK: &std::ffi::CStr = c"work";

/// One tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// What workspaces stand on.
    Layer(u128),
    /// What is shown in all of them.
    Tool(u128),
}

impl Kept {
    /// Its name on disk.
    fn name(self) -> CString {
        match self {
            Self::Layer(id) => names::layer(id),
            Self::Tool(id) => names::tool(id),
        }
    }

    /// What it is called.
    const fn word(self) -> &'static str {
        match self {
            Self::Layer(_) => "layer",
            Self::Tool(_) => "tool",
        }
    }
}

impl State {
    /// Where such trees are.
    fn folder_of(&self, kept: Kept) -> &OwnedFd {
        match kept {
            Kept::Layer(_) => &self.layers,
            Kept::Tool(_) => &self.tools,
        }
    }

    /// Takes a tree away from sight; its name in the trash.
    pub(super) fn remove_kept(&mut self, kept: Kept) -> Result<CString> {
        let folder = self.folder_of(kept).try_clone().step("open folder")?;
        match self.discard(folder.as_fd(), &kept.name()) {
            Err(error) if error.errno() == Some(libc::ENOENT) => {
                Err(refuse(FailureKind::Missing, kept.word()))
            }
            result => result,
        }
    }

    /// Opens the tree's top.
    pub(super) fn open_kept(&self, kept: Kept) -> Result<OwnedFd> {
        match dir::open_dir(self.folder_of(kept).as_fd(), &kept.name()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(refuse(FailureKind::Missing, kept.word()))
            }
            result => result.step(kept.word()),
        }
    }

    /// A page of layers.
    pub(super) fn list_layers(&self, after: u128) -> Result<Reply> {
        let (ids, more) = page(ids_in(self.layers.as_fd(), names::parse_layer)?, after);
        Ok(Reply::Ids { ids, more })
    }

    /// A page of tools.
    pub(super) fn list_tools(&self, after: u128) -> Result<Reply> {
        let (ids, more) = page(ids_in(self.tools.as_fd(), names::parse_tool)?, after);
        Ok(Reply::Ids { ids, more })
    }

    /// `/work` of a workspace that does not run becomes a tool; the workspace goes on with an empty
    /// one. For a worker: it looks at every file and waits for the disk, before, so that the tool
    /// is whole when it is seen, and after, so that it stays.
    pub(super) fn keep_tool(&self, ws: u128, tool: u128) -> Result<Reply> {
        let name = names::tool(tool);
        let folder = self.existing(ws)?;
        if dir::exists(self.tools.as_fd(), &name).step("find tool")? {
            // Perhaps by an attempt that was cut short after the move.
            self.make_upper(folder.as_fd())?;
            return Err(refuse(FailureKind::Exists, "tool"));
        }
        let upper = dir::open_dir(folder.as_fd(), UPPER).step("open changes")?;
        let work = dir::open_dir(upper.as_fd(), WORK).step("open changes")?;
        if !tree::is_plain(work.as_fd()).step("look through a tool")? {
            return Err(Error::Refused(Failure {
                kind: FailureKind::Invalid,
                step: "keeping the tool".into(),
                errno: 0,
                hint: "its installation made a pipe, a socket or a device, by which workspaces \
                       could reach each other; try another version of it"
                    .into(),
            }));
        }
        self.write_out()?;
        match dir::rename(upper.as_fd(), WORK, self.tools.as_fd(), &name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(refuse(FailureKind::Exists, "tool"));
            }
            result => result.step("move a tool")?,
        }
        self.make_upper(folder.as_fd())?;
        self.write_out()?;
        Ok(Reply::Done)
    }

    /// Writes everything of the data folder's file system to disk.
    pub(super) fn write_out(&self) -> Result<()> {
        // SAFETY: an open folder of the file system that is meant.
        check(unsafe { libc::syncfs(self.sandboxes.as_raw_fd()) }).step("syncfs")?;
        Ok(())
    }
}
