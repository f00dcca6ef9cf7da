//! What the server and the spawner say to each other.
//!
//! One SEQPACKET message is one request or one reply. A request is `id (u64 LE), operation (u8),
//! fields`, at most [`REQUEST_MAX`] bytes; a reply is `id, tag, fields`, at most [`REPLY_MAX`]
//! bytes, with at most one descriptor attached. Several requests may be in flight; replies come
//! in the order in which things finish. A reply with id 0 answers nothing: [`Reply::Ready`] once
//! at the start, [`Reply::Exited`] when a first process ends by itself.
//!
//! Every id is the 128-bit value of a ULID. No message carries a path.
//!
//! ```text
//! Create ─► Start ─► (Freeze ─► Snapshot copy ─► Thaw)* ─► Kill ─► Snapshot rename ─► Start …
//!                                                           ├────► Remove
//!                                                           └────► KeepTool ─► Remove
//! ```

mod codec;
mod report;

pub use codec::{
    REPLY_MAX, REQUEST_MAX, decode_reply, decode_request, encode_reply, encode_request,
};
pub use report::{Capture, Check, Failure, FailureKind, Isolation, LimitsBy, Outcome, Report};

/// The most lower layers that one workspace may stand on.
pub const LOWERS_MAX: usize = 64;
/// The most entries of one [`Reply::Workspaces`] or [`Reply::Ids`].
pub const PAGE: usize = 512;

/// What the server asks of the spawner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Start the first process of a workspace that exists and does not run.
    /// Answered by [`Reply::Started`].
    Start(Start),
    /// Make the folders of a new workspace. Answered by [`Reply::Done`].
    Create {
        /// The workspace.
        ws: u128,
    },
    /// End every process of a workspace; done when the last is dead and its groups are gone.
    /// Done at once when it does not run.
    Kill {
        /// The workspace.
        ws: u128,
    },
    /// Delete a workspace that does not run: gone at once, its disk space when answered.
    Remove {
        /// The workspace.
        ws: u128,
    },
    /// Delete a frozen layer that no workspace stands on (the caller counts).
    RemoveLayer {
        /// The layer.
        layer: u128,
    },
    /// Stop the processes of a running workspace until [`Request::Thaw`].
    Freeze {
        /// The workspace.
        ws: u128,
    },
    /// Let a frozen workspace go on.
    Thaw {
        /// The workspace.
        ws: u128,
    },
    /// Make the workspace's own changes a layer.
    Snapshot {
        /// The workspace.
        ws: u128,
        /// The layer to make; must not exist.
        layer: u128,
        /// How.
        mode: SnapshotMode,
    },
    /// The workspaces on disk, in order of id. Answered by [`Reply::Workspaces`].
    List {
        /// Only ids greater than this; 0 for the first page.
        after: u128,
    },
    /// The layers on disk, in order of id. Answered by [`Reply::Ids`].
    ListLayers {
        /// Only ids greater than this; 0 for the first page.
        after: u128,
    },
    /// What a workspace's own changes take. Answered by [`Reply::Usage`].
    Usage {
        /// The workspace.
        ws: u128,
    },
    /// What a layer takes. Answered by [`Reply::Usage`].
    LayerUsage {
        /// The layer.
        layer: u128,
    },
    /// Make the `/work` of a workspace that does not run, and stood on no layer, a tool, shown in
    /// every sandbox at once. It is safe on disk when answered.
    KeepTool {
        /// The workspace.
        ws: u128,
        /// The tool to make; must not exist.
        tool: u128,
    },
    /// The tools on disk, in order of id. Answered by [`Reply::Ids`].
    ListTools {
        /// Only ids greater than this; 0 for the first page.
        after: u128,
    },
    /// Delete a tool that nobody uses (the caller counts).
    RemoveTool {
        /// The tool.
        tool: u128,
    },
    /// What a tool takes. Answered by [`Reply::Usage`].
    ToolUsage {
        /// The tool.
        tool: u128,
    },
    /// The spool of a workspace, running or not. Answered by [`Reply::Spool`] with a descriptor.
    OpenSpool {
        /// The workspace.
        ws: u128,
    },
    /// Write everything of the data file system to disk. For a workspace that does not run, this
    /// also takes away the marker that would make its next start `unclean` after a host crash.
    Sync {
        /// The workspace.
        ws: u128,
    },
    /// Make a throw-away sandbox and say what this machine can do. Answered by
    /// [`Reply::Probed`].
    Probe,
    /// End the spawner; sandboxes live on.
    Shutdown,
}

/// How to make a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotMode {
    /// The workspace does not run: its changes become the layer by renaming, and it goes on with
    /// an empty set (the next start must name the layer as its first lower one).
    Rename,
    /// The workspace runs: it is frozen, its changes are copied (shared by reference where the
    /// file system can), and it goes on as it was.
    Copy,
}

/// How to start a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The workspace.
    pub ws: u128,
    /// How many times it was started, this one included; greater than ever before.
    pub generation: u64,
    /// The frozen layers below its own changes, the topmost first, at most [`LOWERS_MAX`].
    pub lowers: Vec<u128>,
    /// The repository whose bare mirror is shown at `/mirror`.
    pub mirror: Option<u128>,
    /// What its processes may use.
    pub limits: Limits,
    /// What it can reach.
    pub network: Network,
}

/// What the processes of one workspace may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes, swap excluded.
    pub memory_bytes: u64,
    /// Processes and threads at one time.
    pub processes: u32,
    /// Processor time in thousandths of one core; 0 means no limit.
    pub cpu_millis: u32,
    /// Size of `/tmp` in bytes (it also counts as memory); 0 means an eighth of the memory.
    pub tmp_bytes: u64,
    /// Disk that its own changes may take in bytes, kept where the file system has project quotas,
    /// and there with a limit on how many files that are ([`files_within`]); 0 means no limit.
    pub disk_bytes: u64,
}

/// How much disk stands for one file: below it, files are smaller than those of any real tree on
/// average, and what is used up are inodes, which a file system has a fixed number of.
const BYTES_OF_A_FILE: u64 = 8 << 10;

/// How many files and folders there may be within a limit on disk in bytes, where the file system
/// keeps both; 0, as there, is no limit.
pub const fn files_within(disk_bytes: u64) -> u64 {
    disk_bytes.div_ceil(BYTES_OF_A_FILE)
}

/// What a workspace can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Loopback only.
    None,
    /// Loopback, and the listeners ([`crate::fds::Listener`]) whose other side is the server.
    Egress,
}

/// What the spawner answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Not an answer: the spawner is up, with this much at hand.
    Ready(Ready),
    /// It is done.
    Done,
    /// The first process runs.
    Started(Started),
    /// A page of workspaces.
    Workspaces {
        /// In order of id.
        entries: Vec<Entry>,
        /// Whether there are more after the last.
        more: bool,
    },
    /// A page of layers or tools.
    Ids {
        /// In order.
        ids: Vec<u128>,
        /// Whether there are more after the last.
        more: bool,
    },
    /// What a workspace's own changes, a layer or a tool take on disk.
    Usage {
        /// Blocks in use, in bytes.
        bytes: u64,
        /// Files, folders and links.
        inodes: u64,
    },
    /// The spool is attached.
    Spool,
    /// What a throw-away sandbox showed.
    Probed(Report),
    /// It was refused or failed.
    Failed(Failure),
    /// Not an answer: this first process ended without a [`Request::Kill`]; its groups are gone.
    Exited {
        /// The workspace.
        ws: u128,
        /// Which start it was.
        generation: u64,
    },
}

/// What the spawner found when it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The level that sandboxes get.
    pub isolation: Isolation,
    /// What enforces the limits.
    pub limits: LimitsBy,
    /// Workspaces found running.
    pub running: u32,
}

/// A first process that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Its process id on the host.
    pub pid: u32,
    /// As asked.
    pub generation: u64,
    /// Whether a marker of an earlier boot says that the host went down while the workspace ran:
    /// its newest changes may be torn.
    pub unclean: bool,
    /// From the request to the namespaces, in microseconds.
    pub clone_us: u32,
    /// From the request to the first process's program running, in microseconds.
    pub total_us: u32,
}

/// One workspace on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The workspace.
    pub ws: u128,
    /// How many times it was started.
    pub generation: u64,
    /// The first process's id on the host; 0 when it does not run.
    pub pid: u32,
}
