//! Hosts as a client names them, and patterns of them.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, cidr::Cidr};

/// The longest host name there is, in bytes.
const MAX_NAME: usize = 253;

/// A destination: a name in its one spelling (lower case, ASCII, no dot at the end), or an
/// address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name to be resolved.
    Name(Box<str>),
    /// An address, whatever way it was written (`127.1`, `0x7f000001`, `[::1]`).
    Address(IpAddr),
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Host { text: text.chars().take(MAX_NAME).collect() };
        if text.len() > MAX_NAME + 2 {
            return Err(bad());
        }
        // The parser of URLs, because it knows every spelling of an address that a resolver
        // would understand too.
        match url::Host::parse(text).map_err(|_| bad())? {
            url::Host::Ipv4(address) => Ok(Self::Address(address.into())),
            url::Host::Ipv6(address) => Ok(Self::Address(address.into())),
            url::Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                let is_name = !name.is_empty()
                    && name.split('.').all(|label| {
                        (1..=63).contains(&label.len())
                            && label
                                .bytes()
                                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                    });
                if is_name { Ok(Self::Name(name.into())) } else { Err(bad()) }
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Which hosts a rule is about.
///
/// | text | matches |
/// |---|---|
/// | `example.com` | that name only |
/// | `*.example.com` | every name below it, not itself |
/// | `*` | every name, but no address |
/// | `192.0.2.7`, `192.0.2.0/24` | addresses that a client named as such |
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// One name.
    Name(Box<str>),
    /// Every name that ends with this, a dot before it.
    Below(Box<str>),
    /// Every name.
    AnyName,
    /// Addresses, where the client names one itself.
    Addresses(Cidr),
}

impl HostPattern {
    /// Whether the host is among those meant.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Name(wanted), Host::Name(name)) => wanted == name,
            (Self::Below(suffix), Host::Name(name)) => is_below(name, suffix),
            (Self::AnyName, Host::Name(_)) => true,
            (Self::Addresses(cidr), Host::Address(address)) => cidr.contains(*address),
            _ => false,
        }
    }

    /// Whether every host that the other means is meant by this.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AnyName, Self::AnyName | Self::Below(_) | Self::Name(_)) => true,
            (Self::Below(ours), Self::Below(theirs)) => ours == theirs || is_below(theirs, ours),
            (Self::Below(ours), Self::Name(name)) => is_below(name, ours),
            (Self::Name(ours), Self::Name(theirs)) => ours == theirs,
            (Self::Addresses(ours), Self::Addresses(theirs)) => ours.covers(theirs),
            _ => false,
        }
    }
}

/// Whether a name stands below another one.
fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl FromStr for HostPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "*" {
            return Ok(Self::AnyName);
        }
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if !below && let Ok(cidr) = text.parse() {
            return Ok(Self::Addresses(cidr));
        }
        match (rest.parse()?, below) {
            (Host::Name(name), true) => Ok(Self::Below(name)),
            (Host::Name(name), false) => Ok(Self::Name(name)),
            (Host::Address(address), false) => Ok(Self::Addresses(address.into())),
            (Host::Address(_), true) => Err(Error::Host { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
            Self::AnyName => f.write_str("*"),
            Self::Addresses(cidr) => cidr.fmt(f),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}
