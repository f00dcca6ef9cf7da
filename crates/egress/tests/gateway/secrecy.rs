//! What is logged while requests pass and fail, at the most talkative level.

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
};

use boatyard_egress::gateway::{Api, Settings};
use tokio::io::AsyncWriteExt;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::fixture::{Fixture, KEY, accept, listen, mirror, provider, read_head};

/// Keeps every field of every event and span as text.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

impl Visit for Everything {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        writeln!(self.0.lock().unwrap(), "{field}={value:?}").unwrap();
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn no_key_is_logged() {
    let log = Everything::default();
    // For this thread, which runs everything of the test.
    let _guard = tracing::subscriber::set_default(log.clone());
    let port = mirror("200 OK", "").await;
    let (listener, other) = listen().await;
    let providers = vec![
        provider("good", Api::OpenAi, &format!("http://127.0.0.1:{port}")),
        provider("cut", Api::Anthropic, &format!("http://127.0.0.1:{other}")),
        provider("none", Api::Gemini, "https://127.0.0.1:1"),
    ];
    let mut fixture = Fixture::start(Settings::default(), providers);
    let callers = "Authorization: Bearer callers-key\r\n";
    assert_eq!(fixture.ask("GET /good/v1?key=callers-key", callers, "").await.status(), 200);
    assert_eq!(fixture.ask("GET /none/v1?key=callers-key", callers, "").await.status(), 502);
    let mut client = fixture.send("GET /cut/v1 HTTP/1.1\r\n\r\n").await;
    let mut upstream = accept(&listener).await;
    assert!(read_head(&mut upstream).await.contains(KEY));
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
    read_head(&mut client).await;
    drop(upstream);
    for _ in 0..3 {
        fixture.call().await;
    }
    // Its connection's end is the last thing to be logged.
    fixture.stop.take().unwrap().send(()).unwrap();
    (&mut fixture.serving).await.unwrap().unwrap();
    let log = log.0.lock().unwrap();
    assert!(log.contains("connection to the gateway"), "{log}");
    assert!(!log.contains(KEY) && !log.contains("callers-key"), "{log}");
}
