//! Signing in by providers and by passkeys: a real provider on loopback, an authenticator in
//! software.

#[path = "sign_in/authenticator.rs"]
mod authenticator;
#[path = "sign_in/passkeys.rs"]
mod passkeys;
#[path = "sign_in/provider.rs"]
mod provider;

use boatyard_api::{
    ProblemKind,
    identity::{CSRF_HEADER, Identity, SignUp, Ways},
    sign_in::{LinkedAccountList, Refusal, SignInProvider, SignInSettings},
};
use boatyard_model::Role;
use boatyard_server::{
    auth::Admin,
    settings::{Secret, Settings, SignInProvider as Section},
};
use boatyard_store::{NewInvitation, Owner};
use reqwest::{Method, RequestBuilder, Response, header};
use serde_json::{Value, json};

use self::provider::{Provider, SECRET};
use crate::machine::{Machine, problem_of};

const URL: &str = "https://boat.example.com";
const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "quiet harbour lights";

/// A server that Ada has set up, with two ways to one provider.
struct House {
    machine: Machine,
    provider: Provider,
}

async fn house(change: impl FnOnce(&mut Settings)) -> House {
    let callback = |name: &str| format!("{URL}/api/auth/callback/{name}");
    let provider = Provider::start(&callback("team"), &callback("github")).await;
    let mut settings = Settings::default();
    settings.server.url = Some(URL.to_owned());
    settings.egress.ca_file = Some(provider.certificate());
    settings.sign_in.sign_up = Some(SignUp::Closed);
    let section = |client: &str| Section {
        issuer: Some(provider.issuer.clone()),
        client_id: Some(client.to_owned()),
        client_secret: Some(Secret::new(SECRET.to_owned())),
        ..Section::default()
    };
    let team = Section { scopes: vec!["groups".to_owned()], ..section("boatyard") };
    settings.sign_in_providers.insert("team".to_owned(), team);
    settings.sign_in_providers.insert("github".to_owned(), section("github-app"));
    change(&mut settings);
    House { machine: Machine::with(settings, admin()).await, provider }
}

fn admin() -> Option<Admin> {
    Admin::read(Some(EMAIL.into()), Some(PASSWORD.into())).unwrap()
}

/// A browser, with its cookies.
struct Browser<'m> {
    machine: &'m Machine,
    cookies: Vec<(String, String)>,
    csrf: String,
}

impl<'m> Browser<'m> {
    fn new(machine: &'m Machine) -> Self {
        Self { machine, cookies: Vec::new(), csrf: String::new() }
    }

    async fn of_ada(machine: &'m Machine) -> Self {
        let mut browser = Self::new(machine);
        let login = json!({ "email": EMAIL, "password": PASSWORD });
        assert_eq!(browser.post("/api/auth/login", &login).await.status(), 200);
        browser.who().await.unwrap();
        browser
    }

    fn asks(&self, method: Method, path: &str) -> RequestBuilder {
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let request = self.machine.anonymous(method, path).header(header::COOKIE, cookies);
        request.header(CSRF_HEADER, &self.csrf)
    }

    async fn send(&mut self, request: RequestBuilder) -> Response {
        let answer = request.send().await.unwrap();
        for set in answer.headers().get_all(header::SET_COOKIE) {
            let set = set.to_str().unwrap();
            assert!(set.contains("HttpOnly") && set.contains("Secure"), "{set}");
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    async fn get(&mut self, path: &str) -> Response {
        let request = self.asks(Method::GET, path);
        self.send(request).await
    }

    async fn post(&mut self, path: &str, body: &Value) -> Response {
        let request = self.asks(Method::POST, path).json(body);
        self.send(request).await
    }

    /// Where a request leads.
    async fn led(&mut self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap());
        let to = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
        if to.contains("refused=") {
            // Shown where a test fails.
            let log =
                self.machine.get("/api/audit?server=true&limit=1").await.text().await.unwrap();
            println!("{to}: {log}");
        }
        to
    }

    async fn who(&mut self) -> Option<Identity> {
        let answer = self.get("/api/auth/me").await;
        if answer.status() != 200 {
            return None;
        }
        let identity: Identity = answer.json().await.unwrap();
        self.csrf = identity.csrf.clone().unwrap();
        Some(identity)
    }

    /// The way back from the provider for this person, as a path.
    async fn away(&mut self, provider: &Provider, start: &str, name: &str) -> String {
        let away = self.led(start).await;
        assert!(away.starts_with(&provider.issuer), "{away}");
        for word in ["code_challenge=", "code_challenge_method=S256", "state="] {
            assert!(away.contains(word), "{word} in {away}");
        }
        let back = provider.visit(&away, name).await;
        back.strip_prefix(URL).expect(&back).to_owned()
    }

    /// Goes to the provider and back: where in the page that leads.
    async fn travel(&mut self, provider: &Provider, start: &str, name: &str) -> String {
        let back = self.away(provider, start, name).await;
        self.led(&back).await
    }
}

fn refused(refusal: Refusal, name: &str) -> String {
    format!("/?refused={}&provider={name}", refusal.as_str())
}

fn ann() -> Value {
    json!({ "email": "Ann@Example.com", "email_verified": true, "name": "Ann", "groups": ["crew"] })
}

const TEAM: &str = "/api/auth/start/team";

#[tokio::test]
async fn an_account_of_an_allowed_domain_gets_in_and_stays_the_same_person() {
    let House { machine, provider } = house(|settings| {
        settings.sign_in.sign_up = Some(SignUp::Domains);
        settings.sign_in.allowed_domains = Some(vec!["example.com".to_owned()]);
    })
    .await;
    provider.account("ann", ann()).await;
    let mut first = Browser::new(&machine);
    let start = format!("{TEAM}?next=/tasks");
    assert_eq!(first.travel(&provider, &start, "ann").await, "/tasks");
    let who = first.who().await.unwrap();
    assert_eq!((who.name.as_str(), who.email.as_deref()), ("Ann", Some("ann@example.com")));
    assert_eq!((who.role, who.operator), (Role::Member, false));
    // Whatever the provider calls her now, she is the same.
    provider.account("ann", json!({ "email": "other@elsewhere.net", "name": "Anna" })).await;
    let mut second = Browser::new(&machine);
    assert_eq!(second.travel(&provider, TEAM, "ann").await, "/");
    assert_eq!(second.who().await.unwrap().person, who.person);
    // An address that nobody vouches for is of no domain.
    let eve = json!({ "email": "eve@example.com", "email_verified": false, "name": "Eve" });
    provider.account("eve", eve).await;
    let to = Browser::new(&machine).travel(&provider, TEAM, "eve").await;
    assert_eq!(to, refused(Refusal::Closed, "team"));
    let elsewhere = json!({ "email": "eve@evil.net", "email_verified": true, "name": "Eve" });
    provider.account("eve2", elsewhere).await;
    let to = Browser::new(&machine).travel(&provider, TEAM, "eve2").await;
    assert_eq!(to, refused(Refusal::Closed, "team"));
    provider.account("mute", json!({ "name": "Mute" })).await;
    let to = Browser::new(&machine).travel(&provider, TEAM, "mute").await;
    assert_eq!(to, refused(Refusal::NoAddress, "team"));
}

#[tokio::test]
async fn only_the_browser_that_began_comes_back_and_only_once() {
    let House { machine, provider } =
        house(|settings| settings.sign_in.sign_up = Some(SignUp::Open)).await;
    provider.account("ann", ann()).await;
    let not_begun = refused(Refusal::NotBegun, "team");
    let mut browser = Browser::new(&machine);
    let back = browser.away(&provider, TEAM, "ann").await;
    // Somebody else's browser is led to the same address: nobody is signed in there.
    let mut other = Browser::new(&machine);
    assert_eq!(other.led(&back).await, not_begun);
    assert!(other.who().await.is_none());
    // Another state than the one that was carried.
    let (head, _) = back.split_once("state=").unwrap();
    let forged = format!("{head}state=0123456789abcdef0123456789abcdef&code=x");
    assert_eq!(browser.led(&forged).await, not_begun);
    for strange in ["", "?code=x", "?state=", "?state=a%0d%0ab&code=x", "?error=access_denied"] {
        let to = browser.led(&format!("/api/auth/callback/team{strange}")).await;
        assert_eq!(to, not_begun, "{strange}");
    }
    let carried = browser.cookies.clone();
    assert_eq!(browser.led(&back).await, "/");
    assert!(browser.who().await.is_some());
    // The same way once more, also with the cookie that was taken away.
    browser.cookies = carried.clone();
    assert_eq!(browser.led(&back).await, not_begun);
    assert!(browser.who().await.is_none());
    // A code that was used before, or never was, in a sign-in that was begun well.
    let mut thief = Browser::new(&machine);
    let away = thief.led(TEAM).await;
    let state = away.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let made_up = format!("/api/auth/callback/team?state={state}&code=made-up");
    assert_eq!(thief.led(&made_up).await, refused(Refusal::Code, "team"));
    // A code that was given out to another browser of another person.
    let mut victim = Browser::new(&machine);
    let stolen = victim.away(&provider, TEAM, "ann").await;
    let code = stolen.split("code=").nth(1).unwrap().split('&').next().unwrap();
    let away = thief.led(TEAM).await;
    let state = away.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let injected = format!("/api/auth/callback/team?state={state}&code={code}");
    assert_eq!(thief.led(&injected).await, refused(Refusal::Code, "team"), "PKCE");
    assert!(thief.who().await.is_none());
    // The provider says no.
    let to = Browser::new(&machine).travel(&provider, TEAM, "nobody").await;
    assert_eq!(to, refused(Refusal::Denied, "team"));
    let unknown = Browser::new(&machine).led("/api/auth/start/nobody").await;
    assert_eq!(unknown, "/?refused=no_provider");
    // Nobody is led elsewhere.
    let mut browser = Browser::new(&machine);
    let start = format!("{TEAM}?next=//evil.example");
    assert_eq!(browser.travel(&provider, &start, "ann").await, "/");
}

#[tokio::test]
async fn a_provider_that_is_down_or_answers_nonsense_lets_nobody_in() {
    let House { machine, provider } =
        house(|settings| settings.sign_in.sign_up = Some(SignUp::Open)).await;
    provider.account("ann", ann()).await;
    // Begun while its document is not known.
    for (mode, refusal) in [
        ("down", Refusal::Unreachable),
        ("text", Refusal::Nonsense),
        ("another", Refusal::Nonsense),
    ] {
        provider.behave(mode).await;
        let to = Browser::new(&machine).led(TEAM).await;
        assert_eq!(to, refused(refusal, "team"), "{mode}");
    }
    // Its keys are not those that it signs with.
    provider.behave("other-key").await;
    let mut browser = Browser::new(&machine);
    let to = browser.travel(&provider, TEAM, "ann").await;
    assert_eq!(to, refused(Refusal::Nonsense, "team"));
    assert!(browser.who().await.is_none());
    // It says so to who asks on purpose, too, and is asked anew by that.
    let check = |machine: &Machine| {
        machine.request(Method::POST, "/api/sign-in/providers/team/check").send()
    };
    provider.behave("down").await;
    let found: Value = check(&machine).await.unwrap().json().await.unwrap();
    assert_eq!(found["good"], false, "{found}");
    provider.behave("good").await;
    let found: Value = check(&machine).await.unwrap().json().await.unwrap();
    assert_eq!(found["good"], true, "{found}");
    let mut browser = Browser::new(&machine);
    let back = browser.away(&provider, TEAM, "ann").await;
    provider.behave("no-token").await;
    assert_eq!(browser.led(&back).await, refused(Refusal::Nonsense, "team"));
    provider.behave("good").await;
    assert_eq!(browser.travel(&provider, TEAM, "ann").await, "/");
    // What came to nothing is in the audit log, with the reason; and who came in.
    let log = async |path: &str| machine.get(path).await.text().await.unwrap();
    let nobody = log("/api/audit?server=true&operation=finish_sign_in").await;
    assert!(nobody.contains("denied") && nobody.contains("identity token"), "{nobody}");
    let somebody = log("/api/audit?operation=finish_sign_in").await;
    assert!(somebody.contains("allowed") && somebody.contains("Ann"), "{somebody}");
}

#[tokio::test]
async fn an_address_links_nothing_by_itself() {
    let House { machine, provider } = house(|_| ()).await;
    // Somebody at the provider has the address of the one who runs the server.
    let ada = json!({ "email": EMAIL, "email_verified": true, "name": "Ada" });
    provider.account("ada", ada).await;
    let to = Browser::new(&machine).travel(&provider, TEAM, "ada").await;
    assert_eq!(to, refused(Refusal::AddressTaken, "team"));
    // Who is signed in links it.
    let link = format!("{TEAM}?link=true&next=/account");
    assert_eq!(Browser::new(&machine).led(&link).await, refused(Refusal::NotBegun, "team"));
    let mut browser = Browser::of_ada(&machine).await;
    assert_eq!(browser.travel(&provider, &link, "ada").await, "/account");
    let mut other = Browser::new(&machine);
    assert_eq!(other.travel(&provider, TEAM, "ada").await, "/");
    let who = other.who().await.unwrap();
    assert_eq!((who.email.as_deref(), who.operator), (Some(EMAIL), true));
    let accounts: LinkedAccountList = browser.get("/api/auth/accounts").await.json().await.unwrap();
    assert_eq!(accounts.items[0].provider, "team");
    // One who was signed out meanwhile links nothing.
    let back = browser.away(&provider, &link, "ada").await;
    assert_eq!(browser.post("/api/auth/logout", &json!({})).await.status(), 204);
    assert_eq!(browser.led(&back).await, refused(Refusal::NotBegun, "team"));
    let mut browser = Browser::of_ada(&machine).await;
    let path = format!("/api/auth/accounts/{}", accounts.items[0].id);
    let gone = browser.asks(Method::DELETE, &path);
    assert_eq!(browser.send(gone).await.status(), 204);
    let to = Browser::new(&machine).travel(&provider, TEAM, "ada").await;
    assert_eq!(to, refused(Refusal::AddressTaken, "team"));
}

#[tokio::test]
async fn a_trusted_provider_vouches_for_addresses() {
    let House { machine, provider } = house(|settings| {
        settings.sign_in_providers.get_mut("team").unwrap().trust_email = true;
    })
    .await;
    provider.account("ada", json!({ "email": EMAIL, "name": "Ada" })).await;
    let mut browser = Browser::new(&machine);
    assert_eq!(browser.travel(&provider, TEAM, "ada").await, "/");
    assert!(browser.who().await.unwrap().operator);
    // The account is somebody's now, and no other person can have it.
    let link = format!("{TEAM}?link=true");
    let hash = boatyard_server::auth::hash_of("inv_open");
    let work = machine.store.write(move |tx| {
        Box::pin(async move {
            let expires = tx.now().after(std::time::Duration::from_secs(3600));
            let new = NewInvitation {
                id: boatyard_model::InvitationId::new(),
                owner: Owner::BUILT_IN,
                hash,
                role: Role::Viewer,
                email: None,
                uses: 1,
                expires,
            };
            tx.create_invitation(new).await
        })
    });
    work.await.unwrap();
    provider.account("ben", json!({ "email": "ben@elsewhere.net", "name": "Ben" })).await;
    let mut ben = Browser::new(&machine);
    let start = format!("{TEAM}?invitation=inv_open");
    assert_eq!(ben.travel(&provider, &start, "ben").await, "/");
    let who = ben.who().await.unwrap();
    assert_eq!((who.role, who.name.as_str()), (Role::Viewer, "Ben"));
    assert_eq!(ben.travel(&provider, &link, "ada").await, refused(Refusal::AccountTaken, "team"));
    // The invitation is spent.
    provider.account("cy", json!({ "email": "cy@elsewhere.net", "name": "Cy" })).await;
    for code in ["inv_open", "inv_never"] {
        let start = format!("{TEAM}?invitation={code}");
        let to = Browser::new(&machine).travel(&provider, &start, "cy").await;
        assert_eq!(to, refused(Refusal::Invitation, "team"), "{code}");
    }
    // Who was switched off stays out.
    let person = who.person.unwrap();
    let off = machine.request(Method::PATCH, &format!("/api/people/{person}"));
    let off = off.json(&json!({ "disabled": true })).send().await.unwrap();
    assert_eq!(off.status(), 200, "{}", off.text().await.unwrap());
    assert!(ben.who().await.is_none());
    let to = Browser::new(&machine).travel(&provider, TEAM, "ben").await;
    assert_eq!(to, refused(Refusal::Disabled, "team"));
}

#[tokio::test]
async fn groups_give_change_and_take_roles() {
    let House { machine, provider } = house(|settings| {
        let team = settings.sign_in_providers.get_mut("team").unwrap();
        team.groups = vec!["crew=member".into(), "captains=admin".into(), "x=admin@Nowhere".into()];
    })
    .await;
    let with = |groups: &[&str]| {
        json!({ "email": "ann@example.com", "email_verified": true, "name": "Ann",
            "groups": groups })
    };
    let visit = async |groups: &[&str]| {
        provider.account("ann", with(groups)).await;
        let mut browser = Browser::new(&machine);
        let to = browser.travel(&provider, TEAM, "ann").await;
        (to, browser.who().await.map(|who| who.role))
    };
    let closed = refused(Refusal::Closed, "team");
    assert_eq!(visit(&[]).await, (closed.clone(), None));
    assert_eq!(visit(&["others", "x"]).await, (closed, None));
    let home = || "/".to_owned();
    assert_eq!(visit(&["crew", "others"]).await, (home(), Some(Role::Member)));
    assert_eq!(visit(&["crew", "captains"]).await, (home(), Some(Role::Admin)));
    assert_eq!(visit(&["crew"]).await, (home(), Some(Role::Member)));
    let out = refused(Refusal::NoOrganization, "team");
    assert_eq!(visit(&[]).await, (out, None));
    assert_eq!(visit(&["captains"]).await, (home(), Some(Role::Admin)));
    // What was given by hand stays: the only owner is no member of the crew.
    let mut ada = Browser::of_ada(&machine).await;
    provider.account("ada", json!({ "email": EMAIL, "name": "Ada", "groups": ["crew"] })).await;
    let link = format!("{TEAM}?link=true");
    assert_eq!(ada.travel(&provider, &link, "ada").await, "/");
    assert_eq!(ada.who().await.unwrap().role, Role::Owner);
}

#[tokio::test]
async fn github_says_who_somebody_is_by_its_api() {
    let House { machine, provider } = house(|settings| {
        let github = settings.sign_in_providers.get_mut("github").unwrap();
        github.kind = Some(boatyard_api::sign_in::ProviderKind::Github);
        github.groups = vec!["Acme/core=admin".into()];
    })
    .await;
    let octo = json!({ "number": 4711, "name": "Octo", "teams": ["acme/core"], "groups": ["acme"],
        "emails": [
            { "email": "old@example.com", "primary": false, "verified": true },
            { "email": "octo@example.com", "primary": true, "verified": true },
        ] });
    provider.account("octo", octo).await;
    let start = "/api/auth/start/github";
    let mut browser = Browser::new(&machine);
    assert_eq!(browser.travel(&provider, start, "octo").await, "/");
    let who = browser.who().await.unwrap();
    assert_eq!((who.email.as_deref(), who.role), (Some("octo@example.com"), Role::Admin));
    // Of an address that GitHub has not verified nothing follows.
    let fake = json!({ "number": 4712, "name": "Fake", "teams": ["acme/core"],
        "emails": [{ "email": EMAIL, "primary": true, "verified": false }] });
    provider.account("fake", fake).await;
    let to = Browser::new(&machine).travel(&provider, start, "fake").await;
    assert_eq!(to, refused(Refusal::NoAddress, "github"));
    // A code that was used.
    let mut thief = Browser::new(&machine);
    let away = thief.led(start).await;
    let state = away.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let made_up = format!("/api/auth/callback/github?state={state}&code=made-up");
    assert_eq!(thief.led(&made_up).await, refused(Refusal::Code, "github"));
    provider.behave("down").await;
    let away = thief.led(start).await;
    let state = away.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let late = format!("/api/auth/callback/github?state={state}&code=made-up");
    let to = thief.led(&late).await;
    assert_ne!(to, "/");
    assert!(thief.who().await.is_none());
}

#[tokio::test]
async fn providers_are_set_up_by_the_api_and_nobody_locks_everybody_out() {
    let House { machine, provider } = house(|_| ()).await;
    let path = "/api/sign-in/providers";
    let settings =
        |issuer: &str| json!({ "kind": "oidc", "issuer": issuer, "client_id": "boatyard" });
    let send = async |method: Method, path: &str, body: Value| {
        machine.request(method, path).json(&body).send().await.unwrap()
    };
    for (field, body) in [
        (
            "name",
            json!({ "name": "A B", "settings": settings("https://a.example"), "client_secret": "x" }),
        ),
        (
            "settings.issuer",
            json!({ "name": "own", "settings": settings("http://a.example"), "client_secret": "x" }),
        ),
        (
            "client_secret",
            json!({ "name": "own", "settings": settings("https://a.example"), "client_secret": " " }),
        ),
        (
            "name",
            json!({ "name": "team", "settings": settings("https://a.example"), "client_secret": "x" }),
        ),
    ] {
        let problem = problem_of(send(Method::POST, path, body).await).await;
        assert_eq!(problem.field.as_deref(), Some(field), "{problem:?}");
    }
    let new =
        json!({ "name": "own", "settings": settings(&provider.issuer), "client_secret": SECRET });
    let made = send(Method::POST, path, new).await;
    assert_eq!(made.status(), 201);
    let made: SignInProvider = made.json().await.unwrap();
    assert_eq!(made.callback, format!("{URL}/api/auth/callback/own"));
    let all = machine.get(path).await.text().await.unwrap();
    assert!(!all.contains(SECRET), "{all}");
    let ways: Ways = machine.get("/api/auth/ways").await.json().await.unwrap();
    let names: Vec<_> = ways.providers.iter().map(|way| way.name.as_str()).collect();
    assert_eq!(names, ["github", "own", "team"]);
    // The file's can't be changed here; another address needs its own secret.
    let update = |issuer: &str| json!({ "settings": settings(issuer) });
    let of_file = send(Method::PUT, &format!("{path}/team"), update("https://a.example")).await;
    assert!(problem_of(of_file).await.is(ProblemKind::Conflict));
    let moved = send(Method::PUT, &format!("{path}/own"), update("https://a.example")).await;
    assert_eq!(problem_of(moved).await.field.as_deref(), Some("client_secret"));
    // A new key of the vault leaves it usable.
    let rekeyed = send(Method::POST, "/api/connections/rekey", json!({ "data": true })).await;
    assert_eq!(rekeyed.json::<Value>().await.unwrap()["sealed"], 1);
    let good = send(Method::POST, &format!("{path}/own/check"), json!({})).await;
    assert_eq!(good.json::<Value>().await.unwrap()["good"], true);
    // Ada has a password only: it can't be switched off.
    let off = send(Method::PUT, "/api/sign-in", json!({ "password": false })).await;
    assert!(problem_of(off).await.is(ProblemKind::Conflict));
    let of_file = send(Method::PUT, "/api/sign-in", json!({ "sign_up": "open" })).await;
    assert_eq!(problem_of(of_file).await.field.as_deref(), Some("sign_up"));
    let bad = send(Method::PUT, "/api/sign-in", json!({ "allowed_domains": ["a b"] })).await;
    assert_eq!(problem_of(bad).await.field.as_deref(), Some("allowed_domains[0]"));
    let mut ada = Browser::of_ada(&machine).await;
    provider.account("ada", json!({ "email": EMAIL, "name": "Ada" })).await;
    assert_eq!(ada.travel(&provider, &format!("{TEAM}?link=true"), "ada").await, "/");
    let off = send(Method::PUT, "/api/sign-in", json!({ "password": false })).await;
    let now: SignInSettings = off.json().await.unwrap();
    assert!(!now.password.on);
    let login = json!({ "email": EMAIL, "password": PASSWORD });
    let answer = Browser::new(&machine).post("/api/auth/login", &login).await;
    assert_ne!(answer.status(), 200);
    let accounts: LinkedAccountList = ada.get("/api/auth/accounts").await.json().await.unwrap();
    let last = ada.asks(Method::DELETE, &format!("/api/auth/accounts/{}", accounts.items[0].id));
    assert!(problem_of(ada.send(last).await).await.is(ProblemKind::Conflict), "her only way");
    let gone = machine.request(Method::DELETE, &format!("{path}/own")).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    // Who does not run the server learns nothing of it.
    for (method, path) in [(Method::GET, path), (Method::GET, "/api/sign-in")] {
        let nobody = machine.anonymous(method, path).send().await.unwrap();
        assert!(problem_of(nobody).await.is(ProblemKind::Unauthenticated));
    }
}

#[tokio::test]
async fn an_account_that_waits_under_another_s_address_is_joined_by_nobody() {
    let House { machine, provider } = house(|settings| {
        settings.sign_in_providers.get_mut("team").unwrap().trust_email = true;
    })
    .await;
    // Somebody signed up as Eve, with a password, before she came.
    let new = boatyard_store::NewPerson {
        email: "eve@example.com".to_owned(),
        address: boatyard_store::Address::Claimed,
        name: "Not Eve".to_owned(),
        password: Some(boatyard_store::PasswordHash("kept".to_owned())),
    };
    let work = machine.store.write(move |tx| {
        Box::pin(async move {
            let person = tx.create_person(&new).await?.expect("a new address");
            tx.add_member(boatyard_store::BUILT_IN_ORGANIZATION, person, Role::Member).await
        })
    });
    work.await.unwrap();
    provider.account("eve", json!({ "email": "eve@example.com", "name": "Eve" })).await;
    let to = Browser::new(&machine).travel(&provider, TEAM, "eve").await;
    assert_eq!(to, refused(Refusal::AddressTaken, "team"));
}
