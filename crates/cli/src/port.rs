//! Who listens on a port, as /proc tells.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// A process that holds a port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pid: u32,
    command: String,
}

/// What to say when an address is taken.
pub(crate) fn busy(address: SocketAddr, error: std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let holder = match holder(address.port()) {
                Some(holder) => format!("by process {} ({})", holder.pid, holder.command),
                None => "by another process".to_owned(),
            };
            Failure::new(format!("the address {address} is taken {holder}"))
                .next("stop it, or choose another address with --listen, such as 127.0.0.1:7071")
        }
        std::io::ErrorKind::PermissionDenied => {
            Failure::new(format!("this account may not listen on {address}"))
                .next("choose a port from 1024 on with --listen")
                .because(error)
        }
        std::io::ErrorKind::AddrNotAvailable => {
            Failure::new(format!("{} is no address of this machine", address.ip()))
                .next("choose 127.0.0.1, or 0.0.0.0 for every address, with --listen")
        }
        _ => Failure::new(format!("the server can't listen on {address}")).because(error),
    }
}

/// The process that listens on a TCP port; none if it is not ours to see.
pub(crate) fn holder(port: u16) -> Option<Holder> {
    let inodes = listeners(port);
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let pid = path.file_name()?.to_str()?.parse::<u32>().ok()?;
        Some((pid, path))
    });
    for (pid, path) in processes {
        if holds(&path, &inodes) {
            return Some(Holder { pid, command: command(&path) });
        }
    }
    None
}

/// The inodes of the sockets that listen on this port.
fn listeners(port: u16) -> Vec<String> {
    const LISTENING: &str = "0A";
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(state), Some(inode)) =
                (fields.get(1), fields.get(3), fields.get(9))
            else {
                continue;
            };
            let this = local.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok());
            if *state == LISTENING && this == Some(port) {
                inodes.push(format!("socket:[{inode}]"));
            }
        }
    }
    inodes
}

fn holds(process: &Path, inodes: &[String]) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).any(|target: PathBuf| {
        target.to_str().is_some_and(|target| inodes.iter().any(|inode| inode == target))
    })
}

fn command(process: &Path) -> String {
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let line: Vec<_> =
        line.split(|b| *b == 0).map(String::from_utf8_lossy).filter(|s| !s.is_empty()).collect();
    crate::text::clean_line(&line.join(" ")).chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_names_its_holder() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let error = std::net::TcpListener::bind(address).unwrap_err();
        let text = busy(address, error).to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(listener);
        assert_eq!(holder(address.port()), None);
    }
}
