//! What a workspace says: stored, and then acknowledged.
//!
//! A runner's records are hostile input. A record about a session of another workspace, an event
//! that only the server makes, a record that does not parse: each is passed over and acknowledged,
//! so that it can't hold up what follows.
//!
//! One thing a runner may say about what waits for a person: that the agent does not wait any more.
//! It is taken for what is open in that session only, and says nothing but that ([`Closed`]).

use std::{collections::HashMap, sync::Arc, time::Duration};

use boatyard_link::{
    SendHalf,
    message::{Ack, Header, Position, Record, RecordKind},
    record,
};
use boatyard_model::{
    AgentOffers, EventBody, PermissionId, QuestionId, SessionId, Timestamp, WorkspaceId,
    agent::Choice,
    event::{NoticeLevel, PermissionOutcome},
};
use boatyard_store::{NewEvent, NewJob, Origin, Owner, SessionUpdate};
use bytes::{Bytes, BytesMut};

use super::{Attached, Hub, HubError, Shared};
use crate::{jobs::attempt::cost_job, providers::DEMO_MODEL};

/// Records that are stored in one go.
const BATCH: usize = 256;
/// Pause before storing is tried again when the store refused: a full disk, most likely.
const STORE_AGAIN: Duration = Duration::from_secs(2);
/// The largest event that is stored, in bytes; what is larger becomes a notice.
const EVENT_MAX: usize = 2 << 20;
/// How many modes or models an agent may offer.
const OFFERS: usize = 200;
/// The longest name of one, in characters.
const OFFER_TEXT: usize = 200;
/// The longest id of a conversation, in characters.
const AGENT_SESSION: usize = 500;
/// The largest blob, in bytes.
const BLOB_MAX: usize = 20 << 20;

/// Begins to take over a workspace's records.
pub(super) async fn follow(
    hub: &Hub,
    attached: &Arc<Attached>,
    workspace: WorkspaceId,
) -> Result<(), HubError> {
    let mut taker = Taker::new(Arc::clone(&hub.shared), workspace).await?;
    let stream = attached.open(&Header::Events { after: taker.last })?;
    let hub = hub.clone();
    tokio::spawn(async move {
        let (mut send, mut receive) = stream.split();
        let mut buffer = BytesMut::new();
        loop {
            match receive.recv_bytes().await {
                Ok(Some(bytes)) => buffer.extend_from_slice(&bytes),
                Ok(None) | Err(_) => break,
            }
            if let Err(error) = taker.take(&mut buffer, &mut send).await {
                tracing::warn!(workspace.id = %workspace, error = %crate::chain(&error), "a workspace's records can't be taken");
                send.reset(boatyard_link::ResetCode::FAILED, "the records can't be taken");
                break;
            }
        }
        // Whether the workspace is gone, or only the link, is found out where it is attached next.
        hub.link_ended(workspace);
    });
    Ok(())
}

/// Takes over records in order.
pub(super) struct Taker {
    shared: Arc<Shared>,
    workspace: WorkspaceId,
    /// Sessions of this workspace; none for an id that is not.
    sessions: HashMap<SessionId, Option<Owner>>,
    /// What each session's task may spend, in US dollars.
    limits: HashMap<SessionId, Option<f64>>,
    last: Option<Position>,
    /// What was kept last of what an agent offers: told often, seldom new.
    offers: HashMap<SessionId, AgentOffers>,
}

/// What a batch of records tells of a session's agent: the last of each.
#[derive(Debug, Default)]
struct Told {
    offers: Option<AgentOffers>,
    /// The agent's own id for the conversation, and when it was begun.
    agent_session: Option<(String, Timestamp)>,
}

impl Taker {
    pub(super) async fn new(shared: Arc<Shared>, workspace: WorkspaceId) -> Result<Self, HubError> {
        let row = shared.store.workspace(workspace).await?;
        let rows = shared.sessions_in(&row).await?;
        let mut sessions = HashMap::new();
        let mut last = None;
        for row in rows {
            let Origin { epoch, n } = shared.store.last_origin(row.id).await?;
            if n > 0 {
                last = last.max(Some(Position { epoch, n }));
            }
            sessions.insert(row.id, Some(row.owner));
        }
        let (limits, offers) = (HashMap::new(), HashMap::new());
        Ok(Self { shared, workspace, sessions, limits, last, offers })
    }

    /// The last record that was taken over.
    pub(super) fn last(&self) -> Option<Position> {
        self.last
    }

    /// Takes every whole record out of the buffer, stores them, and acknowledges.
    async fn take(&mut self, buffer: &mut BytesMut, send: &mut SendHalf) -> Result<(), HubError> {
        loop {
            let mut batch = Vec::new();
            while batch.len() < BATCH {
                match record::take(buffer) {
                    Ok(Some(record)) => batch.push(record),
                    Ok(None) => break,
                    Err(_) => return Err(HubError::Protocol("an event record")),
                }
            }
            let Some((last, _)) = batch.last() else { return Ok(()) };
            let position = last.position;
            self.store(batch).await?;
            self.last = Some(position);
            send.send_message(&Ack { position }).await?;
        }
    }

    /// Stores records; waits while the store can't, because an event that is not stored must not
    /// be acknowledged.
    pub(super) async fn store(&mut self, batch: Vec<(Record, Bytes)>) -> Result<(), HubError> {
        let mut events = Vec::with_capacity(batch.len());
        let mut spent = Vec::new();
        let mut told: HashMap<SessionId, Told> = HashMap::new();
        for (record, bytes) in batch {
            let Some(owner) = self.owner(record.session).await? else { continue };
            match record.what {
                RecordKind::Event(body) => {
                    if let Some(closed) = Closed::of(&body) {
                        // After the request itself, which may stand before it.
                        self.append(&mut events, &mut spent).await?;
                        self.close(record.session, closed).await?;
                        continue;
                    }
                    let Some(mut body) = self.admit(body) else { continue };
                    if let EventBody::Usage { usage } = &mut body {
                        if usage.cost_usd.is_some() && self.is_scripted(record.session).await? {
                            usage.cost_usd = None;
                        }
                        if self.is_over(record.session, usage.cost_usd).await? {
                            spent.push(cost_job(owner, record.session));
                        }
                    }
                    let Position { epoch, n } = record.position;
                    events.push(NewEvent {
                        session: record.session,
                        time: record.time,
                        turn: record.turn,
                        origin: Some(Origin { epoch, n }),
                        body,
                    });
                }
                RecordKind::Blob { blob, mime } => {
                    if bytes.len() > BLOB_MAX || mime.len() > 100 || !mime.is_ascii() {
                        continue;
                    }
                    let kept =
                        self.shared.blobs.keep(&self.shared.store, owner, blob, mime, bytes).await;
                    if let Err(error) = kept {
                        tracing::warn!(workspace.id = %self.workspace, error = %crate::chain(&error), "a blob was not kept");
                    }
                }
                RecordKind::Offers(offers) => {
                    told.entry(record.session).or_default().offers = Some(bounded(offers));
                }
                RecordKind::AgentSession(id) => {
                    told.entry(record.session).or_default().agent_session =
                        Some((agent_session(&id), record.time));
                }
            }
        }
        self.note(told).await?;
        self.append(&mut events, &mut spent).await
    }

    /// Keeps what runners told of agents, if it is new: one write for a batch, whatever is in it.
    async fn note(&mut self, mut told: HashMap<SessionId, Told>) -> Result<(), HubError> {
        told.retain(|session, told| {
            told.agent_session.is_some() || self.offers.get(session) != told.offers.as_ref()
        });
        if told.is_empty() {
            return Ok(());
        }
        let offers: Vec<_> = told
            .iter()
            .filter_map(|(session, told)| Some((*session, told.offers.clone()?)))
            .collect();
        self.shared
            .store
            .write(move |tx| {
                Box::pin(async move {
                    for (session, Told { offers, agent_session }) in told {
                        if let Some((id, begun)) = agent_session {
                            tx.set_agent_session(session, id, begun).await?;
                        }
                        if offers.is_some() {
                            let known = SessionUpdate { offers, ..SessionUpdate::default() };
                            tx.update_session(session, known).await?;
                        }
                    }
                    Ok(())
                })
            })
            .await?;
        self.offers.extend(offers);
        Ok(())
    }

    /// Stores what was collected, however long the store can't.
    async fn append(
        &self,
        events: &mut Vec<NewEvent>,
        spent: &mut Vec<NewJob>,
    ) -> Result<(), HubError> {
        while !events.is_empty() {
            match self.shared.store.append_with(events.clone(), spent.clone()).await {
                Ok(_) => {
                    events.clear();
                    spent.clear();
                }
                Err(boatyard_store::Error::Closed) => {
                    return Err(boatyard_store::Error::Closed.into());
                }
                Err(error) => {
                    tracing::error!(workspace.id = %self.workspace, error = %crate::chain(&error), "events wait to be stored");
                    tokio::time::sleep(STORE_AGAIN).await;
                }
            }
        }
        Ok(())
    }

    /// Closes what waited for a person, with what follows from it, if it is open in this session.
    async fn close(&self, session: SessionId, closed: Closed) -> Result<(), HubError> {
        loop {
            let write = self.shared.store.write(move |tx| {
                Box::pin(async move {
                    match closed {
                        Closed::Permission(id) => {
                            tx.withdraw_permission(session, id).await.map(drop)
                        }
                        Closed::Question(id) => tx.withdraw_question(session, id).await.map(drop),
                    }
                })
            });
            match write.await {
                Ok(()) => return Ok(()),
                Err(boatyard_store::Error::Closed) => {
                    return Err(boatyard_store::Error::Closed.into());
                }
                Err(error) => {
                    tracing::error!(workspace.id = %self.workspace, error = %crate::chain(&error), "a request that was withdrawn waits to be closed");
                    tokio::time::sleep(STORE_AGAIN).await;
                }
            }
        }
    }

    /// Whether a session's model is the script's: what an agent reckons that it cost, nobody pays.
    async fn is_scripted(&self, session: SessionId) -> Result<bool, HubError> {
        let row = self.shared.store.session(session).await?;
        Ok(row.model.or(row.settings.model).as_deref() == Some(DEMO_MODEL))
    }

    /// Whether a session has spent more than its task may.
    async fn is_over(&mut self, session: SessionId, spent: Option<f64>) -> Result<bool, HubError> {
        let Some(spent) = spent else { return Ok(false) };
        if !self.limits.contains_key(&session) {
            let limit = match self.shared.store.session(session).await?.task {
                Some(task) => self.shared.store.task(task).await?.order.limits.cost_usd,
                None => None,
            };
            self.limits.insert(session, limit);
        }
        let is_over =
            self.limits.get(&session).copied().flatten().is_some_and(|limit| spent > limit);
        // Where the gateway counts, it also holds what is too much, and has a person asked.
        Ok(is_over && !self.shared.store.has_usage(session).await?)
    }

    /// Whose a session of this workspace is; none if it is not of this workspace.
    async fn owner(&mut self, session: SessionId) -> Result<Option<Owner>, HubError> {
        if let Some(known) = self.sessions.get(&session) {
            return Ok(*known);
        }
        let owner = match self.shared.store.session(session).await {
            Ok(row) if row.workspace == self.workspace => Some(row.owner),
            Ok(_) | Err(boatyard_store::Error::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if owner.is_none() {
            tracing::warn!(workspace.id = %self.workspace, session.id = %session, "a workspace spoke of a session that is not its own");
        }
        self.sessions.insert(session, owner);
        Ok(owner)
    }

    /// Lets an event in, made fit: what only the server says is dropped, deadlines are the
    /// server's, what is too large is cut out.
    fn admit(&self, mut body: EventBody) -> Option<EventBody> {
        let deadline: Timestamp =
            self.shared.store.now().after(self.shared.settings.limits.answer_time.duration());
        match &mut body {
            EventBody::TurnStarted { .. }
            | EventBody::TurnSteered { .. }
            | EventBody::SessionState { .. }
            | EventBody::PermissionResolved { .. }
            | EventBody::QuestionAnswered { .. }
            | EventBody::EgressBlocked { .. }
            | EventBody::EgressAsked { .. }
            | EventBody::EgressAnswered { .. }
            | EventBody::EgressPlaceholder { .. } => return None,
            EventBody::PermissionRequested { deadline: asked, .. }
            | EventBody::QuestionAsked { deadline: asked, .. } => *asked = deadline,
            _ => {}
        }
        let size = serde_json::to_string(&body).map_or(usize::MAX, |text| text.len());
        if size > EVENT_MAX {
            return Some(EventBody::Notice {
                level: NoticeLevel::Warning,
                code: "event_too_large".to_owned(),
                text: format!("An event of {size} bytes ({}) was left out.", body.kind()),
                data: None,
            });
        }
        Some(body)
    }
}

/// An agent's own id for a conversation, as a workspace tells it, cut to what any has.
pub(crate) fn agent_session(id: &str) -> String {
    id.chars().take(AGENT_SESSION).collect()
}

/// What a workspace says that its agent offers, cut to what is shown.
pub(crate) fn bounded(offers: AgentOffers) -> AgentOffers {
    let text = |text: String| text.chars().take(OFFER_TEXT).collect::<String>();
    let list = |list: Vec<Choice>| {
        let list = list.into_iter().take(OFFERS);
        list.map(|choice| Choice { id: text(choice.id), name: text(choice.name) }).collect()
    };
    AgentOffers {
        version: offers.version.map(text),
        modes: list(offers.modes),
        mode: offers.mode.map(text),
        models: list(offers.models),
        model: offers.model.map(text),
        images: offers.images,
        steer: offers.steer,
        resume: offers.resume,
    }
}

/// What an agent does not wait for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    Permission(PermissionId),
    Question(QuestionId),
}

impl Closed {
    /// What an event of a runner closes; none if it is about something else, or claims an answer:
    /// that only people give, through the server.
    fn of(body: &EventBody) -> Option<Self> {
        match body {
            EventBody::PermissionResolved {
                permission,
                outcome: PermissionOutcome::Cancelled | PermissionOutcome::Expired,
                option: None,
                by: None,
            } => Some(Self::Permission(*permission)),
            EventBody::QuestionAnswered { question, answer: None, by: None } => {
                Some(Self::Question(*question))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
