//! A real server in a process of its own, over a temporary data folder.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use boatyard_api::Client;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    signal::unix::{SignalKind, signal as told},
    time::timeout,
};

use crate::{
    data::{ClientFile, DataFolder},
    failure::Failure,
    output::Output,
};

/// A first start lays out the data folder and the runner.
const START: Duration = Duration::from_secs(60);
/// What an orderly end takes at most, with some room.
const END: Duration = Duration::from_secs(15);

/// What the removal of all workspaces takes at most, when it was broken off.
const REMOVAL: Duration = Duration::from_secs(60);

/// The settings that a suite wants beside those of every server.
const FURTHER: &str = "further.toml";

/// A server with its folder. Both go with this, and so do its workspaces, which would otherwise live
/// on: by [`Server::end`], or as well as it can be done when it is dropped.
pub(in crate::commands) struct Server {
    pub(in crate::commands) client: Client,
    /// Where it is, and the key to it.
    pub(in crate::commands) access: ClientFile,
    folder: tempfile::TempDir,
    child: Child,
    /// The process that serves; its parent starts it and the spawner.
    pub(super) pid: u32,
    /// From the start of the program to its first answer.
    pub(super) first_answer: Duration,
    /// From the start of the program until it is up: the machine was tried, and what an earlier one
    /// left is taken up.
    pub(super) up: Duration,
    /// Whether its workspaces are gone.
    is_ended: bool,
}

/// Does `work` until it is done, or somebody wants it to end: Ctrl-C, a terminal that closes, TERM.
/// What it holds is dropped then. None if it was broken off.
pub(in crate::commands) async fn until_interrupted<T>(
    work: impl Future<Output = T>,
    output: &Output,
) -> Result<Option<T>> {
    let signals = || -> std::io::Result<_> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(told);
        Ok((interrupt?, terminate?, hangup?))
    };
    let (mut interrupt, mut terminate, mut hangup) =
        signals().context("signals can't be listened to")?;
    tokio::select! {
        done = work => return Ok(Some(done)),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    output.note("interrupted: what was started is removed …");
    Ok(None)
}

/// What was launched.
struct Launched {
    child: Child,
    pid: u32,
    client: Client,
    access: ClientFile,
    first_answer: Duration,
    up: Duration,
}

/// What `boatyard up --json` says when it is up.
#[derive(Deserialize)]
struct Up {
    pid: u32,
}

impl Server {
    /// Starts one below `folder`, the usual place for temporary files if none is named.
    pub(super) async fn start(folder: Option<&Path>) -> Result<Self> {
        Self::start_with(folder, "").await
    }

    /// The same with further settings.
    pub(in crate::commands) async fn start_with(
        folder: Option<&Path>,
        settings: &str,
    ) -> Result<Self> {
        let folder = temporary(folder)?;
        std::fs::write(folder.path().join(FURTHER), settings)
            .context("no temporary file can be made")?;
        let Launched { child, pid, client, access, first_answer, up } =
            launch(folder.path()).await?;
        Ok(Self { client, access, folder, child, pid, first_answer, up, is_ended: false })
    }

    /// A folder for what a suite needs beside the server, readable by it.
    pub(in crate::commands) fn beside(&self) -> PathBuf {
        self.folder.path().join("repositories")
    }

    /// Its data folder.
    pub(in crate::commands) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The number of the process that was started, above server and spawner.
    pub(super) fn root(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its database, for when it does not run.
    pub(super) fn database(&self) -> PathBuf {
        DataFolder::at(self.data()).database()
    }

    /// Kills the server as a crash would, and starts another on the same folder.
    pub(super) async fn crash_and_restart(&mut self) -> Result<()> {
        self.crash().await?;
        self.restart().await
    }

    /// Kills the server as a crash would.
    pub(super) async fn crash(&mut self) -> Result<()> {
        kill(self.pid).await?;
        // The supervisor ends as its server does.
        timeout(END, self.child.wait()).await.context("the killed server does not end")??;
        Ok(())
    }

    /// Starts another on the folder of one that was killed.
    pub(super) async fn restart(&mut self) -> Result<()> {
        let next = launch(self.folder.path()).await?;
        (self.child, self.pid) = (next.child, next.pid);
        (self.client, self.access) = (next.client, next.access);
        (self.first_answer, self.up) = (next.first_answer, next.up);
        Ok(())
    }

    /// Ends it in order, its workspaces first.
    pub(in crate::commands) async fn end(mut self) -> Result<()> {
        super::workspaces::delete_all(&self.client).await?;
        if let Some(pid) = self.child.id() {
            signal("TERM", pid).await?;
        }
        timeout(END, self.child.wait()).await.context("the server does not end")??;
        self.is_ended = true;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `end`, and where it ended by itself, which left its workspaces.
        let is_gone = self.child.id().is_none();
        if is_gone && self.is_ended {
            return;
        }
        let folder = self.folder.path().to_owned();
        let (access, child) = (&self.access, &mut self.child);
        // A thread and a runtime of its own: the one that this may be dropped in can't wait.
        let removed = std::thread::scope(|scope| {
            let work = || -> Result<()> {
                tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(
                    async {
                        // One that was killed is started again: it alone knows its workspaces.
                        let mut again = None;
                        let (server, pid) = if is_gone {
                            let launched = launch(&folder).await?;
                            let found = (launched.access.clone(), launched.child.id());
                            again = Some(launched.child);
                            found
                        } else {
                            (access.clone(), child.id())
                        };
                        let client = Client::new(&server.server, Some(&server.key))?;
                        let deleted =
                            timeout(REMOVAL, super::workspaces::delete_all(&client)).await;
                        if let Some(pid) = pid {
                            signal("TERM", pid).await?;
                        }
                        let child = again.as_mut().unwrap_or(child);
                        let deadline = Instant::now() + END;
                        // Its end wakes the runtime that it was started in, not this one.
                        while child.try_wait()?.is_none() {
                            anyhow::ensure!(Instant::now() < deadline, "the server does not end");
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        deleted.context("its workspaces can't be removed in time")?
                    },
                )
            };
            scope.spawn(work).join()
        });
        if let Ok(Err(error)) = removed {
            eprintln!("the server in {} was not removed: {error:#}", self.folder.path().display());
        }
    }
}

/// A folder that a server without rights can reach by its path.
pub(in crate::commands) fn temporary(folder: Option<&Path>) -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut builder = tempfile::Builder::new();
    builder.prefix("boatyard-bench-");
    builder.permissions(std::fs::Permissions::from_mode(0o755));
    match folder {
        Some(folder) => builder.tempdir_in(folder),
        // Not /tmp, which is in memory on many machines: the disk is part of what is measured.
        None => builder.tempdir_in("/var/tmp").or_else(|_| builder.tempdir()),
    }
    .context("no temporary folder can be made")
}

async fn launch(folder: &Path) -> Result<Launched> {
    let data = folder.join("data");
    let repositories = folder.join("repositories");
    std::fs::create_dir_all(&repositories).context("no temporary folder can be made")?;
    let settings = folder.join("boatyard.toml");
    // Through TOML's own writer: a path may hold anything.
    let roots = toml::Value::Array(vec![repositories.to_string_lossy().as_ref().into()]);
    let further = std::fs::read_to_string(folder.join(FURTHER))
        .context("the settings of the suite are gone")?;
    std::fs::write(&settings, format!("[repositories]\nroots = {roots}\n{further}"))
        .context("no temporary file can be made")?;
    // One that is free now; another program could take it, and then the server says so.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .context("no port is free")?;
    let visitor = Client::new(&format!("http://{address}"), None)?;
    // Itself, even if its file was replaced meanwhile.
    let program = Path::new("/proc/self/exe");
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(["--json", "up", "--listen", &address.to_string()])
        .arg("--data")
        .arg(&data)
        .arg("--config")
        .arg(&settings)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        // Ctrl-C is for this program, which ends the server when its workspaces are gone.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("the server can't be started")?;
    let first_answer = tokio::select! {
        biased;
        answered = timeout(START, first_answer(&visitor)) => {
            answered.context("the server does not answer")?;
            began.elapsed()
        }
        // What it said is told below.
        _ = child.wait() => began.elapsed(),
    };
    let stdout = child.stdout.take().context("the server has no output")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = timeout(START, lines.next_line())
        .await
        .context("the server does not come up")??
        .ok_or_else(|| Failure::new("the server ended at once").next("see what it said above"))?;
    let up: Up = serde_json::from_str(&line).context("the server said something else")?;
    let took = began.elapsed();
    let access = DataFolder::at(data).client()?.context("the server left no address")?;
    let client = Client::new(&access.server, Some(&access.key))?;
    Ok(Launched { child, pid: up.pid, client, access, first_answer, up: took })
}

/// Asks how it is until it says so. Where nobody listens yet there is nothing to wait for.
async fn first_answer(visitor: &Client) {
    while visitor.health().await.is_err() {
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}

async fn kill(pid: u32) -> Result<()> {
    signal("KILL", pid).await
}

/// By the program `kill`: a signal of our own would need unsafe code.
async fn signal(name: &str, pid: u32) -> Result<()> {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()
        .await
        .context("kill can't be started")?;
    anyhow::ensure!(status.success(), "the process {pid} can't be signalled");
    Ok(())
}
