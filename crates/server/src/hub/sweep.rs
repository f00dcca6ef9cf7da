//! What is looked at now and then: links that nobody uses are closed, so that an idle workspace is
//! its first process alone.

use std::time::Duration;

use boatyard_model::SessionState;

use super::{Hub, HubError};

/// How long a link without work stays.
const UNUSED: Duration = Duration::from_secs(10);
/// How often links are looked at, while there are any.
pub const EVERY: Duration = Duration::from_secs(5);

impl Hub {
    /// Closes the links of workspaces in which nothing runs and of which nobody wants anything.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn sweep(&self) -> Result<(), HubError> {
        let now = self.shared.store.now();
        for place in self.places() {
            let Some(attached) = place.attached() else { continue };
            if now.since(place.used()) < UNUSED || attached.streams() > 0 {
                continue;
            }
            drop(attached);
            if !self.is_busy(place.workspace).await? {
                place.detach("nothing runs").await;
            }
        }
        Ok(())
    }

    /// Whether a turn is under way in a workspace.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn is_busy(&self, workspace: boatyard_model::WorkspaceId) -> Result<bool, HubError> {
        let row = self.shared.store.workspace(workspace).await?;
        let sessions = self.sessions_in(&row).await?;
        Ok(sessions.iter().any(|session| {
            matches!(
                session.state,
                SessionState::Starting | SessionState::Running | SessionState::Waiting
            )
        }))
    }
}
