//! Lists of a server whose database is not empty.
//!
//! The requests are plain words on open connections, and the answers are not read beyond their
//! length: on a machine that serves and asks, a client that makes values of them would be what is
//! measured.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use boatyard_store::{Options, Owner, Store};
use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    Effort,
    measure::{Measured, cpu, micros},
    server::Server,
    storage,
};

/// Tasks, and as many sessions.
const ROWS: usize = 100_000;
/// Rows of one transaction.
const CHUNK: u32 = 5_000;
/// Connections.
const AT_ONCE: usize = 16;
/// Requests that warm it up.
const WARM: usize = 500;

pub(super) async fn lists(server: &mut Server, effort: Effort) -> Result<Vec<Measured>> {
    server.crash().await?;
    let rows = effort.samples(ROWS);
    fill(server, rows).await?;
    server.restart().await?;
    let mut measured = Vec::new();
    for path in ["/api/tasks?limit=50", "/api/sessions?limit=50"] {
        ask_all(server, path, WARM).await?;
        let before = cpu(server.pid).context("the server has ended")?;
        let n = effort.samples(50_000);
        let began = Instant::now();
        let each = ask_all(server, path, n).await?;
        let took = began.elapsed();
        let used = cpu(server.pid).context("the server has ended")? - before;
        let name = |what: &str| format!("GET {path}, of {rows}, {what}");
        measured.push(Measured::of("list", name("16 at once"), "µs", each));
        measured.push(Measured::rate("list", name("16 at once"), n, took));
        let used = used.as_secs_f64() * 1e6 / n as f64;
        measured.push(Measured::of("list", name("processor of the server"), "µs", vec![used]));
    }
    Ok(measured)
}

async fn fill(server: &Server, rows: usize) -> Result<()> {
    let store = Store::open(Options::new(server.database())).await?;
    let workspace = storage::workspace_that_was(&store).await?;
    let mut left = u32::try_from(rows)?;
    while left > 0 {
        let count = left.min(CHUNK);
        store
            .write(move |tx| Box::pin(tx.fill(Owner::BUILT_IN, workspace, count)))
            .await
            .context("the database can't be filled")?;
        left -= count;
    }
    store.close().await?;
    Ok(())
}

/// So many requests over all connections: how long each took.
async fn ask_all(server: &Server, path: &str, n: usize) -> Result<Vec<f64>> {
    let host = server.access.server.trim_start_matches("http://").trim_end_matches('/');
    let words = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\r\n",
        server.access.key
    );
    let tasks = (0..AT_ONCE).map(|_| {
        let (host, words) = (host.to_owned(), words.clone());
        tokio::spawn(async move { ask(&host, words.as_bytes(), n / AT_ONCE).await })
    });
    let each = try_join_all(tasks).await?;
    Ok(each.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

async fn ask(host: &str, words: &[u8], n: usize) -> Result<Vec<f64>> {
    let mut stream = TcpStream::connect(host).await.context("the server can't be reached")?;
    stream.set_nodelay(true)?;
    let mut each = Vec::with_capacity(n);
    let mut answer = vec![0; 1 << 20];
    for _ in 0..n {
        let began = Instant::now();
        stream.write_all(words).await?;
        let mut got = 0;
        let mut whole = None;
        while whole.is_none_or(|whole| got < whole) {
            let read = stream.read(&mut answer[got..]).await?;
            ensure!(read > 0, "the server hung up");
            got += read;
            if whole.is_none() {
                whole = length(&answer[..got])?;
            }
        }
        each.push(micros(began));
    }
    Ok(each)
}

/// The length of the whole answer, once its head is there.
fn length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200 "), "the server answers: {head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    match length {
        Some(length) => Ok(Some(end + 4 + length.trim().parse::<usize>()?)),
        None => bail!("an answer without a length: {head}"),
    }
}
