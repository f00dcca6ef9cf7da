//! Requests that are held while a person is asked about them. The first answer wins.
//!
//! ```text
//!          a person says yes, no
//!  open ──────────────────────────► allowed | denied
//!    ├── nobody does in time ─────► expired
//!    └── whoever asked is gone ───► withdrawn
//! ```
//!
//! The same question of a workspace is one row while it is open, however many requests wait for
//! it. The sessions that run in the workspace are told, and wait as they do for a permission. A
//! row outlives the server and the connections that wait: what was answered once while nobody
//! waited holds for the next who asks the same, until the deadline. An answer that lasts made a
//! rule, and lasts as long as that ([`Store::standing_answer`]).

use boatyard_model::{
    AskAnswer, AskId, AskState, AttemptState, EventBody, OrganizationId, RepositoryId, SessionId,
    SessionState, TaskId, Timestamp, WorkspaceId,
};
use serde_json::json;

use crate::{
    Error, Result, Store, Tx,
    conn::{exec, find, list, read_all, read_one, read_page},
    events::NewEvent,
    row::record,
    shares::{self, Listed, Viewer},
};

record! {
    /// A request that a person is asked about.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AskRow [owned] {
        /// Its id.
        pub id: AskId,
        /// Where it comes from.
        pub workspace: WorkspaceId,
        /// The repository in that workspace.
        pub repository: Option<RepositoryId>,
        /// The task that the workspace was made for.
        pub task: Option<TaskId>,
        /// The session that ran there, where there was one alone.
        pub session: Option<SessionId>,
        /// Tells the same question from another one.
        pub question: String,
        /// Where it stands.
        pub state: AskState,
        /// Its method; none for a connection whose inside is not seen.
        pub method: Option<String>,
        /// Where it wants to go.
        pub host: String,
        /// The port.
        pub port: u32,
        /// Its path without the query, where it is seen.
        pub path: Option<String>,
        /// The paths that a lasting answer is for.
        pub shape: Option<String>,
        /// The rule that says to ask.
        pub rule: String,
        /// The credential that would go with it.
        pub credential: Option<String>,
        /// The program that asks, where it is known.
        pub program: Option<String>,
        /// What was answered.
        pub answer: Option<AskAnswer>,
        /// Who answered, as shown to people.
        pub resolver: Option<String>,
        /// What the answer made: a rule's id.
        pub made: Option<String>,
        /// Whether what was answered once was made use of.
        pub spent: bool,
        /// When it was asked.
        pub created: Timestamp,
        /// No answer by then is a no.
        pub deadline: Timestamp,
        /// When it was resolved.
        pub resolved: Option<Timestamp>,
    }
}

/// A question that is about to be asked.
#[derive(Debug, Clone)]
pub struct NewAsk {
    /// Where it comes from.
    pub workspace: WorkspaceId,
    /// Tells the same question from another one.
    pub question: String,
    /// Its method; none for a connection whose inside is not seen.
    pub method: Option<String>,
    /// Where it wants to go.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Its path without the query, where it is seen.
    pub path: Option<String>,
    /// The paths that a lasting answer is for.
    pub shape: Option<String>,
    /// The rule that says to ask.
    pub rule: String,
    /// The credential that would go with it.
    pub credential: Option<String>,
    /// The program that asks, where it is known.
    pub program: Option<String>,
    /// No answer by then is a no.
    pub deadline: Timestamp,
}

/// What became of a question.
#[derive(Debug, Clone)]
pub enum Asking {
    /// A person is asked.
    New(AskRow),
    /// A person is asked the same already.
    Shared(AskRow),
    /// A person said yes to it before, and that still holds.
    Answered(AskRow),
    /// So many wait already that no more are asked.
    Full(u64),
}

/// What came of an ask.
#[derive(Debug, Clone)]
pub struct AskOutcome {
    /// Its end: not [`AskState::Open`].
    pub state: AskState,
    /// What a person said.
    pub answer: Option<AskAnswer>,
    /// Who, as shown to people.
    pub by: Option<String>,
    /// What the answer made: a rule's id.
    pub made: Option<String>,
    /// Whether somebody waited for it: what was said once is not kept for the next then.
    pub waited: bool,
}

impl AskOutcome {
    /// An end without a person's word.
    pub const fn unanswered(state: AskState) -> Self {
        Self { state, answer: None, by: None, made: None, waited: true }
    }

    /// A person's word.
    pub fn answered(answer: AskAnswer, by: String) -> Self {
        let state = if answer.is_yes() { AskState::Allowed } else { AskState::Denied };
        Self { state, answer: Some(answer), by: Some(by), made: None, waited: true }
    }
}

/// Which asks to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AskFilter {
    /// Only those in this state.
    pub state: Option<AskState>,
    /// Only those of this workspace.
    pub workspace: Option<WorkspaceId>,
    /// Only those with a smaller id (newest first).
    pub before: Option<AskId>,
    /// Without what is not theirs to see; none for those who may see all.
    pub seen_by: Option<Viewer>,
}

impl Tx {
    /// Asks, unless the same was asked or answered already; `most` may be open in one workspace.
    /// The sessions that run there are told `egress.asked`.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a workspace without a row.
    pub async fn open_ask(&mut self, new: NewAsk, most: u64) -> Result<Asking> {
        let columns = AskRow::COLUMNS;
        let now = self.now();
        let kept = find!(
            self,
            AskRow,
            format!(
                "UPDATE egress_ask SET spent = TRUE WHERE id = (SELECT id FROM egress_ask
                    WHERE workspace = $1 AND question = $2 AND state = 'allowed'
                        AND answer = 'once' AND NOT spent AND deadline > $3
                    ORDER BY id LIMIT 1)
                 RETURNING {columns}"
            ),
            new.workspace,
            new.question,
            now,
        )?;
        if let Some(row) = kept {
            return Ok(Asking::Answered(row));
        }
        let open = find!(
            self,
            AskRow,
            format!(
                "SELECT {columns} FROM egress_ask
                 WHERE workspace = $1 AND question = $2 AND state = 'open'"
            ),
            new.workspace,
            new.question,
        )?;
        if let Some(row) = open {
            return Ok(Asking::Shared(row));
        }
        let waiting = find!(
            self,
            (i64,),
            "SELECT COUNT(*) FROM egress_ask WHERE workspace = $1 AND state = 'open'",
            new.workspace,
        )?;
        let waiting = waiting.map_or(0, |(count,)| count.unsigned_abs());
        if waiting >= most {
            return Ok(Asking::Full(waiting));
        }
        let workspace = self.workspace(new.workspace).await?;
        let running = self.running_sessions(new.workspace).await?;
        let session = match running.as_slice() {
            [(one, _)] => Some(*one),
            _ => None,
        };
        let row = find!(
            self,
            AskRow,
            format!(
                "INSERT INTO egress_ask (id, organization, owner, workspace, repository, task,
                    session, question, state, method, host, port, path, shape, rule, credential,
                    program, created, deadline)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open', $9, $10, $11, $12, $13, $14,
                    $15, $16, $17, $18) RETURNING {columns}"
            ),
            AskId::new(),
            workspace.owner.organization,
            workspace.owner.member,
            new.workspace,
            workspace.repository,
            workspace.task,
            session,
            new.question,
            new.method,
            new.host,
            u32::from(new.port),
            new.path,
            new.shape,
            new.rule,
            new.credential,
            new.program,
            now,
            new.deadline,
        )?;
        let row = row.ok_or_else(|| Error::not_found("workspace", new.workspace))?;
        let body = EventBody::EgressAsked {
            ask: row.id,
            host: row.host.clone(),
            port: new.port,
            method: row.method.clone(),
            path: row.path.clone(),
            program: row.program.clone(),
            credential: row.credential.clone(),
            rule: row.rule.clone(),
            deadline: row.deadline,
        };
        let events = running
            .iter()
            .map(|(session, turn)| NewEvent::own(*session, now, *turn, body.clone()))
            .collect();
        self.append(events).await?;
        let told = json!({
            "ask": row.id, "workspace": row.workspace, "task": row.task, "host": row.host,
            "port": row.port, "method": row.method, "deadline": row.deadline,
        });
        self.feed(row.owner, "egress.asked", told).await?;
        for (session, _) in running {
            let session = self.session(session).await?;
            self.session_waits(session).await?;
        }
        Ok(Asking::New(row))
    }

    /// Ends an ask, once: tells the sessions `egress.answered`, and lets those go on for which
    /// nothing else waits.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::AlreadyResolved`].
    pub async fn resolve_ask(&mut self, id: AskId, outcome: AskOutcome) -> Result<AskRow> {
        let columns = AskRow::COLUMNS;
        let sql = format!("SELECT {columns} FROM egress_ask WHERE id = $1");
        let row = find!(self, AskRow, sql, id)?;
        let row = row.ok_or_else(|| Error::not_found("ask", id))?;
        if row.state != AskState::Open {
            let outcome = row.answer.map_or(row.state.as_str(), AskAnswer::as_str).to_owned();
            return Err(Error::AlreadyResolved { kind: "ask", id: id.to_string(), outcome });
        }
        let now = self.now();
        let resolved = find!(
            self,
            AskRow,
            format!(
                "UPDATE egress_ask SET state = $2, answer = $3, resolver = $4, made = $5,
                    spent = $6, resolved = $7
                 WHERE id = $1 AND state = 'open' RETURNING {columns}"
            ),
            id,
            outcome.state,
            outcome.answer,
            outcome.by,
            outcome.made,
            outcome.waited,
            now,
        )?;
        let resolved = resolved.ok_or_else(|| Error::not_found("ask", id))?;
        let body = EventBody::EgressAnswered {
            ask: id,
            state: resolved.state,
            answer: resolved.answer,
            by: resolved.resolver.clone(),
        };
        let running = self.running_sessions(resolved.workspace).await?;
        let events = running
            .iter()
            .map(|(session, turn)| NewEvent::own(*session, now, *turn, body.clone()))
            .collect();
        self.append(events).await?;
        let told = json!({
            "ask": id, "workspace": resolved.workspace, "state": resolved.state,
            "answer": resolved.answer,
        });
        self.feed(resolved.owner, "egress.answered", told).await?;
        for (session, _) in running {
            self.session_goes_on(session).await?;
        }
        Ok(resolved)
    }

    /// Ends asks that are past their deadline: no. At most `limit`, to be called again while there
    /// are any.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn expire_asks(&mut self, limit: u32) -> Result<Vec<AskRow>> {
        let due = list!(
            self,
            (String,),
            "SELECT id FROM egress_ask WHERE state = 'open' AND deadline <= $1
             ORDER BY deadline LIMIT $2",
            self.now(),
            limit,
        )?;
        let mut expired = Vec::new();
        for (id,) in due {
            let Ok(id) = id.parse() else { continue };
            let outcome = AskOutcome::unanswered(AskState::Expired);
            expired.push(self.resolve_ask(id, outcome).await?);
        }
        Ok(expired)
    }

    /// Removes at most `limit` asks that ended before `before`, and of which no rule is left; how
    /// many.
    ///
    /// # Errors
    /// When they can't be removed.
    pub async fn remove_old_asks(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        exec!(
            self,
            "DELETE FROM egress_ask WHERE id IN (SELECT id FROM egress_ask
                WHERE state <> 'open' AND resolved < $1
                    AND (made IS NULL OR made NOT IN (SELECT id FROM egress_rule)) LIMIT $2)",
            before,
            limit,
        )
    }

    /// The sessions of a workspace with a turn under way, each with that turn.
    async fn running_sessions(
        &mut self,
        workspace: WorkspaceId,
    ) -> Result<Vec<(SessionId, Option<u32>)>> {
        let ids = list!(
            self,
            (String,),
            "SELECT id FROM session WHERE workspace = $1 AND state IN ('running', 'waiting')
             ORDER BY id",
            workspace,
        )?;
        let mut running = Vec::new();
        for (id,) in ids {
            let Ok(id) = id.parse() else { continue };
            running.push((id, self.session(id).await?.turn));
        }
        Ok(running)
    }

    /// A person must act before a session goes on.
    pub(crate) async fn session_waits(&mut self, session: crate::SessionRow) -> Result<()> {
        if session.state != SessionState::Running {
            return Ok(());
        }
        self.set_session_state(session.id, SessionState::Waiting, None).await?;
        self.follow_session_in_attempt(session.id, AttemptState::Waiting).await
    }

    /// Lets a session go on that waited for a person, if nothing in it is open any more.
    pub(crate) async fn session_goes_on(&mut self, session: SessionId) -> Result<()> {
        let row = self.session(session).await?;
        if row.state != SessionState::Waiting {
            return Ok(());
        }
        let open = find!(
            self,
            (i64,),
            "SELECT (SELECT COUNT(*) FROM permission WHERE session = $1 AND state = 'open')
                + (SELECT COUNT(*) FROM question WHERE session = $1 AND state = 'open')
                + (SELECT COUNT(*) FROM egress_ask WHERE workspace = $2 AND state = 'open')",
            session,
            row.workspace,
        )?;
        if open.is_some_and(|(open,)| open > 0) {
            return Ok(());
        }
        self.set_session_state(session, SessionState::Running, None).await?;
        self.follow_session_in_attempt(session, AttemptState::Running).await
    }
}

impl Store {
    /// One ask.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn ask(&self, id: AskId) -> Result<AskRow> {
        let sql = format!("SELECT {} FROM egress_ask WHERE id = $1", AskRow::COLUMNS);
        read_one!(self, AskRow, sql, id)?.ok_or_else(|| Error::not_found("ask", id))
    }

    /// Asks of an organization, the newest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_asks(
        &self,
        organization: OrganizationId,
        filter: AskFilter,
        limit: u32,
    ) -> Result<Vec<AskRow>> {
        let before = match filter.before {
            Some(id) => id.to_string(),
            // Greater than any id.
            None => format!("{}`", AskId::PREFIX),
        };
        read_page!(
            self,
            AskRow,
            format!(
                "SELECT {} FROM egress_ask WHERE organization = $1 AND id < $2
                    AND ($4 IS NULL OR state = $4) AND ($5 IS NULL OR workspace = $5){}
                 ORDER BY id DESC LIMIT $3",
                AskRow::COLUMNS,
                shares::seen(filter.seen_by, Listed::InWorkspaces("egress_ask.workspace"), 6),
            ),
            organization,
            before,
            limit,
            filter.state,
            filter.workspace,
            filter.seen_by.map(|viewer| viewer.member),
            filter.seen_by.map(|viewer| viewer.holder()),
            self.now(),
        )
    }

    /// The answer that holds for a question of a workspace: one whose rule is still there, given
    /// in it or for its repository. A rule that was removed, or has ended, ends the answer.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn standing_answer(
        &self,
        workspace: WorkspaceId,
        question: &str,
    ) -> Result<Option<AskRow>> {
        let columns = AskRow::COLUMNS;
        read_one!(
            self,
            AskRow,
            format!(
                "SELECT {columns} FROM egress_ask
                 WHERE question = $1 AND state IN ('allowed', 'denied')
                    AND (workspace = $2 OR answer = 'repository' AND repository =
                        (SELECT repository FROM workspace WHERE id = $2))
                    AND EXISTS (SELECT 1 FROM egress_rule WHERE egress_rule.id = egress_ask.made
                        AND (expires IS NULL OR expires > $3))
                 ORDER BY id DESC LIMIT 1"
            ),
            question,
            workspace,
            self.now(),
        )
    }

    /// What waits for a person in a workspace.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn open_asks(&self, workspace: WorkspaceId) -> Result<Vec<AskRow>> {
        read_all!(
            self,
            AskRow,
            format!(
                "SELECT {} FROM egress_ask WHERE workspace = $1 AND state = 'open' ORDER BY id",
                AskRow::COLUMNS
            ),
            workspace,
        )
    }
}
