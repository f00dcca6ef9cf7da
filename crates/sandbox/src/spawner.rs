//! The spawner: the process that makes, keeps and ends sandboxes.
//!
//! The server starts it before it becomes an ordinary user and many-threaded ([`launch`]); it is
//! the same program, re-executed with [`ARGUMENT`] ([`is_spawner`], [`main`]). It has one thread,
//! keeps its rights, holds `D/sandboxes` by descriptor and answers [`crate::protocol`] over one
//! socket. When that closes it ends; sandboxes live on, and the next spawner finds them.
//!
//! ```text
//! D/sandboxes/        root's (or the user's), 0700
//!   lock              held while a spawner lives
//!   ids               which workspace has which range of ids
//!   root/             where the spawner's own root is mounted, seen by nobody else
//!   empty/            the lowest layer of a workspace that stands on nothing
//!   layers/lay_…/     frozen: work/ and home/
//!   tools/tol_…/      installed: what was /work of the workspace that it was made in
//!   ws/ws_…/u/        a workspace's own changes: work/ and home/
//!           w-<n>/    the overlay's work folder of generation n
//!           spool     events that the server has not stored yet
//!           meta      which process was started when
//!   trash/            being removed
//! ```
//!
//! Nothing that takes long is done in the loop: it is done by a forked worker, which ends with
//! the spawner.

mod config;
mod enter;
mod event_loop;
mod files;
mod hint;
mod ids;
mod kept;
mod launch;
mod meta;
mod probe;
mod quota;
mod start;
mod state;
mod worker;

use std::{
    fs::File,
    io::Read as _,
    os::fd::{AsFd, FromRawFd, OwnedFd},
};

pub use config::{CaptureSetting, Config, IdsSetting, Trust};
pub use launch::{Launched, Runner, launch};

use crate::{
    Error, Result,
    error::Step as _,
    protocol::{Reply, encode_reply},
    sys::{check, socket},
};

/// The first argument of a spawner.
pub const ARGUMENT: &str = "__boatyard-spawner";

/// Descriptors that the spawner is born with.
const SOCKET: i32 = 3;
const CONFIG: i32 = 4;
const RUNNER: i32 = 5;

/// How much the spawner goes before others (a nice value).
const PRIORITY: i32 = -10;

/// The most that the configuration may take in bytes.
const CONFIG_MAX: u64 = 1 << 20;

/// Whether this process was started to be a spawner; ask before anything else in `main`, and
/// call [`main`] if so.
pub fn is_spawner() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT)
}

/// A spawner's whole life.
pub fn main() -> ! {
    // SAFETY: `launch` leaves exactly these three open; nothing else has run in this process.
    let (socket, config, runner) = unsafe {
        (OwnedFd::from_raw_fd(SOCKET), OwnedFd::from_raw_fd(CONFIG), OwnedFd::from_raw_fd(RUNNER))
    };
    let code = match run(&socket, config, runner) {
        Ok(()) => 0,
        Err(error) => {
            // The server may be gone; then there is nobody to tell.
            let reply = encode_reply(0, &Reply::Failed(hint::failure(&error)));
            let _ = socket::send(socket.as_fd(), &reply, &[]);
            1
        }
    };
    std::process::exit(code)
}

fn run(socket: &OwnedFd, config: OwnedFd, runner: OwnedFd) -> Result<()> {
    let mut text = String::new();
    File::from(config).take(CONFIG_MAX).read_to_string(&mut text).step("read configuration")?;
    let config: Config = serde_json::from_str(&text)
        .map_err(|error| Error::invalid(format!("configuration: {error}")))?;
    become_service()?;
    let state = enter::enter(config, runner)?;
    event_loop::run(state, socket.as_fd())
}

/// Out of the terminal's reach, and ready for many sandboxes.
fn become_service() -> Result<()> {
    crate::sys::process::close_on_exec_from(3).step("descriptors")?;
    // SAFETY: integers and valid structures; this process has one thread.
    unsafe {
        // A Ctrl-C is for the server, which then closes the socket.
        libc::setsid();
        libc::umask(0);
        // Ending what runs wild must not wait for its turn behind it; where this is not allowed,
        // it works all the same. Children go back to the ordinary.
        libc::setpriority(libc::PRIO_PROCESS, 0, PRIORITY);
        let mut files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut files)).step("rlimits")?;
        files.rlim_cur = files.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files)).step("rlimits")?;
    }
    Ok(())
}
