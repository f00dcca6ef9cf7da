//! Workspaces: files, commands, git.

use std::collections::BTreeMap;

use boatyard_model::{
    LayerId, MemberId, RepositoryId, SessionId, TaskId, Timestamp, Visibility, WorkspaceId,
    WorkspaceKind, WorkspaceLimits, WorkspaceState,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    Cursor, Revision,
    page::page,
    task::{Reason, WorkspaceLimitsWanted},
};

/// A workspace to make.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewWorkspace {
    /// A name for people, at most 100 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A repository to check out, as in a task; none makes an empty workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Where the checkout begins; the head of the default branch if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Revision>,
    /// What it may use; the server's settings where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<WorkspaceLimitsWanted>,
    /// What it may reach beside what every workspace may: presets, or rules in a line as
    /// `GET api.example.com/v1/*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<String>,
    /// Who may see it beside its owner, with its sessions; as the organization says if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
}

/// What to change about a workspace. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceChange {
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who may see it, with its sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
}

/// The place where work happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Who made it.
    pub kind: WorkspaceKind,
    /// Where it stands.
    pub state: WorkspaceState,
    /// Why it failed, and what to do next.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Reason>,
    /// The runtime that made it.
    pub runtime: String,
    /// The isolation that it got at its last start: `full`, `full-v1`, `rootless`,
    /// `rootless-1uid`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub isolation: Option<String>,
    /// Whether its files were recovered from a checkpoint after a crash of the host.
    #[serde(default)]
    pub recovered: bool,
    /// The repository that is checked out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub repository: Option<RepositoryId>,
    /// The folder below `/work` that the repository is in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub folder: Option<String>,
    /// The commit that the checkout began at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_commit: Option<String>,
    /// The task whose attempt works here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task: Option<TaskId>,
    /// The workspace that it was forked from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub forked_from: Option<WorkspaceId>,
    /// What it may use.
    pub limits: WorkspaceLimits,
    /// What its own files take on disk, in bytes, when that was last looked at: while it is awake
    /// now and then, and when it stops.
    #[serde(default)]
    pub disk_bytes: u64,
    /// How often its first process was started.
    pub generation: u64,
    /// Whose it is.
    pub owner: MemberId,
    /// Who may see it beside its owner.
    #[serde(default = "crate::session::visible")]
    pub visibility: Visibility,
    /// When it was made.
    pub created: Timestamp,
    /// When something last happened in it.
    pub used: Timestamp,
}

page! {
    /// A page of workspaces.
    WorkspacePage of Workspace;
}

/// Which workspaces to list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WorkspaceFilter {
    /// Only those in this state (`status` is taken as well); deleted ones are listed only so.
    #[serde(alias = "status", skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub state: Option<WorkspaceState>,
    /// At most so many, 1 to 200; 50 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where to go on: the `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}

/// How to fork a workspace. The fork sleeps until somebody wants something of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForkRequest {
    /// A name for the new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which moment to fork; the present one if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<ForkPoint>,
}

/// A moment in a session's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkPoint {
    /// The session.
    pub session: SessionId,
    /// The end of this turn. Give either this or `event`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<u32>,
    /// This event: the nearest checkpoint before it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
}

/// A frozen state of a workspace's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Its id.
    pub id: LayerId,
    /// The workspace that it was taken of.
    pub workspace: WorkspaceId,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// When it was taken.
    pub created: Timestamp,
}

/// A command to run in a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// Program and arguments; no shell is involved.
    pub command: Vec<String>,
    /// Variables beside the ones that every process of a workspace has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// An absolute path below `/work` or `/home`; the checkout if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Kill it after so many seconds; 60 if absent, at most 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// Text for its standard input; empty if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum ExecExit {
    /// By itself.
    Exited {
        /// Its code.
        code: i32,
    },
    /// By a signal.
    Signalled {
        /// Which.
        signal: i32,
    },
    /// The time was over and it was killed.
    TimedOut,
    /// It could not be started.
    NotStarted {
        /// Why.
        message: String,
    },
}

impl ExecExit {
    /// The code that a shell would report.
    pub const fn shell_code(&self) -> i32 {
        match self {
            Self::Exited { code } => *code,
            Self::Signalled { signal } => 128 + *signal,
            Self::TimedOut => 124,
            Self::NotStarted { .. } => 127,
        }
    }
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecResult {
    /// How it ended.
    pub exit: ExecExit,
    /// What it wrote, with what is not UTF-8 replaced; cut at 1 MiB.
    pub stdout: String,
    /// What it wrote as errors; cut at 1 MiB.
    pub stderr: String,
    /// Whether either was cut.
    pub cut: bool,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// A piece of a running command's output, when the answer is a stream of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecOutput {
    /// It wrote this.
    Stdout {
        /// With what is not UTF-8 replaced.
        text: String,
    },
    /// It wrote this as an error.
    Stderr {
        /// With what is not UTF-8 replaced.
        text: String,
    },
    /// It is over; the last piece.
    Exit {
        /// How.
        exit: ExecExit,
        /// How long it took, in milliseconds.
        millis: u64,
    },
}

/// A file or folder of a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FolderQuery {
    /// Relative to `/work`; `/work` itself if absent.
    pub path: String,
}

/// A file of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FileQuery {
    /// Relative to `/work`.
    pub path: String,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WriteFileQuery {
    /// Relative to `/work`; missing folders are made.
    pub path: String,
    /// Whether it may be run; no if absent.
    #[serde(default)]
    pub executable: bool,
}

/// The largest file that is read or written in one request, in bytes.
pub const FILE_MAX: u64 = 64 << 20;

/// A folder's entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileListing {
    /// By name, at most 10,000.
    pub entries: Vec<FileEntry>,
    /// Whether there are more.
    pub cut: bool,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileEntry {
    /// Its name, with what is not UTF-8 replaced.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What an entry of a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A socket, a pipe, a device.
    #[serde(other)]
    Other,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WrittenFile {
    /// Relative to `/work`.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Which difference of a workspace's repository is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WorkspaceDiffQuery {
    /// From here; the commit that the checkout began at if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub base: Option<Revision>,
    /// To here; the files as they are now if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub head: Option<Revision>,
    /// Lines of context, at most 1000; 3 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
}

/// How much of a repository's history is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WorkspaceLogQuery {
    /// At most so many commits, 1 to 200; 50 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Commits of a workspace's repository, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommitList {
    /// Them.
    pub items: Vec<Commit>,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Commit {
    /// Its object id.
    pub id: String,
    /// Its parents' object ids.
    pub parents: Vec<String>,
    /// Who wrote it.
    pub author: String,
    /// Their mail address.
    pub email: String,
    /// When, as the commit says.
    pub time: Timestamp,
    /// Its first line.
    pub subject: String,
}
