//! Starts an agent once, in a throw-away workspace against the demo provider, to find out whether
//! it comes up and what it takes.

use boatyard_agent::catalogue::{Entry, Places, Protocol};
use boatyard_link::message::{AgentLaunch, AgentProtocol, OpenSession, Reply, Request};
use boatyard_model::{AgentOffers, Autonomy, SessionId, name::AgentName};
use boatyard_store::Reason;

use super::{
    builder::{Builder, Way},
    failed,
};
use crate::{
    agents::InstalledTool,
    app::App,
    hub::{HubError, events::bounded},
    jobs::dispatch,
    providers::DEMO_MODEL,
    route::Route,
};

/// What the agent was found to take. No model is asked anything.
///
/// # Errors
/// Why it did not come up, in its own words where it said some.
pub async fn offers(
    app: &App,
    name: &AgentName,
    entry: &Entry,
    tool: Option<&InstalledTool>,
) -> Result<AgentOffers, Reason> {
    if entry.protocol != Protocol::Acp {
        return Err(failed(format!(
            "`{name}` has no protocol by which it could tell what it takes"
        )));
    }
    let launch = launch(app, name, entry, tool)?;
    let builder = Builder::start(app, Way::Closed).await?;
    let asked = ask(app, &builder, launch).await;
    builder.end().await;
    asked.map_err(|error| {
        failed(format!("The agent `{name}` did not start: {}", crate::chain(&error)))
    })
}

async fn ask(
    app: &App,
    builder: &Builder<'_>,
    agent: AgentLaunch,
) -> Result<AgentOffers, HubError> {
    let _gateway = app.hub.serve_builder_gateway(builder.workspace).await?;
    let session = SessionId::new();
    let open = OpenSession {
        session,
        agent,
        cwd: super::builder::PLACE.to_owned(),
        home: dispatch::HOME.to_owned(),
        resume: None,
        seed: None,
        last_turn: 0,
        checkpoint: None,
    };
    let Reply::SessionOpen { offers, .. } =
        builder.attached.ask(Request::OpenSession(open)).await?
    else {
        return Err(HubError::Protocol("a session to open"));
    };
    // It is killed next in any case.
    if let Err(error) = builder.attached.ask(Request::CloseSession { session }).await {
        tracing::debug!(%error, "an agent that was tried did not close its session");
    }
    Ok(bounded(offers))
}

fn launch(
    app: &App,
    name: &AgentName,
    entry: &Entry,
    tool: Option<&InstalledTool>,
) -> Result<AgentLaunch, Reason> {
    let demo = entry.provider.as_ref().map(|_| DEMO_MODEL);
    let route = Route::of(app, entry, demo)
        .map_err(|error| failed(format!("{}.", crate::chain(&error))))?;
    let places = Places {
        runner: Some(dispatch::RUNNER.to_owned()),
        package: tool.map(InstalledTool::package),
        node: tool.and_then(InstalledTool::node_program),
        home: Some(dispatch::HOME.to_owned()),
        cwd: Some(super::builder::PLACE.to_owned()),
        provider: route.base,
        models: route.models,
    };
    let program = entry
        .program(name, &places, route.model.as_deref())
        .map_err(|error| failed(format!("{error}.")))?;
    Ok(AgentLaunch {
        name: name.to_string(),
        protocol: AgentProtocol::Acp,
        command: program.argv,
        environment: program.env,
        model: route.model,
        files: program.home.into_iter().map(|file| (file.path, file.content)).collect(),
        capabilities: program.capabilities,
        provider: program.provider,
        session_meta: program.session_meta,
        autonomy: Autonomy::Free,
        ..AgentLaunch::default()
    })
}
