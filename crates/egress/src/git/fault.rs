//! What the gateway says when a request is not passed on, or got no answer.

use std::time::Duration;

use http::{Response, StatusCode};

use super::{
    RefusalKind,
    address::{Direction, Part},
    report,
};
use crate::gateway::body::Answer;

/// The command line of those who are told.
const ASK: &str = "Ask the owner of this workspace";

/// Why a request is not answered by the other side. The text says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(
        "This is no address of a repository. Boatyard takes /git/HOST/PATH, which git makes of \
         https://HOST/PATH, ssh://git@HOST/PATH and git@HOST:PATH by itself."
    )]
    Address,
    #[error(
        "Boatyard passes on git's smart protocol over HTTP only (`git fetch`, `git push`), and this \
         request is something else. Files of a repository are read from a clone of it."
    )]
    Service,
    #[error(
        "Boatyard does not pass on Git LFS: its answers hold addresses and tokens that no workspace \
         may have. Work without the large files (`GIT_LFS_SKIP_SMUDGE=1`), or allow the files' host \
         in the egress rules and fetch them from there."
    )]
    Lfs,
    #[error("{text}")]
    Refused { text: String, kind: RefusalKind },
    #[error(
        "This workspace has {limit} git requests under way, which is as many as it may. Try again \
         when one is done."
    )]
    TooMany { limit: usize },
    #[error("Boatyard does not pass on this push: {why}. Push with `git push`, in smaller parts.")]
    Push { why: String },
    #[error(
        "The request is larger than the {limit} bytes that Boatyard passes on at once. Push fewer \
         commits at a time."
    )]
    TooLarge { limit: u64 },
    #[error("Git sent no whole request within {} s. Try again.", .within.as_secs())]
    Slow { within: Duration },
    #[error("{repository} can't be reached: {why}. Try again; if it stays, {ASK} to look at it.")]
    Unreachable { repository: String, why: String },
    #[error("{repository} gave no whole answer: {why}. Try again.")]
    Broken { repository: String, why: String },
    #[error(
        "No byte passed to or from {repository} for {} s, so the request was ended. Try again.",
        .after.as_secs()
    )]
    TimedOut { repository: String, after: Duration },
    #[error(
        "{host} does not take the connection `{name}` for {repository} (status {status}): it may \
         have ended, been revoked, or not cover this repository. To mend it, {mend}; then try again."
    )]
    NotTaken { host: String, repository: String, name: String, mend: String, status: u16 },
    #[error(
        "{repository} was not found, or needs a token that Boatyard does not have. {ASK} to connect \
         it: `boatyard repository connect {repository} CONNECTION`."
    )]
    NoCredential { repository: String },
    #[error(
        "{repository} was not found: there is no such repository, or the connection `{name}` can't \
         see it. Check the address; if it is right, {ASK} to let the connection see it."
    )]
    NotFound { repository: String, name: String },
    #[error(
        "{repository} answered with a redirect to {to}, which Boatyard does not follow. If that is \
         where it lives now, use that address: `git remote set-url origin ADDRESS`."
    )]
    Redirect { repository: String, to: String },
    #[error("{repository} answered with status {status}. Try again later.")]
    Status { repository: String, status: u16 },
    #[error(
        "What answers for {repository} is no git server that speaks the smart protocol over HTTPS. \
         Check the address."
    )]
    NoGit { repository: String },
}

impl Fault {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Address | Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Lfs => StatusCode::NOT_IMPLEMENTED,
            Self::Service
            | Self::NotTaken { .. }
            // Not 401: git would ask for a password that nobody inside has.
            | Self::NoCredential { .. }
            | Self::Redirect { .. }
            | Self::Refused { kind: RefusalKind::Forbidden, .. } => StatusCode::FORBIDDEN,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Push { .. } => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Refused { kind: RefusalKind::Failed, .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Status { .. }
            | Self::NoGit { .. } => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether Boatyard kept it from leaving, rather than that it failed.
    pub(super) fn is_denial(&self) -> bool {
        matches!(
            self,
            Self::Address
                | Self::Service
                | Self::Lfs
                | Self::Refused { kind: RefusalKind::Forbidden, .. }
                | Self::TooMany { .. }
                | Self::Push { .. }
                | Self::TooLarge { .. }
                | Self::Redirect { .. }
        )
    }

    /// The answer, in the way in which git shows it at this point.
    pub(super) fn answer(&self, at: Option<(Direction, Part)>) -> Response<Answer> {
        match (self, at) {
            (Self::Lfs, _) => report::lfs(self.status(), &self.to_string()),
            // What a status says is not shown here, and this is.
            (_, Some((Direction::Fetch, Part::Exchange))) => report::fatal(&self.to_string()),
            _ => report::text(self.status(), &self.to_string()),
        }
    }
}
