//! The server: routes, operations, the hub of live links, jobs, the embedded page.
//!
//! A request goes route → operation → store; an operation is one transaction and enqueues the job
//! that follows from it. Jobs and the [`hub`] do what takes time: they make workspaces, talk to
//! runners, fetch repositories. What comes over a link is stored by the hub and then, and only
//! then, shown.
//!
//! ```text
//! routes ──► operations ──► store ◄── hub ◄══ links to runners
//!                │             ▲       ▲
//!                └── jobs ─────┴───────┘
//! ```

pub mod access;
pub mod agents;
pub mod app;
pub mod asks;
pub mod audit;
pub mod auth;
pub mod blobs;
pub mod calls;
pub mod checks;
pub mod connections;
pub mod encoded;
mod flush;
pub mod gate;
pub mod git;
pub mod health;
pub mod hub;
pub mod jobs;
pub(crate) mod ledger;
pub mod listener;
pub mod mail;
pub mod metrics;
pub mod mirrors;
pub mod openapi;
pub mod operations;
pub mod policies;
pub mod providers;
pub mod proxy;
pub mod rates;
pub mod request_id;
pub mod route;
pub mod routes;
pub mod serve;
pub mod settings;
pub mod sse;
pub mod stream;
pub mod tls;
pub mod traffic;
pub mod trust;
mod unrecorded;
pub mod vault;

pub use app::{App, Parts};
pub use serve::{Entry, Listeners, Serving, start};

/// Bytes as small hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
