//! The hub: the live links to workspaces.
//!
//! ```text
//!            wake                 attach (a request, a running turn, a start of the server)
//!  asleep ─────────► awake ─────────────────────────► attached: link, control, events, egress
//!    ▲                 ▲                                  │
//!    └── sleep, lost ──┴──── idle for a while: detached ◄─┘
//! ```
//!
//! - [`place`]: one workspace: what may happen to it, one thing at a time.
//! - [`attached`]: a live link with its control stream.
//! - [`events`]: what a workspace says, stored and then acknowledged.
//! - `exec`: commands.
//! - [`requests`]: files and git.
//! - [`lost`]: what is done when a first process is gone.
//! - `settle`: what is done for the files of one that stopped.
//! - [`sweep`]: what is looked at now and then.
//! - `builders`: the ways out of throw-away workspaces.
//! - `programs`: which program inside has a connection.
//! - `ways`: the ways out of a workspace, served while it runs.
//! - `models`: the way to models.
//!
//! A workspace lives on when its link or the whole server goes: attaching again goes on after the
//! last record that was stored.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use boatyard_egress::{
    Cidr, Guard, Outgoing, Proxy, broker::Exchange, gateway::Gateway, open::Opener, resolve::System,
};
use boatyard_link::message::{Failure, FailureCode};
use boatyard_model::WorkspaceId;
use boatyard_runtime::Runtime;
use boatyard_store::{SessionFilter, SessionRow, Store, WorkspaceRow};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    asks::Asks,
    blobs::Blobs,
    connections::Connections,
    git::{self, Git},
    ledger::Ledger,
    policies::Policies,
    providers::Providers,
    rates::Limit,
    settings::Settings,
    traffic::Traffic,
    unrecorded::Unrecorded,
};

pub mod attached;
pub(crate) mod builders;
pub mod events;
pub mod exec;
pub mod lost;
mod models;
pub mod place;
mod programs;
mod recover;
pub mod requests;
mod retries;
mod settle;
pub mod sweep;
mod ways;

pub use attached::Attached;
use place::Place;

/// Sessions of one workspace that are looked at.
const SESSIONS_MAX: u32 = 1000;

/// How long requests to models may still go on when all else has ended: they have had time before.
const DRAIN: Duration = Duration::from_secs(1);

/// The live links. A cheap clone.
#[derive(Clone)]
pub struct Hub {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) blobs: Blobs,
    pub(crate) settings: Arc<Settings>,
    pub(crate) stopping: CancellationToken,
    pub(crate) proxy: Proxy,
    /// How installations reach the package sources.
    sources: boatyard_egress::Settings,
    pub(crate) policies: Policies,
    /// What left workspaces.
    pub(crate) traffic: Traffic,
    /// What waits for a person before it leaves.
    asks: Asks,
    pub(crate) gateway: Gateway,
    /// What repositories are reached with.
    git: Git,
    /// What models cost, and what they may.
    pub(crate) ledger: Ledger,
    /// For agents that are only tried.
    keyless: Gateway,
    /// Gateways of workspaces: they end in good order when the server does.
    draining: TaskTracker,
    places: Mutex<HashMap<WorkspaceId, Arc<Place>>>,
    keeper: recover::Keeper,
    settler: settle::Settler,
    programs: programs::Programs,
    /// Whose those workspaces are that no table knows.
    unrecorded: Unrecorded,
}

/// Why something could not be done in a workspace.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The runtime refused.
    #[error(transparent)]
    Runtime(#[from] boatyard_runtime::Error),
    /// The link ended or broke its protocol.
    #[error("the link to the workspace ended")]
    Link(#[from] boatyard_link::Error),
    /// The runner refused, and says why.
    #[error(transparent)]
    Runner(#[from] Failure),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] boatyard_store::Error),
    /// The workspace is not in a state in which this can be done.
    #[error("{0}")]
    State(String),
    /// No answer in time.
    #[error("the workspace did not answer within {0} s")]
    Timeout(u64),
    /// The other side did not speak as it must.
    #[error("the workspace gave a wrong answer to {0}")]
    Protocol(&'static str),
}

impl HubError {
    /// The runner's word for what went wrong, if it was the runner.
    pub fn code(&self) -> Option<FailureCode> {
        match self {
            Self::Runner(failure) => Some(failure.code),
            _ => None,
        }
    }

    /// Whether the workspace, or the link to it, is gone: worth another try after attaching again.
    pub fn is_lost(&self) -> bool {
        matches!(
            self,
            Self::Link(_)
                | Self::Timeout(_)
                | Self::Runtime(boatyard_runtime::Error::NotRunning(_))
        )
    }
}

/// What the ways out of workspaces are made of.
pub struct Outside<'a> {
    /// Where models come from, with the keys.
    pub providers: Providers,
    /// Credentials for everything else.
    pub connections: &'a Connections,
    /// What opens TLS where it must be looked into.
    pub opener: Arc<Opener>,
}

impl Hub {
    /// A hub without links.
    ///
    /// # Errors
    /// When the egress settings make no sense.
    pub fn new(
        store: Store,
        runtime: Arc<dyn Runtime>,
        blobs: Blobs,
        settings: Arc<Settings>,
        Outside { providers, connections, opener }: Outside<'_>,
        stopping: CancellationToken,
    ) -> anyhow::Result<Self> {
        let allowed = settings.egress.allow_private.iter().map(|text| text.parse::<Cidr>());
        let outgoing = match settings.egress.offline {
            true => Outgoing::offline(),
            false => Outgoing::from_env(|name| std::env::var(name).ok())?,
        };
        let unrecorded = Unrecorded::default();
        let answer_time = settings.limits.answer_time.duration();
        let rate = Arc::new(Limit::new(settings.rates.gateway));
        let ledger = Ledger::new(store.clone(), answer_time, Arc::clone(&rate), unrecorded.clone());
        let allowed: Vec<Cidr> = allowed.collect::<Result<_, _>>()?;
        let traffic = Traffic::start(store.clone());
        let ask_time = settings.egress.ask_time.duration();
        let asks = Asks::new(store.clone(), ask_time, stopping.clone());
        let egress = boatyard_egress::Settings {
            guard: Guard::new(allowed.clone()),
            outgoing: outgoing.clone(),
            how_to_ask: "Add the host to `[egress] allow` in boatyard.toml.".to_owned(),
            asker: Arc::new(asks.clone()),
            opener: Some(opener),
            broker: Arc::new(Exchange::new(connections.keeper())),
            ..boatyard_egress::Settings::default()
        };
        let sources = builders::sources(&egress, allowed)?;
        let proxy = Proxy::new(egress, Arc::new(System), Arc::new(traffic.clone()));
        let policies = Policies::new(store.clone(), &settings)?;
        connections.serve(&policies);
        let git = Git::new(git::Parts {
            store: store.clone(),
            settings: Arc::clone(&settings),
            policies: policies.clone(),
            asker: Arc::new(asks.clone()),
            log: Arc::new(traffic.clone()),
            outgoing: outgoing.clone(),
            wallet: connections.wallet(),
            vault: connections.vault().clone(),
            unrecorded: unrecorded.clone(),
            rate,
        })?;
        let (ours, theirs) = (ledger.clone(), git.gateway.clone());
        let (gateway, calls) =
            models::gateway(&settings, providers, outgoing, ours, theirs, connections)?;
        let places = Mutex::default();
        let keeper = recover::Keeper::start(Arc::clone(&runtime), stopping.clone());
        let (settler, stopped) = settle::Settler::new();
        let shared = Shared {
            store,
            runtime,
            blobs,
            settings,
            stopping,
            proxy,
            sources,
            policies,
            traffic,
            asks,
            gateway,
            git,
            ledger,
            keyless: models::keyless()?,
            draining: TaskTracker::new(),
            places,
            keeper,
            settler,
            programs: programs::Programs::default(),
            unrecorded,
        };
        let hub = Self { shared: Arc::new(shared) };
        hub.shared.traffic.ask(&hub);
        hub.shared.asks.know(&hub);
        tokio::spawn(models::count(calls, hub.clone(), retries::Retries::new(hub.clone())));
        tokio::spawn(hub.shared.ledger.clone().run());
        tokio::spawn(settle::run(hub.clone(), stopped));
        let stopping = hub.shared.stopping.clone();
        tokio::spawn(hub.shared.policies.clone().run(stopping));
        Ok(hub)
    }

    /// The place of a workspace; made when it is asked for first.
    pub(crate) fn place(&self, workspace: WorkspaceId) -> Arc<Place> {
        let mut places = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(workspace).or_insert_with(|| Arc::new(Place::new(workspace))))
    }

    /// All places.
    pub(crate) fn places(&self) -> Vec<Arc<Place>> {
        let places = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.values().cloned().collect()
    }

    /// Forgets a place that has no link and that nobody uses.
    pub(crate) fn forget(&self, workspace: WorkspaceId) {
        let mut places = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is the map's own.
        if places
            .get(&workspace)
            .is_some_and(|place| Arc::strong_count(place) == 1 && place.is_detached())
        {
            places.remove(&workspace);
        }
    }

    /// How many workspaces have a live link.
    pub fn links(&self) -> usize {
        self.places().iter().filter(|place| !place.is_detached()).count()
    }

    /// What each workspace's traffic is judged by.
    pub fn policies(&self) -> &Policies {
        &self.shared.policies
    }

    /// What models cost, and what they may.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// The gateway to models.
    pub fn gateway(&self) -> &Gateway {
        &self.shared.gateway
    }

    /// What repositories are reached with, and commits signed.
    pub fn git(&self) -> &Git {
        &self.shared.git
    }

    /// The log of what left workspaces.
    pub fn traffic(&self) -> &Traffic {
        &self.shared.traffic
    }

    /// What waits for a person before it leaves.
    pub fn asks(&self) -> &Asks {
        &self.shared.asks
    }

    /// A workspace's sessions, the newest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn sessions_in(&self, row: &WorkspaceRow) -> boatyard_store::Result<Vec<SessionRow>> {
        self.shared.sessions_in(row).await
    }

    /// Closes every link with a hint to come back: the server goes down, the workspaces stay.
    pub async fn close(&self) {
        for place in self.places() {
            place.detach("the server goes down").await;
        }
        self.shared.draining.close();
        if tokio::time::timeout(DRAIN, self.shared.draining.wait()).await.is_err() {
            tracing::warn!("answers of models were cut at the end; their agents ask again");
        }
        if let Err(error) = self.shared.ledger.flush().await {
            tracing::error!(error = %crate::chain(&error), "what models used was not stored");
        }
        self.shared.traffic.flush().await;
    }
}

impl Shared {
    /// A workspace's sessions, the newest first.
    pub(crate) async fn sessions_in(
        &self,
        row: &WorkspaceRow,
    ) -> boatyard_store::Result<Vec<SessionRow>> {
        let filter = SessionFilter { workspace: Some(row.id), ..SessionFilter::default() };
        self.store.list_sessions(row.owner.organization, filter, SESSIONS_MAX).await
    }
}
