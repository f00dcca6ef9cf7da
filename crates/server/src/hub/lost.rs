//! What is done when a first process is gone: what its runner still had to say is taken over from
//! the spool, and what ran is over.

use std::sync::Arc;

use boatyard_link::spool::SpoolReader;
use boatyard_model::{EventBody, SessionState, TurnOutcome, WorkspaceState, event::NoticeLevel};
use boatyard_store::{NewEvent, SessionRow};

use super::{Hub, HubError, events::Taker, place::Place};

/// Records that are read from a spool before they are stored.
const BATCH: usize = 256;

impl Hub {
    /// Takes over the spool of a workspace whose first process is gone, closes what ran, and notes
    /// that it sleeps. To be called with the place's turn held.
    pub(super) async fn lost_in_turn(&self, place: &Arc<Place>) -> Result<(), HubError> {
        let workspace = place.workspace;
        let row = self.shared.store.workspace(workspace).await?;
        if !matches!(row.state, WorkspaceState::Awake | WorkspaceState::Creating) {
            return Ok(());
        }
        match self.shared.runtime.spool(workspace).await {
            Ok(Some(file)) => self.drain(place, file).await?,
            Ok(None) | Err(boatyard_runtime::Error::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(workspace.id = %workspace, error = %crate::chain(&error), "a spool can't be read");
            }
        }
        let sessions = self.sessions_in(&row).await?;
        for session in sessions {
            let running = matches!(session.state, SessionState::Running | SessionState::Waiting);
            if let (true, Some(turn)) = (running, session.turn) {
                self.close_turn(&session, turn, TurnOutcome::RunnerLost).await?;
            }
        }
        if row.state == WorkspaceState::Awake {
            self.shared
                .store
                .write(move |tx| {
                    Box::pin(async move {
                        tx.set_workspace_state(workspace, WorkspaceState::Asleep, None).await
                    })
                })
                .await?;
            self.stopped(workspace);
        }
        Ok(())
    }

    /// Ends a turn that nothing will end any more.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn close_turn(
        &self,
        session: &SessionRow,
        turn: u32,
        outcome: TurnOutcome,
    ) -> Result<(), HubError> {
        let error = match outcome {
            TurnOutcome::RunnerLost => Some(
                "The workspace's processes ended in the middle of the turn. Its files are kept; \
                 the next prompt takes the conversation up again."
                    .to_owned(),
            ),
            _ => None,
        };
        self.end_turn(session, turn, outcome, error).await
    }

    /// Ends a turn with these words.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn end_turn(
        &self,
        session: &SessionRow,
        turn: u32,
        outcome: TurnOutcome,
        error: Option<String>,
    ) -> Result<(), HubError> {
        let body = EventBody::TurnCompleted { outcome, error, checkpoint: None, millis: 0 };
        let event = NewEvent::own(session.id, self.shared.store.now(), Some(turn), body);
        self.shared.store.append(vec![event]).await?;
        Ok(())
    }

    async fn drain(&self, place: &Arc<Place>, file: std::fs::File) -> Result<(), HubError> {
        let mut taker = Taker::new(Arc::clone(&self.shared), place.workspace).await?;
        let after = taker.last();
        let opened = tokio::task::spawn_blocking(move || SpoolReader::open(file, after)).await;
        let reader = match opened {
            Ok(Ok(Some(reader))) => reader,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => {
                tracing::warn!(workspace.id = %place.workspace, %error, "a spool can't be read");
                return Ok(());
            }
            Err(_) => return Err(HubError::Protocol("its spool")),
        };
        let mut reader = Some(reader);
        while let Some(mut current) = reader.take() {
            let read = tokio::task::spawn_blocking(move || {
                let mut batch = Vec::new();
                let mut more = true;
                while batch.len() < BATCH {
                    match current.next_record() {
                        Ok(Some(record)) => batch.push(record),
                        // What can't be read any more ends it as a torn tail does.
                        Ok(None) | Err(_) => {
                            more = false;
                            break;
                        }
                    }
                }
                (batch, more.then_some(current))
            });
            let (batch, rest) = read.await.map_err(|_| HubError::Protocol("its spool"))?;
            taker.store(batch).await?;
            reader = rest;
        }
        Ok(())
    }

    /// A link ended. If something runs in the workspace, it is looked after: attached again, or
    /// found gone.
    pub(super) fn link_ended(&self, workspace: boatyard_model::WorkspaceId) {
        if self.shared.stopping.is_cancelled() {
            return;
        }
        let hub = self.clone();
        tokio::spawn(async move {
            if let Err(error) = hub.look_after(workspace).await {
                tracing::warn!(workspace.id = %workspace, error = %crate::chain(&error), "a workspace can't be looked after");
            }
        });
    }

    /// Attaches to a workspace in which turns run; notes the loss of one that is gone.
    ///
    /// # Errors
    /// When the store refuses, or the runner can't be reached although it lives.
    pub async fn look_after(&self, workspace: boatyard_model::WorkspaceId) -> Result<(), HubError> {
        let row = self.shared.store.workspace(workspace).await?;
        if row.state != WorkspaceState::Awake {
            return Ok(());
        }
        let sessions = self.sessions_in(&row).await?;
        let busy: Vec<SessionRow> = sessions
            .into_iter()
            .filter(|session| {
                matches!(session.state, SessionState::Running | SessionState::Waiting)
            })
            .collect();
        if busy.is_empty() && self.place(workspace).attached().is_none() {
            // Whether it lives is asked when somebody wants something of it.
            return Ok(());
        }
        match self.attach(workspace).await {
            // Turns that it never saw are delivered by their job; the end of others is on its way.
            Ok(_) => Ok(()),
            Err(HubError::Runtime(boatyard_runtime::Error::NotRunning(_))) => {
                self.found_gone(workspace).await
            }
            Err(error) => Err(error),
        }
    }

    /// Tells a session something that a person should know.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn notice(
        &self,
        session: &SessionRow,
        level: NoticeLevel,
        code: &str,
        text: String,
        data: Option<serde_json::Value>,
    ) -> Result<(), HubError> {
        let body = EventBody::Notice { level, code: code.to_owned(), text, data };
        let event = NewEvent::own(session.id, self.shared.store.now(), session.turn, body);
        self.shared.store.append(vec![event]).await?;
        Ok(())
    }
}
