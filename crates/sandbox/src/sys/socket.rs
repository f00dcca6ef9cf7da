//! Sockets of the local domain: pairs, and messages that carry a descriptor.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use super::{check, retry};

/// Room for one control message with up to [`FDS_MAX`] descriptors, aligned for its header.
type Control = [u64; 8];
/// The most descriptors in one message.
pub(crate) const FDS_MAX: usize = 6;

/// What kind of socket pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocking {
    Yes,
    No,
}

/// A SEQPACKET pair, closed on exec.
pub(crate) fn pair(blocking: Blocking) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = match blocking {
        Blocking::Yes => 0,
        Blocking::No => libc::SOCK_NONBLOCK,
    };
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for the two descriptors that the call writes.
    check(unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | flags,
            0,
            fds.as_mut_ptr(),
        )
    })?;
    // SAFETY: both were just made and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Sends one message with `fds` attached. Never raises SIGPIPE.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
    assert!(fds.len() <= FDS_MAX, "too many descriptors for one message");
    let mut control: Control = [0; 8];
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid msghdr (null pointers, zero lengths).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let payload = size_of_val(fds);
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: these two compute lengths only; FDS_MAX descriptors fit in `control`, so the
        // header that CMSG_FIRSTHDR points to and the data behind it lie inside it.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(payload as u32) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload as u32) as usize;
            std::ptr::copy_nonoverlapping(
                fds.as_ptr(),
                libc::CMSG_DATA(header).cast::<RawFd>(),
                fds.len(),
            );
        }
    }
    let sent = retry(|| {
        // SAFETY: `message` points to `iov` and `control`, which live until the call returns.
        check(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })
    })?;
    if usize::try_from(sent) == Ok(bytes.len()) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::WriteZero, "message cut"))
    }
}

/// A received message: how many bytes were written to the buffer, and what was attached.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) length: usize,
    pub(crate) fds: [Option<OwnedFd>; FDS_MAX],
}

/// Receives one message; length 0 means that the other side has closed.
///
/// # Errors
/// `InvalidData` when the message or its descriptors did not fit.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control: Control = [0; 8];
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();
    let length = retry(|| {
        // SAFETY: `message` points to `iov` and `control`, which live until the call returns.
        check(unsafe {
            libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC)
        })
    })?;
    let mut fds = [const { None }; FDS_MAX];
    let mut taken = 0;
    // SAFETY: the kernel filled `control` up to `msg_controllen`; the CMSG macros walk it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: `header` is inside `control` and was written by the kernel.
        let (level, kind, size) =
            unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: computes a length only.
            let overhead = unsafe { libc::CMSG_LEN(0) } as usize;
            for index in 0..(size - overhead) / size_of::<RawFd>() {
                // SAFETY: the kernel wrote this many descriptors behind the header, each new and
                // ours alone.
                let fd = unsafe {
                    let data = libc::CMSG_DATA(header).cast::<RawFd>().add(index);
                    OwnedFd::from_raw_fd(data.read_unaligned())
                };
                if let Some(slot) = fds.get_mut(taken) {
                    *slot = Some(fd);
                    taken += 1;
                }
            }
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    Ok(Received { length: length.unsigned_abs(), fds })
}

/// Waits until `fd` has one of `events`, or the time is over (`None`: for ever).
///
/// Returns the events, 0 when the time was over.
pub(crate) fn wait(fd: BorrowedFd<'_>, events: i16, timeout_ms: Option<u64>) -> io::Result<i16> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    let timeout = timeout_ms.map_or(-1, |ms| i32::try_from(ms).unwrap_or(i32::MAX));
    // SAFETY: one pollfd, alive until the call returns.
    retry(|| check(unsafe { libc::poll(&raw mut poll, 1, timeout) }))?;
    Ok(poll.revents)
}
