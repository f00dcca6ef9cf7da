//! `/api/connections`: credentials for outside services. No answer holds a value.

use axum::extract::State;
use boatyard_api::connection::{
    Connection, ConnectionCheck, ConnectionList, NewConnection, Rekey, Rekeyed, RotateConnection,
};
use boatyard_model::ConnectionId;
use http::StatusCode;

use super::{
    answer::{Answer, Json},
    described::{Routes, routes},
    extract::{self, Path},
};
use crate::{app::App, auth::Caller, operations::connections};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(list_connections, create_connection))
        .routes(routes!(rekey))
        .routes(routes!(find_connection, remove_connection))
        .routes(routes!(rotate_connection))
        .routes(routes!(check_connection))
}

/// The credentials that the broker has, without their values.
#[utoipa::path(get, path = "/api/connections", tag = "connections",
    responses((status = 200, description = "By name.", body = ConnectionList)))]
async fn list_connections(State(app): State<App>, caller: Caller) -> Answer<Json<ConnectionList>> {
    Ok(Json(ConnectionList { items: connections::list_connections(&app, &caller).await? }))
}

/// Stores a credential, sealed, and binds it to hosts and places. It can't be read again.
#[utoipa::path(post, path = "/api/connections", tag = "connections", request_body = NewConnection,
    responses((status = 200, description = "The connection.", body = Connection)))]
async fn create_connection(
    State(app): State<App>,
    caller: Caller,
    extract::Json(new): extract::Json<NewConnection>,
) -> Answer<Json<Connection>> {
    Ok(Json(connections::create_connection(&app, &caller, new).await?))
}

/// A connection.
#[utoipa::path(get, path = "/api/connections/{id}", tag = "connections",
    params(("id" = ConnectionId, Path)),
    responses((status = 200, description = "The connection.", body = Connection)))]
async fn find_connection(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ConnectionId>,
) -> Answer<Json<Connection>> {
    Ok(Json(connections::find_connection(&app, &caller, id).await?))
}

/// Removes a connection. Its value is gone at once; requests that still use it are refused.
#[utoipa::path(delete, path = "/api/connections/{id}", tag = "connections",
    params(("id" = ConnectionId, Path)), responses((status = 204, description = "Gone.")))]
async fn remove_connection(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ConnectionId>,
) -> Answer<StatusCode> {
    connections::remove_connection(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a connection another value. What workspaces have in its stead stays as it is.
#[utoipa::path(put, path = "/api/connections/{id}/value", tag = "connections",
    request_body = RotateConnection, params(("id" = ConnectionId, Path)),
    responses((status = 200, description = "The connection.", body = Connection)))]
async fn rotate_connection(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ConnectionId>,
    extract::Json(request): extract::Json<RotateConnection>,
) -> Answer<Json<Connection>> {
    Ok(Json(connections::rotate_connection(&app, &caller, id, request).await?))
}

/// Looks whether a connection works, and asks its service where Boatyard knows how.
#[utoipa::path(post, path = "/api/connections/{id}/check", tag = "connections",
    params(("id" = ConnectionId, Path)),
    responses((status = 200, description = "What was found.", body = ConnectionCheck)))]
async fn check_connection(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ConnectionId>,
) -> Answer<Json<ConnectionCheck>> {
    Ok(Json(connections::check_connection(&app, &caller, id).await?))
}

/// Changes the keys that seal values, while everything goes on.
#[utoipa::path(post, path = "/api/connections/rekey", tag = "connections", request_body = Rekey,
    responses((status = 200, description = "What was done.", body = Rekeyed)))]
async fn rekey(
    State(app): State<App>,
    caller: Caller,
    extract::Json(request): extract::Json<Rekey>,
) -> Answer<Json<Rekeyed>> {
    Ok(Json(connections::rekey(&app, &caller, request).await?))
}
