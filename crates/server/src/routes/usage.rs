//! `/api/usage` and `/api/budgets`: what models cost, and what they may.

use axum::extract::State;
use boatyard_api::usage::{Budget, BudgetList, NewBudget, UsageQuery, UsageReport};
use boatyard_model::BudgetId;
use http::StatusCode;

use super::{
    answer::{Answer, Json},
    described::{Routes, routes},
    extract::{self, Path, Query},
};
use crate::{app::App, auth::Caller, operations::usage};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(read_usage))
        .routes(routes!(set_budget, list_budgets))
        .routes(routes!(remove_budget))
}

/// What models were asked and what it cost, added up by days, models, providers, tasks, sessions or
/// people.
#[utoipa::path(get, path = "/api/usage", tag = "usage", params(UsageQuery),
    responses((status = 200, description = "The sums, and the sum of them.", body = UsageReport)))]
async fn read_usage(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<UsageQuery>,
) -> Answer<Json<UsageReport>> {
    Ok(Json(usage::read_usage(&app, &caller, query).await?))
}

/// The budgets, with what is spent of each.
#[utoipa::path(get, path = "/api/budgets", tag = "usage",
    responses((status = 200, description = "All of them.", body = BudgetList)))]
async fn list_budgets(State(app): State<App>, caller: Caller) -> Answer<Json<BudgetList>> {
    Ok(Json(usage::list_budgets(&app, &caller).await?))
}

/// Sets a budget, in the stead of the one with the same scope, subject and period. Where it is
/// spent, requests to models wait and a person is asked.
#[utoipa::path(post, path = "/api/budgets", tag = "usage", request_body = NewBudget,
    responses((status = 200, description = "The budget.", body = Budget)))]
async fn set_budget(
    State(app): State<App>,
    caller: Caller,
    extract::Json(new): extract::Json<NewBudget>,
) -> Answer<Json<Budget>> {
    Ok(Json(usage::set_budget(&app, &caller, new).await?))
}

/// Removes a budget.
#[utoipa::path(delete, path = "/api/budgets/{id}", tag = "usage",
    params(("id" = BudgetId, Path)), responses((status = 204, description = "Gone.")))]
async fn remove_budget(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<BudgetId>,
) -> Answer<StatusCode> {
    usage::remove_budget(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
