//! The agent sessions of this workspace.
//!
//! One [`Session`] per conversation owns its agent's driver and its process group. Requests of the
//! server come in through methods, what the driver says goes through one task per session
//! (`pump`) to the spool, and a turn ends there (`turn`):
//!
//! ```text
//!            ┌─────────────── Prompt n ────────────────┐
//!            ▼                                         │
//!   idle ─ look at the files ─ prompt ─ … events … ─ driver: turn ended
//!     ▲                                                │
//!     └── turn.completed ◄─ file.changed, git.commit ◄─┴ checkpoint
//! ```
//!
//! Invariants: a turn's number is begun once, whatever is repeated and whoever restarts; for each
//! turn that was begun exactly one `turn.completed` reaches the spool, here or from the next
//! runner; nothing of a turn comes after it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use boatyard_link::{
    message::{Failure, FailureCode, OpenSession, RecordKind, Reply, Request, SessionStatus},
    spool::{SESSIONS_MAX, SessionEntry},
};
use boatyard_model::{
    EventBody, SessionId, Timestamp, TurnOutcome, event::NoticeLevel, time::Clock,
};
use tokio::sync::watch;

use crate::{
    beneath::Folder,
    blobs::Blobs,
    failure,
    git::Git,
    layout::Layout,
    process::Starter,
    spool::{self, Draft, Spool},
};

mod coalesce;
mod home;
mod launch;
mod pump;
mod session;
mod turn;

pub use session::Session;

/// How long all sessions have to end before the workspace sleeps.
const QUIESCE: Duration = Duration::from_secs(10);

/// What every session needs.
#[derive(Debug)]
pub struct Context {
    /// Where things are.
    pub layout: Arc<Layout>,
    /// Starts processes.
    pub starter: Arc<Starter>,
    /// Takes what happened.
    pub spool: Arc<Spool>,
    /// Checkpoints.
    pub git: Arc<Git>,
    /// The folder of all homes.
    pub homes: Arc<Folder>,
    /// Pictures for prompts.
    pub blobs: Arc<Blobs>,
    /// The time.
    pub clock: SharedClock,
    /// Set once something happened after which this program must not go on.
    pub broken: watch::Sender<Option<String>>,
}

/// A clock that can be shown.
#[derive(Clone)]
pub struct SharedClock(pub Arc<dyn Clock>);

impl std::fmt::Debug for SharedClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedClock")
    }
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    context: Arc<Context>,
    table: Arc<Table>,
    /// Whether all lost turns are closed.
    closed: watch::Sender<bool>,
    /// Sessions are opened one at a time.
    opening: tokio::sync::Mutex<()>,
}

/// Which sessions there are, here and in the spool's table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    here: Mutex<HashMap<SessionId, Arc<Session>>>,
    /// The sessions that an earlier runner had and that were not opened here yet.
    known: Mutex<HashMap<SessionId, SessionEntry>>,
}

impl Table {
    fn here(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<SessionId, SessionEntry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, session: SessionId) -> Option<Arc<Session>> {
        self.here().get(&session).cloned()
    }

    /// Writes the table for the next runner.
    pub(crate) fn keep(&self, context: &Context) {
        let here = self.here();
        let mut entries: Vec<SessionEntry> = here.values().map(|s| s.entry()).collect();
        let known = self.known();
        entries.extend(known.values().filter(|entry| !here.contains_key(&entry.session)));
        drop(known);
        drop(here);
        if let Err(error) = context.spool.keep_sessions(&entries) {
            context.fail(&error);
        }
    }
}

impl Context {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.0.now()
    }

    /// Writes a record, in order after those before it. Waits while the spool is full.
    pub async fn record(
        &self,
        session: SessionId,
        turn: Option<u32>,
        what: RecordKind,
        bytes: &[u8],
    ) {
        let draft = Draft { session, time: self.now(), turn, what };
        let Err(error) = self.spool.append(&draft, bytes).await else { return };
        if let spool::Error::Io { .. } = error {
            return self.fail(&error);
        }
        // It can't be told itself, so it is told of.
        let text =
            format!("Something that the agent said was left out: {}", failure::chain(&error));
        let what = RecordKind::Event(EventBody::Notice {
            level: NoticeLevel::Warning,
            code: "too_large".into(),
            text,
            data: None,
        });
        if let Err(error) = self.spool.append(&Draft { what, ..draft }, &[]).await {
            self.fail(&error);
        }
    }

    /// Writes an event.
    pub async fn event(&self, session: SessionId, turn: Option<u32>, mut body: EventBody) {
        if let Some((blob, bytes)) = crate::bounds::event(&mut body) {
            let what = RecordKind::Blob { blob, mime: "text/plain; charset=utf-8".into() };
            self.record(session, turn, what, &bytes).await;
        }
        self.record(session, turn, RecordKind::Event(body), &[]).await;
    }

    /// Ends this program: without its spool it can tell nobody anything.
    pub fn fail(&self, error: &dyn std::error::Error) {
        self.broken.send_replace(Some(failure::chain(error)));
    }
}

impl Sessions {
    /// Takes over what an earlier runner left: its turns that never ended are closed as lost, as
    /// soon as the spool has room for that. Must be called within a tokio runtime.
    pub fn new(context: Arc<Context>, left: Vec<SessionEntry>) -> Self {
        let table = Arc::new(Table::default());
        let closed = watch::Sender::new(false);
        for entry in &left {
            table.known().insert(entry.session, *entry);
        }
        let told = closed.clone();
        let sessions = Self {
            context: context.clone(),
            table: table.clone(),
            closed,
            opening: tokio::sync::Mutex::default(),
        };
        tokio::spawn(async move {
            for entry in left {
                close_lost(&context, &table, entry).await;
            }
            told.send_replace(true);
        });
        sessions
    }

    /// Where each session stands.
    pub fn status(&self) -> Vec<SessionStatus> {
        let mut all: Vec<SessionStatus> =
            self.table.here().values().map(|session| session.status()).collect();
        all.sort_by_key(|status| status.session);
        all
    }

    /// The session whose processes are in the group of this name.
    pub fn with_group(&self, name: &str) -> Option<SessionId> {
        let here = self.table.here();
        let found = here.iter().find(|(_, session)| session.is_group(name));
        found.map(|(id, _)| *id)
    }

    /// Whether an agent's process lives.
    pub fn are_alive(&self) -> bool {
        self.table.here().values().any(|session| session.is_alive())
    }

    /// Does what the server wants of a session.
    ///
    /// # Errors
    /// As the request's own rules say.
    pub async fn request(&self, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::OpenSession(open) => self.open(open).await,
            Request::Prompt { session, turn, content } => {
                if let Some(found) = self.table.find(session) {
                    return found.prompt(turn, content).await.map(|()| Reply::Done);
                }
                // A turn that was lost with an earlier runner has been seen all the same.
                match self.table.known().get(&session) {
                    Some(known) if turn <= known.last_turn => Ok(Reply::Done),
                    _ => Err(unknown(session)),
                }
            }
            Request::Steer { session, turn, prompt, content } => {
                let restarted = self.find(session)?.steer(turn, prompt, content).await?;
                Ok(Reply::Steered { restarted })
            }
            Request::Cancel { session } => self.find(session)?.cancel().await.map(|()| Reply::Done),
            Request::Stop { session, outcome } => match self.table.find(session) {
                Some(found) => {
                    let took = found.stop(outcome).await?;
                    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                    Ok(Reply::Stopped { millis })
                }
                // Nothing runs.
                None => Ok(Reply::Stopped { millis: 0 }),
            },
            Request::CloseSession { session } => {
                self.close(session).await?;
                Ok(Reply::Done)
            }
            Request::AnswerPermission { session, permission, option } => {
                self.find(session)?.answer_permission(permission, option).await?;
                Ok(Reply::Done)
            }
            Request::AnswerQuestion { session, question, answer } => {
                self.find(session)?.answer_question(question, answer).await?;
                Ok(Reply::Done)
            }
            Request::SetMode { session, mode } => {
                self.find(session)?.set_mode(mode).await.map(|()| Reply::Done)
            }
            Request::SetModel { session, model } => {
                self.find(session)?.set_model(model).await.map(|()| Reply::Done)
            }
            Request::Status | Request::Quiesce | Request::WhoConnects { .. } => Err(Failure {
                code: FailureCode::Unsupported,
                message: "this request is not about a session".into(),
            }),
        }
    }

    /// Ends all agents in order.
    ///
    /// # Errors
    /// When one of them outlives it.
    pub async fn quiesce(&self) -> Result<(), Failure> {
        let all: Vec<SessionId> = self.table.here().keys().copied().collect();
        let closing = futures_util::future::join_all(all.into_iter().map(|id| self.close(id)));
        match tokio::time::timeout(QUIESCE, closing).await {
            Ok(outcomes) => outcomes.into_iter().collect(),
            Err(_) => Err(Failure {
                code: FailureCode::Timeout,
                message: "a session did not end in time".into(),
            }),
        }
    }

    async fn open(&self, open: OpenSession) -> Result<Reply, Failure> {
        // A session's next turn comes after the end of the one that was lost. The sender lives in
        // `self`, so this can't fail.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
        let session = {
            let _one = self.opening.lock().await;
            match self.table.find(open.session) {
                Some(session) => session,
                None => self.begin(open)?,
            }
        };
        match session.opened().await {
            Ok(reply) => Ok(reply),
            Err(failure) => {
                // The next attempt shall begin from nothing.
                self.close(session.id()).await?;
                Err(failure)
            }
        }
    }

    fn begin(&self, open: OpenSession) -> Result<Arc<Session>, Failure> {
        if self.table.here().len() >= SESSIONS_MAX {
            return Err(Failure {
                code: FailureCode::Conflict,
                message: format!("this workspace has {SESSIONS_MAX} sessions; close one"),
            });
        }
        let id = open.session;
        // What was seen is what a runner of this generation has seen. The server may know of a turn
        // whose prompt did not reach us, and will send it again.
        let seen = self.table.known().get(&id).map_or(0, |known| known.last_turn);
        let session = Session::begin(self.context.clone(), self.table.clone(), open, seen)?;
        self.table.known().remove(&id);
        self.table.here().insert(id, session.clone());
        self.table.keep(&self.context);
        Ok(session)
    }

    async fn close(&self, session: SessionId) -> Result<(), Failure> {
        if let Some(found) = self.table.find(session) {
            found.close().await?;
        }
        self.table.here().remove(&session);
        self.table.known().remove(&session);
        self.table.keep(&self.context);
        Ok(())
    }

    fn find(&self, session: SessionId) -> Result<Arc<Session>, Failure> {
        self.table.find(session).ok_or_else(|| unknown(session))
    }
}

/// Ends a turn that an earlier runner had begun.
async fn close_lost(context: &Context, table: &Table, entry: SessionEntry) {
    let Some(began) = entry.began else { return };
    let millis = context.now().since(began).as_millis();
    let body = EventBody::TurnCompleted {
        outcome: TurnOutcome::RunnerLost,
        error: Some(
            "The program that ran the agent died. The next prompt takes the conversation up again."
                .into(),
        ),
        checkpoint: None,
        millis: u64::try_from(millis).unwrap_or(u64::MAX),
    };
    context.event(entry.session, Some(entry.last_turn), body).await;
    if let Some(known) = table.known().get_mut(&entry.session) {
        known.began = None;
    }
    table.keep(context);
}

fn unknown(session: SessionId) -> Failure {
    Failure {
        code: FailureCode::NotFound,
        message: format!("the session {session} is not open in this workspace"),
    }
}
