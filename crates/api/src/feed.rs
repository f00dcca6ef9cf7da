//! The organization's feed: what a list or an inbox must know to stay current.

use boatyard_model::{
    AskAnswer, AskId, AskState, AttemptState, PermissionId, QuestionId, SessionId, SessionState,
    TaskId, Timestamp, ToolId, WorkspaceId, WorkspaceState,
    event::{NoticeLevel, PermissionOutcome},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::agent::ToolState;

/// One entry of the feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FeedEvent {
    /// Its place in the feed: rising, with gaps.
    pub seq: u64,
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub body: FeedBody,
}

/// What happened. `type` tells which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type")]
pub enum FeedBody {
    /// A task is new, or changed its state.
    #[serde(rename = "task.state")]
    TaskState {
        /// Which.
        task: TaskId,
        /// Its line.
        title: String,
        /// Its attempts' states taken together.
        state: AttemptState,
        /// The attempt that changed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        attempt: Option<u32>,
    },
    /// A session is new, or changed its state.
    #[serde(rename = "session.state")]
    SessionState {
        /// Which.
        session: SessionId,
        /// Where it works.
        workspace: WorkspaceId,
        /// Its state.
        state: SessionState,
        /// Why, where that is not plain.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// A workspace is new, or changed its state.
    #[serde(rename = "workspace.state")]
    WorkspaceState {
        /// Which.
        workspace: WorkspaceId,
        /// Its state.
        state: WorkspaceState,
    },
    /// An agent is being installed, or what is installed of it changed.
    #[serde(rename = "tool.state")]
    ToolState {
        /// Which.
        tool: ToolId,
        /// The agent's name, or `node` for the Node that agents run on.
        name: String,
        /// The version.
        version: String,
        /// Its state.
        state: ToolState,
        /// What an installation under way does.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        phase: Option<String>,
        /// Why it failed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// An agent asks to be allowed something.
    #[serde(rename = "permission.requested")]
    PermissionRequested {
        /// In which session.
        session: SessionId,
        /// Answer under this id.
        permission: PermissionId,
        /// What is to be allowed, in a line.
        title: String,
        /// No answer by then is a no.
        deadline: Timestamp,
    },
    /// A permission was answered, or will never be.
    #[serde(rename = "permission.resolved")]
    PermissionResolved {
        /// In which session.
        session: SessionId,
        /// Which.
        permission: PermissionId,
        /// How.
        outcome: PermissionOutcome,
    },
    /// An agent asks a person something.
    #[serde(rename = "question.asked")]
    QuestionAsked {
        /// In which session.
        session: SessionId,
        /// Answer under this id.
        question: QuestionId,
        /// What is asked.
        text: String,
        /// No answer by then ends the question without one.
        deadline: Timestamp,
    },
    /// A question was answered, or will never be.
    #[serde(rename = "question.answered")]
    QuestionAnswered {
        /// In which session.
        session: SessionId,
        /// Which.
        question: QuestionId,
    },
    /// A request of a workspace is held while a person is asked about it.
    #[serde(rename = "egress.asked")]
    EgressAsked {
        /// Answer under this id.
        ask: AskId,
        /// Where it comes from.
        workspace: WorkspaceId,
        /// The task that the workspace was made for.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        task: Option<TaskId>,
        /// Where it wants to go.
        host: String,
        /// The port.
        port: u16,
        /// Its method; none for a connection whose inside is not seen.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        method: Option<String>,
        /// No answer by then is a no.
        deadline: Timestamp,
    },
    /// A request that was held has its answer, or will never have one.
    #[serde(rename = "egress.answered")]
    EgressAnswered {
        /// Which.
        ask: AskId,
        /// Where it came from.
        workspace: WorkspaceId,
        /// What came of it.
        state: AskState,
        /// What was answered.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        answer: Option<AskAnswer>,
    },
    /// Something a person should know.
    #[serde(rename = "notice")]
    Notice {
        /// How grave.
        level: NoticeLevel,
        /// Stable, for programs: `disk_low`, `mirror_failed`, …
        code: String,
        /// For people.
        text: String,
    },
}

impl FeedBody {
    /// The value of `type`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TaskState { .. } => "task.state",
            Self::SessionState { .. } => "session.state",
            Self::WorkspaceState { .. } => "workspace.state",
            Self::ToolState { .. } => "tool.state",
            Self::PermissionRequested { .. } => "permission.requested",
            Self::PermissionResolved { .. } => "permission.resolved",
            Self::QuestionAsked { .. } => "question.asked",
            Self::QuestionAnswered { .. } => "question.answered",
            Self::EgressAsked { .. } => "egress.asked",
            Self::EgressAnswered { .. } => "egress.answered",
            Self::Notice { .. } => "notice",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_in_json_is_the_kind() {
        let body = FeedBody::WorkspaceState {
            workspace: WorkspaceId::new(),
            state: WorkspaceState::Awake,
        };
        let event = FeedEvent { seq: 3, time: Timestamp(0), body };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["type"], event.body.kind());
        assert_eq!(serde_json::from_value::<FeedEvent>(json).unwrap(), event);
    }
}
