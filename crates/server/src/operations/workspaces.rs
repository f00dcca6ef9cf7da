//! Workspaces: made, started, stopped, forked, looked into.

use std::time::Instant;

use boatyard_api::{
    Cursor, IdempotencyKey, Problem,
    page::limit,
    workspace::{ForkRequest, NewWorkspace, Snapshot, Workspace, WorkspaceFilter, WorkspacePage},
};
use boatyard_link::message::GitRequest;
use boatyard_model::{LayerId, WorkspaceId, WorkspaceKind, WorkspaceState, name::CommitId};
use boatyard_runtime::SnapshotKind;
use boatyard_store::{LayerKind, NewLayer, WorkspaceRow, WorkspaceUpdate};

use super::{hub_problem, own, repositories, store_problem};
use crate::{
    app::App,
    auth::Caller,
    hub::HubError,
    jobs::{housekeeping, prepare},
};

mod inside;

pub use inside::{
    ExecStream, exec_in_workspace, exec_streaming, list_files, read_file, read_workspace_diff,
    read_workspace_log, write_file,
};

/// The longest name, in characters.
const NAME_MAX: usize = 100;

/// Makes a workspace and starts it: with a repository, or empty.
///
/// # Errors
/// When a part of it makes no sense, or the machine refuses.
pub async fn create_workspace(
    app: &App,
    caller: &Caller,
    new: NewWorkspace,
    key: Option<IdempotencyKey>,
) -> Result<Workspace, Problem> {
    let idempotency = super::idempotency("POST /api/workspaces", key, &new)?;
    check_name(new.name.as_deref())?;
    let repository = match &new.repository {
        Some(text) => Some(repositories::resolve(app, caller, text).await?),
        None => None,
    };
    let limits = new.limits.unwrap_or_default().over(app.settings.limits.workspace());
    let id = WorkspaceId::new();
    let stored = boatyard_store::NewWorkspace {
        id,
        owner: caller.owner,
        name: new.name,
        kind: WorkspaceKind::Sandbox,
        runtime: app.runtime.name().to_owned(),
        isolation: Some(app.runtime.capabilities().isolation.to_string()),
        lowers: Vec::new(),
        repository: repository.as_ref().map(|row| row.id),
        folder: repository.as_ref().map(|row| row.folder.clone()),
        base_commit: None,
        branch: None,
        limits,
        task: None,
        forked_from: None,
    };
    let owner = caller.owner;
    let made = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                if let Some(key) = &idempotency {
                    let before = tx.idempotent(owner.organization, key).await?;
                    if let Some(before) = before.and_then(|id| id.parse::<WorkspaceId>().ok()) {
                        return Ok(before);
                    }
                    tx.remember(owner, key, &id.to_string()).await?;
                }
                tx.create_workspace(stored).await?;
                Ok(id)
            })
        })
        .await
        .map_err(store_problem)?;
    if made != id {
        return find_workspace(app, caller, made).await;
    }
    let base = new.base.map(|base| base.to_string());
    let ready = match repository {
        None => start_new(app, id).await.map_err(hub_problem),
        Some(row) => prepare::bare_workspace(app, owner, id, &row, base.as_deref(), limits)
            .await
            .map_err(|reason| Problem::workspace_failed(reason.text)),
    };
    if let Err(problem) = ready {
        let reason = boatyard_store::Reason {
            code: "workspace_failed".to_owned(),
            text: problem.detail.clone(),
        };
        app.hub.fail(id, reason).await.map_err(hub_problem)?;
        return Err(problem);
    }
    find_workspace(app, caller, id).await
}

fn check_name(name: Option<&str>) -> Result<(), Problem> {
    match name {
        Some(name) if name.trim().is_empty() || name.chars().count() > NAME_MAX => {
            Err(Problem::invalid("name", format!("it must have 1 to {NAME_MAX} characters")))
        }
        _ => Ok(()),
    }
}

async fn start_new(app: &App, id: WorkspaceId) -> Result<(), HubError> {
    app.runtime.create(id).await?;
    app.hub.wake(id).await.map(drop)
}

fn workspace(row: WorkspaceRow) -> Workspace {
    Workspace {
        id: row.id,
        name: row.name,
        kind: row.kind,
        state: row.state,
        reason: row
            .reason
            .map(|reason| boatyard_api::task::Reason { code: reason.code, text: reason.text }),
        runtime: row.runtime,
        isolation: row.isolation,
        recovered: row.recovered,
        repository: row.repository,
        folder: row.folder,
        base_commit: row.base_commit,
        task: row.task,
        forked_from: row.forked_from,
        limits: row.limits,
        generation: row.generation,
        owner: row.owner.member,
        created: row.created,
        used: row.last_active,
    }
}

/// Workspaces, the newest first.
///
/// # Errors
/// When the filter makes no sense.
pub async fn list_workspaces(
    app: &App,
    caller: &Caller,
    filter: WorkspaceFilter,
) -> Result<WorkspacePage, Problem> {
    let limit = limit(filter.limit)?;
    let before = super::tasks::cursor_id(filter.cursor.as_ref())?;
    let rows = app
        .store
        .list_workspaces(caller.owner.organization, filter.state, before, limit)
        .await
        .map_err(store_problem)?;
    let full = rows.len() == limit as usize;
    let next_cursor = rows.last().filter(|_| full).map(|row| Cursor::after(&row.id.to_string()));
    Ok(WorkspacePage { items: rows.into_iter().map(workspace).collect(), next_cursor })
}

async fn row(app: &App, caller: &Caller, id: WorkspaceId) -> Result<WorkspaceRow, Problem> {
    let row = app.store.workspace(id).await.map_err(store_problem)?;
    own(caller, row.owner, "workspace", id)?;
    Ok(row)
}

/// One workspace.
///
/// # Errors
/// When there is none.
pub async fn find_workspace(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
) -> Result<Workspace, Problem> {
    Ok(workspace(row(app, caller, id).await?))
}

/// Removes a workspace with its files. Logs of its sessions and results of its attempts stay.
///
/// # Errors
/// When there is none, or the machine refuses.
pub async fn delete_workspace(app: &App, caller: &Caller, id: WorkspaceId) -> Result<(), Problem> {
    let row = row(app, caller, id).await?;
    if row.state == WorkspaceState::Deleted {
        return Ok(());
    }
    if let Some(attempt) = app.store.attempt_of_workspace(id).await.map_err(store_problem)?
        && !attempt.state.is_terminal()
    {
        let next = format!("Cancel it first: `boatyard cancel {}`.", attempt.task);
        return Err(Problem::conflict("an attempt at a task works in it").with_next(next));
    }
    housekeeping::end_sessions(app, id, "its workspace was deleted")
        .await
        .map_err(|error| Problem::internal(error.into_boxed_dyn_error()))?;
    app.hub.remove(id).await.map_err(hub_problem)
}

/// Starts a workspace that sleeps.
///
/// # Errors
/// When it can't be started.
pub async fn start_workspace(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
) -> Result<Workspace, Problem> {
    row(app, caller, id).await?;
    app.hub.wake(id).await.map_err(hub_problem)?;
    find_workspace(app, caller, id).await
}

/// Ends every process of a workspace; its files stay.
///
/// # Errors
/// When a process can't be ended.
pub async fn stop_workspace(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
) -> Result<Workspace, Problem> {
    row(app, caller, id).await?;
    app.hub.kill(id).await.map_err(hub_problem)?;
    find_workspace(app, caller, id).await
}

/// Freezes a workspace's files as a layer. A quiet workspace goes on above it; one that runs is
/// copied while it is held still.
async fn freeze(app: &App, row: &WorkspaceRow) -> Result<(LayerId, Vec<LayerId>), HubError> {
    let (id, layer) = (row.id, LayerId::new());
    let new = NewLayer {
        id: layer,
        owner: row.owner,
        repository: row.repository,
        kind: LayerKind::Snapshot,
        cache_key: None,
        parents: row.lowers.clone(),
    };
    app.store.write(move |tx| Box::pin(async move { tx.create_layer(new).await })).await?;
    let taken = app
        .hub
        .while_quiet(id, async || {
            let kind = app.runtime.snapshot(id, layer).await?;
            let below = app.store.workspace(id).await?.lowers;
            let stacked: Vec<LayerId> = std::iter::once(layer).chain(below).collect();
            if kind == SnapshotKind::Moved {
                let lowers = Some(stacked.clone());
                app.store
                    .write(move |tx| {
                        Box::pin(async move {
                            tx.layer_ready(layer, 0).await?;
                            let known = WorkspaceUpdate { lowers, ..WorkspaceUpdate::default() };
                            tx.update_workspace(id, known).await
                        })
                    })
                    .await?;
            } else {
                app.store
                    .write(move |tx| Box::pin(async move { tx.layer_ready(layer, 0).await }))
                    .await?;
            }
            Ok(stacked)
        })
        .await;
    match taken {
        Ok(stacked) => Ok((layer, stacked)),
        Err(error) => {
            app.store
                .write(move |tx| Box::pin(async move { tx.delete_layer(layer).await }))
                .await?;
            Err(error)
        }
    }
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
    let row = row(app, caller, id).await?;
    let began = Instant::now();
    let (layer, _) = freeze(app, &row).await.map_err(hub_problem)?;
    Ok(Snapshot {
        id: layer,
        workspace: id,
        millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        created: app.store.now(),
    })
}

/// Makes a workspace with the files of another one, as they are or as they were at a turn's end.
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
    let idempotency = super::idempotency(&route, key, &request)?;
    let source = row(app, caller, id).await?;
    check_name(request.name.as_deref())?;
    if let Some(key) = &idempotency {
        let before = app.store.idempotent(caller.owner.organization, key).await;
        if let Some(before) = before.map_err(store_problem)?.and_then(|id| id.parse().ok()) {
            return find_workspace(app, caller, before).await;
        }
    }
    let checkpoint = match &request.at {
        None => None,
        Some(at) => Some(checkpoint(app, caller, &source, at).await?),
    };
    let (_, lowers) = freeze(app, &source).await.map_err(hub_problem)?;
    let fork = WorkspaceId::new();
    let stored = boatyard_store::NewWorkspace {
        id: fork,
        owner: caller.owner,
        name: request.name,
        kind: WorkspaceKind::Sandbox,
        runtime: source.runtime.clone(),
        isolation: source.isolation.clone(),
        lowers,
        repository: source.repository,
        folder: source.folder.clone(),
        base_commit: source.base_commit.clone(),
        branch: source.branch.clone(),
        limits: source.limits,
        task: None,
        forked_from: Some(id),
    };
    let owner = caller.owner;
    app.store
        .write(move |tx| {
            Box::pin(async move {
                tx.create_workspace(stored).await?;
                if let Some(key) = &idempotency {
                    tx.remember(owner, key, &fork.to_string()).await?;
                }
                Ok(())
            })
        })
        .await
        .map_err(store_problem)?;
    let made = async {
        app.runtime.create(fork).await?;
        let attached = app.hub.wake(fork).await?;
        if let (Some(commit), Some(folder)) = (checkpoint, source.folder.clone()) {
            let origin = source.repository.map(|id| id.to_string()).unwrap_or_default();
            let request = GitRequest::Checkout { folder, commit: commit.to_string(), origin };
            attached.git(request).await?;
        }
        Ok::<(), HubError>(())
    };
    if let Err(error) = made.await {
        let text = crate::chain(&error);
        let reason = boatyard_store::Reason { code: "workspace_failed".to_owned(), text };
        app.hub.fail(fork, reason).await.map_err(hub_problem)?;
        return Err(hub_problem(error));
    }
    find_workspace(app, caller, fork).await
}

/// The nearest checkpoint at or before a moment.
async fn checkpoint(
    app: &App,
    caller: &Caller,
    source: &WorkspaceRow,
    at: &boatyard_api::workspace::ForkPoint,
) -> Result<CommitId, Problem> {
    let session = super::sessions::row(app, caller, at.session).await?;
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
