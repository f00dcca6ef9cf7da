//! The API over HTTP: one file per resource, each route parse → operation → answer.
//!
//! A route does nothing but take its arguments out of the request ([`extract`]), call
//! `operations::<resource>::<name>` and shape what comes back ([`answer`]). Its name is the
//! operation id of the OpenAPI document. Every request passes the [gate](crate::gate) first.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRef},
    middleware,
};
use boatyard_api::{Problem, identity::LoginLink};
use utoipa::openapi::OpenApi;

use self::described::Routes;
use crate::{
    access::{
        self,
        leases::{About, Lease},
    },
    app::App,
    auth::{Holder, Known, cookie::Transport},
    gate::Gate,
    health::Probe,
    sse::Watchers,
};

mod agent_settings;
mod agents;
pub mod answer;
mod audit;
mod blobs;
mod connections;
mod described;
mod device_codes;
mod documents;
mod egress;
mod egress_requests;
mod events;
pub mod extract;
mod files;
mod git;
mod identity;
mod jobs;
mod keys;
mod organizations;
mod quotas;
mod repositories;
mod sessions;
mod shares;
mod sign_in;
mod tasks;
mod usage;
mod workspaces;

/// Lines of context around a change, where nobody asks for another number.
const CONTEXT_DEFAULT: u32 = 3;

/// The most lines of context.
const CONTEXT_MAX: u32 = 1000;

/// What the routes share.
#[derive(Clone)]
pub struct Api {
    /// The application.
    pub app: App,
    /// What every request passes.
    pub gate: Arc<Gate>,
    /// Everybody who follows something.
    pub watchers: Arc<Watchers>,
    /// How the server is.
    pub health: Arc<Probe>,
    /// The address that links begin with, without a slash at its end.
    pub url: Arc<str>,
    /// Whether browsers reach the server over https only.
    pub transport: Transport,
}

impl FromRef<Api> for App {
    fn from_ref(api: &Api) -> Self {
        api.app.clone()
    }
}

impl Api {
    /// The routes' state for a server that is reached at `url` (`http://127.0.0.1:7070`).
    pub fn new(app: App, gate: Gate, url: &str) -> Self {
        let url = url.trim_end_matches('/');
        let transport = if url.starts_with("https://") { Transport::Tls } else { Transport::Plain };
        let watchers = Arc::new(Watchers::new(&app.store, &gate.stopping));
        let health = Arc::default();
        let gate = gate.over(transport);
        Self { app, gate: Arc::new(gate), watchers, health, url: url.into(), transport }
    }

    /// A link that signs a browser in once.
    pub fn login_link(&self, holder: Holder) -> LoginLink {
        let (code, expires) = self.gate.auth.issue_code(holder);
        LoginLink { url: format!("{}/?code={code}", self.url), expires }
    }
}

/// All routes.
fn all() -> Routes {
    Routes::new()
        .merge(tasks::router())
        .merge(workspaces::router())
        .merge(files::router())
        .merge(sessions::router())
        .merge(events::router())
        .merge(repositories::router())
        .merge(git::router())
        .merge(blobs::router())
        .merge(connections::router())
        .merge(agents::router())
        .merge(agent_settings::router())
        .merge(egress::router())
        .merge(usage::router())
        .merge(jobs::router())
        .merge(egress_requests::router())
        .merge(identity::router())
        .merge(sign_in::router())
        .merge(organizations::router())
        .merge(shares::router())
        .merge(keys::router())
        .merge(device_codes::router())
        .merge(quotas::router())
        .merge(audit::router())
        .merge(documents::router())
}

/// The paths and types of the API, as the routes describe them.
pub(crate) fn description() -> OpenApi {
    all().into_openapi()
}

/// The addresses that the description does not name.
#[cfg(test)]
pub(crate) fn unnamed() -> Vec<String> {
    all().into_unnamed()
}

/// The whole HTTP interface.
pub fn router(api: Api) -> Router {
    crate::metrics::install();
    crate::health::begin();
    let gate = Arc::clone(&api.gate);
    all()
        .into_router()
        .fallback(documents::fallback)
        // Each route that takes a body bounds it itself.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(gate, crate::gate::pass))
        .with_state(api)
}

/// The right to go on, for a stream that begins by this operation.
fn lease(
    api: &Api,
    known: &Known,
    operation: &'static str,
    about: About,
) -> Result<Arc<Lease>, Problem> {
    let missing = || Problem::internal(format!("`{operation}` is not in the table"));
    let entry = access::table::named(operation).ok_or_else(missing)?;
    Ok(api.watchers.leases.take(known, entry, about))
}

/// Lines of context around a change.
fn context(wanted: Option<u32>) -> Result<u32, Problem> {
    match wanted {
        None => Ok(CONTEXT_DEFAULT),
        Some(n) if n <= CONTEXT_MAX => Ok(n),
        Some(n) => Err(Problem::invalid(
            "query.context",
            format!("{n} is not between 0 and {CONTEXT_MAX}"),
        )),
    }
}
