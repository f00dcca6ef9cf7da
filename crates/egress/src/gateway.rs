//! The model gateway: where a workspace's agents reach their models, without having a key.
//!
//! ```text
//!  listener of a workspace ─► connection (hyper, HTTP/1.1)
//!                                │ /<provider>/rest
//!                                ▼
//!            purse: may it go? it waits, or is told why not
//!                                ▼
//!             caller's credentials out, the real one in ─► dial (upstream proxy, TLS)
//!                                │                            │ base_url + rest
//!                                ◄──── as it comes, piece by piece
//!                                └─ usage: tokens and money, read from what passes
//! ```
//!
//! [`Provider`]s are what the operator configured; each has an [`Api`], which says in what form
//! its key goes and its errors come. Paths, queries and bodies pass as they are. Of the headers,
//! those go no further that are between two neighbours, and those that are a caller's credential.
//! A [`Secret`] leaves in a request to its own provider and in no other way: what comes back is
//! looked through for it, and what a provider has for handing out keys is not passed on.
//!
//! The workspace is known by the listener, never by what a client says; which of its sessions asks,
//! by the path (`/s/<session>/<provider>/…`). What one can take is bounded by [`Settings`]; each
//! request leaves a [`Call`], with what it used. Where a provider has too much to do, the next of
//! its [`Fallback`]s is asked, if the operator wants that.

pub(crate) mod body;
mod call;
mod connection;
mod credential;
mod echo;
mod fault;
mod held;
mod payer;
mod prices;
mod provider;
mod request;
mod rewrite;
mod secret;
pub(crate) mod upstream;
mod usage;
mod work;

use std::{collections::BTreeMap, fmt, future::Future, os::fd::OwnedFd, sync::Arc, time::Duration};

use boatyard_model::WorkspaceId;
use rustls::{ClientConfig, RootCertStore};
use tokio::{
    net::TcpStream,
    sync::{OnceCell, Semaphore, watch},
};

pub use self::{
    call::{Call, Calls, End, InsteadOf},
    credential::{Auth, FileSource, Managed, Source},
    payer::{Admission, Asked, Later, Lender, Nobody, Open, Own, Purse, Stopped},
    prices::{Price, Prices},
    provider::{Api, Builtin, Credential, Fallback, Provider},
    secret::{KeyFileError, Readers, Secret},
    usage::{Tokens, Usage},
};
use crate::{
    Error,
    dial::Outgoing,
    git::{self, GitGateway},
    listener,
    resolve::{Guard, Resolver},
};

/// How a gateway behaves. [`Settings::default`] has what suits a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where our own outgoing traffic goes.
    pub outgoing: Outgoing,
    /// Certificates of authorities in PEM form that are trusted beside those of the system.
    pub authorities: Vec<u8>,
    /// The most bytes of a request's body.
    pub max_body: u64,
    /// How many requests one workspace may have under way; more are answered 429.
    pub max_requests: usize,
    /// How many connections one workspace may have; more are closed at once.
    pub max_connections: usize,
    /// How long making a connection to a provider may take, TLS included.
    pub connect_within: Duration,
    /// How long the head of a request may take, and how long a connection may wait for the next.
    pub head_within: Duration,
    /// After how long without a byte a request is ended. Models are silent for a minute at times.
    pub idle_after: Duration,
    /// How long requests may go on once the gateway is to shut down.
    pub drain_within: Duration,
    /// Who decides whether a request may go, and counts what it used.
    pub purse: Arc<dyn Purse>,
    /// Who has people's own credentials.
    pub lender: Arc<dyn Lender>,
    /// After how long a request that is held back gets signs of life, where its protocol has them.
    pub ping_after: Duration,
    /// What serves `/git/…`; nothing does, if none.
    pub git: Option<GitGateway>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            outgoing: Outgoing::default(),
            authorities: Vec::new(),
            max_body: 64 * 1024 * 1024,
            max_requests: 32,
            // Clients keep connections for later; twice as many as can be in use.
            max_connections: 64,
            connect_within: Duration::from_secs(10),
            head_within: Duration::from_secs(60),
            idle_after: Duration::from_secs(300),
            drain_within: Duration::from_secs(5),
            purse: Arc::new(Open),
            lender: Arc::new(Nobody),
            // Below the shortest time that clients wait for a byte.
            ping_after: Duration::from_secs(15),
            git: None,
        }
    }
}

/// The model gateway of a server, for all its workspaces. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Parts>);

struct Parts {
    providers: BTreeMap<String, Arc<Provider>>,
    settings: Settings,
    /// What may be dialled: what the operator wrote, so private addresses too.
    guard: Guard,
    resolver: Arc<dyn Resolver>,
    calls: Arc<Calls>,
    /// Whom to trust beside the system's authorities.
    authorities: RootCertStore,
    /// Made when a provider is first reached by TLS: not every server is asked for one, and not
    /// every machine has authorities.
    tls: OnceCell<Arc<ClientConfig>>,
}

/// What one workspace's connections share.
#[derive(Clone)]
struct Place {
    parts: Arc<Parts>,
    workspace: WorkspaceId,
    /// One permit for each request under way.
    requests: Arc<Semaphore>,
    /// The same for git's.
    git: Arc<Semaphore>,
    /// Turns true when the gateway shuts down.
    closing: watch::Receiver<bool>,
}

impl Gateway {
    /// A gateway to these providers.
    ///
    /// # Errors
    ///
    /// When a provider is there twice, or the authorities of the settings are none.
    pub fn new(
        providers: Vec<Provider>,
        settings: Settings,
        resolver: Arc<dyn Resolver>,
        calls: Arc<Calls>,
    ) -> Result<Self, Error> {
        let authorities = upstream::authorities(&settings.authorities)?;
        let mut by_name = BTreeMap::new();
        for provider in providers {
            let name = provider.name().to_owned();
            if name == git::NAME {
                let what = "has the name of the way to git; call it otherwise";
                return Err(Error::Provider { name, what });
            }
            if by_name.insert(name.clone(), Arc::new(provider)).is_some() {
                return Err(Error::Provider { name, what: "is there twice" });
            }
        }
        // A cloud's metadata service would have to be named by its one address, and is no model.
        let guard = Guard::new(vec!["0.0.0.0/0".parse()?, "::/0".parse()?]);
        Ok(Self(Arc::new(Parts {
            providers: by_name,
            settings,
            guard,
            resolver,
            calls,
            authorities,
            tls: OnceCell::new(),
        })))
    }

    /// The provider of this name.
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.0.providers.get(name).map(|provider| &**provider)
    }

    /// The names of its providers, in order.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.0.providers.keys().map(String::as_str)
    }

    /// Serves one workspace on its listener until `shutdown` is ready; then no more connections
    /// are taken and requests under way get [`Settings::drain_within`] to end.
    ///
    /// # Errors
    ///
    /// When the descriptor is not a listening TCP socket, or can't be accepted from any more.
    pub async fn serve(
        &self,
        workspace: WorkspaceId,
        listener: OwnedFd,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let listener = listener::adopt(listener)?;
        let (close, closing) = watch::channel(false);
        let settings = &self.0.settings;
        let requests = Arc::new(Semaphore::new(settings.max_requests));
        let git = settings.git.as_ref().map_or(0, GitGateway::max_requests);
        let git = Arc::new(Semaphore::new(git));
        let place = Place { parts: Arc::clone(&self.0), workspace, requests, git, closing };
        let service = listener::Service {
            workspace,
            max_connections: settings.max_connections,
            drain_within: settings.drain_within,
            close,
            run: |stream| connection::run(stream, place.clone()),
            // It is closed without a word: no request was read that an answer could be for.
            refuse: |_: &TcpStream| (),
        };
        service.serve(listener, shutdown).await
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("providers", &self.0.providers.keys())
            .finish_non_exhaustive()
    }
}
