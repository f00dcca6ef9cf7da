//! Credentials on their way out: where a request that may leave gets what its workspace never had.
//!
//! ```text
//!  request ─► rules ─► (a person) ─► Broker::prepare ─► destination
//!                                       │ placeholder, bound to this host, method and path: exchanged
//!                                       │ placeholder of something else: refused, and reported
//!                                       └ none: as it is
//! ```
//!
//! The proxy calls it for every request whose inside it sees: plain HTTP, and TLS that it opened.
//! What is not opened can't be looked at, and nothing is added there.
//!
//! - [`Broker`]: what the proxy calls; [`Exchange`] is the one that has credentials, from a
//!   [`Keeper`], where [`Nothing`] has none.
//! - [`Placeholders`]: what workspaces have in their stead.
//! - [`Place`]: where in a request one goes.
//! - [`Echo`]: paints over what an answer repeats.

mod body;
mod exchange;
mod head;
mod keeper;
mod paint;
mod place;
mod placeholder;
#[cfg(test)]
mod tests;
mod unpack;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use boatyard_model::{ConnectionId, WorkspaceId};
use bytes::Bytes;
use http::{StatusCode, request};
use http_body_util::combinators::UnsyncBoxBody;

pub use self::{
    exchange::Exchange,
    keeper::{Keeper, Opening, Told, What, Withheld},
    paint::Echo,
    place::Place,
    placeholder::{Placeholders, Shape},
    unpack::Packing,
};
use crate::{policy::Policy, rules::Target};

/// Why a body ended before its end.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The same, as the proxy calls it.
pub type BodyError = BoxError;

/// A body on its way through, piece by piece.
///
/// One that fails with a [`Refusal`] ends the request, and where no answer has begun yet, the
/// client is told that refusal.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A request that the rules let pass, or a person did.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Where it comes from.
    pub workspace: WorkspaceId,
    /// Where it goes: the host is what the certificate is checked for, whatever its headers say.
    pub target: &'a Target,
    /// How it goes there.
    pub scheme: Scheme,
    /// What the workspace is judged by: its bindings say which credentials go where.
    pub policy: &'a Policy,
    /// Why it passes.
    pub leave: Leave<'a>,
}

/// Why a request passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave<'a> {
    /// The rule of this name lets it, by itself or after a person was asked.
    Rule(&'a Arc<str>),
    /// The workspace learns: no credential may be added, and placeholders are refused.
    Learned,
}

/// How a request goes to its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// As plain text, which everybody on the way reads.
    Http,
    /// By TLS, with a certificate that was verified.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a URL need not name.
    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A request as it is to leave.
pub struct Prepared {
    /// Its body. Where its length changed, the broker has corrected or removed `Content-Length`.
    pub body: Body,
    /// The credentials that were put in, to be told to [`Broker::answered`] and recorded.
    pub used: Vec<ConnectionId>,
    /// What the answer goes through on its way to the workspace: its head by [`Echo::head`], its
    /// body by [`Echo::packing`] and [`Echo::body`].
    pub echo: Echo,
}

impl Prepared {
    /// With nothing put in.
    pub fn untouched(body: Body) -> Self {
        Self { body, used: Vec::new(), echo: Echo::default() }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("used", &self.used).finish_non_exhaustive()
    }
}

/// Why a request does not leave after all. It holds no value of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 403 where it is not allowed, 502 where a credential can't be had.
    pub status: StatusCode,
    /// What is wrong, as the client and the record are told it; without a full stop.
    pub why: String,
    /// What somebody can do about it; a sentence.
    pub mend: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refusal {}

/// What [`Broker::prepare`] gives.
pub type Preparing<'a> = Pin<Box<dyn Future<Output = Result<Prepared, Refusal>> + Send + 'a>>;

/// Puts credentials into requests.
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Makes a request what it is to be outside, or says why it may not leave. `head` is as the
    /// destination will see it, but for its URI, which is in full (scheme, host, path, query), and
    /// `Host`, which is written from that afterwards.
    ///
    /// Nothing is sent before this is done; a body may be looked at and changed as it passes.
    fn prepare<'a>(
        &'a self,
        call: Call<'a>,
        head: &'a mut request::Parts,
        body: Body,
    ) -> Preparing<'a>;

    /// The name of the credential that [`Broker::prepare`] would put into a request, for the person
    /// who is asked about it.
    fn credential(&self, call: Call<'_>, head: &request::Parts) -> Option<Arc<str>>;

    /// Is told how the destination answered a request with these credentials in it: 401 may mean
    /// that one is revoked. Called in the path of the answer: it must not block.
    fn answered(&self, call: Call<'_>, used: &[ConnectionId], status: StatusCode);
}

/// Has no credentials, and knows no placeholders.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

impl Broker for Nothing {
    fn prepare<'a>(&'a self, _: Call<'a>, _: &'a mut request::Parts, body: Body) -> Preparing<'a> {
        Box::pin(std::future::ready(Ok(Prepared::untouched(body))))
    }

    fn credential(&self, _: Call<'_>, _: &request::Parts) -> Option<Arc<str>> {
        None
    }

    fn answered(&self, _: Call<'_>, _: &[ConnectionId], _: StatusCode) {}
}
