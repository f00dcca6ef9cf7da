//! What is taken on disk: workspaces are held to their limits, sizes are noted.
//!
//! Adding up a workspace's files is slow, asking the file system how full it is is not. So the
//! growth of the whole file system is summed up, each look's rise and never its falls, and a
//! workspace is measured only when it could have reached its limit: when what it took at its last
//! measurement and what everybody together has written since come to more. Growth that hides
//! behind somebody's deletions is found by measuring now and then, the oftener the nearer the
//! limit. Where the file system keeps the limit itself (project quota), measuring is one call,
//! and the limit is never passed.
//!
//! ```text
//! below ── 95 % ──► nearly full: its sessions are told
//!   ▲    ── limit ─► frozen ─► its sessions are told ─► a turn stands: stopped by its runner,
//!   │                                                    which leaves a checkpoint
//!   │                                                 └► none stands: room to clear up in;
//!   └── files were deleted                                past that, the workspace sleeps
//! ```

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use boatyard_model::{SessionId, TurnOutcome, WorkspaceId, WorkspaceState, event::NoticeLevel};
use boatyard_runtime::{Error as RuntimeError, Frozen};
use boatyard_store::{LayerKind, LayerState, WorkspaceRow};
use futures_util::{StreamExt as _, stream};

use super::{finish, housekeeping};
use crate::{app::App, hub::HubError};

/// How often the file system is asked while workspaces are awake, and while none is known to be:
/// a server at rest wakes up a few times a second for everything together.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_IDLE: Duration = Duration::from_secs(5);
/// Workspaces that are awake are listed so often, and whenever the disk has grown by this much.
const LIST: Duration = Duration::from_secs(30);
const LIST_GROWTH: u64 = 16 << 20;
/// The least time between two measurements of one workspace, and how much longer than the
/// measurement itself it must be: at most a twentieth of the time goes into it.
const MEASURE_PAUSE: Duration = Duration::from_secs(2);
const MEASURE_SHARE: u32 = 20;
/// Workspaces that are measured at a time.
const AT_ONCE: usize = 2;
/// What a workspace above its limit may write to clear up: `git` writes before it deletes.
const ROOM: u64 = 64 << 20;
/// How often sizes of layers are looked for.
const LAYERS: Duration = Duration::from_secs(600);

/// Tells the reason of a turn that was stopped for its disk.
pub(super) const NOTICE_LIMIT: &str = "limit_disk";
const NOTICE_NEAR: &str = "disk_nearly_full";

/// Watches until the server stops.
pub(super) async fn watch(app: &App) {
    let mut disk = Disk::default();
    loop {
        let pause = if disk.awake.is_empty() { LOOK_IDLE } else { LOOK };
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        // A system call that reads memory on every file system that a data folder may lie on.
        let Some(space) = Space::of(&app.data) else { continue };
        disk.note(space);
        if disk.is_due(Instant::now())
            && let Err(error) = look(app, &mut disk, space).await
        {
            tracing::warn!(error = %format!("{error:#}"), "disks were not looked at");
        }
    }
}

/// Lists what is awake, measures what may have reached its limit, and does what follows.
async fn look(app: &App, disk: &mut Disk, space: Space) -> anyhow::Result<()> {
    let now = Instant::now();
    let rows = app.store.workspaces_in(WorkspaceState::Awake).await?;
    disk.list(&rows, now);
    if space.percent >= app.settings.retention.disk_percent {
        housekeeping::enqueue(app, housekeeping::GARBAGE).await;
    }
    if disk.layers.is_none_or(|last| now - last >= LAYERS) {
        measure_layers(app).await?;
        disk.layers = Some(now);
    }
    let grown = disk.grown;
    let due: Vec<WorkspaceRow> = rows
        .into_iter()
        .filter(|row| disk.awake.get(&row.id).is_some_and(|one| one.is_due(grown, now)))
        .collect();
    let mut measured = stream::iter(due)
        .map(|row| async move {
            let began = Instant::now();
            let bytes = app.hub.measure(row.id).await;
            (row, bytes, began.elapsed())
        })
        .buffer_unordered(AT_ONCE);
    while let Some((row, bytes, took)) = measured.next().await {
        let Some(one) = disk.awake.get_mut(&row.id) else { continue };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(HubError::Runtime(error)) if is_too_deep(&error) => one.at_worst(grown),
            Err(error) => {
                // It may be going at this moment.
                tracing::debug!(workspace.id = %row.id, error = %crate::chain(&error), "no disk usage");
                one.tried(Instant::now(), took);
                continue;
            }
        };
        let acted = match one.measured(bytes, grown, Instant::now(), took) {
            Step::None => Ok(()),
            Step::Tell => nearly_full(app, &row, bytes).await,
            Step::Stop(passed) => over_limit(app, &row, bytes, passed).await,
        };
        if let Err(error) = acted {
            tracing::warn!(workspace.id = %row.id, error = %format!("{error:#}"), "a workspace at its limit on disk");
        }
    }
    Ok(())
}

/// Waits until a workspace that has no row, which nobody else watches, has taken more than it may.
/// Gives what it has taken.
pub(super) async fn taken_too_much(app: &App, workspace: WorkspaceId, limit: u64) -> u64 {
    let mut disk = Disk::default();
    let mut one = Watched::new(limit, 0, 0, Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some(space) = Space::of(&app.data) {
            disk.note(space);
        }
        let began = Instant::now();
        if !one.is_due(disk.grown, began) {
            continue;
        }
        let bytes = match app.runtime.disk_usage(workspace).await {
            Ok(usage) => usage.bytes,
            Err(error) if is_too_deep(&error) => one.at_worst(disk.grown),
            Err(error) => {
                // It may be going at this moment.
                tracing::debug!(workspace.id = %workspace, error = %crate::chain(&error), "no disk usage");
                one.tried(Instant::now(), began.elapsed());
                continue;
            }
        };
        if let Step::Stop(_) = one.measured(bytes, disk.grown, Instant::now(), began.elapsed()) {
            return bytes;
        }
    }
}

/// Whether a workspace's files are nested more deeply than they are added up.
fn is_too_deep(error: &RuntimeError) -> bool {
    const LOOP: i32 = rustix::io::Errno::LOOP.raw_os_error();
    matches!(error, RuntimeError::Step { source, .. } if source.raw_os_error() == Some(LOOP))
}

async fn nearly_full(app: &App, row: &WorkspaceRow, bytes: u64) -> anyhow::Result<()> {
    let text = format!(
        "The workspace's files take {} of the {} that they may. Delete what is not needed.",
        mib(bytes),
        mib(row.limits.disk_bytes)
    );
    for session in app.hub.sessions_in(row).await? {
        app.hub.notice(&session, NoticeLevel::Warning, NOTICE_NEAR, text.clone(), None).await?;
    }
    Ok(())
}

/// A workspace took more disk than it may. Nothing writes while that is told; then a turn that
/// stands is ended in order, so that its work is kept. What works outside of turns may clear up
/// first; when it has taken that room too, the workspace sleeps.
async fn over_limit(
    app: &App,
    row: &WorkspaceRow,
    bytes: u64,
    passed: Passed,
) -> anyhow::Result<()> {
    match app.runtime.set_frozen(row.id, Frozen::Yes).await {
        Ok(()) => {}
        Err(RuntimeError::NotRunning(_) | RuntimeError::NotFound(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let stood = tell(app, row, bytes, passed).await;
    match app.runtime.set_frozen(row.id, Frozen::No).await {
        Ok(()) | Err(RuntimeError::NotRunning(_) | RuntimeError::NotFound(_)) => {}
        Err(error) => {
            tracing::warn!(workspace.id = %row.id, error = %crate::chain(&error), "a frozen workspace does not thaw");
            app.hub.kill(row.id).await?;
        }
    }
    let stood = stood?;
    for session in &stood {
        finish::stop(app, *session, TurnOutcome::LimitReached).await?;
    }
    if stood.is_empty() && passed == Passed::Again && !is_finishing(app, row).await? {
        app.hub.sleep(row.id).await?;
    }
    Ok(())
}

/// Tells every session what became of it; those in which a turn stands.
async fn tell(
    app: &App,
    row: &WorkspaceRow,
    bytes: u64,
    passed: Passed,
) -> anyhow::Result<Vec<SessionId>> {
    let limit = mib(row.limits.disk_bytes);
    tracing::info!(workspace.id = %row.id, bytes, %limit, "a workspace is above its limit on disk");
    let mut stood = Vec::new();
    for session in app.hub.sessions_in(row).await? {
        let what = match (session.turn, passed) {
            (Some(_), _) => {
                stood.push(session.id);
                "The turn was ended.".to_owned()
            }
            (None, Passed::Once) => format!("With {} more it is stopped.", mib(ROOM)),
            (None, Passed::Again) => "It was stopped; its files are kept.".to_owned(),
        };
        let text = format!(
            "The workspace's files take {}, more than the {limit} that they may. {what} Delete \
             what is not needed (`boatyard workspace exec {} -- du -xh -d 2 /work /home` shows what is \
             large) and prompt again, or give workspaces more with `disk` under `[limits]`.",
            mib(bytes),
            row.id
        );
        app.hub.notice(&session, NoticeLevel::Error, NOTICE_LIMIT, text, None).await?;
    }
    Ok(stood)
}

/// Whether the result of an attempt is still to be taken out of it.
async fn is_finishing(app: &App, row: &WorkspaceRow) -> anyhow::Result<bool> {
    let attempt = app.store.attempt_of_workspace(row.id).await?;
    Ok(attempt.is_some_and(|attempt| !attempt.state.is_terminal()))
}

pub(super) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Notes the sizes of layers that have none yet, and of the workspaces that they were taken from.
///
/// # Errors
/// When the store refuses.
pub(super) async fn measure_layers(app: &App) -> anyhow::Result<()> {
    for layer in app.store.layers_in(LayerState::Ready).await? {
        if layer.bytes != 0 {
            continue;
        }
        let bytes = match app.runtime.layer_usage(layer.id).await {
            Ok(usage) => usage.bytes,
            Err(error) => {
                tracing::debug!(layer.id = %layer.id, error = %crate::chain(&error), "no size of a layer");
                continue;
            }
        };
        let id = layer.id;
        app.store
            .write(move |tx| Box::pin(async move { tx.set_layer_bytes(id, bytes).await }))
            .await?;
        let source = match (layer.kind, &layer.cache_key) {
            (LayerKind::Snapshot, Some(key)) => key.split('@').next(),
            _ => None,
        };
        if let Some(source) = source.and_then(|id| id.parse::<WorkspaceId>().ok()) {
            match app.hub.measure(source).await {
                // It was removed since.
                Ok(_) | Err(HubError::Runtime(RuntimeError::NotFound(_))) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// How full the file system with the data folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    used: u64,
    /// As `df` counts it.
    percent: u32,
}

impl Space {
    fn of(folder: &std::path::Path) -> Option<Self> {
        let stat = rustix::fs::statvfs(folder).ok()?;
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        // What an ordinary user can use.
        let usable = used + stat.f_bavail;
        let percent = u32::try_from((used * 100).checked_div(usable)?).ok()?;
        Some(Self { used: used * stat.f_frsize, percent })
    }
}

/// What is known of the disk.
#[derive(Debug, Default)]
struct Disk {
    /// How full it was at the last look.
    used: Option<u64>,
    /// All that was written so far, as far as it shows.
    grown: u64,
    listed: Option<(Instant, u64)>,
    layers: Option<Instant>,
    awake: HashMap<WorkspaceId, Watched>,
}

impl Disk {
    fn note(&mut self, space: Space) {
        if let Some(before) = self.used.replace(space.used) {
            self.grown += space.used.saturating_sub(before);
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.listed.is_none_or(|(at, grown)| now - at >= LIST || self.grown - grown >= LIST_GROWTH)
            || self.awake.values().any(|one| one.is_due(self.grown, now))
    }

    /// These are awake. What came since the last list may have written all that was since.
    fn list(&mut self, rows: &[WorkspaceRow], now: Instant) {
        let since = self.listed.map_or(0, |(_, grown)| grown);
        self.listed = Some((now, self.grown));
        let mut before = std::mem::take(&mut self.awake);
        self.awake = rows
            .iter()
            .map(|row| {
                let new = || Watched::new(row.limits.disk_bytes, row.disk_bytes, since, now);
                (row.id, before.remove(&row.id).unwrap_or_else(new))
            })
            .collect();
    }
}

/// What follows a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    None,
    /// It is nearly at its limit, and nobody was told yet.
    Tell,
    /// It is above what it may take now.
    Stop(Passed),
}

/// Which limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// Its own.
    Once,
    /// The room to clear up in as well.
    Again,
}

/// A workspace that is awake.
#[derive(Debug)]
struct Watched {
    limit: u64,
    /// The limit; more after it was passed, to clear up in.
    allowed: u64,
    bytes: u64,
    /// How much the disk had grown when that was so.
    grown: u64,
    measured: Instant,
    /// Not before then.
    next: Instant,
    told: bool,
}

impl Watched {
    fn new(limit: u64, bytes: u64, grown: u64, now: Instant) -> Self {
        let allowed = if bytes > limit { bytes + ROOM } else { limit };
        Self { limit, allowed, bytes, grown, measured: now, next: now, told: false }
    }

    /// Whether it may be time for [`Step`]: it could have grown that far, or was not measured for
    /// long.
    fn is_due(&self, grown: u64, now: Instant) -> bool {
        let mark = if self.told { self.allowed } else { near(self.limit).min(self.allowed) };
        now >= self.next
            && (self.at_worst(grown) > mark || now - self.measured >= self.at_the_latest())
    }

    /// How long it may go unmeasured, whatever the disk as a whole does.
    fn at_the_latest(&self) -> Duration {
        match self.bytes.saturating_mul(100) / self.limit.max(1) {
            0..50 => Duration::from_secs(600),
            50..90 => Duration::from_secs(60),
            90.. => Duration::from_secs(15),
        }
    }

    /// What it takes if all that was written since its last measurement was its doing: for one
    /// that hides its files where they can't be added up.
    fn at_worst(&self, grown: u64) -> u64 {
        self.bytes.saturating_add(grown - self.grown)
    }

    fn tried(&mut self, now: Instant, took: Duration) {
        self.next = now + MEASURE_PAUSE.max(took * MEASURE_SHARE);
    }

    fn measured(&mut self, bytes: u64, grown: u64, now: Instant, took: Duration) -> Step {
        self.tried(now, took);
        (self.bytes, self.grown, self.measured) = (bytes, grown, now);
        if bytes > self.allowed {
            let passed = if self.allowed > self.limit { Passed::Again } else { Passed::Once };
            self.allowed = bytes + ROOM;
            self.told = true;
            return Step::Stop(passed);
        }
        if bytes <= self.limit {
            self.allowed = self.limit;
        }
        let is_near = bytes > near(self.limit);
        let step = if is_near && !self.told { Step::Tell } else { Step::None };
        self.told = is_near;
        step
    }
}

/// Where a limit is nearly reached.
const fn near(limit: u64) -> u64 {
    limit - limit / 20
}

#[cfg(test)]
mod tests;
