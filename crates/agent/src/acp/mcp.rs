//! The MCP servers that an agent gets with its session.

use std::collections::BTreeMap;

use boatyard_model::{
    agent::{Capabilities, McpServer, McpTransport},
    event::NoticeLevel,
};
use serde_json::{Value, json};

use super::Actor;

impl Actor {
    /// The servers as the protocol has them. Tells once of those that the agent can't take.
    pub(super) fn mcp_servers(&mut self, hello: &Value) -> Value {
        let hints = &self.launch.program.capabilities;
        let (taken, left_out) = choose(&self.launch.mcp_servers, hello, hints);
        if !left_out.is_empty() && !self.mcp_told {
            self.mcp_told = true;
            let text = format!(
                "The agent takes no MCP servers of this kind; left out: {}.",
                left_out.join(", ")
            );
            self.normal.sink.notice(NoticeLevel::Warning, "mcp_left_out", text);
        }
        taken.into()
    }
}

/// The servers that the agent takes, and the names and kinds of the others.
fn choose(
    servers: &BTreeMap<String, McpServer>,
    hello: &Value,
    hints: &Capabilities,
) -> (Vec<Value>, Vec<String>) {
    let can = &hello["agentCapabilities"]["mcpCapabilities"];
    let (mut taken, mut left_out) = (Vec::new(), Vec::new());
    for (name, server) in servers.iter().filter(|(_, server)| !server.off) {
        // Every agent is to take programs; the others it must say.
        let (kind, takes) = match (&server.url, server.transport) {
            (None, _) => ("a program", hints.mcp_programs),
            (Some(_), McpTransport::Http) => ("http", can["http"] == true),
            (Some(_), McpTransport::Sse) => ("sse", can["sse"] == true),
        };
        if takes {
            taken.push(described(name, server));
        } else {
            left_out.push(format!("`{name}` ({kind})"));
        }
    }
    (taken, left_out)
}

fn described(name: &str, server: &McpServer) -> Value {
    let pairs = |all: &BTreeMap<String, String>| -> Value {
        all.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
    };
    match &server.url {
        Some(url) => {
            let kind = match server.transport {
                McpTransport::Http => "http",
                McpTransport::Sse => "sse",
            };
            json!({ "type": kind, "name": name, "url": url, "headers": pairs(&server.headers) })
        }
        None => {
            let (program, args) = match server.command.split_first() {
                Some((program, args)) => (program.as_str(), args),
                None => ("", &[][..]),
            };
            let env = pairs(&server.environment);
            json!({ "name": name, "command": program, "args": args, "env": env })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_shape_and_what_is_not_taken_is_named() {
        let servers: BTreeMap<String, McpServer> = serde_json::from_value(json!({
            "a": { "command": ["run", "--x"], "environment": { "K": "v" } },
            "b": { "url": "http://b", "headers": { "H": "1" } },
            "c": { "url": "http://c", "transport": "sse" },
            "d": { "command": ["gone"], "off": true },
        }))
        .unwrap();
        let hello = json!({ "agentCapabilities": { "mcpCapabilities": { "http": true } } });
        let (taken, left_out) = choose(&servers, &hello, &Capabilities::default());
        let env = json!([{ "name": "K", "value": "v" }]);
        let headers = json!([{ "name": "H", "value": "1" }]);
        assert_eq!(
            taken,
            [
                json!({ "name": "a", "command": "run", "args": ["--x"], "env": env }),
                json!({ "type": "http", "name": "b", "url": "http://b", "headers": headers }),
            ]
        );
        assert_eq!(left_out, ["`c` (sse)"]);
        let none = Capabilities { mcp_programs: false, ..Capabilities::default() };
        assert_eq!(choose(&servers, &hello, &none).1, ["`a` (a program)", "`c` (sse)"]);
    }
}
