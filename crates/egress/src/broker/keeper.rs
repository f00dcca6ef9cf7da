//! Who has the values of credentials, and is told what becomes of them.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use boatyard_model::{ConnectionId, WorkspaceId};

use super::Placeholders;
use crate::gateway::Secret;

/// A value on its way.
pub type Opening = Pin<Box<dyn Future<Output = Result<Arc<Secret>, Withheld>> + Send>>;

/// Who has the values.
pub trait Keeper: fmt::Debug + Send + Sync + 'static {
    /// What knows placeholders; none while no key is there to tell them by.
    fn placeholders(&self) -> Option<Arc<Placeholders>>;

    /// The value of a credential, for one request of a workspace.
    fn open(&self, workspace: WorkspaceId, connection: ConnectionId) -> Opening;

    /// Takes note of something. Called in the path of requests: it must not block.
    fn tell(&self, told: Told);
}

/// Why a credential's value is not given: it was removed, it has expired, the vault is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// As the client is told it; without a full stop.
    pub why: String,
    /// What somebody can do about it; a sentence.
    pub mend: String,
}

/// Something that was done or seen.
#[derive(Debug, Clone)]
pub struct Told {
    /// Whose request it was.
    pub workspace: WorkspaceId,
    /// Where it went.
    pub host: String,
    /// To which port.
    pub port: u16,
    /// Its method.
    pub method: String,
    /// The credential, if it is known which one.
    pub connection: Option<(ConnectionId, Arc<str>)>,
    /// What it was.
    pub what: What,
}

/// What was done or seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A value was put in.
    Used,
    /// A placeholder stood where it may not, for this reason.
    Misplaced(String),
    /// The value was withheld, for this reason.
    Withheld(String),
    /// The destination answered that it does not know the value (401).
    Unknown,
}
