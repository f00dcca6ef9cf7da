//! How each agent is installed, started, driven and understood; one event vocabulary.
//!
//! - [`catalogue`]: the agents as data. The server reads it to say which agents there are and which
//!   are ready, and makes of an entry the [`Program`] that a workspace runs.
//! - [`driver`]: drives one agent for one session. Commands go in, [`Output`]s come out: events of
//!   `boatyard-model`, blobs, the native session's id, the end of each turn.
//! - [`process`]: what a driver needs of whoever starts processes; it never starts one itself.
//! - [`demo`]: the built-in agent that needs no model and shows every kind of event.
//!
//! ```text
//!            Command                    JSON-RPC lines (ACP) or plain text
//!  runner ───────────► Driver (a task) ◄──────────────────────────────────► agent process
//!         ◄───────────    │    ▲                                              ▲
//!            Output       │    └── normaliser: one vocabulary                 │
//!                         └───────── Spawner (the runner's) ──────────────────┘
//! ```
//!
//! Invariants, whatever the agent does: a started tool call is completed before its turn ends, the
//! deltas of a message concatenate to its whole, a turn ends exactly once, every queue is bounded,
//! and while nobody takes the outputs the agent's output is not read.

mod acp;
mod capture;
pub mod catalogue;
pub mod demo;
pub mod driver;
mod error;
pub mod process;
mod sink;
mod speech;
mod text;

pub use catalogue::{Catalogue, Entry, Program, Protocol};
pub use driver::{
    AgentSession, Ask, Blob, Choice, Command, Conversation, Driver, Input, Launch, Output, Resumed,
};
pub use error::Error;
pub use process::{Exit, Process, ProcessControl, ProcessSpec, Spawner, Stdin};
