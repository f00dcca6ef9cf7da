//! What makes sandboxes.
//!
//! [`Runtime`] is the whole interface; every driver answers every method, and what a driver lacks
//! is a value in its [`Capabilities`]. A driver knows workspaces and layers by their ids and
//! nothing of tasks, sessions or agents. One conformance suite runs against all drivers.
//!
//! A workspace's life as a driver sees it:
//!
//! ```text
//! create ─► (files, no process) ─ start ─► (first process) ─ stop/kill ─► (files) ─ remove ─►
//!                 ▲    │ snapshot                │ snapshot (frozen and copied)
//!                 └────┴── fork: create with the same layers on top of a new snapshot
//! ```

use std::os::fd::OwnedFd;

use boatyard_model::{LayerId, RepositoryId, ToolId, WorkspaceId, WorkspaceLimits};

pub mod capabilities;
pub mod native;

pub use boatyard_sandbox::{escape, protocol::files_within};
pub use capabilities::{Capabilities, Isolation};

/// A connection to the runner of a workspace, past the hello: ready for the link's handshake.
pub type Connection = Box<dyn Io>;

/// A byte stream in both directions.
pub trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Io for T {}

/// What a workspace is started from.
#[derive(Debug, Clone, PartialEq)]
pub struct StartSpec {
    /// Counts the starts of this workspace; the link's epoch.
    pub generation: u64,
    /// Frozen layers below its own changes, the top one first.
    pub layers: Vec<LayerId>,
    /// The mirror to show read-only at `/mirror`.
    pub mirror: Option<RepositoryId>,
    /// What it may use.
    pub limits: WorkspaceLimits,
}

/// What came of a start.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// The isolation that it got.
    pub isolation: Isolation,
    /// The files were in use when the host went down: what was not yet synced may be lost.
    pub unclean: bool,
}

/// A workspace that a driver knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// Which.
    pub workspace: WorkspaceId,
    /// The generation of its first process, if that is alive.
    pub running: Option<u64>,
}

/// What a workspace's own changes, a layer or a tool take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
}

/// How a snapshot is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotKind {
    /// Of a quiet workspace: its own changes become the layer, and it goes on with none. The layer
    /// goes on top of its layers at the next start.
    Moved,
    /// Of one that runs: its changes are copied while it is frozen, and it keeps them.
    Copied,
}

pub use boatyard_sandbox::supervise::give_back_memory;

/// Where an installed tool is inside every workspace: a read-only folder.
pub fn tool_folder(tool: ToolId) -> String {
    format!("{}/{tool}", boatyard_sandbox::TOOLS)
}

/// Makes, ends and keeps sandboxes.
#[async_trait::async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// `native`, `docker` or `kubernetes`.
    fn name(&self) -> &'static str;

    /// What it can do here, if that was found out already.
    fn tried(&self) -> Option<&Capabilities>;

    /// What it can do here. It is found out once, at the start, which is waited for.
    ///
    /// # Errors
    /// [`Error::Timeout`] when that takes too long.
    async fn capabilities(&self) -> Result<&Capabilities, Error>;

    /// Makes the place for a workspace's files, where something is to be done with them before
    /// the first start.
    ///
    /// # Errors
    /// When it exists already, or the disk refuses.
    async fn create(&self, workspace: WorkspaceId) -> Result<(), Error>;

    /// Starts the first process. A running workspace of the same generation is left as it is. The
    /// first start of all (generation 1) makes the place for its files if there is none.
    ///
    /// # Errors
    /// [`Error::Step`] names what the machine refused and how to mend it.
    async fn start(&self, workspace: WorkspaceId, spec: &StartSpec) -> Result<Started, Error>;

    /// Ends every process of it and waits for that; ends within 100 ms. Nothing happens to one that
    /// does not run.
    ///
    /// # Errors
    /// When a process outlives the kill.
    async fn kill(&self, workspace: WorkspaceId) -> Result<(), Error>;

    /// Connects to its runner.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when its first process is gone.
    async fn connect(&self, workspace: WorkspaceId) -> Result<Connection, Error>;

    /// A duplicate of its egress listener: a listening stream socket inside its network.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when its first process is gone.
    async fn egress_listener(&self, workspace: WorkspaceId) -> Result<OwnedFd, Error>;

    /// A duplicate of its gateway listener, 127.0.0.1:7080 inside, to the models' providers.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when its first process is gone, [`Error::NoListener`] when that is of
    /// a version that made none.
    async fn gateway_listener(&self, workspace: WorkspaceId) -> Result<OwnedFd, Error>;

    /// What catches the connections and questions for names of programs that know of no proxy:
    /// duplicates of sockets inside its network, and of the file that the names are kept in.
    ///
    /// # Errors
    /// As [`Self::gateway_listener`].
    async fn capture(&self, workspace: WorkspaceId) -> Result<Capture, Error>;

    /// Stops every process of it from being scheduled, or lets them go on.
    ///
    /// # Errors
    /// When the machine has no freezer.
    async fn set_frozen(&self, workspace: WorkspaceId, frozen: Frozen) -> Result<(), Error>;

    /// Keeps its changes as a layer, in the way that fits: [`SnapshotKind`].
    ///
    /// # Errors
    /// [`Error::Running`] or [`Error::NotRunning`] where that way does not fit; when the disk
    /// refuses. The workspace is as it was.
    async fn snapshot(
        &self,
        workspace: WorkspaceId,
        layer: LayerId,
        kind: SnapshotKind,
    ) -> Result<(), Error>;

    /// Makes what is written so far outlive a crash of the host.
    ///
    /// # Errors
    /// When the disk refuses.
    async fn sync(&self, workspace: WorkspaceId) -> Result<(), Error>;

    /// Removes a workspace that does not run, with its files.
    ///
    /// # Errors
    /// [`Error::Running`], or when the disk refuses.
    async fn remove(&self, workspace: WorkspaceId) -> Result<(), Error>;

    /// Removes a layer. The caller knows that nothing uses it.
    ///
    /// # Errors
    /// When the disk refuses.
    async fn remove_layer(&self, layer: LayerId) -> Result<(), Error>;

    /// Makes the `/work` of a workspace that does not run, and stood on no layer, a tool: from then
    /// on every workspace, also one that runs already, has it read-only at [`tool_folder`]. It
    /// outlives a crash of the host. The workspace is left with an empty `/work`, to be removed.
    ///
    /// # Errors
    /// [`Error::Running`]; when a pipe, a socket or a device is in it; when the disk refuses.
    async fn keep_tool(&self, workspace: WorkspaceId, tool: ToolId) -> Result<(), Error>;

    /// Removes a tool. The caller knows that nothing uses it.
    ///
    /// # Errors
    /// When the disk refuses.
    async fn remove_tool(&self, tool: ToolId) -> Result<(), Error>;

    /// Every workspace that has files or a process.
    ///
    /// # Errors
    /// When they can't be listed.
    async fn list(&self) -> Result<Vec<Existing>, Error>;

    /// Every layer.
    ///
    /// # Errors
    /// When they can't be listed.
    async fn list_layers(&self) -> Result<Vec<LayerId>, Error>;

    /// Every tool.
    ///
    /// # Errors
    /// When they can't be listed.
    async fn list_tools(&self) -> Result<Vec<ToolId>, Error>;

    /// What its own changes take on disk.
    ///
    /// # Errors
    /// When it does not exist.
    async fn disk_usage(&self, workspace: WorkspaceId) -> Result<DiskUsage, Error>;

    /// What a layer takes on disk.
    ///
    /// # Errors
    /// When it does not exist.
    async fn layer_usage(&self, layer: LayerId) -> Result<DiskUsage, Error>;

    /// What a tool takes on disk.
    ///
    /// # Errors
    /// When it does not exist.
    async fn tool_usage(&self, tool: ToolId) -> Result<DiskUsage, Error>;

    /// The spool of a workspace whose runner is dead: a plain file, to be read as hostile input.
    /// None if there is none.
    ///
    /// # Errors
    /// When it does not exist.
    async fn spool(&self, workspace: WorkspaceId) -> Result<Option<std::fs::File>, Error>;
}

/// What catches a workspace's traffic.
#[derive(Debug)]
pub struct Capture {
    /// Listeners at which connections to anywhere arrive: their own address is where the program
    /// wanted to go.
    pub listeners: Vec<OwnedFd>,
    /// The UDP socket at which names are asked, whomever they are asked of.
    pub dns: OwnedFd,
    /// A memory file that lasts as long as the workspace's processes.
    pub names: OwnedFd,
}

/// Whether a workspace's processes are scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frozen {
    /// They are not.
    Yes,
    /// They are.
    No,
}

/// Why a runtime could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such workspace.
    #[error("workspace {0} has no files here")]
    NotFound(WorkspaceId),
    /// It exists already.
    #[error("workspace {0} exists already")]
    Exists(WorkspaceId),
    /// Its first process is gone.
    #[error("workspace {0} does not run")]
    NotRunning(WorkspaceId),
    /// It runs, and must not.
    #[error("workspace {0} runs")]
    Running(WorkspaceId),
    /// Its first process runs, and has no such listener.
    #[error(
        "workspace {workspace} has no {listener}: it was started by an earlier version of \
         Boatyard; `boatyard workspace stop {workspace}`, and its next start makes one"
    )]
    NoListener {
        /// Which workspace.
        workspace: WorkspaceId,
        /// Which listener, in words.
        listener: &'static str,
    },
    /// The machine refused a step.
    #[error("{step} failed; {hint}")]
    Step {
        /// Which step, in words.
        step: String,
        /// How to mend it.
        hint: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The disk is full.
    #[error("the disk that holds the data folder is full; free some space or run `boatyard gc`")]
    DiskFull,
    /// The process that makes sandboxes is gone and could not be started again.
    #[error("the spawner is gone; restart Boatyard")]
    SpawnerGone,
    /// No answer in time.
    #[error("{0} took too long")]
    Timeout(&'static str),
    /// Anything else of the operating system.
    #[error("{action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}
