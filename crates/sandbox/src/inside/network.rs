//! The sandbox's own network: loopback, and the listeners on it.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use crate::{fds::Listener, sys::check};

/// How many connections wait while no server accepts.
const BACKLOG: i32 = 1024;

/// The kernel's `struct ifreq`, as far as flags need it.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// Brings loopback up; the kernel gives it its addresses.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = socket(libc::SOCK_DGRAM)?;
    let mut request = InterfaceFlags {
        name: [0; libc::IFNAMSIZ],
        flags: (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short,
        rest: [0; 22],
    };
    request.name[..2].copy_from_slice(b"lo");
    // SAFETY: an ifreq of the full size.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) })?;
    Ok(())
}

/// Makes a listener. A socket belongs to the network in which it was made: the server accepts on
/// it from outside, and nothing is forwarded inside.
pub(crate) fn listen(listener: Listener) -> io::Result<OwnedFd> {
    let socket = socket(libc::SOCK_STREAM)?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: listener.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    // SAFETY: an address of the size given.
    unsafe {
        check(libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        ))?;
        check(libc::listen(socket.as_raw_fd(), BACKLOG))?;
    }
    Ok(socket)
}

fn socket(kind: i32) -> io::Result<OwnedFd> {
    // SAFETY: integers only; the result is a new descriptor.
    unsafe {
        let fd = check(libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, 0))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
