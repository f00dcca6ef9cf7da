//! The queue.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use boatyard_model::{JobId, JobState, SessionState};
use boatyard_store::{
    BUILT_IN_ORGANIZATION, Enqueued, Error, JobFilter, JobOutcome, Lease, NewJob, Settlement, Store,
};
use proptest::prelude::*;
use serde_json::json;
use tokio::time::timeout;

use crate::{LONG, world};

const LEASE: Duration = Duration::from_secs(30);
const NOW: Duration = Duration::ZERO;

async fn claim(store: &Store, worker: &str, limit: u32) -> Vec<boatyard_store::JobRow> {
    store.claim("default", worker, limit, LEASE, NOW).await.unwrap()
}

async fn settle(store: &Store, lease: Lease, outcome: JobOutcome) -> Result<(), Error> {
    store.settle(vec![Settlement { lease, outcome }]).await.unwrap().remove(0)
}

#[tokio::test]
async fn jobs_come_in_order_and_end_once() {
    let world = world().await;
    let store = &world.store;
    let jobs = (0..300).map(|n| NewJob::new("count", json!({ "n": n }))).collect();
    let enqueued = store.enqueue(jobs).await.unwrap();
    assert_eq!(enqueued.len(), 300);
    let claimed = claim(store, "w", 200).await;
    let numbers: Vec<_> = claimed.iter().map(|job| job.payload["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    let done = claimed
        .iter()
        .map(|job| Settlement { lease: job.lease(), outcome: JobOutcome::Done })
        .collect::<Vec<_>>();
    assert!(store.settle(done.clone()).await.unwrap().iter().all(Result::is_ok));
    world.clock.forward(Duration::from_millis(1));
    let twice = store.settle(done).await.unwrap();
    assert!(twice.iter().all(|result| matches!(result, Err(Error::LeaseLost { .. }))));
    assert_eq!(store.job(enqueued[0].id()).await.unwrap().state, JobState::Done);
    assert_eq!(claim(store, "w", 200).await.len(), 100);
    let swept = store.now().after(LEASE);
    let gone = store.write(move |tx| Box::pin(tx.remove_old_jobs(swept, 1000))).await.unwrap();
    assert_eq!(gone, 200);
}

#[tokio::test]
async fn one_key_has_one_live_job() {
    let world = world().await;
    let store = &world.store;
    let job = || NewJob::new("sweep", json!({})).once_for("sweep");
    let enqueued = store.enqueue(vec![job(), NewJob::new("x", json!({})), job()]).await.unwrap();
    let Enqueued::New(first) = enqueued[0] else { panic!() };
    assert_eq!(enqueued[2], Enqueued::Existing(first));
    let claimed = claim(store, "w", 10).await;
    assert_eq!(claimed.len(), 2);
    assert_eq!(store.enqueue(vec![job()]).await.unwrap(), [Enqueued::Existing(first)]);
    settle(store, claimed[0].lease(), JobOutcome::Done).await.unwrap();
    assert!(matches!(store.enqueue(vec![job()]).await.unwrap()[0], Enqueued::New(_)));
}

#[tokio::test]
async fn a_failure_is_tried_again_until_the_attempts_are_used_up() {
    let world = world().await;
    let store = &world.store;
    let mut new = NewJob::new("flaky", json!({}));
    new.max_attempts = 2;
    let id = store.enqueue(vec![new]).await.unwrap()[0].id();
    let job = claim(store, "w", 1).await.remove(0);
    let at = store.now().after(Duration::from_secs(10));
    let retry = || JobOutcome::Retry { at, error: "no".into() };
    settle(store, job.lease(), retry()).await.unwrap();
    assert!(claim(store, "w", 1).await.is_empty(), "not before its time");
    world.clock.forward(Duration::from_secs(11));
    let job = claim(store, "w", 1).await.remove(0);
    assert_eq!((job.attempts, job.generation), (2, 2));
    // Giving it back is no attempt.
    settle(store, job.lease(), JobOutcome::Release { at: store.now() }).await.unwrap();
    let job = claim(store, "w", 1).await.remove(0);
    settle(store, job.lease(), retry()).await.unwrap();
    let job = store.job(id).await.unwrap();
    assert_eq!((job.state, job.error.as_deref()), (JobState::Failed, Some("no")));
}

#[tokio::test]
async fn a_lost_worker_s_job_goes_to_another_and_the_lost_one_is_fenced() {
    let world = world().await;
    let store = &world.store;
    let mut new = NewJob::new("slow", json!({}));
    new.max_attempts = 2;
    let id = store.enqueue(vec![new]).await.unwrap()[0].id();
    let lost = claim(store, "lost", 1).await.remove(0).lease();
    world.clock.forward(LEASE / 2);
    store.write(move |tx| Box::pin(tx.renew(lost, LEASE))).await.unwrap();
    world.clock.forward(LEASE / 2 + Duration::from_millis(1));
    assert!(claim(store, "other", 1).await.is_empty(), "it was renewed");
    world.clock.forward(LEASE);
    let other = claim(store, "other", 1).await.remove(0).lease();
    assert!(matches!(
        settle(store, lost, JobOutcome::Done).await,
        Err(Error::LeaseLost { job }) if job == id
    ));
    let renewed = store.write(move |tx| Box::pin(tx.renew(lost, LEASE))).await;
    assert!(matches!(renewed, Err(Error::LeaseLost { .. })));
    // The second loss was the last attempt.
    world.clock.forward(LEASE * 2);
    assert!(claim(store, "third", 1).await.is_empty());
    assert_eq!(store.job(id).await.unwrap().state, JobState::Failed);
    assert!(settle(store, other, JobOutcome::Done).await.is_err());
}

#[tokio::test]
async fn a_new_server_takes_over_what_the_old_one_held() {
    let world = world().await;
    world.store.enqueue(vec![NewJob::new("x", json!({}))]).await.unwrap();
    claim(&world.store, "old", 1).await;
    let world = world.reopened().await;
    let store = &world.store;
    assert!(claim(store, "new", 1).await.is_empty());
    let back = store.write(|tx| Box::pin(tx.reclaim_from_others("new"))).await.unwrap();
    assert_eq!(back, 1);
    assert_eq!(claim(store, "new", 1).await.len(), 1);
}

#[tokio::test]
async fn a_cancelled_job_is_never_begun_and_its_worker_is_fenced() {
    let world = world().await;
    let store = &world.store;
    let jobs = vec![NewJob::new("a", json!({})), NewJob::new("b", json!({}))];
    let enqueued = store.enqueue(jobs).await.unwrap();
    let running = claim(store, "w", 1).await.remove(0);
    for job in &enqueued {
        let id = job.id();
        store.write(move |tx| Box::pin(tx.cancel_job(id))).await.unwrap();
        let again = store.write(move |tx| Box::pin(tx.cancel_job(id))).await;
        assert!(matches!(again, Err(Error::IllegalState { .. })));
    }
    assert!(claim(store, "w", 10).await.is_empty());
    assert!(settle(store, running.lease(), JobOutcome::Done).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_worker_is_woken_by_the_order() {
    let world = world().await;
    let store = world.store.clone();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.claim("default", "w", 4, LEASE, LONG).await }
    });
    let elsewhere = tokio::spawn({
        let store = store.clone();
        async move { store.claim("other", "w", 4, LEASE, LONG).await }
    });
    store.enqueue(vec![NewJob::new("now", json!({}))]).await.unwrap();
    let got = timeout(LONG, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(got[0].kind, "now");
    // By another's transaction, at its time, and by a retry.
    let soon = store.now().after(Duration::from_secs(60));
    let job = NewJob::new("later", json!({})).in_queue("other").at(soon);
    store.write(move |tx| Box::pin(tx.enqueue(job))).await.unwrap();
    world.clock.forward(Duration::from_secs(61));
    store.poke_jobs().await.unwrap();
    let got = timeout(LONG, elsewhere).await.unwrap().unwrap().unwrap();
    assert_eq!(got[0].kind, "later");
    // With nothing to do, the answer is nothing.
    let none = store.claim("idle", "w", 1, LEASE, Duration::from_millis(20)).await.unwrap();
    assert!(none.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_went_away_leaves_no_job_behind() {
    let world = world().await;
    let store = world.store.clone();
    for _ in 0..20 {
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { store.claim("default", "gone", 1, LEASE, LONG).await }
        });
        tokio::task::yield_now().await;
        let order = store.enqueue(vec![NewJob::new("x", json!({}))]);
        waiting.abort();
        order.await.unwrap();
        let taken = matches!(waiting.await, Ok(Ok(jobs)) if !jobs.is_empty());
        if !taken {
            let got = store.claim("default", "w", 1, LEASE, LONG).await.unwrap();
            assert_eq!(got.len(), 1, "it came back");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_do_every_job_once() {
    let world = world().await;
    let store = world.store.clone();
    let seen = Arc::new(Mutex::new(HashMap::<JobId, u32>::new()));
    let mut workers = Vec::new();
    for worker in 0..6 {
        let (store, seen) = (store.clone(), Arc::clone(&seen));
        workers.push(tokio::spawn(async move {
            loop {
                let wait = Duration::from_millis(300);
                let jobs =
                    store.claim("default", &format!("w{worker}"), 7, LEASE, wait).await.unwrap();
                if jobs.is_empty() {
                    return;
                }
                let settlements = jobs
                    .iter()
                    .map(|job| {
                        *seen.lock().unwrap().entry(job.id).or_default() += 1;
                        Settlement { lease: job.lease(), outcome: JobOutcome::Done }
                    })
                    .collect();
                assert!(store.settle(settlements).await.unwrap().iter().all(Result::is_ok));
            }
        }));
    }
    for n in 0..40 {
        let jobs = (0..10).map(|i| NewJob::new("x", json!(n * 10 + i))).collect();
        store.enqueue(jobs).await.unwrap();
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 400);
    assert!(seen.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_enqueues_one_by_one_gets_an_answer_each() {
    let world = world().await;
    let mut callers = Vec::new();
    for n in 0..200 {
        let store = world.store.clone();
        callers.push(tokio::spawn(async move {
            let mut job = NewJob::new("one", json!(n));
            if n % 10 == 0 {
                job = job.once_for(format!("key-{}", n % 20));
            }
            store.enqueue(vec![job]).await.unwrap().remove(0)
        }));
    }
    let mut ids = HashSet::new();
    let mut existing = 0;
    for caller in callers {
        match caller.await.unwrap() {
            Enqueued::New(id) => assert!(ids.insert(id), "each has its own"),
            Enqueued::Existing(_) => existing += 1,
        }
    }
    // Of the twenty with a key, the two keys' first.
    assert_eq!((ids.len(), existing), (182, 18));
    let found = world.store.list_jobs(BUILT_IN_ORGANIZATION, &JobFilter::default(), 1000).await;
    assert_eq!(found.unwrap().iter().map(|job| job.id).collect::<HashSet<_>>(), ids);
}

#[tokio::test]
async fn a_lease_that_is_named_twice_is_held_once() {
    let world = world().await;
    let store = &world.store;
    store.enqueue(vec![NewJob::new("x", json!({}))]).await.unwrap();
    let lease = claim(store, "w", 1).await.remove(0).lease();
    let done = Settlement { lease, outcome: JobOutcome::Done };
    let results = store.settle(vec![done.clone(), done]).await.unwrap();
    assert!(results[0].is_ok());
    assert!(matches!(results[1], Err(Error::LeaseLost { .. })));
}

#[tokio::test]
async fn the_figures_say_what_waits_and_for_how_long() {
    let world = world().await;
    let store = &world.store;
    let empty = store.figures().await.unwrap();
    assert_eq!((empty.jobs_due, empty.jobs_running, empty.jobs_oldest), (0, 0, NOW));
    let later = NewJob::new("x", json!({})).at(store.now().after(LEASE));
    let now = || NewJob::new("x", json!({}));
    store.enqueue(vec![now(), now(), now(), later]).await.unwrap();
    claim(store, "w", 1).await;
    world.clock.forward(Duration::from_secs(3));
    world.session().await;
    let figures = store.figures().await.unwrap();
    assert_eq!((figures.jobs_due, figures.jobs_running), (2, 1));
    assert_eq!(figures.jobs_oldest, Duration::from_secs(3));
    assert_eq!(figures.sessions, [(SessionState::Starting, 1)]);
}

#[derive(Debug, Clone)]
enum Step {
    Enqueue(u8),
    Claim { worker: u8, limit: u8 },
    Settle { held: u8, how: u8 },
    Renew { held: u8 },
    Time(u8),
    Cancel(u8),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..6_u8).prop_map(Step::Enqueue),
        4 => (0..3_u8, 1..5_u8).prop_map(|(worker, limit)| Step::Claim { worker, limit }),
        5 => (any::<u8>(), 0..4_u8).prop_map(|(held, how)| Step::Settle { held, how }),
        1 => any::<u8>().prop_map(|held| Step::Renew { held }),
        2 => (1..40_u8).prop_map(Step::Time),
        1 => any::<u8>().prop_map(Step::Cancel),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What a job must be like.
#[derive(Debug, Clone)]
struct Model {
    state: JobState,
    generation: u64,
    attempts: u32,
    lease_until: i64,
    run_at: i64,
}

const MAX: u32 = 3;

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_is_what_its_model_says(steps in steps()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut world = world().await;
            let mut model: Vec<(JobId, Model)> = Vec::new();
            let mut leases: Vec<(usize, Lease)> = Vec::new();
            for step in steps {
                let now = world.store.now().0;
                match step {
                    Step::Restart => world = world.reopened().await,
                    Step::Time(seconds) => {
                        world.clock.forward(Duration::from_secs(u64::from(seconds)));
                    }
                    Step::Enqueue(count) => {
                        let job = || {
                            let mut job = NewJob::new("x", json!({}));
                            job.max_attempts = MAX;
                            job
                        };
                        let jobs = (0..count).map(|_| job()).collect();
                        for enqueued in world.store.enqueue(jobs).await.unwrap() {
                            let fresh = Model {
                                state: JobState::Queued,
                                generation: 0,
                                attempts: 0,
                                lease_until: 0,
                                run_at: now,
                            };
                            model.push((enqueued.id(), fresh));
                        }
                    }
                    Step::Claim { worker, limit } => {
                        for (_, job) in &mut model {
                            let lost = job.state == JobState::Running && job.lease_until <= now;
                            if lost {
                                job.generation += 1;
                                job.run_at = now;
                                let last = job.attempts >= MAX;
                                job.state = if last { JobState::Failed } else { JobState::Queued };
                            }
                        }
                        let jobs = world
                            .store
                            .claim("default", &format!("w{worker}"), limit.into(), LEASE, NOW)
                            .await
                            .unwrap();
                        let due = model
                            .iter()
                            .filter(|(_, job)| job.state == JobState::Queued && job.run_at <= now)
                            .count();
                        assert_eq!(jobs.len(), due.min(limit.into()));
                        let distinct: HashSet<_> = jobs.iter().map(|job| job.id).collect();
                        assert_eq!(distinct.len(), jobs.len());
                        for got in jobs {
                            let index =
                                model.iter().position(|(id, _)| *id == got.id).unwrap();
                            let job = &mut model[index].1;
                            assert_eq!(job.state, JobState::Queued, "held by nobody else");
                            job.state = JobState::Running;
                            job.generation += 1;
                            job.attempts += 1;
                            job.lease_until = now + 30_000;
                            assert_eq!(got.generation, job.generation);
                            assert_eq!(got.attempts, job.attempts);
                            leases.push((index, got.lease()));
                        }
                    }
                    Step::Settle { held, how } => {
                        if leases.is_empty() {
                            continue;
                        }
                        let (index, lease) = leases[usize::from(held) % leases.len()];
                        let at = boatyard_model::Timestamp(now + 5_000);
                        let outcome = match how {
                            0 => JobOutcome::Done,
                            1 => JobOutcome::Failed { error: "e".into() },
                            2 => JobOutcome::Retry { at, error: "e".into() },
                            _ => JobOutcome::Release { at },
                        };
                        let result = settle(&world.store, lease, outcome.clone()).await;
                        let job = &mut model[index].1;
                        let held =
                            job.state == JobState::Running && job.generation == lease.generation;
                        // Saying twice in one millisecond that it is done is no harm.
                        let repeated = how == 0
                            && job.state == JobState::Done
                            && job.generation == lease.generation;
                        assert!(result.is_ok() == held || repeated, "{outcome:?} {job:?}");
                        if !held {
                            continue;
                        }
                        job.run_at = at.0;
                        job.state = match outcome {
                            JobOutcome::Done => JobState::Done,
                            JobOutcome::Failed { .. } => JobState::Failed,
                            JobOutcome::Retry { .. } if job.attempts >= MAX => JobState::Failed,
                            JobOutcome::Retry { .. } => JobState::Queued,
                            JobOutcome::Release { .. } => {
                                job.attempts -= 1;
                                JobState::Queued
                            }
                        };
                    }
                    Step::Renew { held } => {
                        if leases.is_empty() {
                            continue;
                        }
                        let (index, lease) = leases[usize::from(held) % leases.len()];
                        let result =
                            world.store.write(move |tx| Box::pin(tx.renew(lease, LEASE))).await;
                        let job = &mut model[index].1;
                        let held =
                            job.state == JobState::Running && job.generation == lease.generation;
                        assert_eq!(result.is_ok(), held);
                        if held {
                            job.lease_until = now + 30_000;
                        }
                    }
                    Step::Cancel(which) => {
                        if model.is_empty() {
                            continue;
                        }
                        let index = usize::from(which) % model.len();
                        let (id, job) = &mut model[index];
                        let id = *id;
                        let result =
                            world.store.write(move |tx| Box::pin(tx.cancel_job(id))).await;
                        assert_eq!(result.is_ok(), !job.state.is_terminal());
                        if result.is_ok() {
                            job.state = JobState::Cancelled;
                            job.generation += 1;
                        }
                    }
                }
            }
            let rows = world
                .store
                .list_jobs(BUILT_IN_ORGANIZATION, &JobFilter::default(), 10_000)
                .await
                .unwrap();
            assert_eq!(rows.len(), model.len(), "none is lost");
            for row in rows {
                let (_, job) = model.iter().find(|(id, _)| *id == row.id).unwrap();
                assert_eq!((row.state, row.generation), (job.state, job.generation));
            }
        });
    }
}
