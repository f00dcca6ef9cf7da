//! An agent for one session: the catalogue, the settings of all layers and what is installed, put
//! together.

use std::time::Duration;

use boatyard_agent::catalogue::{self, Entry, Install, Places, Protocol, Show};
use boatyard_link::message::{AgentLaunch, AgentProtocol, PromptBy};
use boatyard_model::{RepositoryId, SessionId, ToolId, name::AgentName};
use boatyard_store::SessionRow;

use super::RUNNER;
use crate::{
    agents::InstalledTool, app::App, hub::HubError, mirrors::environment::Environment,
    operations::agents::settings_in, route::Route,
};

/// Where the homes of sessions are. Each has its own, with the quiet settings of its agent.
const HOMES: &str = "/home/sessions";
/// How much longer than the server's own deadline the runner waits for an answer: it decides only
/// where no server does.
const ASK_MARGIN: Duration = Duration::from_secs(600);

/// What a runner is told, and what it is started from.
pub(super) struct Prepared {
    pub(super) launch: AgentLaunch,
    pub(super) tool: Option<ToolId>,
}

/// The home of a session, inside its workspace.
pub(super) fn home(session: SessionId) -> String {
    format!("{HOMES}/{session}")
}

/// An agent as the catalogue and the settings have it, for one session.
///
/// # Errors
/// When it is not installed, has no way to its model, or its entry makes no sense.
pub(super) async fn prepare(
    app: &App,
    session: &SessionRow,
    repository: Option<RepositoryId>,
    environment: Environment,
) -> Result<Prepared, HubError> {
    let unusable = |error: &dyn std::error::Error| HubError::State(crate::chain(error));
    let name: AgentName = session.agent.parse().map_err(|e| unusable(&e))?;
    let agents = app.agents.current();
    let entry = agents.get(&name).map_err(|e| unusable(&e))?;
    let settings = settings_in(app, session, repository, environment.mcp_servers).await?;
    let tool = installed(app, &name, entry, session, settings.version.as_deref())?;
    let route = Route::of(app, entry, settings.model.as_deref()).map_err(|e| unusable(&e))?;
    let route = route.of_session(session.id);
    let places = Places {
        runner: Some(RUNNER.to_owned()),
        package: tool.as_ref().map(InstalledTool::package),
        node: tool.as_ref().and_then(InstalledTool::node_program),
        home: Some(home(session.id)),
        cwd: Some(session.cwd.clone()),
        provider: route.base,
        models: route.models,
    };
    let program =
        entry.program(&name, &places, route.model.as_deref()).map_err(|e| unusable(&e))?;
    let protocol = match (program.protocol, program.text.show) {
        (Protocol::Acp, _) => AgentProtocol::Acp,
        (Protocol::Text, Show::Tool) => AgentProtocol::Script,
        (Protocol::Text, Show::Message) => AgentProtocol::Text,
    };
    let mut command = program.argv;
    command.extend(settings.arguments.into_iter().flatten());
    // The placeholders of credentials, the repository's, then the agent's own, then what people set
    // for it.
    let owner = app.store.workspace(session.workspace).await?.owner;
    let mut variables =
        app.connections.variables(owner.organization, Some(owner.member), session.workspace);
    variables.extend(environment.variables);
    variables.extend(program.env);
    variables.extend(settings.environment);
    let (autonomy, fitting) = entry.autonomy(settings.autonomy, app.settings.general.autonomy);
    let mode = settings.mode.or_else(|| fitting.map(str::to_owned));
    let model = route.model.or_else(|| entry.model.clone());
    let answer_time = app.settings.limits.answer_time.duration();
    let launch = AgentLaunch {
        name: name.to_string(),
        protocol,
        command,
        environment: variables,
        // One that has it from its start need not be told again.
        model: model.filter(|_| !entry.starts_with_model()),
        mode,
        prompt: match program.text.prompt {
            catalogue::PromptBy::Argument => PromptBy::Argument,
            catalogue::PromptBy::Stdin => PromptBy::Stdin,
        },
        files: program.home.into_iter().map(|file| (file.path, file.content)).collect(),
        capabilities: program.capabilities,
        provider: program.provider,
        session_meta: program.session_meta,
        autonomy,
        ask_seconds: Some(answer_time.saturating_add(ASK_MARGIN).as_secs()),
        mcp_servers: settings.mcp_servers,
        instructions: settings.instructions,
    };
    Ok(Prepared { launch, tool: tool.map(|tool| tool.id) })
}

/// What an agent from a package source is started from: what its conversation began with, as long as
/// that is there, else what is wanted now.
fn installed(
    app: &App,
    name: &AgentName,
    entry: &Entry,
    session: &SessionRow,
    version: Option<&str>,
) -> Result<Option<InstalledTool>, HubError> {
    if matches!(entry.install, Install::BuiltIn | Install::Host { .. }) {
        return Ok(None);
    }
    let began = session.tool.and_then(|tool| app.agents.tool(tool));
    match began.or_else(|| app.agents.tool_for(name, entry, version)) {
        Some(tool) => Ok(Some(tool)),
        None => {
            let which = version.map(|version| format!(" in version {version}")).unwrap_or_default();
            Err(HubError::State(format!(
                "the agent {name} is not installed{which}: run `boatyard agent install {name}`"
            )))
        }
    }
}
