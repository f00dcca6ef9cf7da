//! A typed client: one method per endpoint, typed errors, streams that resume.
//!
//! [`Client`] is cheap to clone and keeps connections open between requests. It sends the key to
//! the server's own address only (redirects are not followed), gives each request a deadline, and
//! tells three kinds of failure apart ([`Error`]). [`Follow`] reads a stream of events and takes
//! it up again after a cut, so that its reader sees every event once.

use std::{fmt, time::Duration};

use boatyard_model::OrganizationId;
use bytes::Bytes;
use reqwest::{Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use crate::{IdempotencyKey, Problem, idempotency, identity::ORGANIZATION_HEADER, problem};

mod audit;
mod connections;
mod egress;
mod endpoints;
mod follow;
mod git;
mod keys;
mod organizations;
mod people;
mod requests;
mod settings;
mod share;
mod sign_in;
mod sse;
#[cfg(test)]
mod tests;
mod usage;

pub use egress::EgressPlace;
pub use follow::{Follow, Step};
pub use keys::Grant;
pub use requests::ExportForm;
pub use sse::{Frame, Parser};

/// How long to try to reach the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request may take as a whole, unless its endpoint says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection is kept for the next request: shorter than the server keeps it, so that
/// a request does not meet its end.
const IDLE: Duration = Duration::from_secs(20);

/// The largest answer that is read into memory, in bytes: a patch or a file in full.
const ANSWER_MAX: usize = 128 << 20;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server said no.
    #[error(transparent)]
    Problem(Problem),
    /// The server could not be reached, or the connection broke. It may have seen the request.
    #[error("no connection to the server at {server}; {next}")]
    Unreachable {
        /// The address that was tried.
        server: String,
        /// What to do about it.
        next: &'static str,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What answered is not a Boatyard server, or one of another version.
    #[error("unexpected answer from {server}: {what}")]
    Protocol {
        /// The address that was asked.
        server: String,
        /// What was wrong with the answer.
        what: String,
    },
}

impl Error {
    /// The problem, if the server answered with one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            Self::Unreachable { .. } | Self::Protocol { .. } => None,
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Problem(problem) => matches!(problem.status, 429 | 503),
            Self::Unreachable { .. } => true,
            Self::Protocol { .. } => false,
        }
    }
}

/// The result of a request.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Talks to one server, as one caller.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<String>,
    organization: Option<OrganizationId>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// A request's body.
enum Body {
    Empty,
    Json(Vec<u8>),
    Raw { mime: String, body: reqwest::Body },
}

/// A request before it is sent.
struct Call {
    method: Method,
    path: String,
    query: String,
    body: Body,
    accept: &'static str,
    idempotency: Option<IdempotencyKey>,
    timeout: Duration,
}

impl Client {
    /// A client for the server at `server` (`http://127.0.0.1:7070`), with an API key.
    ///
    /// # Errors
    /// When the address is not one, or the key holds a character that no key has.
    pub fn new(server: &str, key: Option<&str>) -> Result<Self> {
        let protocol = |what: String| Error::Protocol { server: server.to_owned(), what };
        let mut base = Url::parse(server).map_err(|e| protocol(format!("not an address: {e}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(protocol("not an address: expected http://host:port".to_owned()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        base.set_query(None);
        base.set_fragment(None);
        if key.is_some_and(|key| !key.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(protocol("the API key holds a character that no key has".to_owned()));
        }
        // One provider for the whole program; somebody else may have been first, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("boatyard/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true);
        if base.scheme() == "http" {
            // No TLS will be spoken: spare the reading of the system's certificates.
            http = http.tls_certs_only([]);
        }
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|e| protocol(e.to_string()))?;
        Ok(Self { http, base, key: key.map(str::to_owned), organization: None })
    }

    /// The same, about another organization of the same person.
    #[must_use]
    pub fn in_organization(self, organization: OrganizationId) -> Self {
        Self { organization: Some(organization), ..self }
    }

    /// The server's address, with a slash at its end.
    pub fn server(&self) -> &str {
        self.base.as_str()
    }

    fn call(&self, method: Method, path: impl Into<String>) -> Call {
        Call {
            method,
            path: path.into(),
            query: String::new(),
            body: Body::Empty,
            accept: "application/json",
            idempotency: None,
            timeout: REQUEST_TIMEOUT,
        }
    }

    async fn send(&self, call: Call) -> Result<reqwest::Response> {
        let timeout = call.timeout;
        self.send_open(call, Some(timeout)).await
    }

    /// Sends without a deadline for the body when `timeout` is none, for streams.
    async fn send_open(&self, call: Call, timeout: Option<Duration>) -> Result<reqwest::Response> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path(), call.path.trim_start_matches('/')));
        url.set_query((!call.query.is_empty()).then_some(&call.query));
        let mut request = self.http.request(call.method, url).header(header::ACCEPT, call.accept);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(organization) = self.organization {
            request = request.header(ORGANIZATION_HEADER, organization.to_string());
        }
        if let Some(key) = &call.idempotency {
            request = request.header(idempotency::HEADER, key.as_str());
        }
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        request = match call.body {
            Body::Empty => request,
            Body::Json(json) => request.header(header::CONTENT_TYPE, "application/json").body(json),
            Body::Raw { mime, body } => request.header(header::CONTENT_TYPE, mime).body(body),
        };
        let response = request.send().await.map_err(|e| self.unreachable(e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.failed(response).await)
    }

    async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        let bytes = self.bytes(call).await?;
        serde_json::from_slice(&bytes).map_err(|e| self.protocol(format!("not as expected: {e}")))
    }

    async fn empty(&self, call: Call) -> Result<()> {
        self.bytes(call).await.map(drop)
    }

    async fn bytes(&self, call: Call) -> Result<Bytes> {
        let response = self.send(call).await?;
        self.collect(response).await
    }

    async fn collect(&self, mut response: reqwest::Response) -> Result<Bytes> {
        let mut all = bytes::BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.unreachable(e))? {
            if all.len() + chunk.len() > ANSWER_MAX {
                return Err(self.protocol(format!("more than {ANSWER_MAX} bytes")));
            }
            if all.is_empty() && response.content_length() == Some(chunk.len() as u64) {
                return Ok(chunk);
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// The error behind an answer that is no success.
    async fn failed(&self, response: reqwest::Response) -> Error {
        let status = response.status();
        let is_problem = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with(problem::MEDIA_TYPE));
        if !is_problem {
            return self.protocol(said(status));
        }
        match self.collect(response).await.map(|bytes| serde_json::from_slice::<Problem>(&bytes)) {
            Ok(Ok(problem)) => Error::Problem(problem),
            Ok(Err(error)) => self.protocol(format!("a problem that is none: {error}")),
            Err(error) => error,
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        let next = if error.is_connect() {
            "is it running? Start it with `boatyard up`, or name another by BOATYARD_SERVER"
        } else if error.is_timeout() {
            "it did not answer in time; see its log"
        } else {
            "the connection broke; try again"
        };
        // Without the address: it stands in the message, and may one day hold something secret.
        let source = Box::new(error.without_url());
        Error::Unreachable { server: self.base.to_string(), next, source }
    }

    fn protocol(&self, what: impl Into<String>) -> Error {
        Error::Protocol { server: self.base.to_string(), what: what.into() }
    }
}

impl Call {
    fn query(mut self, query: &impl Serialize) -> Self {
        // A form's syntax, in which numbers, words and absent values are all that our queries have.
        self.query = serde_urlencoded::to_string(query).unwrap_or_default();
        self
    }

    fn json(mut self, body: &impl Serialize) -> Self {
        // Only a map with keys that are no texts fails, which no request has.
        self.body = Body::Json(serde_json::to_vec(body).unwrap_or_default());
        self
    }

    fn raw(mut self, mime: &str, body: impl Into<reqwest::Body>) -> Self {
        self.body = Body::Raw { mime: mime.to_owned(), body: body.into() };
        self
    }

    fn once(mut self, key: Option<&IdempotencyKey>) -> Self {
        self.idempotency = key.cloned();
        self
    }

    fn accept(mut self, mime: &'static str) -> Self {
        self.accept = mime;
        self
    }

    fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

fn said(status: StatusCode) -> String {
    format!("{status} without a problem document; is this a Boatyard server?")
}

/// Whether the server is on this machine, so that no proxy is asked for it.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
