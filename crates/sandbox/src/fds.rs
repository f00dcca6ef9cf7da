//! The well-known descriptors of the first process and of `serve`, and the greeting on the
//! link's socket.
//!
//! | number | `init` | `serve` |
//! |---|---|---|
//! | 0 to 2 | `/dev/null` | `/dev/null` |
//! | 3 | the listening link socket | [`CONNECTIONS`]: each message is one link connection |
//! | 4 | the spool file | the same |
//! | 5 | the egress listener, 127.0.0.1:3128, listening | closed |
//! | 6 | the directory of the workspace's cgroup, or closed | the same |
//! | 7 | the sealed runner program, which it closes | [`DIAGNOSIS`], or closed |
//! | 8 | the gateway listener, 127.0.0.1:7080, listening | closed |
//! | 9 to 12 | [`CAPTURE`]: listeners that connections to anywhere arrive at; one where it takes all ports, the others closed | closed |
//! | 13 | [`DNS`]: the UDP socket for names | closed |
//! | 14 | [`NAMES`]: a memory file in which the server keeps what names it has given addresses | closed |
//! | 15 | a socket that tells about connections, which `serve` gets at [`DIAGNOSIS`] | closed |
//!
//! A client of the link socket sends [`Hello`] first. `init` answers a [`Kind::Link`] by passing
//! the connection to `serve` (whatever follows the greeting is then `serve`'s), a
//! [`Kind::Listener`] by one byte ([`LISTENER_OK`]) with a duplicate of that [`Listener`]
//! attached, a [`Kind::Capture`] by the same byte with duplicates of [`DNS`], [`NAMES`] and the
//! open ones of [`CAPTURE`], in this order, and a [`Kind::Ping`] by [`Pong`]. It closes the connection without a word when it has
//! no such listener, or does not know the kind, being of an earlier version.

use crate::{EGRESS_PORT, GATEWAY_PORT};

/// `init`: the listening link socket.
pub const LINK_LISTENER: i32 = 3;
/// `serve`: its end of a SEQPACKET pair; each message is [`CONNECTION_BYTE`] with one connected
/// link socket attached. `init` holds this end too, so a connection that `serve` did not take
/// before it ended is given to the next `serve`.
pub const CONNECTIONS: i32 = 3;
/// Both: the spool, a file of the host, open for reading and writing.
pub const SPOOL: i32 = 4;
/// Both: the directory of the workspace's own cgroup (version 2), closed where there is none.
pub const CGROUP: i32 = 6;
/// `init`: the sealed memory file that it was started from.
pub const RUNNER: i32 = 7;
/// `init`: the listeners that caught connections arrive at.
pub const CAPTURE: [i32; 4] = [9, 10, 11, 12];
/// `init`: the socket that names are asked at.
pub const DNS: i32 = 13;
/// `init`: what the server keeps here about names, so that the next one knows it too.
pub const NAMES: i32 = 14;
/// `init`: what becomes [`DIAGNOSIS`].
pub(crate) const DIAGNOSIS_KEPT: i32 = 15;
/// `serve`: a netlink socket for questions about connections of this network. The filter lets
/// nobody inside make one.
pub const DIAGNOSIS: i32 = 7;
/// The greatest number that is well known.
pub(crate) const LAST: i32 = 15;
/// Everything that a network which is open adds, by number.
pub(crate) const NETWORK: [i32; 9] = [
    Listener::Egress.fd(),
    Listener::Gateway.fd(),
    CAPTURE[0],
    CAPTURE[1],
    CAPTURE[2],
    CAPTURE[3],
    DNS,
    NAMES,
    DIAGNOSIS_KEPT,
];

/// What a message on [`CONNECTIONS`] consists of, beside the attached descriptor.
pub const CONNECTION_BYTE: u8 = b'L';
/// The answer to a hello of [`Kind::Listener`].
pub const LISTENER_OK: u8 = b'E';

/// Environment of `init` and `serve`: how many times this workspace was started, in decimal.
pub const ENV_GENERATION: &str = "BOATYARD_GENERATION";
/// Environment of `init` and `serve`: `range` when ids 0 to 65535 are mapped, `single` when only
/// id 0 is (then the worker is id 0 without capabilities).
pub const ENV_IDS: &str = "BOATYARD_IDS";
/// The length of a [`Hello`] in bytes.
pub const HELLO_LENGTH: usize = 16;
/// The length of a [`Pong`] in bytes.
pub const PONG_LENGTH: usize = 24;
/// The version of the greeting.
pub const HELLO_VERSION: u8 = 1;

const HELLO_MAGIC: &[u8; 4] = b"BYLK";
const PONG_MAGIC: &[u8; 4] = b"BYOK";

/// A socket that listens in the sandbox's own network, on 127.0.0.1, and is accepted on by the
/// server outside: what a sandbox can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// The way out: the proxy that asks the rules.
    Egress,
    /// The way to the models' providers, which knows their keys.
    Gateway,
}

impl Listener {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Egress, Self::Gateway];

    /// Its name in a sentence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress listener",
            Self::Gateway => "gateway listener",
        }
    }

    /// Where it listens inside.
    pub const fn port(self) -> u16 {
        match self {
            Self::Egress => EGRESS_PORT,
            Self::Gateway => GATEWAY_PORT,
        }
    }

    /// Its well-known number in `init`.
    pub const fn fd(self) -> i32 {
        match self {
            Self::Egress => 5,
            Self::Gateway => 8,
        }
    }
}

/// What a client of the link socket wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To speak the link with `serve`.
    Link,
    /// A duplicate of a listener.
    Listener(Listener),
    /// Everything that catches what programs send without a proxy.
    Capture,
    /// To know that the first process lives, and which generation.
    Ping,
}

/// The first 16 bytes on a connection to the link socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// What the client wants.
    pub kind: Kind,
}

impl Hello {
    /// The bytes to send.
    pub const fn encode(self) -> [u8; HELLO_LENGTH] {
        let mut bytes = [0; HELLO_LENGTH];
        let mut index = 0;
        while index < HELLO_MAGIC.len() {
            bytes[index] = HELLO_MAGIC[index];
            index += 1;
        }
        bytes[4] = HELLO_VERSION;
        bytes[5] = match self.kind {
            Kind::Link => 1,
            Kind::Listener(Listener::Egress) => 2,
            Kind::Ping => 3,
            Kind::Listener(Listener::Gateway) => 4,
            Kind::Capture => 5,
        };
        bytes
    }

    /// The greeting in `bytes`; none when it is not one of this version.
    pub fn decode(bytes: &[u8; HELLO_LENGTH]) -> Option<Self> {
        let rest_is_zero = bytes[6..].iter().all(|byte| *byte == 0);
        if &bytes[..4] != HELLO_MAGIC || bytes[4] != HELLO_VERSION || !rest_is_zero {
            return None;
        }
        let kind = match bytes[5] {
            1 => Kind::Link,
            2 => Kind::Listener(Listener::Egress),
            3 => Kind::Ping,
            4 => Kind::Listener(Listener::Gateway),
            5 => Kind::Capture,
            _ => return None,
        };
        Some(Self { kind })
    }
}

/// The answer to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// How many times the workspace was started.
    pub generation: u64,
    /// The process id of `serve` as seen inside; 0 while none runs.
    pub serve_pid: u32,
    /// How many times `serve` was started in this generation.
    pub serve_starts: u32,
}

impl Pong {
    /// The bytes to send: magic, generation, `serve`'s pid and starts (little-endian), 4 zeros.
    pub fn encode(self) -> [u8; PONG_LENGTH] {
        let mut bytes = [0; PONG_LENGTH];
        bytes[..4].copy_from_slice(PONG_MAGIC);
        bytes[4..12].copy_from_slice(&self.generation.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.serve_pid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.serve_starts.to_le_bytes());
        bytes
    }

    /// The answer in `bytes`, none when it is not one.
    pub fn decode(bytes: &[u8; PONG_LENGTH]) -> Option<Self> {
        if &bytes[..4] != PONG_MAGIC {
            return None;
        }
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Some(Self {
            generation: u64::from(word(4)) | u64::from(word(8)) << 32,
            serve_pid: word(12),
            serve_starts: word(16),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_come_back_as_they_went() {
        let listeners = Listener::ALL.map(Kind::Listener);
        for kind in [Kind::Link, Kind::Ping, Kind::Capture].into_iter().chain(listeners) {
            assert_eq!(Hello::decode(&Hello { kind }.encode()), Some(Hello { kind }));
        }
        let pong = Pong { generation: u64::MAX - 7, serve_pid: 9, serve_starts: 3 };
        assert_eq!(Pong::decode(&pong.encode()), Some(pong));
    }

    #[test]
    fn another_version_or_garbage_is_refused() {
        let mut hello = Hello { kind: Kind::Link }.encode();
        hello[4] = 2;
        assert_eq!(Hello::decode(&hello), None);
        let mut hello = Hello { kind: Kind::Link }.encode();
        hello[15] = 1;
        assert_eq!(Hello::decode(&hello), None);
        assert_eq!(Hello::decode(&[0; HELLO_LENGTH]), None);
        assert_eq!(Pong::decode(&[0; PONG_LENGTH]), None);
    }
}
