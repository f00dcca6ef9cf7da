//! Starting a spawner: this program again, with rights as they are.

use std::{os::fd::OwnedFd, path::PathBuf, process::Child};

pub use boatyard_sandbox::spawner::IdsSetting;
use boatyard_sandbox::spawner::{self, Config, Runner};

use super::{layout, runner};
use crate::Error;

/// What a spawner must know, once and for all.
#[derive(Debug, Clone)]
pub struct SpawnerSettings {
    /// The data folder; absolute.
    pub data: PathBuf,
    /// Files and folders of the host that every workspace shows read-only at the same place.
    pub tools: Vec<PathBuf>,
    /// What workspaces trust beside nothing at all; without, it is what the host trusts.
    pub trust: Option<Trust>,
    /// Which ids an ordinary user's workspaces get.
    pub ids: IdsSetting,
}

/// The certificates of all authorities that workspaces trust.
#[derive(Debug, Clone)]
pub struct Trust {
    /// In PEM form.
    pub bundle: Vec<u8>,
    /// As a Java key store.
    pub java: Vec<u8>,
}

/// A spawner that was started; it may yet say that it can't work here.
#[derive(Debug)]
pub struct Launched {
    /// The process, to be reaped when it has ended.
    pub child: Child,
    /// The way to it. It ends when all copies of this are closed.
    pub socket: OwnedFd,
}

/// Becomes a spawner if this process was started to be one. Every program that starts spawners
/// calls this before anything else.
pub fn run_if_spawner() {
    if spawner::is_spawner() {
        spawner::main();
    }
}

impl SpawnerSettings {
    /// The usual settings for this data folder.
    pub fn new(data: PathBuf) -> Self {
        Self { data, tools: Vec::new(), trust: None, ids: IdsSetting::default() }
    }

    /// Starts a spawner. The data folder must have been laid out ([`layout::prepare`]).
    ///
    /// # Errors
    /// [`Error::Step`] when the machine refuses to start it.
    pub fn launch(&self) -> Result<Launched, Error> {
        let server = layout::server_uid();
        let mut config = Config::new(&self.data, server, server_gid());
        config.tools.clone_from(&self.tools);
        if let Some(trust) = &self.trust {
            config.trust = Some(layout::lay_out_trust(&self.data, trust)?);
        }
        config.runner = Some(layout::runner_file(&self.data));
        config.ids = self.ids;
        let launched = spawner::launch(&config, Runner::Bytes(runner::PROGRAM), None)
            .map_err(super::refusal::system)?;
        Ok(Launched { child: launched.child, socket: launched.socket })
    }
}

/// The group that goes with [`layout::server_uid`].
fn server_gid() -> u32 {
    if rustix::process::geteuid().is_root() {
        layout::SERVER_UID
    } else {
        rustix::process::getegid().as_raw()
    }
}
