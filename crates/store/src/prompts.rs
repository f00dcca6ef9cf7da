//! Prompts: what was said to a session, and what of it the agent has.

use boatyard_model::{
    AttemptState, Content, EventBody, PromptId, PromptMode, PromptState, SessionId, SessionState,
    Timestamp,
};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, read_all, read_one},
    events::NewEvent,
    row::{json, record},
};

record! {
    /// A prompt.
    #[derive(Debug, Clone)]
    pub struct PromptRow [owned] {
        /// Its id.
        pub id: PromptId,
        /// The session.
        pub session: SessionId,
        /// Its place in the session's queue.
        pub place: u64,
        /// How it is to be taken.
        pub mode: PromptMode,
        /// Where it stands.
        pub state: PromptState,
        /// Whose it is, as shown to people.
        pub author: Option<String>,
        /// The turn that took it.
        pub turn: Option<u32>,
        /// When it came.
        pub created: Timestamp,
        /// When the agent got it.
        pub delivered: Option<Timestamp>,
        /// What was said.
        pub content: Vec<Content>,
    }
}

/// A prompt to be queued.
#[derive(Debug, Clone)]
pub struct NewPrompt {
    /// Whose it is.
    pub owner: Owner,
    /// The session.
    pub session: SessionId,
    /// How it is to be taken.
    pub mode: PromptMode,
    /// What is said.
    pub content: Vec<Content>,
    /// Whose it is, as shown to people.
    pub author: Option<String>,
}

/// A prompt that begins a turn: what the runner is to be told.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The session.
    pub session: SessionId,
    /// The turn's number, from 1.
    pub turn: u32,
    /// The prompt.
    pub prompt: PromptId,
    /// How it arrived.
    pub mode: PromptMode,
    /// What is said.
    pub content: Vec<Content>,
    /// Whose it is, as shown to people.
    pub author: Option<String>,
}

impl Tx {
    /// Puts a prompt into a session's queue.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::IllegalState`] if the session is over.
    pub async fn create_prompt(&mut self, new: NewPrompt) -> Result<PromptRow> {
        let session = self.session(new.session).await?;
        if session.state == SessionState::Ended {
            return Err(Error::IllegalState {
                kind: "session",
                id: new.session.to_string(),
                from: session.state.as_str(),
                to: SessionState::Running.as_str(),
            });
        }
        let blobs = crate::events::blobs_in(&new.content);
        self.hold_blobs(&new.session.to_string(), &blobs).await?;
        let content = json(&new.content)?;
        let row = find!(
            self,
            PromptRow,
            format!(
                "INSERT INTO prompt (id, organization, owner, session, place, mode, state, author,
                    created, content)
                 SELECT $1, $2, $3, $4, COALESCE(MAX(place), 0) + 1, $5, 'queued', $6, $7, $8
                 FROM prompt WHERE session = $4 RETURNING {}",
                PromptRow::COLUMNS
            ),
            PromptId::new(),
            new.owner.organization,
            new.owner.member,
            new.session,
            new.mode,
            new.author,
            self.now(),
            content,
        )?;
        let row = row.ok_or_else(|| Error::not_found("session", new.session))?;
        self.note("prompt", row.id);
        Ok(row)
    }

    async fn queued(&mut self, id: PromptId, to: PromptState) -> Result<PromptRow> {
        let sql = format!("SELECT {} FROM prompt WHERE id = $1", PromptRow::COLUMNS);
        let row = find!(self, PromptRow, sql, id)?.ok_or_else(|| Error::not_found("prompt", id))?;
        if row.state == PromptState::Queued {
            return Ok(row);
        }
        let (kind, id) = ("prompt", id.to_string());
        Err(Error::IllegalState { kind, id, from: row.state.as_str(), to: to.as_str() })
    }

    /// Changes a prompt that the agent doesn't have yet. What is absent stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::IllegalState`] if it is not queued any more.
    pub async fn edit_prompt(
        &mut self,
        id: PromptId,
        content: Option<Vec<Content>>,
        mode: Option<PromptMode>,
    ) -> Result<PromptRow> {
        let row = self.queued(id, PromptState::Queued).await?;
        let content = content.as_ref().map(json).transpose()?;
        let edited = find!(
            self,
            PromptRow,
            format!(
                "UPDATE prompt SET content = COALESCE($2, content), mode = COALESCE($3, mode)
                 WHERE id = $1 RETURNING {}",
                PromptRow::COLUMNS
            ),
            row.id,
            content,
            mode,
        )?;
        edited.ok_or_else(|| Error::not_found("prompt", id))
    }

    /// Takes back a prompt that the agent doesn't have yet.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::IllegalState`] if it is not queued any more.
    pub async fn withdraw_prompt(&mut self, id: PromptId) -> Result<()> {
        self.queued(id, PromptState::Withdrawn).await?;
        exec!(self, "UPDATE prompt SET state = 'withdrawn' WHERE id = $1", id)?;
        Ok(())
    }

    /// Begins the next turn with the prompt whose turn it is, if the session is free and there is
    /// one: numbers the turn, writes `turn.started`, makes the session run. Prompts that were to
    /// interrupt or steer come before those that were only queued.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn deliver_prompt(&mut self, session: SessionId) -> Result<Option<Delivery>> {
        let row = self.session(session).await?;
        let free = matches!(row.state, SessionState::Idle | SessionState::Starting);
        if !free {
            return Ok(None);
        }
        let next = find!(
            self,
            PromptRow,
            format!(
                "SELECT {} FROM prompt WHERE session = $1 AND state = 'queued'
                 ORDER BY CASE mode WHEN 'queue' THEN 1 ELSE 0 END, place LIMIT 1",
                PromptRow::COLUMNS
            ),
            session,
        )?;
        let Some(prompt) = next else { return Ok(None) };
        let turn = row.turns + 1;
        let now = self.now();
        exec!(self, "UPDATE session SET turns = $2, turn = $2 WHERE id = $1", session, turn)?;
        exec!(
            self,
            "UPDATE prompt SET state = 'delivered', turn = $2, delivered = $3 WHERE id = $1",
            prompt.id,
            turn,
            now,
        )?;
        let body = EventBody::TurnStarted {
            prompt: prompt.id,
            content: prompt.content.clone(),
            mode: prompt.mode,
            author: prompt.author.clone(),
        };
        self.append(vec![NewEvent::own(session, now, Some(turn), body)]).await?;
        self.set_session_state(session, SessionState::Running, None).await?;
        self.follow_session_in_attempt(session, AttemptState::Running).await?;
        Ok(Some(Delivery {
            session,
            turn,
            prompt: prompt.id,
            mode: prompt.mode,
            content: prompt.content,
            author: prompt.author,
        }))
    }

    /// Notes that a queued prompt was delivered into the running turn, and writes `turn.steered`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::IllegalState`] if it is not queued or no turn is under way.
    pub async fn steer_prompt(&mut self, id: PromptId, restarted: Restarted) -> Result<u32> {
        let prompt = self.queued(id, PromptState::Delivered).await?;
        let session = self.session(prompt.session).await?;
        let under_way = matches!(session.state, SessionState::Running | SessionState::Waiting);
        let Some(turn) = session.turn.filter(|_| under_way) else {
            return Err(Error::IllegalState {
                kind: "session",
                id: session.id.to_string(),
                from: session.state.as_str(),
                to: SessionState::Running.as_str(),
            });
        };
        let now = self.now();
        exec!(
            self,
            "UPDATE prompt SET state = 'delivered', turn = $2, delivered = $3 WHERE id = $1",
            id,
            turn,
            now,
        )?;
        let restarted = restarted == Restarted::Yes;
        let body = EventBody::TurnSteered { prompt: id, content: prompt.content, restarted };
        self.append(vec![NewEvent::own(session.id, now, Some(turn), body)]).await?;
        Ok(turn)
    }
}

/// Whether a turn had to be begun again to take a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restarted {
    /// The agent could not take it in mid-turn.
    Yes,
    /// It could.
    No,
}

impl Store {
    /// One prompt.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn prompt(&self, id: PromptId) -> Result<PromptRow> {
        let sql = format!("SELECT {} FROM prompt WHERE id = $1", PromptRow::COLUMNS);
        read_one!(self, PromptRow, sql, id)?.ok_or_else(|| Error::not_found("prompt", id))
    }

    /// A session's prompts in the order in which they came, those after place `after`.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_prompts(
        &self,
        session: SessionId,
        state: Option<PromptState>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<PromptRow>> {
        let sql = format!(
            "SELECT {} FROM prompt WHERE session = $1 AND ($2 IS NULL OR state = $2) AND place > $3
             ORDER BY place LIMIT $4",
            PromptRow::COLUMNS
        );
        read_all!(self, PromptRow, sql, session, state, after, limit)
    }
}
