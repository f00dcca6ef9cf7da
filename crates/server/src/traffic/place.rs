//! Whose a workspace is, and what runs in it, for the rows of the log.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use boatyard_model::{SessionId, SessionState, TaskId, WorkspaceId};
use boatyard_store::{Error, Owner, SessionFilter, Store};

/// How long what was found counts: a session that begins meanwhile is in the log a moment later.
const COUNTS_FOR: Duration = Duration::from_secs(1);
/// Workspaces that are remembered; past it all are forgotten and looked up again.
const REMEMBERED: usize = 4096;
/// Sessions of one workspace that are looked at.
const SESSIONS: u32 = 50;

/// What a workspace is for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) owner: Owner,
    pub(super) task: Option<TaskId>,
    /// The session that is under way, if it is the only one; else the only one that there is.
    pub(super) session: Option<SessionId>,
}

pub(super) struct Places {
    store: Store,
    known: HashMap<WorkspaceId, (Instant, Place)>,
}

impl Places {
    pub(super) fn new(store: Store) -> Self {
        Self { store, known: HashMap::new() }
    }

    pub(super) async fn of(&mut self, workspace: WorkspaceId) -> Place {
        if let Some((at, place)) = self.known.get(&workspace)
            && at.elapsed() < COUNTS_FOR
        {
            return *place;
        }
        let place = match self.find(workspace).await {
            Ok(place) => place,
            // A workspace that makes a layer, or installs an agent, has no row.
            Err(Error::NotFound { .. }) => Place::default(),
            Err(error) => {
                tracing::warn!(workspace.id = %workspace, error = %crate::chain(&error), "whose a request is was not found");
                Place::default()
            }
        };
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(workspace, (Instant::now(), place));
        place
    }

    async fn find(&self, workspace: WorkspaceId) -> boatyard_store::Result<Place> {
        let row = self.store.workspace(workspace).await?;
        let filter = SessionFilter { workspace: Some(workspace), ..SessionFilter::default() };
        let sessions = self.store.list_sessions(row.owner.organization, filter, SESSIONS).await?;
        let is_under_way = |state| matches!(state, SessionState::Running | SessionState::Waiting);
        let mut running = sessions.iter().filter(|session| is_under_way(session.state));
        let session = match (running.next(), running.next(), sessions.as_slice()) {
            (Some(one), None, _) | (None, None, [one]) => Some(one.id),
            _ => None,
        };
        Ok(Place { owner: row.owner, task: row.task, session })
    }
}
