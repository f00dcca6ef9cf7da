//! What a connection begins with, read from its first bytes.

use std::{io, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::{
    relay::read_more,
    tls::{self, Opening},
};

/// The longest beginning that is waited for.
const MAX: usize = tls::MAX_OPENING;
/// How HTTP/2 begins where TLS has not said so.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest method that there is a use for.
const METHOD_MAX: usize = 24;

/// What a client speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Speaks {
    /// TLS, asking for this name, or for none.
    Tls(Option<String>),
    /// HTTP/1.
    Http1,
    /// HTTP/2 without TLS.
    Http2,
    /// Something else.
    Other,
    /// TLS in a form that no ordinary client sends.
    Malformed,
    /// Nothing, in all the time that it had.
    Nothing,
}

/// Looks at what a client has sent so far; none when more is needed to tell.
pub(super) fn look(bytes: &[u8]) -> Option<Speaks> {
    match tls::opening(bytes) {
        Opening::Incomplete => None,
        Opening::Tls(name) => Some(Speaks::Tls(name)),
        Opening::Malformed => Some(Speaks::Malformed),
        Opening::Other => http(bytes),
    }
}

/// Whether it is HTTP.
pub(super) fn is_http(bytes: &[u8]) -> bool {
    matches!(http(bytes), Some(Speaks::Http1 | Speaks::Http2))
}

/// Whether it is no TLS, and may yet become HTTP.
pub(super) fn is_open(bytes: &[u8]) -> bool {
    tls::opening(bytes) == Opening::Other && http(bytes).is_none()
}

fn http(bytes: &[u8]) -> Option<Speaks> {
    if bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes) {
        return None;
    }
    if bytes.starts_with(PREFACE) {
        return Some(Speaks::Http2);
    }
    // Empty lines before a request are to be passed over.
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let Some(start) = start else {
        return if bytes.len() < METHOD_MAX { None } else { Some(Speaks::Other) };
    };
    let bytes = &bytes[start..];
    let is_method = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let method = bytes.iter().take_while(|byte| is_method(byte)).count();
    match bytes.get(method) {
        None if method <= METHOD_MAX => return None,
        Some(b' ') if (1..=METHOD_MAX).contains(&method) => {}
        _ => return Some(Speaks::Other),
    }
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = bytes[..end].trim_ascii_end();
            let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
            let is_http = version.len() == 8 && version.starts_with(b"HTTP/1.");
            Some(if is_http { Speaks::Http1 } else { Speaks::Other })
        }
        None if bytes.len() >= MAX => Some(Speaks::Other),
        None => None,
    }
}

/// Reads until it is clear what the client speaks, but no longer than `within`. What was read is
/// in `bytes`.
pub(super) async fn read(
    inside: &TcpStream,
    bytes: &mut Vec<u8>,
    within: Duration,
) -> io::Result<Speaks> {
    let reading = async {
        loop {
            if let Some(speaks) = look(bytes) {
                return Ok(speaks);
            }
            if !read_more(inside, bytes).await? {
                return Ok(if bytes.is_empty() { Speaks::Nothing } else { Speaks::Other });
            }
        }
    };
    match timeout(within, reading).await {
        Ok(read) => read,
        Err(_) if bytes.is_empty() => Ok(Speaks::Nothing),
        // It began as TLS or HTTP and did not go on: not to be judged.
        Err(_) => Ok(Speaks::Malformed),
    }
}

/// Reads on until the `Host` of an HTTP/1 request is there, or its head is over.
pub(super) async fn read_host(
    inside: &TcpStream,
    bytes: &mut Vec<u8>,
    within: Duration,
) -> io::Result<Option<String>> {
    let reading = async {
        loop {
            if let Some(found) = host(bytes) {
                return Ok(Some(found.to_owned()));
            }
            let is_over = bytes.windows(4).any(|end| end == b"\r\n\r\n") || bytes.len() >= MAX;
            if is_over || !read_more(inside, bytes).await? {
                return Ok(None);
            }
        }
    };
    timeout(within, reading).await.unwrap_or(Ok(None))
}

/// The value of `Host` in the head of an HTTP/1 request, as far as whole lines of it were read.
fn host(bytes: &[u8]) -> Option<&str> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').skip(1);
    lines.find_map(|line| {
        let line = line.strip_suffix(b"\n")?;
        let (name, value) = line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
        if !name.eq_ignore_ascii_case(b"host") {
            return None;
        }
        std::str::from_utf8(value[1..].trim_ascii()).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Option<Speaks>) {
        assert_eq!(look(bytes), expected, "{}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn protocols_are_told_apart() {
        check(b"", None);
        check(b"GET / HTTP/1.1\r\n", Some(Speaks::Http1));
        check(b"\r\nM-SEARCH * HTTP/1.0\n", Some(Speaks::Http1));
        check(b"GET / HTTP/1.1", None);
        check(b"PRI * HTTP/2.0\r\n", None);
        check(PREFACE, Some(Speaks::Http2));
        check(b"SSH-2.0-OpenSSH_9\r\n", Some(Speaks::Other));
        check(b"GET key\r\n", Some(Speaks::Other));
        check(b"*3\r\n$3\r\nSET\r\n", Some(Speaks::Other));
        check(b"EHLO there\r\n", Some(Speaks::Other));
        check(&[0, 0, 0, 8, 4, 210], Some(Speaks::Other));
        check(&[b'\n'; 64], Some(Speaks::Other));
        check(&[b'A'; 64], Some(Speaks::Other));
    }

    #[test]
    fn the_host_of_a_request_is_found() {
        assert_eq!(host(b"GET / HTTP/1.1\r\nhOst: a.example:80\r\n\r\n"), Some("a.example:80"));
        assert_eq!(host(b"GET /Host: HTTP/1.1\r\nX: y\r\n"), None);
    }
}
