//! `boatyard person`: the accounts of the server, for those who run it.

use anyhow::Result;
use boatyard_api::{
    Client, Cursor,
    identity::{Person, PersonChange, PersonFilter},
    model::time::{Clock as _, SystemClock},
};

use super::Context;
use crate::{
    failure::{Exit, Failure},
    output::{Output, table::Table},
    text::{ago, clean_line, until},
};

/// Accounts in one page.
const PAGE: u32 = 200;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the accounts of the server
    #[command(visible_alias = "ls")]
    List,
    /// Print a link by which somebody signs in once and sets a new password
    Link {
        /// The mail address, name or id
        person: String,
    },
    /// Let somebody run the server: accounts, sign-in, jobs
    Operator {
        /// The mail address, name or id
        person: String,
        /// Take it away again
        #[arg(long)]
        revoke: bool,
    },
    /// Sign somebody out everywhere, for good; work and memberships stay
    Disable {
        /// The mail address, name or id
        person: String,
    },
    /// Let somebody sign in again
    Enable {
        /// The mail address, name or id
        person: String,
    },
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let change = |operator, disabled| PersonChange { name: None, operator, disabled };
    match command {
        Command::List => shown(output, &all(client).await?)?,
        Command::Link { person } => {
            let person = named(client, &person).await?;
            let link = client.create_person_link(person.id).await?;
            match output.is_json() {
                true => output.json(&link)?,
                false => {
                    output.line(&link.url)?;
                    output.note(format!(
                        "Give it to {} only: it signs in once, {}.",
                        clean_line(&person.name),
                        until(link.expires, SystemClock.now())
                    ));
                }
            }
        }
        Command::Operator { person, revoke } => {
            let id = named(client, &person).await?.id;
            shown(output, &[client.update_person(id, &change(Some(!revoke), None)).await?])?;
        }
        Command::Disable { person } => {
            let id = named(client, &person).await?.id;
            shown(output, &[client.update_person(id, &change(None, Some(true))).await?])?;
        }
        Command::Enable { person } => {
            let id = named(client, &person).await?.id;
            shown(output, &[client.update_person(id, &change(None, Some(false))).await?])?;
        }
    }
    Ok(Exit::Done)
}

async fn all(client: &Client) -> Result<Vec<Person>> {
    let mut all = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let page = client.list_people(&PersonFilter { limit: Some(PAGE), cursor }).await?;
        all.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

/// The account that is meant by a mail address, a name or an id.
async fn named(client: &Client, text: &str) -> Result<Person> {
    if let Ok(id) = text.parse() {
        return Ok(client.find_person(id).await?);
    }
    let mut found = all(client).await?;
    found.retain(|one| {
        one.name.eq_ignore_ascii_case(text)
            || one.email.as_ref().is_some_and(|email| email.eq_ignore_ascii_case(text))
    });
    let text = clean_line(text);
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::not_found(format!("there is no account `{text}`"))
            .next("`boatyard person list` shows who there is")
            .into()),
        n => Err(Failure::usage(format!("{n} people are called `{text}`"))
            .next("name the mail address or the id")
            .into()),
    }
}

fn shown(output: &Output, all: &[Person]) -> Result<()> {
    if output.is_json() {
        return output.json(&all);
    }
    let now = SystemClock.now();
    let mut table = Table::new(&["ID", "NAME", "MAIL", "SEEN", "STATE"], 2);
    for one in all {
        let state = match (one.disabled, one.operator, &one.email) {
            (true, ..) => "disabled",
            (false, _, None) => "not claimed",
            (false, true, Some(_)) => "operator",
            (false, false, Some(_)) => "",
        };
        table.row(vec![
            one.id.to_string(),
            clean_line(&one.name),
            one.email.as_deref().map(clean_line).unwrap_or_default(),
            one.last_seen.map(|at| ago(at, now)).unwrap_or_default(),
            state.to_owned(),
        ]);
    }
    output.line(table.render(output.out))?;
    Ok(())
}
