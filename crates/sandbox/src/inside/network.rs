//! The sandbox's own network: loopback with every address on it, and sockets that catch what is
//! sent there.
//!
//! ```text
//!  127.0.0.0/8, ::1        as everywhere: programs inside talk to each other
//!  any other IPv4 address  is local by a route, so a connection to it is one to this machine:
//!      TCP                   ─► the capturing listener, whatever the port (by `rules`), or, where
//!                               the kernel can't do that, one listener for each usual port
//!      UDP port 53           ─► the socket that answers names
//!      UDP otherwise         ─► nobody listens: refused at once
//!  any other IPv6 address  has no route: refused at once
//!  ICMP and raw sockets    need a capability that nobody has
//! ```
//!
//! A socket belongs to the network in which it was made: the server accepts on it from outside,
//! nothing is forwarded inside, and there is no way out that could be left open.

pub(crate) mod netlink;
mod rules;

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use self::netlink::Messages;
use crate::{
    CAPTURE_PORT, CAPTURED_PORTS, Result,
    error::Step as _,
    fds::{self, Listener},
    protocol::Capture,
    sys::{check, memory, process},
};

/// How many connections wait while no server accepts.
const BACKLOG: i32 = 1024;
/// The address that a sandbox has beside 127.0.0.1, so that programs which look for one find the
/// network up. One of those that belong to the machine itself (RFC 7335), and so to nobody else.
pub(crate) const OWN_ADDRESS: [u8; 4] = [192, 0, 0, 2];
const LOCALHOST: [u8; 4] = [127, 0, 0, 1];
const ANY: [u8; 4] = [0; 4];
/// The loopback has this number in every network.
const LOOPBACK: u32 = 1;
/// Where names are asked.
const DNS_PORT: u16 = 53;

/// Brings loopback up; the kernel gives it its addresses.
pub(crate) fn loopback_up() -> io::Result<()> {
    let mut messages = Messages::new();
    up(&mut messages, libc::NLM_F_ACK);
    messages.send(libc::NETLINK_ROUTE)
}

/// Brings loopback up, with every address on it.
fn everywhere() -> io::Result<()> {
    let mut messages = Messages::new();
    up(&mut messages, 0);
    let [a, b, c, d] = LOOPBACK.to_ne_bytes();
    let address = [libc::AF_INET as u8, 32, 0, libc::RT_SCOPE_UNIVERSE, a, b, c, d];
    messages.add(libc::RTM_NEWADDR, libc::NLM_F_CREATE, &address, |of| {
        of.bytes(libc::IFA_LOCAL, &OWN_ADDRESS).bytes(libc::IFA_ADDRESS, &OWN_ADDRESS);
    });
    let family = libc::AF_INET as u8;
    let route = [
        [family, 0, 0, 0],
        [libc::RT_TABLE_LOCAL, libc::RTPROT_BOOT, libc::RT_SCOPE_HOST, libc::RTN_LOCAL],
        [0; 4],
    ];
    let flags = libc::NLM_F_CREATE | libc::NLM_F_ACK;
    messages.add(libc::RTM_NEWROUTE, flags, route.as_flattened(), |of| {
        of.bytes(libc::RTA_OIF, &LOOPBACK.to_ne_bytes()).bytes(libc::RTA_PREFSRC, &OWN_ADDRESS);
    });
    messages.send(libc::NETLINK_ROUTE)
}

/// Adds the order to bring loopback up (`struct ifinfomsg`).
fn up(messages: &mut Messages, flags: i32) {
    let is_up = (libc::IFF_UP as u32).to_ne_bytes();
    let link = [[0; 4], LOOPBACK.to_ne_bytes(), is_up, is_up];
    messages.add(libc::RTM_NEWLINK, flags, link.as_flattened(), |_| {});
}

/// Opens the network, and makes everything that the server takes connections and questions from:
/// each with its well-known number.
pub(crate) fn open(capture: Capture) -> Result<Vec<(i32, OwnedFd)>> {
    everywhere().step("addresses")?;
    let mut made = Vec::with_capacity(8);
    for listener in Listener::ALL {
        let socket = stream().and_then(|socket| listen(socket, LOCALHOST, listener.port()));
        made.push((listener.fd(), socket.step(listener.name())?));
    }
    match capture {
        Capture::AllPorts => made.push((fds::CAPTURE[0], all_ports()?)),
        Capture::UsualPorts => {
            for (fd, port) in fds::CAPTURE.into_iter().zip(CAPTURED_PORTS) {
                let socket = stream().and_then(|socket| listen(socket, ANY, port));
                made.push((fd, socket.step("capture listener")?));
            }
        }
    }
    made.push((fds::DNS, names_asked().step("socket for names")?));
    made.push((fds::NAMES, memory::plain(c"boatyard-names").step("memory for names")?));
    // Without, connections are looked for in a list, which takes longer.
    if let Ok(socket) = netlink::socket(libc::NETLINK_SOCK_DIAG) {
        made.push((fds::DIAGNOSIS_KEPT, socket));
    }
    Ok(made)
}

/// The listener to which the rule takes every connection.
fn all_ports() -> Result<OwnedFd> {
    let socket = stream().step("capture listener")?;
    // What is accepted has the address that was dialled, which is not this listener's.
    set(&socket, libc::IP_TRANSPARENT).step("capture listener")?;
    let socket = listen(socket, LOCALHOST, CAPTURE_PORT).step("capture listener")?;
    rules::install().step("capture rule")?;
    Ok(socket)
}

/// Finds out, in a network of its own that goes away again, how much can be caught here.
pub(crate) fn try_capture() -> io::Result<Capture> {
    // SAFETY: the spawner has one thread.
    let trial = unsafe { process::fork(libc::CLONE_NEWUSER | libc::CLONE_NEWNET, None)? };
    match trial {
        process::Fork::Child => {
            let caught = everywhere().is_ok() && all_ports().is_ok();
            process::exit(i32::from(!caught))
        }
        process::Fork::Parent(child) => {
            use std::os::fd::AsFd as _;
            let ended = process::reap(child.pidfd.as_fd(), process::Wait::Block)?;
            Ok(match ended {
                Some(process::Status::Exited(0)) => Capture::AllPorts,
                _ => Capture::UsualPorts,
            })
        }
    }
}

/// The socket that questions for names arrive at, whomever they were sent to: each says to whom,
/// and the answer comes from there.
fn names_asked() -> io::Result<OwnedFd> {
    let socket = socket(libc::SOCK_DGRAM)?;
    set(&socket, libc::IP_PKTINFO)?;
    bind(&socket, ANY, DNS_PORT)?;
    Ok(socket)
}

fn listen(socket: OwnedFd, address: [u8; 4], port: u16) -> io::Result<OwnedFd> {
    bind(&socket, address, port)?;
    // SAFETY: an open socket.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(socket)
}

fn bind(socket: &OwnedFd, address: [u8; 4], port: u16) -> io::Result<()> {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address) },
        sin_zero: [0; 8],
    };
    // SAFETY: an address of the size given.
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Switches an option of the Internet protocol on.
fn set(socket: &OwnedFd, option: i32) -> io::Result<()> {
    let on: i32 = 1;
    // SAFETY: an integer of the size given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    })?;
    Ok(())
}

fn stream() -> io::Result<OwnedFd> {
    socket(libc::SOCK_STREAM)
}

fn socket(kind: i32) -> io::Result<OwnedFd> {
    // SAFETY: integers only; the result is a new descriptor.
    unsafe {
        let fd = check(libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, 0))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
