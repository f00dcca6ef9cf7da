//! The Linux sandbox: namespaces, mounts, limits, seccomp, the spawner and the first process.
//!
//! Three programs use it:
//!
//! - the server's program starts the **spawner** ([`spawner::launch`]) and talks to it through a
//!   socket ([`protocol`], [`client`]);
//! - `boatyard-runner init`, the **first process** of every sandbox, is [`init::main`];
//! - `boatyard-runner serve` starts processes inside with [`spawn`] and groups them with
//!   [`cgroup`].
//!
//! ```text
//! server ══ SEQPACKET, 4 KiB requests ══ spawner ── clone3 ──► init ── execveat(fd 7) ──► serve
//!   ╚════ D/run/<ws>.sock: hello, then the link ════════════════╝ SCM_RIGHTS ═════════════╝
//! ```
//!
//! Invariants:
//!
//! - No path comes over the spawner's socket: it forms each from 128-bit ids below directories
//!   that it opened at its start, and follows no symbolic link there.
//! - What a sandbox does is decided before its first process runs; nothing joins it later from
//!   the host (no `setns`).
//! - A level of isolation is chosen by trying and is reported; a missing piece is an error that
//!   names the step, never a silent step down.
#![allow(unsafe_code, reason = "system calls: each block says why it is sound")]

pub mod cgroup;
pub mod client;
pub mod error;
pub mod escape;
pub mod fds;
pub mod init;
mod inside;
mod names;
pub mod programs;
pub mod protocol;
pub mod serve;
pub mod spawn;
pub mod spawner;
pub mod supervise;
mod sys;
mod tree;

pub use error::{Error, Result};

/// The user id inside that agents, setup, terminals and git run as.
pub const WORKER_UID: u32 = 1000;
/// The group id inside that goes with [`WORKER_UID`].
pub const WORKER_GID: u32 = 1000;
/// The home folder of the worker inside.
pub const WORKER_HOME: &str = "/home/agent";
/// Where installed tools are shown inside, each in a folder of its own.
pub const TOOLS: &str = "/opt/boatyard/tools";
/// The certificates of all authorities that are trusted inside, in PEM form.
pub const CA_BUNDLE: &str = "/etc/boatyard/ca-bundle.pem";
/// The same as a Java key store.
pub const JAVA_TRUST: &str = "/etc/boatyard/cacerts.jks";
/// The name of the machine inside.
pub const HOSTNAME: &str = "boatyard";
/// Where the egress listener listens inside, on 127.0.0.1.
pub const EGRESS_PORT: u16 = 3128;
/// Where the gateway to the models' providers listens inside, on 127.0.0.1.
pub const GATEWAY_PORT: u16 = 7080;
/// Where connections that know of no proxy arrive inside, on 127.0.0.1, whatever their port was.
pub const CAPTURE_PORT: u16 = 3129;
/// The ports on which connections are caught where the kernel can't do it for all: HTTPS, HTTP,
/// SSH, and names over TCP.
pub const CAPTURED_PORTS: [u16; 4] = [443, 80, 22, 53];
