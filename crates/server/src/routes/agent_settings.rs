//! `/api/agents/{name}/settings` and `/api/repositories/{id}/agents/{name}/settings`: what people
//! set for an agent.

use axum::extract::State;
use boatyard_model::{AgentSettings, RepositoryId, name::AgentName};
use http::StatusCode;

use super::{
    answer::{Answer, Json},
    described::{Routes, routes},
    extract::{self, Path},
};
use crate::{app::App, auth::Caller, operations::agents::settings};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(find_agent_settings, set_agent_settings, clear_agent_settings))
        .routes(routes!(
            find_repository_agent_settings,
            set_repository_agent_settings,
            clear_repository_agent_settings
        ))
}

/// What the organization sets for an agent; empty where nothing is.
#[utoipa::path(get, path = "/api/agents/{name}/settings", tag = "agents",
    params(("name" = String, Path)),
    responses((status = 200, description = "The settings.", body = AgentSettings)))]
async fn find_agent_settings(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<AgentName>,
) -> Answer<Json<AgentSettings>> {
    Ok(Json(settings::find_settings(&app, &caller, None, &name).await?))
}

/// Sets what holds for an agent in the organization: the whole of it.
///
/// It holds from the next start of an agent on. What a repository, a task or a session sets goes
/// before it.
#[utoipa::path(put, path = "/api/agents/{name}/settings", tag = "agents",
    request_body = AgentSettings, params(("name" = String, Path)),
    responses((status = 200, description = "As they are now.", body = AgentSettings)))]
async fn set_agent_settings(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<AgentName>,
    extract::Json(new): extract::Json<AgentSettings>,
) -> Answer<Json<AgentSettings>> {
    Ok(Json(settings::set_settings(&app, &caller, None, name, new).await?))
}

/// Forgets what the organization sets for an agent.
#[utoipa::path(delete, path = "/api/agents/{name}/settings", tag = "agents",
    params(("name" = String, Path)), responses((status = 204, description = "Forgotten.")))]
async fn clear_agent_settings(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<AgentName>,
) -> Answer<StatusCode> {
    settings::set_settings(&app, &caller, None, name, AgentSettings::default()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is set for an agent in a repository; empty where nothing is.
#[utoipa::path(get, path = "/api/repositories/{id}/agents/{name}/settings", tag = "agents",
    params(("id" = RepositoryId, Path), ("name" = String, Path)),
    responses((status = 200, description = "The settings.", body = AgentSettings)))]
async fn find_repository_agent_settings(
    State(app): State<App>,
    caller: Caller,
    Path((id, name)): Path<(RepositoryId, AgentName)>,
) -> Answer<Json<AgentSettings>> {
    Ok(Json(settings::find_settings(&app, &caller, Some(id), &name).await?))
}

/// Sets what holds for an agent in a repository: the whole of it.
#[utoipa::path(put, path = "/api/repositories/{id}/agents/{name}/settings", tag = "agents",
    request_body = AgentSettings, params(("id" = RepositoryId, Path), ("name" = String, Path)),
    responses((status = 200, description = "As they are now.", body = AgentSettings)))]
async fn set_repository_agent_settings(
    State(app): State<App>,
    caller: Caller,
    Path((id, name)): Path<(RepositoryId, AgentName)>,
    extract::Json(new): extract::Json<AgentSettings>,
) -> Answer<Json<AgentSettings>> {
    Ok(Json(settings::set_settings(&app, &caller, Some(id), name, new).await?))
}

/// Forgets what is set for an agent in a repository.
#[utoipa::path(delete, path = "/api/repositories/{id}/agents/{name}/settings", tag = "agents",
    params(("id" = RepositoryId, Path), ("name" = String, Path)),
    responses((status = 204, description = "Forgotten.")))]
async fn clear_repository_agent_settings(
    State(app): State<App>,
    caller: Caller,
    Path((id, name)): Path<(RepositoryId, AgentName)>,
) -> Answer<StatusCode> {
    settings::set_settings(&app, &caller, Some(id), name, AgentSettings::default()).await?;
    Ok(StatusCode::NO_CONTENT)
}
