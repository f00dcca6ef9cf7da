//! The link between server and runner: one connection, many streams.
//!
//! Everything that a workspace does is a stream on its link, and the link is the same for a
//! sandbox, a container, a pod and a laptop.
//!
//! ```text
//!   message    what is said on a stream (typed headers and messages)
//!   stream     one stream: bytes or messages, two halves
//!   link       one live link: open, accept, close, why it ended
//!   driver     moves bytes between the state machine and a connection
//!   mux        the state machine: streams, credit, round robin
//!   handshake  Welcome: which version
//!   frame      the encoding
//! ```
//!
//! [`reconnect`] stands beside them: how a side that dials comes back. [`record`] and [`spool`] are
//! the byte forms of what a runner reports, on the link and on disk.
//!
//! What comes over a link is hostile: each frame is bounded, each stream by its window, the link
//! by a total, and whatever the protocol does not allow ends the link with a [`Violation`].

mod driver;
mod error;
pub mod frame;
pub mod handshake;
mod link;
pub mod message;
pub mod mux;
pub mod reconnect;
pub mod record;
pub mod spool;
mod stream;
pub mod transport;

pub use self::{
    driver::Driver,
    error::{Error, Violation},
    frame::{GoAwayCode, ResetCode},
    handshake::Peer,
    link::{Incoming, Keepalive, Link, Options},
    mux::{Farewell, Role},
    stream::{RecvHalf, SendHalf, Stream},
};
