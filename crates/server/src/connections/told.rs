//! What becomes of credentials, noted where people look: last use with the connection, a misplaced
//! placeholder in the sessions of its workspace and in the log.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use boatyard_egress::broker::{Told, What};
use boatyard_model::{ConnectionId, EventBody, SessionState, WorkspaceId};
use boatyard_store::{Error, NewEvent, Result, SessionFilter, Store, connections::USE_NOTED};
use tokio::sync::mpsc;

/// How long the same is not told again in the same workspace: a program that tries for ever must not
/// fill a log.
const QUIET: Duration = Duration::from_secs(30);
/// Things that are remembered; past it all are forgotten, and told again.
const REMEMBERED: usize = 4096;
/// Sessions of one workspace that are told.
const SESSIONS: u32 = 1000;

/// Notes until nobody tells any more.
pub(super) async fn note(store: Store, mut told: mpsc::Receiver<Told>) {
    let mut used: HashMap<ConnectionId, Instant> = HashMap::new();
    let mut quiet: HashMap<(WorkspaceId, String, String), Instant> = HashMap::new();
    while let Some(told) = told.recv().await {
        let (Told { workspace, host, port, .. }, name) = (&told, name(&told));
        let reason = match &told.what {
            What::Used => {
                tracing::debug!(workspace.id = %workspace, connection = name, %host, "a credential was used");
                if let Some((id, _)) = told.connection
                    && used.get(&id).is_none_or(|at| at.elapsed() >= USE_NOTED)
                {
                    used.insert(id, Instant::now());
                    store.note_connection_use(id);
                }
                continue;
            }
            What::Unknown => {
                tracing::warn!(workspace.id = %workspace, connection = name, %host, "a credential is not known to its service (401)");
                if let Some((id, _)) = told.connection {
                    store.note_connection_refused(id);
                }
                continue;
            }
            What::Misplaced(reason) | What::Withheld(reason) => reason.clone(),
        };
        tracing::warn!(workspace.id = %workspace, connection = name, %host, port, method = %told.method, %reason, "a request with a placeholder was refused");
        let key = (*workspace, host.clone(), reason.clone());
        if quiet.get(&key).is_some_and(|at| at.elapsed() < QUIET) {
            continue;
        }
        if quiet.len() >= REMEMBERED {
            quiet.clear();
        }
        quiet.insert(key, Instant::now());
        let body = EventBody::EgressPlaceholder {
            host: host.clone(),
            port: *port,
            connection: told.connection.as_ref().map(|(_, name)| name.to_string()),
            reason,
        };
        match in_sessions(&store, *workspace, body).await {
            // A workspace that makes a layer has no row, and its setup shows what it says.
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "a refused placeholder was not told");
            }
        }
    }
}

fn name(told: &Told) -> &str {
    told.connection.as_ref().map_or("", |(_, name)| name)
}

async fn in_sessions(store: &Store, workspace: WorkspaceId, body: EventBody) -> Result<()> {
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
