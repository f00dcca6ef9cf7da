//! How a route answers.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use boatyard_api::Problem;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// A problem on its way out; the [gate](crate::gate) writes it.
#[derive(Debug)]
pub struct Failure(pub Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status);
        let mut response = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response();
        response.extensions_mut().insert(self.0);
        response
    }
}

/// On an answer that fails in a form of its own, which the [gate](crate::gate) leaves as it is: that
/// of another standard.
#[derive(Debug, Clone, Copy)]
pub struct AsItIs;

/// What a route gives.
pub type Answer<T> = Result<T, Failure>;

/// A value as JSON, which no browser keeps.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => Encoded(bytes.into()).into_response(),
            Err(error) => Failure(Problem::internal(error)).into_response(),
        }
    }
}

/// JSON that is written already, which no browser keeps.
#[derive(Debug)]
pub struct Encoded(pub Bytes);

impl IntoResponse for Encoded {
    fn into_response(self) -> Response {
        let mime = HeaderValue::from_static("application/json");
        let no_store = HeaderValue::from_static("no-store");
        let headers = [(header::CONTENT_TYPE, mime), (header::CACHE_CONTROL, no_store)];
        (headers, self.0).into_response()
    }
}

/// Something that was made: 201 with its address.
#[derive(Debug)]
pub struct Created<T> {
    /// It.
    pub body: T,
    /// Where it is found.
    pub location: String,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, Json(self.body)).into_response();
        if let Ok(location) = HeaderValue::from_str(&self.location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// Bytes of any kind, in the API's description.
#[derive(Debug)]
pub struct Binary;

impl utoipa::PartialSchema for Binary {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::{KnownFormat, ObjectBuilder, SchemaFormat, schema::Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
            .description(Some("Bytes."))
            .into()
    }
}

impl utoipa::ToSchema for Binary {}

/// Bytes of a kind, as a file to keep. Nothing in them may act as the page: browsers show them as
/// they are and run nothing.
pub fn download(bytes: Bytes, mime: &'static str, name: &str) -> Response {
    let disposition = format!("attachment; filename=\"{}\"", harmless(name));
    let mut response = Body::from(bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(mime));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let sandbox = HeaderValue::from_static("sandbox; default-src 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, sandbox);
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// A file name without what could end its quotes or begin a folder.
fn harmless(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or_default();
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect()
}
