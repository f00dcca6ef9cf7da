//! The scripted provider behind the gateway, in the same process.

use boatyard_egress::{
    gateway::{Api, End, Provider, Settings},
    scripted,
};

use crate::fixture::Fixture;

#[tokio::test]
async fn a_scripted_provider_answers_without_a_key() {
    let service = scripted::service(scripted::Settings::default());
    let demo = |name: &str, api| Provider::scripted(name, api, service.clone()).unwrap();
    let providers = vec![demo("demo-anthropic", Api::Anthropic), demo("demo-openai", Api::OpenAi)];
    // Being offline is no matter to what is here.
    let outgoing = boatyard_egress::Outgoing::offline();
    let mut fixture = Fixture::start(Settings { outgoing, ..Settings::default() }, providers);
    let json = "Content-Type: application/json\r\n";

    let ask = r#"{"model":"demo","max_tokens":9,"messages":[{"role":"user","content":"hello"}]}"#;
    let answer = fixture.ask("POST /demo-anthropic/v1/messages", json, ask).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(answer.body.contains("[scripted]"), "{}", answer.body);
    let call = fixture.call().await;
    assert_eq!((call.provider.as_str(), call.end), ("demo-anthropic", End::Complete));

    let ask = r#"{"model":"demo","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
    let answer = fixture.ask("POST /demo-openai/v1/chat/completions", json, ask).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(answer.head.contains("text/event-stream"), "{}", answer.head);
    assert!(answer.body.contains("data: [DONE]"), "{}", answer.body);
    assert_eq!(fixture.call().await.end, End::Complete);
}
