//! `boatyard agent set` and `boatyard agent settings`.

use anyhow::Result;
use boatyard_api::model::{
    AgentSettings, Autonomy, RepositoryId, agent::McpServer, name::AgentName,
};

use crate::{
    commands::Context,
    failure::{Exit, Failure},
    ids,
    output::table::Table,
    text::clean_line,
    words,
};

/// Sets what holds for an agent, for everything or for one repository.
///
/// What is not named stays as it is. The narrowest wins: a task before a repository before the
/// organization before boatyard.toml. It holds from the agent's next start on.
#[derive(Debug, clap::Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:\n  \
    boatyard agent set claude --model sonnet --autonomy ask_changes\n  \
    boatyard agent set codex --repo owner/name --mcp docs='npx -y docs-server'\n  \
    boatyard agent set claude --unset model --unset mcp.docs"
)]
pub(crate) struct SetArgs {
    /// The agent; see `boatyard agent list`
    name: AgentName,
    /// For this repository only: a folder here, its address or its id
    #[arg(long, value_name = "REPOSITORY")]
    repo: Option<String>,
    /// The model
    #[arg(long)]
    model: Option<String>,
    /// One of the agent's own modes
    #[arg(long)]
    mode: Option<String>,
    /// How much it may do without asking: ask, ask_changes or free
    #[arg(long, value_name = "HOW", value_parser = ["ask", "ask_changes", "free"])]
    autonomy: Option<String>,
    /// Which of the installed versions
    #[arg(long)]
    version: Option<String>,
    /// An argument after those of the catalogue; may be given several times
    #[arg(long = "argument", value_name = "TEXT", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// A variable; never a secret, for it can be read in the workspace
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = words::variable)]
    environment: Vec<(String, String)>,
    /// An MCP server: NAME=COMMAND, NAME=https://ADDRESS, or NAME=off for one of a wider scope
    #[arg(long = "mcp", value_name = "NAME=COMMAND", value_parser = words::server)]
    mcp: Vec<(String, McpServer)>,
    /// A file with what is said to it before the first prompt; `-` is standard input
    #[arg(long, value_name = "FILE")]
    instructions: Option<String>,
    /// Forget one of these, such as model, env.NAME or mcp.NAME; `all` forgets everything
    #[arg(long, value_name = "WHAT")]
    unset: Vec<String>,
}

/// Shows what is set for an agent.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The agent; see `boatyard agent list`
    name: AgentName,
    /// In this repository: a folder here, its address or its id
    #[arg(long, value_name = "REPOSITORY")]
    repo: Option<String>,
}

pub(crate) async fn set(args: SetArgs, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let repository = repository(args.repo.as_deref(), context).await?;
    let mut settings = client.find_agent_settings(repository, &args.name).await?;
    for what in &args.unset {
        unset(&mut settings, what)?;
    }
    let over = AgentSettings {
        model: args.model,
        mode: args.mode,
        autonomy: args.autonomy.as_deref().map(str::parse::<Autonomy>).transpose()?,
        version: args.version,
        arguments: (!args.arguments.is_empty()).then_some(args.arguments),
        environment: args.environment.into_iter().collect(),
        mcp_servers: args.mcp.into_iter().collect(),
        instructions: args.instructions.as_deref().map(words::file).transpose()?,
    };
    if over.is_empty() && args.unset.is_empty() {
        return Err(Failure::usage("nothing is to be set")
            .next(format!(
                "name it, for example --model or --mcp; `boatyard agent settings {}` shows what is set",
                args.name
            ))
            .into());
    }
    let settings = over.over(settings);
    let settings = client.set_agent_settings(repository, &args.name, &settings).await?;
    if output.is_json() {
        output.json(&settings)?;
    } else {
        output.note(match settings.is_empty() {
            true => format!("Nothing is set for {} here any more.", args.name),
            false => format!("Set for {}; it holds from the next start on.", args.name),
        });
        show_one(&settings, context)?;
    }
    Ok(Exit::Done)
}

pub(crate) async fn show(args: ShowArgs, context: &Context<'_>) -> Result<Exit> {
    let repository = repository(args.repo.as_deref(), context).await?;
    let settings = context.client.find_agent_settings(repository, &args.name).await?;
    if context.output.is_json() {
        context.output.json(&settings)?;
    } else if settings.is_empty() {
        context.output.note(format!(
            "Nothing is set for {} here: `boatyard agent set {} --help` shows what can be.",
            args.name, args.name
        ));
    } else {
        show_one(&settings, context)?;
    }
    Ok(Exit::Done)
}

fn show_one(settings: &AgentSettings, context: &Context<'_>) -> Result<()> {
    let mut table = Table::new(&["SETTING", "VALUE"], 1);
    let texts =
        [("model", &settings.model), ("mode", &settings.mode), ("version", &settings.version)];
    for (name, value) in texts {
        if let Some(value) = value {
            table.row(vec![name.to_owned(), clean_line(value)]);
        }
    }
    if let Some(autonomy) = settings.autonomy {
        table.row(vec!["autonomy".to_owned(), autonomy.to_string()]);
    }
    if let Some(arguments) = &settings.arguments {
        table.row(vec!["arguments".to_owned(), clean_line(&arguments.join(" "))]);
    }
    for (name, value) in &settings.environment {
        table.row(vec![format!("env.{name}"), clean_line(value)]);
    }
    for (name, server) in &settings.mcp_servers {
        let what = match &server.url {
            _ if server.off => "off".to_owned(),
            Some(url) => clean_line(url),
            None => clean_line(&server.command.join(" ")),
        };
        table.row(vec![format!("mcp.{name}"), what]);
    }
    if let Some(text) = &settings.instructions {
        table.row(vec!["instructions".to_owned(), clean_line(text)]);
    }
    if !table.is_empty() {
        context.output.line(table.render(context.output.out))?;
    }
    Ok(())
}

fn unset(settings: &mut AgentSettings, what: &str) -> Result<()> {
    match what {
        "all" => *settings = AgentSettings::default(),
        "model" => settings.model = None,
        "mode" => settings.mode = None,
        "autonomy" => settings.autonomy = None,
        "version" => settings.version = None,
        "arguments" => settings.arguments = None,
        "env" => settings.environment.clear(),
        "mcp" => settings.mcp_servers.clear(),
        "instructions" => settings.instructions = None,
        _ => {
            let there = match what.split_once('.') {
                Some(("env", name)) => settings.environment.remove(name).is_some(),
                Some(("mcp", name)) => settings.mcp_servers.remove(name).is_some(),
                _ => false,
            };
            if !there {
                return Err(Failure::usage(format!("{what} is not set"))
                    .next(
                        "it is one of model, mode, autonomy, version, arguments, env, env.NAME, mcp, \
                         mcp.NAME, instructions, all",
                    )
                    .into());
            }
        }
    }
    Ok(())
}

async fn repository(text: Option<&str>, context: &Context<'_>) -> Result<Option<RepositoryId>> {
    match text {
        Some(text) => ids::repository(&context.client, text).await.map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unset_is_gone_and_what_is_not_there_is_named() {
        let mut settings = AgentSettings {
            model: Some("m".into()),
            environment: [("A".to_owned(), "1".to_owned())].into(),
            ..AgentSettings::default()
        };
        unset(&mut settings, "model").unwrap();
        unset(&mut settings, "env.A").unwrap();
        assert!(settings.is_empty());
        assert!(unset(&mut settings, "env.A").is_err() && unset(&mut settings, "modle").is_err());
    }
}
