//! How anything leaves a workspace: through this, or not at all.
//!
//! A workspace has no network of its own. Its programs are pointed at a proxy whose listening
//! socket lies in their network namespace and is held by the server, so the listener is the
//! workspace's identity and no token inside has to say who asks.
//!
//! ```text
//!   rules     what may be reached: pure, default deny
//!   policy    the rules of one workspace, where credentials go, and who is asked
//!   resolve   names to addresses, and which of them may be dialled
//!   dial      how the server itself gets out (upstream proxy, offline)
//!   proxy     HTTP: CONNECT and plain requests, limits, denials that say why
//!   tls       the name that a tunnel's client really asks for
//!   open      TLS where it must be looked into: authority, leaves, verified upstreams
//!   broker    credentials, put into requests that may have them
//!   relay     bytes between two sockets
//!   log       one record for each try
//!   git       fetches and pushes of git, with tokens that no workspace has
//!   https     the server's own requests, to services that give out tokens
//!   scripted  a model provider that is a script, for agents without a key
//! ```
//!
//! Everything that a client sends is hostile: heads are bounded in size and time, connections in
//! number, and where something is not understood it is refused.

pub mod broker;
pub mod capture;
pub mod cidr;
pub mod dial;
pub mod dns;
mod error;
pub mod gateway;
pub mod git;
pub mod https;
mod listener;
pub mod log;
pub mod open;
pub mod policy;
mod proxy;
mod relay;
pub mod resolve;
pub mod rules;
pub mod scripted;
mod tls;

pub use self::{
    cidr::Cidr,
    dial::Outgoing,
    error::Error,
    log::{LogSink, Outcome, Record},
    policy::Policy,
    proxy::{Proxy, Settings},
    resolve::{Guard, Resolver},
    rules::{Rule, RuleSet},
};
