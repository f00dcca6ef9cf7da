//! `boatyard key`: API keys, and what was called with them.

use anyhow::Result;
use boatyard_api::{
    key::{ApiKey, ApiKeyFilter, KeyCallFilter, KeysOf, NewApiKey},
    model::{
        KeyId, Role, Scope, Scopes, Timestamp,
        time::{Clock as _, SystemClock},
    },
};

use super::{Context, connection::when};
use crate::{
    failure::{Exit, Failure},
    output::{Output, table::Table},
    text::{ago, clean_line, count, until},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List keys
    #[command(visible_alias = "ls")]
    List {
        /// Everybody's in the organization, and the organization's own
        #[arg(long)]
        everybody: bool,
        /// Also those that don't work any more
        #[arg(long)]
        all: bool,
    },
    Create(CreateArgs),
    /// Show a key: what it may be used for, and when it was used last
    Show {
        /// Its id, its name, or what its secret begins with
        key: String,
    },
    /// Revoke a key: it works no more, at once and for good
    #[command(visible_alias = "rm")]
    Revoke {
        /// Its id, its name, or what its secret begins with
        key: String,
    },
    /// Show what was called with a key, the newest first
    Calls {
        /// Its id, its name, or what its secret begins with
        key: String,
        /// Only what was refused or failed
        #[arg(long)]
        failed: bool,
        /// How many, 200 at most
        #[arg(short = 'n', long, default_value_t = 50)]
        limit: u32,
    },
    /// List what keys can be for
    Scopes,
}

/// Make a key; its secret is printed once, and can't be shown again
///
/// A key does what you may do and no more, and of that only what it is for. `boatyard key scopes`
/// lists what a key can be for.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// What it is for
    name: String,
    /// What it may be used for; may be repeated [default: all that you may do]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// When it ceases to work: 90d, 12h, or a time as 2027-01-31T00:00:00Z [default: never]
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Make it the organization's own, with this role: viewer, member or admin
    #[arg(long, value_name = "ROLE")]
    service: Option<Role>,
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::List { everybody, all } => {
            let of = if everybody { KeysOf::Organization } else { KeysOf::Own };
            list(ApiKeyFilter { of, all }, context).await?;
        }
        Command::Create(args) => create(args, context).await?,
        Command::Show { key } => {
            let key = client.find_key(id(context, &key).await?).await?;
            match output.is_json() {
                true => output.json(&key)?,
                false => show(output, &key)?,
            }
        }
        Command::Revoke { key } => {
            let id = id(context, &key).await?;
            client.revoke_key(id).await?;
            match output.is_json() {
                true => output.json(&serde_json::json!({ "key": id, "revoked": true }))?,
                false => output.note(format!("Revoked {}; it works no more.", clean_line(&key))),
            }
        }
        Command::Calls { key, failed, limit } => {
            let filter = KeyCallFilter { failed, limit: Some(limit), cursor: None };
            calls(id(context, &key).await?, &filter, context).await?;
        }
        Command::Scopes => scopes(output)?,
    }
    Ok(Exit::Done)
}

async fn create(args: CreateArgs, context: &Context<'_>) -> Result<()> {
    let output = context.output;
    let expires = args.expires.as_deref().map(when).transpose()?;
    let scopes = (!args.scopes.is_empty()).then(|| args.scopes.into_iter().collect::<Scopes>());
    let new = NewApiKey { name: args.name, scopes, expires, service: args.service };
    let made = context.client.create_key(&new).await?;
    if output.is_json() {
        return output.json(&made);
    }
    output.note(format!(
        "Made {} ({}), for {}{}. Its secret, which is shown once:",
        clean_line(&made.key.name),
        made.key.id,
        purpose(made.key.scopes),
        ending(&made.key),
    ));
    // Alone on standard output, for those who put it elsewhere at once.
    output.line(&made.secret)?;
    Ok(())
}

async fn list(filter: ApiKeyFilter, context: &Context<'_>) -> Result<()> {
    let output = context.output;
    let keys = context.client.list_keys(&filter).await?;
    if output.is_json() {
        return output.json(&keys);
    }
    let now = SystemClock.now();
    let mut table =
        Table::new(&["ID", "NAME", "KIND", "BEGINS", "WHOSE", "FOR", "USED", "STATE"], 5);
    for key in &keys.items {
        table.row(vec![
            key.id.to_string(),
            clean_line(&key.name),
            key.kind.to_string(),
            clean_line(&key.prefix),
            clean_line(&key.member_name),
            purpose(key.scopes),
            key.last_used.map(|time| ago(time, now)).unwrap_or_else(|| "never".to_owned()),
            state(output, key, now),
        ]);
    }
    if table.is_empty() {
        output.note("There are no keys; `boatyard key create NAME` makes one.");
    } else {
        output.line(table.render(output.out))?;
    }
    Ok(())
}

async fn calls(id: KeyId, filter: &KeyCallFilter, context: &Context<'_>) -> Result<()> {
    let output = context.output;
    let page = context.client.list_key_calls(id, filter).await?;
    if output.is_json() {
        return output.json(&page);
    }
    let now = SystemClock.now();
    let mut table = Table::new(&["WHEN", "STATUS", "METHOD", "PATH", "CALLS", "MS", "FROM"], 3);
    for call in &page.items {
        let status = call.status.to_string();
        table.row(vec![
            ago(call.time, now),
            if call.status < 400 { status } else { output.out.bad(status) },
            clean_line(&call.method),
            clean_line(&call.path),
            call.calls.to_string(),
            format!("{:.1}", call.micros as f64 / 1000.0),
            call.address.as_deref().map(clean_line).unwrap_or_default(),
        ]);
    }
    if table.is_empty() {
        output.note("Nothing was called with it yet.");
    } else {
        output.line(table.render(output.out))?;
    }
    if page.next_cursor.is_some() {
        output.note("There are more; --limit shows them.");
    }
    Ok(())
}

fn scopes(output: &Output) -> Result<()> {
    if output.is_json() {
        return output.json(&Scope::ALL);
    }
    for scope in Scope::ALL {
        output.line(scope.as_str())?;
    }
    Ok(())
}

fn show(output: &Output, key: &ApiKey) -> Result<()> {
    let now = SystemClock.now();
    let mut table = Table::new(&["", ""], 1);
    let mut row = |what: &str, text: String| {
        if !text.is_empty() {
            table.row(vec![what.to_owned(), text]);
        }
    };
    row("id", key.id.to_string());
    row("name", clean_line(&key.name));
    row("kind", key.kind.to_string());
    row("begins with", clean_line(&key.prefix));
    row("speaks for", clean_line(&key.member_name));
    row("role", key.role.map(|role| role.to_string()).unwrap_or_default());
    row("may be used for", purpose(key.scopes));
    row("state", state(output, key, now));
    row("made", ago(key.created, now));
    row("ends", key.expires.map(|at| until(at, now)).unwrap_or_default());
    row("used", key.last_used.map_or_else(|| "never".to_owned(), |time| ago(time, now)));
    row("from", key.last_address.as_deref().map(clean_line).unwrap_or_default());
    output.line(table.render(output.out))?;
    Ok(())
}

fn purpose(scopes: Scopes) -> String {
    match scopes {
        Scopes::ALL => "everything".to_owned(),
        scopes => scopes.to_string(),
    }
}

fn ending(key: &ApiKey) -> String {
    key.expires.map(|at| format!(", until {at}")).unwrap_or_default()
}

fn state(output: &Output, key: &ApiKey, now: Timestamp) -> String {
    if key.revoked.is_some() {
        output.out.bad("revoked")
    } else if key.expires.is_some_and(|at| at <= now) {
        output.out.bad("expired")
    } else if key.role.is_none() {
        output.out.bad("its member is gone")
    } else if key.current {
        output.out.good("works, in use here")
    } else {
        output.out.good("works")
    }
}

/// The key of this id, name, or beginning of its secret.
async fn id(context: &Context<'_>, text: &str) -> Result<KeyId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let client = &context.client;
    let mut list = client.list_keys(&ApiKeyFilter::default()).await?.items;
    // Admins may mean somebody else's.
    let all = ApiKeyFilter { of: KeysOf::Organization, all: false };
    match client.list_keys(&all).await {
        Ok(all) => list = all.items,
        Err(error) if error.problem().is_some_and(|problem| problem.status == 403) => {}
        Err(error) => return Err(error.into()),
    }
    let found: Vec<&ApiKey> =
        list.iter().filter(|key| key.name == text || key.prefix == text).collect();
    match &found[..] {
        [one] => Ok(one.id),
        [] => Err(Failure::not_found(format!("there is no key `{}`", clean_line(text)))
            .next("`boatyard key list` shows those that there are")
            .into()),
        several => {
            let ids: Vec<String> = several.iter().map(|key| key.id.to_string()).collect();
            let many = count(several.len() as u64, "key");
            Err(Failure::usage(format!("`{}` is what {many} are called", clean_line(text)))
                .next(format!("name one by its id: {}", ids.join(", ")))
                .into())
        }
    }
}
