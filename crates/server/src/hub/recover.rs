//! What outlives a crash of the host.
//!
//! Workspaces write without waiting for the disk. Their files are made durable when they stop, and,
//! while they run, after a turn that left a checkpoint: one sync of the host's file system serves
//! all workspaces, at most once in [`PAUSE`].
//!
//! When a workspace is started that was in use when the host went down, it is brought back to its
//! last checkpoint, and its sessions are told.

use std::{sync::Arc, time::Duration};

use boatyard_link::message::{GitReply, GitRequest};
use boatyard_model::{WorkspaceId, event::NoticeLevel};
use boatyard_runtime::Runtime;
use boatyard_store::WorkspaceRow;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Attached, Hub, HubError};

/// The least time between two syncs for the sake of workspaces that run.
const PAUSE: Duration = Duration::from_secs(60);

/// Makes files durable on demand. A cheap clone.
#[derive(Debug, Clone)]
pub(super) struct Keeper(mpsc::Sender<WorkspaceId>);

impl Keeper {
    pub(super) fn start(runtime: Arc<dyn Runtime>, stopping: CancellationToken) -> Self {
        // One that waits stands for all: it syncs what was written until then.
        let (wanted, waiting) = mpsc::channel(1);
        tokio::spawn(keep(runtime, waiting, stopping));
        Self(wanted)
    }
}

async fn keep(
    runtime: Arc<dyn Runtime>,
    mut wanted: mpsc::Receiver<WorkspaceId>,
    stopping: CancellationToken,
) {
    while let Some(workspace) = wanted.recv().await {
        match runtime.sync(workspace).await {
            Ok(()) | Err(boatyard_runtime::Error::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "files of workspaces are not durable");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stopping.cancelled() => return,
        }
    }
}

impl Hub {
    /// Has a workspace's files made durable soon, without waiting for it.
    pub(crate) fn keep(&self, workspace: WorkspaceId) {
        // Full: the sync that waits will serve this one as well.
        let _ = self.shared.keeper.0.try_send(workspace);
    }

    /// Brings a workspace, just started, back to its last checkpoint after a crash of the host.
    pub(super) async fn recover(
        &self,
        row: &WorkspaceRow,
        attached: &Attached,
        generation: u64,
    ) -> Result<(), HubError> {
        let text = match &row.folder {
            Some(folder) => {
                let request = GitRequest::Recover {
                    folder: folder.clone(),
                    branch: row.branch.clone(),
                    base: row.base_commit.clone().unwrap_or_default(),
                    start: generation,
                };
                match attached.git(request).await {
                    Ok((GitReply::Recovered { turn, kept }, _)) => told(turn, kept.as_deref()),
                    Ok(_) => return Err(HubError::Protocol("a recovery")),
                    // It can be looked at and mended by hand; without it, nobody could.
                    Err(HubError::Runner(failure)) => {
                        format!("Its files could not be checked: {}.", failure.message)
                    }
                    Err(error) => return Err(error),
                }
            }
            None => told(None, None),
        };
        let text = format!("The host went down while this workspace was in use. {text}");
        tracing::warn!(workspace.id = %row.id, "{text}");
        for session in self.sessions_in(row).await? {
            let text = text.clone();
            self.notice(&session, NoticeLevel::Warning, "recovered", text, None).await?;
        }
        Ok(())
    }
}

/// What became of the files, for people.
fn told(turn: Option<u32>, kept: Option<&str>) -> String {
    let files = match turn {
        Some(turn) => format!("Its files are as they were at the end of turn {turn}."),
        None => "There was no checkpoint yet: its files are as the disk has them, and those \
                 written last may be damaged."
            .to_owned(),
    };
    match (turn, kept) {
        (Some(_), Some(kept)) => format!(
            "{files} What was there since, perhaps damaged, is in the commit {}.",
            kept.get(..12).unwrap_or(kept)
        ),
        _ => files,
    }
}
