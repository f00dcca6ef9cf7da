//! Other workspaces: their files, sockets, memory and processes, and what all share.

use std::{
    fs,
    io::{self, Read as _},
    net::TcpStream,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddress, UnixStream},
    },
    path::Path,
    time::Duration,
};

use super::{
    Attack, Bait, Context, Finding, Neighbour, attack,
    bait::Shared,
    calls::{call, errno},
    files::{holds, make, numbers, read, speak},
    worst,
};
use crate::sys::check;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(2);

pub(super) const ATTACKS: &[Attack] = &[
    attack("neighbour-files", "Reads another workspace's files where the host keeps them", |c| {
        of(c, |c, n| worst(n.files.iter().map(|path| (path.display().to_string(), read(c, path)))))
    }),
    attack("neighbour-tmp", "Reads another workspace's /tmp", |c| {
        of(c, |c, n| read(c, &n.shared.tmp))
    }),
    attack("neighbour-shared-memory-file", "Reads another workspace's /dev/shm", |c| {
        of(c, |c, n| read(c, &n.shared.memory_file))
    }),
    attack(
        "neighbour-work",
        "Reads another workspace's /work by the path that it has there",
        |c| of(c, |c, n| read(c, &n.shared.file)),
    ),
    attack("neighbour-link", "Connects to another workspace's link socket", |c| {
        of(c, |c, n| match &n.link {
            Some(link) => speak(c, link),
            None => Finding::blocked("there is none"),
        })
    }),
    attack("neighbour-socket", "Connects to another workspace's unix socket by its path", |c| {
        of(c, |c, n| speak(c, &n.shared.socket))
    }),
    attack("neighbour-abstract-socket", "Connects to another workspace's abstract socket", |c| {
        of(c, |c, n| abstract_socket(c, &n.shared))
    }),
    attack("neighbour-port", "Connects to a port that another workspace listens on", |c| {
        of(c, |c, n| {
            worst(n.shared.tcp.iter().map(|address| {
                let mut bytes = Vec::new();
                let answer = TcpStream::connect_timeout(address, WITHIN).and_then(|stream| {
                    stream.set_read_timeout(Some(WITHIN))?;
                    stream.take(4096).read_to_end(&mut bytes)
                });
                let finding = match answer {
                    Ok(_) => holds(c, &bytes),
                    Err(_) if !bytes.is_empty() => holds(c, &bytes),
                    Err(error) => Finding::blocked(errno(&error)),
                };
                (address.to_string(), finding)
            }))
        })
    }),
    attack("neighbour-shared-memory", "Attaches another workspace's System V memory", |c| {
        of(c, |c, n| memory(c, &n.shared))
    }),
    attack("neighbour-processes", "Looks for another workspace's process in /proc", |c| {
        of(c, |c, n| environment(c, &n.token))
    }),
    attack("neighbour-terminal", "Writes to another workspace's terminal", |c| {
        of(c, |c, n| super::terminal::write(c, &n.shared))
    }),
    attack("shared-tools", "Changes the installed agents that all workspaces share", |c| {
        worst(
            [("the folder".to_owned(), make(c, Path::new("/opt/boatyard/tools")))]
                .into_iter()
                .chain(
                    fs::read_dir("/opt/boatyard/tools")
                        .into_iter()
                        .flatten()
                        .flatten()
                        .map(|entry| (entry.path().display().to_string(), make(c, &entry.path()))),
                ),
        )
    }),
    attack("shared-mirror", "Changes the mirror that a repository's workspaces share", |c| {
        worst(
            ["/mirror", "/mirror/objects", "/mirror/refs/heads", "/mirror/hooks"]
                .map(|folder| (folder.to_owned(), make(c, Path::new(folder)))),
        )
    }),
    attack("shared-runner", "Overwrites the runner's program that all workspaces share", |_| {
        let ways = ["/opt/boatyard/boatyard-runner", "/proc/self/exe", "/proc/1/exe"];
        worst(ways.map(|path| {
            (path.to_owned(), Finding::of(fs::OpenOptions::new().write(true).open(path)))
        }))
    }),
    attack("host-shared-memory", "Attaches System V memory of the host", |c| {
        memory(c, &c.bait.host)
    }),
    attack("host-message-queues", "Lists System V and POSIX queues of the host", |c| {
        let ours = c.bait.host.memory_key.cast_unsigned();
        let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        let listed = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        let keys = listed.filter_map(|key| key.parse::<i64>().ok());
        if keys.into_iter().any(|key| key as u32 == ours) {
            return Finding::escaped("the host's memory is listed");
        }
        super::files::something("/dev/mqueue")
    }),
];

fn of(c: &Context<'_>, attempt: impl FnOnce(&Context<'_>, &Neighbour) -> Finding) -> Finding {
    match &c.bait.neighbour {
        Some(neighbour) => {
            // Only the neighbour's token counts: one of the host's would be another attack.
            let bait = Bait { token: neighbour.token.clone(), ..c.bait.clone() };
            attempt(&Context { name: c.name, bait: &bait }, neighbour)
        }
        None => Finding::skipped("there is no other workspace"),
    }
}

/// Connects to an abstract socket.
pub(super) fn abstract_socket(c: &Context<'_>, shared: &Shared) -> Finding {
    let mut bytes = Vec::new();
    let answer = UnixAddress::from_abstract_name(&shared.abstract_socket)
        .and_then(|address| UnixStream::connect_addr(&address))
        .and_then(|mut stream| {
            use std::io::Write as _;
            stream.set_read_timeout(Some(WITHIN))?;
            // At once: whoever listens reads once.
            stream.write_all(format!("{}{}\n", super::bait::MARK, c.name).as_bytes())?;
            stream.take(4096).read_to_end(&mut bytes)
        });
    match answer {
        Ok(_) => holds(c, &bytes),
        Err(error) => Finding::blocked(errno(&error)),
    }
}

fn memory(c: &Context<'_>, shared: &Shared) -> Finding {
    // SAFETY: integers only.
    let id = match check(unsafe { libc::shmget(shared.memory_key, 0, 0) }) {
        Ok(id) => id,
        Err(error) => return Finding::blocked(errno(&error)),
    };
    // SAFETY: the kernel chooses the place; 4096 bytes are what such memory has at least.
    let bytes = unsafe {
        let at = libc::shmat(id, std::ptr::null(), libc::SHM_RDONLY);
        if at.addr() == usize::MAX {
            return Finding::blocked(errno(&io::Error::last_os_error()));
        }
        std::slice::from_raw_parts(at.cast::<u8>(), 4096).to_vec()
    };
    holds(c, &bytes)
}

/// Looks for a token in the environment of every process that is seen.
pub(super) fn environment(c: &Context<'_>, token: &str) -> Finding {
    let mut seen = 0;
    for pid in numbers() {
        seen += 1;
        for file in ["environ", "cmdline"] {
            let Ok(bytes) = fs::read(format!("/proc/{pid}/{file}")) else { continue };
            if String::from_utf8_lossy(&bytes).contains(token) {
                return Finding::escaped(format!("{}: it is in /proc/{pid}/{file}", c.name));
            }
        }
    }
    // A number that nobody has here, or somebody else.
    let other = c.bait.host.process as usize;
    let known = call(libc::SYS_kill, &[other, 0]).is_ok();
    Finding::blocked(format!(
        "{seen} processes, all its own{}",
        if known { "; the number is somebody's here" } else { "" }
    ))
}
