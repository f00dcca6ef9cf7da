//! What one tries who wants more than is theirs.

use boatyard_api::{
    ProblemKind,
    usage::{BudgetScope, NewBudget},
};
use boatyard_model::{KeyKind, Role, Scope, Visibility};
use boatyard_server::{auth::Admin, settings::Settings};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    machine::{Machine, problem_of},
    team,
};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "quiet harbour lights";

#[tokio::test]
async fn nobody_is_locked_out_by_what_strangers_get_wrong() {
    let admin = Admin::read(Some(EMAIL.into()), Some(PASSWORD.into())).unwrap();
    let mut settings = Settings::default();
    settings.server.trusted_proxies = vec!["127.0.0.1".to_owned()];
    settings.rates.sign_in_account = 2;
    let machine = Machine::with(settings, admin).await;
    let tries = async |address: &str, password: &str| {
        let login = machine.anonymous(Method::POST, "/api/auth/login");
        let login = login.header("x-forwarded-for", address);
        let login = login.json(&json!({ "email": EMAIL, "password": password }));
        login.send().await.unwrap().status().as_u16()
    };
    assert_eq!(tries("198.51.100.7", PASSWORD).await, 200);
    for expected in [401, 401, 429] {
        assert_eq!(tries("203.0.113.1", "not this one").await, expected);
    }
    // The address that guessed is kept out, also with the right one; another is not.
    assert_eq!(tries("203.0.113.1", PASSWORD).await, 429);
    assert_eq!(tries("203.0.113.2", PASSWORD).await, 200);
    for n in 11..15 {
        assert_eq!(tries(&format!("203.0.113.{n}"), "not this one").await, 401);
    }
    assert_eq!(tries("203.0.113.15", PASSWORD).await, 429, "strangers have used up theirs");
    assert_eq!(tries("198.51.100.7", PASSWORD).await, 200, "who was here before comes in");
}

#[tokio::test]
async fn a_key_makes_nothing_that_signs_in_for_more() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let narrow = [Scope::Account].into_iter().collect();
    let (_, secret) = team::key(&machine, ana.owner, KeyKind::Personal, narrow, None).await;
    let paths = ["/api/auth/password", "/api/auth/passkeys/register/begin"];
    for (path, key) in paths.iter().flat_map(|path| [(path, &secret), (path, &ana.secret)]) {
        let asks = machine.anonymous(Method::POST, path).bearer_auth(key);
        let answer = asks.json(&json!({ "password": PASSWORD })).send().await.unwrap();
        // Without an address nobody has a password anyway.
        let problem = problem_of(answer).await;
        assert!(problem.is(ProblemKind::NotAllowed), "{path}: {problem:?}");
        assert!(problem.detail.contains("makes no way to sign in"), "{problem:?}");
    }
    let owner = machine.client.whoami().await.unwrap();
    let built_in = boatyard_store::Owner { organization: owner.organization, member: owner.member };
    let narrow = [Scope::ServerWrite].into_iter().collect();
    let (_, secret) = team::key(&machine, built_in, KeyKind::Local, narrow, None).await;
    let path = format!("/api/people/{}/links", ana.person);
    let asks = machine.anonymous(Method::POST, &path).bearer_auth(&secret);
    assert_eq!(asks.send().await.unwrap().status(), 403);
    assert_eq!(machine.request(Method::POST, &path).send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn another_s_idempotency_key_is_another_key() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let ben = team::member(&machine, "Ben", Role::Member).await;
    let order = async |secret: &str, prompt: &str| {
        let asks = machine.anonymous(Method::POST, "/api/tasks").bearer_auth(secret);
        let body = json!({ "prompt": prompt, "repository": "owner/repo", "visibility": "private" });
        let answer = asks.header("idempotency-key", "one").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{prompt}");
        let task: Value = answer.json().await.unwrap();
        task["id"].as_str().unwrap().to_owned()
    };
    let hers = order(&ana.secret, "do").await;
    assert_eq!(order(&ana.secret, "do").await, hers);
    let his = order(&ben.secret, "do").await;
    assert_ne!(his, hers);
    let cy = team::member(&machine, "Cy", Role::Member).await;
    order(&cy.secret, "something else").await;
}

#[tokio::test]
async fn nobody_is_made_to_pay_for_what_a_member_gives_away() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let ben = team::member(&machine, "Ben", Role::Member).await;
    team::session(&machine, ana.owner, Visibility::Open).await;
    let transfer = boatyard_api::organization::WorkTransfer { to: ben.owner.member };
    let refused = ana.client.transfer_work(ana.owner.member, &transfer).await.unwrap_err();
    assert!(refused.problem().unwrap().is(ProblemKind::NotAllowed));
    let moved = machine.client.transfer_work(ana.owner.member, &transfer).await.unwrap();
    assert_eq!((moved.workspaces, moved.sessions), (1, 1));
}

#[tokio::test]
async fn budgets_and_sums_tell_nothing_of_what_one_may_not_see() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let vera = team::member(&machine, "Vera", Role::Viewer).await;
    let order = machine.anonymous(Method::POST, "/api/tasks").bearer_auth(&ana.secret);
    let order =
        order.json(&json!({ "prompt": "do", "repository": "owner/repo", "visibility": "private" }));
    let task: Value = order.send().await.unwrap().json().await.unwrap();
    let task = task["id"].as_str().unwrap();
    let subjects = [
        (BudgetScope::Organization, None),
        (BudgetScope::Person, Some(ana.owner.member.to_string())),
        (BudgetScope::Task, Some(task.to_owned())),
    ];
    for (scope, subject) in subjects {
        let new = NewBudget { scope, subject, period: None, limit_usd: 4.0 };
        machine.client.set_budget(&new).await.unwrap();
    }
    let seen = async |secret: &str| {
        let asks = machine.anonymous(Method::GET, "/api/budgets").bearer_auth(secret);
        let list: Value = asks.send().await.unwrap().json().await.unwrap();
        list["items"].as_array().unwrap().len()
    };
    assert_eq!((seen(&ana.secret).await, seen(&vera.secret).await), (3, 1));
    let path = format!("/api/usage?task={task}");
    let asks = async |secret: &str| {
        let asks = machine.anonymous(Method::GET, &path).bearer_auth(secret);
        asks.send().await.unwrap().status().as_u16()
    };
    assert_eq!((asks(&ana.secret).await, asks(&vera.secret).await), (200, 404));
}

#[tokio::test]
async fn a_repository_that_is_not_for_one_is_not_under_another_spelling_either() {
    let machine = Machine::start().await;
    let ben = team::member(&machine, "Ben", Role::Member).await;
    let add = async |secret: Option<&str>, source: &str| {
        let asks = match secret {
            Some(secret) => {
                machine.anonymous(Method::POST, "/api/repositories").bearer_auth(secret)
            }
            None => machine.request(Method::POST, "/api/repositories"),
        };
        asks.json(&json!({ "source": source })).send().await.unwrap()
    };
    let made: Value = add(None, "owner/payroll").await.json().await.unwrap();
    let path = format!("/api/repositories/{}/access", made["id"].as_str().unwrap());
    let set = async |everybody: &str| {
        let set = machine.request(Method::PUT, &path);
        let body = json!({ "everybody": everybody, "members": [] });
        assert_eq!(set.json(&body).send().await.unwrap().status(), 200);
    };
    set("none").await;
    let spellings = [
        "owner/payroll",
        "https://github.com/owner/payroll",
        "https://github.com/owner/payroll.git",
        "https://github.com/Owner/Payroll",
        "https://github.com:443/owner/payroll",
        "ssh://git@github.com/owner/payroll",
        "git@github.com:owner/payroll.git",
    ];
    for source in spellings {
        assert_eq!(add(Some(&ben.secret), source).await.status(), 404, "{source}");
    }
    assert_eq!(add(Some(&ben.secret), "owner/payroll2").await.status(), 201);
    // A row that somebody else made under another spelling is the same repository.
    let twin: Value = add(None, spellings[2]).await.json().await.unwrap();
    let twin = format!("/api/repositories/{}", twin["id"].as_str().unwrap());
    let asks = async || {
        let asks = machine.anonymous(Method::GET, &twin).bearer_auth(&ben.secret);
        asks.send().await.unwrap().status().as_u16()
    };
    assert_eq!(asks().await, 404);
    set("viewer").await;
    assert_eq!(asks().await, 200);
    let order = machine.anonymous(Method::POST, "/api/tasks").bearer_auth(&ben.secret);
    let order = order.json(&json!({ "prompt": "do", "repository": spellings[2] }));
    assert_eq!(order.send().await.unwrap().status(), 403);
}
