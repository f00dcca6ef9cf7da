//! The network: the machine's own addresses, its neighbours, clouds' metadata, the Internet.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::AsRawFd as _,
    time::Duration,
};

use super::{
    Attack, Context, Finding, attack,
    bait::MARK,
    calls::{close, errno},
    http, inside_only, proxy,
    run::owned,
    worst,
};
use crate::sys::check;

/// A name that the rules allow on every port, and that nobody has.
pub const ALLOWED: &str = "allowed.boatyard-escape.example";
/// `IPPROTO_MPTCP`.
const MULTIPATH: i32 = 262;

pub(super) const ATTACKS: &[Attack] = &[
    attack("metadata-aws", "Asks the metadata service of AWS, Google and others", |c| {
        let paths = ["/latest/meta-data/iam/security-credentials/", "/computeMetadata/v1/"];
        worst(paths.map(|path| (path.to_owned(), metadata(c, "169.254.169.254:80", path))))
    }),
    attack("metadata-azure", "Asks Azure's host agent", |c| {
        metadata(c, "168.63.129.16:80", "/?comp=versions")
    }),
    attack("metadata-alibaba", "Asks Alibaba's metadata service", |c| {
        metadata(c, "100.100.100.200:80", "/latest/meta-data/")
    }),
    attack("metadata-v6", "Asks AWS's metadata service by its IPv6 address", |c| {
        metadata(c, "[fd00:ec2::254]:80", "/latest/meta-data/")
    }),
    attack("container-metadata", "Asks a container service for its task's credentials", |c| {
        metadata(c, "169.254.170.2:80", "/v2/credentials/")
    }),
    attack("host-port", "Connects to a port of the host, by all addresses of the host", |c| {
        direct(c, c.bait.host.tcp.iter().copied())
    }),
    attack("host-port-v6", "Connects to a port of the host by mapped and other spellings", |c| {
        direct(
            c,
            c.bait.host.tcp.iter().flat_map(|address| {
                let port = address.port();
                let IpAddr::V4(v4) = address.ip() else { return Vec::new() };
                vec![
                    SocketAddr::from((v4.to_ipv6_mapped(), port)),
                    SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
                    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                    SocketAddr::from((Ipv4Addr::new(127, 255, 255, 254), port)),
                ]
            }),
        )
    }),
    attack(
        "allowed-name-at-address",
        "Connects to addresses of the host and says an allowed name, in TLS and in HTTP",
        |c| {
            let ways = |name: &str| {
                let tls = [proxy::hello(Some(name)), http::get(c, name)].concat();
                [("TLS", tls), ("HTTP", http::get(c, name))]
            };
            worst(c.bait.host.tcp.iter().flat_map(|address| {
                // One leads nowhere, the other to this very host: neither is the address.
                [ALLOWED, "localhost"].into_iter().flat_map(ways).map(move |(way, bytes)| {
                    let answer = http::ask(*address, &bytes);
                    (format!("{way} at {address}"), http::judge_by_token(c, &answer))
                })
            }))
        },
    ),
    attack("server-port", "Connects to Boatyard's own server", |c| match c.bait.server {
        None => Finding::blocked("there is none"),
        Some(address) => {
            let request =
                b"GET /api/workspaces HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let answer = http::ask(address, request);
            match &answer {
                Ok(bytes) if !bytes.is_empty() => Finding::escaped("the server answers"),
                _ => http::judge(c, &answer),
            }
        }
    }),
    attack("private-networks", "Connects into private networks", |c| {
        let known =
            ["10.0.0.1:80", "172.17.0.1:80", "192.168.0.1:80", "192.168.1.1:80", "100.64.0.1:80"];
        direct(c, known.iter().filter_map(|address| address.parse().ok()))
    }),
    attack("internet", "Connects to the Internet, past the proxy", |c| {
        let known = ["1.1.1.1:80", "8.8.8.8:80", "93.184.215.14:80"];
        direct(c, known.iter().filter_map(|address| address.parse().ok()))
    }),
    attack("internet-v6", "The same by IPv6", |c| {
        direct(c, ["[2606:4700:4700::1111]:80"].iter().filter_map(|address| address.parse().ok()))
    }),
    attack("other-ports", "Connects to mail, SSH and databases on the Internet", |c| {
        let known = ["1.1.1.1:25", "1.1.1.1:22", "1.1.1.1:5432", "1.1.1.1:853"];
        direct(c, known.iter().filter_map(|address| address.parse().ok()))
    }),
    attack("udp-to-host", "Sends datagrams to the host", |c| {
        worst(c.bait.host.udp.iter().map(|address| (address.to_string(), datagram(c, *address))))
    }),
    attack("udp-to-internet", "Sends datagrams to the Internet, as QUIC does", |c| {
        let known = ["1.1.1.1:443", "8.8.8.8:123", "1.1.1.1:51820"];
        worst(
            known
                .iter()
                .filter_map(|address| address.parse().ok())
                .map(|address: SocketAddr| (address.to_string(), datagram(c, address))),
        )
    }),
    attack("multicast", "Speaks to everybody on the host's network", |c| {
        let known = ["224.0.0.251:5353", "239.255.255.250:1900", "255.255.255.255:67"];
        worst(
            known
                .iter()
                .filter_map(|address| address.parse().ok())
                .map(|address: SocketAddr| (address.to_string(), datagram(c, address))),
        )
    }),
    attack("multipath-tcp", "Connects by multipath TCP, which filters often forget", |c| {
        streams(c, libc::SOCK_STREAM, MULTIPATH)
    }),
    attack("other-transports", "Connects by SCTP, DCCP and UDP-Lite", |c| {
        worst(
            [(libc::SOCK_STREAM, 132), (6, 33), (libc::SOCK_DGRAM, 136)].map(|(kind, protocol)| {
                (format!("protocol {protocol}"), streams(c, kind, protocol))
            }),
        )
    }),
    attack("ping", "Sends a ping by the socket that everybody may open", |_| ping()),
    attack("interfaces", "Looks for a network device beside the loopback", |_| interfaces()),
    attack("change-network", "Adds addresses and routes, and changes devices", |_| {
        // Of a device that there is not: refused after the question who asks.
        let none = 0x00ff_fff0u32.to_ne_bytes();
        let address = [&[2u8, 32, 0, 0][..], &none[..], &[8, 0, 2, 0, 10, 255, 0, 9]].concat();
        let mut route = vec![2u8, 32, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 8, 0, 1, 0, 10, 255, 0, 9];
        route.extend([8, 0, 4, 0]);
        route.extend(none);
        let device = [&[0u8; 4][..], &none[..], &[0; 8][..]].concat();
        worst([
            ("address".to_owned(), netlink(20, &address)),
            ("route".to_owned(), netlink(24, &route)),
            ("device".to_owned(), netlink(19, &device)),
        ])
    }),
    inside_only(
        "take-proxys-place",
        "Listens where the proxy, the gateway and names are served",
        |c| {
            let places = [c.bait.proxy, c.bait.gateway, c.bait.resolver];
            worst(
                places
                    .into_iter()
                    .map(|address| (address.to_string(), Finding::of(listen(address)))),
            )
        },
    ),
];

fn metadata(c: &Context<'_>, address: &str, path: &str) -> Finding {
    let Ok(address) = address.parse::<SocketAddr>() else { return Finding::skipped("no address") };
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nMetadata-Flavor: Google\r\nConnection: close\r\n\r\n",
        address.ip()
    );
    http::judge(c, &http::ask(address, head.as_bytes()))
}

fn direct(c: &Context<'_>, addresses: impl IntoIterator<Item = SocketAddr>) -> Finding {
    worst(addresses.into_iter().map(|address| {
        let request = http::get(c, &address.to_string());
        (address.to_string(), http::judge(c, &http::ask(address, &request)))
    }))
}

/// Sends a datagram and waits for an answer, or for the word that nobody is there.
fn datagram(c: &Context<'_>, address: SocketAddr) -> Finding {
    let answer = (|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(700)))?;
        socket.set_broadcast(true)?;
        socket.connect(address)?;
        socket.send(format!("{MARK}{}", c.name).as_bytes())?;
        let mut bytes = vec![0; 512];
        let length = socket.recv(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    })();
    match answer {
        // It was sent, and nobody said that it can't arrive: it left if there is a way.
        Err(error) if is_late(&error) => match interfaces() {
            finding if finding.outcome == super::Outcome::Blocked => {
                Finding::blocked("sent to nowhere: there is no device to leave by")
            }
            _ => Finding::escaped("it was sent"),
        },
        answer => http::judge(c, &answer),
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Connects to the host's port over another transport.
fn streams(c: &Context<'_>, kind: i32, protocol: i32) -> Finding {
    use std::{net::TcpStream, os::fd::FromRawFd as _};
    worst(c.bait.host.tcp.iter().map(|address| {
        let answer = (|| {
            let IpAddr::V4(ip) = address.ip() else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            let to = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: an address of the size given; the descriptor is new and ours alone.
            let mut stream = unsafe {
                let fd = check(libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, protocol))?;
                let stream = TcpStream::from_raw_fd(fd);
                stream.set_read_timeout(Some(http::WITHIN))?;
                stream.set_write_timeout(Some(http::WITHIN))?;
                let length = size_of_val(&to) as libc::socklen_t;
                check(libc::connect(fd, (&raw const to).cast(), length))?;
                stream
            };
            io::Write::write_all(&mut stream, &http::get(c, &address.to_string()))?;
            http::read(&mut stream, |_| false)
        })();
        (address.to_string(), http::judge(c, &answer))
    }))
}

/// An echo request by a datagram socket, to a public address.
fn ping() -> Finding {
    // SAFETY: integers; an address of the size given; a buffer of the length given.
    let answered = unsafe {
        let fd =
            libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMP);
        check(fd).and_then(|fd| {
            let socket = UdpSocket::from(owned(fd));
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            socket.connect("1.1.1.1:1")?;
            socket.send(&[8, 0, 0, 0, 0, 0, 0, 1])?;
            let mut bytes = [0; 64];
            socket.recv(&mut bytes)
        })
    };
    match answered {
        Ok(_) => Finding::escaped("it was answered"),
        Err(error) if is_late(&error) => Finding::blocked("nobody answers"),
        Err(error) => Finding::blocked(errno(&error)),
    }
}

fn interfaces() -> Finding {
    let mut first = std::ptr::null_mut();
    // SAFETY: the list is walked before it is freed; names are C strings.
    let names = unsafe {
        if let Err(error) = check(libc::getifaddrs(&raw mut first)) {
            return Finding::blocked(errno(&error));
        }
        let mut names = Vec::new();
        let mut at = first;
        while !at.is_null() {
            let name = std::ffi::CStr::from_ptr((*at).ifa_name).to_string_lossy().into_owned();
            if !names.contains(&name) {
                names.push(name);
            }
            at = (*at).ifa_next;
        }
        libc::freeifaddrs(first);
        names
    };
    match names.iter().find(|name| *name != "lo") {
        Some(other) => Finding::escaped(format!("there is {other}")),
        None => Finding::blocked("the loopback alone"),
    }
}

/// A request to the kernel's network of this kind; its answer.
fn netlink(kind: u16, body: &[u8]) -> Finding {
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    // A request that is answered.
    message.extend(5u16.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    // SAFETY: buffers of the lengths given; the descriptor is closed.
    let answer = unsafe {
        let fd = libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_ROUTE,
        );
        check(fd).and_then(|fd| {
            let mut bytes = [0u8; 1024];
            let sent = check(libc::send(fd, message.as_ptr().cast(), message.len(), 0));
            let received =
                sent.and_then(|_| check(libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0)));
            close(i64::from(fd));
            // An NLMSG_ERROR: the number stands behind the header.
            received.map(|_| i32::from_ne_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]))
        })
    };
    match answer {
        Err(error) => Finding::blocked(errno(&error)),
        Ok(0) => Finding::escaped("it worked"),
        Ok(number) => Finding::guarded::<()>(Err(io::Error::from_raw_os_error(-number))),
    }
}

/// Listens at an address that is in use, in the ways that let several do so.
fn listen(address: SocketAddr) -> io::Result<()> {
    if TcpListener::bind(address).is_ok() {
        return Ok(());
    }
    let IpAddr::V4(ip) = address.ip() else { return Err(io::ErrorKind::Unsupported.into()) };
    let at = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
        sin_zero: [0; 8],
    };
    // SAFETY: values and an address of the sizes given; the descriptor is new.
    unsafe {
        let fd =
            owned(check(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?);
        let yes: libc::c_int = 1;
        for option in [libc::SO_REUSEADDR, libc::SO_REUSEPORT] {
            let length = size_of_val(&yes) as libc::socklen_t;
            check(libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const yes).cast(),
                length,
            ))?;
        }
        let length = size_of_val(&at) as libc::socklen_t;
        check(libc::bind(fd.as_raw_fd(), (&raw const at).cast(), length))?;
        check(libc::listen(fd.as_raw_fd(), 1))?;
    }
    Ok(())
}
