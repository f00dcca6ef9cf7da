//! `boatyard organization`: teams on one server, each with its own work, rules and credentials.

use anyhow::Result;
use boatyard_api::{
    Client,
    model::{MemberId, OrganizationId, Visibility},
    organization::{
        NewOrganization, Organization, OrganizationFilter, OrganizationTransfer, OrganizationUpdate,
    },
};

use super::{Context, member};
use crate::{
    failure::{Exit, Failure},
    output::{Output, table::Table},
    text::{clean_line, count},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the organizations that you are in
    #[command(visible_alias = "ls")]
    List {
        /// Every one of the server, for who runs it
        #[arg(long)]
        all: bool,
    },
    /// Show an organization
    Show {
        /// Its name or id; the one that you work in if absent
        organization: Option<String>,
    },
    /// Make an organization, and own it; for who runs the server
    Create {
        /// What to call it
        name: String,
    },
    /// Give an organization another name
    Rename {
        /// Its name or id
        organization: String,
        /// What to call it
        name: String,
    },
    /// Say what tasks, sessions and workspaces are for others when nobody says
    Visibility {
        /// private, visible or open
        visibility: Visibility,
        /// Its name or id; the one that you work in if absent
        organization: Option<String>,
    },
    /// Make another member an owner in your stead; you are an admin then
    Transfer {
        /// Its name or id
        organization: String,
        /// The member's name, mail address or id
        member: String,
    },
    /// Leave an organization; what you made there stays yours
    Leave {
        /// Its name or id
        organization: String,
    },
    /// Delete an organization in which nothing is left
    #[command(visible_alias = "rm")]
    Delete {
        /// Its name or id
        organization: String,
    },
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::List { all } => {
            let filter = OrganizationFilter { all: all.then_some(true) };
            let list = client.list_organizations(&filter).await?;
            match output.is_json() {
                true => output.json(&list)?,
                false => output.line(table(&list.items).render(output.out))?,
            }
        }
        Command::Show { organization } => {
            let id = chosen(client, organization.as_deref()).await?;
            shown(output, &client.find_organization(id).await?)?;
        }
        Command::Create { name } => {
            shown(output, &client.create_organization(&NewOrganization { name }).await?)?;
        }
        Command::Rename { organization, name } => {
            let update = OrganizationUpdate { name: Some(name), ..OrganizationUpdate::default() };
            update_it(client, output, Some(&organization), &update).await?;
        }
        Command::Visibility { visibility, organization } => {
            let visibility = Some(visibility);
            let update = OrganizationUpdate { visibility, ..OrganizationUpdate::default() };
            update_it(client, output, organization.as_deref(), &update).await?;
        }
        Command::Transfer { organization, member } => {
            let id = named(client, &organization).await?;
            let there = client.clone().in_organization(id);
            let member: MemberId = member::named(&there, &member).await?.id;
            let owner = client.transfer_organization(id, &OrganizationTransfer { member }).await?;
            match output.is_json() {
                true => output.json(&owner)?,
                false => output.note(format!("{} is an owner now.", clean_line(&owner.name))),
            }
        }
        Command::Leave { organization } => {
            let id = named(client, &organization).await?;
            client.leave_organization(id).await?;
            match output.is_json() {
                true => output.json(&serde_json::json!({ "organization": id, "left": true }))?,
                false => output.note(format!("You left {}.", clean_line(&organization))),
            }
        }
        Command::Delete { organization } => {
            let id = named(client, &organization).await?;
            client.delete_organization(id).await?;
            match output.is_json() {
                true => output.json(&serde_json::json!({ "organization": id, "deleted": true }))?,
                false => output.note(format!("Deleted {}.", clean_line(&organization))),
            }
        }
    }
    Ok(Exit::Done)
}

async fn update_it(
    client: &Client,
    output: &Output,
    organization: Option<&str>,
    update: &OrganizationUpdate,
) -> Result<()> {
    let id = chosen(client, organization).await?;
    shown(output, &client.update_organization(id, update).await?)
}

async fn chosen(client: &Client, text: Option<&str>) -> Result<OrganizationId> {
    match text {
        Some(text) => named(client, text).await,
        None => Ok(client.whoami().await?.organization),
    }
}

/// The organization that is meant by a name or id: one of one's own, or any for who runs the server.
pub(crate) async fn named(client: &Client, text: &str) -> Result<OrganizationId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let mut all = client.list_organizations(&OrganizationFilter::default()).await?.items;
    let is_it = |one: &Organization| one.name.eq_ignore_ascii_case(text);
    if !all.iter().any(is_it) && client.whoami().await?.operator {
        all = client.list_organizations(&OrganizationFilter { all: Some(true) }).await?.items;
    }
    match all.iter().find(|one| is_it(one)) {
        Some(one) => Ok(one.id),
        None => {
            Err(Failure::not_found(format!("you are in no organization `{}`", clean_line(text)))
                .next("`boatyard organization list` shows which there are")
                .into())
        }
    }
}

fn shown(output: &Output, organization: &Organization) -> Result<()> {
    match output.is_json() {
        true => output.json(organization)?,
        false => output.line(table(std::slice::from_ref(organization)).render(output.out))?,
    }
    Ok(())
}

fn table(all: &[Organization]) -> Table {
    let mut table = Table::new(&["ID", "NAME", "YOU", "MEMBERS", "OTHERS SEE"], 1);
    for one in all {
        let sees = match one.visibility {
            Visibility::Private => "nothing",
            Visibility::Visible => "all",
            Visibility::Open => "all, and join in",
        };
        table.row(vec![
            one.id.to_string(),
            clean_line(&one.name),
            one.role.map_or("-".to_owned(), |role| role.to_string()),
            count(one.members, "member"),
            sees.to_owned(),
        ]);
    }
    table
}
