//! Measures the native runtime on this machine, by the product's own path: supervisor, spawner,
//! unprivileged server, link, runner.
//!
//! `cargo run --release -p boatyard-runtime --example figures [-- DATA-FOLDER [HOW-MANY-AT-ONCE]]`

use std::{
    error::Error,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use boatyard_link::{
    Link, Options, Role as Side,
    message::{ExecRequest, Header},
};
use boatyard_model::{LayerId, WorkspaceId, WorkspaceLimits};
use boatyard_runtime::{
    Runtime as _, SnapshotKind, StartSpec,
    native::{
        NativeRuntime, Source,
        launch::{SpawnerSettings, run_if_spawner},
        supervisor::{Role, supervise},
    },
};
use tokio::io::AsyncReadExt as _;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> Result<ExitCode> {
    run_if_spawner();
    let mut arguments = std::env::args_os().skip(1);
    let data =
        arguments.next().map_or_else(|| PathBuf::from("/var/tmp/boatyard-figures"), PathBuf::from);
    let at_once = arguments.next().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(1000);
    match supervise(&SpawnerSettings::new(data.clone()))? {
        Role::Over(code) => Ok(code),
        Role::Server(supervised) => {
            let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            tokio.block_on(async {
                let begin = Instant::now();
                let source = Source::supervisor(supervised)?;
                let runtime = Arc::new(NativeRuntime::connect_spawner(source, &data).await?);
                row("attach to the spawner, with its probe", &mut [begin.elapsed()]);
                measure(&runtime, at_once).await
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn measure(runtime: &Arc<NativeRuntime>, at_once: usize) -> Result<()> {
    say(format_args!("isolation {}", runtime.capabilities().await?.isolation));
    clear(runtime).await?;
    single(runtime).await?;
    commands(runtime).await?;
    kills(runtime).await?;
    forks(runtime).await?;
    many(runtime, at_once).await?;
    clear(runtime).await
}

/// Create, start, connect, one command, one after the other.
async fn single(runtime: &Arc<NativeRuntime>) -> Result<()> {
    let (mut whole, mut created, mut started) = (Vec::new(), Vec::new(), Vec::new());
    let mut removed = Vec::new();
    for n in 0..210 {
        let id = WorkspaceId::new();
        let begin = Instant::now();
        runtime.create(id).await?;
        let create = begin.elapsed();
        runtime.start(id, &spec(1, &[])).await?;
        let start = begin.elapsed();
        let link = connect(runtime, id).await?;
        exec(&link, &["/bin/true"]).await?;
        let all = begin.elapsed();
        drop(link);
        runtime.kill(id).await?;
        let begin = Instant::now();
        runtime.remove(id).await?;
        // The first few warm caches up.
        if n >= 10 {
            created.push(create);
            started.push(start - create);
            whole.push(all);
            removed.push(begin.elapsed());
        }
    }
    row("create to first command done", &mut whole);
    row("  of which create", &mut created);
    row("  of which start", &mut started);
    row("remove", &mut removed);
    Ok(())
}

/// Commands in one that runs.
async fn commands(runtime: &Arc<NativeRuntime>) -> Result<()> {
    let (id, link) = running(runtime, &[]).await?;
    let mut times = Vec::new();
    for _ in 0..500 {
        let begin = Instant::now();
        exec(&link, &["/bin/true"]).await?;
        times.push(begin.elapsed());
    }
    row("a command in a running workspace", &mut times);
    let mut times = Vec::new();
    for _ in 0..200 {
        let begin = Instant::now();
        let link = connect(runtime, id).await?;
        link.peer().await?;
        times.push(begin.elapsed());
    }
    row("connect and handshake", &mut times);
    let mut times = Vec::new();
    for _ in 0..200 {
        let begin = Instant::now();
        runtime.egress_listener(id).await?;
        times.push(begin.elapsed());
    }
    row("duplicate of the egress listener", &mut times);
    runtime.kill(id).await?;
    runtime.remove(id).await?;
    Ok(())
}

/// The end of one with fifty processes that ignore signals.
async fn kills(runtime: &Arc<NativeRuntime>) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..50 {
        let (id, link) = running(runtime, &[]).await?;
        let script =
            "for n in $(seq 50); do setsid sh -c 'trap \"\" TERM; sleep 1000' & done; true";
        exec(&link, &["/bin/sh", "-c", script]).await?;
        let begin = Instant::now();
        runtime.kill(id).await?;
        times.push(begin.elapsed());
        runtime.remove(id).await?;
    }
    row("kill of 100 processes", &mut times);
    Ok(())
}

/// A quiet workspace with 10,000 files of 50 KB together 500 MB: snapshot, and a fork of it.
async fn forks(runtime: &Arc<NativeRuntime>) -> Result<()> {
    let (id, link) = running(runtime, &[]).await?;
    let script = "cd /work && head -c 51200 /dev/urandom > blob && for d in $(seq 100); do \
                  mkdir $d; for f in $(seq 100); do cat blob > $d/$f; done; done";
    exec(&link, &["/bin/sh", "-c", script]).await?;
    drop(link);
    runtime.kill(id).await?;
    let mut layers = Vec::new();
    let begin = Instant::now();
    let layer = LayerId::new();
    runtime.snapshot(id, layer, SnapshotKind::Moved).await?;
    row("snapshot of a quiet workspace, 10,000 files", &mut [begin.elapsed()]);
    layers.push(layer);
    let (mut forks, mut firsts) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let fork = WorkspaceId::new();
        let begin = Instant::now();
        runtime.start(fork, &spec(1, &layers)).await?;
        forks.push(begin.elapsed());
        let link = connect(runtime, fork).await?;
        exec(&link, &["/usr/bin/test", "-f", "/work/100/100"]).await?;
        firsts.push(begin.elapsed());
        drop(link);
        runtime.kill(fork).await?;
        runtime.remove(fork).await?;
    }
    row("fork of it, started", &mut forks);
    row("fork of it, first command done", &mut firsts);
    let (running_id, link) = running(runtime, &layers).await?;
    exec(&link, &["/bin/sh", "-c", "cd /work && for n in $(seq 100); do echo x > new$n; done"])
        .await?;
    let begin = Instant::now();
    let copy = LayerId::new();
    runtime.snapshot(running_id, copy, SnapshotKind::Copied).await?;
    row("snapshot of a running one, 100 changed files", &mut [begin.elapsed()]);
    drop(link);
    for id in [id, running_id] {
        runtime.kill(id).await?;
        runtime.remove(id).await?;
    }
    let begin = Instant::now();
    runtime.remove_layer(copy).await?;
    runtime.remove_layer(layer).await?;
    row("remove a layer of 10,000 files", &mut [begin.elapsed()]);
    Ok(())
}

/// So many at once, each with a command done, then all idle.
async fn many(runtime: &Arc<NativeRuntime>, count: usize) -> Result<()> {
    let before = memory_available()?;
    let begin = Instant::now();
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let runtime = runtime.clone();
            tokio::spawn(async move {
                let (id, link) = running(&runtime, &[]).await?;
                exec(&link, &["/bin/true"]).await?;
                Ok::<_, Box<dyn Error + Send + Sync>>((id, link))
            })
        })
        .collect();
    let mut alive = Vec::new();
    for task in tasks {
        alive.push(task.await??);
    }
    let took = begin.elapsed();
    say(format_args!("{count} at once, each with a command done: {:.2} s", took.as_secs_f64()));
    let each = (before - memory_available()?) as f64 / count as f64 / 1024.0;
    say(format_args!("memory of each with its link up: {each:.2} MiB"));
    let ids: Vec<_> = alive.into_iter().map(|(id, _)| id).collect();
    // `serve` ends ten seconds after its last link.
    tokio::time::sleep(Duration::from_secs(14)).await;
    let each = (before - memory_available()?) as f64 / count as f64 / 1024.0;
    say(format_args!("memory of each when idle: {each:.2} MiB"));

    let begin = Instant::now();
    let found = runtime.list().await?;
    row(&format!("list of {}", found.len()), &mut [begin.elapsed()]);
    let mut times = Vec::new();
    for id in &ids {
        let begin = Instant::now();
        let link = connect(runtime, *id).await?;
        link.peer().await?;
        times.push(begin.elapsed());
    }
    row("reattach to an idle one (serve starts)", &mut times);
    let mut times = Vec::new();
    for id in &ids {
        let begin = Instant::now();
        let link = connect(runtime, *id).await?;
        link.peer().await?;
        times.push(begin.elapsed());
    }
    row("reattach to one that works", &mut times);

    let begin = Instant::now();
    for id in ids {
        runtime.kill(id).await?;
        runtime.remove(id).await?;
    }
    let each = begin.elapsed() / u32::try_from(count)?;
    say(format_args!("kill and remove: {:.2} ms each", each.as_secs_f64() * 1e3));
    Ok(())
}

/// Removes what an interrupted run left.
async fn clear(runtime: &Arc<NativeRuntime>) -> Result<()> {
    for existing in runtime.list().await? {
        runtime.kill(existing.workspace).await?;
        runtime.remove(existing.workspace).await?;
    }
    for layer in runtime.list_layers().await? {
        runtime.remove_layer(layer).await?;
    }
    Ok(())
}

fn spec(generation: u64, layers: &[LayerId]) -> StartSpec {
    let limits = WorkspaceLimits::default();
    StartSpec { generation, layers: layers.to_vec(), mirror: None, limits }
}

async fn running(runtime: &Arc<NativeRuntime>, layers: &[LayerId]) -> Result<(WorkspaceId, Link)> {
    let id = WorkspaceId::new();
    runtime.create(id).await?;
    runtime.start(id, &spec(1, layers)).await?;
    Ok((id, connect(runtime, id).await?))
}

async fn connect(runtime: &Arc<NativeRuntime>, id: WorkspaceId) -> Result<Link> {
    let connection = runtime.connect(id).await?;
    let (link, driver) = Link::start(connection, Side::Connector, Options::new("figures"));
    tokio::spawn(driver);
    Ok(link)
}

/// Runs a command that must end well.
async fn exec(link: &Link, command: &[&str]) -> Result<()> {
    let request = ExecRequest {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        ..ExecRequest::default()
    };
    let mut stream = link.open(&Header::Exec(request))?;
    loop {
        let channel = stream.read_u8().await?;
        let length = stream.read_u32_le().await?;
        let mut bytes = vec![0; length as usize];
        stream.read_exact(&mut bytes).await?;
        let text = String::from_utf8_lossy(&bytes);
        match channel {
            3 if text.contains("\"code\":0") => return Ok(()),
            3 => return Err(format!("{command:?}: {text}").into()),
            _ => {}
        }
    }
}

fn memory_available() -> Result<i64> {
    let text = std::fs::read_to_string(Path::new("/proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.ok_or_else(|| "no MemAvailable in /proc/meminfo".into())
}

fn row(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at =
        |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    if times.len() == 1 {
        say(format_args!("{name:<46} {:>9.3} ms", at(50)));
    } else {
        say(format_args!(
            "{name:<46} n {:>4}  p50 {:>8.3}  p90 {:>8.3}  p99 {:>8.3}  max {:>8.3} ms",
            times.len(),
            at(50),
            at(90),
            at(99),
            at(100),
        ));
    }
}

fn say(what: std::fmt::Arguments<'_>) {
    // Whoever reads may have gone.
    let _ = writeln!(std::io::stdout(), "{what}");
}
