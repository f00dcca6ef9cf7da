//! Organizations, members and invitations.

use boatyard_model::{
    MemberId, OrganizationId, PersonId, RepositoryRole, Role, Scopes, Timestamp, Visibility,
    access::KeyKind, name::RepositorySource,
};
use boatyard_store::{
    Address, BUILT_IN_MEMBER, BUILT_IN_ORGANIZATION, BUILT_IN_PERSON, Error, InvitationState,
    MemberRow, Moved, NewDevice, NewInvitation, NewKey, NewPerson, Owner, Result, Store, Which,
};

use proptest::prelude::*;

use crate::{task, world};

const HERE: OrganizationId = BUILT_IN_ORGANIZATION;

async fn person(store: &Store, name: &str) -> PersonId {
    let new = NewPerson {
        email: format!("{name}@example.com"),
        address: Address::Verified,
        name: name.to_owned(),
        password: None,
    };
    let made = store.write(move |tx| Box::pin(async move { tx.create_person(&new).await })).await;
    made.unwrap().unwrap()
}

async fn join(
    store: &Store,
    organization: OrganizationId,
    person: PersonId,
    role: Role,
) -> Result<MemberRow> {
    store
        .write(move |tx| Box::pin(async move { tx.add_member(organization, person, role).await }))
        .await
}

async fn set_role(store: &Store, member: MemberId, role: Role) -> Result<MemberRow> {
    store
        .write(move |tx| Box::pin(async move { tx.set_member_role(HERE, member, role).await }))
        .await
}

async fn remove(store: &Store, member: MemberId, heir: Option<MemberId>) -> Result<Moved> {
    store.write(move |tx| Box::pin(async move { tx.remove_member(HERE, member, heir).await })).await
}

fn why<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result.unwrap_err() {
        Error::Refused { detail } => detail,
        error => panic!("{error}"),
    }
}

async fn owners(store: &Store) -> usize {
    let all = store.members(HERE, None, Which::Active, 200).await.unwrap();
    all.iter().filter(|row| row.role == Role::Owner && row.is_active()).count()
}

#[tokio::test]
async fn an_organization_keeps_an_owner_whatever_happens() {
    let world = world().await;
    let store = world.store.clone();
    let refused = |text: &str| assert!(text.contains("without an owner"), "{text}");
    refused(&why(set_role(&store, BUILT_IN_MEMBER, Role::Admin).await));
    refused(&why(remove(&store, BUILT_IN_MEMBER, None).await));
    assert_eq!(owners(&store).await, 1, "what was refused left no trace");

    let ada = person(&store, "ada").await;
    let ada = join(&store, HERE, ada, Role::Admin).await.unwrap();
    let by = Owner::BUILT_IN;
    let heir = ada.id;
    let made = store
        .write(move |tx| Box::pin(async move { tx.transfer_organization(by, heir).await }))
        .await
        .unwrap();
    assert_eq!(made.role, Role::Owner);
    let before = store.member(HERE, BUILT_IN_MEMBER).await.unwrap();
    assert_eq!(before.role, Role::Admin);
    refused(&why(remove(&store, ada.id, None).await));
    // One whose account is disabled is no owner who could help.
    set_role(&store, BUILT_IN_MEMBER, Role::Owner).await.unwrap();
    let disable = boatyard_store::PersonUpdate { disabled: Some(true), ..Default::default() };
    let (id, update) = (ada.person.unwrap(), disable);
    store
        .write(move |tx| Box::pin(async move { tx.update_person(id, &update).await }))
        .await
        .unwrap()
        .unwrap();
    refused(&why(set_role(&store, BUILT_IN_MEMBER, Role::Viewer).await));
    let beside = store
        .write(move |tx| Box::pin(async move { tx.require_owners_beside(BUILT_IN_PERSON).await }))
        .await;
    refused(&why(beside));
    assert!(why(join(&store, HERE, id, Role::Viewer).await).contains("already"));
}

#[tokio::test]
async fn of_two_owners_who_leave_at_once_one_stays() {
    let world = world().await;
    let store = world.store.clone();
    let mut all = vec![BUILT_IN_MEMBER];
    for n in 0..7 {
        let person = person(&store, &format!("owner{n}")).await;
        all.push(join(&store, HERE, person, Role::Owner).await.unwrap().id);
    }
    let leaving = all.iter().map(|member| remove(&store, *member, None));
    let left = futures_util::future::join_all(leaving).await;
    assert_eq!(left.iter().filter(|left| left.is_err()).count(), 1, "{left:?}");
    assert_eq!(owners(&store).await, 1);
}

#[tokio::test]
async fn who_is_removed_can_do_nothing_and_keeps_what_is_his() {
    let world = world().await;
    let store = world.store.clone();
    let ada = person(&store, "ada").await;
    let member = join(&store, HERE, ada, Role::Member).await.unwrap().id;
    let owner = Owner { organization: HERE, member };
    let mut new = task("Hers");
    new.owner = owner;
    let made = store.write(move |tx| Box::pin(tx.create_task(new))).await.unwrap().id();
    let key = NewKey {
        owner,
        kind: KeyKind::Personal,
        name: "k".into(),
        prefix: "by_".into(),
        hash: "k".into(),
        scopes: Scopes::ALL,
        expires: None,
    };
    let key = store.write(move |tx| Box::pin(tx.create_key(key))).await.unwrap();
    let device = NewDevice {
        person: ada,
        organization: HERE,
        hash: "d".into(),
        way: "password".into(),
        api_key: None,
        address: None,
        program: None,
        expires: Timestamp(i64::MAX),
    };
    store.write(move |tx| Box::pin(async move { tx.create_device(&device).await })).await.unwrap();
    let before = store.revocations();
    remove(&store, member, None).await.unwrap();
    assert!(store.revocations() > before, "nobody goes on with what was remembered");
    assert!(store.find_key(key).await.unwrap().is_none());
    assert!(store.find_device_by_hash("d").await.unwrap().is_none());
    assert!(store.find_standing(ada, HERE).await.unwrap().is_none());
    assert_eq!(store.task(made).await.unwrap().task.owner, owner, "the work is still hers");
    let gone = store.member(HERE, member).await.unwrap();
    assert!(gone.removed.is_some() && gone.name == "ada", "and is known as hers");
    let listed = store.members(HERE, None, Which::Active, 10).await.unwrap();
    assert!(!listed.contains(&gone));
    assert!(store.members(HERE, None, Which::All, 10).await.unwrap().contains(&gone));
    assert!(matches!(remove(&store, member, None).await, Err(Error::NotFound { .. })));

    // What was left behind can be given to somebody, who can work on.
    let moved = store
        .write(move |tx| {
            Box::pin(async move { tx.transfer_work(HERE, member, BUILT_IN_MEMBER).await })
        })
        .await
        .unwrap();
    assert_eq!(moved, Moved { tasks: 1, ..Moved::default() });
    assert_eq!(store.task(made).await.unwrap().task.owner, Owner::BUILT_IN);
    // Who comes back is the same member.
    let back = join(&store, HERE, ada, Role::Viewer).await.unwrap();
    assert_eq!((back.id, back.role, back.removed), (member, Role::Viewer, None));
    assert!(store.find_key(key).await.unwrap().is_none(), "a dead key stays dead");
}

fn invitation(owner: Owner, hash: &str, role: Role, uses: u32) -> NewInvitation {
    NewInvitation {
        id: boatyard_model::InvitationId::new(),
        owner,
        hash: hash.to_owned(),
        role,
        email: None,
        uses,
        expires: Timestamp(2_000_000),
    }
}

async fn invite(store: &Store, new: NewInvitation) -> boatyard_store::InvitationRow {
    store.write(move |tx| Box::pin(tx.create_invitation(new))).await.unwrap()
}

async fn accept(store: &Store, hash: &'static str, person: PersonId) -> Result<MemberRow> {
    store.write(move |tx| Box::pin(async move { tx.accept_invitation(hash, person).await })).await
}

#[tokio::test]
async fn an_invitation_is_used_as_often_as_it_may_be_and_no_more() {
    let world = world().await;
    let store = world.store.clone();
    invite(&store, invitation(Owner::BUILT_IN, "three", Role::Viewer, 3)).await;
    let mut people = Vec::new();
    for n in 0..12 {
        people.push(person(&store, &format!("p{n}")).await);
    }
    let rush = people.iter().map(|person| accept(&store, "three", *person));
    let rushed = futures_util::future::join_all(rush).await;
    let (came, refused): (Vec<_>, Vec<_>) = rushed.into_iter().partition(Result::is_ok);
    assert_eq!((came.len(), refused.len()), (3, 9));
    for refused in refused {
        assert!(why(refused).contains("used 3 times"));
    }
    assert_eq!(store.count_members(HERE).await.unwrap(), 4);
    let row = store.invitation_by_hash("three").await.unwrap().unwrap();
    assert_eq!((row.used, row.state(store.now())), (3, InvitationState::Spent));
    assert!(matches!(accept(&store, "none", people[0]).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn an_invitation_is_for_whom_it_is_while_it_lasts() {
    let world = world().await;
    let (store, clock) = (world.store.clone(), &world.clock);
    let (ada, bob) = (person(&store, "ada").await, person(&store, "bob").await);
    let mut new = invitation(Owner::BUILT_IN, "ada's", Role::Admin, 1);
    new.email = Some("ada@example.com".into());
    invite(&store, new).await;
    assert!(why(accept(&store, "ada's", bob).await).contains("another mail address"));
    let admin = accept(&store, "ada's", ada).await.unwrap();
    assert_eq!(admin.role, Role::Admin);

    let open = invitation(Owner::BUILT_IN, "open", Role::Member, 9);
    let open = invite(&store, open).await;
    assert!(why(accept(&store, "open", ada).await).contains("already"));
    let row = store.invitation(HERE, open.id).await.unwrap();
    assert_eq!(row.used, 0, "who is there already uses nothing");
    // With the right to invite goes what was given by it.
    let hers = Owner { organization: HERE, member: admin.id };
    invite(&store, invitation(hers, "hers", Role::Member, 9)).await;
    set_role(&store, admin.id, Role::Member).await.unwrap();
    assert!(why(accept(&store, "hers", bob).await).contains("withdrawn"));
    clock.advance(1_000_000);
    assert!(why(accept(&store, "open", bob).await).contains("was good until"));
    assert_eq!(store.count_members(HERE).await.unwrap(), 2);
    let elsewhere = OrganizationId::new();
    let withdraw = store
        .write(move |tx| Box::pin(async move { tx.revoke_invitation(elsewhere, open.id).await }))
        .await;
    assert!(matches!(withdraw, Err(Error::NotFound { .. })), "not from another organization");
}

#[tokio::test]
async fn organizations_stand_beside_each_other_and_go_when_they_are_empty() {
    let world = world().await;
    let store = world.store.clone();
    let ada = person(&store, "ada").await;
    let create = |name: &'static str| {
        store
            .write(move |tx| Box::pin(async move { tx.create_organization(name, Some(ada)).await }))
    };
    let (second, owner) = create("Second").await.unwrap();
    assert_eq!(owner.unwrap().role, Role::Owner);
    assert!(why(create("second").await).contains("already"));
    let standings = store.list_standings(ada).await.unwrap();
    assert_eq!(standings.len(), 1);
    assert_eq!(standings[0].owner.organization, second.id);
    let id = second.id;
    let changed = store
        .write(move |tx| {
            Box::pin(async move {
                let private = Some(Visibility::Private);
                tx.change_organization(Owner::BUILT_IN, id, Some("2nd".into()), private).await
            })
        })
        .await
        .unwrap();
    assert_eq!((changed.name.as_str(), changed.visibility), ("2nd", Visibility::Private));

    let mut new = task("There");
    new.owner = standings[0].owner;
    let made = store.write(move |tx| Box::pin(tx.create_task(new))).await.unwrap().id();
    assert_eq!(
        store.list_tasks(HERE, boatyard_store::TaskFilter::default(), 10).await.unwrap().len(),
        0
    );
    let delete = |id| store.write(move |tx| Box::pin(tx.delete_organization(id)));
    assert!(why(delete(HERE).await).contains("the server itself"));
    assert!(why(delete(id).await).contains("under way"));
    store.write(move |tx| Box::pin(async move { tx.cancel_task(made, None).await })).await.unwrap();
    let bob = person(&store, "bob").await;
    let there = join(&store, id, bob, Role::Viewer).await.unwrap().id;
    assert!(why(delete(id).await).contains("is 1 other member in it"));
    store
        .write(move |tx| Box::pin(async move { tx.remove_member(id, there, None).await }))
        .await
        .unwrap();
    delete(id).await.unwrap();
    assert!(matches!(store.organization(id).await, Err(Error::NotFound { .. })));
    assert!(store.list_standings(ada).await.unwrap().is_empty());
    assert_eq!(store.organizations().await.unwrap().len(), 1);
    create("2nd").await.expect("the name is free again");
}

#[tokio::test]
async fn a_role_in_a_repository_is_a_members_own_or_everybodys() {
    let world = world().await;
    let store = world.store.clone();
    let source = RepositorySource::parse("https://example.com/a/b", "example.com").unwrap();
    let repository = store
        .write(move |tx| {
            Box::pin(async move { tx.find_or_create_repository(Owner::BUILT_IN, &source).await })
        })
        .await
        .unwrap()
        .id;
    let ada = person(&store, "ada").await;
    let ada = join(&store, HERE, ada, Role::Member).await.unwrap().id;
    let bob = person(&store, "bob").await;
    let bob = join(&store, HERE, bob, Role::Member).await.unwrap().id;
    let set = |everybody, members| {
        store.write(move |tx| {
            Box::pin(tx.set_repository_roles(Owner::BUILT_IN, repository, everybody, members))
        })
    };
    let role = |member| store.role_in_repository(repository, member, Role::Member);
    assert_eq!(role(ada).await.unwrap(), Some(Role::Member), "nothing was said");
    set(Some(RepositoryRole::None), vec![(ada, RepositoryRole::Viewer)]).await.unwrap();
    assert_eq!(role(ada).await.unwrap(), Some(Role::Viewer));
    assert_eq!(role(bob).await.unwrap(), None);
    let admin = store.role_in_repository(repository, bob, Role::Admin).await.unwrap();
    assert_eq!(admin, Some(Role::Admin));
    assert_eq!(store.repository_roles(repository).await.unwrap().len(), 2);
    let stranger = set(None, vec![(MemberId::new(), RepositoryRole::Viewer)]).await;
    assert!(matches!(stranger, Err(Error::NotFound { .. })));
    assert_eq!(role(bob).await.unwrap(), None, "what was refused changed nothing");
    remove(&store, ada, None).await.unwrap();
    assert_eq!(store.repository_roles(repository).await.unwrap().len(), 1);
    set(None, Vec::new()).await.unwrap();
    assert_eq!(role(bob).await.unwrap(), Some(Role::Member));
}

/// What may happen to one of five people.
#[derive(Debug, Clone, Copy)]
enum Step {
    Join(usize, Role),
    Role(usize, Role),
    Remove(usize),
    Transfer(usize, usize),
    Disable(usize),
    Enable(usize),
    Invite(usize, Role),
    Accept(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || 0..5_usize;
    let role = || prop::sample::select(Role::ALL.to_vec());
    let step = prop_oneof![
        3 => (who(), role()).prop_map(|(who, role)| Step::Join(who, role)),
        3 => (who(), role()).prop_map(|(who, role)| Step::Role(who, role)),
        3 => who().prop_map(Step::Remove),
        1 => (who(), who()).prop_map(|(from, to)| Step::Transfer(from, to)),
        1 => who().prop_map(Step::Disable),
        1 => who().prop_map(Step::Enable),
        2 => (who(), role()).prop_map(|(who, role)| Step::Invite(who, role)),
        2 => who().prop_map(Step::Accept),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_people_do_nobody_is_locked_out_and_no_dead_right_works(steps in steps()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let world = world().await;
            let store = &world.store;
            let mut people = vec![BUILT_IN_PERSON];
            for n in 1..5 {
                people.push(person(store, &format!("p{n}")).await);
            }
            let mut codes = 0;
            for step in steps {
                let all = store.members(HERE, None, Which::All, 200).await.unwrap();
                let member = |who: usize| {
                    all.iter().find(|row| row.person == Some(people[who])).map(|row| row.id)
                };
                // What is refused is refused; what matters is how things stand after it.
                match step {
                    Step::Join(who, role) => drop(join(store, HERE, people[who], role).await),
                    Step::Role(who, role) => {
                        if let Some(member) = member(who) {
                            drop(set_role(store, member, role).await);
                        }
                    }
                    Step::Remove(who) => {
                        if let Some(member) = member(who) {
                            drop(remove(store, member, None).await);
                        }
                    }
                    Step::Transfer(from, to) => {
                        if let (Some(from), Some(to)) = (member(from), member(to)) {
                            let by = Owner { organization: HERE, member: from };
                            let is_owner = all.iter().any(|row| {
                                row.id == from && row.role == Role::Owner && row.is_active()
                            });
                            if is_owner {
                                drop(store.write(move |tx| {
                                    Box::pin(async move { tx.transfer_organization(by, to).await })
                                }).await);
                            }
                        }
                    }
                    Step::Disable(who) | Step::Enable(who) => {
                        let disabled = Some(matches!(step, Step::Disable(_)));
                        let update = boatyard_store::PersonUpdate { disabled, ..Default::default() };
                        let id = people[who];
                        drop(store.write(move |tx| {
                            Box::pin(async move { tx.update_person(id, &update).await })
                        }).await);
                    }
                    Step::Invite(who, role) => {
                        let may = all.iter().find(|row| {
                            row.person == Some(people[who])
                                && row.is_active()
                                && row.role.includes(Role::Admin)
                                && row.role.includes(role)
                        });
                        if let Some(by) = may {
                            let by = Owner { organization: HERE, member: by.id };
                            codes += 1;
                            invite(store, invitation(by, &format!("code{codes}"), role, 2)).await;
                        }
                    }
                    Step::Accept(who) => {
                        let (code, person) = (format!("code{codes}"), people[who]);
                        drop(store.write(move |tx| {
                            Box::pin(async move { tx.accept_invitation(&code, person).await })
                        }).await);
                    }
                }
                let all = store.members(HERE, None, Which::All, 200).await.unwrap();
                let role_of = |member| {
                    all.iter().find(|row| row.id == member && row.removed.is_none())
                        .map(|row| row.role)
                };
                prop_assert!(owners(store).await > 0, "{step:?} left nobody who decides");
                for row in store.invitations(HERE, None, 200).await.unwrap() {
                    prop_assert!(row.used <= row.uses);
                    if row.state(store.now()) == InvitationState::Open {
                        let by = role_of(row.owner.member);
                        let may = by.is_some_and(|by| by.includes(Role::Admin) && by.includes(row.role));
                        prop_assert!(may, "{step:?}: {row:?} was given by one who is {by:?}");
                    }
                }
            }
            Ok(())
        })?;
    }
}
