//! The store: events, watchers, jobs, on a database of its own.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use boatyard_api::model::{EventBody, SessionId, WorkspaceId, WorkspaceKind, WorkspaceLimits};
use boatyard_store::{
    Options, Owner, Store,
    events::NewEvent,
    jobs::{JobOutcome, NewJob, Settlement},
    sessions::NewSession,
    workspaces::NewWorkspace,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

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
/// The queue of the jobs.
const QUEUE: &str = "bench";
/// A lease that no run outlives.
const LEASE: Duration = Duration::from_secs(600);

async fn open(folder: Option<&Path>) -> Result<(tempfile::TempDir, Store)> {
    let folder = temporary(folder)?;
    let store = Store::open(Options::new(folder.path().join("bench.db"))).await?;
    Ok((folder, store))
}

async fn session(store: &Store) -> Result<SessionId> {
    let (workspace, session) = (WorkspaceId::new(), SessionId::new());
    let new_workspace = NewWorkspace {
        id: workspace,
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
    };
    let new_session = NewSession {
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
                tx.create_workspace(new_workspace).await?;
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
    let store = &store;
    let n = effort.samples(100_000) / JOBS * JOBS;
    let new = || NewJob::new("bench", serde_json::json!({ "n": 1 })).in_queue(QUEUE);
    let began = Instant::now();
    stream::iter(0..n / JOBS)
        .map(|_| {
            let batch: Vec<NewJob> = (0..JOBS).map(|_| new()).collect();
            async move { store.enqueue(batch).await.map(drop) }
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await?;
    let enqueued = began.elapsed();
    let began = Instant::now();
    let mut done = 0;
    while done < n {
        let limit = u32::try_from(JOBS).unwrap_or(u32::MAX);
        let claimed = store.claim(QUEUE, "bench", limit, LEASE, Duration::from_secs(10)).await?;
        anyhow::ensure!(!claimed.is_empty(), "jobs are missing");
        done += claimed.len();
        let settled = claimed
            .iter()
            .map(|job| Settlement { lease: job.lease(), outcome: JobOutcome::Done })
            .collect();
        for result in store.settle(settled).await? {
            result?;
        }
    }
    let completed = began.elapsed();
    // A worker that waits, and a job that comes.
    let mut begun = Vec::new();
    for _ in 0..effort.samples(300) {
        let (claimed, given) = tokio::join!(
            async {
                let claimed = store.claim(QUEUE, "bench", 1, LEASE, Duration::from_secs(10)).await;
                (claimed, Instant::now())
            },
            async {
                tokio::task::yield_now().await;
                let began = Instant::now();
                (store.enqueue(vec![new()]).await, began)
            }
        );
        given.0?;
        let job = claimed.0?.into_iter().next().context("the job is missing")?;
        begun.push((claimed.1 - given.1).as_secs_f64() * 1e6);
        let outcome = JobOutcome::Done;
        store.settle(vec![Settlement { lease: job.lease(), outcome }]).await?;
    }
    Ok(vec![
        Measured::rate("jobs", "enqueue, durable", n, enqueued),
        Measured::rate("jobs", "claim and complete, durable", n, completed),
        Measured::of("jobs", "enqueue to begun", "µs", begun),
    ])
}
