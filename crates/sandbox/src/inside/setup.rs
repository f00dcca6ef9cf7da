//! The child's way from `clone3` to the first process's program.
//!
//! ```text
//! mapped ─► ids ─► root ─► proc, tmp, dev, network ─► trees ─► overlay ─► masks ─► pivot
//!   ─► gate ─► limits ─► capabilities ─► landlock ─► descriptors ─► seccomp ─► execveat
//! ```
//!
//! The spawner has one thread, so the child may allocate. Whatever fails is told to the spawner
//! as `errno` and the name of the step; success is told by the end of the socket, which closes on
//! exec.

use std::{
    convert::Infallible,
    ffi::{CStr, CString},
    fs::DirBuilder,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::fs::DirBuilderExt,
    },
};

use super::{capabilities, handover, network, seccomp};
use crate::{
    Error, HOSTNAME, Result,
    error::Step as _,
    protocol::{Capture, Network},
    sys::{
        check,
        mount::{self, Depth, NODEV, NOSUID, RDONLY},
        process::prctl,
        socket,
    },
};

/// The message after which the ids are mapped.
pub(crate) const MAPPED: u8 = b'm';
/// The message that brings the [`Trees`].
pub(crate) const TREES: u8 = b't';
/// The message after which the program may run.
pub(crate) const GATE: u8 = b'x';

/// `KEYCTL_JOIN_SESSION_KEYRING`.
const JOIN_SESSION_KEYRING: i32 = 1;
/// A core dump limit of 1 is the only one that also stops dumps to a program of the host.
const NO_CORE: u64 = 1;
/// Open files of one process.
const OPEN_FILES: u64 = 1 << 16;
/// Numbers above all that are well known, to park descriptors at.
pub(crate) const PARKING: RawFd = 32;
/// Connections to the link socket that may wait.
const LINK_BACKLOG: i32 = 128;
/// Inodes of `/tmp` and `/dev/shm`, each.
const TMP_INODES: u64 = 1 << 20;
/// The terminals are its own, and not more than one workspace needs: all take from one number that
/// the host has.
const TERMINALS: &CStr = c"newinstance,ptmxmode=0666,mode=0620,max=256";
/// Files of `/proc` that say more about the machine than a sandbox should know.
const MASKED: [&CStr; 5] =
    [c"proc/kcore", c"proc/keys", c"proc/timer_list", c"proc/sysrq-trigger", c"proc/config.gz"];

/// Everything that the child needs beside the trees.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    /// Our end of the socket to the spawner, at [`PARKING`] or above.
    pub(crate) sync: BorrowedFd<'a>,
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    pub(crate) runner: BorrowedFd<'a>,
    pub(crate) filter: &'a seccomp::Program,
    /// The overlay's options, paths below [`STATE`].
    pub(crate) overlay: &'a CStr,
    pub(crate) has_mirror: bool,
    pub(crate) network: Network,
    pub(crate) capture: Capture,
    pub(crate) tmp_bytes: u64,
    /// Set where no control group limits them.
    pub(crate) rlimits: Option<Rlimits>,
    pub(crate) ids: Ids,
    pub(crate) generation: u64,
}

/// What the spawner makes while the child is on its way.
#[derive(Debug)]
pub(super) struct Trees {
    /// D/sandboxes as the ids inside see it.
    state: OwnedFd,
    /// The link socket, bound.
    pub(super) link: OwnedFd,
    pub(super) spool: OwnedFd,
    mirror: Option<OwnedFd>,
}

/// Where the state tree and the overlay are attached in the spawner's root, which goes away at
/// `pivot_root`.
pub(crate) const STATE: &str = "/state";
const STATE_PLACE: &CStr = c"/state";
const OVERLAY_PLACE: &CStr = c"/overlay";

/// Limits by process, or by user id, where there are no control groups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rlimits {
    pub(crate) processes: u64,
    pub(crate) data_bytes: u64,
}

/// Which ids exist inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// 0 to 65535.
    Range,
    /// 0 only.
    Single,
}

/// Goes all the way; returns only when something failed.
pub(crate) fn run(setup: &Setup<'_>) -> Result<Infallible> {
    wait_for(setup.sync, MAPPED)?;
    take_ids(setup.ids)?;
    root()?;
    file_systems(setup)?;
    let network = network_inside(setup)?;
    let trees = trees(setup)?;
    work(setup, &trees.state)?;
    if let Some(mirror) = &trees.mirror {
        mount::attach_here(mirror.as_fd(), c"mirror").step("mirror mount")?;
    }
    for path in MASKED {
        match mount::bind(c"dev/null", path) {
            // Not every kernel has every file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.step("proc mask")?,
        }
    }
    mount::pivot_here().step("pivot_root")?;
    // Here, and not where it was bound: the peers of a socket are told who listened.
    // SAFETY: an open socket.
    check(unsafe { libc::listen(trees.link.as_raw_fd(), LINK_BACKLOG) }).step("link listen")?;
    // SAFETY: always sound; a failure means that there is none to leave, or no support. The
    // spawner's own priority is not the sandbox's.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        libc::setsid();
        libc::umask(0o022);
        libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0);
    }
    wait_for(setup.sync, GATE)?;
    // After the spawner has moved us to our groups, these are the root of what we see.
    // SAFETY: integers only.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }).step("cgroup namespace")?;
    limits(setup)?;
    harden(setup.cgroup)?;
    handover::descriptors(setup, &trees, network)?;
    // As above: their numbers are well known, or closed on exec.
    std::mem::forget(trees);
    seccomp::install(setup.filter).step("seccomp")?;
    handover::exec(setup)
}

/// Tells the spawner what failed: errno, then the step.
pub(crate) fn report(sync: BorrowedFd<'_>, error: &Error) {
    let mut message = error.errno().unwrap_or(0).to_le_bytes().to_vec();
    let step = match error {
        Error::System { step, .. } => step.as_str(),
        _ => "set up",
    };
    message.extend_from_slice(step.as_bytes());
    // Nobody is left to tell when this fails; the spawner sees the exit.
    let _ = socket::send(sync, &message, &[]);
}

/// Waits for what was made through the user namespace's maps.
fn trees(setup: &Setup<'_>) -> Result<Trees> {
    let mut byte = [0];
    let received = socket::receive(setup.sync, &mut byte).step("trees")?;
    match received.fds {
        [Some(state), Some(link), Some(spool), mirror, None, None]
            if received.length == 1 && byte == [TREES] && mirror.is_some() == setup.has_mirror =>
        {
            Ok(Trees { state, link, spool, mirror })
        }
        _ => Err(ended("trees")),
    }
}

fn wait_for(sync: BorrowedFd<'_>, expected: u8) -> Result<()> {
    let mut byte = [0];
    let received = socket::receive(sync, &mut byte).step("gate")?;
    if received.length == 1 && byte == [expected] { Ok(()) } else { Err(ended("gate")) }
}

/// The spawner has gone.
fn ended(step: &str) -> Error {
    Error::system(step, io::Error::from_raw_os_error(libc::EPIPE))
}

fn take_ids(ids: Ids) -> Result<()> {
    // SAFETY: integers and a null list of length 0.
    unsafe {
        if ids == Ids::Range {
            check(libc::setgroups(0, std::ptr::null())).step("setgroups")?;
        }
        check(libc::setresgid(0, 0, 0)).step("setresgid")?;
        check(libc::setresuid(0, 0, 0)).step("setresuid")?;
    }
    Ok(())
}

/// A copy of the template over itself, entered: a mount that belongs to this namespace, as
/// `pivot_root` wants it.
///
/// The template is the working folder, which the kernel has exchanged for its copy in our
/// namespace; a descriptor would still mean the spawner's, which can't be touched from here.
fn root() -> Result<()> {
    let root = mount::copy_absolute(c".", Depth::All).step("root bind")?;
    mount::attach_here(root.as_fd(), c".").step("root bind")?;
    mount::enter(root.as_fd()).step("root bind")
}

fn file_systems(setup: &Setup<'_>) -> Result<()> {
    let plain = libc::MS_NOSUID | libc::MS_NODEV;
    mount::mount(c"proc", c"proc", plain | libc::MS_NOEXEC, c"").step("proc mount")?;
    let options = |bytes: u64| {
        CString::new(format!("mode=1777,size={bytes},nr_inodes={TMP_INODES}"))
            .map_err(|_| Error::invalid("zero byte"))
    };
    mount::mount(c"tmpfs", c"tmp", plain, &options(setup.tmp_bytes)?).step("tmp mount")?;
    mount::mount(c"tmpfs", c"dev/shm", plain, &options(setup.tmp_bytes)?).step("shm mount")?;
    mount::mount(c"devpts", c"dev/pts", libc::MS_NOSUID | libc::MS_NOEXEC, TERMINALS)
        .step("devpts mount")
}

/// The workspace's files: one overlay, its `work` shown at `/work`, its `home/agent` and the homes of
/// its sessions below `/home` (not all of that, where tools of the host may be shown).
///
/// Mounted from inside, since an overlay that the host's root mounts over trees with other ids
/// is read-only; and from an attached tree, since a detached one can't be a layer.
fn work(setup: &Setup<'_>, state: &OwnedFd) -> Result<()> {
    mount::attach_here(state.as_fd(), STATE_PLACE).step("state mount")?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    mount::mount(c"overlay", OVERLAY_PLACE, flags, setup.overlay).step("overlay mount")?;
    let here = |path: &CStr| mount::copy_absolute(path, Depth::One).step("work bind");
    let (work, home) = (here(c"/overlay/work")?, here(c"/overlay/home/agent")?);
    // Nothing that works in a workspace sees the folder above: it is a folder, or it is not there
    // because an earlier version made these files.
    let sessions = match here(c"/overlay/home/sessions") {
        Err(error) if error.errno() == Some(libc::ENOENT) => {
            DirBuilder::new()
                .mode(0o755)
                .create("/overlay/home/sessions")
                .step("sessions mkdir")?;
            here(c"/overlay/home/sessions")?
        }
        result => result?,
    };
    mount::attach_here(work.as_fd(), c"work").step("work bind")?;
    mount::attach_here(home.as_fd(), c"home/agent").step("home bind")?;
    mount::attach_here(sessions.as_fd(), c"home/sessions").step("home bind")?;
    tools()
}

/// The installed tools, all that there are and will be, from the same attached tree and so with
/// the same ids. Programs are run from there; what their installation wrote is not to be trusted.
fn tools() -> Result<()> {
    let tools = mount::copy_absolute(c"/state/tools", Depth::One).step("tools bind")?;
    mount::restrict(tools.as_fd(), RDONLY | NOSUID | NODEV, Depth::One).step("tools bind")?;
    mount::attach_here(tools.as_fd(), c"opt/boatyard/tools").step("tools bind")
}

/// Where the network is open: its descriptors, each with its well-known number.
fn network_inside(setup: &Setup<'_>) -> Result<Vec<(i32, OwnedFd)>> {
    // SAFETY: a buffer of the length given.
    check(unsafe { libc::sethostname(HOSTNAME.as_ptr().cast(), HOSTNAME.len()) })
        .step("hostname")?;
    match setup.network {
        Network::None => {
            network::loopback_up().step("loopback")?;
            Ok(Vec::new())
        }
        Network::Egress => network::open(setup.capture),
    }
}

fn limits(setup: &Setup<'_>) -> Result<()> {
    set_limit(libc::RLIMIT_CORE, NO_CORE)?;
    let mut files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `files` is writable.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut files) }).step("rlimits")?;
    set_limit(libc::RLIMIT_NOFILE, files.rlim_max.min(OPEN_FILES))?;
    if let Some(rlimits) = setup.rlimits {
        // Counted in this user namespace, so that sandboxes of one user do not add up.
        set_limit(libc::RLIMIT_NPROC, rlimits.processes)?;
        set_limit(libc::RLIMIT_DATA, rlimits.data_bytes)?;
    }
    Ok(())
}

fn set_limit(resource: libc::__rlimit_resource_t, value: u64) -> Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: `limit` is valid for the call.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }).step("rlimits")?;
    Ok(())
}

fn harden(cgroup: Option<BorrowedFd<'_>>) -> Result<()> {
    capabilities::bound(capabilities::KEPT).step("capability bounds")?;
    capabilities::set(capabilities::KEPT).step("capabilities")?;
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).step("no_new_privs")?;
    landlock(cgroup)
}

/// Everything below the new root and the workspace's group, nothing else, no mounts, and (from ABI 6 on) no signals or
/// abstract sockets out of here: what the namespaces say already, said by another part of the
/// kernel. Where Landlock is missing, the probe says so.
fn landlock(cgroup: Option<BorrowedFd<'_>>) -> Result<()> {
    use landlock::{
        ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
        RulesetAttr as _, RulesetCreatedAttr as _, Scope,
    };
    let failed = |error: &dyn std::fmt::Display| {
        Error::system(format!("landlock: {error}"), io::Error::last_os_error())
    };
    let all = AccessFs::from_all(ABI::V6);
    let root = PathFd::new("/").map_err(|error| failed(&error))?;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|rules| rules.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rule(PathBeneath::new(root, all)))
        .and_then(|rules| match cgroup {
            Some(cgroup) => rules.add_rule(PathBeneath::new(cgroup, all)),
            None => Ok(rules),
        })
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(|error| failed(&error))?;
    Ok(())
}
