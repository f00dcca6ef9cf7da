//! How two sides find out what they are talking to.
//!
//! ```text
//! connector                         acceptor
//!   Welcome ──►               ◄── Welcome      versions, limits, generation
//!   … frames in the agreed version …
//! ```
//!
//! [`Welcome`] is the first frame of the link, each way, over any transport. The version spoken is
//! the smaller of the two newest; a side whose oldest is above that refuses. What comes before it on
//! a workspace's socket is the sandbox's (`boatyard_sandbox::fds::Hello`).

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
}
