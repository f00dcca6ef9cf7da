//! A plain client, for measuring: the same program asks directly and from inside a workspace.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(120);
/// What is read at once.
const PIECE: usize = 256 << 10;
/// The most that an answer's head may take.
const HEAD: usize = 16 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whom to ask
    target: SocketAddr,
    /// For what: a path
    path: String,
    /// The proxy to go through
    #[arg(long, value_name = "ADDR")]
    proxy: Option<SocketAddr>,
    /// Through a tunnel of the proxy's, as HTTPS would
    #[arg(long, requires = "proxy")]
    tunnel: bool,
    /// How often, each on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    times: usize,
}

/// What was fetched.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fetched {
    /// How long each took, in milliseconds: from the connect to the last byte.
    pub(crate) millis: Vec<f64>,
    /// Bytes of all bodies.
    pub(crate) bytes: u64,
}

/// Fetches as often as it is told.
///
/// # Errors
/// When one fails.
pub(crate) fn fetch(args: &Args) -> Result<Fetched> {
    let mut fetched = Fetched { millis: Vec::with_capacity(args.times), bytes: 0 };
    let mut buffer = vec![0; PIECE];
    for _ in 0..args.times {
        let began = Instant::now();
        fetched.bytes += once(args, &mut buffer)?;
        fetched.millis.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(fetched)
}

fn once(args: &Args, buffer: &mut [u8]) -> Result<u64> {
    let at = args.proxy.unwrap_or(args.target);
    let mut stream = TcpStream::connect_timeout(&at, LIMIT).context("no connection")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let (target, path) = (args.target, &args.path);
    if args.tunnel {
        write!(stream, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")?;
        let (head, rest) = head(&mut stream, buffer)?;
        ensure!(head.status == 200 && rest == 0, "no tunnel: status {}", head.status);
    }
    let asked = if args.proxy.is_some() && !args.tunnel {
        format!("http://{target}{path}")
    } else {
        path.clone()
    };
    write!(stream, "GET {asked} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n")?;
    let (head, mut got) = head(&mut stream, buffer)?;
    ensure!(head.status == 200, "status {}", head.status);
    while got < head.length {
        match stream.read(buffer)? {
            0 => bail!("the answer ended after {got} of {} bytes", head.length),
            n => got += n as u64,
        }
    }
    Ok(got)
}

struct Head {
    status: u16,
    length: u64,
}

/// Reads the head of an answer, and how much of its body came with it.
fn head(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(Head, u64)> {
    let mut bytes = Vec::new();
    loop {
        let n = stream.read(buffer)?;
        ensure!(n > 0, "the connection ended before the answer");
        bytes.extend_from_slice(&buffer[..n]);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end else {
            ensure!(bytes.len() < HEAD, "the answer has no end to its head");
            continue;
        };
        let text = std::str::from_utf8(&bytes[..end]).context("the answer is no text")?;
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let status = status.context("the answer has no status")?;
        let rest = (bytes.len() - end - 4) as u64;
        return Ok((Head { status, length: length.unwrap_or(0) }, rest));
    }
}
