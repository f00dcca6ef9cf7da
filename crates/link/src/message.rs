//! What runner and server say to each other.
//!
//! Every stream begins with a [`Header`] as JSON. What follows depends on its kind:
//!
//! | header | opened by | then |
//! |---|---|---|
//! | [`Header::Control`] | server | JSON messages: [`ToRunner`] one way, [`FromRunner`] the other |
//! | [`Header::Events`] | server | records ([`crate::record`]) from the runner, [`Ack`] messages back |
//! | [`Header::Exec`] | server | pieces ([`ExecChannel`]) both ways, ended by an exit; a reset kills |
//! | [`Header::Blob`] | server | the bytes of a picture that a prompt will name, then an [`Done`] message back |
//! | [`Header::File`] | server | a [`FileReply`] message, then bytes (read), or bytes first (write) |
//! | [`Header::Git`] | server | a [`GitReply`] message, then bytes (a patch, a pack) |
//!
//! JSON is used where a side may learn new fields: unknown fields are ignored, unknown kinds of
//! header are reset by the receiver, unknown requests are answered with a [`Failure`]. Bulk bytes
//! travel raw. The server treats everything that a runner sends as hostile.

use std::{collections::BTreeMap, net::SocketAddr};

mod git;
mod launch;

pub use boatyard_model::event::DiffFile;
use boatyard_model::{
    AgentOffers, BlobId, Content, EventBody, PermissionId, PromptId, QuestionId, SessionId,
    Timestamp, TurnOutcome,
};
pub use git::{GitAuthor, GitReply, GitRequest};
pub use launch::{AgentLaunch, AgentProtocol, PromptBy};
use serde::{Deserialize, Serialize};

/// The largest JSON message on any stream, in bytes: a prompt of a mebibyte with room around it.
pub const MESSAGE_MAX: usize = 4 << 20;

/// The first words of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stream", rename_all = "snake_case")]
pub enum Header {
    /// Requests of the server. One per link.
    Control,
    /// The runner's spool from a place on. One per link.
    Events {
        /// The last record that the server has stored; the runner goes on after it.
        after: Option<Position>,
    },
    /// A command in the workspace.
    Exec(ExecRequest),
    /// A picture for a later prompt of this link.
    Blob {
        /// Under which name the prompt will call it.
        blob: BlobId,
        /// Its kind, as `image/png`.
        mime: String,
        /// How many bytes follow.
        bytes: u64,
    },
    /// One operation on a file below `/work`.
    File(FileRequest),
    /// One git operation, run inside as the worker user.
    Git(GitRequest),
}

/// A place in what a workspace has said: the start of the workspace, and the record since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The workspace's generation: it counts the starts of its first process.
    pub epoch: u64,
    /// Counts the records of that generation from 1.
    pub n: u64,
}

/// The server has stored everything up to here: the spool may forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The last stored record.
    pub position: Position,
}

/// An operation without a result of its own went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// Why something could not be done, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure.
    pub code: FailureCode,
    /// For people; no secret, at most a few lines.
    pub message: String,
}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The request makes no sense to this runner.
    Unsupported,
    /// What was named does not exist.
    NotFound,
    /// Its state does not allow it.
    Conflict,
    /// The workspace's own content is at fault (not a repository, a path that leaves it, …).
    Workspace,
    /// The agent could not be started or broke its protocol.
    Agent,
    /// The deadline passed.
    Timeout,
    /// Somebody stopped it before it was done.
    Stopped,
    /// The runner is at fault.
    #[serde(other)]
    Internal,
}

// === control ===

/// A request of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToRunner {
    /// Given back in the answer.
    pub id: u64,
    /// What is wanted.
    pub request: Request,
}

/// What the runner says on the control stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromRunner {
    /// The answer to a request. Answers may overtake each other.
    Reply {
        /// Of the request.
        id: u64,
        /// How it went.
        result: Result<Reply, Failure>,
    },
}

/// What the server wants. Each is idempotent: asked twice, it is done once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a request lives for a moment, and one at a time")]
pub enum Request {
    /// What runs here? Answered by [`Reply::Status`].
    Status,
    /// Start an agent for a session (or find it running).
    OpenSession(OpenSession),
    /// Hand a turn's prompt to the agent. A turn that the runner has seen is not begun again.
    Prompt {
        /// In which session.
        session: SessionId,
        /// The turn's number: 1 above the last one of the session.
        turn: u32,
        /// What is said; pictures were sent as [`Header::Blob`] before.
        content: Vec<Content>,
    },
    /// Deliver a message into the running turn. Answered by [`Reply::Steered`] once delivered.
    Steer {
        /// In which session.
        session: SessionId,
        /// The turn that runs.
        turn: u32,
        /// The prompt's id, by which a repetition is known.
        prompt: PromptId,
        /// What is said.
        content: Vec<Content>,
    },
    /// Ask the agent to end the turn; its process goes on. The turn ends as `cancelled`.
    Cancel {
        /// In which session.
        session: SessionId,
    },
    /// End every process of the session: cancel first, its control group after 50 ms. Answered by
    /// [`Reply::Stopped`] when all are dead.
    Stop {
        /// Which session.
        session: SessionId,
        /// How the turn is to be recorded: `cancelled` or `limit_reached`.
        outcome: TurnOutcome,
    },
    /// End the session's processes and forget it.
    CloseSession {
        /// Which session.
        session: SessionId,
    },
    /// What a person (or the deadline) decided.
    AnswerPermission {
        /// In which session.
        session: SessionId,
        /// Which permission.
        permission: PermissionId,
        /// The chosen option; none is a no.
        option: Option<String>,
    },
    /// What a person answered.
    AnswerQuestion {
        /// In which session.
        session: SessionId,
        /// Which question.
        question: QuestionId,
        /// The answer; none if there will be none.
        answer: Option<String>,
    },
    /// Choose one of the agent's own modes; what comes of it is told by [`RecordKind::Offers`], a
    /// refusal by a notice.
    SetMode {
        /// In which session.
        session: SessionId,
        /// The mode's id.
        mode: String,
    },
    /// Choose one of the agent's models; told as the mode is.
    SetModel {
        /// In which session.
        session: SessionId,
        /// The model's id.
        model: String,
    },
    /// Which program has this connection? Answered by [`Reply::Program`].
    WhoConnects {
        /// The program's end, inside.
        own: SocketAddr,
        /// Where it wanted to go; one of the listeners inside if absent.
        #[serde(default)]
        to: Option<SocketAddr>,
    },
    /// End all agents and commands in order, before the workspace sleeps.
    Quiesce,
}

/// How to start an agent for a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenSession {
    /// The session.
    pub session: SessionId,
    /// The agent.
    pub agent: AgentLaunch,
    /// Where it works: an absolute path below `/work`.
    pub cwd: String,
    /// Its home folder: an absolute path below `/home`.
    pub home: String,
    /// The conversation to take up again.
    #[serde(default)]
    pub resume: Option<Resume>,
    /// The conversation so far as text, for an agent that can't take it up again by itself.
    #[serde(default)]
    pub seed: Option<String>,
    /// The last turn that the server knows of: the next prompt is one above.
    pub last_turn: u32,
    /// Repository below `/work` of which a checkpoint is made at each turn's end.
    pub checkpoint: Option<String>,
}

/// A conversation that an agent is to take up again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The agent's own id of it.
    pub id: String,
    /// When it was begun, where that is known.
    #[serde(default)]
    pub begun: Option<Timestamp>,
}

/// What the runner answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// What runs here.
    Status(Status),
    /// The session stands.
    SessionOpen {
        /// The agent's own id of the conversation, for later resumption.
        agent_session: Option<String>,
        /// The wanted conversation was taken up again.
        resumed: bool,
        /// What the agent was found to offer.
        #[serde(default)]
        offers: AgentOffers,
    },
    /// The message was delivered into the turn.
    Steered {
        /// By cancelling the turn at a tool boundary and prompting again.
        restarted: bool,
    },
    /// The program that was asked for.
    Program {
        /// None when it is gone, or can't be told.
        found: Option<Program>,
    },
    /// Every process of the session is dead.
    Stopped {
        /// Milliseconds from the request.
        millis: u64,
    },
}

/// A program in a workspace, as it calls itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The file that it runs, without its folder.
    pub name: String,
    /// Its process id, inside.
    pub pid: u32,
    /// The session that it belongs to, if it was started by one.
    #[serde(default)]
    pub session: Option<SessionId>,
}

/// What runs in a workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The workspace's generation.
    pub generation: u64,
    /// Its sessions.
    pub sessions: Vec<SessionStatus>,
    /// Commands under way.
    pub execs: u32,
}

/// Where a session stands in the runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The session.
    pub session: SessionId,
    /// The turn under way.
    pub turn: Option<u32>,
    /// The last turn that the runner has seen, running or over.
    pub last_turn: u32,
    /// The agent's own id of the conversation.
    pub agent_session: Option<String>,
}

// === events ===

/// A record of the spool, as it crosses the link: `u32 length of all that follows, u32 length of
/// the JSON, JSON, bytes`. Only a blob has bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its place.
    pub position: Position,
    /// Whose it is.
    pub session: SessionId,
    /// When it happened.
    pub time: Timestamp,
    /// In which turn.
    pub turn: Option<u32>,
    /// What it is.
    pub what: RecordKind,
}

/// What a record is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every record is an event; whether it counts as large depends on what else is in the build"
)]
pub enum RecordKind {
    /// Something happened.
    Event(EventBody),
    /// Bytes that a later event refers to: a picture, a large output.
    Blob {
        /// The name that the event uses, given by the runner.
        blob: BlobId,
        /// Its kind.
        mime: String,
    },
    /// The agent's own id of the conversation became known or changed.
    AgentSession(String),
    /// What the agent was found to offer, or what of it has changed: the whole of it.
    Offers(AgentOffers),
}

/// The largest record, in bytes, with its blob.
pub const RECORD_MAX: usize = 24 << 20;

// === exec ===

/// A command to run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments; never a shell line.
    pub command: Vec<String>,
    /// Variables beside the ones that every process of a workspace has.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// An absolute path below `/work` or `/home`; `/work` if absent.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Kill it after so many milliseconds.
    #[serde(default)]
    pub deadline_millis: Option<u64>,
    /// Whether standard input will be sent; else it is empty.
    #[serde(default)]
    pub stdin: bool,
}

/// A piece of an exec stream: `u8 channel, u32 length, bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExecChannel {
    /// To the command; an empty piece ends its input.
    Stdin = 0,
    /// From the command.
    Stdout = 1,
    /// From the command.
    Stderr = 2,
    /// The last piece: [`ExecExit`] as JSON.
    Exit = 3,
}

/// The largest piece of an exec stream, in bytes.
pub const EXEC_PIECE_MAX: usize = 64 << 10;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The deadline passed and it was killed.
    TimedOut,
    /// It could not be started.
    NotStarted {
        /// Why.
        message: String,
    },
}

// === file ===

/// An operation on one file. Paths are relative to `/work`; a path that leaves it is refused,
/// whatever links lie on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum FileRequest {
    /// [`FileReply::Found`], then its bytes.
    Read {
        /// Which.
        path: String,
        /// At most so many bytes; a larger file is refused.
        max: u64,
    },
    /// Bytes until the stream's end, then [`FileReply::Found`]. Written beside and renamed.
    Write {
        /// Which; missing folders are made.
        path: String,
        /// Whether it may be run.
        executable: bool,
    },
    /// [`FileReply::Listing`].
    List {
        /// A folder.
        path: String,
    },
}

/// The answer to a [`FileRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum FileReply {
    /// A file.
    Found {
        /// Its size.
        bytes: u64,
    },
    /// A folder's entries, by name, at most 10,000.
    Listing {
        /// Them.
        entries: Vec<FileEntry>,
        /// Whether there are more.
        cut: bool,
    },
    /// It could not be done.
    Failed(Failure),
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name, with what is not UTF-8 replaced.
    pub name: String,
    /// `file`, `folder`, `link` or `other`.
    pub kind: String,
    /// Its size.
    pub bytes: u64,
}
