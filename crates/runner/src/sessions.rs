//! The agent sessions of this workspace.
//!
//! One [`Session`] per conversation owns its agent's driver and its process group. Requests of the
//! server come in through methods, what the driver says goes through one task per session
//! ([`pump`]) to the spool, and a turn ends there ([`turn`]):
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
    /// Sessions are opened one at a time.
    opening: tokio::sync::Mutex<()>,
}

/// Which sessions there are, here and in the spool's table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    here: Mutex<HashMap<SessionId, Arc<Session>>>,
    /// The last turn of sessions that an earlier runner had and that were not opened here yet.
    known: Mutex<HashMap<SessionId, u32>>,
}

impl Table {
    fn here(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<SessionId, u32>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, session: SessionId) -> Option<Arc<Session>> {
        self.here().get(&session).cloned()
    }

    /// Writes the table for the next runner.
    pub(crate) fn keep(&self, context: &Context) {
        let here = self.here();
        let mut entries: Vec<SessionEntry> = here.values().map(|s| s.entry()).collect();
        for (session, last_turn) in self.known().iter() {
            if !here.contains_key(session) {
                entries.push(SessionEntry {
                    session: *session,
                    last_turn: *last_turn,
                    began: None,
                });
            }
        }
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
    /// Takes over what an earlier runner left: its turns that never ended are closed as lost.
    pub async fn new(context: Arc<Context>, left: Vec<SessionEntry>) -> Self {
        let table = Arc::new(Table::default());
        for entry in &left {
            table.known().insert(entry.session, entry.last_turn);
        }
        for entry in left {
            let Some(began) = entry.began else { continue };
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
        }
        table.keep(&context);
        Self { context, table, opening: tokio::sync::Mutex::default() }
    }

    /// Where each session stands.
    pub fn status(&self) -> Vec<SessionStatus> {
        let mut all: Vec<SessionStatus> =
            self.table.here().values().map(|session| session.status()).collect();
        all.sort_by_key(|status| status.session);
        all
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
                    Some(last) if turn <= *last => Ok(Reply::Done),
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
            Request::Status | Request::Quiesce => Err(Failure {
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

    fn begin(&self, mut open: OpenSession) -> Result<Arc<Session>, Failure> {
        if self.table.here().len() >= SESSIONS_MAX {
            return Err(Failure {
                code: FailureCode::Conflict,
                message: format!("this workspace has {SESSIONS_MAX} sessions; close one"),
            });
        }
        let id = open.session;
        if let Some(known) = self.table.known().get(&id) {
            open.last_turn = open.last_turn.max(*known);
        }
        let session = Session::begin(self.context.clone(), self.table.clone(), open)?;
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

fn unknown(session: SessionId) -> Failure {
    Failure {
        code: FailureCode::NotFound,
        message: format!("the session {session} is not open in this workspace"),
    }
}
