//! `boatyard repository access`: who may do what in one repository.

use anyhow::Result;
use boatyard_api::{
    model::RepositoryRole,
    organization::{RepositoryAccess, RepositoryMember},
};

use super::{Context, member};
use crate::{
    failure::{Exit, Failure},
    ids,
    output::table::Table,
    text::clean_line,
};

/// Say who may do less in a repository than in the organization, or show it
///
/// A role is none (the repository does not exist for them), viewer, or member (as in the
/// organization). Admins and owners may do all. What is said takes the place of what was said.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder here, the repository's address or its id
    repository: String,
    /// What everybody may do who is not named: none, viewer or member
    #[arg(long, value_name = "ROLE")]
    everybody: Option<RepositoryRole>,
    /// What one member may do, as ada=viewer; may be repeated
    #[arg(long = "member", value_name = "MEMBER=ROLE")]
    members: Vec<String>,
    /// Let everybody do what they may in the organization
    #[arg(long, conflicts_with_all = ["everybody", "members"])]
    open: bool,
}

pub(crate) async fn run(args: Args, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let id = ids::repository(client, &args.repository).await?;
    let access = if args.open || args.everybody.is_some() || !args.members.is_empty() {
        let mut access = RepositoryAccess { everybody: args.everybody, members: Vec::new() };
        for text in &args.members {
            let (who, role) = split(text)?;
            let member = member::named(client, who).await?.id;
            access.members.push(RepositoryMember { member, role, name: None });
        }
        client.set_repository_access(id, &access).await?
    } else {
        client.repository_access(id).await?
    };
    if output.is_json() {
        output.json(&access)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["WHO", "MAY"], 0);
    for one in &access.members {
        let name = one.name.as_deref().map_or_else(|| one.member.to_string(), clean_line);
        table.row(vec![name, one.role.to_string()]);
    }
    let everybody = access.everybody.map(|role| role.to_string());
    let everybody = everybody.unwrap_or_else(|| "as in the organization".to_owned());
    let who = if access.members.is_empty() { "everybody" } else { "everybody else" };
    table.row(vec![who.to_owned(), everybody]);
    output.line(table.render(output.out))?;
    Ok(Exit::Done)
}

/// `ada=viewer`.
fn split(text: &str) -> Result<(&str, RepositoryRole)> {
    let wrong = || {
        Failure::usage(format!("`{}` is no member and role", clean_line(text)))
            .next("write it as NAME=ROLE, with the role none, viewer or member")
    };
    let (who, role) = text.rsplit_once('=').ok_or_else(wrong)?;
    Ok((who, role.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_may_hold_the_sign_that_parts() {
        assert_eq!(split("a=b=none").unwrap(), ("a=b", RepositoryRole::None));
        assert!(split("ada").is_err() && split("ada=owner").is_err());
    }
}
