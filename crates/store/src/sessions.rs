//! Sessions, and their turns.
//!
//! ```text
//! prompt queued ─► deliver_prompt: turn n, `turn.started`, session running
//!                        │  the runner works; events come
//!                        ▼
//!        `turn.completed` appended: turn closed, prompt done, session idle, job turn_completed
//! ```
//!
//! A change of state writes `session.state` into the session's log and into the feed.

use std::sync::Arc;

use boatyard_model::{
    AgentOffers, AgentSettings, AttemptId, EventBody, OrganizationId, PromptId, SessionId,
    SessionState, TaskId, Timestamp, ToolId, TurnOutcome, Visibility, WorkspaceId, event::Usage,
};
use serde_json::json;

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, read_all, read_one, read_page},
    events::NewEvent,
    row::{json, record},
    shares::{self, Listed, Viewer},
};

record! {
    /// A session.
    #[derive(Debug, Clone)]
    pub struct SessionRow [owned] {
        /// Its id.
        pub id: SessionId,
        /// Where it works.
        pub workspace: WorkspaceId,
        /// The task that it belongs to.
        pub task: Option<TaskId>,
        /// The attempt that it is.
        pub attempt: Option<AttemptId>,
        /// The agent.
        pub agent: String,
        /// The model that was asked for.
        pub model: Option<String>,
        /// Where the agent begins, inside the workspace.
        pub cwd: String,
        /// The client's own name for it, unique in the workspace.
        pub client_key: Option<String>,
        /// Where it stands.
        pub state: SessionState,
        /// Why, where that is not plain.
        pub reason: Option<String>,
        /// How many turns it has had.
        pub turns: u32,
        /// The one that is under way.
        pub turn: Option<u32>,
        /// The agent's own id for the conversation, to resume it by.
        pub agent_session: Option<String>,
        /// When that conversation was begun, as far as it is known.
        pub agent_session_begun: Option<Timestamp>,
        /// What was set for it: chosen with it, and with its task.
        pub settings: AgentSettings,
        /// What its agent was found to offer.
        pub offers: Option<AgentOffers>,
        /// The installed program that it was last started from.
        pub tool: Option<ToolId>,
        /// What it has used.
        pub usage: Option<Usage>,
        /// The last number in its log.
        pub last_seq: u64,
        /// When it was made.
        pub created: Timestamp,
        /// When it changed last.
        pub last_active: Timestamp,
        /// When it ended.
        pub ended: Option<Timestamp>,
        /// Who may see it.
        pub visibility: Visibility,
    }
}

record! {
    /// One prompt and all that followed until the agent was done.
    #[derive(Debug, Clone)]
    pub struct TurnRow {
        /// The session.
        pub session: SessionId,
        /// Its number, from 1.
        pub n: u32,
        /// What began it.
        pub prompt: PromptId,
        /// Where it begins in the log.
        pub first_seq: u64,
        /// When it began.
        pub started: Timestamp,
        /// When it was over.
        pub ended: Option<Timestamp>,
        /// How it ended; none while it is under way.
        pub outcome: Option<TurnOutcome>,
        /// What went wrong.
        pub error: Option<String>,
        /// The checkpoint of the files at its end.
        pub checkpoint: Option<String>,
        /// How long it took, as the runner says, in milliseconds.
        pub millis: Option<u64>,
    }
}

/// A session to be made.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub owner: Owner,
    /// Where it works.
    pub workspace: WorkspaceId,
    /// The task and the attempt that it belongs to.
    pub attempt: Option<(TaskId, AttemptId)>,
    /// The agent.
    pub agent: String,
    /// The model that is asked for.
    pub model: Option<String>,
    /// What is set for it alone.
    pub settings: AgentSettings,
    /// Where the agent begins, inside the workspace.
    pub cwd: String,
    /// The client's own name for it, unique in the workspace.
    pub client_key: Option<String>,
}

/// What becomes known of a session's agent, or is chosen for it. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionUpdate {
    /// What is set for it alone: the whole of it.
    pub settings: Option<AgentSettings>,
    /// What its agent offers.
    pub offers: Option<AgentOffers>,
    /// The installed program that it was started from.
    pub tool: Option<ToolId>,
    /// The model.
    pub model: Option<String>,
}

/// Which sessions to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SessionFilter {
    /// Only those of this workspace.
    pub workspace: Option<WorkspaceId>,
    /// Only those in this state.
    pub state: Option<SessionState>,
    /// Only those with a smaller id (newest first).
    pub before: Option<SessionId>,
    /// Without what is not theirs to see; none for those who may see all.
    pub seen_by: Option<Viewer>,
}

impl Tx {
    /// Makes a session in state `starting`; with a key that its workspace knows, gives the one
    /// that is there.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_session(&mut self, new: NewSession) -> Result<SessionRow> {
        if let Some(key) = &new.client_key {
            let found = find!(
                self,
                SessionRow,
                format!(
                    "SELECT {} FROM session_seen WHERE workspace = $1 AND client_key = $2",
                    SessionRow::COLUMNS
                ),
                new.workspace,
                key,
            )?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
        self.note("session", new.id);
        let (task, attempt) = new.attempt.unzip();
        let settings = json(&new.settings)?;
        let number = find!(
            self,
            (i64,),
            "INSERT INTO session (id, organization, owner, workspace, task, attempt, agent, model,
                cwd, client_key, state, created, last_active, settings, visibility)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'starting', $11, $11, $12,
                COALESCE((SELECT visibility FROM workspace WHERE id = $4), 'visible'))
             RETURNING number",
            new.id,
            new.owner.organization,
            new.owner.member,
            new.workspace,
            task,
            attempt,
            new.agent,
            new.model,
            new.cwd,
            new.client_key,
            self.now(),
            settings,
        )?;
        let (number,) = number.ok_or_else(|| Error::not_found("session", new.id))?;
        exec!(
            self,
            "INSERT INTO session_head (session_number, last_seq, epoch, n, turn_seq)
             VALUES ($1, 0, 0, 0, 0)",
            number,
        )?;
        let row = self.session(new.id).await?;
        self.tell_session(&row, SessionState::Starting, None).await?;
        Ok(row)
    }

    /// One session, as this transaction sees it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn session(&mut self, id: SessionId) -> Result<SessionRow> {
        let sql = format!("SELECT {} FROM session_seen WHERE id = $1", SessionRow::COLUMNS);
        find!(self, SessionRow, sql, id)?.ok_or_else(|| Error::not_found("session", id))
    }

    /// Changes a session's state, and says so in its log and in the feed. The state that it has
    /// already is no change.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IllegalState`].
    pub async fn set_session_state(
        &mut self,
        id: SessionId,
        to: SessionState,
        reason: Option<String>,
    ) -> Result<()> {
        let row = self.session(id).await?;
        if row.state == to {
            return Ok(());
        }
        if !row.state.may_become(to) {
            return Err(Error::IllegalState {
                kind: "session",
                id: id.to_string(),
                from: row.state.as_str(),
                to: to.as_str(),
            });
        }
        self.clock_session(&row, to).await?;
        exec!(
            self,
            "UPDATE session SET state = $2, reason = $3, last_active = $4,
                ended = CASE WHEN $2 = 'ended' THEN $4 ELSE ended END
             WHERE id = $1",
            id,
            to,
            reason,
            self.now(),
        )?;
        self.tell_session(&row, to, reason).await
    }

    async fn tell_session(
        &mut self,
        row: &SessionRow,
        state: SessionState,
        reason: Option<String>,
    ) -> Result<()> {
        let told = json!({
            "session": row.id, "workspace": row.workspace, "state": state, "reason": reason,
        });
        self.feed(row.owner, "session.state", told).await?;
        let body = EventBody::SessionState { state, reason };
        self.append(vec![NewEvent::own(row.id, self.now(), row.turn, body)]).await.map(drop)
    }

    /// Ends a session: what is open in it is cancelled, what is queued is withdrawn. A turn that
    /// is under way is the caller's to complete before.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn end_session(&mut self, id: SessionId, reason: Option<String>) -> Result<()> {
        self.cancel_decisions(id).await?;
        exec!(
            self,
            "UPDATE prompt SET state = 'withdrawn' WHERE session = $1 AND state = 'queued'",
            id,
        )?;
        self.set_session_state(id, SessionState::Ended, reason).await
    }

    /// Keeps the agent's own id for the conversation, and when it was begun. One that is known
    /// already keeps its time.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn set_agent_session(
        &mut self,
        id: SessionId,
        agent_session: String,
        begun: Timestamp,
    ) -> Result<()> {
        let touched = exec!(
            self,
            "UPDATE session SET agent_session = $2, agent_session_begun =
                CASE WHEN agent_session = $2 THEN agent_session_begun ELSE $3 END
             WHERE id = $1",
            id,
            agent_session,
            begun,
        )?;
        if touched == 0 { Err(Error::not_found("session", id)) } else { Ok(()) }
    }

    /// Keeps what was found out about a session's agent, or chosen for it. What is absent stays.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn update_session(&mut self, id: SessionId, update: SessionUpdate) -> Result<()> {
        let settings = update.settings.as_ref().map(json).transpose()?;
        let offers = update.offers.as_ref().map(json).transpose()?;
        let touched = exec!(
            self,
            "UPDATE session SET settings = COALESCE($2, settings), offers = COALESCE($3, offers),
                tool = COALESCE($4, tool), model = COALESCE($5, model)
             WHERE id = $1",
            id,
            settings,
            offers,
            update.tool,
            update.model,
        )?;
        if touched == 0 { Err(Error::not_found("session", id)) } else { Ok(()) }
    }

    /// Removes ended sessions' logs: all that is kept of a session but its row. For those whose
    /// workspace was deleted before `before`; how many events went, at most `limit` at a time.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn remove_old_events(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        exec!(
            self,
            "DELETE FROM event WHERE number IN (
                SELECT event.number FROM event
                JOIN session ON session.number = event.session_number
                WHERE session.state = 'ended' AND session.ended < $1 LIMIT $2)",
            before,
            limit,
        )
    }
}

impl Store {
    /// One session.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn session(&self, id: SessionId) -> Result<SessionRow> {
        let sql = format!("SELECT {} FROM session_seen WHERE id = $1", SessionRow::COLUMNS);
        read_one!(self, SessionRow, sql, id)?.ok_or_else(|| Error::not_found("session", id))
    }

    /// Sessions, newest first: the very same page as long as no session changed.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn session_page(
        &self,
        organization: OrganizationId,
        filter: SessionFilter,
        limit: u32,
    ) -> Result<Arc<Vec<SessionRow>>> {
        let read = self.list_sessions(organization, filter, limit);
        if filter.seen_by.is_some() {
            // What somebody may see ends by itself, too: nothing would tell.
            return Ok(Arc::new(read.await?));
        }
        self.shared().session_pages.get((organization, filter, limit), read).await
    }

    /// Sessions, newest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_sessions(
        &self,
        organization: OrganizationId,
        filter: SessionFilter,
        limit: u32,
    ) -> Result<Vec<SessionRow>> {
        let before = match filter.before {
            Some(id) => id.to_string(),
            // Greater than any id.
            None => format!("{}`", SessionId::PREFIX),
        };
        let columns = SessionRow::COLUMNS;
        let mut conditions =
            String::from("organization = $1 AND id < $2 AND ($3 IS NULL OR state = $3)");
        if filter.workspace.is_some() {
            conditions.push_str(" AND workspace = $5");
        }
        conditions.push_str(&shares::seen(filter.seen_by, Listed::Sessions, 6));
        read_page!(
            self,
            SessionRow,
            format!(
                "SELECT {columns} FROM session_seen WHERE {conditions} ORDER BY id DESC LIMIT $4"
            ),
            organization,
            before,
            filter.state,
            limit,
            filter.workspace,
            filter.seen_by.map(|viewer| viewer.member),
            filter.seen_by.map(|viewer| viewer.holder()),
            self.now(),
        )
    }

    /// Every session that is not over: what a server looks after when it starts.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn live_sessions(&self) -> Result<Vec<SessionRow>> {
        let sql = format!(
            "SELECT {} FROM session_seen WHERE state <> 'ended' ORDER BY id",
            SessionRow::COLUMNS
        );
        read_all!(self, SessionRow, sql)
    }

    /// A session's turns, in order.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn turns(&self, session: SessionId) -> Result<Vec<TurnRow>> {
        let sql = format!("SELECT {} FROM turn WHERE session = $1 ORDER BY n", TurnRow::COLUMNS);
        read_all!(self, TurnRow, sql, session)
    }

    /// One turn.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn turn(&self, session: SessionId, n: u32) -> Result<TurnRow> {
        let sql = format!("SELECT {} FROM turn WHERE session = $1 AND n = $2", TurnRow::COLUMNS);
        read_one!(self, TurnRow, sql, session, n)?
            .ok_or_else(|| Error::not_found("turn", format!("{n} of {session}")))
    }
}
