//! What the server answers, and a large repository.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use boatyard_api::workspace::{ExecRequest, NewWorkspace};
use rand::Rng as _;
use tokio::process::Command;

use super::{
    Effort,
    measure::{Measured, memory, micros, millis, wakeups},
    server::Server,
};

/// How long the server is left alone before its rest is measured.
const SETTLE: Duration = Duration::from_secs(5);
/// How long its rest is watched.
const WATCH: Duration = Duration::from_secs(10);
/// The large repository.
const FILES: usize = 2_000;
const FILE_BYTES: usize = 50_000;

pub(super) async fn server(server: &mut Server, effort: Effort) -> Result<Vec<Measured>> {
    let (mut starts, mut ups) = (Vec::new(), Vec::new());
    for _ in 0..effort.samples(20) {
        server.crash_and_restart().await?;
        starts.push(server.first_answer.as_secs_f64() * 1e3);
        ups.push(server.up.as_secs_f64() * 1e3);
    }
    let mut answers = Vec::new();
    for _ in 0..effort.samples(2_000) {
        let began = Instant::now();
        server.client.health().await?;
        answers.push(micros(began));
    }
    tokio::time::sleep(SETTLE).await;
    let rest = memory(server.pid).context("the server has ended")?;
    let before = wakeups(server.pid);
    tokio::time::sleep(WATCH).await;
    let woken = (wakeups(server.pid) - before) as f64 / WATCH.as_secs_f64();
    Ok(vec![
        Measured::of("server", "start to first answer", "ms", starts),
        Measured::of("server", "start to up, the machine tried", "ms", ups),
        Measured::of("server", "GET /health", "µs", answers),
        Measured::of("server", "memory at rest", "MiB", vec![rest as f64 / f64::from(1 << 20)]),
        Measured::of("server", "wake-ups at rest", "/s", vec![woken]),
    ])
}

pub(super) async fn repository(server: &Server, effort: Effort) -> Result<Vec<Measured>> {
    let path = server.beside().join("large");
    lay_out(&path).await?;
    let source = path.to_string_lossy().into_owned();
    let order = NewWorkspace { repository: Some(source), ..NewWorkspace::default() };
    let test = ["test", "-s", "1999.bin"].map(str::to_owned).to_vec();
    let look = ExecRequest { command: test, ..ExecRequest::default() };
    let mut first = None;
    let mut prepared = Vec::new();
    for i in 0..=effort.samples(20) {
        let began = Instant::now();
        let workspace = server.client.create_workspace(&order, None).await?;
        let result = server.client.exec_in_workspace(workspace.id, &look).await?;
        ensure!(result.exit.shell_code() == 0, "the checkout is not whole: {}", result.stderr);
        match i {
            0 => first = Some(millis(began)),
            _ => prepared.push(millis(began)),
        }
        server.client.delete_workspace(workspace.id).await?;
    }
    let mut changed = Vec::new();
    for n in 0..effort.samples(10) {
        std::fs::write(path.join("changed"), n.to_string()).context("the disk refuses")?;
        commit(&path).await?;
        let began = Instant::now();
        let workspace = server.client.create_workspace(&order, None).await?;
        let result = server.client.exec_in_workspace(workspace.id, &look).await?;
        ensure!(result.exit.shell_code() == 0, "the checkout is not whole: {}", result.stderr);
        changed.push(millis(began));
        server.client.delete_workspace(workspace.id).await?;
    }
    let first = first.into_iter().collect();
    Ok(vec![
        Measured::of("repository", "100 MB, never seen before", "ms", first),
        Measured::of("repository", "100 MB, from the prepared checkout", "ms", prepared),
        Measured::of("repository", "100 MB, with a new commit to fetch", "ms", changed),
    ])
}

/// A repository with 100 MB that don't compress.
async fn lay_out(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).context("no temporary folder can be made")?;
    let mut bytes = vec![0; FILE_BYTES];
    for n in 0..FILES {
        rand::rng().fill_bytes(&mut bytes);
        std::fs::write(path.join(format!("{n}.bin")), &bytes).context("the disk refuses")?;
    }
    git(path, &["init", "-q", "-b", "main"]).await?;
    commit(path).await
}

async fn commit(path: &Path) -> Result<()> {
    git(path, &["add", "-A"]).await?;
    git(path, &["commit", "-qm", "All"]).await
}

async fn git(path: &Path, args: &[&str]) -> Result<()> {
    let who = ["-c", "user.name=Bench", "-c", "user.email=bench@localhost"];
    let status = Command::new("git").current_dir(path).args(who).args(args).status().await?;
    ensure!(status.success(), "git {args:?} failed");
    Ok(())
}
