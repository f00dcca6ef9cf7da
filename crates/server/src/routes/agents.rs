//! `/api/agents`: the agents that this server knows, and what of them is installed.

use axum::extract::State;
use boatyard_api::agent::{
    Agent, AgentCheck, AgentEntry, AgentList, InstallAgent, Tool, ToolList, ToolQuery,
};
use boatyard_model::{ToolId, name::AgentName};
use http::StatusCode;

use super::{
    answer::{Answer, Json},
    described::{Routes, routes},
    extract::{self, Path, Query},
};
use crate::{
    app::App,
    auth::Caller,
    operations::agents::{self, tools},
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(list_agents))
        .routes(routes!(find_agent, put_agent, remove_agent))
        .routes(routes!(install_agent))
        .routes(routes!(check_agent))
        .routes(routes!(list_tools))
        .routes(routes!(find_tool, remove_tool))
}

/// The agents that this server knows, and whether they can run here.
#[utoipa::path(get, path = "/api/agents", tag = "agents",
    responses((status = 200, description = "By name.", body = AgentList)))]
async fn list_agents(State(app): State<App>, caller: Caller) -> Answer<Json<AgentList>> {
    Ok(Json(AgentList { items: agents::list_agents(&app, &caller).await? }))
}

/// An agent.
#[utoipa::path(get, path = "/api/agents/{name}", tag = "agents",
    params(("name" = String, Path)),
    responses((status = 200, description = "The agent.", body = Agent)))]
async fn find_agent(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<AgentName>,
) -> Answer<Json<Agent>> {
    Ok(Json(tools::find_agent(&app, &caller, &name).await?))
}

/// Adds an agent to the catalogue, or changes one that is there, key by key.
///
/// The body holds the keys of `[agents.NAME]` in boatyard.toml. Sent twice, it is the same.
#[utoipa::path(put, path = "/api/agents/{name}", tag = "agents", request_body = AgentEntry,
    params(("name" = String, Path)),
    responses((status = 200, description = "The agent.", body = Agent)))]
async fn put_agent(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<AgentName>,
    extract::Json(entry): extract::Json<AgentEntry>,
) -> Answer<Json<Agent>> {
    Ok(Json(tools::put_agent(&app, &caller, &name, entry).await?))
}

/// Takes an added agent out of the catalogue again, with what is installed of it.
#[utoipa::path(delete, path = "/api/agents/{name}", tag = "agents",
    params(("name" = String, Path)), responses((status = 204, description = "Gone.")))]
async fn remove_agent(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<AgentName>,
) -> Answer<StatusCode> {
    tools::remove_agent(&app, &caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Installs an agent in a throw-away workspace, or finds it installed.
///
/// Answers at once; the installation goes on. Its tool, and `tool.state` of the feed, tell where it
/// stands.
#[utoipa::path(post, path = "/api/agents/{name}/install", tag = "agents",
    request_body = InstallAgent, params(("name" = String, Path)),
    responses((status = 200, description = "The tool, ready or on its way.", body = Tool)))]
async fn install_agent(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<AgentName>,
    extract::Json(request): extract::Json<InstallAgent>,
) -> Answer<Json<Tool>> {
    Ok(Json(tools::install_agent(&app, &caller, &name, request).await?))
}

/// Starts an agent once, without a model, and tells what it takes.
#[utoipa::path(post, path = "/api/agents/{name}/check", tag = "agents",
    params(("name" = String, Path)),
    responses((status = 200, description = "What it takes.", body = AgentCheck)))]
async fn check_agent(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<AgentName>,
) -> Answer<Json<AgentCheck>> {
    Ok(Json(tools::check_agent(&app, &caller, &name).await?))
}

/// The installed versions of an agent.
#[utoipa::path(get, path = "/api/agents/{name}/tools", tag = "agents",
    params(("name" = String, Path)),
    responses((status = 200, description = "The newest first.", body = ToolList)))]
async fn list_tools(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<AgentName>,
) -> Answer<Json<ToolList>> {
    Ok(Json(ToolList { items: tools::list_tools(&app, &caller, &name).await? }))
}

/// An installed version of an agent, or one on its way.
#[utoipa::path(get, path = "/api/agents/{name}/tools/{id}", tag = "agents",
    params(("name" = String, Path), ("id" = ToolId, Path), ToolQuery),
    responses((status = 200, description = "The tool.", body = Tool)))]
async fn find_tool(
    State(app): State<App>,
    caller: Caller,
    Path((name, id)): Path<(AgentName, ToolId)>,
    Query(query): Query<ToolQuery>,
) -> Answer<Json<Tool>> {
    Ok(Json(match query.unlike {
        None => tools::find_tool(&app, &caller, &name, id).await?,
        Some(unlike) => tools::await_tool(&app, &caller, &name, id, &unlike).await?,
    }))
}

/// Removes an installed version of an agent that nothing uses.
#[utoipa::path(delete, path = "/api/agents/{name}/tools/{id}", tag = "agents",
    params(("name" = String, Path), ("id" = ToolId, Path)),
    responses((status = 204, description = "Gone.")))]
async fn remove_tool(
    State(app): State<App>,
    caller: Caller,
    Path((name, id)): Path<(AgentName, ToolId)>,
) -> Answer<StatusCode> {
    tools::remove_tool(&app, &caller, &name, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
