//! The server's own way out: through another proxy, or not at all.

use boatyard_egress::{Outcome, Outgoing, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{Fixture, echo, origin, read_head, rule, settings, soon};

#[tokio::test]
async fn offline_fails_at_once() {
    let settings = Settings { outgoing: Outgoing::offline(), ..settings() };
    let mut fixture = Fixture::start(settings, vec![rule("all", "*", 443)]);
    let answer = fixture.ask("CONNECT origin.example:443 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("offline"), "{answer}");
    assert!(fixture.names.asked.lock().unwrap().is_empty());
    assert!(matches!(fixture.record().await.outcome, Outcome::Denied { .. }));
}

#[tokio::test]
async fn tunnels_and_requests_go_through_the_operators_proxy() {
    let echo = echo().await;
    let web = origin(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let rules = || vec![rule("echo", "*", echo), rule("web", "*", web)];
    let mut outer = Fixture::start(settings(), rules());
    // Only the outer one can resolve it.
    outer.names.set("far.example", &[&["127.0.0.1"]]);
    let url = format!("http://me:secret@{}", outer.address);
    let outgoing = Outgoing::new(Some(&url), Some(&url), "origin.example").unwrap();
    let inner = Fixture::start(Settings { outgoing, ..settings() }, rules());
    let mut stream = inner.tunnel(&format!("far.example:{echo}")).await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(soon(stream.read_u8()).await.unwrap(), b'x');
    drop(stream);
    assert_eq!(outer.record().await.host, "far.example");
    let get = format!("GET http://far.example:{web}/p?q HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = inner.ask(&get).await;
    assert!(answer.contains("GET /p?q HTTP/1.1"), "{answer}");
    assert!(!answer.contains("authorization"), "{answer}");
    assert_eq!(outer.record().await.path.as_deref(), Some("/p"));
    // Excepted hosts go directly.
    inner.tunnel(&format!("origin.example:{echo}")).await;
    assert!(outer.records.try_recv().is_err());
}

#[tokio::test]
async fn what_the_operators_proxy_refuses_is_told() {
    let outer = Fixture::start(settings(), Vec::new());
    let outgoing = Outgoing::new(Some(&format!("http://{}", outer.address)), None, "").unwrap();
    let inner = Fixture::start(Settings { outgoing, ..settings() }, vec![rule("all", "*", 443)]);
    let answer = inner.ask("CONNECT far.example:443 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains("the upstream proxy answered 403 for `far.example:443`"), "{answer}");
}
