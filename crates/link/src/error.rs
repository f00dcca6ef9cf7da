//! What can go wrong with a link or one of its streams.

use std::{io, sync::Arc, time::Duration};

use crate::frame::{Illegal, ResetCode, StreamId};

/// Why a link or a stream can't do what was asked. Cheap to clone, because the end of a link is
/// told to each of its streams.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The connection below failed.
    #[error("the link's connection failed")]
    Io(#[source] Arc<io::Error>),
    /// The connection ended while the link was in use.
    #[error("the link's connection ended")]
    Lost,
    /// Nothing came for so long that the other side must be gone.
    #[error("nothing came over the link for {} s", silent.as_secs())]
    Silent {
        /// How long.
        silent: Duration,
    },
    /// This side closed the link.
    #[error("the link is closed")]
    Closed,
    /// The other side takes no new streams.
    #[error("the other side of the link is going away{}", detail(reason))]
    GoingAway {
        /// Why, as it put it.
        reason: Box<str>,
    },
    /// The other side never said Welcome.
    #[error("the other side of the link did not answer within {} s", waited.as_secs())]
    NoWelcome {
        /// How long it had.
        waited: Duration,
    },
    /// No version that both sides speak.
    #[error(
        "no common version: this side speaks link versions {our_min} to {our_max}, \
         `{software}` speaks {their_min} to {their_max}"
    )]
    Version {
        /// Our oldest.
        our_min: u16,
        /// Our newest.
        our_max: u16,
        /// Their oldest.
        their_min: u16,
        /// Their newest.
        their_max: u16,
        /// What they said they are.
        software: Box<str>,
    },
    /// The other side broke the protocol.
    #[error("the other side of the link broke the protocol")]
    Violation(#[source] Violation),
    /// As many streams are open as the other side allows.
    #[error("the link has {limit} streams open and takes no more")]
    TooManyStreams {
        /// How many may be.
        limit: u32,
    },
    /// A stream header or message is too long to be sent or accepted.
    #[error("{what} of {length} bytes is longer than {limit}")]
    TooLong {
        /// What is.
        what: &'static str,
        /// How long it is, in bytes.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A stream was reset by the other side.
    #[error("the stream was reset: {code}{}", detail(text))]
    Reset {
        /// Why.
        code: ResetCode,
        /// Why, for people.
        text: Box<str>,
    },
    /// A stream was ended by this side; nothing more can be read or written.
    #[error("the stream was ended on this side")]
    Ended,
    /// A stream ended in the middle of a message.
    #[error("the stream ended within a message")]
    Truncated,
    /// A header or message can't be read or written as what it should be.
    #[error("malformed {what}")]
    Malformed {
        /// What is.
        what: &'static str,
        /// The parser's complaint.
        #[source]
        source: Arc<serde_json::Error>,
    },
}

fn detail(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io(source) => source.kind(),
            Error::Reset { .. } => io::ErrorKind::ConnectionReset,
            Error::Silent { .. } | Error::NoWelcome { .. } => io::ErrorKind::TimedOut,
            Error::Truncated => io::ErrorKind::UnexpectedEof,
            Error::TooLong { .. } | Error::Malformed { .. } | Error::Violation(_) => {
                io::ErrorKind::InvalidData
            }
            Error::Ended => io::ErrorKind::BrokenPipe,
            Error::TooManyStreams { .. } => io::ErrorKind::QuotaExceeded,
            Error::Lost | Error::Closed | Error::GoingAway { .. } | Error::Version { .. } => {
                io::ErrorKind::NotConnected
            }
        };
        io::Error::new(kind, error)
    }
}

/// What the other side did that the protocol does not allow. Always fatal for the link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] Illegal),
    /// Anything before Welcome, or Welcome twice.
    #[error("Welcome must come first and once")]
    Welcome,
    /// A Welcome that can't be read or makes no sense.
    #[error("malformed Welcome")]
    MalformedWelcome,
    /// A frame for a stream that was never opened.
    #[error("frame for stream {0}, which was never opened")]
    UnknownStream(StreamId),
    /// An Open with an id that is not the opener's to give, or not next, or in use.
    #[error("stream {0} can't be opened by the other side now")]
    StreamId(StreamId),
    /// More data than was granted.
    #[error("more data than granted on stream {0}")]
    Window(StreamId),
    /// Data or Fin after Fin.
    #[error("data after the end of stream {0}")]
    AfterFin(StreamId),
    /// More credit than a window can hold.
    #[error("more credit than a window holds on stream {0}")]
    Credit(StreamId),
    /// It makes us answer more than it takes.
    #[error("it causes answers and does not read them")]
    Flood,
}
