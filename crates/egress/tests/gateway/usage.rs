//! What answers say of tokens, while they pass.

use boatyard_egress::gateway::{Api, Credential, End, Prices, Provider, Settings, Tokens};
use boatyard_model::SessionId;
use tokio::io::AsyncReadExt as _;

use crate::{
    fixture::{Fixture, accept, listen, provider, read_chunk, read_head, soon, write_chunk},
    stage::{Stage, events, json},
};

const ANTHROPIC: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-haiku-4-5-20251001\",\"usage\":{\"input_tokens\":100,\"output_tokens\":1}}}\n\n";
const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":40}}\n\n";

#[tokio::test]
async fn a_call_has_its_session_model_tokens_and_cost() {
    let stage = Stage::plays(vec![
        events(&format!("{ANTHROPIC}{END}")),
        json("200 OK", r#"{"model":"unheard-of","usage":{"input_tokens":5,"output_tokens":6}}"#),
        json("200 OK", r#"{"input_tokens":5}"#),
    ])
    .await;
    let mut fixture = Fixture::anthropic(Settings::default(), stage.port);
    let session = SessionId::new();
    let path = format!("POST /s/{session}/anthropic/v1/messages");
    let body = r#"{"model":"claude-haiku-4-5","stream":true}"#;
    let answer = fixture.ask(&path, "", body).await;
    // To the byte.
    assert_eq!(answer.body, format!("{ANTHROPIC}{END}"));
    let call = fixture.call().await;
    assert_eq!((call.session, call.path.as_str()), (Some(session), "/v1/messages"));
    assert_eq!(call.model.as_deref(), Some("claude-haiku-4-5"));
    let usage = call.usage.expect("usage");
    assert_eq!(usage.tokens, Tokens { input: 100, output: 40, ..Tokens::default() });
    assert_eq!((usage.estimated, call.micros), (false, Some(100 + 40 * 5)));

    let answer = fixture.ask("POST /anthropic/v1/messages", "", "{}").await;
    assert_eq!(answer.status(), 200);
    let call = fixture.call().await;
    assert_eq!((call.session, call.micros), (None, None), "an unknown price is none");
    assert_eq!(call.model.as_deref(), Some("unheard-of"));
    assert_eq!(call.usage.expect("usage").tokens.output, 6);

    fixture.ask("POST /anthropic/v1/messages/count_tokens", "", "{}").await;
    assert_eq!(fixture.call().await.usage, None, "no model ran");
}

#[tokio::test]
async fn an_answer_that_breaks_off_counts_what_was_seen_and_none_waits_to_be_counted() {
    let (listener, port) = listen().await;
    let mut fixture = Fixture::anthropic(Settings::default(), port);
    let mut client = fixture.send("GET /anthropic/v1/messages HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut upstream = accept(&listener).await;
    read_head(&mut upstream).await;
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut upstream, head.as_bytes()).await.unwrap();
    read_head(&mut client).await;
    // Cut in the middle of a word: it passes as it is all the same.
    let (one, two) = ANTHROPIC.split_at(70);
    for piece in [one, two, "data: {\"delta\":{\"text\":\"abcdefgh"] {
        write_chunk(&mut upstream, piece).await;
        assert_eq!(read_chunk(&mut client).await.unwrap(), piece);
    }
    drop(upstream);
    let mut rest = Vec::new();
    let _ = soon(client.read_to_end(&mut rest)).await;
    let call = fixture.call().await;
    assert!(matches!(call.end, End::Broken(_)), "{call:?}");
    let usage = call.usage.expect("usage");
    assert_eq!((usage.tokens.input, usage.tokens.output, usage.estimated), (100, 1, true));
    assert_eq!(call.micros, Some(105));
}

#[tokio::test]
async fn models_in_paths_and_prices_of_ones_own() {
    let gemini = r#"{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":2}}"#;
    let stage = Stage::plays(vec![json("200 OK", gemini); 2]).await;
    let own = Prices::new(["mine-* input=10 output=100"]).unwrap();
    let first = provider("gemini", Api::Gemini, &stage.url());
    let free = Provider::new("free", Api::Gemini, &stage.url(), Credential::NotNeeded).unwrap();
    let list = vec![first.priced(own), free.priced(Prices::free())];
    let mut fixture = Fixture::start(Settings::default(), list);
    let path = "/v1beta/models/mine-2:generateContent";
    fixture.ask(&format!("POST /gemini{path}"), "", "{}").await;
    let call = fixture.call().await;
    assert_eq!((call.model.as_deref(), call.micros), (Some("mine-2"), Some(280)));
    fixture.ask(&format!("POST /free{path}"), "", "{}").await;
    assert_eq!(fixture.call().await.micros, Some(0));
}

#[tokio::test]
async fn who_asks_and_does_not_listen_is_counted_all_the_same() {
    let (listener, port) = listen().await;
    let mut fixture = Fixture::anthropic(Settings::default(), port);
    let body = format!(r#"{{"model":"claude-haiku-4-5","x":"{}"}}"#, "y".repeat(362));
    let length = body.len();
    for path in ["/anthropic/v1/messages", "/anthropic/v1/messages/count_tokens"] {
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: {length}\r\n\r\n{body}");
        let client = fixture.send(&request).await;
        let mut upstream = accept(&listener).await;
        read_head(&mut upstream).await;
        let mut all = vec![0; length];
        soon(upstream.read_exact(&mut all)).await.unwrap();
        drop(client);
        let call = fixture.call().await;
        assert_eq!((call.status, &call.end), (None, &End::Cancelled));
        match path.ends_with("count_tokens") {
            true => assert_eq!(call.usage, None),
            false => {
                let usage = call.usage.expect("usage");
                assert_eq!((usage.tokens.input, usage.estimated), (100, true));
                assert_eq!(call.micros, Some(100));
            }
        }
    }
}
