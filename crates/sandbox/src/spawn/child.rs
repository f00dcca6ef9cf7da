//! Between `clone` and `execve`: system calls only, no allocation, no lock.

use std::{
    ffi::{CStr, CString, c_char},
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use super::pipe;
use crate::{
    Error, Result,
    error::Step as _,
    inside::capabilities,
    sys::{
        check,
        process::{self, Wait, reap},
        retry,
    },
};

/// Everything that the child needs, made before it exists.
pub(super) struct Plan<'a> {
    /// Tried in order.
    pub(super) programs: &'a [CString],
    /// Null-terminated.
    pub(super) arguments: &'a [*const c_char],
    /// Null-terminated.
    pub(super) environment: &'a [*const c_char],
    pub(super) directory: &'a CStr,
    pub(super) worker: Option<Worker>,
    pub(super) new_session: bool,
    pub(super) procs: Option<i32>,
    pub(super) terminal: Option<i32>,
    pub(super) limits: &'a [(i32, u64)],
    /// All greater than 2.
    pub(super) stdio: [i32; 3],
}

/// The ids of the worker.
#[derive(Clone, Copy)]
pub(super) struct Worker {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether the ids differ from the caller's.
    pub(super) change: bool,
}

/// The steps, in order; what the child writes to the pipe when one fails.
const STEPS: [&str; 9] = [
    "begin a session",
    "join group",
    "set standard descriptors",
    "take the terminal",
    "set resource limits",
    "become the worker",
    "drop capabilities",
    "enter folder",
    "find program",
];

/// Out-of-memory score of everything that is started here: the kernel ends these before the
/// runner.
const OOM_SCORE: &[u8] = b"500";

/// Pointers to `strings`, null-terminated, as `execve` wants them.
pub(super) fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Starts the child and waits until its program runs.
pub(super) fn start(plan: &Plan<'_>) -> Result<(u32, OwnedFd)> {
    let (reader, writer) = pipe().step("make a pipe")?;
    let mut pidfd: i32 = -1;
    // A handler of ours must not run in the child, where it would act on our descriptors.
    let signals = block_signals();
    // SAFETY: fork semantics (no stack); the child runs `run`, which is async-signal-safe, and
    // never returns. `clone3` is not available under our own filter.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::CLONE_PIDFD | libc::SIGCHLD,
            0usize,
            &raw mut pidfd,
            0usize,
            0usize,
        )
    });
    if matches!(pid, Ok(0)) {
        let (step, error) = run(plan);
        report(writer.as_raw_fd(), step, &error);
        process::exit(127);
    }
    restore_signals(&signals);
    let pid = pid.step("fork")?;
    drop(writer);
    // SAFETY: the kernel made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let mut failure = [0u8; 5];
    let length = retry(|| {
        // SAFETY: the buffer is as long as said.
        check(unsafe { libc::read(reader.as_raw_fd(), failure.as_mut_ptr().cast(), failure.len()) })
    })
    .step("wait for exec")?;
    if length == 0 {
        return Ok((pid.unsigned_abs() as u32, pidfd));
    }
    // It has ended or is about to: it wrote its report last.
    reap(pidfd.as_fd(), Wait::Block).step("wait for exec")?;
    let [step, errno @ ..] = failure;
    let step = STEPS.get(usize::from(step)).copied().unwrap_or("exec");
    Err(Error::system(step, io::Error::from_raw_os_error(i32::from_ne_bytes(errno))))
}

/// The child's whole life before its program; returns only on failure, with the step's index.
fn run(plan: &Plan<'_>) -> (u8, io::Error) {
    let steps: [&dyn Fn() -> io::Result<()>; 8] = [
        &|| begin(plan),
        &|| join(plan),
        &|| standard_descriptors(plan),
        &|| terminal(plan),
        &|| limits(plan),
        &|| become_worker(plan),
        &|| drop_capabilities(plan),
        &|| enter(plan),
    ];
    for (index, step) in (0u8..).zip(steps) {
        if let Err(error) = step() {
            return (index, error);
        }
    }
    (8, exec(plan))
}

fn begin(plan: &Plan<'_>) -> io::Result<()> {
    for number in 1..=64 {
        // SAFETY: back to the default; refused for SIGKILL, SIGSTOP and the two that libc keeps
        // for itself, which nobody handles.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    if plan.new_session {
        // SAFETY: always sound.
        check(unsafe { libc::setsid() })?;
    }
    // SAFETY: both structures are valid; an empty mask lets every signal through.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    Ok(())
}

fn join(plan: &Plan<'_>) -> io::Result<()> {
    let Some(procs) = plan.procs else { return Ok(()) };
    write_all(procs, b"0")
}

fn standard_descriptors(plan: &Plan<'_>) -> io::Result<()> {
    for (target, source) in (0..).zip(plan.stdio) {
        // SAFETY: the plan's descriptors are open and greater than 2, so none is overwritten
        // before it is used.
        check(unsafe { libc::dup2(source, target) })?;
    }
    process::close_on_exec_from(3)
}

fn terminal(plan: &Plan<'_>) -> io::Result<()> {
    let Some(terminal) = plan.terminal else { return Ok(()) };
    // SAFETY: takes an integer argument.
    check(unsafe { libc::ioctl(terminal, libc::TIOCSCTTY, 0) })?;
    Ok(())
}

fn limits(plan: &Plan<'_>) -> io::Result<()> {
    for (resource, value) in plan.limits {
        let limit = libc::rlimit { rlim_cur: *value, rlim_max: *value };
        // SAFETY: `limit` is valid for the call.
        check(unsafe { libc::setrlimit(*resource as _, &raw const limit) })?;
    }
    if plan.worker.is_some() {
        // SAFETY: a constant C string. Raising the score needs no right; where there is no
        // /proc, nothing is lost but the preference.
        let fd = unsafe {
            libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC)
        };
        if fd >= 0 {
            write_all(fd, OOM_SCORE)?;
        }
    }
    Ok(())
}

fn become_worker(plan: &Plan<'_>) -> io::Result<()> {
    let Some(worker) = plan.worker else { return Ok(()) };
    capabilities::close_the_way_up()?;
    if worker.change {
        // SAFETY: integers and a null list of length 0. The raw calls, since libc's own would
        // try to tell the other threads of the parent.
        unsafe {
            check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
            check(libc::syscall(libc::SYS_setresgid, worker.gid, worker.gid, worker.gid))?;
            check(libc::syscall(libc::SYS_setresuid, worker.uid, worker.uid, worker.uid))?;
        }
    }
    Ok(())
}

fn drop_capabilities(plan: &Plan<'_>) -> io::Result<()> {
    match plan.worker {
        Some(_) => capabilities::set(capabilities::NONE),
        None => Ok(()),
    }
}

fn enter(plan: &Plan<'_>) -> io::Result<()> {
    // SAFETY: a C string.
    check(unsafe { libc::chdir(plan.directory.as_ptr()) })?;
    Ok(())
}

fn exec(plan: &Plan<'_>) -> io::Error {
    let mut denied = None;
    for program in plan.programs {
        // SAFETY: C strings and null-terminated arrays of such.
        unsafe {
            libc::execve(program.as_ptr(), plan.arguments.as_ptr(), plan.environment.as_ptr());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => denied = Some(error),
            _ => return error,
        }
    }
    denied.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

fn report(pipe: i32, step: u8, error: &io::Error) {
    let mut message = [step; 5];
    message[1..].copy_from_slice(&error.raw_os_error().unwrap_or(0).to_ne_bytes());
    // Nobody is left to tell when this fails; the parent sees the exit.
    let _ = write_all(pipe, &message);
}

fn write_all(fd: i32, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the buffer is as long as said; these writes are too short to be split.
    retry(|| check(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) }))?;
    Ok(())
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: both structures are valid; blocking signals for a moment is always sound.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: `before` came from `block_signals`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}
