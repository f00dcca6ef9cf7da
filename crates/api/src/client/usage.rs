//! The endpoints of usage and budgets.

use boatyard_model::{BudgetId, QuotaId};
use reqwest::Method;

use super::{Client, Result};
use crate::{
    quota::{DaysQuery, NewQuota, Quota, QuotaList, UsageDays},
    usage::{Budget, BudgetList, NewBudget, UsageQuery, UsageReport},
};

#[expect(clippy::missing_errors_doc, reason = "all fail in the same way: see `endpoints`")]
impl Client {
    /// What models were asked and what it cost, added up.
    pub async fn read_usage(&self, query: &UsageQuery) -> Result<UsageReport> {
        self.json(self.call(Method::GET, "api/usage").query(query)).await
    }

    /// The budgets, with what is spent of each.
    pub async fn list_budgets(&self) -> Result<BudgetList> {
        self.json(self.call(Method::GET, "api/budgets")).await
    }

    /// Sets a budget.
    pub async fn set_budget(&self, budget: &NewBudget) -> Result<Budget> {
        self.json(self.call(Method::POST, "api/budgets").json(budget)).await
    }

    /// Removes a budget.
    pub async fn remove_budget(&self, id: BudgetId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/budgets/{id}"))).await
    }

    /// The quotas that hold for the caller, and what is used.
    pub async fn list_quotas(&self) -> Result<QuotaList> {
        self.json(self.call(Method::GET, "api/quotas")).await
    }

    /// Sets a quota.
    pub async fn set_quota(&self, quota: &NewQuota) -> Result<Quota> {
        self.json(self.call(Method::PUT, "api/quotas").json(quota)).await
    }

    /// Removes a quota.
    pub async fn remove_quota(&self, id: QuotaId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/quotas/{id}"))).await
    }

    /// What was used, day by day.
    pub async fn read_usage_days(&self, query: &DaysQuery) -> Result<UsageDays> {
        self.json(self.call(Method::GET, "api/usage/days").query(query)).await
    }
}
