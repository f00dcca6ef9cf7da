//! What the gateway answers by itself: in the shape in which the provider's own errors come, so
//! that every agent shows the sentence in it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::json;

use super::{body::Answer, provider::Api};

/// Why a request gets no answer of its provider. The text says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(
        "The path names no model provider that Boatyard has; it has {known}. Ask for \
         /<provider>/…; the operator adds one as [providers.NAME] in boatyard.toml."
    )]
    UnknownProvider { known: String },
    #[error("Boatyard has no key for the model provider `{provider}`. To give it one, {remedy}.")]
    NoKey { provider: String, remedy: String },
    #[error(
        "Boatyard has nothing to ask the model provider `{provider}` with: {why}. To mend it, \
         {remedy}. What is asked after that goes on."
    )]
    NoGrant { provider: String, why: String, remedy: String },
    #[error(
        "The model provider `{provider}` refused the credential that Boatyard has for it \
         ({status}): it is wrong, run out or revoked. To mend it, {remedy}. What is asked after \
         that goes on."
    )]
    Revoked { provider: String, status: u16, remedy: String },
    #[error("{0}")]
    Stopped(String),
    #[error(
        "Boatyard passes `{provider}` on over HTTP only and not as a websocket. Send the same \
         request as a POST."
    )]
    Websocket { provider: String },
    #[error(
        "Boatyard does not pass this request on to `{provider}`: what is asked for there is made \
         of keys, and no key enters a workspace."
    )]
    Credentials { provider: String },
    #[error("Boatyard can't pass this request on: {0}. Send it otherwise.")]
    Malformed(&'static str),
    #[error(
        "The request is larger than the {limit} bytes that Boatyard passes on. Send less at once: \
         shorten the conversation or its attachments."
    )]
    TooLarge { limit: u64 },
    #[error(
        "This workspace has {limit} requests to models under way, which is as many as it may. Try \
         again when one is done."
    )]
    TooMany { limit: usize },
    #[error(
        "Boatyard is offline by its settings, so the model provider `{provider}` can't be reached. \
         The operator allows it by `offline = false` in [egress] of boatyard.toml."
    )]
    Offline { provider: String },
    #[error(
        "The model provider `{provider}` can't be reached: {why}. Try again; if it stays, the \
         operator checks the network and `base_url` in [providers.{provider}]."
    )]
    Unreachable { provider: String, why: String },
    #[error("The model provider `{provider}` gave no whole answer: {why}. Try again.")]
    Broken { provider: String, why: String },
    #[error(
        "The model provider `{provider}` did not take a connection within {} s. Try again; if it \
         stays, the operator checks the network and `base_url` in [providers.{provider}].",
        .within.as_secs()
    )]
    NotConnected { provider: String, within: Duration },
    #[error(
        "No byte passed to or from the model provider `{provider}` for {} s, so the request was \
         ended. Try again.",
        .after.as_secs()
    )]
    TimedOut { provider: String, after: Duration },
}

/// What each protocol calls it.
struct Kind {
    status: StatusCode,
    anthropic: &'static str,
    openai: (&'static str, &'static str),
    gemini: &'static str,
}

impl Fault {
    fn kind(&self) -> Kind {
        let kind = |status, anthropic, openai, gemini| Kind { status, anthropic, openai, gemini };
        let invalid = "invalid_request_error";
        match self {
            Self::UnknownProvider { .. } => kind(
                StatusCode::NOT_FOUND,
                "not_found_error",
                (invalid, "unknown_provider"),
                "NOT_FOUND",
            ),
            Self::Stopped(_) => kind(
                // Not 429 and not 5xx, after which agents try again.
                StatusCode::PAYMENT_REQUIRED,
                "billing_error",
                ("insufficient_quota", "budget_spent"),
                "FAILED_PRECONDITION",
            ),
            Self::NoKey { .. } | Self::NoGrant { .. } | Self::Revoked { .. } => kind(
                StatusCode::UNAUTHORIZED,
                "authentication_error",
                (invalid, "invalid_api_key"),
                "UNAUTHENTICATED",
            ),
            Self::Websocket { .. } => kind(
                StatusCode::UPGRADE_REQUIRED,
                invalid,
                (invalid, "websocket_not_supported"),
                "UNIMPLEMENTED",
            ),
            Self::Malformed(_) => kind(
                StatusCode::BAD_REQUEST,
                invalid,
                (invalid, "malformed_request"),
                "INVALID_ARGUMENT",
            ),
            Self::Credentials { .. } => kind(
                StatusCode::FORBIDDEN,
                "permission_error",
                (invalid, "credentials_not_passed_on"),
                "PERMISSION_DENIED",
            ),
            Self::TooLarge { .. } => kind(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                (invalid, "request_too_large"),
                "INVALID_ARGUMENT",
            ),
            Self::TooMany { .. } => kind(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                ("requests", "rate_limit_exceeded"),
                "RESOURCE_EXHAUSTED",
            ),
            Self::Offline { .. } => kind(
                StatusCode::FORBIDDEN,
                "permission_error",
                (invalid, "offline"),
                "PERMISSION_DENIED",
            ),
            Self::Unreachable { .. } | Self::Broken { .. } => kind(
                StatusCode::BAD_GATEWAY,
                "api_error",
                ("server_error", "provider_unreachable"),
                "UNAVAILABLE",
            ),
            Self::NotConnected { .. } | Self::TimedOut { .. } => kind(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout_error",
                ("server_error", "provider_timeout"),
                "DEADLINE_EXCEEDED",
            ),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.kind().status
    }

    /// The answer, as `api` has its errors; and how long its body is.
    pub(super) fn answer(&self, api: Api) -> (Response<Answer>, usize) {
        let Kind { status, anthropic, openai: (openai, code), gemini } = self.kind();
        let message = self.to_string();
        let body = match api {
            Api::Anthropic => json!({
                "type": "error",
                "error": { "type": anthropic, "message": message },
            }),
            Api::OpenAi => json!({
                "error": { "message": message, "type": openai, "param": null, "code": code },
            }),
            Api::Gemini | Api::Vertex => json!({
                "error": { "code": status.as_u16(), "message": message, "status": gemini },
            }),
            Api::Bedrock => json!({ "message": message }),
        };
        let body = Bytes::from(body.to_string());
        let length = body.len();
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Self::TooMany { .. } = self {
            // Seconds. Clients that are told nothing wait longer each time.
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        (response, length)
    }
}
