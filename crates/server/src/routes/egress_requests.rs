//! `/api/egress/asks` and `/api/egress/log`: requests that wait for a person, and the log of all.

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use boatyard_api::{
    Problem, ProblemKind,
    request::{
        Ask, AskFilter, AskPage, AskReply, RequestFilter, RequestPage, RequestSummary,
        RequestSummaryQuery,
    },
};
use boatyard_model::AskId;
use http::{HeaderMap, HeaderValue, header};

use super::{
    Api,
    answer::{Answer, Json},
    described::{Routes, routes},
    extract::{self, Path, Query},
};
use crate::{
    access::leases::About,
    app::App,
    auth::{Caller, Known},
    operations::{
        asks,
        requests::{self, Form},
    },
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(list_asks))
        .routes(routes!(find_ask, answer_ask))
        .routes(routes!(list_requests))
        .routes(routes!(summarize_requests))
}

/// Lists requests that wait, or waited, for a person; the newest first.
#[utoipa::path(get, path = "/api/egress/asks", tag = "egress", params(AskFilter),
    responses((status = 200, description = "A page.", body = AskPage)))]
async fn list_asks(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<AskFilter>,
) -> Answer<Json<AskPage>> {
    Ok(Json(asks::list_asks(&app, &caller, filter).await?))
}

/// A request that waits, or waited, for a person.
#[utoipa::path(get, path = "/api/egress/asks/{id}", tag = "egress", params(("id" = AskId, Path)),
    responses((status = 200, description = "The request.", body = Ask)))]
async fn find_ask(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<AskId>,
) -> Answer<Json<Ask>> {
    Ok(Json(asks::find_ask(&app, &caller, id).await?))
}

/// Answers a request that waits for a person.
///
/// The first answer wins; the same answer again changes nothing. `ten_minutes`, `workspace`,
/// `repository` and `never` make a rule, which `made` names.
#[utoipa::path(post, path = "/api/egress/asks/{id}", tag = "egress", request_body = AskReply,
    params(("id" = AskId, Path)),
    responses((status = 200, description = "The request, with the answer.", body = Ask)))]
async fn answer_ask(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<AskId>,
    extract::Json(reply): extract::Json<AskReply>,
) -> Answer<Json<Ask>> {
    Ok(Json(asks::answer_ask(&app, &caller, id, reply).await?))
}

/// What left workspaces, and what was kept from leaving; the newest first.
///
/// With `Accept: application/x-ndjson` or `text/csv`, all that the filter lets through is sent, the
/// oldest first.
#[utoipa::path(get, path = "/api/egress/log", tag = "egress", params(RequestFilter),
    responses((status = 200, description = "A page.", content(
        (RequestPage = "application/json"),
        (String = "application/x-ndjson"),
        (String = "text/csv"),
    ))))]
async fn list_requests(
    State(api): State<Api>,
    State(app): State<App>,
    Extension(known): Extension<Known>,
    Query(filter): Query<RequestFilter>,
    headers: HeaderMap,
) -> Answer<Response> {
    let Some((form, mime, name)) = form(&headers) else {
        let page = requests::list_requests(&app, &known.caller, filter).await?;
        return Ok(Json(page).into_response());
    };
    if filter.cursor.is_some() || filter.limit.is_some() {
        let detail = "an export has all that the filter lets through: no `limit`, no `cursor`";
        return Err(Problem::new(ProblemKind::Invalid, detail).at("query").into());
    }
    let stream = requests::export_requests(&app, &known.caller, &filter, form).await?;
    let about = About::Organization(known.caller.owner.organization);
    let lease = super::lease(&api, &known, "list_requests", about)?;
    let mut response = Body::from_stream(lease.bounds(stream)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(mime));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let sandbox = HeaderValue::from_static("sandbox; default-src 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, sandbox);
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(name));
    Ok(response)
}

/// The export that is asked for: the first of its kinds that the client takes.
fn form(headers: &HeaderMap) -> Option<(Form, &'static str, &'static str)> {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kinds = accepted.flat_map(|value| value.split(','));
    kinds.map(|kind| kind.split(';').next().unwrap_or_default().trim()).find_map(|kind| match kind
        .to_ascii_lowercase()
        .as_str()
    {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some((
            Form::Lines,
            "application/x-ndjson",
            "attachment; filename=\"egress-log.ndjson\"",
        )),
        "text/csv" => Some((
            Form::Csv,
            "text/csv; charset=utf-8; header=present",
            "attachment; filename=\"egress-log.csv\"",
        )),
        _ => None,
    })
}

/// The log added up: as a whole, and in steps for a chart.
#[utoipa::path(get, path = "/api/egress/log/summary", tag = "egress",
    params(RequestSummaryQuery),
    responses((status = 200, description = "The sums.", body = RequestSummary)))]
async fn summarize_requests(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<RequestSummaryQuery>,
) -> Answer<Json<RequestSummary>> {
    Ok(Json(requests::summarize_requests(&app, &caller, query).await?))
}
