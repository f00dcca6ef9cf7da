//! Which program inside has a connection, for `serve`: for people who want to know who asks.
//!
//! ```text
//! port ─ /proc/net/tcp{,6} ─► socket ─ /proc/<pid>/fd ─► process ─► its program, its group
//! ```
//!
//! A process can hide from this (by handing the socket on, by ending) and can bear any name:
//! what is found is told, and nothing is decided by it. The search is bounded in everything that
//! a workspace can make large.

use std::{
    fs::{self, File},
    io::Read as _,
};

use crate::{cgroup::MARKER, sys::process::AsWorker};

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
}

impl Finder {
    /// The program whose end of a connection has this local port; none when there is none (any
    /// more), or none that the worker owns.
    pub fn with_port(&mut self, port: u16) -> Option<Program> {
        let sockets = sockets(port);
        if sockets.is_empty() {
            return None;
        }
        let _as_worker = AsWorker::begin();
        let mut left = DESCRIPTORS_MAX;
        let mut holds = |pid: u32| holds(pid, &sockets, &mut left);
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
    (inode != 0).then(|| format!("socket:[{inode}]"))
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

    #[test]
    fn the_one_who_connects_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let own = stream.local_addr().unwrap().port();
        let mut finder = Finder::default();
        // As root this process is not the worker's, and so not looked at.
        if fs::read_link("/proc/self/exe").is_ok() && !is_root() {
            let found = finder.with_port(own).unwrap();
            assert_eq!(found.pid, std::process::id());
            assert!(found.name.starts_with("boatyard_sandbox"), "{found:?}");
            assert_eq!(finder.recent, [found.pid]);
        }
        assert_eq!(finder.with_port(port), None, "a listener connects to nobody");
    }

    fn is_root() -> bool {
        // SAFETY: always sound.
        unsafe { libc::geteuid() == 0 }
    }
}
