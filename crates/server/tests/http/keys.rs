//! API keys: what each may do, how long, and what is remembered of it.

use boatyard_api::{
    Client, ProblemKind,
    key::{ApiKeyFilter, KeyCallFilter, KeysOf, MadeApiKey, NewApiKey},
};
use boatyard_model::{
    KeyKind, Role, Scope, Scopes, Timestamp,
    time::{Clock as _, SystemClock},
};
use boatyard_store::{BUILT_IN_ORGANIZATION, NewKey, NewPerson};
use reqwest::Method;
use serde_json::json;

use crate::machine::{Machine, problem_of};

fn wanted(name: &str) -> NewApiKey {
    NewApiKey { name: name.to_owned(), scopes: None, expires: None, service: None }
}

impl Machine {
    /// A client with another key.
    fn with_key(&self, secret: &str) -> Client {
        Client::new(&format!("http://{}", self.serving.address()), Some(secret)).unwrap()
    }

    /// Makes a key for these scopes.
    async fn key_for(&self, scopes: &[Scope]) -> (MadeApiKey, Client) {
        let scopes = Some(scopes.iter().copied().collect());
        let made = self.client.create_key(&NewApiKey { scopes, ..wanted("narrow") }).await.unwrap();
        let client = self.with_key(&made.secret);
        (made, client)
    }

    /// A key of somebody who is in the first organization with this role.
    async fn somebody(&self, role: Role, email: &str) -> Client {
        let (secret, hash) = boatyard_server::auth::new_key();
        let new = NewPerson {
            email: email.to_owned(),
            address: boatyard_store::Address::Verified,
            name: email.to_owned(),
            password: None,
        };
        let write = self.store.write(move |tx| {
            Box::pin(async move {
                let person = tx.create_person(&new).await?.expect("a new address");
                let owner = tx.join_organization(person, BUILT_IN_ORGANIZATION, role).await?;
                let key = NewKey {
                    kind: KeyKind::Personal,
                    ..NewKey::local(owner, "own".into(), "by_x".into(), hash)
                };
                tx.create_key(key).await
            })
        });
        write.await.unwrap();
        self.with_key(&secret)
    }
}

fn kind(error: boatyard_api::Error) -> (u16, String) {
    let problem = error.problem().unwrap_or_else(|| panic!("{error}"));
    (problem.status, problem.field.clone().unwrap_or_default())
}

#[tokio::test]
async fn a_key_is_shown_once_and_does_what_it_is_for_and_no_more() {
    let machine = Machine::start().await;
    let (made, client) = machine.key_for(&[Scope::TasksRead]).await;
    assert!(made.secret.starts_with(&made.key.prefix) && made.secret.len() > 40);
    let listed = machine.client.list_keys(&ApiKeyFilter::default()).await.unwrap();
    assert!(!serde_json::to_string(&listed).unwrap().contains(&made.secret));
    assert_eq!(listed.items.iter().filter(|key| key.current).count(), 1);

    client.list_tasks(&Default::default()).await.unwrap();
    // Who one is, every key may ask; the key itself, too.
    let me = client.whoami().await.unwrap();
    assert_eq!(me.scopes, Some(Scope::TasksRead.into()));
    let own = client.find_own_key().await.unwrap();
    assert_eq!((own.id, own.current), (made.key.id, true));
    for (method, path) in [
        (Method::POST, "/api/tasks"),
        (Method::GET, "/api/workspaces"),
        (Method::GET, "/api/api-keys"),
        (Method::POST, "/api/api-keys"),
        (Method::GET, "/api/connections"),
        (Method::POST, "/api/jobs"),
    ] {
        let request = machine.anonymous(method.clone(), path).bearer_auth(&made.secret);
        let problem = problem_of(request.json(&json!({})).send().await.unwrap()).await;
        assert!(problem.is(ProblemKind::NotAllowed), "{method} {path}: {problem:?}");
        assert!(problem.detail.contains("this key is not for"), "{problem:?}");
    }
}

#[tokio::test]
async fn nobody_makes_a_key_that_can_do_more_or_lasts_longer() {
    let machine = Machine::start().await;
    let soon = Timestamp(SystemClock.now().0 + 3_600_000);
    let new = NewApiKey {
        scopes: Some([Scope::KeysWrite, Scope::TasksRead].into_iter().collect()),
        expires: Some(soon),
        ..wanted("parent")
    };
    let parent = machine.client.create_key(&new).await.unwrap();
    let client = machine.with_key(&parent.secret);
    let try_with = async |new: NewApiKey| kind(client.create_key(&new).await.unwrap_err());
    let more = NewApiKey { scopes: Some(Scope::Approve.into()), ..wanted("more") };
    assert_eq!(try_with(more).await, (403, "scopes".to_owned()));
    let all = NewApiKey { scopes: Some(Scopes::ALL), ..wanted("all") };
    assert_eq!(try_with(all).await, (403, "scopes".to_owned()));
    let longer = NewApiKey { expires: Some(Timestamp(soon.0 + 1)), ..wanted("longer") };
    assert_eq!(try_with(longer).await, (400, "expires".to_owned()));
    let child = client.create_key(&wanted("child")).await.unwrap();
    assert_eq!((child.key.scopes, child.key.expires), (parent.key.scopes, Some(soon)));

    let full = &machine.client;
    let bad = async |new: NewApiKey| kind(full.create_key(&new).await.unwrap_err());
    let over = NewApiKey { expires: Some(Timestamp(1)), ..wanted("over") };
    assert_eq!(bad(over).await, (400, "expires".to_owned()));
    let nothing = NewApiKey { scopes: Some(Scopes::NONE), ..wanted("nothing") };
    assert_eq!(bad(nothing).await, (400, "scopes".to_owned()));
    for name in ["", "  ", "a\nb", &"x".repeat(81)] {
        assert_eq!(bad(wanted(name)).await, (400, "name".to_owned()), "{name:?}");
    }
    let owner = NewApiKey { service: Some(Role::Owner), ..wanted("owner") };
    assert_eq!(bad(owner).await, (400, "service".to_owned()));
}

#[tokio::test]
async fn a_key_that_is_revoked_or_over_says_so() {
    let machine = Machine::start().await;
    let (made, client) = machine.key_for(&[Scope::TasksRead]).await;
    client.list_tasks(&Default::default()).await.unwrap();
    for _ in 0..2 {
        machine.client.revoke_key(made.key.id).await.unwrap();
    }
    let error = client.list_tasks(&Default::default()).await.unwrap_err();
    assert!(error.to_string().contains("was revoked"), "{error}");
    let shown = machine.client.find_key(made.key.id).await.unwrap();
    assert!(shown.revoked.is_some());
    let filter = ApiKeyFilter::default();
    let works = machine.client.list_keys(&filter).await.unwrap().items;
    assert!(works.iter().all(|key| key.id != made.key.id));
    let all = machine.client.list_keys(&ApiKeyFilter { all: true, ..filter }).await.unwrap();
    assert!(all.items.iter().any(|key| key.id == made.key.id));

    let (secret, hash) = boatyard_server::auth::new_key();
    let over = NewKey {
        expires: Some(Timestamp(1)),
        ..NewKey::local(boatyard_store::Owner::BUILT_IN, "old".into(), "by_x".into(), hash)
    };
    machine.store.write(|tx| Box::pin(tx.create_key(over))).await.unwrap();
    let error = machine.with_key(&secret).list_tasks(&Default::default()).await.unwrap_err();
    assert!(error.to_string().contains("has expired"), "{error}");

    // A program signs out by itself, whatever its key is for.
    let (_, client) = machine.key_for(&[Scope::TasksRead]).await;
    client.revoke_own_key().await.unwrap();
    assert_eq!(kind(client.whoami().await.unwrap_err()).0, 401);
}

#[tokio::test]
async fn a_service_key_is_the_organization_s_and_has_its_role() {
    let machine = Machine::start().await;
    let new = NewApiKey { service: Some(Role::Viewer), ..wanted("builds") };
    let made = machine.client.create_key(&new).await.unwrap();
    assert_eq!((made.key.kind, made.key.role), (KeyKind::Service, Some(Role::Viewer)));
    let client = machine.with_key(&made.secret);
    let me = client.whoami().await.unwrap();
    assert_eq!((me.person, me.role, me.operator), (None, Role::Viewer, false));
    client.list_tasks(&Default::default()).await.unwrap();
    let request = machine.anonymous(Method::POST, "/api/tasks").bearer_auth(&made.secret);
    let body = json!({ "prompt": "p", "repository": "r" });
    let problem = problem_of(request.json(&body).send().await.unwrap()).await;
    assert!(problem.is(ProblemKind::NotAllowed), "{problem:?}");
    // It is nobody's, so it makes no key for a person.
    assert_eq!(kind(client.create_key(&wanted("x")).await.unwrap_err()).0, 403);
    machine.client.revoke_key(made.key.id).await.unwrap();
    assert_eq!(kind(client.whoami().await.unwrap_err()).0, 401);
    let filter = ApiKeyFilter { of: KeysOf::Organization, all: true };
    let listed = machine.client.list_keys(&filter).await.unwrap();
    let gone = listed.items.iter().find(|key| key.id == made.key.id).unwrap();
    assert_eq!(gone.role, None, "its member went with it");
}

#[tokio::test]
async fn keys_are_their_members_and_the_admins_business() {
    let machine = Machine::start().await;
    let member = machine.somebody(Role::Member, "member@example.com").await;
    let other = machine.somebody(Role::Member, "other@example.com").await;
    let admin = machine.somebody(Role::Admin, "admin@example.com").await;
    let key = member.create_key(&wanted("mine")).await.unwrap().key;
    assert_eq!((key.kind, key.role), (KeyKind::Personal, Some(Role::Member)));
    assert_eq!(other.list_keys(&ApiKeyFilter::default()).await.unwrap().items.len(), 1);
    let everybody = ApiKeyFilter { of: KeysOf::Organization, all: false };
    assert_eq!(kind(other.list_keys(&everybody).await.unwrap_err()), (403, "query.of".into()));
    assert_eq!(kind(other.find_key(key.id).await.unwrap_err()).0, 404);
    assert_eq!(kind(other.revoke_key(key.id).await.unwrap_err()).0, 404);
    let calls = KeyCallFilter::default();
    assert_eq!(kind(other.list_key_calls(key.id, &calls).await.unwrap_err()).0, 404);
    let service = NewApiKey { service: Some(Role::Viewer), ..wanted("s") };
    assert_eq!(kind(other.create_key(&service).await.unwrap_err()), (403, "service".into()));

    assert!(admin.list_keys(&everybody).await.unwrap().items.len() >= 5);
    // The server's own key is none of an admin's business, nor an owner's of one who is less.
    let own = machine.client.find_own_key().await.unwrap();
    assert_eq!(kind(admin.revoke_key(own.id).await.unwrap_err()).0, 403);
    admin.revoke_key(key.id).await.unwrap();
    assert!(member.find_key(key.id).await.unwrap().revoked.is_some());
}

#[tokio::test]
async fn what_is_called_with_a_key_is_remembered() {
    let machine = Machine::start().await;
    let (made, client) = machine.key_for(&[Scope::TasksRead]).await;
    for _ in 0..3 {
        client.list_tasks(&Default::default()).await.unwrap();
    }
    let refused = machine.anonymous(Method::GET, "/api/workspaces?x=secret");
    refused.bearer_auth(&made.secret).send().await.unwrap();
    let page = machine.client.list_key_calls(made.key.id, &KeyCallFilter::default()).await;
    let page = page.unwrap().items;
    let count = |path: &str, status| {
        let alike = page.iter().filter(|call| call.path == path && call.status == status);
        alike.map(|call| call.calls).sum::<u64>()
    };
    assert_eq!((count("/api/tasks", 200), count("/api/workspaces", 403)), (3, 1), "{page:?}");
    assert!(!format!("{page:?}").contains("secret"));
    let failed = KeyCallFilter { failed: true, limit: Some(1), cursor: None };
    let failed = machine.client.list_key_calls(made.key.id, &failed).await.unwrap();
    assert_eq!(failed.items[0].status, 403);
    let next = KeyCallFilter { failed: true, limit: Some(1), cursor: failed.next_cursor };
    let rest = machine.client.list_key_calls(made.key.id, &next).await.unwrap();
    assert!(rest.items.is_empty() && rest.next_cursor.is_none());
}
