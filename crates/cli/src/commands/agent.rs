//! `boatyard agent`: what there is, installed, tried, added and removed.

use anyhow::Result;
use boatyard_api::{
    agent::{Agent, AgentNeed, Tool, ToolState},
    model::name::AgentName,
};

use super::Context;
use crate::{
    failure::{Exit, Failure},
    output::{Output, table::Table},
    text::{bytes, clean, clean_line},
};

mod add;
mod install;
mod registry;
mod settings;
mod show;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the agents that the server knows, and whether each can be used
    #[command(visible_alias = "ls")]
    List,
    /// Show an agent: its versions, and the modes and models that it was found to offer
    Show {
        /// The agent
        name: AgentName,
    },
    /// Install agents in throw-away sandboxes and try them
    Install(install::Args),
    /// Start an agent once, without a model, and tell what it takes
    Check {
        /// The agent
        name: AgentName,
    },
    Set(Box<settings::SetArgs>),
    Settings(settings::ShowArgs),
    /// Add an agent to those that the server knows, or change one
    Add(Box<add::Args>),
    /// Remove an agent that was added, or what is installed of one
    #[command(visible_alias = "rm", disable_version_flag = true)]
    Remove {
        /// The agent
        name: AgentName,
        /// Only this installed version
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
    },
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    match command {
        Command::List => list(context).await,
        Command::Set(args) => settings::set(*args, context).await,
        Command::Settings(args) => settings::show(args, context).await,
        Command::Show { name } => {
            let agent = context.client.find_agent(&name).await?;
            if context.output.is_json() {
                context.output.json(&agent)?;
            } else {
                show::agent(context.output, &agent)?;
            }
            Ok(Exit::Done)
        }
        Command::Install(args) => install::run(args, context).await,
        Command::Check { name } => check(context, &name).await,
        Command::Add(args) => add::run(*args, context).await,
        Command::Remove { name, version } => remove(context, &name, version.as_deref()).await,
    }
}

async fn list(context: &Context<'_>) -> Result<Exit> {
    let output = context.output;
    let agents = context.client.list_agents().await?;
    if output.is_json() {
        output.json(&agents)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["NAME", "READY", "VERSION", "NEEDS"], 3);
    for agent in &agents.items {
        let ready = match (agent.ready, agent.default) {
            (true, true) => output.out.good("yes, default"),
            (true, false) => output.out.good("yes"),
            (false, _) if agent.demo => output.out.warn("demo only"),
            (false, _) => output.out.warn("no"),
        };
        table.row(vec![agent.name.clone(), ready, version(agent), clean_line(&needs(agent))]);
    }
    output.line(table.render(output.out))?;
    output.note("\n`boatyard agent show NAME` tells more of one.");
    Ok(Exit::Done)
}

/// The version that is used, or what becomes of it.
fn version(agent: &Agent) -> String {
    if let Some(used) = agent.installed.iter().find(|tool| tool.used) {
        return clean_line(&used.version);
    }
    match agent.installed.first().map(|tool| tool.state) {
        Some(ToolState::Installing) => "installing".to_owned(),
        Some(ToolState::Failed) => "failed".to_owned(),
        _ => "-".to_owned(),
    }
}

/// What comes next before it can be used, as short as it can be said.
fn needs(agent: &Agent) -> String {
    let name = &agent.name;
    let newest = agent.installed.first().map(|tool| tool.state);
    match agent.needs {
        Some(AgentNeed::Install) if newest == Some(ToolState::Installing) => String::new(),
        Some(AgentNeed::Install) => format!("boatyard agent install {name}"),
        Some(AgentNeed::Key) => {
            let key = format!("a key for {}", agent.provider.as_deref().unwrap_or("its provider"));
            if agent.demo { format!("{key}, or --model demo") } else { key }
        }
        Some(AgentNeed::Program) => {
            // The reason names it first.
            let program = agent.reason.as_deref().and_then(|reason| reason.split('`').nth(1));
            format!("{} on the server's machine", program.unwrap_or("a program"))
        }
        Some(AgentNeed::Entry) => "a valid entry".to_owned(),
        // A server of another release may need what this one does not know.
        None => agent.reason.clone().unwrap_or_default(),
    }
}

async fn check(context: &Context<'_>, name: &AgentName) -> Result<Exit> {
    let output = context.output;
    output.note(format!("Starting {name} in a throw-away sandbox…"));
    let check = context.client.check_agent(name).await?;
    if output.is_json() {
        output.json(&check)?;
        return Ok(Exit::Done);
    }
    output.line(format!("{name} works."))?;
    show::offers(output, &check.offers)?;
    Ok(Exit::Done)
}

async fn remove(context: &Context<'_>, name: &AgentName, version: Option<&str>) -> Result<Exit> {
    use boatyard_api::agent::AgentOrigin;
    let (client, output) = (&context.client, context.output);
    let agent = client.find_agent(name).await?;
    let is_added = agent.origin == AgentOrigin::Added && version.is_none();
    let tools: Vec<&Tool> = agent
        .installed
        .iter()
        .filter(|tool| version.is_none_or(|version| tool.version == version))
        .collect();
    if let (Some(version), true) = (version, tools.is_empty()) {
        return Err(Failure::not_found(format!("{name} {version} is not installed"))
            .next(format!("`boatyard agent show {name}` lists what is."))
            .into());
    }
    if tools.is_empty() && !is_added {
        return Err(Failure::not_found(format!("nothing is installed of {name}"))
            .next("`boatyard agent list` shows what is.")
            .into());
    }
    let mut removed = Vec::new();
    for tool in tools {
        client.remove_tool(name, tool.id).await?;
        removed.push(tool.version.clone());
    }
    if is_added {
        client.remove_agent(name).await?;
    }
    if output.is_json() {
        output.json(&serde_json::json!({
            "agent": name.as_str(), "versions": removed, "removed": is_added,
        }))?;
        return Ok(Exit::Done);
    }
    for version in removed {
        output.note(format!("Removed {name} {}.", clean_line(&version)));
    }
    if is_added {
        match client.find_agent(name).await {
            Ok(_) => output.note(format!("{name} is as it was before it was changed.")),
            Err(_) => output.note(format!("Removed {name}.")),
        }
    }
    Ok(Exit::Done)
}

/// A line about an installed version.
fn installed_line(output: &Output, tool: &Tool) -> String {
    let state = match tool.state {
        ToolState::Ready if tool.used => output.out.good("ready, used"),
        ToolState::Ready => output.out.good("ready"),
        ToolState::Installing => {
            format!("installing ({})", tool.phase.as_deref().unwrap_or("waiting"))
        }
        ToolState::Failed => output.out.bad("failed"),
        ToolState::Deleted => "removed".to_owned(),
    };
    let mut line = format!("{}  {state}", clean_line(&tool.version));
    if tool.bytes > 0 {
        line.push_str(&format!("  {}", bytes(tool.bytes)));
    }
    if let Some(node) = &tool.node {
        line.push_str(&format!("  Node {}", clean_line(node)));
    }
    if let Some(reason) = &tool.reason {
        let reason = clean(reason);
        let first = reason.lines().next().unwrap_or_default();
        line.push_str(&format!("\n      {first}"));
    }
    line
}
