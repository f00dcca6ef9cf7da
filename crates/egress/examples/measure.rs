//! Measures the proxy on loopback: `cargo run --release -p boatyard-egress --example measure`.
//!
//! First tunnels that pass unopened, then requests: directly, as plain HTTP through the proxy, and
//! in TLS that the proxy opens, beside the same in TLS without it.

#[path = "measure/requests.rs"]
mod requests;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use boatyard_egress::{
    Guard, Proxy, Rule, RuleSet, Settings, log::Channel, resolve::System, rules::Ports,
};
use boatyard_model::WorkspaceId;
use tokio::sync::watch;

const TOTAL: usize = 4 << 30;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let echo = origin(|mut stream| {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })?;
    let give = origin(|mut stream| {
        let buffer = vec![7; 1 << 17];
        while stream.write_all(&buffer).is_ok() {}
    })?;
    let take = origin(|mut stream| {
        let mut buffer = vec![0; 1 << 17];
        while let Ok(1..) = stream.read(&mut buffer) {}
    })?;

    let quiet = TcpListener::bind("127.0.0.1:0")?;
    let hold = quiet.local_addr()?.port();
    thread::spawn(move || quiet.incoming().flatten().collect::<Vec<_>>());

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let proxy = listener.local_addr()?.port();
    let guard = Guard::new(vec!["127.0.0.0/8".parse()?]);
    let (sink, _records) = Channel::new(1);
    let parts = Proxy::new(Settings { guard, ..Settings::default() }, Arc::new(System), sink);
    let ports = Ports::from(&[echo, give, take, hold][..]);
    let rules = RuleSet::new(vec![Rule::new("loopback", "127.0.0.0/8".parse()?, ports)]);
    let (_policy, watched) = watch::channel(Arc::new(rules.into()));
    let served = parts.clone();
    runtime.spawn(async move {
        served.serve(WorkspaceId::new(), listener.into(), watched, std::future::pending()).await
    });

    let direct = || TcpStream::connect(("127.0.0.1", echo));
    let through = || tunnel(proxy, echo);
    print("connect and echo, direct", connects(direct)?);
    print("connect and echo, tunnel", connects(through)?);
    print("echo, direct", echoes(direct()?)?);
    print("echo, tunnel", echoes(through()?)?);
    rate("download, direct", download(TcpStream::connect(("127.0.0.1", give))?)?);
    rate("download, tunnel", download(tunnel(proxy, give)?)?);
    rate("upload, direct", upload(TcpStream::connect(("127.0.0.1", take))?)?);
    rate("upload, tunnel", upload(tunnel(proxy, take)?)?);

    let before = resident();
    let idle = (0..400).map(|_| tunnel(proxy, hold)).collect::<Result<Vec<_>, _>>()?;
    println!("idle tunnel: {:.1} KiB", (resident() - before) / 400.0);
    drop(idle);
    runtime.block_on(requests::measure())
}

fn origin(serve: impl Fn(TcpStream) + Send + Copy + 'static) -> std::io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let builder = thread::Builder::new().stack_size(1 << 18);
            if builder.spawn(move || serve(stream)).is_err() {
                return;
            }
        }
    });
    Ok(port)
}

fn tunnel(proxy: u16, port: u16) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy))?;
    stream.set_nodelay(true)?;
    write!(stream, "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut head = Vec::new();
    // Not a byte more: what follows may be the origin's.
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    Ok(stream)
}

fn connects(connect: impl Fn() -> std::io::Result<TcpStream>) -> std::io::Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let begin = Instant::now();
        let mut stream = connect()?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

fn echoes(mut stream: TcpStream) -> std::io::Result<Vec<Duration>> {
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    for _ in 0..10_000 {
        let begin = Instant::now();
        stream.write_all(&[1; 64])?;
        stream.read_exact(&mut [0; 64])?;
        times.push(begin.elapsed());
    }
    Ok(times)
}

fn download(mut stream: TcpStream) -> std::io::Result<Duration> {
    let begin = Instant::now();
    let mut buffer = vec![0; 1 << 17];
    let mut left = TOTAL;
    while left > 0 {
        let size = left.min(buffer.len());
        left -= stream.read(&mut buffer[..size])?;
    }
    Ok(begin.elapsed())
}

fn upload(mut stream: TcpStream) -> std::io::Result<Duration> {
    let begin = Instant::now();
    let buffer = vec![7; 1 << 17];
    for _ in 0..TOTAL / buffer.len() {
        stream.write_all(&buffer)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let _ = stream.read(&mut [0])?;
    Ok(begin.elapsed())
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[(times.len() as f64 * part) as usize].as_secs_f64() * 1e6;
    println!("{what}: p50 {:.1} µs, p99 {:.1} µs", at(0.5), at(0.99));
}

fn rate(what: &str, took: Duration) {
    println!("{what}: {:.2} GB/s", TOTAL as f64 / 1e9 / took.as_secs_f64());
}

/// Resident memory of this process, in KiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0)
}
