//! How two sides find out what they are talking to.
//!
//! ```text
//! connector                         acceptor
//!   hello (16 bytes, unix socket) ──►          which kind of connection this is
//!   Welcome ──►               ◄── Welcome      versions, limits, generation
//!   … frames in the agreed version …
//! ```
//!
//! [`Hello`] comes first on every connection to a workspace's socket, because more than links
//! arrive there; the first process of the sandbox reads it without knowing anything else of this
//! crate. [`Welcome`] is the first frame of the link itself, each way, over any transport. The
//! version spoken is the smaller of the two newest; a side whose oldest is above that refuses.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Violation};

/// The newest version of the link that this release speaks.
pub const PROTOCOL: u16 = 1;
/// The oldest version that it still speaks: always that of the release before.
pub const PROTOCOL_MIN: u16 = 1;

/// The longest name of a program in a [`Welcome`], in bytes.
const MAX_SOFTWARE: usize = 256;
/// The smallest window that makes sense: one quantum, or nothing would move.
const MIN_WINDOW: u32 = crate::frame::QUANTUM as u32;

/// The 16 bytes that begin each connection to a workspace's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// What the connection is for.
    pub kind: HelloKind,
}

/// What a connection to a workspace's socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HelloKind {
    /// A link: frames follow, answered by `boatyard-runner serve`.
    Link = 1,
    /// The egress listener is wanted: one byte comes back with the descriptor attached.
    Egress = 2,
    /// Are you there: [`Hello::PONG`], the generation and the process id come back.
    Ping = 3,
    /// The gateway listener is wanted: answered as [`Self::Egress`] is.
    Gateway = 4,
}

impl Hello {
    /// How it begins.
    pub const MAGIC: [u8; 4] = *b"BYLK";
    /// Its version.
    pub const VERSION: u8 = 1;
    /// How many bytes it has.
    pub const LEN: usize = 16;
    /// How the answer to [`HelloKind::Ping`] begins.
    pub const PONG: [u8; 4] = *b"BYOK";

    /// The bytes on the wire.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&Self::MAGIC);
        bytes[4] = Self::VERSION;
        bytes[5] = self.kind as u8;
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote; nothing when it is anything else. The reserved bytes
    /// at the end are not looked at, so that a later release can use them.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Option<Self> {
        if bytes[..4] != Self::MAGIC || bytes[4] != Self::VERSION {
            return None;
        }
        let kind = match bytes[5] {
            1 => HelloKind::Link,
            2 => HelloKind::Egress,
            3 => HelloKind::Ping,
            4 => HelloKind::Gateway,
            _ => return None,
        };
        Some(Self { kind })
    }
}

/// What each side says first. Fields may be added; a side ignores what it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The newest version it speaks.
    pub protocol: u16,
    /// The oldest version it speaks.
    pub min: u16,
    /// Program and release, as `boatyard-runner 0.4.1`; for logs only.
    pub software: String,
    /// The generation of the workspace (how often it was started), where the sender is a runner;
    /// it is the `epoch` of its events.
    #[serde(default)]
    pub epoch: u64,
    /// How many bytes it accepts on a new stream before it has given credit.
    pub window: u32,
    /// How many streams the other side may have open at a time.
    pub max_streams: u32,
}

/// What is known of the other side once it has said [`Welcome`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The version both speak.
    pub protocol: u16,
    /// What it says it is.
    pub software: String,
    /// Its generation, zero where it has none.
    pub epoch: u64,
    /// What a stream of ours may send at first, in bytes.
    pub window: u32,
    /// How many streams we may have open.
    pub max_streams: u32,
}

/// Reads the other side's Welcome and settles the version.
///
/// # Errors
///
/// [`Error::Version`] when there is none in common, [`Error::Violation`] when it makes no sense.
pub fn agree(ours: &Welcome, theirs: &[u8]) -> Result<Peer, Error> {
    let malformed = || Error::Violation(Violation::MalformedWelcome);
    let theirs: Welcome = serde_json::from_slice(theirs).map_err(|_| malformed())?;
    let cut = theirs.software.floor_char_boundary(MAX_SOFTWARE);
    let software = theirs.software[..cut].replace(char::is_control, " ");
    let protocol = ours.protocol.min(theirs.protocol);
    if protocol < ours.min.max(theirs.min) {
        return Err(Error::Version {
            our_min: ours.min,
            our_max: ours.protocol,
            their_min: theirs.min,
            their_max: theirs.protocol,
            software: software.into(),
        });
    }
    if theirs.min > theirs.protocol || theirs.window < MIN_WINDOW || theirs.max_streams == 0 {
        return Err(malformed());
    }
    Ok(Peer {
        protocol,
        software,
        epoch: theirs.epoch,
        window: theirs.window,
        max_streams: theirs.max_streams,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(min: u16, protocol: u16) -> Welcome {
        Welcome {
            protocol,
            min,
            software: "test 1".into(),
            epoch: 7,
            window: 65_536,
            max_streams: 10,
        }
    }

    fn check(ours: (u16, u16), theirs: (u16, u16), expected: Option<u16>) {
        let theirs = serde_json::to_vec(&welcome(theirs.0, theirs.1)).unwrap();
        let agreed = agree(&welcome(ours.0, ours.1), &theirs);
        assert_eq!(agreed.ok().map(|peer| peer.protocol), expected);
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        check((1, 1), (1, 1), Some(1));
        check((1, 2), (2, 3), Some(2));
        check((2, 3), (1, 2), Some(2));
        check((3, 4), (1, 2), None);
        check((1, 2), (3, 4), None);
    }

    #[test]
    fn unknown_fields_are_ignored_and_nonsense_is_refused() {
        let ours = welcome(1, 1);
        let peer = agree(
            &ours,
            br#"{"protocol":9,"min":1,"software":"x\u0007y","window":65536,"max_streams":5,"new":[]}"#,
        )
        .unwrap();
        assert_eq!(peer.software, "x y");
        for bad in [
            &br#"{}"#[..],
            br#"{"protocol":1,"min":1,"software":"x","window":0,"max_streams":5}"#,
            br#"{"protocol":1,"min":1,"software":"x","window":65536,"max_streams":0}"#,
            b"\xff\xff",
        ] {
            assert!(matches!(
                agree(&ours, bad),
                Err(Error::Violation(Violation::MalformedWelcome))
            ));
        }
    }

    #[test]
    fn a_refusal_names_both_sides() {
        let theirs = serde_json::to_vec(&welcome(5, 6)).unwrap();
        let text = agree(&welcome(1, 2), &theirs).unwrap_err().to_string();
        assert!(text.contains("1 to 2") && text.contains("5 to 6") && text.contains("test 1"));
    }

    #[test]
    fn a_hello_survives_a_round_trip() {
        use HelloKind::{Egress, Gateway, Link, Ping};
        for kind in [Link, Egress, Ping, Gateway] {
            let hello = Hello { kind };
            assert_eq!(Hello::parse(&hello.to_bytes()), Some(hello));
        }
        let mut bytes = Hello { kind: HelloKind::Link }.to_bytes();
        bytes[5] = 9;
        assert_eq!(Hello::parse(&bytes), None);
        bytes[0] = b'x';
        assert_eq!(Hello::parse(&bytes), None);
    }
}
