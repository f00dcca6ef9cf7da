//! A session's append-only log.
//!
//! Storing gives each event its sequence number, in the transaction that stores it. What comes
//! from a runner carries a pair `(epoch, n)`: a pair that is not greater than the last one stored
//! for the session is repetition, and is skipped and reported as [`Appended::Repeated`].
//!
//! Some events have consequences, in the same transaction ([`consequences`]): a completing event
//! removes its item's deltas, `turn.completed` closes the turn and enqueues
//! [`JOB_TURN_COMPLETED`], a permission or a question is recorded and makes the session wait.
//!
//! To follow a session without a gap: [`Store::follow_session`], which reads the table first and
//! goes on live (see [`crate::follow`]).

use std::sync::Arc;

use boatyard_model::{Event, EventBody, SessionId, Timestamp};
use tokio::sync::oneshot;

use crate::{
    Error, Result, Store,
    conn::{read_all, read_one},
    feed::spliced,
    follow::{Follower, Sequenced},
    jobs::NewJob,
    row::{json, record},
    writer::Op,
};

mod append;
mod consequences;

pub(crate) use append::Heads;
pub use consequences::JOB_TURN_COMPLETED;
pub(crate) use consequences::blobs_in;

/// An event to be stored.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The session it belongs to.
    pub session: SessionId,
    /// When it happened.
    pub time: Timestamp,
    /// The turn it belongs to.
    pub turn: Option<u32>,
    /// The pair under which a runner sent it; none for the server's own.
    pub origin: Option<Origin>,
    /// What happened.
    pub body: EventBody,
}

impl NewEvent {
    /// An event of the server's own.
    pub const fn own(
        session: SessionId,
        time: Timestamp,
        turn: Option<u32>,
        body: EventBody,
    ) -> Self {
        Self { session, time, turn, origin: None, body }
    }
}

/// A runner's number for an event: rising within a workspace, greater ones are later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Origin {
    /// The workspace's generation.
    pub epoch: u64,
    /// The number within it.
    pub n: u64,
}

/// What became of an event that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is stored under this number.
    Stored(u64),
    /// It was stored before.
    Repeated,
    /// There is no such session.
    NoSession,
}

/// An event of the table, ready to be sent.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// The session.
    pub session: SessionId,
    /// Its number in the session's log.
    pub seq: u64,
    /// `turn.started`, `message.delta`, …
    pub kind: Arc<str>,
    /// The whole [`Event`] as JSON, encoded once for all who see it.
    pub json: Arc<str>,
}

impl StoredEvent {
    pub(crate) fn new(
        session: SessionId,
        seq: u64,
        time: Timestamp,
        turn: Option<u32>,
        kind: Arc<str>,
        body: &str,
    ) -> Self {
        let mut head = format!(r#"{{"session":"{session}","seq":{seq},"time":"{time}""#);
        if let Some(turn) = turn {
            use std::fmt::Write as _;
            // Writing to a string can't fail.
            let _ = write!(head, r#","turn":{turn}"#);
        }
        Self { session, seq, kind, json: spliced(head, body).into() }
    }

    /// The event as a value.
    ///
    /// # Errors
    /// When what is stored is no event that this program knows.
    pub fn event(&self) -> Result<Event> {
        Ok(serde_json::from_str(&self.json)?)
    }
}

impl Sequenced for StoredEvent {
    fn seq(&self) -> u64 {
        self.seq
    }

    fn bytes(&self) -> usize {
        self.json.len()
    }
}

/// An event as the writer takes it: encoded by the caller, outside the one writer.
pub(crate) struct Prepared {
    pub(crate) session: SessionId,
    pub(crate) time: Timestamp,
    pub(crate) turn: Option<u32>,
    pub(crate) origin: Option<Origin>,
    pub(crate) kind: Arc<str>,
    pub(crate) item: Option<Arc<str>>,
    pub(crate) body: Arc<str>,
    pub(crate) role: Role,
}

/// What an event does beside being stored.
pub(crate) enum Role {
    Plain,
    /// It will be replaced when its item completes.
    Delta,
    /// It replaces the events of this kind about its item; and perhaps refers to blobs.
    Completes(&'static str, Option<Box<EventBody>>),
    /// It changes other rows.
    Consequence(Box<EventBody>),
}

impl Prepared {
    pub(crate) fn new(event: NewEvent) -> Result<Self> {
        let NewEvent { session, time, turn, origin, body } = event;
        let kind = body.kind().into();
        let item = body.item().map(Arc::from);
        let text = json(&body)?.into();
        let role = match &body {
            EventBody::MessageDelta { .. }
            | EventBody::ThoughtDelta { .. }
            | EventBody::ToolUpdated { .. } => Role::Delta,
            EventBody::TurnStarted { .. }
            | EventBody::TurnCompleted { .. }
            | EventBody::PermissionRequested { .. }
            | EventBody::QuestionAsked { .. }
            | EventBody::Usage { .. } => Role::Consequence(Box::new(body)),
            _ => match body.replaces() {
                Some(kind) => {
                    let holds = !consequences::blobs(&body).is_empty();
                    Role::Completes(kind, holds.then(|| Box::new(body)))
                }
                None => Role::Plain,
            },
        };
        Ok(Self { session, time, turn, origin, kind, item, body: text, role })
    }
}

/// A session's log as [`Store::follow_session`] gives it.
pub type EventFollower = Follower<StoredEvent>;

record! {
    struct EventRow {
        seq: u64,
        time: Timestamp,
        turn: Option<u32>,
        kind: String,
        body: String,
    }
}

impl EventRow {
    fn stored(self, session: SessionId) -> StoredEvent {
        StoredEvent::new(session, self.seq, self.time, self.turn, self.kind.into(), &self.body)
    }
}

impl Store {
    /// Stores events and what follows from them, durably when this returns: one outcome for each,
    /// in order. Many callers share one commit.
    ///
    /// # Errors
    /// When they can't be stored; then none of them is.
    pub async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>> {
        self.append_with(events, Vec::new()).await
    }

    /// Stores events together with jobs.
    ///
    /// # Errors
    /// When they can't be stored; then nothing is.
    pub async fn append_with(
        &self,
        events: Vec<NewEvent>,
        follow_up: Vec<NewJob>,
    ) -> Result<Vec<Appended>> {
        let events = events.into_iter().map(Prepared::new).collect::<Result<Vec<_>>>()?;
        let (reply, answer) = oneshot::channel();
        self.send(Op::Append { events, follow_up, reply }).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Events after `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn read_events(
        &self,
        session: SessionId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<StoredEvent>> {
        let rows = read_all!(
            self,
            EventRow,
            format!(
                "SELECT {} FROM event
                 WHERE session_number = (SELECT number FROM session WHERE id = $1) AND seq > $2
                 ORDER BY seq LIMIT $3",
                EventRow::COLUMNS
            ),
            session,
            after,
            limit,
        )?;
        Ok(rows.into_iter().map(|row| row.stored(session)).collect())
    }

    /// Events before `before`, the last `limit` of them, oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn read_events_before(
        &self,
        session: SessionId,
        before: u64,
        limit: u32,
    ) -> Result<Vec<StoredEvent>> {
        let rows = read_all!(
            self,
            EventRow,
            format!(
                "SELECT {} FROM event
                 WHERE session_number = (SELECT number FROM session WHERE id = $1) AND seq < $2
                 ORDER BY seq DESC LIMIT $3",
                EventRow::COLUMNS
            ),
            session,
            before,
            limit,
        )?;
        Ok(rows.into_iter().rev().map(|row| row.stored(session)).collect())
    }

    /// The last event of a kind, as a completed message for a summary.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn last_event_of_kind(
        &self,
        session: SessionId,
        kind: &str,
    ) -> Result<Option<StoredEvent>> {
        let row = read_one!(
            self,
            EventRow,
            format!(
                "SELECT {} FROM event
                 WHERE session_number = (SELECT number FROM session WHERE id = $1) AND kind = $2
                 ORDER BY seq DESC LIMIT 1",
                EventRow::COLUMNS
            ),
            session,
            kind,
        )?;
        Ok(row.map(|row| row.stored(session)))
    }

    /// The last pair that is stored for a session: what a runner need not send again.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn last_origin(&self, session: SessionId) -> Result<Origin> {
        let row = read_one!(
            self,
            (i64, i64),
            "SELECT epoch, n FROM session_head
             WHERE session_number = (SELECT number FROM session WHERE id = $1)",
            session,
        )?;
        let (epoch, n) = row.ok_or_else(|| Error::not_found("session", session))?;
        Ok(Origin { epoch: epoch.unsigned_abs(), n: n.unsigned_abs() })
    }

    /// Follows a session's log from after `after`: first what is stored, then what comes.
    pub fn follow_session(&self, session: SessionId, after: u64) -> EventFollower {
        let channel = self.shared().sessions.get_or_open(session);
        Follower::open(self.clone(), session, channel, after)
    }
}
