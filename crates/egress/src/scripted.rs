//! A model provider that is a script: any real agent runs against it without a key.
//!
//! ```text
//!   request ─► protocol ─► Conversation ─► script ─► Answer ─► protocol ─► JSON or events
//!              anthropic    what was asked,  the      parts:     the same
//!              responses    what the tools   round    thought,
//!              chat         said, which      that is  text,
//!              gemini       are offered      next     call
//! ```
//!
//! It speaks Anthropic's Messages, OpenAI's Responses and Chat Completions and Google's
//! generateContent, streaming and not, told apart by the end of the path, so that it can stand
//! below any prefix. It has the agent write a file and run a command by the agent's own tools and
//! then says what came of it. A prompt can choose another script, or be one (see `script`).
//!
//! Invariants: every text begins with `[scripted]`; an answer depends on its request alone (but for
//! a fault that is asked for a number of times, and the ids of one that is given again); what comes in is bounded and never trusted.

mod answer;
mod anthropic;
mod body;
mod chat;
mod conversation;
mod fault;
mod gemini;
mod responses;
mod schema;
mod script;
mod serve;
mod tools;
mod wire;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts,
};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

pub use self::body::Body;
use self::{
    answer::{Answer, fnv, tokens},
    body::End,
    conversation::{Conversation, Delivery},
    fault::{Fault, Kind},
};

/// The models that it says it has. Any name is taken.
const MODELS: [&str; 1] = ["demo"];

/// When all answers were made: 2026-01-01, since an answer depends on its request alone.
const CREATED: u64 = 1_767_225_600;

/// The most bytes of a request: a conversation with some pictures. It is held in memory, in the
/// server's process, for whoever asks.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// How many bytes of requests are held at once, of all who ask; more are told to ask again.
const HELD: usize = 128 * 1024 * 1024;
/// How many requests are read as JSON at a time. That takes many times their bytes, and a while.
const READ_AT_ONCE: usize = 1;
/// How long a request may take to come in.
const WITHIN: Duration = Duration::from_secs(120);

/// For how many prompts it is remembered how often they were asked and failed; then all of it is
/// forgotten.
const MOST_REMEMBERED: usize = 1024;

/// How the provider behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The pause between two events of a stream. None in tests; a little makes it look alive.
    pub pace: Duration,
    /// Where each request goes that was read; when there is no room, it is not told of.
    pub record: Option<mpsc::Sender<Seen>>,
}

/// A request as it came in. Its headers have credentials, so they are not shown by `Debug`.
#[derive(Clone)]
pub struct Seen {
    /// The request's method.
    pub method: Method,
    /// Its path and query.
    pub uri: Uri,
    /// Its headers, credentials included.
    pub headers: HeaderMap,
    /// Its body; empty where none is looked at.
    pub body: Bytes,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { pace: Duration::from_millis(10), record: None }
    }
}

/// The provider. Cheap to clone; a service of hyper's.
#[derive(Clone)]
pub struct Scripted(Arc<State>);

struct State {
    settings: Settings,
    /// How often a prompt has failed, by a hash of it.
    failed: Mutex<HashMap<u64, u32>>,
    /// How often an answer was given, by a hash of where it stands.
    asked: Mutex<HashMap<u64, u32>>,
    /// Bytes that requests may still hold.
    room: Arc<Semaphore>,
    /// Who may read one.
    reading: Semaphore,
}

/// A scripted provider with these settings.
pub fn service(settings: Settings) -> Scripted {
    let (failed, asked) = Default::default();
    let (room, reading) = (Arc::new(Semaphore::new(HELD)), Semaphore::new(READ_AT_ONCE));
    Scripted(Arc::new(State { settings, failed, asked, room, reading }))
}

/// The protocol of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Anthropic,
    Responses,
    Chat,
    Gemini,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'r> {
    /// An answer. Gemini names the model and how to deliver in the path, the others in the body.
    Answer(Protocol, &'r str, Delivery),
    CountTokens(Protocol),
    Models(Protocol),
    Model(Protocol, &'r str),
    /// Responses over a websocket, which is not spoken here.
    Websocket,
    /// Whether somebody is there.
    Alive,
    Unknown(Protocol),
}

impl Scripted {
    /// Answers a request. The path's end says what is asked; whatever is before it doesn't matter.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let asked = asked(&head.method, head.uri.path(), query, &head.headers);
        if !matches!(asked, Asked::CountTokens(_) | Asked::Answer(..)) {
            self.record(&head, Bytes::new());
        }
        match asked {
            Asked::Alive => {
                document(StatusCode::OK, &json!({"name": "boatyard scripted provider"}))
            }
            Asked::Models(protocol) => document(StatusCode::OK, &models(protocol)),
            Asked::Model(protocol, name) => document(StatusCode::OK, &model(protocol, name)),
            Asked::Websocket => {
                let why = "websockets are not spoken here: post the request";
                error(Protocol::Responses, StatusCode::UPGRADE_REQUIRED, why)
            }
            Asked::Unknown(protocol) => {
                let why = format!("{} {} is not known here", head.method, head.uri.path());
                error(protocol, StatusCode::NOT_FOUND, &why)
            }
            Asked::CountTokens(protocol) | Asked::Answer(protocol, ..) => {
                let Ok(read) = timeout(WITHIN, self.read(body)).await else {
                    return error(protocol, StatusCode::REQUEST_TIMEOUT, "the request is too slow");
                };
                let (bytes, _held) = match read {
                    Ok(read) => read,
                    Err((status, why)) => return error(protocol, status, &why),
                };
                self.record(&head, bytes.clone());
                let Ok(_turn) = self.0.reading.acquire().await else {
                    return error(protocol, StatusCode::SERVICE_UNAVAILABLE, "nobody reads");
                };
                let length = bytes.len();
                // Elsewhere than where everything else is waited for.
                let read = tokio::task::spawn_blocking(move || serde_json::from_slice(&bytes));
                match read.await.map_err(|why| why.to_string()) {
                    Ok(Ok(body)) => self.reply(&asked, &body, length),
                    Ok(Err(why)) => {
                        let why = format!("the request is not JSON: {why}");
                        error(protocol, StatusCode::BAD_REQUEST, &why)
                    }
                    Err(why) => error(protocol, StatusCode::INTERNAL_SERVER_ERROR, &why),
                }
            }
        }
    }

    /// Reads a request's body, and the room that it takes as long as it is held.
    async fn read<B>(
        &self,
        body: B,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), (StatusCode, String)>
    where
        B: hyper::body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut body = std::pin::pin!(Limited::new(body, MOST_BYTES));
        let (mut whole, mut held) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|why| {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("the request can't be read: {why}"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let more = Arc::clone(&self.0.room).try_acquire_many_owned(length).map_err(|_| {
                let why = "the scripted provider has too much to read: ask again in a while";
                (StatusCode::TOO_MANY_REQUESTS, why.to_owned())
            })?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
            whole.extend_from_slice(&data);
        }
        Ok((whole.freeze(), held))
    }

    fn record(&self, head: &Parts, body: Bytes) {
        let Some(record) = &self.0.settings.record else { return };
        let (method, uri, headers) = (head.method.clone(), head.uri.clone(), head.headers.clone());
        if record.try_send(Seen { method, uri, headers, body }).is_err() {
            tracing::debug!("nobody takes what the scripted provider has seen");
        }
    }

    /// Answers a request whose body is here.
    fn reply(&self, asked: &Asked<'_>, request: &Value, bytes: usize) -> Response<Body> {
        let &Asked::Answer(protocol, model, delivery) = asked else {
            let key = match asked {
                Asked::CountTokens(Protocol::Gemini) => "totalTokens",
                _ => "input_tokens",
            };
            return document(StatusCode::OK, &json!({ key: tokens(bytes) }));
        };
        if !request.is_object() {
            return error(protocol, StatusCode::BAD_REQUEST, "the request is not an object");
        }
        let mut conversation = match protocol {
            Protocol::Anthropic => anthropic::read(request),
            Protocol::Responses => responses::read(request),
            Protocol::Chat => chat::read(request),
            Protocol::Gemini => gemini::read(request, model, delivery),
        };
        conversation.bytes = bytes;
        let fault = script::fault(&conversation).filter(|fault| self.is_due(fault, &conversation));
        if let Some(Fault { kind: Kind::Status(status), .. }) = fault {
            // As the providers say it, so that agents take it for what it is.
            let why = match status {
                StatusCode::UNAUTHORIZED => "the API key is not valid",
                StatusCode::TOO_MANY_REQUESTS => "the rate limit is reached",
                _ => "the server failed",
            };
            let why = format!("{why}: this fault was asked for by the prompt");
            return error(protocol, status, &why);
        }
        let mut answer = script::next(&conversation);
        if let again @ 1.. = self.times_before(&answer) {
            // Real providers never use an id twice, and agents rely on that.
            answer.stem.push_str(&format!("again{again}"));
        }
        let mut pieces = render(protocol, &answer, request);
        let mut end = match answer.delivery {
            Delivery::Whole => End::Document,
            Delivery::Events | Delivery::Array => End::Stream,
        };
        // In the middle: after something of the answer, before its end.
        let middle = pieces.len() / 2;
        match fault.map(|fault| fault.kind) {
            Some(Kind::Malformed) => pieces.insert(middle, "data: {\"type\": \"scrip\n\n".into()),
            Some(Kind::Cut) => {
                pieces.truncate(middle);
                end = End::Cut;
            }
            Some(Kind::Silent) => {
                pieces.truncate(middle);
                end = End::Silence;
            }
            Some(Kind::Pause(_) | Kind::Status(_)) | None => {}
        }
        let body = match end {
            End::Document => Body::document(pieces.concat()),
            _ => {
                let pace = script::pace(&conversation).unwrap_or(self.0.settings.pace);
                Body::stream(pieces, pace, end)
            }
        };
        let body = match fault.map(|fault| fault.kind) {
            Some(Kind::Pause(length)) => body.pausing(length),
            _ => body,
        };
        let kind = match answer.delivery {
            Delivery::Events => "text/event-stream; charset=utf-8",
            Delivery::Whole | Delivery::Array => "application/json",
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    /// How often this was asked before; counts it.
    fn times_before(&self, answer: &Answer) -> u32 {
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= MOST_REMEMBERED {
            asked.clear();
        }
        let times = asked.entry(fnv(answer.stem.as_bytes())).or_default();
        *times = times.saturating_add(1);
        *times - 1
    }

    /// Whether a fault happens this time; counts it.
    fn is_due(&self, fault: &Fault, conversation: &Conversation) -> bool {
        let Some(times) = fault.times else { return true };
        let mut failed = self.0.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() >= MOST_REMEMBERED {
            failed.clear();
        }
        let so_far = failed.entry(fnv(conversation.prompt.as_bytes())).or_default();
        let due = *so_far < times;
        *so_far = so_far.saturating_add(1);
        due
    }
}

impl hyper::service::Service<Request<Incoming>> for Scripted {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

/// What a request asks for.
fn asked<'r>(method: &Method, path: &'r str, query: &str, headers: &HeaderMap) -> Asked<'r> {
    let path = path.trim_end_matches('/');
    let is_get = method == Method::GET || method == Method::HEAD;
    let protocol = if path.contains("/v1beta/") || headers.contains_key("x-goog-api-key") {
        Protocol::Gemini
    } else if headers.contains_key("anthropic-version") || path.contains("/messages") {
        Protocol::Anthropic
    } else {
        Protocol::Responses
    };
    let whole = |protocol| Asked::Answer(protocol, "", Delivery::Whole);
    if is_get {
        return match path.rsplit_once("/models") {
            _ if path.is_empty() => Asked::Alive,
            _ if path.ends_with("/responses") => Asked::Websocket,
            Some((_, "")) => Asked::Models(protocol),
            Some((_, name)) if name.starts_with('/') => Asked::Model(protocol, &name[1..]),
            _ => Asked::Unknown(protocol),
        };
    }
    if method != Method::POST {
        return Asked::Unknown(protocol);
    }
    if path.ends_with("/messages") {
        whole(Protocol::Anthropic)
    } else if path.ends_with("/messages/count_tokens") {
        Asked::CountTokens(Protocol::Anthropic)
    } else if path.ends_with("/chat/completions") {
        whole(Protocol::Chat)
    } else if path.ends_with("/responses") {
        whole(Protocol::Responses)
    } else if let Some((_, rest)) = path.rsplit_once("/models/")
        && let Some((model, verb)) = rest.rsplit_once(':')
    {
        let is_sse = query.split('&').any(|pair| pair == "alt=sse");
        match verb {
            "generateContent" => Asked::Answer(Protocol::Gemini, model, Delivery::Whole),
            "streamGenerateContent" if is_sse => {
                Asked::Answer(Protocol::Gemini, model, Delivery::Events)
            }
            "streamGenerateContent" => Asked::Answer(Protocol::Gemini, model, Delivery::Array),
            "countTokens" => Asked::CountTokens(Protocol::Gemini),
            _ => Asked::Unknown(Protocol::Gemini),
        }
    } else {
        Asked::Unknown(protocol)
    }
}

/// An answer in its protocol's form, in the pieces that it goes out in.
fn render(protocol: Protocol, answer: &Answer, request: &Value) -> Vec<String> {
    match (protocol, answer.delivery) {
        (Protocol::Anthropic, Delivery::Whole) => vec![anthropic::whole(answer).to_string()],
        (Protocol::Anthropic, _) => anthropic::events(answer),
        (Protocol::Responses, Delivery::Whole) => vec![responses::whole(answer).to_string()],
        (Protocol::Responses, _) => responses::events(answer),
        (Protocol::Chat, Delivery::Whole) => vec![chat::whole(answer).to_string()],
        (Protocol::Chat, _) => chat::events(answer, request),
        (Protocol::Gemini, Delivery::Whole) => vec![gemini::whole(answer).to_string()],
        (Protocol::Gemini, Delivery::Events) => gemini::events(answer),
        (Protocol::Gemini, Delivery::Array) => gemini::array(answer),
    }
}

fn document(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::document(value.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// An error in the provider's own shape.
fn error(protocol: Protocol, status: StatusCode, why: &str) -> Response<Body> {
    let code = status.as_u16();
    let why = format!("{}{why}", script::MARK);
    let value = match protocol {
        Protocol::Anthropic => {
            let kind = match code {
                401 => "authentication_error",
                403 => "permission_error",
                404 => "not_found_error",
                413 => "request_too_large",
                429 => "rate_limit_error",
                529 => "overloaded_error",
                400..500 => "invalid_request_error",
                _ => "api_error",
            };
            json!({"type": "error", "error": {"type": kind, "message": why}})
        }
        Protocol::Responses | Protocol::Chat => {
            let (kind, name) = match code {
                401 => ("invalid_request_error", json!("invalid_api_key")),
                429 => ("requests", json!("rate_limit_exceeded")),
                400..500 => ("invalid_request_error", Value::Null),
                _ => ("server_error", Value::Null),
            };
            json!({"error": {"message": why, "type": kind, "param": null, "code": name}})
        }
        Protocol::Gemini => {
            let name = match code {
                400 => "INVALID_ARGUMENT",
                401 => "UNAUTHENTICATED",
                403 => "PERMISSION_DENIED",
                404 => "NOT_FOUND",
                429 => "RESOURCE_EXHAUSTED",
                503 => "UNAVAILABLE",
                405..500 => "FAILED_PRECONDITION",
                _ => "INTERNAL",
            };
            json!({"error": {"code": code, "message": why, "status": name}})
        }
    };
    let mut response = document(status, &value);
    if matches!(code, 429 | 503) {
        // A second: long enough to be seen as a wait, short enough for a demonstration.
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn models(protocol: Protocol) -> Value {
    let all: Vec<Value> = MODELS.iter().map(|name| model(protocol, name)).collect();
    match protocol {
        Protocol::Anthropic => json!({
            "data": all, "has_more": false, "first_id": MODELS[0], "last_id": MODELS[MODELS.len() - 1],
        }),
        Protocol::Responses | Protocol::Chat => json!({"object": "list", "data": all}),
        Protocol::Gemini => json!({ "models": all }),
    }
}

fn model(protocol: Protocol, name: &str) -> Value {
    match protocol {
        Protocol::Anthropic => json!({
            "type": "model", "id": name, "display_name": "Scripted",
            "created_at": "2026-01-01T00:00:00Z",
        }),
        Protocol::Responses | Protocol::Chat => json!({
            "id": name, "object": "model", "created": CREATED, "owned_by": "boatyard",
        }),
        Protocol::Gemini => json!({
            "name": format!("models/{name}"), "displayName": "Scripted", "version": "1",
            "inputTokenLimit": 1_000_000, "outputTokenLimit": 64_000,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        }),
    }
}
