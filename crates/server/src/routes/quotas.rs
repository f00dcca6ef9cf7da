//! `/api/quotas` and `/api/usage/days`: what may be used, and what was, day by day.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use boatyard_api::quota::{DaysQuery, NewQuota, Quota, QuotaList, UsageDays};
use boatyard_model::QuotaId;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    answer::{Answer, Json},
    described::{Routes, routes},
    extract::{self, Path, Query},
};
use crate::{
    app::App,
    auth::Caller,
    operations::quotas::{self, days},
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(list_quotas, set_quota))
        .routes(routes!(remove_quota))
        .routes(routes!(read_usage_days))
}

/// The quotas that hold for the caller, and what is used at this moment; for an administrator all
/// quotas of the organization.
#[utoipa::path(get, path = "/api/quotas", tag = "usage",
    responses((status = 200, description = "All of them.", body = QuotaList)))]
async fn list_quotas(State(app): State<App>, caller: Caller) -> Answer<Json<QuotaList>> {
    Ok(Json(quotas::list_quotas(&app, &caller).await?))
}

/// Sets a quota, in the stead of the one with the same kind, scope and subject. Where it is
/// reached, what is ordered waits with the reason, and what is under way is held.
#[utoipa::path(put, path = "/api/quotas", tag = "usage", request_body = NewQuota,
    responses((status = 200, description = "The quota.", body = Quota)))]
async fn set_quota(
    State(app): State<App>,
    caller: Caller,
    extract::Json(new): extract::Json<NewQuota>,
) -> Answer<Json<Quota>> {
    Ok(Json(quotas::set_quota(&app, &caller, new).await?))
}

/// Removes a quota.
#[utoipa::path(delete, path = "/api/quotas/{id}", tag = "usage",
    params(("id" = QuotaId, Path)), responses((status = 204, description = "Gone.")))]
async fn remove_quota(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<QuotaId>,
) -> Answer<StatusCode> {
    quotas::remove_quota(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What was used, day by day, for charts: time in which agents worked, tasks, and what models were
/// asked.
///
/// With `Accept: text/csv`, a line for each day and each of what it is by.
#[utoipa::path(get, path = "/api/usage/days", tag = "usage", params(DaysQuery),
    responses((status = 200, description = "The figures.", content(
        (UsageDays = "application/json"),
        (String = "text/csv"),
    ))))]
async fn read_usage_days(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<DaysQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    if !wants_csv(&headers) {
        return Ok(Json(days::read_usage_days(&app, &caller, query).await?).into_response());
    }
    let mut response = days::export_usage_days(&app, &caller, query).await?.into_response();
    let fixed = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"usage.csv\""),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

fn wants_csv(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .map(|kind| kind.split(';').next().unwrap_or_default().trim())
        .any(|kind| kind.eq_ignore_ascii_case("text/csv"))
}
