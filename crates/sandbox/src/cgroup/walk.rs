//! Finding a session's processes without control groups: by a variable of their environment and
//! by descent.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::fd::AsFd,
    time::Duration,
};

use super::MARKER;
use crate::{
    Error, Result,
    error::Step as _,
    sys::process::{AsWorker, pidfd_open, signal},
};

/// How often the whole of `/proc` is walked before giving up on a group that keeps forking: each
/// round first stops what it finds, so a round finds only what was forked during the one before.
const ROUNDS: usize = 64;

/// How long a process that is in the middle of `execve` is given: its environment reads as empty
/// until its new one is laid out.
const IN_EXEC: Duration = Duration::from_millis(1);

/// How often such a process is looked at again. One that emptied its environment on purpose is
/// found by descent or not at all.
const PATIENCE: usize = 20;

/// What one walk found.
struct Found {
    members: Vec<u32>,
    /// A process showed no environment: it may become a member.
    uncertain: bool,
}

/// Kills the members of `name` until none is left.
pub(super) fn kill(name: &str) -> Result<()> {
    let mut stopped = HashSet::new();
    let mut patience = PATIENCE;
    for _ in 0..ROUNDS {
        let Found { members, uncertain } = find(name)?;
        let new: Vec<u32> = members.iter().copied().filter(|pid| stopped.insert(*pid)).collect();
        if new.is_empty() && uncertain && patience > 0 {
            patience -= 1;
            std::thread::sleep(IN_EXEC);
            continue;
        }
        if new.is_empty() {
            // Everything is stopped and nothing can fork any more.
            for pid in members {
                send(pid, libc::SIGKILL);
            }
            return Ok(());
        }
        for pid in new {
            send(pid, libc::SIGSTOP);
        }
    }
    Err(Error::Deadline { step: format!("kill group {name}"), limit_ms: 0 })
}

/// The processes that carry the marker, and their descendants.
pub(super) fn members(name: &str) -> Result<Vec<u32>> {
    find(name).map(|found| found.members)
}

fn find(name: &str) -> Result<Found> {
    let marker = format!("{MARKER}={name}");
    let mut parents = HashMap::new();
    let mut members = HashSet::new();
    let mut uncertain = false;
    let as_worker = AsWorker::begin();
    for entry in fs::read_dir("/proc").step("list processes")? {
        let entry = entry.step("list processes")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end while it is looked at: then it is no member.
        let Some(parent) = living_parent(pid) else { continue };
        parents.insert(pid, parent);
        // What may not be read is not the worker's: the runner itself and the first process.
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        uncertain |= environment.is_empty();
        if environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes()) {
            members.insert(pid);
        }
    }
    drop(as_worker);
    loop {
        let found: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| members.contains(*parent) && !members.contains(*pid))
            .map(|(pid, _)| *pid)
            .collect();
        if found.is_empty() {
            return Ok(Found { members: members.into_iter().collect(), uncertain });
        }
        members.extend(found);
    }
}

/// The parent of `pid`; none when the process is gone or only waits to be reaped.
fn living_parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z" && state != "X").then_some(parent)
}

fn send(pid: u32, number: i32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    // It may have ended: then there is nothing to signal.
    if let Ok(pidfd) = pidfd_open(pid) {
        let _ = signal(pidfd.as_fd(), number);
    }
}
