//! Frames: the unit that crosses a link, and its encoding.
//!
//! ```text
//!  0        4      5         8
//! ┌────────┬──────┬─────────┬──────────────────┐
//! │ stream │ kind │ length  │ payload          │
//! │ u32 LE │ u8   │ u24 LE  │ `length` bytes   │
//! └────────┴──────┴─────────┴──────────────────┘
//! ```
//!
//! | kind | stream | payload |
//! |---|---|---|
//! | 1 Welcome | 0 | JSON, at most [`MAX_WELCOME`]; the first frame, once from each side |
//! | 2 Open | id | the stream's header, at most [`MAX_HEADER`] |
//! | 3 Data | id | 1 to [`MAX_DATA`] bytes, paid for with credit |
//! | 4 Credit | id | u32 LE, at least 1: so many bytes more may be sent |
//! | 5 Fin | id | nothing: the sender's half is complete |
//! | 6 Reset | id | u16 LE code, then text of at most [`MAX_TEXT`]: both halves end now |
//! | 7 Ping, 8 Pong | 0 | u64, given back as it came |
//! | 9 GoAway | 0 | u16 LE code, u32 LE milliseconds until a new try, then text |
//!
//! [`decode`] borrows from its input and allocates nothing, so a length that lies costs nothing.
//! It refuses everything that the table does not allow.

use bytes::{BufMut, BytesMut};

/// Bytes before a frame's payload.
pub const HEADER_LEN: usize = 8;
/// The most a Data frame carries. We cut at [`QUANTUM`]; the rest is room for others.
pub const MAX_DATA: usize = 64 * 1024;
/// The longest stream header.
pub const MAX_HEADER: usize = 64 * 1024;
/// The longest Welcome.
pub const MAX_WELCOME: usize = 4 * 1024;
/// The longest text in a Reset or GoAway: a sentence, not a log.
pub const MAX_TEXT: usize = 512;
/// The longest frame there is, header included.
pub const MAX_FRAME: usize = HEADER_LEN + MAX_DATA;
/// What one stream sends before it is the next one's turn. Small enough that a hundred busy
/// streams delay a keystroke by a millisecond or two, large enough that the header is nothing.
pub const QUANTUM: usize = 16 * 1024;

/// Which stream of a link: odd ones are opened by the connector, even ones by the acceptor.
/// Never zero, which means the link itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    /// The stream with this number; nothing for zero.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number on the wire.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a stream was reset. Numbers that this release does not know are passed on as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResetCode(pub u16);

impl ResetCode {
    /// Whoever wanted it went away.
    pub const CANCELLED: Self = Self(1);
    /// Too many streams are open.
    pub const REFUSED: Self = Self(2);
    /// The kind of stream in the header is not known here.
    pub const UNSUPPORTED: Self = Self(3);
    /// What the stream was for failed; the text says how.
    pub const FAILED: Self = Self(4);
    /// A message or transfer was larger than allowed.
    pub const TOO_LARGE: Self = Self(5);
    /// The receiver holds too much unread data on this link.
    pub const OVERLOADED: Self = Self(6);
    /// What the header names does not exist.
    pub const NOT_FOUND: Self = Self(7);
    /// A deadline passed.
    pub const TIMED_OUT: Self = Self(8);
    /// What came on the stream was not what its kind allows.
    pub const MALFORMED: Self = Self(9);
}

impl std::fmt::Display for ResetCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match *self {
            Self::CANCELLED => "cancelled",
            Self::REFUSED => "refused",
            Self::UNSUPPORTED => "unsupported",
            Self::FAILED => "failed",
            Self::TOO_LARGE => "too large",
            Self::OVERLOADED => "overloaded",
            Self::NOT_FOUND => "not found",
            Self::TIMED_OUT => "timed out",
            Self::MALFORMED => "malformed",
            Self(other) => return write!(f, "code {other}"),
        };
        f.write_str(name)
    }
}

/// Why a side ends the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GoAwayCode(pub u16);

impl GoAwayCode {
    /// It is done, or shuts down in good order.
    pub const CLOSING: Self = Self(1);
    /// No version that both sides speak.
    pub const VERSION: Self = Self(2);
    /// Another connection takes this one's place.
    pub const REPLACED: Self = Self(3);
    /// The other side broke the protocol.
    pub const VIOLATION: Self = Self(4);
}

/// One frame, borrowing its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The version handshake, as JSON ([`crate::handshake::Welcome`]).
    Welcome(&'a [u8]),
    /// A new stream.
    Open {
        /// Its id, of the sender's parity.
        id: StreamId,
        /// What it is for.
        header: &'a [u8],
    },
    /// A stream's bytes.
    Data {
        /// Which stream.
        id: StreamId,
        /// The bytes, never empty.
        bytes: &'a [u8],
    },
    /// Room for more bytes of a stream.
    Credit {
        /// Which stream.
        id: StreamId,
        /// How many bytes more, never zero.
        bytes: u32,
    },
    /// The sender's half of a stream is complete.
    Fin {
        /// Which stream.
        id: StreamId,
    },
    /// Both halves of a stream end.
    Reset {
        /// Which stream.
        id: StreamId,
        /// Why.
        code: ResetCode,
        /// Why, for people.
        text: &'a str,
    },
    /// Asks for a Pong with the same number.
    Ping(u64),
    /// Answers a Ping.
    Pong(u64),
    /// No new streams, please; the link ends when the open ones have.
    GoAway {
        /// Why.
        code: GoAwayCode,
        /// When to try again, in milliseconds; zero for "as you like".
        retry_after_ms: u32,
        /// Why, for people.
        text: &'a str,
    },
}

/// Why bytes are not a frame. None of them can be recovered from: the link ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// A kind that no version has.
    #[error("frame of unknown kind {kind}")]
    Kind {
        /// The byte.
        kind: u8,
    },
    /// A length that the kind does not allow.
    #[error("{kind:?} frame of {length} bytes")]
    Length {
        /// The kind.
        kind: Kind,
        /// The length it claimed.
        length: usize,
    },
    /// A link frame on a stream, or the other way round.
    #[error("{kind:?} frame on stream {stream}")]
    Stream {
        /// The kind.
        kind: Kind,
        /// The stream it named.
        stream: u32,
    },
    /// Text that is not UTF-8.
    #[error("{kind:?} frame whose text is not UTF-8")]
    Text {
        /// The kind.
        kind: Kind,
    },
    /// A credit of nothing.
    #[error("Credit frame of zero bytes")]
    NoCredit,
}

/// The kind byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the frames of the same names have them")]
pub enum Kind {
    Welcome = 1,
    Open = 2,
    Data = 3,
    Credit = 4,
    Fin = 5,
    Reset = 6,
    Ping = 7,
    Pong = 8,
    GoAway = 9,
}

impl Kind {
    fn parse(kind: u8) -> Result<Self, Illegal> {
        Ok(match kind {
            1 => Self::Welcome,
            2 => Self::Open,
            3 => Self::Data,
            4 => Self::Credit,
            5 => Self::Fin,
            6 => Self::Reset,
            7 => Self::Ping,
            8 => Self::Pong,
            9 => Self::GoAway,
            _ => return Err(Illegal::Kind { kind }),
        })
    }

    /// The lengths that a payload of this kind may have.
    fn lengths(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Welcome => 2..=MAX_WELCOME,
            Self::Open => 0..=MAX_HEADER,
            Self::Data => 1..=MAX_DATA,
            Self::Credit => 4..=4,
            Self::Fin => 0..=0,
            Self::Reset => 2..=2 + MAX_TEXT,
            Self::Ping | Self::Pong => 8..=8,
            Self::GoAway => 6..=6 + MAX_TEXT,
        }
    }

    /// Whether it speaks of the link rather than of one stream.
    fn is_of_link(self) -> bool {
        matches!(self, Self::Welcome | Self::Ping | Self::Pong | Self::GoAway)
    }
}

/// The first frame in `input` and how many bytes it took; nothing when it is not there in full.
///
/// # Errors
///
/// [`Illegal`], as soon as the header shows it: a wrong length is refused before its payload
/// has come.
pub fn decode(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Illegal> {
    let Some((header, rest)) = input.split_first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let [s0, s1, s2, s3, kind, l0, l1, l2] = *header;
    let stream = u32::from_le_bytes([s0, s1, s2, s3]);
    let length = u32::from_le_bytes([l0, l1, l2, 0]) as usize;
    let kind = Kind::parse(kind)?;
    if !kind.lengths().contains(&length) {
        return Err(Illegal::Length { kind, length });
    }
    let id = StreamId::new(stream);
    if id.is_none() != kind.is_of_link() {
        return Err(Illegal::Stream { kind, stream });
    }
    let Some(payload) = rest.get(..length) else {
        return Ok(None);
    };
    let frame = match id {
        None => link_frame(kind, payload)?,
        Some(id) => stream_frame(kind, id, payload)?,
    };
    Ok(Some((frame, HEADER_LEN + length)))
}

fn link_frame(kind: Kind, payload: &[u8]) -> Result<Frame<'_>, Illegal> {
    let wrong = || Illegal::Length { kind, length: payload.len() };
    Ok(match kind {
        Kind::Welcome => Frame::Welcome(payload),
        Kind::Ping => Frame::Ping(u64::from_le_bytes(payload.try_into().map_err(|_| wrong())?)),
        Kind::Pong => Frame::Pong(u64::from_le_bytes(payload.try_into().map_err(|_| wrong())?)),
        Kind::GoAway => {
            let (&[c0, c1, r0, r1, r2, r3], text) =
                payload.split_first_chunk::<6>().ok_or_else(wrong)?;
            Frame::GoAway {
                code: GoAwayCode(u16::from_le_bytes([c0, c1])),
                retry_after_ms: u32::from_le_bytes([r0, r1, r2, r3]),
                text: std::str::from_utf8(text).map_err(|_| Illegal::Text { kind })?,
            }
        }
        _ => return Err(Illegal::Stream { kind, stream: 0 }),
    })
}

fn stream_frame(kind: Kind, id: StreamId, payload: &[u8]) -> Result<Frame<'_>, Illegal> {
    let wrong = || Illegal::Length { kind, length: payload.len() };
    Ok(match kind {
        Kind::Open => Frame::Open { id, header: payload },
        Kind::Data => Frame::Data { id, bytes: payload },
        Kind::Fin => Frame::Fin { id },
        Kind::Credit => {
            let bytes = u32::from_le_bytes(payload.try_into().map_err(|_| wrong())?);
            if bytes == 0 {
                return Err(Illegal::NoCredit);
            }
            Frame::Credit { id, bytes }
        }
        Kind::Reset => {
            let (&code, text) = payload.split_first_chunk::<2>().ok_or_else(wrong)?;
            Frame::Reset {
                id,
                code: ResetCode(u16::from_le_bytes(code)),
                text: std::str::from_utf8(text).map_err(|_| Illegal::Text { kind })?,
            }
        }
        _ => return Err(Illegal::Stream { kind, stream: id.0 }),
    })
}

impl Frame<'_> {
    /// Appends the frame to `out`. Text that is too long is cut; other payloads must fit, which
    /// their makers see to.
    pub fn encode(&self, out: &mut BytesMut) {
        match *self {
            Frame::Welcome(json) => put(out, 0, Kind::Welcome, &[json]),
            Frame::Open { id, header } => put(out, id.0, Kind::Open, &[header]),
            Frame::Data { id, bytes } => put(out, id.0, Kind::Data, &[bytes]),
            Frame::Credit { id, bytes } => put(out, id.0, Kind::Credit, &[&bytes.to_le_bytes()]),
            Frame::Fin { id } => put(out, id.0, Kind::Fin, &[]),
            Frame::Reset { id, code, text } => {
                put(out, id.0, Kind::Reset, &[&code.0.to_le_bytes(), cut(text).as_bytes()]);
            }
            Frame::Ping(number) => put(out, 0, Kind::Ping, &[&number.to_le_bytes()]),
            Frame::Pong(number) => put(out, 0, Kind::Pong, &[&number.to_le_bytes()]),
            Frame::GoAway { code, retry_after_ms, text } => put(
                out,
                0,
                Kind::GoAway,
                &[&code.0.to_le_bytes(), &retry_after_ms.to_le_bytes(), cut(text).as_bytes()],
            ),
        }
    }
}

fn put(out: &mut BytesMut, stream: u32, kind: Kind, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    debug_assert!(kind.lengths().contains(&length), "{kind:?} of {length} bytes");
    put_header(out, stream, kind, length);
    for part in parts {
        out.put_slice(part);
    }
}

fn put_header(out: &mut BytesMut, stream: u32, kind: Kind, length: usize) {
    out.put_u32_le(stream);
    out.put_u8(kind as u8);
    out.put_uint_le(length as u64, 3);
}

/// Appends the header of a Data frame whose payload follows by other means.
pub(crate) fn put_data_header(out: &mut BytesMut, id: StreamId, length: usize) {
    debug_assert!((1..=MAX_DATA).contains(&length));
    put_header(out, id.0, Kind::Data, length);
}

/// At most [`MAX_TEXT`] bytes of `text`, whole characters.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}
