//! What a supervisor needs of the system: fork without threads, give up rights, take signals
//! from a descriptor.
//!
//! The supervisor itself is in the runtime crate; these are the parts of it that no safe crate
//! offers.

use std::{
    ffi::{CString, OsString},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    process::ExitCode,
};

use crate::{
    Error, Result,
    error::Step as _,
    sys::{check, process},
};

pub use crate::sys::process::Status;

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// The new one's process id.
        pid: i32,
    },
}

/// Forks. The child goes on with a copy of everything, every descriptor included.
///
/// # Errors
/// [`Error::Invalid`] when this process has more than one thread: the child would have only this
/// one, and locks that others held would be held for ever.
pub fn fork() -> Result<Forked> {
    one_thread()?;
    // SAFETY: there is one thread only, this one; nothing here starts another in between.
    Ok(match unsafe { process::fork(0, None) }.step("fork")? {
        process::Fork::Child => Forked::Child,
        process::Fork::Parent(child) => Forked::Parent { pid: child.pid },
    })
}

fn one_thread() -> Result<()> {
    let threads = std::fs::read_dir("/proc/self/task").step("count the threads")?.count();
    match threads {
        1 => Ok(()),
        _ => Err(Error::invalid(format!("{threads} threads run where only one may"))),
    }
}

/// Takes a variable out of this process for good: no child gets it, and where it lay when this
/// process began, which `/proc` goes on to show, it is overwritten.
///
/// # Errors
/// [`Error::Invalid`] when this process has more than one thread, any of which might look at its
/// environment meanwhile, or when there is no variable of such a name.
pub fn take_variable(name: &str) -> Result<Option<OsString>> {
    let c_name = CString::new(name)
        .ok()
        .filter(|name| !name.is_empty() && !name.as_bytes().contains(&b'='))
        .ok_or_else(|| Error::invalid("no name of a variable"))?;
    one_thread()?;
    let mut taken = None;
    loop {
        // SAFETY: the name ends with a zero, and nothing else touches the environment: there is
        // one thread.
        let value = unsafe { libc::getenv(c_name.as_ptr()) };
        if value.is_null() {
            return Ok(taken);
        }
        // SAFETY: the value ends with a zero and lies in memory of this process's own, on the
        // stack or the heap, as `putenv` and `exec` make it; it is not used after `unsetenv`.
        unsafe {
            let bytes = std::ffi::CStr::from_ptr(value).to_bytes();
            let length = bytes.len();
            taken.get_or_insert_with(|| OsString::from_vec(bytes.to_vec()));
            std::ptr::write_bytes(value, 0, length);
            check(libc::unsetenv(c_name.as_ptr())).step("take a variable out")?;
        }
    }
}

/// Gives memory that the allocator holds free back to the system: what a burst needed, it would
/// keep for the next one. Takes some milliseconds where there is much. Allocators that give it
/// back by themselves are left alone.
pub fn give_back_memory() {
    // SAFETY: takes an integer, and its own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Becomes this user and group for good, without supplementary groups or capabilities. The
/// process can't be traced or looked into by others of that user afterwards.
///
/// # Errors
/// When the system refuses, as it does to all but root.
pub fn become_user(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: integers and an empty list. With one thread the calls below concern the whole
    // process, and glibc's wrappers see to it that they do with more.
    unsafe {
        check(libc::setgroups(0, std::ptr::null())).step("drop the groups")?;
        check(libc::setresgid(gid, gid, gid)).step("change the group")?;
        check(libc::setresuid(uid, uid, uid)).step("change the user")?;
    }
    // Leaving user 0 has emptied the capability sets; nothing may bring them back.
    process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).step("refuse new rights")?;
    process::prctl(libc::PR_SET_DUMPABLE, 0, 0).step("refuse to be traced")?;
    Ok(())
}

/// Lets the kernel send `signal` to this process when its parent ends. Must come after
/// [`become_user`], which would undo it.
///
/// # Errors
/// When the parent `parent` has ended already.
pub fn end_with_parent(parent: u32, signal: i32) -> Result<()> {
    process::prctl(libc::PR_SET_PDEATHSIG, u64::from(signal.cast_unsigned()), 0)
        .step("watch the parent")?;
    if std::os::unix::process::parent_id() == parent {
        Ok(())
    } else {
        Err(Error::invalid("the parent has ended"))
    }
}

/// Signals taken from a descriptor instead of by interruption.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    before: libc::sigset_t,
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// Which.
    pub number: i32,
}

impl Signals {
    /// Takes these signals from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn take(numbers: &[i32]) -> Result<Self> {
        // SAFETY: sigemptyset initialises `set`; the others read it. All pointers are to locals
        // that outlive the calls.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            check(libc::sigemptyset(&raw mut set)).step("make a signal set")?;
            for number in numbers {
                check(libc::sigaddset(&raw mut set, *number)).step("make a signal set")?;
            }
            check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut before))
                .step("block signals")?;
            let fd =
                check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))
                    .step("make a signal descriptor")?;
            Ok(Self { fd: OwnedFd::from_raw_fd(fd), before })
        }
    }

    /// Lets signals come as they did before; for a child that goes its own way.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn release(self) -> Result<()> {
        // SAFETY: `before` was filled by `take`.
        unsafe {
            check(libc::sigprocmask(
                libc::SIG_SETMASK,
                &raw const self.before,
                std::ptr::null_mut(),
            ))
        }
        .step("unblock signals")?;
        Ok(())
    }

    /// The next signal that has come, if any.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn next(&self) -> Result<Option<Signal>> {
        // SAFETY: all-zero is a valid value of this plain structure.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        // SAFETY: the buffer is as long as it is said to be.
        let read = check(unsafe {
            libc::read(
                self.fd.as_raw_fd(),
                (&raw mut info).cast(),
                size_of::<libc::signalfd_siginfo>(),
            )
        });
        match read {
            Ok(_) => Ok(Some(Signal { number: info.ssi_signo.cast_signed() })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(Error::system("take a signal", error)),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reaps one child that has ended, whichever; none when none has.
///
/// # Errors
/// When the system refuses.
pub fn reap_any() -> Result<Option<(i32, Status)>> {
    let mut status = 0;
    // SAFETY: `status` is writable.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    match check(pid) {
        Ok(0) => Ok(None),
        Ok(pid) if libc::WIFSIGNALED(status) => {
            Ok(Some((pid, Status::Signaled(libc::WTERMSIG(status)))))
        }
        Ok(pid) => Ok(Some((pid, Status::Exited(libc::WEXITSTATUS(status))))),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(Error::system("wait for a child", error)),
    }
}

/// The code with which a process should end whose work a child did: the child's, or 128 and the
/// signal, as shells have it.
pub fn exit_code(status: Status) -> ExitCode {
    let code = match status {
        Status::Exited(code) => code,
        Status::Signaled(signal) => 128 + signal,
    };
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}
