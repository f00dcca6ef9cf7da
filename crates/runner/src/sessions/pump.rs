//! From the driver to the spool: the one task that takes what an agent's driver says.
//!
//! While the spool is full it waits, and with it, through bounded queues, the agent.

use std::sync::Arc;

use boatyard_agent::driver::{AgentSession, Ask, Driver, Output, Resumed};
use boatyard_link::message::{Failure, FailureCode, RecordKind};
use boatyard_model::{EventBody, TurnOutcome, event::NoticeLevel};

use super::{
    coalesce::join,
    session::{Opened, Session},
};

/// The driver's word that the agent could not be started.
const START_FAILED: &str = "agent_start_failed";

/// The driver's word that the agent's process has ended.
const GONE: &str = "agent_gone";

/// Runs until the driver is over.
pub(super) async fn run(session: Arc<Session>, mut driver: Driver) {
    let mut held = None;
    loop {
        let first = match held.take() {
            Some(output) => output,
            None => match driver.outputs.recv().await {
                Some(output) => output,
                None => break,
            },
        };
        let mut output = first;
        while let Ok(next) = driver.outputs.try_recv() {
            held = join(&mut output, next);
            if held.is_some() {
                break;
            }
        }
        take(&session, output).await;
    }
    // A driver ends its turn before it ends itself; if it broke, that is said here.
    let open = session.state().turn.as_ref().map(|turn| turn.number);
    if let Some(number) = open {
        let error = "The agent's driver ended unexpectedly. Prompt again.".to_owned();
        session.conclude(number, TurnOutcome::Failed, Some(error)).await;
    }
    let text = "the agent's driver ended".to_owned();
    session.opened.send_if_modified(|opened| {
        let starting = *opened == Opened::Starting;
        if starting {
            *opened = Opened::Failed(text);
        }
        starting
    });
    session.over.send_replace(true);
}

async fn take(session: &Arc<Session>, output: Output) {
    let context = &session.context;
    let id = session.id;
    let turn = session.state().turn.as_ref().map(|turn| turn.number);
    match output {
        Output::Event { turn, body } => {
            if let EventBody::Notice { code, text, .. } = &body {
                if code == START_FAILED {
                    session.opened.send_if_modified(|opened| {
                        let starting = *opened == Opened::Starting;
                        if starting {
                            *opened = Opened::Failed(text.clone());
                        }
                        starting
                    });
                }
                // It was killed on purpose, and that is recorded.
                if code == GONE && session.state().stopped {
                    return;
                }
            }
            context.event(id, turn, body).await;
        }
        Output::Blob(blob) => {
            let what = RecordKind::Blob { blob: blob.id, mime: blob.mime };
            context.record(id, turn, what, &blob.bytes).await;
        }
        Output::Session(agent) => opened(session, agent).await,
        Output::Offers(offers) => {
            session.context.record(id, None, RecordKind::Offers(offers), &[]).await;
        }
        Output::Steered { prompt, restarted } => {
            let content = session.state().steer_content.remove(&prompt).unwrap_or_default();
            let body = EventBody::TurnSteered { prompt, content, restarted };
            context.event(id, turn, body).await;
            session.resolve_steer(prompt, Ok(restarted));
        }
        Output::SteerRefused { prompt } => {
            let message = "the turn ended before the message could be delivered".into();
            let failure = Failure { code: FailureCode::Conflict, message };
            session.resolve_steer(prompt, Err(failure));
        }
        Output::AskClosed { ask, outcome } => {
            let body = match ask {
                Ask::Permission(permission) => {
                    EventBody::PermissionResolved { permission, outcome, option: None, by: None }
                }
                Ask::Question(question) => {
                    EventBody::QuestionAnswered { question, answer: None, by: None }
                }
            };
            context.event(id, turn, body).await;
        }
        Output::Title(text) => {
            let (level, code) = (NoticeLevel::Info, "title".to_owned());
            context.event(id, turn, EventBody::Notice { level, code, text, data: None }).await;
        }
        Output::TurnEnded { turn, outcome, error } => {
            session.turns_ended.send_modify(|count| *count += 1);
            session.refuse_steers(turn);
            session.conclude(turn, outcome, error).await;
        }
    }
}

async fn opened(session: &Arc<Session>, agent: AgentSession) {
    let AgentSession { id, resumed, offers } = agent;
    if let Some(id) = &id {
        let known = session.state().agent_session.replace(id.clone());
        if known.as_ref() != Some(id) {
            let what = RecordKind::AgentSession(id.clone());
            session.context.record(session.id, None, what, &[]).await;
        }
    }
    let what = RecordKind::Offers(offers.clone());
    session.context.record(session.id, None, what, &[]).await;
    session.opened.send_replace(Opened::Open {
        agent_session: id,
        resumed: resumed == Resumed::Native,
        offers,
    });
}
