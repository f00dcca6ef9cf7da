//! Bytes from one socket to another, both ways, as they come.
//!
//! A quiet connection holds no memory: bytes are read into a buffer that all connections of a
//! thread share, and only what the other side does not take at once is kept. A direction that has
//! carried much moves to a pipe, through which the kernel passes the pages without copying them
//! to us.

use std::{
    cell::RefCell,
    future::Future,
    io,
    net::Shutdown,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use crate::log::Traffic;

/// The shared buffer: large enough that a busy direction makes few calls.
const SCRATCH: usize = 128 * 1024;
/// After how many bytes a direction gets a pipe. Most never need one, and it costs two
/// descriptors.
const PIPE_AFTER: u64 = 1 << 20;
/// How large a pipe is asked for. The kernel may give less; an ordinary user may have 64 MiB in
/// all pipes before it gives a page.
const PIPE_SIZE: usize = 256 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// Passes bytes between the workspace (`inside`) and its destination until both have ended, and
/// then ends as well. An end on one side is passed on as a half-close.
///
/// # Errors
///
/// The first error of either side; the other is then reset, so that nobody takes a part for the
/// whole.
pub(crate) async fn relay(
    inside: &TcpStream,
    outside: &TcpStream,
    traffic: &Traffic,
) -> io::Result<()> {
    let both = async {
        tokio::try_join!(
            pump(inside, outside, &traffic.sent),
            pump(outside, inside, &traffic.received),
        )
    };
    let outcome = both.await;
    if outcome.is_err() {
        reset(inside);
        reset(outside);
    }
    outcome.map(|_| ())
}

/// Makes closing the socket a reset.
pub(crate) fn reset(socket: &TcpStream) {
    // It may be gone already, which is as good.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
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

async fn pump(from: &TcpStream, to: &TcpStream, moved: &AtomicU64) -> io::Result<()> {
    let mut total = 0;
    let has_ended = loop {
        if total >= PIPE_AFTER {
            break false;
        }
        from.readable().await?;
        let rest = match pass_on(from, to) {
            Ok((0, _)) => break true,
            Ok((count, rest)) => {
                total += count as u64;
                moved.fetch_add(count as u64, Ordering::Relaxed);
                rest
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        write_all(to, &rest).await?;
    };
    if !has_ended {
        pump_through_pipe(from, to, moved).await?;
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

/// As [`pump`], by splice. Falls back to copying where there is no pipe to be had.
async fn pump_through_pipe(from: &TcpStream, to: &TcpStream, moved: &AtomicU64) -> io::Result<()> {
    let Ok((pipe_out, pipe_in)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
        return pump_by_copy(from, to, moved).await;
    };
    // Refused beyond a user's share; the default of 64 KiB works as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe_in, PIPE_SIZE);
    loop {
        let count = move_some(from, Interest::READABLE, || {
            splice(from, None, &pipe_in, None, PIPE_SIZE, SPLICE)
        })
        .await?;
        if count == 0 {
            return Ok(());
        }
        moved.fetch_add(count as u64, Ordering::Relaxed);
        drain(&pipe_out, to, count).await?;
    }
}

const SPLICE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

async fn drain(pipe: &OwnedFd, to: &TcpStream, mut left: usize) -> io::Result<()> {
    while left > 0 {
        let count =
            move_some(to, Interest::WRITABLE, || splice(pipe, None, to, None, left, SPLICE))
                .await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        left -= count;
    }
    Ok(())
}

/// Tries `step` whenever the socket is ready, until it does not block.
fn move_some<'a>(
    socket: &'a TcpStream,
    interest: Interest,
    mut step: impl FnMut() -> rustix::io::Result<usize> + 'a,
) -> impl Future<Output = io::Result<usize>> + 'a {
    socket.async_io(interest, move || Ok(step()?))
}

async fn pump_by_copy(from: &TcpStream, to: &TcpStream, moved: &AtomicU64) -> io::Result<()> {
    loop {
        from.readable().await?;
        match pass_on(from, to) {
            Ok((0, _)) => return Ok(()),
            Ok((count, rest)) => {
                moved.fetch_add(count as u64, Ordering::Relaxed);
                write_all(to, &rest).await?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
