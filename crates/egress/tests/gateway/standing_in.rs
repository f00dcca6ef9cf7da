//! Another provider, or another model, in the place of one that has too much to do.

use boatyard_egress::gateway::{Api, Fallback, Settings};

use crate::{
    fixture::{Fixture, provider},
    stage::{Stage, json},
};

fn fallback(text: &str) -> Vec<Fallback> {
    vec![Fallback::parse(text).unwrap()]
}

const BODY: &str = r#"{"messages":["model"],"model":"big","x":1}"#;

#[tokio::test]
async fn the_next_is_asked_for_its_own_model_and_the_rest_stays_as_it_was() {
    for status in ["429 Too Many Requests", "529 Overloaded", "500 X", "503 X"] {
        let mut first = Stage::plays(vec![json(status, "{\"error\":1}")]).await;
        let mut second =
            Stage::plays(vec![json("200 OK", r#"{"usage":{"input_tokens":1,"output_tokens":2}}"#)])
                .await;
        let list = vec![
            provider("one", Api::Anthropic, &first.url()).falling_back(fallback("two:small")),
            provider("two", Api::Anthropic, &second.url()),
        ];
        let mut fixture = Fixture::start(Settings::default(), list);
        let answer = fixture.ask("POST /one/v1/messages?a=b", "", BODY).await;
        assert_eq!(answer.status(), 200, "{status}");
        assert_eq!(first.asked().await.body, BODY);
        let asked = second.asked().await;
        assert_eq!(asked.body, r#"{"messages":["model"],"model":"small","x":1}"#);
        assert_eq!(asked.line(), "POST /v1/messages?a=b HTTP/1.1");
        let (gave_up, call) = (fixture.call().await, fixture.call().await);
        assert_eq!((&*gave_up.provider, gave_up.next.as_deref()), ("one", Some("two")));
        assert_eq!(gave_up.status.map(|s| s.to_string()).as_deref(), Some(&status[..3]));
        assert_eq!((&*call.provider, call.model.as_deref()), ("two", Some("small")));
        let instead_of = call.instead_of.expect("it is noted");
        assert_eq!((&*instead_of.provider, instead_of.model.as_deref()), ("one", Some("big")));
        assert_eq!(call.usage.expect("usage").tokens.output, 2);
    }
}

#[tokio::test]
async fn what_is_no_overload_or_has_no_fallback_is_passed_on() {
    for (status, fallbacks) in
        [("400 Bad Request", fallback("two")), ("404 X", fallback("two")), ("429 X", vec![])]
    {
        let first = Stage::plays(vec![json(status, "{\"error\":1}")]).await;
        let second = Stage::plays(vec![]).await;
        let list = vec![
            provider("one", Api::Anthropic, &first.url()).falling_back(fallbacks),
            provider("two", Api::Anthropic, &second.url()),
        ];
        let mut fixture = Fixture::start(Settings::default(), list);
        let answer = fixture.ask("POST /one/v1/messages", "", BODY).await;
        assert_eq!(answer.status().to_string(), status[..3]);
        assert_eq!(fixture.call().await.instead_of, None);
    }
}

#[tokio::test]
async fn the_last_refusal_is_passed_on_and_a_path_names_a_model_too() {
    let mut first = Stage::plays(vec![json("503 X", "{\"first\":1}")]).await;
    let mut second = Stage::plays(vec![json("429 X", "{\"second\":1}")]).await;
    let list = vec![
        provider("one", Api::Gemini, &first.url()).falling_back(fallback("two:small")),
        provider("two", Api::Gemini, &second.url()),
    ];
    let fixture = Fixture::start(Settings::default(), list);
    let answer = fixture.ask("POST /one/v1beta/models/big:generateContent", "", BODY).await;
    assert_eq!((answer.status(), &*answer.body), (429, "{\"second\":1}"));
    assert_eq!(first.asked().await.line(), "POST /v1beta/models/big:generateContent HTTP/1.1");
    let asked = second.asked().await;
    assert_eq!(asked.line(), "POST /v1beta/models/small:generateContent HTTP/1.1");
    assert_eq!(asked.body, BODY);
}
