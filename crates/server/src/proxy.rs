//! Proxies before the server, and the caller's address behind them.
//!
//! ```text
//! caller ──► proxy ──► proxy ──► server          X-Forwarded-For: whatever it said, caller, proxy
//!            └─ trusted_proxies ─┘               read from the right: ◄──────────── up to the first
//!                                                                    that is no trusted proxy
//! ```
//!
//! Each proxy adds whom it was asked by to the end of the list. What stands to the left of what
//! a trusted proxy wrote is the caller's own word and counts for nothing. Whoever comes without a
//! trusted proxy is the other end of the connection, whatever it says.

use std::net::IpAddr;

use boatyard_egress::Cidr;
use http::{HeaderMap, HeaderName, header};

/// What most proxies write.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// By which scheme the proxy was asked.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Hops that are looked at; more than anybody has one behind the other.
const HOPS_MAX: usize = 32;

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The other end of the connection, or whom a trusted proxy names.
    pub address: IpAddr,
    /// Whether it is a program of this machine that came by itself, and no proxy on it.
    pub is_here: bool,
}

/// How a trusted proxy was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nothing is known of it.
    Unknown,
    /// In the clear.
    Http,
    /// Encrypted.
    Https,
}

/// The proxies that are believed.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Vec<Cidr>);

impl Proxies {
    /// These.
    pub const fn new(trusted: Vec<Cidr>) -> Self {
        Self(trusted)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }

    /// Who sent a request that came over a connection from `peer`.
    pub fn source(&self, peer: IpAddr, headers: &HeaderMap) -> Source {
        let peer = peer.to_canonical();
        let is_forwarded =
            headers.contains_key(FORWARDED_FOR) || headers.contains_key(header::FORWARDED);
        if !is_forwarded || !self.trusts(peer) {
            return Source { address: peer, is_here: peer.is_loopback() && !is_forwarded };
        }
        let listed = self.first_stranger(peer, for_list(headers));
        let forwarded = self.first_stranger(peer, forwarded_list(headers));
        let address = match (headers.contains_key(header::FORWARDED), listed) {
            (false, listed) => listed,
            (true, _) if !headers.contains_key(FORWARDED_FOR) => forwarded,
            (true, listed) if listed == forwarded => listed,
            // One of the two is the caller's own word, passed on by a proxy that writes the other:
            // neither counts.
            (true, _) => peer,
        };
        Source { address, is_here: false }
    }

    /// How a proxy was asked that sent a request over a connection from `peer`.
    pub fn asked(&self, peer: IpAddr, headers: &HeaderMap) -> Asked {
        if !self.trusts(peer.to_canonical()) {
            return Asked::Unknown;
        }
        let last = headers.get_all(FORWARDED_PROTO).iter().next_back();
        let listed = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
        let elements = || parameters(headers, "proto");
        let scheme = listed.map(|text| text.trim().to_owned()).or_else(|| elements().pop());
        match scheme.map(|text| text.to_ascii_lowercase()).as_deref() {
            Some("https") => Asked::Https,
            Some("http") => Asked::Http,
            _ => Asked::Unknown,
        }
    }

    /// The last of a list that is no trusted proxy; whoever named nobody that makes sense, itself.
    fn first_stranger(&self, peer: IpAddr, mut hops: Vec<String>) -> IpAddr {
        let mut address = peer;
        for _ in 0..HOPS_MAX {
            if !self.trusts(address) {
                break;
            }
            let Some(next) = hops.pop().as_deref().and_then(address_of) else { break };
            address = next;
        }
        address
    }
}

/// The addresses of `X-Forwarded-For`, in order.
fn for_list(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|hop| hop.trim().to_owned()).collect()
}

/// The addresses of `Forwarded` (RFC 7239), in order.
fn forwarded_list(headers: &HeaderMap) -> Vec<String> {
    parameters(headers, "for")
}

/// One parameter of every element of `Forwarded`; empty where an element lacks it.
fn parameters(headers: &HeaderMap, wanted: &str) -> Vec<String> {
    let values = headers.get_all(header::FORWARDED).iter().filter_map(|value| value.to_str().ok());
    let elements = values.flat_map(|value| value.split(','));
    let parameter = |element: &str| {
        element.split(';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case(wanted)
                .then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    elements.map(|element| parameter(element).unwrap_or_default()).collect()
}

/// An address as proxies write it: alone, with a port, in brackets.
fn address_of(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(pair) = text.parse::<std::net::SocketAddr>() {
        return Some(pair.ip().to_canonical());
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    Some(inner.parse::<IpAddr>().ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn proxies() -> Proxies {
        Proxies::new(["127.0.0.1", "10.0.0.0/8", "fd00::/8"].map(|t| t.parse().unwrap()).to_vec())
    }

    fn check(peer: &str, pairs: &[(&str, &str)], expected: &str) {
        let source = proxies().source(peer.parse().unwrap(), &headers(pairs));
        assert_eq!(source.address.to_string(), expected, "{peer} {pairs:?}");
    }

    #[test]
    fn a_trusted_proxy_names_the_caller_and_nobody_else_does() {
        let xff = "X-Forwarded-For";
        check("203.0.113.9", &[], "203.0.113.9");
        check("203.0.113.9", &[(xff, "198.51.100.1")], "203.0.113.9");
        check("127.0.0.1", &[], "127.0.0.1");
        check("127.0.0.1", &[(xff, "198.51.100.1")], "198.51.100.1");
        check("::ffff:127.0.0.1", &[(xff, "198.51.100.1")], "198.51.100.1");
        // What the caller wrote itself stands to the left.
        check("127.0.0.1", &[(xff, "1.2.3.4, 198.51.100.1")], "198.51.100.1");
        check("127.0.0.1", &[(xff, "1.2.3.4"), (xff, "198.51.100.1, 10.0.0.7")], "198.51.100.1");
        // Everybody is trusted: the outermost.
        check("127.0.0.1", &[(xff, "10.0.0.1, 10.0.0.2")], "10.0.0.1");
        check("127.0.0.1", &[(xff, "198.51.100.1:4711")], "198.51.100.1");
        check("127.0.0.1", &[(xff, "[2001:db8::1]:4711")], "2001:db8::1");
        check("fd00::1", &[(xff, "2001:db8::1")], "2001:db8::1");
        for bad in ["", "unknown", "1.2.3", "198.51.100.1, nonsense", ",", "198.51.100.1,"] {
            check("127.0.0.1", &[(xff, bad)], "127.0.0.1");
        }
        let long = vec!["10.0.0.1"; 5000].join(",");
        check("127.0.0.1", &[(xff, &long)], "10.0.0.1");
    }

    #[test]
    fn the_standard_header_is_read_where_it_is_not_contradicted() {
        let (xff, fwd) = ("X-Forwarded-For", "Forwarded");
        check("127.0.0.1", &[(fwd, "for=198.51.100.1;proto=https")], "198.51.100.1");
        check("127.0.0.1", &[(fwd, "For=\"[2001:db8::1]:4711\"")], "2001:db8::1");
        check("127.0.0.1", &[(fwd, "for=1.2.3.4, for=198.51.100.1, for=10.1.1.1")], "198.51.100.1");
        check("127.0.0.1", &[(fwd, "for=_hidden")], "127.0.0.1");
        check("127.0.0.1", &[(fwd, "for=198.51.100.1, proto=https")], "127.0.0.1");
        check("127.0.0.1", &[(fwd, "for=198.51.100.1"), (xff, "198.51.100.1")], "198.51.100.1");
        check("127.0.0.1", &[(fwd, "for=1.2.3.4"), (xff, "198.51.100.1")], "127.0.0.1");
        check("203.0.113.9", &[(fwd, "for=198.51.100.1")], "203.0.113.9");
    }

    #[test]
    fn only_what_comes_by_itself_is_of_this_machine() {
        let source = |peer: &str, pairs: &[(&str, &str)]| {
            Proxies::default().source(peer.parse().unwrap(), &headers(pairs)).is_here
        };
        assert!(source("127.0.0.1", &[]));
        assert!(source("::1", &[]));
        assert!(!source("203.0.113.9", &[]));
        // A proxy that nobody named as trusted.
        assert!(!source("127.0.0.1", &[("X-Forwarded-For", "198.51.100.1")]));
        assert!(!source("127.0.0.1", &[("Forwarded", "for=198.51.100.1")]));
    }

    #[test]
    fn how_a_proxy_was_asked_is_its_own_word() {
        let asked = |peer: &str, pairs: &[(&str, &str)]| {
            proxies().asked(peer.parse().unwrap(), &headers(pairs))
        };
        let xfp = "X-Forwarded-Proto";
        assert_eq!(asked("127.0.0.1", &[(xfp, "https")]), Asked::Https);
        assert_eq!(asked("127.0.0.1", &[(xfp, "https, HTTP")]), Asked::Http);
        assert_eq!(asked("127.0.0.1", &[("Forwarded", "for=1.2.3.4;proto=http")]), Asked::Http);
        assert_eq!(asked("127.0.0.1", &[(xfp, "gopher")]), Asked::Unknown);
        assert_eq!(asked("127.0.0.1", &[]), Asked::Unknown);
        assert_eq!(asked("203.0.113.9", &[(xfp, "http")]), Asked::Unknown);
    }
}
