//! Measures a link over a unix socket: `cargo run --release -p boatyard-link --example measure`.
//!
//! Two threads, one runtime each, as server and runner are two processes.

use std::{
    thread,
    time::{Duration, Instant},
};

use boatyard_link::{Incoming, Link, Options, Role, transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    runtime::Builder,
};

const TOTAL: u64 = 4 << 30;
const STREAMS: usize = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (left, right) = std::os::unix::net::UnixStream::pair()?;
    let echo = thread::spawn(move || serve(right));
    Builder::new_current_thread().enable_all().build()?.block_on(measure(left))?;
    echo.join().expect("the other side does not panic")?;
    Ok(())
}

fn serve(socket: std::os::unix::net::UnixStream) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let link = start(socket, Role::Acceptor)?;
        while let Some(incoming) = link.accept().await {
            tokio::spawn(answer(incoming));
        }
        Ok(())
    })
}

fn start(socket: std::os::unix::net::UnixStream, role: Role) -> std::io::Result<Link> {
    socket.set_nonblocking(true)?;
    let socket = UnixStream::from_std(socket)?;
    transport::tune_unix(&socket)?;
    let (link, driver) = Link::start(socket, role, Options::new("measure"));
    tokio::spawn(driver);
    Ok(link)
}

async fn answer(incoming: Incoming) -> std::io::Result<()> {
    let what: String = incoming.parse()?;
    let (mut send, mut recv) = incoming.stream.split();
    match what.as_str() {
        "echo" => {
            while let Some(bytes) = recv.recv_bytes().await? {
                send.send_bytes(bytes).await?;
            }
        }
        "read" => {
            let mut buffer = vec![0; 128 * 1024];
            while recv.read(&mut buffer).await? > 0 {}
        }
        "take" => while recv.recv_bytes().await?.is_some() {},
        _ => {
            let buffer = vec![7; 128 * 1024];
            let mut left = TOTAL;
            while left > 0 {
                let size = left.min(buffer.len() as u64) as usize;
                send.write_all(&buffer[..size]).await?;
                left -= size as u64;
            }
        }
    }
    Ok(send.finish()?)
}

async fn measure(socket: std::os::unix::net::UnixStream) -> Result<(), Box<dyn std::error::Error>> {
    let link = start(socket, Role::Connector)?;
    link.peer().await?;

    print("echo of 64 bytes", round_trips(&link, 20_000).await?);
    let begin = Instant::now();
    for _ in 0..5_000 {
        let mut stream = link.open("echo")?;
        stream.write_all(b"x").await?;
        stream.finish()?;
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await?;
    }
    println!("open, echo, end: {:.1} µs", begin.elapsed().as_secs_f64() * 1e6 / 5_000.0);

    for what in ["read", "take"] {
        let mut stream = link.open(what)?;
        let buffer = vec![7; 128 * 1024];
        let begin = Instant::now();
        for _ in 0..TOTAL / buffer.len() as u64 {
            stream.write_all(&buffer).await?;
        }
        stream.finish()?;
        stream.read_to_end(&mut Vec::new()).await?;
        rate(&format!("bulk out ({what})"), begin.elapsed());
    }
    let mut stream = link.open("give")?;
    let begin = Instant::now();
    let mut buffer = vec![0; 128 * 1024];
    while stream.read(&mut buffer).await? > 0 {}
    rate("bulk in", begin.elapsed());

    let (mut send, mut recv) = link.open("give")?.split();
    send.finish()?;
    let bulk = tokio::spawn(async move {
        let begin = Instant::now();
        while let Ok(Some(_)) = recv.recv_bytes().await {}
        begin.elapsed()
    });
    print("echo of 64 bytes under bulk in", round_trips(&link, 2_000).await?);
    bulk.abort();
    drop(bulk);

    let (mut send, recv) = link.open("take")?.split();
    let bulk = tokio::spawn(async move {
        let buffer = vec![7; 128 * 1024];
        while send.write_all(&buffer).await.is_ok() {}
        drop(recv);
    });
    print("echo of 64 bytes under bulk out", round_trips(&link, 2_000).await?);
    bulk.abort();

    let before = resident();
    let begin = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(link.open("echo")?);
    }
    round_trips(&link, 1).await?;
    println!("{STREAMS} streams opened in {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    println!(
        "idle stream: {:.2} KiB, both sides and their tasks",
        (resident() - before) / STREAMS as f64
    );
    let begin = Instant::now();
    for stream in &mut streams {
        stream.write_all(&[1; 64]).await?;
    }
    let mut buffer = [0; 64];
    for stream in &mut streams {
        stream.read_exact(&mut buffer).await?;
    }
    let each = begin.elapsed().as_secs_f64() * 1e6 / STREAMS as f64;
    println!("a message on each of them and back: {each:.2} µs each");
    println!("after that: {:.2} KiB a stream", (resident() - before) / STREAMS as f64);
    Ok(())
}

async fn round_trips(link: &Link, count: usize) -> Result<Vec<Duration>, std::io::Error> {
    let mut stream = link.open("echo")?;
    let mut buffer = [0; 64];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        stream.write_all(&[1; 64]).await?;
        stream.read_exact(&mut buffer).await?;
        times.push(begin.elapsed());
    }
    times.sort();
    Ok(times)
}

fn print(what: &str, times: Vec<Duration>) {
    let at = |part: f64| times[(times.len() as f64 * part) as usize].as_secs_f64() * 1e6;
    println!("{what}: p50 {:.1} µs, p99 {:.1} µs", at(0.5), at(0.99));
}

fn rate(what: &str, took: Duration) {
    println!("{what}: {:.0} MB/s", TOTAL as f64 / 1e6 / took.as_secs_f64());
}

/// Resident memory of this process, in KiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0)
}
