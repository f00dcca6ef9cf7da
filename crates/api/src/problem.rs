//! The one shape of an error: `application/problem+json` (RFC 9457).
//!
//! [`Problem`] is what an operation returns when it can't do what was asked, and what a client
//! reads. Its `type` is stable and one of [`ProblemKind`]; `detail` says what happened in this
//! case, `next` what to do about it, `field` which part of the request is at fault. The cause is
//! kept beside it for the server's log and never leaves the server. `docs/problems.md` is
//! generated from the table below.

use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $status:literal $code:literal $title:literal $next:literal,)*) => {
        /// What kind of problem: the stable part of an error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemKind { $($(#[$doc])* $variant,)* }

        impl ProblemKind {
            /// Every kind, by status.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable `type`, a reference below the server's address.
            pub const fn uri(self) -> &'static str {
                match self { $(Self::$variant => concat!("/problems/", $code),)* }
            }

            /// The HTTP status that it comes with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// A short summary, the same for every problem of the kind.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What one does about it, as a rule.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $next,)* }
            }
        }
    };
}

kinds! {
    /// The request itself is at fault.
    Invalid = 400 "invalid-request" "The request is not valid"
        "Correct the part that `field` and `detail` name.",
    /// No key, or one that is not known.
    Unauthenticated = 401 "unauthenticated" "Who are you?"
        "Send `Authorization: Bearer by_…`; on the server's machine the key is in the data folder, in `client.toml`.",
    /// Known, but not allowed to do this.
    NotAllowed = 403 "not-allowed" "That is not allowed"
        "Ask somebody who may, or use another key.",
    /// The `Host` or `Origin` is not one of this server's own.
    ForeignOrigin = 403 "foreign-origin" "The request comes from another site"
        "Use an address that the server knows as its own: `server.url` in boatyard.toml adds one.",
    /// It does not exist, or not for the caller.
    NotFound = 404 "not-found" "There is no such thing"
        "Look at the list for what exists; an id is case-sensitive.",
    /// The address exists, the method does not.
    MethodNotAllowed = 405 "method-not-allowed" "The method is not allowed here"
        "See /api/docs for what this address takes.",
    /// Its state does not allow it now.
    Conflict = 409 "conflict" "Its state does not allow that"
        "Read it again, and decide by its state.",
    /// A quota does not allow it.
    QuotaReached = 409 "quota-reached" "A quota is reached"
        "`boatyard quota list` shows what may be used and what is; an administrator gives more.",
    /// Something with this name is there already.
    AlreadyExists = 409 "already-exists" "It exists already"
        "Choose another name, or use the one that exists.",
    /// The same `Idempotency-Key` came with another request.
    IdempotencyConflict = 409 "idempotency-conflict" "The key was used for another request"
        "Use a fresh `Idempotency-Key` for each new thing.",
    /// Larger than the server takes.
    TooLarge = 413 "too-large" "That is too large"
        "Send less; `detail` names the limit.",
    /// The body is of a kind that is not taken here.
    UnsupportedMediaType = 415 "unsupported-media-type" "The body is of the wrong kind"
        "Send the `Content-Type` that `detail` names.",
    /// No agent of this name, or it is not ready to run here.
    AgentUnusable = 422 "agent-unusable" "The agent can't be used"
        "See `boatyard agent list` for what is ready and why the others are not.",
    /// The repository has no such branch or commit.
    RevisionUnknown = 422 "revision-unknown" "There is no such branch or commit"
        "Name a branch, or a commit in full, that the repository has.",
    /// The repository can't be worked on: it is empty, of a refused address, not a repository.
    RepositoryUnusable = 422 "repository-unusable" "The repository can't be used"
        "See `detail`; a repository needs at least one commit.",
    /// Too much at a time.
    TooManyRequests = 429 "too-many-requests" "Too much at a time"
        "Wait as long as `Retry-After` says, then try again.",
    /// A fault of the server.
    Internal = 500 "internal" "Something went wrong in the server"
        "Try again; if it stays, look in the server's log for the request id.",
    /// The repository's origin did not answer as it should.
    RepositoryUnreachable = 502 "repository-unreachable" "The repository could not be fetched"
        "Check the address, the token in the settings, and that the server may reach the host.",
    /// The workspace did not do what it should.
    WorkspaceFailed = 502 "workspace-failed" "The workspace could not do that"
        "See `detail`; the workspace's files are kept.",
    /// Not now: the server is going down, or can't make workspaces on this machine.
    Unavailable = 503 "unavailable" "Not possible at the moment"
        "Try again in a moment; `boatyard doctor` tells what this machine lacks.",
    /// It took too long.
    Timeout = 504 "timeout" "It took too long"
        "Try again, with a longer limit where there is one.",
    /// The disk is full.
    DiskFull = 507 "disk-full" "The disk is full"
        "Free some space on the disk that holds the data folder, or run `boatyard gc`.",
}

/// Why something could not be done. One pointer wide; read its fields through it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problem(Box<ProblemFields>);

/// Why something could not be done: a problem document (RFC 9457).
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemFields {
    /// What kind of problem: stable, for programs.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "/problems/not-found")]
    pub kind: Cow<'static, str>,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened in this case.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
    /// Which part of the request is at fault, as a path: `prompt`, `images[2]`, `query.limit`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// The request, as the server's log names it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
    /// In how many seconds to try again, where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after: Option<u64>,
    /// What lies behind it; for the server's log only.
    #[serde(skip)]
    #[schema(ignore)]
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Problem {
    /// A problem of this kind, with what happened in words for the caller.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self(Box::new(ProblemFields {
            kind: Cow::Borrowed(kind.uri()),
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
            next: None,
            field: None,
            request_id: None,
            retry_after: None,
            source: None,
        }))
    }

    /// A part of the request is at fault.
    pub fn invalid(field: impl Into<String>, detail: impl fmt::Display) -> Self {
        Self::new(ProblemKind::Invalid, detail.to_string()).at(field)
    }

    /// No key, or one that is not known.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Unauthenticated, detail).advised()
    }

    /// The caller may not do this.
    pub fn not_allowed(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::NotAllowed, detail)
    }

    /// There is no such thing (or it is not the caller's). `what` is `task`, `session`, …
    pub fn not_found(what: &str, id: impl fmt::Display) -> Self {
        Self::new(ProblemKind::NotFound, format!("there is no {what} {id}"))
    }

    /// Its state does not allow it.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Conflict, detail)
    }

    /// Something with this name is there already.
    pub fn already_exists(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::AlreadyExists, detail)
    }

    /// The same `Idempotency-Key` came with another request.
    pub fn idempotency_conflict() -> Self {
        let detail = "this Idempotency-Key came before, with a different request";
        Self::new(ProblemKind::IdempotencyConflict, detail).at("header.idempotency-key").advised()
    }

    /// Larger than the server takes. `limit` in bytes.
    pub fn too_large(what: &str, limit: u64) -> Self {
        Self::new(ProblemKind::TooLarge, format!("{what} may have at most {limit} bytes"))
    }

    /// No agent of this name, or it is not ready.
    pub fn agent_unusable(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::AgentUnusable, detail).at("agent").advised()
    }

    /// The repository has no such branch or commit.
    pub fn revision_unknown(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::RevisionUnknown, detail).at("base")
    }

    /// The repository can't be worked on.
    pub fn repository_unusable(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::RepositoryUnusable, detail).at("repository")
    }

    /// The repository's origin did not answer as it should.
    pub fn repository_unreachable(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::RepositoryUnreachable, detail).at("repository").advised()
    }

    /// The workspace did not do what it should.
    pub fn workspace_failed(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::WorkspaceFailed, detail)
    }

    /// Not now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Unavailable, detail)
    }

    /// It took too long.
    pub fn timeout(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Timeout, detail)
    }

    /// The disk is full.
    pub fn disk_full() -> Self {
        Self::new(ProblemKind::DiskFull, "the disk that holds the data folder is full").advised()
    }

    /// A fault of the server. The caller learns nothing but the request id; the cause is logged.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ProblemKind::Internal, "the server's log has more under the request id")
            .caused_by(cause)
    }

    /// The same, at this part of the request.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same, with this next step.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// The same, with its kind's usual advice as the next step.
    #[must_use]
    pub fn advised(mut self) -> Self {
        self.next = self.known_kind().map(|kind| kind.advice().to_owned());
        self
    }

    /// The same, with what lies behind it, for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(cause.into()));
        self
    }

    /// Its kind; none if a newer server made it.
    pub fn known_kind(&self) -> Option<ProblemKind> {
        ProblemKind::ALL.iter().copied().find(|kind| kind.uri() == self.kind)
    }

    /// Whether it is of this kind.
    pub fn is(&self, kind: ProblemKind) -> bool {
        self.kind == kind.uri()
    }
}

impl Deref for Problem {
    type Target = ProblemFields;

    fn deref(&self) -> &ProblemFields {
        &self.0
    }
}

impl DerefMut for Problem {
    fn deref_mut(&mut self) -> &mut ProblemFields {
        &mut self.0
    }
}

impl utoipa::PartialSchema for Problem {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        ProblemFields::schema()
    }
}

impl ToSchema for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            // A sentence that begins with the field, or is about a thing of its name, needs no more.
            Some(field) if !self.detail.is_empty() && !names(&self.detail, field) => {
                write!(f, "{field}: {}", self.detail)
            }
            _ if self.detail.is_empty() => f.write_str(&self.title),
            _ => f.write_str(&self.detail),
        }
    }
}

/// Whether a sentence says by itself which field it is about.
fn names(detail: &str, field: &str) -> bool {
    detail.split([' ', '`', ':']).any(|word| word == field)
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Problem");
        out.field("type", &self.kind).field("status", &self.status).field("detail", &self.detail);
        out.field("field", &self.field).field("request_id", &self.request_id);
        out.field("source", &self.source).finish()
    }
}

impl StdError for Problem {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

/// The page of codes, in Markdown.
pub fn documentation() -> String {
    let mut out = String::from(
        "# Problems\n\n\
         Every error of the API is `application/problem+json` (RFC 9457) with a `type` from this \
         list, a `detail` for the case at hand, the `field` of the request that is at fault, the \
         `next` step and the `request_id` under which the server's log has more. This page is \
         generated from `crates/api/src/problem.rs`.\n\n\
         | status | type | means | what to do |\n|---|---|---|---|\n",
    );
    for kind in ProblemKind::ALL {
        use fmt::Write as _;
        let (status, uri) = (kind.status(), kind.uri());
        // Writing to a string can't fail.
        let _ = writeln!(out, "| {status} | `{uri}` | {} | {} |", kind.title(), kind.advice());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_way_over_the_wire_without_its_cause() {
        let cause = std::io::Error::other("secret path");
        let problem = Problem::internal(cause).at("x").with_next("do y");
        let json = serde_json::to_string(&problem).unwrap();
        assert!(!json.contains("secret"));
        let back: Problem = serde_json::from_str(&json).unwrap();
        assert!(back.is(ProblemKind::Internal));
        assert_eq!(back.status, 500);
        assert_eq!((back.field.as_deref(), back.next.as_deref()), (Some("x"), Some("do y")));
        assert!(back.source().is_none() && problem.source().is_some());
    }

    #[test]
    fn types_are_distinct() {
        for (i, kind) in ProblemKind::ALL.iter().enumerate() {
            assert!(ProblemKind::ALL[..i].iter().all(|other| other.uri() != kind.uri()));
            assert_eq!(Problem::new(*kind, "").known_kind(), Some(*kind));
        }
    }

    /// `BOATYARD_UPDATE=1 cargo test -p boatyard-api` writes the page anew.
    #[test]
    fn the_page_of_codes_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/problems.md");
        if std::env::var_os("BOATYARD_UPDATE").is_some() {
            std::fs::write(path, documentation()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), documentation());
    }
}
