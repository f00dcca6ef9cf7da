//! `/api/repositories`: what Boatyard keeps a mirror of.

use axum::{body::Body, extract::State};
use boatyard_api::repository::{
    BUNDLE_MAX, EnvironmentFilter, EnvironmentList, NewRepository, Repository, RepositoryFilter,
    RepositoryPage,
};
use boatyard_model::RepositoryId;
use http::StatusCode;

use super::{
    answer::{Answer, Binary, Created, Json},
    described::{Routes, routes},
    extract::{self, Path, Query, pieces},
};
use crate::{
    app::App,
    auth::Caller,
    operations::{environments, repositories},
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(create_repository, list_repositories))
        .routes(routes!(find_repository, delete_repository))
        .routes(routes!(send_bundle))
        .routes(routes!(list_environments))
}

/// Registers a repository, or finds it: the same address gives the same one.
#[utoipa::path(post, path = "/api/repositories", tag = "repositories",
    request_body = NewRepository,
    responses((status = 201, description = "With what the mirror has.", body = Repository)))]
async fn create_repository(
    State(app): State<App>,
    caller: Caller,
    extract::Json(new): extract::Json<NewRepository>,
) -> Answer<Created<Repository>> {
    let body = repositories::create_repository(&app, &caller, new).await?;
    Ok(Created { location: format!("/api/repositories/{}", body.id), body })
}

/// Lists repositories, the newest first.
#[utoipa::path(get, path = "/api/repositories", tag = "repositories", params(RepositoryFilter),
    responses((status = 200, description = "A page.", body = RepositoryPage)))]
async fn list_repositories(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<RepositoryFilter>,
) -> Answer<Json<RepositoryPage>> {
    Ok(Json(repositories::list_repositories(&app, &caller, filter).await?))
}

/// A repository, with what its mirror has.
#[utoipa::path(get, path = "/api/repositories/{id}", tag = "repositories",
    params(("id" = RepositoryId, Path)),
    responses((status = 200, description = "The repository.", body = Repository)))]
async fn find_repository(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RepositoryId>,
) -> Answer<Json<Repository>> {
    Ok(Json(repositories::find_repository(&app, &caller, id).await?))
}

/// The environments that a repository describes at the head of its default branch.
#[utoipa::path(get, path = "/api/environments", tag = "repositories", params(EnvironmentFilter),
    responses((status = 200, description = "The default one first.", body = EnvironmentList)))]
async fn list_environments(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<EnvironmentFilter>,
) -> Answer<Json<EnvironmentList>> {
    let found = environments::list_environments(&app, &caller, filter.repository).await?;
    Ok(Json(found))
}

/// Forgets a repository and removes its mirror.
#[utoipa::path(delete, path = "/api/repositories/{id}", tag = "repositories",
    params(("id" = RepositoryId, Path)), responses((status = 204, description = "Gone.")))]
async fn delete_repository(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RepositoryId>,
) -> Answer<StatusCode> {
    repositories::delete_repository(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a git bundle with what the mirror lacks, for a repository that its owner sends.
#[utoipa::path(put, path = "/api/repositories/{id}/bundle", tag = "repositories",
    request_body(content = Binary, content_type = "application/x-git-bundle"),
    params(("id" = RepositoryId, Path)),
    responses((status = 200, description = "With what the mirror has now.", body = Repository)))]
async fn send_bundle(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RepositoryId>,
    body: Body,
) -> Answer<Json<Repository>> {
    let stream = pieces(body, BUNDLE_MAX);
    Ok(Json(repositories::send_bundle(&app, &caller, id, stream).await?))
}
