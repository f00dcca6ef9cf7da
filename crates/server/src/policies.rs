//! What each workspace's traffic is judged by.
//!
//! ```text
//!  boatyard.toml ─┐
//!  rows ──────────┴► layers: organization, repository, workspace ─┐
//!                                      credentials (bindings) ────┴► Policy ─watch─► proxies
//! ```
//!
//! [`Policies::watch`] gives a workspace's [`Policy`] as it is now and as it changes. A layer is read
//! once and shared by every workspace that it holds for. Who changes a rule stores it and then calls
//! [`Policies::changed`], which returns when every workspace that is watched has its new policy:
//! the next request is judged by it, and a tunnel that it does not allow ends.
//!
//! Where a layer can't be read, nothing passes in the workspaces that it holds for until it can.

mod base;
mod rows;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use boatyard_egress::{
    Policy, RuleSet,
    policy::Binding,
    rules::{Below, Layer},
};
use boatyard_model::{MemberId, OrganizationId, RepositoryId, Timestamp, WorkspaceId};
use boatyard_store::{Owner, RulePlace, Store};
use tokio::{
    sync::{Mutex, Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::settings::Settings;

pub use self::{
    base::{Base, BaseRule},
    rows::Made,
};
pub(crate) use base::rules;

/// How long the clock is trusted before it is looked at again: a machine that slept may have missed
/// the end of a rule.
const LOOK: Duration = Duration::from_secs(15);
/// When what could not be read is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Whose traffic it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose {
    /// The organization.
    pub organization: OrganizationId,
    /// The member of it whose the workspace is.
    pub member: MemberId,
    /// The repository in the workspace.
    pub repository: Option<RepositoryId>,
    /// The workspace.
    pub workspace: WorkspaceId,
}

impl Whose {
    /// Nobody's: what no table knows and nobody answers for has the settings' rules alone.
    const fn nobodys(workspace: WorkspaceId) -> Self {
        let (organization, member) = (OrganizationId::from_u128(0), MemberId::from_u128(0));
        Self { organization, member, repository: None, workspace }
    }

    /// Whose it is.
    pub const fn owner(&self) -> Owner {
        Owner { organization: self.organization, member: self.member }
    }

    /// The places whose rules hold for it, the widest first.
    pub fn places(&self) -> impl Iterator<Item = RulePlace> {
        [
            Some(RulePlace::Organization),
            self.repository.map(RulePlace::Repository),
            Some(RulePlace::Workspace(self.workspace)),
        ]
        .into_iter()
        .flatten()
    }
}

/// An answer that is on its way.
pub type Bound = Pin<Box<dyn Future<Output = boatyard_store::Result<Vec<Arc<Binding>>>> + Send>>;

/// Where credentials go, workspace by workspace.
pub trait Bindings: fmt::Debug + Send + Sync + 'static {
    /// Those of a workspace.
    fn of(&self, whose: Whose) -> Bound;
}

/// The policies of all workspaces. A cheap clone.
#[derive(Clone)]
pub struct Policies(Arc<Inner>);

struct Inner {
    store: Store,
    base: Base,
    bindings: OnceLock<Arc<dyn Bindings>>,
    /// Held while something is read: what changes meanwhile is read after it.
    state: Mutex<State>,
    /// Something has another end than was thought.
    ends: Notify,
}

#[derive(Default)]
struct State {
    layers: HashMap<(OrganizationId, RulePlace), Kept>,
    watched: HashMap<WorkspaceId, Watched>,
    /// Some policy could not be made.
    is_broken: bool,
}

/// A layer as it was read.
#[derive(Clone)]
struct Kept {
    layer: Arc<Layer>,
    /// When its next rule ends.
    ends: Option<Timestamp>,
}

struct Watched {
    whose: Whose,
    policy: watch::Sender<Arc<Policy>>,
    is_broken: bool,
}

impl Policies {
    /// Those that the settings and the store describe.
    ///
    /// # Errors
    /// When `[egress]` makes no sense, with the key that is wrong.
    pub fn new(store: Store, settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Inner {
            store,
            base: Base::new(settings)?,
            bindings: OnceLock::new(),
            state: Mutex::default(),
            ends: Notify::new(),
        })))
    }

    /// Has credentials go with requests from now on. Said once, before anything is watched.
    pub fn bind(&self, bindings: Arc<dyn Bindings>) {
        if self.0.bindings.set(bindings).is_err() {
            tracing::error!("where credentials go was said twice; the first holds");
        }
    }

    /// What the settings say.
    pub fn base(&self) -> &Base {
        &self.0.base
    }

    /// The policy of a workspace, now and as it changes.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn watch(
        &self,
        workspace: WorkspaceId,
    ) -> boatyard_store::Result<watch::Receiver<Arc<Policy>>> {
        let whose = match self.0.store.workspace(workspace).await {
            Ok(row) => Whose {
                organization: row.owner.organization,
                member: row.owner.member,
                repository: row.repository,
                workspace,
            },
            // One that only makes a layer is watched for whom it is made.
            Err(boatyard_store::Error::NotFound { .. }) => {
                let state = self.0.state.lock().await;
                let known = state.watched.get(&workspace).map(|watched| watched.whose);
                known.unwrap_or(Whose::nobodys(workspace))
            }
            Err(error) => return Err(error),
        };
        self.watch_for(whose).await
    }

    /// The same for a workspace that is on no record: one that makes a layer for a repository.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn watch_for(
        &self,
        whose: Whose,
    ) -> boatyard_store::Result<watch::Receiver<Arc<Policy>>> {
        let mut state = self.0.state.lock().await;
        if let Some(watched) = state.watched.get(&whose.workspace)
            && watched.whose == whose
            && !watched.is_broken
            && watched.policy.receiver_count() > 0
        {
            return Ok(watched.policy.subscribe());
        }
        state.forget_unwatched();
        let policy = Arc::new(self.compile(&mut state, whose).await?);
        self.0.ends.notify_one();
        if let Some(watched) = state.watched.get_mut(&whose.workspace) {
            // Somebody may still hold the one that was.
            watched.whose = whose;
            watched.is_broken = false;
            watched.policy.send_replace(policy);
            return Ok(watched.policy.subscribe());
        }
        let (policy, receiver) = watch::channel(policy);
        state.watched.insert(whose.workspace, Watched { whose, policy, is_broken: false });
        Ok(receiver)
    }

    /// Rules or settings of a place have changed. Returns when every workspace that is watched is
    /// judged by them.
    pub async fn changed(&self, organization: OrganizationId, place: RulePlace) {
        let mut state = self.0.state.lock().await;
        state.layers.remove(&(organization, place));
        self.renew(&mut state, |whose| {
            whose.organization == organization && whose.places().any(|held| held == place)
        })
        .await;
    }

    /// Something that every policy of an organization is made of has changed, its credentials say.
    pub async fn changed_all(&self, organization: OrganizationId) {
        let mut state = self.0.state.lock().await;
        self.renew(&mut state, |whose| whose.organization == organization).await;
    }

    /// Workspaces of an organization have got other owners. Returns when each has the policy of the
    /// one whose it is now.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn changed_owners(&self, organization: OrganizationId) -> boatyard_store::Result<()> {
        let mut state = self.0.state.lock().await;
        state.forget_unwatched();
        let theirs = state.watched.values_mut();
        for watched in theirs.filter(|watched| watched.whose.organization == organization) {
            match self.0.store.workspace(watched.whose.workspace).await {
                Ok(row) => watched.whose.member = row.owner.member,
                Err(boatyard_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.renew(&mut state, |whose| whose.organization == organization).await;
        Ok(())
    }

    /// The rules that hold for somebody, as they are at this moment.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn rules_for(
        &self,
        organization: OrganizationId,
        places: impl IntoIterator<Item = RulePlace>,
    ) -> boatyard_store::Result<RuleSet> {
        let mut state = self.0.state.lock().await;
        self.rule_set(&mut state, organization, places).await
    }

    /// Ends rules when their time has come, until the server stops.
    pub async fn run(self, stopping: CancellationToken) {
        loop {
            let wait = self.wait().await;
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.0.ends.notified() => continue,
                () = sleep(wait) => {}
            }
            let now = self.0.store.now();
            let mut state = self.0.state.lock().await;
            state.forget_unwatched();
            let ended = |kept: &Kept| kept.ends.is_some_and(|ends| ends <= now);
            let places: Vec<(OrganizationId, RulePlace)> = state
                .layers
                .iter()
                .filter(|(_, kept)| ended(kept))
                .map(|(place, _)| *place)
                .collect();
            for place in &places {
                state.layers.remove(place);
            }
            let is_broken = std::mem::take(&mut state.is_broken);
            if is_broken || !places.is_empty() {
                let broken: Vec<WorkspaceId> = state
                    .watched
                    .values()
                    .filter(|watched| watched.is_broken)
                    .map(|watched| watched.whose.workspace)
                    .collect();
                self.renew(&mut state, |whose| {
                    broken.contains(&whose.workspace)
                        || whose.places().any(|held| places.contains(&(whose.organization, held)))
                })
                .await;
            }
        }
    }

    async fn wait(&self) -> Duration {
        let state = self.0.state.lock().await;
        if state.is_broken {
            return AGAIN;
        }
        let now = self.0.store.now();
        let next = state.layers.values().filter_map(|kept| kept.ends).min();
        next.map_or(LOOK, |ends| ends.since(now).min(LOOK))
    }

    /// Makes the policies of those anew who are meant.
    async fn renew(&self, state: &mut State, is_meant: impl Fn(&Whose) -> bool) {
        state.forget_unwatched();
        let meant: Vec<Whose> =
            state.watched.values().map(|watched| watched.whose).filter(is_meant).collect();
        for whose in meant {
            let made = self.compile(state, whose).await;
            let is_broken = made.is_err();
            let policy = made.unwrap_or_else(|error| {
                let error = crate::chain(&error);
                tracing::error!(workspace.id = %whose.workspace, %error,
                    "its rules of egress can't be read: nothing leaves it until they can");
                Policy::default()
            });
            state.is_broken |= is_broken;
            if let Some(watched) = state.watched.get_mut(&whose.workspace) {
                watched.is_broken = is_broken;
                watched.policy.send_replace(Arc::new(policy));
            }
        }
        self.0.ends.notify_one();
    }

    async fn compile(&self, state: &mut State, whose: Whose) -> boatyard_store::Result<Policy> {
        let rules = self.rule_set(state, whose.organization, whose.places()).await?;
        let bindings = match self.0.bindings.get() {
            Some(bindings) => bindings.of(whose).await?,
            None => Vec::new(),
        };
        Ok(Policy::new(rules, bindings))
    }

    async fn rule_set(
        &self,
        state: &mut State,
        organization: OrganizationId,
        places: impl IntoIterator<Item = RulePlace>,
    ) -> boatyard_store::Result<RuleSet> {
        let now = self.0.store.now();
        let mut layers = Vec::new();
        for place in places {
            let kept = state.layers.get(&(organization, place));
            let kept = match kept.filter(|kept| kept.ends.is_none_or(|ends| ends > now)) {
                Some(kept) => kept.clone(),
                None => {
                    let kept = self.read(organization, place).await?;
                    state.layers.insert((organization, place), kept.clone());
                    kept
                }
            };
            layers.push(kept.layer);
        }
        Ok(RuleSet::of(layers))
    }

    async fn read(
        &self,
        organization: OrganizationId,
        place: RulePlace,
    ) -> boatyard_store::Result<Kept> {
        let now = self.0.store.now();
        let set = self.0.store.rule_scope(organization, place).await?;
        let rows = self.0.store.rules(organization, place).await?;
        let mut layer = match place {
            RulePlace::Organization => self.0.base.layer(),
            _ => Layer::new(place.scope(), Vec::new()),
        };
        layer.mode = set.mode.or(layer.mode);
        layer.below = match set.widen {
            Some(true) => Below::MayWiden,
            Some(false) => Below::MayNarrow,
            None => layer.below,
        };
        let holds = |ends: Option<Timestamp>| ends.is_none_or(|ends| ends > now);
        for row in rows.iter().filter(|row| holds(row.expires)) {
            let made = Made::of(row);
            if let Some(why) = &made.odd {
                tracing::warn!(rule.id = %row.id, "{why}");
            }
            layer.rules.extend(made.rules);
        }
        let ends = rows.iter().filter_map(|row| row.expires).filter(|ends| *ends > now).min();
        Ok(Kept { layer: Arc::new(layer), ends })
    }
}

impl State {
    /// Lets go of what nobody watches any more.
    fn forget_unwatched(&mut self) {
        self.watched.retain(|_, watched| watched.policy.receiver_count() > 0);
        let watched = &self.watched;
        self.layers.retain(|(_, place), _| match place {
            RulePlace::Organization => true,
            RulePlace::Repository(id) => {
                watched.values().any(|watched| watched.whose.repository == Some(*id))
            }
            RulePlace::Workspace(id) => watched.contains_key(id),
        });
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").field("base", &self.0.base).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
