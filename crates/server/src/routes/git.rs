//! `/api/git`: what repositories are reached with, and what commits are signed with.

use axum::extract::State;
use boatyard_api::git::{
    GitConnection, GitConnectionList, GitIdentity, GitKey, GitPlace, NewGitConnection,
    NewGitIdentity,
};
use http::StatusCode;

use super::{
    answer::{Answer, Json},
    described::{Routes, routes},
    extract::{self, Query},
};
use crate::{app::App, auth::Caller, operations::git};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(list_git_connections, connect_repository, disconnect_repository))
        .routes(routes!(find_git_key, renew_git_key))
        .routes(routes!(find_git_identity, set_git_identity, clear_git_identity))
}

/// The connections of repositories: what they are fetched and pushed with.
#[utoipa::path(get, path = "/api/git/connections", tag = "repositories",
    responses((status = 200, description = "By place.", body = GitConnectionList)))]
async fn list_git_connections(
    State(app): State<App>,
    caller: Caller,
) -> Answer<Json<GitConnectionList>> {
    Ok(Json(GitConnectionList { items: git::list_git_connections(&app, &caller).await? }))
}

/// Binds a connection to a repository, or to all below a place, in the stead of the one that was.
#[utoipa::path(put, path = "/api/git/connections", tag = "repositories",
    request_body = NewGitConnection,
    responses((status = 200, description = "As it is bound.", body = GitConnection)))]
async fn connect_repository(
    State(app): State<App>,
    caller: Caller,
    extract::Json(new): extract::Json<NewGitConnection>,
) -> Answer<Json<GitConnection>> {
    Ok(Json(git::connect_repository(&app, &caller, new).await?))
}

/// Takes a connection from a repository.
#[utoipa::path(delete, path = "/api/git/connections", tag = "repositories", params(GitPlace),
    responses((status = 204, description = "Gone.")))]
async fn disconnect_repository(
    State(app): State<App>,
    caller: Caller,
    Query(place): Query<GitPlace>,
) -> Answer<StatusCode> {
    git::disconnect_repository(&app, &caller, place).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The key that commits and tags of workspaces are signed with: its public half.
#[utoipa::path(get, path = "/api/git/key", tag = "repositories",
    responses((status = 200, description = "The key.", body = GitKey)))]
async fn find_git_key(State(app): State<App>, caller: Caller) -> Answer<Json<GitKey>> {
    Ok(Json(git::find_git_key(&app, &caller).await?))
}

/// Makes another key the one that commits are signed with. What the one before signed stays signed.
#[utoipa::path(post, path = "/api/git/key", tag = "repositories",
    responses((status = 200, description = "The new key.", body = GitKey)))]
async fn renew_git_key(State(app): State<App>, caller: Caller) -> Answer<Json<GitKey>> {
    Ok(Json(git::renew_git_key(&app, &caller).await?))
}

/// In whose name the caller's workspaces commit: their own, or the server's.
#[utoipa::path(get, path = "/api/git/identity", tag = "repositories",
    responses((status = 200, description = "The name and address.", body = GitIdentity)))]
async fn find_git_identity(State(app): State<App>, caller: Caller) -> Answer<Json<GitIdentity>> {
    Ok(Json(git::find_git_identity(&app, &caller).await?))
}

/// Has the caller's workspaces commit in this name, from their next task or result on.
#[utoipa::path(put, path = "/api/git/identity", tag = "repositories",
    request_body = NewGitIdentity,
    responses((status = 200, description = "As it is now.", body = GitIdentity)))]
async fn set_git_identity(
    State(app): State<App>,
    caller: Caller,
    extract::Json(new): extract::Json<NewGitIdentity>,
) -> Answer<Json<GitIdentity>> {
    Ok(Json(git::set_git_identity(&app, &caller, new).await?))
}

/// Has the caller's workspaces commit in the server's name again.
#[utoipa::path(delete, path = "/api/git/identity", tag = "repositories",
    responses((status = 204, description = "Gone.")))]
async fn clear_git_identity(State(app): State<App>, caller: Caller) -> Answer<StatusCode> {
    git::clear_git_identity(&app, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}
