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

pub mod settings;
