//! `boatyard repository`

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use boatyard_api::{
    connection::{ConnectionBinding, NewConnection, SecretText},
    git::{GitPlace, NewGitConnection, NewGitIdentity},
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

/// How to come by a connection.
const CONNECT_HELP: &str = "\
A connection is made by `boatyard connection add git` (a token), or `boatyard repository app` (a \
GitHub App).";

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
    /// Fetch and push a repository with a connection, by the server and in workspaces
    #[command(after_help = CONNECT_HELP)]
    Connect {
        /// A repository (owner/repo, an address), or all below a place (host/owner/*)
        repository: String,
        /// The connection's name or id
        connection: String,
        /// Let workspaces of other repositories fetch with it too, where their rules allow that
        #[arg(long)]
        shared: bool,
    },
    /// Take the connection from a repository
    Disconnect {
        /// As it was connected
        repository: String,
        /// Yours alone, and not the organization's
        #[arg(long)]
        mine: bool,
    },
    /// Show or set in whose name your workspaces commit
    Identity {
        /// The name
        #[arg(long, value_name = "NAME", requires = "email")]
        name: Option<String>,
        /// The address
        #[arg(long, value_name = "ADDRESS", requires = "name")]
        email: Option<String>,
        /// In the server's name again
        #[arg(long, conflicts_with = "name")]
        clear: bool,
    },
    /// List which repositories have which connection, and whether it works
    Connections,
    /// Keep a GitHub App as a connection, which makes a token for each use
    App {
        /// What to call it
        name: String,
        /// The app's number or client id
        #[arg(long, value_name = "ID")]
        id: String,
        /// The file with its private key, as GitHub hands it out
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Show the key that commits are signed with, to be added at GitHub as a signing key
    Key {
        /// Make another one
        #[arg(long)]
        new: bool,
    },
    Access(super::access::Args),
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
        Command::Access(args) => return super::access::run(args, context).await,
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
        Command::Connect { repository, connection, shared } => {
            let new = NewGitConnection { place: repository, connection, shared };
            let bound = client.connect_repository(&new).await?;
            if output.is_json() {
                output.json(&bound)?;
            } else {
                let name = bound.name.as_deref().map(clean_line).unwrap_or_default();
                output.note(format!("{} is reached with {name}.", clean_line(&bound.place)));
            }
        }
        Command::Identity { name, email, clear } => {
            let identity = match (name.zip(email), clear) {
                (Some((name, email)), _) => {
                    client.set_git_identity(&NewGitIdentity { name, email }).await?
                }
                (None, true) => {
                    client.clear_git_identity().await?;
                    client.find_git_identity().await?
                }
                (None, false) => client.find_git_identity().await?,
            };
            if output.is_json() {
                output.json(&identity)?;
            } else {
                let whose = if identity.own { "" } else { " (the server's, for all)" };
                let (name, email) = (clean_line(&identity.name), clean_line(&identity.email));
                output.line(format!("{name} <{email}>{whose}"))?;
            }
        }
        Command::Disconnect { repository, mine } => {
            let place = GitPlace { place: repository.clone(), own: mine };
            client.disconnect_repository(&place).await?;
            if output.is_json() {
                output.json(&serde_json::json!({ "place": repository, "removed": true }))?;
            } else {
                output.note(format!("{} has no connection any more.", clean_line(&repository)));
            }
        }
        Command::Connections => {
            let found = client.list_git_connections().await?;
            if output.is_json() {
                output.json(&found)?;
                return Ok(Exit::Done);
            }
            let mut table = Table::new(&["PLACE", "CONNECTION", "FOR", "STATE"], 3);
            for item in &found.items {
                let name = item.name.clone().unwrap_or_else(|| item.connection.to_string());
                table.row(vec![
                    clean_line(&item.place),
                    clean_line(&name),
                    match (item.own, item.shared) {
                        (true, _) => "your own workspaces",
                        (_, true) => "all workspaces",
                        _ => "its own workspaces",
                    }
                    .to_owned(),
                    match &item.problem {
                        Some(problem) => output.out.bad(clean_line(problem)),
                        None => "works".to_owned(),
                    },
                ]);
            }
            if table.is_empty() {
                output.note(
                    "No repository has a connection; `boatyard repository connect` gives it one.",
                );
            } else {
                output.line(table.render(output.out))?;
            }
        }
        Command::App { name, id, key } => {
            let private_key = std::fs::read_to_string(&key)
                .with_context(|| format!("{} can't be read", key.display()))?;
            let value = serde_json::json!({ "app_id": id, "private_key": private_key });
            let new = NewConnection {
                name: Some(name),
                kind: "git".to_owned(),
                value: SecretText::new(value.to_string()),
                binding: ConnectionBinding::default(),
                scope: boatyard_api::connection::ConnectionScope::Organization,
                provider: None,
                user: None,
                expires: None,
            };
            let made = client.create_connection(&new).await?;
            if output.is_json() {
                output.json(&made)?;
            } else {
                let name = clean_line(&made.name);
                output.note(format!(
                    "{name} is there; `boatyard repository connect REPO {name}` gives it to a repository."
                ));
            }
        }
        Command::Key { new } => {
            let key = match new {
                true => client.renew_git_key().await?,
                false => client.find_git_key().await?,
            };
            if output.is_json() {
                output.json(&key)?;
                return Ok(Exit::Done);
            }
            output.line(clean_line(&key.public_key))?;
            if !key.signs {
                output.note("Nothing is signed yet: set `sign = true` in [git] of boatyard.toml.");
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
