//! Bytes from one socket to another, as they come.
//!
//! A quiet connection holds no memory: bytes are read into a buffer that all connections of a
//! thread share, and only what the other side does not take at once is kept. (Splicing through a
//! pipe was measured and is no faster between two TCP sockets of one host, at two descriptors and
//! a pipe for each direction.)

use std::{
    cell::RefCell,
    io,
    net::Shutdown,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use socket2::SockRef;
use tokio::net::TcpStream;

/// The shared buffer: large enough that a busy direction makes few calls, small enough to stay in
/// a core's cache.
const SCRATCH: usize = 128 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// Passes bytes until `from` ends, and then ends `to` for writing. Counts them in `moved`.
///
/// # Errors
///
/// The first error of either side.
pub(crate) async fn pump(from: &TcpStream, to: &TcpStream, moved: &AtomicU64) -> io::Result<()> {
    loop {
        from.readable().await?;
        match pass_on(from, to) {
            Ok((0, _)) => break,
            Ok((count, rest)) => {
                moved.fetch_add(count as u64, Ordering::Relaxed);
                write_all(to, &rest).await?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    match SockRef::from(to).shutdown(Shutdown::Write) {
        // It went away by itself in the meantime.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        outcome => outcome,
    }
}

/// Reads once and writes what is taken at once; gives back how much was read and what is left.
fn pass_on(from: &TcpStream, to: &TcpStream) -> io::Result<(usize, Vec<u8>)> {
    BUFFER.with_borrow_mut(|buffer| {
        let count = from.try_read(buffer)?;
        let written = match to.try_write(&buffer[..count]) {
            _ if count == 0 => 0,
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        Ok((count, buffer[written..count].to_vec()))
    })
}

/// Writes all of `bytes`.
pub(crate) async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Appends what `from` has to `bytes`; whether that was anything, or it has ended.
pub(crate) async fn read_more(from: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        from.readable().await?;
        let read = BUFFER.with_borrow_mut(|buffer| {
            let count = from.try_read(buffer)?;
            bytes.extend_from_slice(&buffer[..count]);
            Ok(count > 0)
        });
        match read {
            Err(error) if io::Error::kind(&error) == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// Makes closing the socket a reset, so that nobody takes a part for the whole.
pub(crate) fn reset(socket: &TcpStream) {
    // It may be gone already, which is as good.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
