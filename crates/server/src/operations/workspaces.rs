//! Workspaces: made, started, stopped, forked, looked into.

use boatyard_api::{
    Cursor, IdempotencyKey, Problem,
    page::limit,
    workspace::{NewWorkspace, Workspace, WorkspaceChange, WorkspaceFilter, WorkspacePage},
};
use boatyard_model::{RuleSpec, Visibility, Wish, WorkspaceId, WorkspaceKind, WorkspaceState};
use boatyard_store::{
    Begins, NewRule, QuotaKind, RepositoryRow, RulePlace, ThingId, Tx, WorkspaceRow,
};

use super::{egress, hub_problem, repositories, store_problem};
use crate::{
    access,
    app::App,
    auth::Caller,
    jobs::{admission, housekeeping, prepare},
};

mod fork;
mod inside;

pub(crate) use fork::settle_snapshot;
pub use fork::{fork_workspace, snapshot_workspace};
pub use inside::{
    ExecStream, exec_in_workspace, exec_streaming, list_files, read_file, read_workspace_diff,
    read_workspace_log, write_file,
};

/// The longest name, in characters.
const NAME_MAX: usize = 100;

/// Makes a workspace and starts it: with a repository, or empty. A caller that goes away meanwhile
/// leaves none half made.
///
/// # Errors
/// When a part of it makes no sense, or the machine refuses.
pub async fn create_workspace(
    app: &App,
    caller: &Caller,
    new: NewWorkspace,
    key: Option<IdempotencyKey>,
) -> Result<Workspace, Problem> {
    let idempotency = super::idempotency(caller, "POST /api/workspaces", key, &new)?;
    check_name(new.name.as_deref())?;
    let rules = egress::ordered(&new.egress)?;
    if let Some(before) = made_before(app, caller, idempotency.as_ref()).await? {
        return find_workspace(app, caller, before).await;
    }
    admission::workspace(app)?;
    let repository = match &new.repository {
        Some(text) => Some(repositories::resolve(app, caller, text, Wish::Act).await?),
        None => None,
    };
    let begins = if repository.is_some() { Begins::Later } else { Begins::AtOnce };
    let stored = boatyard_store::NewWorkspace {
        id: WorkspaceId::new(),
        owner: caller.owner,
        name: new.name,
        kind: WorkspaceKind::Sandbox,
        runtime: app.runtime.name().to_owned(),
        isolation: app.runtime.tried().map(|known| known.isolation.to_string()),
        lowers: Vec::new(),
        repository: repository.as_ref().map(|row| row.id),
        folder: repository.as_ref().map(|row| row.folder.clone()),
        base_commit: None,
        branch: None,
        limits: new.limits.unwrap_or_default().over(app.settings.limits.workspace()),
        task: None,
        forked_from: None,
        begins,
    };
    let base = new.base.map(|base| base.to_string());
    let id = whole(app, {
        let app = app.clone();
        let begins = Beginning { rules, visibility: new.visibility };
        async move { make(&app, stored, begins, repository, base, idempotency).await }
    })
    .await?;
    find_workspace(app, caller, id).await
}

/// The workspace that an earlier request with the same key made.
async fn made_before(
    app: &App,
    caller: &Caller,
    key: Option<&boatyard_store::IdempotencyKey>,
) -> Result<Option<WorkspaceId>, Problem> {
    let Some(key) = key else { return Ok(None) };
    let before = app.store.idempotent(caller.owner.organization, key).await;
    Ok(before.map_err(store_problem)?.and_then(|id| id.parse().ok()))
}

/// Does work to its end, whether or not anybody still waits for it.
async fn whole<T: Send + 'static>(
    app: &App,
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    match app.tasks.spawn(app.store.audited(work)).await {
        Ok(result) => result,
        Err(error) => Err(Problem::internal(error)),
    }
}

/// What a workspace begins with, beside its row.
struct Beginning {
    /// Its own rules.
    rules: Vec<RuleSpec>,
    /// Who may see it; as the organization says if absent.
    visibility: Option<Visibility>,
}

/// Stores a workspace and makes it run. Gives the id of the one that another request with the
/// same key made in the same moment, if there was one.
async fn make(
    app: &App,
    new: boatyard_store::NewWorkspace,
    begins: Beginning,
    repository: Option<RepositoryRow>,
    base: Option<String>,
    key: Option<boatyard_store::IdempotencyKey>,
) -> Result<WorkspaceId, Problem> {
    let (id, owner, limits) = (new.id, new.owner, new.limits);
    let ready = match repository {
        None => {
            let mut made = Ok(id);
            let stored = async {
                made = store_new(app, new, begins, key).await;
                match &made {
                    Ok(made) if *made == id => Ok(()),
                    // Whatever it was, `made` tells it.
                    _ => Err(boatyard_store::Error::Closed),
                }
            };
            let launched = app.hub.launch(id, limits, stored).await;
            match made {
                Ok(made) if made == id => launched.map(drop).map_err(hub_problem),
                other => return other.map_err(store_problem),
            }
        }
        Some(row) => {
            let made = store_new(app, new, begins, key).await.map_err(store_problem)?;
            if made != id {
                return Ok(made);
            }
            prepare::bare_workspace(app, owner, id, &row, base.as_deref(), limits)
                .await
                .map_err(|reason| Problem::workspace_failed(reason.text))
        }
    };
    match ready {
        Ok(()) => Ok(id),
        Err(problem) => {
            failed(app, id, problem.detail.clone()).await?;
            Err(problem)
        }
    }
}

/// Puts a workspace on record, unless a request with the same key did so before: the id of the
/// one that is on record.
async fn store_new(
    app: &App,
    new: boatyard_store::NewWorkspace,
    begins: Beginning,
    key: Option<boatyard_store::IdempotencyKey>,
) -> boatyard_store::Result<WorkspaceId> {
    let (id, owner) = (new.id, new.owner);
    let Beginning { rules, visibility } = begins;
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let made = record(tx, new, key).await?;
                if made == id {
                    if let Some(visibility) = visibility {
                        tx.set_visibility(ThingId::Workspace(id), visibility).await?;
                    }
                    for rule in rules {
                        let place = RulePlace::Workspace(id);
                        tx.create_rule(&NewRule::new(owner, place, rule)).await?;
                    }
                }
                Ok(made)
            })
        })
        .await
}

async fn record(
    tx: &mut Tx,
    new: boatyard_store::NewWorkspace,
    key: Option<boatyard_store::IdempotencyKey>,
) -> boatyard_store::Result<WorkspaceId> {
    let (id, owner) = (new.id, new.owner);
    if let Some(key) = &key {
        let before = tx.idempotent(owner.organization, key).await?;
        if let Some(before) = before.and_then(|id| id.parse().ok()) {
            return Ok(before);
        }
        tx.remember(owner, key, &id.to_string()).await?;
    }
    tx.within_quota(owner, &QuotaKind::OF_WORKSPACES).await?;
    tx.create_workspace(new).await?;
    Ok(id)
}

/// Notes that a workspace could not be made.
async fn failed(app: &App, id: WorkspaceId, text: String) -> Result<(), Problem> {
    let reason = boatyard_store::Reason { code: "workspace_failed".to_owned(), text };
    app.hub.fail(id, reason).await.map_err(hub_problem)
}

fn check_name(name: Option<&str>) -> Result<(), Problem> {
    match name {
        Some(name) if name.trim().is_empty() || name.chars().count() > NAME_MAX => {
            Err(Problem::invalid("name", format!("it must have 1 to {NAME_MAX} characters")))
        }
        _ => Ok(()),
    }
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
        disk_bytes: row.disk_bytes,
        generation: row.generation,
        owner: row.owner.member,
        visibility: row.visibility,
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
    let seen_by = access::viewer(caller);
    let rows = app
        .store
        .list_workspaces(caller.owner.organization, filter.state, before, limit, seen_by)
        .await
        .map_err(store_problem)?;
    let full = rows.len() == limit as usize;
    let next_cursor = rows.last().filter(|_| full).map(|row| Cursor::after(&row.id.to_string()));
    Ok(WorkspacePage { items: rows.into_iter().map(workspace).collect(), next_cursor })
}

async fn row(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
    wish: Wish,
) -> Result<WorkspaceRow, Problem> {
    let row = app.store.workspace(id).await.map_err(store_problem)?;
    access::check(app, caller, &row, wish).await?;
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
    Ok(workspace(row(app, caller, id, Wish::Look).await?))
}

/// Removes a workspace with its files. Logs of its sessions and results of its attempts stay.
///
/// # Errors
/// When there is none, or the machine refuses.
pub async fn delete_workspace(app: &App, caller: &Caller, id: WorkspaceId) -> Result<(), Problem> {
    let row = row(app, caller, id, Wish::Manage).await?;
    if row.state == WorkspaceState::Deleted {
        return Ok(());
    }
    if let Some(attempt) = app.store.attempt_of_workspace(id).await.map_err(store_problem)?
        && !attempt.state.is_terminal()
    {
        let next = format!("Cancel it first: `boatyard cancel {}`.", attempt.task);
        return Err(Problem::conflict("an attempt at a task works in it").with_next(next));
    }
    let at_work = app.clone();
    let removed = async move {
        housekeeping::end_sessions(&at_work, id, "its workspace was deleted")
            .await
            .map_err(|error| Problem::internal(error.into_boxed_dyn_error()))?;
        at_work.hub.remove(id).await.map_err(hub_problem)
    };
    whole(app, removed).await
}

/// Changes what a workspace is called, and who may see it, with its sessions.
///
/// # Errors
/// When there is none, or it is not the caller's to decide about.
pub async fn change_workspace(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
    change: WorkspaceChange,
) -> Result<Workspace, Problem> {
    row(app, caller, id, Wish::Manage).await?;
    check_name(change.name.as_deref())?;
    app.store
        .write(move |tx| {
            Box::pin(async move {
                if let Some(visibility) = change.visibility {
                    tx.set_visibility(ThingId::Workspace(id), visibility).await?;
                }
                match change.name {
                    Some(name) => tx.name_workspace(id, &name).await,
                    None => Ok(()),
                }
            })
        })
        .await
        .map_err(store_problem)?;
    find_workspace(app, caller, id).await
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
    row(app, caller, id, Wish::Act).await?;
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
    row(app, caller, id, Wish::Act).await?;
    let hub = app.hub.clone();
    whole(app, async move { hub.kill(id).await.map_err(hub_problem) }).await?;
    find_workspace(app, caller, id).await
}
