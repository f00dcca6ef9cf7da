//! Agents.

use boatyard_agent::catalogue::{Protocol, Readiness};
use boatyard_api::{
    Problem,
    agent::{Agent, AgentOrigin},
};
use boatyard_model::{Autonomy, name::AgentName};

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
                Protocol::Acp => "acp".to_owned(),
                Protocol::Text => "text".to_owned(),
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

/// Whether an agent can be held to this: one without a protocol asks for nothing.
///
/// # Errors
/// When it can't.
pub(crate) fn check_autonomy(
    app: &App,
    agent: &AgentName,
    autonomy: Autonomy,
) -> Result<(), Problem> {
    let entry = app.agents.get(agent).map_err(Problem::internal)?;
    if autonomy == Autonomy::Free || entry.protocol == Protocol::Acp {
        return Ok(());
    }
    let detail = format!(
        "agent `{agent}` asks for nothing, so it can't be `{autonomy}`: it is free within its workspace"
    );
    Err(Problem::invalid("autonomy", detail).with_next(
        "Leave the autonomy out, or take an agent that speaks the Agent Client Protocol.",
    ))
}
