//! Bombs: using up what others need too. Set off only where there is a limit to stop them.

use std::{
    fs::{self, File},
    io::{self, Write as _},
};

use super::{Attack, Bait, Context, Finding, attack, calls::errno, run::owned};
use crate::{spawn::pipe, sys::check};

/// What is written at once.
const BLOCK: usize = 4 << 20;
/// More terminals than one workspace needs; what there are is shared by all of the host.
const TERMINALS: usize = 1024;
/// More descriptors than one process gets.
const DESCRIPTORS: u64 = 1 << 20;

pub(super) const ATTACKS: &[Attack] = &[
    attack("fork-bomb", "Starts processes until there are no numbers left", forks),
    attack("thread-bomb", "Starts threads until there are no numbers left", threads),
    attack("memory-bomb", "Takes memory until the host has none", |c| {
        let limit = c.bait.limited.memory.unwrap_or(0).saturating_mul(2);
        let mut kept = Vec::new();
        let mut taken = 0u64;
        while taken < limit {
            // SAFETY: new memory at a place that the kernel chooses, of the length given.
            let block = unsafe {
                let at = libc::mmap(
                    std::ptr::null_mut(),
                    BLOCK,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                );
                if at == libc::MAP_FAILED {
                    return stopped(taken, &io::Error::last_os_error());
                }
                std::slice::from_raw_parts_mut(at.cast::<u8>(), BLOCK)
            };
            block.fill(1);
            kept.push(block);
            taken += BLOCK as u64;
        }
        Finding::escaped(format!("{} MiB were taken", taken >> 20))
    }),
    attack("memory-file-bomb", "Takes memory as files without a name", |c| {
        // SAFETY: a constant C string; the result is a new descriptor.
        let file = unsafe { check(libc::memfd_create(c"bomb".as_ptr(), 0)).map(owned) };
        match file {
            Ok(file) => fill(File::from(file), c.bait.limited.memory),
            Err(error) => Finding::blocked(errno(&error)),
        }
    }),
    attack("tmp-bomb", "Fills /tmp, which is in memory", |c| {
        fill_at("/tmp/boatyard-bomb", c.bait.limited.memory)
    }),
    attack("shared-memory-bomb", "Fills /dev/shm", |c| {
        fill_at("/dev/shm/boatyard-bomb", c.bait.limited.memory)
    }),
    attack("pipe-bomb", "Fills the kernel's memory with what pipes hold", pipes),
    attack("descriptor-bomb", "Opens files until the host can open no more", |_| {
        let mut kept = Vec::new();
        loop {
            match File::open("/dev/null") {
                Ok(_) if kept.len() as u64 > DESCRIPTORS => {
                    return Finding::escaped(format!("{} were opened", kept.len()));
                }
                Ok(file) => kept.push(file),
                Err(error) => {
                    return Finding::contained(format!("{} after {}", errno(&error), kept.len()));
                }
            }
        }
    }),
    attack("terminal-bomb", "Takes all terminals of the host", |_| {
        let mut kept = Vec::new();
        loop {
            match super::bait::terminal() {
                Ok(_) if kept.len() >= TERMINALS => {
                    return Finding::escaped(format!("{} were taken", kept.len()));
                }
                Ok(terminal) => kept.push(terminal),
                Err(error) => {
                    return Finding::contained(format!("{} after {}", errno(&error), kept.len()));
                }
            }
        }
    }),
    attack("disk-bomb", "Fills the disk", |c| fill_at("/work/boatyard-bomb", c.bait.limited.disk)),
    attack("inode-bomb", "Makes files until the disk can hold no more", |c| {
        let limit = c.bait.limited.inodes.unwrap_or(0).saturating_mul(2);
        let folder = "/work/boatyard-bomb-files";
        let mut made = 0;
        let mut result = fs::create_dir(folder);
        while result.is_ok() && made < limit {
            result = File::create(format!("{folder}/{made}")).map(drop);
            made += 1;
        }
        let _ = fs::remove_dir_all(folder);
        match result {
            Ok(()) => Finding::escaped(format!("{made} were made")),
            Err(error) => Finding::contained(format!("{} after {made}", errno(&error))),
        }
    }),
];

/// Why a bomb is not set off here.
pub(super) fn unlimited(name: &str, bait: &Bait) -> Option<&'static str> {
    let limited = bait.limited;
    match name {
        "fork-bomb" | "thread-bomb" if limited.processes.is_none() => {
            Some("processes are not limited here")
        }
        "disk-bomb" if limited.disk.is_none() => Some("disk is watched here, not limited"),
        "inode-bomb" if limited.inodes.is_none() => Some("inodes are not limited here"),
        // Descriptors and terminals have limits of their own everywhere; these end in memory.
        "memory-bomb" | "memory-file-bomb" | "tmp-bomb" | "shared-memory-bomb" | "pipe-bomb"
            if limited.memory.is_none() =>
        {
            Some("memory is not limited here")
        }
        _ => None,
    }
}

fn stopped(bytes: u64, error: &io::Error) -> Finding {
    Finding::contained(format!("{} after {} MiB", errno(error), bytes >> 20))
}

fn forks(c: &Context<'_>) -> Finding {
    let limit = c.bait.limited.processes.unwrap_or(0).saturating_mul(2) + 64;
    for made in 0..limit {
        // SAFETY: one thread; the child only waits to be killed with its group.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: always sound.
                unsafe { libc::pause() };
            },
            pid if pid < 0 => {
                let error = io::Error::last_os_error();
                return Finding::contained(format!("{} after {made}", errno(&error)));
            }
            _ => {}
        }
    }
    Finding::escaped(format!("{limit} were started"))
}

fn threads(c: &Context<'_>) -> Finding {
    let limit = c.bait.limited.processes.unwrap_or(0).saturating_mul(2) + 64;
    for made in 0..limit {
        let waiting = || loop {
            std::thread::park();
        };
        if let Err(error) = std::thread::Builder::new().stack_size(64 << 10).spawn(waiting) {
            return Finding::contained(format!("{} after {made}", errno(&error)));
        }
    }
    Finding::escaped(format!("{limit} were started"))
}

fn fill_at(path: &str, limit: Option<u64>) -> Finding {
    let finding = match File::create(path) {
        Ok(file) => fill(file, limit),
        Err(error) => Finding::blocked(errno(&error)),
    };
    let _ = fs::remove_file(path);
    finding
}

/// Writes twice as much as there may be.
fn fill(mut file: File, limit: Option<u64>) -> Finding {
    let limit = limit.unwrap_or(0).saturating_mul(2);
    let block = vec![1; BLOCK];
    let mut written = 0u64;
    while written < limit {
        if let Err(error) = file.write_all(&block) {
            return stopped(written, &error);
        }
        written += BLOCK as u64;
    }
    // What is written behind the limit of a quota may be told only now.
    match file.sync_all() {
        Ok(()) => Finding::escaped(format!("{} MiB were written", written >> 20)),
        Err(error) => stopped(written, &error),
    }
}

fn pipes(c: &Context<'_>) -> Finding {
    use std::os::fd::AsRawFd as _;
    let limit = c.bait.limited.memory.unwrap_or(0).saturating_mul(2);
    let block = vec![1; 1 << 20];
    let mut kept = Vec::new();
    let mut held = 0u64;
    while held < limit {
        let (reader, writer) = match pipe() {
            Ok(pair) => pair,
            Err(error) => {
                return Finding::contained(format!("{error} after {} MiB", held >> 20));
            }
        };
        // SAFETY: integers, and a buffer of the length given.
        let written = unsafe {
            // As large as may be; what is refused stays as it is.
            libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 1 << 20);
            libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
            check(libc::write(writer.as_raw_fd(), block.as_ptr().cast(), block.len()))
        };
        match written {
            Ok(length) => held += length.unsigned_abs() as u64,
            Err(error) => return stopped(held, &error),
        }
        kept.push((reader, writer));
    }
    Finding::escaped(format!("{} MiB are held", held >> 20))
}
