//! Organizations, members and invitations over HTTP, with people who have keys of their own.

use boatyard_api::{
    Client, ProblemKind,
    identity::ORGANIZATION_HEADER,
    organization::{
        InvitationCode, InvitationFilter, InvitationState, MemberFilter, MemberRemoval,
        MemberUpdate, NewInvitation, NewOrganization, OrganizationFilter, OrganizationTransfer,
        OrganizationUpdate, RepositoryAccess, RepositoryMember, WorkTransfer,
    },
};
use boatyard_model::{
    KeyKind, MemberId, OrganizationId, PersonId, RepositoryRole, Role, Scopes, Visibility,
};
use boatyard_store::{Address, BUILT_IN_ORGANIZATION, NewKey, NewPerson, Owner};
use reqwest::Method;
use serde_json::{Value, json};

use crate::machine::{Machine, problem_of};

const HERE: OrganizationId = BUILT_IN_ORGANIZATION;

/// Somebody with a key.
struct Somebody {
    person: PersonId,
    member: MemberId,
    secret: String,
    client: Client,
}

async fn person(machine: &Machine, name: &str) -> PersonId {
    let new = NewPerson {
        email: format!("{name}@example.com"),
        address: Address::Verified,
        name: name.to_owned(),
        password: None,
    };
    let write =
        machine.store.write(move |tx| Box::pin(async move { tx.create_person(&new).await }));
    write.await.unwrap().unwrap()
}

async fn key(machine: &Machine, owner: Owner) -> (String, Client) {
    let (secret, hash) = boatyard_server::auth::new_key();
    let new = NewKey {
        owner,
        kind: KeyKind::Personal,
        name: "test".into(),
        prefix: secret[..8].to_owned(),
        hash,
        scopes: Scopes::ALL,
        expires: None,
    };
    machine.store.write(|tx| Box::pin(async move { tx.create_key(new).await })).await.unwrap();
    let url = format!("http://{}", machine.serving.address());
    let client = Client::new(&url, Some(&secret)).unwrap();
    (secret, client)
}

async fn somebody(machine: &Machine, name: &str, role: Role) -> Somebody {
    let person = person(machine, name).await;
    let write = machine
        .store
        .write(move |tx| Box::pin(async move { tx.add_member(HERE, person, role).await }));
    let member = write.await.unwrap().id;
    let (secret, client) = key(machine, Owner { organization: HERE, member }).await;
    Somebody { person, member, secret, client }
}

fn kind<T: std::fmt::Debug>(result: boatyard_api::client::Result<T>) -> ProblemKind {
    let error = result.unwrap_err();
    error.problem().unwrap_or_else(|| panic!("{error}")).known_kind().unwrap()
}

fn invitation(role: Role) -> NewInvitation {
    NewInvitation { role, email: None, uses: None, expires_in: None, mail: None }
}

fn rename(name: &str) -> OrganizationUpdate {
    OrganizationUpdate { name: Some(name.to_owned()), ..OrganizationUpdate::default() }
}

#[tokio::test]
async fn roles_are_given_by_who_has_them_and_an_owner_stays() {
    let machine = Machine::start().await;
    let owner = &machine.client;
    let admin = somebody(&machine, "admin", Role::Admin).await;
    let viewer = somebody(&machine, "viewer", Role::Viewer).await;
    let me = owner.whoami().await.unwrap().member;
    let update = |role| MemberUpdate { role };

    let all = viewer.client.list_members(&MemberFilter::default()).await.unwrap();
    assert_eq!(all.items.len(), 3, "a viewer sees who there is");
    assert!(all.items.iter().any(|one| one.you && one.id == viewer.member));
    use ProblemKind::{Conflict, NotAllowed, NotFound};
    let by_viewer = viewer.client.update_member(viewer.member, &update(Role::Owner)).await;
    assert_eq!(kind(by_viewer), NotAllowed);
    // An admin decides on all but owners.
    let up = admin.client.update_member(viewer.member, &update(Role::Member)).await.unwrap();
    assert_eq!(up.role, Role::Member);
    let up = admin.client.update_member(viewer.member, &update(Role::Owner)).await;
    assert_eq!(kind(up), NotAllowed);
    assert_eq!(kind(admin.client.update_member(me, &update(Role::Admin)).await), NotAllowed);
    assert_eq!(kind(admin.client.remove_member(me, &MemberRemoval::default()).await), NotAllowed);
    assert_eq!(kind(admin.client.create_invitation(&invitation(Role::Owner)).await), NotAllowed);
    // The last owner stays one, whoever wants what.
    assert_eq!(kind(owner.update_member(me, &update(Role::Admin)).await), Conflict);
    assert_eq!(kind(owner.remove_member(me, &MemberRemoval::default()).await), Conflict);
    assert_eq!(kind(owner.leave_organization(HERE).await), Conflict);
    assert_eq!(kind(owner.find_member(MemberId::new()).await), NotFound);
    // Until there is another.
    let transfer = OrganizationTransfer { member: admin.member };
    assert_eq!(kind(admin.client.transfer_organization(HERE, &transfer).await), NotAllowed);
    let heir = owner.transfer_organization(HERE, &transfer).await.unwrap();
    assert_eq!(heir.role, Role::Owner);
    assert_eq!(owner.find_member(me).await.unwrap().role, Role::Admin);
    assert_eq!(kind(admin.client.leave_organization(HERE).await), Conflict);
}

#[tokio::test]
async fn who_is_removed_is_out_at_once_and_the_work_stays() {
    let machine = Machine::start().await;
    let ada = somebody(&machine, "ada", Role::Member).await;
    let bob = somebody(&machine, "bob", Role::Viewer).await;
    let order = json!({ "prompt": "do", "repository": "owner/repo" });
    let made = machine.anonymous(Method::POST, "/api/tasks").bearer_auth(&ada.secret);
    let made = made.json(&order).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let task: Value = made.json().await.unwrap();
    let removal = MemberRemoval { heir: Some(bob.member) };
    let refused = machine.client.remove_member(ada.member, &removal).await;
    let problem = refused.unwrap_err();
    let problem = problem.problem().unwrap();
    assert_eq!(problem.field.as_deref(), Some("query.heir"));
    assert!(problem.detail.contains("viewer"), "{problem:?}");
    machine.client.remove_member(ada.member, &MemberRemoval::default()).await.unwrap();
    assert_eq!(kind(ada.client.whoami().await), ProblemKind::Unauthenticated);
    let there = machine.get(&format!("/api/tasks/{}", task["id"].as_str().unwrap())).await;
    assert_eq!(there.status(), 200, "the task is still there");
    // What she left can be given to somebody, also afterwards.
    machine.client.update_member(bob.member, &MemberUpdate { role: Role::Member }).await.unwrap();
    let transfer = WorkTransfer { to: bob.member };
    let bad = bob.client.transfer_work(ada.member, &transfer).await;
    assert_eq!(kind(bad), ProblemKind::NotAllowed);
    let moved = machine.client.transfer_work(ada.member, &transfer).await.unwrap();
    assert_eq!(moved.tasks, 1);
    let gone = machine.client.find_member(ada.member).await.unwrap();
    assert!(gone.removed.is_some());
    let filter = MemberFilter { removed: Some(true), ..MemberFilter::default() };
    assert_eq!(machine.client.list_members(&filter).await.unwrap().items.len(), 3);
    assert_eq!(machine.client.list_members(&MemberFilter::default()).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn an_invitation_says_what_it_is_to_and_why_it_can_not_be_used() {
    let machine = Machine::start().await;
    let owner = &machine.client;
    let invited = owner.create_invitation(&invitation(Role::Member)).await.unwrap();
    let address = machine.serving.address();
    let code = invited.code.clone().unwrap();
    assert_eq!(invited.url.as_ref(), Some(&format!("http://{address}/invite?code={code}")));
    assert!(!format!("{invited:?}").contains(&code));
    let code = InvitationCode { code };
    let nobody = Client::new(&format!("http://{address}"), None).unwrap();
    let preview = nobody.preview_invitation(&code).await.unwrap();
    assert_eq!((preview.organization, preview.role), (HERE, Role::Member));
    assert_eq!(preview.organization_name, "Default");

    // Who has no account here is in another organization and comes in by the link.
    let second = owner.create_organization(&NewOrganization { name: "Two".into() }).await.unwrap();
    let (id, ada) = (second.id, person(&machine, "ada").await);
    let there = machine
        .store
        .write(move |tx| Box::pin(async move { tx.add_member(id, ada, Role::Member).await }))
        .await
        .unwrap()
        .id;
    let (_, client) = key(&machine, Owner { organization: id, member: there }).await;
    let joined = client.accept_invitation(&code).await.unwrap();
    assert_eq!((joined.organization, joined.role), (HERE, Role::Member));
    let found = owner.find_member(joined.member).await.unwrap();
    assert_eq!((found.person, found.name.as_str()), (Some(ada), "ada"));

    let bob = somebody(&machine, "bob", Role::Viewer).await;
    let spent = bob.client.accept_invitation(&code).await.unwrap_err();
    let spent = spent.problem().unwrap();
    assert!(spent.is(ProblemKind::Conflict) && spent.detail.contains("used already"), "{spent:?}");
    assert_eq!(kind(nobody.preview_invitation(&code).await), ProblemKind::Conflict);
    let wrong = InvitationCode { code: "join_0".into() };
    assert_eq!(kind(nobody.preview_invitation(&wrong).await), ProblemKind::NotFound);
    assert_eq!(kind(bob.client.accept_invitation(&wrong).await), ProblemKind::NotFound);

    let open = NewInvitation { uses: Some(5), ..invitation(Role::Viewer) };
    let open = owner.create_invitation(&open).await.unwrap();
    owner.withdraw_invitation(open.invitation.id).await.unwrap();
    let code = InvitationCode { code: open.code.unwrap() };
    let over = nobody.preview_invitation(&code).await.unwrap_err();
    assert!(over.problem().unwrap().detail.contains("withdrawn"));
    let listed = owner.list_invitations(&InvitationFilter::default()).await.unwrap().items;
    let states: Vec<_> = listed.iter().map(|one| one.state).collect();
    assert_eq!(states, [InvitationState::Withdrawn, InvitationState::Spent]);
    assert_eq!(
        kind(bob.client.list_invitations(&InvitationFilter::default()).await),
        ProblemKind::NotAllowed
    );
    for (bad, field) in [
        (json!({ "role": "member", "uses": 0 }), "uses"),
        (json!({ "role": "member", "uses": 1001 }), "uses"),
        (json!({ "role": "member", "uses": 2, "email": "a@b.c" }), "uses"),
        (json!({ "role": "member", "expires_in": 0 }), "expires_in"),
        (json!({ "role": "member", "expires_in": 99_999_999_u64 }), "expires_in"),
        (json!({ "role": "member", "email": "a b@c" }), "email"),
        (json!({ "role": "member", "email": "nobody" }), "email"),
        (json!({ "role": "king" }), "role"),
        (json!({ "role": "member", "mail": true }), "mail"),
    ] {
        let answer = machine.request(Method::POST, "/api/invitations").json(&bad).send().await;
        let problem = problem_of(answer.unwrap()).await;
        assert_eq!(problem.field.as_deref(), Some(field), "{bad}: {problem:?}");
    }
}

#[tokio::test]
async fn one_organization_does_not_exist_for_the_other() {
    let machine = Machine::start().await;
    let owner = &machine.client;
    let second = owner.create_organization(&NewOrganization { name: "Two".into() }).await.unwrap();
    assert_eq!((second.role, second.members), (Some(Role::Owner), 1));
    let ada = somebody(&machine, "ada", Role::Admin).await;
    use ProblemKind::{AlreadyExists, Conflict, Invalid, NotAllowed, NotFound, Unauthenticated};

    let mine = OrganizationFilter::default();
    assert_eq!(owner.list_organizations(&mine).await.unwrap().items.len(), 2);
    assert_eq!(ada.client.list_organizations(&mine).await.unwrap().items.len(), 1);
    let all = OrganizationFilter { all: Some(true) };
    assert_eq!(owner.list_organizations(&all).await.unwrap().items.len(), 2);
    assert_eq!(kind(ada.client.list_organizations(&all).await), NotAllowed);
    let new = NewOrganization { name: "Three".into() };
    assert_eq!(kind(ada.client.create_organization(&new).await), NotAllowed);
    assert_eq!(kind(ada.client.find_organization(second.id).await), NotFound);
    assert_eq!(kind(ada.client.update_organization(second.id, &rename("x")).await), NotFound);
    assert_eq!(kind(ada.client.delete_organization(second.id).await), NotFound);
    assert_eq!(kind(ada.client.leave_organization(second.id).await), NotFound);
    let elsewhere = ada.client.clone().in_organization(second.id);
    assert_eq!(kind(elsewhere.whoami().await), Unauthenticated, "a key is for one organization");

    // The server's own account is its person in each, one at a time.
    let there = owner.clone().in_organization(second.id);
    let me = there.whoami().await.unwrap();
    assert_eq!((me.organization, me.organization_name.as_str()), (second.id, "Two"));
    let order = json!({ "prompt": "do", "repository": "owner/repo" });
    let made = machine.request(Method::POST, "/api/tasks");
    let made = made.header(ORGANIZATION_HEADER, second.id.to_string()).json(&order);
    let made = made.send().await.unwrap();
    assert_eq!(made.status(), 201);
    let task: Value = made.json().await.unwrap();
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    assert!(problem_of(machine.get(&path).await).await.is(NotFound), "it is in the other one");
    let list: Value = machine.get("/api/tasks").await.json().await.unwrap();
    assert_eq!(list["items"], json!([]));
    let repositories: Value = machine.get("/api/repositories").await.json().await.unwrap();
    assert_eq!(repositories["items"], json!([]));
    let members = there.list_members(&MemberFilter::default()).await.unwrap().items;
    assert_eq!(members.len(), 1);
    assert_ne!(members[0].id, owner.whoami().await.unwrap().member);
    assert_eq!(kind(owner.find_member(members[0].id).await), NotFound);
    // Folders of the server's machine are the first organization's.
    let local = json!({ "source": "/etc" });
    let local = machine.request(Method::POST, "/api/repositories").json(&local);
    let local = local.header(ORGANIZATION_HEADER, second.id.to_string()).send().await.unwrap();
    assert!(problem_of(local).await.detail.contains("first organization"));

    assert_eq!(kind(owner.update_organization(second.id, &rename("default")).await), AlreadyExists);
    assert_eq!(kind(owner.update_organization(second.id, &rename(" ")).await), Invalid);
    assert_eq!(kind(owner.update_organization(second.id, &rename(&"x".repeat(81))).await), Invalid);
    let private = OrganizationUpdate {
        visibility: Some(Visibility::Private),
        ..OrganizationUpdate::default()
    };
    let changed = owner.update_organization(second.id, &private).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.visibility), ("Two", Visibility::Private));
    // It goes when nothing is left in it.
    assert_eq!(kind(owner.delete_organization(HERE).await), Conflict);
    assert_eq!(kind(there.delete_organization(second.id).await), Conflict, "a task is under way");
    let cancel = machine.request(Method::POST, &format!("{path}/cancel"));
    let cancel = cancel.header(ORGANIZATION_HEADER, second.id.to_string()).send().await.unwrap();
    assert_eq!(cancel.status(), 200);
    let workspaces: Value = machine
        .request(Method::GET, "/api/workspaces")
        .header(ORGANIZATION_HEADER, second.id.to_string())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    for workspace in workspaces["items"].as_array().unwrap() {
        let path = format!("/api/workspaces/{}", workspace["id"].as_str().unwrap());
        assert!(
            problem_of(machine.request(Method::DELETE, &path).send().await.unwrap())
                .await
                .is(NotFound)
        );
        let delete = machine.request(Method::DELETE, &path);
        let delete =
            delete.header(ORGANIZATION_HEADER, second.id.to_string()).send().await.unwrap();
        assert_eq!(delete.status(), 204);
    }
    there.delete_organization(second.id).await.unwrap();
    assert_eq!(kind(there.whoami().await), Unauthenticated);
    assert_eq!(owner.list_organizations(&all).await.unwrap().items.len(), 1);
    assert_eq!(ada.person, owner.find_member(ada.member).await.unwrap().person.unwrap());
}

#[tokio::test]
async fn a_repository_may_be_for_some_only() {
    let machine = Machine::start().await;
    let (ada, bob) = (
        somebody(&machine, "ada", Role::Member).await,
        somebody(&machine, "bob", Role::Member).await,
    );
    let made = machine.request(Method::POST, "/api/repositories");
    let made = made.json(&json!({ "source": "owner/repo" })).send().await.unwrap();
    let made: Value = made.json().await.unwrap();
    let id = made["id"].as_str().unwrap().parse().unwrap();
    let named = |member, role| RepositoryMember { member, role, name: None };
    let access = RepositoryAccess {
        everybody: Some(RepositoryRole::None),
        members: vec![named(ada.member, RepositoryRole::Viewer)],
    };
    use ProblemKind::{Invalid, NotAllowed, NotFound};
    assert_eq!(kind(ada.client.set_repository_access(id, &access).await), NotAllowed);
    let set = machine.client.set_repository_access(id, &access).await.unwrap();
    assert_eq!(set.members[0].name.as_deref(), Some("ada"));
    ada.client.find_repository(id).await.unwrap();
    assert_eq!(kind(bob.client.find_repository(id).await), NotFound);
    machine.client.find_repository(id).await.unwrap();
    let twice = RepositoryAccess {
        everybody: None,
        members: vec![
            named(ada.member, RepositoryRole::Viewer),
            named(ada.member, RepositoryRole::None),
        ],
    };
    assert_eq!(kind(machine.client.set_repository_access(id, &twice).await), Invalid);
    let stranger = RepositoryAccess {
        everybody: None,
        members: vec![named(MemberId::new(), RepositoryRole::Viewer)],
    };
    assert_eq!(kind(machine.client.set_repository_access(id, &stranger).await), NotFound);
    machine.client.set_repository_access(id, &RepositoryAccess::default()).await.unwrap();
    bob.client.find_repository(id).await.unwrap();
}
