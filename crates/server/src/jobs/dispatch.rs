//! Bringing prompts to agents.
//!
//! The server numbers turns and stores `turn.started` before the runner hears of the turn; the
//! runner begins a turn that it has seen only once. So a server that dies in between does this
//! again, and nothing is lost or doubled.

mod launch;
mod seed;

use boatyard_link::message::{FailureCode, OpenSession, Reply, Request, Resume};
use boatyard_model::{Content, PromptMode, PromptState, SessionId, SessionState, TurnOutcome};
use boatyard_store::{NewJob, Owner, PromptRow, Restarted, SessionRow, SessionUpdate};
use serde_json::{Value, json};

use super::{Done, admission, environments};
use crate::{
    app::App,
    hub::{Attached, HubError, events},
};

/// Brings a session's prompts to its agent. Its payload is `{"session"}`.
pub const JOB: &str = "dispatch";
/// Where the runner's program lies inside a workspace.
pub const RUNNER: &str = "/opt/boatyard/boatyard-runner";
/// The home of what works in a workspace beside agents: commands, the setup, terminals.
pub const HOME: &str = "/home/agent";
/// Prompts of a session that are looked at in one go.
const PROMPTS: u32 = 100;

/// The job for a session.
pub fn job(owner: Owner, session: SessionId) -> NewJob {
    // No key: one that is running may have looked before the prompt came.
    let mut job = NewJob::new(JOB, json!({ "session": session })).about(session);
    job.owner = owner;
    job
}

/// The session that a payload names.
///
/// # Errors
/// When it names none.
pub fn parse(payload: &Value) -> anyhow::Result<SessionId> {
    Ok(serde_json::from_value(payload["session"].clone())?)
}

/// Delivers what is to be delivered now.
///
/// # Errors
/// What went wrong and may go well another time.
pub async fn run(app: &App, id: SessionId) -> anyhow::Result<Done> {
    let session = app.store.session(id).await?;
    match session.state {
        SessionState::Ended => Ok(Done::Yes),
        SessionState::Starting | SessionState::Idle => begin(app, session).await,
        SessionState::Running | SessionState::Waiting => {
            let Some(turn) = session.turn else { return Ok(Done::Yes) };
            ensure(app, &session, turn).await?;
            urge(app, &session, turn).await
        }
    }
}

/// Begins the next turn of a free session.
async fn begin(app: &App, session: SessionRow) -> anyhow::Result<Done> {
    if let Some(attempt) = app.store.attempt_of_session(session.id).await? {
        use boatyard_model::AttemptState::{Preparing, Queued};
        if matches!(attempt.state, Queued | Preparing) {
            // The preparation dispatches when it is done.
            return Ok(Done::Yes);
        }
    }
    if let Some(pause) = admission::turn(app, &session).await? {
        return Ok(Done::Later(pause));
    }
    let id = session.id;
    let delivery =
        app.store.write(move |tx| Box::pin(async move { tx.deliver_prompt(id).await })).await?;
    let Some(delivery) = delivery else { return Ok(Done::Yes) };
    let session = app.store.session(id).await?;
    ensure(app, &session, delivery.turn).await?;
    // Something may have come meanwhile that was to interrupt.
    urge(app, &session, delivery.turn).await
}

/// Makes sure that the runner has the turn that the store says is under way.
async fn ensure(app: &App, session: &SessionRow, turn: u32) -> anyhow::Result<()> {
    match hand_over(app, session, turn).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let lost = error.downcast_ref::<HubError>().is_some_and(HubError::is_lost);
            if lost && !app.stopping.is_cancelled() {
                // Found gone: that closes the turn.
                app.hub.look_after(session.workspace).await?;
                let now = app.store.session(session.id).await?;
                if now.turn != Some(turn) {
                    return Ok(());
                }
                return Err(error);
            }
            if app.stopping.is_cancelled() {
                return Err(error);
            }
            let code = error.downcast_ref::<HubError>().and_then(HubError::code);
            let (outcome, text) = match code {
                Some(FailureCode::Stopped) => (TurnOutcome::Cancelled, None),
                _ => (TurnOutcome::Failed, Some(format!("{error:#}"))),
            };
            app.hub.end_turn(session, turn, outcome, text).await?;
            Ok(())
        }
    }
}

async fn hand_over(app: &App, session: &SessionRow, turn: u32) -> anyhow::Result<()> {
    let attached = app.hub.wake(session.workspace).await?;
    let status = attached.status().await?;
    let known = status.sessions.iter().find(|known| known.session == session.id);
    if known.is_some_and(|known| known.last_turn >= turn) {
        return Ok(());
    }
    open_on(app, &attached, session, turn).await?;
    let prompts =
        app.store.list_prompts(session.id, Some(PromptState::Delivered), 0, PROMPTS).await?;
    let prompt = prompts.into_iter().find(|prompt| prompt.turn == Some(turn));
    let Some(prompt) = prompt else { anyhow::bail!("the turn's prompt is gone") };
    let content = hand_over_images(app, &attached, prompt.content).await?;
    attached.ask(Request::Prompt { session: session.id, turn, content }).await?;
    Ok(())
}

/// Prompts that were to steer or interrupt the turn that runs.
async fn urge(app: &App, session: &SessionRow, turn: u32) -> anyhow::Result<Done> {
    let queued = app.store.list_prompts(session.id, Some(PromptState::Queued), 0, PROMPTS).await?;
    for prompt in queued {
        match prompt.mode {
            PromptMode::Queue => {}
            PromptMode::Interrupt => {
                let attached = app.hub.attach(session.workspace).await?;
                attached.ask(Request::Cancel { session: session.id }).await?;
                // The turn's end dispatches it.
                return Ok(Done::Yes);
            }
            PromptMode::Steer => steer(app, session, turn, prompt).await?,
        }
    }
    Ok(Done::Yes)
}

async fn steer(
    app: &App,
    session: &SessionRow,
    turn: u32,
    prompt: PromptRow,
) -> anyhow::Result<()> {
    let attached = app.hub.attach(session.workspace).await?;
    let content = hand_over_images(app, &attached, prompt.content).await?;
    let request = Request::Steer { session: session.id, turn, prompt: prompt.id, content };
    match attached.ask(request).await {
        Ok(Reply::Steered { restarted }) => {
            let restarted = if restarted { Restarted::Yes } else { Restarted::No };
            let id = prompt.id;
            let noted = app
                .store
                .write(move |tx| Box::pin(async move { tx.steer_prompt(id, restarted).await }))
                .await;
            match noted {
                // The turn was over before this was noted; or it was withdrawn meanwhile.
                Ok(_) | Err(boatyard_store::Error::IllegalState { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        Ok(_) => Err(HubError::Protocol("a message to steer").into()),
        // The turn ended first: it is delivered as the next turn.
        Err(error) if error.code() == Some(FailureCode::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Starts a session's agent.
///
/// # Errors
/// When it can't be started.
pub async fn open(app: &App, id: SessionId) -> Result<(), HubError> {
    let session = app.store.session(id).await?;
    let attached = app.hub.wake(session.workspace).await?;
    open_on(app, &attached, &session, session.turns + 1).await
}

/// Starts a session's agent, or finds it running; `turn` is the next to be prompted.
async fn open_on(
    app: &App,
    attached: &Attached,
    session: &SessionRow,
    turn: u32,
) -> Result<(), HubError> {
    let workspace = app.store.workspace(session.workspace).await?;
    let environment = environments::of(app, &workspace).await?;
    let seed = match session.turns {
        0 | 1 => None,
        _ => Some(seed::of(app, session).await?),
    };
    let launch::Prepared { launch, tool } =
        launch::prepare(app, session, workspace.repository, environment).await?;
    if let Some(used) = tool.filter(|_| tool != session.tool) {
        let (id, known) = (session.id, SessionUpdate { tool, ..SessionUpdate::default() });
        app.store
            .write(move |tx| {
                Box::pin(async move {
                    tx.touch_tool(used).await?;
                    tx.update_session(id, known).await
                })
            })
            .await?;
    }
    let open = OpenSession {
        session: session.id,
        agent: launch,
        cwd: session.cwd.clone(),
        home: launch::home(session.id),
        resume: session
            .agent_session
            .clone()
            .map(|id| Resume { id, begun: session.agent_session_begun }),
        seed,
        last_turn: turn.saturating_sub(1),
        checkpoint: workspace.folder.clone(),
    };
    match attached.ask(Request::OpenSession(open)).await? {
        Reply::SessionOpen { agent_session, .. } => {
            if let Some(agent_session) = agent_session {
                let agent_session = events::agent_session(&agent_session);
                // Its record may have been stored already: then that has the time.
                let (id, begun) = (session.id, app.store.now());
                app.store
                    .write(move |tx| {
                        Box::pin(
                            async move { tx.set_agent_session(id, agent_session, begun).await },
                        )
                    })
                    .await?;
            }
            Ok(())
        }
        _ => Err(HubError::Protocol("a session to open")),
    }
}

/// Sends the pictures of a prompt ahead of it.
async fn hand_over_images(
    app: &App,
    attached: &Attached,
    content: Vec<Content>,
) -> anyhow::Result<Vec<Content>> {
    for piece in &content {
        if let Content::Image { blob, mime } = piece {
            let row = app.store.blob(*blob).await?;
            let bytes = app.blobs.read(&row.sha256).await?;
            attached.send_blob(*blob, mime.clone(), bytes).await?;
        }
    }
    Ok(content)
}
