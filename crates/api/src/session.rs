//! Sessions: conversations with an agent, their prompts, and what waits for a person.

use boatyard_model::{
    AgentOffers, AgentSettings, Autonomy, BlobId, Event, MemberId, PermissionId, PromptId,
    PromptMode, PromptState, QuestionId, SessionId, SessionState, TaskId, Timestamp, Visibility,
    WorkspaceId,
    event::{PermissionOption, Usage},
    name::AgentName,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Cursor, page::page};

/// A conversation to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// Where it works.
    pub workspace: WorkspaceId,
    /// The agent; the server's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub agent: Option<AgentName>,
    /// The model; the agent's own choice if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How much the agent may do without asking a person; as the settings say if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autonomy: Option<Autonomy>,
    /// What is set for the agent in this session alone, over what the repository and the
    /// organization set. `model` and `autonomy` go before those in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<AgentSettings>,
    /// The agent's folder: relative to `/work` or absolute below it; the checkout if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// A name of the client's choice, unique in the workspace, 1 to 200 characters: asked for
    /// again, it gives the same session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Who may see it beside its owner; as its workspace says if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
}

/// What to change about how a session's agent works. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionChange {
    /// One of the agent's own modes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How much it may do without asking a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autonomy: Option<Autonomy>,
    /// Who may see it: only its owner and admins decide that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
}

/// A conversation with an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The name that the client chose.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// Where it works.
    pub workspace: WorkspaceId,
    /// The task that it is an attempt at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task: Option<TaskId>,
    /// The agent.
    pub agent: String,
    /// The model that was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// What was set for it alone.
    #[serde(skip_serializing_if = "AgentSettings::is_empty", default)]
    pub settings: AgentSettings,
    /// What its agent was found to offer when it was last started: its version, its modes and
    /// models, and which it uses.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offers: Option<AgentOffers>,
    /// The agent's folder.
    pub cwd: String,
    /// Where it stands.
    pub state: SessionState,
    /// Turns begun so far.
    pub turns: u32,
    /// The newest event's sequence number; 0 if there is none.
    pub last_seq: u64,
    /// What it has used so far.
    pub usage: Usage,
    /// Permissions that wait for a person.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub permissions: Vec<PendingPermission>,
    /// Questions that wait for a person.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub questions: Vec<PendingQuestion>,
    /// Who pays for its models at this moment; absent in lists, and where no provider is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub payer: Option<SessionPayer>,
    /// Whose it is.
    pub owner: MemberId,
    /// Who may see it beside its owner.
    #[serde(default = "visible")]
    pub visibility: Visibility,
    /// When it began.
    pub created: Timestamp,
    /// When something last happened in it.
    pub updated: Timestamp,
}

/// Who pays for a session's models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionPayer {
    /// Whose key or subscription it is.
    pub by: PaidBy,
    /// The provider that is asked.
    pub provider: String,
    /// The person's connection, by its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connection: Option<String>,
}

/// Whose key or subscription models are asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaidBy {
    /// The organization's.
    Organization,
    /// The person's own whose session it is.
    Person,
    /// Nobody's: the scripted model costs nothing.
    Nobody,
}

/// A permission that waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PendingPermission {
    /// Answer under this id.
    pub id: PermissionId,
    /// The tool call that it is for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tool: Option<String>,
    /// What is to be allowed, in a line.
    pub title: String,
    /// What may be answered.
    pub options: Vec<PermissionOption>,
    /// No answer by then is a no.
    pub deadline: Timestamp,
}

/// A question that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingQuestion {
    /// Answer under this id.
    pub id: QuestionId,
    /// What is asked.
    pub text: String,
    /// Proposed answers; empty means free text.
    pub options: Vec<String>,
    /// No answer by then ends the question without one.
    pub deadline: Timestamp,
}

page! {
    /// A page of sessions. What waits for a person is told by [`Session`] alone, not in lists.
    SessionPage of Session;
    /// A page of prompts.
    PromptPage of Prompt;
}

/// Which sessions to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionFilter {
    /// Only those in this workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceId>,
    /// Only those in this state (`status` is taken as well).
    #[serde(alias = "status", skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub state: Option<SessionState>,
    /// At most so many, 1 to 200; 50 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where to go on: the `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}

/// Something to say to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPrompt {
    /// In Markdown; 1 byte to 1 MiB.
    pub text: String,
    /// Pictures that were uploaded as blobs, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<BlobId>,
    /// How it is to be taken when a turn is under way; `queue` if absent.
    #[serde(default = "queue")]
    pub mode: PromptMode,
}

/// What servers mean that tell no visibility.
pub(crate) const fn visible() -> Visibility {
    Visibility::Visible
}

const fn queue() -> PromptMode {
    PromptMode::Queue
}

/// What to change about a prompt that the agent does not have yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PromptUpdate {
    /// The new text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The new pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<BlobId>>,
    /// The new way to take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<PromptMode>,
}

/// What somebody said to a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Prompt {
    /// Its id.
    pub id: PromptId,
    /// To which session.
    pub session: SessionId,
    /// In Markdown.
    pub text: String,
    /// Pictures with it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub images: Vec<BlobId>,
    /// How it is to be taken when a turn is under way.
    pub mode: PromptMode,
    /// Where it stands.
    pub state: PromptState,
    /// The turn that it began or went into.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub turn: Option<u32>,
    /// Who said it, as shown to people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub author: Option<String>,
    /// When it was said.
    pub created: Timestamp,
    /// When the agent got it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delivered: Option<Timestamp>,
}

/// Which prompts to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PromptFilter {
    /// Only those in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub state: Option<PromptState>,
    /// At most so many, 1 to 200; 50 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where to go on: the `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}

/// What came of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stopped {
    /// Whether something ran.
    pub ran: bool,
    /// Milliseconds until every process was dead.
    pub millis: u64,
}

/// A person's answer to a permission request: an option of the agent's, or a plain yes or no.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PermissionAnswer {
    /// The id of the chosen option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub option: Option<String>,
    /// Yes or no, where the client does not care for the options: the first one that means it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Yes, this time.
    Allow,
    /// No, this time.
    Deny,
}

/// A person's answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuestionAnswer {
    /// One of the proposed answers, or free text; at most 64 KiB.
    pub answer: String,
}

/// From where to follow a stream of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FollowQuery {
    /// Begin after this event. `Last-Event-ID` goes before it; 0, the beginning, if both are
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// `false` ends the stream when everything that is stored has been sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
}

/// Which part of a transcript is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TranscriptQuery {
    /// The events after this one, the oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// The last events before this one; give either this or `after`. Without both, the last ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// At most so many, 1 to 1000; 200 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A part of a session's log, in order, without the deltas of what is whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Transcript {
    /// The events, the oldest first.
    pub events: Vec<Event>,
    /// The newest event's sequence number in the whole log; follow on from the last of `events`.
    pub last_seq: u64,
    /// Whether there are earlier ones than these.
    pub earlier: bool,
    /// Whether there are later ones than these.
    pub later: bool,
}
