//! The driver for Linux itself: the `sandbox` crate behind a spawner process.
//!
//! ```text
//! boatyard up (supervisor, root) ─┬─► spawner (root) ──► first process of each workspace
//!                                 └─► server (unprivileged) ═ SEQPACKET ═ spawner
//!                                          ╚═ D/run/<ws>.sock ═ first process
//! ```
//!
//! - [`launch`]: starting a spawner.
//! - [`supervisor`]: the process that starts spawner and server and starts the spawner again.
//! - [`NativeRuntime`]: the server's side, an async client of the spawner; [`Trial`]: what the
//!   machine can do, found out while the server starts.
//! - [`layout`]: the data folder.
//! - [`doctor`]: what the machine can do, without a server.
//!
//! Invariants: this side never opens a file of a workspace and forms no path for the spawner; it
//! names ids. Workspaces outlive both this process and the spawner; finding them again is a
//! [`crate::Runtime::list`] and a [`crate::Runtime::connect`].

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use boatyard_model::{LayerId, ToolId, WorkspaceId};
use boatyard_sandbox::{
    fds::{Kind, Listener},
    protocol::{self, LOWERS_MAX, Limits, Network, Reply, Request, SnapshotMode},
};
use tokio::sync::{SetOnce, broadcast, oneshot};

use crate::{
    Capabilities, Capture, Connection, DiskUsage, Error, Existing, Frozen, Isolation, Runtime,
    SnapshotKind, StartSpec, Started,
    capabilities::{Check, Outcome},
};

mod client;
pub mod doctor;
mod host;
mod kept;
pub mod launch;
pub mod layout;
mod refusal;
mod runner;
mod socket;
mod source;
pub mod supervisor;

pub use client::Exited;
use client::{Again, Answer, CallError, Spawner};
use refusal::{about, call_error, is_done_already, refused, system, unexpected};
use socket::Sockets;
pub use source::Source;

/// Starts wait for each other in the spawner: a thousand at once take some seconds.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// A kill is done within 100 ms; behind many starts it waits.
const KILL_DEADLINE: Duration = Duration::from_secs(30);
/// A few system calls, behind whatever the spawner does at the moment.
const QUICK_DEADLINE: Duration = Duration::from_secs(30);
/// The spawner is ready and has made its throw-away sandbox within this, or never.
const TRIAL_DEADLINE: Duration = Duration::from_secs(60);
/// What walks or copies a file tree, or waits for the disk.
const TREE_DEADLINE: Duration = Duration::from_secs(900);

/// Sandboxes of this machine, made by a spawner process.
#[derive(Debug)]
pub struct NativeRuntime {
    spawner: Arc<Spawner>,
    sockets: Sockets,
    capabilities: Arc<SetOnce<Capabilities>>,
}

/// Finding out what the machine can do: [`Trial::run`] it beside what does not need to know.
#[derive(Debug)]
pub struct Trial {
    spawner: Arc<Spawner>,
    ready: oneshot::Receiver<Result<protocol::Ready, CallError>>,
    data: PathBuf,
    found: Arc<SetOnce<Capabilities>>,
}

impl Trial {
    /// Waits until the spawner is ready, and has it make a throw-away sandbox.
    ///
    /// # Errors
    /// [`Error::SpawnerGone`] when it ends at once, [`Error::Step`] with what it says of the
    /// machine when that allows no sandbox.
    pub async fn run(self) -> Result<(), Error> {
        let capabilities = self.look().await?;
        match capabilities.checks.iter().find(|check| check.outcome == Outcome::Blocks) {
            None => Ok(()),
            Some(Check { name, detail, hint, .. }) => Err(Error::Step {
                step: format!("the check of this machine's {name}"),
                hint: hint.clone(),
                source: io::Error::other(detail.clone()),
            }),
        }
    }

    /// As [`Self::run`], even if it can make no sandbox; a check tells why then.
    async fn look(self) -> Result<Capabilities, Error> {
        let ready = self.ready.await.map_err(|_| Error::SpawnerGone)?.map_err(call_error)?;
        let data = self.data;
        let host = tokio::task::spawn_blocking(move || host::checks(&data));
        let probe = self.spawner.call(&Request::Probe, QUICK_DEADLINE, Again::Allowed).await;
        let report = match probe.map_err(call_error)?.reply {
            Reply::Probed(report) => report,
            other => return Err(unexpected(&other)),
        };
        let host = host.await.map_err(|error| Error::Io {
            action: "look at the machine",
            source: io::Error::other(error),
        })?;
        let mut checks: Vec<_> = report.checks.into_iter().map(check).collect();
        checks.extend(host.into_iter().map(|mut check| {
            // What was tried counts for more than what was read.
            if report.isolation.is_some() && check.outcome == Outcome::Blocks {
                check.outcome = Outcome::Missing;
            }
            check
        }));
        let isolation = level(report.isolation.unwrap_or(ready.isolation));
        let capabilities = Capabilities { isolation, checks };
        // There is one trial of a runtime.
        let _ = self.found.set(capabilities.clone());
        Ok(capabilities)
    }
}

impl NativeRuntime {
    /// Takes the spawner from `source`. `data` is the data folder, as given to the spawner. What is
    /// asked before the spawner is ready waits for it; whether the machine can make sandboxes at
    /// all, the trial tells. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the folder with the workspaces' sockets can't be opened.
    pub fn begin(source: Source, data: &Path) -> Result<(Self, Trial), Error> {
        let action = "open the folder with the workspaces' sockets";
        let sockets =
            Sockets::open(&layout::run(data)).map_err(|source| Error::Io { action, source })?;
        let (spawner, ready) = Spawner::begin(source);
        let (spawner, found) = (Arc::new(spawner), Arc::default());
        let this =
            Self { spawner: Arc::clone(&spawner), sockets, capabilities: Arc::clone(&found) };
        Ok((this, Trial { spawner, ready, data: data.to_owned(), found }))
    }

    /// As [`Self::begin`], and waits for the trial.
    ///
    /// # Errors
    /// As [`Self::begin`] and [`Trial::run`].
    pub async fn connect_spawner(source: Source, data: &Path) -> Result<Self, Error> {
        let (runtime, trial) = Self::begin(source, data)?;
        trial.run().await?;
        Ok(runtime)
    }

    /// Tells of first processes that end without [`Runtime::kill`]: killed by the kernel for
    /// memory, or by a person. A listener that lags learns that it missed some.
    pub fn exits(&self) -> broadcast::Receiver<Exited> {
        self.spawner.exits()
    }

    /// The generation of a workspace's first process, asked of that process.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when it is gone.
    pub async fn generation(&self, workspace: WorkspaceId) -> Result<u64, Error> {
        Ok(self.sockets.ping(workspace).await?.generation)
    }

    /// Ends the spawner; workspaces live on. For programs that started one of their own.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn shut_down_spawner(&self) -> Result<(), Error> {
        match self.spawner.call(&Request::Shutdown, QUICK_DEADLINE, Again::Refused).await {
            // It may be gone before its answer is.
            Ok(_) | Err(CallError::Gone) => Ok(()),
            Err(error) => Err(call_error(error)),
        }
    }

    /// Asks for something that is answered with `Done`.
    async fn order(
        &self,
        workspace: WorkspaceId,
        request: &Request,
        limit: Duration,
    ) -> Result<(), Error> {
        let answer = self.spawner.call(request, limit, Again::Allowed).await;
        match answer.map_err(|error| about(workspace, error))? {
            Answer { reply: Reply::Done, .. } => Ok(()),
            // Asked twice because a spawner died over it: the first one had done it.
            Answer { reply: Reply::Failed(failure), repeated: true, .. }
                if is_done_already(request, failure.kind) =>
            {
                Ok(())
            }
            Answer { reply: Reply::Failed(failure), .. } => Err(refused(workspace, failure)),
            Answer { reply, .. } => Err(unexpected(&reply)),
        }
    }

    /// Asks for something with an answer of its own.
    async fn ask(
        &self,
        workspace: WorkspaceId,
        request: &Request,
        limit: Duration,
    ) -> Result<Answer, Error> {
        let answer = self.spawner.call(request, limit, Again::Allowed).await;
        match answer.map_err(|error| about(workspace, error))? {
            Answer { reply: Reply::Failed(failure), .. } => Err(refused(workspace, failure)),
            answer => Ok(answer),
        }
    }
}

#[async_trait::async_trait]
impl Runtime for NativeRuntime {
    fn name(&self) -> &'static str {
        "native"
    }

    fn tried(&self) -> Option<&Capabilities> {
        self.capabilities.get()
    }

    async fn capabilities(&self) -> Result<&Capabilities, Error> {
        if let Some(known) = self.tried() {
            return Ok(known);
        }
        let known = tokio::time::timeout(TRIAL_DEADLINE, self.capabilities.wait()).await;
        known.map_err(|_| Error::Timeout("what this machine can do"))
    }

    async fn create(&self, workspace: WorkspaceId) -> Result<(), Error> {
        let request = Request::Create { ws: workspace.to_u128() };
        self.order(workspace, &request, QUICK_DEADLINE).await
    }

    async fn start(&self, workspace: WorkspaceId, spec: &StartSpec) -> Result<Started, Error> {
        if spec.layers.len() > LOWERS_MAX {
            return Err(Error::Step {
                step: format!("stacking {} layers", spec.layers.len()),
                hint: format!("at most {LOWERS_MAX} are possible; fork from an earlier layer"),
                source: io::ErrorKind::InvalidInput.into(),
            });
        }
        let request = Request::Start(protocol::Start {
            ws: workspace.to_u128(),
            generation: spec.generation,
            lowers: spec.layers.iter().map(|layer| layer.to_u128()).collect(),
            mirror: spec.mirror.map(boatyard_model::RepositoryId::to_u128),
            limits: Limits {
                memory_bytes: spec.limits.memory_bytes,
                processes: spec.limits.processes,
                cpu_millis: spec.limits.cpu_millis,
                tmp_bytes: 0,
                disk_bytes: spec.limits.disk_bytes,
            },
            network: Network::Egress,
        });
        let isolation = self.capabilities().await?.isolation;
        match self.ask(workspace, &request, START_DEADLINE).await {
            Ok(Answer { reply: Reply::Started(started), .. }) => {
                tracing::debug!(
                    workspace.id = %workspace,
                    workspace.generation = started.generation,
                    start.micros = started.total_us,
                    "first process runs"
                );
                Ok(Started { isolation, unclean: started.unclean })
            }
            Ok(answer) => Err(unexpected(&answer.reply)),
            Err(Error::Running(_)) if self.generation(workspace).await? == spec.generation => {
                Ok(Started { isolation, unclean: false })
            }
            Err(error) => Err(error),
        }
    }

    async fn kill(&self, workspace: WorkspaceId) -> Result<(), Error> {
        let request = Request::Kill { ws: workspace.to_u128() };
        self.order(workspace, &request, KILL_DEADLINE).await
    }

    async fn connect(&self, workspace: WorkspaceId) -> Result<Connection, Error> {
        Ok(Box::new(self.sockets.connect(workspace, Kind::Link).await?))
    }

    async fn egress_listener(&self, workspace: WorkspaceId) -> Result<OwnedFd, Error> {
        self.sockets.listener(workspace, Listener::Egress).await
    }

    async fn gateway_listener(&self, workspace: WorkspaceId) -> Result<OwnedFd, Error> {
        self.sockets.listener(workspace, Listener::Gateway).await
    }

    async fn capture(&self, workspace: WorkspaceId) -> Result<Capture, Error> {
        self.sockets.capture(workspace).await
    }

    async fn set_frozen(&self, workspace: WorkspaceId, frozen: Frozen) -> Result<(), Error> {
        let ws = workspace.to_u128();
        let request = match frozen {
            Frozen::Yes => Request::Freeze { ws },
            Frozen::No => Request::Thaw { ws },
        };
        self.order(workspace, &request, QUICK_DEADLINE).await
    }

    async fn snapshot(
        &self,
        workspace: WorkspaceId,
        layer: LayerId,
        kind: SnapshotKind,
    ) -> Result<(), Error> {
        let mode = match kind {
            SnapshotKind::Moved => SnapshotMode::Rename,
            SnapshotKind::Copied => SnapshotMode::Copy,
        };
        let request = Request::Snapshot { ws: workspace.to_u128(), layer: layer.to_u128(), mode };
        self.order(workspace, &request, TREE_DEADLINE).await
    }

    async fn sync(&self, workspace: WorkspaceId) -> Result<(), Error> {
        let request = Request::Sync { ws: workspace.to_u128() };
        self.order(workspace, &request, TREE_DEADLINE).await
    }

    async fn remove(&self, workspace: WorkspaceId) -> Result<(), Error> {
        let request = Request::Remove { ws: workspace.to_u128() };
        self.order(workspace, &request, TREE_DEADLINE).await
    }

    async fn remove_layer(&self, layer: LayerId) -> Result<(), Error> {
        self.remove_kept(&Request::RemoveLayer { layer: layer.to_u128() }).await
    }

    async fn keep_tool(&self, workspace: WorkspaceId, tool: ToolId) -> Result<(), Error> {
        let request = Request::KeepTool { ws: workspace.to_u128(), tool: tool.to_u128() };
        self.order(workspace, &request, TREE_DEADLINE).await
    }

    async fn remove_tool(&self, tool: ToolId) -> Result<(), Error> {
        self.remove_kept(&Request::RemoveTool { tool: tool.to_u128() }).await
    }

    async fn list(&self) -> Result<Vec<Existing>, Error> {
        let mut all = Vec::new();
        let mut after = 0;
        loop {
            let request = Request::List { after };
            let answer = self.spawner.call(&request, QUICK_DEADLINE, Again::Allowed).await;
            match answer.map_err(call_error)?.reply {
                Reply::Workspaces { entries, more } => {
                    let last = entries.last().map(|entry| entry.ws);
                    all.extend(entries.iter().map(|entry| Existing {
                        workspace: WorkspaceId::from_u128(entry.ws),
                        running: (entry.pid != 0).then_some(entry.generation),
                    }));
                    match last {
                        Some(last) if more && last > after => after = last,
                        _ => return Ok(all),
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    async fn list_layers(&self) -> Result<Vec<LayerId>, Error> {
        let ids = self.list_kept(|after| Request::ListLayers { after }).await?;
        Ok(ids.into_iter().map(LayerId::from_u128).collect())
    }

    async fn list_tools(&self) -> Result<Vec<ToolId>, Error> {
        let ids = self.list_kept(|after| Request::ListTools { after }).await?;
        Ok(ids.into_iter().map(ToolId::from_u128).collect())
    }

    async fn disk_usage(&self, workspace: WorkspaceId) -> Result<DiskUsage, Error> {
        let request = Request::Usage { ws: workspace.to_u128() };
        match self.ask(workspace, &request, TREE_DEADLINE).await?.reply {
            Reply::Usage { bytes, inodes } => Ok(DiskUsage { bytes, inodes }),
            other => Err(unexpected(&other)),
        }
    }

    async fn layer_usage(&self, layer: LayerId) -> Result<DiskUsage, Error> {
        self.kept_usage(&Request::LayerUsage { layer: layer.to_u128() }).await
    }

    async fn tool_usage(&self, tool: ToolId) -> Result<DiskUsage, Error> {
        self.kept_usage(&Request::ToolUsage { tool: tool.to_u128() }).await
    }

    async fn spool(&self, workspace: WorkspaceId) -> Result<Option<std::fs::File>, Error> {
        let request = Request::OpenSpool { ws: workspace.to_u128() };
        match self.ask(workspace, &request, QUICK_DEADLINE).await {
            Ok(Answer { reply: Reply::Spool, fd: Some(fd), .. }) => {
                let file = std::fs::File::from(fd);
                let action = "look at a spool";
                let meta = file.metadata().map_err(|source| Error::Io { action, source })?;
                Ok(meta.is_file().then_some(file))
            }
            Ok(Answer { reply: Reply::Spool, fd: None, .. }) => Ok(None),
            Ok(answer) => Err(unexpected(&answer.reply)),
            Err(error) => Err(error),
        }
    }
}

const fn level(isolation: protocol::Isolation) -> Isolation {
    match isolation {
        protocol::Isolation::Full => Isolation::Full,
        protocol::Isolation::FullV1 => Isolation::FullV1,
        protocol::Isolation::Rootless => Isolation::Rootless,
        protocol::Isolation::RootlessSingleId => Isolation::RootlessOneId,
    }
}

/// The spawner's check in the terms of every runtime.
fn check(found: protocol::Check) -> Check {
    let (outcome, hint) = match found.outcome {
        protocol::Outcome::Works => (Outcome::Works, ""),
        protocol::Outcome::Weaker => (Outcome::Missing, hint_for(&found.name)),
        protocol::Outcome::Fails => (Outcome::Blocks, hint_for(&found.name)),
    };
    Check { name: found.name, outcome, detail: found.detail, hint: hint.to_owned() }
}

/// How to mend what the spawner found missing, where its own words do not say.
fn hint_for(name: &str) -> &'static str {
    match name {
        "ids" => {
            "start Boatyard as root, or install newuidmap (package uidmap) and give the account a \
             range in /etc/subuid and /etc/subgid"
        }
        "cgroup" => {
            "control groups of version 2, as root or in a service with Delegate=yes (`boatyard \
             service install`), limit workspaces best"
        }
        "landlock" => "turn it on with lsm=landlock,… on the kernel's command line",
        "disk quota" => {
            "ext4 with the features quota and project, or XFS, mounted with prjquota as root, keeps it exactly"
        }
        _ => "the other checks may say more",
    }
}
