//! What kind of event a body is, and which belong together.

use super::EventBody;

impl EventBody {
    /// The value of `type`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TurnStarted { .. } => "turn.started",
            Self::TurnSteered { .. } => "turn.steered",
            Self::MessageDelta { .. } => "message.delta",
            Self::MessageCompleted { .. } => "message.completed",
            Self::ThoughtDelta { .. } => "thought.delta",
            Self::ThoughtCompleted { .. } => "thought.completed",
            Self::ToolStarted { .. } => "tool.started",
            Self::ToolUpdated { .. } => "tool.updated",
            Self::ToolCompleted { .. } => "tool.completed",
            Self::Plan { .. } => "plan",
            Self::PermissionRequested { .. } => "permission.requested",
            Self::PermissionResolved { .. } => "permission.resolved",
            Self::QuestionAsked { .. } => "question.asked",
            Self::QuestionAnswered { .. } => "question.answered",
            Self::Usage { .. } => "usage",
            Self::FileChanged { .. } => "file.changed",
            Self::GitCommit { .. } => "git.commit",
            Self::EgressBlocked { .. } => "egress.blocked",
            Self::EgressAsked { .. } => "egress.asked",
            Self::EgressAnswered { .. } => "egress.answered",
            Self::EgressPlaceholder { .. } => "egress.placeholder",
            Self::TurnCompleted { .. } => "turn.completed",
            Self::SessionState { .. } => "session.state",
            Self::Notice { .. } => "notice",
        }
    }

    /// The message, thought or tool that this event upserts. Events that share it are grouped:
    /// a completing one replaces the deltas before it.
    pub fn item(&self) -> Option<&str> {
        match self {
            Self::MessageDelta { message, .. } | Self::MessageCompleted { message, .. } => {
                Some(message)
            }
            Self::ThoughtDelta { thought, .. } | Self::ThoughtCompleted { thought, .. } => {
                Some(thought)
            }
            Self::ToolStarted { tool }
            | Self::ToolUpdated { tool }
            | Self::ToolCompleted { tool, .. } => Some(&tool.tool),
            _ => None,
        }
    }

    /// The kind of the events about the same item that this one makes superfluous.
    pub const fn replaces(&self) -> Option<&'static str> {
        match self {
            Self::MessageCompleted { .. } => Some("message.delta"),
            Self::ThoughtCompleted { .. } => Some("thought.delta"),
            Self::ToolCompleted { .. } => Some("tool.updated"),
            _ => None,
        }
    }
}
