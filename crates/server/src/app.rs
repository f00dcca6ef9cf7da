//! What every part of the server shares.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use boatyard_agent::{
    Catalogue,
    catalogue::{Entry, Facts, Install},
};
use boatyard_egress::gateway::Provider;
use boatyard_model::{
    name::AgentName,
    time::{Clock, SystemClock},
};
use boatyard_runtime::Runtime;
use boatyard_store::Store;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    agents::Agents,
    auth::Admin,
    auth::providers::SignIn,
    blobs::Blobs,
    calls::Calls,
    connections::Connections,
    encoded::Lists,
    hub::{Hub, Outside},
    jobs::attempt::Places,
    mail::Mail,
    mirrors::{Mirrors, fetch::Network},
    providers::{DEMO_MODEL, Providers},
    settings::Settings,
    trust,
    vault::{Master, Vault},
};

/// The application. A cheap clone.
#[derive(Clone)]
pub struct App {
    /// The data folder.
    pub data: Arc<Path>,
    /// All that is remembered.
    pub store: Store,
    /// How it was set up.
    pub settings: Arc<Settings>,
    /// What makes workspaces.
    pub runtime: Arc<dyn Runtime>,
    /// The live links to workspaces.
    pub hub: Hub,
    /// Pages of lists, as they were answered.
    pub lists: Arc<Lists>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// The known agents, and what of them is installed.
    pub agents: Agents,
    /// Bytes beside the database.
    pub blobs: Blobs,
    /// The log of calls with keys.
    pub calls: Calls,
    /// Credentials for outside services.
    pub connections: Connections,
    /// Other people's word for who somebody is, and passkeys.
    pub sign_in: SignIn,
    /// What sends mail, where there is something.
    pub mail: Option<Mail>,
    /// Repositories.
    pub mirrors: Mirrors,
    /// How the server's own fetches reach the world.
    pub network: Network,
    /// Which attempts may be under way.
    pub places: Places,
    /// Cancelled when the server is told to stop: no new work is begun.
    pub stopping: CancellationToken,
    /// Work that is waited for before the server ends.
    pub tasks: TaskTracker,
}

/// What an application is made of.
pub struct Parts {
    /// The data folder.
    pub data: PathBuf,
    /// The open database.
    pub store: Store,
    /// How it is set up.
    pub settings: Settings,
    /// What makes workspaces.
    pub runtime: Arc<dyn Runtime>,
    /// Where models come from, with the keys.
    pub providers: Providers,
    /// What the vault's keys are wrapped by.
    pub master: Master,
    /// Who sets the server up without a browser.
    pub admin: Option<Admin>,
}

impl App {
    /// Puts the parts together; nothing runs yet.
    ///
    /// # Errors
    /// When a setting makes no sense or the data folder can't be used.
    pub fn new(parts: Parts) -> anyhow::Result<Self> {
        let Parts { data, store, settings, runtime, providers, master, admin: _ } = parts;
        let settings = Arc::new(settings);
        let stopping = CancellationToken::new();
        let tasks = TaskTracker::new();
        let blobs = Blobs::open(&data.join("blobs"))?;
        let vault = Vault::new(store.clone(), data.as_path().into(), master);
        let sign_in = SignIn::new(store.clone(), vault.clone(), Arc::clone(&settings));
        let connections = Connections::new(store.clone(), vault);
        let hub = Hub::new(
            store.clone(),
            Arc::clone(&runtime),
            blobs.clone(),
            Arc::clone(&settings),
            Outside {
                providers,
                connections: &connections,
                opener: trust::opener(&data, &settings)?,
            },
            stopping.clone(),
        )?;
        Ok(Self {
            agents: Agents::new(Catalogue::with_settings(&settings.agents)?),
            mail: Mail::new(&settings.mail)?,
            mirrors: Mirrors::open(&data)?,
            network: Network::new(Arc::clone(&settings), &data)?
                .with(hub.git().credentials.clone()),
            places: Places::default(),
            lists: Arc::default(),
            calls: Calls::start(store.clone()),
            clock: Arc::new(SystemClock),
            data: data.into(),
            store,
            settings,
            runtime,
            hub,
            blobs,
            sign_in,
            connections,
            stopping,
            tasks,
        })
    }

    /// The agent that a task gets when nobody names one: the settings' choice, else the best that
    /// is ready, else the demo.
    pub fn default_agent(&self) -> AgentName {
        match &self.settings.general.default_agent {
            Some(name) => name.clone(),
            None => self.agents.current().default_agent(self),
        }
    }
}

impl Facts for App {
    fn installed(&self, name: &AgentName, entry: &Entry) -> bool {
        match entry.install {
            Install::BuiltIn | Install::Host { .. } => true,
            Install::Npm(_) | Install::Pypi(_) => self.agents.tool_for(name, entry, None).is_some(),
        }
    }

    fn has_program(&self, program: &str) -> bool {
        if program.starts_with('/') {
            // Inside a workspace, or in a repository: only a start can tell.
            return true;
        }
        let mut places = vec![PathBuf::from("/usr/local/bin"), "/usr/bin".into(), "/bin".into()];
        for tool in &self.settings.tools.paths {
            places.extend([tool.clone(), tool.join("bin")]);
        }
        places.iter().any(|place| place.join(program).exists())
    }

    fn has_key(&self, provider: &str) -> bool {
        self.hub.gateway().provider(provider).is_some_and(Provider::is_ready)
    }

    fn no_key(&self, provider: &str) -> (String, String) {
        match self.hub.gateway().provider(provider) {
            Some(known) => (
                format!("there is no key for {provider}"),
                format!("{}; or try it without a key, by `--model {DEMO_MODEL}`", known.remedy()),
            ),
            None => {
                let known: Vec<&str> = crate::providers::names(&self.settings).collect();
                (
                    format!(
                        "there is no model provider `{provider}`; there is {}",
                        known.join(", ")
                    ),
                    format!(
                        "describe it as [providers.{provider}] in boatyard.toml and start the \
                         server again"
                    ),
                )
            }
        }
    }
}
