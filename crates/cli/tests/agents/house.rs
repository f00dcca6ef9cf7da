//! A server with an agent installed, and a provider for it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use boatyard_agent::{Catalogue, catalogue::Install};
use boatyard_api::Client;
use boatyard_model::SessionId;

use crate::{
    agent::Agent,
    provider::Provider,
    yard::{Victim, Yard},
};

/// The key that the provider asks for. It must not be seen in any workspace.
pub(crate) const KEY: &str = "sk-made-up-key-3f1d9c0e7b5a";

/// What stands in the agents' settings of the account that the server runs in. Neither.
pub(crate) const DECOY: &str = "decoy-5d41c2aa-of-the-host";

/// Where agents keep settings in a home.
const DECOYS: [&str; 10] = [
    ".claude.json",
    ".claude/settings.json",
    ".claude/CLAUDE.md",
    ".codex/config.toml",
    ".codex/AGENTS.md",
    ".gemini/settings.json",
    ".gemini/GEMINI.md",
    ".config/opencode/opencode.json",
    ".qwen/settings.json",
    ".copilot/config.json",
];

/// What the server's own way to the outside is told by on this machine.
const OUTSIDE: [&str; 10] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
];

/// Nothing leaves a workspace but the one in which an agent is installed.
const QUIET: &str = "[egress]\npresets = []\n\n";

/// How many lines of the server's log are shown when something fails.
const LOG_SHOWN: usize = 60;

/// A house: one server, one agent, one provider.
pub(crate) struct House {
    pub(crate) agent: Agent,
    pub(crate) provider: Provider,
    yard: Mutex<Yard>,
    client: RwLock<Client>,
    /// What was begun, by scenario, to be shown when it fails.
    begun: Mutex<Vec<(&'static str, SessionId)>>,
}

impl House {
    /// Starts it and installs the agent. Nothing may leave its workspaces.
    pub(crate) async fn open(agent: Agent) -> Arc<Self> {
        let provider = Provider::start().await;
        let base_url = provider.base_url();
        let yard = tokio::task::spawn_blocking(move || furnish(agent, &base_url)).await.unwrap();
        let client = RwLock::new(client(&yard));
        let begun = Mutex::default();
        Arc::new(Self { agent, provider, yard: Mutex::new(yard), client, begun })
    }

    /// A client of the server that runs now.
    pub(crate) fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The path of the repository that is worked on.
    pub(crate) fn repository(&self) -> String {
        self.path("app").display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.yard.lock().unwrap_or_else(PoisonError::into_inner).path(name)
    }

    /// Kills the server and starts another one over its data.
    pub(crate) async fn kill_server(self: &Arc<Self>) {
        let house = Arc::clone(self);
        let killed = tokio::task::spawn_blocking(move || {
            let mut yard = house.yard.lock().unwrap_or_else(PoisonError::into_inner);
            yard.kill(Victim::Server);
            yard.start_server();
            *house.client.write().unwrap_or_else(PoisonError::into_inner) = client(&yard);
        });
        killed.await.unwrap();
    }

    /// Stops the server and starts it with these settings over those that it had.
    pub(crate) async fn refurnish(self: &Arc<Self>, more: toml::Table) {
        let house = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let mut yard = house.yard.lock().unwrap_or_else(PoisonError::into_inner);
            yard.stop_server();
            let text = fs::read_to_string(yard.path("data/boatyard.toml")).unwrap();
            let mut settings: toml::Table = text.parse().unwrap();
            lay_over(&mut settings, more);
            yard.write("data/boatyard.toml", &settings.to_string());
            yard.start_server();
            *house.client.write().unwrap_or_else(PoisonError::into_inner) = client(&yard);
        });
        done.await.unwrap();
    }

    /// Writes a file that only the server may read; its path.
    pub(crate) fn secret(&self, name: &str, text: &str) -> String {
        let yard = self.yard.lock().unwrap_or_else(PoisonError::into_inner);
        secret(&yard, name, text)
    }

    /// Notes a session of a scenario.
    pub(crate) fn note(&self, scenario: &'static str, session: SessionId) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).push((scenario, session));
    }

    /// The sessions of a scenario.
    pub(crate) fn of(&self, scenario: &str) -> Vec<SessionId> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.iter().filter(|(of, _)| *of == scenario).map(|(_, session)| *session).collect()
    }

    /// The end of the server's log.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(self.path("data/log")).into_iter().flatten().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(LOG_SHOWN)..] {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }
}

fn secret(yard: &Yard, name: &str, text: &str) -> String {
    yard.write(name, &format!("{text}\n"));
    fs::set_permissions(yard.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    yard.path(name).display().to_string()
}

/// Table by table, key by key.
fn lay_over(settings: &mut toml::Table, more: toml::Table) {
    for (key, value) in more {
        match (settings.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(value)) => lay_over(below, value),
            (_, value) => drop(settings.insert(key, value)),
        }
    }
}

fn client(yard: &Yard) -> Client {
    let text = fs::read_to_string(yard.path("data/client.toml")).unwrap();
    let file: toml::Table = text.parse().unwrap();
    Client::new(file["server"].as_str().unwrap(), file["key"].as_str()).unwrap()
}

/// A yard with a server in which the agent is ready.
fn furnish(agent: Agent, base_url: &str) -> Yard {
    let variables = OUTSIDE
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    let mut yard = Yard::without_server().with_variables(variables);
    for decoy in DECOYS {
        // As no settings file of any agent may be: whoever reads it, repeats it or fails.
        yard.write(decoy, &format!("{{\"{DECOY}\": \"{DECOY}\"}}\n"));
    }
    secret(&yard, "keys/provider", KEY);
    yard.repository("app");
    let settings = settings(agent, &yard, base_url);
    let tools = std::env::var("BOATYARD_AGENT_TOOLS").ok();
    let entry = tools.as_ref().map(|tools| host(agent, tools)).unwrap_or_default();
    yard.write("data/boatyard.toml", &format!("{settings}{QUIET}{entry}"));
    yard.start_server();
    if tools.is_none() {
        let installed = yard.command(&["agent", "install", agent.name]).output().unwrap();
        let said = String::from_utf8_lossy(&installed.stderr);
        assert!(installed.status.success(), "{} is not installed: {said}", agent.name);
    }
    yard
}

fn settings(agent: Agent, yard: &Yard, base_url: &str) -> String {
    format!(
        "[providers.{}]\nbase_url = \"{base_url}\"\nkey_file = \"{}\"\n\n\
         [repositories]\nroots = [\"{}\"]\n\n\
         [limits]\nrunning_tasks = 6\n\n",
        agent.provider,
        yard.path("keys/provider").display(),
        yard.path("app").display(),
    )
}

/// The entry of an agent that npm has installed on the host before.
fn host(agent: Agent, tools: &str) -> String {
    let catalogue = Catalogue::builtin();
    let mut entry = catalogue.get(&agent.name.parse().unwrap()).unwrap().clone();
    entry.install = Install::BuiltIn;
    let entries = BTreeMap::from([("agents", BTreeMap::from([(agent.name, entry)]))]);
    let entry = toml::to_string(&entries)
        .unwrap()
        .replace("{package}", &format!("{tools}/{}", agent.name))
        .replace("{node}", &format!("{tools}/node/node_modules/node/bin/node"));
    format!("[tools]\npaths = [\"{tools}\"]\n\n{entry}")
}
