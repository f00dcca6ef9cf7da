//! `/api/workspaces`: their life, commands in them, their git.

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse as _, Response},
};
use boatyard_api::{
    task::Diff,
    workspace::{
        CommitList, ExecOutput, ExecRequest, ExecResult, ForkRequest, NewWorkspace, Snapshot,
        Workspace, WorkspaceChange, WorkspaceDiffQuery, WorkspaceFilter, WorkspaceLogQuery,
        WorkspacePage,
    },
};
use boatyard_model::WorkspaceId;
use boatyard_store::ThingId;
use http::{HeaderMap, StatusCode, header};

use super::{
    Api,
    answer::{Answer, Created, Json},
    described::{Routes, routes},
    extract::{self, Once, PROMPT_JSON_MAX, Path, Query},
};
use crate::{
    access::leases::{About, Want},
    app::App,
    auth::{Caller, Known},
    operations::workspaces,
    sse,
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(create_workspace, list_workspaces))
        .routes(routes!(find_workspace, change_workspace, delete_workspace))
        .routes(routes!(start_workspace))
        .routes(routes!(stop_workspace))
        .routes(routes!(fork_workspace))
        .routes(routes!(snapshot_workspace))
        .routes(routes!(exec_in_workspace))
        .routes(routes!(read_workspace_diff))
        .routes(routes!(read_workspace_log))
}

/// Makes a workspace.
#[utoipa::path(post, path = "/api/workspaces", tag = "workspaces", request_body = NewWorkspace,
    params(("Idempotency-Key" = Option<String>, Header, description = "Names this creation.")),
    responses((status = 201, description = "Made.", body = Workspace)))]
async fn create_workspace(
    State(app): State<App>,
    caller: Caller,
    Once(key): Once,
    extract::Json(new): extract::Json<NewWorkspace>,
) -> Answer<Created<Workspace>> {
    let body = workspaces::create_workspace(&app, &caller, new, key).await?;
    Ok(Created { location: format!("/api/workspaces/{}", body.id), body })
}

/// Lists workspaces, the newest first.
#[utoipa::path(get, path = "/api/workspaces", tag = "workspaces", params(WorkspaceFilter),
    responses((status = 200, description = "A page.", body = WorkspacePage)))]
async fn list_workspaces(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<WorkspaceFilter>,
) -> Answer<Json<WorkspacePage>> {
    Ok(Json(workspaces::list_workspaces(&app, &caller, filter).await?))
}

/// A workspace.
#[utoipa::path(get, path = "/api/workspaces/{id}", tag = "workspaces",
    params(("id" = WorkspaceId, Path)),
    responses((status = 200, description = "The workspace.", body = Workspace)))]
async fn find_workspace(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
) -> Answer<Json<Workspace>> {
    Ok(Json(workspaces::find_workspace(&app, &caller, id).await?))
}

/// Changes what a workspace is called, and who may see it, with its sessions.
#[utoipa::path(patch, path = "/api/workspaces/{id}", tag = "workspaces",
    params(("id" = WorkspaceId, Path)), request_body = WorkspaceChange,
    responses((status = 200, description = "The workspace.", body = Workspace)))]
async fn change_workspace(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
    extract::Json(change): extract::Json<WorkspaceChange>,
) -> Answer<Json<Workspace>> {
    Ok(Json(workspaces::change_workspace(&app, &caller, id, change).await?))
}

/// Deletes a workspace with its files; its sessions end, their logs stay.
#[utoipa::path(delete, path = "/api/workspaces/{id}", tag = "workspaces",
    params(("id" = WorkspaceId, Path)), responses((status = 204, description = "Gone.")))]
async fn delete_workspace(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
) -> Answer<StatusCode> {
    workspaces::delete_workspace(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Wakes a workspace.
#[utoipa::path(post, path = "/api/workspaces/{id}/start", tag = "workspaces",
    params(("id" = WorkspaceId, Path)),
    responses((status = 200, description = "The workspace.", body = Workspace)))]
async fn start_workspace(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
) -> Answer<Json<Workspace>> {
    Ok(Json(workspaces::start_workspace(&app, &caller, id).await?))
}

/// Ends every process of a workspace; its files stay.
#[utoipa::path(post, path = "/api/workspaces/{id}/stop", tag = "workspaces",
    params(("id" = WorkspaceId, Path)),
    responses((status = 200, description = "The workspace.", body = Workspace)))]
async fn stop_workspace(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
) -> Answer<Json<Workspace>> {
    Ok(Json(workspaces::stop_workspace(&app, &caller, id).await?))
}

/// Makes a workspace with the same files, as they are or as they were at a turn or an event.
#[utoipa::path(post, path = "/api/workspaces/{id}/fork", tag = "workspaces",
    request_body = ForkRequest,
    params(("id" = WorkspaceId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this creation.")),
    responses((status = 201, description = "The new workspace.", body = Workspace)))]
async fn fork_workspace(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
    Once(key): Once,
    extract::Json(request): extract::Json<ForkRequest>,
) -> Answer<Created<Workspace>> {
    let body = workspaces::fork_workspace(&app, &caller, id, request, key).await?;
    Ok(Created { location: format!("/api/workspaces/{}", body.id), body })
}

/// Freezes a workspace's files as a layer.
#[utoipa::path(post, path = "/api/workspaces/{id}/snapshot", tag = "workspaces",
    params(("id" = WorkspaceId, Path)),
    responses((status = 201, description = "The layer.", body = Snapshot)))]
async fn snapshot_workspace(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
) -> Answer<(StatusCode, Json<Snapshot>)> {
    let snapshot = workspaces::snapshot_workspace(&app, &caller, id).await?;
    Ok((StatusCode::CREATED, Json(snapshot)))
}

/// Runs a command in a workspace, which wakes if it sleeps.
///
/// The answer comes at the command's end; with `Accept: text/event-stream` its output comes as it
/// is written, and its exit last.
#[utoipa::path(post, path = "/api/workspaces/{id}/exec", tag = "workspaces",
    request_body = ExecRequest, params(("id" = WorkspaceId, Path)),
    responses((status = 200, description = "What it did.", content(
        (ExecResult = "application/json"), (ExecOutput = "text/event-stream")))))]
async fn exec_in_workspace(
    State(api): State<Api>,
    State(app): State<App>,
    Extension(known): Extension<Known>,
    Path(id): Path<WorkspaceId>,
    headers: HeaderMap,
    extract::Json(request): extract::Json<ExecRequest, PROMPT_JSON_MAX>,
) -> Answer<Response> {
    let about = About::Thing(ThingId::Workspace(id), Want::Act);
    let caller = &known.caller;
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        let output = workspaces::exec_streaming(&app, caller, id, request).await?;
        let lease = super::lease(&api, &known, "exec_in_workspace", about)?;
        return Ok(sse::pieces(output, lease));
    }
    let lease = super::lease(&api, &known, "exec_in_workspace", about)?;
    let work = workspaces::exec_in_workspace(&app, caller, id, request);
    Ok(Json(lease.during(work).await?).into_response())
}

/// What differs in a workspace's repository.
#[utoipa::path(get, path = "/api/workspaces/{id}/git/diff", tag = "workspaces",
    params(("id" = WorkspaceId, Path), WorkspaceDiffQuery),
    responses((status = 200, description = "The difference.", body = Diff)))]
async fn read_workspace_diff(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
    Query(mut query): Query<WorkspaceDiffQuery>,
) -> Answer<Json<Diff>> {
    query.context = Some(super::context(query.context)?);
    Ok(Json(workspaces::read_workspace_diff(&app, &caller, id, query).await?))
}

/// The commits of a workspace's repository, the newest first.
#[utoipa::path(get, path = "/api/workspaces/{id}/git/log", tag = "workspaces",
    params(("id" = WorkspaceId, Path), WorkspaceLogQuery),
    responses((status = 200, description = "The commits.", body = CommitList)))]
async fn read_workspace_log(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<WorkspaceLogQuery>,
) -> Answer<Json<CommitList>> {
    let limit = boatyard_api::page::limit(query.limit)?;
    Ok(Json(workspaces::read_workspace_log(&app, &caller, id, limit).await?))
}
