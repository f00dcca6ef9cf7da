//! `boatyard share`: tasks, workspaces and sessions, by a link.

use anyhow::Result;
use boatyard_api::{
    model::{
        Role, ShareId, Visibility,
        time::{Clock as _, SystemClock},
    },
    share::{CODE_PREFIX, NewShare, Share, ShareFilter, Sharing, TakeShare},
};
use boatyard_server::settings::Span;

use super::Context;
use crate::{
    failure::{Exit, Failure},
    ids,
    output::table::Table,
    text::ago,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Share a task, a workspace or a session by a link
    Create {
        /// What: the id of a task, a workspace or a session, a unique part of it, or @last
        id: String,
        /// As what: a viewer looks, a member acts
        #[arg(long, value_name = "ROLE", default_value = "viewer", value_parser = ["viewer", "member"])]
        role: String,
        /// Let people without an account look
        #[arg(long)]
        guests: bool,
        /// How long it works, such as 12h or 30days; a week if absent
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<u64>,
        /// How many may take it; as many as want if absent
        #[arg(long, value_name = "N")]
        uses: Option<u64>,
    },
    /// List shares, the newest first
    #[command(visible_alias = "ls")]
    List {
        /// Only those of this task, workspace or session
        #[arg(long, value_name = "ID")]
        of: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Show a share
    Show {
        /// The share's id, shr_…
        id: ShareId,
    },
    /// Take a share back: what it gave ends at once
    Revoke {
        /// The share's id, shr_…
        id: ShareId,
    },
    /// Take what a link gives
    Take {
        /// The link, or its code
        link: String,
    },
    /// Show or set who may see what is made from now on, where nobody says
    Default {
        /// private, visible or open
        #[arg(value_name = "WHO")]
        visibility: Option<Visibility>,
    },
}

fn seconds(text: &str) -> Result<u64, String> {
    let span = Span::parse(text).ok_or("expected a span of time such as 12h or 30days")?;
    Ok(span.seconds())
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::Create { id, role, guests, expires, uses } => {
            let role: Role = role.parse()?;
            let subject = ids::thing(client, &id).await?;
            let new = NewShare { subject, role, guests, expires_in: expires, uses };
            let share = client.create_share(&new).await?;
            if output.is_json() {
                output.json(&share)?;
                return Ok(Exit::Done);
            }
            let url = share.url.clone().unwrap_or_default();
            output.line(url)?;
            output.note("The link is shown this once.");
            output.note(format!("Take it back: boatyard share revoke {}", share.id));
        }
        Command::List { of, limit } => {
            let subject = match of {
                Some(id) => Some(ids::thing(client, &id).await?),
                None => None,
            };
            let filter = ShareFilter { subject, limit: Some(limit), cursor: None };
            let page = client.list_shares(&filter).await?;
            if output.is_json() {
                output.json(&page)?;
                return Ok(Exit::Done);
            }
            let mut table = Table::new(&["SHARE", "STATE", "ROLE", "USED", "MADE", "OF"], 5);
            let now = SystemClock.now();
            for share in &page.items {
                table.row(vec![
                    share.id.to_string(),
                    share.state.as_str().to_owned(),
                    role(share),
                    used(share),
                    ago(share.created, now),
                    share.subject.clone(),
                ]);
            }
            if table.is_empty() {
                output.note("There are no such shares.");
            } else {
                output.line(table.render(output.out))?;
            }
        }
        Command::Show { id } => show(&client.find_share(id).await?, context)?,
        Command::Revoke { id } => show(&client.revoke_share(id).await?, context)?,
        Command::Take { link } => {
            let Some(at) = link.find(CODE_PREFIX) else {
                return Err(Failure::usage("this is no link to something that is shared")
                    .next(format!("a link ends with ?code={CODE_PREFIX}…"))
                    .into());
            };
            let code = link[at..].to_owned();
            let taken = client.take_share(&TakeShare { code }).await?;
            if output.is_json() {
                output.json(&taken)?;
            } else {
                let until = taken.expires;
                output.line(format!("{}: {} until {until}", taken.subject, taken.role))?;
            }
        }
        Command::Default { visibility } => {
            let sharing = match visibility {
                Some(visibility) => client.set_sharing(&Sharing { visibility }).await?,
                None => client.find_sharing().await?,
            };
            if output.is_json() {
                output.json(&sharing)?;
            } else {
                output.line(sharing.visibility.to_string())?;
            }
        }
    }
    Ok(Exit::Done)
}

fn role(share: &Share) -> String {
    if share.guests { format!("{}, guests", share.role) } else { share.role.to_string() }
}

fn used(share: &Share) -> String {
    match share.uses {
        Some(uses) => format!("{}/{uses}", share.used),
        None => share.used.to_string(),
    }
}

fn show(share: &Share, context: &Context<'_>) -> Result<()> {
    let output = context.output;
    if output.is_json() {
        output.json(share)?;
        return Ok(());
    }
    let (id, state, role, used) = (share.id, share.state.as_str(), role(share), used(share));
    output.line(format!(
        "{id}: {state}\n  of       {}\n  role     {role}\n  used     {used}\n  made     {}\n  expires  {}",
        share.subject, share.created, share.expires
    ))?;
    Ok(())
}
