//! How sandboxes end: killed, by themselves, or because time is up; and what follows.

use std::{cmp::Reverse, os::fd::AsFd, time::Instant};

use super::{Cleanup, End, GROUPS_LIMIT, KILL_LIMIT, Loop, Timer, WAITING_MAX};
use crate::{
    Error, Result,
    error::Step as _,
    names,
    protocol::{Failure, FailureKind, Reply},
    spawner::{
        hint::{self, plain, refuse},
        start::told_by_child,
        state::{Phase, Waiting},
    },
    sys::process::{self, Wait, reap},
};

impl Loop<'_> {
    /// Kills a sandbox; `waiting` is told when it is dead, and a start under way fails with
    /// `failure`.
    pub(super) fn end(&mut self, ws: u128, waiting: Waiting, failure: Failure) -> Result<()> {
        self.unwatch_sync(ws)?;
        let Some(sandbox) = self.state.running.get_mut(&ws) else { return Ok(()) };
        let mut list = match std::mem::replace(&mut sandbox.phase, Phase::Running) {
            Phase::Starting(starting) => vec![Waiting::Start(starting.request, failure)],
            Phase::Running => Vec::new(),
            Phase::Ending(list) => list,
        };
        let full = list.len() >= WAITING_MAX;
        if !full {
            list.push(waiting);
        }
        sandbox.phase = Phase::Ending(list);
        let generation = sandbox.generation;
        let signalled = process::signal(sandbox.pidfd.as_fd(), libc::SIGKILL);
        self.state.host.thaw_legacy(&names::workspace(ws));
        self.timers.push(Reverse((Instant::now() + KILL_LIMIT, Timer::Kill { ws, generation })));
        match signalled {
            // It has just ended by itself; its event follows.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            result => result.step("kill")?,
        }
        if full { Err(refuse(FailureKind::Busy, "workspace")) } else { Ok(()) }
    }

    /// A first process has ended, and with it everything in its sandbox.
    pub(super) fn died(&mut self, ws: u128) -> Result<()> {
        self.unwatch_sync(ws)?;
        let Some(sandbox) = self.state.running.remove(&ws) else { return Ok(()) };
        if let Some(tokens) = self.tokens.remove(&ws) {
            self.unwatch(sandbox.pidfd.as_fd(), tokens.process)?;
        }
        // Not our child if an earlier spawner started it; then somebody else reaps it.
        let status = reap(sandbox.pidfd.as_fd(), Wait::Poll).ok().flatten();
        let waiting = match sandbox.phase {
            Phase::Running => Vec::new(),
            Phase::Ending(waiting) => waiting,
            Phase::Starting(starting) => {
                let failure = told_by_child(&starting.sync).map_or_else(
                    || plain(FailureKind::System, &format!("first process ended ({status:?})")),
                    |error| hint::failure(&error),
                );
                vec![Waiting::Start(starting.request, failure)]
            }
        };
        let end = End { ws, generation: sandbox.generation, waiting };
        self.cleanups.push(Cleanup {
            name: names::workspace(ws),
            end: Some(end),
            deadline: Instant::now() + GROUPS_LIMIT,
        });
        self.clean_up();
        Ok(())
    }

    /// Tries to remove the groups of what has died, and tells who waits.
    pub(super) fn clean_up(&mut self) {
        for cleanup in std::mem::take(&mut self.cleanups) {
            let result = self.state.host.remove(&cleanup.name);
            match result {
                Err(_) if Instant::now() < cleanup.deadline => self.cleanups.push(cleanup),
                result => {
                    if let Some(end) = cleanup.end {
                        self.finish(end, result.step("cgroup rmdir").err());
                    }
                }
            }
        }
    }

    fn finish(&mut self, end: End, error: Option<Error>) {
        // Not when it was started again before its old groups were gone.
        if !self.state.running.contains_key(&end.ws) {
            self.state.unlink_link(end.ws);
        }
        if end.waiting.is_empty() {
            self.reply(0, &Reply::Exited { ws: end.ws, generation: end.generation });
        }
        for waiting in end.waiting {
            match (waiting, &error) {
                (Waiting::Start(request, failure), _) => {
                    self.reply(request, &Reply::Failed(failure));
                }
                (Waiting::Kill(request), None) => self.reply(request, &Reply::Done),
                (Waiting::Kill(request), Some(error)) => {
                    self.reply(request, &Reply::Failed(hint::failure(error)));
                }
            }
        }
    }

    pub(super) fn times_up(&mut self) {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > Instant::now() {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Start { ws, generation } => self.start_took_too_long(ws, generation),
                Timer::Kill { ws, generation } => self.kill_took_too_long(ws, generation),
            }
        }
    }

    fn start_took_too_long(&mut self, ws: u128, generation: u64) {
        let is_starting = self.state.running.get(&ws).is_some_and(|sandbox| {
            sandbox.generation == generation && matches!(sandbox.phase, Phase::Starting(_))
        });
        if !is_starting || self.unwatch_sync(ws).is_err() {
            return;
        }
        let Some(sandbox) = self.state.running.get_mut(&ws) else { return };
        let Phase::Starting(starting) = &sandbox.phase else { return };
        let failure = plain(FailureKind::Deadline, "start");
        let waiting = vec![Waiting::Start(starting.request, failure)];
        sandbox.phase = Phase::Ending(waiting);
        // It may have ended by itself just now.
        let _ = process::signal(sandbox.pidfd.as_fd(), libc::SIGKILL);
    }

    fn kill_took_too_long(&mut self, ws: u128, generation: u64) {
        let Some(sandbox) = self.state.running.get_mut(&ws) else { return };
        if sandbox.generation != generation {
            return;
        }
        let Phase::Ending(waiting) = &mut sandbox.phase else { return };
        for waiting in std::mem::take(waiting) {
            let (Waiting::Kill(request) | Waiting::Start(request, _)) = waiting;
            self.reply(request, &Reply::Failed(plain(FailureKind::Deadline, "kill")));
        }
    }
}
