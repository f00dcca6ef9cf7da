//! Measures the model gateway on loopback, beside the same without it:
//! `cargo run --release -p boatyard-egress --example gateway`.
//!
//! A provider answers with a stream of small events. What counts for who watches an agent is the
//! time from a request to the first byte, and that no event waits for the next.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use boatyard_egress::{
    gateway::{Api, Calls, Credential, Gateway, Provider, Secret, Settings},
    resolve::System,
};
use boatyard_model::WorkspaceId;

/// Requests for each figure.
const TIMES: usize = 2_000;
/// Events of the long stream.
const EVENTS: usize = 20_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let provider = provider()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let gateway = listener.local_addr()?.port();
    let key = Credential::Key(Secret::new("sk-measured-0123456789".to_owned()));
    let one = Provider::new("one", Api::Anthropic, &format!("http://127.0.0.1:{provider}"), key)?;
    let (calls, mut told) = Calls::new(1024);
    let served = Gateway::new(vec![one], Settings::default(), Arc::new(System), calls)?;
    runtime.spawn(async move {
        served.serve(WorkspaceId::new(), listener.into(), std::future::pending()).await
    });
    runtime.spawn(async move { while told.recv().await.is_some() {} });

    let first = |port, path: &str| first_bytes(port, path, "1");
    print("first byte, direct", first(provider, "/v1/messages")?);
    print("first byte, gateway", first(gateway, "/one/v1/messages")?);
    let events = EVENTS.to_string();
    for (name, port, path) in
        [("direct", provider, "/v1/messages"), ("gateway", gateway, "/one/v1/messages")]
    {
        let begin = Instant::now();
        let bytes = ask(&mut connect(port)?, path, &events)?.1;
        let seconds = begin.elapsed().as_secs_f64();
        println!(
            "{EVENTS} events, {name}: {:.1} µs an event, {:.0} MB/s",
            seconds * 1e6 / EVENTS as f64,
            bytes as f64 / seconds / 1e6
        );
    }
    Ok(())
}

/// A provider that writes each event by itself.
fn provider() -> std::io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who goes away ends its thread.
            thread::spawn(move || serve(stream).ok());
        }
    });
    Ok(port)
}

fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut requests = BufReader::new(stream);
    let event = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a few words\"}}\n\n";
    loop {
        let (mut events, mut line) = (1, String::new());
        loop {
            line.clear();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(wanted) = line.strip_prefix("x-events: ") {
                events = wanted.trim().parse().unwrap_or(1);
            }
            if line == "\r\n" {
                break;
            }
        }
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for _ in 0..events {
            out.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
        }
        out.write_all(b"0\r\n\r\n")?;
    }
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks once: how long until the first byte of the body, and how many there were.
fn ask(stream: &mut TcpStream, path: &str, events: &str) -> std::io::Result<(Duration, usize)> {
    let begin = Instant::now();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nx-events: {events}\r\n\r\n")?;
    let (mut seen, mut first, mut all) = (vec![0; 1 << 16], None, 0);
    let mut end = Vec::new();
    loop {
        let count = stream.read(&mut seen)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        end.extend_from_slice(&seen[..count]);
        all += count;
        if first.is_none() && end.windows(5).any(|part| part == b"event") {
            first = Some(begin.elapsed());
        }
        if end.ends_with(b"0\r\n\r\n") {
            return Ok((first.unwrap_or_default(), all));
        }
        let keep = end.len().saturating_sub(4096);
        end.drain(..keep);
    }
}

fn first_bytes(port: u16, path: &str, events: &str) -> std::io::Result<Vec<Duration>> {
    let mut stream = connect(port)?;
    (0..TIMES).map(|_| Ok(ask(&mut stream, path, events)?.0)).collect()
}

fn print(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    println!("{name}: {:.0} µs half of the time, {:.0} µs 99 of 100", at(50), at(99));
}
