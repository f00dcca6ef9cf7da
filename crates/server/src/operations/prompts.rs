//! Prompts: what is said to a session.

use boatyard_api::{
    Cursor, IdempotencyKey, Problem,
    page::limit,
    session::{NewPrompt, Prompt, PromptFilter, PromptPage, PromptUpdate},
};
use boatyard_model::{PromptId, SessionId, Wish, WorkspaceState};
use boatyard_store::{PromptRow, SessionRow};

use super::{blobs, sessions, store_problem, tasks};
use crate::{
    app::App,
    auth::Caller,
    jobs::{dispatch, missing},
};

/// Says something to a session. `mode` decides what happens if it is busy.
///
/// # Errors
/// When it makes no sense, or the session is over.
pub async fn create_prompt(
    app: &App,
    caller: &Caller,
    id: SessionId,
    new: NewPrompt,
    key: Option<IdempotencyKey>,
) -> Result<Prompt, Problem> {
    let route = format!("POST /api/sessions/{id}/prompts");
    let idempotency = super::idempotency(caller, &route, key, &new)?;
    let session = sessions::row(app, caller, id, Wish::Act).await?;
    tasks::check_prompt("text", &new.text, &new.images)?;
    check_workspace(app, &session).await?;
    let content = blobs::content(app, caller, &new.text, &new.images).await?;
    let owner = caller.owner;
    let stored = boatyard_store::NewPrompt {
        owner,
        session: id,
        mode: new.mode,
        content,
        author: Some(caller.name.to_string()),
    };
    let prompt = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                if let Some(key) = &idempotency {
                    let before = tx.idempotent(owner.organization, key).await?;
                    if let Some(before) = before.and_then(|id| id.parse().ok()) {
                        return Ok(before);
                    }
                }
                let row = tx.create_prompt(stored).await?;
                if let Some(key) = &idempotency {
                    tx.remember(owner, key, &row.id.to_string()).await?;
                }
                tx.enqueue(dispatch::job(owner, id)).await?;
                Ok(row.id)
            })
        })
        .await
        .map_err(store_problem)?;
    find_prompt(app, caller, id, prompt).await
}

/// Refuses what could never be delivered.
async fn check_workspace(app: &App, session: &SessionRow) -> Result<(), Problem> {
    let row = app.store.workspace(session.workspace).await.map_err(store_problem)?;
    let (WorkspaceState::Failed, Some(reason)) = (row.state, row.reason) else { return Ok(()) };
    let next = match row.task {
        Some(_) if reason.code != missing::FILES_MISSING => {
            "Begin a new task: `boatyard run`.".to_owned()
        }
        Some(task) => format!(
            "Bring its result into a checkout with `boatyard apply {task}`, and go on from there \
             with a new task."
        ),
        None => "Begin a session in another workspace.".to_owned(),
    };
    Err(Problem::conflict(reason.text).with_next(next))
}

/// A session's prompts, in the order in which they came.
///
/// # Errors
/// When the filter makes no sense.
pub async fn list_prompts(
    app: &App,
    caller: &Caller,
    id: SessionId,
    filter: PromptFilter,
) -> Result<PromptPage, Problem> {
    sessions::row(app, caller, id, Wish::Look).await?;
    let limit = limit(filter.limit)?;
    let after = tasks::cursor_id(filter.cursor.as_ref())?.unwrap_or(0);
    let rows =
        app.store.list_prompts(id, filter.state, after, limit).await.map_err(store_problem)?;
    let full = rows.len() == limit as usize;
    let next_cursor = rows.last().filter(|_| full).map(|row| Cursor::after(&row.place.to_string()));
    Ok(PromptPage { items: rows.into_iter().map(prompt).collect(), next_cursor })
}

fn prompt(row: PromptRow) -> Prompt {
    let (text, images) = blobs::split(&row.content);
    Prompt {
        id: row.id,
        session: row.session,
        text,
        images,
        mode: row.mode,
        state: row.state,
        turn: row.turn,
        author: row.author,
        created: row.created,
        delivered: row.delivered,
    }
}

async fn row(
    app: &App,
    caller: &Caller,
    session: SessionId,
    id: PromptId,
    wish: Wish,
) -> Result<PromptRow, Problem> {
    sessions::row(app, caller, session, wish).await?;
    let row = app.store.prompt(id).await.map_err(store_problem)?;
    if row.session == session { Ok(row) } else { Err(Problem::not_found("prompt", id)) }
}

/// One prompt.
///
/// # Errors
/// When there is none.
pub async fn find_prompt(
    app: &App,
    caller: &Caller,
    session: SessionId,
    id: PromptId,
) -> Result<Prompt, Problem> {
    Ok(prompt(row(app, caller, session, id, Wish::Look).await?))
}

/// Changes a prompt that the agent doesn't have yet.
///
/// # Errors
/// When it is not queued any more.
pub async fn update_prompt(
    app: &App,
    caller: &Caller,
    session: SessionId,
    id: PromptId,
    update: PromptUpdate,
) -> Result<Prompt, Problem> {
    let before = row(app, caller, session, id, Wish::Act).await?;
    let (old_text, old_images) = blobs::split(&before.content);
    let content = match (&update.text, &update.images) {
        (None, None) => None,
        (text, images) => {
            let text = text.clone().unwrap_or(old_text);
            let images = images.clone().unwrap_or(old_images);
            tasks::check_prompt("text", &text, &images)?;
            Some(blobs::content(app, caller, &text, &images).await?)
        }
    };
    let owner = caller.owner;
    let row = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let row = tx.edit_prompt(id, content, update.mode).await?;
                // Another mode may mean now.
                tx.enqueue(dispatch::job(owner, session)).await?;
                Ok(row)
            })
        })
        .await
        .map_err(store_problem)?;
    Ok(prompt(row))
}

/// Takes back a prompt that the agent doesn't have yet.
///
/// # Errors
/// When it is not queued any more.
pub async fn delete_prompt(
    app: &App,
    caller: &Caller,
    session: SessionId,
    id: PromptId,
) -> Result<(), Problem> {
    row(app, caller, session, id, Wish::Act).await?;
    app.store
        .write(move |tx| Box::pin(async move { tx.withdraw_prompt(id).await }))
        .await
        .map_err(store_problem)
}
