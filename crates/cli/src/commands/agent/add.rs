//! `boatyard agent add`: an agent from a file, from the public registry's description, or from what
//! is typed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use boatyard_api::{
    agent::{Agent, AgentEntry, AgentOrigin},
    model::name::AgentName,
};
use serde_json::{Map, Value, json};

use super::{
    super::Context,
    registry::{self, ChosenBy},
};
use crate::{
    failure::{Exit, Failure},
    text::clean_line,
};

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 8 << 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    boatyard agent add mine --command \"my-agent --acp\" --provider openai\n  \
    boatyard agent add cursor --from-host cursor-agent --command \"cursor-agent acp\"\n  \
    boatyard agent add --file agents.toml\n  \
    boatyard agent add --file registry.json goose\n\n\
    A file is TOML as in boatyard.toml ([agents.NAME] tables, or one bare entry for the NAME that \
    is given), or JSON as the public registry of ACP agents has it.")]
pub(crate) struct Args {
    /// The agent's name; with a file of several, those to add (all by default)
    #[arg(value_name = "NAME", required_unless_present = "file")]
    names: Vec<AgentName>,
    /// Read entries from this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["command", "npm", "pypi", "from_host"])]
    file: Option<PathBuf>,
    /// The command that starts it, as a shell would split it; may hold {package}, {node}, {provider},
    /// {model}, {home}, with --protocol text {prompt}
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// How it is spoken to: acp or text
    #[arg(long, value_name = "PROTOCOL", default_value = "acp", value_parser = ["acp", "text"])]
    protocol: String,
    /// Whose models it uses: anthropic, openai, gemini, or one of [providers.NAME]
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<String>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// A variable of its environment; visible in workspaces, so no secret
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// It is a program of this machine: its name on the PATH of workspaces, or its path
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["npm", "pypi"])]
    from_host: Option<String>,
    /// Install this package of npm; several are installed together, the first is the agent
    #[arg(long, value_name = "NAME@VERSION", conflicts_with = "pypi")]
    npm: Vec<String>,
    /// Install this package of PyPI
    #[arg(long, value_name = "NAME@VERSION")]
    pypi: Vec<String>,
    /// The program that the packages bring, below the folder they are installed in
    #[arg(long, value_name = "PATH")]
    bin: Option<String>,
    /// Arguments with which it tells its version, once it is installed
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    check: Option<String>,
    /// What it must print then
    #[arg(long, value_name = "TEXT", requires = "check")]
    prints: Option<String>,
    /// The major version of Node that it needs
    #[arg(long, value_name = "VERSION", requires = "npm")]
    node: Option<String>,
}

pub(super) async fn run(args: Args, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let registry::Read { mut entries, left_out, chosen_by } = match &args.file {
        Some(file) => of_file(file, &args.names)?,
        None => registry::Read { entries: typed(&args)?, ..registry::Read::default() },
    };
    let mut known = Vec::new();
    if chosen_by == ChosenBy::Index {
        // What Boatyard or the operator describes is not replaced by what somebody calls the same.
        let all = client.list_agents().await.context("the known agents can't be listed")?;
        let is_given = |name: &AgentName| {
            all.items
                .iter()
                .any(|one| one.name == name.as_str() && one.origin != AgentOrigin::Added)
        };
        let (given, new) = entries.into_iter().partition(|(name, _)| is_given(name));
        (known, entries) = (given, new);
    }
    let mut added: Vec<Agent> = Vec::new();
    for (name, entry) in entries {
        let agent = client.put_agent(&name, &AgentEntry(entry)).await;
        added.push(agent.with_context(|| format!("agent {name} was not added"))?);
    }
    if output.is_json() {
        output.json(&json!({ "items": added }))?;
        return Ok(Exit::Done);
    }
    for agent in &added {
        output.note(format!("Added {}.", agent.name));
        match (agent.ready, &agent.mend) {
            (false, Some(mend)) => output.note(format!("  next: {}", clean_line(mend))),
            (true, _) if agent.protocol == "acp" => {
                output
                    .note(format!("  next: `boatyard agent check {}` starts it once", agent.name));
            }
            _ => {}
        }
    }
    if !known.is_empty() {
        let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
        output.warning(format!(
            "left out, for there are agents of these names: {}. Name one to replace it.",
            names.join(", ")
        ));
    }
    if !left_out.is_empty() {
        let names: Vec<&str> = left_out.iter().map(AgentName::as_str).collect();
        output.warning(format!(
            "left out, for they come as an archive only: {}. Name one to be told how it is used.",
            names.join(", ")
        ));
    }
    Ok(Exit::Done)
}

/// The one entry that the arguments describe.
fn typed(args: &Args) -> Result<Vec<(AgentName, Map<String, Value>)>> {
    let [name] = args.names.as_slice() else {
        return Err(Failure::usage("one name at a time, or --file").into());
    };
    let mut entry = Map::new();
    entry.insert("protocol".into(), args.protocol.clone().into());
    let command = match (&args.command, &args.from_host) {
        (Some(command), _) => split(command)?,
        (None, Some(program)) => vec![program.clone()],
        (None, None) => {
            return Err(Failure::usage("--command says how it is started")
                .next(format!("boatyard agent add {name} --command \"PROGRAM --acp\""))
                .into());
        }
    };
    let program = command.first().cloned().unwrap_or_default();
    entry.insert("command".into(), command.into());
    for (key, value) in [("provider", &args.provider), ("title", &args.title)] {
        if let Some(value) = value {
            entry.insert(key.into(), value.clone().into());
        }
    }
    let mut environment = Map::new();
    for text in &args.environment {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--env {text}: expected NAME=VALUE")))?;
        environment.insert(key.to_owned(), value.into());
    }
    if !environment.is_empty() {
        entry.insert("env".into(), environment.into());
    }
    let (from, packages) = match (&args.npm, &args.pypi) {
        (npm, _) if !npm.is_empty() => ("npm", npm),
        (_, pypi) => ("pypi", pypi),
    };
    let install = if !packages.is_empty() {
        let bin = match &args.bin {
            Some(bin) => bin.clone(),
            // Most often the command says where it is.
            None => args
                .command
                .iter()
                .flat_map(|command| command.split_whitespace())
                .find_map(|word| word.strip_prefix("{package}/"))
                .map(str::to_owned)
                .ok_or_else(|| {
                    Failure::usage("--bin says which program the packages bring").next(
                        "for npm, mostly --bin node_modules/.bin/NAME, and \
                         --command \"{package}/node_modules/.bin/NAME …\"",
                    )
                })?,
        };
        let mut install = json!({ "from": from, "packages": packages, "bin": bin });
        if let Some(node) = &args.node {
            install["node"] = node.clone().into();
        }
        if let Some(check) = &args.check {
            install["check"] = split(check)?.into();
        }
        if let Some(prints) = &args.prints {
            install["prints"] = prints.clone().into();
        }
        install
    } else {
        let program = args.from_host.clone().unwrap_or(program);
        json!({ "from": "host", "program": program })
    };
    entry.insert("install".into(), install);
    Ok(vec![(name.clone(), entry)])
}

/// The entries of a file, all of them or those that are named.
fn of_file(file: &Path, names: &[AgentName]) -> Result<registry::Read> {
    let shown = file.display();
    let size = std::fs::metadata(file).with_context(|| format!("{shown} can't be read"))?.len();
    if size > FILE_MAX {
        return Err(Failure::usage(format!("{shown} has more than {FILE_MAX} bytes")).into());
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("{shown} can't be read"))?;
    if text.trim_start().starts_with('{') {
        let value: Value =
            serde_json::from_str(&text).with_context(|| format!("{shown} is not valid JSON"))?;
        return registry::entries(&value, names)
            .map_err(|error| error.context(format!("{shown} was not imported")));
    }
    let mut table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| Failure::usage(format!("{shown}: {error}")))?;
    let tables = match (table.remove("agents"), names) {
        (Some(toml::Value::Table(agents)), _) => agents,
        (Some(_), _) => {
            return Err(Failure::usage(format!("{shown}: expected [agents.NAME] tables")).into());
        }
        (None, [name]) => toml::Table::from_iter([(name.to_string(), table.into())]),
        (None, _) => {
            return Err(Failure::usage(format!("{shown} has no [agents.NAME] table"))
                .next(format!("name the one agent: boatyard agent add --file {shown} NAME"))
                .into());
        }
    };
    let mut entries = Vec::new();
    for (name, value) in tables {
        let parsed: AgentName =
            name.parse().map_err(|error| Failure::usage(format!("{shown}: {name}: {error}")))?;
        if !names.is_empty() && !names.contains(&parsed) {
            continue;
        }
        match serde_json::to_value(value) {
            Ok(Value::Object(entry)) => entries.push((parsed, entry)),
            _ => return Err(Failure::usage(format!("{shown}: [agents.{name}] is no table")).into()),
        }
    }
    for name in names {
        if !entries.iter().any(|(there, _)| there == name) {
            return Err(Failure::not_found(format!("{shown} has no agent {name}")).into());
        }
    }
    Ok(registry::Read { entries, ..registry::Read::default() })
}

/// Splits a command as a shell does: at spaces, but not inside of quotes.
fn split(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Failure::usage(format!("--command {text}: a quote is not closed")).into());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_does() {
        let words = |text: &str| split(text).unwrap();
        assert_eq!(
            words("a  --b 'c d' \"e \\\" f\" g\\ h ''"),
            ["a", "--b", "c d", "e \" f", "g h", ""]
        );
        assert!(split("a 'b").is_err());
    }
}
