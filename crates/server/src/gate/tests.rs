//! The gate over real connections, with a real store behind it and a few routes of the tests' own.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, http::HeaderMap, routing};
use boatyard_api::task::NewTask;
use boatyard_model::{KeyId, time::SystemClock};
use boatyard_store::{NewKey, Options, Owner, Store};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;
use crate::{
    auth::{Caller, Holder, Visitor, code::Purpose},
    routes::{answer::Json, extract},
    settings,
};

/// Nothing here takes longer; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(30);

struct Server {
    address: SocketAddr,
    gate: Arc<Gate>,
    key: KeyId,
    secret: String,
    _data: tempfile::TempDir,
}

async fn who(caller: Caller) -> String {
    caller.name.to_string()
}

async fn broken() -> Failure {
    Failure(Problem::internal(std::io::Error::other("the cause is a secret")))
}

async fn take(extract::Json(task): extract::Json<NewTask>) -> Json<NewTask> {
    Json(task)
}

async fn server_with(most: usize) -> Server {
    server_for(most, &settings::Server::default()).await
}

async fn server_for(most: usize, settings: &settings::Server) -> Server {
    server_made(most, settings, &settings::Rates::default()).await
}

async fn server_with_rates(settings: &settings::Server, rates: &settings::Rates) -> Server {
    server_made(REQUESTS_MAX, settings, rates).await
}

async fn server_made(most: usize, settings: &settings::Server, rates: &settings::Rates) -> Server {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(Options::new(data.path().join("boatyard.db"))).await.unwrap();
    let (secret, hash) = crate::auth::new_key();
    let (name, prefix) = ("test".to_owned(), secret[..8].to_owned());
    let new = NewKey::local(Owner::BUILT_IN, name, prefix, hash);
    let key = store.write(|tx| Box::pin(tx.create_key(new))).await.unwrap();
    let mut auth = Auth::open(store, Arc::new(SystemClock), data.path()).unwrap();
    auth.rates = crate::rates::Rates::new(rates);
    let hosts = Hosts::new(settings).unwrap();
    let mut gate = Gate::new(auth, hosts, CancellationToken::new());
    gate.most = most;
    gate.begin();
    let gate = Arc::new(gate);
    let router = Router::new()
        .route("/api/auth/me", routing::any(who))
        .route("/api/jobs", routing::get(broken))
        .route("/api/tasks", routing::post(take))
        .route("/health", routing::get(|| async { "open" }))
        .route("/without-a-line", routing::get(|| async { "open" }))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&gate), pass));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(crate::listener::serve(listener, router, CancellationToken::new()));
    Server { address, gate, key, secret, _data: data }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn problem(&self) -> Problem {
        assert_eq!(self.headers[header::CONTENT_TYPE], problem::MEDIA_TYPE);
        let problem: Problem = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem.status, self.status);
        let id = self.headers[request_id::HEADER].to_str().unwrap();
        assert_eq!(problem.request_id.as_deref(), Some(id));
        problem
    }
}

impl Server {
    /// Sends these words and reads the answer to the connection's end.
    async fn say(&self, words: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(words).await.unwrap();
        let mut all = Vec::new();
        timeout(LONG, stream.read_to_end(&mut all)).await.unwrap().unwrap();
        String::from_utf8(all).unwrap()
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request.push_str("Host: localhost\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let all = self.say(request.as_bytes()).await;
        let (head, body) = all.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap())
        });
        Answer { status, headers: headers.collect(), body: body.to_owned() }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.secret)
    }

    /// The cookie of a browser that is signed in.
    async fn cookie(&self) -> String {
        let auth = &self.gate.auth;
        let signed_in = auth.enter_by_secret(&self.secret, &Visitor::default()).await.unwrap();
        let set = auth.signer().set(&signed_in.token, LONG, Transport::Plain);
        set.split(';').next().unwrap().to_owned()
    }
}

#[test]
fn what_no_route_is_for_needs_a_caller_in_the_api_only() {
    for path in ["/api", "/api/", "/api/x", "/metrics"] {
        assert_eq!(unlisted(path), Access::Key, "{path}");
    }
    for path in ["/tasks/x", "/assets/a.js", "/apix"] {
        assert_eq!(unlisted(path), Access::Open, "{path}");
    }
}

#[test]
fn an_answer_of_the_framework_becomes_a_problem() {
    let id = RequestId::of(&HeaderMap::new());
    for (status, kind) in [
        (StatusCode::METHOD_NOT_ALLOWED, ProblemKind::MethodNotAllowed),
        (StatusCode::NOT_FOUND, ProblemKind::NotFound),
        (StatusCode::PAYLOAD_TOO_LARGE, ProblemKind::TooLarge),
        (StatusCode::IM_A_TEAPOT, ProblemKind::Invalid),
    ] {
        assert!(bare(status).is(kind));
        let response = rendered(status.into_response(), &id, &Method::GET);
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()[header::CONTENT_TYPE], problem::MEDIA_TYPE);
    }
}

#[tokio::test]
async fn nothing_of_the_api_answers_without_a_good_key() {
    let server = server_with(REQUESTS_MAX).await;
    assert_eq!(server.ask("GET", "/health", &[], "").await.status, 200);
    let unlisted = server.ask("GET", "/without-a-line", &[], "").await;
    assert!(unlisted.problem().is(ProblemKind::NotFound));
    let bearer = server.bearer();
    let good = server.ask("GET", "/api/auth/me", &[("Authorization", &bearer)], "").await;
    assert_eq!((good.status, good.body.as_str()), (200, "Owner"));
    // Asked twice, it comes from memory.
    let small = bearer.replace("Bearer", "bearer");
    assert_eq!(
        server.ask("GET", "/api/auth/me", &[("authorization", &small)], "").await.status,
        200
    );
    let hash = format!("Bearer {}", crate::auth::hash_of(&server.secret));
    let longer = format!("{bearer}0");
    let bad = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer by_",
        "Bearer by_00",
        "Basic YTpi",
        &hash,
        &longer,
        &server.secret,
    ];
    for value in bad {
        let answer = server.ask("GET", "/api/auth/me", &[("Authorization", value)], "").await;
        assert!(answer.problem().is(ProblemKind::Unauthenticated), "{value}");
        assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE));
    }
    for path in ["/api/auth/me", "/api/nothing", "/api", "/metrics"] {
        let answer = server.ask("GET", path, &[], "").await;
        assert!(answer.problem().is(ProblemKind::Unauthenticated), "{path}");
    }
    let unknown = server.ask("GET", "/api/nothing", &[("Authorization", &bearer)], "").await;
    assert!(unknown.problem().is(ProblemKind::NotFound));
}

#[tokio::test]
async fn a_session_reads_freely_and_changes_only_with_its_proof() {
    let server = server_with(REQUESTS_MAX).await;
    let (auth, visitor) = (&server.gate.auth, Visitor::default());
    let person = boatyard_store::BUILT_IN_PERSON;
    let holder = Holder { person, key: Some(server.key), purpose: Purpose::SignIn };
    let (code, _) = auth.issue_code(holder);
    let signed_in = auth.enter_by_secret(&code, &visitor).await.unwrap();
    assert!(auth.enter_by_secret(&code, &visitor).await.is_err(), "a code works once");
    assert!(auth.enter_by_secret("by_nothing", &visitor).await.is_err());
    let set = auth.signer().set(&signed_in.token, LONG, Transport::Plain);
    let cookie = set.split(';').next().unwrap().to_owned();
    let csrf = signed_in.known.csrf.unwrap();
    let read = server.ask("GET", "/api/auth/me", &[("Cookie", &cookie)], "").await;
    assert_eq!(read.status, 200);
    let blind = server.ask("POST", "/api/auth/me", &[("Cookie", &cookie)], "").await;
    assert!(blind.problem().is(ProblemKind::NotAllowed));
    let wrong = [("Cookie", cookie.as_str()), ("X-Boatyard-CSRF", "00")];
    assert_eq!(server.ask("POST", "/api/auth/me", &wrong, "").await.status, 403);
    let proven = [("Cookie", cookie.as_str()), ("X-Boatyard-CSRF", &csrf)];
    assert_eq!(server.ask("POST", "/api/auth/me", &proven, "").await.status, 200);
    let forged = cookie.replace("=", "=0");
    assert_eq!(server.ask("GET", "/api/auth/me", &[("Cookie", &forged)], "").await.status, 401);
    // An old cookie is in nobody's way where none is needed.
    assert_eq!(server.ask("GET", "/health", &[("Cookie", &forged)], "").await.status, 200);
}

#[tokio::test]
async fn another_site_is_refused_even_with_a_good_key() {
    let server = server_with(REQUESTS_MAX).await;
    let bearer = server.bearer();
    let key = ("Authorization", bearer.as_str());
    for foreign in [("Host", "evil.example"), ("Origin", "http://evil.example"), ("Origin", "null")]
    {
        let answer = server.ask("GET", "/api/auth/me", &[key, foreign], "").await;
        assert!(answer.problem().is(ProblemKind::ForeignOrigin), "{foreign:?}");
        assert_eq!(server.ask("GET", "/health", &[foreign], "").await.status, 403);
    }
    let own = [key, ("Host", "localhost:7070"), ("Origin", "http://localhost:7070")];
    assert_eq!(server.ask("GET", "/api/auth/me", &own, "").await.status, 200);
}

#[tokio::test]
async fn a_fault_of_the_server_tells_the_request_id_and_nothing_more() {
    let server = server_with(REQUESTS_MAX).await;
    let bearer = server.bearer();
    let headers = [("Authorization", bearer.as_str()), ("X-Request-Id", "mine-1")];
    let answer = server.ask("GET", "/api/jobs", &headers, "").await;
    assert_eq!(answer.problem().request_id.as_deref(), Some("mine-1"));
    assert_eq!(answer.status, 500);
    assert!(!answer.body.contains("secret"), "{}", answer.body);
}

#[tokio::test]
async fn bad_bodies_are_named() {
    let server = server_with(REQUESTS_MAX).await;
    let bearer = server.bearer();
    let json =
        [("Authorization", bearer.as_str()), ("Content-Type", "application/json; charset=x")];
    let good = r#"{"prompt":"p","repository":"a/b"}"#;
    assert_eq!(server.ask("POST", "/api/tasks", &json, good).await.status, 200);
    for (body, field) in [
        ("", "body"),
        ("{", "body"),
        ("[]", "body"),
        ("{\"prompt\":\"\u{0}\"}", "prompt"),
        (r#"{"prompt":"p"}"#, "repository"),
        (r#"{"prompt":"p","repository":"a/b","base":"-x"}"#, "base"),
        (r#"{"prompt":"p","repository":"a/b","x":{}}"#, "x"),
    ] {
        let problem = server.ask("POST", "/api/tasks", &json, body).await.problem();
        assert!(problem.is(ProblemKind::Invalid), "{body}");
        assert_eq!(problem.field.as_deref(), Some(field), "{body}: {}", problem.detail);
    }
    let huge = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(extract::JSON_MAX));
    let answer = server.ask("POST", "/api/tasks", &json, &huge).await;
    assert!(answer.problem().is(ProblemKind::TooLarge));
    let form = [("Authorization", bearer.as_str()), ("Content-Type", "text/plain")];
    let answer = server.ask("POST", "/api/tasks", &form, good).await;
    assert!(answer.problem().is(ProblemKind::UnsupportedMediaType));
    let answer = server.ask("GET", "/api/tasks", &json, "").await;
    assert!(answer.problem().is(ProblemKind::MethodNotAllowed));
    assert_eq!(answer.headers[header::ALLOW], "POST");
}

#[tokio::test]
async fn words_that_are_no_request_end_the_connection() {
    let server = server_with(REQUESTS_MAX).await;
    for words in [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", b"SSH-2.0-x\r\n\r\n"] {
        assert!(!server.say(words).await.contains(" 200 "));
    }
    let many = "X-A: b\r\n".repeat(100);
    let request = format!("GET /open HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    let answer = server.say(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(100 << 10));
    let answer = server.say(long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    // It works as before.
    assert_eq!(server.ask("GET", "/health", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_full_or_stopping_server_says_so() {
    let full = server_with(0).await;
    let answer = full.ask("GET", "/health", &[], "").await;
    assert!(answer.problem().is(ProblemKind::TooManyRequests));
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
    let server = server_with(1).await;
    assert_eq!(server.ask("GET", "/health", &[], "").await.status, 200);
    assert_eq!(server.gate.under_way(), 0, "the place is free again");
    server.gate.stopping.cancel();
    let bearer = server.bearer();
    let key = [("Authorization", bearer.as_str())];
    assert_eq!(server.ask("GET", "/api/auth/me", &key, "").await.status, 200);
    let answer = server.ask("POST", "/api/auth/me", &key, "").await;
    assert!(answer.problem().is(ProblemKind::Unavailable));
}

#[tokio::test]
async fn answers_are_for_our_own_page_only_and_say_so() {
    let server = server_with(REQUESTS_MAX).await;
    let answer = server.ask("GET", "/health", &[], "").await;
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.headers[name], value);
    }
    let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(!answer.headers.contains_key(header::STRICT_TRANSPORT_SECURITY), "plain http");
    assert!(!answer.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    // Also what is refused before anybody is asked who calls.
    let refused = server.ask("GET", "/api/auth/me", &[("Host", "evil.example")], "").await;
    assert_eq!(refused.headers["x-frame-options"], "DENY");
}

#[tokio::test]
async fn a_site_that_may_call_does_so_with_a_key_and_never_with_a_cookie() {
    let tools = "https://tools.example.com";
    let settings =
        settings::Server { cors_origins: vec![tools.to_owned()], ..settings::Server::default() };
    let server = server_for(REQUESTS_MAX, &settings).await;
    let (bearer, origin) = (server.bearer(), ("Origin", tools));
    let asked = [origin, ("Access-Control-Request-Method", "POST")];
    let preflight = server.ask("OPTIONS", "/api/auth/me", &asked, "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], tools);
    assert!(!preflight.headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    let other = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")];
    assert_eq!(server.ask("OPTIONS", "/api/auth/me", &other, "").await.status, 403);
    let key = [origin, ("Authorization", bearer.as_str())];
    let answer = server.ask("GET", "/api/auth/me", &key, "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "Owner"));
    assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], tools);
    let cookie = server.cookie().await;
    let by_cookie = server.ask("GET", "/api/auth/me", &[origin, ("Cookie", &cookie)], "").await;
    assert!(by_cookie.problem().is(ProblemKind::Unauthenticated));
    assert_eq!(server.ask("GET", "/api/auth/me", &[("Cookie", &cookie)], "").await.status, 200);
}

#[tokio::test]
async fn a_trusted_proxy_says_who_asks_and_how() {
    let settings = settings::Server {
        url: Some("https://boat.example.com".to_owned()),
        trusted_proxies: vec!["127.0.0.1".to_owned()],
        ..settings::Server::default()
    };
    let server = server_for(REQUESTS_MAX, &settings).await;
    let host = ("Host", "boat.example.com");
    let (http, https) = (("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https"));
    let from = ("X-Forwarded-For", "1.2.3.4, 198.51.100.7");
    let answer = server.ask("GET", "/open?x=1", &[host, http, from], "").await;
    assert_eq!(answer.status, 308);
    assert_eq!(answer.headers[header::LOCATION], "https://boat.example.com/open?x=1");
    let bearer = server.bearer();
    let key = ("Authorization", bearer.as_str());
    let answer = server.ask("POST", "/api/auth/me", &[host, http, from, key], "").await;
    assert!(answer.problem().is(ProblemKind::NotAllowed));
    let answer = server.ask("POST", "/api/auth/me", &[host, https, from, key], "").await;
    assert_eq!(answer.status, 200);
    // What comes without a proxy is this machine's own programs.
    assert_eq!(server.ask("GET", "/health", &[], "").await.status, 200);
}

#[tokio::test]
async fn an_address_that_asks_too_much_is_told_how_long_to_wait() {
    let settings = settings::Server {
        trusted_proxies: vec!["127.0.0.1".to_owned()],
        ..settings::Server::default()
    };
    let rates = settings::Rates { address: 4, api: 3, tokens: 2, ..settings::Rates::default() };
    let server = server_with_rates(&settings, &rates).await;
    let bearer = server.bearer();
    let key = ("Authorization", bearer.as_str());
    let from = |last: &'static str| ("X-Forwarded-For", last);
    for _ in 0..4 {
        let answer = server.ask("GET", "/health", &[from("198.51.100.1")], "").await;
        assert_eq!(answer.status, 200);
    }
    let answer = server.ask("GET", "/health", &[from("198.51.100.1")], "").await;
    let problem = answer.problem();
    assert!(problem.is(ProblemKind::TooManyRequests));
    let seconds: u64 = answer.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert_eq!(problem.retry_after, Some(seconds));
    assert!((1..=15).contains(&seconds), "{seconds}");
    // Another address is another's business, and an account has its own count wherever it is.
    for address in ["198.51.100.2", "198.51.100.3", "198.51.100.4"] {
        let answer = server.ask("GET", "/api/auth/me", &[key, from(address)], "").await;
        assert_eq!(answer.status, 200);
    }
    let answer = server.ask("GET", "/api/auth/me", &[key, from("198.51.100.5")], "").await;
    assert!(answer.problem().is(ProblemKind::TooManyRequests));
    // Keys that don't exist run out; what is good works on.
    let wrong = ("Authorization", "Bearer by_wrong");
    for _ in 0..2 {
        let answer = server.ask("GET", "/api/auth/me", &[wrong, from("198.51.100.6")], "").await;
        assert_eq!(answer.status, 401);
    }
    let answer = server.ask("GET", "/api/auth/me", &[wrong, from("198.51.100.6")], "").await;
    assert_eq!(answer.status, 429);
    // A program of this machine is not counted by where it is.
    for _ in 0..10 {
        assert_eq!(server.ask("GET", "/api/auth/me", &[key], "").await.status, 200);
    }
}
