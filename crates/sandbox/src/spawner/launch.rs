//! Starting a spawner, from the server's program before it has threads.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{ARGUMENT, Config, SOCKET};
use crate::{
    Error, Result, client,
    error::Step as _,
    protocol::{Ready, Reply},
    sys::{
        check, memory,
        socket::{self, Blocking},
    },
};

/// The program that becomes the first process of every sandbox, when called with `init`.
#[derive(Debug, Clone, Copy)]
pub enum Runner<'a> {
    /// Its content.
    Bytes(&'a [u8]),
    /// Where it is.
    Path(&'a Path),
}

/// A spawner that was started.
#[derive(Debug)]
pub struct Launched {
    /// The socket to it, blocking, closed on exec; [`client`] speaks over it. The first message
    /// is [`Reply::Ready`], or [`Reply::Failed`] when it can't work here.
    pub socket: OwnedFd,
    /// The process, to be reaped when it has ended.
    pub child: Child,
}

/// Starts a spawner: this program again (or `program`, for tests), with [`ARGUMENT`].
///
/// Call it early: the calling process should be small, since it is forked.
///
/// # Errors
/// The system refuses; the runner's program can't be read.
pub fn launch(config: &Config, runner: Runner<'_>, program: Option<&Path>) -> Result<Launched> {
    let config = serde_json::to_vec(config)
        .map_err(|error| Error::invalid(format!("configuration: {error}")))?;
    let config = memory::sealed(c"boatyard-config", &config).step("configuration memory")?;
    let content;
    let runner = match runner {
        Runner::Bytes(bytes) => bytes,
        Runner::Path(path) => {
            content = std::fs::read(path).step("read the runner")?;
            &content
        }
    };
    let runner = memory::sealed(c"boatyard-runner", runner).step("runner memory")?;
    let (ours, theirs) = socket::pair(Blocking::Yes).step("spawner socket")?;
    // Out of the way of the numbers that they get in the child.
    let inherited = [above(&theirs)?, above(&config)?, above(&runner)?];
    let numbers: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
    let program = program.map_or_else(|| PathBuf::from("/proc/self/exe"), Path::to_path_buf);
    let mut command = Command::new(program);
    command.arg(ARGUMENT).env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: between fork and exec only dup2 is called.
    unsafe {
        command.pre_exec(move || {
            for (target, source) in (SOCKET..).zip(&numbers) {
                if libc::dup2(*source, target) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let child = command.spawn().step("start the spawner")?;
    Ok(Launched { socket: ours, child })
}

impl Launched {
    /// Waits until the spawner is up.
    ///
    /// # Errors
    /// [`Error::Refused`] with the step that failed and how to mend it, [`Error::Deadline`],
    /// [`Error::SpawnerGone`].
    pub fn ready(&self, limit: Duration) -> Result<Ready> {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let events = socket::wait(self.socket.as_fd(), libc::POLLIN, Some(limit_ms))
            .step("wait for the spawner")?;
        if events == 0 {
            return Err(Error::Deadline { step: "start of the spawner".into(), limit_ms });
        }
        match client::receive(self.socket.as_fd())?.map(|received| received.reply) {
            Some(Reply::Ready(ready)) => Ok(ready),
            Some(Reply::Failed(failure)) => Err(Error::Refused(failure)),
            _ => Err(Error::Malformed { reason: "the spawner did not say that it is ready" }),
        }
    }
}

fn above(fd: &OwnedFd) -> Result<OwnedFd> {
    // SAFETY: integers only; the result is a new descriptor.
    unsafe {
        let copy = check(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10));
        Ok(OwnedFd::from_raw_fd(copy.step("duplicate a descriptor")?))
    }
}
