//! What a route takes out of a request, each with errors that name the field.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
};
use boatyard_api::{IdempotencyKey, Problem, ProblemKind, idempotency};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderMap, header, request::Parts};
use serde::de::DeserializeOwned;

use super::answer::Failure;
use crate::{
    auth::{Caller, Known, Refusal},
    stream::ByteStream,
};

/// JSON bodies of most routes, in bytes.
pub const JSON_MAX: usize = 256 << 10;

/// JSON bodies that hold a prompt of a mebibyte, each byte of which may take six as an escape.
pub const PROMPT_JSON_MAX: usize = 8 << 20;

/// How long a client may take between two pieces of a body.
const PIECE: Duration = Duration::from_secs(30);

/// The caller; the gate has found out who it is.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let known = parts.extensions.get::<Known>().map(|known| known.caller.clone());
        known.ok_or_else(|| Failure(Refusal::Missing.problem()))
    }
}

/// Where a request came from, as far as that is known.
#[derive(Debug, Clone, Copy)]
pub struct From(pub Option<std::net::IpAddr>);

impl<S: Sync> FromRequestParts<S> for From {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(crate::gate::address(&parts.extensions)))
    }
}

/// A part of the path, parsed.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        use axum::extract::{
            path::ErrorKind,
            rejection::PathRejection::{self, FailedToDeserializePathParams},
        };
        let bad = |rejection: PathRejection| match rejection {
            FailedToDeserializePathParams(failed) => match failed.into_kind() {
                ErrorKind::DeserializeError { key, message, .. } => {
                    Problem::invalid(format!("path.{key}"), message)
                }
                ErrorKind::Message(message) => Problem::invalid("path.id", message),
                kind => Problem::invalid("path", kind),
            },
            other => Problem::invalid("path", other),
        };
        let found = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        found.map(|axum::extract::Path(value)| Self(value)).map_err(|error| Failure(bad(error)))
    }
}

/// The query, parsed.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        query(parts.uri.query().unwrap_or_default()).map(Self).map_err(Failure)
    }
}

fn query<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let pairs = url::form_urlencoded::parse(text.as_bytes());
    let form = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(form).map_err(|error| at_fault("query.", &error))
}

/// A JSON body, parsed; at most `MAX` bytes.
#[derive(Debug)]
pub struct Json<T, const MAX: usize = JSON_MAX>(pub T);

impl<S: Sync, T: DeserializeOwned, const MAX: usize> FromRequest<S> for Json<T, MAX> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        expect_json(request.headers())?;
        let bytes = collect(request, MAX as u64, "the body").await?;
        json(&bytes).map(Self).map_err(Failure)
    }
}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let mime = mime(headers);
    if mime == "application/json" || (mime.starts_with("application/") && mime.ends_with("+json")) {
        return Ok(());
    }
    let detail = "expected `Content-Type: application/json`";
    Err(Problem::new(ProblemKind::UnsupportedMediaType, detail).at("header.content-type"))
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Serde takes a list for a struct too; every body of ours is an object.
    if bytes.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| *b != b'{') {
        return Err(Problem::invalid("body", "expected a JSON object"));
    }
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut parser)
        .map_err(|error: serde_path_to_error::Error<serde_json::Error>| at_fault("", &error))?;
    parser.end().map_err(|error| Problem::invalid("body", error))?;
    Ok(value)
}

/// The problem for a value that did not fit, at the field that is at fault.
fn at_fault(prefix: &str, error: &serde_path_to_error::Error<impl std::fmt::Display>) -> Problem {
    let message = error.inner().to_string();
    let path = error.path().to_string();
    // What stands where nothing can be named.
    let path = if matches!(&*path, "." | "?") { String::new() } else { path };
    // Serde names a missing or unknown field in words only.
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|begin| message.strip_prefix(begin)?.split('`').next());
    let field = match named {
        Some(name) if path.is_empty() => name.to_owned(),
        // The path may name the unknown field already.
        Some(name) if path == name || path.ends_with(&format!(".{name}")) => path,
        Some(name) => format!("{path}.{name}"),
        None if path.is_empty() => "body".to_owned(),
        None => path,
    };
    Problem::invalid(format!("{prefix}{field}"), message)
}

/// Raw bytes of a kind, held in memory; at most `MAX` bytes.
#[derive(Debug)]
pub struct Raw<const MAX: u64> {
    /// The kind, in small letters, without parameters; empty if there is none.
    pub mime: String,
    /// Them.
    pub bytes: Bytes,
}

impl<S: Sync, const MAX: u64> FromRequest<S> for Raw<MAX> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let mime = mime(request.headers());
        Ok(Self { mime, bytes: collect(request, MAX, "the body").await? })
    }
}

/// The kind of a body, in small letters, without parameters.
fn mime(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mime = value.unwrap_or_default().split(';').next().unwrap_or_default();
    mime.trim().to_ascii_lowercase()
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn collect(request: Request, max: u64, what: &str) -> Result<Bytes, Problem> {
    if declared(request.headers()).is_some_and(|length| length > max) {
        return Err(Problem::too_large(what, max));
    }
    let mut stream = request.into_body().into_data_stream();
    let mut all = BytesMut::new();
    let mut first = Bytes::new();
    loop {
        let piece = match tokio::time::timeout(PIECE, stream.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => {
                return Err(Problem::invalid("body", "the body ended early").caused_by(error));
            }
            Ok(None) => break,
            Err(_) => return Err(Problem::invalid("body", "the body did not come in time")),
        };
        if (first.len() + all.len() + piece.len()) as u64 > max {
            return Err(Problem::too_large(what, max));
        }
        // Most bodies come in one piece, which is taken as it is.
        if first.is_empty() && all.is_empty() {
            first = piece;
            continue;
        }
        if !first.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&piece);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// A body piece by piece, with a limit on its size and on each wait.
pub fn pieces(body: Body, max: u64) -> ByteStream {
    use std::io::{Error, ErrorKind};
    let state = (body.into_data_stream(), 0_u64);
    Box::pin(futures_util::stream::try_unfold(state, move |(mut stream, before)| async move {
        let piece = match tokio::time::timeout(PIECE, stream.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => return Err(Error::new(ErrorKind::UnexpectedEof, error)),
            Ok(None) => return Ok(None),
            Err(_) => return Err(Error::new(ErrorKind::TimedOut, "the body did not come in time")),
        };
        let sum = before + piece.len() as u64;
        if sum > max {
            let what = format!("the body may have at most {max} bytes");
            return Err(Error::new(ErrorKind::FileTooLarge, what));
        }
        Ok(Some((piece, (stream, sum))))
    }))
}

/// The name of a creation, if the client gave one.
#[derive(Debug)]
pub struct Once(pub Option<IdempotencyKey>);

impl<S: Sync> FromRequestParts<S> for Once {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let Some(value) = parts.headers.get(idempotency::HEADER) else { return Ok(Self(None)) };
        let key = value.to_str().unwrap_or_default().parse();
        key.map(|key| Self(Some(key)))
            .map_err(|error| Failure(Problem::invalid("header.idempotency-key", error)))
    }
}

#[cfg(test)]
mod tests {
    use boatyard_api::{
        session::NewPrompt,
        task::{NewTask, TaskFilter},
    };

    use super::*;

    fn field<T>(result: Result<T, Problem>) -> String {
        result.err().and_then(|problem| problem.field.clone()).unwrap_or_default()
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let task = |text: &str| field(json::<NewTask>(text.as_bytes()));
        assert_eq!(task(r#"{"prompt":"p"}"#), "repository");
        assert_eq!(task(r#"{"prompt":"p","repository":"r","promt":1}"#), "promt");
        assert_eq!(task(r#"{"prompt":1,"repository":"r"}"#), "prompt");
        assert_eq!(task(r#"{"prompt":"p","repository":"r","images":["x"]}"#), "images[0]");
        assert_eq!(task(r#"{"prompt":"p","repository":"r","limits":{"tme":1}}"#), "limits.tme");
        assert_eq!(task(r#"{"prompt":"p","repository":"r","agent":"A B"}"#), "agent");
        assert_eq!(task(r#"{"prompt":"p","repository":"r"} x"#), "body");
        assert_eq!(task(r#"["p","r"]"#), "body");
        assert_eq!(task("{"), "body");
        assert_eq!(task(""), "body");
        assert_eq!(field(json::<NewPrompt>(br#"{"text":"t","mode":"loud"}"#)), "mode");
    }

    #[test]
    fn queries_name_theirs_too() {
        let filter = |text: &str| field(query::<TaskFilter>(text));
        assert_eq!(filter("limit=10&state=running"), "");
        assert_eq!(filter("status=running"), "");
        assert_eq!(filter("limit=x"), "query.limit");
        assert_eq!(filter("state=loud"), "query.state");
        assert_eq!(filter("colour=red"), "query.colour");
        assert_eq!(filter("limit=1&limit=2"), "query.limit");
        assert_eq!(filter("repository=rep_x"), "query.repository");
    }

    #[tokio::test]
    async fn a_body_is_bounded_and_taken_whole() {
        let request = |body: Body| Request::builder().body(body).unwrap();
        let stream = |n: usize| {
            let pieces = (0..n).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"1234")));
            Body::from_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()))
        };
        let taken = collect(request(stream(3)), 12, "it").await.unwrap();
        assert_eq!(taken, "123412341234");
        assert_eq!(collect(request(Body::empty()), 12, "it").await.unwrap(), "");
        assert_eq!(collect(request(Body::from("x")), 12, "it").await.unwrap(), "x");
        let problem = collect(request(stream(4)), 12, "it").await.unwrap_err();
        assert!(problem.is(ProblemKind::TooLarge));
        let mut limited = pieces(stream(4), 12);
        let mut seen = 0;
        while let Some(Ok(piece)) = limited.next().await {
            seen += piece.len();
        }
        assert_eq!(seen, 12);
    }
}
