//! Sockets that lead elsewhere than into the sandbox's own network.

use std::{io, os::fd::AsRawFd as _, os::unix::net::UnixStream};

use super::{
    Attack, Finding, attack,
    calls::{close, errno},
    neighbours::abstract_socket,
    run::owned,
    worst,
};
use crate::sys::check;

/// Address families with little use and a history of holes; and two that go around a network.
const RARE: [(i32, &str); 16] = [
    (libc::AF_AX25, "AX25"),
    (libc::AF_IPX, "IPX"),
    (libc::AF_X25, "X25"),
    (libc::AF_KEY, "KEY"),
    (libc::AF_RDS, "RDS"),
    (libc::AF_PPPOX, "PPPOX"),
    (libc::AF_LLC, "LLC"),
    (libc::AF_IB, "IB"),
    (libc::AF_CAN, "CAN"),
    (libc::AF_TIPC, "TIPC"),
    (libc::AF_RXRPC, "RXRPC"),
    (libc::AF_PHONET, "PHONET"),
    (libc::AF_IEEE802154, "IEEE802154"),
    (libc::AF_NFC, "NFC"),
    (43, "SMC"),
    (45, "QIPCRTR"),
];

pub(super) const ATTACKS: &[Attack] = &[
    attack("vsock", "Speaks to the hypervisor", |_| {
        worst(
            [libc::SOCK_STREAM, libc::SOCK_DGRAM]
                .map(|kind| (format!("kind {kind}"), socket(libc::AF_VSOCK, kind, 0))),
        )
    }),
    attack("packet-socket", "Reads and writes raw frames", |_| {
        worst(
            [libc::SOCK_RAW, libc::SOCK_DGRAM]
                .map(|kind| (format!("kind {kind}"), socket(libc::AF_PACKET, kind, 3 << 8))),
        )
    }),
    attack("crypto-socket", "Uses the kernel's cryptography by a socket", |_| {
        socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)
    }),
    attack("bluetooth-socket", "Uses the machine's Bluetooth", |_| {
        worst([(libc::SOCK_RAW, 1), (libc::SOCK_SEQPACKET, 0), (libc::SOCK_STREAM, 3)].map(
            |(kind, protocol)| {
                (format!("protocol {protocol}"), socket(libc::AF_BLUETOOTH, kind, protocol))
            },
        ))
    }),
    attack("express-data-path-socket", "Takes frames past the kernel's network", |_| {
        socket(libc::AF_XDP, libc::SOCK_RAW, 0)
    }),
    attack("rare-families", "Opens sockets of families that few use", |_| {
        worst(RARE.iter().flat_map(|(family, name)| {
            [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET, libc::SOCK_RAW]
                .map(move |kind| ((*name).to_owned(), socket(*family, kind, 0)))
        }))
    }),
    attack("raw-icmp", "Sends ICMP by a raw socket", |_| {
        worst([(libc::AF_INET, libc::IPPROTO_ICMP), (libc::AF_INET6, libc::IPPROTO_ICMPV6)].map(
            |(family, protocol)| {
                (format!("family {family}"), socket(family, libc::SOCK_RAW, protocol))
            },
        ))
    }),
    attack("raw-ip", "Makes IP packets of its own", |_| {
        socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)
    }),
    attack("audit-socket", "Speaks to the kernel's audit", |_| {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT)
    }),
    attack("firewall-socket", "Changes packet filters by netlink", |_| {
        socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)
    }),
    attack("other-netlink", "Opens netlink for anything but routes", |_| {
        let protocols = [
            libc::NETLINK_KOBJECT_UEVENT,
            libc::NETLINK_GENERIC,
            libc::NETLINK_XFRM,
            libc::NETLINK_CONNECTOR,
            libc::NETLINK_CRYPTO,
            libc::NETLINK_SOCK_DIAG,
        ];
        worst(protocols.map(|protocol| {
            (format!("protocol {protocol}"), socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol))
        }))
    }),
    attack("abstract-socket", "Connects to an abstract unix socket of the host", |c| {
        abstract_socket(c, &c.bait.host)
    }),
    attack(
        "forged-credentials",
        "Says on a unix socket that it is another process and user",
        |_| forged(),
    ),
    attack("transparent-socket", "Binds to addresses of others, and marks packets", |_| {
        let options = [
            ("transparent", libc::SOL_IP, libc::IP_TRANSPARENT),
            ("mark", libc::SOL_SOCKET, libc::SO_MARK),
            ("over the limit", libc::SOL_SOCKET, libc::SO_RCVBUFFORCE),
        ];
        worst(options.map(|(name, level, option)| (name.to_owned(), set(level, option))))
    }),
];

/// A socket that there must not be. One of a protocol that this kernel has not is none either.
fn socket(family: i32, kind: i32, protocol: i32) -> Finding {
    // SAFETY: integers only.
    match check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) }) {
        Ok(fd) => {
            close(i64::from(fd));
            Finding::escaped("it was opened")
        }
        Err(error) => Finding::blocked(errno(&error)),
    }
}

fn set(level: i32, option: i32) -> Finding {
    let value: libc::c_int = 1;
    // SAFETY: a value of the length given.
    let result = unsafe {
        let socket = match check(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0)) {
            Ok(fd) => owned(fd),
            Err(error) => return Finding::blocked(errno(&error)),
        };
        let length = size_of_val(&value) as libc::socklen_t;
        let at = (&raw const value).cast();
        check(libc::setsockopt(socket.as_raw_fd(), level, option, at, length))
    };
    Finding::of(result)
}

/// Sends `SCM_CREDENTIALS` that say process 1 and user 0.
fn forged() -> Finding {
    let sent = UnixStream::pair().and_then(|(one, _other)| {
        // SAFETY: always sound.
        let is_zero = unsafe { libc::getuid() } == 0;
        // The only id there is can be claimed by who has it; another one can't.
        let claimed = if is_zero { 12_345 } else { 0 };
        let credentials = libc::ucred { pid: 1, uid: claimed, gid: claimed };
        let mut byte = 1u8;
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut control = [0u64; 8];
        // SAFETY: a message that points to what lives until the call returns; `control` has room
        // for one header with these credentials.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of_val(&credentials) as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            if header.is_null() {
                return Err(io::ErrorKind::Other.into());
            }
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_CREDENTIALS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of_val(&credentials) as u32) as _;
            libc::CMSG_DATA(header).cast::<libc::ucred>().write_unaligned(credentials);
            check(libc::sendmsg(one.as_raw_fd(), &raw const message, 0))
        }
    });
    Finding::of(sent)
}
