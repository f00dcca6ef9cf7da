//! `/api/agents`: the agents that this server knows.

use axum::extract::State;
use boatyard_api::agent::AgentList;

use super::{
    answer::{Answer, Json},
    described::{Routes, routes},
};
use crate::{app::App, auth::Caller, operations::agents};

pub(super) fn router() -> Routes {
    Routes::new().routes(routes!(list_agents))
}

/// The agents that this server knows, and whether they can run here.
#[utoipa::path(get, path = "/api/agents", tag = "agents",
    responses((status = 200, description = "By name.", body = AgentList)))]
async fn list_agents(State(app): State<App>, caller: Caller) -> Answer<Json<AgentList>> {
    Ok(Json(AgentList { items: agents::list_agents(&app, &caller).await? }))
}
