//! How the page signs in.

use boatyard_api::{
    ProblemKind,
    identity::{CSRF_HEADER, Identity},
};
use reqwest::{Method, Response, header};
use serde_json::json;

use crate::machine::{Machine, problem_of};

/// The cookie that an answer sets, as a request sends it.
fn cookie(answer: &Response) -> String {
    let set = answer.headers()[header::SET_COOKIE].to_str().unwrap();
    for word in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(word), "{word} in {set}");
    }
    set.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_printed_link_signs_a_browser_in_once() {
    let machine = Machine::start().await;
    let link = machine.serving.login_link(machine.key);
    let path = link.url.strip_prefix(&format!("http://{}", machine.serving.address())).unwrap();
    let first = machine.anonymous(Method::GET, path).send().await.unwrap();
    assert_eq!(
        (first.status().as_u16(), &first.headers()[header::LOCATION]),
        (303, &"/".parse().unwrap())
    );
    let cookie = cookie(&first);
    let again = machine.anonymous(Method::GET, path).send().await.unwrap();
    assert_eq!(again.headers()[header::LOCATION], "/?link=used");
    assert!(!again.headers().contains_key(header::SET_COOKIE));

    let me = machine.anonymous(Method::GET, "/api/auth/me").header(header::COOKIE, &cookie);
    let me: Identity = me.send().await.unwrap().json().await.unwrap();
    let csrf = me.csrf.unwrap();
    let job = |csrf: &str| {
        let request = machine.anonymous(Method::POST, "/api/jobs").header(header::COOKIE, &cookie);
        request.header(CSRF_HEADER, csrf).json(&json!({ "name": "none-such" })).send()
    };
    assert!(problem_of(job("").await.unwrap()).await.is(ProblemKind::NotAllowed));
    assert!(problem_of(job(&csrf).await.unwrap()).await.is(ProblemKind::Invalid));
    let out = machine.anonymous(Method::POST, "/api/auth/logout").header(header::COOKIE, &cookie);
    let out = out.send().await.unwrap();
    assert_eq!(out.status(), 204);
    assert!(out.headers()[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn a_key_signs_in_too_and_nothing_else_does() {
    let machine = Machine::start().await;
    let login = |key: &str| {
        machine.anonymous(Method::POST, "/api/auth/login").json(&json!({ "key": key })).send()
    };
    let answer = login(&machine.secret).await.unwrap();
    assert_eq!(answer.status(), 200);
    cookie(&answer);
    for bad in ["", "by_", "once_00", "by_0000", &"x".repeat(10_000)] {
        let problem = problem_of(login(bad).await.unwrap()).await;
        assert!(problem.is(ProblemKind::Unauthenticated), "{bad}");
    }
    let identity = machine.client.whoami().await.unwrap();
    assert_eq!((identity.name.as_str(), identity.csrf), ("Owner", None));
    let link = machine.client.create_login_link().await.unwrap();
    assert!(link.url.contains("/?code=once_"));
}
