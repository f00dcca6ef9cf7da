//! Starting `serve` from the sealed memory file, without allocating.

use std::{
    ffi::{CStr, c_char},
    fmt::{self, Write as _},
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use crate::{
    fds,
    sys::{check, process::exit},
};

/// What `serve` finds programs with.
const PATH: &CStr = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How the last `serve` ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Last {
    None,
    Exited(i32),
    Signaled(i32),
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Exited(code) => write!(f, "exit {code}"),
            Self::Signaled(number) => write!(f, "signal {number}"),
        }
    }
}

/// The environment of `serve`, in a place of its own.
pub(super) struct Environment {
    generation: u64,
    single: bool,
    has_group: bool,
    generation_text: Text,
    starts: Text,
    last: Text,
}

/// A C string of bounded length.
struct Text {
    bytes: [u8; 64],
    length: usize,
}

impl Environment {
    /// As this process has it.
    pub(super) fn new(has_group: bool) -> Self {
        let value = |name: &str| std::env::var(name).unwrap_or_default();
        Self {
            generation: value(fds::ENV_GENERATION).parse().unwrap_or(0),
            single: value(fds::ENV_IDS) == "single",
            has_group,
            generation_text: Text::new(),
            starts: Text::new(),
            last: Text::new(),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}

/// Starts `serve`; its process id.
pub(super) fn start(
    environment: &mut Environment,
    starts: u32,
    last: Last,
    queue_end: &OwnedFd,
) -> io::Result<i32> {
    environment.generation_text.set(fds::ENV_GENERATION, &environment.generation);
    environment.starts.set(fds::ENV_SERVE_STARTS, &starts);
    environment.last.set(fds::ENV_SERVE_LAST, &last);
    let ids = if environment.single { c"BOATYARD_IDS=single" } else { c"BOATYARD_IDS=range" };
    let variables = [
        PATH.as_ptr(),
        ids.as_ptr(),
        environment.generation_text.as_ptr(),
        environment.starts.as_ptr(),
        environment.last.as_ptr(),
        std::ptr::null(),
    ];
    let has_group = environment.has_group;
    let arguments = [c"boatyard-runner".as_ptr(), c"serve".as_ptr(), std::ptr::null()];
    // SAFETY: this process has one thread; the child calls `child` only.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        child(&arguments, &variables, queue_end, has_group);
    }
    Ok(pid)
}

/// The child: its descriptors, then the program.
fn child(
    arguments: &[*const c_char],
    variables: &[*const c_char],
    queue_end: &OwnedFd,
    has_group: bool,
) -> ! {
    // SAFETY: integers, and null-terminated arrays of C strings. All well-known numbers are taken
    // from the start, so the queue's end is none of them.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
        libc::setsid();
        if libc::dup2(queue_end.as_raw_fd(), fds::CONNECTIONS) < 0 {
            exit(127);
        }
        // Everything else is closed on exec.
        libc::fcntl(fds::SPOOL, libc::F_SETFD, 0);
        if has_group {
            libc::fcntl(fds::CGROUP, libc::F_SETFD, 0);
        }
        libc::syscall(
            libc::SYS_execveat,
            fds::RUNNER,
            c"".as_ptr(),
            arguments.as_ptr(),
            variables.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    exit(127)
}

impl Text {
    const fn new() -> Self {
        Self { bytes: [0; 64], length: 0 }
    }

    fn set(&mut self, name: &str, value: &dyn fmt::Display) {
        *self = Self::new();
        // Names and numbers are shorter than the place; the last byte stays zero.
        let _ = write!(self, "{name}={value}");
    }

    fn as_ptr(&self) -> *const c_char {
        self.bytes.as_ptr().cast()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        if end >= self.bytes.len() {
            return Err(fmt::Error);
        }
        self.bytes[self.length..end].copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
