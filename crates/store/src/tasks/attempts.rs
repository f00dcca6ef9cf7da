//! Attempts: places, states, what becomes known of them.

use boatyard_model::{AttemptId, AttemptState, SessionId, TaskId, Timestamp, WorkspaceId};
use serde_json::Value;

use super::{AttemptRow, Phase, Reason};
use crate::{
    Error, Result, Store, Tx,
    conn::{exec, find, read_all, read_one},
    row,
};

/// What becomes known of an attempt. What is absent stays as it is.
#[derive(Debug, Clone, Default)]
pub struct AttemptUpdate {
    /// Where it works.
    pub workspace: Option<WorkspaceId>,
    /// Its conversation.
    pub session: Option<SessionId>,
    /// Its branch.
    pub branch: Option<String>,
    /// The commit that the branch began at.
    pub base_commit: Option<String>,
    /// What it handed back.
    pub result: Option<Value>,
    /// Every phase so far.
    pub phases: Option<Vec<Phase>>,
}

/// Whether an attempt may begin.
#[derive(Debug, Clone)]
pub enum Begin {
    /// It is `preparing` now.
    Begun(Box<AttemptRow>),
    /// As many as may are under way.
    Full,
    /// It is not queued (any more).
    NotQueued(AttemptState),
}

impl Tx {
    /// One attempt, as this transaction sees it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn attempt(&mut self, id: AttemptId) -> Result<AttemptRow> {
        let sql = format!("SELECT {} FROM attempt WHERE id = $1", AttemptRow::COLUMNS);
        find!(self, AttemptRow, sql, id)?.ok_or_else(|| Error::not_found("attempt", id))
    }

    /// The attempt that a session is.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn attempt_of_session(&mut self, session: SessionId) -> Result<Option<AttemptRow>> {
        let sql = format!("SELECT {} FROM attempt WHERE session = $1", AttemptRow::COLUMNS);
        find!(self, AttemptRow, sql, session)
    }

    /// Makes a queued attempt `preparing` if fewer than `places` attempts are `preparing` or
    /// `running`. One that waits for a person takes no place.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn begin_attempt(&mut self, id: AttemptId, places: u32) -> Result<Begin> {
        let row = self.attempt(id).await?;
        if row.state != AttemptState::Queued {
            return Ok(Begin::NotQueued(row.state));
        }
        if self.busy_places().await? >= u64::from(places) {
            return Ok(Begin::Full);
        }
        self.set_attempt_state(id, AttemptState::Preparing, None).await?;
        Ok(Begin::Begun(Box::new(self.attempt(id).await?)))
    }

    pub(super) async fn busy_places(&mut self) -> Result<u64> {
        let row = find!(
            self,
            (i64,),
            "SELECT COUNT(*) FROM attempt WHERE state IN ('preparing', 'running')",
        )?;
        Ok(row.map_or(0, |(count,)| count.unsigned_abs()))
    }

    /// Changes an attempt's state, and its task's with it. The state that it has already is no
    /// change, but a new reason is kept.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IllegalState`].
    pub async fn set_attempt_state(
        &mut self,
        id: AttemptId,
        to: AttemptState,
        reason: Option<Reason>,
    ) -> Result<()> {
        let row = self.attempt(id).await?;
        if row.state == to && (reason.is_none() || row.reason == reason) {
            return Ok(());
        }
        if row.state != to && !row.state.may_become(to) {
            return Err(Error::IllegalState {
                kind: "attempt",
                id: id.to_string(),
                from: row.state.as_str(),
                to: to.as_str(),
            });
        }
        let now = self.now();
        let reason = reason.as_ref().map(row::json).transpose()?;
        let begun: Option<Timestamp> = (to != AttemptState::Queued).then_some(now);
        let ended: Option<Timestamp> = to.is_terminal().then_some(now);
        exec!(
            self,
            "UPDATE attempt SET state = $2, reason = $3, started = COALESCE(started, $4),
                ended = COALESCE(ended, $5)
             WHERE id = $1",
            id,
            to,
            reason,
            begun,
            ended,
        )?;
        self.task_follows(row.task, row.n).await
    }

    /// Keeps what became known of an attempt.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn update_attempt(&mut self, id: AttemptId, update: AttemptUpdate) -> Result<()> {
        let result = update.result.as_ref().map(row::json).transpose()?;
        let phases = update.phases.as_ref().map(row::json).transpose()?;
        let row = find!(
            self,
            (String,),
            "UPDATE attempt SET workspace = COALESCE($2, workspace),
                session = COALESCE($3, session), branch = COALESCE($4, branch),
                base_commit = COALESCE($5, base_commit), result = COALESCE($6, result),
                phases = COALESCE($7, phases)
             WHERE id = $1 RETURNING task",
            id,
            update.workspace,
            update.session,
            update.branch,
            update.base_commit,
            result,
            phases,
        )?;
        let (task,) = row.ok_or_else(|| Error::not_found("attempt", id))?;
        if let Some(session) = update.session {
            exec!(self, "UPDATE task SET session = $2 WHERE id = $1", task, session)?;
        }
        Ok(())
    }

    /// Takes an attempt along when its session begins or ends to wait. Nothing happens to one that
    /// is over or was not under way: a follow-up changes the session, not the attempt.
    pub(crate) async fn follow_session_in_attempt(
        &mut self,
        session: SessionId,
        to: AttemptState,
    ) -> Result<()> {
        let Some(attempt) = self.attempt_of_session(session).await? else { return Ok(()) };
        let along = matches!(
            (attempt.state, to),
            (AttemptState::Running, AttemptState::Waiting)
                | (AttemptState::Waiting | AttemptState::Preparing, AttemptState::Running)
        );
        if along { self.set_attempt_state(attempt.id, to, None).await } else { Ok(()) }
    }
}

impl Store {
    /// A task's attempts, by number.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn attempts(&self, task: TaskId) -> Result<Vec<AttemptRow>> {
        let sql = format!("SELECT {} FROM attempt WHERE task = $1 ORDER BY n", AttemptRow::COLUMNS);
        read_all!(self, AttemptRow, sql, task)
    }

    /// One attempt.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn attempt(&self, id: AttemptId) -> Result<AttemptRow> {
        let sql = format!("SELECT {} FROM attempt WHERE id = $1", AttemptRow::COLUMNS);
        read_one!(self, AttemptRow, sql, id)?.ok_or_else(|| Error::not_found("attempt", id))
    }

    /// The attempt that a session is.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn attempt_of_session(&self, session: SessionId) -> Result<Option<AttemptRow>> {
        let sql = format!("SELECT {} FROM attempt WHERE session = $1", AttemptRow::COLUMNS);
        read_one!(self, AttemptRow, sql, session)
    }

    /// The attempt that a workspace was made for.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn attempt_of_workspace(&self, id: WorkspaceId) -> Result<Option<AttemptRow>> {
        let sql = format!(
            "SELECT {} FROM attempt WHERE workspace = $1 ORDER BY id DESC LIMIT 1",
            AttemptRow::COLUMNS
        );
        read_one!(self, AttemptRow, sql, id)
    }

    /// Attempts in a state, oldest first: what a server looks after when it starts.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn attempts_in(&self, state: AttemptState) -> Result<Vec<AttemptRow>> {
        let sql =
            format!("SELECT {} FROM attempt WHERE state = $1 ORDER BY id", AttemptRow::COLUMNS);
        read_all!(self, AttemptRow, sql, state)
    }

    /// How many attempts are `preparing` or `running`: the places that are taken.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn busy_places(&self) -> Result<u64> {
        let row = read_one!(
            self,
            (i64,),
            "SELECT COUNT(*) FROM attempt WHERE state IN ('preparing', 'running')",
        )?;
        Ok(row.map_or(0, |(count,)| count.unsigned_abs()))
    }
}
