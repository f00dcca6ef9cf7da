//! `boatyard permission` and `boatyard question`: what waits for a person.

use anyhow::Result;
use boatyard_api::{
    model::{PermissionId, QuestionId, SessionId, SessionState},
    session::{Decision, PermissionAnswer, QuestionAnswer, Session, SessionFilter},
};
use clap::ValueEnum as _;

use super::Context;
use crate::{
    failure::{Exit, Failure},
    ids,
    output::table::Table,
    text::clean_line,
};

/// More sessions than these don't wait at the same time.
const WAITING_MAX: u32 = 200;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum PermissionCommand {
    /// List what agents ask to be allowed
    #[command(visible_alias = "ls")]
    List,
    /// Allow or deny it
    Answer {
        /// The permission's id, per_…
        id: PermissionId,
        /// `allow`, `deny`, or the id of one of the agent's own options
        answer: String,
        /// The task or session that asks; found by itself if absent
        #[arg(long, value_name = "ID")]
        session: Option<String>,
    },
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum QuestionCommand {
    /// List what agents ask
    #[command(visible_alias = "ls")]
    List,
    /// Answer it
    Answer {
        /// The question's id, qst_…
        id: QuestionId,
        /// The answer: words, or one of the proposed ones
        answer: String,
        /// The task or session that asks; found by itself if absent
        #[arg(long, value_name = "ID")]
        session: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Word {
    Allow,
    Deny,
}

pub(crate) async fn permission(command: PermissionCommand, context: &Context<'_>) -> Result<Exit> {
    let output = context.output;
    match command {
        PermissionCommand::List => {
            let sessions = waiting(context).await?;
            let all = sessions.iter().flat_map(|s| s.permissions.iter().map(move |p| (s, p)));
            if output.is_json() {
                let items: Vec<_> = all
                    .map(|(s, p)| serde_json::json!({ "session": s.id, "permission": p }))
                    .collect();
                output.json(&serde_json::json!({ "items": items }))?;
                return Ok(Exit::Done);
            }
            let mut table = Table::new(&["PERMISSION", "SESSION", "WHAT"], 2);
            for (session, permission) in all {
                let title = clean_line(&permission.title);
                table.row(vec![permission.id.to_string(), session.id.to_string(), title]);
            }
            if table.is_empty() {
                output.note("Nothing waits for a permission.");
            } else {
                output.line(table.render(output.out))?;
            }
        }
        PermissionCommand::Answer { id, answer, session } => {
            let session = match session {
                Some(text) => ids::session(&context.client, &text, None).await?,
                None => {
                    let asks = |s: &Session| s.permissions.iter().any(|p| p.id == id);
                    asking(context, asks, &format!("permission {id}")).await?
                }
            };
            let answer = match Word::from_str(&answer, true) {
                Ok(Word::Allow) => {
                    PermissionAnswer { decision: Some(Decision::Allow), option: None }
                }
                Ok(Word::Deny) => PermissionAnswer { decision: Some(Decision::Deny), option: None },
                Err(_) => PermissionAnswer { decision: None, option: Some(answer) },
            };
            context.client.answer_permission(session, id, &answer).await?;
            done(context, session)?;
        }
    }
    Ok(Exit::Done)
}

pub(crate) async fn question(command: QuestionCommand, context: &Context<'_>) -> Result<Exit> {
    let output = context.output;
    match command {
        QuestionCommand::List => {
            let sessions = waiting(context).await?;
            let all = sessions.iter().flat_map(|s| s.questions.iter().map(move |q| (s, q)));
            if output.is_json() {
                let items: Vec<_> = all
                    .map(|(s, q)| serde_json::json!({ "session": s.id, "question": q }))
                    .collect();
                output.json(&serde_json::json!({ "items": items }))?;
                return Ok(Exit::Done);
            }
            let mut table = Table::new(&["QUESTION", "SESSION", "TEXT"], 2);
            for (session, question) in all {
                let text = clean_line(&question.text);
                table.row(vec![question.id.to_string(), session.id.to_string(), text]);
            }
            if table.is_empty() {
                output.note("No agent asks anything.");
            } else {
                output.line(table.render(output.out))?;
            }
        }
        QuestionCommand::Answer { id, answer, session } => {
            let session = match session {
                Some(text) => ids::session(&context.client, &text, None).await?,
                None => {
                    let asks = |s: &Session| s.questions.iter().any(|q| q.id == id);
                    asking(context, asks, &format!("question {id}")).await?
                }
            };
            context.client.answer_question(session, id, &QuestionAnswer { answer }).await?;
            done(context, session)?;
        }
    }
    Ok(Exit::Done)
}

/// The sessions that wait for a person, with what they ask.
async fn waiting(context: &Context<'_>) -> Result<Vec<Session>> {
    let filter = SessionFilter {
        state: Some(SessionState::Waiting),
        limit: Some(WAITING_MAX),
        ..SessionFilter::default()
    };
    let mut sessions = Vec::new();
    for session in context.client.list_sessions(&filter).await?.items {
        // Lists leave out what waits.
        sessions.push(context.client.find_session(session.id).await?);
    }
    Ok(sessions)
}

async fn asking(
    context: &Context<'_>,
    asks: impl Fn(&Session) -> bool,
    what: &str,
) -> Result<SessionId> {
    let sessions = waiting(context).await?;
    let found = sessions.iter().find(|session| asks(session)).map(|session| session.id);
    found.ok_or_else(|| {
        Failure::not_found(format!("no agent waits for {what}"))
            .next("it may have been answered already; see `boatyard permission list`")
            .into()
    })
}

fn done(context: &Context<'_>, session: SessionId) -> Result<()> {
    if context.output.is_json() {
        context.output.json(&serde_json::json!({ "session": session, "answered": true }))?;
    } else {
        context.output.note(format!("Answered. Watch it go on: boatyard attach {session}"));
    }
    Ok(())
}
