//! `/api/api-keys`, and `/api/auth/key`: the one that is used.

use axum::extract::State;
use boatyard_api::key::{
    ApiKey, ApiKeyFilter, ApiKeyList, KeyCallFilter, KeyCallPage, MadeApiKey, NewApiKey,
};
use boatyard_model::KeyId;
use http::StatusCode;

use super::{
    answer::{Answer, Created, Json},
    described::{Routes, routes},
    extract::{self, Path, Query},
};
use crate::{app::App, auth::Caller, operations::keys};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(list_keys, create_key))
        .routes(routes!(find_key, revoke_key))
        .routes(routes!(list_key_calls))
        .routes(routes!(find_own_key, revoke_own_key))
}

/// Lists keys, without their secrets: one's own, or all of the organization.
#[utoipa::path(get, path = "/api/api-keys", tag = "keys", params(ApiKeyFilter),
    responses((status = 200, description = "Those that work first.", body = ApiKeyList)))]
async fn list_keys(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<ApiKeyFilter>,
) -> Answer<Json<ApiKeyList>> {
    Ok(Json(keys::list_keys(&app, &caller, filter).await?))
}

/// Makes a key, for oneself or, with `service`, for the organization.
///
/// The answer has its secret, which can't be read again. A key does no more than its member may, and
/// no more and no longer than what it was made with.
#[utoipa::path(post, path = "/api/api-keys", tag = "keys", request_body = NewApiKey,
    responses((status = 201, description = "The key, with its secret.", body = MadeApiKey)))]
async fn create_key(
    State(app): State<App>,
    caller: Caller,
    extract::Json(new): extract::Json<NewApiKey>,
) -> Answer<Created<MadeApiKey>> {
    let body = keys::create_key(&app, &caller, new).await?;
    let location = format!("/api/api-keys/{}", body.key.id);
    Ok(Created { body, location })
}

/// A key.
#[utoipa::path(get, path = "/api/api-keys/{id}", tag = "keys", params(("id" = KeyId, Path)),
    responses((status = 200, description = "The key.", body = ApiKey)))]
async fn find_key(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<KeyId>,
) -> Answer<Json<ApiKey>> {
    Ok(Json(keys::find_key(&app, &caller, id).await?))
}

/// Revokes a key: it works no more, at once and for good.
#[utoipa::path(delete, path = "/api/api-keys/{id}", tag = "keys", params(("id" = KeyId, Path)),
    responses((status = 204, description = "It is revoked.")))]
async fn revoke_key(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<KeyId>,
) -> Answer<StatusCode> {
    keys::revoke_key(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What was called with a key; the newest first. The newest thousand are kept.
#[utoipa::path(get, path = "/api/api-keys/{id}/calls", tag = "keys",
    params(("id" = KeyId, Path), KeyCallFilter),
    responses((status = 200, description = "A page.", body = KeyCallPage)))]
async fn list_key_calls(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<KeyId>,
    Query(filter): Query<KeyCallFilter>,
) -> Answer<Json<KeyCallPage>> {
    Ok(Json(keys::list_key_calls(&app, &caller, id, filter).await?))
}

/// The key that this is asked with, whatever it is for.
#[utoipa::path(get, path = "/api/auth/key", tag = "keys",
    responses((status = 200, description = "The key.", body = ApiKey)))]
async fn find_own_key(State(app): State<App>, caller: Caller) -> Answer<Json<ApiKey>> {
    Ok(Json(keys::find_own_key(&app, &caller).await?))
}

/// Revokes the key that this is asked with: how a program signs out.
#[utoipa::path(delete, path = "/api/auth/key", tag = "keys",
    responses((status = 204, description = "It is revoked.")))]
async fn revoke_own_key(State(app): State<App>, caller: Caller) -> Answer<StatusCode> {
    keys::revoke_own_key(&app, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}
