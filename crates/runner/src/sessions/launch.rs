//! From the server's words to a driver that runs.

use std::{sync::Arc, time::Duration};

use boatyard_agent::{
    Driver,
    catalogue::{Program, PromptBy, Protocol, Show, TextStyle},
    driver::{Conversation, Launch},
};
use boatyard_link::message::{self, AgentProtocol, Failure, FailureCode, OpenSession};
use boatyard_model::name::AgentName;

use super::{Context, home};
use crate::{
    environment, failure,
    process::{Group, GroupSpawner},
};

/// How many seconds a permission or question waits for a person where the server does not say.
const ASK: u64 = 24 * 3600;

/// The longest that it does, whatever the server says: a year.
const ASK_MAX: u64 = 365 * 24 * 3600;

/// Lays out the home and starts the driver.
pub(super) fn start(
    context: &Context,
    open: &OpenSession,
    group: Arc<Group>,
) -> Result<Driver, Failure> {
    for path in [&open.cwd, &open.home] {
        if !context.layout.allows_cwd(path) {
            let message = format!("`{path}` is not below {} or /home", context.layout.work);
            return Err(Failure { code: FailureCode::Workspace, message });
        }
    }
    home::lay(context, open)?;
    let launch = Launch {
        program: program(open)?,
        env: environment::worker(&context.layout, &open.home, &open.agent.environment),
        cwd: open.cwd.clone().into(),
        resume: open
            .resume
            .clone()
            .map(|resume| Conversation { id: resume.id, begun: resume.begun }),
        seed: open.seed.clone(),
        model: open.agent.model.clone(),
        mode: open.agent.mode.clone(),
        autonomy: open.agent.autonomy,
        mcp_servers: open.agent.mcp_servers.clone(),
        instructions: open.agent.instructions.clone(),
        ask_timeout: Duration::from_secs(open.agent.ask_seconds.unwrap_or(ASK).min(ASK_MAX)),
        clock: context.clock.0.clone(),
    };
    Ok(Driver::start(launch, Arc::new(GroupSpawner(group))))
}

fn program(open: &OpenSession) -> Result<Program, Failure> {
    let agent = &open.agent;
    let name: AgentName = agent.name.parse().map_err(|error| Failure {
        code: FailureCode::Unsupported,
        message: failure::chain(&error),
    })?;
    if agent.command.is_empty() {
        let message = format!("the agent {name} has no command");
        return Err(Failure { code: FailureCode::Agent, message });
    }
    let (protocol, show) = match agent.protocol {
        AgentProtocol::Acp => (Protocol::Acp, Show::Message),
        AgentProtocol::Script => (Protocol::Text, Show::Tool),
        AgentProtocol::Text => (Protocol::Text, Show::Message),
    };
    let prompt = match agent.prompt {
        message::PromptBy::Argument => PromptBy::Argument,
        message::PromptBy::Stdin => PromptBy::Stdin,
    };
    Ok(Program {
        name,
        protocol,
        argv: agent.command.clone(),
        // The driver gets the whole environment, with these in it.
        env: agent.environment.clone(),
        capabilities: agent.capabilities,
        provider: agent.provider.clone(),
        session_meta: agent.session_meta.clone(),
        text: TextStyle { show, prompt },
        home: Vec::new(),
    })
}
