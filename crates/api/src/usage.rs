//! What models were asked and what it cost, and what it may cost.

use boatyard_model::{BudgetId, SessionId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// By what usage is added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageGroup {
    /// By days, in UTC.
    #[default]
    Day,
    /// By models.
    Model,
    /// By providers.
    Provider,
    /// By tasks.
    Task,
    /// By sessions.
    Session,
    /// By people.
    Person,
    /// By repositories.
    Repository,
    /// By agents.
    Agent,
}

/// Which usage is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// By what it is added up; by days where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<UsageGroup>,
    /// From this time on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// Of this task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Of this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Of this provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Of this model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Of this person, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}

/// Usage, added up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageSum {
    /// What it is of: a day as `2026-11-21`, a name or an id; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub label: Option<String>,
    /// Requests in which a model ran.
    pub calls: u64,
    /// Tokens that were read, without those from a cache or into one.
    pub input_tokens: u64,
    /// Tokens that were written, those of reasoning among them.
    pub output_tokens: u64,
    /// Tokens that came from the provider's cache.
    pub cache_read_tokens: u64,
    /// Tokens that were put into it.
    pub cache_write_tokens: u64,
    /// Of those that were written: reasoning.
    pub reasoning_tokens: u64,
    /// US dollars, of what has a known price.
    pub cost_usd: f64,
    /// Requests whose price is not known: what they cost comes on top.
    pub unknown_cost: u64,
    /// Requests whose provider did not say what was used, or not to the end: reckoned.
    pub estimated: u64,
}

/// What was used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// By what it is added up.
    pub group: UsageGroup,
    /// Days as they follow each other; what cost most first, for the rest. At most 1000.
    pub items: Vec<UsageSum>,
    /// All of it.
    pub total: UsageSum,
}

/// Whose a budget is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// All of the organization.
    Organization,
    /// A person's.
    Person,
    /// A task's, with all its attempts.
    Task,
    /// One attempt's.
    Attempt,
}

/// For how long a budget is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetPeriod {
    /// A day, in UTC.
    Day,
    /// A month, in UTC.
    Month,
    /// As long as there is what it is for.
    Total,
}

/// A budget to set: there is one at most for a scope, a subject and a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBudget {
    /// Whose it is.
    pub scope: BudgetScope,
    /// The id of whose it is; where it is the organization's or the caller's own, it can be left
    /// out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
    /// For how long: a month where nothing is said, in all for a task or an attempt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub period: Option<BudgetPeriod>,
    /// US dollars.
    pub limit_usd: f64,
}

/// A budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Budget {
    /// Its id.
    pub id: BudgetId,
    /// Whose it is.
    pub scope: BudgetScope,
    /// The id of whose it is.
    pub subject: String,
    /// For how long.
    pub period: BudgetPeriod,
    /// US dollars.
    pub limit_usd: f64,
    /// What somebody added for the period that runs.
    pub extra_usd: f64,
    /// What is spent in it.
    pub spent_usd: f64,
    /// When that period began; absent for one without a beginning.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
}

/// Budgets, the oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetList {
    /// All of them.
    pub items: Vec<Budget>,
}
