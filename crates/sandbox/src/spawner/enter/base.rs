//! The spawner's own root: nothing but what it works with.
//!
//! ```text
//! /           a small memory file system
//!   proc      the host's
//!   data      D
//!   template  the root that every sandbox gets, the working folder
//!   state     where a child attaches D/sandboxes as its ids see it, in its own namespace
//!   overlay   where a child mounts its overlay, likewise
//! ```
//!
//! Each sandbox's mount namespace begins as a copy of this one, so a short list makes a fast
//! start; and a spawner that lives for months holds none of the host's mounts. What a child
//! mounted at `state` and `overlay` goes away with this root when the child leaves it, at the
//! cost of one wait for all processors instead of one for each.

use std::{
    ffi::{CStr, CString},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use crate::{
    Error, Result,
    error::Step as _,
    inside::template::{self, Sources},
    sys::{
        dir,
        mount::{self, Depth},
    },
};

/// Where D is from now on.
pub(super) const DATA: &CStr = c"/data";

/// Builds the root over the empty folder `place` and goes there. The working folder is the
/// template afterwards.
pub(super) fn enter(place: BorrowedFd<'_>, data: &Path, sources: &Sources<'_>) -> Result<()> {
    let data = CString::new(data.as_os_str().as_bytes())
        .map_err(|_| Error::invalid("zero byte in the data folder's path"))?;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", place.as_raw_fd()))
        .step("find sandboxes/root")?;
    let target = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid("zero byte in the data folder's path"))?;
    // Before anything is mounted in it.
    let data = mount::copy_absolute(&data, Depth::All).step("bind the data folder")?;
    let proc = mount::copy_absolute(c"/proc", Depth::All).step("bind /proc")?;
    mount::mount(c"tmpfs", &target, libc::MS_NOSUID | libc::MS_NODEV, c"mode=755,size=1m")
        .step("root tmpfs")?;
    let root = dir::open_absolute(&target).step("root tmpfs")?;
    for name in [c"data", c"proc", c"template", c"state", c"overlay"] {
        dir::make(root.as_fd(), name, 0o755).step("root folders")?;
    }
    template::build(&path.join("template"), sources)?;
    mount::enter(root.as_fd()).step("root tmpfs")?;
    mount::attach_here(data.as_fd(), c"data").step("bind the data folder")?;
    mount::attach_here(proc.as_fd(), c"proc").step("bind /proc")?;
    mount::pivot_here().step("leave the host's root")?;
    let template = dir::open_absolute(c"/template").step("enter the template")?;
    mount::enter(template.as_fd()).step("enter the template")
}
