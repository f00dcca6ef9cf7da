//! Looking into a workspace: commands, files, its repository. A workspace that sleeps is woken.

use std::{pin::Pin, sync::Arc};

use boatyard_api::{
    Problem, ProblemKind,
    task::Diff,
    workspace::{
        Commit, CommitList, ExecExit, ExecOutput, ExecRequest, ExecResult, FILE_MAX, FileEntry,
        FileKind, FileListing, WorkspaceDiffQuery, WriteFileQuery, WrittenFile,
    },
};
use boatyard_link::message::{self, GitReply, GitRequest};
use boatyard_model::{MemberId, Timestamp, Wish, WorkspaceId, name::CommitId};
use boatyard_store::{WorkspaceRow, audit};
use bytes::Bytes;
use futures_util::Stream;

use super::{super::hub_problem, row};
use crate::{
    app::App,
    auth::Caller,
    hub::{Attached, HubError, exec::Piece},
};

/// Output of a command in one answer, in bytes of each stream.
const OUTPUT_MAX: usize = 1 << 20;
/// How long a command may take where nobody says, and at most, in seconds.
const TIMEOUT: (u32, u32) = (60, 3600);
/// The largest patch in an answer, in bytes.
const PATCH_MAX: u64 = 8 << 20;
/// The most arguments and variables of a command.
const WORDS_MAX: usize = 4096;

async fn awake(
    app: &App,
    caller: &Caller,
    id: WorkspaceId,
    wish: Wish,
) -> Result<Arc<Attached>, Problem> {
    row(app, caller, id, wish).await?;
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

/// The audit log has the program, not its arguments: they may hold a secret.
fn begins(request: &message::ExecRequest) {
    audit::note("program", request.command.first().map_or("", String::as_str));
    audit::begins();
}

fn exit(exit: message::ExecExit) -> ExecExit {
    match exit {
        message::ExecExit::Exited { code } => ExecExit::Exited { code },
        message::ExecExit::Signalled { signal } => ExecExit::Signalled { signal },
        message::ExecExit::TimedOut => ExecExit::TimedOut,
        message::ExecExit::NotStarted { message } => ExecExit::NotStarted { message },
    }
}

/// Whose own credentials go with a command: those of the workspace's owner, for the owner alone.
fn whose(caller: &Caller, row: &WorkspaceRow) -> Option<MemberId> {
    let owner = row.owner.member;
    (caller.owner.member == owner).then_some(owner)
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
    let row = row(app, caller, id, Wish::Act).await?;
    let (mut request, stdin) = command(row.folder.as_deref(), request)?;
    let given = std::mem::take(&mut request.environment);
    request.environment =
        app.connections.variables(row.owner.organization, whose(caller, &row), id);
    request.environment.extend(given);
    begins(&request);
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
    let row = row(app, caller, id, Wish::Act).await?;
    let (mut request, stdin) = command(row.folder.as_deref(), request)?;
    let given = std::mem::take(&mut request.environment);
    request.environment =
        app.connections.variables(row.owner.organization, whose(caller, &row), id);
    request.environment.extend(given);
    begins(&request);
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

/// What became of a file, as a problem: a path that can't be right is the caller's fault, and no
/// failure of the workspace.
fn file_problem(error: HubError) -> Problem {
    use boatyard_link::message::FailureCode as F;
    match error {
        HubError::Runner(failure) if failure.code == F::Workspace => {
            Problem::invalid("query.path", failure)
        }
        HubError::Runner(failure) if failure.code == F::NotFound => {
            Problem::new(ProblemKind::NotFound, failure.message)
        }
        error => hub_problem(error),
    }
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
    let attached = awake(app, caller, id, Wish::Look).await?;
    let (entries, cut) = attached.list_folder(path).await.map_err(file_problem)?;
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
    let attached = awake(app, caller, id, Wish::Look).await?;
    attached.read_file(path, FILE_MAX).await.map_err(file_problem)
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
    let attached = awake(app, caller, id, Wish::Act).await?;
    let path = query.path.clone();
    audit::note("path", &path);
    audit::begins();
    let bytes =
        attached.write_file(query.path, query.executable, bytes).await.map_err(file_problem)?;
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
    let row = row(app, caller, id, Wish::Look).await?;
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
    let row = row(app, caller, id, Wish::Look).await?;
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
