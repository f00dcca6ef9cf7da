//! Opening, transactions, backup, damage.

use std::sync::{Arc, Mutex};

use boatyard_model::AttemptState;
use boatyard_store::{BUILT_IN_ORGANIZATION, Error, Options, Store, TaskFilter};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use crate::{open, task, world};

async fn raw(path: &std::path::Path, sql: &'static str) -> Result<(), sqlx::Error> {
    let mut conn = SqliteConnectOptions::new().filename(path).foreign_keys(true).connect().await?;
    sqlx::query(sql).execute(&mut conn).await?;
    conn.close().await
}

#[tokio::test]
async fn a_closure_is_stored_wholly_or_not_at_all() {
    let world = world().await;
    let store = &world.store;
    // Alone, and in the company of others that succeed.
    for company in [0, 20] {
        let before = store
            .list_tasks(BUILT_IN_ORGANIZATION, TaskFilter::default(), 200)
            .await
            .unwrap()
            .len();
        let feed = store.last_feed_seq().await.unwrap();
        let failing = store.write(|tx| {
            Box::pin(async move {
                let created = tx.create_task(task("Half")).await?;
                let id = created.id();
                tx.cancel_task(id, None).await?;
                Err::<(), _>(Error::NotFound { kind: "reason", id: "x".into() })
            })
        });
        let panicking = store.write(|tx| {
            Box::pin(async move {
                tx.create_task(task("Panic")).await?;
                if tx.now().0 > 0 {
                    panic!("a panic for this test");
                }
                Ok(())
            })
        });
        let good = (0..company).map(|_| store.write(|tx| Box::pin(tx.create_task(task("Good")))));
        let (failed, panicked, created) =
            tokio::join!(failing, panicking, futures_util::future::join_all(good));
        assert!(matches!(failed, Err(Error::NotFound { kind: "reason", .. })));
        assert!(matches!(panicked, Err(Error::Panicked)));
        assert!(created.iter().all(Result::is_ok));
        let after =
            store.list_tasks(BUILT_IN_ORGANIZATION, TaskFilter::default(), 200).await.unwrap();
        assert_eq!(after.len(), before + company);
        let told = store.read_feed(BUILT_IN_ORGANIZATION, feed, 200).await.unwrap();
        assert_eq!(told.len(), company);
    }
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_state_that_is_none_is_refused_by_the_database_too() {
    let world = world().await;
    world.store.write(|tx| Box::pin(tx.create_task(task("x")))).await.unwrap();
    for sql in [
        "UPDATE task SET state = 'happy'",
        "UPDATE attempt SET state = 'happy'",
        "UPDATE job SET state = 'happy'",
        "INSERT INTO api_key VALUES ('k', 'org_x', 'mem_x', 'n', 'p', 'h', 0, NULL, NULL)",
    ] {
        assert!(raw(&world.path, sql).await.is_err(), "{sql}");
    }
    for state in AttemptState::ALL {
        let sql = format!("UPDATE attempt SET state = '{state}'");
        raw(&world.path, sql.leak()).await.unwrap();
    }
}

#[tokio::test]
async fn a_backup_is_a_database() {
    let world = world().await;
    let id = world.store.write(|tx| Box::pin(tx.create_task(task("Keep")))).await.unwrap().id();
    let copy = world.folder.path().join("copy.db");
    world.store.backup_to(&copy).await.unwrap();
    let restored = open(&copy, &world.clock).await;
    assert_eq!(restored.task(id).await.unwrap().task.title, "Keep");
    restored.check().await.unwrap();
    assert!(world.store.backup_to(&copy).await.is_err(), "a file that is there is not overwritten");
}

#[tokio::test]
async fn a_newer_or_altered_database_is_refused_and_the_hook_comes_before_migrations() {
    let world = world().await;
    let schema = world.store.schema().await.unwrap();
    world.store.clone().close().await.unwrap();
    assert!(matches!(
        world.store.write(|tx| Box::pin(tx.set_meta("a", "b"))).await,
        Err(Error::Closed)
    ));
    raw(&world.path, "INSERT INTO schema_migration VALUES (9999, 'future', 'x', 0)").await.unwrap();
    let refused = Store::open(Options::new(&world.path)).await.err();
    assert!(
        matches!(refused, Some(Error::Newer { found: 9999, known }) if known == schema),
        "{refused:?}"
    );
    raw(&world.path, "DELETE FROM schema_migration WHERE version = 9999").await.unwrap();
    // With nothing pending the hook isn't called.
    let called = Arc::new(Mutex::new(0));
    let count = Arc::clone(&called);
    let mut options = Options::new(&world.path);
    options.before_migration = Some(Box::new(move |_| {
        *count.lock().unwrap() += 1;
        Box::pin(async { Ok(()) })
    }));
    drop(Store::open(options).await.unwrap());
    assert_eq!(*called.lock().unwrap(), 0);
    raw(&world.path, "UPDATE schema_migration SET checksum = 'other'").await.unwrap();
    let refused = Store::open(Options::new(&world.path)).await.err();
    assert!(matches!(refused, Some(Error::Altered { version: 1 })), "{refused:?}");
}

#[tokio::test]
async fn damage_is_found() {
    let world = world().await;
    for n in 0..50 {
        let new = task(&format!("{n} {}", "x".repeat(2000)));
        world.store.write(move |tx| Box::pin(tx.create_task(new))).await.unwrap();
    }
    world.store.clone().close().await.unwrap();
    let mut bytes = std::fs::read(&world.path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096 * 4].fill(0x5a);
    std::fs::write(&world.path, bytes).unwrap();
    let checked = match Store::open(Options::new(&world.path)).await {
        Ok(store) => store.check().await,
        Err(error) => Err(error),
    };
    assert!(matches!(checked, Err(Error::Damaged { .. } | Error::Database(_))), "{checked:?}");
}
