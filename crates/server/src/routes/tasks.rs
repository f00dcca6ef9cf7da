//! `/api/tasks`.

use axum::{extract::State, response::Response};
use boatyard_api::task::{
    AttemptChoice, AttemptDiffQuery, AttemptList, Diff, NewTask, Task, TaskChange, TaskFilter,
    TaskPage, TaskResult,
};
use boatyard_model::TaskId;

use super::{
    answer::{Answer, Binary, Created, Encoded, Json, download},
    described::{Routes, routes},
    extract::{self, Once, PROMPT_JSON_MAX, Path, Query},
};
use crate::{app::App, auth::Caller, operations::tasks};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(create_task, list_tasks))
        .routes(routes!(find_task, change_task))
        .routes(routes!(cancel_task))
        .routes(routes!(find_task_result))
        .routes(routes!(list_attempts))
        .routes(routes!(read_attempt_diff))
        .routes(routes!(read_attempt_patch))
        .routes(routes!(read_attempt_bundle))
        .routes(routes!(push_attempt))
}

/// Orders a task.
///
/// The task is stored and its attempts are queued; follow an attempt's session to watch it. The
/// same `Idempotency-Key` gives the same task.
#[utoipa::path(post, path = "/api/tasks", tag = "tasks", request_body = NewTask,
    params(("Idempotency-Key" = Option<String>, Header, description = "Names this creation.")),
    responses((status = 201, description = "Ordered.", body = Task)))]
async fn create_task(
    State(app): State<App>,
    caller: Caller,
    Once(key): Once,
    extract::Json(task): extract::Json<NewTask, PROMPT_JSON_MAX>,
) -> Answer<Created<Task>> {
    let body = tasks::create_task(&app, &caller, task, key).await?;
    Ok(Created { location: format!("/api/tasks/{}", body.id), body })
}

/// Lists tasks, the newest first.
#[utoipa::path(get, path = "/api/tasks", tag = "tasks", params(TaskFilter),
    responses((status = 200, description = "A page.", body = TaskPage)))]
async fn list_tasks(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<TaskFilter>,
) -> Answer<Encoded> {
    Ok(Encoded(tasks::list_tasks(&app, &caller, filter).await?))
}

/// A task with its attempts.
#[utoipa::path(get, path = "/api/tasks/{id}", tag = "tasks", params(("id" = TaskId, Path)),
    responses((status = 200, description = "The task.", body = Task)))]
async fn find_task(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<TaskId>,
) -> Answer<Json<Task>> {
    Ok(Json(tasks::find_task(&app, &caller, id).await?))
}

/// Changes who may see a task, with its workspaces and sessions.
#[utoipa::path(patch, path = "/api/tasks/{id}", tag = "tasks", params(("id" = TaskId, Path)),
    request_body = TaskChange,
    responses((status = 200, description = "The task.", body = Task)))]
async fn change_task(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<TaskId>,
    extract::Json(change): extract::Json<TaskChange>,
) -> Answer<Json<Task>> {
    Ok(Json(tasks::change_task(&app, &caller, id, change).await?))
}

/// Ends every attempt at a task; the work so far is kept.
#[utoipa::path(post, path = "/api/tasks/{id}/cancel", tag = "tasks", params(("id" = TaskId, Path)),
    responses((status = 200, description = "The task.", body = Task)))]
async fn cancel_task(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<TaskId>,
) -> Answer<Json<Task>> {
    Ok(Json(tasks::cancel_task(&app, &caller, id).await?))
}

/// What an attempt handed back.
#[utoipa::path(get, path = "/api/tasks/{id}/result", tag = "tasks",
    params(("id" = TaskId, Path), AttemptChoice),
    responses((status = 200, description = "The result.", body = TaskResult)))]
async fn find_task_result(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<TaskId>,
    Query(choice): Query<AttemptChoice>,
) -> Answer<Json<TaskResult>> {
    Ok(Json(tasks::find_task_result(&app, &caller, id, choice.attempt).await?))
}

/// The attempts at a task.
#[utoipa::path(get, path = "/api/tasks/{id}/attempts", tag = "tasks",
    params(("id" = TaskId, Path)),
    responses((status = 200, description = "By number.", body = AttemptList)))]
async fn list_attempts(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<TaskId>,
) -> Answer<Json<AttemptList>> {
    Ok(Json(tasks::list_attempts(&app, &caller, id).await?))
}

/// What an attempt changed, file by file and as a patch.
#[utoipa::path(get, path = "/api/tasks/{id}/diff", tag = "tasks",
    params(("id" = TaskId, Path), AttemptDiffQuery),
    responses((status = 200, description = "The difference to the base.", body = Diff)))]
async fn read_attempt_diff(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<TaskId>,
    Query(query): Query<AttemptDiffQuery>,
) -> Answer<Json<Diff>> {
    let context = super::context(query.context)?;
    Ok(Json(tasks::read_attempt_diff(&app, &caller, id, query.attempt, context).await?))
}

/// What an attempt changed, as a patch for `git apply`.
#[utoipa::path(get, path = "/api/tasks/{id}/patch", tag = "tasks",
    params(("id" = TaskId, Path), AttemptChoice),
    responses((status = 200, description = "The patch.", body = Binary, content_type = "text/x-diff")))]
async fn read_attempt_patch(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<TaskId>,
    Query(choice): Query<AttemptChoice>,
) -> Answer<Response> {
    let bytes = tasks::read_attempt_patch(&app, &caller, id, choice.attempt).await?;
    Ok(download(bytes.into(), "text/x-diff; charset=utf-8", &format!("{id}.patch")))
}

/// An attempt's branch as a git bundle that needs its base only.
#[utoipa::path(get, path = "/api/tasks/{id}/bundle", tag = "tasks",
    params(("id" = TaskId, Path), AttemptChoice),
    responses((status = 200, description = "The bundle.", body = Binary,
        content_type = "application/x-git-bundle")))]
async fn read_attempt_bundle(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<TaskId>,
    Query(choice): Query<AttemptChoice>,
) -> Answer<Response> {
    let bytes = tasks::read_attempt_bundle(&app, &caller, id, choice.attempt).await?;
    Ok(download(bytes.into(), "application/x-git-bundle", &format!("{id}.bundle")))
}

/// Pushes an attempt's branch to the repository's origin.
#[utoipa::path(post, path = "/api/tasks/{id}/push", tag = "tasks",
    params(("id" = TaskId, Path), AttemptChoice),
    responses((status = 200, description = "The task.", body = Task)))]
async fn push_attempt(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<TaskId>,
    Query(choice): Query<AttemptChoice>,
) -> Answer<Json<Task>> {
    Ok(Json(tasks::push_attempt(&app, &caller, id, choice.attempt).await?))
}
