//! What takes long, done by a forked process that answers once and ends with the spawner.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use super::{files::UPPER, hint, kept::Kept, state::State};
use crate::{
    Result,
    cgroup::host::Frozen,
    error::Step as _,
    names,
    protocol::{FailureKind, REPLY_MAX, Reply, decode_reply, encode_reply},
    sys::{
        dir,
        process::{Fork, Process, exit, fork, prctl},
        socket::{self, Blocking},
    },
    tree,
};

/// How much a worker lets others go first (a nice value).
const NICENESS: i32 = 5;

/// A task for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// Remove this from the trash.
    Discard(Vec<CString>),
    /// Measure a workspace's changes.
    Usage(u128),
    /// Measure what was kept.
    KeptUsage(Kept),
    /// Move `/work` among the tools.
    KeepTool { ws: u128, tool: u128 },
    /// Freeze, copy the changes to a layer, thaw.
    CopyUpper { ws: u128, layer: u128 },
    /// Freeze or thaw.
    Freeze(u128),
    /// The other way.
    Thaw(u128),
    /// Write everything to disk, then take the marks away that these old work folders are.
    Sync { folder: u128, works: Vec<CString> },
    /// Make a throw-away sandbox.
    Probe,
}

impl Task {
    /// Whether it keeps the disk busy for long.
    pub(super) const fn is_heavy(&self) -> bool {
        match self {
            Self::Discard(_)
            | Self::Usage(_)
            | Self::KeptUsage(_)
            | Self::KeepTool { .. }
            | Self::CopyUpper { .. }
            | Self::Sync { .. } => true,
            Self::Freeze(_) | Self::Thaw(_) | Self::Probe => false,
        }
    }
}

/// A worker at work.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) process: Process,
    /// The request that it answers; 0 for none.
    pub(super) request: u64,
    pub(super) task: Task,
    answer: OwnedFd,
}

impl Worker {
    /// Starts a worker.
    pub(super) fn start(state: &mut State, request: u64, task: Task) -> Result<Self> {
        let spawner = std::process::id();
        let (answer, theirs) = socket::pair(Blocking::No).step("socket pair")?;
        // SAFETY: the spawner has one thread.
        match unsafe { fork(0, None) }.step("fork")? {
            Fork::Parent(process) => Ok(Self { process, request, task, answer }),
            Fork::Child => {
                let reply = begin_child(spawner)
                    .and_then(|()| run(state, &task))
                    .unwrap_or_else(|error| Reply::Failed(hint::failure(&error)));
                // The spawner may be gone, and so will be this worker.
                let _ = socket::send(theirs.as_fd(), &encode_reply(request, &reply), &[]);
                exit(0)
            }
        }
    }

    /// What the worker answered, once it has ended.
    pub(super) fn answer(&self) -> Reply {
        let mut buffer = vec![0; REPLY_MAX];
        socket::receive(self.answer.as_fd(), &mut buffer)
            .ok()
            .and_then(|received| decode_reply(&buffer[..received.length]).ok())
            .map_or_else(
                || Reply::Failed(hint::plain(FailureKind::System, "worker")),
                |(_, reply)| reply,
            )
    }
}

fn begin_child(spawner: u32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).step("worker")?;
    // It may have ended before that call.
    // SAFETY: always sound.
    if unsafe { libc::getppid() }.cast_unsigned() != spawner {
        exit(1);
    }
    // SAFETY: integers; less attention is all that can come of it.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
    Ok(())
}

fn run(state: &mut State, task: &Task) -> Result<Reply> {
    match task {
        Task::Discard(names) => {
            for name in names {
                remove(state.trash.as_fd(), name)?;
            }
            Ok(Reply::Done)
        }
        Task::Usage(ws) => {
            let folder = state.existing(*ws)?;
            let upper = dir::open_dir(folder.as_fd(), UPPER).step("open changes")?;
            if let Some(taken) = state.taken(upper.as_fd())? {
                return Ok(Reply::Usage { bytes: taken.bytes, inodes: taken.inodes });
            }
            measure(upper.as_fd())
        }
        Task::KeptUsage(kept) => measure(state.open_kept(*kept)?.as_fd()),
        Task::KeepTool { ws, tool } => state.keep_tool(*ws, *tool),
        Task::CopyUpper { ws, layer } => copy(state, *ws, *layer),
        Task::Freeze(ws) => set_frozen(state, *ws, Frozen::Yes),
        Task::Thaw(ws) => set_frozen(state, *ws, Frozen::No),
        Task::Sync { folder, works } => sync(state, *folder, works),
        Task::Probe => Ok(Reply::Probed(super::probe::probe(state, Instant::now()))),
    }
}

fn measure(top: BorrowedFd<'_>) -> Result<Reply> {
    let usage = tree::measure(top).step("measure files")?;
    Ok(Reply::Usage { bytes: usage.bytes, inodes: usage.inodes })
}

fn set_frozen(state: &State, ws: u128, frozen: Frozen) -> Result<Reply> {
    state.host.set_frozen(&names::workspace(ws), state.first(ws)?, frozen)?;
    Ok(Reply::Done)
}

fn copy(state: &State, ws: u128, layer: u128) -> Result<Reply> {
    let group = names::workspace(ws);
    let name = names::layer(layer);
    if dir::exists(state.layers.as_fd(), &name).step("find layer")? {
        return Err(hint::refuse(FailureKind::Exists, "layer"));
    }
    let folder = state.existing(ws)?;
    let upper = dir::open_dir(folder.as_fd(), UPPER).step("open changes")?;
    let new = CString::new([b".new-", name.to_bytes()].concat()).unwrap_or_default();
    let first = state.first(ws)?;
    state.host.set_frozen(&group, first, Frozen::Yes)?;
    let copied = copy_to(state.layers.as_fd(), &new, upper.as_fd());
    // Killed meanwhile: then there is nothing to thaw, and the copy is whole all the same.
    let thawed = match state.host.set_frozen(&group, first, Frozen::No) {
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH)) => {
            Ok(())
        }
        result => result,
    };
    copied.step("copy changes")?;
    thawed?;
    dir::rename(state.layers.as_fd(), &new, state.layers.as_fd(), &name).step("name layer")?;
    Ok(Reply::Done)
}

fn copy_to(layers: BorrowedFd<'_>, name: &CStr, upper: BorrowedFd<'_>) -> io::Result<()> {
    // What an attempt that was cut short has left.
    if dir::exists(layers, name)? {
        let old = dir::open_dir(layers, name)?;
        tree::remove_inside(old.as_fd())?;
        dir::remove_empty(layers, name)?;
    }
    let target = dir::ensure(layers, name, 0o700)?;
    tree::copy(upper, target.as_fd())
}

fn sync(state: &State, ws: u128, works: &[CString]) -> Result<Reply> {
    let folder = state.existing(ws)?;
    state.write_out()?;
    for work in works {
        remove(folder.as_fd(), work)?;
    }
    Ok(Reply::Done)
}

/// Removes a folder with everything in it; fine when it is gone.
fn remove(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    match dir::open_dir(parent, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).step("remove"),
        Ok(folder) => {
            tree::remove_inside(folder.as_fd()).step("remove")?;
            dir::remove_empty(parent, name).step("remove")
        }
    }
}
