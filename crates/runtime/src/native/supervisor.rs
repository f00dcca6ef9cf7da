//! The process that was started first: it starts the spawner and the server, and the spawner
//! again when that dies.
//!
//! ```text
//!                fork ┌─────────► spawner (rights as started)
//! boatyard up ────────┤              ╚══ socket ══╗
//!  = supervisor       └─────────► server (unprivileged when started as root)
//!        ╚═════════ each new spawner's socket ════╝
//! ```
//!
//! It has one thread, holds nothing of value and does four things: passes signals on to the
//! server, starts the spawner again, reaps first processes whose spawner died, and ends as the
//! server ends. Kill it, and the server ends in order; kill the server, and it ends with the
//! server's code. Workspaces live on through all of this.
//!
//! The server gets a process group of its own, so that Ctrl-C in a terminal reaches it once,
//! through here.

use std::{
    ffi::OsString,
    fmt,
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::ExitCode,
    time::{Duration, Instant},
};

use boatyard_sandbox::supervise::{self, Forked, Signals, Status};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
        SocketType, sendmsg, socketpair,
    },
    process::{Pid, Resource, getrlimit, kill_process, set_child_subreaper, setpgid, setrlimit},
};

use super::{
    launch::{Launched, SpawnerSettings},
    layout, system,
};
use crate::Error;

/// Signals that mean the server.
const PASSED_ON: [rustix::process::Signal; 6] = {
    use rustix::process::Signal;
    [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::USR1, Signal::USR2]
};
/// The first pause before a spawner that died soon after its start is started again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A spawner that lived so long is started again at once.
const STEADY: Duration = Duration::from_secs(60);
/// How long the spawner, which ends when the server does, is waited for.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// What this process is after [`supervise`].
#[derive(Debug)]
pub enum Role {
    /// The server: go on, with the way to the spawners in hand. A fork without threads, which
    /// has the user [`layout::server_uid`] for good.
    Server(Supervised),
    /// The supervisor, whose work is done: end with this code.
    Over(ExitCode),
}

/// The server's end of the way to its supervisor.
#[derive(Debug)]
pub struct Supervised {
    socket: OwnedFd,
}

impl Supervised {
    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }
}

/// Lays out the data folder, splits this process in two, and starts the spawner: it returns
/// [`Role::Server`] in the new one at once, and [`Role::Over`] in this one when the server has
/// ended.
///
/// Must be called while the process has one thread, that is before tokio starts.
///
/// # Errors
/// [`Error::Step`] when the machine refuses something; nothing is left running then. That is told
/// by one process: a server that was split off already ends without a word.
pub fn supervise(settings: &SpawnerSettings) -> Result<Role, Error> {
    supervise_without(settings, || ())
}

/// The same; `forget` is called in the supervisor as soon as the server has been split off, so that
/// what only the server is to have does not stay in a process that lives as long.
///
/// # Errors
/// As [`supervise`].
pub fn supervise_without(settings: &SpawnerSettings, forget: impl FnOnce()) -> Result<Role, Error> {
    layout::prepare(&settings.data)?;
    // Processes of a dead spawner come to us, wherever we run: in a container, the first
    // process may reap nothing.
    set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| step("adopting orphaned processes", error.into()))?;
    let numbers: Vec<i32> = PASSED_ON
        .iter()
        .copied()
        .chain([rustix::process::Signal::CHILD])
        .map(rustix::process::Signal::as_raw)
        .collect();
    let signals = Signals::take(&numbers).map_err(system)?;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|error| step("making a socket", error.into()))?;
    let supervisor = std::process::id();
    match supervise::fork().map_err(system)? {
        Forked::Child => {
            drop(ours);
            signals.release().map_err(system)?;
            setpgid(None, None).map_err(|error| step("making a process group", error.into()))?;
            allow_many_files()?;
            if rustix::process::geteuid().is_root() {
                let user = layout::server_uid();
                supervise::become_user(user, user).map_err(system)?;
            }
            let terminate = rustix::process::Signal::TERM.as_raw();
            supervise::end_with_parent(supervisor, terminate).map_err(system)?;
            Ok(Role::Server(Supervised { socket: theirs }))
        }
        Forked::Parent { pid: server } => {
            drop(theirs);
            forget();
            // Beside the server's own start, which takes as long.
            let spawner = settings.launch().inspect_err(|_| end(server))?;
            let mut watch = Watch {
                settings,
                signals,
                server,
                socket: ours,
                spawner: Spawned::running(&spawner),
                pause: Duration::ZERO,
            };
            watch.hand_over(spawner.socket);
            watch.run().map(Role::Over)
        }
    }
}

/// Takes a variable out of this process's environment for good, before anything is started that
/// would get it: [`supervise::take_variable`].
///
/// # Errors
/// [`Error::Step`] when this process has more than one thread.
pub fn take_variable(name: &str) -> Result<Option<OsString>, Error> {
    supervise::take_variable(name).map_err(system)
}

/// The supervisor at work.
struct Watch<'s> {
    settings: &'s SpawnerSettings,
    signals: Signals,
    server: i32,
    socket: OwnedFd,
    spawner: Spawned,
    /// Before the next start of a spawner, if the last one died young.
    pause: Duration,
}

/// Where the spawner stands.
enum Spawned {
    Running { pid: i32, since: Instant },
    Due { at: Instant },
}

impl Spawned {
    fn running(launched: &Launched) -> Self {
        Self::Running { pid: launched.child.id().cast_signed(), since: Instant::now() }
    }
}

impl Watch<'_> {
    fn run(&mut self) -> Result<ExitCode, Error> {
        loop {
            let until = match self.spawner {
                Spawned::Running { .. } => None,
                Spawned::Due { at } => Some(at),
            };
            self.wait(until)?;
            while let Some(signal) = self.signals.next().map_err(system)? {
                self.pass_on(signal.number);
            }
            while let Some((pid, status)) = supervise::reap_any().map_err(system)? {
                if pid == self.server {
                    self.last_wait()?;
                    return Ok(supervise::exit_code(status));
                }
                self.ended(pid, status);
            }
            if matches!(self.spawner, Spawned::Due { at } if at <= Instant::now()) {
                self.start_spawner();
            }
        }
    }

    /// Waits for a signal, at most until then.
    fn wait(&self, until: Option<Instant>) -> Result<(), Error> {
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            // Rounded up, so that the time has come when the wait is over.
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        match poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(step("waiting for a signal", error.into())),
        }
    }

    /// A signal that came by a terminal or a service manager is the server's to act on.
    fn pass_on(&self, number: i32) {
        let signal = PASSED_ON.into_iter().find(|signal| signal.as_raw() == number);
        if let (Some(signal), Some(server)) = (signal, Pid::from_raw(self.server)) {
            // It may have ended just now; then it is reaped next.
            let _ = kill_process(server, signal);
        }
    }

    /// A child has ended: the spawner, or a first process that a dead spawner left to us.
    fn ended(&mut self, pid: i32, status: Status) {
        let Spawned::Running { pid: spawner, since } = self.spawner else { return };
        if pid != spawner {
            return;
        }
        say(format_args!(
            "the process that makes sandboxes has ended ({status:?}); starting another"
        ));
        if since.elapsed() >= STEADY {
            self.pause = Duration::ZERO;
        }
        self.spawner = Spawned::Due { at: Instant::now() + self.pause };
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
    }

    fn start_spawner(&mut self) {
        match self.settings.launch() {
            Ok(launched) => {
                self.spawner = Spawned::running(&launched);
                self.hand_over(launched.socket);
            }
            Err(error) => {
                say(format_args!("the process that makes sandboxes can't be started: {error}"));
                self.spawner = Spawned::Due { at: Instant::now() + self.pause };
                self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            }
        }
    }

    /// Gives the server a spawner's socket; ours is closed, so that the spawner sees the server
    /// end.
    fn hand_over(&self, spawner: OwnedFd) {
        if let Err(error) = send_descriptor(self.socket.as_fd(), spawner.as_fd()) {
            // A server that has ended takes nothing, and is reaped next. One that is alive and
            // takes nothing has a dozen sockets of dead spawners unread.
            say(format_args!("the server does not take the spawner's socket: {error}"));
        }
    }

    /// The spawner ends by itself when the server has; nothing of ours should outlive us.
    fn last_wait(&self) -> Result<(), Error> {
        let Spawned::Running { pid: spawner, .. } = self.spawner else { return Ok(()) };
        let until = Instant::now() + LAST_WAIT;
        while Instant::now() < until {
            match supervise::reap_any().map_err(system)? {
                Some((pid, _)) if pid == spawner => return Ok(()),
                Some(_) => continue,
                None => {}
            }
            self.wait(Some(until))?;
            while self.signals.next().map_err(system)?.is_some() {}
        }
        Ok(())
    }
}

/// Each watcher and each link is a file; what systems allow unasked is a thousand.
fn allow_many_files() -> Result<(), Error> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)
        .map_err(|error| step("allowing the server many open files", error.into()))
}

/// Ends a server that has no spawner to work with, before it has said or done anything.
fn end(server: i32) {
    if let Some(server) = Pid::from_raw(server) {
        // It may have ended by itself.
        let _ = kill_process(server, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(server), rustix::process::WaitOptions::empty());
    }
}

fn send_descriptor(socket: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(rustix::io::Errno::NOBUFS);
    }
    let flags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
    sendmsg(socket, &[IoSlice::new(b"S")], &mut control, flags)?;
    Ok(())
}

/// There is no log in this process; the server's is another.
fn say(what: fmt::Arguments<'_>) {
    use std::io::Write as _;
    // Standard error may be gone; there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "boatyard: {what}");
}

fn step(step: &str, source: std::io::Error) -> Error {
    Error::Step { step: step.to_owned(), hint: "`boatyard doctor` may tell more".into(), source }
}
