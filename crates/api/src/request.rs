//! What left workspaces: the log of it, and requests that wait for a person.

use boatyard_model::{
    AskAnswer, AskId, AskState, OrganizationId, RepositoryId, RequestVerdict, RequestWay,
    SessionId, TaskId, Timestamp, WorkspaceId,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Cursor, page::page};

/// A request that is held while a person is asked about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ask {
    /// Answer under this id.
    pub id: AskId,
    /// Where it comes from.
    pub workspace: WorkspaceId,
    /// The repository in that workspace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub repository: Option<RepositoryId>,
    /// The task that the workspace was made for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task: Option<TaskId>,
    /// The session that ran there, where there was one alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<SessionId>,
    /// Where it stands.
    pub state: AskState,
    /// Its method; none for a connection whose inside is not seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub method: Option<String>,
    /// Where it wants to go.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Its path without the query, where it is seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// The paths that an answer is for that lasts: with `*` at its end everything that begins so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub paths: Option<String>,
    /// The rule that says to ask.
    pub rule: String,
    /// The credential that would go with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub credential: Option<String>,
    /// The program that asks, where it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub program: Option<String>,
    /// Requests that wait for it now; none after a restart of the server, or when it is over.
    pub waiting: u32,
    /// What was answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answer: Option<AskAnswer>,
    /// Who answered, as shown to people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    /// The rule that the answer made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub made: Option<String>,
    /// When it was asked.
    pub created: Timestamp,
    /// No answer by then is a no.
    pub deadline: Timestamp,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resolved: Option<Timestamp>,
}

/// A person's answer to a request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskReply {
    /// `once`: yes to what waits now; `ten_minutes`, `workspace`, `repository`: yes, and for as
    /// long or as far; `no`: no to what waits now; `never`: no, in this workspace from now on.
    pub answer: AskAnswer,
}

/// One request or tunnel, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestEntry {
    /// Its place in the log: rising, in the order in which requests ended.
    pub number: u64,
    /// When it began.
    pub time: Timestamp,
    /// Whose workspace it came from.
    pub organization: OrganizationId,
    /// Where it came from.
    pub workspace: WorkspaceId,
    /// The session that ran there, where there was one alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<SessionId>,
    /// The task that the workspace was made for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task: Option<TaskId>,
    /// By which way it left.
    pub way: RequestWay,
    /// The program inside, where it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub program: Option<String>,
    /// `CONNECT` for a tunnel, or its method.
    pub method: String,
    /// The host as it was asked for; empty where the request named none.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path without its query, for a request that could be seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// What became of it.
    pub verdict: RequestVerdict,
    /// The rule that decided, or came nearest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<String>,
    /// Why it was refused or failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The credential that was added on the way.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub credential: Option<String>,
    /// The status of the answer, where there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// Bytes from the workspace.
    pub sent: u64,
    /// Bytes to the workspace.
    pub received: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
}

page! {
    /// A page of requests that wait, or waited, for a person.
    AskPage of Ask;
    /// A page of the log.
    RequestPage of RequestEntry;
}

/// Which asks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AskFilter {
    /// Only those in this state (`status` is taken as well).
    #[serde(alias = "status", skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub state: Option<AskState>,
    /// Only those of this workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceId>,
    /// At most so many, 1 to 200; 50 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where to go on: the `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}

/// Which requests of the log are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RequestFilter {
    /// Only those from this workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceId>,
    /// Only those of this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Only those of this task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Only those to this host; `*.example.com` for those below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only those that ended so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub verdict: Option<RequestVerdict>,
    /// Only those by this way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub way: Option<RequestWay>,
    /// Only those that this rule decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Only those of this program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Only those that began at this time or later (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Only those that began before this time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// At most so many, 1 to 200; 50 if absent. An export has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where to go on: the `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}

/// What requests are added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestGroup {
    /// What became of them.
    #[default]
    Verdict,
    /// Where they went.
    Host,
    /// The rule that decided.
    Rule,
    /// Where they came from.
    Workspace,
    /// The program that asked.
    Program,
}

/// What to add up, and in what steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RequestSummaryQuery {
    /// What requests are told apart by; what became of them if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub by: Option<RequestGroup>,
    /// The length of a step in seconds; by itself about a sixtieth of the time if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// Only those from this workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceId>,
    /// Only those of this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Only those of this task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Only those to this host; `*.example.com` for those below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only those that ended so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub verdict: Option<RequestVerdict>,
    /// Only those by this way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub way: Option<RequestWay>,
    /// From this time on (RFC 3339); a day before `to` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Before this time (RFC 3339); now if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// Requests added up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestSum {
    /// When the step begins; absent where all of the time is taken together.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time: Option<Timestamp>,
    /// The verdict, host, rule, workspace or program; empty where there is none.
    pub key: String,
    /// How many.
    pub count: u64,
    /// How many of them were refused.
    pub refused: u64,
    /// Bytes from workspaces.
    pub sent: u64,
    /// Bytes to workspaces.
    pub received: u64,
}

/// Requests added up over a time: as a whole, and in steps for a chart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestSummary {
    /// From this time on.
    pub from: Timestamp,
    /// Before this time.
    pub to: Timestamp,
    /// The length of a step in seconds.
    pub step: u32,
    /// The sums over all of the time, the most frequent first; at most 50.
    pub totals: Vec<RequestSum>,
    /// The sums of each step that has any, the oldest first.
    pub steps: Vec<RequestSum>,
    /// Requests since the server's start that the log lacks: more came at once than could be
    /// written.
    pub dropped: u64,
}
