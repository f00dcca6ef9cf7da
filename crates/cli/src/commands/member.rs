//! `boatyard member`: who is in the organization, and what each may do.

use anyhow::Result;
use boatyard_api::{
    Client, Cursor,
    model::{
        Role,
        time::{Clock as _, SystemClock},
    },
    organization::{Member, MemberFilter, MemberRemoval, MemberUpdate, Transferred, WorkTransfer},
};

use super::Context;
use crate::{
    failure::{Exit, Failure},
    output::{Output, table::Table},
    text::{ago, clean_line, count},
};

/// Members in one page.
const PAGE: u32 = 200;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List who is in the organization
    #[command(visible_alias = "ls")]
    List {
        /// Those who were removed, too
        #[arg(long)]
        removed: bool,
    },
    /// Show a member
    Show {
        /// The name, mail address or id
        member: String,
    },
    /// Give a member another role: viewer, member, admin or owner
    Role {
        /// The name, mail address or id
        member: String,
        /// What the member may do from now on
        role: Role,
    },
    /// Remove a member: keys and browsers cease to work at once, the work stays
    #[command(visible_alias = "rm")]
    Remove {
        /// The name, mail address or id
        member: String,
        /// Give tasks, sessions and workspaces to this member
        #[arg(long, value_name = "MEMBER")]
        heir: Option<String>,
    },
    /// Give what a member works on to another: tasks, sessions, workspaces
    Transfer {
        /// Whose: a name, mail address or id, also of one who was removed
        from: String,
        /// Who gets it
        to: String,
    },
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::List { removed } => {
            let all = all(client, removed).await?;
            match output.is_json() {
                true => output.json(&all)?,
                false => output.line(table(&all).render(output.out))?,
            }
        }
        Command::Show { member } => shown(output, &named(client, &member).await?)?,
        Command::Role { member, role } => {
            let id = named(client, &member).await?.id;
            shown(output, &client.update_member(id, &MemberUpdate { role }).await?)?;
        }
        Command::Remove { member, heir } => {
            let member = named(client, &member).await?;
            let heir = match heir {
                Some(heir) => Some(named(client, &heir).await?.id),
                None => None,
            };
            let moved = client.remove_member(member.id, &MemberRemoval { heir }).await?;
            match output.is_json() {
                true => output.json(&moved)?,
                false => {
                    output.note(format!("Removed {}.", clean_line(&member.name)));
                    if heir.is_some() {
                        told(output, moved);
                    }
                }
            }
        }
        Command::Transfer { from, to } => {
            let (from, to) = (named(client, &from).await?.id, named(client, &to).await?.id);
            let moved = client.transfer_work(from, &WorkTransfer { to }).await?;
            match output.is_json() {
                true => output.json(&moved)?,
                false => told(output, moved),
            }
        }
    }
    Ok(Exit::Done)
}

fn told(output: &Output, moved: Transferred) {
    output.note(format!(
        "Gave {}, {} and {}.",
        count(moved.tasks, "task"),
        count(moved.sessions, "session"),
        count(moved.workspaces, "workspace")
    ));
}

async fn all(client: &Client, removed: bool) -> Result<Vec<Member>> {
    let mut all = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let filter = MemberFilter { removed: removed.then_some(true), limit: Some(PAGE), cursor };
        let page = client.list_members(&filter).await?;
        all.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

/// The member that is meant by a name, a mail address or an id.
pub(crate) async fn named(client: &Client, text: &str) -> Result<Member> {
    if let Ok(id) = text.parse() {
        return Ok(client.find_member(id).await?);
    }
    let mut found = all(client, true).await?;
    found.retain(|one| {
        one.name.eq_ignore_ascii_case(text)
            || one.email.as_ref().is_some_and(|email| email.eq_ignore_ascii_case(text))
    });
    // One who is there is meant before one who was.
    if found.iter().any(|one| one.removed.is_none()) {
        found.retain(|one| one.removed.is_none());
    }
    let text = clean_line(text);
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::not_found(format!("there is no member `{text}`"))
            .next("`boatyard member list` shows who there is")
            .into()),
        n => Err(Failure::usage(format!("{n} members are called `{text}`"))
            .next("name the mail address or the id")
            .into()),
    }
}

fn shown(output: &Output, member: &Member) -> Result<()> {
    match output.is_json() {
        true => output.json(member)?,
        false => output.line(table(std::slice::from_ref(member)).render(output.out))?,
    }
    Ok(())
}

fn table(all: &[Member]) -> Table {
    let now = SystemClock.now();
    let mut table = Table::new(&["ID", "NAME", "MAIL", "ROLE", "SEEN", "STATE"], 2);
    for one in all {
        let state = match (one.removed, one.disabled, one.you) {
            (Some(at), ..) => format!("removed {}", ago(at, now)),
            (None, true, _) => "disabled".to_owned(),
            (None, false, true) => "you".to_owned(),
            (None, false, false) => String::new(),
        };
        table.row(vec![
            one.id.to_string(),
            clean_line(&one.name),
            one.email.as_deref().map(clean_line).unwrap_or_default(),
            one.role.to_string(),
            one.last_seen.map(|at| ago(at, now)).unwrap_or_default(),
            state,
        ]);
    }
    table
}
