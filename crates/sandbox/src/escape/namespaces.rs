//! Namespaces: new ones, in which one would be root again, and those of others.

use std::{fs, io, os::fd::AsRawFd as _};

use super::{
    Attack, Context, Finding, attack,
    calls::{call, errno, forked},
    run::owned,
    worst,
};
use crate::sys::{check, process::pidfd_open};

/// Request codes of namespaces' and sockets' descriptors.
const NS_GET_USERNS: libc::c_ulong = 0xb701;
const NS_GET_PARENT: libc::c_ulong = 0xb702;
const SIOCGSKNS: libc::c_ulong = 0x894c;

pub(super) const ATTACKS: &[Attack] = &[
    attack("unshare-user", "Becomes root in a user namespace of its own", |_| {
        unshare(libc::CLONE_NEWUSER)
    }),
    attack("unshare-mount", "Takes mounts of its own", |_| unshare(libc::CLONE_NEWNS)),
    attack("unshare-network", "Takes a network of its own", |_| unshare(libc::CLONE_NEWNET)),
    attack("unshare-processes", "Takes process numbers of its own", |_| {
        unshare(libc::CLONE_NEWPID)
    }),
    attack(
        "unshare-rest",
        "Takes a host name, queues, control groups and a clock of its own",
        |_| {
            let flags = [
                ("uts", libc::CLONE_NEWUTS),
                ("ipc", libc::CLONE_NEWIPC),
                ("cgroup", libc::CLONE_NEWCGROUP),
                ("time", 0x80),
            ];
            worst(flags.map(|(name, flag)| (name.to_owned(), unshare(flag))))
        },
    ),
    attack("clone-user", "Starts a process in a user namespace of its own, by clone", |_| {
        let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as usize;
        started(call(libc::SYS_clone, &[flags, 0, 0, 0, 0]))
    }),
    attack("clone-all", "Starts a process in new namespaces of every kind, by clone", |_| {
        let flags = libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC;
        started(call(libc::SYS_clone, &[(flags | libc::SIGCHLD) as usize, 0, 0, 0, 0]))
    }),
    attack("clone3-user", "Starts a process in a user namespace of its own, by clone3", |_| {
        let mut arguments = [0u64; 11];
        arguments[0] = libc::CLONE_NEWUSER as u64;
        arguments[4] = libc::SIGCHLD as u64;
        started(call(libc::SYS_clone3, &[arguments.as_ptr() as usize, size_of_val(&arguments)]))
    }),
    attack("join-first", "Joins namespaces of the first process, by their files", |_| {
        worst(["mnt", "net", "pid", "user", "ipc", "uts"].map(|kind| {
            let finding = match fs::File::open(format!("/proc/1/ns/{kind}")) {
                Err(error) => Finding::blocked(errno(&error)),
                // In a child: it may work.
                Ok(file) => joined(file.as_raw_fd(), 0),
            };
            (kind.to_owned(), finding)
        }))
    }),
    attack("join-by-process", "Joins the namespaces of other processes by their pidfd", |c| {
        worst([1, c.bait.host.process].map(|pid| {
            let held = i32::try_from(pid).map_err(io::Error::other).and_then(pidfd_open);
            let finding = match held {
                Err(error) => Finding::blocked(errno(&error)),
                Ok(pidfd) => joined(pidfd.as_raw_fd(), libc::CLONE_NEWNS | libc::CLONE_NEWNET),
            };
            (format!("process {pid}"), finding)
        }))
    }),
    attack("parent-namespace", "Asks its namespaces for those above them", |_| {
        worst(
            [
                ("owner", "net", NS_GET_USERNS),
                ("parent", "user", NS_GET_PARENT),
                ("parent", "pid", NS_GET_PARENT),
            ]
            .map(|(name, kind, request)| {
                let above = fs::File::open(format!("/proc/self/ns/{kind}")).and_then(|file| {
                    // SAFETY: a request without an argument; the result is a new descriptor.
                    check(unsafe { libc::ioctl(file.as_raw_fd(), request as _) })
                });
                let finding = match above {
                    Err(error) => Finding::blocked(errno(&error)),
                    // Its own user namespace may be known; joining it again is another matter.
                    Ok(fd) => {
                        let fd = owned(fd);
                        match joined(fd.as_raw_fd(), 0) {
                            finding if name == "parent" => finding,
                            _ => Finding::contained("its own user namespace"),
                        }
                    }
                };
                (format!("{name} of {kind}"), finding)
            }),
        )
    }),
    attack("network-of-a-socket", "Asks a socket for the network that it belongs to", |c| {
        let asked = std::net::TcpStream::connect(c.bait.proxy)
            .or_else(|_| std::net::TcpStream::connect(c.bait.gateway))
            .and_then(|stream| {
                // SAFETY: a request without an argument; the result is a new descriptor.
                check(unsafe { libc::ioctl(stream.as_raw_fd(), SIOCGSKNS as _) })
            });
        match asked {
            Err(error) => Finding::blocked(errno(&error)),
            Ok(fd) => joined(owned(fd).as_raw_fd(), libc::CLONE_NEWNET),
        }
    }),
    attack("hosts-namespaces", "Looks whether it is in namespaces of the host", same),
];

fn unshare(flag: i32) -> Finding {
    // In a child, which is all that changes where it works.
    let done = forked(|| match call(libc::SYS_unshare, &[flag as usize]) {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(255),
    });
    coded(done)
}

fn joined(fd: i32, kinds: i32) -> Finding {
    let done = forked(|| match call(libc::SYS_setns, &[fd as usize, kinds as usize]) {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(255),
    });
    coded(done)
}

/// The errno that a child gave as its code.
fn coded(code: io::Result<i32>) -> Finding {
    match code {
        Ok(0) => Finding::escaped("it worked"),
        Ok(errno) if errno > 0 => Finding::guarded::<()>(Err(io::Error::from_raw_os_error(errno))),
        Ok(signal) => Finding::blocked(format!("signal {}", -signal)),
        Err(error) => Finding::skipped(format!("no child could be made: {error}")),
    }
}

/// The outcome of a fork by number: the child ends at once.
fn started(result: io::Result<i64>) -> Finding {
    if let Ok(0) = result {
        crate::sys::process::exit(0);
    }
    Finding::guarded(result)
}

fn same(c: &Context<'_>) -> Finding {
    let shared: Vec<&str> = c
        .bait
        .namespaces
        .iter()
        // The clock's is not changed.
        .filter(|(name, _)| !name.starts_with("time"))
        .filter(|(name, target)| {
            let own = fs::read_link(format!("/proc/self/ns/{name}"));
            own.is_ok_and(|own| own.to_str() == Some(target.as_str()))
        })
        .map(|(name, _)| name.as_str())
        .collect();
    if shared.is_empty() {
        Finding::blocked("all are its own")
    } else {
        Finding::escaped(format!("the host's: {}", shared.join(", ")))
    }
}
