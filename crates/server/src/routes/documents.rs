//! What is read rather than asked: the page's files, the API's description, health, figures.

use std::borrow::Cow;

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use boatyard_api::{Problem, system::Health};
use boatyard_page::{Encoding, Keeping};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use sha2::{Digest as _, Sha256};

use super::{
    Api,
    answer::{Failure, Json},
    described::{Routes, routes},
};
use crate::{app::App, auth::Known, health, metrics, openapi};

/// What the page may do: nothing but talk to this server.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; \
     object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
);

/// What the reading page of the API may do: be seen.
const READING_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
);

/// A file whose name has its content's hash.
const HASHED: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// A file that may change under its name.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(find_health))
        .routes(routes!(read_metrics))
        .route("/api/openapi.json", axum::routing::get(read_openapi))
        .route("/api/docs", axum::routing::get(read_docs))
        .route("/skill.md", axum::routing::get(read_skill))
        .route("/", axum::routing::get(super::identity::enter))
}

/// How the server is: in a word for everybody, in full for a caller.
#[utoipa::path(get, path = "/health", tag = "system",
    responses((status = 200, description = "It works, wholly or in part.", body = Health),
        (status = 503, description = "It is going down, or its database does not answer.",
            body = Health)))]
async fn find_health(
    State(api): State<Api>,
    State(app): State<App>,
    known: Option<Extension<Known>>,
) -> Response {
    use boatyard_api::system::HealthStatus::{Degraded, Ok, Stopping};
    let stopping = &api.gate.stopping;
    let health = match known {
        Some(_) => api.health.full(&app, stopping).await,
        None => api.health.brief(&app, stopping).await,
    };
    let dead = health.details.as_ref().is_some_and(|details| !details.database.ok);
    let status = match health.status {
        Stopping => StatusCode::SERVICE_UNAVAILABLE,
        Degraded if dead || health.details.is_none() => StatusCode::SERVICE_UNAVAILABLE,
        Ok | Degraded => StatusCode::OK,
    };
    (status, Json(health)).into_response()
}

/// Figures, in the text form of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "system",
    responses((status = 200, description = "The figures.", body = String,
        content_type = "text/plain")))]
async fn read_metrics(State(api): State<Api>) -> Response {
    ::metrics::gauge!("boatyard_http_requests_under_way").set(api.gate.under_way() as f64);
    match api.app.store.figures().await {
        Ok(figures) => metrics::store(&figures),
        Err(error) => {
            tracing::warn!(error = %crate::chain(&error), "the store's figures can't be read");
        }
    }
    ::metrics::gauge!("boatyard_uptime_seconds").set(health::uptime().as_secs_f64());
    let mime = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, mime)], metrics::render()).into_response()
}

async fn read_openapi() -> Response {
    let mime = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, mime)], openapi::document()).into_response()
}

async fn read_docs() -> Response {
    let mime = HeaderValue::from_static("text/html; charset=utf-8");
    let headers = [(header::CONTENT_TYPE, mime), (header::CONTENT_SECURITY_POLICY, READING_POLICY)];
    (headers, openapi::html()).into_response()
}

async fn read_skill() -> Response {
    let mime = HeaderValue::from_static("text/markdown; charset=utf-8");
    ([(header::CONTENT_TYPE, mime)], openapi::skill()).into_response()
}

/// Everything that no route has: a file of the page, the page for one of its own addresses, or a
/// problem.
pub(super) async fn fallback(method: http::Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    let missing = || Failure(Problem::not_found("address", path)).into_response();
    let api = path == "/api" || path.starts_with("/api/");
    if api || !matches!(method, http::Method::GET | http::Method::HEAD) {
        return missing();
    }
    let name = path.trim_start_matches('/');
    if boatyard_page::get(name).is_some() {
        return page(name, &headers);
    }
    // A missing file must not answer with the page, or a browser runs it as a script.
    let is_file =
        name.starts_with("assets/") || name.rsplit('/').next().is_some_and(|n| n.contains('.'));
    let wants_page = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if is_file || !wants_page { missing() } else { page("index.html", &headers) }
}

/// A file of the page, packed where the client takes that.
pub(super) fn page(name: &str, asked: &HeaderMap) -> Response {
    let Some(asset) = boatyard_page::get(name) else {
        return Failure(Problem::not_found("file", name)).into_response();
    };
    let asset = if takes_brotli(asked) { asset } else { asset.decoded() };
    let (keeping, tag) = match asset.keeping {
        Keeping::Immutable => (HASHED, None),
        Keeping::AskAgain => {
            let digest = crate::hex(&Sha256::digest(&asset.bytes)[..8]);
            (ASK_AGAIN, HeaderValue::from_str(&format!("\"{digest}\"")).ok())
        }
    };
    let known = tag.is_some() && asked.get(header::IF_NONE_MATCH) == tag.as_ref();
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        match asset.bytes {
            Cow::Borrowed(bytes) => Body::from(bytes),
            Cow::Owned(bytes) => Body::from(bytes),
        }
        .into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.mime));
    if asset.encoding == Encoding::Brotli {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::CACHE_CONTROL, keeping);
    headers.extend(tag.map(|tag| (header::ETAG, tag)));
    headers.insert(header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn takes_brotli(asked: &HeaderMap) -> bool {
    let values = asked.get_all(header::ACCEPT_ENCODING).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|one| {
        let (name, rest) = one.split_once(';').unwrap_or((one, ""));
        name.trim() == "br" && !matches!(rest.trim(), "q=0" | "q=0.0")
    })
}
