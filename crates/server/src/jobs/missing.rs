//! What the database knows and the disk has not.
//!
//! Files of workspaces and layers are not part of a backup; a disk can lose them too. What is gone
//! is noted when the server starts, so that it is shown as what it is, nothing is built on it, and
//! nobody waits for it.

use std::collections::HashSet;

use boatyard_model::{LayerId, WorkspaceId, WorkspaceKind, WorkspaceState};
use boatyard_store::{LayerState, Reason};

use crate::app::App;

/// Why a workspace can't be used whose files are gone.
pub const FILES_MISSING: &str = "files_missing";

/// Notes which layers and sleeping workspaces have no files. `there` are the workspaces that have
/// a folder.
///
/// # Errors
/// When the store or the runtime can't be asked.
pub async fn note(app: &App, there: &HashSet<WorkspaceId>) -> anyhow::Result<()> {
    let layers: HashSet<LayerId> = app.runtime.list_layers().await?.into_iter().collect();
    for row in app.store.layers_in(LayerState::Ready).await? {
        if !layers.contains(&row.id) {
            let id = row.id;
            tracing::warn!(layer.id = %id, "the files of a layer are gone");
            app.store.write(move |tx| Box::pin(async move { tx.delete_layer(id).await })).await?;
        }
    }
    for row in app.store.workspaces_in(WorkspaceState::Asleep).await? {
        // One that never ran has nothing but its layers.
        let has_own = row.generation == 0 || there.contains(&row.id);
        let is_whole = has_own && row.lowers.iter().all(|layer| layers.contains(layer));
        if row.kind != WorkspaceKind::Sandbox || is_whole {
            continue;
        }
        tracing::warn!(workspace.id = %row.id, "the files of a workspace are gone");
        app.hub.fail(row.id, reason()).await?;
    }
    Ok(())
}

fn reason() -> Reason {
    Reason {
        code: FILES_MISSING.to_owned(),
        text: "The files of this workspace are not on this machine: a backup does not hold them. \
               Its sessions can be read, and the results of its tasks applied."
            .to_owned(),
    }
}
