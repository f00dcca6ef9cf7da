//! One workspace: what may happen to it, one thing at a time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use boatyard_link::GoAwayCode;
use boatyard_model::{Timestamp, WorkspaceId, WorkspaceLimits, WorkspaceState};
use boatyard_runtime::{StartSpec, Started};
use boatyard_store::{Reason, WorkspaceUpdate};

use super::{Attached, Hub, HubError, attached::Purpose, events, ways::Ways};

/// How long a runner has to end its agents in order before a workspace sleeps.
const QUIESCE: Duration = Duration::from_secs(2);

/// One workspace, as the hub knows it.
pub(crate) struct Place {
    pub(crate) workspace: WorkspaceId,
    /// Held by whoever starts, attaches, stops or freezes it.
    turn: tokio::sync::Mutex<()>,
    link: Mutex<Option<Arc<Attached>>>,
    pub(super) ways: Ways,
    /// When somebody last asked for it.
    used: AtomicI64,
}

impl Place {
    pub(super) fn new(workspace: WorkspaceId) -> Self {
        Self {
            workspace,
            turn: tokio::sync::Mutex::default(),
            link: Mutex::default(),
            ways: Ways::default(),
            used: AtomicI64::new(0),
        }
    }

    /// The live link, if there is one.
    pub(crate) fn attached(&self) -> Option<Arc<Attached>> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.as_ref().filter(|attached| attached.is_live()).cloned()
    }

    pub(super) fn is_detached(&self) -> bool {
        self.attached().is_none()
    }

    pub(super) fn used(&self) -> Timestamp {
        Timestamp(self.used.load(Ordering::Relaxed))
    }

    fn touch(&self, now: Timestamp) {
        self.used.store(now.0, Ordering::Relaxed);
    }

    fn set_link(&self, attached: Option<Arc<Attached>>) -> Option<Arc<Attached>> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *link, attached)
    }

    /// Ends the link with a hint; the workspace goes on.
    pub(super) async fn detach(&self, why: &str) {
        let _turn = self.turn.lock().await;
        if let Some(attached) = self.set_link(None) {
            attached.close(GoAwayCode::CLOSING, why).await;
        }
    }
}

impl Hub {
    /// The live link to a workspace that is awake.
    ///
    /// # Errors
    /// When it doesn't run or can't be reached.
    pub async fn attach(&self, workspace: WorkspaceId) -> Result<Arc<Attached>, HubError> {
        let place = self.place(workspace);
        place.touch(self.shared.store.now());
        if let Some(attached) = place.attached() {
            return Ok(attached);
        }
        let _turn = place.turn.lock().await;
        self.attach_in_turn(&place).await
    }

    async fn attach_in_turn(&self, place: &Arc<Place>) -> Result<Arc<Attached>, HubError> {
        if let Some(attached) = place.attached() {
            return Ok(attached);
        }
        let workspace = place.workspace;
        let link = async {
            let connection = self.shared.runtime.connect(workspace).await?;
            Attached::start(connection, Purpose::Workspace).await
        };
        let (attached, ()) = tokio::try_join!(link, self.serve_ways(place))?;
        events::follow(self, &attached, workspace).await?;
        place.set_link(Some(Arc::clone(&attached)));
        Ok(attached)
    }

    /// Makes a workspace run, and attaches to it.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn wake(&self, workspace: WorkspaceId) -> Result<Arc<Attached>, HubError> {
        let place = self.place(workspace);
        place.touch(self.shared.store.now());
        if let Some(attached) = place.attached() {
            return Ok(attached);
        }
        let _turn = place.turn.lock().await;
        let row = self.shared.store.workspace(workspace).await?;
        match row.state {
            WorkspaceState::Awake => match self.attach_in_turn(&place).await {
                Err(HubError::Runtime(boatyard_runtime::Error::NotRunning(_))) => {
                    self.lost_in_turn(&place).await?;
                }
                other => return other,
            },
            WorkspaceState::Creating | WorkspaceState::Asleep => {}
            state @ (WorkspaceState::Failed | WorkspaceState::Deleted) => {
                return Err(HubError::State(match &row.reason {
                    Some(reason) => reason.text.clone(),
                    None => format!("workspace {workspace} is {state}"),
                }));
            }
        }
        let generation = self
            .shared
            .store
            .write(move |tx| Box::pin(async move { tx.next_generation(workspace).await }))
            .await?;
        let spec = StartSpec {
            generation,
            layers: row.lowers.clone(),
            mirror: row.repository,
            limits: row.limits,
        };
        let started = self.shared.runtime.start(workspace, &spec).await?;
        let is_torn = started.unclean;
        let attached = self.started_in_turn(&place, started).await?;
        if is_torn {
            self.recover(&row, &attached, generation).await?;
        }
        Ok(attached)
    }

    /// Makes an empty workspace and attaches to it, while `stored` puts it on record as one that
    /// begins at once ([`Begins::AtOnce`]). If it can't be recorded, it is taken away again.
    ///
    /// [`Begins::AtOnce`]: boatyard_store::Begins::AtOnce
    ///
    /// # Errors
    /// When it can't be stored or started.
    pub async fn launch(
        &self,
        workspace: WorkspaceId,
        limits: WorkspaceLimits,
        stored: impl Future<Output = boatyard_store::Result<()>>,
    ) -> Result<Arc<Attached>, HubError> {
        let place = self.place(workspace);
        place.touch(self.shared.store.now());
        let _turn = place.turn.lock().await;
        let runtime = &self.shared.runtime;
        let spec = StartSpec { generation: 1, layers: Vec::new(), mirror: None, limits };
        let (stored, started) = tokio::join!(stored, runtime.start(workspace, &spec));
        if let Err(error) = stored {
            if started.is_ok() {
                runtime.kill(workspace).await?;
                runtime.remove(workspace).await?;
            }
            return Err(error.into());
        }
        self.started_in_turn(&place, started?).await
    }

    /// Attaches to what was just started; the disk notes that it runs while the runner comes up.
    async fn started_in_turn(
        &self,
        place: &Arc<Place>,
        started: Started,
    ) -> Result<Arc<Attached>, HubError> {
        let workspace = place.workspace;
        let isolation = started.isolation.to_string();
        let recovered = started.unclean.then_some(true);
        let noted = self.shared.store.write(move |tx| {
            Box::pin(async move {
                let known = WorkspaceUpdate {
                    isolation: Some(isolation),
                    recovered,
                    ..WorkspaceUpdate::default()
                };
                tx.update_workspace(workspace, known).await?;
                tx.set_workspace_state(workspace, WorkspaceState::Awake, None).await
            })
        });
        let (noted, attached) = tokio::join!(noted, self.attach_in_turn(place));
        noted?;
        attached
    }

    /// Ends a workspace's processes in order; its files stay.
    ///
    /// # Errors
    /// When a process can't be ended.
    pub async fn sleep(&self, workspace: WorkspaceId) -> Result<(), HubError> {
        let place = self.place(workspace);
        let _turn = place.turn.lock().await;
        if let Some(attached) = place.attached() {
            // It is killed next; this only lets agents write what they hold.
            let asked = attached.ask(boatyard_link::message::Request::Quiesce);
            if let Ok(Err(error)) = tokio::time::timeout(QUIESCE, asked).await {
                tracing::debug!(workspace.id = %workspace, %error, "a runner did not quiesce");
            }
        }
        self.end_in_turn(&place).await?;
        self.shared.runtime.sync(workspace).await?;
        Ok(())
    }

    /// Ends every process of a workspace at once; its files stay.
    ///
    /// # Errors
    /// When a process can't be ended.
    pub async fn kill(&self, workspace: WorkspaceId) -> Result<(), HubError> {
        let place = self.place(workspace);
        let _turn = place.turn.lock().await;
        self.end_in_turn(&place).await
    }

    /// Ends it, takes over what its runner still had to say, and notes that it sleeps.
    async fn end_in_turn(&self, place: &Arc<Place>) -> Result<(), HubError> {
        self.shared.runtime.kill(place.workspace).await?;
        if let Some(attached) = place.set_link(None) {
            attached.close(GoAwayCode::CLOSING, "the workspace stops").await;
        }
        place.ways.end();
        self.lost_in_turn(place).await
    }

    /// A first process was found gone.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn found_gone(&self, workspace: WorkspaceId) -> Result<(), HubError> {
        let place = self.place(workspace);
        let _turn = place.turn.lock().await;
        place.set_link(None);
        place.ways.end();
        self.lost_in_turn(&place).await
    }

    /// Removes a workspace with its files.
    ///
    /// # Errors
    /// When the runtime or the store refuses.
    pub async fn remove(&self, workspace: WorkspaceId) -> Result<(), HubError> {
        let place = self.place(workspace);
        {
            let _turn = place.turn.lock().await;
            self.end_in_turn(&place).await?;
            match self.shared.runtime.remove(workspace).await {
                Ok(()) | Err(boatyard_runtime::Error::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
            self.shared
                .store
                .write(move |tx| {
                    Box::pin(async move {
                        tx.set_workspace_state(workspace, WorkspaceState::Deleted, None).await
                    })
                })
                .await?;
        }
        drop(place);
        self.forget(workspace);
        Ok(())
    }

    /// Notes that a workspace can't be used any more.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn fail(&self, workspace: WorkspaceId, reason: Reason) -> Result<(), HubError> {
        self.shared
            .store
            .write(move |tx| {
                Box::pin(async move {
                    tx.set_workspace_state(workspace, WorkspaceState::Failed, Some(reason)).await
                })
            })
            .await?;
        Ok(())
    }

    /// Runs `work` while nobody else starts, stops or attaches the workspace, which sleeps.
    ///
    /// # Errors
    /// The work's own.
    pub(crate) async fn while_quiet<T, F>(
        &self,
        workspace: WorkspaceId,
        work: F,
    ) -> Result<T, HubError>
    where
        F: AsyncFnOnce() -> Result<T, HubError>,
    {
        let place = self.place(workspace);
        let _turn = place.turn.lock().await;
        work().await
    }
}
