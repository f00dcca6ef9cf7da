//! `boatyard repository`

use anyhow::Result;
use boatyard_api::{
    model::{
        RepositoryId,
        time::{Clock as _, SystemClock},
    },
    repository::RepositoryFilter,
};

use super::Context;
use crate::{
    failure::Exit,
    ids,
    output::table::Table,
    text::{ago, clean_line},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the repositories that the server keeps a mirror of
    #[command(visible_alias = "ls")]
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// List the environments that a repository describes
    Environments {
        /// A folder here, the repository's address or its id
        #[arg(default_value = ".")]
        repository: String,
    },
    /// Forget a repository and remove its mirror
    #[command(visible_alias = "rm")]
    Remove {
        /// The repository's id, rep_…
        id: RepositoryId,
    },
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::List { limit } => {
            let filter = RepositoryFilter { limit: Some(limit), cursor: None };
            let page = client.list_repositories(&filter).await?;
            if output.is_json() {
                output.json(&page)?;
                return Ok(Exit::Done);
            }
            let mut table = Table::new(&["REPOSITORY", "SOURCE", "BRANCH", "FETCHED"], 1);
            let now = SystemClock.now();
            for item in &page.items {
                table.row(vec![
                    item.id.to_string(),
                    clean_line(&item.source),
                    item.default_branch.as_deref().map(clean_line).unwrap_or_default(),
                    item.fetched.map(|time| ago(time, now)).unwrap_or_default(),
                ]);
            }
            if table.is_empty() {
                output.note("There are no repositories yet.");
            } else {
                output.line(table.render(output.out))?;
            }
        }
        Command::Environments { repository } => {
            let id = ids::repository(client, &repository).await?;
            let found = client.list_environments(id).await?;
            if output.is_json() {
                output.json(&found)?;
                return Ok(Exit::Done);
            }
            let mut table = Table::new(&["ENVIRONMENT", "SETUP", "CHECK", "MCP SERVERS"], 1);
            for item in &found.items {
                let setup = match &item.problem {
                    Some(problem) => output.out.bad(clean_line(problem)),
                    None => clean_line(&item.setup.join("; ")),
                };
                table.row(vec![
                    clean_line(&item.name),
                    setup,
                    item.check.as_deref().map(clean_line).unwrap_or_default(),
                    clean_line(&item.mcp_servers.join(", ")),
                ]);
            }
            if table.is_empty() {
                output.note("The server has no commit of it yet; `boatyard run` sends a checkout.");
            } else {
                output.line(table.render(output.out))?;
            }
        }
        Command::Remove { id } => {
            client.delete_repository(id).await?;
            if output.is_json() {
                output.json(&serde_json::json!({ "repository": id, "removed": true }))?;
            } else {
                output.note(format!("Removed {id}."));
            }
        }
    }
    Ok(Exit::Done)
}
