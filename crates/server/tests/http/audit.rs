//! The audit log over HTTP: who, from where, what and when, whatever way in was taken.

use boatyard_api::{
    ProblemKind,
    audit::{AuditEntry, AuditEntryPage, AuditFilter, AuditOutcome, AuditPlace},
    identity::SignUp,
};
use boatyard_model::{
    Role,
    audit::{BEGINNING, Walk},
};
use boatyard_server::{auth::Admin, settings::Settings};
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::{
    machine::{Machine, problem_of},
    team,
};

const PASSWORD: &str = "quiet harbour lights";

async fn entries(machine: &Machine, query: &str) -> Vec<AuditEntry> {
    let page = machine.get(&format!("/api/audit?{query}")).await;
    assert_eq!(page.status(), 200);
    page.json::<AuditEntryPage>().await.unwrap().items
}

fn budget() -> Value {
    json!({ "scope": "organization", "limit_usd": 5.0 })
}

#[tokio::test]
async fn a_change_is_there_with_who_what_and_from_where_and_a_look_is_not() {
    let machine = Machine::start().await;
    machine.get("/api/tasks").await;
    let before = entries(&machine, "").await.len();
    let answer = machine
        .request(Method::POST, "/api/jobs")
        .header("x-request-id", "that-one")
        .json(&json!({ "name": "audit-log" }))
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    let all = entries(&machine, "").await;
    assert_eq!(all.len(), before + 1);
    let entry = &all[0];
    assert_eq!((entry.operation.as_str(), entry.outcome), ("run_job", AuditOutcome::Allowed));
    assert_eq!(entry.via, format!("key {}", machine.key));
    assert_eq!(entry.address.as_deref(), Some("127.0.0.1"));
    assert_eq!(entry.request.as_deref(), Some("that-one"));
    assert!(!entry.name.is_empty());
    for query in ["request=that-one", "operation=run_job", "address=127.0.0.1", "outcome=allowed"] {
        assert_eq!(entries(&machine, query).await[0].number, entry.number, "{query}");
    }
    assert!(entries(&machine, "operation=delete_task").await.is_empty());
}

#[tokio::test]
async fn who_may_not_is_written_down_and_what_is_wrong_is_not() {
    let machine = Machine::start().await;
    let viewer = team::member(&machine, "Vera", Role::Viewer).await;
    let before = entries(&machine, "").await.len();
    let asked = |body: Value| {
        machine
            .anonymous(Method::POST, "/api/budgets")
            .bearer_auth(&viewer.secret)
            .json(&body)
            .send()
    };
    assert_eq!(asked(budget()).await.unwrap().status(), 403);
    // Nobody, and nonsense.
    let nobody = machine.anonymous(Method::POST, "/api/budgets").json(&budget()).send();
    assert_eq!(nobody.await.unwrap().status(), 401);
    let nonsense = machine.request(Method::POST, "/api/budgets").json(&json!({ "x": 1 })).send();
    assert!(nonsense.await.unwrap().status().is_client_error());
    let all = entries(&machine, "").await;
    assert_eq!(all.len(), before + 1);
    let entry = &all[0];
    assert_eq!((entry.operation.as_str(), entry.outcome), ("set_budget", AuditOutcome::Denied));
    assert_eq!((entry.name.as_str(), entry.person), ("Vera", Some(viewer.person)));
    assert!(entry.reason.as_deref().unwrap().contains("viewer"), "{entry:?}");
    let by = format!("person={}&outcome=denied", viewer.person);
    assert_eq!(entries(&machine, &by).await.len(), 1);
    // The log itself is for admins.
    let look = machine.anonymous(Method::GET, "/api/audit").bearer_auth(&viewer.secret).send();
    assert!(problem_of(look.await.unwrap()).await.is(ProblemKind::NotAllowed));
}

#[tokio::test]
async fn sign_ins_and_their_refusals_are_written_down() {
    let mut settings = Settings::default();
    settings.sign_in.sign_up = Some(SignUp::Closed);
    let admin = Admin::read(Some("ada@example.com".into()), Some(PASSWORD.into())).unwrap();
    let machine = Machine::with(settings, admin).await;
    let login = async |password: &str| {
        let body = json!({ "email": "ada@example.com", "password": password });
        machine.anonymous(Method::POST, "/api/auth/login").json(&body).send().await.unwrap()
    };
    assert_eq!(login("not the password").await.status(), 401);
    let signed_in = login(PASSWORD).await;
    let cookie = signed_in.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    let identity: Value = signed_in.json().await.unwrap();

    let server = entries(&machine, "server=true&operation=sign_in").await;
    assert_eq!(server[0].outcome, AuditOutcome::Denied);
    assert_eq!(server[0].details["email"], "ada@example.com");
    assert_eq!(server[0].address.as_deref(), Some("127.0.0.1"));
    let own = entries(&machine, "operation=sign_in").await;
    assert_eq!((own.len(), own[0].outcome), (1, AuditOutcome::Allowed));
    assert_eq!(json!(own[0].person), identity["person"]);

    let cookie = cookie.split(';').next().unwrap();
    let out = machine
        .anonymous(Method::POST, "/api/auth/logout")
        .header(header::COOKIE, cookie)
        .header("x-boatyard-csrf", identity["csrf"].as_str().unwrap())
        .send();
    assert_eq!(out.await.unwrap().status(), 204);
    let last = &entries(&machine, "").await[0];
    assert_eq!(last.operation, "sign_out");
    assert!(last.via.starts_with("device "), "{last:?}");
    // Who was never in does not leave.
    let numbers = entries(&machine, "server=true").await.len();
    let out = machine.anonymous(Method::POST, "/api/auth/logout").send().await.unwrap();
    assert_eq!(out.status(), 204);
    assert_eq!(entries(&machine, "server=true").await.len(), numbers);
    // No secret is in either.
    for entry in server.iter().chain(&own) {
        let text = serde_json::to_string(entry).unwrap();
        assert!(!text.contains(PASSWORD) && !text.contains("not the password"), "{text}");
    }
}

#[tokio::test]
async fn each_organization_has_its_own_log() {
    let machine = Machine::start().await;
    let other = team::elsewhere(&machine, "Otto").await;
    let before = entries(&machine, "").await.len();
    other.client.list_audit(&AuditFilter::default()).await.unwrap();
    let change = machine
        .anonymous(Method::POST, "/api/budgets")
        .bearer_auth(&other.secret)
        .json(&budget())
        .send();
    assert!(change.await.unwrap().status().is_success());
    assert_eq!(entries(&machine, "").await.len(), before);
    let theirs = other.client.list_audit(&AuditFilter::default()).await.unwrap();
    assert_eq!(theirs.items[0].operation, "set_budget");
    assert_eq!(theirs.items[0].number, theirs.items.len() as u64);
    // The server's log is for those who run it.
    let server = AuditPlace { server: Some(true) };
    let error = other.client.check_audit(server).await.unwrap_err();
    assert!(error.problem().unwrap().is(ProblemKind::NotAllowed));
    assert!(machine.client.check_audit(server).await.unwrap().whole);
}

#[tokio::test]
async fn the_log_is_exported_checked_and_cut_back() {
    let machine = Machine::start().await;
    for _ in 0..5 {
        let set = machine.request(Method::POST, "/api/budgets").json(&budget()).send().await;
        assert!(set.unwrap().status().is_success());
    }
    // By pages, and in one piece.
    let first: AuditEntryPage = machine.get("/api/audit?limit=2").await.json().await.unwrap();
    let cursor = first.next_cursor.unwrap();
    let next = entries(&machine, &format!("limit=2&cursor={}", cursor.as_str())).await;
    assert_eq!(next[0].number + 1, first.items[1].number);
    let mut export = machine.client.export_audit(&AuditFilter::default()).await.unwrap();
    let mut text = Vec::new();
    while let Some(piece) = export.chunk().await.unwrap() {
        text.extend(piece);
    }
    let mut walk = Walk::after(0, BEGINNING.to_owned());
    for line in String::from_utf8(text).unwrap().lines() {
        walk.step(&serde_json::from_str(line).unwrap()).unwrap();
    }
    let report = machine.client.check_audit(AuditPlace::default()).await.unwrap();
    assert!(report.whole && report.fault.is_none());
    assert_eq!((report.last, &report.hash, report.entries), (walk.last, &walk.hash, walk.entries));

    // For how long is the owner's choice, and is written down.
    let kept = machine.client.find_audit_retention(AuditPlace::default()).await.unwrap();
    assert_eq!((kept.days, kept.chosen), (None, false));
    let set = machine
        .request(Method::PUT, "/api/audit/retention")
        .json(&json!({ "days": 30 }))
        .send()
        .await
        .unwrap();
    assert_eq!(set.json::<Value>().await.unwrap(), json!({ "days": 30, "chosen": true }));
    let last = &entries(&machine, "").await[0];
    assert_eq!(
        (last.operation.as_str(), last.details["days"].as_str()),
        ("set_audit_retention", "30")
    );
    let admin = team::member(&machine, "Adam", Role::Admin).await;
    let refused = machine
        .anonymous(Method::PUT, "/api/audit/retention")
        .bearer_auth(&admin.secret)
        .json(&json!({ "days": 1 }))
        .send();
    assert_eq!(refused.await.unwrap().status(), 403);
}

#[tokio::test]
async fn what_makes_no_sense_is_named() {
    let machine = Machine::start().await;
    for (query, field) in [
        ("operation=Delete+Task", "query.operation"),
        ("about=", "query.about"),
        ("person=x", "query.person"),
        ("outcome=maybe", "query.outcome"),
        ("from=2026-11-21T10:00:00Z&to=2026-11-20T10:00:00Z", "query.to"),
        ("cursor=x", "query.cursor"),
        ("limit=0", "query.limit"),
        ("who=me", "query.who"),
    ] {
        let problem = problem_of(machine.get(&format!("/api/audit?{query}")).await).await;
        assert!(problem.is(ProblemKind::Invalid), "{query}: {problem:?}");
        assert_eq!(problem.field.as_deref(), Some(field), "{query}");
    }
    let export = machine.request(Method::GET, "/api/audit?limit=5");
    let export = export.header(header::ACCEPT, "application/x-ndjson").send().await.unwrap();
    assert_eq!(problem_of(export).await.field.as_deref(), Some("query"));
    for days in [json!(36_501), json!(-1), json!("x")] {
        let body = json!({ "days": days });
        let set = machine.request(Method::PUT, "/api/audit/retention").json(&body).send().await;
        assert!(problem_of(set.unwrap()).await.is(ProblemKind::Invalid), "{days}");
    }
}

#[tokio::test]
async fn who_comes_new_is_named_and_what_the_server_does_at_its_start_is_its_own() {
    let mut settings = Settings::default();
    settings.sign_in.sign_up = Some(SignUp::Open);
    let admin = Admin::read(Some("ada@example.com".into()), Some(PASSWORD.into())).unwrap();
    let machine = Machine::with(settings, admin).await;
    let start = &entries(&machine, "operation=set_up").await[0];
    assert_eq!(
        (start.via.as_str(), start.details["email"].as_str()),
        ("server", "ada@example.com")
    );

    let sign_up = async |email: &str| {
        let body = json!({ "name": "Eve", "email": email, "password": PASSWORD });
        machine.anonymous(Method::POST, "/api/auth/sign-up").json(&body).send().await.unwrap()
    };
    assert_eq!(sign_up("ada@example.com").await.status(), 409);
    assert!(entries(&machine, "operation=sign_up").await.is_empty());
    assert!(entries(&machine, "server=true&operation=sign_up").await.is_empty());
    let made = sign_up("eve@example.com").await;
    assert_eq!(made.status(), 200, "{}", made.text().await.unwrap());
    let identity: Value = made.json().await.unwrap();
    let entry = &entries(&machine, "operation=sign_up").await[0];
    assert_eq!((entry.name.as_str(), entry.via.as_str()), ("Eve", "sign-up"));
    assert_eq!(json!(entry.person), identity["person"]);
    assert_eq!(entry.address.as_deref(), Some("127.0.0.1"));
    assert_eq!(entry.details["email"], "eve@example.com");
    assert!(machine.client.check_audit(AuditPlace::default()).await.unwrap().whole);
}

#[tokio::test]
async fn a_link_that_signs_in_is_written_down_and_so_is_one_that_does_not() {
    let machine = Machine::start().await;
    let enter = async |code: &str| {
        let page = machine.anonymous(Method::GET, &format!("/?code={code}")).send().await.unwrap();
        page.headers().get(header::SET_COOKIE).is_some()
    };
    assert!(!enter("once_made_up").await);
    let refused = &entries(&machine, "server=true&operation=enter").await[0];
    assert_eq!(refused.outcome, AuditOutcome::Denied);
    assert!(!serde_json::to_string(refused).unwrap().contains("made_up"));
    let link = machine.client.create_login_link().await.unwrap();
    let code = link.url.split("code=").nth(1).unwrap().to_owned();
    assert!(enter(&code).await);
    let entered = &entries(&machine, "operation=enter").await[0];
    assert_eq!(entered.outcome, AuditOutcome::Allowed);
    assert!(entered.person.is_some() && entered.details.contains_key("device"), "{entered:?}");
    // The page itself is looked at.
    machine.anonymous(Method::GET, "/").send().await.unwrap();
    machine.get("/").await;
    assert_eq!(entries(&machine, "operation=enter").await.len(), 1);
    assert_eq!(entries(&machine, "server=true&operation=enter").await.len(), 1);
}
