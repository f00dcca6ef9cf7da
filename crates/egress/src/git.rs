//! The git gateway: where a workspace's git reaches other repositories, without having a token.
//!
//! ```text
//!  git ─ /git/HOST/PATH/… ─► what is it for? ─► the desk: may it, and with what?
//!                                                  │ a push: its commands are read first
//!                                                  ▼
//!                              the caller's credentials out, the real one in ─► https://HOST/PATH
//!                                                  ◄── as it comes, piece by piece
//! ```
//!
//! Only git's smart protocol over HTTP is spoken, in its versions 0, 1 and 2. A [`Desk`], which is
//! the server's, says for each request whether it may pass and which credential goes with it. Of a
//! push, the commands are read before anything is sent on; one that changes what it may not is
//! answered by the gateway in the protocol's own words, so that git prints the reason. Packs pass
//! unread, both ways.
//!
//! A redirect is never followed. To another place on the same host it is passed on as one that
//! leads through the gateway again, where that place is judged by itself.

mod address;
mod body;
mod fault;
mod pkt;
mod push;
mod report;
pub(crate) mod serve;
pub mod sign;
pub mod token;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use boatyard_model::{AskState, WorkspaceId};
use http::HeaderValue;
use zeroize::Zeroizing;

pub use self::{
    address::{Direction, Remote},
    push::BranchPattern,
};
use crate::{gateway::Secret, https::Https, log::LogSink, resolve::Guard};

/// The first part of the gateway's paths.
pub(crate) const NAME: &str = "git";

/// Something that is on its way.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a workspace's git wants.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// Where.
    pub remote: Remote,
    /// Which way.
    pub direction: Direction,
    /// Git's end of its connection, inside the workspace's network.
    pub peer: Option<std::net::SocketAddr>,
}

/// That it may, and how.
#[derive(Debug, Clone)]
pub struct Grant {
    /// What allowed it.
    pub rule: Arc<str>,
    /// What goes with it.
    pub credential: Option<Credential>,
    /// Which addresses its host may have.
    pub guard: Guard,
    /// To which branches a push may go.
    pub branches: Vec<BranchPattern>,
    /// What came of asking a person, where one was asked.
    pub asked: Option<AskState>,
}

/// What the other side knows us by.
#[derive(Clone)]
pub struct Credential {
    /// What people call it.
    pub name: Arc<str>,
    /// What a person does when it is not taken; an order to the reader, without a full stop.
    pub mend: Arc<str>,
    /// The header's value.
    pub header: HeaderValue,
}

impl Credential {
    /// One that goes as a name and a password, as git has them.
    pub fn basic(name: &str, mend: &str, user: &str, password: &Secret) -> Self {
        let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
        let encoded = Zeroizing::new(STANDARD.encode(&*pair));
        // Base64 has nothing that a header could not carry.
        let mut header = HeaderValue::try_from(format!("Basic {}", &*encoded))
            .unwrap_or_else(|_| HeaderValue::from_static("Basic"));
        header.set_sensitive(true);
        Self { name: name.into(), mend: mend.into(), header }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.name)
    }
}

/// That it may not.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Why, and what to do: whole sentences.
    pub text: String,
    /// The rule that says so, if one does.
    pub rule: Option<Arc<str>>,
    /// Whether it was forbidden, or could not be done.
    pub kind: RefusalKind,
    /// What came of asking a person, where one was asked.
    pub asked: Option<AskState>,
}

/// What kind of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// Nobody may, or nobody said yes.
    Forbidden,
    /// It would be allowed, and something that it needs failed.
    Failed,
}

/// Who decides on what git wants, and has the credentials. It asks people where rules say so.
pub trait Desk: fmt::Debug + Send + Sync + 'static {
    /// Whether a workspace may do this, and with which credential.
    fn admit(&self, wish: Wish) -> Later<Result<Grant, Refusal>>;

    /// The other side did not take the grant's credential. Gives a grant with a fresh one, where
    /// there can be one; none where the other side's word is final, which is told to people.
    fn not_taken(&self, wish: Wish, grant: Grant) -> Later<Option<Grant>>;

    /// The other side took the grant's credential.
    fn taken(&self, wish: &Wish);

    /// The public key that the workspace's signatures are made with, as ssh writes it.
    fn signing_key(&self, workspace: WorkspaceId) -> Later<Result<String, Refusal>>;

    /// Signs a commit or tag that the workspace makes: the signature, armored.
    fn sign(&self, workspace: WorkspaceId, object: bytes::Bytes) -> Later<Result<String, Refusal>>;
}

/// How a git gateway behaves. [`Settings::default`] has what suits a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many requests one workspace may have under way; more are answered 429.
    pub max_requests: usize,
    /// The most bytes of a push.
    pub max_push: u64,
    /// The most bytes of a fetch's request: what it wants and has.
    pub max_fetch: u64,
    /// How long the commands of a push may take to come.
    pub commands_within: Duration,
    /// After how long without a byte a request is ended.
    pub idle_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_requests: 16,
            max_push: 4 << 30,
            max_fetch: 64 << 20,
            commands_within: Duration::from_secs(60),
            // A server that packs says that it lives every few seconds; some do not.
            idle_after: Duration::from_secs(300),
        }
    }
}

/// The git gateway of a server, for all its workspaces. Cheap to clone.
#[derive(Clone)]
pub struct GitGateway(Arc<Parts>);

struct Parts {
    https: Https,
    desk: Arc<dyn Desk>,
    log: Arc<dyn LogSink>,
    settings: Settings,
}

impl GitGateway {
    /// A gateway that goes out by `https` as `desk` says.
    pub fn new(
        https: Https,
        desk: Arc<dyn Desk>,
        log: Arc<dyn LogSink>,
        settings: Settings,
    ) -> Self {
        Self(Arc::new(Parts { https, desk, log, settings }))
    }

    /// How many requests a workspace may have under way.
    pub(crate) fn max_requests(&self) -> usize {
        self.0.settings.max_requests
    }
}

impl fmt::Debug for GitGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitGateway").field("desk", &self.0.desk).finish_non_exhaustive()
    }
}
