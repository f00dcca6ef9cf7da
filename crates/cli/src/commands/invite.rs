//! `boatyard invite`: invitations into the organization.

use anyhow::Result;
use boatyard_api::{
    model::{
        InvitationId, Role,
        time::{Clock as _, SystemClock},
    },
    organization::{
        INVITATION_PREFIX, Invitation, InvitationCode, InvitationFilter, InvitationState,
        NewInvitation,
    },
};

use super::{Context, connection::when};
use crate::{
    failure::{Exit, Failure},
    output::table::Table,
    text::{clean_line, until},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Create(CreateArgs),
    /// List invitations
    #[command(visible_alias = "ls")]
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Withdraw an invitation: its link ceases to work
    #[command(visible_alias = "rm")]
    Withdraw {
        /// Its id, inv_…
        id: InvitationId,
    },
    /// Use an invitation: you are a member of its organization then
    Accept {
        /// The link, or the code in it
        link: String,
    },
}

/// Invite somebody into the organization
///
/// Prints a link, once; who opens it signs up or in, and is a member. With --email nobody with
/// another address can use it, and it goes out by mail where the server can send mail.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// What who comes by it may do: viewer, member, admin or owner
    #[arg(default_value = "member")]
    role: Role,
    /// The only mail address that it is for
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// How often it may be used [default: 1]
    #[arg(long, value_name = "N")]
    uses: Option<u32>,
    /// Until when it is good: 7d, 12h, or a time as 2027-01-31T00:00:00Z [default: 7d]
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Don't send it by mail
    #[arg(long, conflicts_with = "mail")]
    no_mail: bool,
    /// Send it by mail, or fail
    #[arg(long, requires = "email")]
    mail: bool,
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::Create(args) => return create(args, context).await,
        Command::List { limit } => {
            let filter = InvitationFilter { limit: Some(limit), cursor: None };
            let page = client.list_invitations(&filter).await?;
            if output.is_json() {
                output.json(&page)?;
            } else if page.items.is_empty() {
                output.note("There are no invitations. Give one by `boatyard invite create`.");
            } else {
                output.line(table(&page.items).render(output.out))?;
            }
        }
        Command::Withdraw { id } => {
            client.withdraw_invitation(id).await?;
            match output.is_json() {
                true => output.json(&serde_json::json!({ "invitation": id, "withdrawn": true }))?,
                false => output.note(format!("Withdrew {id}; its link works no more.")),
            }
        }
        Command::Accept { link } => {
            let joined = client.accept_invitation(&InvitationCode { code: code(&link)? }).await?;
            match output.is_json() {
                true => output.json(&joined)?,
                false => output.note(format!(
                    "You are in {} now, as {}.",
                    clean_line(&joined.organization_name),
                    joined.role
                )),
            }
        }
    }
    Ok(Exit::Done)
}

async fn create(args: CreateArgs, context: &Context<'_>) -> Result<Exit> {
    let output = context.output;
    let expires = args.expires.as_deref().map(when).transpose()?;
    let expires_in = expires.map(|at| at.since(SystemClock.now()).as_secs());
    let mail = match (args.mail, args.no_mail) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let new =
        NewInvitation { role: args.role, email: args.email, uses: args.uses, expires_in, mail };
    let invited = context.client.create_invitation(&new).await?;
    if output.is_json() {
        output.json(&invited)?;
        return Ok(Exit::Done);
    }
    let one = &invited.invitation;
    if let Some(why) = &invited.mail_failed {
        output.warning(format!("It was not sent by mail: {}", clean_line(why)));
    } else if one.mailed.is_some() {
        output.note(format!("Sent to {}.", clean_line(one.email.as_deref().unwrap_or_default())));
    }
    output.note(format!(
        "Invites {} as {}, until {}.{}",
        match &one.email {
            Some(email) => clean_line(email),
            None if one.uses == 1 => "one person".to_owned(),
            None => format!("{} people", one.uses),
        },
        one.role,
        one.expires,
        if invited.url.is_some() { " The link, which is shown once:" } else { "" },
    ));
    if let Some(url) = &invited.url {
        // Alone on standard output, for those who put it elsewhere at once.
        output.line(url)?;
    }
    Ok(Exit::Done)
}

/// The code in a link, or the code itself.
fn code(link: &str) -> Result<String> {
    let found = link.trim();
    let found = match url::Url::parse(found) {
        Ok(url) => {
            let mut pairs = url.query_pairs();
            pairs.find(|(key, _)| key == "code").map(|(_, code)| code.into_owned())
        }
        Err(_) => Some(found.to_owned()),
    };
    found.filter(|code| code.starts_with(INVITATION_PREFIX)).ok_or_else(|| {
        Failure::usage("that is no link of an invitation")
            .next("copy the whole link, as https://boatyard.example/invite?code=join_…")
            .into()
    })
}

fn table(all: &[Invitation]) -> Table {
    let now = SystemClock.now();
    let mut table = Table::new(&["ID", "ROLE", "FOR", "USED", "STATE"], 2);
    for one in all {
        let state = match one.state {
            InvitationState::Open => until(one.expires, now),
            over => over.as_str().to_owned(),
        };
        table.row(vec![
            one.id.to_string(),
            one.role.to_string(),
            one.email.as_deref().map_or_else(|| "anybody".to_owned(), clean_line),
            format!("{}/{}", one.used, one.uses),
            state,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_or_its_code_will_do() {
        for text in [
            "join_ab12",
            " https://b.example/invite?code=join_ab12 ",
            "http://[::1]:7070/invite?x=1&code=join_ab12",
        ] {
            assert_eq!(code(text).unwrap(), "join_ab12", "{text}");
        }
        for text in ["", "https://b.example/invite", "by_ab12", "https://b.example/?code=once_1"] {
            assert!(code(text).is_err(), "{text}");
        }
    }
}
