//! Many who watch one session of a real server, over loopback.
//!
//! ```text
//! shell agent ─► server ─► one socket for each watcher ─► this process counts
//! ```
//!
//! The agent prints a line some times a second, so that each is an event of its own and nothing is
//! written together. What the server's process used of the processors meanwhile, divided by the
//! events that arrived, is the figure; it includes taking each event in once and storing it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use boatyard_api::{
    model::{PromptMode, SessionId},
    session::{NewPrompt, NewSession},
    workspace::NewWorkspace,
};
use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::{
    Effort,
    measure::{Measured, cpu, files_max, memory},
    server::Server,
};

/// Who watches, if the system lets a process have so many files.
const WATCHERS: usize = 1000;
/// Files of this process for everything else.
const OTHER_FILES: usize = 100;
/// Lines that the agent prints, one each 50 ms.
const LINES: usize = 200;
/// How long all of it may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// After so long the server has given back what it needed for a moment only.
const GIVEN_BACK: Duration = Duration::from_secs(14);
/// What the event of a turn's end holds.
const END: &str = "\"turn.completed\"";

/// Somebody who watches.
struct Watcher(BufReader<TcpStream>);

impl Watcher {
    /// Watches what comes after this event.
    async fn open(server: &Server, session: SessionId, after: u64) -> Result<Self> {
        let address = server.access.server.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.context("the server does not answer")?;
        let request = format!(
            "GET /api/sessions/{session}/events?after={after} HTTP/1.1\r\nHost: {address}\r\n\
             Authorization: Bearer {}\r\n\r\n",
            server.access.key
        );
        stream.write_all(request.as_bytes()).await?;
        let mut this = Self(BufReader::new(stream));
        let head = this.line().await?;
        ensure!(head.starts_with("HTTP/1.1 200"), "the server refuses a watcher: {head}");
        // Up to the stream's first words, which come when it is taken in.
        while !this.line().await?.starts_with("retry:") {}
        Ok(this)
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line).await? > 0, "a watcher was sent away");
        Ok(line)
    }

    /// The events up to the turn's end.
    async fn count(mut self) -> Result<usize> {
        let mut events = 0;
        loop {
            let line = self.line().await?;
            if line.starts_with("id: ") {
                events += 1;
            } else if line.contains(END) {
                return Ok(events);
            }
        }
    }
}

pub(super) async fn fanout(server: &Server, effort: Effort) -> Result<Vec<Measured>> {
    let workspace = server.client.create_workspace(&NewWorkspace::default(), None).await?;
    let agent = Some("shell".parse().context("the shell agent has another name")?);
    let order = NewSession {
        workspace: workspace.id,
        agent,
        model: None,
        autonomy: None,
        settings: None,
        cwd: None,
        key: None,
        visibility: None,
    };
    let session = server.client.create_session(&order, None).await?.id;
    // Once, so that what is made at the first time is there.
    count(server, session, open(server, session, 1).await?, 3).await?;
    let limit = files_max().map_or(WATCHERS, |max| max.saturating_sub(OTHER_FILES));
    let n = effort.samples(WATCHERS).min(limit);
    let empty = at_rest(server).await?;
    let watchers = open(server, session, n).await?;
    let parked = at_rest(server).await?;
    let kib = parked.saturating_sub(empty) as f64 / 1024.0 / n as f64;
    let before = used(server)?;
    let messages = count(server, session, watchers, effort.samples(LINES)).await?;
    let used = used(server)?.saturating_sub(before);
    let micros = used.as_secs_f64() * 1e6 / messages.max(1) as f64;
    let name = |what: &str| format!("{what}, {n} watchers over loopback");
    let cost = Measured::of("watch", name("fan-out CPU per message"), "µs", vec![micros]);
    Ok(vec![
        Measured { n: messages, ..cost },
        Measured::of("watch", name("memory per parked watcher"), "KiB", vec![kib]),
    ])
}

const GONE: &str = "the server has ended";

/// The server's memory, in bytes, a while after anything happened.
async fn at_rest(server: &Server) -> Result<u64> {
    tokio::time::sleep(GIVEN_BACK).await;
    memory(server.pid).context(GONE)
}

fn used(server: &Server) -> Result<Duration> {
    cpu(server.pid).context(GONE)
}

async fn open(server: &Server, session: SessionId, n: usize) -> Result<Vec<Watcher>> {
    // What was before is read from the table, by each for itself, and is not what is measured.
    let after = server.client.find_session(session).await?.last_seq;
    let watchers = try_join_all((0..n).map(|_| Watcher::open(server, session, after)));
    timeout(DEADLINE, watchers).await.context("watchers are not let in")?
}

/// Has the agent print so many lines; gives how many events came to all watchers together.
async fn count(
    server: &Server,
    session: SessionId,
    watchers: Vec<Watcher>,
    lines: usize,
) -> Result<usize> {
    let line = "x".repeat(100);
    let text =
        format!("i=0; while [ $i -lt {lines} ]; do sleep 0.05; echo {line}; i=$((i+1)); done");
    let prompt = NewPrompt { text, images: Vec::new(), mode: PromptMode::Queue };
    server.client.create_prompt(session, &prompt, None).await?;
    let counting = watchers.into_iter().map(|watcher| tokio::spawn(watcher.count()));
    let counted = timeout(DEADLINE, try_join_all(counting)).await;
    counted.context("watchers are not told of the end")??.into_iter().sum()
}
