//! Workspaces: made, started, stopped, forked, looked into.

use std::{pin::Pin, sync::Arc, time::Instant};

use boatyard_api::{
    Cursor, IdempotencyKey, Problem,
    page::limit,
    task::Diff,
    workspace::{
        Commit, CommitList, ExecExit, ExecOutput, ExecRequest, ExecResult, FILE_MAX, FileEntry,
        FileKind, FileListing, ForkRequest, NewWorkspace, Snapshot, Workspace, WorkspaceDiffQuery,
        WorkspaceFilter, WorkspacePage, WriteFileQuery, WrittenFile,
    },
};
use boatyard_link::message::{self, GitReply, GitRequest};
use boatyard_model::{
    LayerId, Timestamp, WorkspaceId, WorkspaceKind, WorkspaceState, name::CommitId,
};
use boatyard_runtime::SnapshotKind;
use boatyard_store::{LayerKind, NewLayer, WorkspaceRow, WorkspaceUpdate};
use bytes::Bytes;
use futures_util::Stream;

use super::{hub_problem, own, repositories, store_problem};
use crate::{
    app::App,
    auth::Caller,
    hub::{Attached, HubError, exec::Piece},
    jobs::{housekeeping, prepare},
};

/// Output of a command in one answer, in bytes of each stream.
const OUTPUT_MAX: usize = 1 << 20;
/// How long a command may take where nobody says, and at most, in seconds.
const TIMEOUT: (u32, u32) = (60, 3600);
/// The largest patch in an answer, in bytes.
const PATCH_MAX: u64 = 8 << 20;
/// The longest name, in characters.
const NAME_MAX: usize = 100;
/// The most arguments and variables of a command.
const WORDS_MAX: usize = 4096;

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
    if let Some(attempt) = app.store.attempt_of_workspace(id).await.map_err(store_problem)? {
        if !attempt.state.is_terminal() {
            let next = format!("Cancel it first: `boatyard cancel {}`.", attempt.task);
            return Err(Problem::conflict("an attempt at a task works in it").with_next(next));
        }
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

async fn awake(app: &App, caller: &Caller, id: WorkspaceId) -> Result<Arc<Attached>, Problem> {
    row(app, caller, id).await?;
    let attached = app.hub.wake(id).await.map_err(hub_problem)?;
    Ok(attached)
}

fn command(
    folder: Option<&str>,
    request: ExecRequest,
) -> Result<(message::ExecRequest, Option<Bytes>), Problem> {
    if request.command.first().is_none_or(String::is_empty) {
        return Err(Problem::invalid("command", "name a program"));
    }
    if request.command.len() + request.environment.len() > WORDS_MAX {
        return Err(Problem::invalid("command", format!("more than {WORDS_MAX} words")));
    }
    let timeout = request.timeout.unwrap_or(TIMEOUT.0);
    if !(1..=TIMEOUT.1).contains(&timeout) {
        let detail = format!("{timeout} is not between 1 and {} seconds", TIMEOUT.1);
        return Err(Problem::invalid("timeout", detail));
    }
    let stdin = request.stdin.map(Bytes::from);
    let exec = message::ExecRequest {
        command: request.command,
        environment: request.environment,
        cwd: request.cwd.or_else(|| folder.map(|folder| format!("/work/{folder}"))),
        deadline_millis: Some(u64::from(timeout) * 1000),
        stdin: stdin.is_some(),
    };
    Ok((exec, stdin))
}

fn exit(exit: message::ExecExit) -> ExecExit {
    match exit {
        message::ExecExit::Exited { code } => ExecExit::Exited { code },
        message::ExecExit::Signalled { signal } => ExecExit::Signalled { signal },
        message::ExecExit::TimedOut => ExecExit::TimedOut,
        message::ExecExit::NotStarted { message } => ExecExit::NotStarted { message },
    }
}

/// Runs a command and waits for it.
///
/// # Errors
/// When the workspace can't be started or reached; how the command ended is no error.
pub async fn exec_in_workspace(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
    request: ExecRequest,
) -> Result<ExecResult, Problem> {
    let row = row(app, caller, id).await?;
    let (request, stdin) = command(row.folder.as_deref(), request)?;
    let attached = app.hub.wake(id).await.map_err(hub_problem)?;
    let exec = attached.exec(request, stdin).await.map_err(hub_problem)?;
    let output = exec.output(OUTPUT_MAX).await.map_err(hub_problem)?;
    Ok(ExecResult {
        exit: exit(output.exit),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        cut: output.cut,
        millis: u64::try_from(output.took.as_millis()).unwrap_or(u64::MAX),
    })
}

/// A running command's output, piece by piece.
pub type ExecStream = Pin<Box<dyn Stream<Item = ExecOutput> + Send>>;

/// Runs a command and gives its output as it comes. It is killed when nobody reads any more.
///
/// # Errors
/// When the workspace can't be started or reached.
pub async fn exec_streaming(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
    request: ExecRequest,
) -> Result<ExecStream, Problem> {
    let row = row(app, caller, id).await?;
    let (request, stdin) = command(row.folder.as_deref(), request)?;
    let attached = app.hub.wake(id).await.map_err(hub_problem)?;
    let exec = attached.exec(request, stdin).await.map_err(hub_problem)?;
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let pieces = futures_util::stream::unfold(Some(exec), move |exec| async move {
        let mut exec = exec?;
        match exec.next().await {
            Ok(Piece::Stdout(bytes)) => {
                Some((ExecOutput::Stdout { text: text(&bytes) }, Some(exec)))
            }
            Ok(Piece::Stderr(bytes)) => {
                Some((ExecOutput::Stderr { text: text(&bytes) }, Some(exec)))
            }
            Ok(Piece::Exit(how, took)) => {
                let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                Some((ExecOutput::Exit { exit: exit(how), millis }, None))
            }
            Err(error) => {
                let message = crate::chain(&error);
                Some((ExecOutput::Exit { exit: ExecExit::NotStarted { message }, millis: 0 }, None))
            }
        }
    });
    Ok(Box::pin(pieces))
}

/// A folder's entries.
///
/// # Errors
/// When it is not there, or not inside.
pub async fn list_files(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
    path: String,
) -> Result<FileListing, Problem> {
    let attached = awake(app, caller, id).await?;
    let (entries, cut) = attached.list_folder(path).await.map_err(hub_problem)?;
    let entries = entries
        .into_iter()
        .map(|entry| FileEntry {
            name: entry.name,
            kind: match entry.kind.as_str() {
                "file" => FileKind::File,
                "folder" => FileKind::Folder,
                "link" => FileKind::Link,
                _ => FileKind::Other,
            },
            bytes: entry.bytes,
        })
        .collect();
    Ok(FileListing { entries, cut })
}

/// A file's bytes.
///
/// # Errors
/// When it is not there, not inside, no plain file, or too large.
pub async fn read_file(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
    path: String,
) -> Result<Bytes, Problem> {
    let attached = awake(app, caller, id).await?;
    attached.read_file(path, FILE_MAX).await.map_err(hub_problem)
}

/// Writes a file.
///
/// # Errors
/// When its place is not inside, or the disk refuses.
pub async fn write_file(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
    query: WriteFileQuery,
    bytes: Bytes,
) -> Result<WrittenFile, Problem> {
    let attached = awake(app, caller, id).await?;
    let path = query.path.clone();
    let bytes =
        attached.write_file(query.path, query.executable, bytes).await.map_err(hub_problem)?;
    Ok(WrittenFile { path, bytes })
}

fn folder(row: &WorkspaceRow) -> Result<String, Problem> {
    row.folder.clone().ok_or_else(|| Problem::conflict("this workspace has no repository"))
}

/// What differs in a workspace's repository.
///
/// # Errors
/// When it has none, or there is no such revision.
pub async fn read_workspace_diff(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
    query: WorkspaceDiffQuery,
) -> Result<Diff, Problem> {
    let row = row(app, caller, id).await?;
    let folder = folder(&row)?;
    let base = match query.base {
        Some(base) => base.to_string(),
        None => row.base_commit.clone().unwrap_or_default(),
    };
    let head = query.head.map(|head| head.to_string());
    let attached = app.hub.wake(id).await.map_err(hub_problem)?;
    let request = GitRequest::Diff {
        folder,
        base: base.clone(),
        head: head.clone(),
        context: query.context.unwrap_or(3),
        max: PATCH_MAX,
    };
    let (reply, patch) = attached.git_bytes(request, PATCH_MAX).await.map_err(hub_problem)?;
    let GitReply::Diff { files, cut } = reply else {
        return Err(hub_problem(HubError::Protocol("a difference")));
    };
    Ok(Diff { base, head, files, patch: String::from_utf8_lossy(&patch).into_owned(), cut })
}

/// The newest commits of a workspace's repository. git runs inside, as everywhere.
///
/// # Errors
/// When it has none.
pub async fn read_workspace_log(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
    limit: u32,
) -> Result<CommitList, Problem> {
    let row = row(app, caller, id).await?;
    let folder = folder(&row)?;
    let attached = app.hub.wake(id).await.map_err(hub_problem)?;
    let format = "--format=%H%x00%P%x00%an%x00%ae%x00%ct%x00%s%x00%x1e";
    let request = message::ExecRequest {
        command: ["git", "-c", "core.fsmonitor=false", "log", "--no-color", format]
            .into_iter()
            .map(str::to_owned)
            .chain([format!("--max-count={limit}")])
            .collect(),
        cwd: Some(format!("/work/{folder}")),
        deadline_millis: Some(30_000),
        ..message::ExecRequest::default()
    };
    let exec = attached.exec(request, None).await.map_err(hub_problem)?;
    let output = exec.output(OUTPUT_MAX).await.map_err(hub_problem)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let items = text.split('\u{1e}').filter_map(commit).take(limit as usize).collect();
    Ok(CommitList { items })
}

fn commit(line: &str) -> Option<Commit> {
    let fields: Vec<&str> = line.trim_start_matches('\n').split('\0').collect();
    let [id, parents, author, email, time, subject, ..] = fields[..] else { return None };
    Some(Commit {
        id: id.parse::<CommitId>().ok()?.to_string(),
        parents: parents.split_whitespace().map(str::to_owned).collect(),
        author: author.to_owned(),
        email: email.to_owned(),
        time: Timestamp(time.parse::<i64>().ok()?.checked_mul(1000)?),
        subject: subject.to_owned(),
    })
}
