//! Tasks and attempts.

use std::sync::Arc;

use boatyard_model::{AttemptState, SessionState, TaskId};
use boatyard_store::{
    AttemptUpdate, BUILT_IN_ORGANIZATION, Begin, Created, Error, JOB_ATTEMPT, JobFilter, Owner,
    Phase, Reason, SessionFilter, TaskFilter,
};

use crate::{key, task, world};

#[tokio::test]
async fn a_task_lives_from_order_to_result() {
    let world = world().await;
    let store = &world.store;
    let mut new = task("Make it so");
    new.attempts = crate::attempts(2);
    let created = store.write(move |tx| Box::pin(tx.create_task(new))).await.unwrap();
    let Created::New(id, attempts) = created else { panic!("{created:?}") };
    assert_eq!(attempts.len(), 2);
    let jobs = store.list_jobs(BUILT_IN_ORGANIZATION, &JobFilter::default(), 10).await.unwrap();
    assert_eq!(jobs.len(), 2);
    assert_eq!(jobs[1].kind, JOB_ATTEMPT);
    assert_eq!(jobs[1].payload["attempt"], attempts[0].to_string());

    // One place: the second waits.
    let [first, second] = attempts[..] else { panic!() };
    let begun = store.write(move |tx| Box::pin(tx.begin_attempt(first, 1))).await.unwrap();
    assert!(matches!(begun, Begin::Begun(row) if row.state == AttemptState::Preparing));
    let full = store.write(move |tx| Box::pin(tx.begin_attempt(second, 1))).await.unwrap();
    assert!(matches!(full, Begin::Full));
    assert_eq!(store.busy_places().await.unwrap(), 1);
    let next = store.write(move |tx| Box::pin(tx.begin_next_attempt(2))).await.unwrap();
    assert_eq!(next.unwrap().id, second);

    let phase = Phase { name: "setup".into(), started: store.now(), millis: Some(7), detail: None };
    store
        .write(move |tx| {
            Box::pin(async move {
                let update = AttemptUpdate {
                    result: Some(serde_json::json!({"head": "abc"})),
                    phases: Some(vec![phase]),
                    ..AttemptUpdate::default()
                };
                tx.update_attempt(first, update).await?;
                tx.set_attempt_state(first, AttemptState::Running, None).await?;
                tx.set_attempt_state(first, AttemptState::Succeeded, None).await
            })
        })
        .await
        .unwrap();
    let detail = store.task(id).await.unwrap();
    assert_eq!(detail.task.state, AttemptState::Preparing, "the second is still alive");
    assert_eq!(detail.attempts[0].phases[0].millis, Some(7));
    assert_eq!(detail.attempts[0].branch.as_deref(), Some(&*format!("boatyard/{id}-1")));
    assert!(detail.attempts[0].ended.is_some() && detail.task.ended.is_none());

    let reason = Reason { code: "setup_failed".into(), text: "npm ci failed".into() };
    let kept = reason.clone();
    store
        .write(move |tx| Box::pin(tx.set_attempt_state(second, AttemptState::Failed, Some(kept))))
        .await
        .unwrap();
    let detail = store.task(id).await.unwrap();
    assert_eq!(detail.task.state, AttemptState::Succeeded);
    assert_eq!(detail.attempts[1].reason, Some(reason));
    assert!(detail.task.ended.is_some());

    let again = store
        .write(move |tx| Box::pin(tx.set_attempt_state(first, AttemptState::Running, None)))
        .await;
    assert!(matches!(again, Err(Error::IllegalState { from: "succeeded", to: "running", .. })));
}

#[tokio::test]
async fn the_same_request_makes_one_task() {
    let world = world().await;
    let create = |hash: &'static str| {
        let mut new = task("Once");
        new.idempotency = key("k1", hash);
        world.store.write(move |tx| Box::pin(tx.create_task(new)))
    };
    let first = create("h1").await.unwrap();
    // At the same moment, too.
    let (second, third) = tokio::join!(create("h1"), create("h1"));
    assert_eq!(second.unwrap(), Created::Existing(first.id()));
    assert_eq!(third.unwrap(), Created::Existing(first.id()));
    assert!(matches!(create("h2").await, Err(Error::Conflict { key }) if key == "k1"));
}

#[tokio::test]
async fn cancelling_ends_what_is_alive_and_its_jobs() {
    let world = world().await;
    let store = &world.store;
    let mut new = task("Never mind");
    new.attempts = crate::attempts(2);
    let created = store.write(move |tx| Box::pin(tx.create_task(new))).await.unwrap();
    let id = created.id();
    let alive = store.write(move |tx| Box::pin(tx.cancel_task(id, None))).await.unwrap();
    assert_eq!(alive.len(), 2);
    assert_eq!(store.task(id).await.unwrap().task.state, AttemptState::Cancelled);
    let nothing = store.write(move |tx| Box::pin(tx.cancel_task(id, None))).await.unwrap();
    assert!(nothing.is_empty());
    let jobs = store.list_jobs(BUILT_IN_ORGANIZATION, &JobFilter::default(), 10).await.unwrap();
    assert!(jobs.iter().all(|job| job.state.is_terminal()));
    let missing = TaskId::new();
    let unknown = store.write(move |tx| Box::pin(tx.cancel_task(missing, None))).await;
    assert!(matches!(unknown, Err(Error::NotFound { kind: "task", .. })));
}

#[tokio::test]
async fn lists_page_through_everything_newest_first() {
    let world = world().await;
    let mut made = Vec::new();
    for n in 0..25 {
        let new = task(&format!("Task {n}"));
        let created = world.store.write(move |tx| Box::pin(tx.create_task(new))).await.unwrap();
        made.push(created.id());
    }
    made.sort();
    made.reverse();
    let cancelled = made[3];
    world.store.write(move |tx| Box::pin(tx.cancel_task(cancelled, None))).await.unwrap();
    let mut seen = Vec::new();
    let mut filter = TaskFilter::default();
    loop {
        let page = world.store.list_tasks(BUILT_IN_ORGANIZATION, filter, 10).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        seen.extend(page.iter().map(|task| task.id));
    }
    assert_eq!(seen, made);
    let filter = TaskFilter { state: Some(AttemptState::Cancelled), ..TaskFilter::default() };
    let page = world.store.list_tasks(BUILT_IN_ORGANIZATION, filter, 10).await.unwrap();
    assert_eq!(page.iter().map(|task| task.id).collect::<Vec<_>>(), [cancelled]);
}

#[tokio::test]
async fn the_feed_tells_every_change_once_in_order() {
    let world = world().await;
    let store = &world.store;
    let mut live = store.follow_feed(BUILT_IN_ORGANIZATION, 0);
    let created = store.write(move |tx| Box::pin(tx.create_task(task("Tell")))).await.unwrap();
    let id = created.id();
    store.write(move |tx| Box::pin(tx.cancel_task(id, None))).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(live.next().await.unwrap());
    }
    let states: Vec<serde_json::Value> =
        told.iter().map(|entry| serde_json::from_str(&entry.json).unwrap()).collect();
    assert_eq!(states[0]["type"], "task.state");
    assert_eq!((&states[0]["state"], &states[1]["state"]), (&"queued".into(), &"cancelled".into()));
    assert_eq!(states[1]["attempt"], 1);
    assert!(states[0]["seq"].as_u64() < states[1]["seq"].as_u64());
    let read = store.read_feed(BUILT_IN_ORGANIZATION, 0, 10).await.unwrap();
    let json = |entries: &[boatyard_store::FeedEntry]| -> Vec<String> {
        entries.iter().map(|entry| entry.json.to_string()).collect()
    };
    assert_eq!(json(&read), json(&told));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wrote_sees_it_in_the_list() {
    let world = world().await;
    let mut writers = Vec::new();
    for writer in 0..4 {
        let store = world.store.clone();
        writers.push(tokio::spawn(async move {
            for n in 0..25 {
                let new = task(&format!("{writer} {n}"));
                let id = store.write(move |tx| Box::pin(tx.create_task(new))).await.unwrap().id();
                let page = store.task_page(BUILT_IN_ORGANIZATION, TaskFilter::default(), 200).await;
                assert!(page.unwrap().iter().any(|task| task.id == id));
                let attempt = store.attempts(id).await.unwrap()[0].id;
                let (to, reason) = (AttemptState::Cancelled, None);
                let change =
                    store.write(move |tx| Box::pin(tx.set_attempt_state(attempt, to, reason)));
                change.await.unwrap();
                let page = store.task_page(BUILT_IN_ORGANIZATION, TaskFilter::default(), 200).await;
                let mine = page.unwrap().iter().find(|task| task.id == id).unwrap().state;
                assert_eq!(mine, AttemptState::Cancelled);
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn a_filled_database_has_what_lists_show() {
    let world = world().await;
    let (store, workspace) = (&world.store, world.workspace().await);
    for _ in 0..2 {
        store.write(move |tx| Box::pin(tx.fill(Owner::BUILT_IN, workspace, 150))).await.unwrap();
    }
    let tasks = store.list_tasks(BUILT_IN_ORGANIZATION, TaskFilter::default(), 1000).await.unwrap();
    let filter = SessionFilter::default();
    let sessions = store.list_sessions(BUILT_IN_ORGANIZATION, filter, 1000).await.unwrap();
    assert_eq!((tasks.len(), sessions.len()), (300, 300));
    assert!(store.task(tasks[0].id).await.unwrap().task.state.is_terminal());
    assert!(store.live_sessions().await.unwrap().is_empty());
    // A page that is remembered is forgotten with the first change.
    let one = world.session_in(workspace).await;
    let filter = SessionFilter { state: Some(SessionState::Starting), ..filter };
    let page = || store.session_page(BUILT_IN_ORGANIZATION, filter, 10);
    let first = page().await.unwrap();
    assert_eq!(first[0].id, one);
    assert!(Arc::ptr_eq(&first, &page().await.unwrap()), "it is remembered");
    store.write(move |tx| Box::pin(tx.end_session(one, None))).await.unwrap();
    assert!(page().await.unwrap().is_empty());
}
