//! Tasks: orders, their attempts, their results.

use boatyard_api::{
    Cursor, IdempotencyKey, Problem,
    page::limit,
    task::{
        ATTEMPTS_MAX, AgentChoice, Attempt, AttemptList, Diff, IMAGES_MAX, NewTask, PROMPT_MAX,
        Phase, Priority, PushState, Reason, Task, TaskChange, TaskFilter, TaskPage, TaskRepository,
        TaskResult, TaskSummary, best,
    },
};
use boatyard_model::{
    BlobId, TaskId, Wish,
    name::{Branch, CommitId},
};
use boatyard_store::{AttemptRow, AttemptUpdate, Created, NewAttempt, TaskDetail, ThingId};
use bytes::Bytes;

use super::{agents, blobs, egress, repositories, store_problem};
use crate::{
    access,
    app::App,
    auth::Caller,
    jobs::{attempt::OrderOptions, finish},
    mirrors::GitError,
};

/// The longest title, in characters.
const TITLE_MAX: usize = 120;
/// The largest patch or bundle that is handed out, in bytes.
const OUT_MAX: u64 = 256 << 20;
/// The largest patch inside a JSON answer, in bytes.
const PATCH_MAX: u64 = 8 << 20;

/// Takes an order.
///
/// # Errors
/// When a part of it makes no sense, with the field.
pub async fn create_task(
    app: &App,
    caller: &Caller,
    new: NewTask,
    key: Option<IdempotencyKey>,
) -> Result<Task, Problem> {
    let idempotency = super::idempotency(caller, "POST /api/tasks", key, &new)?;
    if let Some(key) = &idempotency {
        let organization = caller.owner.organization;
        let before = app.store.idempotent(organization, key).await.map_err(store_problem)?;
        if let Some(id) = before.and_then(|id| id.parse().ok()) {
            return find_task(app, caller, id).await;
        }
    }
    check_prompt("prompt", &new.prompt, &new.images)?;
    let with = makers(app, caller, &new).await?;
    let names: Vec<_> = with.iter().map(|choice| &choice.agent).collect();
    let settings = agents::settings::chosen(app, &names, new.settings, new.autonomy)?;
    let attempts = attempts(&with, new.attempts)?;
    let repository = repositories::resolve(app, caller, &new.repository, Wish::Act).await?;
    let content = blobs::content(app, caller, &new.prompt, &new.images).await?;
    let title = match &new.title {
        Some(title) if title.chars().count() > TITLE_MAX => {
            return Err(Problem::invalid(
                "title",
                format!("it has more than {TITLE_MAX} characters"),
            ));
        }
        Some(title) => title.clone(),
        None => title_of(&new.prompt),
    };
    let limits = new.limits.unwrap_or_default().over(app.settings.limits.task());
    let workspace_limits =
        new.workspace_limits.unwrap_or_default().over(app.settings.limits.workspace());
    egress::ordered(&new.egress)?;
    let options =
        OrderOptions { push: new.push, autonomy: new.autonomy, settings, egress: new.egress };
    let options = serde_json::to_value(options).map_err(Problem::internal)?;
    let visibility = new.visibility;
    let stored = boatyard_store::NewTask {
        owner: caller.owner,
        title,
        prompt: content,
        repository: Some(repository.id),
        source: repository.source.clone(),
        base: new.base.map(|base| base.to_string()),
        environment: new.environment.map(|name| name.to_string()),
        limits,
        workspace_limits,
        priority: match new.priority.unwrap_or_default() {
            Priority::Low => -1,
            Priority::Normal => 0,
            Priority::High => 1,
        },
        options,
        attempts,
        idempotency,
    };
    let created = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let created = tx.create_task(stored).await?;
                if let (Created::New(id, _), Some(visibility)) = (&created, visibility) {
                    tx.set_visibility(ThingId::Task(*id), visibility).await?;
                }
                Ok(created)
            })
        })
        .await
        .map_err(store_problem)?;
    find_task(app, caller, created.id()).await
}

/// The agents that a task is to be done with, each of which can be used.
async fn makers(app: &App, caller: &Caller, new: &NewTask) -> Result<Vec<AgentChoice>, Problem> {
    let given = new.settings.as_ref().and_then(|settings| settings.model.clone());
    if new.agents.is_empty() {
        let model = new.model.clone().or(given);
        let agent = agents::settings::usable(app, caller, new.agent.clone(), model.as_deref());
        return Ok(vec![AgentChoice { agent: agent.await?, model }]);
    }
    for (field, given) in [("agent", new.agent.is_some()), ("model", new.model.is_some())] {
        if given {
            let detail = format!("give either `agents` or `{field}`");
            return Err(Problem::invalid(field, detail));
        }
    }
    let mut makers: Vec<AgentChoice> = Vec::new();
    for (i, choice) in new.agents.iter().enumerate() {
        if new.agents[..i].contains(choice) {
            let detail = format!("`{}` is there twice; `attempts` gives each more", choice.agent);
            return Err(Problem::invalid(format!("agents[{i}]"), detail));
        }
        let model = choice.model.clone().or_else(|| given.clone());
        let wanted = Some(choice.agent.clone());
        let agent = agents::settings::usable(app, caller, wanted, model.as_deref()).await;
        let agent = agent.map_err(|problem| {
            let field = problem.field.clone().unwrap_or_else(|| "agent".to_owned());
            problem.at(format!("agents[{i}].{field}"))
        })?;
        makers.push(AgentChoice { agent, model });
    }
    Ok(makers)
}

/// So many attempts with each, in turns: where there are few places, each agent has a try before
/// one has its second.
fn attempts(with: &[AgentChoice], each: Option<u32>) -> Result<Vec<NewAttempt>, Problem> {
    let each = each.unwrap_or(1);
    let most = ATTEMPTS_MAX as usize;
    let fits = each >= 1 && (each as usize).checked_mul(with.len()).is_some_and(|all| all <= most);
    if !fits {
        let (field, detail) = match with.len() {
            1 => ("attempts", format!("{each} is not between 1 and {ATTEMPTS_MAX}")),
            n if n > most => ("agents", format!("{n} agents are more than {ATTEMPTS_MAX}")),
            n => {
                let detail = format!(
                    "{each} with each of {n} agents is not between 1 and {} ({ATTEMPTS_MAX} in all)",
                    most / n
                );
                ("attempts", detail)
            }
        };
        return Err(Problem::invalid(field, detail));
    }
    let rounds = (0..each).flat_map(|_| with);
    let attempt = |choice: &AgentChoice| NewAttempt {
        agent: choice.agent.to_string(),
        model: choice.model.clone(),
    };
    Ok(rounds.map(attempt).collect())
}

/// Checks a prompt's length and its number of pictures.
pub(crate) fn check_prompt(field: &str, text: &str, images: &[BlobId]) -> Result<(), Problem> {
    if text.trim().is_empty() {
        return Err(Problem::invalid(field, "say what is to be done"));
    }
    if text.len() > PROMPT_MAX {
        let detail = format!(
            "it has {} bytes, more than {PROMPT_MAX}: put it into a file of the repository",
            text.len()
        );
        return Err(Problem::invalid(field, detail));
    }
    if images.len() > IMAGES_MAX {
        return Err(Problem::invalid("images", format!("at most {IMAGES_MAX} are taken")));
    }
    Ok(())
}

/// The prompt's first line with words, cut to the length of a title.
fn title_of(prompt: &str) -> String {
    let line = prompt.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line = line.trim_start_matches(['#', ' ']);
    match line.char_indices().nth(TITLE_MAX - 1) {
        Some((end, _)) if line.chars().count() > TITLE_MAX => format!("{}…", &line[..end]),
        _ => line.to_owned(),
    }
}

/// A page of tasks as JSON, the newest first.
///
/// # Errors
/// When the filter makes no sense.
pub async fn list_tasks(app: &App, caller: &Caller, filter: TaskFilter) -> Result<Bytes, Problem> {
    let limit = limit(filter.limit)?;
    let wanted = boatyard_store::TaskFilter {
        state: filter.state,
        repository: filter.repository,
        before: cursor_id(filter.cursor.as_ref())?,
        seen_by: access::viewer(caller),
    };
    let rows = app
        .store
        .task_page(caller.owner.organization, wanted, limit)
        .await
        .map_err(store_problem)?;
    if let Some(encoded) = app.lists.tasks.find(&rows) {
        return Ok(encoded);
    }
    let full = rows.len() == limit as usize;
    let next_cursor = rows.last().filter(|_| full).map(|row| Cursor::after(&row.id.to_string()));
    let items = rows.iter().map(|row| TaskSummary {
        id: row.id,
        title: row.title.clone(),
        state: row.state,
        visibility: row.visibility,
        repository: row.source.clone(),
        agent: row.agent.clone(),
        attempts: row.attempts,
        session: row.session,
        created: row.created,
        started: row.started,
        ended: row.ended,
    });
    let page = TaskPage { items: items.collect(), next_cursor };
    app.lists.tasks.keep(rows, &page)
}

/// The id that a cursor holds.
pub(crate) fn cursor_id<T: std::str::FromStr>(
    cursor: Option<&Cursor>,
) -> Result<Option<T>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let key = cursor.key()?;
    let id = key.parse();
    id.map(Some).map_err(|_| Problem::invalid("query.cursor", "this is no cursor of this list"))
}

/// One task.
///
/// # Errors
/// When there is none.
pub async fn find_task(app: &App, caller: &Caller, id: TaskId) -> Result<Task, Problem> {
    let detail = detail(app, caller, id, Wish::Look).await?;
    task(app, detail).await
}

async fn detail(app: &App, caller: &Caller, id: TaskId, wish: Wish) -> Result<TaskDetail, Problem> {
    let detail = app.store.task(id).await.map_err(store_problem)?;
    access::check(app, caller, &detail.task, wish).await?;
    Ok(detail)
}

async fn task(app: &App, detail: TaskDetail) -> Result<Task, Problem> {
    let TaskDetail { task, order, attempts } = detail;
    let folder = match task.repository {
        Some(id) => app.store.repository(id).await.map(|row| row.folder).unwrap_or_default(),
        None => String::new(),
    };
    let (prompt, images) = blobs::split(&order.prompt);
    let OrderOptions { push, autonomy, settings, egress } = OrderOptions::of(&order);
    let attempts: Vec<Attempt> = attempts.into_iter().map(attempt).collect();
    Ok(Task {
        id: task.id,
        title: task.title,
        state: task.state,
        prompt,
        images,
        repository: TaskRepository {
            id: task.repository.unwrap_or(boatyard_model::RepositoryId::from_u128(0)),
            source: task.source,
            folder,
        },
        agent: task.agent,
        model: order.model,
        base: order.base,
        limits: order.limits,
        environment: order.environment,
        autonomy,
        settings,
        push,
        egress,
        best: best(&attempts).map_or(1, |attempt| attempt.n),
        attempts,
        owner: task.owner.member,
        visibility: task.visibility,
        created: task.created,
        started: task.started,
        ended: task.ended,
    })
}

fn attempt(row: AttemptRow) -> Attempt {
    Attempt {
        id: row.id,
        n: row.n,
        state: row.state,
        agent: row.agent,
        model: row.model,
        reason: row.reason.map(|reason| Reason { code: reason.code, text: reason.text }),
        phases: row
            .phases
            .into_iter()
            .map(|phase| Phase {
                name: phase.name,
                started: phase.started,
                millis: phase.millis,
                detail: phase.detail,
            })
            .collect(),
        workspace: row.workspace,
        session: row.session,
        branch: row.branch.unwrap_or_default(),
        base_commit: row.base_commit,
        // Written by us; what an older release wrote otherwise is as good as absent.
        result: row
            .result
            .and_then(|value| serde_json::from_value(value).ok())
            .map(|result| TaskResult { state: row.state, ..result }),
        created: row.created,
        started: row.started,
        ended: row.ended,
    }
}

/// Changes who may see a task, with its workspaces and sessions.
///
/// # Errors
/// When there is no such task, or it is not the caller's to decide about.
pub async fn change_task(
    app: &App,
    caller: &Caller,
    id: TaskId,
    change: TaskChange,
) -> Result<Task, Problem> {
    detail(app, caller, id, Wish::Manage).await?;
    if let Some(visibility) = change.visibility {
        app.store
            .write(move |tx| Box::pin(tx.set_visibility(ThingId::Task(id), visibility)))
            .await
            .map_err(store_problem)?;
    }
    find_task(app, caller, id).await
}

/// Cancels every attempt of a task that is not over. What was done so far is kept.
///
/// # Errors
/// When there is no such task.
pub async fn cancel_task(app: &App, caller: &Caller, id: TaskId) -> Result<Task, Problem> {
    detail(app, caller, id, Wish::Act).await?;
    let reason = cancelled_by(caller);
    let owner = caller.owner;
    let alive = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let alive = tx.cancel_task(id, Some(reason)).await?;
                for attempt in &alive {
                    tx.enqueue(finish::cancelled_job(owner, attempt.id)).await?;
                }
                Ok(alive)
            })
        })
        .await
        .map_err(store_problem)?;
    for attempt in alive {
        app.places.cancel(attempt.id);
    }
    find_task(app, caller, id).await
}

/// Why an attempt ended that somebody cancelled.
pub(super) fn cancelled_by(caller: &Caller) -> boatyard_store::Reason {
    boatyard_store::Reason {
        code: "cancelled".to_owned(),
        text: format!("Cancelled by {}. The work so far is kept.", caller.name),
    }
}

/// A task's attempts.
///
/// # Errors
/// When there is no such task.
pub async fn list_attempts(app: &App, caller: &Caller, id: TaskId) -> Result<AttemptList, Problem> {
    let rows = detail(app, caller, id, Wish::Look).await?.attempts;
    let items: Vec<Attempt> = rows.into_iter().map(attempt).collect();
    Ok(AttemptList { best: best(&items).map_or(1, |attempt| attempt.n), items })
}

/// The attempt that is meant: by number, else the best.
fn choose(detail: &TaskDetail, n: Option<u32>) -> Result<&AttemptRow, Problem> {
    let found = match n {
        Some(n) => detail.attempts.iter().find(|attempt| attempt.n == n),
        None => {
            let all: Vec<Attempt> = detail.attempts.iter().cloned().map(attempt).collect();
            let best = best(&all).map(|attempt| attempt.n);
            detail.attempts.iter().find(|attempt| Some(attempt.n) == best)
        }
    };
    found.ok_or_else(|| Problem::not_found("attempt", n.unwrap_or_default()).at("query.attempt"))
}

fn result_of(row: &AttemptRow) -> Result<TaskResult, Problem> {
    let none = || {
        let detail = format!("attempt {} is {} and has no result", row.n, row.state);
        let next = "Wait until it is done: `boatyard logs --follow` shows how far it is.";
        if row.state.is_terminal() {
            Problem::conflict(detail)
        } else {
            Problem::conflict(detail).with_next(next)
        }
    };
    attempt(row.clone()).result.ok_or_else(none)
}

/// What an attempt handed back.
///
/// # Errors
/// When there is none (yet).
pub async fn find_task_result(
    app: &App,
    caller: &Caller,
    id: TaskId,
    n: Option<u32>,
) -> Result<TaskResult, Problem> {
    let detail = detail(app, caller, id, Wish::Look).await?;
    result_of(choose(&detail, n)?)
}

fn git_problem(error: GitError) -> Problem {
    match error {
        GitError::TooLarge { limit, .. } => Problem::too_large("the result", limit),
        error => Problem::internal(error),
    }
}

/// The base of a result; none for a repository that was empty.
fn base_of(result: &TaskResult) -> Option<CommitId> {
    result.base.parse().ok()
}

fn head_of(result: &TaskResult) -> Result<CommitId, Problem> {
    result.head.parse().map_err(Problem::internal)
}

/// The difference that an attempt made.
///
/// # Errors
/// When there is no result.
pub async fn read_attempt_diff(
    app: &App,
    caller: &Caller,
    id: TaskId,
    n: Option<u32>,
    context: u32,
) -> Result<Diff, Problem> {
    let detail = detail(app, caller, id, Wish::Look).await?;
    let row = choose(&detail, n)?;
    let result = result_of(row)?;
    let (base, head) = (base_of(&result), head_of(&result)?);
    let difference = app
        .mirrors
        .result_difference(row.id, base.as_ref(), &head, context, PATCH_MAX)
        .await
        .map_err(git_problem)?;
    Ok(Diff {
        base: result.base,
        head: Some(result.head),
        files: difference.files,
        patch: String::from_utf8_lossy(&difference.patch).into_owned(),
        cut: difference.cut,
    })
}

/// The difference as a patch, byte for byte.
///
/// # Errors
/// When there is no result, or it is too large.
pub async fn read_attempt_patch(
    app: &App,
    caller: &Caller,
    id: TaskId,
    n: Option<u32>,
) -> Result<Vec<u8>, Problem> {
    let detail = detail(app, caller, id, Wish::Look).await?;
    let row = choose(&detail, n)?;
    let result = result_of(row)?;
    let (base, head) = (base_of(&result), head_of(&result)?);
    let difference = app
        .mirrors
        .result_difference(row.id, base.as_ref(), &head, 3, OUT_MAX)
        .await
        .map_err(git_problem)?;
    if difference.patch.is_empty() && difference.cut {
        return Err(Problem::too_large("the patch", OUT_MAX));
    }
    Ok(difference.patch)
}

/// The result's branch as a git bundle of what its base lacks.
///
/// # Errors
/// When there is no result, or nothing changed.
pub async fn read_attempt_bundle(
    app: &App,
    caller: &Caller,
    id: TaskId,
    n: Option<u32>,
) -> Result<Vec<u8>, Problem> {
    let detail = detail(app, caller, id, Wish::Look).await?;
    let row = choose(&detail, n)?;
    let result = result_of(row)?;
    if result.commits == 0 {
        return Err(Problem::conflict("the attempt changed nothing, so there is nothing to apply"));
    }
    let branch: Branch = result.branch.parse().map_err(Problem::internal)?;
    app.mirrors
        .result_bundle(row.id, &branch, base_of(&result).as_ref(), OUT_MAX)
        .await
        .map_err(git_problem)
}

/// Pushes a result to the repository's origin.
///
/// # Errors
/// When there is no result, or the origin refuses it.
pub async fn push_attempt(
    app: &App,
    caller: &Caller,
    id: TaskId,
    n: Option<u32>,
) -> Result<Task, Problem> {
    let detail = detail(app, caller, id, Wish::Act).await?;
    let row = choose(&detail, n)?;
    let mut result = result_of(row)?;
    if result.commits == 0 {
        return Err(Problem::conflict("the attempt changed nothing, so there is nothing to push"));
    }
    let pushed = finish::push(app, row, &detail).await;
    result.pushed = pushed.clone();
    let value = serde_json::to_value(&result).map_err(Problem::internal)?;
    let attempt = row.id;
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let known = AttemptUpdate { result: Some(value), ..AttemptUpdate::default() };
                tx.update_attempt(attempt, known).await
            })
        })
        .await
        .map_err(store_problem)?;
    match pushed {
        PushState::Refused { reason } => Err(Problem::repository_unreachable(reason)
            .with_next("`boatyard apply` brings the branch into a checkout of your own.")),
        _ => find_task(app, caller, id).await,
    }
}
