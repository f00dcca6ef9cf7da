//! Agents.

use boatyard_agent::catalogue::Readiness;
use boatyard_api::{
    Problem,
    agent::{Agent, AgentOrigin},
};
use boatyard_model::name::AgentName;

use crate::{app::App, auth::Caller};

/// All known agents, and whether they can be used.
///
/// # Errors
/// None in this release; who may see them is decided here later.
pub async fn list_agents(app: &App, _: &Caller) -> Result<Vec<Agent>, Problem> {
    let default = app.default_agent();
    let mut agents = Vec::new();
    for (name, entry) in app.agents.iter() {
        let readiness = app.agents.readiness(name, app).map_err(Problem::internal)?;
        let from_settings = app.settings.agents.contains_key(name.as_str());
        agents.push(Agent {
            name: name.to_string(),
            title: entry.title.clone(),
            protocol: match entry.protocol {
                boatyard_agent::catalogue::Protocol::Acp => "acp".to_owned(),
                boatyard_agent::catalogue::Protocol::Text => "text".to_owned(),
            },
            origin: if from_settings { AgentOrigin::Settings } else { AgentOrigin::BuiltIn },
            ready: readiness.is_ready(),
            reason: reason(&readiness),
            default: *name == default,
        });
    }
    Ok(agents)
}

fn reason(readiness: &Readiness) -> Option<String> {
    match readiness {
        Readiness::Ready => None,
        Readiness::NotReady { reason, mend } => Some(format!("{reason}. {mend}")),
    }
}

/// The agent that is wanted, or the default, if it can be used.
///
/// # Errors
/// When it is not known or not ready, with what there is.
pub(crate) fn usable(app: &App, wanted: Option<AgentName>) -> Result<AgentName, Problem> {
    let name = wanted.unwrap_or_else(|| app.default_agent());
    if app.agents.get(&name).is_err() {
        let known: Vec<&str> = app.agents.iter().map(|(name, _)| name.as_str()).collect();
        let detail = format!("there is no agent `{name}`; there is {}", known.join(", "));
        return Err(Problem::agent_unusable(detail).at("agent"));
    }
    match app.agents.readiness(&name, app).map_err(Problem::internal)? {
        Readiness::Ready => Ok(name),
        Readiness::NotReady { reason, mend } => {
            Err(Problem::agent_unusable(reason).at("agent").with_next(mend))
        }
    }
}
