//! `/api/sessions`: conversations, what is said in them, what waits for a person.

use axum::extract::State;
use boatyard_api::{
    Problem,
    session::{
        NewPrompt, NewSession, PermissionAnswer, Prompt, PromptFilter, PromptPage, PromptUpdate,
        QuestionAnswer, Session, SessionChange, SessionFilter, SessionPage, Stopped, Transcript,
        TranscriptQuery,
    },
};
use boatyard_model::{PermissionId, PromptId, QuestionId, SessionId};
use http::StatusCode;

use super::{
    answer::{Answer, Created, Encoded, Json},
    described::{Routes, routes},
    extract::{self, Once, PROMPT_JSON_MAX, Path, Query},
};
use crate::{
    app::App,
    auth::Caller,
    operations::{decisions, prompts, sessions},
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(create_session, list_sessions))
        .routes(routes!(find_session, change_session, delete_session))
        .routes(routes!(create_prompt, list_prompts))
        .routes(routes!(find_prompt, update_prompt, delete_prompt))
        .routes(routes!(stop_session))
        .routes(routes!(answer_permission))
        .routes(routes!(answer_question))
        .routes(routes!(read_transcript))
}

/// Begins a conversation with an agent in a workspace.
#[utoipa::path(post, path = "/api/sessions", tag = "sessions", request_body = NewSession,
    params(("Idempotency-Key" = Option<String>, Header, description = "Names this creation.")),
    responses((status = 201, description = "The session.", body = Session)))]
async fn create_session(
    State(app): State<App>,
    caller: Caller,
    Once(key): Once,
    extract::Json(new): extract::Json<NewSession>,
) -> Answer<Created<Session>> {
    let body = sessions::create_session(&app, &caller, new, key).await?;
    Ok(Created { location: format!("/api/sessions/{}", body.id), body })
}

/// Lists sessions, the newest first.
#[utoipa::path(get, path = "/api/sessions", tag = "sessions", params(SessionFilter),
    responses((status = 200, description = "A page.", body = SessionPage)))]
async fn list_sessions(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<SessionFilter>,
) -> Answer<Encoded> {
    Ok(Encoded(sessions::list_sessions(&app, &caller, filter).await?))
}

/// A session, with what waits for a person.
#[utoipa::path(get, path = "/api/sessions/{id}", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses((status = 200, description = "The session.", body = Session)))]
async fn find_session(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SessionId>,
) -> Answer<Json<Session>> {
    Ok(Json(sessions::find_session(&app, &caller, id).await?))
}

/// Changes how a session's agent works: mode, model, autonomy.
///
/// It is kept for every later start of the agent. One that runs is told at once; where it can't be
/// told and no turn is under way, the next prompt starts it anew, with its conversation.
#[utoipa::path(patch, path = "/api/sessions/{id}", tag = "sessions",
    request_body = SessionChange, params(("id" = SessionId, Path)),
    responses((status = 200, description = "The session.", body = Session)))]
async fn change_session(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SessionId>,
    extract::Json(change): extract::Json<SessionChange>,
) -> Answer<Json<Session>> {
    Ok(Json(sessions::change_session(&app, &caller, id, change).await?))
}

/// Ends a session; its log stays.
#[utoipa::path(delete, path = "/api/sessions/{id}", tag = "sessions",
    params(("id" = SessionId, Path)), responses((status = 204, description = "Over.")))]
async fn delete_session(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SessionId>,
) -> Answer<StatusCode> {
    sessions::delete_session(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says something to the agent.
///
/// During a turn it is queued, steered into the turn, or interrupts it, as `mode` says.
#[utoipa::path(post, path = "/api/sessions/{id}/prompts", tag = "sessions",
    request_body = NewPrompt,
    params(("id" = SessionId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this creation.")),
    responses((status = 201, description = "The prompt.", body = Prompt)))]
async fn create_prompt(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SessionId>,
    Once(key): Once,
    extract::Json(new): extract::Json<NewPrompt, PROMPT_JSON_MAX>,
) -> Answer<Created<Prompt>> {
    let body = prompts::create_prompt(&app, &caller, id, new, key).await?;
    Ok(Created { location: format!("/api/sessions/{id}/prompts/{}", body.id), body })
}

/// What was said, the newest first.
#[utoipa::path(get, path = "/api/sessions/{id}/prompts", tag = "sessions",
    params(("id" = SessionId, Path), PromptFilter),
    responses((status = 200, description = "A page.", body = PromptPage)))]
async fn list_prompts(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SessionId>,
    Query(filter): Query<PromptFilter>,
) -> Answer<Json<PromptPage>> {
    Ok(Json(prompts::list_prompts(&app, &caller, id, filter).await?))
}

/// Something that was said, and whether the agent has it.
#[utoipa::path(get, path = "/api/sessions/{id}/prompts/{prompt}", tag = "sessions",
    params(("id" = SessionId, Path), ("prompt" = PromptId, Path)),
    responses((status = 200, description = "The prompt.", body = Prompt)))]
async fn find_prompt(
    State(app): State<App>,
    caller: Caller,
    Path((id, prompt)): Path<(SessionId, PromptId)>,
) -> Answer<Json<Prompt>> {
    Ok(Json(prompts::find_prompt(&app, &caller, id, prompt).await?))
}

/// Changes what was said, while the agent does not have it.
#[utoipa::path(patch, path = "/api/sessions/{id}/prompts/{prompt}", tag = "sessions",
    request_body = PromptUpdate,
    params(("id" = SessionId, Path), ("prompt" = PromptId, Path)),
    responses((status = 200, description = "The prompt.", body = Prompt)))]
async fn update_prompt(
    State(app): State<App>,
    caller: Caller,
    Path((id, prompt)): Path<(SessionId, PromptId)>,
    extract::Json(update): extract::Json<PromptUpdate, PROMPT_JSON_MAX>,
) -> Answer<Json<Prompt>> {
    Ok(Json(prompts::update_prompt(&app, &caller, id, prompt, update).await?))
}

/// Takes back what was said, while the agent does not have it.
#[utoipa::path(delete, path = "/api/sessions/{id}/prompts/{prompt}", tag = "sessions",
    params(("id" = SessionId, Path), ("prompt" = PromptId, Path)),
    responses((status = 204, description = "Withdrawn.")))]
async fn delete_prompt(
    State(app): State<App>,
    caller: Caller,
    Path((id, prompt)): Path<(SessionId, PromptId)>,
) -> Answer<StatusCode> {
    prompts::delete_prompt(&app, &caller, id, prompt).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends every process of a session; its files and its conversation stay.
#[utoipa::path(post, path = "/api/sessions/{id}/stop", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses((status = 200, description = "All are dead.", body = Stopped)))]
async fn stop_session(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SessionId>,
) -> Answer<Json<Stopped>> {
    Ok(Json(sessions::stop_session(&app, &caller, id).await?))
}

/// Says yes or no to an agent.
#[utoipa::path(post, path = "/api/sessions/{id}/permissions/{permission}", tag = "sessions",
    request_body = PermissionAnswer,
    params(("id" = SessionId, Path), ("permission" = PermissionId, Path)),
    responses((status = 204, description = "Answered.")))]
async fn answer_permission(
    State(app): State<App>,
    caller: Caller,
    Path((id, permission)): Path<(SessionId, PermissionId)>,
    extract::Json(answer): extract::Json<PermissionAnswer>,
) -> Answer<StatusCode> {
    if answer.option.is_some() == answer.decision.is_some() {
        return Err(Problem::invalid("option", "give either `option` or `decision`").into());
    }
    decisions::answer_permission(&app, &caller, id, permission, answer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Answers an agent's question.
#[utoipa::path(post, path = "/api/sessions/{id}/questions/{question}", tag = "sessions",
    request_body = QuestionAnswer,
    params(("id" = SessionId, Path), ("question" = QuestionId, Path)),
    responses((status = 204, description = "Answered.")))]
async fn answer_question(
    State(app): State<App>,
    caller: Caller,
    Path((id, question)): Path<(SessionId, QuestionId)>,
    extract::Json(answer): extract::Json<QuestionAnswer>,
) -> Answer<StatusCode> {
    decisions::answer_question(&app, &caller, id, question, answer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A part of a session's log, without the deltas of what is whole; the last part if none is named.
#[utoipa::path(get, path = "/api/sessions/{id}/transcript", tag = "sessions",
    params(("id" = SessionId, Path), TranscriptQuery),
    responses((status = 200, description = "The events, the oldest first.", body = Transcript)))]
async fn read_transcript(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SessionId>,
    Query(query): Query<TranscriptQuery>,
) -> Answer<Json<Transcript>> {
    if query.after.is_some() && query.before.is_some() {
        return Err(Problem::invalid("query.before", "give either `after` or `before`").into());
    }
    Ok(Json(sessions::read_transcript(&app, &caller, id, query).await?))
}
