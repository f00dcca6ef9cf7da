//! Requests that were kept from leaving, told in the sessions that run in the workspace.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use boatyard_egress::{Outcome, Record};
use boatyard_model::{EventBody, SessionState, WorkspaceId};
use boatyard_store::NewEvent;
use tokio::sync::mpsc;

use super::{Hub, HubError};

/// How long the same host of the same workspace is not told again: a program that tries for ever
/// must not fill a log.
const QUIET: Duration = Duration::from_secs(60);
/// Hosts that are remembered; past it, all are forgotten and told again.
const REMEMBERED: usize = 4096;

/// Tells until the proxy is gone.
pub(super) async fn tell(hub: Hub, mut records: mpsc::Receiver<Record>) {
    let mut told: HashMap<(WorkspaceId, String, u16), Instant> = HashMap::new();
    while let Some(record) = records.recv().await {
        let Outcome::Denied { reason } = &record.outcome else {
            tracing::debug!(target: "boatyard::egress", ?record);
            continue;
        };
        tracing::info!(
            workspace.id = %record.workspace, host = %record.host, port = record.port, %reason,
            "a request was denied"
        );
        let key = (record.workspace, record.host.clone(), record.port);
        if told.get(&key).is_some_and(|when| when.elapsed() < QUIET) {
            continue;
        }
        if told.len() >= REMEMBERED {
            told.clear();
        }
        told.insert(key, Instant::now());
        let rule = record.rule.as_deref().map_or_else(|| reason.clone(), str::to_owned);
        let body = EventBody::EgressBlocked { host: record.host, port: record.port, rule };
        match in_sessions(&hub, record.workspace, body).await {
            // A workspace that makes a layer has no row, and its setup shows what it says.
            Ok(()) | Err(HubError::Store(boatyard_store::Error::NotFound { .. })) => {}
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "a denied request was not told");
            }
        }
    }
}

async fn in_sessions(hub: &Hub, workspace: WorkspaceId, body: EventBody) -> Result<(), HubError> {
    let store = &hub.shared.store;
    let row = store.workspace(workspace).await?;
    let now = store.now();
    let events: Vec<NewEvent> = hub
        .sessions_in(&row)
        .await?
        .into_iter()
        .filter(|session| matches!(session.state, SessionState::Running | SessionState::Waiting))
        .map(|session| NewEvent::own(session.id, now, session.turn, body.clone()))
        .collect();
    if !events.is_empty() {
        store.append(events).await?;
    }
    Ok(())
}
