//! How a connection is set up to carry a link.
//!
//! The less unsent data the kernel holds, the sooner a small message gets its turn behind a bulk
//! stream; too little, and bulk waits for the driver to be scheduled.

use std::{io, os::fd::AsFd};

use socket2::SockRef;

/// What a socket may hold that was not sent, in bytes: two batches of the driver.
const UNSENT: usize = 128 * 1024;

/// Prepares a unix stream socket.
///
/// # Errors
///
/// When the descriptor is not a socket.
pub fn tune_unix(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_send_buffer_size(UNSENT)
}

/// Prepares a TCP socket: nothing is held back to make segments full, and little is unsent.
///
/// # Errors
///
/// When the descriptor is not a TCP socket.
pub fn tune_tcp(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT as u32)
}
