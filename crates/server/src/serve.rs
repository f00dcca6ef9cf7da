//! The server's life: put together, taken up where the last one was, served, ended in good order.
//!
//! ```text
//! start ─► take up ─► ready ──SIGTERM──► stopping: no new work, streams end with a hint,
//!                                        agents go on, links close ─► gone within 10 s
//! ```

use std::{net::SocketAddr, sync::Arc, time::Duration};

use boatyard_api::identity::LoginLink;
use boatyard_model::{KeyId, time::SystemClock};
use tokio::net::TcpListener;

use crate::{
    app::{App, Parts},
    auth::{Auth, Hosts},
    gate::Gate,
    jobs, listener,
    routes::{self, Api},
};

/// How long work that is under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(6);

/// A server that runs.
pub struct Serving {
    api: Api,
    address: SocketAddr,
    http: tokio::task::JoinHandle<()>,
}

/// Starts a server on a listener that is bound already.
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
    jobs::housekeeping::take_up(&app).await?;
    let router = routes::router(api.clone());
    let http = tokio::spawn(listener::serve(listener, router, app.stopping.clone()));
    app.tasks.spawn(jobs::run(app.clone()));
    app.tasks.spawn(jobs::attempt::run(app.clone()));
    app.tasks.spawn(jobs::housekeeping::run(app.clone()));
    Ok(Serving { api, address, http })
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
