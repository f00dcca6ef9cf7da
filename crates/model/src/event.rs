//! The one vocabulary of what happens in a session.
//!
//! It follows the Agent Client Protocol's session updates in the semantics of its second version:
//! things have ids and are upserted (a later event about the same message or tool replaces what
//! the client knew), tools belong to the agent. The runner makes most of them; the server makes
//! `turn.started`, `session.state`, `permission.resolved`, `question.answered` and `egress.…`, and
//! gives each its sequence number when it stores it.
//!
//! When a message, a thought or a tool completes, the completing event carries the whole and the
//! server drops the deltas before it: sequence numbers may have gaps, order never changes.

mod kind;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    id::{AskId, BlobId, PermissionId, PromptId, QuestionId, SessionId},
    request::{AskAnswer, AskState},
    state::{PromptMode, SessionState, TurnOutcome},
    time::Timestamp,
};

/// One entry of a session's append-only log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// The session it belongs to.
    pub session: SessionId,
    /// Its place in the session's log: rising, with gaps.
    pub seq: u64,
    /// When it happened, by the clock of the process that saw it.
    pub time: Timestamp,
    /// The turn it belongs to, counted from 1; none between turns.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub turn: Option<u32>,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// A piece of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    /// Words.
    Text {
        /// In Markdown.
        text: String,
    },
    /// A picture that was uploaded as a blob.
    Image {
        /// Its bytes.
        blob: BlobId,
        /// `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
        mime: String,
    },
}

/// What happened. `type` tells which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type")]
pub enum EventBody {
    /// A prompt was handed to the agent.
    #[serde(rename = "turn.started")]
    TurnStarted {
        /// The prompt that began it.
        prompt: PromptId,
        /// What was said.
        content: Vec<Content>,
        /// How it arrived.
        mode: PromptMode,
        /// Whose prompt it is, as shown to people.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        author: Option<String>,
    },
    /// A prompt was delivered into the running turn.
    #[serde(rename = "turn.steered")]
    TurnSteered {
        /// The prompt that was delivered.
        prompt: PromptId,
        /// What was said.
        content: Vec<Content>,
        /// The agent could not take it in mid-turn: the turn was cancelled at the tool boundary
        /// and begun again with this message.
        restarted: bool,
    },
    /// A piece of what the agent says.
    #[serde(rename = "message.delta")]
    MessageDelta {
        /// Groups the pieces of one message.
        message: String,
        /// Markdown to append.
        text: String,
    },
    /// A message is whole.
    #[serde(rename = "message.completed")]
    MessageCompleted {
        /// The id that its deltas had.
        message: String,
        /// All of it; cut at 256 KiB, with the rest in `blob`.
        text: String,
        /// The whole text where it was cut.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        blob: Option<BlobId>,
    },
    /// A piece of what the agent thinks.
    #[serde(rename = "thought.delta")]
    ThoughtDelta {
        /// Groups the pieces of one thought.
        thought: String,
        /// Markdown to append.
        text: String,
    },
    /// A thought is whole.
    #[serde(rename = "thought.completed")]
    ThoughtCompleted {
        /// The id that its deltas had.
        thought: String,
        /// All of it.
        text: String,
    },
    /// The agent began to use a tool.
    #[serde(rename = "tool.started")]
    ToolStarted {
        /// The tool call.
        #[serde(flatten)]
        tool: ToolCall,
    },
    /// More is known about a tool call: replace the fields that are set, append `output`.
    #[serde(rename = "tool.updated")]
    ToolUpdated {
        /// The tool call.
        #[serde(flatten)]
        tool: ToolCall,
    },
    /// A tool call is over; carries the whole of it.
    #[serde(rename = "tool.completed")]
    ToolCompleted {
        /// The tool call.
        #[serde(flatten)]
        tool: ToolCall,
        /// How it ended.
        status: ToolStatus,
        /// A command's exit code, where known.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        exit_code: Option<i32>,
        /// The whole output where `output` was cut.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        output_blob: Option<BlobId>,
    },
    /// The agent's plan; replaces the one before.
    #[serde(rename = "plan")]
    Plan {
        /// Its steps, in order.
        entries: Vec<PlanEntry>,
    },
    /// The agent asks to be allowed something; the turn waits.
    #[serde(rename = "permission.requested")]
    PermissionRequested {
        /// Answer under this id.
        permission: PermissionId,
        /// The tool call that it is for.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        tool: Option<String>,
        /// What is to be allowed, in a line.
        title: String,
        /// What may be answered.
        options: Vec<PermissionOption>,
        /// No answer by then is a no.
        deadline: Timestamp,
    },
    /// A permission was answered, or will never be.
    #[serde(rename = "permission.resolved")]
    PermissionResolved {
        /// Which.
        permission: PermissionId,
        /// How.
        outcome: PermissionOutcome,
        /// The option that was chosen.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        option: Option<String>,
        /// Who answered, as shown to people.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        by: Option<String>,
    },
    /// The agent asks a person something; the turn waits.
    #[serde(rename = "question.asked")]
    QuestionAsked {
        /// Answer under this id.
        question: QuestionId,
        /// What is asked.
        text: String,
        /// Proposed answers; empty means free text.
        options: Vec<String>,
        /// No answer by then ends the question without one.
        deadline: Timestamp,
    },
    /// A question was answered, or will never be.
    #[serde(rename = "question.answered")]
    QuestionAnswered {
        /// Which.
        question: QuestionId,
        /// What was said; none if nobody answered.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        answer: Option<String>,
        /// Who answered, as shown to people.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        by: Option<String>,
    },
    /// What the session has used so far; replaces the one before.
    #[serde(rename = "usage")]
    Usage {
        /// Totals.
        #[serde(flatten)]
        usage: Usage,
    },
    /// A file of the workspace differs from what it was before the turn.
    #[serde(rename = "file.changed")]
    FileChanged {
        /// Below the repository.
        path: String,
        /// In what way.
        change: FileChange,
        /// Lines added; none for a binary file.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        added: Option<u32>,
        /// Lines removed; none for a binary file.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        removed: Option<u32>,
    },
    /// A commit was made: the agent's own, a checkpoint at a turn's end, or the result.
    #[serde(rename = "git.commit")]
    GitCommit {
        /// Its object id.
        commit: String,
        /// Why it was made.
        kind: CommitKind,
        /// Its first line.
        subject: String,
    },
    /// A request of the workspace was refused.
    #[serde(rename = "egress.blocked")]
    EgressBlocked {
        /// Where it wanted to go.
        host: String,
        /// The port.
        port: u16,
        /// Which rule refused it.
        rule: String,
    },
    /// A request of the workspace is held while a person is asked about it.
    #[serde(rename = "egress.asked")]
    EgressAsked {
        /// Answer under this id.
        ask: AskId,
        /// Where it wants to go.
        host: String,
        /// The port.
        port: u16,
        /// Its method; none for a connection whose inside is not seen.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        method: Option<String>,
        /// Its path without the query, where it is seen.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        path: Option<String>,
        /// The program that asks, where it is known.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        program: Option<String>,
        /// The credential that would go with it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        credential: Option<String>,
        /// Which rule says to ask.
        rule: String,
        /// No answer by then is a no.
        deadline: Timestamp,
    },
    /// A request that was held has its answer, or will never have one.
    #[serde(rename = "egress.answered")]
    EgressAnswered {
        /// Which.
        ask: AskId,
        /// What came of it.
        state: AskState,
        /// What was answered.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        answer: Option<AskAnswer>,
        /// Who answered, as shown to people.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        by: Option<String>,
    },
    /// A request of the workspace was refused because of a credential's placeholder in it.
    #[serde(rename = "egress.placeholder")]
    EgressPlaceholder {
        /// Where it wanted to go.
        host: String,
        /// The port.
        port: u16,
        /// What people call the credential, if it is known which one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        connection: Option<String>,
        /// Why it was refused.
        reason: String,
    },
    /// A turn is over.
    #[serde(rename = "turn.completed")]
    TurnCompleted {
        /// How.
        outcome: TurnOutcome,
        /// What went wrong, and what to do next.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<String>,
        /// The checkpoint of the files at its end.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        checkpoint: Option<String>,
        /// Milliseconds from the prompt to the end.
        millis: u64,
    },
    /// The session changed its state.
    #[serde(rename = "session.state")]
    SessionState {
        /// The new state.
        state: SessionState,
        /// Why, where that is not plain.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// Something a person should know: a phase of preparation with its time, a retry of the
    /// provider, a limit, a loss.
    #[serde(rename = "notice")]
    Notice {
        /// How grave.
        level: NoticeLevel,
        /// Stable, for programs: `phase`, `retry`, `demo_agent`, `setup_failed`, …
        code: String,
        /// For people.
        text: String,
        /// Figures and names behind the text.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        #[schema(value_type = Option<Object>)]
        data: Option<serde_json::Value>,
    },
}

/// One use of a tool by the agent. Fields that are not known yet are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolCall {
    /// The agent's id for it, unique in the session.
    pub tool: String,
    /// The call of a sub-agent that made this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<String>,
    /// What it does, roughly.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<ToolKind>,
    /// In a line: the command, the path, the search.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub title: Option<String>,
    /// The tool's arguments as the agent gave them, cut at 64 KiB.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
    pub input: Option<serde_json::Value>,
    /// Text that it printed; in `tool.updated` only what is new, cut at 64 KiB in `tool.completed`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<String>,
    /// Edits of files that it proposes or made.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub diffs: Vec<ToolDiff>,
    /// Files that it touches.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub locations: Vec<String>,
    /// Pictures that it returned.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub images: Vec<BlobId>,
}

/// An edit of one file as the agent's tool tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolDiff {
    /// As the agent names it.
    pub path: String,
    /// The text before; none for a new file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old: Option<String>,
    /// The text after.
    pub new: String,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanEntry {
    /// What is to be done.
    pub text: String,
    /// How far it is.
    pub status: PlanStatus,
}

/// An answer that the agent takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PermissionOption {
    /// Sent back when chosen.
    pub id: String,
    /// Shown on the button.
    pub name: String,
    /// What it means, whatever its name.
    pub kind: PermissionKind,
}

/// What a session has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Usage {
    /// Tokens read by the model, without cached ones.
    pub input_tokens: u64,
    /// Tokens written by the model.
    pub output_tokens: u64,
    /// Tokens read from the provider's cache.
    pub cached_tokens: u64,
    /// Tokens in the model's context now.
    pub context_used: u64,
    /// How many fit.
    pub context_size: u64,
    /// Money in US dollars, where the agent tells.
    pub cost_usd: Option<f64>,
}

/// A file of a difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiffFile {
    /// Its path.
    pub path: String,
    /// Its path before, where it was renamed.
    #[serde(default)]
    pub old_path: Option<String>,
    /// In what way it differs.
    pub change: FileChange,
    /// Lines added; none for a binary file.
    #[serde(default)]
    pub added: Option<u32>,
    /// Lines removed; none for a binary file.
    #[serde(default)]
    pub removed: Option<u32>,
}

macro_rules! word {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
    )*};
}

word! {
    /// What a tool does, roughly (ACP's kinds).
    ToolKind {
        /// Reads a file.
        Read,
        /// Changes a file.
        Edit,
        /// Removes a file.
        Delete,
        /// Moves a file.
        Move,
        /// Searches.
        Search,
        /// Runs a command.
        Execute,
        /// Thinks or plans.
        Think,
        /// Fetches from outside.
        Fetch,
        /// Changes the agent's mode.
        SwitchMode,
        /// Anything else.
        Other,
    }

    /// How a tool call ended.
    ToolStatus {
        /// Well.
        Completed,
        /// Badly.
        Failed,
        /// The turn ended before it did.
        Cancelled,
    }

    /// How far a step of a plan is.
    PlanStatus {
        /// Not begun.
        Pending,
        /// Under way.
        InProgress,
        /// Done.
        Completed,
    }

    /// What an answer to a permission means.
    PermissionKind {
        /// Yes, now.
        AllowOnce,
        /// Yes, from now on.
        AllowAlways,
        /// No, now.
        RejectOnce,
        /// No, from now on.
        RejectAlways,
    }

    /// How a permission was resolved.
    PermissionOutcome {
        /// Somebody said yes.
        Allowed,
        /// Somebody said no.
        Denied,
        /// Nobody answered in time, which is a no.
        Expired,
        /// The agent withdrew it, or the turn ended first.
        Cancelled,
    }

    /// In what way a file differs.
    FileChange {
        /// It is new.
        Added,
        /// Its content differs.
        Modified,
        /// It is gone.
        Deleted,
        /// It has another name.
        Renamed,
    }

    /// Why a commit was made.
    CommitKind {
        /// By the agent.
        Agent,
        /// Of the files at a turn's end, beside the branch.
        Checkpoint,
        /// Of what was left when the attempt was done.
        Result,
    }

    /// How grave a notice is.
    NoticeLevel {
        /// For information.
        Info,
        /// Something did not go as it should.
        Warning,
        /// Something failed.
        Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_in_json_is_the_kind() {
        let event = Event {
            session: SessionId::new(),
            seq: 7,
            time: Timestamp(0),
            turn: Some(1),
            body: EventBody::ToolCompleted {
                tool: ToolCall {
                    tool: "t1".into(),
                    output: Some("ok".into()),
                    ..ToolCall::default()
                },
                status: ToolStatus::Completed,
                exit_code: Some(0),
                output_blob: None,
            },
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["type"], event.body.kind());
        assert_eq!(json["tool"], "t1");
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}
