//! A web server on the host that the rules let through in part, for attacks on the proxy and the
//! gateway: below `/open` it says that it is there, below `/closed` the token.
//!
//! As a provider it answers for a model, with what was used, so that somebody has to pay.
//!
//! It reads requests as the standard says, one after another on a connection, so that a request
//! which was smuggled to it is one.

use std::{
    io::{self, BufRead, BufReader, Read as _, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(5);
/// The longest head and body.
const LONGEST: u64 = 64 << 10;
/// What a model says.
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"house-1","content":[{"type":"text","text":"house: a model"}],"stop_reason":"end_turn","usage":{"input_tokens":11,"output_tokens":7}}"#;

/// The house, which stands as long as this lives.
#[derive(Debug)]
pub struct House {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl House {
    /// Opens one at `address`; port 0 is any. `/closed` gives `token`, `/redirect` leads to
    /// `elsewhere`.
    ///
    /// # Errors
    /// When the address is not to be had.
    pub fn open(address: SocketAddr, token: &str, elsewhere: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let ended = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let (ended, token) = (Arc::clone(&ended), token.to_owned());
            move || {
                while let Ok((stream, _)) = listener.accept() {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let token = token.clone();
                    // Who breaks off has heard what it wanted.
                    std::thread::spawn(move || drop(serve(&stream, &token, elsewhere)));
                }
            }
        });
        Ok(Self { address, ended, thread: Some(thread) })
    }

    /// Where it is.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread; without it, it would wait for ever.
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn serve(stream: &TcpStream, token: &str, elsewhere: SocketAddr) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let Some(head) = head(&mut reader)? else { return Ok(()) };
        body(&mut reader, &head)?;
        let target = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("/");
        let path = target
            .split_once("://")
            .map_or(target, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
        // As a careless server does: what climbs is resolved.
        let path = resolved(path);
        let (status, extra, text) = if path.starts_with("/closed") {
            ("200 OK", String::new(), format!("house: {token}"))
        } else if path.contains("/redirect") {
            let there = format!("Location: http://{elsewhere}{path}\r\n");
            ("307 Temporary Redirect", there, "house: elsewhere".to_owned())
        } else if path.contains("/echo") {
            let shown = head.get(1..).unwrap_or_default().join("\r\nX-Seen-");
            let extra = if path.contains("in=header") {
                format!("X-Seen-{shown}\r\n")
            } else {
                String::new()
            };
            ("200 OK", extra, format!("house: {}", head.join("\n")))
        } else if path.ends_with("/messages") {
            ("200 OK", String::new(), MESSAGE.to_owned())
        } else if header(&head, "authorization").is_some_and(|value| value.contains(token)) {
            ("200 OK", String::new(), "house: with the key".to_owned())
        } else {
            ("200 OK", String::new(), "house: open".to_owned())
        };
        write!(
            writer,
            "HTTP/1.1 {status}\r\nContent-Type: {}\r\n{extra}Content-Length: {}\r\n\r\n{text}",
            if text == MESSAGE { "application/json" } else { "text/plain" },
            text.len()
        )?;
        if header(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return Ok(());
        }
    }
}

/// The lines of a request's head; none at the end.
fn head(reader: &mut impl BufRead) -> io::Result<Option<Vec<String>>> {
    let mut lines = Vec::new();
    let mut limited = reader.take(LONGEST);
    loop {
        let mut line = Vec::new();
        if limited.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        match (line.is_empty(), lines.is_empty()) {
            (true, true) => {}
            (true, false) => return Ok(Some(lines)),
            (false, _) => lines.push(line),
        }
    }
}

fn header<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    head.iter().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Reads a body past: by chunks if it says so, else by its length.
fn body(reader: &mut impl BufRead, head: &[String]) -> io::Result<()> {
    let chunked = header(head, "transfer-encoding").is_some_and(|value| value.contains("chunked"));
    if !chunked {
        let length = header(head, "content-length").and_then(|value| value.parse().ok());
        return io::copy(&mut reader.take(length.unwrap_or(0).min(LONGEST)), &mut io::sink())
            .map(drop);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or("");
        let size = u64::from_str_radix(size, 16).unwrap_or(0).min(LONGEST);
        // With the line break behind it.
        io::copy(&mut reader.take(size + 2), &mut io::sink())?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// Without `.` and `..`, and with `%xx` read.
fn resolved(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut read = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = path.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                read.push(byte);
                at += 3;
            }
            None => {
                read.push(bytes[at]);
                at += 1;
            }
        }
    }
    let text = String::from_utf8_lossy(&read);
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." | "..;" => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
