//! What an event changes beside the log, in the transaction that stores it.
//!
//! A runner's words are hostile input: nothing here fails because of them. What doesn't fit (the
//! end of a turn that is not running, a permission that is known) changes nothing.

use boatyard_model::{
    AttemptState, BlobId, Content, EventBody, PermissionId, QuestionId, SessionId, SessionState,
    event::PermissionOutcome,
};
use serde_json::json;

use crate::{
    Result, Tx,
    conn::{exec, list},
    events::NewEvent,
    jobs::NewJob,
    row,
};

/// The job that is enqueued when a turn is over. Its payload is `{"session", "turn", "outcome"}`,
/// its subject the session.
pub const JOB_TURN_COMPLETED: &str = "turn_completed";

/// The blobs that a prompt refers to.
pub(crate) fn blobs_in(content: &[Content]) -> Vec<BlobId> {
    let blob = |piece: &Content| match piece {
        Content::Image { blob, .. } => Some(*blob),
        Content::Text { .. } => None,
    };
    content.iter().filter_map(blob).collect()
}

/// The blobs that an event refers to.
pub(super) fn blobs(body: &EventBody) -> Vec<BlobId> {
    match body {
        EventBody::TurnStarted { content, .. } | EventBody::TurnSteered { content, .. } => {
            blobs_in(content)
        }
        EventBody::MessageCompleted { blob, .. } => blob.iter().copied().collect(),
        EventBody::ToolCompleted { tool, output_blob, .. } => {
            tool.images.iter().chain(output_blob).copied().collect()
        }
        _ => Vec::new(),
    }
}

impl Tx {
    pub(super) async fn consequence(
        &mut self,
        session: SessionId,
        seq: u64,
        turn: Option<u32>,
        body: EventBody,
    ) -> Result<()> {
        self.hold_blobs(&session.to_string(), &blobs(&body)).await?;
        match body {
            EventBody::TurnStarted { prompt, .. } => {
                let Some(turn) = turn else { return Ok(()) };
                exec!(
                    self,
                    "INSERT INTO turn (session, n, prompt, first_seq, started)
                     VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                    session,
                    turn,
                    prompt,
                    seq,
                    self.now(),
                )?;
                Ok(())
            }
            EventBody::TurnCompleted { outcome, error, checkpoint, millis } => {
                let Some(turn) = turn else { return Ok(()) };
                let ended = exec!(
                    self,
                    "UPDATE turn SET ended = $3, outcome = $4, error = $5, checkpoint = $6,
                        millis = $7
                     WHERE session = $1 AND n = $2 AND outcome IS NULL",
                    session,
                    turn,
                    self.now(),
                    outcome,
                    error,
                    checkpoint,
                    millis,
                )?;
                if ended > 0 {
                    self.turn_is_over(session, turn, outcome.as_str()).await
                } else {
                    Ok(())
                }
            }
            EventBody::PermissionRequested { permission, tool, title, options, deadline } => {
                let row = self.session(session).await?;
                let options = row::json(&options)?;
                let inserted = exec!(
                    self,
                    "INSERT INTO permission (id, organization, owner, session, turn, state, tool,
                        title, options, created, deadline)
                     VALUES ($1, $2, $3, $4, $5, 'open', $6, $7, $8, $9, $10)
                     ON CONFLICT DO NOTHING",
                    permission,
                    row.owner.organization,
                    row.owner.member,
                    session,
                    turn,
                    tool,
                    title,
                    options,
                    self.now(),
                    deadline,
                )?;
                if inserted == 0 {
                    return Ok(());
                }
                let told = json!({
                    "session": session, "permission": permission, "title": title,
                    "deadline": deadline,
                });
                self.feed(row.owner, "permission.requested", told).await?;
                self.session_waits(row).await
            }
            EventBody::QuestionAsked { question, text, options, deadline } => {
                let row = self.session(session).await?;
                let options = row::json(&options)?;
                let inserted = exec!(
                    self,
                    "INSERT INTO question (id, organization, owner, session, turn, state, wording,
                        options, created, deadline)
                     VALUES ($1, $2, $3, $4, $5, 'open', $6, $7, $8, $9) ON CONFLICT DO NOTHING",
                    question,
                    row.owner.organization,
                    row.owner.member,
                    session,
                    turn,
                    text,
                    options,
                    self.now(),
                    deadline,
                )?;
                if inserted == 0 {
                    return Ok(());
                }
                let told = json!({
                    "session": session, "question": question, "text": text, "deadline": deadline,
                });
                self.feed(row.owner, "question.asked", told).await?;
                self.session_waits(row).await
            }
            EventBody::Usage { usage } => {
                let usage = row::json(&usage)?;
                exec!(self, "UPDATE session SET usage = $2 WHERE id = $1", session, usage)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn turn_is_over(&mut self, session: SessionId, turn: u32, outcome: &str) -> Result<()> {
        exec!(
            self,
            "UPDATE prompt SET state = 'done'
             WHERE session = $1 AND turn = $2 AND state = 'delivered'",
            session,
            turn,
        )?;
        self.cancel_decisions(session).await?;
        let row = self.session(session).await?;
        exec!(self, "UPDATE session SET turn = NULL WHERE id = $1 AND turn = $2", session, turn)?;
        let under_way = matches!(row.state, SessionState::Running | SessionState::Waiting);
        if under_way && row.turn.is_none_or(|running| running == turn) {
            self.set_session_state(session, SessionState::Idle, None).await?;
            self.follow_session_in_attempt(session, AttemptState::Running).await?;
        }
        let mut job = NewJob::new(
            JOB_TURN_COMPLETED,
            json!({ "session": session, "turn": turn, "outcome": outcome }),
        )
        .about(session)
        .once_for(format!("{JOB_TURN_COMPLETED}:{session}:{turn}"));
        job.owner = row.owner;
        self.enqueue(job).await?;
        Ok(())
    }

    /// Nobody will answer what is open in a session whose turn is over.
    pub(crate) async fn cancel_decisions(&mut self, session: SessionId) -> Result<()> {
        let now = self.now();
        let permissions = list!(
            self,
            (String,),
            "UPDATE permission SET state = 'cancelled', resolved = $2
             WHERE session = $1 AND state = 'open' RETURNING id",
            session,
            now,
        )?;
        let questions = list!(
            self,
            (String,),
            "UPDATE question SET state = 'cancelled', resolved = $2
             WHERE session = $1 AND state = 'open' RETURNING id",
            session,
            now,
        )?;
        if permissions.is_empty() && questions.is_empty() {
            return Ok(());
        }
        let row = self.session(session).await?;
        let own = |body| NewEvent::own(session, now, row.turn, body);
        let mut events = Vec::new();
        for (id,) in permissions {
            let Ok(permission) = id.parse::<PermissionId>() else { continue };
            let outcome = PermissionOutcome::Cancelled;
            events.push(own(EventBody::PermissionResolved {
                permission,
                outcome,
                option: None,
                by: None,
            }));
            let told = json!({ "session": session, "permission": permission, "outcome": outcome });
            self.feed(row.owner, "permission.resolved", told).await?;
        }
        for (id,) in questions {
            let Ok(question) = id.parse::<QuestionId>() else { continue };
            events.push(own(EventBody::QuestionAnswered { question, answer: None, by: None }));
            let told = json!({ "session": session, "question": question });
            self.feed(row.owner, "question.answered", told).await?;
        }
        self.append(events).await?;
        Ok(())
    }
}
