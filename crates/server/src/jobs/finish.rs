//! What follows the end of a turn: the next prompt, or the end of the attempt with its result.

use boatyard_api::task::{Push, PushState, TaskResult};
use boatyard_link::message::{GitReply, GitRequest, Reply, Request};
use boatyard_model::{
    AttemptId, AttemptState, EventBody, PromptState, SessionId, SessionState, TurnOutcome,
    WorkspaceState,
    event::{DiffFile, NoticeLevel},
    name::{Branch, CommitId},
};
use boatyard_store::{
    AttemptRow, AttemptUpdate, BUILT_IN_ORGANIZATION, NewJob, Owner, Reason, SessionRow, TaskDetail,
};
use serde_json::{Value, json};

use super::{
    Done,
    attempt::{OrderOptions, Phases},
    check, dispatch, prepare,
};
use crate::{app::App, hub::HubError};

/// Takes the result of an attempt that was cancelled. Its payload is `{"attempt"}`.
pub const JOB_CANCELLED: &str = "finish";
/// The largest result that is taken out of a workspace, in bytes of its pack.
pub const PACK_MAX: u64 = 2 << 30;
/// How the codes of notices begin that tell which limit was reached.
const LIMIT_NOTICE: &str = "limit_";
/// What is kept of the agent's last message, in bytes.
const SUMMARY_MAX: usize = 16 << 10;

/// The job that follows a cancellation.
pub fn cancelled_job(owner: Owner, attempt: AttemptId) -> NewJob {
    let mut job = NewJob::new(JOB_CANCELLED, json!({ "attempt": attempt }))
        .once_for(format!("{JOB_CANCELLED}:{attempt}"));
    job.owner = owner;
    job
}

/// A turn is over.
pub async fn turn_completed(app: &App, payload: &Value) -> anyhow::Result<Done> {
    let id: SessionId = serde_json::from_value(payload["session"].clone())?;
    let outcome: TurnOutcome = serde_json::from_value(payload["outcome"].clone())?;
    let turn: u32 = serde_json::from_value(payload["turn"].clone())?;
    let session = app.store.session(id).await?;
    // The turn has left a checkpoint.
    app.hub.keep(session.workspace);
    if session.state == SessionState::Ended || session.turns != turn {
        return Ok(Done::Yes);
    }
    let queued = app.store.list_prompts(id, Some(PromptState::Queued), 0, 1).await?;
    // Somebody said more while the agent worked; but what they did not let go on must wait for them.
    if !queued.is_empty() && outcome != TurnOutcome::LimitReached {
        return dispatch::run(app, id).await;
    }
    if let Some(attempt) = app.store.attempt_of_session(id).await? {
        end(app, &session, attempt, turn, outcome).await?;
    }
    app.places.look();
    Ok(Done::Yes)
}

/// An attempt was cancelled: what runs is stopped, what was done is kept.
pub async fn cancelled(app: &App, payload: &Value) -> anyhow::Result<Done> {
    let id: AttemptId = serde_json::from_value(payload["attempt"].clone())?;
    let attempt = app.store.attempt(id).await?;
    app.places.cancel(id);
    app.places.look();
    let (Some(session), Some(workspace)) = (attempt.session, attempt.workspace) else {
        return Ok(Done::Yes);
    };
    let row = app.store.session(session).await?;
    if row.state == SessionState::Starting {
        app.store
            .write(move |tx| {
                Box::pin(
                    async move { tx.set_session_state(session, SessionState::Idle, None).await },
                )
            })
            .await?;
    }
    if app.store.workspace(workspace).await?.state != WorkspaceState::Awake {
        return Ok(Done::Yes);
    }
    if matches!(row.state, SessionState::Running | SessionState::Waiting) {
        // The turn's end takes the result.
        stop(app, session, TurnOutcome::Cancelled).await?;
        return Ok(Done::Yes);
    }
    app.hub.sleep(workspace).await?;
    Ok(Done::Yes)
}

/// Stops what runs in a session; its files and its conversation stay. How many milliseconds it
/// took until every process was dead, if something ran.
///
/// # Errors
/// When the workspace can't be reached although it runs.
pub async fn stop(app: &App, id: SessionId, outcome: TurnOutcome) -> Result<Option<u64>, HubError> {
    let session = app.store.session(id).await?;
    let workspace = app.store.workspace(session.workspace).await?;
    if workspace.state != WorkspaceState::Awake {
        return Ok(None);
    }
    let attached = match app.hub.attach(session.workspace).await {
        Ok(attached) => attached,
        Err(HubError::Runtime(boatyard_runtime::Error::NotRunning(_))) => {
            app.hub.found_gone(session.workspace).await?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let ran = matches!(session.state, SessionState::Running | SessionState::Waiting);
    match attached.ask(Request::Stop { session: id, outcome }).await {
        Ok(Reply::Stopped { millis }) => Ok(ran.then_some(millis)),
        Ok(_) => Err(HubError::Protocol("a session to stop")),
        // The runner has nothing of it: a turn that it never saw is over all the same.
        Err(error) if error.code() == Some(boatyard_link::message::FailureCode::NotFound) => {
            if let (true, Some(turn)) = (ran, session.turn) {
                app.hub.end_turn(&session, turn, outcome, None).await?;
            }
            Ok(None)
        }
        Err(error) if error.is_lost() => {
            // It doesn't answer: then it is ended from outside.
            app.hub.kill(session.workspace).await?;
            Ok(ran.then_some(0))
        }
        Err(error) => Err(error),
    }
}

/// Ends the attempt that a session is, or renews the result of one that is over.
async fn end(
    app: &App,
    session: &SessionRow,
    attempt: AttemptRow,
    turn: u32,
    outcome: TurnOutcome,
) -> anyhow::Result<()> {
    if matches!(attempt.state, AttemptState::Queued | AttemptState::Preparing) {
        return Ok(());
    }
    let task = app.store.task(attempt.task).await?;
    let mut phases = match Phases::of(app, &attempt, session.id).await {
        Ok(phases) => phases,
        Err(reason) => anyhow::bail!(reason.text),
    };
    let state = match outcome {
        TurnOutcome::Completed => AttemptState::Succeeded,
        TurnOutcome::Cancelled => AttemptState::Cancelled,
        _ => AttemptState::Failed,
    };
    let limit = match outcome {
        TurnOutcome::LimitReached => told_limit(app, session.id).await?,
        _ => None,
    };
    phases.begin("result").await;
    let taken = take(app, session, &attempt, &task, state).await;
    let (result, lost) = match taken {
        Ok(result) => (result, None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    phases.end(result.as_ref().map_or_else(String::new, summary_of)).await;
    let mut result = result;
    if let (Some(result), AttemptState::Succeeded) = (&mut result, state)
        && attempt.state != AttemptState::Cancelled
    {
        result.check = check::run(app, session, &attempt, turn, &mut phases).await;
        if app.store.session(session.id).await?.turns != turn {
            // Somebody said more meanwhile: the end of that turn is what counts.
            return Ok(());
        }
    }
    let error = app.store.turn(session.id, turn).await?.error.or(limit);
    let (state, reason) = match (state, lost) {
        (AttemptState::Succeeded, Some(lost)) => (
            AttemptState::Failed,
            Some(Reason {
                code: "result_failed".to_owned(),
                text: format!(
                    "The work is done, but its result could not be taken: {lost}. It is still in the workspace."
                ),
            }),
        ),
        (state, lost) => {
            if let Some(lost) = lost {
                let text = format!(
                    "What was done so far could not be taken out of the workspace: {lost}."
                );
                app.hub.notice(session, NoticeLevel::Warning, "result_failed", text, None).await?;
            }
            (state, reason(outcome, error))
        }
    };
    let result = match result {
        Some(result) => {
            Some(push_if_wanted(app, &attempt, &task, result, &mut phases, state).await)
        }
        None => None,
    };
    let result = result.map(serde_json::to_value).transpose()?;
    let id = attempt.id;
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let known = AttemptUpdate { result, ..AttemptUpdate::default() };
                tx.update_attempt(id, known).await?;
                // A later prompt changes the result, never the state; nor is one that was cancelled
                // meanwhile anything else.
                if tx.attempt(id).await?.state.is_terminal() {
                    Ok(())
                } else {
                    tx.set_attempt_state(id, state, reason).await
                }
            })
        })
        .await?;
    Ok(())
}

/// The limit that a session was told of last.
async fn told_limit(app: &App, session: SessionId) -> anyhow::Result<Option<String>> {
    let Some(stored) = app.store.last_event_of_kind(session, "notice").await? else {
        return Ok(None);
    };
    Ok(match stored.event()?.body {
        EventBody::Notice { code, text, .. } if code.starts_with(LIMIT_NOTICE) => Some(text),
        _ => None,
    })
}

fn reason(outcome: TurnOutcome, error: Option<String>) -> Option<Reason> {
    let (code, what) = match outcome {
        TurnOutcome::Completed => return None,
        TurnOutcome::Cancelled => ("stopped", "It was stopped."),
        TurnOutcome::Refused => ("agent_refused", "The agent refused to go on."),
        TurnOutcome::Failed => ("agent_failed", "The agent failed."),
        TurnOutcome::RunnerLost => ("runner_lost", "The workspace's processes ended."),
        TurnOutcome::LimitReached => ("limit_reached", "A limit was reached."),
    };
    let text = match error {
        Some(error) => format!("{what} {error} The work so far is kept."),
        None => format!("{what} The work so far is kept."),
    };
    Some(Reason { code: code.to_owned(), text })
}

fn summary_of(result: &TaskResult) -> String {
    match result.files.len() {
        0 => "nothing changed".to_owned(),
        1 => format!("1 file, +{} −{}", result.added, result.removed),
        n => format!("{n} files, +{} −{}", result.added, result.removed),
    }
}

/// Commits what is left and takes the branch out of the workspace. Nothing where there is no
/// repository.
async fn take(
    app: &App,
    session: &SessionRow,
    attempt: &AttemptRow,
    task: &TaskDetail,
    state: AttemptState,
) -> anyhow::Result<Option<TaskResult>> {
    let workspace = app.store.workspace(session.workspace).await?;
    let (Some(repository), Some(folder), Some(branch)) =
        (workspace.repository, workspace.folder.clone(), attempt.branch.clone())
    else {
        return Ok(None);
    };
    let attached = app.hub.wake(session.workspace).await?;
    let base = attempt.base_commit.clone().unwrap_or_default();
    let request = GitRequest::Finish {
        folder: folder.clone(),
        branch: branch.clone(),
        base: base.clone(),
        message: task.task.title.clone(),
        author: prepare::author(app, workspace.owner).await?,
    };
    let (reply, _) = attached.git(request).await?;
    let GitReply::Finished { head, commits, files, unsigned } = reply else {
        return Err(HubError::Protocol("a result").into());
    };
    if let Some(why) = unsigned {
        let text = format!("The result's commit is not signed: {why}.");
        app.hub.notice(session, NoticeLevel::Warning, "not_signed", text, None).await?;
    }
    let head: CommitId = match head.parse() {
        Ok(head) => head,
        // An empty repository in which nothing was made.
        Err(_) if commits == 0 => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let have = if base.is_empty() { Vec::new() } else { vec![base.clone()] };
    let request = GitRequest::Pack { folder, want: head.to_string(), have };
    let (_, pack) = attached.git(request).await?;
    let parsed: Branch = branch.parse()?;
    app.mirrors.take_result(attempt.id, repository, &parsed, &head, pack, PACK_MAX).await?;
    let files: Vec<DiffFile> = files.into_iter().take(boatyard_model::diff::FILES_MAX).collect();
    let sum = |of: fn(&DiffFile) -> Option<u32>| files.iter().filter_map(of).map(u64::from).sum();
    Ok(Some(TaskResult {
        task: task.task.id,
        attempt: attempt.n,
        state,
        branch,
        base,
        head: head.to_string(),
        commits,
        added: sum(|file| file.added),
        removed: sum(|file| file.removed),
        files,
        summary: last_message(app, session.id).await?,
        usage: app.store.session(session.id).await?.usage.unwrap_or_default(),
        check: None,
        pushed: PushState::NotPushed,
        created: app.store.now(),
    }))
}

async fn last_message(app: &App, session: SessionId) -> anyhow::Result<Option<String>> {
    let found = app.store.last_event_of_kind(session, "message.completed").await?;
    let Some(stored) = found else { return Ok(None) };
    let EventBody::MessageCompleted { mut text, .. } = stored.event()?.body else {
        return Ok(None);
    };
    if text.len() > SUMMARY_MAX {
        let mut end = SUMMARY_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    Ok(Some(text))
}

async fn push_if_wanted(
    app: &App,
    attempt: &AttemptRow,
    task: &TaskDetail,
    mut result: TaskResult,
    phases: &mut Phases<'_>,
    state: AttemptState,
) -> TaskResult {
    let options: Option<OrderOptions> = serde_json::from_value(task.order.options.clone()).ok();
    let wanted = options.is_none_or(|options| options.push == Push::Auto);
    if !wanted || state != AttemptState::Succeeded || result.commits == 0 {
        return result;
    }
    if !may_push(app, task).await {
        return result;
    }
    phases.begin("push").await;
    result.pushed = push(app, attempt, task).await;
    let detail = match &result.pushed {
        PushState::Pushed { remote, .. } => format!("to {remote}"),
        PushState::Refused { reason } => format!("refused: {reason}"),
        PushState::NotPushed => String::new(),
    };
    phases.end(detail).await;
    result
}

/// Whether the origin may let us write: it has an address, and for https a token.
async fn may_push(app: &App, task: &TaskDetail) -> bool {
    use boatyard_model::name::RepositorySource::{Https, Path, Sent, Ssh};
    let Some(id) = task.task.repository else { return false };
    let Ok(row) = app.store.repository(id).await else { return false };
    match prepare::source(app, &row) {
        Ok(Https { host, .. }) => {
            row.owner.organization == BUILT_IN_ORGANIZATION
                && app.settings.repositories.tokens.contains_key(&host)
        }
        Ok(Ssh { .. } | Path(_)) => true,
        Ok(Sent(_)) | Err(_) => false,
    }
}

/// Pushes an attempt's result to its origin.
pub async fn push(app: &App, attempt: &AttemptRow, task: &TaskDetail) -> PushState {
    let refused = |reason: String| PushState::Refused { reason };
    let (Some(id), Some(branch)) = (task.task.repository, attempt.branch.as_deref()) else {
        return refused("the task has no repository".to_owned());
    };
    let row = match app.store.repository(id).await {
        Ok(row) => row,
        Err(error) => return refused(crate::chain(&error)),
    };
    let source = match prepare::source(app, &row) {
        Ok(source) => source,
        Err(reason) => return refused(reason.text),
    };
    let Ok(parsed) = branch.parse::<Branch>() else {
        return refused(format!("`{branch}` is no branch"));
    };
    match app
        .mirrors
        .push_result(attempt.id, &source, &parsed, &app.network.of(attempt.owner))
        .await
    {
        Ok(()) => PushState::Pushed {
            remote: source.to_string(),
            branch: branch.to_owned(),
            time: app.store.now(),
        },
        Err(error) => refused(crate::chain(&error)),
    }
}
