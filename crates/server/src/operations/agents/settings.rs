//! What people set for an agent, and how the layers of it come together.
//!
//! ```text
//!   catalogue, boatyard.toml     what an entry's `settings` say
//!   organization                 PUT /api/agents/{name}/settings
//!   repository's own files       [mcp.NAME] of its environment
//!   repository                   PUT /api/repositories/{id}/agents/{name}/settings
//!   task or session              with the order; PATCH /api/sessions/{id}
//! ```
//!
//! The lower a layer stands here, the more it counts.

use std::collections::BTreeMap;

use boatyard_api::Problem;
use boatyard_model::{
    AgentSettings, Autonomy, RepositoryId, Wish, agent::McpServer, name::AgentName,
};
use boatyard_store::SessionRow;

use super::{check_autonomy, check_chosen, known};
use crate::{
    access::things,
    app::App,
    auth::Caller,
    hub::HubError,
    jobs::{attempt::OrderOptions, environments},
    operations::store_problem,
};

/// What holds for a session's agent, all layers together. What is absent is as the catalogue's entry
/// has it. A server that is switched `off` is not in it.
///
/// # Errors
/// When the store can't be read.
pub async fn settings_for(app: &App, session: &SessionRow) -> Result<AgentSettings, HubError> {
    let workspace = app.store.workspace(session.workspace).await?;
    let environment = environments::of(app, &workspace).await?;
    settings_in(app, session, workspace.repository, environment.mcp_servers).await
}

/// The same, where it is known which repository the session works on and what its files give.
///
/// # Errors
/// When the store can't be read.
pub(crate) async fn settings_in(
    app: &App,
    session: &SessionRow,
    repository: Option<RepositoryId>,
    mcp_servers: BTreeMap<String, McpServer>,
) -> Result<AgentSettings, HubError> {
    let organization = session.owner.organization;
    let mut own = session.settings.clone();
    own.model = session.model.clone().or(own.model);
    if own.autonomy.is_none()
        && let Some(task) = session.task
    {
        // A session of an older release has what was chosen in its task alone.
        own.autonomy = OrderOptions::of(&app.store.task(task).await?.order).autonomy;
    }
    let repository = match repository {
        Some(id) => app.store.agent_settings(organization, Some(id), &session.agent).await?,
        None => None,
    };
    let described = AgentSettings { mcp_servers, ..AgentSettings::default() };
    let wide = app.store.agent_settings(organization, None, &session.agent).await?;
    let mut all = own
        .over(repository.unwrap_or_default())
        .over(described)
        .over(wide.unwrap_or_default())
        .over(of_entry(app, &session.agent));
    all.mcp_servers.retain(|_, server| !server.off);
    Ok(all)
}

/// What the catalogue's entry sets beside what every entry has.
fn of_entry(app: &App, agent: &str) -> AgentSettings {
    let Ok(name) = agent.parse::<AgentName>() else { return AgentSettings::default() };
    app.agents.current().get(&name).map(|entry| entry.settings()).unwrap_or_default()
}

/// The agent that is wanted, or the default, if it can be used with the model that is wanted or that
/// the organization set.
///
/// # Errors
/// When it can't, with what mends it.
pub(crate) async fn usable(
    app: &App,
    caller: &Caller,
    wanted: Option<AgentName>,
    model: Option<&str>,
) -> Result<AgentName, Problem> {
    let set = match (model, &wanted) {
        (None, Some(name)) => {
            let organization = caller.owner.organization;
            let found = app.store.agent_settings(organization, None, name.as_str()).await;
            found.map_err(store_problem)?.and_then(|settings| settings.model)
        }
        _ => None,
    };
    super::usable(app, caller.owner, wanted, model.or(set.as_deref()))
}

/// What is set for an agent in the organization, or in a repository of it.
///
/// # Errors
/// When there is no such agent or repository.
pub async fn find_settings(
    app: &App,
    caller: &Caller,
    repository: Option<RepositoryId>,
    agent: &AgentName,
) -> Result<AgentSettings, Problem> {
    known(app, agent).map_err(|_| super::tools::unknown(app, agent))?;
    theirs(app, caller, repository).await?;
    let organization = caller.owner.organization;
    let found = app.store.agent_settings(organization, repository, agent.as_str()).await;
    Ok(found.map_err(store_problem)?.unwrap_or_default())
}

/// Sets them: the whole of it.
///
/// # Errors
/// When one makes no sense, with its field.
pub async fn set_settings(
    app: &App,
    caller: &Caller,
    repository: Option<RepositoryId>,
    agent: AgentName,
    settings: AgentSettings,
) -> Result<AgentSettings, Problem> {
    known(app, &agent).map_err(|_| super::tools::unknown(app, &agent))?;
    theirs(app, caller, repository).await?;
    check(app, &[&agent], &settings, "")?;
    let owner = caller.owner;
    let kept = settings.clone();
    app.store
        .write(move |tx| {
            Box::pin(async move {
                tx.set_agent_settings(owner, repository, agent.as_str(), &kept).await
            })
        })
        .await
        .map_err(store_problem)?;
    Ok(settings)
}

async fn theirs(
    app: &App,
    caller: &Caller,
    repository: Option<RepositoryId>,
) -> Result<(), Problem> {
    let Some(id) = repository else { return Ok(()) };
    let row = app.store.repository(id).await.map_err(store_problem)?;
    things::repository(app, caller, &row, Wish::Look).await
}

/// What was chosen for a task or a session: `model` and `autonomy` go before those in `settings`.
///
/// # Errors
/// The field that makes no sense for one of these agents.
pub(crate) fn chosen(
    app: &App,
    agents: &[&AgentName],
    settings: Option<AgentSettings>,
    autonomy: Option<Autonomy>,
) -> Result<AgentSettings, Problem> {
    let mut settings = settings.unwrap_or_default();
    check(app, agents, &settings, "settings.")?;
    if let Some(autonomy) = autonomy {
        for agent in agents {
            check_autonomy(app, agent, autonomy)?;
        }
        settings.autonomy = Some(autonomy);
    }
    Ok(settings)
}

/// What makes no sense, at its field below `prefix`.
fn check(
    app: &App,
    agents: &[&AgentName],
    settings: &AgentSettings,
    prefix: &str,
) -> Result<(), Problem> {
    settings.check().map_err(|error| {
        let field = format!("{prefix}{}", error.field);
        Problem::invalid(field, &error)
    })?;
    for agent in agents {
        check_chosen(app, agent, settings).map_err(|problem| {
            let field = problem.field.clone().unwrap_or_default();
            problem.at(format!("{prefix}{field}"))
        })?;
        if let Some(autonomy) = settings.autonomy {
            check_autonomy(app, agent, autonomy)
                .map_err(|problem| problem.at(format!("{prefix}autonomy")))?;
        }
    }
    Ok(())
}
