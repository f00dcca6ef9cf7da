//! What an agent was found to offer when it was last started.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Steer;

/// What an agent was found to offer when it was last started: probed, not assumed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AgentOffers {
    /// The program's own name and version, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The modes that it offers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modes: Vec<Choice>,
    /// The mode it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The models that it offers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<Choice>,
    /// The model it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether it takes pictures.
    pub images: bool,
    /// How a message gets into a running turn.
    pub steer: Steer,
    /// Whether it can go on with an earlier conversation by itself.
    pub resume: bool,
}

/// One of several things that an agent offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Choice {
    /// What it is chosen by.
    pub id: String,
    /// For people.
    pub name: String,
}
