//! `/api/blobs`: pictures and attachments.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use boatyard_api::{
    Problem, ProblemKind,
    blob::{BLOB_MAX, Blob},
};
use boatyard_model::BlobId;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    answer::{Answer, Binary, Created, download},
    described::{Routes, routes},
    extract::{Path, Raw},
};
use crate::{app::App, auth::Caller, operations::blobs};

/// What browsers may show in place. Anything else could run as a page and is only kept.
const SHOWN: &[&str] = &["image/png", "image/jpeg", "image/gif", "image/webp", "text/plain"];

/// A blob never changes under its id.
const FOREVER: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

pub(super) fn router() -> Routes {
    Routes::new().routes(routes!(create_blob)).routes(routes!(read_blob))
}

/// Uploads a picture or an attachment, at most 20 MiB. `Content-Type` says what it is.
#[utoipa::path(post, path = "/api/blobs", tag = "blobs",
    request_body(content = Binary, content_type = "application/octet-stream"),
    responses((status = 201, description = "Kept.", body = Blob)))]
async fn create_blob(
    State(app): State<App>,
    caller: Caller,
    body: Raw<BLOB_MAX>,
) -> Answer<Created<Blob>> {
    let token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    let well_formed = body.mime.len() <= 100
        && body.mime.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub));
    if !well_formed {
        let detail = "expected a `Content-Type` that says what the bytes are, as `image/png`";
        let problem = Problem::new(ProblemKind::UnsupportedMediaType, detail);
        return Err(problem.at("header.content-type").into());
    }
    if body.bytes.is_empty() {
        return Err(Problem::invalid("body", "an empty blob holds nothing").into());
    }
    let body = blobs::create_blob(&app, &caller, body.bytes, body.mime).await?;
    Ok(Created { location: format!("/api/blobs/{}", body.id), body })
}

/// A blob's bytes, under their own `Content-Type`.
#[utoipa::path(get, path = "/api/blobs/{id}", tag = "blobs", params(("id" = BlobId, Path)),
    responses((status = 200, description = "The bytes.", body = Binary,
        content_type = "application/octet-stream")))]
async fn read_blob(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<BlobId>,
    headers: HeaderMap,
) -> Answer<Response> {
    let blob = blobs::read_blob(&app, &caller, id).await?;
    let tag = HeaderValue::from_str(&format!("\"{id}\"")).map_err(Problem::internal)?;
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == tag);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = download(blob.bytes, "application/octet-stream", &id.to_string());
        if let Ok(mime) = HeaderValue::from_str(&blob.mime) {
            response.headers_mut().insert(header::CONTENT_TYPE, mime);
        }
        if SHOWN.contains(&blob.mime.as_str()) {
            let inline = HeaderValue::from_static("inline");
            response.headers_mut().insert(header::CONTENT_DISPOSITION, inline);
        }
        response
    };
    response.headers_mut().insert(header::CACHE_CONTROL, FOREVER);
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}
