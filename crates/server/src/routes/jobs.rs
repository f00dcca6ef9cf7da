//! `/api/jobs` and `/api/maintenance`: background work.

use axum::extract::State;
use boatyard_api::{
    job::{Job, JobFilter, JobPage, NewJob},
    system::{GarbageReport, GarbageRequest},
};
use boatyard_model::JobId;

use super::{
    answer::{Answer, Created, Json},
    described::{Routes, routes},
    extract::{self, Path, Query},
};
use crate::{
    app::App,
    auth::Caller,
    operations::{jobs, maintenance},
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(run_job, list_jobs))
        .routes(routes!(find_job))
        .routes(routes!(cancel_job))
        .routes(routes!(collect_garbage))
}

/// Runs a maintenance job now.
#[utoipa::path(post, path = "/api/jobs", tag = "jobs", request_body = NewJob,
    responses((status = 201, description = "Queued.", body = Job)))]
async fn run_job(
    State(app): State<App>,
    caller: Caller,
    extract::Json(new): extract::Json<NewJob>,
) -> Answer<Created<Job>> {
    let body = jobs::run_job(&app, &caller, new.name).await?;
    Ok(Created { location: format!("/api/jobs/{}", body.id), body })
}

/// Lists jobs, the newest first.
#[utoipa::path(get, path = "/api/jobs", tag = "jobs", params(JobFilter),
    responses((status = 200, description = "A page.", body = JobPage)))]
async fn list_jobs(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<JobFilter>,
) -> Answer<Json<JobPage>> {
    Ok(Json(jobs::list_jobs(&app, &caller, filter).await?))
}

/// A job.
#[utoipa::path(get, path = "/api/jobs/{id}", tag = "jobs", params(("id" = JobId, Path)),
    responses((status = 200, description = "The job.", body = Job)))]
async fn find_job(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<JobId>,
) -> Answer<Json<Job>> {
    Ok(Json(jobs::find_job(&app, &caller, id).await?))
}

/// Ends a job that is no longer wanted.
#[utoipa::path(post, path = "/api/jobs/{id}/cancel", tag = "jobs", params(("id" = JobId, Path)),
    responses((status = 200, description = "The job.", body = Job)))]
async fn cancel_job(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<JobId>,
) -> Answer<Json<Job>> {
    Ok(Json(jobs::cancel_job(&app, &caller, id).await?))
}

/// Removes what nothing refers to: workspaces, layers, mirrors, blobs. Never unpushed work.
#[utoipa::path(post, path = "/api/maintenance/gc", tag = "jobs", request_body = GarbageRequest,
    responses((status = 200, description = "What was removed.", body = GarbageReport)))]
async fn collect_garbage(
    State(app): State<App>,
    caller: Caller,
    extract::Json(request): extract::Json<GarbageRequest>,
) -> Answer<Json<GarbageReport>> {
    Ok(Json(maintenance::collect_garbage(&app, &caller, request).await?))
}
