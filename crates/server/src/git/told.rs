//! What people are told when a token is not taken: in the sessions that it concerns.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use boatyard_egress::git::{Credential, Remote};
use boatyard_model::{EventBody, SessionState, WorkspaceId, event::NoticeLevel};
use boatyard_store::{NewEvent, SessionFilter, Store};
use serde_json::json;

/// How long a workspace is not told the same again: agents try more than once.
const QUIET: Duration = Duration::from_secs(60);
/// Workspaces that are remembered; past it all are forgotten and may be told again.
const REMEMBERED: usize = 4096;
/// Sessions of one workspace that are told.
const SESSIONS: u32 = 16;
/// The notice's code.
const CODE: &str = "git_credential";

/// Tells. A cheap clone.
#[derive(Clone)]
pub(super) struct Notices {
    store: Store,
    told: Arc<Mutex<HashMap<(WorkspaceId, String), Instant>>>,
}

impl Notices {
    pub(super) fn new(store: Store) -> Self {
        Self { store, told: Arc::default() }
    }

    /// Tells the sessions that are under way in a workspace.
    pub(super) fn not_taken(
        &self,
        workspace: WorkspaceId,
        remote: &Remote,
        credential: &Credential,
    ) {
        let text = format!(
            "{} does not take the connection `{}` for {remote}. To mend it, {}; the next fetch or \
             push works then.",
            remote.target.host, credential.name, credential.mend
        );
        self.tell(workspace, remote, text);
    }

    /// Tells the same of a connection that gave nothing to reach a repository with.
    pub(super) fn tell(&self, workspace: WorkspaceId, remote: &Remote, text: String) {
        let repository = remote.to_string();
        if !self.is_due((workspace, repository.clone())) {
            return;
        }
        let data = json!({ "repository": repository });
        let store = self.store.clone();
        tokio::spawn(async move {
            match tell(&store, workspace, text, data).await {
                // One that only makes a layer has no row.
                Ok(()) | Err(boatyard_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "a refused token was not told");
                }
            }
        });
    }

    fn is_due(&self, key: (WorkspaceId, String)) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&key).is_some_and(|when| when.elapsed() < QUIET) {
            return false;
        }
        if told.len() >= REMEMBERED {
            told.clear();
        }
        told.insert(key, Instant::now());
        true
    }
}

async fn tell(
    store: &Store,
    workspace: WorkspaceId,
    text: String,
    data: serde_json::Value,
) -> boatyard_store::Result<()> {
    let row = store.workspace(workspace).await?;
    let filter = SessionFilter { workspace: Some(workspace), ..SessionFilter::default() };
    let sessions = store.list_sessions(row.owner.organization, filter, SESSIONS).await?;
    let under_way = sessions
        .into_iter()
        .filter(|session| matches!(session.state, SessionState::Running | SessionState::Waiting));
    for session in under_way {
        let body = EventBody::Notice {
            level: NoticeLevel::Warning,
            code: CODE.to_owned(),
            text: text.clone(),
            data: Some(data.clone()),
        };
        store.append(vec![NewEvent::own(session.id, store.now(), session.turn, body)]).await?;
    }
    Ok(())
}
