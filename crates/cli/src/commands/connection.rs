//! `boatyard connection`: credentials for outside services, which workspaces use without having them.
//!
//! A value is typed, piped in, or read from a file. It is never an argument, which other programs of
//! the machine could see and shells remember, and it can't be read again.

use std::path::PathBuf;

use anyhow::Result;
use boatyard_api::{
    connection::{
        Connection, ConnectionBinding, ConnectionScope, ConnectionState, NewConnection, Rekey,
        RotateConnection,
    },
    model::{
        ConnectionId, PortRange, Timestamp,
        time::{Clock as _, SystemClock},
    },
};

use super::Context;
use crate::{
    failure::{Exit, Failure},
    output::{Output, table::Table},
    text::{ago, clean_line, count},
};

mod value;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Add(Box<AddArgs>),
    /// List the credentials that the server has
    #[command(visible_alias = "ls")]
    List,
    /// Show where a credential goes, and by which variables workspaces see its placeholder
    Show {
        /// Its name or id
        connection: String,
    },
    Rotate(RotateArgs),
    /// Remove a credential: its value is gone at once
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name or id
        connection: String,
    },
    /// Look whether a credential works, and ask its service where Boatyard knows how
    Check {
        /// Its name or id
        connection: String,
    },
    Rekey(RekeyArgs),
}

/// Store a credential, and bind it to where it may go
///
/// The value is read from standard input, or from --value-file. Workspaces get a placeholder in the
/// variables that are named; Boatyard puts the value into requests to the hosts that it is bound to,
/// and nowhere else.
///
/// Kinds: github, gitlab, npm, pypi, cargo, docker, openai, model, git, generic. A kind knows hosts,
/// places and variables; what is named here takes their place.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// The kind
    kind: String,
    /// What to call it; the kind if absent
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Read the value from this file instead of standard input
    #[arg(long, value_name = "FILE")]
    value_file: Option<PathBuf>,
    /// A host that it is for, as api.example.com or *.example.com
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// A port there [default: 443]
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<PortRange>,
    /// A method, as GET [default: all]
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    /// A path, which may end in * [default: all]
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// Where in a request: bearer, header:NAME, "header:NAME=token {}", basic, basic:USER,
    /// query:NAME, body
    #[arg(long = "place", value_name = "PLACE")]
    places: Vec<String>,
    /// A variable by which workspaces see its placeholder
    #[arg(long = "env", value_name = "VARIABLE")]
    variables: Vec<String>,
    /// The user name that goes with a password
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// For your own workspaces alone, before the organization's; nobody else sees it
    #[arg(long)]
    mine: bool,
    /// With --mine and the kind model: the provider that you pay yourself by it, as anthropic
    #[arg(long, value_name = "NAME", requires = "mine")]
    provider: Option<String>,
    /// Put it also into requests that bring neither placeholder nor credential
    #[arg(long)]
    always: bool,
    /// Let it go by plain HTTP, which everybody on the way reads
    #[arg(long)]
    plain_http: bool,
    /// When it ceases to work: 90d, 12h, or a time as 2027-01-31T00:00:00Z
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// What somebody may take for the value's place
    #[arg(hide = true)]
    rest: Vec<String>,
}

/// Give a credential another value
///
/// Placeholders stay as they are: agents at work go on with the new value at their next request.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    /// Its name or id
    connection: String,
    /// Read the value from this file instead of standard input
    #[arg(long, value_name = "FILE")]
    value_file: Option<PathBuf>,
    /// When it ceases to work: 90d, 12h, or a time as 2027-01-31T00:00:00Z
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// What somebody may take for the value's place
    #[arg(hide = true)]
    rest: Vec<String>,
}

/// Change the keys that seal values, while everything goes on
///
/// Without an option, the key that seals values is changed, and every value sealed anew.
#[derive(Debug, clap::Args)]
pub(crate) struct RekeyArgs {
    /// Change the key that seals values
    #[arg(long)]
    values: bool,
    /// Change the master key: to a new one where Boatyard made it, else to the first one in the file
    /// or command that the settings name
    #[arg(long)]
    master: bool,
    /// The master key is lost: begin anew, without the values that it opened
    #[arg(long, conflicts_with_all = ["values", "master"])]
    forget: bool,
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::Add(args) => return add(*args, context).await,
        Command::List => return list(context).await,
        Command::Show { connection } => {
            let found = client.find_connection(id(context, &connection).await?).await?;
            match output.is_json() {
                true => output.json(&found)?,
                false => show(output, &found)?,
            }
        }
        Command::Rotate(args) => return rotate(args, context).await,
        Command::Remove { connection } => {
            let id = id(context, &connection).await?;
            client.remove_connection(id).await?;
            match output.is_json() {
                true => output.json(&serde_json::json!({ "connection": id, "removed": true }))?,
                false => output.note(format!("Removed {connection}; its value is gone.")),
            }
        }
        Command::Check { connection } => {
            let check = client.check_connection(id(context, &connection).await?).await?;
            if output.is_json() {
                output.json(&check)?;
            } else {
                for finding in &check.findings {
                    output.line(clean_line(finding))?;
                }
            }
            return Ok(if check.good { Exit::Done } else { Exit::Failed });
        }
        Command::Rekey(args) => return rekey(args, context).await,
    }
    Ok(Exit::Done)
}

async fn add(args: AddArgs, context: &Context<'_>) -> Result<Exit> {
    let output = context.output;
    value::no_argument(&args.rest)?;
    let expires = args.expires.as_deref().map(when).transpose()?;
    let new = NewConnection {
        name: args.name,
        kind: args.kind,
        value: value::read(args.value_file.as_deref())?,
        binding: ConnectionBinding {
            hosts: args.hosts,
            ports: args.ports,
            methods: args.methods,
            paths: args.paths,
            places: args.places,
            variables: args.variables,
            always: args.always,
            plain_http: args.plain_http,
        },
        user: args.user,
        scope: match args.mine {
            true => ConnectionScope::Person,
            false => ConnectionScope::Organization,
        },
        provider: args.provider,
        expires,
    };
    let made = context.client.create_connection(&new).await?;
    if output.is_json() {
        output.json(&made)?;
        return Ok(Exit::Done);
    }
    output.line(format!("Added {}.", clean_line(&made.name)))?;
    show(output, &made)?;
    Ok(Exit::Done)
}

async fn rotate(args: RotateArgs, context: &Context<'_>) -> Result<Exit> {
    value::no_argument(&args.rest)?;
    let id = id(context, &args.connection).await?;
    let expires = args.expires.as_deref().map(when).transpose()?;
    let request = RotateConnection { value: value::read(args.value_file.as_deref())?, expires };
    let made = context.client.rotate_connection(id, &request).await?;
    match context.output.is_json() {
        true => context.output.json(&made)?,
        false => context.output.note(format!("{} has its new value.", clean_line(&made.name))),
    }
    Ok(Exit::Done)
}

async fn rekey(args: RekeyArgs, context: &Context<'_>) -> Result<Exit> {
    let data = args.values || !(args.master || args.forget);
    let request = Rekey { data, master: args.master, forget: args.forget };
    let done = context.client.rekey(&request).await?;
    if context.output.is_json() {
        context.output.json(&done)?;
        return Ok(Exit::Done);
    }
    if data {
        let sealed = count(done.sealed, "value");
        context.output.line(format!("A new key seals values; {sealed} sealed anew."))?;
    }
    if let Some(master) = &done.master {
        context.output.line(format!("The master key is {} now.", clean_line(master)))?;
    }
    if args.forget {
        context.output.line("The vault begins anew; values that it held are lost.")?;
    }
    Ok(Exit::Done)
}

async fn list(context: &Context<'_>) -> Result<Exit> {
    let output = context.output;
    let connections = context.client.list_connections().await?;
    if output.is_json() {
        output.json(&connections)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["NAME", "KIND", "STATE", "HOSTS", "VARIABLES", "USED"], 3);
    let now = SystemClock.now();
    for item in &connections.items {
        table.row(vec![
            clean_line(&item.name),
            clean_line(&item.kind),
            state(output, item),
            clean_line(&item.binding.hosts.join(", ")),
            clean_line(&item.binding.variables.join(", ")),
            item.last_used.map(|time| ago(time, now)).unwrap_or_default(),
        ]);
    }
    if table.is_empty() {
        output.note("There are no connections yet; `boatyard connection add KIND` adds one.");
    } else {
        output.line(table.render(output.out))?;
    }
    Ok(Exit::Done)
}

fn state(output: &Output, connection: &Connection) -> String {
    match connection.state {
        ConnectionState::Active if connection.warnings.is_empty() => output.out.good("active"),
        ConnectionState::Active => output.out.warn("active, see show"),
        other => output.out.bad(other.as_str()),
    }
}

fn show(output: &Output, item: &Connection) -> Result<()> {
    let now = SystemClock.now();
    let binding = &item.binding;
    let or_all = |list: &[String]| match list {
        [] => "all".to_owned(),
        list => clean_line(&list.join(", ")),
    };
    let ports: Vec<String> = binding.ports.iter().map(ToString::to_string).collect();
    let mut table = Table::new(&["", ""], 1);
    let mut row = |what: &str, text: String| {
        if !text.is_empty() {
            table.row(vec![what.to_owned(), text]);
        }
    };
    row("id", item.id.to_string());
    row("kind", clean_line(&item.kind));
    if item.scope == ConnectionScope::Person {
        row("whose", "yours alone".to_owned());
    }
    row("pays for", clean_line(item.provider.as_deref().unwrap_or_default()));
    row("state", state(output, item));
    row("hosts", clean_line(&binding.hosts.join(", ")));
    if !binding.hosts.is_empty() {
        row("ports", if ports.is_empty() { "443".to_owned() } else { ports.join(", ") });
        row("methods", or_all(&binding.methods));
        row("paths", or_all(&binding.paths));
        row("places", clean_line(&binding.places.join(", ")));
    }
    row("variables", clean_line(&binding.variables.join(", ")));
    if binding.always {
        row("always", "also where a request brings no credential".to_owned());
    }
    if binding.plain_http {
        row("plain HTTP", "allowed".to_owned());
    }
    row("value given", ago(item.rotated, now));
    row("expires", item.expires.map(|time| time.to_string()).unwrap_or_default());
    row("used", item.last_used.map(|time| ago(time, now)).unwrap_or_default());
    output.line(table.render(output.out))?;
    for warning in &item.warnings {
        output.warning(clean_line(warning));
    }
    Ok(())
}

/// The connection of this name or id.
async fn id(context: &Context<'_>, text: &str) -> Result<ConnectionId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let list = context.client.list_connections().await?;
    let found = list.items.iter().find(|item| item.name == text);
    found.map(|item| item.id).ok_or_else(|| {
        let known: Vec<&str> = list.items.iter().map(|item| item.name.as_str()).collect();
        let next = match &known[..] {
            [] => "there are none yet; `boatyard connection add KIND` adds one".to_owned(),
            known => format!("there is {}", clean_line(&known.join(", "))),
        };
        Failure::not_found(format!("there is no connection `{}`", clean_line(text)))
            .next(next)
            .into()
    })
}

/// A time that is named, or so long from now.
pub(super) fn when(text: &str) -> Result<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(time.as_millisecond()));
    }
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(0));
    let hours = match unit {
        "h" => Some(1),
        "d" => Some(24),
        "w" => Some(7 * 24),
        _ => None,
    };
    let millis = number.parse::<i64>().ok().zip(hours);
    let millis = millis.and_then(|(n, hours)| n.checked_mul(hours * 3_600_000));
    let time = millis.and_then(|millis| SystemClock.now().0.checked_add(millis));
    time.map(Timestamp).ok_or_else(|| {
        Failure::usage(format!("`{}` is no time", clean_line(text)))
            .next("write 12h, 90d, 8w, or a time as 2027-01-31T00:00:00Z")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_named_or_counted_from_now() {
        assert_eq!(when("2027-01-31T00:00:00Z").unwrap().0, 1_801_353_600_000);
        let day = when("2d").unwrap().0 - SystemClock.now().0;
        assert!((172_700_000..=172_800_000).contains(&day), "{day}");
        for bad in ["", "d", "2", "2y", "tomorrow", "99999999999999999d"] {
            assert!(when(bad).is_err(), "{bad}");
        }
    }
}
