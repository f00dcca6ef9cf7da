//! How much an agent may do unasked, what is known of it beforehand, what people set for it, and
//! what it was found to offer.
//!
//! [`Autonomy`] is one choice for all agents. It is kept in two ways at once: the agent is put into
//! the mode of its own that comes nearest, and what it asks all the same is answered by
//! [`Autonomy::answers`]. The second holds for every agent that asks for permissions; the first is
//! what makes an agent ask that would not.
//!
//! It is about attention, not about safety: what a call is comes from the agent's own words. The
//! boundary is the sandbox.
//!
//! [`AgentSettings`] are given for the organization, a repository, a task or a session, and laid
//! over each other: the narrowest wins ([`AgentSettings::over`]).

mod offers;
mod settings;

pub use offers::{AgentOffers, Choice};
pub use settings::{AgentSettings, McpServer, McpTransport, SettingsError};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    event::ToolKind,
    state::{UnknownState, text_enum},
};

text_enum! {
    /// How much an agent may do without asking a person.
    Autonomy {
        /// It asks for everything.
        Ask = "ask",
        /// It asks for what changes something; it may look, search and think.
        AskChanges = "ask_changes",
        /// It is free within its workspace.
        Free = "free",
    }
}

impl Default for Autonomy {
    /// Free: the sandbox is the boundary.
    fn default() -> Self {
        Self::Free
    }
}

/// Who answers a permission request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// A person is asked.
    Person,
    /// It is a yes at once.
    Yes,
}

impl Autonomy {
    /// Who answers a request for a call of this kind; none where the agent does not tell the kind.
    pub const fn answers(self, kind: Option<ToolKind>) -> Answers {
        match (self, kind) {
            (Self::Free, _)
            | (Self::AskChanges, Some(ToolKind::Read | ToolKind::Search | ToolKind::Think)) => {
                Answers::Yes
            }
            _ => Answers::Person,
        }
    }
}

/// What is known of an agent beforehand: hints, probed all the same where its protocol lets us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capabilities {
    /// It takes pictures.
    pub images: bool,
    /// It can go on with an earlier conversation.
    pub resume: bool,
    /// How a message gets into a running turn.
    pub steer: Steer,
    /// It takes MCP servers that are programs, as the protocol asks of every agent.
    pub mcp_programs: bool,
    /// What the tokens that it reports at a turn's end are counted from.
    pub usage: UsageScope,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            images: true,
            resume: true,
            steer: Steer::Probe,
            mcp_programs: true,
            usage: UsageScope::Turn,
        }
    }
}

/// How a message gets into a running turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Steer {
    /// As the agent's capabilities say.
    #[default]
    Probe,
    /// As a second prompt: it takes one in mid-turn.
    Prompt,
    /// The turn is cancelled at the next tool boundary and begun again.
    Restart,
}

/// What an agent's token counts at a turn's end are counted from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageScope {
    /// The turn's beginning.
    #[default]
    Turn,
    /// The session's beginning.
    Session,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_autonomy_asks_for_what_it_says() {
        let unasked = |autonomy: Autonomy| {
            let kinds = [None, Some(ToolKind::Read), Some(ToolKind::Fetch), Some(ToolKind::Edit)];
            kinds.map(|kind| autonomy.answers(kind) == Answers::Yes)
        };
        assert_eq!(unasked(Autonomy::Ask), [false; 4]);
        assert_eq!(unasked(Autonomy::AskChanges), [false, true, false, false]);
        assert_eq!(unasked(Autonomy::Free), [true; 4]);
    }

    #[test]
    fn the_words_in_json_are_those_of_the_settings() {
        for autonomy in Autonomy::ALL {
            assert_eq!(serde_json::to_value(autonomy).unwrap(), autonomy.as_str());
            assert_eq!(autonomy.as_str().parse::<Autonomy>(), Ok(*autonomy));
        }
    }
}
