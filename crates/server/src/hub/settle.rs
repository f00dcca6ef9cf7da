//! What is done for the files of a workspace that has just stopped, with nobody waiting for it:
//! they are made durable, so that the next start after a crash of the host finds them whole, and
//! what they take is noted.

use std::time::Duration;

use boatyard_model::{WorkspaceId, WorkspaceState};
use boatyard_runtime::Error as RuntimeError;
use boatyard_store::WorkspaceUpdate;
use tokio::sync::mpsc;

use super::{Hub, HubError};

/// How long it is waited first: what is removed or started again at once costs nothing then.
const PAUSE: Duration = Duration::from_secs(2);
/// Workspaces that may wait; past it the next crash or start finds them as they are.
const WAITING: usize = 4096;

/// Takes workspaces that stopped. A cheap clone.
#[derive(Debug, Clone)]
pub(super) struct Settler(mpsc::Sender<WorkspaceId>);

impl Settler {
    /// One, and where what it takes arrives.
    pub(super) fn new() -> (Self, mpsc::Receiver<WorkspaceId>) {
        let (stopped, waiting) = mpsc::channel(WAITING);
        (Self(stopped), waiting)
    }
}

/// Settles workspaces one after another until the server stops: the first sync of some that
/// stopped together writes for all, so that the others' have nothing to do.
pub(super) async fn run(hub: Hub, mut stopped: mpsc::Receiver<WorkspaceId>) {
    let stopping = hub.shared.stopping.clone();
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            n = stopped.recv_many(&mut batch, WAITING) => if n == 0 { return },
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        for workspace in batch.drain(..) {
            match hub.settle(workspace).await {
                Ok(()) | Err(HubError::Runtime(RuntimeError::NotFound(_))) => {}
                Err(error) => {
                    tracing::warn!(workspace.id = %workspace, error = %crate::chain(&error), "files of a workspace that stopped are not durable yet");
                }
            }
        }
    }
}

impl Hub {
    /// Has a workspace that stopped settled soon, without waiting for it.
    pub(super) fn stopped(&self, workspace: WorkspaceId) {
        if self.shared.settler.0.try_send(workspace).is_err() {
            tracing::debug!(workspace.id = %workspace, "too many workspaces stopped at once");
        }
    }

    async fn settle(&self, workspace: WorkspaceId) -> Result<(), HubError> {
        if self.shared.store.workspace(workspace).await?.state != WorkspaceState::Asleep {
            return Ok(());
        }
        self.shared.runtime.sync(workspace).await?;
        self.measure(workspace).await.map(drop)
    }

    /// What a workspace's own files take, in bytes, noted.
    ///
    /// # Errors
    /// When it has none, or the store refuses.
    pub async fn measure(&self, workspace: WorkspaceId) -> Result<u64, HubError> {
        let bytes = self.shared.runtime.disk_usage(workspace).await?.bytes;
        if self.shared.store.workspace(workspace).await?.disk_bytes != bytes {
            let known = WorkspaceUpdate { disk_bytes: Some(bytes), ..WorkspaceUpdate::default() };
            self.shared
                .store
                .write(move |tx| {
                    Box::pin(async move { tx.update_workspace(workspace, known).await })
                })
                .await?;
        }
        Ok(bytes)
    }
}
