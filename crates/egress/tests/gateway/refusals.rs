//! What the gateway answers itself: in the provider's own shape, with what to do.

use boatyard_egress::gateway::{Api, Credential, End, Provider, Settings};

use crate::fixture::{Answer, Fixture, KEY, listen, mirror, provider};

fn message(answer: &Answer) -> String {
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(!answer.body.contains(KEY) && !answer.head.contains(KEY), "{answer:?}");
    message
}

#[tokio::test]
async fn a_missing_key_is_told_with_how_to_set_it() {
    let missing = |name: &str, api| {
        Provider::new(name, api, "http://127.0.0.1:1", Credential::Missing).unwrap()
    };
    let providers = vec![
        missing("anthropic", Api::Anthropic),
        missing("openai", Api::OpenAi),
        missing("gemini", Api::Gemini),
        missing("mine", Api::OpenAi),
    ];
    let mut fixture = Fixture::start(Settings::default(), providers);

    let answer = fixture.ask("POST /anthropic/v1/messages", "", "{}").await;
    assert_eq!(answer.status(), 401);
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    assert_eq!(answer.json()["type"], "error");
    assert_eq!(answer.json()["error"]["type"], "authentication_error");
    let said = message(&answer);
    assert!(said.contains("ANTHROPIC_API_KEY"), "{said}");
    assert!(said.contains("`key_file` in [providers.anthropic]"), "{said}");
    let call = fixture.call().await;
    assert_eq!((call.status, call.end), (Some(401), End::Refused(said)));

    let answer = fixture.ask("POST /openai/v1/responses", "", "{}").await;
    assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
    assert!(message(&answer).contains("OPENAI_API_KEY"));

    let answer = fixture.ask("POST /gemini/v1beta/models/x:generateContent", "", "{}").await;
    assert_eq!(answer.json()["error"]["code"], 401);
    assert_eq!(answer.json()["error"]["status"], "UNAUTHENTICATED");
    assert!(message(&answer).contains("GEMINI_API_KEY"));

    let answer = fixture.ask("POST /mine/v1/responses", "", "{}").await;
    let said = message(&answer);
    assert!(!said.contains("_API_KEY") && said.contains("[providers.mine]"), "{said}");
}

#[tokio::test]
async fn an_unknown_provider_is_told_with_those_there_are() {
    let providers = vec![
        provider("openai", Api::OpenAi, "http://127.0.0.1:1"),
        provider("anthropic", Api::Anthropic, "http://127.0.0.1:1"),
    ];
    let mut fixture = Fixture::start(Settings::default(), providers);
    for path in ["/", "/v1/messages", "/Anthropic/v1", "//anthropic/v1"] {
        let answer = fixture.ask(&format!("POST {path}"), "", "{}").await;
        assert_eq!(answer.status(), 404, "{path}");
        assert!(message(&answer).contains("it has anthropic, openai."), "{answer:?}");
        assert_eq!(fixture.call().await.provider, "");
    }
}

#[tokio::test]
async fn a_websocket_is_answered_426() {
    let port = mirror("200 OK", "").await;
    let base_url = format!("http://127.0.0.1:{port}");
    let mut fixture =
        Fixture::start(Settings::default(), vec![provider("openai", Api::OpenAi, &base_url)]);
    let upgrade = "Upgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let answer = fixture.ask("GET /openai/v1/responses", upgrade, "").await;
    assert_eq!(answer.status(), 426);
    assert!(message(&answer).contains("POST"), "{answer:?}");
    assert_eq!(fixture.call().await.status, Some(426));
}

#[tokio::test]
async fn what_can_not_be_passed_on_is_refused() {
    let port = mirror("200 OK", "").await;
    let fixture = Fixture::anthropic(Settings::default(), port);
    for line in ["GET /anthropic/../x", "GET /anthropic/%2e%2e/x", "TRACE /anthropic/v1"] {
        let answer = fixture.ask(line, "", "").await;
        assert_eq!(answer.status(), 400, "{line}");
        message(&answer);
    }
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_told_so() {
    let (listener, port) = listen().await;
    drop(listener);
    let mut fixture = Fixture::anthropic(Settings::default(), port);
    let answer = fixture.ask("POST /anthropic/v1/messages", "", "{}").await;
    assert_eq!(answer.status(), 502);
    let said = message(&answer);
    assert!(said.contains("`anthropic` can't be reached"), "{said}");
    assert!(said.contains("`base_url` in [providers.anthropic]"), "{said}");
    assert_eq!(fixture.call().await.status, Some(502));
}

#[tokio::test]
async fn offline_means_nothing_but_this_host() {
    let port = mirror("200 OK", "").await;
    let outgoing = boatyard_egress::Outgoing::offline();
    let near = provider("near", Api::OpenAi, &format!("http://127.0.0.1:{port}"));
    let far = provider("far", Api::Gemini, "http://192.0.2.1");
    let fixture = Fixture::start(Settings { outgoing, ..Settings::default() }, vec![near, far]);
    assert_eq!(fixture.ask("GET /near/v1/models", "", "").await.status(), 200);
    let answer = fixture.ask("GET /far/v1beta/models", "", "").await;
    assert_eq!(answer.status(), 403);
    assert!(message(&answer).contains("`offline = false`"), "{answer:?}");
}
