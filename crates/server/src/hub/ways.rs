//! The ways out of a workspace: the proxy that asks the rules, and the gateway to models.
//!
//! ```text
//! inside: 127.0.0.1:3128 ─ listener ═► egress proxy  ─► hosts that the rules allow
//!         127.0.0.1:7080 ─ listener ═► model gateway ─► providers, with the keys that are here
//! ```
//!
//! A workspace's first process holds the listeners, and each server that attaches gets duplicates:
//! connections wait in their backlog while there is no server. A way is served once for each start
//! of its workspace, until that stops; the gateway also ends with the server, in good order, since
//! an answer that is cut costs its tokens all the same.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use boatyard_egress::{Policy, Proxy, gateway::Gateway};
use boatyard_model::WorkspaceId;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Hub, HubError, place::Place};

/// A way out.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The proxy that asks the rules.
    Egress,
    /// The gateway to models.
    Gateway,
}

impl Way {
    const ALL: [Self; 2] = [Self::Egress, Self::Gateway];

    const fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Gateway => "gateway",
        }
    }
}

/// What a way out is served by.
pub(super) enum Work {
    /// A proxy, by this policy.
    Egress(Proxy, watch::Receiver<Arc<Policy>>),
    /// A gateway.
    Gateway(Gateway),
}

impl Work {
    const fn way(&self) -> Way {
        match self {
            Self::Egress(..) => Way::Egress,
            Self::Gateway(_) => Way::Gateway,
        }
    }
}

/// Which ways of a workspace are served: each ends by its token.
#[derive(Debug, Default)]
pub(super) struct Ways([Mutex<Option<CancellationToken>>; Way::ALL.len()]);

impl Ways {
    fn slot(&self, way: Way) -> &Mutex<Option<CancellationToken>> {
        let Self([egress, gateway]) = self;
        match way {
            Way::Egress => egress,
            Way::Gateway => gateway,
        }
    }

    /// A token for serving this way; none if it is served already.
    fn begin(&self, way: Way) -> Option<CancellationToken> {
        let mut slot = self.slot(way).lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|token| !token.is_cancelled()) {
            return None;
        }
        Some(slot.insert(CancellationToken::new()).clone())
    }

    /// Ends the ways of a workspace that no longer runs.
    pub(super) fn end(&self) {
        for way in Way::ALL {
            let token = self.slot(way).lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(token) = token {
                token.cancel();
            }
        }
    }
}

impl Hub {
    /// Serves a workspace's ways out, as far as they are not served already.
    pub(super) async fn serve_ways(&self, place: &Arc<Place>) -> Result<(), HubError> {
        let serve = async |way| {
            let Some(token) = place.ways.begin(way) else { return Ok(()) };
            match self.listener(place.workspace, way).await {
                Ok(listener) => {
                    let work = self.work(place.workspace, way);
                    self.serve_way(place.workspace, work, listener, token);
                    Ok(())
                }
                Err(error) => {
                    token.cancel();
                    match error {
                        // It can be worked in all the same, but for agents that need a model; those
                        // are told by a refused connection.
                        boatyard_runtime::Error::NoListener { .. } => {
                            tracing::warn!(%error, "a workspace has one way out less");
                            Ok(())
                        }
                        error => Err(error.into()),
                    }
                }
            }
        };
        tokio::try_join!(serve(Way::Egress), serve(Way::Gateway)).map(|_| ())
    }

    /// Serves the ways out of a workspace that only makes a layer, until the guard is dropped.
    ///
    /// # Errors
    /// When it doesn't run.
    pub async fn serve_builder(&self, workspace: WorkspaceId) -> Result<DropGuard, HubError> {
        let token = CancellationToken::new();
        for way in Way::ALL {
            let listener = self.listener(workspace, way).await?;
            self.serve_way(workspace, self.work(workspace, way), listener, token.child_token());
        }
        Ok(token.drop_guard())
    }

    /// Serves one way out of a throw-away workspace, until the guard is dropped.
    pub(super) async fn serve_one(
        &self,
        workspace: WorkspaceId,
        work: Work,
    ) -> Result<DropGuard, HubError> {
        let listener = self.listener(workspace, work.way()).await?;
        let token = CancellationToken::new();
        self.serve_way(workspace, work, listener, token.clone());
        Ok(token.drop_guard())
    }

    /// What a workspace's way out is served by.
    fn work(&self, workspace: WorkspaceId, way: Way) -> Work {
        match way {
            Way::Egress => {
                let policy = self.shared.policies.watch(workspace);
                Work::Egress(self.shared.proxy.clone(), policy)
            }
            Way::Gateway => Work::Gateway(self.shared.gateway.clone()),
        }
    }

    async fn listener(
        &self,
        workspace: WorkspaceId,
        way: Way,
    ) -> Result<OwnedFd, boatyard_runtime::Error> {
        let runtime = &self.shared.runtime;
        match way {
            Way::Egress => runtime.egress_listener(workspace).await,
            Way::Gateway => runtime.gateway_listener(workspace).await,
        }
    }

    fn serve_way(
        &self,
        workspace: WorkspaceId,
        work: Work,
        listener: OwnedFd,
        token: CancellationToken,
    ) {
        let way = work.way();
        let shared = Arc::clone(&self.shared);
        let serving = async move {
            let ended = token.clone().cancelled_owned();
            let served = match work {
                Work::Egress(proxy, policy) => {
                    proxy.serve(workspace, listener, policy, ended).await
                }
                Work::Gateway(gateway) => {
                    let stopping = shared.stopping.clone();
                    let ended = async move {
                        tokio::select! {
                            () = ended => {}
                            () = stopping.cancelled() => {}
                        }
                    };
                    gateway.serve(workspace, listener, ended).await
                }
            };
            if let Err(error) = served {
                let (way, error) = (way.name(), crate::chain(&error));
                tracing::warn!(workspace.id = %workspace, way, %error, "a way out of a workspace ended");
            }
            // It is served anew when somebody attaches again.
            token.cancel();
        };
        match way {
            Way::Egress => drop(tokio::spawn(serving)),
            Way::Gateway => drop(self.shared.draining.spawn(serving)),
        }
    }
}
