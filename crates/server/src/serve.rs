//! The server's life: put together, taken up where the last one was, served, ended in good order.
//!
//! ```text
//! start ─► listening ─► take up ─► begun ──SIGTERM──► stopping: no new work, streams end with a
//!           health, page           everything         hint, agents go on, links close ─► gone
//!                                                     within 10 s
//! ```
//!
//! What the machine can do is not waited for here: who needs that waits for it by itself.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use boatyard_api::identity::LoginLink;
use boatyard_model::{KeyId, time::SystemClock};
use tokio::{
    net::TcpListener,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Parts},
    auth::{Auth, Hosts},
    gate::Gate,
    jobs, listener,
    routes::{self, Api},
};

/// How long work that is under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(6);

/// When memory that the start needed is given back.
const STARTED: Duration = Duration::from_secs(3);

/// How often memory that a burst needed is given back.
const GIVE_BACK: Duration = Duration::from_secs(10);

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
pub async fn start(parts: Parts, listener: TcpListener) -> anyhow::Result<Serving> {
    let address = listener.local_addr()?;
    let data = parts.data.clone();
    let app = App::new(parts)?;
    let auth = Auth::open(app.store.clone(), Arc::new(SystemClock), &data)?;
    let hosts = Hosts::new(&app.settings.server)?;
    let gate = Gate::new(auth, hosts, app.stopping.clone());
    let url = app.settings.server.url.clone().unwrap_or_else(|| format!("http://{address}"));
    let api = Api::new(app.clone(), gate, &url);
    let router = routes::router(api.clone());
    let http = tokio::spawn(listener::serve(listener, router, app.stopping.clone()));
    app.connections.begin().await?;
    jobs::housekeeping::take_up(&app).await?;
    api.gate.begin();
    app.tasks.spawn(give_back(app.stopping.clone()));
    app.tasks.spawn(jobs::run(app.clone()));
    app.tasks.spawn(jobs::attempt::run(app.clone()));
    app.tasks.spawn(jobs::housekeeping::run(app.clone()));
    Ok(Serving { api, address, http })
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

    /// A link that signs a browser in once.
    pub fn login_link(&self, key: KeyId) -> LoginLink {
        self.api.login_link(key)
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
        if let Err(error) = app.store.clone().close().await {
            tracing::error!(error = %crate::chain(&error), "the database did not close well");
        }
    }
}
