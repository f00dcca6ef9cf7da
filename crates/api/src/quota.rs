//! What may be used, by an organization and by its people, and what was used day by day.

use boatyard_model::{MemberId, QuotaId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Whose a quota is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuotaScope {
    /// The organization's, all its people together.
    #[default]
    Organization,
    /// That of each person who has none of their own.
    Each,
    /// One person's.
    Person,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuotaKind {
    /// Attempts at tasks that are under way at a time; one that waits for a person is not. Further
    /// ones stay queued.
    Tasks,
    /// Workspaces in use: all but those that a task which is over left asleep. Further tasks stay
    /// queued, other workspaces are refused.
    Workspaces,
    /// Minutes of a day, in UTC, in which agents work. Tasks and prompts wait for the next day, and
    /// what is under way is held.
    Minutes,
    /// Bytes of workspaces, snapshots and uploads. The same, until there is room.
    Storage,
    /// US dollars of a month, in UTC: the budget for the month.
    Money,
}

impl QuotaKind {
    /// The text used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Workspaces => "workspaces",
            Self::Minutes => "minutes",
            Self::Storage => "storage",
            Self::Money => "money",
        }
    }
}

/// A quota to set: there is one at most for a scope, a subject and a kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewQuota {
    /// What is limited.
    pub kind: QuotaKind,
    /// Whose it is.
    #[serde(default)]
    pub scope: QuotaScope,
    /// The id of whose it is, `mem_…` or `org_…`; the caller's own where it is left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
    /// A count, minutes, bytes or US dollars.
    pub limit: f64,
}

/// A quota.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Quota {
    /// Its id.
    pub id: QuotaId,
    /// What is limited.
    pub kind: QuotaKind,
    /// Whose it is.
    pub scope: QuotaScope,
    /// The id of whose it is.
    pub subject: String,
    /// What that is called.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// A count, minutes, bytes or US dollars.
    pub limit: f64,
    /// What somebody added, for today or the month where it is of a day or month.
    pub extra: f64,
    /// What is used at this moment; for `each`, by the caller.
    pub used: f64,
    /// Whether it is reached.
    pub reached: bool,
    /// Whether who runs the server set it: then only they change it.
    pub imposed: bool,
    /// When it was made.
    pub created: Timestamp,
}

/// What is used at a moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuotaUse {
    /// Attempts that are under way.
    pub tasks: u64,
    /// Workspaces in use.
    pub workspaces: u64,
    /// Minutes in which agents worked today, in UTC.
    pub minutes: f64,
    /// Bytes.
    pub storage: u64,
}

/// Quotas, and what is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuotaList {
    /// Those that hold for the caller; for an administrator all of the organization, the oldest
    /// first.
    pub items: Vec<Quota>,
    /// What the organization uses.
    pub organization: QuotaUse,
    /// What the caller uses.
    pub own: QuotaUse,
}

/// By what figures of days are put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DaysGroup {
    /// All in one.
    #[default]
    All,
    /// By people.
    Person,
    /// By repositories.
    Repository,
    /// By agents.
    Agent,
    /// By providers of models.
    Provider,
    /// By models.
    Model,
}

/// Which figures of days are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DaysQuery {
    /// By what they are put together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<DaysGroup>,
    /// From the day of this time on; 30 days before `to` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Before the day of this time, or to its moment; to now where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// Of this person only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<MemberId>,
    /// Of this repository only, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Of this agent only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Of this model only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What was used, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DayFigures {
    /// Tasks that were ordered.
    pub tasks: u64,
    /// Minutes in which agents worked.
    pub minutes: f64,
    /// Requests in which a model ran.
    pub calls: u64,
    /// Tokens that were read, without those from a cache or into one.
    pub input_tokens: u64,
    /// Tokens that were written.
    pub output_tokens: u64,
    /// Tokens that came from a provider's cache, and that were put into it.
    pub cache_tokens: u64,
    /// US dollars, of what has a known price.
    pub cost_usd: f64,
    /// Of these: what people paid by connections of their own.
    pub own_cost_usd: f64,
    /// Requests whose price is not known.
    pub unknown_cost: u64,
}

/// What one person, repository, agent or model used, day by day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DaySeries {
    /// The id or name; absent where that is not known, or where it is all the others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub label: Option<String>,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// One for each of `days`.
    pub points: Vec<DayFigures>,
    /// All of them together.
    pub total: DayFigures,
}

/// What was used, day by day: for charts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageDays {
    /// By what it is put together.
    pub by: DaysGroup,
    /// The days, as `2026-11-21`, without a gap.
    pub days: Vec<String>,
    /// What cost most first; those past the first 100 are together in the last one.
    pub series: Vec<DaySeries>,
    /// All of it, day by day.
    pub total: DaySeries,
}
