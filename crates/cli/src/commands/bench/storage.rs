//! The store: events, watchers, jobs, on a database of its own.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use boatyard_api::model::{
    EventBody, SessionId, WorkspaceId, WorkspaceKind, WorkspaceLimits, WorkspaceState,
};
use boatyard_store::{
    Options, Owner, Store,
    events::NewEvent,
    jobs::{JobOutcome, JobRow, NewJob, Settlement},
    sessions::NewSession,
    workspaces::NewWorkspace,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::JoinSet;

use super::{
    Effort,
    measure::{Measured, micros},
    server::temporary,
};

/// Sessions that write at the same time.
const SESSIONS: usize = 64;
/// Events of one write, as a runner sends them.
const BATCH: usize = 64;
/// The size of an event, with what is around its text.
const EVENT_BYTES: usize = 900;
/// Jobs of one write.
const JOBS: usize = 256;
/// Who enqueue one job at a time, all at once.
const CALLERS: usize = 128;
/// Who enqueue in batches.
const BATCHERS: usize = 16;
/// Workers that claim and complete.
const WORKERS: usize = 4;
/// How long a worker has waited before its job comes.
const PAUSE: Duration = Duration::from_millis(2);
/// The queue of the jobs.
const QUEUE: &str = "bench";
/// A lease that no run outlives.
const LEASE: Duration = Duration::from_secs(600);

async fn open(folder: Option<&Path>) -> Result<(tempfile::TempDir, Store)> {
    let folder = temporary(folder)?;
    let store = Store::open(Options::new(folder.path().join("bench.db"))).await?;
    Ok((folder, store))
}

fn new_workspace(id: WorkspaceId) -> NewWorkspace {
    NewWorkspace {
        id,
        owner: Owner::BUILT_IN,
        name: None,
        kind: WorkspaceKind::Sandbox,
        runtime: "native".to_owned(),
        isolation: None,
        lowers: Vec::new(),
        repository: None,
        folder: None,
        base_commit: None,
        branch: None,
        limits: WorkspaceLimits::default(),
        task: None,
        forked_from: None,
        begins: boatyard_store::Begins::Later,
    }
}

/// A workspace that was deleted: a place for sessions that are over.
pub(super) async fn workspace_that_was(store: &Store) -> Result<WorkspaceId> {
    let id = WorkspaceId::new();
    store
        .write(move |tx| {
            Box::pin(async move {
                tx.create_workspace(new_workspace(id)).await?;
                tx.set_workspace_state(id, WorkspaceState::Deleted, None).await
            })
        })
        .await?;
    Ok(id)
}

async fn session(store: &Store) -> Result<SessionId> {
    let (workspace, session) = (WorkspaceId::new(), SessionId::new());
    let new_session = NewSession {
        settings: Default::default(),
        id: session,
        owner: Owner::BUILT_IN,
        workspace,
        attempt: None,
        agent: "demo".to_owned(),
        model: None,
        cwd: "/work".to_owned(),
        client_key: None,
    };
    store
        .write(move |tx| {
            Box::pin(async move {
                tx.create_workspace(new_workspace(workspace)).await?;
                tx.create_session(new_session).await.map(drop)
            })
        })
        .await?;
    Ok(session)
}

fn event(store: &Store, session: SessionId, n: usize) -> NewEvent {
    let body =
        EventBody::MessageDelta { message: format!("message-{n}"), text: "x".repeat(EVENT_BYTES) };
    NewEvent::own(session, store.now(), Some(1), body)
}

pub(super) async fn events(folder: Option<&Path>, effort: Effort) -> Result<Vec<Measured>> {
    let (_folder, store) = open(folder).await?;
    let store = &store;
    let sessions: Vec<SessionId> =
        stream::iter(0..SESSIONS).then(|_| session(store)).try_collect().await?;
    // One alone: the time of one fsync, and a little.
    let mut alone = Vec::new();
    for n in 0..effort.samples(500) {
        let one = vec![event(store, sessions[0], n)];
        let began = Instant::now();
        store.append(one).await?;
        alone.push(micros(began));
    }
    let n = effort.samples(200_000);
    let batches = n / BATCH;
    let began = Instant::now();
    stream::iter(0..batches)
        .map(|i| {
            let session = sessions[i % SESSIONS];
            let batch = (0..BATCH).map(|k| event(store, session, i * BATCH + k)).collect();
            async move { store.append(batch).await.map(drop) }
        })
        .buffer_unordered(SESSIONS)
        .try_collect::<()>()
        .await?;
    let took = began.elapsed();
    Ok(vec![
        Measured::of("events", "one alone, durable", "µs", alone),
        Measured::rate("events", "1 KiB each, 64 sessions, durable", batches * BATCH, took),
    ])
}

pub(super) async fn watch(folder: Option<&Path>, effort: Effort) -> Result<Vec<Measured>> {
    let (_folder, store) = open(folder).await?;
    let session = session(&store).await?;
    let mut follower = store.follow_session(session, 0);
    let mut after_durable = Vec::new();
    let mut in_all = Vec::new();
    for n in 0..effort.samples(1_000) {
        let one = vec![event(&store, session, n)];
        // What was there before (the session's own first event) is not waited for.
        follower.try_next().await?;
        let began = Instant::now();
        let (seen, durable) = tokio::join!(
            async {
                let seen = follower.next().await;
                (seen, Instant::now())
            },
            async {
                let stored = store.append(one).await;
                (stored, Instant::now())
            }
        );
        seen.0?;
        durable.0?;
        in_all.push((seen.1 - began).as_secs_f64() * 1e6);
        // A watcher may be told before the writer's own caller.
        after_durable.push(seen.1.saturating_duration_since(durable.1).as_secs_f64() * 1e6);
    }
    Ok(vec![
        Measured::of("watch", "event stored to watcher told", "µs", after_durable),
        Measured::of("watch", "event given to watcher told", "µs", in_all),
    ])
}

pub(super) async fn jobs(folder: Option<&Path>, effort: Effort) -> Result<Vec<Measured>> {
    let (_folder, store) = open(folder).await?;
    let n = effort.samples(100_000) / JOBS * JOBS;
    let (single, batches) = (n / CALLERS * CALLERS, n / JOBS);
    let one_by_one = enqueue(&store, CALLERS, n / CALLERS, 1).await?;
    let in_batches = enqueue(&store, BATCHERS, batches / BATCHERS, JOBS).await?;
    let stored = single + batches / BATCHERS * BATCHERS * JOBS;
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        workers.spawn(complete(store.clone(), worker));
    }
    let mut completed = 0;
    while let Some(done) = workers.join_next().await {
        completed += done??;
    }
    let completing = began.elapsed();
    anyhow::ensure!(completed == stored, "{completed} of {stored} jobs were done");
    // A worker that waits, and a job that comes.
    let mut begun = Vec::new();
    for _ in 0..effort.samples(300) {
        let waiting = tokio::spawn({
            let store = store.clone();
            async move {
                let claimed = store.claim(QUEUE, "bench", 1, LEASE, Duration::from_secs(10)).await;
                (claimed, Instant::now())
            }
        });
        tokio::time::sleep(PAUSE).await;
        let began = Instant::now();
        store.enqueue(vec![job()]).await?;
        let (claimed, at) = waiting.await?;
        begun.push((at - began).as_secs_f64() * 1e6);
        settle(&store, &claimed?).await?;
    }
    let at_once = format!("enqueue, durable, {CALLERS} callers at once");
    Ok(vec![
        Measured::rate("jobs", at_once, single, one_by_one),
        Measured::rate("jobs", "enqueue, durable, in batches", stored - single, in_batches),
        Measured::rate("jobs", "claim and complete, durable", completed, completing),
        Measured::of("jobs", "enqueue to begun", "µs", begun),
    ])
}

fn job() -> NewJob {
    NewJob::new("bench", serde_json::json!({ "n": 1 })).in_queue(QUEUE)
}

/// So many callers that enqueue so many times: how long all of them took.
async fn enqueue(store: &Store, callers: usize, times: usize, batch: usize) -> Result<Duration> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..times {
                store.enqueue((0..batch).map(|_| job()).collect()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(began.elapsed())
}

/// A worker that does nothing with its jobs, until there are none.
async fn complete(store: Store, worker: usize) -> Result<usize> {
    let name = format!("bench-{worker}");
    let limit = u32::try_from(JOBS).unwrap_or(u32::MAX);
    let mut done = 0;
    loop {
        let claimed = store.claim(QUEUE, &name, limit, LEASE, Duration::ZERO).await?;
        if claimed.is_empty() {
            return Ok(done);
        }
        settle(&store, &claimed).await?;
        done += claimed.len();
    }
}

async fn settle(store: &Store, jobs: &[JobRow]) -> Result<()> {
    let done = |job: &JobRow| Settlement { lease: job.lease(), outcome: JobOutcome::Done };
    for result in store.settle(jobs.iter().map(done).collect()).await? {
        result?;
    }
    Ok(())
}
