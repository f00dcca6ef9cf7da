//! Rates and latencies of the store on this machine: `cargo run --release --example store_bench`.
//!
//! Each line is one measurement on a fresh database in the folder that is given (default: a
//! temporary one), everything durable.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use boatyard_model::{
    Content, EventBody, SessionId, TaskLimits, WorkspaceId, WorkspaceKind, WorkspaceLimits,
    event::NoticeLevel,
};
use boatyard_store::{
    BUILT_IN_ORGANIZATION, JobOutcome, NewAttempt, NewEvent, NewJob, NewSession, NewTask,
    NewWorkspace, Options, Owner, Settlement, Store, TaskFilter,
};
use serde_json::json;

const LEASE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let folder = std::env::args().nth(1).map_or(scratch.path().to_owned(), PathBuf::from);
    let only = std::env::args().nth(2);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if wanted("events") {
        let store = Store::open(Options::new(folder.join("events.db"))).await?;
        idle_append(&store).await?;
        for batch in [1, 4, 16, 64] {
            events(&store, 64, batch).await?;
        }
        watcher(&store).await?;
    }
    if wanted("jobs") {
        let store = Store::open(Options::new(folder.join("jobs.db"))).await?;
        start(&store).await?;
        jobs(&store, 64, 1).await?;
        jobs(&store, 64, 16).await?;
        jobs(&store, 8, 64).await?;
    }
    if wanted("list") {
        let store = Store::open(Options::new(folder.join("list.db"))).await?;
        list(&store).await?;
    }
    Ok(())
}

fn body() -> EventBody {
    let text = "x".repeat(950);
    EventBody::Notice { level: NoticeLevel::Info, code: "bench".into(), text, data: None }
}

async fn session(store: &Store) -> Result<SessionId, boatyard_store::Error> {
    let id = WorkspaceId::new();
    let workspace = NewWorkspace {
        id,
        owner: Owner::BUILT_IN,
        name: None,
        kind: WorkspaceKind::Sandbox,
        runtime: "native".into(),
        isolation: None,
        lowers: vec![],
        repository: None,
        folder: None,
        base_commit: None,
        branch: None,
        limits: WorkspaceLimits::default(),
        task: None,
        forked_from: None,
        begins: boatyard_store::Begins::Later,
    };
    let session = NewSession {
        settings: boatyard_model::AgentSettings::default(),
        id: SessionId::new(),
        owner: Owner::BUILT_IN,
        workspace: id,
        attempt: None,
        agent: "demo".into(),
        model: None,
        cwd: "/work".into(),
        client_key: None,
    };
    store
        .write(move |tx| {
            Box::pin(async move {
                tx.create_workspace(workspace).await?;
                Ok(tx.create_session(session).await?.id)
            })
        })
        .await
}

/// Processor time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn each(since: Duration, count: usize) -> String {
    format!("{:.1} us of CPU each", (cpu() - since).as_secs_f64() * 1e6 / count.max(1) as f64)
}

fn say(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    println!("{name}: p50 {:.0} us, p90 {:.0} us, p99 {:.0} us", at(50), at(90), at(99));
}

async fn idle_append(store: &Store) -> Result<(), boatyard_store::Error> {
    let session = session(store).await?;
    let mut times = Vec::new();
    for _ in 0..2000 {
        let event = NewEvent::own(session, store.now(), Some(1), body());
        let begun = Instant::now();
        store.append(vec![event]).await?;
        times.push(begun.elapsed());
    }
    say("append, idle", times);
    Ok(())
}

async fn events(store: &Store, callers: usize, batch: usize) -> Result<(), boatyard_store::Error> {
    let each = 120_000 / callers / batch;
    let mut tasks = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..callers {
        sessions.push(session(store).await?);
    }
    let (begun, used) = (Instant::now(), cpu());
    for session in sessions {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            for _ in 0..each {
                let event = NewEvent::own(session, store.now(), Some(1), body());
                let begun = Instant::now();
                store.append(vec![event; batch]).await?;
                times.push(begun.elapsed());
            }
            Ok::<_, boatyard_store::Error>(times)
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.map_err(|_| boatyard_store::Error::Panicked)??);
    }
    let rate = (callers * each * batch) as f64 / begun.elapsed().as_secs_f64();
    let used = self::each(used, callers * each * batch);
    say(&format!("append, {callers} callers of {batch}: {rate:.0} events/s, {used}"), times);
    Ok(())
}

async fn watcher(store: &Store) -> Result<(), boatyard_store::Error> {
    let session = session(store).await?;
    let mut follower = store.follow_session(session, 0);
    follower.next().await?;
    let (send, mut seen) = tokio::sync::mpsc::channel(1);
    let reader = tokio::spawn(async move {
        while follower.next().await.is_ok() {
            if send.send(Instant::now()).await.is_err() {
                break;
            }
        }
    });
    let mut times = Vec::new();
    for _ in 0..1000 {
        let event = NewEvent::own(session, store.now(), Some(1), body());
        store.append(vec![event]).await?;
        let durable = Instant::now();
        if let Some(at) = seen.recv().await {
            times.push(at.saturating_duration_since(durable));
        }
    }
    reader.abort();
    say("durable to watcher", times);
    Ok(())
}

async fn start(store: &Store) -> Result<(), boatyard_store::Error> {
    let mut times = Vec::new();
    for _ in 0..1000 {
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { (store.claim("default", "w", 1, LEASE, LEASE).await, Instant::now()) }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        let begun = Instant::now();
        store.enqueue(vec![NewJob::new("x", json!({}))]).await?;
        let (jobs, at) = waiting.await.map_err(|_| boatyard_store::Error::Panicked)?;
        times.push(at - begun);
        let done = |job: &boatyard_store::JobRow| Settlement {
            lease: job.lease(),
            outcome: JobOutcome::Done,
        };
        store.settle(jobs?.iter().map(done).collect()).await?;
    }
    say("enqueue to start", times);
    Ok(())
}

async fn jobs(store: &Store, callers: usize, batch: usize) -> Result<(), boatyard_store::Error> {
    let each = 100_000 / callers / batch;
    let (begun, used) = (Instant::now(), cpu());
    let mut tasks = Vec::new();
    for _ in 0..callers {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..each {
                let jobs = (0..batch).map(|n| NewJob::new("bench", json!({ "n": n }))).collect();
                store.enqueue(jobs).await?;
            }
            Ok::<_, boatyard_store::Error>(())
        }));
    }
    for task in tasks {
        task.await.map_err(|_| boatyard_store::Error::Panicked)??;
    }
    let count = callers * each * batch;
    println!(
        "enqueue, {callers} callers of {batch}: {:.0}/s, {}",
        count as f64 / begun.elapsed().as_secs_f64(),
        self::each(used, count)
    );
    for (workers, limit) in [(8, 64), (4, 256)] {
        let (begun, used) = (Instant::now(), cpu());
        let mut tasks = Vec::new();
        for worker in 0..workers {
            let store = store.clone();
            let share = count / 2 / workers;
            tasks.push(tokio::spawn(async move {
                let name = format!("w{worker}");
                let mut done = 0;
                while done < share {
                    let jobs = store.claim("default", &name, limit, LEASE, Duration::ZERO).await?;
                    if jobs.is_empty() {
                        break;
                    }
                    done += jobs.len();
                    let settled = |job: &boatyard_store::JobRow| Settlement {
                        lease: job.lease(),
                        outcome: JobOutcome::Done,
                    };
                    store.settle(jobs.iter().map(settled).collect()).await?;
                }
                Ok::<_, boatyard_store::Error>(done)
            }));
        }
        let mut done = 0;
        for task in tasks {
            done += task.await.map_err(|_| boatyard_store::Error::Panicked)??;
        }
        println!(
            "claim and complete, {workers} workers of {limit}: {:.0}/s, {}",
            done as f64 / begun.elapsed().as_secs_f64(),
            self::each(used, done)
        );
    }
    Ok(())
}

async fn list(store: &Store) -> Result<(), boatyard_store::Error> {
    for _ in 0..100 {
        store
            .write(move |tx| {
                Box::pin(async move {
                    for n in 0..1000 {
                        let text = format!("Task {n} that says what is to be done");
                        let new = NewTask {
                            owner: Owner::BUILT_IN,
                            title: text.clone(),
                            prompt: vec![Content::Text { text }],
                            repository: None,
                            source: "https://example.com/owner/repository".into(),
                            base: None,
                            environment: None,
                            limits: TaskLimits::default(),
                            workspace_limits: WorkspaceLimits::default(),
                            priority: 0,
                            options: json!({}),
                            attempts: vec![NewAttempt { agent: "demo".into(), model: None }],
                            idempotency: None,
                        };
                        tx.create_task(new).await?;
                    }
                    Ok(())
                })
            })
            .await?;
    }
    for callers in [1, 16] {
        let (begun, used) = (Instant::now(), cpu());
        let mut tasks = Vec::new();
        for _ in 0..callers {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..4000 / callers {
                    store.list_tasks(BUILT_IN_ORGANIZATION, TaskFilter::default(), 50).await?;
                }
                Ok::<_, boatyard_store::Error>(())
            }));
        }
        for task in tasks {
            task.await.map_err(|_| boatyard_store::Error::Panicked)??;
        }
        println!(
            "list 50 of 100,000, {callers} callers: {:.0}/s, {}",
            4000.0 / begun.elapsed().as_secs_f64(),
            each(used, 4000)
        );
    }
    Ok(())
}
