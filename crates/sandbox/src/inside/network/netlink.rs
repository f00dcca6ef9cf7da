//! Requests to the kernel over netlink, built by hand: a few messages in one datagram.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use crate::sys::{check, retry};

/// Room for the answers, which are short.
const ANSWERS: usize = 4096;
/// The fixed part of a message.
const HEADER: usize = 16;

/// Messages that are sent together.
pub(super) struct Messages {
    bytes: Vec<u8>,
    sequence: u32,
}

/// What follows a message's fixed part.
pub(super) struct Attributes<'a>(&'a mut Vec<u8>);

impl Messages {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(1024), sequence: 0 }
    }

    /// Adds a request: its kind, its flags beside the one that says so, its fixed part.
    pub(super) fn add(
        &mut self,
        kind: u16,
        flags: i32,
        fixed: &[u8],
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.sequence += 1;
        let start = self.bytes.len();
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(fixed);
        attributes(&mut Attributes(&mut self.bytes));
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Sends them to `protocol` (`NETLINK_…`) and waits until each was dealt with. One at least
    /// must ask for an answer (`NLM_F_ACK`), and must be the last that can fail.
    pub(super) fn send(self, protocol: i32) -> io::Result<()> {
        let socket = socket(protocol)?;
        retry(|| {
            // SAFETY: a buffer of the length given. What is not addressed goes to the kernel.
            check(unsafe {
                libc::send(socket.as_raw_fd(), self.bytes.as_ptr().cast(), self.bytes.len(), 0)
            })
        })?;
        // The kernel has answered by the time it takes the request.
        let mut answers = [0u8; ANSWERS];
        let mut answered = false;
        loop {
            let received = retry(|| {
                // SAFETY: as above.
                check(unsafe {
                    libc::recv(
                        socket.as_raw_fd(),
                        answers.as_mut_ptr().cast(),
                        answers.len(),
                        libc::MSG_DONTWAIT,
                    )
                })
            });
            match received {
                Ok(length) => answered |= judge(&answers[..length.unsigned_abs()])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && answered => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// A socket to a part of the kernel (`NETLINK_…`).
pub(super) fn socket(protocol: i32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: integers only; the result is a new descriptor.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::socket(libc::AF_NETLINK, kind, protocol))?)) }
}

/// Whether something was answered; the first failure.
fn judge(mut answers: &[u8]) -> io::Result<bool> {
    let word =
        |bytes: &[u8], at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
    let mut answered = false;
    while let Some(length) = word(answers, 0).map(u32::from_ne_bytes) {
        let length = length as usize;
        let kind = answers.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
        if length < HEADER || kind.is_none() {
            break;
        }
        if kind == Some(libc::NLMSG_ERROR as u16)
            && let Some(code) = word(answers, HEADER).map(i32::from_ne_bytes)
        {
            if code != 0 {
                return Err(io::Error::from_raw_os_error(-code));
            }
            answered = true;
        }
        answers = answers.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(answered)
}

impl Attributes<'_> {
    /// Adds one with these bytes.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a number in the order of the network, as netfilter wants it.
    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a text.
    pub(super) fn text(&mut self, kind: u16, value: &std::ffi::CStr) -> &mut Self {
        self.bytes(kind, value.to_bytes_with_nul())
    }

    /// Adds one that consists of others.
    pub(super) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&(kind | libc::NLA_F_NESTED as u16).to_ne_bytes());
        inner(&mut Attributes(self.0));
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_laid_out_as_the_kernel_reads_it() {
        let mut messages = Messages::new();
        messages.add(7, libc::NLM_F_ACK, &[1, 2, 3, 4], |attributes| {
            attributes.bytes(5, b"abc").nest(6, |inner| {
                inner.number(1, 1);
            });
        });
        let bytes = messages.bytes;
        assert_eq!(bytes.len(), 16 + 4 + 8 + 12);
        assert_eq!(bytes[..4], 40u32.to_ne_bytes());
        assert_eq!(bytes[16..20], [1, 2, 3, 4]);
        assert_eq!(bytes[20..24], [7u16.to_ne_bytes(), 5u16.to_ne_bytes()].concat());
        assert_eq!(bytes[24..28], *b"abc\0");
        assert_eq!(bytes[28..30], 12u16.to_ne_bytes());
        assert_eq!(bytes[36..], [0, 0, 0, 1]);
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_no_further() {
        let answer = |code: i32| {
            let mut bytes = vec![0u8; 20];
            bytes[..4].copy_from_slice(&20u32.to_ne_bytes());
            bytes[4..6].copy_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
            bytes[16..].copy_from_slice(&code.to_ne_bytes());
            bytes
        };
        assert!(judge(&answer(0)).unwrap());
        let both = [answer(0), answer(-libc::EPERM)].concat();
        assert_eq!(judge(&both).unwrap_err().raw_os_error(), Some(libc::EPERM));
        for cut in 0..20 {
            assert!(!judge(&answer(0)[..cut]).unwrap(), "{cut}");
        }
        assert!(!judge(&[0; 64]).unwrap());
    }
}
