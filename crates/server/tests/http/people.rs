//! Accounts: setting a server up, signing in and up, browsers, everybody's accounts.

use boatyard_api::{
    ProblemKind,
    identity::{CSRF_HEADER, Devices, Identity, LoginLink, Person, PersonPage, SignUp, Ways},
};
use boatyard_model::Role;
use boatyard_server::{auth::Admin, settings::Settings};
use boatyard_store::{Address, NewInvitation, Owner};
use reqwest::{Method, RequestBuilder, Response, header};
use serde_json::{Value, json};

use crate::machine::{Machine, problem_of};

const PASSWORD: &str = "quiet harbour lights";

/// Settings of a server for several people.
fn team(sign_up: SignUp) -> Settings {
    let mut settings = Settings::default();
    settings.sign_in.sign_up = Some(sign_up);
    settings.sign_in.allowed_domains = Some(vec!["example.com".to_owned()]);
    settings
}

/// A server that Ada has set up.
async fn set_up(sign_up: SignUp) -> Machine {
    let admin = Admin::read(Some("ada@example.com".into()), Some(PASSWORD.into())).unwrap();
    Machine::with(team(sign_up), admin).await
}

/// A browser that is signed in.
struct Browser<'m> {
    machine: &'m Machine,
    cookie: String,
    identity: Identity,
}

impl<'m> Browser<'m> {
    async fn of(machine: &'m Machine, answer: Response) -> Self {
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        let set = answer.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
        let cookie = set.split(';').next().unwrap().to_owned();
        Self { machine, cookie, identity: answer.json().await.unwrap() }
    }

    async fn sign_in(machine: &'m Machine, email: &str, password: &str) -> Self {
        Self::of(machine, login(machine, email, password).await).await
    }

    fn asks(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.machine.anonymous(method, path).header(header::COOKIE, &self.cookie);
        request.header(CSRF_HEADER, self.identity.csrf.clone().unwrap())
    }

    async fn status(&self, method: Method, path: &str, body: Value) -> u16 {
        self.asks(method, path).json(&body).send().await.unwrap().status().as_u16()
    }

    async fn is_signed_in(&self) -> bool {
        self.asks(Method::GET, "/api/auth/me").send().await.unwrap().status() == 200
    }

    async fn devices(&self) -> Devices {
        let answer = self.asks(Method::GET, "/api/auth/devices").send().await.unwrap();
        answer.json().await.unwrap()
    }
}

async fn post(machine: &Machine, path: &str, body: &Value) -> Response {
    machine.anonymous(Method::POST, path).json(body).send().await.unwrap()
}

async fn login(machine: &Machine, email: &str, password: &str) -> Response {
    post(machine, "/api/auth/login", &json!({ "email": email, "password": password })).await
}

async fn sign_up(machine: &Machine, email: &str, invitation: Option<&str>) -> Response {
    let mut body = json!({ "name": "Somebody", "email": email, "password": PASSWORD });
    if let Some(code) = invitation {
        body["invitation"] = code.into();
    }
    post(machine, "/api/auth/sign-up", &body).await
}

async fn ways(machine: &Machine) -> Ways {
    machine.anonymous(Method::GET, "/api/auth/ways").send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn whoever_has_the_printed_code_first_owns_the_server_and_nobody_else() {
    let machine = Machine::with(team(SignUp::Closed), None).await;
    assert_eq!(serde_json::to_value(ways(&machine).await.state).unwrap(), "setup");
    let entry = machine.serving.entry(machine.key);
    let code = entry.url.split_once("/setup?code=").expect(&entry.url).1.to_owned();
    let form = |code: &str, n: usize| {
        json!({ "code": code, "name": format!("Person {n}"), "password": PASSWORD,
            "email": format!("person{n}@example.com") })
    };
    for (field, bad) in [
        ("code", json!({ "code": "setup_00" })),
        ("email", json!({ "email": "nobody" })),
        ("name", json!({ "name": " " })),
        ("password", json!({ "password": "short" })),
        ("password", json!({ "password": null })),
    ] {
        let mut body = form(&code, 0);
        body.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        let problem = problem_of(post(&machine, "/api/auth/setup", &body).await).await;
        assert_eq!(problem.field.as_deref(), Some(field), "{problem:?}");
    }
    let early = problem_of(sign_up(&machine, "eve@example.com", None).await).await;
    assert!(early.is(ProblemKind::Conflict));
    // A bad form has not used the code up; of eight who fill it well at once, one has it.
    let all = (0..8).map(|n| {
        let body = form(&code, n);
        let machine = &machine;
        async move { post(machine, "/api/auth/setup", &body).await }
    });
    let mut winners = Vec::new();
    for answer in futures_util::future::join_all(all).await {
        match answer.status().as_u16() {
            200 => winners.push(Browser::of(&machine, answer).await),
            _ => {
                let problem = problem_of(answer).await;
                let late =
                    problem.is(ProblemKind::Conflict) || problem.is(ProblemKind::Unauthenticated);
                assert!(late, "{problem:?}");
            }
        }
    }
    assert_eq!(winners.len(), 1);
    let owner = winners.pop().unwrap();
    assert_eq!((owner.identity.role, owner.identity.operator), (Role::Owner, true));
    assert_eq!(serde_json::to_value(ways(&machine).await.state).unwrap(), "people");
    let late = problem_of(post(&machine, "/api/auth/setup", &form(&code, 9)).await).await;
    assert!(late.is(ProblemKind::Conflict), "{late:?}");
    assert!(
        !machine.serving.entry(machine.key).url.contains("code"),
        "no code is printed any more"
    );
    // The key of the machine's account speaks for the same person.
    let whoami = machine.client.whoami().await.unwrap();
    assert_eq!((whoami.person, whoami.name), (owner.identity.person, owner.identity.name.clone()));
}

#[tokio::test]
async fn a_server_for_one_has_no_setup() {
    let machine = Machine::start().await;
    assert_eq!(serde_json::to_value(ways(&machine).await.state).unwrap(), "single");
    assert!(machine.serving.entry(machine.key).url.contains("/?code=once_"));
    let body = json!({ "code": "setup_00", "name": "Eve", "email": "eve@example.com",
        "password": PASSWORD });
    let problem = problem_of(post(&machine, "/api/auth/setup", &body).await).await;
    assert!(problem.is(ProblemKind::Conflict), "{problem:?}");
    let problem = problem_of(sign_up(&machine, "eve@example.com", None).await).await;
    assert!(problem.is(ProblemKind::Conflict), "{problem:?}");
}

#[tokio::test]
async fn an_address_and_its_password_sign_in_and_nothing_is_told_about_others() {
    let machine = set_up(SignUp::Closed).await;
    let ada = Browser::sign_in(&machine, " ADA@example.com", PASSWORD).await;
    assert_eq!(ada.identity.email.as_deref(), Some("ada@example.com"));
    assert_eq!(ada.identity.organizations.len(), 1);
    assert_eq!((ada.identity.role, ada.identity.scopes), (Role::Owner, None));
    let wrong = problem_of(login(&machine, "ada@example.com", "quiet harbour light").await).await;
    let nobody = problem_of(login(&machine, "eve@example.com", PASSWORD).await).await;
    assert!(wrong.is(ProblemKind::Unauthenticated));
    assert_eq!((wrong.detail.as_str(), &wrong.field), (nobody.detail.as_str(), &nobody.field));
    for (field, body) in [
        ("email", json!({})),
        ("email", json!({ "password": "x" })),
        ("password", json!({ "email": "ada@example.com" })),
        ("key", json!({ "key": "by_x", "email": "ada@example.com" })),
        ("email", json!({ "email": "no address", "password": "x" })),
    ] {
        let problem = problem_of(post(&machine, "/api/auth/login", &body).await).await;
        assert_eq!(problem.field.as_deref(), Some(field), "{body}");
    }
    assert!(ada.is_signed_in().await);
    assert_eq!(ada.status(Method::POST, "/api/auth/logout", json!({})).await, 204);
    assert!(!ada.is_signed_in().await, "the cookie itself is worth nothing any more");
}

#[tokio::test]
async fn browsers_are_listed_and_signed_out_one_by_one_and_all() {
    let machine = set_up(SignUp::Open).await;
    let sign_in = || Browser::sign_in(&machine, "ada@example.com", PASSWORD);
    let (one, two, three) = (sign_in().await, sign_in().await, sign_in().await);
    let eve = Browser::of(&machine, sign_up(&machine, "eve@example.com", None).await).await;
    let devices = one.devices().await;
    assert_eq!(devices.items.len(), 3);
    let current = |devices: &Devices| devices.items.iter().find(|one| one.current).unwrap().id;
    let path = format!("/api/auth/devices/{}", current(&two.devices().await));
    let foreign = eve.asks(Method::DELETE, &path).send().await.unwrap();
    assert!(problem_of(foreign).await.is(ProblemKind::NotFound), "it is not hers");
    assert_eq!(one.status(Method::DELETE, &path, json!({})).await, 204);
    assert!(!two.is_signed_in().await && three.is_signed_in().await);
    assert_eq!(one.status(Method::DELETE, "/api/auth/devices?others=true", json!({})).await, 204);
    assert!(one.is_signed_in().await && !three.is_signed_in().await);
    assert_eq!(one.status(Method::DELETE, "/api/auth/devices", json!({})).await, 204);
    assert!(!one.is_signed_in().await && eve.is_signed_in().await);
}

#[tokio::test]
async fn a_new_password_needs_the_one_before_or_an_operator_s_link() {
    let machine = set_up(SignUp::Closed).await;
    let sign_in = |password: &'static str| Browser::sign_in(&machine, "ada@example.com", password);
    let (here, there) = (sign_in(PASSWORD).await, sign_in(PASSWORD).await);
    let change = |browser: &Browser<'_>, body: Value| {
        browser.asks(Method::POST, "/api/auth/password").json(&body).send()
    };
    let next = "another harbour at night";
    for (field, body) in [
        ("current", json!({ "password": next })),
        ("current", json!({ "current": "wrong", "password": next })),
        ("password", json!({ "current": PASSWORD, "password": "password12" })),
    ] {
        let problem = problem_of(change(&here, body).await.unwrap()).await;
        assert_eq!(problem.field.as_deref(), Some(field));
    }
    let body = json!({ "current": PASSWORD, "password": next });
    assert_eq!(change(&here, body).await.unwrap().status(), 204);
    assert!(here.is_signed_in().await && !there.is_signed_in().await);
    assert_eq!(login(&machine, "ada@example.com", PASSWORD).await.status(), 401);
    let here = sign_in(next).await;
    // A link that one makes for oneself is none for a new password: a stolen browser could.
    let person = here.identity.person.unwrap();
    let own = here.asks(Method::POST, "/api/auth/links").send().await.unwrap();
    let own = by_link(&machine, own.json().await.unwrap()).await;
    let problem = problem_of(change(&own, json!({ "password": PASSWORD })).await.unwrap()).await;
    assert_eq!(problem.field.as_deref(), Some("current"));
    let link = here.asks(Method::POST, &format!("/api/people/{person}/links")).send().await;
    let reset = by_link(&machine, link.unwrap().json().await.unwrap()).await;
    let answer = change(&reset, json!({ "password": PASSWORD })).await.unwrap();
    assert_eq!(answer.status(), 204);
    assert!(!here.is_signed_in().await && reset.is_signed_in().await);
    sign_in(PASSWORD).await;
}

/// A browser that opens a link.
async fn by_link(machine: &Machine, link: LoginLink) -> Browser<'_> {
    let path = link.url.strip_prefix(&format!("http://{}", machine.serving.address())).unwrap();
    let answer = machine.anonymous(Method::GET, path).send().await.unwrap();
    assert_eq!(answer.headers()[header::LOCATION], "/");
    let set = answer.headers()[header::SET_COOKIE].to_str().unwrap();
    let cookie = set.split(';').next().unwrap().to_owned();
    let me = machine.anonymous(Method::GET, "/api/auth/me").header(header::COOKIE, &cookie);
    Browser { machine, cookie, identity: me.send().await.unwrap().json().await.unwrap() }
}

#[tokio::test]
async fn who_may_sign_up_is_a_choice_and_an_invitation_always_may() {
    for (choice, own, other) in
        [(SignUp::Closed, 403, 403), (SignUp::Domains, 403, 403), (SignUp::Open, 200, 200)]
    {
        let machine = set_up(choice).await;
        // Nobody knows whether this address is theirs: that it is of the domain says nothing.
        let answer = sign_up(&machine, "bob@example.com", None).await;
        assert_eq!(answer.status(), own, "{choice:?}");
        assert_eq!(sign_up(&machine, "eve@elsewhere.net", None).await.status(), other);
        let code = invite(&machine, None).await;
        let bad = problem_of(sign_up(&machine, "carl@elsewhere.net", Some("inv_x")).await).await;
        assert_eq!(bad.field.as_deref(), Some("invitation"));
        let carl = sign_up(&machine, "carl@elsewhere.net", Some(&code)).await;
        let carl = Browser::of(&machine, carl).await;
        assert_eq!((carl.identity.role, carl.identity.operator), (Role::Viewer, false));
        let spent = problem_of(sign_up(&machine, "dan@elsewhere.net", Some(&code)).await).await;
        assert!(spent.is(ProblemKind::Conflict), "{spent:?}");
        let code = invite(&machine, None).await;
        let taken = problem_of(sign_up(&machine, "Carl@elsewhere.net", Some(&code)).await).await;
        assert!(taken.is(ProblemKind::AlreadyExists), "{taken:?}");
        // What was refused has made nobody, and has not used the invitation up.
        assert_eq!(sign_up(&machine, "dan@elsewhere.net", Some(&code)).await.status(), 200);
    }
}

async fn invite(machine: &Machine, email: Option<&str>) -> String {
    let code = format!("invite-{}", boatyard_model::InvitationId::new());
    let new = NewInvitation {
        id: boatyard_model::InvitationId::new(),
        owner: Owner::BUILT_IN,
        hash: boatyard_server::auth::hash_of(&code),
        role: Role::Viewer,
        email: email.map(str::to_owned),
        uses: 1,
        expires: machine.store.now().after(std::time::Duration::from_secs(60)),
    };
    let made = machine.store.write(|tx| Box::pin(tx.create_invitation(new)));
    made.await.unwrap();
    code
}

#[tokio::test]
async fn operators_see_all_accounts_and_can_end_them_but_not_the_last_of_themselves() {
    let machine = set_up(SignUp::Open).await;
    let ada = Browser::sign_in(&machine, "ada@example.com", PASSWORD).await;
    let eve = Browser::of(&machine, sign_up(&machine, "eve@example.com", None).await).await;
    assert_eq!(eve.status(Method::GET, "/api/people", json!({})).await, 403);
    let people = ada.asks(Method::GET, "/api/people?limit=1").send().await.unwrap();
    let people: PersonPage = people.json().await.unwrap();
    assert_eq!((people.items.len(), people.items[0].operator), (1, true));
    let cursor = people.next_cursor.unwrap();
    let path = format!("/api/people?limit=1&cursor={}", cursor.as_str());
    let rest: PersonPage = ada.asks(Method::GET, &path).send().await.unwrap().json().await.unwrap();
    assert_eq!(rest.items[0].email.as_deref(), Some("eve@example.com"));
    assert_eq!((rest.items[0].verified, &rest.next_cursor), (false, &None));
    let of = |id| format!("/api/people/{id}");
    let (me, her) = (ada.identity.person.unwrap(), eve.identity.person.unwrap());
    for change in [json!({ "operator": false }), json!({ "disabled": true })] {
        let refused = ada.asks(Method::PATCH, &of(me)).json(&change).send().await.unwrap();
        assert!(problem_of(refused).await.is(ProblemKind::Conflict), "{change}");
    }
    let disabled = ada.asks(Method::PATCH, &of(her)).json(&json!({ "disabled": true }));
    let disabled: Person = disabled.send().await.unwrap().json().await.unwrap();
    assert!(disabled.disabled);
    assert!(!eve.is_signed_in().await, "at once");
    let refused = problem_of(login(&machine, "eve@example.com", PASSWORD).await).await;
    assert!(refused.is(ProblemKind::NotAllowed) && refused.detail.contains("disabled"));
    let wrong = problem_of(login(&machine, "eve@example.com", "some other words").await).await;
    assert!(wrong.is(ProblemKind::Unauthenticated), "whoever can't prove it learns nothing");
    let back = json!({ "disabled": false, "operator": true });
    assert_eq!(ada.status(Method::PATCH, &of(her), back).await, 200);
    let eve = Browser::sign_in(&machine, "eve@example.com", PASSWORD).await;
    assert_eq!(eve.status(Method::GET, "/api/people", json!({})).await, 200);
    // She owns nothing alone; Ada is the organization's one owner.
    assert_eq!(eve.status(Method::PATCH, &of(me), json!({ "operator": false })).await, 200);
    let refused = eve.asks(Method::PATCH, &of(me)).json(&json!({ "disabled": true }));
    let refused = problem_of(refused.send().await.unwrap()).await;
    assert!(refused.is(ProblemKind::Conflict), "{refused:?}");
}

#[tokio::test]
async fn a_person_goes_from_one_organization_to_another() {
    let machine = set_up(SignUp::Closed).await;
    let ada = Browser::sign_in(&machine, "ada@example.com", PASSWORD).await;
    let person = ada.identity.person.unwrap();
    let made = machine.store.write(move |tx| {
        Box::pin(async move { tx.create_organization("Second", Some(person)).await })
    });
    let second = made.await.unwrap().0.id;
    let body = json!({ "organization": second });
    let there = ada.asks(Method::POST, "/api/auth/organization").json(&body).send().await.unwrap();
    let there: Identity = there.json().await.unwrap();
    assert_eq!((there.organization, there.organization_name.as_str()), (second, "Second"));
    assert_eq!(there.organizations.len(), 2);
    let me = ada.asks(Method::GET, "/api/auth/me").send().await.unwrap();
    assert!(me.headers().contains_key(header::SET_COOKIE), "it stays signed in for longer");
    assert_eq!(me.json::<Identity>().await.unwrap().organization, second);
    let back = ada.asks(Method::GET, "/api/auth/me");
    let back = back.header("X-Boatyard-Organization", ada.identity.organization.to_string());
    let back: Identity = back.send().await.unwrap().json().await.unwrap();
    assert_eq!(back.organization, ada.identity.organization);
    let foreign = json!({ "organization": boatyard_model::OrganizationId::new() });
    assert_eq!(ada.status(Method::POST, "/api/auth/organization", foreign).await, 404);
}

#[tokio::test]
async fn the_environment_sets_up_once_and_leaves_alone_what_is_there() {
    let machine = set_up(SignUp::Closed).await;
    let row = machine.store.find_person(boatyard_store::BUILT_IN_PERSON).await.unwrap().unwrap();
    assert_eq!(row.email.as_deref(), Some("ada@example.com"));
    assert!(row.verified.is_some() && row.operator);
    let again = boatyard_store::NewPerson {
        email: "eve@example.com".to_owned(),
        address: Address::Claimed,
        name: "Eve".to_owned(),
        password: None,
    };
    let claim =
        machine.store.write(move |tx| Box::pin(async move { tx.claim_built_in(&again).await }));
    assert_eq!(claim.await.unwrap(), boatyard_store::Claim::Late);
}
