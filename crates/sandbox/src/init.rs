//! The first process of a sandbox: small, single-threaded, awake only when something happens.
//!
//! It holds what must outlive everything else (the link socket, the listeners, the spool),
//! reaps, greets who connects, and starts `serve` when there is a connection for it.
//!
//! ```text
//! connection ─► hello (16 bytes, within 1 s) ─┬─ ping     ─► pong, closed
//!                                             ├─ listener ─► byte + listener, closed
//!                                             ├─ capture  ─► byte + all that catches, closed
//!                                             └─ link     ─► queue ─► serve (started if need be)
//! serve ends ─► everything else in here is killed ─► still a connection queued? serve again
//! ```
//!
//! It keeps both ends of the queue, a SEQPACKET pair, so a connection that one `serve` did not
//! take is the next one's first. Nothing here allocates after the start. The worker can't signal
//! it, trace it or reach its sockets; what comes from a connection is 16 bytes that are compared
//! with the few that are known, and connections come from outside only.

mod greeting;
mod start_serve;

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Instant,
};

use self::{
    greeting::{Greetings, State},
    start_serve::Story,
};
use crate::{
    fds::{self, CONNECTION_BYTE, Kind, LISTENER_OK, Listener, Pong},
    serve::{Inherited, Last},
    sys::{
        check,
        process::{close_on_exec_from, exit, prctl},
        socket::{self, Blocking},
    },
};

/// A `serve` that lives shorter than this has failed.
const QUICK_MS: u64 = 1000;
/// After this many failures in a row, waiting connections are closed instead of tried again.
const QUICK_MAX: u32 = 3;

/// The whole life of the first process. `serve` is what a fork of it becomes when there is
/// something to do; it gives its exit code.
pub fn main(serve: fn(Inherited) -> i32) -> ! {
    // The one who looks at the exit status is the spawner, by then only to say that it ended.
    let code = match Init::new(serve) {
        Ok(mut init) => init.run(),
        Err(error) => error.raw_os_error().unwrap_or(1),
    };
    exit(code)
}

struct Init {
    listener: OwnedFd,
    /// In the order of [`Listener::ALL`]; none where the network is closed.
    listeners: [Option<OwnedFd>; Listener::ALL.len()],
    /// What [`Kind::Capture`] is answered with, in its order; empty where the network is closed.
    capture: Vec<OwnedFd>,
    /// Readable when a child has ended.
    children: OwnedFd,
    /// Our end of the queue, and `serve`'s, of which it gets a copy.
    queue: OwnedFd,
    queue_end: OwnedFd,
    greetings: Greetings,
    become_serve: fn(Inherited) -> i32,
    generation: u64,
    has_group: bool,
    has_diagnosis: bool,
    /// 0 while none runs.
    serve: i32,
    served_since_ms: u64,
    starts: u32,
    quick_failures: u32,
    last: Last,
    clock: Instant,
}

impl Init {
    fn new(become_serve: fn(Inherited) -> i32) -> std::io::Result<Self> {
        prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
        let mut listeners = [const { None }; Listener::ALL.len()];
        for (place, listener) in listeners.iter_mut().zip(Listener::ALL) {
            if hold(listener.fd())? {
                // SAFETY: the spawner leaves it open; nothing else in this process knows it.
                *place = Some(unsafe { OwnedFd::from_raw_fd(listener.fd()) });
            }
        }
        let mut capture = Vec::with_capacity(socket::FDS_MAX);
        for fd in [fds::DNS, fds::NAMES].into_iter().chain(fds::CAPTURE) {
            if hold(fd)? {
                // SAFETY: as above.
                capture.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        let has_diagnosis = hold(fds::DIAGNOSIS_KEPT)?;
        let has_group = hold(fds::CGROUP)?;
        // What this was started from; nobody needs it again.
        // SAFETY: an integer; the spawner leaves it open, and nothing else knows it.
        unsafe { libc::close(fds::RUNNER) };
        close_on_exec_from(fds::LINK_LISTENER)?;
        // SAFETY: the spawner leaves it open; nothing else in this process knows it.
        let listener = unsafe { OwnedFd::from_raw_fd(fds::LINK_LISTENER) };
        // SAFETY: integers only.
        unsafe {
            let flags = check(libc::fcntl(listener.as_raw_fd(), libc::F_GETFL))?;
            check(libc::fcntl(listener.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK))?;
        }
        let (queue, queue_end) = socket::pair(Blocking::No)?;
        Ok(Self {
            listener,
            listeners,
            capture,
            children: children()?,
            queue,
            queue_end,
            greetings: Greetings::new(),
            become_serve,
            generation: generation(),
            has_group,
            has_diagnosis,
            serve: 0,
            served_since_ms: 0,
            starts: 0,
            quick_failures: 0,
            last: Last::None,
            clock: Instant::now(),
        })
    }

    /// Until the end of the sandbox; returns on an error that leaves no way on.
    fn run(&mut self) -> i32 {
        loop {
            let events = match self.greetings.wait(
                self.children.as_fd(),
                self.listener.as_fd(),
                self.now_ms(),
            ) {
                Ok(events) => events,
                Err(error) => return error.raw_os_error().unwrap_or(1),
            };
            if events.children {
                self.reap();
            }
            if events.listener {
                self.greetings.accept(self.listener.as_fd(), self.now_ms());
            }
            self.greet();
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn greet(&mut self) {
        for slot in 0..greeting::SLOTS {
            match self.greetings.read(slot, self.now_ms()) {
                State::Waiting => {}
                State::Greeted(connection, kind) => self.answer(&connection, kind),
            }
        }
    }

    /// A client that does not read its answer gets none: the sockets do not block.
    fn answer(&mut self, connection: &OwnedFd, kind: Kind) {
        match kind {
            Kind::Ping => {
                let pong = Pong {
                    generation: self.generation,
                    serve_pid: self.serve.unsigned_abs(),
                    serve_starts: self.starts,
                };
                let _ = socket::send(connection.as_fd(), &pong.encode(), &[]);
            }
            Kind::Listener(wanted) => {
                let place = Listener::ALL.iter().position(|listener| *listener == wanted);
                if let Some(listener) = place.and_then(|place| self.listeners[place].as_ref()) {
                    let _ =
                        socket::send(connection.as_fd(), &[LISTENER_OK], &[listener.as_raw_fd()]);
                }
            }
            Kind::Capture => {
                let mut all = [-1; socket::FDS_MAX];
                for (place, descriptor) in all.iter_mut().zip(&self.capture) {
                    *place = descriptor.as_raw_fd();
                }
                let all = &all[..self.capture.len().min(socket::FDS_MAX)];
                if !all.is_empty() {
                    let _ = socket::send(connection.as_fd(), &[LISTENER_OK], all);
                }
            }
            Kind::Link => {
                let queued =
                    socket::send(self.queue.as_fd(), &[CONNECTION_BYTE], &[connection.as_raw_fd()]);
                // A full queue means that `serve` is stuck; the client sees its connection close.
                if queued.is_ok() && self.serve == 0 {
                    self.start_serve();
                }
            }
        }
    }

    fn start_serve(&mut self) {
        self.starts += 1;
        let story = Story {
            generation: self.generation,
            starts: self.starts,
            last: self.last,
            has_group: self.has_group,
            has_diagnosis: self.has_diagnosis,
        };
        match start_serve::start(self.become_serve, story, &self.queue_end) {
            Ok(pid) => {
                self.serve = pid;
                self.served_since_ms = self.now_ms();
            }
            // The limit on processes or memory is reached: whoever waits sees a closed
            // connection, and asks again.
            Err(_) => self.drop_queued(),
        }
    }

    fn reap(&mut self) {
        let mut buffer = [0u8; size_of::<libc::signalfd_siginfo>()];
        // SAFETY: a buffer of the length given. Signals of one kind are merged, so one is read
        // and every child that has ended is reaped.
        unsafe { libc::read(self.children.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        loop {
            let mut status = 0;
            // SAFETY: `status` is writable.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if pid <= 0 {
                return;
            }
            if pid == self.serve {
                self.serve_ended(status);
            }
        }
    }

    fn serve_ended(&mut self, status: i32) {
        self.serve = 0;
        self.last = if libc::WIFEXITED(status) {
            Last::Exited(libc::WEXITSTATUS(status))
        } else {
            Last::Signaled(libc::WTERMSIG(status))
        };
        // Agents and terminals end with it: every process but this one, those that are being
        // forked included (the kernel fails a fork while a signal is pending).
        // SAFETY: integers only. Fails when there is nobody left, which is as well.
        unsafe { libc::kill(-1, libc::SIGKILL) };
        let lived = self.now_ms().saturating_sub(self.served_since_ms);
        let failed = !matches!(self.last, Last::Exited(0)) && lived < QUICK_MS;
        self.quick_failures = if failed { self.quick_failures + 1 } else { 0 };
        if self.quick_failures >= QUICK_MAX {
            self.quick_failures = 0;
            self.drop_queued();
        } else if is_readable(self.queue_end.as_fd()) {
            self.start_serve();
        }
    }

    /// Closes the connections that nobody takes.
    fn drop_queued(&mut self) {
        let mut byte = [0];
        while matches!(
            socket::receive(self.queue_end.as_fd(), &mut byte),
            Ok(received) if received.length > 0
        ) {}
    }
}

/// How many times the workspace was started.
fn generation() -> u64 {
    std::env::var(fds::ENV_GENERATION).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether the well-known descriptor `fd` is open; if not, something harmless takes its number,
/// so that nothing else ever gets it.
fn hold(fd: i32) -> std::io::Result<bool> {
    // SAFETY: integers only; nothing is at a number that is not open.
    unsafe {
        if libc::fcntl(fd, libc::F_GETFD) >= 0 {
            return Ok(true);
        }
        check(libc::dup2(0, fd))?;
    }
    Ok(false)
}

/// A descriptor that is readable when a child has ended.
fn children() -> std::io::Result<OwnedFd> {
    // SAFETY: valid structures; the result is a new descriptor.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigaddset(&raw mut mask, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const mask, std::ptr::null_mut()))?;
        let fd =
            check(libc::signalfd(-1, &raw const mask, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    matches!(socket::wait(fd, libc::POLLIN, Some(0)), Ok(events) if events & libc::POLLIN != 0)
}
