//! Sessions: conversations with agents.

use std::collections::HashMap;

use boatyard_api::{
    Cursor, IdempotencyKey, Problem,
    page::limit,
    session::{
        NewSession, PaidBy, PendingPermission, PendingQuestion, Session, SessionFilter,
        SessionPage, SessionPayer, Stopped, Transcript, TranscriptQuery,
    },
};
use boatyard_model::{AttemptState, SessionId, SessionState, TurnOutcome, Wish, WorkspaceState};
use boatyard_store::{SessionRow, ThingId, decisions::OpenDecisions};
use bytes::Bytes;

use super::{agents, hub_problem, store_problem};
pub use super::{
    decisions::{answer_permission, answer_question},
    prompts::{create_prompt, delete_prompt, find_prompt, list_prompts, update_prompt},
};
use crate::{access, app::App, auth::Caller, jobs::finish, providers::DEMO_MODEL};

mod change;

pub use change::change_session;

/// The longest key of a client, in characters.
const KEY_MAX: usize = 200;
/// Events of a transcript in one answer.
const TRANSCRIPT_MAX: u32 = 1000;

/// Begins a conversation in a workspace; with a key that the workspace knows, gives the one that
/// is there.
///
/// # Errors
/// When a part of it makes no sense, with the field.
pub async fn create_session(
    app: &App,
    caller: &Caller,
    new: NewSession,
    key: Option<IdempotencyKey>,
) -> Result<Session, Problem> {
    let idempotency = super::idempotency(caller, "POST /api/sessions", key, &new)?;
    let workspace =
        app.store.workspace(new.workspace).await.map_err(|e| store_problem(e).at("workspace"))?;
    access::check(app, caller, &workspace, Wish::Act).await.map_err(|e| e.at("workspace"))?;
    if matches!(workspace.state, WorkspaceState::Failed | WorkspaceState::Deleted) {
        let detail = format!("workspace {} is {}", workspace.id, workspace.state);
        return Err(Problem::conflict(detail).at("workspace"));
    }
    if let Some(key) = &new.key
        && (key.is_empty() || key.chars().count() > KEY_MAX || key.chars().any(char::is_control))
    {
        return Err(Problem::invalid("key", format!("it must have 1 to {KEY_MAX} characters")));
    }
    let given = new.settings.as_ref().and_then(|settings| settings.model.clone());
    let model = new.model.or(given);
    let agent = agents::settings::usable(app, caller, new.agent, model.as_deref()).await?;
    let settings = agents::settings::chosen(app, &[&agent], new.settings, new.autonomy)?;
    let home = match &workspace.folder {
        Some(folder) => format!("/work/{folder}"),
        None => "/work".to_owned(),
    };
    let cwd = match new.cwd {
        None => home,
        Some(cwd) => confined(&cwd, &home)?,
    };
    let stored = boatyard_store::NewSession {
        settings,
        id: SessionId::new(),
        owner: caller.owner,
        workspace: new.workspace,
        attempt: None,
        agent: agent.to_string(),
        model,
        cwd,
        client_key: new.key,
    };
    let owner = caller.owner;
    let visibility = new.visibility;
    let id = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                if let Some(key) = &idempotency {
                    let before = tx.idempotent(owner.organization, key).await?;
                    if let Some(id) = before.and_then(|id| id.parse().ok()) {
                        return Ok(id);
                    }
                }
                let row = tx.create_session(stored).await?;
                if row.state == SessionState::Starting {
                    tx.set_session_state(row.id, SessionState::Idle, None).await?;
                }
                if let Some(visibility) = visibility.filter(|wanted| *wanted != row.visibility) {
                    tx.set_visibility(ThingId::Session(row.id), visibility).await?;
                }
                if let Some(key) = &idempotency {
                    tx.remember(owner, key, &row.id.to_string()).await?;
                }
                Ok(row.id)
            })
        })
        .await
        .map_err(store_problem)?;
    find_session(app, caller, id).await
}

/// A folder below `/work` or `/home`, whatever was written: relative paths are below the checkout.
/// The runner confines it once more, with links in view.
fn confined(cwd: &str, home: &str) -> Result<String, Problem> {
    let absolute = if cwd.starts_with('/') { cwd.to_owned() } else { format!("{home}/{cwd}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in absolute.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let inside = matches!(parts.first(), Some(&"work" | &"home"));
    if !inside || absolute.contains('\0') || absolute.len() > 4096 {
        return Err(Problem::invalid("cwd", format!("`{cwd}` is not below /work or /home")));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// The session, if the caller may do this with it.
pub(crate) async fn row(
    app: &App,
    caller: &Caller,
    id: SessionId,
    wish: Wish,
) -> Result<SessionRow, Problem> {
    let row = app.store.session(id).await.map_err(store_problem)?;
    access::check(app, caller, &row, wish).await?;
    Ok(row)
}

/// One session, with what waits in it.
///
/// # Errors
/// When there is none.
pub async fn find_session(app: &App, caller: &Caller, id: SessionId) -> Result<Session, Problem> {
    let row = row(app, caller, id, Wish::Look).await?;
    let open = match row.state {
        SessionState::Waiting => app.store.open_decisions(row.id).await.map_err(store_problem)?,
        _ => OpenDecisions::default(),
    };
    let payer = payer(app, &row);
    Ok(Session { payer, ..session(row, open) })
}

/// Who pays for a session's models.
fn payer(app: &App, row: &SessionRow) -> Option<SessionPayer> {
    let agents = app.agents.current();
    let entry = row.agent.parse().ok().and_then(|name| agents.get(&name).ok())?;
    let provider = entry.provider.clone()?;
    let model = row.model.as_ref().or(entry.model.as_ref());
    let (by, connection) = match app.connections.own_for(row.owner, &provider) {
        _ if model.is_some_and(|model| model == DEMO_MODEL) => (PaidBy::Nobody, None),
        Some(name) => (PaidBy::Person, Some(name.to_string())),
        None => (PaidBy::Organization, None),
    };
    Some(SessionPayer { by, provider, connection })
}

fn session(row: SessionRow, (permissions, questions): OpenDecisions) -> Session {
    Session {
        id: row.id,
        key: row.client_key,
        workspace: row.workspace,
        task: row.task,
        agent: row.agent,
        model: row.model,
        settings: row.settings,
        offers: row.offers,
        cwd: row.cwd,
        state: row.state,
        turns: row.turns,
        last_seq: row.last_seq,
        usage: row.usage.unwrap_or_default(),
        permissions: permissions
            .into_iter()
            .map(|row| PendingPermission {
                id: row.id,
                tool: row.tool,
                title: row.title,
                options: row.options,
                deadline: row.deadline,
            })
            .collect(),
        questions: questions
            .into_iter()
            .map(|row| PendingQuestion {
                id: row.id,
                text: row.wording,
                options: row.options,
                deadline: row.deadline,
            })
            .collect(),
        payer: None,
        owner: row.owner.member,
        visibility: row.visibility,
        created: row.created,
        updated: row.last_active,
    }
}

/// A page of sessions as JSON, the newest first.
///
/// # Errors
/// When the filter makes no sense.
pub async fn list_sessions(
    app: &App,
    caller: &Caller,
    filter: SessionFilter,
) -> Result<Bytes, Problem> {
    let limit = limit(filter.limit)?;
    let wanted = boatyard_store::SessionFilter {
        workspace: filter.workspace,
        state: filter.state,
        before: super::tasks::cursor_id(filter.cursor.as_ref())?,
        seen_by: access::viewer(caller),
    };
    let organization = caller.owner.organization;
    let rows = app.store.session_page(organization, wanted, limit).await.map_err(store_problem)?;
    if let Some(encoded) = app.lists.sessions.find(&rows) {
        return Ok(encoded);
    }
    let full = rows.len() == limit as usize;
    let next_cursor = rows.last().filter(|_| full).map(|row| Cursor::after(&row.id.to_string()));
    let mut open = HashMap::new();
    if rows.iter().any(|row| row.state == SessionState::Waiting) {
        // What waits changes together with its session: it is as old as the page, or newer.
        open = app.store.open_decisions_of(organization).await.map_err(store_problem)?;
    }
    let items = rows.iter().map(|row| {
        let open = open.remove(&row.id).unwrap_or_default();
        session(row.clone(), open)
    });
    let page = SessionPage { items: items.collect(), next_cursor };
    app.lists.sessions.keep(rows, &page)
}

/// Ends a session for good. Its log and its files stay.
///
/// # Errors
/// When there is none, or its processes can't be ended.
pub async fn delete_session(app: &App, caller: &Caller, id: SessionId) -> Result<(), Problem> {
    let session = row(app, caller, id, Wish::Manage).await?;
    if session.state == SessionState::Ended {
        return Ok(());
    }
    finish::stop(app, id, TurnOutcome::Cancelled).await.map_err(hub_problem)?;
    let workspace = app.store.workspace(session.workspace).await.map_err(store_problem)?;
    if workspace.state == WorkspaceState::Awake
        && let Ok(attached) = app.hub.attach(session.workspace).await
    {
        let closed = attached.ask(boatyard_link::message::Request::CloseSession { session: id });
        closed.await.map_err(hub_problem)?;
    }
    let now = app.store.session(id).await.map_err(store_problem)?;
    if let Some(turn) = now.turn {
        app.hub.end_turn(&now, turn, TurnOutcome::Cancelled, None).await.map_err(hub_problem)?;
    }
    app.store
        .write(move |tx| Box::pin(async move { tx.end_session(id, None).await }))
        .await
        .map_err(store_problem)
}

/// Stops what runs in a session: every process of it is dead when this answers. Files and
/// conversation stay; prompts that wait stay queued only if somebody sends another one.
///
/// # Errors
/// When there is none, or its workspace can't be reached.
pub async fn stop_session(app: &App, caller: &Caller, id: SessionId) -> Result<Stopped, Problem> {
    let session = row(app, caller, id, Wish::Act).await?;
    // Nothing was said to its agent yet: what is under way is the preparation of its attempt.
    let preparing = session.attempt.filter(|_| session.turns == 0);
    let reason = super::tasks::cancelled_by(caller);
    let queued = app
        .store
        .list_prompts(id, Some(boatyard_model::PromptState::Queued), 0, 1000)
        .await
        .map_err(store_problem)?;
    // A stop is for everything: what waits behind the turn must not begin when it ends.
    let cancelled = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                for prompt in queued {
                    match tx.withdraw_prompt(prompt.id).await {
                        // It was delivered meanwhile.
                        Ok(()) | Err(boatyard_store::Error::IllegalState { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                let Some(id) = preparing else { return Ok(None) };
                let attempt = tx.attempt(id).await?;
                if attempt.state.is_terminal() {
                    return Ok(None);
                }
                tx.cancel_jobs_about(&id.to_string()).await?;
                tx.set_attempt_state(id, AttemptState::Cancelled, Some(reason)).await?;
                tx.enqueue(finish::cancelled_job(attempt.owner, id)).await?;
                Ok(Some(id))
            })
        })
        .await
        .map_err(store_problem)?;
    if let Some(attempt) = cancelled {
        app.places.cancel(attempt);
    }
    let millis = finish::stop(app, id, TurnOutcome::Cancelled).await.map_err(hub_problem)?;
    Ok(Stopped { ran: millis.is_some() || cancelled.is_some(), millis: millis.unwrap_or(0) })
}

/// A session's events, from its end or from a place on.
///
/// # Errors
/// When there is none.
pub async fn read_transcript(
    app: &App,
    caller: &Caller,
    id: SessionId,
    query: TranscriptQuery,
) -> Result<Transcript, Problem> {
    let session = row(app, caller, id, Wish::Look).await?;
    let limit = query.limit.unwrap_or(TRANSCRIPT_MAX).clamp(1, TRANSCRIPT_MAX);
    let (stored, earlier, later) = match (query.after, query.before) {
        (Some(after), _) => {
            let stored =
                app.store.read_events(id, after, limit + 1).await.map_err(store_problem)?;
            let later = stored.len() > limit as usize;
            (stored, after > 0, later)
        }
        (None, before) => {
            let end = before.unwrap_or(session.last_seq + 1);
            let stored =
                app.store.read_events_before(id, end, limit + 1).await.map_err(store_problem)?;
            let earlier = stored.len() > limit as usize;
            (stored, earlier, before.is_some_and(|before| before <= session.last_seq))
        }
    };
    let from_start = query.after.is_some();
    let n = limit as usize;
    let kept: Vec<_> = match from_start {
        true => stored.iter().take(n).collect(),
        false => stored.iter().skip(stored.len().saturating_sub(n)).collect(),
    };
    let events = kept
        .into_iter()
        .map(|stored| stored.event())
        .collect::<Result<Vec<_>, _>>()
        .map_err(store_problem)?;
    Ok(Transcript { events, last_seq: session.last_seq, earlier, later })
}
