//! The spawner's first steps: namespaces of its own, the data folder, what an earlier one left.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    time::{Duration, Instant},
};

use super::{
    CaptureSetting, Config, IdsSetting,
    ids::{self, Ids},
    meta::{self, Meta},
    state::{Level, Phase, Sandbox, State},
};
use crate::{
    Error, Result,
    cgroup::host::{Frozen, Host},
    error::Step as _,
    inside::{
        capabilities, network, seccomp,
        template::{Sources, WorkerIs},
    },
    names,
    protocol::Capture,
    sys::{check, dir, mount},
};

mod base;
mod user;

/// How long the spawner before this one may take to end.
const LOCK_LIMIT: Duration = Duration::from_secs(5);
/// How often the lock is tried meanwhile.
const LOCK_STEP: Duration = Duration::from_millis(1);

/// Does everything that comes before the first request.
pub(super) fn enter(config: Config, runner: OwnedFd) -> Result<State> {
    let level = namespaces(&config)?;
    let everything = dir::open_absolute(c"/").step("open /")?;
    mount::make_private(everything.as_fd()).step("private mounts")?;
    drop(everything);

    // What is looked up on the host, before it is left.
    let lock = {
        let data = CString::new(config.data.as_os_str().as_bytes())
            .map_err(|_| Error::invalid("zero byte in the data folder's path"))?;
        let data = dir::open_absolute(&data).step("open the data folder")?;
        let sandboxes = dir::ensure(data.as_fd(), c"sandboxes", 0o700).step("open sandboxes")?;
        verify_ours(sandboxes.as_fd())?;
        lock(sandboxes.as_fd())?
    };
    let instance = config.instance();
    let host = Host::discover(&instance, level == Level::Root)?;
    let reserved = ids::reserved()?;
    let boot = meta::boot().step("read boot id")?;
    leave(&config, level)?;

    let data = dir::open_absolute(base::DATA).step("open the data folder")?;
    let sandboxes = dir::open_dir(data.as_fd(), c"sandboxes").step("open sandboxes")?;
    verify_ours(sandboxes.as_fd())?;
    let folder = |name: &CStr, mode| dir::ensure(sandboxes.as_fd(), name, mode);
    folder(c"empty", 0o755).step("open sandboxes/empty")?;
    let layers = folder(c"layers", 0o755).step("open layers")?;
    let tools = folder(c"tools", 0o755).step("open tools")?;
    let workspaces = folder(c"ws", 0o755).step("open workspaces")?;
    let trash = folder(c"trash", 0o700).step("open trash")?;
    ensure_run(data.as_fd(), &config, level)?;

    let running = adopt(workspaces.as_fd(), &boot)?;
    let ids = Ids::open(sandboxes.as_fd(), &instance, reserved, |ws| {
        dir::exists(workspaces.as_fd(), &names::workspace(ws)).unwrap_or(true)
    })?;
    let quota = super::quota::probe(level, sandboxes.as_fd());
    let capture = match config.capture {
        CaptureSetting::Automatic => network::try_capture().step("try to catch connections")?,
        CaptureSetting::UsualPorts => Capture::UsualPorts,
    };
    let mut state = State {
        config,
        level,
        host,
        boot,
        runner,
        filter: seccomp::program(),
        data,
        sandboxes,
        layers,
        tools,
        workspaces,
        trash,
        _lock: lock,
        ids,
        quota,
        capture,
        running,
        copying: std::collections::HashSet::new(),
        discarded: 0,
        left_groups: Vec::new(),
    };
    tidy(&mut state)?;
    Ok(state)
}

/// Exchanges the host's root for our own, with the template in it.
fn leave(config: &Config, level: Level) -> Result<()> {
    let data = CString::new(config.data.as_os_str().as_bytes())
        .map_err(|_| Error::invalid("zero byte in the data folder's path"))?;
    let data = dir::open_absolute(&data).step("open the data folder")?;
    let sandboxes = dir::open_dir(data.as_fd(), c"sandboxes").step("open sandboxes")?;
    let place = dir::ensure(sandboxes.as_fd(), c"root", 0o700).step("open sandboxes/root")?;
    let worker_is = if level == Level::UserSingle { WorkerIs::Root } else { WorkerIs::Itself };
    let sources = Sources {
        tools: &config.tools,
        trust: config.trust.as_ref(),
        runner: config.runner.as_deref(),
        data: &config.data,
        worker_is,
    };
    base::enter(place.as_fd(), &config.data, &sources)
}

/// Makes the mount namespace, and as an ordinary user the user namespace that it belongs to.
fn namespaces(config: &Config) -> Result<Level> {
    let map = fs::read_to_string("/proc/self/uid_map").step("read uid_map")?;
    let owns_all_ids = map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    // SAFETY: always sound.
    let uid = unsafe { libc::geteuid() };
    if uid == 0
        && owns_all_ids
        && capabilities::has(capabilities::SYS_ADMIN).step("capabilities")?
    {
        // SAFETY: integers only; this process has one thread.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).step("mount namespace")?;
        return Ok(Level::Root);
    }
    user::enter(config.ids == IdsSetting::Single)
}

/// `D/sandboxes` must be what a spawner made, and nobody else's: the server could have put
/// another folder there.
fn verify_ours(sandboxes: BorrowedFd<'_>) -> Result<()> {
    let stat = dir::stat(sandboxes, c"").step("stat sandboxes")?;
    // SAFETY: always sound.
    let uid = unsafe { libc::geteuid() };
    if stat.st_uid == uid && stat.st_mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(Error::invalid(
            "the folder `sandboxes` in the data folder belongs to another user or is open to others",
        ))
    }
}

/// The lock of this data folder. It is the open file's, which workers and children that set
/// themselves up inherit: so the next spawner begins only when the last of them is gone too, and
/// nothing of theirs (a group being frozen, a tree being copied) is still to come. A sandbox
/// closes it when its program starts.
fn lock(sandboxes: BorrowedFd<'_>) -> Result<OwnedFd> {
    let file = dir::create_file(sandboxes, c"lock", libc::O_RDWR, 0o600).step("open lock")?;
    let deadline = Instant::now() + LOCK_LIMIT;
    loop {
        // SAFETY: an open file and integers.
        match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
            Ok(_) => return Ok(file),
            Err(error) if Instant::now() > deadline => {
                return Err(Error::system("lock (another spawner uses this data folder)", error));
            }
            // The one before is ending: it saw its server go. Nothing announces that.
            Err(_) => std::thread::sleep(LOCK_STEP),
        }
    }
}

/// `D/run`, where the server finds the link sockets.
fn ensure_run(data: BorrowedFd<'_>, config: &Config, level: Level) -> Result<()> {
    match dir::make(data, c"run", 0o711) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        result => result.step("make run")?,
    }
    if level == Level::Root {
        let run = dir::open_dir(data, c"run").step("open run")?;
        dir::own(run.as_fd(), config.server_uid, config.server_gid).step("own run")?;
    }
    Ok(())
}

/// The sandboxes that an earlier spawner started and that still run.
fn adopt(workspaces: BorrowedFd<'_>, boot: &meta::Boot) -> Result<HashMap<u128, Sandbox>> {
    let mut running = HashMap::new();
    for entry in dir::list(workspaces).step("list workspaces")? {
        let Some(ws) = entry.folder_name().and_then(names::parse_workspace) else { continue };
        let folder = dir::open_dir(workspaces, &entry.name).step("open workspace")?;
        let Some(meta) = Meta::read(folder.as_fd()).step("read meta")? else { continue };
        if let Some(pidfd) = meta.process(boot) {
            let sandbox = Sandbox {
                pid: meta.pid,
                pidfd,
                generation: meta.generation,
                phase: Phase::Running,
            };
            running.insert(ws, sandbox);
        }
    }
    Ok(running)
}

/// Clears away what an earlier spawner was in the middle of when it ended.
fn tidy(state: &mut State) -> Result<()> {
    let known = |name: &str| {
        names::parse_workspace(name)
            .is_some_and(|ws| state.running.contains_key(&ws) && !names::is_throw_away(ws))
    };
    state.left_groups = state.host.clear_unknown(known)?;
    let throw_away: Vec<u128> =
        state.running.keys().copied().filter(|ws| names::is_throw_away(*ws)).collect();
    for ws in throw_away {
        if let Some(sandbox) = state.running.remove(&ws) {
            // It may have ended meanwhile.
            let _ = crate::sys::process::signal(sandbox.pidfd.as_fd(), libc::SIGKILL);
        }
    }
    for (ws, sandbox) in &state.running {
        // A copy that was cut short has left it frozen; whoever froze it on purpose does so again.
        if state.host.may_be_frozen(sandbox.pid) {
            let _ = state.host.set_frozen(&names::workspace(*ws), sandbox.pid, Frozen::No);
        }
    }
    let folder = state.workspaces.try_clone().step("open workspaces")?;
    for entry in dir::list(folder.as_fd()).step("list workspaces")? {
        let id = entry.folder_name().and_then(names::parse_workspace);
        if id.is_some_and(names::is_throw_away) {
            state.discard(folder.as_fd(), &entry.name)?;
        }
    }
    let folder = state.layers.try_clone().step("open layers")?;
    for entry in dir::list(folder.as_fd()).step("list layers")? {
        // A copy that was cut short.
        if entry.name.to_bytes().starts_with(b".new-") {
            state.discard(folder.as_fd(), &entry.name)?;
        }
    }
    Ok(())
}
