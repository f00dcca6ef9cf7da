//! Who a request is for, and whether it may go: asked before it leaves, told when it is over.
//!
//! The gateway knows the workspace by its listener and the session by the path (`/s/<session>/…`),
//! which only that workspace can use: what another one writes there is another's session, and a
//! [`Purse`] takes it for none. What a purse holds back waits, and loses nothing.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use boatyard_model::{SessionId, WorkspaceId};

use super::{Call, credential::Managed};

/// A future that can be kept.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A request that wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Where it comes from.
    pub workspace: WorkspaceId,
    /// The session that its path names. To be believed if it is one of that workspace.
    pub session: Option<SessionId>,
    /// The provider's name.
    pub provider: String,
    /// It costs whom the purse is nothing: nobody pays for this provider, or a person does, with a
    /// credential of their own.
    pub is_free: bool,
}

/// Whether a request may go.
pub enum Admission {
    /// It may.
    Go,
    /// Not yet: it waits for this.
    Wait(Later<Result<(), Stopped>>),
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Go => "Go",
            Self::Wait(_) => "Wait",
        })
    }
}

/// It may not go: why, in a sentence or two for the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped(pub String);

/// Who decides whether a request may go, and counts what it used.
pub trait Purse: fmt::Debug + Send + Sync {
    /// Whether a request may go. To be dropped with the request, if it goes away.
    fn admit(&self, asked: &Asked) -> Admission;

    /// A request is over. Not to be waited in: this is told while the answer ends.
    fn ended(&self, call: &Call);
}

/// A person's own credential for a provider of models.
#[derive(Debug, Clone)]
pub struct Own {
    /// What people call it.
    pub name: Arc<str>,
    /// What requests go with.
    pub credential: Arc<Managed>,
}

/// Who has people's own credentials, which go in the place of a provider's.
pub trait Lender: fmt::Debug + Send + Sync {
    /// The one that a request goes with: of whoever the workspace's session belongs to. None where
    /// the provider's own is meant.
    fn lend(
        &self,
        workspace: WorkspaceId,
        session: Option<SessionId>,
        provider: &str,
    ) -> Later<Option<Own>>;
}

/// Nobody has one.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Lender for Nobody {
    fn lend(&self, _: WorkspaceId, _: Option<SessionId>, _: &str) -> Later<Option<Own>> {
        Box::pin(std::future::ready(None))
    }
}

/// Lets everything go and counts nothing.
#[derive(Debug, Clone, Copy)]
pub struct Open;

impl Purse for Open {
    fn admit(&self, _: &Asked) -> Admission {
        Admission::Go
    }

    fn ended(&self, _: &Call) {}
}
