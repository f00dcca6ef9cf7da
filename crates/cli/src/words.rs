//! What people write for settings of an agent on a command line: a command as words, an MCP server,
//! a variable, an agent with its model.

use std::collections::BTreeMap;

use boatyard_api::{
    model::{AgentSettings, agent::McpServer, name::AgentName},
    task::AgentChoice,
};

use crate::failure::Failure;

/// A command's words, as a shell would find them: quotes and backslashes keep spaces.
pub(crate) fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => {
                let next = chars.next().ok_or("it ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    match quote {
        Some(open) => Err(format!("a quote {open} is not closed")),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}

/// Rules of egress as they come with an order: several presets may stand in one word, with commas
/// between them; a rule that has commas of its own has more than that.
pub(crate) fn rules(given: Vec<String>) -> Vec<String> {
    let is_list = |text: &str| !text.contains([' ', ':', '/']);
    given
        .into_iter()
        .flat_map(|text| match is_list(&text) {
            true => text.split(',').map(str::to_owned).collect(),
            false => vec![text],
        })
        .collect()
}

/// `NAME=COMMAND`, `NAME=https://…`, or `NAME=off`.
pub(crate) fn server(text: &str) -> Result<(String, McpServer), String> {
    let expected = "expected NAME=COMMAND, NAME=https://ADDRESS or NAME=off";
    let (name, what) = text.split_once('=').ok_or(expected)?;
    let what = what.trim();
    let server = if what == "off" {
        McpServer { off: true, ..McpServer::default() }
    } else if what.starts_with("http://") || what.starts_with("https://") {
        McpServer { url: Some(what.to_owned()), ..McpServer::default() }
    } else {
        let command = words(what)?;
        if command.is_empty() {
            return Err(expected.to_owned());
        }
        McpServer { command, ..McpServer::default() }
    };
    checked(AgentSettings {
        mcp_servers: BTreeMap::from([(name.to_owned(), server.clone())]),
        ..AgentSettings::default()
    })?;
    Ok((name.to_owned(), server))
}

/// `NAME=VALUE`.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    checked(AgentSettings {
        environment: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..AgentSettings::default()
    })?;
    Ok((name.to_owned(), value.to_owned()))
}

fn checked(settings: AgentSettings) -> Result<(), String> {
    settings.check().map_err(|error| error.to_string())
}

/// `NAME` or `NAME:MODEL`.
pub(crate) fn choice(text: &str) -> Result<AgentChoice, String> {
    let (name, model) = match text.split_once(':') {
        Some((_, "")) => return Err("a model is missing after the colon".to_owned()),
        Some((name, model)) => (name, Some(model.to_owned())),
        None => (text, None),
    };
    let agent: AgentName = name.trim().parse().map_err(|error| format!("{error}"))?;
    Ok(AgentChoice { agent, model })
}

/// The text of a file, or of standard input.
pub(crate) fn file(path: &str) -> anyhow::Result<String> {
    let read = match path {
        "-" => std::io::read_to_string(std::io::stdin()),
        path => std::fs::read_to_string(path),
    };
    Ok(read.map_err(|error| Failure::usage(format!("{path} can't be read")).because(error))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_as_a_shell_finds_them() {
        for (text, expected) in [
            ("a  b", vec!["a", "b"]),
            ("a 'b c' \"d \\\" e\" f\\ g ''", vec!["a", "b c", "d \" e", "f g", ""]),
            ("  ", vec![]),
        ] {
            assert_eq!(words(text).unwrap(), expected, "{text}");
        }
        assert!(words("a 'b").unwrap_err().contains("not closed"));
    }

    #[test]
    fn servers_are_commands_addresses_or_off() {
        let (name, found) = server("docs=npx -y 'docs server'").unwrap();
        assert_eq!((name.as_str(), &found.command[2]), ("docs", &"docs server".to_owned()));
        assert_eq!(server("d=https://x/y").unwrap().1.url.as_deref(), Some("https://x/y"));
        assert!(server("d=off").unwrap().1.off);
        assert!(server("docs").is_err() && server("d=").is_err() && server("a b=c").is_err());
    }

    #[test]
    fn an_agent_may_come_with_its_model() {
        let found = choice("codex:gpt-5.5").unwrap();
        assert_eq!((found.agent.as_str(), found.model.as_deref()), ("codex", Some("gpt-5.5")));
        assert_eq!(choice("claude").unwrap().model, None);
        assert!(choice("claude:").is_err() && choice("").is_err());
    }
}
