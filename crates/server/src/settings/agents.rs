//! `[agents.NAME]`: agents beside the built-in ones.
//!
//! What may stand there is known to the catalogue (`boatyard_agent::catalogue`), which lays it over
//! the built-in agents key by key and checks it. Here are the keys that people need, for the
//! documents; the others are explained in the catalogue's own file.

use super::{
    AGENTS, SectionInfo,
    table::Key,
    value::Kind::{Integer, List, Table, Text},
};

/// The section, for documents.
pub(super) const INFO: SectionInfo = SectionInfo {
    path: AGENTS,
    doc: "An agent of your own, or changes to one that Boatyard knows, key by key. NAME is what \
          `boatyard run --agent` takes: small letters, digits and `-`. Further keys are explained \
          in crates/agent/src/catalogue.toml.",
    keys: KEYS,
    defaults: || KEYS.iter().map(|key| (key.name, None)).collect(),
};

const fn key(
    name: &'static str,
    kind: super::value::Kind,
    doc: &'static str,
    example: &'static str,
) -> Key {
    Key { name, doc, kind, example: Some(example) }
}

const KEYS: &[Key] = &[
    key("title", Text, "What people see, where it is not NAME.", "\"My agent\""),
    key("about", Text, "A line about it, for people.", "\"Does it all\""),
    key(
        "protocol",
        Text,
        "How it is spoken to: `acp`, the Agent Client Protocol on its standard input and output, \
         or `text`: a process for each prompt, whose output is shown.",
        "\"acp\"",
    ),
    key(
        "command",
        List,
        "The program, as it is found inside a workspace, and its arguments. They may hold `{home}`, \
         `{cwd}` and `{model}`, with `text` also `{prompt}`.",
        "[\"/opt/my-agent/bin/my-agent\", \"--acp\"]",
    ),
    key(
        "model_args",
        List,
        "Arguments to add when a model was chosen.",
        "[\"--model\", \"{model}\"]",
    ),
    key("model", Text, "The model that is chosen where nobody chose.", "\"large\""),
    key(
        "autonomy",
        Text,
        "How much it may do without asking a person, where it is not as the general `autonomy` says: \
         `ask`, `ask_changes` or `free`.",
        "\"ask_changes\"",
    ),
    key(
        "modes",
        Table,
        "Its own mode for each autonomy, for an agent that has modes.",
        "{ ask = \"default\", free = \"yolo\" }",
    ),
    key(
        "env",
        Table,
        "Variables of its environment. They are visible inside the workspace: no secrets here.",
        "{ MY_AGENT_MODE = \"fast\" }",
    ),
    key("arguments", List, "Arguments at the end of the command.", "[\"--verbose\"]"),
    key(
        "mcp_servers",
        Table,
        "MCP servers that it gets, by name: a program in the workspace, or an address.",
        "{ docs = { command = [\"docs-server\", \"--stdio\"] } }",
    ),
    key(
        "instructions",
        Text,
        "What is said to it before the first prompt of a conversation.",
        "\"Answer in English.\"",
    ),
    key(
        "rank",
        Integer,
        "Its place in the order in which the default agent is looked for; without one, it is never \
         the default by itself.",
        "10",
    ),
];
