//! Whom a request is made for.

use std::sync::Arc;

use boatyard_model::{AttemptId, SessionId, TaskId, WorkspaceId};
use boatyard_store::{Error, Owner, Result, SessionFilter};

use super::{Ledger, micros};

/// Sessions of a workspace that are looked at for the one that makes a request and does not say so.
const LOOKED_AT: u32 = 16;

/// Who pays for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payer {
    pub(crate) owner: Owner,
    pub(crate) session: Option<SessionId>,
    pub(crate) task: Option<TaskId>,
    pub(crate) attempt: Option<AttemptId>,
    /// What the order says that an attempt may cost, in micros.
    pub(crate) limit: Option<u64>,
}

impl Ledger {
    /// Who pays for what comes from a workspace and says that it is this session's. What is said is
    /// believed of the workspace's own sessions only. Where none is named it is the newest that has
    /// a turn, else the newest: leaving out the name is no way around an attempt's limit.
    pub(crate) async fn payer(
        &self,
        workspace: WorkspaceId,
        session: Option<SessionId>,
    ) -> Result<Arc<Payer>> {
        if let Some(known) = self.state().payer(workspace, session) {
            return Ok(known);
        }
        let store = &self.0.store;
        let nobody = |owner, task| Payer { owner, session: None, task, attempt: None, limit: None };
        let row = match store.workspace(workspace).await {
            Ok(row) => row,
            // Setups are run in workspaces that have no row.
            Err(Error::NotFound { .. }) => {
                // One of which nobody says whose it is costs the server's own organization.
                let owner = self.0.unrecorded.owner(workspace).unwrap_or(Owner::BUILT_IN);
                return Ok(Arc::new(nobody(owner, None)));
            }
            Err(error) => return Err(error),
        };
        let named = match session {
            Some(session) => match store.session(session).await {
                Ok(row) => Some(row).filter(|row| row.workspace == workspace),
                Err(Error::NotFound { .. }) => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        let found = match named {
            Some(row) => Some(row),
            None => {
                let filter =
                    SessionFilter { workspace: Some(workspace), ..SessionFilter::default() };
                let organization = row.owner.organization;
                let all = store.list_sessions(organization, filter, LOOKED_AT).await?;
                // The newest come first.
                let busy = all.iter().position(|row| row.turn.is_some()).unwrap_or_default();
                all.into_iter().nth(busy)
            }
        };
        let Some(found) = found else { return Ok(Arc::new(nobody(row.owner, row.task))) };
        let limit = match found.task.or(row.task) {
            Some(task) if found.attempt.is_some() => match store.task(task).await {
                Ok(task) => task.order.limits.cost_usd.and_then(micros),
                Err(Error::NotFound { .. }) => None,
                Err(error) => return Err(error),
            },
            _ => None,
        };
        let payer = Arc::new(Payer {
            owner: found.owner,
            session: Some(found.id),
            task: found.task.or(row.task),
            attempt: found.attempt,
            limit,
        });
        if session == Some(found.id) {
            self.state().keep_payer(workspace, found.id, &payer);
        }
        Ok(payer)
    }
}
