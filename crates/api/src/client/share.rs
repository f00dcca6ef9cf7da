//! The endpoints of sharing, and of who is present.

use boatyard_model::{SessionId, ShareId, TaskId, WorkspaceId};
use reqwest::Method;

use super::{Client, Result};
use crate::{
    share::{
        NewShare, Presence, PresenceUpdate, Share, ShareFilter, SharePage, Sharing, TakeShare,
        TakenShare,
    },
    task::{Task, TaskChange},
    workspace::{Workspace, WorkspaceChange},
};

#[expect(clippy::missing_errors_doc, reason = "all fail as the other endpoints do")]
impl Client {
    /// Makes a share; the answer has its link, this once.
    pub async fn create_share(&self, new: &NewShare) -> Result<Share> {
        self.json(self.call(Method::POST, "api/shares").json(new)).await
    }

    /// Shares, the newest first.
    pub async fn list_shares(&self, filter: &ShareFilter) -> Result<SharePage> {
        self.json(self.call(Method::GET, "api/shares").query(filter)).await
    }

    /// One share.
    pub async fn find_share(&self, id: ShareId) -> Result<Share> {
        self.json(self.call(Method::GET, format!("api/shares/{id}"))).await
    }

    /// Takes a share back; what it gave ends.
    pub async fn revoke_share(&self, id: ShareId) -> Result<Share> {
        self.json(self.call(Method::DELETE, format!("api/shares/{id}"))).await
    }

    /// Takes what a link gives, for the caller.
    pub async fn take_share(&self, take: &TakeShare) -> Result<TakenShare> {
        self.json(self.call(Method::POST, "api/shares/redeem").json(take)).await
    }

    /// What of the organization is for whom, where nobody says.
    pub async fn find_sharing(&self) -> Result<Sharing> {
        self.json(self.call(Method::GET, "api/sharing")).await
    }

    /// Sets that.
    pub async fn set_sharing(&self, sharing: &Sharing) -> Result<Sharing> {
        self.json(self.call(Method::PUT, "api/sharing").json(sharing)).await
    }

    /// Who is present in a session.
    pub async fn find_presence(&self, session: SessionId) -> Result<Presence> {
        self.json(self.call(Method::GET, format!("api/sessions/{session}/presence"))).await
    }

    /// Says what one does in a session.
    pub async fn set_presence(
        &self,
        session: SessionId,
        update: &PresenceUpdate,
    ) -> Result<Presence> {
        let path = format!("api/sessions/{session}/presence");
        self.json(self.call(Method::POST, path).json(update)).await
    }

    /// Changes who may see a task.
    pub async fn change_task(&self, id: TaskId, change: &TaskChange) -> Result<Task> {
        self.json(self.call(Method::PATCH, format!("api/tasks/{id}")).json(change)).await
    }

    /// Changes a workspace's name, or who may see it.
    pub async fn change_workspace(
        &self,
        id: WorkspaceId,
        change: &WorkspaceChange,
    ) -> Result<Workspace> {
        self.json(self.call(Method::PATCH, format!("api/workspaces/{id}")).json(change)).await
    }
}
