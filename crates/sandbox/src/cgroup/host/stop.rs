//! Freezing without control groups: every process of a sandbox is stopped by a signal, and let
//! go on by another.
//!
//! Every process of a sandbox is a descendant of its first one, since orphans become the first
//! one's children. Weaker than a frozen group: what a person had stopped inside goes on too.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use super::Frozen;
use crate::{
    Error, Result,
    error::Step as _,
    sys::process::{pidfd_open, signal},
};

/// How often the processes are looked at until all stand still; nothing announces it.
const STEP: Duration = Duration::from_millis(1);

/// Stops or continues the sandbox whose first process is `first`, and waits until it is so.
pub(super) fn set(first: i32, state: Frozen, deadline: Instant) -> Result<()> {
    let mut signalled = HashSet::new();
    loop {
        let family = family(first)?;
        if family.is_empty() {
            return Err(Error::system("freeze", std::io::Error::from_raw_os_error(libc::ESRCH)));
        }
        // The first process stands still first and goes on last: as long as it stands still, the
        // next spawner knows that there is something to undo.
        let others = family.keys().copied().filter(|pid| *pid != first);
        let (number, order): (_, Vec<i32>) = match state {
            Frozen::Yes => (libc::SIGSTOP, std::iter::once(first).chain(others).collect()),
            Frozen::No => (libc::SIGCONT, others.chain([first]).collect()),
        };
        for pid in order {
            if signalled.insert(pid) {
                send(pid, number)?;
            }
        }
        // A process that was forked meanwhile is seen in the next round, and nothing new comes
        // once all stand still.
        let all_known = family.keys().all(|pid| signalled.contains(pid));
        let stopped = |flag: &char| matches!(flag, 'T' | 't' | 'Z' | 'X');
        let done = match state {
            Frozen::Yes => family.values().all(stopped),
            Frozen::No => true,
        };
        if all_known && done {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Deadline { step: "freeze".into(), limit_ms: 2000 });
        }
        std::thread::sleep(STEP);
    }
}

/// Whether this process stands still.
pub(super) fn is_stopped(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T")))
}

/// The first process and its descendants, with their states.
fn family(first: i32) -> Result<HashMap<i32, char>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc").step("list processes")? {
        let name = entry.step("list processes")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // It may end while it is looked at.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let mut fields = match stat.rsplit_once(')') {
            Some((_, rest)) => rest.split_ascii_whitespace(),
            None => continue,
        };
        let state = fields.next().and_then(|field| field.chars().next());
        let parent = fields.next().and_then(|field| field.parse::<i32>().ok());
        if let (Some(state), Some(parent)) = (state, parent) {
            all.insert(pid, (parent, state));
        }
    }
    let mut family = HashMap::new();
    let mut waiting = vec![first];
    while let Some(pid) = waiting.pop() {
        let Some((_, state)) = all.get(&pid) else { continue };
        family.insert(pid, *state);
        waiting.extend(all.iter().filter(|(_, (parent, _))| *parent == pid).map(|(pid, _)| *pid));
    }
    Ok(family)
}

fn send(pid: i32, number: i32) -> Result<()> {
    match pidfd_open(pid).and_then(|pidfd| signal(pidfd.as_fd(), number)) {
        // It has ended.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result.step("freeze"),
    }
}
