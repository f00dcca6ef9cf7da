//! `boatyard agent`

use anyhow::Result;

use super::Context;
use crate::{failure::Exit, output::table::Table, text::clean_line};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the agents that the server knows, and whether each can be used
    #[command(visible_alias = "ls")]
    List,
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let Command::List = command;
    let output = context.output;
    let agents = context.client.list_agents().await?;
    if output.is_json() {
        output.json(&agents)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["NAME", "READY", "PROTOCOL", "ABOUT"], 3);
    for agent in &agents.items {
        let ready = match (agent.ready, agent.default) {
            (true, true) => output.out.good("yes, default"),
            (true, false) => output.out.good("yes"),
            (false, _) => output.out.warn("no"),
        };
        let about = match &agent.reason {
            Some(reason) => format!("{}: {}", agent.title, reason),
            None => agent.title.clone(),
        };
        table.row(vec![agent.name.clone(), ready, agent.protocol.clone(), clean_line(&about)]);
    }
    output.line(table.render(output.out))?;
    Ok(Exit::Done)
}
