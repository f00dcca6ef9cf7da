//! The ways out of a workspace: the proxy that asks the rules, what catches connections of programs
//! that know of no proxy, and the gateway to models.
//!
//! ```text
//! inside: 127.0.0.1:3128 ─ listener ═► egress proxy  ─► hosts that the rules allow
//!         anywhere else ── listener ═► egress proxy  ─► the same
//!         names ────────── socket   ═► names of this workspace, asked of nobody
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

use boatyard_egress::{
    Policy, Proxy,
    capture::{self, Sockets},
    gateway::Gateway,
};
use boatyard_model::WorkspaceId;
use boatyard_runtime::Capture;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Hub, HubError, place::Place};
use crate::{policies::Whose, unrecorded::Noted};

/// A way out.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The proxy that asks the rules.
    Egress,
    /// The same for connections that were caught.
    Captured,
    /// The gateway to models.
    Gateway,
}

impl Way {
    const ALL: [Self; 3] = [Self::Egress, Self::Captured, Self::Gateway];

    const fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Captured => "captured",
            Self::Gateway => "gateway",
        }
    }
}

/// What a way out is served by.
pub(super) enum Work {
    /// A proxy, by this policy.
    Egress(Proxy, watch::Receiver<Arc<Policy>>),
    /// A proxy, by this policy, for connections that were caught.
    Captured(Proxy, watch::Receiver<Arc<Policy>>),
    /// A gateway.
    Gateway(Gateway),
}

/// A way out that can be served: with what is inside the workspace for it.
enum Open {
    Egress(Proxy, watch::Receiver<Arc<Policy>>, OwnedFd),
    Captured(Proxy, watch::Receiver<Arc<Policy>>, Sockets),
    Gateway(Gateway, OwnedFd),
}

impl Open {
    const fn way(&self) -> Way {
        match self {
            Self::Egress(..) => Way::Egress,
            Self::Captured(..) => Way::Captured,
            Self::Gateway(..) => Way::Gateway,
        }
    }
}

/// Which ways of a workspace are served: each ends by its token.
#[derive(Debug, Default)]
pub(super) struct Ways([Mutex<Option<CancellationToken>>; Way::ALL.len()]);

impl Ways {
    fn slot(&self, way: Way) -> &Mutex<Option<CancellationToken>> {
        let Self([egress, captured, gateway]) = self;
        match way {
            Way::Egress => egress,
            Way::Captured => captured,
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

/// The ways out of a workspace that only makes a layer, until it is dropped.
#[derive(Debug)]
pub struct BuilderWays {
    _ways: DropGuard,
    _noted: Noted,
}

impl Hub {
    /// Serves a workspace's ways out, as far as they are not served already.
    pub(super) async fn serve_ways(&self, place: &Arc<Place>) -> Result<(), HubError> {
        let serve = async |way| {
            let Some(token) = place.ways.begin(way) else { return Ok(()) };
            let policy = match self.shared.policies.watch(place.workspace).await {
                Ok(policy) => policy,
                Err(error) => {
                    token.cancel();
                    return Err(error.into());
                }
            };
            match self.open(place.workspace, self.work(policy, way)).await {
                Ok(open) => {
                    self.serve_way(place.workspace, open, token);
                    Ok(())
                }
                Err(error) => {
                    token.cancel();
                    match error {
                        // It can be worked in all the same, but for agents that need a model and
                        // programs that know of no proxy; those are told by a refused connection.
                        boatyard_runtime::Error::NoListener { .. } => {
                            tracing::warn!(%error, "a workspace has one way out less");
                            Ok(())
                        }
                        error => Err(error.into()),
                    }
                }
            }
        };
        tokio::try_join!(serve(Way::Egress), serve(Way::Captured), serve(Way::Gateway)).map(|_| ())
    }

    /// Serves the ways out of a workspace that only makes a layer, until the guard is dropped.
    ///
    /// # Errors
    /// When it doesn't run.
    pub async fn serve_builder(&self, whose: Whose) -> Result<BuilderWays, HubError> {
        let workspace = whose.workspace;
        let noted = self.shared.unrecorded.note(workspace, whose.owner());
        let policy = self.shared.policies.watch_for(whose).await?;
        let token = CancellationToken::new();
        for way in Way::ALL {
            let open = self.open(workspace, self.work(policy.clone(), way)).await?;
            self.serve_way(workspace, open, token.child_token());
        }
        Ok(BuilderWays { _ways: token.drop_guard(), _noted: noted })
    }

    /// Serves some ways out of a throw-away workspace, until the guard is dropped.
    pub(super) async fn serve_some(
        &self,
        workspace: WorkspaceId,
        works: impl IntoIterator<Item = Work>,
    ) -> Result<DropGuard, HubError> {
        let token = CancellationToken::new();
        let guard = token.clone().drop_guard();
        for work in works {
            let open = self.open(workspace, work).await?;
            self.serve_way(workspace, open, token.child_token());
        }
        Ok(guard)
    }

    /// What a workspace's way out is served by.
    fn work(&self, policy: watch::Receiver<Arc<Policy>>, way: Way) -> Work {
        match way {
            Way::Egress => Work::Egress(self.shared.proxy.clone(), policy),
            Way::Captured => Work::Captured(self.shared.proxy.clone(), policy),
            Way::Gateway => Work::Gateway(self.shared.gateway.clone()),
        }
    }

    /// Takes what is inside the workspace for a way out.
    async fn open(
        &self,
        workspace: WorkspaceId,
        work: Work,
    ) -> Result<Open, boatyard_runtime::Error> {
        let runtime = &self.shared.runtime;
        Ok(match work {
            Work::Egress(proxy, policy) => {
                Open::Egress(proxy, policy, runtime.egress_listener(workspace).await?)
            }
            Work::Captured(proxy, policy) => {
                let Capture { listeners, dns, names } = runtime.capture(workspace).await?;
                Open::Captured(proxy, policy, Sockets { listeners, dns, names })
            }
            Work::Gateway(gateway) => {
                Open::Gateway(gateway, runtime.gateway_listener(workspace).await?)
            }
        })
    }

    fn serve_way(&self, workspace: WorkspaceId, open: Open, token: CancellationToken) {
        let way = open.way();
        let shared = Arc::clone(&self.shared);
        let serving = async move {
            let ended = token.clone().cancelled_owned();
            let served = match open {
                Open::Egress(proxy, policy, listener) => {
                    proxy.serve(workspace, listener, policy, ended).await
                }
                Open::Captured(proxy, policy, sockets) => {
                    capture::serve(&proxy, workspace, sockets, policy, ended).await
                }
                Open::Gateway(gateway, listener) => {
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
            Way::Egress | Way::Captured => drop(tokio::spawn(serving)),
            Way::Gateway => drop(self.shared.draining.spawn(serving)),
        }
    }
}
