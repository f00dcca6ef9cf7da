//! The program half inside a workspace.
//!
//! `boatyard-runner serve` speaks with the server over the link and does what it asks: agents,
//! commands, files, git. It owns what runs; the server owns what is remembered.
//!
//! ```text
//!  init ══ connections ══► serve ── accept ── dispatch ─┬─ control ─► sessions ── driver ── agent
//!                                                       ├─ events ◄── spool ◄─┘
//!                                                       ├─ exec, file, git, blob
//! ```
//!
//! - [`serve`]: the links, one after another, and the dispatch of their streams.
//! - [`sessions`]: the agents' conversations and their turns.
//! - [`spool`], [`events`]: what happened, kept until the server has stored it.
//! - [`exec`], [`mod@file`], [`git`], [`blobs`]: the other streams.
//! - [`process`], [`environment`], [`layout`], [`beneath`]: how and where things are started and
//!   files are touched.
//! - [`signing`]: what git calls for a signature.
//!
//! Invariants: whatever an agent says is bounded before it is kept; nothing that the worker can
//! change is followed with the runner's rights; the runner waits for no server.

pub mod beneath;
pub mod blobs;
pub mod bounds;
pub mod environment;
pub mod events;
pub mod exec;
pub mod failure;
pub mod file;
pub mod git;
pub mod ids;
pub mod layout;
pub mod process;
pub mod serve;
pub mod sessions;
pub mod signing;
pub mod spool;
