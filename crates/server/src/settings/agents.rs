//! `[agents.NAME]`: agents beside the built-in ones.

use std::collections::BTreeMap;

use super::value::choices;

choices! {
    /// How Boatyard talks to an agent.
    Protocol {
        /// The Agent Client Protocol, on standard input and output.
        Acp = "acp",
    }
}

super::table::section! {
    /// An agent of your own, or another command for one that Boatyard knows. NAME is what
    /// `boatyard run --agent` takes: small letters, digits and `-`.
    Agent = "agents.NAME" {
        /// The program, as it is found inside a workspace, and its arguments.
        command: Vec<String> = Vec::new(), example "[\"/opt/my-agent/bin/my-agent\", \"--acp\"]";
        /// What it speaks on its standard input and output: `acp`, the Agent Client Protocol.
        protocol: Protocol = Protocol::Acp;
        /// What people see, where it is not NAME.
        title: Option<String> = None, example "\"My agent\"";
        /// The model of a task that names none.
        model: Option<String> = None, example "\"large\"";
        /// Variables of its environment. They are visible inside the workspace: no secrets here.
        environment: BTreeMap<String, String> = BTreeMap::new(), example "{ MY_AGENT_MODE = \"fast\" }";
    }
}
