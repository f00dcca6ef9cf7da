//! An agent as a runner starts it: the catalogue and the settings, resolved by the server.

use std::collections::BTreeMap;

use boatyard_model::{
    Autonomy,
    agent::{Capabilities, McpServer},
};
use serde::{Deserialize, Serialize};

/// An agent, resolved from the catalogue by the server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentLaunch {
    /// Its name in the catalogue.
    pub name: String,
    /// How it speaks.
    pub protocol: AgentProtocol,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables beside the ones that every process of a workspace has.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The model to choose, where the agent lets one.
    #[serde(default)]
    pub model: Option<String>,
    /// The agent's own mode to choose.
    #[serde(default)]
    pub mode: Option<String>,
    /// How an agent without a protocol gets its prompt.
    #[serde(default)]
    pub prompt: PromptBy,
    /// Files to lay into its home folder if absent: quiet settings.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// What is known of it beforehand.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Whose key it needs: named when the key is missing or not taken.
    #[serde(default)]
    pub provider: Option<String>,
    /// What is sent as `_meta` when a session of the Agent Client Protocol is begun or resumed.
    #[serde(default)]
    pub session_meta: serde_json::Map<String, serde_json::Value>,
    /// What is answered when it asks for permission.
    #[serde(default)]
    pub autonomy: Autonomy,
    /// How many seconds a permission or a question waits for a person, should the server, whose
    /// deadline comes first, not be there to decide; a day if absent.
    #[serde(default)]
    pub ask_seconds: Option<u64>,
    /// The MCP servers that it gets, by name; none of them is off.
    #[serde(default)]
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// Said to it before the first prompt of a conversation.
    #[serde(default)]
    pub instructions: Option<String>,
}

/// How an agent speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentProtocol {
    /// Agent Client Protocol over its standard streams.
    Acp,
    /// The prompt is a script for a shell.
    Script,
    /// The prompt is an argument; what it prints is its message.
    #[default]
    Text,
}

/// How an agent without a protocol gets its prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptBy {
    /// In its arguments.
    #[default]
    Argument,
    /// On its standard input.
    Stdin,
}
