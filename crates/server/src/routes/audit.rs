//! `/api/audit`: who changed what.

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use boatyard_api::{
    Problem, ProblemKind,
    audit::{
        AuditEntryPage, AuditFilter, AuditPlace, AuditReport, AuditRetention, SetAuditRetention,
    },
};
use http::{HeaderMap, HeaderValue, header};

use super::{
    Api,
    answer::{Answer, Json},
    described::{Routes, routes},
    extract::{self, Query},
};
use crate::{
    access::leases::About,
    app::App,
    auth::{Caller, Known},
    operations::audit,
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(list_audit))
        .routes(routes!(check_audit))
        .routes(routes!(find_audit_retention, set_audit_retention))
}

/// Who changed what, when and from where; the newest first.
///
/// With `Accept: application/x-ndjson`, all that the filter lets through is sent, the oldest first,
/// an entry in each line.
#[utoipa::path(get, path = "/api/audit", tag = "audit", params(AuditFilter),
    responses((status = 200, description = "A page.", content(
        (AuditEntryPage = "application/json"),
        (String = "application/x-ndjson"),
    ))))]
async fn list_audit(
    State(api): State<Api>,
    State(app): State<App>,
    Extension(known): Extension<Known>,
    Query(filter): Query<AuditFilter>,
    headers: HeaderMap,
) -> Answer<Response> {
    if !wants_lines(&headers) {
        return Ok(Json(audit::list_audit(&app, &known.caller, filter).await?).into_response());
    }
    if filter.cursor.is_some() || filter.limit.is_some() {
        let detail = "an export has all that the filter lets through: no `limit`, no `cursor`";
        return Err(Problem::new(ProblemKind::Invalid, detail).at("query").into());
    }
    let stream = audit::export_audit(&app, &known.caller, &filter).await?;
    let about = About::Organization(known.caller.owner.organization);
    let lease = super::lease(&api, &known, "list_audit", about)?;
    let mut response = Body::from_stream(lease.bounds(stream)).into_response();
    let name = HeaderValue::from_static("attachment; filename=\"audit.ndjson\"");
    for (header, value) in [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_DISPOSITION, name),
    ] {
        response.headers_mut().insert(header, value);
    }
    Ok(response)
}

fn wants_lines(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(','));
    kinds.any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        matches!(kind.as_str(), "application/x-ndjson" | "application/ndjson" | "application/jsonl")
    })
}

/// Reads the whole log and compares every hash: whether something was changed, removed or put in.
#[utoipa::path(get, path = "/api/audit/check", tag = "audit", params(AuditPlace),
    responses((status = 200, description = "What was found.", body = AuditReport)))]
async fn check_audit(
    State(app): State<App>,
    caller: Caller,
    Query(place): Query<AuditPlace>,
) -> Answer<Json<AuditReport>> {
    Ok(Json(audit::check_audit(&app, &caller, place).await?))
}

/// For how long entries are kept.
#[utoipa::path(get, path = "/api/audit/retention", tag = "audit", params(AuditPlace),
    responses((status = 200, description = "The days.", body = AuditRetention)))]
async fn find_audit_retention(
    State(app): State<App>,
    caller: Caller,
    Query(place): Query<AuditPlace>,
) -> Answer<Json<AuditRetention>> {
    Ok(Json(audit::find_audit_retention(&app, &caller, place).await?))
}

/// Chooses for how long entries are kept.
///
/// Older ones are removed within the hour. That is an entry itself, with the hash of the last one
/// that went, so that the rest can be checked as before.
#[utoipa::path(put, path = "/api/audit/retention", tag = "audit", params(AuditPlace),
    request_body = SetAuditRetention,
    responses((status = 200, description = "The days.", body = AuditRetention)))]
async fn set_audit_retention(
    State(app): State<App>,
    caller: Caller,
    Query(place): Query<AuditPlace>,
    extract::Json(set): extract::Json<SetAuditRetention>,
) -> Answer<Json<AuditRetention>> {
    Ok(Json(audit::set_audit_retention(&app, &caller, place, set).await?))
}
