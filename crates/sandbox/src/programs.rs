//! Which program inside has a connection, for `serve`: for people who want to know who asks.
//!
//! ```text
//! connection ─ asked of the kernel, or /proc/net/tcp{,6} ─► socket ─ /proc/<pid>/fd ─► process
//!                                                            ─► its program, its group
//! ```
//!
//! The list of connections is the whole machine's, filtered: it takes the kernel milliseconds to
//! go through. So the kernel is asked for the one connection where both of its ends are known, over
//! a socket that was made before the filter forbade such.
//!
//! A process can hide from this (by handing the socket on, by ending) and can bear any name:
//! what is found is told, and nothing is decided by it. The search is bounded in everything that
//! a workspace can make large.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::{SocketAddr, SocketAddrV4},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use crate::{
    cgroup::MARKER,
    fds,
    sys::{check, process::AsWorker, retry},
};

/// How much of the list of connections is read, in bytes: some seven thousand connections.
const LIST_MAX: u64 = 1 << 20;
/// How many processes are looked at.
const PROCESSES_MAX: usize = 2048;
/// How many descriptors are looked at in all.
const DESCRIPTORS_MAX: usize = 1 << 16;
/// How many processes that were found last are looked at first.
const RECENT: usize = 8;
/// The longest name that is told, in bytes.
const NAME_MAX: usize = 64;
/// Where a listener shows what a connection never shows.
const LISTENS: &str = "0A";
/// The kernel's number for questions about sockets (`linux/sock_diag.h`).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// The length of such a question.
const QUESTION: usize = 72;

/// A program with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The process, as seen inside.
    pub pid: u32,
    /// The file that it runs, without its folder.
    pub name: String,
    /// The group ([`crate::cgroup::SessionGroup`]) that it belongs to.
    pub group: Option<String>,
}

/// Finds programs. It remembers which had connections, since those have more.
#[derive(Debug, Default)]
pub struct Finder {
    /// The last one first.
    recent: Vec<u32>,
    /// Where the kernel is asked for one connection.
    diagnosis: Option<OwnedFd>,
}

impl Finder {
    /// Takes over descriptor [`fds::DIAGNOSIS`], where there is one; once, at the start of `serve`.
    pub(crate) fn inherited() -> Self {
        // SAFETY: a query on a number; the first process leaves it open or closed, and nothing
        // else of `serve` knows it.
        let diagnosis = unsafe {
            let open = libc::fcntl(fds::DIAGNOSIS, libc::F_GETFD) >= 0;
            open.then(|| OwnedFd::from_raw_fd(fds::DIAGNOSIS))
        };
        Self { recent: Vec::new(), diagnosis }
    }

    /// The program whose end of a connection is `own`; the other end is one of `to`, or not known.
    /// None when there is none (any more), or none that the worker owns.
    pub fn with_connection(&mut self, own: SocketAddr, to: &[SocketAddr]) -> Option<Program> {
        let asked = to.iter().filter_map(|to| match (own, *to) {
            (SocketAddr::V4(own), SocketAddr::V4(to)) => self.ask(own, to).ok(),
            _ => None,
        });
        let known: Vec<String> = asked.collect();
        let sockets = if known.is_empty() { sockets(own.port()) } else { known };
        self.holder(&sockets)
    }

    /// Asks the kernel for the socket with these two ends.
    fn ask(&self, own: SocketAddrV4, to: SocketAddrV4) -> io::Result<String> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let socket = self.diagnosis.as_ref().ok_or_else(missing)?;
        let request = question(own, to);
        retry(|| {
            // SAFETY: a buffer of the length given.
            check(unsafe {
                libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0)
            })
        })?;
        let mut answer = [0u8; 512];
        // The kernel has answered by the time it takes the request.
        let length = retry(|| {
            // SAFETY: as above.
            check(unsafe {
                libc::recv(
                    socket.as_raw_fd(),
                    answer.as_mut_ptr().cast(),
                    answer.len(),
                    libc::MSG_DONTWAIT,
                )
            })
        })?;
        let answer = &answer[..length.unsigned_abs()];
        // Where there is no such connection, the kernel names who listens there.
        if answer.get(20..24) != request.get(24..28) {
            return Err(missing());
        }
        inode(answer).map(link).ok_or_else(missing)
    }

    fn holder(&mut self, sockets: &[String]) -> Option<Program> {
        if sockets.is_empty() {
            return None;
        }
        let _as_worker = AsWorker::begin();
        let mut left = DESCRIPTORS_MAX;
        let mut holds = |pid: u32| holds(pid, sockets, &mut left);
        let pid = match self.recent.iter().copied().find(|pid| holds(*pid)) {
            Some(pid) => pid,
            None => processes().find(|pid| holds(*pid))?,
        };
        self.recent.retain(|known| *known != pid);
        self.recent.insert(0, pid);
        self.recent.truncate(RECENT);
        Some(Program { pid, name: name(pid)?, group: group(pid) })
    }
}

/// A request for one connection: `struct nlmsghdr`, `struct inet_diag_req_v2`.
fn question(own: SocketAddrV4, to: SocketAddrV4) -> [u8; QUESTION] {
    let mut bytes = [0; QUESTION];
    bytes[..4].copy_from_slice(&(QUESTION as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes[16] = libc::AF_INET as u8;
    bytes[17] = libc::IPPROTO_TCP as u8;
    // In any state.
    bytes[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
    bytes[24..26].copy_from_slice(&own.port().to_be_bytes());
    bytes[26..28].copy_from_slice(&to.port().to_be_bytes());
    bytes[28..32].copy_from_slice(&own.ip().octets());
    bytes[44..48].copy_from_slice(&to.ip().octets());
    // No cookie.
    bytes[64..72].copy_from_slice(&[0xff; 8]);
    bytes
}

/// The socket's number in an answer (`struct inet_diag_msg`).
fn inode(answer: &[u8]) -> Option<u32> {
    let kind = answer.get(4..6)?;
    if u16::from_ne_bytes([kind[0], kind[1]]) != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let inode = answer.get(84..88)?;
    Some(u32::from_ne_bytes([inode[0], inode[1], inode[2], inode[3]])).filter(|inode| *inode != 0)
}

/// What a descriptor of the socket with this number is a link to.
fn link(inode: impl std::fmt::Display) -> String {
    format!("socket:[{inode}]")
}

/// The sockets with this local port that are connected, as links to them read.
fn sockets(port: u16) -> Vec<String> {
    let mut found = Vec::new();
    for list in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let mut bytes = Vec::new();
        let read = File::open(list).and_then(|file| file.take(LIST_MAX).read_to_end(&mut bytes));
        if read.is_ok() {
            let text = String::from_utf8_lossy(&bytes);
            found.extend(text.lines().skip(1).filter_map(|line| socket(line, port)));
        }
        // Going through either list takes as long; few programs are in the second.
        if !found.is_empty() {
            break;
        }
    }
    found
}

/// The socket of a line of the list, if it is a connection with this local port that somebody
/// holds.
fn socket(line: &str, port: u16) -> Option<String> {
    let mut fields = line.split_ascii_whitespace();
    let (_, local) = fields.nth(1)?.rsplit_once(':')?;
    if u16::from_str_radix(local, 16) != Ok(port) || fields.nth(1)? == LISTENS {
        return None;
    }
    let inode: u64 = fields.nth(5)?.parse().ok()?;
    (inode != 0).then(|| link(inode))
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pid = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    entries.filter_map(pid).take(PROCESSES_MAX)
}

/// Whether a process has one of these sockets. What may not be looked at is not the worker's.
fn holds(pid: u32, sockets: &[String], left: &mut usize) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    for descriptor in descriptors.flatten() {
        if *left == 0 {
            return false;
        }
        *left -= 1;
        let link = fs::read_link(descriptor.path());
        if link.is_ok_and(|link| sockets.iter().any(|socket| link.as_os_str() == &**socket)) {
            return true;
        }
    }
    false
}

fn name(pid: u32) -> Option<String> {
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = program.file_name()?.to_string_lossy();
    Some(name.chars().filter(|c| c.is_ascii_graphic()).take(NAME_MAX).collect())
}

fn group(pid: u32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let unified = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    if let Some(group) = unified.filter(|group| !group.is_empty()) {
        return group.split('/').next().map(str::to_owned);
    }
    let mut environment = Vec::new();
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(LIST_MAX).read_to_end(&mut environment).ok()?;
    environment.split(|byte| *byte == 0).find_map(|variable| {
        let (name, value) = std::str::from_utf8(variable).ok()?.split_once('=')?;
        (name == MARKER).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_line_of_the_list_is_read() {
        let line = "   1: 020000C0:9C40 0700 1:01BB 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 20 4 30 10 -1";
        let line = line.replace("0700 1:01BB", "070012C6:01BB");
        assert_eq!(socket(&line, 40000).as_deref(), Some("socket:[4711]"));
        assert_eq!(socket(&line, 443), None);
        assert_eq!(socket(&line.replace(" 01 0000", " 0A 0000"), 40000), None);
        assert_eq!(socket(&line.replace("4711", "0"), 40000), None);
        for cut in 0..line.len() {
            let _ = socket(&line[..cut], 40000);
        }
    }

    fn finder() -> Finder {
        // SAFETY: integers only; the result is a new descriptor.
        let diagnosis = unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            let fd = check(libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG)).unwrap();
            OwnedFd::from_raw_fd(fd)
        };
        Finder { recent: Vec::new(), diagnosis: Some(diagnosis) }
    }

    #[test]
    fn the_one_who_connects_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let stream = TcpStream::connect(there).unwrap();
        let own = stream.local_addr().unwrap();
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (own, there) else { panic!() };
        // Both ways lead to the same socket.
        let asked = finder().ask(from, to).unwrap();
        assert_eq!(sockets(own.port()), std::slice::from_ref(&asked));
        let fd = fs::read_link(format!("/proc/self/fd/{}", stream.as_raw_fd())).unwrap();
        assert_eq!(fd.to_str(), Some(&*asked));
        for (mut finder, to) in
            [(finder(), vec![there]), (Finder::default(), vec![there]), (finder(), vec![])]
        {
            // As root this process is not the worker's, and so not looked at.
            if !is_root() {
                let found = finder.with_connection(own, &to).unwrap();
                assert_eq!(found.pid, std::process::id());
                assert!(found.name.starts_with("boatyard_sandbox"), "{found:?}");
                assert_eq!(finder.recent, [found.pid]);
            }
        }
        let elsewhere = SocketAddrV4::new(*to.ip(), 1);
        assert!(finder().ask(to, elsewhere).is_err(), "it listens, and has no such connection");
        assert!(finder().ask(from, elsewhere).is_err());
        assert_eq!(finder().with_connection(there, &[]), None, "a listener connects to nobody");
    }

    fn is_root() -> bool {
        // SAFETY: always sound.
        unsafe { libc::geteuid() == 0 }
    }
}
