//! Agents.

use boatyard_agent::catalogue::{Entry, Install, Need, Package, Protocol, Readiness};
use boatyard_api::{
    Problem,
    agent::{Agent, AgentNeed, AgentOrigin},
};
use boatyard_model::{AgentSettings, Autonomy, name::AgentName};
use boatyard_store::Owner;

use crate::{
    app::App,
    auth::Caller,
    providers::DEMO_MODEL,
    route::{ForModel, NoRoute},
};

pub mod settings;

pub use settings::settings_for;
pub(crate) use settings::settings_in;

pub mod tools;

pub(crate) use tools::check_model;

/// All known agents, and whether they can be used.
///
/// # Errors
/// None in this release; who may see them is decided here later.
pub async fn list_agents(app: &App, _: &Caller) -> Result<Vec<Agent>, Problem> {
    let default = app.default_agent();
    let view = app.agents.view();
    let mut agents = Vec::new();
    for (name, entry) in view.catalogue.iter() {
        let facts = ForModel::new(app, entry.model.as_deref());
        let readiness = view.catalogue.readiness(name, &facts).map_err(Problem::internal)?;
        let (needs, reason, mend) = match readiness {
            Readiness::Ready => (None, None, None),
            Readiness::NotReady { need, reason, mend } => {
                (Some(needs(need)), Some(reason), Some(mend))
            }
        };
        let scripted = ForModel::new(app, Some(DEMO_MODEL));
        let demo = entry.provider.is_some()
            && view.catalogue.readiness(name, &scripted).map_err(Problem::internal)?.is_ready();
        let package = match &entry.install {
            Install::Npm(package) | Install::Pypi(package) => Some(package),
            Install::BuiltIn | Install::Host { .. } => None,
        };
        agents.push(Agent {
            name: name.to_string(),
            title: entry.title.clone(),
            about: entry.about.clone(),
            protocol: match entry.protocol {
                Protocol::Acp => "acp".to_owned(),
                Protocol::Text => "text".to_owned(),
            },
            origin: origin(app, view.added.contains(name), name.as_str()),
            command: entry.command.clone(),
            ready: reason.is_none(),
            reason,
            mend,
            needs,
            demo,
            default: *name == default,
            provider: entry.provider.clone(),
            packages: package.map(Package::specs).unwrap_or_default(),
            version: package.and_then(Package::version).map(str::to_owned),
            installed: tools::tools(&view, name, Some(entry)),
            offers: app.agents.tool_for(name, entry, None).and_then(|tool| tool.offers),
        });
    }
    for (name, reason) in &view.broken {
        let broken = Agent {
            name: name.clone(),
            title: name.clone(),
            about: String::new(),
            protocol: "unknown".to_owned(),
            origin: AgentOrigin::Added,
            command: Vec::new(),
            ready: false,
            reason: Some(reason.clone()),
            mend: Some(tools::mend_entry(name)),
            needs: Some(AgentNeed::Entry),
            demo: false,
            default: false,
            provider: None,
            packages: Vec::new(),
            version: None,
            installed: Vec::new(),
            offers: None,
        };
        // One that stands in the settings too is used as it is there, and said to be broken.
        agents.retain(|agent| agent.name != *name);
        agents.push(broken);
    }
    agents.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(agents)
}

const fn needs(need: Need) -> AgentNeed {
    match need {
        Need::Install => AgentNeed::Install,
        Need::Program => AgentNeed::Program,
        Need::Key => AgentNeed::Key,
    }
}

fn origin(app: &App, is_added: bool, name: &str) -> AgentOrigin {
    if is_added {
        AgentOrigin::Added
    } else if app.settings.agents.contains_key(name) {
        AgentOrigin::Settings
    } else {
        AgentOrigin::BuiltIn
    }
}

/// Whether there is an agent of this name.
///
/// # Errors
/// When there is none, with those that there are.
pub(crate) fn known(app: &App, name: &AgentName) -> Result<(), Problem> {
    match app.agents.current().get(name) {
        Ok(_) => Ok(()),
        Err(_) => Err(unknown(app, name)),
    }
}

/// That an order names an agent that is not there.
fn unknown(app: &App, name: &AgentName) -> Problem {
    let detail = format!("there is no agent `{name}`");
    Problem::agent_unusable(detail).with_next(tools::what_there_is(app, name))
}

/// The agent that is wanted, or the default, if it can be used with the model that is wanted.
///
/// # Errors
/// When it is not known or not ready, with what there is.
pub(crate) fn usable(
    app: &App,
    payer: Owner,
    wanted: Option<AgentName>,
    model: Option<&str>,
) -> Result<AgentName, Problem> {
    let facts = ForModel::new(app, model).paid_by(payer);
    let agents = app.agents.current();
    let name = match (wanted, &app.settings.general.default_agent) {
        (Some(name), _) => name,
        // The first that there is no key for will do.
        (None, None) => agents.default_agent(&facts),
        (None, _) => app.default_agent(),
    };
    let Ok(entry) = agents.get(&name) else {
        return Err(unknown(app, &name));
    };
    if let Some(model) = model.filter(|model| *model != DEMO_MODEL) {
        takes_model(&name, entry, model)?;
    }
    // What the settings say goes where nobody chose.
    let facts = ForModel::new(app, model.or(entry.model.as_deref())).paid_by(payer);
    if entry.provider.is_none() && facts.is_demo() {
        let detail = format!("agent `{name}`: {}", NoRoute::NoProvider);
        let with_model = agents.iter().filter(|(_, entry)| entry.provider.is_some());
        let with_model: Vec<&str> = with_model.map(|(name, _)| name.as_str()).collect();
        return Err(Problem::invalid("model", detail).with_next(format!(
            "Leave the model out, or name an agent that uses one ({}); `boatyard agent install \
             NAME` installs it.",
            with_model.join(", ")
        )));
    }
    match agents.readiness(&name, &facts).map_err(Problem::internal)? {
        Readiness::Ready => {
            if let Some(model) = model {
                check_model(app, &name, model)?;
            }
            Ok(name)
        }
        Readiness::NotReady { reason, mend, .. } => {
            let detail = format!("agent `{name}` can't be used: {reason}");
            Err(Problem::agent_unusable(detail).with_next(mend))
        }
    }
}

/// Whether an agent has any model to be chosen: one without a protocol must be started with it.
fn takes_model(name: &AgentName, entry: &Entry, model: &str) -> Result<(), Problem> {
    if entry.protocol == Protocol::Acp || entry.starts_with_model() {
        return Ok(());
    }
    let detail = format!("agent `{name}` takes no model, so it can't be `{model}`");
    Err(Problem::invalid("model", detail).with_next("Leave the model out."))
}

/// Whether an agent has this mode and model, as far as is known.
///
/// # Errors
/// What it has not, with what it has.
fn check_chosen(app: &App, name: &AgentName, settings: &AgentSettings) -> Result<(), Problem> {
    let agents = app.agents.current();
    let entry = agents.get(name).map_err(Problem::internal)?;
    if let Some(model) = &settings.model {
        takes_model(name, entry, model)?;
        check_model(app, name, model)?;
    }
    let Some(mode) = &settings.mode else { return Ok(()) };
    let version = settings.version.as_deref();
    let offers = app.agents.tool_for(name, entry, version).and_then(|tool| tool.offers);
    let known: Vec<String> =
        offers.unwrap_or_default().modes.into_iter().map(|mode| mode.id).collect();
    if known.is_empty() || known.contains(mode) {
        return Ok(());
    }
    let detail = format!("agent `{name}` has no mode `{mode}`; it has {}", known.join(", "));
    Err(Problem::invalid("mode", detail))
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
    let agents = app.agents.current();
    let entry = agents.get(agent).map_err(Problem::internal)?;
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
