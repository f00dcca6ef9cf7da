//! Attempts: which may be under way, and what happens to one from its place in the queue until its
//! agent has the prompt.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use boatyard_model::{
    AgentSettings, AttemptId, AttemptState, Autonomy, PromptState, SessionId, SessionState,
    Timestamp, TurnOutcome, WorkspaceId, WorkspaceKind, WorkspaceState, event::NoticeLevel,
};
use boatyard_store::{
    AttemptRow, AttemptUpdate, NewJob, NewPrompt, NewRule, NewSession, NewWorkspace, OrderRow,
    Owner, Phase, QuotaKind, Reason, RulePlace, SessionRow, TaskDetail,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Done, admission, dispatch, finish, prepare};
use crate::{app::App, operations::egress};

/// Ends an attempt whose time is over. Its payload is `{"attempt"}`.
pub const JOB_DEADLINE: &str = "deadline";
/// Ends the turn of an attempt that has spent what it may. Its payload is `{"session"}`.
pub const JOB_COST: &str = "cost";
/// How often the queue is looked at although nobody said that there is a place.
const LOOK: Duration = Duration::from_secs(5);
/// Sessions of which it is remembered what they were told.
const TOLD: usize = 4096;
/// How long an attempt that waits for a person is given before its time is counted again.
const RECOUNT: Duration = Duration::from_secs(60);

/// Which attempts are under way. A cheap clone.
#[derive(Clone, Default)]
pub struct Places {
    wake: Arc<Notify>,
    preparing: Arc<Mutex<HashMap<AttemptId, CancellationToken>>>,
    told: Arc<Mutex<HashMap<SessionId, String>>>,
}

impl Places {
    /// There may be a place for an attempt that waits.
    pub fn look(&self) {
        self.wake.notify_one();
    }

    /// Ends the preparation of an attempt, if it is being prepared.
    pub fn cancel(&self, attempt: AttemptId) {
        let preparing = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = preparing.get(&attempt) {
            token.cancel();
        }
    }

    /// Cancelled when the attempt is, until [`Places::end`].
    pub fn watch(&self, attempt: AttemptId) -> CancellationToken {
        let token = CancellationToken::new();
        let mut preparing = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        preparing.insert(attempt, token.clone());
        token
    }

    /// Whether a session was not told this yet, why it waits. It counts as told from here on.
    pub fn is_news(&self, session: SessionId, why: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&session).is_some_and(|before| before == why) {
            return false;
        }
        if told.len() >= TOLD {
            told.clear();
        }
        told.insert(session, why.to_owned());
        true
    }

    /// A session waits no more.
    pub fn untell(&self, session: SessionId) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }

    /// The attempt is not watched any more.
    pub fn end(&self, attempt: AttemptId) {
        self.preparing.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt);
    }
}

/// Begins queued attempts while there are places, until the server stops.
pub async fn run(app: App) {
    let places = u32::try_from(app.settings.limits.running_tasks()).unwrap_or(u32::MAX);
    loop {
        match begin_all(&app, places).await {
            Ok(()) | Err(boatyard_store::Error::Closed) => {}
            Err(error) => {
                tracing::error!(error = %crate::chain(&error), "attempts can't be begun");
            }
        }
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = app.places.wake.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn begin_all(app: &App, places: u32) -> Result<(), boatyard_store::Error> {
    loop {
        let (queued, preparing) = app.store.queue_counts().await?;
        if app.stopping.is_cancelled() || queued == 0 {
            return Ok(());
        }
        if let Err(busy) = admission::attempt(app, preparing) {
            let text = busy.to_string();
            return app
                .store
                .write(move |tx| {
                    let text = text.clone();
                    Box::pin(async move { tx.hold_queued(&text).await })
                })
                .await;
        }
        let begun = app
            .store
            .write(move |tx| Box::pin(async move { tx.begin_next_attempt(places).await }))
            .await?;
        let Some(attempt) = begun else { return Ok(()) };
        let app = app.clone();
        app.tasks.clone().spawn(async move { prepared(&app, attempt).await });
    }
}

/// Prepares an attempt; whatever happens, it does not stay `preparing`.
async fn prepared(app: &App, attempt: AttemptRow) {
    let cancelled = app.places.watch(attempt.id);
    let id = attempt.id;
    let outcome = tokio::select! {
        outcome = prepare(app, attempt) => Some(outcome),
        () = cancelled.cancelled() => None,
        // A new server begins it again.
        () = app.stopping.cancelled() => None,
    };
    app.places.end(id);
    if let Some(Err(reason)) = outcome
        && let Err(error) = give_up(app, id, reason).await
    {
        tracing::error!(attempt.id = %id, error = %format!("{error:#}"), "an attempt that failed can't be ended");
    }
    app.places.look();
}

/// Ends an attempt that could not be prepared, with the reason where people look for it.
async fn give_up(app: &App, id: AttemptId, reason: Reason) -> anyhow::Result<()> {
    let attempt = app.store.attempt(id).await?;
    if attempt.state.is_terminal() {
        return Ok(());
    }
    if let Some(session) = attempt.session {
        let session = app.store.session(session).await?;
        app.hub
            .notice(&session, NoticeLevel::Error, &reason.code, reason.text.clone(), None)
            .await?;
    }
    let queued = match attempt.session {
        Some(session) => {
            app.store.list_prompts(session, Some(PromptState::Queued), 0, 1000).await?
        }
        None => Vec::new(),
    };
    app.store
        .write(move |tx| {
            Box::pin(async move {
                // A workspace that never came up is no place for a follow-up.
                if let Some(workspace) = attempt.workspace
                    && tx.workspace(workspace).await?.state == WorkspaceState::Creating
                {
                    let failed = WorkspaceState::Failed;
                    tx.set_workspace_state(workspace, failed, Some(reason.clone())).await?;
                }
                tx.set_attempt_state(id, AttemptState::Failed, Some(reason)).await?;
                for prompt in queued {
                    tx.withdraw_prompt(prompt.id).await?;
                }
                // What it was to do is not done behind anybody's back later.
                if let Some(session) = attempt.session {
                    let row = tx.session(session).await?;
                    if row.state == SessionState::Starting {
                        tx.set_session_state(session, SessionState::Idle, None).await?;
                    }
                }
                Ok(())
            })
        })
        .await?;
    if let Some(workspace) = attempt.workspace
        && app.store.workspace(workspace).await?.state == WorkspaceState::Awake
    {
        app.hub.sleep(workspace).await?;
    }
    Ok(())
}

/// What a task's order keeps beside its columns.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OrderOptions {
    /// Whether the result goes to the origin.
    pub push: boatyard_api::task::Push,
    /// How much the agent may do unasked, if somebody chose.
    #[serde(default)]
    pub autonomy: Option<Autonomy>,
    /// What is set for the agents in this task alone, with the autonomy.
    #[serde(default)]
    pub settings: AgentSettings,
    /// What its workspaces may reach beside what they may all, as it was written.
    #[serde(default)]
    pub egress: Vec<String>,
}

impl OrderOptions {
    /// Those of an order; the defaults where an older release kept them otherwise.
    pub fn of(order: &OrderRow) -> Self {
        Self::deserialize(&order.options).unwrap_or_default()
    }
}

/// Phases of an attempt, kept with it and told in its session.
pub struct Phases<'a> {
    app: &'a App,
    attempt: AttemptId,
    session: SessionRow,
    phases: Vec<Phase>,
}

impl<'a> Phases<'a> {
    /// Goes on after those that are there.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn of(
        app: &'a App,
        attempt: &AttemptRow,
        session: SessionId,
    ) -> Result<Self, Reason> {
        let session = app.store.session(session).await.map_err(prepare::store_failed)?;
        Ok(Self { app, attempt: attempt.id, session, phases: attempt.phases.clone() })
    }

    /// Begins a phase.
    pub async fn begin(&mut self, name: &str) {
        let started = self.app.store.now();
        self.phases.push(Phase { name: name.to_owned(), started, millis: None, detail: None });
        self.keep().await;
    }

    /// Ends the phase that was begun last.
    pub async fn end(&mut self, detail: impl Into<String>) {
        let now = self.app.store.now();
        let detail = detail.into();
        let Some(phase) = self.phases.last_mut() else { return };
        let millis = u64::try_from(now.since(phase.started).as_millis()).unwrap_or(u64::MAX);
        phase.millis = Some(millis);
        phase.detail = (!detail.is_empty()).then(|| detail.clone());
        let name = phase.name.clone();
        let text = match detail.is_empty() {
            true => format!("{name} · {}", spoken(millis)),
            false => format!("{name}: {detail} · {}", spoken(millis)),
        };
        let data = json!({ "name": name, "millis": millis, "detail": detail });
        let told = self.app.hub.notice(&self.session, NoticeLevel::Info, "phase", text, Some(data));
        if let Err(error) = told.await {
            tracing::warn!(error = %crate::chain(&error), "a phase was not told");
        }
        self.keep().await;
    }

    /// The session that the phases are told in.
    pub fn session(&self) -> &SessionRow {
        &self.session
    }

    async fn keep(&self) {
        let (id, phases) = (self.attempt, self.phases.clone());
        let kept = self
            .app
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let known = AttemptUpdate { phases: Some(phases), ..AttemptUpdate::default() };
                    tx.update_attempt(id, known).await
                })
            })
            .await;
        if let Err(error) = kept {
            tracing::warn!(attempt.id = %id, error = %crate::chain(&error), "phases were not kept");
        }
    }
}

/// `12 ms`, `3.4 s`, `2 min 5 s`.
fn spoken(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{:.1} s", Duration::from_millis(millis).as_secs_f64()),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}

async fn prepare(app: &App, attempt: AttemptRow) -> Result<(), Reason> {
    let task = app.store.task(attempt.task).await.map_err(prepare::store_failed)?;
    let (workspace, session) = rows(app, &task, &attempt).await?;
    let mut phases = Phases::of(app, &attempt, session).await?;
    let branch = attempt.branch.clone().unwrap_or_default();
    let wanted = prepare::Wanted {
        owner: attempt.owner,
        workspace,
        repository: task.task.repository,
        base: task.order.base.clone(),
        branch: Some(branch.clone()),
        environment: prepare::environment_name(&task.order),
        setup_time: Duration::from_secs(task.order.limits.setup_time.into()),
        limits: task.order.workspace_limits,
    };
    let prepared = prepare::workspace(app, wanted, &mut phases).await?;
    let id = attempt.id;
    let base_commit = prepared.base.as_ref().map(ToString::to_string);
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let known = AttemptUpdate { base_commit, ..AttemptUpdate::default() };
                tx.update_attempt(id, known).await?;
                let deadline = tx.now().after(Duration::from_secs(task.order.limits.time.into()));
                tx.enqueue(deadline_job(attempt.owner, id, deadline)).await?;
                tx.set_attempt_state(id, AttemptState::Running, None).await
            })
        })
        .await
        .map_err(prepare::store_failed)?;
    phases.begin("agent").await;
    dispatch::open(app, session).await.map_err(|error| Reason {
        code: "agent_failed".to_owned(),
        text: format!("The agent could not be started: {}", crate::chain(&error)),
    })?;
    phases.end("").await;
    let done = dispatch::run(app, session).await.map_err(|error| Reason {
        code: "agent_failed".to_owned(),
        text: format!("The prompt could not be handed to the agent: {error:#}"),
    })?;
    if let Done::Later(pause) = done {
        // A quota was reached while it was prepared: it gives its place to others meanwhile.
        let owner = attempt.owner;
        let job = dispatch::job(owner, session).at(app.store.now().after(pause));
        app.store
            .write(move |tx| {
                let job = job.clone();
                Box::pin(async move {
                    if let Some(reached) = tx.quota_reached(owner, &QuotaKind::OF_TURNS).await? {
                        let waiting = AttemptState::Waiting;
                        tx.set_attempt_state(id, waiting, Some(reached.reason())).await?;
                    }
                    tx.enqueue(job).await.map(drop)
                })
            })
            .await
            .map_err(prepare::store_failed)?;
    }
    Ok(())
}

/// The rows of an attempt's workspace, session and first prompt: made once, found again by a
/// server that begins the attempt anew.
async fn rows(
    app: &App,
    task: &TaskDetail,
    attempt: &AttemptRow,
) -> Result<(WorkspaceId, SessionId), Reason> {
    if let (Some(workspace), Some(session)) = (attempt.workspace, attempt.session) {
        prepare::clear(app, workspace).await?;
        return Ok((workspace, session));
    }
    let (workspace, session) = (WorkspaceId::new(), SessionId::new());
    let owner: Owner = attempt.owner;
    let repository = match task.task.repository {
        Some(id) => Some(app.store.repository(id).await.map_err(prepare::store_failed)?),
        None => None,
    };
    let folder = repository.map(|row| row.folder);
    let new_workspace = NewWorkspace {
        id: workspace,
        owner,
        name: None,
        kind: WorkspaceKind::Sandbox,
        runtime: app.runtime.name().to_owned(),
        isolation: Some(prepare::isolation(app).await?),
        lowers: Vec::new(),
        repository: task.task.repository,
        folder: folder.clone(),
        base_commit: None,
        branch: attempt.branch.clone(),
        limits: task.order.workspace_limits,
        task: Some(task.task.id),
        forked_from: None,
        begins: boatyard_store::Begins::Later,
    };
    let options = OrderOptions::of(&task.order);
    let rules = egress::ordered(&options.egress).map_err(|problem| Reason {
        code: "egress_rule".to_owned(),
        text: format!("A rule of egress that stands with the task makes no sense: {problem}."),
    })?;
    let new_session = NewSession {
        settings: options.settings,
        id: session,
        owner,
        workspace,
        attempt: Some((task.task.id, attempt.id)),
        agent: attempt.agent.clone(),
        model: attempt.model.clone(),
        cwd: folder.map_or_else(|| "/work".to_owned(), |folder| format!("/work/{folder}")),
        client_key: None,
    };
    let new_prompt = NewPrompt {
        owner,
        session,
        mode: boatyard_model::PromptMode::Queue,
        content: task.order.prompt.clone(),
        author: None,
    };
    let id = attempt.id;
    app.store
        .write(move |tx| {
            Box::pin(async move {
                tx.create_workspace(new_workspace).await?;
                for rule in rules {
                    let place = RulePlace::Workspace(workspace);
                    tx.create_rule(&NewRule::new(owner, place, rule)).await?;
                }
                tx.create_session(new_session).await?;
                tx.create_prompt(new_prompt).await?;
                let known = AttemptUpdate {
                    workspace: Some(workspace),
                    session: Some(session),
                    ..AttemptUpdate::default()
                };
                tx.update_attempt(id, known).await
            })
        })
        .await
        .map_err(prepare::store_failed)?;
    Ok((workspace, session))
}

fn deadline_job(owner: Owner, attempt: AttemptId, at: Timestamp) -> NewJob {
    let mut job = NewJob::new(JOB_DEADLINE, json!({ "attempt": attempt }))
        .about(attempt)
        .at(at)
        .once_for(format!("{JOB_DEADLINE}:{attempt}"));
    job.owner = owner;
    job
}

/// The job that ends a session's turn because its money is spent.
pub fn cost_job(owner: Owner, session: SessionId) -> NewJob {
    let mut job = NewJob::new(JOB_COST, json!({ "session": session }))
        .about(session)
        .once_for(format!("{JOB_COST}:{session}"));
    job.owner = owner;
    job
}

/// Ends the turn of an attempt that has spent what it may.
pub async fn cost(app: &App, payload: &Value) -> anyhow::Result<Done> {
    let id = dispatch::parse(payload)?;
    let session = app.store.session(id).await?;
    let Some(task) = session.task else { return Ok(Done::Yes) };
    let limit = app.store.task(task).await?.order.limits.cost_usd;
    let spent = session.usage.and_then(|usage| usage.cost_usd);
    if let (Some(limit), Some(spent), Some(_)) = (limit, spent, session.turn)
        && spent > limit
    {
        let text =
            format!("The task has spent {spent:.2} of the {limit:.2} US dollars that it may.");
        app.hub.notice(&session, NoticeLevel::Warning, "limit_cost", text, None).await?;
        finish::stop(app, id, TurnOutcome::LimitReached).await?;
    }
    Ok(Done::Yes)
}

/// Ends an attempt whose time is over. Time in which it waited for a person does not count.
pub async fn deadline(app: &App, payload: &Value) -> anyhow::Result<Done> {
    let id: AttemptId = serde_json::from_value(payload["attempt"].clone())?;
    let attempt = app.store.attempt(id).await?;
    if attempt.state.is_terminal() {
        return Ok(Done::Yes);
    }
    if attempt.state == AttemptState::Waiting {
        return Ok(Done::Later(RECOUNT));
    }
    let Some(session) = attempt.session else { return Ok(Done::Yes) };
    let limit = app.store.task(attempt.task).await?.order.limits.time;
    let waited = waited(app, session).await?;
    let began = first_turn(app, session).await?.unwrap_or_else(|| app.store.now());
    let spent = app.store.now().since(began).saturating_sub(waited);
    let left = Duration::from_secs(limit.into()).saturating_sub(spent);
    if !left.is_zero() {
        return Ok(Done::Later(left));
    }
    finish::stop(app, session, TurnOutcome::LimitReached).await?;
    Ok(Done::Yes)
}

/// How long a session has waited for a person in all.
async fn waited(app: &App, session: SessionId) -> anyhow::Result<Duration> {
    let mut sum = Duration::ZERO;
    let mut since: Option<Timestamp> = None;
    let mut after = 0;
    loop {
        let events = app.store.read_events(session, after, 1000).await?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        for stored in events.iter().filter(|event| &*event.kind == "session.state") {
            let event = stored.event()?;
            let boatyard_model::EventBody::SessionState { state, .. } = event.body else {
                continue;
            };
            match (state, since) {
                (SessionState::Waiting, None) => since = Some(event.time),
                (state, Some(began)) if state != SessionState::Waiting => {
                    sum += event.time.since(began);
                    since = None;
                }
                _ => {}
            }
        }
    }
    Ok(sum)
}

async fn first_turn(app: &App, session: SessionId) -> anyhow::Result<Option<Timestamp>> {
    let mut after = 0;
    loop {
        let events = app.store.read_events(session, after, 200).await?;
        let Some(last) = events.last() else { return Ok(None) };
        after = last.seq;
        if let Some(started) = events.iter().find(|event| &*event.kind == "turn.started") {
            return Ok(Some(started.event()?.time));
        }
    }
}
