//! What people set for an agent, for the organization, a repository, a task or a session.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Autonomy;

/// The most MCP servers of one agent.
const SERVERS_MAX: usize = 32;
/// The longest instructions, in bytes.
const INSTRUCTIONS_MAX: usize = 64 << 10;
/// The longest of the other texts, in bytes.
const TEXT_MAX: usize = 8 << 10;
/// The most arguments, and the most variables.
const MANY: usize = 100;

/// What people set for an agent. What is absent is left to the next wider scope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentSettings {
    /// The model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// One of the agent's own modes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// How much it may do without asking a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autonomy: Option<Autonomy>,
    /// Which of the installed versions is used; the pinned one if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Arguments after those of the catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Vec<String>>,
    /// Variables, laid over those of the catalogue; never a secret: what stands here is in the
    /// workspace.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// MCP servers that it gets, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// Said to it before the first prompt of a conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
}

/// An MCP server: a program in the workspace, or an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct McpServer {
    /// The program and its arguments, started in the workspace by the agent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Variables of the program; never a secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Its address, instead of a program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What is sent to the address with each request; never a secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How the address is spoken to.
    #[serde(skip_serializing_if = "McpTransport::is_http")]
    pub transport: McpTransport,
    /// Takes away the server that a wider scope gives under this name.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub off: bool,
}

/// How an MCP server's address is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum McpTransport {
    /// Streamable HTTP.
    #[default]
    Http,
    /// Server-Sent Events, as it was before.
    Sse,
}

impl McpTransport {
    const fn is_http(&self) -> bool {
        matches!(self, Self::Http)
    }
}

/// What makes no sense in settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {reason}")]
pub struct SettingsError {
    /// The field, with its path: `mcp_servers.docs.url`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl AgentSettings {
    /// These settings, with the others from a wider scope. Variables and MCP servers are laid over
    /// each other by name; anything else is taken whole. Where an autonomy is chosen, a mode of the
    /// wider scope is not taken: it would go against it.
    #[must_use]
    pub fn over(self, wider: Self) -> Self {
        let mut environment = wider.environment;
        environment.extend(self.environment);
        let mut mcp_servers = wider.mcp_servers;
        mcp_servers.extend(self.mcp_servers);
        // A mode was chosen to go with its own scope's autonomy.
        let mode = if self.autonomy.is_some() { None } else { wider.mode };
        Self {
            model: self.model.or(wider.model),
            mode: self.mode.or(mode),
            autonomy: self.autonomy.or(wider.autonomy),
            version: self.version.or(wider.version),
            arguments: self.arguments.or(wider.arguments),
            environment,
            mcp_servers,
            instructions: self.instructions.or(wider.instructions),
        }
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Looks for what makes no sense.
    ///
    /// # Errors
    /// The first field that does not, and why.
    pub fn check(&self) -> Result<(), SettingsError> {
        let one_liners = [("model", &self.model), ("mode", &self.mode), ("version", &self.version)];
        for (field, value) in one_liners {
            if let Some(value) = value {
                check_text(field, value)?;
                if value.is_empty() {
                    return Err(wrong(field, "is empty"));
                }
            }
        }
        for argument in self.arguments.iter().flatten() {
            check_text("arguments", argument)?;
        }
        if self.arguments.as_ref().is_some_and(|all| all.len() > MANY) {
            return Err(wrong("arguments", format!("has more than {MANY}")));
        }
        check_variables("environment", &self.environment)?;
        if self.instructions.as_ref().is_some_and(|text| text.len() > INSTRUCTIONS_MAX) {
            return Err(wrong("instructions", format!("has more than {INSTRUCTIONS_MAX} bytes")));
        }
        if self.mcp_servers.len() > SERVERS_MAX {
            return Err(wrong("mcp_servers", format!("has more than {SERVERS_MAX}")));
        }
        for (name, server) in &self.mcp_servers {
            server.check(name)?;
        }
        Ok(())
    }
}

impl McpServer {
    fn check(&self, name: &str) -> Result<(), SettingsError> {
        let field = format!("mcp_servers.{name}");
        let is_name = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !is_name {
            return Err(wrong(field, "has a name of other than letters, digits, `-` and `_`"));
        }
        match (self.command.first(), &self.url) {
            _ if self.off => {}
            (Some(program), None) if !program.is_empty() => {}
            (None, Some(url)) if url.starts_with("http://") || url.starts_with("https://") => {}
            (None, Some(_)) => {
                return Err(wrong(format!("{field}.url"), "is no http:// or https:// address"));
            }
            _ => return Err(wrong(field, "needs either a `command` or a `url`")),
        }
        if self.command.len() > MANY {
            return Err(wrong(format!("{field}.command"), format!("has more than {MANY} parts")));
        }
        for text in self.command.iter().chain(&self.url).chain(self.headers.values()) {
            check_text(&field, text)?;
        }
        for header in self.headers.keys() {
            let ok = (1..=128).contains(&header.len())
                && header.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            if !ok {
                return Err(wrong(format!("{field}.headers"), "holds what is no header's name"));
            }
        }
        check_variables(&format!("{field}.environment"), &self.environment)
    }
}

fn check_variables(field: &str, variables: &BTreeMap<String, String>) -> Result<(), SettingsError> {
    if variables.len() > MANY {
        return Err(wrong(field, format!("has more than {MANY}")));
    }
    for (name, value) in variables {
        let ok = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !ok {
            let reason = format!("holds `{}`, which is no variable's name", name.escape_default());
            return Err(wrong(field, reason));
        }
        check_text(field, value)?;
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<(), SettingsError> {
    if text.len() > TEXT_MAX {
        return Err(wrong(field, format!("has more than {TEXT_MAX} bytes")));
    }
    if text.contains(['\0', '\n', '\r']) {
        return Err(wrong(field, "holds a line break or a zero byte"));
    }
    Ok(())
}

fn wrong(field: impl Into<String>, reason: impl Into<String>) -> SettingsError {
    SettingsError { field: field.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: serde_json::Value) -> AgentSettings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_narrowest_wins_and_names_are_laid_over_each_other() {
        let wide = settings(serde_json::json!({
            "model": "large", "autonomy": "ask", "arguments": ["--a"],
            "environment": { "A": "1", "B": "1" },
            "mcp_servers": { "docs": { "command": ["docs"] }, "db": { "url": "http://db" } },
        }));
        let narrow = settings(serde_json::json!({
            "model": "small", "arguments": [], "environment": { "B": "2" },
            "mcp_servers": { "db": { "off": true } }, "instructions": "Be brief.",
        }));
        let both = narrow.over(wide);
        assert_eq!((both.model.as_deref(), both.autonomy), (Some("small"), Some(Autonomy::Ask)));
        assert_eq!(both.arguments, Some(Vec::new()));
        assert_eq!((both.environment["A"].as_str(), both.environment["B"].as_str()), ("1", "2"));
        assert!(both.mcp_servers["db"].off && !both.mcp_servers["docs"].off);
        assert_eq!(both.check(), Ok(()));
        let careful = settings(serde_json::json!({ "autonomy": "ask" }));
        let wild = settings(serde_json::json!({ "autonomy": "free", "mode": "yolo" }));
        assert_eq!(careful.over(wild).mode, None);
    }

    #[test]
    fn nonsense_is_named_with_its_field() {
        for (json, field) in [
            (serde_json::json!({ "model": "" }), "model"),
            (serde_json::json!({ "arguments": ["a\nb"] }), "arguments"),
            (serde_json::json!({ "environment": { "A B": "" } }), "environment"),
            (serde_json::json!({ "mcp_servers": { "x": {} } }), "mcp_servers.x"),
            (serde_json::json!({ "mcp_servers": { "x y": { "off": true } } }), "mcp_servers.x y"),
            (
                serde_json::json!({ "mcp_servers": { "x": { "url": "ftp://x" } } }),
                "mcp_servers.x.url",
            ),
            (serde_json::json!({ "instructions": "x".repeat(1 << 17) }), "instructions"),
        ] {
            assert_eq!(settings(json.clone()).check().unwrap_err().field, field, "{json}");
        }
    }
}
