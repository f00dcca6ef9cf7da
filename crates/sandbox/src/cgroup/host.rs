//! The groups of whole workspaces, on the host: limits, freezing, taking away.
//!
//! ```text
//! version 2            <own delegated group> or /boatyard-<instance>
//!                        ├─ control            the server, where the group is delegated
//!                        └─ ws_01J…            init and serve; owned by the sandbox's root
//!                             └─ ses-1         made by serve
//! version 1, each of memory, pids, cpu (and freezer where there is no version 2)
//!                      /boatyard-<instance>/ws_01J…
//! ```
//!
//! Version 2 holds the limits when it has the controllers for memory and processes; else version
//! 1 does, and version 2, if mounted, only tracks, freezes and kills.

mod discover;
mod stop;

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use crate::{
    Error, Result,
    error::Step as _,
    protocol::{Limits, LimitsBy},
    sys::{check, dir, process, socket},
};

/// How long freezing may take: as long as a process may sit in the kernel without looking up.
const FREEZE_LIMIT: Duration = Duration::from_secs(2);
/// How often a version 1 freezer, which announces nothing, is looked at.
const FREEZER_STEP_MS: u64 = 1;

/// The base groups that this instance of Boatyard uses.
#[derive(Debug)]
pub(crate) struct Host {
    unified: Option<OwnedFd>,
    /// Whether version 2 has the controllers.
    unified_limits: bool,
    legacy: Vec<(Controller, OwnedFd)>,
    /// Where base groups were made, to take them away again.
    parents: Vec<OwnedFd>,
    base_name: CString,
}

/// A controller of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Memory,
    Pids,
    Cpu,
    Freezer,
}

/// The groups of one workspace.
#[derive(Debug)]
pub(crate) struct Groups {
    pub(crate) unified: Option<OwnedFd>,
}

impl Host {
    /// What enforces the limits.
    pub(crate) fn limits_by(&self) -> LimitsBy {
        let legacy = |wanted| self.legacy.iter().any(|(controller, _)| *controller == wanted);
        if self.unified_limits {
            LimitsBy::CgroupV2
        } else if legacy(Controller::Memory) && legacy(Controller::Pids) {
            LimitsBy::CgroupV1
        } else {
            LimitsBy::Rlimits
        }
    }

    /// Whether there is a version 2 hierarchy to track and kill with.
    pub(crate) fn tracks(&self) -> bool {
        self.unified.is_some()
    }

    /// Makes the version 2 group of workspace `name` for a sandbox whose root is `owner` here.
    pub(crate) fn create(&self, name: &CStr, limits: &Limits, owner: (u32, u32)) -> Result<Groups> {
        let Some(base) = &self.unified else { return Ok(Groups { unified: None }) };
        match dir::make(base.as_fd(), name, 0o755) {
            // What an earlier spawner left when it was killed: the workspace does not run.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                remove_tree(base.as_fd(), name).step("remove old cgroup")?;
                dir::make(base.as_fd(), name, 0o755).step("cgroup mkdir")?;
            }
            result => result.step("cgroup mkdir")?,
        }
        let group = dir::open_dir(base.as_fd(), name).step("cgroup open")?;
        if self.unified_limits {
            limit(group.as_fd(), c"memory.max", limits.memory_bytes)?;
            limit(group.as_fd(), c"pids.max", u64::from(limits.processes))?;
            // Not there without swap accounting, and then there is nothing to limit.
            ignore_missing(limit(group.as_fd(), c"memory.swap.max", 0))?;
            if limits.cpu_millis > 0 {
                let quota = format!("{} 100000", u64::from(limits.cpu_millis) * 100);
                ignore_missing(
                    dir::write(group.as_fd(), c"cpu.max", quota.as_bytes()).step("cgroup cpu.max"),
                )?;
            }
        }
        // Given to the sandbox's root: its folder, so that groups can be made below, and the
        // files that moving a process needs; not the limits.
        dir::own(group.as_fd(), owner.0, owner.1).step("cgroup chown")?;
        for file in [c"cgroup.procs", c"cgroup.threads", c"cgroup.subtree_control"] {
            // SAFETY: an open folder, a C string and integers.
            check(unsafe {
                libc::fchownat(
                    group.as_raw_fd(),
                    file.as_ptr(),
                    owner.0,
                    owner.1,
                    libc::AT_SYMLINK_NOFOLLOW,
                )
            })
            .step("cgroup chown")?;
        }
        Ok(Groups { unified: Some(group) })
    }

    /// Makes the version 1 groups of workspace `name` and moves `pid` there. Slow, since moving
    /// waits for every processor; so done while the sandbox's own set-up goes on.
    pub(crate) fn join_legacy(&self, name: &CStr, limits: &Limits, pid: i32) -> Result<()> {
        for (controller, base) in &self.legacy {
            if *controller == Controller::Cpu && limits.cpu_millis == 0 {
                continue;
            }
            let group = dir::ensure(base.as_fd(), name, 0o755).step("cgroup mkdir")?;
            let group = group.as_fd();
            match controller {
                Controller::Memory => {
                    limit(group, c"memory.limit_in_bytes", limits.memory_bytes)?;
                    ignore_missing(limit(
                        group,
                        c"memory.memsw.limit_in_bytes",
                        limits.memory_bytes,
                    ))?;
                }
                Controller::Pids => limit(group, c"pids.max", u64::from(limits.processes))?,
                Controller::Cpu => {
                    limit(group, c"cpu.cfs_period_us", 100_000)?;
                    limit(group, c"cpu.cfs_quota_us", u64::from(limits.cpu_millis) * 100)?;
                }
                Controller::Freezer => {}
            }
            dir::write(group, c"cgroup.procs", pid.to_string().as_bytes()).step("cgroup join")?;
        }
        Ok(())
    }

    /// Freezes or thaws workspace `name`, whose first process is `first`, and waits until it is
    /// so. What can't be frozen in time is let go on.
    pub(crate) fn set_frozen(&self, name: &CStr, first: i32, state: Frozen) -> Result<()> {
        let result = self.try_set_frozen(name, first, state);
        if result.is_err() && state == Frozen::Yes {
            // The first error is the one to tell.
            let _ = self.try_set_frozen(name, first, Frozen::No);
        }
        result
    }

    fn try_set_frozen(&self, name: &CStr, first: i32, state: Frozen) -> Result<()> {
        let deadline = Instant::now() + FREEZE_LIMIT;
        if let Some(base) = &self.unified {
            let group = dir::open_dir(base.as_fd(), name).step("cgroup open")?;
            let value: &[u8] = if state == Frozen::Yes { b"1" } else { b"0" };
            dir::write(group.as_fd(), c"cgroup.freeze", value).step("cgroup freeze")?;
            return await_frozen(group.as_fd(), state, deadline);
        }
        let Some((_, base)) =
            self.legacy.iter().find(|(controller, _)| *controller == Controller::Freezer)
        else {
            return stop::set(first, state, deadline);
        };
        let group = dir::open_dir(base.as_fd(), name).step("cgroup open")?;
        let value = if state == Frozen::Yes { "FROZEN" } else { "THAWED" };
        dir::write(group.as_fd(), c"freezer.state", value.as_bytes()).step("cgroup freeze")?;
        while dir::read(group.as_fd(), c"freezer.state").step("cgroup freeze")?.trim() != value {
            pause(deadline)?;
        }
        Ok(())
    }

    /// Whether the sandbox with this first process is known to stand still, or may do so.
    pub(crate) fn may_be_frozen(&self, first: i32) -> bool {
        self.unified.is_some() || !self.legacy.is_empty() || stop::is_stopped(first)
    }

    /// Before killing: a process frozen by version 1 would not die.
    pub(crate) fn thaw_legacy(&self, name: &CStr) {
        for (controller, base) in &self.legacy {
            if *controller == Controller::Freezer
                && let Ok(group) = dir::open_dir(base.as_fd(), name)
            {
                // Not frozen, or gone: both will do.
                let _ = dir::write(group.as_fd(), c"freezer.state", b"THAWED");
            }
        }
    }

    /// Takes the groups of workspace `name` away. `ResourceBusy` while a process is left.
    pub(crate) fn remove(&self, name: &CStr) -> io::Result<()> {
        for base in self.unified.iter().chain(self.legacy.iter().map(|(_, base)| base)) {
            remove_tree(base.as_fd(), name)?;
        }
        Ok(())
    }

    /// Takes the base groups away, if no workspace is left in them.
    pub(crate) fn remove_bases(&self) {
        for parent in &self.parents {
            // Still in use, then.
            let _ = dir::remove_empty(parent.as_fd(), &self.base_name);
        }
    }

    /// Kills what is left in the groups of workspaces that are not `known`, and removes them.
    /// Returns the names of those that could not be removed yet.
    pub(crate) fn clear_unknown(&self, known: impl Fn(&str) -> bool) -> Result<Vec<CString>> {
        let mut left = Vec::new();
        for base in self.unified.iter().chain(self.legacy.iter().map(|(_, base)| base)) {
            for entry in dir::list(base.as_fd()).step("list cgroups")? {
                let Some(name) = entry.folder_name() else { continue };
                if !name.starts_with("ws_") || known(name) {
                    continue;
                }
                self.thaw_legacy(&entry.name);
                kill_all(base.as_fd(), &entry.name);
                if remove_tree(base.as_fd(), &entry.name).is_err() && !left.contains(&entry.name) {
                    left.push(entry.name);
                }
            }
        }
        Ok(left)
    }
}

/// Frozen or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frozen {
    Yes,
    No,
}

fn await_frozen(group: BorrowedFd<'_>, state: Frozen, deadline: Instant) -> Result<()> {
    let events = dir::open_file(group, c"cgroup.events", libc::O_RDONLY).step("cgroup freeze")?;
    let wanted = if state == Frozen::Yes { "frozen 1" } else { "frozen 0" };
    loop {
        let mut buffer = [0u8; 256];
        // SAFETY: the buffer is as long as said; reading from offset 0 also arms the event.
        let length = check(unsafe {
            libc::pread(events.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0)
        })
        .step("cgroup freeze")?;
        let text = String::from_utf8_lossy(&buffer[..length.unsigned_abs()]);
        if text.lines().any(|line| line == wanted) {
            return Ok(());
        }
        let left = remaining(deadline)?;
        socket::wait(events.as_fd(), libc::POLLPRI, Some(left)).step("cgroup freeze")?;
    }
}

/// Milliseconds to the deadline.
fn remaining(deadline: Instant) -> Result<u64> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::Deadline {
            step: "cgroup freeze".into(),
            limit_ms: u64::try_from(FREEZE_LIMIT.as_millis()).unwrap_or(u64::MAX),
        });
    }
    Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX) + 1)
}

fn pause(deadline: Instant) -> Result<()> {
    remaining(deadline)?;
    std::thread::sleep(Duration::from_millis(FREEZER_STEP_MS));
    Ok(())
}

fn limit(group: BorrowedFd<'_>, file: &CStr, value: u64) -> Result<()> {
    dir::write(group, file, value.to_string().as_bytes())
        .step(&format!("cgroup {}", file.to_string_lossy()))
}

fn ignore_missing(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// Kills every process in the group `name`, in one go where the kernel can.
fn kill_all(base: BorrowedFd<'_>, name: &CStr) {
    let Ok(group) = dir::open_dir(base, name) else { return };
    if dir::write(group.as_fd(), c"cgroup.kill", b"1").is_ok() {
        return;
    }
    // Version 1: killing the first process of the sandbox, which is among them, kills all.
    for line in dir::read(group.as_fd(), c"cgroup.procs").unwrap_or_default().lines() {
        if let Some(pidfd) = line.parse().ok().and_then(|pid| process::pidfd_open(pid).ok()) {
            let _ = process::signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
}

/// Removes the group `name` and those below it; fine when it does not exist.
fn remove_tree(base: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match dir::remove_empty(base, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        result => return result,
    }
    let group = dir::open_dir(base, name)?;
    for entry in dir::list(group.as_fd())? {
        if entry.kind == libc::DT_DIR {
            remove_tree(group.as_fd(), &entry.name)?;
        }
    }
    dir::remove_empty(base, name)
}
