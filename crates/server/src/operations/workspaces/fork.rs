//! Snapshots and forks.
//!
//! The files of a quiet workspace become a layer by a rename, and the record of that must never
//! tell less than the disk: the layer is put on record, on top of the workspace's layers, before
//! its files are moved. A server that dies in between finds the layer `building` at its next start
//! and looks whether its files are there ([`crate::jobs::housekeeping::take_up`]).
//!
//! ```text
//! record (building, on top) ─► rename ─► record (ready; the fork, asleep)
//! ```
//!
//! A layer is known by the workspace and the start that it followed, so that a workspace which did
//! not run since its last snapshot is not frozen again.

use std::{sync::Arc, time::Instant};

use boatyard_api::{
    IdempotencyKey, Problem,
    workspace::{ForkRequest, Snapshot, Workspace},
};
use boatyard_link::message::GitRequest;
use boatyard_model::{LayerId, Wish, WorkspaceId, WorkspaceKind, WorkspaceState, name::CommitId};
use boatyard_runtime::{Error as RuntimeError, SnapshotKind};
use boatyard_store::{
    Begins, LayerKind, LayerRow, NewLayer, Store, Tx, WorkspaceRow, WorkspaceUpdate,
};

use super::{check_name, failed, find_workspace, made_before, record, row, whole};
use crate::{
    app::App,
    auth::Caller,
    hub::HubError,
    operations::{hub_problem, idempotency, sessions, store_problem},
};

/// A workspace's files as they were at a moment.
struct Frozen {
    layer: LayerId,
    /// This layer and those below it, the top one first.
    lowers: Vec<LayerId>,
    /// Whether the layer is only now being made: it is to be noted as ready.
    is_new: bool,
}

/// Freezes a workspace's files as a layer. A quiet workspace goes on above it; one that runs is
/// copied while it is held still.
async fn freeze(app: &App, id: WorkspaceId) -> Result<Frozen, HubError> {
    app.hub
        .while_quiet(id, async || {
            let row = app.store.workspace(id).await?;
            let other = match row.state {
                WorkspaceState::Awake => match freeze_as(app, &row, SnapshotKind::Copied).await {
                    // It ended by itself, and nobody noticed yet.
                    Err(HubError::Runtime(RuntimeError::NotRunning(_))) => SnapshotKind::Moved,
                    frozen => return frozen,
                },
                WorkspaceState::Asleep => match freeze_as(app, &row, SnapshotKind::Moved).await {
                    // It was started by an earlier server that died before it took note.
                    Err(HubError::Runtime(RuntimeError::Running(_))) => SnapshotKind::Copied,
                    frozen => return frozen,
                },
                state => return Err(HubError::State(format!("workspace {id} is {state}"))),
            };
            freeze_as(app, &row, other).await
        })
        .await
}

async fn freeze_as(app: &App, row: &WorkspaceRow, kind: SnapshotKind) -> Result<Frozen, HubError> {
    let (id, layer) = (row.id, LayerId::new());
    let key = (kind == SnapshotKind::Moved).then(|| format!("{id}@{}", row.generation));
    if let (Some(key), Some(top)) = (&key, row.lowers.first()) {
        let top = app.store.layer(*top).await?;
        if top.cache_key.as_ref() == Some(key) {
            return Ok(Frozen { layer: top.id, lowers: row.lowers.clone(), is_new: false });
        }
    }
    if row.generation == 0 {
        match app.runtime.create(id).await {
            Ok(()) | Err(RuntimeError::Exists(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let new = NewLayer {
        id: layer,
        owner: row.owner,
        repository: row.repository,
        kind: LayerKind::Snapshot,
        cache_key: key,
        parents: row.lowers.clone(),
    };
    let before = row.lowers.clone();
    let stacked: Vec<LayerId> = std::iter::once(layer).chain(before.iter().copied()).collect();
    let on_top = (kind == SnapshotKind::Moved).then(|| stacked.clone());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                tx.create_layer(new).await?;
                match on_top {
                    Some(lowers) => set_lowers(tx, id, lowers).await,
                    None => Ok(()),
                }
            })
        })
        .await?;
    if let Err(error) = app.runtime.snapshot(id, layer, kind).await {
        app.store
            .write(move |tx| {
                Box::pin(async move {
                    set_lowers(tx, id, before).await?;
                    tx.delete_layer(layer).await
                })
            })
            .await?;
        return Err(error.into());
    }
    Ok(Frozen { layer, lowers: stacked, is_new: true })
}

/// After a restart: takes note of a layer that was being made when the server ended.
///
/// # Errors
/// When the store refuses.
pub(crate) async fn settle_snapshot(
    store: &Store,
    layer: LayerRow,
    has_files: bool,
) -> boatyard_store::Result<()> {
    let id = layer.id;
    let moved_from = match (layer.kind, &layer.cache_key) {
        (LayerKind::Snapshot, Some(key)) => {
            key.split_once('@').and_then(|(workspace, _)| workspace.parse::<WorkspaceId>().ok())
        }
        _ => None,
    };
    store
        .write(move |tx| {
            Box::pin(async move {
                let Some(workspace) = moved_from else { return tx.delete_layer(id).await };
                if has_files {
                    // The workspace's files are in it now.
                    return tx.layer_ready(id, 0).await.map(drop);
                }
                let mut lowers = tx.workspace(workspace).await?.lowers;
                lowers.retain(|lower| *lower != id);
                set_lowers(tx, workspace, lowers).await?;
                tx.delete_layer(id).await
            })
        })
        .await
}

async fn set_lowers(
    tx: &mut Tx,
    id: WorkspaceId,
    lowers: Vec<LayerId>,
) -> boatyard_store::Result<()> {
    let known = WorkspaceUpdate { lowers: Some(lowers), ..WorkspaceUpdate::default() };
    tx.update_workspace(id, known).await
}

/// Keeps a workspace's files as they are now.
///
/// # Errors
/// When the disk refuses.
pub async fn snapshot_workspace(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
) -> Result<Snapshot, Problem> {
    row(app, caller, id, Wish::Act).await?;
    let began = Instant::now();
    let layer = whole(app, {
        let app = app.clone();
        async move {
            let Frozen { layer, is_new, .. } = freeze(&app, id).await.map_err(hub_problem)?;
            if is_new {
                let ready = app
                    .store
                    .write(move |tx| Box::pin(async move { tx.layer_ready(layer, 0).await }));
                ready.await.map_err(store_problem)?;
            }
            Ok(layer)
        }
    })
    .await?;
    Ok(Snapshot {
        id: layer,
        workspace: id,
        millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        created: app.store.now(),
    })
}

/// Makes a workspace with the files of another one, as they are or as they were at a turn's end.
/// It sleeps until somebody wants something of it.
///
/// # Errors
/// When there is no such moment, or the machine refuses.
pub async fn fork_workspace(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
    request: ForkRequest,
    key: Option<IdempotencyKey>,
) -> Result<Workspace, Problem> {
    let route = format!("POST /api/workspaces/{id}/fork");
    let key = idempotency(caller, &route, key, &request)?;
    let source = row(app, caller, id, Wish::Act).await?;
    check_name(request.name.as_deref())?;
    if let Some(before) = made_before(app, caller, key.as_ref()).await? {
        return find_workspace(app, caller, before).await;
    }
    let checkpoint = match &request.at {
        None => None,
        Some(at) => Some(checkpoint(app, caller, &source, at).await?),
    };
    let folder = source.folder.clone();
    let origin = source.repository.map(|id| id.to_string()).unwrap_or_default();
    let new = boatyard_store::NewWorkspace {
        id: WorkspaceId::new(),
        owner: caller.owner,
        name: request.name,
        kind: WorkspaceKind::Sandbox,
        runtime: source.runtime,
        isolation: source.isolation,
        lowers: Vec::new(),
        repository: source.repository,
        folder: source.folder,
        base_commit: source.base_commit,
        branch: source.branch,
        limits: source.limits,
        task: None,
        forked_from: Some(id),
        begins: Begins::Asleep,
    };
    let fork = whole(app, {
        let app = Arc::new(app.clone());
        async move {
            let fork = make(&app, id, new, key).await?;
            let (Some(commit), Some(folder)) = (checkpoint, folder) else { return Ok(fork) };
            let commit = commit.to_string();
            let checked_out = async {
                let attached = app.hub.wake(fork).await?;
                attached.git(GitRequest::Checkout { folder, commit, origin }).await
            };
            match checked_out.await {
                Ok(_) => Ok(fork),
                Err(error) => {
                    failed(&app, fork, crate::chain(&error)).await?;
                    Err(hub_problem(error))
                }
            }
        }
    })
    .await?;
    find_workspace(app, caller, fork).await
}

/// Freezes the source, and puts the fork on record together with the layer.
async fn make(
    app: &App,
    source: WorkspaceId,
    new: boatyard_store::NewWorkspace,
    key: Option<boatyard_store::IdempotencyKey>,
) -> Result<WorkspaceId, Problem> {
    let Frozen { layer, lowers, is_new } = freeze(app, source).await.map_err(hub_problem)?;
    let new = boatyard_store::NewWorkspace { lowers, ..new };
    app.store
        .write(move |tx| {
            Box::pin(async move {
                if is_new {
                    tx.layer_ready(layer, 0).await?;
                }
                let (id, owner) = (new.id, new.owner);
                let made = record(tx, new, key).await?;
                if made == id {
                    // What it may reach goes with the files.
                    tx.copy_rules(owner, source, id).await?;
                }
                Ok(made)
            })
        })
        .await
        .map_err(store_problem)
}

/// The nearest checkpoint at or before a moment.
async fn checkpoint(
    app: &App,
    caller: &Caller,
    source: &WorkspaceRow,
    at: &boatyard_api::workspace::ForkPoint,
) -> Result<CommitId, Problem> {
    let session = sessions::row(app, caller, at.session, Wish::Look).await?;
    if session.workspace != source.id {
        return Err(Problem::invalid("at.session", "this session is not of this workspace"));
    }
    let turns = app.store.turns(at.session).await.map_err(store_problem)?;
    let before = |n: u32, first_seq: u64| match (at.turn, at.event) {
        (Some(turn), None) => Ok(n <= turn),
        // A checkpoint is made at a turn's end, so the turn that the event is in has none before.
        (None, Some(event)) => Ok(first_seq < event),
        _ => Err(Problem::invalid("at", "give either a turn or an event")),
    };
    let mut found = None;
    for turn in &turns {
        if before(turn.n, turn.first_seq)? {
            found = turn.checkpoint.clone().or(found);
        }
    }
    let found = found.and_then(|commit| commit.parse().ok());
    found.ok_or_else(|| Problem::conflict("there is no checkpoint at or before that moment"))
}

#[cfg(test)]
mod tests;
