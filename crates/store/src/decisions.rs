//! What waits for a person: permissions and questions. The first answer wins.

use std::collections::HashMap;

use boatyard_model::{
    EventBody, OrganizationId, PermissionId, QuestionId, SessionId, Timestamp,
    event::{PermissionOption, PermissionOutcome},
};
use serde_json::json;

use crate::{
    Error, Result, Store, Tx,
    conn::{exec, find, list, read_all, read_one},
    events::NewEvent,
    row::record,
    state::words,
};

words! {
    /// Where a permission stands.
    PermissionState {
        /// It waits.
        Open = "open",
        /// Somebody said yes.
        Allowed = "allowed",
        /// Somebody said no.
        Denied = "denied",
        /// Nobody answered in time.
        Expired = "expired",
        /// The agent withdrew it, or the turn ended first.
        Cancelled = "cancelled",
    }

    /// Where a question stands.
    QuestionState {
        /// It waits.
        Open = "open",
        /// It has an answer.
        Answered = "answered",
        /// Nobody answered in time.
        Expired = "expired",
        /// The agent withdrew it, or the turn ended first.
        Cancelled = "cancelled",
    }
}

impl From<PermissionOutcome> for PermissionState {
    fn from(outcome: PermissionOutcome) -> Self {
        match outcome {
            PermissionOutcome::Allowed => Self::Allowed,
            PermissionOutcome::Denied => Self::Denied,
            PermissionOutcome::Expired => Self::Expired,
            PermissionOutcome::Cancelled => Self::Cancelled,
        }
    }
}

record! {
    /// A permission that an agent asked for.
    #[derive(Debug, Clone)]
    pub struct PermissionRow [owned] {
        /// Its id.
        pub id: PermissionId,
        /// The session.
        pub session: SessionId,
        /// The turn that waits.
        pub turn: Option<u32>,
        /// Where it stands.
        pub state: PermissionState,
        /// The tool call that it is for.
        pub tool: Option<String>,
        /// What is to be allowed.
        pub title: String,
        /// What may be answered.
        pub options: Vec<PermissionOption>,
        /// What was answered.
        pub choice: Option<String>,
        /// Who answered, as shown to people.
        pub resolver: Option<String>,
        /// When it was asked.
        pub created: Timestamp,
        /// No answer by then is a no.
        pub deadline: Timestamp,
        /// When it was resolved.
        pub resolved: Option<Timestamp>,
    }
}

record! {
    /// A question that an agent asked.
    #[derive(Debug, Clone)]
    pub struct QuestionRow [owned] {
        /// Its id.
        pub id: QuestionId,
        /// The session.
        pub session: SessionId,
        /// The turn that waits.
        pub turn: Option<u32>,
        /// Where it stands.
        pub state: QuestionState,
        /// What is asked.
        pub wording: String,
        /// Proposed answers.
        pub options: Vec<String>,
        /// The answer.
        pub answer: Option<String>,
        /// Who answered, as shown to people.
        pub resolver: Option<String>,
        /// When it was asked.
        pub created: Timestamp,
        /// No answer by then ends it without one.
        pub deadline: Timestamp,
        /// When it was resolved.
        pub resolved: Option<Timestamp>,
    }
}

/// An answer to a permission.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// Yes or no.
    pub outcome: PermissionOutcome,
    /// The option that was chosen; must be one of those offered.
    pub option: Option<String>,
    /// Who answers, as shown to people.
    pub by: Option<String>,
}

impl Tx {
    /// Resolves a permission, once: writes `permission.resolved`, and lets the session go on when
    /// nothing else in it waits.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::AlreadyResolved`], [`Error::NoSuchOption`].
    pub async fn resolve_permission(
        &mut self,
        id: PermissionId,
        resolution: Resolution,
    ) -> Result<PermissionRow> {
        let columns = PermissionRow::COLUMNS;
        let sql = format!("SELECT {columns} FROM permission WHERE id = $1");
        let row = find!(self, PermissionRow, sql, id)?;
        let row = row.ok_or_else(|| Error::not_found("permission", id))?;
        if row.state != PermissionState::Open {
            let (kind, outcome) = ("permission", row.state.as_str().to_owned());
            return Err(Error::AlreadyResolved { kind, id: id.to_string(), outcome });
        }
        let Resolution { outcome, option, by } = resolution;
        if let Some(option) = &option
            && !row.options.iter().any(|offered| offered.id == *option)
        {
            let (kind, id, option) = ("permission", id.to_string(), option.clone());
            return Err(Error::NoSuchOption { kind, id, option });
        }
        let now = self.now();
        let resolved = find!(
            self,
            PermissionRow,
            format!(
                "UPDATE permission SET state = $2, choice = $3, resolver = $4, resolved = $5
                 WHERE id = $1 AND state = 'open' RETURNING {columns}"
            ),
            id,
            PermissionState::from(outcome),
            option,
            by,
            now,
        )?;
        let resolved = resolved.ok_or_else(|| Error::not_found("permission", id))?;
        let body = EventBody::PermissionResolved { permission: id, outcome, option, by };
        self.append(vec![NewEvent::own(row.session, now, row.turn, body)]).await?;
        let told = json!({ "session": row.session, "permission": id, "outcome": outcome });
        self.feed(row.owner, "permission.resolved", told).await?;
        self.session_goes_on(row.session).await?;
        Ok(resolved)
    }

    /// Answers a question, once; without an answer, nobody gave one in time.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::AlreadyResolved`].
    pub async fn answer_question(
        &mut self,
        id: QuestionId,
        answer: Option<String>,
        by: Option<String>,
    ) -> Result<QuestionRow> {
        let state = if answer.is_some() { QuestionState::Answered } else { QuestionState::Expired };
        self.close_question(id, state, answer, by).await
    }

    async fn close_question(
        &mut self,
        id: QuestionId,
        state: QuestionState,
        answer: Option<String>,
        by: Option<String>,
    ) -> Result<QuestionRow> {
        let columns = QuestionRow::COLUMNS;
        let sql = format!("SELECT {columns} FROM question WHERE id = $1");
        let row = find!(self, QuestionRow, sql, id)?;
        let row = row.ok_or_else(|| Error::not_found("question", id))?;
        if row.state != QuestionState::Open {
            let (kind, outcome) = ("question", row.state.as_str().to_owned());
            return Err(Error::AlreadyResolved { kind, id: id.to_string(), outcome });
        }
        let now = self.now();
        let resolved = find!(
            self,
            QuestionRow,
            format!(
                "UPDATE question SET state = $2, answer = $3, resolver = $4, resolved = $5
                 WHERE id = $1 AND state = 'open' RETURNING {columns}"
            ),
            id,
            state,
            answer,
            by,
            now,
        )?;
        let resolved = resolved.ok_or_else(|| Error::not_found("question", id))?;
        let body = EventBody::QuestionAnswered { question: id, answer, by };
        self.append(vec![NewEvent::own(row.session, now, row.turn, body)]).await?;
        let told = json!({ "session": row.session, "question": id });
        self.feed(row.owner, "question.answered", told).await?;
        self.session_goes_on(row.session).await?;
        Ok(resolved)
    }

    /// Notes that nothing in a session waits for this permission any more: the agent withdrew it, or
    /// gave up. That it was answered can't be said so. None if it was not open in that session.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn withdraw_permission(
        &mut self,
        session: SessionId,
        id: PermissionId,
    ) -> Result<Option<PermissionRow>> {
        let found = find!(
            self,
            (i64,),
            "SELECT deadline FROM permission WHERE id = $1 AND session = $2 AND state = 'open'",
            id,
            session,
        )?;
        let Some((deadline,)) = found else { return Ok(None) };
        let outcome = match Timestamp(deadline) <= self.now() {
            true => PermissionOutcome::Expired,
            false => PermissionOutcome::Cancelled,
        };
        let withdrawn = Resolution { outcome, option: None, by: None };
        self.resolve_permission(id, withdrawn).await.map(Some)
    }

    /// Notes that nothing in a session waits for the answer to this question any more. None if it
    /// was not open in that session.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn withdraw_question(
        &mut self,
        session: SessionId,
        id: QuestionId,
    ) -> Result<Option<QuestionRow>> {
        let found = find!(
            self,
            (i64,),
            "SELECT deadline FROM question WHERE id = $1 AND session = $2 AND state = 'open'",
            id,
            session,
        )?;
        let Some((deadline,)) = found else { return Ok(None) };
        let state = match Timestamp(deadline) <= self.now() {
            true => QuestionState::Expired,
            false => QuestionState::Cancelled,
        };
        self.close_question(id, state, None, None).await.map(Some)
    }

    /// Resolves what is past its deadline: no for a permission, no answer for a question. At most
    /// `limit` of each, to be called again while there are any.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn expire_decisions(
        &mut self,
        limit: u32,
    ) -> Result<(Vec<PermissionRow>, Vec<QuestionRow>)> {
        let now = self.now();
        let permissions = list!(
            self,
            (String,),
            "SELECT id FROM permission WHERE state = 'open' AND deadline <= $1
             ORDER BY deadline LIMIT $2",
            now,
            limit,
        )?;
        let questions = list!(
            self,
            (String,),
            "SELECT id FROM question WHERE state = 'open' AND deadline <= $1
             ORDER BY deadline LIMIT $2",
            now,
            limit,
        )?;
        let mut expired = (Vec::new(), Vec::new());
        for (id,) in permissions {
            let Ok(id) = id.parse() else { continue };
            let no = Resolution { outcome: PermissionOutcome::Expired, option: None, by: None };
            expired.0.push(self.resolve_permission(id, no).await?);
        }
        for (id,) in questions {
            let Ok(id) = id.parse() else { continue };
            expired.1.push(self.answer_question(id, None, None).await?);
        }
        Ok(expired)
    }

    /// Gives everybody more time, as when the server was down at the deadline.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn extend_deadlines(&mut self, earliest: Timestamp) -> Result<()> {
        exec!(
            self,
            "UPDATE permission SET deadline = $1 WHERE state = 'open' AND deadline < $1",
            earliest,
        )?;
        exec!(
            self,
            "UPDATE question SET deadline = $1 WHERE state = 'open' AND deadline < $1",
            earliest,
        )?;
        Ok(())
    }
}

/// What waits for a person in a session.
pub type OpenDecisions = (Vec<PermissionRow>, Vec<QuestionRow>);

impl Store {
    /// One permission.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn permission(&self, id: PermissionId) -> Result<PermissionRow> {
        let sql = format!("SELECT {} FROM permission WHERE id = $1", PermissionRow::COLUMNS);
        read_one!(self, PermissionRow, sql, id)?.ok_or_else(|| Error::not_found("permission", id))
    }

    /// One question.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn question(&self, id: QuestionId) -> Result<QuestionRow> {
        let sql = format!("SELECT {} FROM question WHERE id = $1", QuestionRow::COLUMNS);
        read_one!(self, QuestionRow, sql, id)?.ok_or_else(|| Error::not_found("question", id))
    }

    /// What waits in a session.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn open_decisions(&self, session: SessionId) -> Result<OpenDecisions> {
        let permissions = read_all!(
            self,
            PermissionRow,
            format!(
                "SELECT {} FROM permission WHERE session = $1 AND state = 'open' ORDER BY id",
                PermissionRow::COLUMNS
            ),
            session,
        )?;
        let questions = read_all!(
            self,
            QuestionRow,
            format!(
                "SELECT {} FROM question WHERE session = $1 AND state = 'open' ORDER BY id",
                QuestionRow::COLUMNS
            ),
            session,
        )?;
        Ok((permissions, questions))
    }

    /// What waits in any session of an organization, by session: what a list of them needs, in two
    /// reads and not two for each.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn open_decisions_of(
        &self,
        organization: OrganizationId,
    ) -> Result<HashMap<SessionId, OpenDecisions>> {
        let permissions = read_all!(
            self,
            PermissionRow,
            format!(
                "SELECT {} FROM permission WHERE state = 'open' AND organization = $1 ORDER BY id",
                PermissionRow::COLUMNS
            ),
            organization,
        )?;
        let questions = read_all!(
            self,
            QuestionRow,
            format!(
                "SELECT {} FROM question WHERE state = 'open' AND organization = $1 ORDER BY id",
                QuestionRow::COLUMNS
            ),
            organization,
        )?;
        let mut open: HashMap<SessionId, OpenDecisions> = HashMap::new();
        for permission in permissions {
            open.entry(permission.session).or_default().0.push(permission);
        }
        for question in questions {
            open.entry(question.session).or_default().1.push(question);
        }
        Ok(open)
    }

    /// When the next deadline of anything open is.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn next_deadline(&self) -> Result<Option<Timestamp>> {
        let row = read_one!(
            self,
            (Option<i64>,),
            "SELECT MIN(deadline) FROM (
                SELECT MIN(deadline) AS deadline FROM permission WHERE state = 'open'
                UNION ALL
                SELECT MIN(deadline) AS deadline FROM question WHERE state = 'open') AS open",
        )?;
        Ok(row.and_then(|(deadline,)| deadline).map(Timestamp))
    }
}
