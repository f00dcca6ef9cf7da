//! Egress: a large download and many small requests from inside a workspace, by the proxy and by a
//! tunnel of its, beside the same program asking the same server directly.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use boatyard_api::{
    Client,
    model::WorkspaceId,
    workspace::{ExecExit, ExecRequest, WriteFileQuery},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
};

use super::{Effort, measure::Measured, server::Server, workspaces::make};
use crate::commands::internal::fetch::Fetched;

/// The proxy, as every workspace has it.
const PROXY: &str = "127.0.0.1:3128";
/// Where the program that asks lies in the workspace, below its working folder.
const PROGRAM: &str = "boatyard";
/// A large download, in bytes.
const LARGE: u64 = 1 << 30;
/// How often the large one is fetched.
const LARGE_TIMES: usize = 5;
/// How many small requests, one after the other.
const SMALL_TIMES: usize = 1000;
/// Their answers, in bytes.
const SMALL: u64 = 64;
/// What is written at once.
const PIECE: usize = 256 << 10;
/// The most that a request may take.
const HEAD: usize = 16 << 10;

/// A way to the server that is asked.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Without a workspace.
    Direct,
    /// By the proxy, a request at a time.
    Proxy,
    /// By a tunnel, as HTTPS goes.
    Tunnel,
}

impl Way {
    const ALL: [Self; 3] = [Self::Direct, Self::Proxy, Self::Tunnel];

    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "directly",
            Self::Proxy => "by the proxy",
            Self::Tunnel => "by a tunnel",
        }
    }

    const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Direct => &[],
            Self::Proxy => &["--proxy", PROXY],
            Self::Tunnel => &["--proxy", PROXY, "--tunnel"],
        }
    }
}

pub(super) async fn egress(folder: Option<&Path>, effort: Effort) -> Result<Vec<Measured>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no port is free")?;
    let target = listener.local_addr()?;
    let serving = tokio::spawn(serve(listener));
    let settings = format!("[egress]\nallow = [\"{target}\"]\nallow_private = [\"127.0.0.0/8\"]\n");
    let server = Server::start_with(folder, &settings).await?;
    let measured = measure(&server.client, target, effort).await;
    server.end().await?;
    serving.abort();
    measured
}

async fn measure(client: &Client, target: SocketAddr, effort: Effort) -> Result<Vec<Measured>> {
    let workspace = make(client).await?;
    let program = tokio::fs::read("/proc/self/exe").await.context("this program can't be read")?;
    let query = WriteFileQuery { path: PROGRAM.to_owned(), executable: true };
    client.write_file(workspace, &query, program).await?;
    let mut results = Vec::new();
    for way in Way::ALL {
        let times = effort.samples(LARGE_TIMES);
        let fetched = fetch(client, workspace, target, "/large", way, times).await?;
        let took = Duration::from_secs_f64(fetched.millis.iter().sum::<f64>() / 1e3);
        let each = fetched.millis.iter().map(|millis| millis / 1e3).collect();
        let name = format!("1 GiB {}", way.name());
        // Bytes below 2^53 are exact.
        let megabytes = fetched.bytes as f64 / 1e6;
        results.push(Measured {
            per_second: Some(megabytes / took.as_secs_f64()),
            ..Measured::of("egress", format!("{name}, MB per second"), "s", each)
        });
    }
    for way in Way::ALL {
        let times = effort.samples(SMALL_TIMES);
        let fetched = fetch(client, workspace, target, "/small", way, times).await?;
        let micros = fetched.millis.iter().map(|millis| millis * 1e3).collect();
        let name = format!("a small request {}, connect included", way.name());
        results.push(Measured::of("egress", name, "µs", micros));
    }
    Ok(results)
}

async fn fetch(
    client: &Client,
    workspace: WorkspaceId,
    target: SocketAddr,
    path: &str,
    way: Way,
    times: usize,
) -> Result<Fetched> {
    let (target, times) = (target.to_string(), times.to_string());
    let mut words = vec!["--json", "internal", "fetch", &target, path, "--times", &times];
    words.extend(way.flags());
    let said = match way {
        Way::Direct => {
            let output = Command::new("/proc/self/exe").args(&words).output().await?;
            let complaint = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "it could not be fetched directly: {complaint}");
            String::from_utf8(output.stdout).context("the program said no text")?
        }
        Way::Proxy | Way::Tunnel => {
            let program = format!("/work/{PROGRAM}");
            let command = std::iter::once(program.as_str()).chain(words).map(str::to_owned);
            let request = ExecRequest {
                command: command.collect(),
                timeout: Some(300),
                ..ExecRequest::default()
            };
            let result = client.exec_in_workspace(workspace, &request).await?;
            ensure!(
                result.exit == ExecExit::Exited { code: 0 },
                "it could not be fetched {}: {:?} {}",
                way.name(),
                result.exit,
                result.stderr
            );
            result.stdout
        }
    };
    serde_json::from_str(&said).context("the program said something else")
}

/// Answers with as many bytes as the path stands for, until it is dropped.
async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        // A client that goes away is told by itself that it failed.
        tokio::spawn(async move { drop(answer(stream).await) });
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let mut left = if head.starts_with(b"GET /large ") { LARGE } else { SMALL };
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    let piece = vec![b'b'; PIECE];
    while left > 0 {
        let n = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        stream.write_all(&piece[..n]).await?;
        left -= n as u64;
    }
    stream.shutdown().await
}
