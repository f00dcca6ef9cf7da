//! Answers that git's own programs show to a person.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};

use super::{
    address::Direction,
    pkt,
    push::{Abilities, Command},
};
use crate::gateway::body::Answer;

/// An answer in plain text, which git shows line by line behind `remote:`.
pub(super) fn text(status: StatusCode, sentence: &str) -> Response<Answer> {
    with(status, "text/plain; charset=utf-8", format!("{sentence}\n").into())
}

/// An answer to a program that reads JSON, as git-lfs does.
pub(super) fn lfs(status: StatusCode, sentence: &str) -> Response<Answer> {
    let body = serde_json::json!({ "message": sentence }).to_string();
    with(status, "application/vnd.git-lfs+json", body.into())
}

/// An error in the middle of a fetch: `fatal: remote error: …`.
pub(super) fn fatal(sentence: &str) -> Response<Answer> {
    let mut body = Vec::new();
    pkt::put(&mut body, format!("ERR {sentence}").as_bytes());
    with(StatusCode::OK, &result(Direction::Fetch), body.into())
}

/// The answer to a push that is not passed on: `! [remote rejected] … (reason)` for each command,
/// and before it the sentences that say what to do. None where the client reads no such answer.
pub(super) fn rejected(
    abilities: Abilities,
    commands: &[(Command, String)],
    told: &str,
) -> Option<Response<Answer>> {
    if !abilities.report {
        return None;
    }
    let mut report = Vec::new();
    pkt::put(&mut report, b"unpack ok\n");
    for (command, reason) in commands {
        let reason = reason.replace(['\n', '\r'], " ");
        pkt::put(&mut report, format!("ng {} {reason}\n", command.name).as_bytes());
    }
    pkt::flush(&mut report);
    let mut body = Vec::new();
    match abilities.channel {
        Some(most) => {
            for (number, content) in [(2, format!("{told}\n").as_bytes()), (1, &report)] {
                for piece in content.chunks(most) {
                    pkt::put(&mut body, &[&[number], piece].concat());
                }
            }
            pkt::flush(&mut body);
        }
        None => body = report,
    }
    Some(with(StatusCode::OK, &result(Direction::Push), body.into()))
}

/// The type of the answer to a service's request.
pub(super) fn result(direction: Direction) -> String {
    format!("application/x-{}-result", direction.service())
}

/// A whole answer.
pub(super) fn with(status: StatusCode, kind: &str, body: Bytes) -> Response<Answer> {
    let mut response = Response::new(
        Full::new(body).map_err(|never: std::convert::Infallible| match never {}).boxed_unsync(),
    );
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
