//! How a session's agent works, changed in mid-conversation.

use boatyard_api::{
    Problem,
    session::{Session, SessionChange},
};
use boatyard_link::message::{FailureCode, Request};
use boatyard_model::{AgentSettings, SessionId, SessionState, Wish, WorkspaceState, agent::Choice};
use boatyard_store::{SessionRow, SessionUpdate, ThingId};

use super::{find_session, row};
use crate::{
    app::App,
    auth::Caller,
    hub::HubError,
    operations::{agents, hub_problem, store_problem},
    providers::DEMO_MODEL,
};

/// Changes mode, model or autonomy. It is kept for every later start of the agent; an agent that runs
/// is told at once, or, between turns, ended, so that the next prompt starts it anew with its
/// conversation.
///
/// # Errors
/// When there is none, it is over, or its agent does not offer this.
pub async fn change_session(
    app: &App,
    caller: &Caller,
    id: SessionId,
    change: SessionChange,
) -> Result<Session, Problem> {
    let wish = if change.visibility.is_some() { Wish::Manage } else { Wish::Act };
    let session = row(app, caller, id, wish).await?;
    if let Some(visibility) = change.visibility {
        app.store
            .write(move |tx| Box::pin(tx.set_visibility(ThingId::Session(id), visibility)))
            .await
            .map_err(store_problem)?;
        if change == (SessionChange { visibility: change.visibility, ..SessionChange::default() }) {
            return find_session(app, caller, id).await;
        }
    }
    if session.state == SessionState::Ended {
        return Err(Problem::conflict(format!("session {id} is over")));
    }
    check(app, caller, &session, &change).await?;
    let (mode, model, autonomy) = (change.mode.clone(), change.model.clone(), change.autonomy);
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let mut settings = tx.session(id).await?.settings;
                if autonomy.is_some() {
                    settings.autonomy = autonomy;
                    // One that was chosen before goes with another autonomy.
                    settings.mode = None;
                }
                settings.mode = mode.or(settings.mode);
                let settings = Some(settings);
                let update = SessionUpdate { settings, model, ..SessionUpdate::default() };
                tx.update_session(id, update).await
            })
        })
        .await
        .map_err(store_problem)?;
    tell(app, &session, &change).await.map_err(hub_problem)?;
    find_session(app, caller, id).await
}

async fn check(
    app: &App,
    caller: &Caller,
    session: &SessionRow,
    change: &SessionChange,
) -> Result<(), Problem> {
    let wanted = AgentSettings {
        mode: change.mode.clone(),
        model: change.model.clone(),
        ..AgentSettings::default()
    };
    wanted.check().map_err(|error| Problem::invalid(error.field.clone(), &error))?;
    let agent = session.agent.parse().map_err(Problem::internal)?;
    if let Some(autonomy) = change.autonomy {
        agents::check_autonomy(app, &agent, autonomy)?;
    }
    if let Some(offers) = &session.offers {
        offered("mode", change.mode.as_deref(), &offers.modes)?;
    }
    if let Some(model) = &change.model {
        agents::settings::usable(app, caller, Some(agent), Some(model)).await?;
        let is_busy = matches!(session.state, SessionState::Running | SessionState::Waiting);
        if is_busy && leads_elsewhere(app, session, model).await.map_err(hub_problem)? {
            let detail = "the model `demo` is another provider: it can't be changed to, or from, in \
                          the middle of a turn";
            return Err(Problem::conflict(detail)
                .at("model")
                .with_next("Wait until the turn is over, or stop it."));
        }
    }
    Ok(())
}

/// Whether the agent must be told another provider for a model: one of the two is the scripted one.
async fn leads_elsewhere(app: &App, session: &SessionRow, model: &str) -> Result<bool, HubError> {
    let before = agents::settings_for(app, session).await?.model;
    Ok((before.as_deref() == Some(DEMO_MODEL)) != (model == DEMO_MODEL))
}

fn offered(field: &str, wanted: Option<&str>, choices: &[Choice]) -> Result<(), Problem> {
    let Some(wanted) = wanted else { return Ok(()) };
    if choices.is_empty() || choices.iter().any(|choice| choice.id == wanted) {
        return Ok(());
    }
    let names: Vec<&str> = choices.iter().map(|choice| choice.id.as_str()).collect();
    let detail = format!("the agent offers no {field} `{wanted}`; it has {}", names.join(", "));
    Err(Problem::invalid(field, detail))
}

/// Brings a change to an agent that runs.
async fn tell(app: &App, session: &SessionRow, change: &SessionChange) -> Result<(), HubError> {
    let workspace = app.store.workspace(session.workspace).await?;
    if workspace.state != WorkspaceState::Awake {
        return Ok(());
    }
    let attached = match app.hub.attach(session.workspace).await {
        Ok(attached) => attached,
        Err(HubError::Runtime(boatyard_runtime::Error::NotRunning(_))) => return Ok(()),
        Err(error) => return Err(error),
    };
    let id = session.id;
    let offers = session.offers.clone().unwrap_or_default();
    let is_offered = |model: &String| offers.models.iter().any(|choice| choice.id == *model);
    // What no request tells it takes a new start, which must not break a turn off.
    let elsewhere = match &change.model {
        Some(model) => leads_elsewhere(app, session, model).await?,
        None => false,
    };
    let anew = elsewhere
        || change.autonomy.is_some()
        || change.model.as_ref().is_some_and(|model| !is_offered(model));
    let idle = matches!(session.state, SessionState::Idle | SessionState::Starting);
    let requests = if anew && idle {
        vec![Request::CloseSession { session: id }]
    } else {
        let fitting = match change.autonomy {
            Some(autonomy) => fitting_mode(app, session, autonomy),
            None => None,
        };
        let mode = change.mode.clone().or(fitting);
        let mode = mode.map(|mode| Request::SetMode { session: id, mode });
        let model = change.model.clone().filter(is_offered);
        let model = model.map(|model| Request::SetModel { session: id, model });
        mode.into_iter().chain(model).collect()
    };
    for request in requests {
        match attached.ask(request).await {
            Ok(_) => {}
            // It does not run: it gets what was kept when it is started.
            Err(error) if error.code() == Some(FailureCode::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The agent's own mode for an autonomy, for the turn that runs.
fn fitting_mode(
    app: &App,
    session: &SessionRow,
    autonomy: boatyard_model::Autonomy,
) -> Option<String> {
    let agents = app.agents.current();
    let entry = agents.get(&session.agent.parse().ok()?).ok()?;
    entry.modes.of(autonomy).map(str::to_owned)
}
