//! Housekeeping: what sleeps, what goes, what is past its deadline.

use std::{collections::HashSet, time::Duration};

use boatyard_api::system::GarbageReport;
use boatyard_link::message::Request;
use boatyard_model::{
    AttemptState, LayerId, SessionId, SessionState, Timestamp, TurnOutcome, WorkspaceId,
    WorkspaceState,
};
use boatyard_store::{LayerState, NewJob, Reason};
use serde_json::Value;

use super::{Done, disk};
use crate::{app::App, operations::workspaces};

/// Puts quiet workspaces to sleep.
pub const IDLE: &str = "idle-reaper";
/// Removes what nothing refers to.
pub const GARBAGE: &str = "gc";
/// Says no where nobody answered in time.
pub const EXPIRE: &str = "expire";
/// Removes what the logs of requests and of calls with keys keep no longer, and codes that are over.
pub const TRAFFIC: &str = "egress-log";
/// Removes entries of the audit log that are kept no longer.
pub const AUDIT: &str = "audit-log";
/// Stores the figures of days that are over.
pub const USAGE: &str = "daily-usage";
/// What a person may ask for by name.
pub const BY_NAME: &[&str] = &[IDLE, GARBAGE, EXPIRE, TRAFFIC, USAGE, AUDIT];

/// How often quiet workspaces and expired questions are looked for.
const EVERY_MINUTE: Duration = Duration::from_secs(60);
/// How often the log of requests is cut back to what it keeps.
const HOUR: Duration = Duration::from_secs(3600);
/// Rows of that log that are removed in one transaction: others write meanwhile.
const LOG_BATCH: u32 = 5000;
/// How long calls with keys are remembered, in days.
const CALL_DAYS: i64 = 90;
/// How often what nothing refers to is removed.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long what was just made is left alone, whoever refers to it.
const FRESH: Duration = Duration::from_secs(3600);
/// Days whose figures are stored in one transaction.
const DAYS_AT_ONCE: u64 = 7;
/// What is removed in one transaction.
const BATCH: u32 = 200;

/// Runs until the server stops: links are swept, jobs are enqueued by the clock, the disk is
/// watched.
pub async fn run(app: App) {
    tokio::join!(by_the_clock(&app), at_midnight(&app), disk::watch(&app));
}

async fn by_the_clock(app: &App) {
    let mut sweep = tokio::time::interval(crate::hub::sweep::EVERY);
    let mut minute = tokio::time::interval(EVERY_MINUTE);
    let mut hour = tokio::time::interval(HOUR);
    let mut day = tokio::time::interval_at(tokio::time::Instant::now() + DAY, DAY);
    for timer in [&mut sweep, &mut minute, &mut hour] {
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = sweep.tick() => {
                if let Err(error) = app.hub.sweep().await {
                    tracing::warn!(error = %crate::chain(&error), "links were not swept");
                }
            }
            _ = minute.tick() => {
                enqueue(app, IDLE).await;
                enqueue(app, EXPIRE).await;
            }
            _ = hour.tick() => {
                enqueue(app, TRAFFIC).await;
                enqueue(app, AUDIT).await;
            }
            _ = day.tick() => enqueue(app, GARBAGE).await,
        }
    }
}

/// Has the figures of a day stored when it is over; at the start those of days that went by
/// without a server.
async fn at_midnight(app: &App) {
    let mut stored = None;
    loop {
        let now = app.store.now();
        let today = boatyard_store::day_of(now);
        if stored != Some(today) {
            enqueue(app, USAGE).await;
            stored = Some(today);
        }
        let midnight = Timestamp(today.0.saturating_add(boatyard_store::DAY));
        // Not all the way: the clock may be set, and a machine may sleep.
        let pause = midnight.since(now).min(HOUR / 6);
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Stores the figures of days that are over.
pub(super) async fn usage(app: &App) -> anyhow::Result<Done> {
    app.hub.ledger().flush().await?;
    app.store.write(|tx| Box::pin(async move { tx.count_clocks().await })).await?;
    for organization in app.store.every_organization().await? {
        loop {
            let (rows, days) = app
                .store
                .write(move |tx| {
                    Box::pin(async move { tx.store_days(organization, DAYS_AT_ONCE).await })
                })
                .await?;
            tracing::debug!(organization.id = %organization, rows, days, "days were stored");
            if days < DAYS_AT_ONCE {
                break;
            }
        }
    }
    Ok(Done::Yes)
}

pub(super) async fn enqueue(app: &App, kind: &str) {
    if let Err(error) = app.store.enqueue(vec![job(kind)]).await {
        tracing::warn!(job.kind = kind, error = %crate::chain(&error), "a job was not enqueued");
    }
}

/// A housekeeping job, one of its kind at a time.
pub fn job(kind: &str) -> NewJob {
    NewJob::new(kind, Value::Null).once_for(kind.to_owned())
}

/// Puts to sleep what was quiet for the idle time, and looks after turns that go past a quota.
pub(super) async fn idle(app: &App) -> anyhow::Result<Done> {
    super::admission::look_after_turns(app).await?;
    let idle = app.settings.retention.idle_sleep.duration();
    let before = Timestamp(
        app.store.now().0.saturating_sub(i64::try_from(idle.as_millis()).unwrap_or(i64::MAX)),
    );
    for workspace in app.store.idle_workspaces(before, BATCH).await? {
        if let Some(attached) = app.hub.place(workspace.id).attached()
            && (attached.streams() > 0
                || attached.status().await.is_ok_and(|status| status.execs > 0))
        {
            continue;
        }
        app.hub.sleep(workspace.id).await?;
    }
    Ok(Done::Yes)
}

/// Says no where nobody answered in time, and tells the agents.
pub(super) async fn expire(app: &App) -> anyhow::Result<Done> {
    // Those that wait now end by themselves; these are an earlier server's.
    loop {
        let ended =
            app.store.write(|tx| Box::pin(async move { tx.expire_asks(BATCH).await })).await?;
        if ended.is_empty() {
            break;
        }
    }
    loop {
        let (permissions, questions) =
            app.store.write(|tx| Box::pin(async move { tx.expire_decisions(BATCH).await })).await?;
        if permissions.is_empty() && questions.is_empty() {
            return Ok(Done::Yes);
        }
        for row in permissions {
            if let Some(money) = app.store.budget_ask(row.id).await? {
                let no = boatyard_model::event::PermissionOutcome::Expired;
                crate::ledger::asking::answered(app, &money, no).await?;
                continue;
            }
            let request = Request::AnswerPermission {
                session: row.session,
                permission: row.id,
                option: None,
            };
            tell(app, row.session, request).await?;
        }
        for row in questions {
            let request =
                Request::AnswerQuestion { session: row.session, question: row.id, answer: None };
            tell(app, row.session, request).await?;
        }
    }
}

async fn tell(app: &App, session: SessionId, request: Request) -> anyhow::Result<()> {
    let workspace = app.store.session(session).await?.workspace;
    let attached = match app.hub.attach(workspace).await {
        Ok(attached) => attached,
        // It is gone, and with it who asked.
        Err(error) if error.is_lost() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match attached.ask(request).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(boatyard_link::message::FailureCode::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Cuts the log of requests back to what the settings keep, that of calls with keys to ninety days.
pub(super) async fn traffic(app: &App) -> anyhow::Result<Done> {
    let settings = &app.settings.egress;
    let days = DAY.saturating_mul(settings.log_days);
    let before = app.store.now().0.saturating_sub(i64::try_from(days.as_millis())?);
    let (before, rows) = (Timestamp(before), u64::from(settings.log_rows));
    loop {
        let gone = app
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let asks = tx.remove_old_asks(before, LOG_BATCH).await?;
                    let shares = tx.remove_old_shares(before, LOG_BATCH).await?;
                    Ok(tx.trim_requests(before, rows, LOG_BATCH).await?.max(asks).max(shares))
                })
            })
            .await?;
        if gone < u64::from(LOG_BATCH) {
            break;
        }
    }
    let now = app.store.now().0;
    let ago = |days: i64| Timestamp(now.saturating_sub(days * 24 * 3_600_000));
    let (calls, codes) = (ago(CALL_DAYS), ago(1));
    loop {
        let gone = app
            .store
            .write(move |tx| {
                Box::pin(async move {
                    tx.forget_device_codes(codes).await?;
                    tx.trim_key_calls(calls, LOG_BATCH).await
                })
            })
            .await?;
        if gone < u64::from(LOG_BATCH) {
            return Ok(Done::Yes);
        }
    }
}

/// Cuts the audit logs back to what is kept.
pub(super) async fn audit(app: &App) -> anyhow::Result<Done> {
    crate::operations::audit::trim(app).await?;
    Ok(Done::Yes)
}

/// The daily removal, and the one when the disk is nearly full.
pub(super) async fn garbage(app: &App) -> anyhow::Result<Done> {
    let report = collect(app, Dry::No).await?;
    tracing::info!(?report, "removed what nothing refers to");
    Ok(Done::Yes)
}

/// Whether something is only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dry {
    /// It is.
    Yes,
    /// It is removed.
    No,
}

/// Removes what nothing refers to: never a workspace with work that is not in a result.
///
/// # Errors
/// When the store or the disk refuses.
pub async fn collect(app: &App, dry: Dry) -> anyhow::Result<GarbageReport> {
    disk::measure_layers(app).await?;
    let mut report = GarbageReport { dry_run: dry == Dry::Yes, ..GarbageReport::default() };
    let now = app.store.now();
    let ago = |span: Duration| {
        Timestamp(now.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    };
    let retention = &app.settings.retention;
    old_workspaces(app, dry, ago(retention.workspaces.duration()), &mut report).await?;
    for layer in app.store.unused_layers(ago(retention.layers.duration()), BATCH).await? {
        report.layers += 1;
        report.bytes += layer.bytes;
        if dry == Dry::No {
            let id = layer.id;
            app.store
                .write(move |tx| Box::pin(async move { tx.delete_layer_if_unused(id).await }))
                .await?;
        }
    }
    for repository in
        app.store.unused_repositories(ago(retention.mirrors.duration()), BATCH).await?
    {
        report.mirrors += 1;
        report.bytes += repository.bytes;
        if dry == Dry::No {
            let id = repository.id;
            let removed = app
                .store
                .write(move |tx| Box::pin(async move { tx.remove_repository(id).await }))
                .await?;
            if removed {
                app.mirrors.remove(id).await?;
            }
        }
    }
    if dry == Dry::No {
        remove_layers(app).await?;
        super::install::tidy(app).await?;
        let before = ago(FRESH);
        let gone = app
            .store
            .write(move |tx| Box::pin(async move { tx.remove_unused_blobs(before, BATCH).await }))
            .await?;
        for hash in gone {
            report.blobs += 1;
            report.bytes += app.blobs.remove(&hash).await?;
        }
        let jobs = ago(retention.jobs.duration());
        app.store
            .write(move |tx| {
                Box::pin(async move {
                    tx.remove_old_jobs(jobs, 10_000).await?;
                    tx.forget_ended_rules(jobs).await?;
                    tx.forget_keys(jobs, 10_000).await
                })
            })
            .await?;
    }
    Ok(report)
}

/// Workspaces that sleep, were not used for long, and whose work is in a result or was never any.
async fn old_workspaces(
    app: &App,
    dry: Dry,
    before: Timestamp,
    report: &mut GarbageReport,
) -> anyhow::Result<()> {
    for state in [WorkspaceState::Asleep, WorkspaceState::Failed] {
        for row in app.store.workspaces_in(state).await? {
            if row.last_active >= before {
                continue;
            }
            let Some(attempt) = app.store.attempt_of_workspace(row.id).await? else { continue };
            let is_kept = attempt.result.is_some() && app.mirrors.result_path(attempt.id).exists()
                || attempt.base_commit.is_none();
            if !attempt.state.is_terminal() || !is_kept {
                continue;
            }
            report.workspaces += 1;
            report.bytes += row.disk_bytes;
            if dry == Dry::No {
                end_sessions(app, row.id, "its workspace was removed").await?;
                app.hub.remove(row.id).await?;
            }
        }
    }
    Ok(())
}

/// Ends every session of a workspace that is about to go.
///
/// # Errors
/// When the store refuses.
pub async fn end_sessions(app: &App, workspace: WorkspaceId, why: &str) -> anyhow::Result<()> {
    let row = app.store.workspace(workspace).await?;
    for session in app.hub.sessions_in(&row).await? {
        if session.state == SessionState::Ended {
            continue;
        }
        if let Some(turn) = session.turn {
            app.hub.end_turn(&session, turn, TurnOutcome::Cancelled, None).await?;
        }
        let (id, why) = (session.id, why.to_owned());
        app.store
            .write(move |tx| Box::pin(async move { tx.end_session(id, Some(why)).await }))
            .await?;
    }
    Ok(())
}

async fn remove_layers(app: &App) -> anyhow::Result<()> {
    for layer in app.store.layers_in(LayerState::Deleted).await? {
        app.runtime.remove_layer(layer.id).await?;
        let id = layer.id;
        app.store.write(move |tx| Box::pin(async move { tx.remove_layer(id).await })).await?;
    }
    Ok(())
}

/// At the start: what an earlier server left behind is put in order. Workspaces that run are
/// attached to again; those that are gone are noted; what has no row is removed.
///
/// # Errors
/// When the store or the runtime can't be asked.
pub async fn take_up(app: &App) -> anyhow::Result<()> {
    let worker = format!("server-{}", std::process::id());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                tx.reset_fetching().await?;
                tx.reclaim_from_others(&worker).await
            })
        })
        .await?;
    let existing = app.runtime.list().await?;
    let known: HashSet<WorkspaceId> = existing.iter().map(|place| place.workspace).collect();
    let running: HashSet<WorkspaceId> = existing
        .iter()
        .filter(|place| place.running.is_some())
        .map(|place| place.workspace)
        .collect();
    for row in app.store.workspaces_in(WorkspaceState::Awake).await? {
        if !running.contains(&row.id) {
            let id = row.id;
            app.store.write(move |tx| Box::pin(async move { tx.forget_clocks(id).await })).await?;
            app.hub.found_gone(row.id).await?;
            continue;
        }
        // What runs is attached to at once: its events wait, its way out is closed until then.
        let (app, id) = (app.clone(), row.id);
        app.tasks.clone().spawn(async move {
            if let Err(error) = app.hub.attach(id).await {
                tracing::warn!(workspace.id = %id, error = %crate::chain(&error), "a workspace was not attached to again");
                if let Err(error) = app.hub.look_after(id).await {
                    tracing::warn!(workspace.id = %id, error = %crate::chain(&error), "nor looked after");
                }
            }
        });
    }
    settle_layers(app).await?;
    super::missing::note(app, &known).await?;
    // Whoever asked for these has been told that it failed: the connection ended.
    for row in app.store.workspaces_in(WorkspaceState::Creating).await? {
        if row.task.is_none() {
            if running.contains(&row.id) {
                app.runtime.kill(row.id).await?;
            }
            let text = "the server ended while it was being made".to_owned();
            let reason = Reason { code: "workspace_failed".to_owned(), text };
            app.hub.fail(row.id, reason).await?;
        }
    }
    // Attempts that were being prepared are begun again.
    for attempt in app.store.attempts_in(AttemptState::Preparing).await? {
        let id = attempt.id;
        app.store
            .write(move |tx| {
                Box::pin(async move { tx.set_attempt_state(id, AttemptState::Queued, None).await })
            })
            .await?;
    }
    // Turns that were under way are delivered if their runner never heard of them; so is the first
    // prompt of an attempt whose preparation had just ended.
    for state in [SessionState::Starting, SessionState::Running, SessionState::Waiting] {
        for session in app.store.sessions_in(state).await? {
            app.store.enqueue(vec![super::dispatch::job(session.owner, session.id)]).await?;
        }
    }
    remove_orphans(app, &known, &running).await?;
    super::install::tidy(app).await?;
    app.places.look();
    Ok(())
}

/// Layers that were being made when the server ended.
async fn settle_layers(app: &App) -> anyhow::Result<()> {
    let building = app.store.layers_in(LayerState::Building).await?;
    if building.is_empty() {
        return Ok(());
    }
    let there: HashSet<LayerId> = app.runtime.list_layers().await?.into_iter().collect();
    for layer in building {
        let has_files = there.contains(&layer.id);
        workspaces::settle_snapshot(&app.store, layer, has_files).await?;
    }
    Ok(())
}

/// Files that no row names: what a crash left of a workspace that was being made.
async fn remove_orphans(
    app: &App,
    known: &HashSet<WorkspaceId>,
    running: &HashSet<WorkspaceId>,
) -> anyhow::Result<()> {
    for id in known {
        let gone = match app.store.workspace(*id).await {
            Ok(row) => row.state == WorkspaceState::Deleted,
            Err(boatyard_store::Error::NotFound { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        if !gone {
            continue;
        }
        if running.contains(id) {
            app.runtime.kill(*id).await?;
        }
        app.runtime.remove(*id).await?;
    }
    let layers: Vec<LayerId> = app.runtime.list_layers().await?;
    for id in layers {
        if matches!(app.store.layer(id).await, Err(boatyard_store::Error::NotFound { .. })) {
            app.runtime.remove_layer(id).await?;
        }
    }
    remove_layers(app).await
}
