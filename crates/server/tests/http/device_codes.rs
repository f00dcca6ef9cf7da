//! Programs that are let in by a code (RFC 8628), with somebody else's client of it.

use boatyard_api::{
    Client, ProblemKind,
    client::Grant,
    device_code::{
        DeviceCodeRequest, DeviceCodeState, DeviceCodes, DeviceDecision, DeviceError, GRANT_TYPE,
    },
    key::NewApiKey,
};
use boatyard_model::{KeyKind, Scope, Scopes, Timestamp};
use boatyard_store::NewDeviceCode;
use oauth2::{
    ClientId, DeviceAuthorizationUrl, HttpRequest, HttpResponse,
    StandardDeviceAuthorizationResponse, TokenResponse as _, TokenUrl, basic::BasicClient,
};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::machine::{Machine, problem_of};

const YES: DeviceDecision = DeviceDecision { approve: true, scopes: None, expires: None };
const NO: DeviceDecision = DeviceDecision { approve: false, scopes: None, expires: None };

async fn begin(machine: &Machine, scope: Option<&str>) -> DeviceCodes {
    let request = DeviceCodeRequest {
        client_id: Some("boatyard".to_owned()),
        client_name: Some("boatyard on laptop".to_owned()),
        scope: scope.map(str::to_owned),
    };
    match machine.client.create_device_code(&request).await.unwrap() {
        Grant::Given(codes) => codes,
        Grant::Refused(error) => panic!("{error:?}"),
    }
}

async fn poll(machine: &Machine, codes: &DeviceCodes) -> Result<String, String> {
    match machine.client.redeem_device_code(&codes.device_code).await.unwrap() {
        Grant::Given(token) => Ok(token.access_token),
        Grant::Refused(error) => Err(error.error),
    }
}

/// Sends what the foreign client wants sent.
async fn send(machine: &Machine, request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let answer = machine.anonymous(parts.method, &path).headers(parts.headers).body(body);
    let answer = answer.send().await?;
    let mut response = http::Response::new(Vec::new());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    *response.body_mut() = answer.bytes().await?.to_vec();
    Ok(response)
}

#[tokio::test]
async fn a_foreign_client_is_let_in() {
    let machine = Machine::start().await;
    let at = |path: &str| format!("http://{}/api/auth/device/{path}", machine.serving.address());
    let client = BasicClient::new(ClientId::new("somebody-else".to_owned()))
        .set_device_authorization_url(DeviceAuthorizationUrl::new(at("code")).unwrap())
        .set_token_uri(TokenUrl::new(at("token")).unwrap());
    let http = |request: HttpRequest| send(&machine, request);
    let request = client.exchange_device_code();
    let request = request.add_scope(oauth2::Scope::new("tasks_read".to_owned()));
    let codes: StandardDeviceAuthorizationResponse = request.request_async(&http).await.unwrap();
    let code = codes.user_code().secret().clone();
    assert_eq!(code.len(), 9);
    let seen = machine.client.find_device_code(&code).await.unwrap();
    assert_eq!((seen.client.as_str(), seen.state), ("somebody-else", DeviceCodeState::Pending));
    assert_eq!(seen.scopes, Scope::TasksRead.into());
    // It asks once, is told to wait, and while it does, a person says yes.
    let decided = |_| async {
        machine.client.decide_device_code(&code, &YES).await.unwrap();
    };
    let token = client.exchange_device_access_token(&codes);
    let token = token.request_async(&http, decided, None).await.unwrap();
    assert_eq!(token.scopes().unwrap()[0].as_str(), "tasks_read");
    let url = format!("http://{}", machine.serving.address());
    let let_in = Client::new(&url, Some(token.access_token().secret())).unwrap();
    let key = let_in.find_own_key().await.unwrap();
    assert_eq!((key.kind, key.name.as_str()), (KeyKind::Login, "somebody-else"));
    assert!(key.expires.is_some());
    let_in.list_tasks(&Default::default()).await.unwrap();
    assert_eq!(
        let_in.list_workspaces(&Default::default()).await.unwrap_err().problem().unwrap().status,
        403
    );
}

#[tokio::test]
async fn a_no_is_a_no_and_a_code_is_good_once() {
    let machine = Machine::start().await;
    let codes = begin(&machine, None).await;
    assert_eq!(poll(&machine, &codes).await.unwrap_err(), "authorization_pending");
    assert_eq!(poll(&machine, &codes).await.unwrap_err(), "slow_down");
    assert!(
        codes.verification_uri_complete.ends_with(&format!("/device?code={}", codes.user_code))
    );
    let seen = machine.client.decide_device_code(&codes.user_code, &NO).await.unwrap();
    assert_eq!(seen.state, DeviceCodeState::Denied);
    for _ in 0..2 {
        assert_eq!(poll(&machine, &codes).await.unwrap_err(), "access_denied");
    }
    let late = machine.client.decide_device_code(&codes.user_code, &YES).await.unwrap_err();
    assert_eq!(late.problem().unwrap().status, 409, "{late}");

    let codes = begin(&machine, None).await;
    // As people type it.
    let typed = codes.user_code.to_lowercase().replace('-', "%20");
    machine.client.decide_device_code(&typed, &YES).await.unwrap();
    let secret = poll(&machine, &codes).await.unwrap();
    assert_eq!(poll(&machine, &codes).await.unwrap_err(), "invalid_grant");
    let answer = machine.anonymous(Method::GET, "/api/auth/me").bearer_auth(&secret);
    assert_eq!(answer.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_end_is_told_from_a_no() {
    let machine = Machine::start().await;
    let new = NewDeviceCode {
        hash: boatyard_server::auth::hash_of("dc_late"),
        user_hash: boatyard_server::auth::hash_of("BCDFGHJK"),
        client: "late".to_owned(),
        agent: None,
        address: None,
        scopes: Scopes::ALL,
        pause: 5,
        // Not for long: who still asks hears what became of it.
        expires: Timestamp(machine.store.now().0 - 1000),
    };
    machine.store.write(|tx| Box::pin(tx.create_device_code(new))).await.unwrap();
    let Grant::Refused(error) = machine.client.redeem_device_code("dc_late").await.unwrap() else {
        panic!("let in");
    };
    assert_eq!(error.error, "expired_token");
    let seen = machine.client.find_device_code("BCDF-GHJK").await.unwrap();
    assert_eq!(seen.state, DeviceCodeState::Expired);
    let error = machine.client.decide_device_code("BCDF-GHJK", &YES).await.unwrap_err();
    assert!(error.to_string().contains("over"), "{error}");
}

#[tokio::test]
async fn a_program_gets_no_more_than_who_lets_it_in_has() {
    let machine = Machine::start().await;
    let new = NewApiKey {
        name: "narrow".to_owned(),
        scopes: Some([Scope::TasksRead, Scope::KeysWrite].into_iter().collect()),
        expires: Some(Timestamp(machine.store.now().0 + 3_600_000)),
        service: None,
    };
    let made = machine.client.create_key(&new).await.unwrap();
    let url = format!("http://{}", machine.serving.address());
    let narrow = Client::new(&url, Some(&made.secret)).unwrap();
    let codes = begin(&machine, Some("tasks_read tasks_write")).await;
    let more = DeviceDecision { scopes: Some(Scope::TasksWrite.into()), ..YES };
    let error = narrow.decide_device_code(&codes.user_code, &more).await.unwrap_err();
    assert_eq!(error.problem().unwrap().field.as_deref(), Some("scopes"), "{error}");
    narrow.decide_device_code(&codes.user_code, &YES).await.unwrap();
    let secret = poll(&machine, &codes).await.unwrap();
    let key = Client::new(&url, Some(&secret)).unwrap().find_own_key().await.unwrap();
    assert_eq!((key.scopes, key.expires), (Scope::TasksRead.into(), new.expires));
    // Nothing of what it asks for is anything that the narrow key has.
    let codes = begin(&machine, Some("approve")).await;
    let error = narrow.decide_device_code(&codes.user_code, &YES).await.unwrap_err();
    assert_eq!(error.problem().unwrap().field.as_deref(), Some("approve"), "{error}");
}

/// The error of an answer in the RFC's own form.
async fn said(answer: Response) -> String {
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    answer.json::<DeviceError>().await.unwrap().error
}

#[tokio::test]
async fn what_programs_ask_wrongly_is_answered_in_the_rfc_s_words() {
    let machine = Machine::start().await;
    let post = |path: &str| machine.anonymous(Method::POST, &format!("/api/auth/device/{path}"));
    let token = async |body: Value| said(post("token").json(&body).send().await.unwrap()).await;
    let grant = |code: &str| json!({ "grant_type": GRANT_TYPE, "device_code": code });
    assert_eq!(token(json!({})).await, "invalid_request");
    assert_eq!(token(grant("")).await, "invalid_request");
    assert_eq!(token(grant("dc_nobody")).await, "invalid_grant");
    assert_eq!(token(grant(&"x".repeat(5000))).await, "invalid_grant");
    let password = json!({ "grant_type": "password", "device_code": "x" });
    assert_eq!(token(password).await, "unsupported_grant_type");
    assert_eq!(token(json!({ "grant_type": 1 })).await, "invalid_request");
    assert_eq!(said(post("token").body("x").send().await.unwrap()).await, "invalid_request");
    let form = |path: &str, text: &'static str| {
        post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(text)
    };
    assert_eq!(said(form("code", "scope=everything").send().await.unwrap()).await, "invalid_scope");
    let twice = form("token", "grant_type=a&grant_type=b").send().await.unwrap();
    assert_eq!(said(twice).await, "invalid_request");
    let none = form("code", "").send().await.unwrap();
    assert_eq!(none.status(), 200);
    // What people ask is answered as everywhere.
    for bad in ["x", "BCDF-GHJA", "%00", "BCDFGHJKL"] {
        let answer = machine.get(&format!("/api/auth/device/{bad}")).await;
        let problem = problem_of(answer).await;
        assert_eq!(problem.field.as_deref(), Some("path.code"), "{bad}: {problem:?}");
    }
    let unknown = problem_of(machine.get("/api/auth/device/BCDF-GHJK").await).await;
    assert!(unknown.is(ProblemKind::NotFound), "{unknown:?}");
    let anonymous = machine.anonymous(Method::GET, "/api/auth/device/BCDF-GHJK");
    let anonymous = problem_of(anonymous.send().await.unwrap()).await;
    assert!(anonymous.is(ProblemKind::Unauthenticated));
}
