//! Workspaces: create, exec, fork, stop, idle, reattach.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use boatyard_api::{
    Client,
    model::WorkspaceId,
    workspace::{ExecExit, ExecRequest, ForkRequest, NewWorkspace, WorkspaceFilter},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Effort,
    measure::{Measured, family, memory, millis},
    server::Server,
};

/// Requests under way at once: enough to keep the spawner busy, few enough to be polite.
const AT_ONCE: usize = 32;
/// Files of a workspace that is forked, and what each holds: 500 MB in all.
const FILES: usize = 10_000;
const FILE_BYTES: usize = 50_000;

fn command(words: &[&str]) -> ExecRequest {
    ExecRequest {
        command: words.iter().map(|w| (*w).to_owned()).collect(),
        ..ExecRequest::default()
    }
}

async fn run(client: &Client, id: WorkspaceId, words: &[&str]) -> Result<()> {
    let request = ExecRequest { timeout: Some(300), ..command(words) };
    let result = client.exec_in_workspace(id, &request).await?;
    ensure!(
        result.exit == ExecExit::Exited { code: 0 },
        "the command {words:?} ended otherwise: {:?} {}",
        result.exit,
        result.stderr
    );
    Ok(())
}

pub(super) async fn make(client: &Client) -> Result<WorkspaceId> {
    Ok(client.create_workspace(&NewWorkspace::default(), None).await?.id)
}

/// Makes so many and runs a command in each, some at a time.
async fn crowd(client: &Client, n: usize) -> Result<Vec<(WorkspaceId, f64)>> {
    stream::iter(0..n)
        .map(|_| async move {
            let began = Instant::now();
            let id = make(client).await?;
            run(client, id, &["true"]).await?;
            anyhow::Ok((id, millis(began)))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Deletes every workspace.
pub(super) async fn delete_all(client: &Client) -> Result<()> {
    loop {
        let filter = WorkspaceFilter { limit: Some(200), ..WorkspaceFilter::default() };
        let page = client.list_workspaces(&filter).await?;
        if page.items.is_empty() {
            return Ok(());
        }
        let ids: Vec<WorkspaceId> = page.items.iter().map(|workspace| workspace.id).collect();
        stream::iter(ids)
            .map(|id| async move { client.delete_workspace(id).await })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
    }
}

pub(super) async fn create(server: &Server, effort: Effort) -> Result<Vec<Measured>> {
    let client = &server.client;
    // The first one reads programs from disk.
    let warm = make(client).await?;
    run(client, warm, &["true"]).await?;
    let mut single = Vec::new();
    for _ in 0..effort.samples(100) {
        let began = Instant::now();
        let id = make(client).await?;
        run(client, id, &["true"]).await?;
        single.push(millis(began));
    }
    delete_all(client).await?;
    let n = effort.samples(effort.crowd);
    let began = Instant::now();
    let many = crowd(client, n).await?;
    let took = began.elapsed();
    let each = many.into_iter().map(|(_, millis)| millis).collect();
    Ok(vec![
        Measured::of("create", "create to first command done", "ms", single),
        Measured::rate("create", format!("{n} live at once"), n, took),
        Measured::of("create", format!("each of {n} at once"), "ms", each),
    ])
}

pub(super) async fn exec(server: &Server, effort: Effort) -> Result<Vec<Measured>> {
    let client = &server.client;
    let id = make(client).await?;
    let mut samples = Vec::new();
    for i in 0..effort.samples(500) + 5 {
        let began = Instant::now();
        run(client, id, &["true"]).await?;
        if i >= 5 {
            samples.push(millis(began));
        }
    }
    Ok(vec![Measured::of("exec", "a command in a running workspace", "ms", samples)])
}

pub(super) async fn fork(server: &Server, effort: Effort) -> Result<Vec<Measured>> {
    let client = &server.client;
    let id = make(client).await?;
    let script = format!(
        "mkdir -p /work/files && cd /work/files && head -c {FILE_BYTES} /dev/urandom > 0 && \
         i=1; while [ $i -lt {FILES} ]; do cp 0 $i; i=$((i+1)); done"
    );
    run(client, id, &["sh", "-c", &script]).await?;
    let mut forks = Vec::new();
    let mut with_command = Vec::new();
    for _ in 0..effort.samples(50) {
        // Something new in it, so that each time there is something to freeze.
        run(client, id, &["touch", "/work/files/0"]).await?;
        client.stop_workspace(id).await?;
        let began = Instant::now();
        let fork = client.fork_workspace(id, &ForkRequest::default(), None).await?;
        forks.push(millis(began));
        run(client, fork.id, &["test", "-s", "/work/files/9999"]).await?;
        with_command.push(millis(began));
        client.delete_workspace(fork.id).await?;
    }
    Ok(vec![
        Measured::of("fork", "10,000 files, 500 MB, quiet", "ms", forks),
        Measured::of("fork", "the same to a first command done", "ms", with_command),
    ])
}

pub(super) async fn stop(server: &Server, effort: Effort) -> Result<Vec<Measured>> {
    let client = &server.client;
    let mut samples = Vec::new();
    for _ in 0..effort.samples(50) {
        let id = make(client).await?;
        // Five that would rather stay.
        let script = "for i in 1 2 3 4 5; do (trap '' TERM HUP INT; sleep 600) & done; exit 0";
        run(client, id, &["setsid", "sh", "-c", script]).await?;
        let began = Instant::now();
        client.stop_workspace(id).await?;
        samples.push(millis(began));
        client.delete_workspace(id).await?;
    }
    Ok(vec![Measured::of("stop", "workspace with processes to all dead", "ms", samples)])
}

pub(super) async fn idle(server: &Server, effort: Effort) -> Result<Vec<Measured>> {
    let client = &server.client;
    let n = effort.samples(100);
    let root = server.root().context("the server has ended")?;
    let before = family(root);
    crowd(client, n).await?;
    // An idle runner leaves after ten seconds without work; the server lets go of it first.
    tokio::time::sleep(Duration::from_secs(if effort.quick { 15 } else { 30 })).await;
    let added: Vec<u32> = family(root).into_iter().filter(|pid| !before.contains(pid)).collect();
    let sum: u64 = added.iter().filter_map(|pid| memory(*pid)).sum();
    // Bytes below 2^53 are exact.
    let each = sum as f64 / n as f64 / 1024.0;
    let processes = added.len() as f64 / n as f64;
    Ok(vec![
        Measured { n, ..Measured::of("idle", "memory of an idle workspace", "KiB", vec![each]) },
        Measured {
            n,
            ..Measured::of("idle", "processes of an idle workspace", "", vec![processes])
        },
    ])
}

pub(super) async fn reattach(server: &mut Server, effort: Effort) -> Result<Vec<Measured>> {
    let n = effort.samples(100);
    let made = crowd(&server.client, n).await?;
    server.crash_and_restart().await?;
    let client = &server.client;
    let began = Instant::now();
    let mut each = Vec::new();
    for (id, _) in &made {
        let one = Instant::now();
        run(client, *id, &["true"]).await?;
        each.push(millis(one));
    }
    let took = began.elapsed();
    let (start, up) = (server.first_answer.as_secs_f64() * 1e3, server.up.as_secs_f64() * 1e3);
    Ok(vec![
        Measured::of("reattach", "kill -9, then start to first answer", "ms", vec![start]),
        Measured::of("reattach", "kill -9, then start to up", "ms", vec![up]),
        Measured::of("reattach", "first command in each workspace after", "ms", each),
        Measured::rate("reattach", format!("{n} workspaces, one after the other"), n, took),
    ])
}
