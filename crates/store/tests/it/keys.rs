//! Keys that end, keys of the organization's own, and codes by which programs are let in.

use std::time::Duration;

use boatyard_model::{KeyKind, Role, Scope, Scopes, Timestamp};
use boatyard_store::{
    BUILT_IN_ORGANIZATION, Decision, Error, Issued, NewDeviceCode, NewKey, Owner, Polled, Store,
    codes::PENDING_OF_ADDRESS_MAX,
};

use crate::{World, world};

const MINUTES: Duration = Duration::from_secs(600);

fn new_key(owner: Owner, hash: &str, expires: Option<Timestamp>) -> NewKey {
    NewKey {
        owner,
        kind: KeyKind::Personal,
        name: hash.to_owned(),
        prefix: "by_x".to_owned(),
        hash: hash.to_owned(),
        scopes: Scope::TasksRead.into(),
        expires,
    }
}

#[tokio::test]
async fn a_key_ends_by_itself_and_says_what_it_is_for() {
    let World { store, clock, .. } = &world().await;
    let expires = store.now().after(MINUTES);
    let new = new_key(Owner::BUILT_IN, "h", Some(expires));
    let id = store.write(move |tx| Box::pin(tx.create_key(new))).await.unwrap();
    let row = store.find_key_by_hash("h").await.unwrap().unwrap();
    assert_eq!((row.kind, row.scopes), (KeyKind::Personal, Scope::TasksRead.into()));
    assert_eq!(row.expires, Some(expires));
    clock.forward(MINUTES - Duration::from_millis(1));
    assert!(store.find_key(id).await.unwrap().is_some());
    clock.forward(Duration::from_millis(1));
    assert!(store.find_key(id).await.unwrap().is_none());
    assert!(store.find_key_by_hash("h").await.unwrap().is_none());
    // Who asks why gets to know.
    assert!(store.find_any_key_by_hash("h").await.unwrap().is_some());
    let listed = async |over| store.keys_of(BUILT_IN_ORGANIZATION, None, over, 10).await.unwrap();
    assert_eq!((listed(false).await.len(), listed(true).await.len()), (0, 1));
}

#[tokio::test]
async fn a_service_key_has_a_member_of_its_own_whose_work_stays() {
    let World { store, .. } = &world().await;
    let owner = store
        .write(|tx| {
            Box::pin(async move {
                let organization = BUILT_IN_ORGANIZATION;
                let member = tx.create_service_member(organization, "builds", Role::Viewer).await?;
                let owner = Owner { organization, member };
                let key = NewKey { kind: KeyKind::Service, ..new_key(owner, "h", None) };
                tx.create_key(key).await?;
                Ok(owner)
            })
        })
        .await
        .unwrap();
    let standing = store.find_standing_of(owner).await.unwrap().unwrap();
    assert_eq!((standing.role, standing.person), (Role::Viewer, None));
    assert!(!standing.operator);
    let seen = store.keys_of(owner.organization, Some(owner.member), false, 10).await.unwrap();
    assert_eq!((seen[0].member_name.as_str(), seen[0].role), ("builds", Some(Role::Viewer)));
    let before = store.revocations();
    let gone = store.write(move |tx| Box::pin(tx.revoke_keys_of(owner))).await.unwrap();
    assert_eq!(gone, 1);
    assert!(store.revocations() > before);
    store.write(move |tx| Box::pin(tx.retire_service_member(owner))).await.unwrap();
    assert!(store.find_standing_of(owner).await.unwrap().is_none());
}

async fn issue(store: &Store, code: &str, address: &str) -> Issued {
    let new = NewDeviceCode {
        hash: format!("long-{code}"),
        user_hash: format!("short-{code}"),
        client: "boatyard on laptop".to_owned(),
        agent: None,
        address: Some(address.to_owned()),
        scopes: Scopes::ALL,
        pause: 5,
        expires: store.now().after(MINUTES),
    };
    store.write(move |tx| Box::pin(tx.create_device_code(new))).await.unwrap()
}

async fn poll(store: &Store, code: &str) -> Polled {
    let (hash, secret) = (format!("long-{code}"), ("by_x".to_owned(), format!("key-{code}")));
    match store.poll_device_code(&hash).await.unwrap() {
        Polled::Ready { owner, .. } => assert_eq!(owner, Owner::BUILT_IN),
        polled => return polled,
    }
    store
        .write(move |tx| Box::pin(async move { tx.redeem_device_code(&hash, secret).await }))
        .await
        .unwrap()
}

async fn decide(store: &Store, code: &str, decision: Decision) -> Result<(), Error> {
    let hash = format!("short-{code}");
    store
        .write(move |tx| {
            Box::pin(async move { tx.decide_device_code(&hash, Owner::BUILT_IN, decision).await })
        })
        .await
}

fn yes() -> Decision {
    Decision::Approve { scopes: Scope::TasksRead.into(), key_expires: Some(Timestamp(i64::MAX)) }
}

#[tokio::test]
async fn a_program_that_is_let_in_gets_one_key() {
    let World { store, clock, .. } = &world().await;
    assert_eq!(issue(store, "a", "::1").await, Issued::Yes);
    assert_eq!(issue(store, "a", "::1").await, Issued::Taken);
    assert!(matches!(poll(store, "a").await, Polled::Pending));
    // Too early, and slower from then on.
    assert!(matches!(poll(store, "a").await, Polled::TooFast(10)));
    clock.forward(Duration::from_secs(9));
    assert!(matches!(poll(store, "a").await, Polled::TooFast(15)));
    clock.forward(Duration::from_secs(15));
    assert!(matches!(poll(store, "a").await, Polled::Pending));
    decide(store, "a", yes()).await.unwrap();
    let again = decide(store, "a", Decision::Deny).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyResolved { .. }), "{again}");
    // Two at a time: the writer does one after the other.
    let both = tokio::join!(poll(store, "a"), poll(store, "a"));
    let keys = [&both.0, &both.1].iter().filter(|p| matches!(p, Polled::Key { .. })).count();
    let used = [&both.0, &both.1].iter().filter(|p| matches!(p, Polled::Used)).count();
    assert_eq!((keys, used), (1, 1), "{both:?}");
    let key = store.find_key_by_hash("key-a").await.unwrap().unwrap();
    assert_eq!((key.kind, key.name.as_str()), (KeyKind::Login, "boatyard on laptop"));
    assert_eq!((key.owner, key.scopes), (Owner::BUILT_IN, Scope::TasksRead.into()));
    assert!(matches!(poll(store, "b").await, Polled::Unknown));
}

#[tokio::test]
async fn a_no_and_an_end_are_told_apart() {
    let World { store, clock, .. } = &world().await;
    for code in ["denied", "late", "approved"] {
        issue(store, code, "::1").await;
    }
    decide(store, "denied", Decision::Deny).await.unwrap();
    decide(store, "approved", yes()).await.unwrap();
    clock.forward(MINUTES);
    assert!(matches!(poll(store, "denied").await, Polled::Denied));
    assert!(matches!(poll(store, "late").await, Polled::Expired));
    // A yes is no good for ever either.
    assert!(matches!(poll(store, "approved").await, Polled::Expired));
    let late = decide(store, "late", yes()).await.unwrap_err();
    assert!(matches!(late, Error::NotFound { .. }), "{late}");
    let before = store.now();
    store.write(move |tx| Box::pin(tx.forget_device_codes(before))).await.unwrap();
    assert!(matches!(poll(store, "denied").await, Polled::Denied), "kept for those who ask");
    clock.forward(Duration::from_millis(1));
    let before = store.now();
    store.write(move |tx| Box::pin(tx.forget_device_codes(before))).await.unwrap();
    assert!(matches!(poll(store, "denied").await, Polled::Unknown));
}

#[tokio::test]
async fn those_who_wait_are_bounded_for_each_address() {
    let World { store, clock, .. } = &world().await;
    for n in 0..PENDING_OF_ADDRESS_MAX {
        assert_eq!(issue(store, &n.to_string(), "192.0.2.1").await, Issued::Yes);
    }
    assert_eq!(issue(store, "more", "192.0.2.1").await, Issued::TooMany);
    assert_eq!(issue(store, "other", "192.0.2.2").await, Issued::Yes);
    clock.forward(MINUTES);
    assert_eq!(issue(store, "more", "192.0.2.1").await, Issued::Yes);
}
