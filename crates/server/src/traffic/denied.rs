//! Requests that were kept from leaving, told in the sessions that run in the workspace. Those that
//! a person was asked about are told as such and not again.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use boatyard_egress::{Outcome, Record};
use boatyard_model::{EventBody, SessionState, WorkspaceId};
use boatyard_store::{Error, NewEvent, Result, SessionFilter, Store};

/// How long the same host of the same workspace is not told again: a program that tries for ever
/// must not fill a log.
const QUIET: Duration = Duration::from_secs(60);
/// Hosts that are remembered; past it, all are forgotten and told again.
const REMEMBERED: usize = 4096;
/// Sessions of one workspace that are told.
const SESSIONS: u32 = 1000;

/// Tells of refusals.
pub(super) struct Denied {
    store: Store,
    told: HashMap<(WorkspaceId, String, u16), Instant>,
}

impl Denied {
    pub(super) fn new(store: Store) -> Self {
        Self { store, told: HashMap::new() }
    }

    /// A request is over.
    pub(super) async fn saw(&mut self, record: &Record) {
        let Outcome::Denied { reason } = &record.outcome else { return };
        tracing::info!(
            workspace.id = %record.workspace, host = %record.host, port = record.port, %reason,
            "a request was denied"
        );
        // A gateway's refusal is an answer in the protocol of whoever asked, who tells of it.
        if record.asked.is_some() || record.way != boatyard_model::RequestWay::Proxy {
            return;
        }
        let key = (record.workspace, record.host.clone(), record.port);
        if self.told.get(&key).is_some_and(|when| when.elapsed() < QUIET) {
            return;
        }
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        self.told.insert(key, Instant::now());
        let rule = record.rule.as_deref().map_or_else(|| reason.clone(), str::to_owned);
        let (host, port) = (record.host.clone(), record.port);
        let body = EventBody::EgressBlocked { host, port, rule };
        match self.in_sessions(record.workspace, body).await {
            // A workspace that makes a layer has no row, and its setup shows what it says.
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "a denied request was not told");
            }
        }
    }

    async fn in_sessions(&self, workspace: WorkspaceId, body: EventBody) -> Result<()> {
        let store = &self.store;
        let organization = store.workspace(workspace).await?.owner.organization;
        let filter = SessionFilter { workspace: Some(workspace), ..SessionFilter::default() };
        let now = store.now();
        let events: Vec<NewEvent> = store
            .list_sessions(organization, filter, SESSIONS)
            .await?
            .into_iter()
            .filter(|it| matches!(it.state, SessionState::Running | SessionState::Waiting))
            .map(|session| NewEvent::own(session.id, now, session.turn, body.clone()))
            .collect();
        if !events.is_empty() {
            store.append(events).await?;
        }
        Ok(())
    }
}
