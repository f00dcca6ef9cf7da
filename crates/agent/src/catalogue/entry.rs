//! One agent of the catalogue, and the program that it becomes in a workspace.

use std::collections::BTreeMap;

use boatyard_model::{
    AgentSettings,
    agent::{Autonomy, Capabilities, McpServer},
    name::AgentName,
};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What is known of an agent. `catalogue.toml` explains each key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// For people; the name where it is not given.
    #[serde(default)]
    pub title: String,
    /// In a line, for people.
    #[serde(default)]
    pub about: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Argument vector with placeholders.
    pub command: Vec<String>,
    /// Added when a model was chosen.
    #[serde(default)]
    pub model_args: Vec<String>,
    /// Variables with placeholders; never a secret.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its place in the order in which the default agent is looked for.
    #[serde(default)]
    pub rank: Option<u16>,
    /// Whose key it needs.
    #[serde(default)]
    pub provider: Option<String>,
    /// The mode that is chosen where nobody chose.
    #[serde(default)]
    pub mode: Option<String>,
    /// The model that is chosen where nobody chose.
    #[serde(default)]
    pub model: Option<String>,
    /// The name that stands for the scripted provider's model; the agent's default if absent.
    #[serde(default)]
    pub demo_model: Option<String>,
    /// How much it may do unasked, where nobody chose; the settings' general choice if absent.
    #[serde(default)]
    pub autonomy: Option<Autonomy>,
    /// Its own mode for each autonomy.
    #[serde(default)]
    pub modes: Modes,
    /// Arguments after those of the command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// MCP servers that it gets, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// Said to it before the first prompt of a conversation.
    #[serde(default)]
    pub instructions: Option<String>,
    /// Hints about what it can do.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// What is sent as `_meta` when a session is begun or resumed, for [`Protocol::Acp`].
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub session_meta: serde_json::Map<String, serde_json::Value>,
    /// For [`Protocol::Text`].
    #[serde(default)]
    pub text: TextStyle,
    /// Where it comes from.
    #[serde(default)]
    pub install: Install,
    /// Files to lay into its home before the first start.
    #[serde(default)]
    pub home: Vec<HomeFile>,
}

/// How an agent is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The Agent Client Protocol, version 1, over stdin and stdout.
    Acp,
    /// A process for each prompt; what it prints is shown.
    Text,
}

/// An agent's own mode for each degree of autonomy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modes {
    /// Asks for everything.
    pub ask: Option<String>,
    /// Asks for what changes something.
    pub ask_changes: Option<String>,
    /// Free within the sandbox.
    pub free: Option<String>,
}

impl Modes {
    /// The mode for an autonomy.
    pub fn of(&self, autonomy: Autonomy) -> Option<&str> {
        let mode = match autonomy {
            Autonomy::Ask => &self.ask,
            Autonomy::AskChanges => &self.ask_changes,
            Autonomy::Free => &self.free,
        };
        mode.as_deref()
    }
}

/// How a text agent takes its prompt and shows its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextStyle {
    /// How it gets the prompt.
    pub prompt: PromptBy,
    /// What its output is.
    pub show: Show,
}

/// How a text agent gets its prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptBy {
    /// As the argument `{prompt}`, or the last one where the command does not name it.
    #[default]
    Argument,
    /// On its standard input, which then ends.
    Stdin,
}

/// What a text agent's output is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Show {
    /// What the agent says.
    #[default]
    Message,
    /// The output of one tool call, which is the prompt itself.
    Tool,
}

/// Where an agent's program comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum Install {
    /// It is part of Boatyard or of every system, or the command says where it is.
    #[default]
    BuiltIn,
    /// It is found on the workspace's `PATH`.
    Host {
        /// Its name.
        program: String,
    },
    /// From npm.
    Npm(Package),
    /// From PyPI.
    Pypi(Package),
}

/// A pinned installation from a package source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// `name@version` each; the first is the agent.
    pub packages: Vec<String>,
    /// The program, below the folder it is installed in.
    pub bin: String,
    /// The major version of Node that it needs; none for the newest that Boatyard brings.
    #[serde(default)]
    pub node: Option<String>,
    /// Leave out optional dependencies (platform binaries that another package brings).
    #[serde(default)]
    pub omit_optional: bool,
    /// Arguments with which it tells its version.
    #[serde(default)]
    pub check: Vec<String>,
    /// What must be in the answer.
    #[serde(default)]
    pub prints: Option<String>,
}

impl Package {
    /// What is to be installed, for this machine's processor: `name@version` each.
    pub fn specs(&self) -> Vec<String> {
        self.packages.iter().map(|package| for_this_machine(package)).collect()
    }

    /// The program below the folder it is installed in, for this machine's processor.
    pub fn program(&self) -> String {
        for_this_machine(&self.bin)
    }

    /// The version of the agent, which is its first package's.
    pub fn version(&self) -> Option<&str> {
        Some(self.packages.first()?.rsplit_once('@')?.1)
    }
}

/// A file to lay into an agent's home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeFile {
    /// Below the home, without `..`.
    pub path: String,
    /// Its text; may hold the command's placeholders.
    pub content: String,
}

/// An agent as it is run in a workspace: an entry whose placeholders are filled. What stays open is
/// `{prompt}`, which the driver fills at each turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// The agent's name.
    pub name: AgentName,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Argument vector.
    pub argv: Vec<String>,
    /// Its own variables, to be laid over the workspace's.
    pub env: BTreeMap<String, String>,
    /// Hints about what it can do.
    pub capabilities: Capabilities,
    /// Whose key it needs; named when the key is not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What is sent as `_meta` when a session is begun or resumed.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub session_meta: serde_json::Map<String, serde_json::Value>,
    /// For [`Protocol::Text`].
    pub text: TextStyle,
    /// Files to lay into its home where they are not there yet.
    pub home: Vec<HomeFile>,
}

/// The values of placeholders that hold in a workspace. What is none must not be named by the entry.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The runner's own path, seen from inside.
    pub runner: Option<String>,
    /// Where the agent's packages are.
    pub package: Option<String>,
    /// The Node that it needs.
    pub node: Option<String>,
    /// The agent's home.
    pub home: Option<String>,
    /// Where it works.
    pub cwd: Option<String>,
    /// The base address of its provider's pass-through.
    pub provider: Option<String>,
    /// The models that its provider is said to have, by the names that it knows them by.
    pub models: Vec<String>,
}

impl Places {
    /// The models as OpenCode's settings describe them: a JSON object, by their names. Nothing is
    /// known of them but that agents can work with them.
    fn models(&self) -> String {
        let described = |model: &String| {
            let about = serde_json::json!({
                "name": model,
                "limit": { "context": 200_000, "output": 32_000 },
                "tool_call": true,
                "attachment": true,
                "modalities": { "input": ["text", "image"], "output": ["text"] },
            });
            (model.clone(), about)
        };
        serde_json::Value::Object(self.models.iter().map(described).collect()).to_string()
    }
}

impl Entry {
    /// How much it may do unasked, and the mode of its own to choose for that: what somebody chose
    /// for this one conversation, else what stands here, else `general`, the settings' choice.
    ///
    /// `mode` goes before `modes` as long as nobody chose: it is what was written for this agent.
    pub fn autonomy(
        &self,
        chosen: Option<Autonomy>,
        general: Autonomy,
    ) -> (Autonomy, Option<&str>) {
        let autonomy = chosen.or(self.autonomy).unwrap_or(general);
        let (fixed, fitting) = (self.mode.as_deref(), self.modes.of(autonomy));
        let mode = if chosen.is_some() { fitting.or(fixed) } else { fixed.or(fitting) };
        (autonomy, mode)
    }

    /// Whether it gets its model when it is started, so that nobody need choose it afterwards.
    pub fn starts_with_model(&self) -> bool {
        let named = |text: &String| text.contains("{model}");
        self.model_args.iter().any(named)
            || self.command.iter().any(named)
            || self.env.values().any(named)
            || self.home.iter().any(|file| named(&file.content))
    }

    /// What it sets beside what every entry has.
    pub fn settings(&self) -> AgentSettings {
        AgentSettings {
            arguments: (!self.arguments.is_empty()).then(|| self.arguments.clone()),
            mcp_servers: self.mcp_servers.clone(),
            instructions: self.instructions.clone(),
            ..AgentSettings::default()
        }
    }

    /// Fills the placeholders for a workspace and a model (the entry's own where none is given).
    ///
    /// # Errors
    /// [`Error::Placeholder`] when one has no value.
    pub fn program(
        &self,
        name: &AgentName,
        places: &Places,
        model: Option<&str>,
    ) -> Result<Program, Error> {
        let model = model.or(self.model.as_deref());
        let fill = |text: &String| self.fill(text, name, places, model);
        let mut argv = self.command.iter().map(fill).collect::<Result<Vec<_>, _>>()?;
        if model.is_some() {
            for arg in &self.model_args {
                argv.push(fill(arg)?);
            }
        }
        let env = self
            .env
            .iter()
            .map(|(key, value)| Ok((key.clone(), fill(value)?)))
            .collect::<Result<_, Error>>()?;
        let home = self
            .home
            .iter()
            .map(|file| Ok(HomeFile { path: file.path.clone(), content: fill(&file.content)? }))
            .collect::<Result<_, Error>>()?;
        Ok(Program {
            name: name.clone(),
            protocol: self.protocol,
            argv,
            env,
            capabilities: self.capabilities,
            provider: self.provider.clone(),
            session_meta: self.session_meta.clone(),
            text: self.text,
            home,
        })
    }

    fn fill(
        &self,
        text: &str,
        name: &AgentName,
        places: &Places,
        model: Option<&str>,
    ) -> Result<String, Error> {
        let missing = |placeholder: &str| Error::Placeholder {
            agent: name.to_string(),
            placeholder: placeholder.to_owned(),
        };
        let models = places.models();
        replace_placeholders(text, |placeholder| {
            let value = match placeholder {
                "models" => Some(models.as_str()),
                "runner" => places.runner.as_deref(),
                "package" => places.package.as_deref(),
                "node" => places.node.as_deref(),
                "home" => places.home.as_deref(),
                "cwd" => places.cwd.as_deref(),
                "provider" => places.provider.as_deref(),
                "model" => model,
                "arch" => Some(arch()),
                "machine" => Some(machine()),
                "prompt" if self.protocol == Protocol::Text => Some("{prompt}"),
                _ => None,
            };
            value.map(str::to_owned).ok_or_else(|| missing(placeholder))
        })
    }

    /// What no type can say.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err(
                "`command` must name a program: command = [\"program\", \"argument\"]".into()
            );
        }
        self.settings().check().map_err(|error| error.to_string())?;
        let everything = self.command.iter().chain(&self.model_args).chain(self.env.values());
        if let Some(text) = everything.clone().find(|text| text.contains('\0')) {
            return Err(format!("`{}` holds a zero byte", text.escape_default()));
        }
        for key in self.env.keys() {
            let ok = !key.is_empty()
                && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !key.starts_with(|c: char| c.is_ascii_digit());
            if !ok {
                return Err(format!("`{}` is not the name of a variable", key.escape_default()));
            }
        }
        const KNOWN: [&str; 11] = [
            "runner", "package", "node", "home", "cwd", "provider", "model", "models", "arch",
            "machine", "prompt",
        ];
        for text in everything.chain(self.home.iter().map(|file| &file.content)) {
            replace_placeholders(text, |name| match name {
                "prompt" if self.protocol == Protocol::Acp => Err(
                    "`{prompt}` is for protocol = \"text\"; an acp agent gets it over the protocol"
                        .to_owned(),
                ),
                name if KNOWN.contains(&name) => Ok(String::new()),
                name => Err(format!(
                    "`{{{name}}}` is not a placeholder; known are {}",
                    KNOWN.join(", ")
                )),
            })?;
        }
        if self.protocol == Protocol::Text && !self.session_meta.is_empty() {
            return Err("`session_meta` is for protocol = \"acp\"".into());
        }
        for file in &self.home {
            let climbs = file.path.split('/').any(|part| matches!(part, "" | "." | ".."));
            if climbs || file.path.contains('\0') {
                return Err(format!(
                    "`{}` is not a path below the home",
                    file.path.escape_default()
                ));
            }
        }
        if let Install::Npm(package) | Install::Pypi(package) = &self.install {
            let pinned = |text: &String| {
                text.rsplit_once('@').is_some_and(|(name, version)| {
                    !name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit())
                })
            };
            let climbs = package.bin.split('/').any(|part| matches!(part, "" | "." | ".."));
            if climbs || package.bin.contains(char::is_control) {
                return Err(format!(
                    "`install.bin` must be a path below the folder of the packages, not `{}`",
                    package.bin.escape_default()
                ));
            }
            if package.packages.is_empty() || !package.packages.iter().all(pinned) {
                return Err("`packages` must be pinned: packages = [\"name@1.2.3\"]".into());
            }
        }
        Ok(())
    }
}

/// This machine's processor, which is its workspaces', as npm names it.
fn arch() -> &'static str {
    match machine() {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The same as Linux names it.
const fn machine() -> &'static str {
    std::env::consts::ARCH
}

fn for_this_machine(text: &str) -> String {
    text.replace("{arch}", arch()).replace("{machine}", machine())
}

/// Replaces each `{name}` of small letters by what `value` gives. Other braces (JSON, `${HOME}`) are
/// left as they are.
pub(crate) fn replace_placeholders<E>(
    text: &str,
    mut value: impl FnMut(&str) -> Result<String, E>,
) -> Result<String, E> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        out.push_str(before);
        let name_len = after[1..].bytes().take_while(u8::is_ascii_lowercase).count();
        let closed = after.as_bytes().get(1 + name_len) == Some(&b'}');
        if name_len > 0 && closed && !before.ends_with('$') {
            out.push_str(&value(&after[1..=name_len])?);
            rest = &after[name_len + 2..];
        } else {
            out.push('{');
            rest = &after[1..];
        }
    }
    out.push_str(rest);
    Ok(out)
}
