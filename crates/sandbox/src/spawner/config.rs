//! What the spawner is told once, at its start. The only paths that it ever gets.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The configuration of a spawner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The data folder D.
    pub data: PathBuf,
    /// Whom `D/run` and the link sockets belong to.
    pub server_uid: u32,
    /// The group that goes with it.
    pub server_gid: u32,
    /// Host files and folders that every workspace shows read-only at the same place.
    pub tools: Vec<PathBuf>,
    /// What workspaces trust, on the host.
    #[serde(default)]
    pub trust: Option<Trust>,
    /// The runner's program on the host, shown at `/opt/boatyard/boatyard-runner`.
    pub runner: Option<PathBuf>,
    /// Which ids an ordinary user's sandboxes get.
    pub ids: IdsSetting,
    /// How connections of programs that know of no proxy are caught.
    pub capture: CaptureSetting,
}

/// Files of the host with the certificates of all authorities that workspaces trust. They must
/// belong to whoever starts the spawner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// In PEM form: shown at [`crate::CA_BUNDLE`], and over the bundles of distributions.
    pub bundle: PathBuf,
    /// As a Java key store: shown at [`crate::JAVA_TRUST`], and over those of distributions.
    pub java: PathBuf,
}

/// Which ids an ordinary user's sandboxes get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdsSetting {
    /// The user's range of subordinate ids where there is one (`newuidmap`, `/etc/subuid`), else
    /// the user's own id only.
    #[default]
    Automatic,
    /// The user's own id only.
    Single,
}

/// How connections of programs that know of no proxy are caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureSetting {
    /// On every port where the kernel can do that, else on the usual ones.
    #[default]
    Automatic,
    /// On the usual ports only ([`crate::CAPTURED_PORTS`]).
    UsualPorts,
}

impl Config {
    /// A configuration with nothing optional.
    pub fn new(data: impl Into<PathBuf>, server_uid: u32, server_gid: u32) -> Self {
        Self {
            data: data.into(),
            server_uid,
            server_gid,
            tools: Vec::new(),
            trust: None,
            runner: None,
            ids: IdsSetting::default(),
            capture: CaptureSetting::default(),
        }
    }

    /// A short name of this installation, for what is global on the machine (control groups): a
    /// hash of the data folder's path.
    pub fn instance(&self) -> String {
        // FNV-1a, 64 bits: stable over versions of Rust, which is all that matters here.
        let hash = std::os::unix::ffi::OsStrExt::as_bytes(self.data.as_os_str())
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("{hash:016x}")
    }
}
