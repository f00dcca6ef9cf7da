//! A client without manners: sends bytes and takes what comes back.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{Context, Finding, bait::MARK, calls::errno};

/// How long a connection and an answer may take.
pub(super) const WITHIN: Duration = Duration::from_secs(3);
/// How long a further piece of an answer may take.
const FURTHER: Duration = Duration::from_millis(400);
/// The most bytes of an answer.
const ANSWER_MAX: usize = 64 << 10;

/// Says so in every refusal of its own.
const OURS: [&str; 2] = ["Boatyard", "boatyard"];

/// The path that an attack asks for, by which the other side knows it.
pub(super) fn path(c: &Context<'_>) -> String {
    format!("/{MARK}{}", c.name)
}

/// A request for [`path`] at `host`.
pub(super) fn get(c: &Context<'_>, host: &str) -> Vec<u8> {
    format!("GET {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", path(c)).into_bytes()
}

/// Sends bytes and reads until the other side has closed, or says no more.
pub(super) fn ask(address: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = connect(address)?;
    stream.write_all(request)?;
    read(&mut stream, |_| false)
}

/// A connection with its deadlines.
pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    Ok(stream)
}

/// Reads until the end, or until it is enough.
pub(super) fn read(stream: &mut TcpStream, enough: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + WITHIN;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while bytes.len() < ANSWER_MAX && !enough(&bytes) && Instant::now() < deadline {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => {
                bytes.extend_from_slice(&piece[..length]);
                stream.set_read_timeout(Some(FURTHER))?;
            }
            // What was said before counts.
            Err(_) if !bytes.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// What an answer means: the token is an escape, a refusal by Boatyard is one, and so is silence.
/// Any other answer came from somebody else.
pub(super) fn judge(c: &Context<'_>, answer: &io::Result<Vec<u8>>) -> Finding {
    let bytes = match answer {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
        {
            return Finding::blocked("nobody answers");
        }
        Err(error) => return Finding::blocked(errno(error)),
        Ok(bytes) => bytes,
    };
    let text = String::from_utf8_lossy(bytes);
    let first = text.lines().next().unwrap_or("");
    if has_token(c, &text) {
        Finding::escaped(format!("the token came back: {first}"))
    } else if text.is_empty() {
        Finding::blocked("closed without a word")
    } else if OURS.iter().any(|name| text.contains(name)) || is_refusal(&text) {
        Finding::blocked(first)
    } else {
        Finding::escaped(format!("somebody answers: {first}"))
    }
}

/// The same where an answer of somebody else is expected, and only the token tells an escape.
pub(super) fn judge_by_token(c: &Context<'_>, answer: &io::Result<Vec<u8>>) -> Finding {
    match answer {
        Ok(bytes) if has_token(c, &String::from_utf8_lossy(bytes)) => judge(c, answer),
        Ok(bytes) if !bytes.is_empty() => {
            let text = String::from_utf8_lossy(bytes);
            Finding::blocked(text.lines().next().unwrap_or("").to_owned())
        }
        _ => judge(c, answer),
    }
}

/// Whether the token is there.
pub(super) fn has_token(c: &Context<'_>, text: &str) -> bool {
    !c.bait.token.is_empty() && text.contains(&c.bait.token)
}

/// The status of an answer to a request.
pub(super) fn status(bytes: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(bytes.get(..16)?).into_owned();
    text.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
}

/// An answer that a server gives to what is no request, before it asks anybody.
fn is_refusal(text: &str) -> bool {
    matches!(status(text.as_bytes()), Some(400 | 403 | 404 | 405 | 414 | 431 | 501 | 502))
}
