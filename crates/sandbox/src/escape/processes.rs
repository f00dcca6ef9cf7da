//! Other processes: tracing them, their memory, environment and descriptors; and what was left
//! open for this one.

use std::{fs, io, os::fd::AsRawFd as _};

use super::{
    Attack, Context, Finding, attack,
    calls::{call, call_fd, errno, forked},
    files::numbers,
    neighbours::environment,
    worst,
};
use crate::sys::{check, process::pidfd_open};

pub(super) const ATTACKS: &[Attack] = &[
    attack("trace-first", "Traces the sandbox's first process", |_| trace(1)),
    attack("trace-runner", "Traces the runner", |_| worst(runners().map(named(trace)))),
    attack("trace-host-process", "Traces a process of the host", |c| trace(c.bait.host.process)),
    attack("memory-of-first", "Reads the first process's memory, map and environment", |_| {
        private(1)
    }),
    attack("memory-of-runner", "Reads the runner's memory, map and environment", |_| {
        worst(runners().map(named(private)))
    }),
    attack("memory-by-call", "Reads and writes other processes' memory by process_vm_readv", |c| {
        worst([1, c.bait.host.process].into_iter().chain(runners()).map(named(by_call)))
    }),
    attack("environment-of-host-process", "Reads the environment of a process of the host", |c| {
        environment(c, &c.bait.token)
    }),
    attack("signal-host-process", "Signals a process of the host by its number", |c| {
        let pid = c.bait.host.process;
        let is_it = fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&c.bait.token));
        match call(libc::SYS_kill, &[pid as usize, 0]) {
            Ok(_) if is_it || c.bait.outside => Finding::escaped("it is reached"),
            Ok(_) => Finding::contained("the number is another process's here"),
            Err(error) => Finding::blocked(errno(&error)),
        }
    }),
    attack("descriptor-of-first", "Takes a descriptor out of the first process", |_| take_from(1)),
    attack("descriptor-of-runner", "Takes a descriptor out of the runner", |_| {
        worst(runners().map(named(take_from)))
    }),
    attack("open-descriptors-of-runner", "Opens what the runner has open, through /proc", |_| {
        worst(
            [1].into_iter().chain(runners()).flat_map(|pid| (0..24).map(move |fd| (pid, fd))).map(
                |(pid, fd)| {
                    let path = format!("/proc/{pid}/fd/{fd}");
                    let finding = Finding::of(fs::File::open(&path));
                    (path, finding)
                },
            ),
        )
    }),
    attack("compare-with-runner", "Compares kernel objects with the runner's", |_| {
        let own = std::process::id() as usize;
        Finding::guarded(call(libc::SYS_kcmp, &[own, 1, 0, 0, 0]))
    }),
    attack("left-open", "Looks for descriptors that were left open for it", left_open),
    attack("secrets-in-environment", "Looks for keys in its own environment", |c| {
        let found = std::env::vars_os().find(|(_, value)| {
            let value = value.to_string_lossy();
            c.bait.token.len() > 8 && value.contains(&c.bait.token)
        });
        match found {
            Some((name, _)) => Finding::escaped(format!("{} holds one", name.display())),
            None => Finding::blocked(format!("none in {} variables", std::env::vars_os().count())),
        }
    }),
    attack("scheduling", "Takes the processor before everybody on the host", |_| {
        let realtime = libc::sched_param { sched_priority: 1 };
        // SAFETY: a valid structure.
        let fifo =
            check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const realtime) });
        // SAFETY: integers only.
        let nice = check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) });
        // IOPRIO_WHO_PROCESS, this one, class real-time.
        let disk = call(libc::SYS_ioprio_set, &[1, 0, 1 << 13]);
        worst([
            ("real time".to_owned(), Finding::of(fifo)),
            ("niceness".to_owned(), Finding::of(nice)),
            ("disk".to_owned(), Finding::of(disk)),
        ])
    }),
    attack("raise-limits", "Raises the limits of its own process", |_| {
        let all = [
            ("files", libc::RLIMIT_NOFILE),
            ("core files", libc::RLIMIT_CORE),
            ("niceness", libc::RLIMIT_NICE),
            ("locked memory", libc::RLIMIT_MEMLOCK),
        ];
        worst(all.map(|(name, resource)| (name.to_owned(), Finding::of(raise(resource)))))
    }),
];

/// The runner's processes here: whatever is not ours.
pub(super) fn runners() -> impl Iterator<Item = u32> {
    let own = std::process::id();
    numbers().filter_map(|name| name.parse().ok()).filter(move |pid| {
        let is_runner = || {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // The fork of the first process that serves, and whatever has its name.
            name.starts_with("boatyard-serve")
        };
        *pid != own && is_runner()
    })
}

fn named(attempt: fn(u32) -> Finding) -> impl Fn(u32) -> (String, Finding) {
    move |pid| (format!("process {pid}"), attempt(pid))
}

fn trace(pid: u32) -> Finding {
    let ways = [("seize", libc::PTRACE_SEIZE), ("attach", libc::PTRACE_ATTACH)];
    worst(ways.map(|(name, request)| {
        let traced = call(libc::SYS_ptrace, &[request as usize, pid as usize, 0, 0]);
        if traced.is_ok() {
            // Whom it is let go of goes on.
            let _ = call(libc::SYS_kill, &[pid as usize, libc::SIGCONT as usize]);
            let _ = call(libc::SYS_ptrace, &[libc::PTRACE_DETACH as usize, pid as usize, 0, 0]);
        }
        (name.to_owned(), Finding::of(traced))
    }))
}

fn private(pid: u32) -> Finding {
    worst(["mem", "environ", "auxv", "syscall", "stack"].map(|file| {
        let path = format!("/proc/{pid}/{file}");
        let mut byte = [0];
        let read = fs::File::open(&path).and_then(|mut open| match file {
            // Nothing is mapped at 0: to have it open is enough.
            "mem" => Ok(0),
            _ => io::Read::read(&mut open, &mut byte),
        });
        let finding = match read {
            Ok(0) if file != "mem" => Finding::blocked("empty"),
            read => Finding::of(read),
        };
        (path, finding)
    }))
}

fn by_call(pid: u32) -> Finding {
    let mut room = [0u8; 8];
    let local = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // Nothing is there; who may not look is told so before that is seen.
    let remote =
        libc::iovec { iov_base: std::ptr::without_provenance_mut(4096), iov_len: room.len() };
    let at = [(&raw const local) as usize, (&raw const remote) as usize];
    worst([libc::SYS_process_vm_readv, libc::SYS_process_vm_writev].map(|number| {
        let done = call(number, &[pid as usize, at[0], 1, at[1], 1, 0]);
        let finding = match done {
            // No such process: nothing was looked at.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Finding::blocked("ESRCH"),
            done => Finding::guarded(done),
        };
        (format!("call {number}"), finding)
    }))
}

fn take_from(pid: u32) -> Finding {
    let held = i32::try_from(pid).map_err(io::Error::other).and_then(pidfd_open);
    match held {
        Err(error) => Finding::blocked(errno(&error)),
        Ok(pidfd) => worst((0..9usize).map(|fd| {
            let taken = call_fd(libc::SYS_pidfd_getfd, &[pidfd.as_raw_fd() as usize, fd, 0]);
            (format!("descriptor {fd}"), Finding::of(taken))
        })),
    }
}

/// Beyond the three there is only what this program opened itself: a pipe to its parent.
fn left_open(c: &Context<'_>) -> Finding {
    let own: Vec<String> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let mut count = 0;
    for name in own.iter().filter(|name| name.parse::<u32>().is_ok_and(|fd| fd > 2)) {
        let Ok(target) = fs::read_link(format!("/proc/self/fd/{name}")) else { continue };
        let target = target.display().to_string();
        let is_own = target.starts_with("/proc/") || target.starts_with("pipe:");
        if !is_own {
            return Finding::escaped(format!("{name} is {target}"));
        }
        count += 1;
    }
    // A folder among the three leads around the root.
    for fd in 0..3 {
        let inner = c.bait.host.file.strip_prefix("/").unwrap_or(&c.bait.host.file);
        let path = format!("/proc/self/fd/{fd}/{}{}", "../".repeat(20), inner.display());
        if fs::read(&path)
            .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&c.bait.token))
        {
            return Finding::escaped(format!("{fd} leads to the host"));
        }
    }
    // A child must inherit none of the parent's own either.
    let inherited = forked(|| i32::from(fs::read_dir("/proc/1/fd").is_ok()));
    Finding::blocked(format!(
        "none but {count} of its own{}",
        match inherited {
            Ok(_) => "",
            Err(_) => ", and no child could be made",
        }
    ))
}

fn raise(resource: libc::__rlimit_resource_t) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid structure, which the kernel fills or reads.
    unsafe {
        check(libc::getrlimit(resource, &raw mut limit))?;
        let before = limit;
        if before.rlim_max == libc::RLIM_INFINITY {
            return Err(io::Error::other("there is no limit to raise"));
        }
        limit.rlim_max += 1;
        check(libc::setrlimit(resource, &raw const limit))?;
        check(libc::setrlimit(resource, &raw const before))?;
    }
    Ok(())
}
