//! The runner, its link and what it writes: ending it, speaking for it, taking its place.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    Attack, Finding, attack,
    calls::{call, errno},
    http, inside_only,
    processes::runners,
    worst,
};
use crate::{
    fds::{Hello, Kind},
    sys::process::pidfd_open,
};

/// How long a process that poses as the first one is looked at.
const LOOK: Duration = Duration::from_secs(1);

pub(super) const ATTACKS: &[Attack] = &[
    inside_only("kill-first", "Ends and stops the sandbox's first process", |_| {
        let signals = [libc::SIGKILL, libc::SIGSTOP, libc::SIGTERM, libc::SIGSEGV, libc::SIGHUP];
        worst(signals.map(|signal| {
            let finding = match call(libc::SYS_kill, &[1, signal as usize]) {
                // We would not be here: with it, everything ends. The kernel keeps such signals away.
                Ok(_) if alive(1) => {
                    Finding::contained("it lives: signals of its own don't arrive")
                }
                done => Finding::of(done),
            };
            (format!("signal {signal}"), finding)
        }))
    }),
    attack("signal-runner", "Ends the runner that serves the workspace", |_| {
        worst(runners().map(|pid| {
            // By the harmless signal, which asks the same question.
            let by_number = own_only(call(libc::SYS_kill, &[pid as usize, 0]));
            let by_thread = own_only(call(libc::SYS_tgkill, &[pid as usize, pid as usize, 0]));
            let held = i32::try_from(pid).map_err(io::Error::other).and_then(pidfd_open);
            let by_descriptor = own_only(held.and_then(|pidfd| {
                call(libc::SYS_pidfd_send_signal, &[pidfd.as_raw_fd() as usize, 0, 0, 0])
            }));
            let each = [("kill", by_number), ("tgkill", by_thread), ("pidfd", by_descriptor)];
            (pid.to_string(), worst(each.map(|(name, finding)| (name.to_owned(), finding))))
        }))
    }),
    inside_only(
        "limits-of-runner",
        "Takes the runner's descriptors and memory by its limits",
        |_| {
            worst([1].into_iter().chain(runners()).map(|pid| {
                let few = libc::rlimit { rlim_cur: 1 << 15, rlim_max: 1 << 16 };
                let arguments =
                    [pid as usize, libc::RLIMIT_NOFILE as usize, (&raw const few) as usize, 0];
                (pid.to_string(), own_only(call(libc::SYS_prlimit64, &arguments)))
            }))
        },
    ),
    inside_only("priority-of-runner", "Lets the runner wait for everybody else", |_| {
        worst([1].into_iter().chain(runners()).map(|pid| {
            let nice = call(libc::SYS_setpriority, &[libc::PRIO_PROCESS as usize, pid as usize, 1]);
            (pid.to_string(), own_only(nice))
        }))
    }),
    inside_only("memory-score-of-runner", "Has the kernel end the runner first for memory", |_| {
        worst([1].into_iter().chain(runners()).map(|pid| {
            let path = format!("/proc/{pid}/oom_score_adj");
            (pid.to_string(), own_only(fs::write(path, "1000")))
        }))
    }),
    attack("write-spool", "Writes events past the runner, into its spool", |_| {
        worst([1].into_iter().chain(runners()).flat_map(|pid| [3, 4, 6].map(|fd| (pid, fd))).map(
            |(pid, fd)| {
                let path = format!("/proc/{pid}/fd/{fd}");
                (path.clone(), Finding::of(fs::OpenOptions::new().append(true).open(path)))
            },
        ))
    }),
    attack("own-link", "Speaks to its own link's socket, as the server does", |c| {
        let run = c.bait.data.as_ref().map(|data| data.join("run"));
        let listed = run.iter().flat_map(|run| fs::read_dir(run).into_iter().flatten().flatten());
        let mut found: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
        found.extend(c.bait.neighbour.as_ref().and_then(|neighbour| neighbour.link.clone()));
        worst(found.iter().map(|path| (path.display().to_string(), greet(path))))
    }),
    attack(
        "bound-sockets",
        "Greets every unix socket that the kernel lists, as the server does",
        |_| {
            let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
            let names = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7));
            let paths: Vec<PathBuf> =
                names.filter(|name| name.starts_with('/')).map(PathBuf::from).collect();
            worst(paths.iter().map(|path| (path.display().to_string(), greet(path))))
        },
    ),
    attack("link-at-the-doors", "Speaks the link's greeting at every door of the loopback", |c| {
        let doors = [c.bait.proxy, c.bait.gateway, c.bait.resolver];
        worst(doors.into_iter().map(|door: SocketAddr| {
            let answers =
                [Kind::Ping, Kind::Link].map(|kind| http::ask(door, &Hello { kind }.encode()));
            let spoken = answers.iter().flatten().any(|answer| answer.starts_with(b"BYOK"));
            let finding = if spoken {
                Finding::escaped("the link answers")
            } else {
                Finding::blocked("no such answer")
            };
            (door.to_string(), finding)
        }))
    }),
    attack("pose-as-first", "Runs the runner's program as a first process of its own", |_| pose()),
    attack("leave-its-group", "Leaves the control group by which it is stopped", |_| {
        let id = std::process::id().to_string();
        let mut places: Vec<PathBuf> =
            ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs"]
                .map(PathBuf::from)
                .into();
        for pid in [1].into_iter().chain(runners()) {
            places.push(format!("/proc/{pid}/fd/6/cgroup.procs").into());
            places.push(format!("/proc/{pid}/fd/6/../cgroup.procs").into());
        }
        worst(
            places
                .iter()
                .map(|path| (path.display().to_string(), Finding::of(fs::write(path, &id)))),
        )
    }),
    attack("change-runners-settings", "Changes what the runner and git read for all", |_| {
        let files = [
            "/etc/gitconfig",
            "/etc/passwd",
            "/etc/hosts",
            "/etc/resolv.conf",
            "/etc/environment",
            "/etc/ld.so.preload",
        ];
        worst(files.map(|path| {
            let open = fs::OpenOptions::new().append(true).create(true).open(path);
            (path.to_owned(), Finding::of(open))
        }))
    }),
];

/// Whether there is only one id: then the runner's processes are the worker's too, as is said of
/// this level of isolation.
fn is_single() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().nth(2) == Some("1")
}

/// Success reaches the workspace's own runner only: where there is one id that is known and said.
fn own_only<T>(result: io::Result<T>) -> Finding {
    match result {
        Ok(_) if is_single() => {
            Finding::contained("with one id it may; the workspace's own runner only")
        }
        result => Finding::of(result),
    }
}

fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") T "))
}

fn greet(path: &Path) -> Finding {
    let answer = UnixStream::connect(path).and_then(|mut stream| {
        stream.set_read_timeout(Some(LOOK))?;
        stream.write_all(&Hello { kind: Kind::Ping }.encode())?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    });
    match answer {
        Ok(answer) if &answer == b"BYOK" => Finding::escaped("the link answers"),
        Ok(_) => Finding::blocked("another answer"),
        Err(error) => Finding::blocked(errno(&error)),
    }
}

fn pose() -> Finding {
    let started = Command::new("/proc/self/exe")
        .arg("init")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env_clear()
        .env(crate::fds::ENV_GENERATION, "1000000")
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return Finding::blocked(errno(&error)),
    };
    let began = Instant::now();
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if began.elapsed() < LOOK => std::thread::sleep(Duration::from_millis(10)),
            _ => break None,
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    match ended {
        Some(status) => Finding::blocked(format!("it ended: {status}")),
        None => Finding::contained("it runs, and nobody speaks to it"),
    }
}
