//! The agents that this server knows.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The agents that this server knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentList {
    /// By name.
    pub items: Vec<Agent>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// For people.
    pub title: String,
    /// How it speaks: `acp`, `script`, `text`.
    pub protocol: String,
    /// Where it is described.
    pub origin: AgentOrigin,
    /// Whether it can run here.
    pub ready: bool,
    /// Why it can't, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Whether it is taken when nobody names one.
    pub default: bool,
}

/// Where an agent is described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentOrigin {
    /// In Boatyard itself.
    BuiltIn,
    /// In the settings.
    Settings,
}
