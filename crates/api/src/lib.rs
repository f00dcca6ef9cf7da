//! What travels between a client and the server over HTTP, and a typed client for it.
//!
//! Every request and response of `/api` is a type here: requests refuse fields that they do not
//! know, responses may gain fields at any time. The server's routes, the command line and the tests
//! are written against these types; `/api/openapi.json` is generated from them.
//!
//! - [`problem`]: the one shape of an error (RFC 9457), with the list of codes.
//! - [`page`]: lists come in pages with an opaque cursor.
//! - [`idempotency`]: a creation that is asked for twice happens once.
//! - One module per resource: [`task`], [`workspace`], [`session`], [`repository`], [`blob`],
//!   [`agent`], [`egress`], [`job`], [`request`], [`feed`], [`identity`], [`system`].
//! - [`client`]: [`Client`], with one method per endpoint.
//!
//! Times are RFC 3339 in UTC; durations are in seconds unless the name says otherwise.

pub mod agent;
pub mod audit;
pub mod blob;
pub mod client;
pub mod connection;
pub mod device_code;
pub mod egress;
pub mod feed;
pub mod git;
pub mod idempotency;
pub mod identity;
pub mod job;
pub mod key;
pub mod organization;
pub mod page;
pub mod problem;
pub mod quota;
pub mod repository;
pub mod request;
pub mod revision;
pub mod session;
pub mod share;
pub mod sign_in;
pub mod system;
pub mod task;
pub mod usage;
pub mod workspace;

pub use boatyard_model as model;
pub use client::{Client, Error};
pub use idempotency::IdempotencyKey;
pub use page::Cursor;
pub use problem::{Problem, ProblemKind};
pub use revision::Revision;
