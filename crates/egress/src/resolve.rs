//! From a name to the addresses that may be dialled.
//!
//! A name is resolved once; what the answer holds is judged; exactly the addresses that remain
//! are dialled. A name that resolves to something harmless now and to `127.0.0.1` a moment later
//! gains nothing by it.
//!
//! Dropped are: everything that is not on the public Internet (loopback, private, link-local,
//! carrier-grade NAT, multicast, documentation, reserved), addresses that wrap another one
//! (IPv4-mapped, 6to4, Teredo, and NAT64 of a dropped one), the metadata services of clouds, and
//! whatever address this host has itself. Settings can name ranges that are allowed all the same;
//! a metadata service has to be named by its one address.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::Pin,
    time::Duration,
};

use crate::{cidr::Cidr, rules::Host};

/// How long a name may take.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// How many addresses of one name are looked at.
const MAX_ADDRESSES: usize = 16;

/// What turns names into addresses. The real one is [`System`]; tests have others.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of a name, in the order in which to try them.
    fn resolve<'a>(
        &'a self,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;
}

/// The resolver of this system.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Resolver for System {
    fn resolve<'a>(
        &'a self,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>> {
        Box::pin(async move {
            Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
        })
    }
}

/// Why there is nothing to dial.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The name has no address.
    #[error("`{host}` can't be resolved")]
    NotFound {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// All its addresses are forbidden.
    #[error("`{host}` is {kind}, which workspaces can't reach")]
    Forbidden {
        /// The host.
        host: String,
        /// What the first of its addresses is.
        kind: Kind,
    },
}

/// Judges addresses.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allowed: Vec<Cidr>,
}

impl Guard {
    /// A guard that lets these ranges pass although they are not public.
    pub fn new(allowed: Vec<Cidr>) -> Self {
        Self { allowed }
    }

    /// The addresses of `host` that may be dialled: at least one.
    ///
    /// # Errors
    ///
    /// When it can't be resolved or everything it resolves to is forbidden.
    pub async fn addresses(
        &self,
        host: &Host,
        resolver: &dyn Resolver,
    ) -> Result<Vec<IpAddr>, Unreachable> {
        let found = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let not_found = |source| Unreachable::NotFound { host: host.to_string(), source };
                tokio::time::timeout(RESOLVE_WITHIN, resolver.resolve(name))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                    .map_err(not_found)?
            }
        };
        let mut forbidden = None;
        let mut allowed = Vec::new();
        for address in found.into_iter().take(MAX_ADDRESSES) {
            match self.judge(address) {
                Ok(()) => allowed.push(address),
                Err(kind) => forbidden = forbidden.or(Some(kind)),
            }
        }
        match forbidden {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(kind) => Err(Unreachable::Forbidden { host: host.to_string(), kind }),
            None => Err(Unreachable::NotFound {
                host: host.to_string(),
                source: io::ErrorKind::NotFound.into(),
            }),
        }
    }

    /// Whether an address may be dialled.
    ///
    /// # Errors
    ///
    /// What it is, if it may not.
    pub fn judge(&self, address: IpAddr) -> Result<(), Kind> {
        let kind = match kind(address) {
            None if is_ours(address) => Kind::ThisHost,
            None => return Ok(()),
            Some(kind) => kind,
        };
        let must_be_named = kind == Kind::Metadata;
        let is_allowed = self
            .allowed
            .iter()
            .any(|cidr| cidr.contains(address) && (cidr.is_single() || !must_be_named));
        if is_allowed { Ok(()) } else { Err(kind) }
    }
}

/// What an address is, if it is not an ordinary public one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of each says it")]
pub enum Kind {
    Loopback,
    Private,
    LinkLocal,
    Shared,
    Multicast,
    Metadata,
    Wrapped,
    Reserved,
    ThisHost,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Shared => "an address of a carrier's private range",
            Self::Multicast => "a multicast address",
            Self::Metadata => "a cloud's metadata service",
            Self::Wrapped => "an address that wraps another",
            Self::Reserved => "a reserved address",
            Self::ThisHost => "an address of Boatyard's own host",
        })
    }
}

/// The metadata services of AWS, Azure, Google and others; Alibaba; Azure's host agent.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
];

fn kind(address: IpAddr) -> Option<Kind> {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

fn kind_v4(address: Ipv4Addr) -> Option<Kind> {
    let [a, b, c, _] = address.octets();
    Some(match (a, b, c) {
        _ if METADATA_V4.contains(&address) => Kind::Metadata,
        (127, ..) => Kind::Loopback,
        (10, ..) | (192, 168, _) | (172, 16..=31, _) => Kind::Private,
        (169, 254, _) => Kind::LinkLocal,
        (100, 64..=127, _) => Kind::Shared,
        (224..=239, ..) => Kind::Multicast,
        // This network, IETF protocols, the three documentation ranges, 6to4 relays, benchmarks,
        // and the former class E with broadcast.
        (0 | 240..=255, ..)
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18 | 19, _)
        | (198, 51, 100)
        | (203, 0, 113) => Kind::Reserved,
        _ => return None,
    })
}

fn kind_v6(address: Ipv6Addr) -> Option<Kind> {
    let segments = address.segments();
    let [a, b, c, d, e, f, _, _] = segments;
    let embedded = || {
        let [.., w, x, y, z] = address.octets();
        Ipv4Addr::new(w, x, y, z)
    };
    Some(match (a, b) {
        _ if address.is_loopback() => Kind::Loopback,
        // AWS: fd00:ec2::/32.
        (0xfd00, 0x0ec2) => Kind::Metadata,
        (0xfc00..=0xfdff, _) => Kind::Private,
        (0xfe80..=0xfebf, _) => Kind::LinkLocal,
        (0xfec0..=0xfeff, _) => Kind::Private,
        (0xff00..=0xffff, _) => Kind::Multicast,
        // NAT64 leads to an IPv4 address, which decides.
        (0x0064, 0xff9b) if [c, d, e, f] == [0; 4] => return kind_v4(embedded()).map(wrapped),
        (0x0064, 0xff9b) => Kind::Wrapped,
        // IPv4-mapped, IPv4-compatible and translated, and the unspecified address.
        (0, 0) => Kind::Wrapped,
        // 6to4, Teredo.
        (0x2002, _) | (0x2001, 0) => Kind::Wrapped,
        // Benchmarks, ORCHID, documentation.
        (0x2001, 0x0001..=0x01ff | 0x0db8) | (0x3fff, 0..=0x0fff) => Kind::Reserved,
        (0x2000..=0x3fff, _) => return None,
        _ => Kind::Reserved,
    })
}

fn wrapped(kind: Kind) -> Kind {
    // Whatever lies behind keeps its own strictness.
    if kind == Kind::Metadata { kind } else { Kind::Wrapped }
}

/// Whether this host answers under the address itself. The kernel knows: a socket that is
/// connected to such an address has it as its own as well. Nothing is sent.
fn is_ours(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let own = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(address, 9))?;
        socket.local_addr()
    });
    // Without a route to it, it is not ours either.
    own.is_ok_and(|own| own.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expected: Option<Kind>) {
        assert_eq!(kind(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn addresses_are_told_apart() {
        check("1.1.1.1", None);
        check("93.184.216.34", None);
        check("172.15.0.1", None);
        check("172.32.0.1", None);
        check("100.63.0.1", None);
        check("100.128.0.1", None);
        check("2606:4700::1111", None);
        check("64:ff9b::101:101", None);
        check("127.9.9.9", Some(Kind::Loopback));
        check("::1", Some(Kind::Loopback));
        check("0.0.0.0", Some(Kind::Reserved));
        check("::", Some(Kind::Wrapped));
        check("10.1.2.3", Some(Kind::Private));
        check("172.31.255.1", Some(Kind::Private));
        check("192.168.1.1", Some(Kind::Private));
        check("fd12::1", Some(Kind::Private));
        check("fe80::1", Some(Kind::LinkLocal));
        check("169.254.1.1", Some(Kind::LinkLocal));
        check("169.254.169.254", Some(Kind::Metadata));
        check("100.100.100.200", Some(Kind::Metadata));
        check("168.63.129.16", Some(Kind::Metadata));
        check("fd00:ec2::254", Some(Kind::Metadata));
        check("64:ff9b::a9fe:a9fe", Some(Kind::Metadata));
        check("100.64.0.1", Some(Kind::Shared));
        check("224.0.0.1", Some(Kind::Multicast));
        check("ff02::1", Some(Kind::Multicast));
        check("255.255.255.255", Some(Kind::Reserved));
        check("198.18.0.1", Some(Kind::Reserved));
        check("::ffff:1.1.1.1", Some(Kind::Wrapped));
        check("::ffff:127.0.0.1", Some(Kind::Wrapped));
        check("::127.0.0.1", Some(Kind::Wrapped));
        check("2002:7f00:1::", Some(Kind::Wrapped));
        check("64:ff9b::7f00:1", Some(Kind::Wrapped));
        check("64:ff9b:1::101:101", Some(Kind::Wrapped));
        check("2001:0:1::1", Some(Kind::Wrapped));
        check("2001:db8::1", Some(Kind::Reserved));
        check("4000::1", Some(Kind::Reserved));
    }

    #[test]
    fn settings_open_ranges_but_metadata_only_by_name() {
        let guard =
            |cidrs: &[&str]| Guard::new(cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect());
        let judge = |guard: &Guard, address: &str| guard.judge(address.parse().unwrap());
        assert_eq!(judge(&guard(&[]), "10.0.0.1"), Err(Kind::Private));
        assert_eq!(judge(&guard(&["10.0.0.0/8"]), "10.0.0.1"), Ok(()));
        assert_eq!(judge(&guard(&["10.0.0.0/8"]), "192.168.0.1"), Err(Kind::Private));
        let wide = guard(&["0.0.0.0/0"]);
        assert_eq!(judge(&wide, "169.254.1.1"), Ok(()));
        assert_eq!(judge(&wide, "169.254.169.254"), Err(Kind::Metadata));
        assert_eq!(judge(&guard(&["169.254.169.254"]), "169.254.169.254"), Ok(()));
    }

    #[test]
    fn the_kernel_knows_our_own_addresses() {
        assert!(is_ours("127.0.0.1".parse().unwrap()));
        assert!(!is_ours("192.0.2.77".parse().unwrap()));
    }
}
