//! The audit log: an entry with each change, in a chain that can be checked.

use std::{collections::BTreeMap, sync::Arc};

use boatyard_model::{AuditOutcome, OrganizationId, PersonId, audit::BEGINNING};
use boatyard_store::{
    AuditFilter, AuditPage, BUILT_IN_MEMBER, BUILT_IN_ORGANIZATION, Error, Store,
    audit::{self, Actor, Context},
};

use crate::{World, world};

const HERE: Option<OrganizationId> = Some(BUILT_IN_ORGANIZATION);

fn actor(name: &str) -> Actor {
    Actor {
        organization: HERE,
        member: Some(BUILT_IN_MEMBER),
        name: name.to_owned(),
        via: "server".to_owned(),
        ..Actor::default()
    }
}

fn context(operation: &'static str) -> Arc<Context> {
    let subjects = BTreeMap::from([("id".to_owned(), "tsk_1".to_owned())]);
    Context::new(operation, actor("Zoë"), subjects, Some("req".to_owned()))
}

/// A change of the database.
async fn change(store: &Store) -> Result<(), Error> {
    store.write(|tx| Box::pin(async move { tx.set_meta("x", "y").await })).await
}

async fn fails(store: &Store) -> Result<(), Error> {
    store
        .write(|tx| {
            Box::pin(async move {
                tx.set_meta("failed", "yes").await?;
                Err(Error::Conflict { key: "k".to_owned() })
            })
        })
        .await
}

async fn entries(store: &Store) -> Vec<String> {
    let all = AuditFilter::default();
    let rows = store.list_audit(HERE, &all, AuditPage::After(0), 100).await.unwrap();
    rows.into_iter().map(|entry| format!("{} {}", entry.operation, entry.outcome)).collect()
}

/// What somebody with access to the file does.
async fn by_hand(world: &World, sql: &'static str) {
    let options = sqlx_options(world);
    let mut conn = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query(sql).execute(&mut conn).await.unwrap();
}

fn sqlx_options(world: &World) -> sqlx::sqlite::SqliteConnectOptions {
    sqlx::sqlite::SqliteConnectOptions::new().filename(&world.path)
}

#[tokio::test]
async fn the_first_write_of_a_request_brings_its_entry_along() {
    let World { store, .. } = &world().await;
    let one = context("create_task");
    audit::within(Arc::clone(&one), async {
        audit::note("role", "admin");
        fails(store).await.unwrap_err();
        assert!(!one.is_recorded(), "what was not stored has no entry");
        store
            .write(|tx| {
                Box::pin(async move {
                    tx.note("made", "tsk_2");
                    tx.set_meta("x", "y").await
                })
            })
            .await
            .unwrap();
        change(store).await.unwrap();
    })
    .await;
    assert!(one.is_recorded());
    // Nothing is left to be added, and what another task writes is nobody's request.
    store.audit(&one, AuditOutcome::Allowed, None).await.unwrap();
    change(store).await.unwrap();
    assert_eq!(entries(store).await, ["create_task allowed"]);

    let found = store
        .list_audit(HERE, &AuditFilter::default(), AuditPage::Before(u64::MAX), 10)
        .await
        .unwrap();
    let entry = &found[0];
    assert_eq!((entry.number, entry.before.as_str()), (1, BEGINNING));
    assert_eq!((entry.name.as_str(), entry.subjects["id"].as_str()), ("Zoë", "tsk_1"));
    assert_eq!(
        (entry.details["role"].as_str(), entry.details["made"].as_str()),
        ("admin", "tsk_2")
    );
    assert_eq!(entry.hash, entry.seal());
}

#[tokio::test]
async fn a_request_that_writes_nothing_or_ends_badly_has_its_entry_too() {
    let World { store, .. } = &world().await;
    store.audit(&context("exec"), AuditOutcome::Allowed, None).await.unwrap();
    let denied = context("delete_task");
    audit::within(Arc::clone(&denied), async {
        store
            .write(|tx| {
                Box::pin(async move {
                    tx.changes_nothing();
                    Ok(())
                })
            })
            .await
            .unwrap();
    })
    .await;
    assert!(!denied.is_recorded());
    store.audit_end(&denied, AuditOutcome::Denied, Some("viewer".into())).await.unwrap();
    let half = context("push");
    audit::within(Arc::clone(&half), async { change(store).await.unwrap() }).await;
    store.audit_end(&half, AuditOutcome::Failed, Some("no route".into())).await.unwrap();
    let expected = ["exec allowed", "delete_task denied", "push allowed", "push failed"];
    assert_eq!(entries(store).await, expected);
    assert_eq!(store.check_audit(HERE).await.unwrap().fault, None);
}

#[tokio::test]
async fn who_signs_in_is_known_on_the_way() {
    let World { store, .. } = &world().await;
    let person = PersonId::new();
    let address = Some("192.0.2.7".to_owned());
    let unknown = Actor { address: address.clone(), ..Actor::default() };
    let request = Context::new("sign_in", unknown, BTreeMap::new(), None);
    assert!(!request.has_actor());
    audit::within(Arc::clone(&request), async {
        audit::name_actor(Actor { person: Some(person), ..actor("Ada") });
        change(store).await.unwrap();
    })
    .await;
    let by = AuditFilter { person: Some(person), ..AuditFilter::default() };
    let found = store.list_audit(HERE, &by, AuditPage::After(0), 10).await.unwrap();
    assert_eq!((found.len(), &found[0].address), (1, &address));
    // Who is not known has a place in the server's own log.
    let stranger = Context::new("sign_in", Actor::default(), BTreeMap::new(), None);
    store.audit(&stranger, AuditOutcome::Denied, Some("wrong".into())).await.unwrap();
    let server = store.list_audit(None, &AuditFilter::default(), AuditPage::After(0), 10).await;
    assert_eq!(server.unwrap()[0].organization, None);
    assert_eq!(entries(store).await.len(), 1);
}

#[tokio::test]
async fn many_at_once_make_one_chain() {
    let World { store, .. } = &world().await;
    let writes = (0..200).map(|_| {
        let store = store.clone();
        tokio::spawn(audit::within(context("w"), async move { change(&store).await.unwrap() }))
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap();
    }
    let check = store.check_audit(HERE).await.unwrap();
    assert_eq!((check.entries, check.chain.number, check.fault), (200, 200, None));
}

#[tokio::test]
async fn entries_are_found_by_what_they_say() {
    let World { store, clock, .. } = &world().await;
    for n in 0..10_u8 {
        let subjects = BTreeMap::from([("id".to_owned(), format!("tsk_{n}%"))]);
        let actor = Actor { address: Some(format!("192.0.2.{n}")), ..actor("Zoë") };
        let operation = if n % 2 == 0 { "even" } else { "odd" };
        let context = Context::new(operation, actor, subjects, Some(format!("req{n}")));
        store.audit(&context, AuditOutcome::Allowed, None).await.unwrap();
        clock.advance(1000);
    }
    let check = async |filter: AuditFilter, expected: &[u64]| {
        let found =
            store.list_audit(HERE, &filter, AuditPage::Before(u64::MAX), 100).await.unwrap();
        let numbers: Vec<u64> = found.iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, expected, "{filter:?}");
    };
    let all = AuditFilter::default;
    check(AuditFilter { operation: Some("odd".into()), ..all() }, &[10, 8, 6, 4, 2]).await;
    check(AuditFilter { subject: Some("tsk_3%".into()), ..all() }, &[4]).await;
    check(AuditFilter { subject: Some("tsk_3".into()), ..all() }, &[]).await;
    check(AuditFilter { subject: Some("tsk__%".into()), ..all() }, &[]).await;
    check(AuditFilter { address: Some("192.0.2.9".into()), ..all() }, &[10]).await;
    check(AuditFilter { request: Some("req0".into()), ..all() }, &[1]).await;
    check(AuditFilter { outcome: Some(AuditOutcome::Denied), ..all() }, &[]).await;
    check(AuditFilter { member: Some(BUILT_IN_MEMBER), person: None, ..all() }, &{
        let mut every: Vec<u64> = (1..=10).collect();
        every.reverse();
        every
    })
    .await;
    let begin = boatyard_model::Timestamp(1_000_000);
    let (from, to) = (Some(begin.after(std::time::Duration::from_secs(7))), None);
    check(AuditFilter { from, to, ..all() }, &[10, 9, 8]).await;
}

#[tokio::test]
async fn what_was_done_by_hand_is_found() {
    for (sql, number) in [
        ("UPDATE audit_entry SET name = 'Mallory' WHERE number = 3", 3),
        ("DELETE FROM audit_entry WHERE number = 3", 3),
        ("DELETE FROM audit_entry WHERE number = 1", 1),
        ("DELETE FROM audit_entry WHERE number = 5", 5),
        ("UPDATE audit_entry SET details = '{\"a\":\"b\"}' WHERE number = 2", 2),
        ("UPDATE audit_entry SET subjects = 'nonsense' WHERE number = 2", 2),
        ("UPDATE audit_chain SET number = 4", 4),
        ("UPDATE audit_chain SET first = 2", 2),
    ] {
        let world = world().await;
        for _ in 0..5 {
            world.store.audit(&context("w"), AuditOutcome::Allowed, None).await.unwrap();
        }
        assert_eq!(world.store.check_audit(HERE).await.unwrap().fault, None);
        by_hand(&world, sql).await;
        let fault = world.store.check_audit(HERE).await.unwrap().fault;
        assert_eq!(fault.map(|fault| fault.number), Some(number), "{sql}");
    }
}

#[tokio::test]
async fn what_is_kept_no_longer_goes_and_the_rest_can_be_checked() {
    let World { store, clock, .. } = &world().await;
    for _ in 0..10 {
        store.audit(&context("w"), AuditOutcome::Allowed, None).await.unwrap();
        clock.advance(1000);
    }
    let before = boatyard_model::Timestamp(1_000_000).after(std::time::Duration::from_secs(6));
    let trim = async |limit| {
        store
            .write(move |tx| Box::pin(async move { tx.trim_audit(HERE, before, limit).await }))
            .await
            .unwrap()
    };
    let old =
        store.list_audit(HERE, &AuditFilter::default(), AuditPage::After(5), 1).await.unwrap();
    assert_eq!(trim(4).await, 4);
    assert_eq!(trim(4).await, 2);
    assert_eq!(trim(4).await, 0);
    let check = store.check_audit(HERE).await.unwrap();
    assert_eq!((check.fault, check.entries, check.chain.first), (None, 6, 7));
    assert_eq!(check.chain.anchor, old[0].hash);
    let last = store
        .list_audit(HERE, &AuditFilter::default(), AuditPage::Before(u64::MAX), 1)
        .await
        .unwrap();
    assert_eq!(last[0].operation, "trim_audit");
    assert_eq!(
        (&last[0].details["until"], &last[0].details["hash"]),
        (&"6".to_owned(), &old[0].hash)
    );

    // All of it, and it goes on from there.
    clock.advance(100_000);
    let now = store.now();
    let gone = store
        .write(move |tx| Box::pin(async move { tx.trim_audit(HERE, now, 100).await }))
        .await
        .unwrap();
    assert_eq!(gone, 6);
    store.audit(&context("w"), AuditOutcome::Allowed, None).await.unwrap();
    let check = store.check_audit(HERE).await.unwrap();
    assert_eq!((check.fault, check.entries, check.chain.number), (None, 2, 14));

    store.write(|tx| Box::pin(async move { tx.keep_audit(None, Some(30)).await })).await.unwrap();
    assert_eq!(store.audit_chains().await.unwrap(), [(None, Some(30)), (HERE, None)]);
    assert_eq!(store.check_audit(None).await.unwrap().fault, None);
    store
        .audit(
            &Context::new("x", Actor::default(), BTreeMap::new(), None),
            AuditOutcome::Denied,
            None,
        )
        .await
        .unwrap();
    assert_eq!(store.check_audit(None).await.unwrap().fault, None);
    assert_eq!(store.audit_chain(None).await.unwrap().keep_days, Some(30));
}

#[tokio::test]
#[expect(clippy::async_yields_async, reason = "the work goes on in a task of its own")]
async fn whoever_hangs_up_is_written_down_once_and_behind_what_goes_on() {
    let world = world().await;
    let store = &world.store;
    // Nothing was written yet; the second time there is an entry.
    let left = context("left");
    store.audit_left(&left).await.unwrap();
    store.audit_left(&left).await.unwrap();
    assert_eq!(entries(store).await, ["left failed"]);
    // What was written has the entry, which is the change's.
    let changed = context("changed");
    audit::within(Arc::clone(&changed), change(store)).await.unwrap();
    store.audit_left(&changed).await.unwrap();
    // A task of its own goes on: its change has the entry, in its transaction.
    let made = context("made");
    let work = store.clone();
    let work = audit::within(Arc::clone(&made), async {
        store.audited(async move { change(&work).await })
    });
    let work = work.await;
    store.audit_left(&made).await.unwrap();
    assert_eq!(entries(store).await.len(), 2, "it is not over");
    tokio::spawn(work).await.unwrap().unwrap();
    // It changes nothing: the entry comes when it is over.
    let looked = context("looked");
    let work = audit::within(Arc::clone(&looked), async { store.audited(async {}) }).await;
    store.audit_left(&looked).await.unwrap();
    work.await;
    let all = ["left failed", "changed allowed", "made allowed", "looked failed"];
    assert_eq!(entries(store).await, all);
    assert!(store.check_audit(HERE).await.unwrap().fault.is_none());
}
