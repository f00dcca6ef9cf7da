//! `/api/workspaces/{id}/files`: the files of a workspace.

use axum::{extract::State, response::Response};
use boatyard_api::workspace::{
    FILE_MAX, FileListing, FileQuery, FolderQuery, WriteFileQuery, WrittenFile,
};
use boatyard_model::WorkspaceId;

use super::{
    answer::{Answer, Binary, Json, download},
    described::{Routes, routes},
    extract::{Path, Query, Raw},
};
use crate::{app::App, auth::Caller, operations::workspaces};

pub(super) fn router() -> Routes {
    Routes::new().routes(routes!(list_files)).routes(routes!(read_file, write_file))
}

/// The entries of a folder below `/work`.
#[utoipa::path(get, path = "/api/workspaces/{id}/files", tag = "workspaces",
    params(("id" = WorkspaceId, Path), FolderQuery),
    responses((status = 200, description = "The entries.", body = FileListing)))]
async fn list_files(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<FolderQuery>,
) -> Answer<Json<FileListing>> {
    Ok(Json(workspaces::list_files(&app, &caller, id, query.path).await?))
}

/// The bytes of a file below `/work`, at most 64 MiB.
#[utoipa::path(get, path = "/api/workspaces/{id}/files/content", tag = "workspaces",
    params(("id" = WorkspaceId, Path), FileQuery),
    responses((status = 200, description = "The file.", body = Binary,
        content_type = "application/octet-stream")))]
async fn read_file(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<FileQuery>,
) -> Answer<Response> {
    let name = query.path.clone();
    let bytes = workspaces::read_file(&app, &caller, id, query.path).await?;
    Ok(download(bytes, "application/octet-stream", &name))
}

/// Writes a file below `/work`, at most 64 MiB: beside it, then renamed.
#[utoipa::path(put, path = "/api/workspaces/{id}/files/content", tag = "workspaces",
    request_body(content = Binary, content_type = "application/octet-stream"),
    params(("id" = WorkspaceId, Path), WriteFileQuery),
    responses((status = 200, description = "Written.", body = WrittenFile)))]
async fn write_file(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<WriteFileQuery>,
    body: Raw<FILE_MAX>,
) -> Answer<Json<WrittenFile>> {
    Ok(Json(workspaces::write_file(&app, &caller, id, query, body.bytes).await?))
}
