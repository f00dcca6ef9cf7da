//! The agents that this server knows, and what of them is installed.

use boatyard_model::{AgentOffers, Timestamp, ToolId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

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
    /// In a line, for people.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub about: String,
    /// How it speaks: `acp`, `text`; `unknown` where its entry is broken.
    pub protocol: String,
    /// Where it is described.
    pub origin: AgentOrigin,
    /// How it is started, with the placeholders of its entry.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub command: Vec<String>,
    /// Whether it can run here.
    pub ready: bool,
    /// Why it can't.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What mends that: a command, or a setting.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mend: Option<String>,
    /// What it is missing, for programs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub needs: Option<AgentNeed>,
    /// Whether it can run here with the model `demo`, which needs no key.
    #[serde(default)]
    pub demo: bool,
    /// Whether it is taken when nobody names one.
    pub default: bool,
    /// Whose models it uses.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub provider: Option<String>,
    /// What Boatyard installs for it: `name@version` each. Empty if it needs nothing installed.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub packages: Vec<String>,
    /// The version that these are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// What is installed, or on its way, the newest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub installed: Vec<Tool>,
    /// What the version that is used was found to take when it was last checked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offers: Option<AgentOffers>,
}

/// What an agent is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentNeed {
    /// Its installation.
    Install,
    /// A program of the server's machine.
    Program,
    /// A key for the provider of its models, or the provider.
    Key,
    /// An entry that makes sense.
    Entry,
}

/// Where an agent is described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentOrigin {
    /// In Boatyard itself.
    BuiltIn,
    /// In the settings.
    Settings,
    /// It was added, or changed, while the server ran.
    Added,
}

/// The installed versions of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolList {
    /// The newest first.
    pub items: Vec<Tool>,
}

/// An installed version of an agent, or one on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tool {
    /// Its id.
    pub id: ToolId,
    /// The agent.
    pub agent: String,
    /// Its version.
    pub version: String,
    /// What it was made of: `name@version` each.
    pub packages: Vec<String>,
    /// The version of the Node that it brings along.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<String>,
    /// Where it stands.
    pub state: ToolState,
    /// What an installation under way does: `node`, `packages`, `check`, `keep`, `try`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub phase: Option<String>,
    /// Why it could not be installed, or why it did not start when it was tried.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Whether it is the version that is used where nobody names one.
    pub used: bool,
    /// What it takes on disk, in bytes.
    pub bytes: u64,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it became ready.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ready: Option<Timestamp>,
    /// What it was found to take when it was last checked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offers: Option<AgentOffers>,
}

impl Tool {
    /// Where it stands, in a word that changes with each step: `installing:packages`, `ready`.
    pub fn standing(&self) -> String {
        let state = match self.state {
            ToolState::Installing => "installing",
            ToolState::Ready => "ready",
            ToolState::Failed => "failed",
            ToolState::Deleted => "deleted",
        };
        match &self.phase {
            Some(phase) => format!("{state}:{phase}"),
            None => state.to_owned(),
        }
    }
}

/// Which news of an installation is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ToolQuery {
    /// Answer when it stands elsewhere than here (`installing`, `installing:packages`, …), or after
    /// 25 s; at once if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlike: Option<String>,
}

/// Where an installation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolState {
    /// It is being installed.
    Installing,
    /// It may be used.
    Ready,
    /// It could not be installed.
    Failed,
    /// Nothing uses it; its files go.
    Deleted,
}

/// How an agent is to be installed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InstallAgent {
    /// Other versions of its packages, or further ones: `name@version` each.
    pub packages: Vec<String>,
    /// Install it anew although it is there.
    pub force: bool,
}

/// What came of starting an agent once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentCheck {
    /// The agent.
    pub agent: String,
    /// The installed version that was started; none for one that is not installed by Boatyard.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// What it was found to take.
    pub offers: AgentOffers,
}

/// An agent's entry of the catalogue, or changes to one: the keys that stand in `[agents.NAME]` of
/// boatyard.toml.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub struct AgentEntry(pub serde_json::Map<String, serde_json::Value>);
