//! Accounts, and the browsers in which people are signed in.

use std::time::Duration;

use boatyard_model::{DeviceId, PersonId, Role};
use boatyard_store::{
    Address, BUILT_IN_ORGANIZATION, BUILT_IN_PERSON, Claim, DEVICES_MAX, Error, NewDevice,
    NewPerson, Owner, PasswordHash, PersonRefused, PersonUpdate, Store,
};

use crate::{World, world};

const LIFETIME: Duration = Duration::from_secs(3600);

fn somebody(email: &str) -> NewPerson {
    NewPerson {
        email: email.to_owned(),
        address: Address::Verified,
        name: email.split('@').next().unwrap().to_owned(),
        password: Some(PasswordHash("hash".to_owned())),
    }
}

async fn claim(store: &Store, email: &str) -> Claim {
    let new = somebody(email);
    store.write(move |tx| Box::pin(async move { tx.claim_built_in(&new).await })).await.unwrap()
}

async fn create(store: &Store, email: &str) -> Option<PersonId> {
    let new = somebody(email);
    store.write(move |tx| Box::pin(async move { tx.create_person(&new).await })).await.unwrap()
}

async fn update(
    store: &Store,
    person: PersonId,
    operator: Option<bool>,
    disabled: Option<bool>,
) -> Result<(), PersonRefused> {
    let update = PersonUpdate { operator, disabled, ..PersonUpdate::default() };
    let done =
        store.write(move |tx| Box::pin(async move { tx.update_person(person, &update).await }));
    done.await.unwrap()
}

async fn device(store: &Store, person: PersonId, hash: &str) -> DeviceId {
    let new = NewDevice {
        person,
        organization: BUILT_IN_ORGANIZATION,
        hash: hash.to_owned(),
        way: "password".to_owned(),
        api_key: None,
        address: None,
        program: None,
        expires: store.now().after(LIFETIME),
    };
    store.write(move |tx| Box::pin(async move { tx.create_device(&new).await })).await.unwrap()
}

#[tokio::test]
async fn of_many_who_claim_the_server_at_once_one_gets_it() {
    let World { store, .. } = &world().await;
    assert!(!store.is_claimed().await.unwrap());
    let built_in = store.find_standing_of(Owner::BUILT_IN).await.unwrap().unwrap();
    assert_eq!((built_in.role, built_in.operator), (Role::Owner, true));
    device(store, BUILT_IN_PERSON, "of nobody").await;
    assert!(create(store, "taken@example.com").await.is_some());
    assert_eq!(claim(store, "taken@example.com").await, Claim::AddressTaken);
    let all = (0..8).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { claim(&store, &format!("p{n}@example.com")).await })
    });
    let all = futures_util::future::join_all(all.collect::<Vec<_>>()).await;
    let got = all.into_iter().map(Result::unwrap).filter(|claim| *claim == Claim::Done);
    assert_eq!(got.count(), 1);
    assert!(store.is_claimed().await.unwrap());
    let standing = store.find_standing_of(Owner::BUILT_IN).await.unwrap().unwrap();
    assert!(standing.name.starts_with('p'), "its member has its name: {standing:?}");
    let gone = store.find_device_by_hash("of nobody").await.unwrap();
    assert!(gone.is_none(), "who came in by a link before came as nobody in particular");
}

#[tokio::test]
async fn an_address_is_one_account_s() {
    let World { store, .. } = &world().await;
    let ada = create(store, "ada@example.com").await.unwrap();
    assert_eq!(create(store, "ada@example.com").await, None);
    let row = store.find_person_by_email("ada@example.com").await.unwrap().unwrap();
    assert_eq!((row.id, row.operator, row.verified.is_some()), (ada, false, true));
    assert!(!format!("{row:?}").contains("hash\""), "a password's hash is never shown");
    let renew = |from: &'static str| {
        store.write(move |tx| {
            Box::pin(async move {
                let (from, to) = (PasswordHash(from.to_owned()), PasswordHash("newer".to_owned()));
                tx.renew_password(ada, &from, &to).await
            })
        })
    };
    renew("another").await.unwrap();
    renew("hash").await.unwrap();
    renew("hash").await.unwrap();
    let row = store.find_person(ada).await.unwrap().unwrap();
    assert_eq!(row.password, Some(PasswordHash("newer".to_owned())));
}

#[tokio::test]
async fn somebody_always_runs_the_server() {
    let World { store, .. } = &world().await;
    assert_eq!(claim(store, "ada@example.com").await, Claim::Done);
    let bob = create(store, "bob@example.com").await.unwrap();
    let last = Err(PersonRefused::LastOperator);
    assert_eq!(update(store, BUILT_IN_PERSON, Some(false), None).await, last);
    assert_eq!(update(store, BUILT_IN_PERSON, None, Some(true)).await, last);
    assert_eq!(update(store, bob, Some(true), None).await, Ok(()));
    // Two who step down at once: one of them can't.
    let (one, two) = tokio::join!(
        update(store, BUILT_IN_PERSON, Some(false), None),
        update(store, bob, Some(false), None)
    );
    assert_eq!([one, two].iter().filter(|done| done.is_ok()).count(), 1);
}

#[tokio::test]
async fn what_takes_a_right_away_is_told_before_it_is_answered() {
    let World { store, .. } = &world().await;
    let ada = create(store, "ada@example.com").await.unwrap();
    let join = |role| {
        store.write(move |tx| {
            Box::pin(async move { tx.join_organization(ada, BUILT_IN_ORGANIZATION, role).await })
        })
    };
    let owner = join(Role::Member).await.unwrap();
    let before = store.revocations();
    let mut rights = store.rights();
    assert_eq!(join(Role::Viewer).await.unwrap(), owner, "the same member");
    assert!(store.revocations() > before);
    rights.changed().await.unwrap();
    update(store, ada, None, Some(true)).await.unwrap();
    assert!(rights.has_changed().unwrap());
    assert!(store.find_standing_of(owner).await.unwrap().is_none());
    update(store, ada, None, Some(false)).await.unwrap();
    let standing = store.find_standing_of(owner).await.unwrap().unwrap();
    assert_eq!((standing.role, standing.person), (Role::Viewer, Some(ada)));
}

#[tokio::test]
async fn browsers_are_bounded_end_and_are_one_person_s() {
    let World { store, clock, .. } = &world().await;
    let (ada, bob) = (
        create(store, "ada@example.com").await.unwrap(),
        create(store, "bob@example.com").await.unwrap(),
    );
    let first = device(store, ada, "0").await;
    let revoke = |person, id| {
        store.write(move |tx| Box::pin(async move { tx.revoke_device(person, id).await }))
    };
    let foreign = revoke(bob, first).await.unwrap_err();
    assert!(matches!(foreign, Error::NotFound { .. }), "{foreign}");
    for n in 1..=DEVICES_MAX {
        clock.forward(Duration::from_secs(1));
        device(store, ada, &n.to_string()).await;
    }
    let listed = store.list_devices(ada).await.unwrap();
    assert_eq!(listed.len(), DEVICES_MAX as usize);
    assert!(store.find_device(first).await.unwrap().is_none(), "the one seen longest ago");
    let newest = listed[0].id;
    revoke(ada, newest).await.unwrap();
    assert!(store.find_device(newest).await.unwrap().is_none());
    clock.forward(LIFETIME);
    assert!(store.list_devices(ada).await.unwrap().is_empty());
    // What is over for long is forgotten when somebody signs in anew.
    clock.forward(Duration::from_secs(31 * 24 * 3600));
    let last = device(store, ada, "last").await;
    let touch = store.write(move |tx| {
        Box::pin(async move {
            let expires = tx.now().after(2 * LIFETIME);
            tx.touch_device(last, Some("192.0.2.1"), expires).await
        })
    });
    touch.await.unwrap();
    clock.forward(LIFETIME);
    let row = store.find_device(last).await.unwrap().expect("used again, it stays");
    assert_eq!(row.address.as_deref(), Some("192.0.2.1"));
}
