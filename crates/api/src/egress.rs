//! What may leave workspaces: rules, the scopes that they are in, presets, and proposals.

use boatyard_model::{
    EgressMode, PortRange, RepositoryId, RuleAction, RuleId, RulePurpose, RuleScope, RuleSpec,
    Timestamp, WorkspaceId,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// For which scope, beside a workspace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct EgressQuery {
    /// This repository; the organization if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryId>,
}

/// What may leave, as it holds somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Egress {
    /// How wide this is.
    pub scope: RuleScope,
    /// What becomes of what no rule is about: what is in force, whoever set it.
    pub mode: EgressMode,
    /// Whether the scopes below this one may allow what is closed here.
    pub widen: bool,
    /// What is set here.
    pub set: EgressScope,
    /// Whether nothing leaves at all, whatever the rules say (`[egress] offline`).
    #[serde(default)]
    pub offline: bool,
    /// The rules that hold here: those of the wider scopes first, then those of this one.
    pub rules: Vec<EgressRule>,
}

/// What is set for a scope beside its rules. What is absent is as above it, or by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EgressScope {
    /// `enforce` refuses what no rule is about; `learn` lets it pass and records it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<EgressMode>,
    /// Whether the scopes below this one may allow what is closed here; else they can only narrow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widen: Option<bool>,
}

/// Rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EgressRuleList {
    /// The rules, the oldest first.
    pub items: Vec<EgressRule>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EgressRule {
    /// Its id; none for one that stands in boatyard.toml.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<RuleId>,
    /// What it is called in records and refusals.
    pub name: String,
    /// How far it holds.
    pub scope: RuleScope,
    /// The repository that it is for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub repository: Option<RepositoryId>,
    /// The workspace that it is for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workspace: Option<WorkspaceId>,
    /// What it says of the requests that it is about.
    pub action: RuleAction,
    /// The rest of it in a line.
    pub text: String,
    /// All of it; none for one that a newer release wrote, which is taken as one that forbids.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<RuleSpec>,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<Timestamp>,
    /// When it was made; none for one that stands in boatyard.toml.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created: Option<Timestamp>,
    /// Why it does not do what it seems to.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

/// A rule to be made, or to take the place of one: in a line, or in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewEgressRule {
    /// What it says.
    pub action: RuleAction,
    /// The rule in a line: `example.com`, `GET,POST https://api.example.com/v1/*`,
    /// `git-fetch github.com/owner/*`, or a preset's name. In place of the parts below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// A preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// A host: `example.com`, `*.example.com`, `*`, an address or a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The ports; 443 and 80 if absent, all of them for a rule that denies a whole host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRange>,
    /// The methods; all if absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The paths; all if absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// What it is for, in place of methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<RulePurpose>,
    /// What people should know about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// In how many seconds it ends, in place of a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

impl From<RuleSpec> for NewEgressRule {
    fn from(spec: RuleSpec) -> Self {
        Self {
            action: spec.action,
            preset: spec.preset,
            host: spec.host,
            ports: spec.ports,
            methods: spec.methods,
            paths: spec.paths,
            purpose: spec.purpose,
            note: spec.note,
            ..Self::default()
        }
    }
}

/// The presets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EgressPresetList {
    /// By name.
    pub items: Vec<EgressPreset>,
}

/// A set of hosts that Boatyard knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EgressPreset {
    /// Its name.
    pub name: String,
    /// What it is.
    pub title: String,
    /// What one should know before taking it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub about: Option<String>,
    /// Its rules in lines, with those of the presets that it stands for.
    pub rules: Vec<String>,
    /// The presets that it stands for.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub presets: Vec<String>,
}

/// A request that might be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EgressTest {
    /// Its method; `GET` if absent. `CONNECT` is a connection whose inside is not seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub method: Option<String>,
    /// Where to: `https://example.com/path`, or `example.com:22`.
    pub url: String,
}

/// What the rules say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EgressVerdict {
    /// It passes.
    Allowed,
    /// A person is asked.
    Ask,
    /// It is refused.
    Denied,
    /// No rule is about it; it passes because this learns.
    Learned,
}

/// What would become of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EgressOutcome {
    /// What the rules say.
    pub verdict: EgressVerdict,
    /// In a sentence.
    pub reason: String,
    /// The rule that decided, or came nearest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<EgressRule>,
    /// The scope whose rule that is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scope: Option<RuleScope>,
    /// Whether its TLS is opened, so that method and path are seen.
    pub opened: bool,
    /// What could keep it from passing all the same.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
    /// What would let it pass.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// Rules that would let pass what was wanted, and as little else as possible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EgressProposal {
    /// The rules, those that cover most first.
    pub items: Vec<ProposedRule>,
    /// How many recorded requests they are made of.
    pub requests: u64,
}

/// A rule that is proposed. It is not in force: making it is a request of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProposedRule {
    /// The rule.
    pub rule: RuleSpec,
    /// The same in a line.
    pub text: String,
    /// Where the wish comes from.
    pub source: ProposalSource,
    /// How many recorded requests it would let pass.
    pub requests: u64,
    /// What it lets out beyond what was seen, where one should know.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// Where a proposed rule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProposalSource {
    /// From what was recorded.
    Recorded,
    /// From `[egress]` of the environment that the repository describes.
    Repository,
}

/// What a proposal is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ProposalQuery {
    /// For this repository; the organization if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryId>,
    /// Also of what was refused because no rule allows it, not only of what passed while learning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<bool>,
}
