//! The inside of a sandbox: what the child does between `clone3` and the first process's program.
//!
//! - [`template`]: the root file system that all sandboxes share, built once by the spawner;
//! - [`setup`]: the order of steps in the child;
//! - [`network`], [`seccomp`], [`capabilities`], [`handover`]: its parts.

pub(crate) mod capabilities;
mod handover;
pub(crate) mod network;
pub(crate) mod seccomp;
pub(crate) mod setup;
pub(crate) mod template;
