//! Which hierarchies there are, and which base group is ours to use.

use std::{
    ffi::{CStr, CString, OsStr},
    fs,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use super::{Controller, Host};
use crate::{Error, Result, error::Step as _, sys::dir};

/// The controllers of version 2 that limits need, and the one that is nice to have.
const WANTED: [&str; 3] = ["memory", "pids", "cpu"];
/// Where the server and the spawner sit when the group that they were started in is delegated: a
/// group with controllers for its children may hold no process itself.
const CONTROL: &CStr = c"control";

/// A mounted hierarchy.
struct Hierarchy {
    mount_point: PathBuf,
    /// The group that the mount shows as its root.
    root: PathBuf,
    /// The controllers of a version 1 hierarchy; none for version 2.
    controllers: Option<Vec<String>>,
}

impl Host {
    /// Finds the hierarchies and makes the base groups of `instance`.
    ///
    /// As root: the own group if it is delegated, else a group at the root. As an ordinary user:
    /// the own group if it is delegated, else none.
    pub(crate) fn discover(instance: &str, root: bool) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").step("read mountinfo")?;
        let hierarchies: Vec<Hierarchy> = mounts.lines().filter_map(parse).collect();
        let mut host = Self {
            unified: None,
            unified_limits: false,
            legacy: Vec::new(),
            parents: Vec::new(),
            base_name: CString::new(instance_group(instance))
                .map_err(|_| Error::invalid("zero byte"))?,
        };
        if let Some(unified) = hierarchies.iter().find(|one| one.controllers.is_none()) {
            host.unified = unified_base(unified, instance, root, &mut host.parents)?;
        }
        if let Some(base) = &host.unified {
            let enabled = dir::read(base.as_fd(), c"cgroup.subtree_control")
                .step("read cgroup.subtree_control")?;
            let has = |name: &str| enabled.split_ascii_whitespace().any(|known| known == name);
            host.unified_limits = has("memory") && has("pids");
        }
        if root && !host.unified_limits {
            let mut wanted = vec![
                (Controller::Memory, "memory"),
                (Controller::Pids, "pids"),
                (Controller::Cpu, "cpu"),
            ];
            if host.unified.is_none() {
                wanted.push((Controller::Freezer, "freezer"));
            }
            for (controller, name) in wanted {
                let Some(hierarchy) = hierarchies.iter().find(|one| {
                    one.controllers
                        .as_ref()
                        .is_some_and(|list| list.iter().any(|have| have == name))
                }) else {
                    continue;
                };
                let base = open_below(&hierarchy.mount_point, instance, &mut host.parents)
                    .step(&format!("cgroup {name} base group"))?;
                host.legacy.push((controller, base));
            }
        }
        Ok(host)
    }
}

fn instance_group(instance: &str) -> String {
    format!("boatyard-{instance}")
}

fn unified_base(
    hierarchy: &Hierarchy,
    instance: &str,
    root: bool,
    parents: &mut Vec<OwnedFd>,
) -> Result<Option<OwnedFd>> {
    if let Some(own) = own_group(hierarchy)
        && is_delegated(&own, root)
        && let Ok(base) = open(&own)
        && move_to_control(base.as_fd()).is_ok()
    {
        enable(base.as_fd());
        return Ok(Some(base));
    }
    if !root {
        return Ok(None);
    }
    if let Ok(top) = open(&hierarchy.mount_point) {
        enable(top.as_fd());
    }
    let base = open_below(&hierarchy.mount_point, instance, parents).step("cgroup base group")?;
    enable(base.as_fd());
    Ok(Some(base))
}

/// The folder of the group that this process was started in: when it sits in [`CONTROL`] already,
/// since an earlier spawner or systemd put it there, the one above.
fn own_group(hierarchy: &Hierarchy) -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = above_control(Path::new(path));
    let below = path.strip_prefix(&hierarchy.root).ok()?;
    Some(hierarchy.mount_point.join(below))
}

fn above_control(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if path.file_name() == Some(OsStr::from_bytes(CONTROL.to_bytes())) => above,
        _ => path,
    }
}

/// Whether somebody (systemd says so by an attribute) gave the group `path` to us.
fn is_delegated(path: &Path, root: bool) -> bool {
    let Ok(group) = CString::new(path.as_os_str().as_bytes()) else { return false };
    for attribute in [c"user.delegate", c"trusted.delegate"] {
        let mut value = [0u8; 8];
        // SAFETY: C strings and a buffer as long as said.
        let length = unsafe {
            libc::getxattr(
                group.as_ptr(),
                attribute.as_ptr(),
                value.as_mut_ptr().cast(),
                value.len(),
            )
        };
        if length > 0 && value[0] == b'1' {
            return true;
        }
    }
    // Without the attribute, an ordinary user may own the group all the same, as in a container.
    // It is ours to arrange only if nobody else is in it: a terminal's group, say, holds more.
    if root {
        return false;
    }
    // SAFETY: always sound.
    let (uid, own, parent) = unsafe { (libc::geteuid(), libc::getpid(), libc::getppid()) };
    let owned =
        fs::metadata(path).is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == uid);
    let members = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    owned && members.lines().all(|line| line == own.to_string() || line == parent.to_string())
}

/// Moves every process of the group into a leaf, and this one's siblings with it.
fn move_to_control(base: BorrowedFd<'_>) -> std::io::Result<()> {
    let control = dir::ensure(base, CONTROL, 0o755)?;
    for pid in dir::read(base, c"cgroup.procs")?.lines() {
        match dir::write(control.as_fd(), c"cgroup.procs", pid.as_bytes()) {
            // Ended in the meantime.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Gives the children of `group` every controller that there is; what is missing is seen later.
fn enable(group: BorrowedFd<'_>) {
    for name in WANTED {
        let _ = dir::write(group, c"cgroup.subtree_control", format!("+{name}").as_bytes());
    }
}

fn open(path: &Path) -> std::io::Result<OwnedFd> {
    dir::open_absolute(&CString::new(path.as_os_str().as_bytes())?)
}

/// The base group of `instance` in the hierarchy at `path`, whose top is kept in `parents`.
fn open_below(path: &Path, instance: &str, parents: &mut Vec<OwnedFd>) -> std::io::Result<OwnedFd> {
    let parent = open(path)?;
    let base = dir::ensure(parent.as_fd(), &CString::new(instance_group(instance))?, 0o755)?;
    parents.push(parent);
    Ok(base)
}

/// A hierarchy from a line of mountinfo: `id parent dev root mountpoint options … - type source
/// super-options`.
fn parse(line: &str) -> Option<Hierarchy> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let root = PathBuf::from(before.next()?);
    let mount_point = PathBuf::from(before.next()?);
    let mut after = after.split(' ');
    let controllers = match after.next()? {
        "cgroup2" => None,
        "cgroup" => Some(after.nth(1)?.split(',').map(str::to_owned).collect()),
        _ => return None,
    };
    Some(Hierarchy { mount_point, root, controllers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_in_control_was_started_above_it() {
        let check = |path: &str, expected: &str| {
            assert_eq!(above_control(Path::new(path)), Path::new(expected));
        };
        check("/system.slice/boatyard.service", "/system.slice/boatyard.service");
        check("/system.slice/boatyard.service/control", "/system.slice/boatyard.service");
        check("/", "/");
    }
}
