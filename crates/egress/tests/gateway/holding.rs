//! Requests that wait until there is money for them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use boatyard_egress::gateway::{Admission, Api, Asked, Call, End, Purse, Settings, Stopped};
use tokio::{io::AsyncReadExt as _, sync::watch};

use crate::{
    fixture::{Fixture, provider, read_chunk, read_head, soon},
    stage::{Stage, events, json, read_all},
};

/// Lets nothing go until it is told what becomes of all that waits.
#[derive(Debug)]
struct Closed {
    word: watch::Receiver<Option<Result<(), Stopped>>>,
    asked: Mutex<Vec<Asked>>,
    ended: AtomicUsize,
    waiting: Arc<AtomicUsize>,
}

struct Waits(Arc<AtomicUsize>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Purse for Closed {
    fn admit(&self, asked: &Asked) -> Admission {
        self.asked.lock().unwrap().push(asked.clone());
        let mut word = self.word.clone();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let waits = Waits(Arc::clone(&self.waiting));
        Admission::Wait(Box::pin(async move {
            let _waits = waits;
            let word = word.wait_for(Option::is_some).await.unwrap().clone();
            word.unwrap()
        }))
    }

    fn ended(&self, _: &Call) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

type Word = watch::Sender<Option<Result<(), Stopped>>>;

fn closed(ping_after: Duration) -> (Settings, Arc<Closed>, Word) {
    let (say, word) = watch::channel(None);
    let purse = Arc::new(Closed {
        word,
        asked: Mutex::default(),
        ended: AtomicUsize::new(0),
        waiting: Arc::default(),
    });
    let idle_after = Duration::from_millis(300);
    let settings = Settings { purse: purse.clone(), ping_after, idle_after, ..Settings::default() };
    (settings, purse, say)
}

const LONG: Duration = Duration::from_secs(3600);
const ASK: &str = r#"{"model":"m","stream":true,"messages":[]}"#;

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_request_that_is_held_loses_nothing_and_is_not_idle() {
    let mut stage = Stage::plays(vec![json("200 OK", "{}")]).await;
    let (settings, purse, say) = closed(LONG);
    let fixture = Fixture::anthropic(settings, stage.port);
    let mut client = fixture.send(&post("/anthropic/v1/messages", ASK)).await;
    // Longer than a silent connection has.
    let early = tokio::time::timeout(Duration::from_millis(700), client.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(purse.asked.lock().unwrap()[0].provider, "anthropic");
    say.send(Some(Ok(()))).unwrap();
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 200"));
    assert_eq!(stage.asked().await.body, ASK);
    assert_eq!(purse.ended.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stream_that_is_held_has_signs_of_life_and_then_what_the_provider_says() {
    for (api, sign) in [(Api::Anthropic, "event: ping"), (Api::OpenAi, ": waiting")] {
        let mut stage = Stage::plays(vec![events("data: {\"x\":1}\n\n")]).await;
        let (settings, _, say) = closed(Duration::ZERO);
        let fixture = Fixture::start(settings, vec![provider("one", api, &stage.url())]);
        let mut client = fixture.send(&post("/one/v1/x", ASK)).await;
        let head = read_head(&mut client).await;
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        assert!(read_chunk(&mut client).await.unwrap().starts_with(sign));
        say.send(Some(Ok(()))).unwrap();
        let mut rest = String::new();
        soon(client.read_to_string(&mut rest)).await.unwrap();
        assert!(rest.contains("data: {\"x\":1}\n\n"), "{rest}");
        assert_eq!(stage.asked().await.body, ASK);
    }
}

#[tokio::test]
async fn what_goes_wrong_after_signs_of_life_is_an_event() {
    let overloaded = "{\n  \"type\": \"error\"\n}";
    let stage = Stage::plays(vec![json("529 Overloaded", overloaded)]).await;
    let (settings, _, say) = closed(Duration::ZERO);
    let fixture = Fixture::anthropic(settings, stage.port);
    let mut client = fixture.send(&post("/anthropic/v1/messages", ASK)).await;
    read_head(&mut client).await;
    say.send(Some(Ok(()))).unwrap();
    let mut rest = String::new();
    soon(client.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.contains("event: error\ndata: {   \"type\": \"error\" }\n\n"), "{rest}");
}

#[tokio::test]
async fn one_that_asks_for_no_stream_gets_none() {
    let stage = Stage::plays(vec![json("200 OK", "{\"a\":1}"); 2]).await;
    let (settings, _, say) = closed(Duration::ZERO);
    let list = vec![
        provider("anthropic", Api::Anthropic, &stage.url()),
        provider("gemini", Api::Gemini, &stage.url()),
    ];
    let fixture = Fixture::start(settings, list);
    let mut plain = fixture.send(&post("/anthropic/v1/messages", "{\"stream\":false}")).await;
    let mut gemini = fixture.send(&post("/gemini/v1beta/models/m:streamX", ASK)).await;
    say.send(Some(Ok(()))).unwrap();
    for client in [&mut plain, &mut gemini] {
        let all = read_all(client).await;
        assert!(all.contains("content-type: application/json"), "{all}");
    }
}

#[tokio::test]
async fn a_request_that_may_not_go_is_told_why_in_a_way_that_no_agent_repeats() {
    let stage = Stage::plays(vec![]).await;
    let (settings, purse, say) = closed(LONG);
    let mut fixture = Fixture::anthropic(settings, stage.port);
    let mut client = fixture.send(&post("/anthropic/v1/messages", ASK)).await;
    say.send(Some(Err(Stopped("The budget is spent.".to_owned())))).unwrap();
    let all = read_all(&mut client).await;
    assert!(all.starts_with("HTTP/1.1 402") && all.contains("billing_error"), "{all}");
    let call = fixture.call().await;
    assert_eq!(call.end, End::Refused("The budget is spent.".to_owned()));
    assert_eq!(purse.waiting.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_waits_no_more() {
    let stage = Stage::plays(vec![]).await;
    let (settings, purse, _say) = closed(LONG);
    let mut fixture = Fixture::anthropic(settings, stage.port);
    let client = fixture.send(&post("/anthropic/v1/messages", ASK)).await;
    soon(async {
        while purse.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(client);
    assert_eq!(fixture.call().await.end, End::Cancelled);
    assert_eq!(purse.waiting.load(Ordering::SeqCst), 0);
}
