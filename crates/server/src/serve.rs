//! The server's life: put together, taken up where the last one was, served, ended in good order.
//!
//! ```text
//! start ─► listening ─► take up ─► begun ──SIGTERM──► stopping: no new work, streams end with a
//!           health, page           everything         hint, agents go on, links close ─► gone
//!                                                     within 10 s
//! ```
//!
//! What the machine can do is not waited for here: who needs that waits for it by itself.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use boatyard_api::identity::{LoginLink, ServerState};
use boatyard_model::{KeyId, time::SystemClock};
use boatyard_store::BUILT_IN_PERSON;
use tokio::{
    net::TcpListener,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Parts},
    auth::{Auth, Holder, Hosts, code::Purpose},
    gate::Gate,
    jobs,
    routes::{self, Api},
    tls::Certificate,
};

mod network;

/// How long work that is under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(6);

/// When memory that the start needed is given back.
const STARTED: Duration = Duration::from_secs(3);

/// How often memory that a burst needed is given back.
const GIVE_BACK: Duration = Duration::from_secs(10);

/// Where one begins.
#[derive(Clone)]
pub struct Entry {
    /// For whom the server is.
    pub state: ServerState,
    /// The address to open. Unless the server is set up, it holds a code: not for logs.
    pub url: String,
}

/// Where a server listens.
pub struct Listeners {
    /// For page and API.
    pub main: TcpListener,
    /// For those who are to come over https.
    pub clear: Option<TcpListener>,
    /// The certificate, where it comes from files: read with the rights of the start, which the
    /// server may have given up by now.
    pub certificate: Option<Certificate>,
}

impl From<TcpListener> for Listeners {
    fn from(main: TcpListener) -> Self {
        Self { main, clear: None, certificate: None }
    }
}

/// A server that runs.
pub struct Serving {
    api: Api,
    address: SocketAddr,
    http: tokio::task::JoinHandle<()>,
}

/// Starts a server on a listener that is bound already. It answers at once how it is; the rest it
/// does when what an earlier server left is taken up, which is when this returns.
///
/// # Errors
/// When a setting makes no sense, or the data folder, the store or the runtime can't be used.
pub async fn start(parts: Parts, listeners: impl Into<Listeners>) -> anyhow::Result<Serving> {
    let listeners: Listeners = listeners.into();
    let address = listeners.main.local_addr()?;
    let data = parts.data.clone();
    let admin = parts.admin.clone();
    let app = App::new(parts)?;
    let mut auth = Auth::open(app.store.clone(), Arc::new(SystemClock), &data)?;
    auth.prepare(&app.settings, address).await?;
    if let Some(admin) = admin {
        let done = auth.set_up(&admin).await;
        done.map_err(|problem| anyhow::anyhow!(problem.detail.clone()))?;
    }
    let stored = app.store.sign_in_providers().await?;
    auth.check_ways(&app.settings, stored.len())?;
    let hosts = Hosts::new(&app.settings.server)?;
    let gate = Gate::new(auth, hosts, app.stopping.clone()).logging(app.calls.clone());
    let url = app.settings.server.url.clone().unwrap_or_else(|| here(address));
    let api = Api::new(app.clone(), gate, &url);
    app.sign_in.begin(&api.url).await?;
    let router = routes::router(api.clone());
    let http = network::listen(&app, listeners, router, &api.url)?;
    app.connections.begin().await?;
    // Secrets of providers open once the vault does.
    app.sign_in.read().await?;
    jobs::housekeeping::take_up(&app).await?;
    api.gate.begin();
    app.tasks.spawn(give_back(app.stopping.clone()));
    let leases = Arc::clone(&api.watchers.leases);
    app.tasks.spawn(Arc::clone(&leases).run(app.clone(), Arc::clone(&api.gate)));
    let stopping = app.stopping.clone();
    app.tasks.spawn(async move { leases.presences.run(stopping).await });
    app.tasks.spawn(jobs::run(app.clone()));
    app.tasks.spawn(jobs::attempt::run(app.clone()));
    app.tasks.spawn(jobs::housekeeping::run(app.clone()));
    Ok(Serving { api, address, http })
}

/// The address of a server that listens here, for who is on the same machine: where it listens
/// everywhere, it does so on loopback too.
fn here(listening: SocketAddr) -> String {
    let mut address = listening;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

/// Keeps what the server holds near to what it needs: a thousand watchers that come at once need
/// buffers for a moment.
async fn give_back(stopping: CancellationToken) {
    let mut when = interval_at(Instant::now() + STARTED, GIVE_BACK);
    when.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stopping.run_until_cancelled(when.tick()).await.is_some() {
        if let Err(error) = tokio::task::spawn_blocking(boatyard_runtime::give_back_memory).await {
            tracing::error!(%error, "memory is not given back any more");
            return;
        }
    }
}

impl Serving {
    /// The application, for what runs in the same process.
    pub fn app(&self) -> &App {
        &self.api.app
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A link that signs a browser in once as the built-in person, with what this key may.
    pub fn login_link(&self, key: KeyId) -> LoginLink {
        let purpose = Purpose::SignIn;
        self.api.login_link(Holder { person: BUILT_IN_PERSON, key: Some(key), purpose })
    }

    /// Where the one who started the server begins: a link that signs in, one that sets the server
    /// up, or the page.
    pub fn entry(&self, key: KeyId) -> Entry {
        let auth = &self.api.gate.auth;
        let state = auth.state();
        let url = match state {
            ServerState::Single => self.login_link(key).url,
            ServerState::Setup => format!("{}/setup?code={}", self.api.url, auth.setup().issue()),
            ServerState::People => format!("{}/", self.api.url),
        };
        Entry { state, url }
    }

    /// Ends in good order: no new work is taken, what is followed ends with a hint to come back,
    /// agents go on without us.
    pub async fn stop(self) {
        let app = self.api.app.clone();
        app.stopping.cancel();
        app.tasks.close();
        let drained = async {
            if let Err(error) = self.http.await {
                tracing::error!(%error, "the listener did not end well");
            }
            app.tasks.wait().await;
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("work was under way at the end; the next server does it again");
        }
        app.hub.close().await;
        app.calls.flush().await;
        if let Err(error) = app.store.clone().close().await {
            tracing::error!(error = %crate::chain(&error), "the database did not close well");
        }
    }
}
