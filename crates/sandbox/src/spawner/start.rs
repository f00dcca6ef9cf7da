//! Making a sandbox: the spawner's side.
//!
//! ```text
//! spawner                                   child
//! cgroup
//! clone3 ─────────────────────────────────► waits
//! id maps ── MAPPED ──────────────────────► root, mounts, network
//! trees, folders, spool, link socket
//!         ── TREES, with descriptors ─────► overlay, pivot
//! meta, version 1 groups ── GATE ─────────► limits, hardening, exec
//! ◄─────────────────────────── end of file (or errno and step)
//! ```
//!
//! The record in `meta` is written before the gate opens, so that a first process that runs is
//! always known to the next spawner, whenever this one dies: before the gate, the child dies too,
//! since its socket closes.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    time::Instant,
};

use super::{
    files,
    hint::refuse,
    ids::RANGE,
    meta::Meta,
    state::{Level, State},
};
use crate::{
    Error, Result,
    cgroup::host::Groups,
    error::Step as _,
    inside::setup::{self, GATE, MAPPED, PARKING, Rlimits, STATE, Setup, TREES},
    names,
    protocol::{Failure, FailureKind, LimitsBy, Start},
    sys::{
        check, dir,
        mount::{self, Depth, NODEV, NOEXEC, NOSUID, RDONLY},
        process::{self, Fork, Process, Wait, fork, reap, start_time},
        socket::{self, Blocking},
    },
};

/// The namespaces of a sandbox. The one for control groups follows once it is in its groups.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;
/// The least memory that a sandbox can work with, in bytes.
const MEMORY_MIN: u64 = 16 << 20;
/// The generation of a workspace's first start, which makes the place for its files.
const FIRST: u64 = 1;
/// The fewest processes: the first, `serve`, and something to run.
const PROCESSES_MIN: u32 = 4;

/// A child that sets itself up.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) process: Process,
    pub(super) sync: OwnedFd,
    pub(super) clone_us: u32,
    pub(super) unclean: bool,
    /// Old work folders, by their names in the trash.
    pub(super) discarded: Vec<CString>,
}

/// A child that waits for the spawner's part.
struct Prepare<'a> {
    start: &'a Start,
    process: &'a Process,
    /// The first id of its range.
    base: u32,
    mirror: Option<OwnedFd>,
    sync: &'a OwnedFd,
    /// The name of its work folder.
    work: &'a CString,
}

impl State {
    /// Makes the namespaces and sets the child going; it is up when the end of
    /// [`Begun::sync`] comes.
    pub(super) fn begin(&mut self, start: &Start, since: Instant) -> Result<Begun> {
        let limits = start.limits;
        if limits.memory_bytes < MEMORY_MIN || limits.processes < PROCESSES_MIN {
            return Err(refuse(FailureKind::Invalid, "limits"));
        }
        self.quiet(start.ws)?;
        let folder = match self.existing(start.ws) {
            // Nothing can have been lost of a workspace that never ran.
            Err(Error::Refused(Failure { kind: FailureKind::Missing, .. }))
                if start.generation == FIRST =>
            {
                self.create(start.ws)?;
                self.existing(start.ws)?
            }
            folder => folder?,
        };
        let meta = Meta::read(folder.as_fd()).step("read meta")?.unwrap_or_default();
        if start.generation <= meta.generation {
            return Err(refuse(FailureKind::Invalid, "generation"));
        }
        for layer in &start.lowers {
            if !dir::exists(self.layers.as_fd(), &names::layer(*layer)).step("find layer")? {
                let name = names::layer(*layer);
                return Err(refuse(
                    FailureKind::Missing,
                    &format!("layer {}", name.to_string_lossy()),
                ));
            }
        }
        let mirror = start.mirror.map(|id| self.mirror(id)).transpose()?;
        let work = CString::new(format!("w-{}", start.generation)).unwrap_or_default();
        let base = match self.level {
            Level::Root => self.ids.base(start.ws)?,
            Level::UserRange | Level::UserSingle => 0,
        };
        let name = names::workspace(start.ws);
        let groups = self.host.create(&name, &limits, (base, base))?;
        let (ours, theirs) = socket::pair(Blocking::Yes).step("socket pair")?;
        let parked = park(&theirs)?;
        drop(theirs);
        let overlay = overlay_options(start, &work)?;
        let setup = Setup {
            sync: parked.as_fd(),
            cgroup: groups.unified.as_ref().map(AsFd::as_fd),
            runner: self.runner.as_fd(),
            filter: &self.filter,
            overlay: &overlay,
            has_mirror: mirror.is_some(),
            network: start.network,
            capture: self.capture,
            tmp_bytes: if limits.tmp_bytes == 0 {
                limits.memory_bytes / 8
            } else {
                limits.tmp_bytes
            },
            rlimits: (self.host.limits_by() == LimitsBy::Rlimits).then_some(Rlimits {
                processes: u64::from(limits.processes),
                data_bytes: limits.memory_bytes,
            }),
            ids: self.level.inside(),
            generation: start.generation,
        };
        let process = spawn(&setup, &groups, &ours)?;
        let clone_us = micros(since);
        drop(parked);
        let prepared = Prepare { start, process: &process, base, mirror, sync: &ours, work: &work };
        match self.prepare(prepared, folder.as_fd(), &meta) {
            Ok((unclean, discarded)) => {
                Ok(Begun { process, sync: ours, clone_us, unclean, discarded })
            }
            Err(error) => {
                self.abandon(&process, &name);
                Err(told_by_child(&ours).unwrap_or(error))
            }
        }
    }

    /// What only the spawner can do for the child. Says whether the files are unclean, and what
    /// it moved to the trash.
    fn prepare(
        &mut self,
        child: Prepare<'_>,
        folder: BorrowedFd<'_>,
        before: &Meta,
    ) -> Result<(bool, Vec<CString>)> {
        let Prepare { start, process, base, mirror, sync, work } = child;
        let pid = process.pid;
        let map = match self.level {
            Level::Root => format!("0 {base} {RANGE}"),
            Level::UserRange => format!("0 0 {RANGE}"),
            Level::UserSingle => "0 0 1".to_owned(),
        };
        fs::write(format!("/proc/{pid}/uid_map"), &map).step("uid map")?;
        fs::write(format!("/proc/{pid}/gid_map"), &map).step("gid map")?;
        socket::send(sync.as_fd(), &[MAPPED], &[]).step("send mapped")?;

        let (unclean, discarded) = if before.generation == 0 {
            (false, Vec::new())
        } else {
            self.clear_work_folders(folder, before)?
        };
        if !dir::exists(folder, files::UPPER).step("find changes")? {
            self.make_upper(folder)?;
        }
        let work = dir::ensure(folder, work, 0o755).step("make work folder")?;
        if self.has_quota() {
            let upper = dir::open_dir(folder, files::UPPER).step("open changes")?;
            self.limit_disk(upper.as_fd(), work.as_fd(), start.limits.disk_bytes)?;
        }
        let spool = files::spool(folder)?;
        let link = self.bind_link(start.ws)?;
        let state = mount::copy(self.sandboxes.as_fd(), c"", Depth::One).step("state tree")?;
        if self.level == Level::Root {
            let userns = File::open(format!("/proc/{pid}/ns/user")).step("id-mapped mount")?;
            mount::map_ids(state.as_fd(), userns.as_fd()).step("id-mapped mount")?;
        } else {
            mount::restrict(state.as_fd(), NOSUID | NODEV, Depth::One).step("state tree")?;
        }
        let fds: Vec<i32> =
            [&state, &link, &spool].into_iter().chain(&mirror).map(AsRawFd::as_raw_fd).collect();
        socket::send(sync.as_fd(), &[TREES], &fds).step("send trees")?;

        let meta = Meta {
            generation: start.generation,
            pid,
            start_time: start_time(pid).step("read start time")?,
            boot: self.boot,
        };
        meta.write(folder).step("write meta")?;
        self.host.join_legacy(&names::workspace(start.ws), &start.limits, pid)?;
        socket::send(sync.as_fd(), &[GATE], &[]).step("open gate")?;
        Ok((unclean, discarded))
    }

    /// Ends a child that could not be set up, and what was made for it.
    fn abandon(&mut self, process: &Process, name: &CString) {
        // It may have ended by itself; either way it is reaped next.
        let _ = process::signal(process.pidfd.as_fd(), libc::SIGKILL);
        let _ = reap(process.pidfd.as_fd(), Wait::Block);
        if self.host.remove(name).is_err() {
            self.left_groups.push(name.clone());
        }
    }

    /// The bare mirror, read-only, as a tree of its own.
    fn mirror(&self, id: u128) -> Result<OwnedFd> {
        let open = || {
            let mirrors = dir::open_dir(self.data.as_fd(), c"mirrors")?;
            dir::open_dir(mirrors.as_fd(), &names::mirror(id))
        };
        let folder = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refuse(FailureKind::Missing, "mirror"));
            }
            result => result.step("open mirror")?,
        };
        let tree = mount::copy(folder.as_fd(), c"", Depth::One).step("mirror tree")?;
        mount::restrict(tree.as_fd(), RDONLY | NOSUID | NODEV | NOEXEC, Depth::One)
            .step("mirror tree")?;
        Ok(tree)
    }

    /// Moves the work folders of earlier starts to the trash, and says whether one of an earlier
    /// boot was in use when the host went down: the overlay leaves a mark there, which goes away
    /// by a sync of the stopped workspace only.
    fn clear_work_folders(
        &mut self,
        folder: BorrowedFd<'_>,
        meta: &Meta,
    ) -> Result<(bool, Vec<CString>)> {
        let mut unclean = false;
        let mut discarded = Vec::new();
        for entry in dir::list(folder).step("list workspace")? {
            if !entry.name.to_bytes().starts_with(b"w-") {
                continue;
            }
            let mut mark = entry.name.clone().into_bytes();
            mark.extend_from_slice(b"/work/incompat/volatile");
            let mark = CString::new(mark).unwrap_or_default();
            unclean |= meta.boot != self.boot && dir::exists(folder, &mark).unwrap_or(false);
            discarded.push(self.discard(folder, &entry.name)?);
        }
        Ok((unclean, discarded))
    }

    /// The link socket `D/run/<ws>.sock`, bound and not yet listening, in the server's name: the
    /// folder is the server's, so nothing there is done with more rights than it has.
    fn bind_link(&self, ws: u128) -> Result<OwnedFd> {
        // SAFETY: integers only; the result is a new descriptor.
        let socket = unsafe {
            let fd = check(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0));
            OwnedFd::from_raw_fd(fd.step("link socket")?)
        };
        let name = names::socket(ws);
        self.as_server(|run| {
            match dir::unlink(run, &name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let path = std::ffi::OsString::from_vec(
                [format!("/proc/self/fd/{}/", run.as_raw_fd()).as_bytes(), name.to_bytes()]
                    .concat(),
            );
            bind(&socket, &path)
        })
        .step("link socket")?;
        Ok(socket)
    }

    /// Takes the link socket's path away.
    pub(super) fn unlink_link(&self, ws: u128) {
        // The server may have taken it away itself; a path without a listener harms nobody.
        let _ = self.as_server(|run| dir::unlink(run, &names::socket(ws)));
    }

    /// Acts in `D/run` with the server's rights.
    fn as_server<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        let run = dir::open_dir(self.data.as_fd(), c"run")?;
        if self.level != Level::Root {
            return act(run.as_fd());
        }
        // SAFETY: integers only; they change how this thread, the only one, opens files, until
        // they are set back right below.
        unsafe {
            libc::setfsgid(self.config.server_gid);
            libc::setfsuid(self.config.server_uid);
        }
        let result = act(run.as_fd());
        // SAFETY: as above.
        unsafe {
            libc::setfsuid(0);
            libc::setfsgid(0);
        }
        result
    }
}

/// What the child has reported, if it has.
pub(super) fn told_by_child(sync: &OwnedFd) -> Option<Error> {
    if socket::wait(sync.as_fd(), libc::POLLIN, Some(0)).ok()? == 0 {
        return None;
    }
    let mut buffer = [0; 256];
    let received = socket::receive(sync.as_fd(), &mut buffer).ok()?;
    let (errno, step) = buffer[..received.length].split_first_chunk::<4>()?;
    Some(Error::system(
        String::from_utf8_lossy(step).into_owned(),
        io::Error::from_raw_os_error(i32::from_le_bytes(*errno)),
    ))
}

/// Microseconds since `since`.
pub(super) fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

fn spawn(setup: &Setup<'_>, groups: &Groups, ours: &OwnedFd) -> Result<Process> {
    let cgroup = groups.unified.as_ref().map(AsFd::as_fd);
    // SAFETY: the spawner has one thread.
    match unsafe { fork(NAMESPACES, cgroup) }.step("clone")? {
        Fork::Parent(process) => Ok(process),
        Fork::Child => {
            // Ours would keep the socket open when the spawner dies, and we would wait for ever.
            // SAFETY: nothing in the child uses this copy.
            unsafe { libc::close(ours.as_raw_fd()) };
            let Err(error) = setup::run(setup);
            setup::report(setup.sync, &error);
            process::exit(1)
        }
    }
}

fn overlay_options(start: &Start, work: &CString) -> Result<CString> {
    let workspace = names::workspace(start.ws);
    let workspace = workspace.to_string_lossy();
    let lowers = if start.lowers.is_empty() {
        format!("{STATE}/empty")
    } else {
        let paths: Vec<String> = start
            .lowers
            .iter()
            .map(|layer| format!("{STATE}/layers/{}", names::layer(*layer).to_string_lossy()))
            .collect();
        paths.join(":")
    };
    let upper = files::UPPER.to_string_lossy();
    let work = work.to_string_lossy();
    CString::new(format!(
        "lowerdir={lowers},upperdir={STATE}/ws/{workspace}/{upper},\
         workdir={STATE}/ws/{workspace}/{work},userxattr,volatile"
    ))
    .map_err(|_| Error::invalid("zero byte"))
}

/// The same file at a number above all that are well known.
fn park(fd: &OwnedFd) -> Result<OwnedFd> {
    // SAFETY: integers only; the result is a new descriptor.
    unsafe {
        let copy = check(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, PARKING));
        Ok(OwnedFd::from_raw_fd(copy.step("socket pair")?))
    }
}

fn bind(socket: &OwnedFd, path: &std::ffi::OsStr) -> io::Result<()> {
    let path = std::os::unix::ffi::OsStrExt::as_bytes(path);
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if path.len() >= address.sun_path.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in address.sun_path.iter_mut().zip(path) {
        *to = from.cast_signed();
    }
    // SAFETY: the address is of the size given; the mask is set back at once.
    unsafe {
        let mask = libc::umask(0o177);
        let result = check(libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        ));
        libc::umask(mask);
        result?;
    }
    Ok(())
}
