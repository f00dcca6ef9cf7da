//! A throw-away sandbox, made and spoken to as any other, and what it shows about this machine.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use super::{
    hint,
    start::{Begun, told_by_child},
    state::{Level, State},
};
use crate::{
    CAPTURED_PORTS, Error, Result,
    error::Step as _,
    fds::{HELLO_LENGTH, Hello, Kind, PONG_LENGTH, Pong},
    names,
    protocol::{Capture, Check, FailureKind, Limits, LimitsBy, Network, Outcome, Report, Start},
    sys::{
        check, dir,
        process::{self, Wait, reap},
        socket,
    },
    tree,
};

/// How long each step may take.
const LIMIT: Duration = Duration::from_secs(10);
/// What the throw-away sandbox may use.
const LIMITS: Limits = Limits {
    memory_bytes: 256 << 20,
    processes: 32,
    cpu_millis: 0,
    tmp_bytes: 1 << 20,
    disk_bytes: 0,
};
/// `landlock_create_ruleset`'s flag that asks for the version.
const LANDLOCK_VERSION: u32 = 1;

/// Makes it, says hello to its first process, and ends it.
pub(super) fn probe(state: &mut State, since: Instant) -> Report {
    let limits = state.host.limits_by();
    let mut checks = vec![ids(state.level), groups(limits, state.host.tracks())];
    let mut isolation = state.isolation();
    match throw_away(state, since) {
        Ok(took) => {
            checks.push(works("namespaces", "user, pid, mount, network, ipc, uts, cgroup"));
            checks.push(works("overlay", "volatile, on the data folder's file system"));
            checks.push(works("seccomp", "one filter for everything inside"));
            checks.push(works("sandbox", &format!("its first process answered after {took:?}")));
        }
        Err(error) => {
            let failure = hint::failure(&error);
            checks.push(Check {
                name: "sandbox".into(),
                outcome: Outcome::Fails,
                detail: failure.to_string(),
            });
            isolation = None;
        }
    }
    checks.push(network(state.capture));
    checks.push(landlock());
    checks.push(quota(state));
    Report { isolation, limits, checks }
}

fn throw_away(state: &mut State, since: Instant) -> Result<Duration> {
    let mut random = [0u8; 8];
    // SAFETY: a buffer of the length given.
    check(unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) })
        .step("random id")?;
    // Below 2^80, which no workspace's id is.
    let ws = u128::from(u64::from_le_bytes(random)) + 1;
    state.create(ws)?;
    let result = live(state, ws, since);
    let removed = remove(state, ws);
    let took = result?;
    removed?;
    Ok(took)
}

fn live(state: &mut State, ws: u128, since: Instant) -> Result<Duration> {
    let start = Start {
        ws,
        generation: 1,
        lowers: Vec::new(),
        mirror: None,
        limits: LIMITS,
        network: Network::Egress,
    };
    let begun = state.begin(&start, since)?;
    let answered = until_it_answers(state, ws, &begun);
    let took = since.elapsed();
    // It may have ended by itself, which `answered` tells.
    let _ = process::signal(begun.process.pidfd.as_fd(), libc::SIGKILL);
    reap(begun.process.pidfd.as_fd(), Wait::Block).step("end of the throw-away sandbox")?;
    answered?;
    Ok(took)
}

fn until_it_answers(state: &State, ws: u128, begun: &Begun) -> Result<()> {
    if let Some(error) =
        wait(&begun.sync, "start of the throw-away sandbox").map(|()| told_by_child(&begun.sync))?
    {
        return Err(error);
    }
    let connection = connect(state, ws)?;
    // SAFETY: an open socket and buffers of the lengths given.
    check(unsafe {
        let hello = Hello { kind: Kind::Ping }.encode();
        libc::send(connection.as_raw_fd(), hello.as_ptr().cast(), HELLO_LENGTH, libc::MSG_NOSIGNAL)
    })
    .step("hello")?;
    wait(&connection, "answer of the first process")?;
    let mut pong = [0; PONG_LENGTH];
    // SAFETY: as above.
    check(unsafe {
        libc::recv(connection.as_raw_fd(), pong.as_mut_ptr().cast(), PONG_LENGTH, libc::MSG_WAITALL)
    })
    .step("answer of the first process")?;
    match Pong::decode(&pong) {
        Some(Pong { generation: 1, .. }) => Ok(()),
        _ => Err(hint::refuse(FailureKind::System, "answer of the first process")),
    }
}

fn remove(state: &mut State, ws: u128) -> Result<()> {
    state.unlink_link(ws);
    state.ids.release(ws)?;
    let name = names::workspace(ws);
    let deadline = Instant::now() + LIMIT;
    while let Err(error) = state.host.remove(&name) {
        if Instant::now() > deadline {
            return Err(error).step("cgroup rmdir");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let folder = state.workspace(ws)?;
    tree::remove_inside(folder.as_fd()).step("remove")?;
    dir::remove_empty(state.workspaces.as_fd(), &name).step("remove")
}

fn connect(state: &State, ws: u128) -> Result<OwnedFd> {
    let run = dir::open_dir(state.data.as_fd(), c"run").step("open run")?;
    let path = format!("/proc/self/fd/{}/{}", run.as_raw_fd(), names::socket(ws).to_string_lossy());
    std::os::unix::net::UnixStream::connect(path)
        .step("connect to the first process")
        .map(Into::into)
}

fn wait(fd: &OwnedFd, step: &str) -> Result<()> {
    let limit_ms = u64::try_from(LIMIT.as_millis()).unwrap_or(u64::MAX);
    match socket::wait(fd.as_fd(), libc::POLLIN, Some(limit_ms)).step(step)? {
        0 => Err(Error::Deadline { step: step.to_owned(), limit_ms }),
        _ => Ok(()),
    }
}

fn ids(level: Level) -> Check {
    match level {
        Level::Root => {
            works("ids", "a range of 65,536 for each workspace, shown by id-mapped mounts")
        }
        Level::UserRange => {
            weaker("ids", "one range of 65,536, shared by all workspaces of this user")
        }
        Level::UserSingle => weaker(
            "ids",
            "only this user's own id: inside, an agent could end the runner, and packages that \
             need other ids can't be installed; install uidmap and give this user a range in \
             /etc/subuid and /etc/subgid, or run Boatyard as root",
        ),
    }
}

fn groups(limits: LimitsBy, tracks: bool) -> Check {
    match (limits, tracks) {
        (LimitsBy::CgroupV2, _) => works("cgroup", "version 2 limits memory, processes and cpu"),
        (LimitsBy::CgroupV1, true) => weaker("cgroup", &v1_with_v2()),
        (LimitsBy::CgroupV1, false) => weaker(
            "cgroup",
            "version 1 limits (starting is slower); no version 2 is mounted to track sessions with",
        ),
        (LimitsBy::Rlimits, tracks) => Check {
            name: "cgroup".into(),
            outcome: Outcome::Weaker,
            detail: format!(
                "no control group is ours: memory is limited for each process only{}; run \
                 Boatyard as a service with Delegate=yes, or as root",
                if tracks { "" } else { ", and sessions are tracked by a mark in the environment" }
            ),
        },
    }
}

/// Version 1 can't start a process in its group: it is moved there, and the kernel lets every
/// processor pass a grace period for that, unless it was told to favour such changes (the mount
/// option `favordynmods`, since Linux 6.0). That is the whole machine's, so it is left to a person.
fn v1_with_v2() -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let is_favoured = mounts.lines().any(|line| line.contains("favordynmods"));
    let found = "version 1 limits, version 2 tracks and kills";
    let unified = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next()? == "cgroup2").then_some(place)
    });
    match unified {
        Some(place) if !is_favoured => format!(
            "{found}; `mount -o remount,favordynmods {place}` makes each start some milliseconds \
             faster, until the next boot"
        ),
        _ => found.to_owned(),
    }
}

/// What is caught of programs that know of no proxy.
fn network(capture: Capture) -> Check {
    match capture {
        Capture::AllPorts => works("network", "every connection is caught, whatever its port"),
        Capture::UsualPorts => {
            let ports = CAPTURED_PORTS.map(|port| port.to_string()).join(", ");
            weaker(
                "network",
                &format!(
                    "connections of programs that know of no proxy are caught on ports {ports} \
                     only, and refused on others: the kernel has no nf_tables with tproxy; \
                     `modprobe nft_tproxy`, then restart Boatyard"
                ),
            )
        }
    }
}

fn landlock() -> Check {
    // SAFETY: a null pointer and length 0 ask for the version only.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0usize,
            LANDLOCK_VERSION,
        )
    };
    if version > 0 {
        works("landlock", &format!("ABI {version}"))
    } else {
        weaker("landlock", "not in this kernel, or not switched on (lsm=landlock,…)")
    }
}

/// What keeps the limit on disk.
fn quota(state: &State) -> Check {
    match (state.has_quota(), state.level) {
        (true, _) => works("disk quota", "project quota: the file system keeps the limit"),
        (false, Level::Root) => weaker(
            "disk quota",
            "none on the data folder's file system: the limit on disk is watched, and a workspace \
             that reaches it is stopped",
        ),
        (false, Level::UserRange | Level::UserSingle) => weaker(
            "disk quota",
            "only root may set one: the limit on disk is watched, and a workspace that reaches it \
             is stopped",
        ),
    }
}

fn works(name: &str, detail: &str) -> Check {
    Check { name: name.into(), outcome: Outcome::Works, detail: detail.into() }
}

fn weaker(name: &str, detail: &str) -> Check {
    Check { name: name.into(), outcome: Outcome::Weaker, detail: detail.into() }
}
