//! Following what happens, live.
//!
//! ```text
//! task ─► phases of its preparation ─► events of its session ─► result
//!              (asked for again)          (a stream that resumes)
//! ```
//!
//! - [`render`]: events → lines, a pure function; [`screen`]: lines → terminal.
//! - [`task`]: a task from order to result; [`session`]: a conversation.
//!
//! A restart of the server is a pause: the stream goes on after the last event that was seen.
//! Ctrl-C detaches; what runs goes on.

pub(crate) mod ask;
mod calls;
pub(crate) mod compare;
pub(crate) mod egress;
pub(crate) mod phase;
pub(crate) mod render;
pub(crate) mod screen;
pub(crate) mod session;
pub(crate) mod stat;
pub(crate) mod task;
mod wrap;

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often what is drawn over is drawn anew, and a task's state is asked for while it matters.
pub(crate) const TICK: Duration = Duration::from_millis(125);

/// Ctrl-C from now on, none of them missed while something else is done.
pub(crate) fn interrupts() -> Result<Signal> {
    signal(SignalKind::interrupt()).context("signals can't be watched")
}
