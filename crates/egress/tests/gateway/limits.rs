//! What one workspace can take.

use std::time::Duration;

use boatyard_egress::gateway::{End, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{Fixture, accept, listen, mirror, read_chunk, read_head, soon, write_chunk};

fn small() -> Settings {
    Settings { max_body: 1000, ..Settings::default() }
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_goes_nowhere() {
    let port = mirror("200 OK", "").await;
    let mut fixture = Fixture::anthropic(small(), port);
    let answer = fixture.ask("POST /anthropic/v1/messages", "", &"x".repeat(1001)).await;
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.json()["error"]["type"], "request_too_large");
    assert!(answer.body.contains("1000 bytes"), "{}", answer.body);
    assert_eq!(fixture.call().await.status, Some(413));
    let answer = fixture.ask("POST /anthropic/v1/messages", "", &"x".repeat(1000)).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_cut() {
    let (listener, port) = listen().await;
    let mut fixture = Fixture::anthropic(small(), port);
    let mut client = fixture
        .send("POST /anthropic/v1/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    write_chunk(&mut client, &"x".repeat(800)).await;
    let mut upstream = accept(&listener).await;
    read_head(&mut upstream).await;
    assert_eq!(read_chunk(&mut upstream).await.unwrap().len(), 800);
    write_chunk(&mut client, &"x".repeat(201)).await;
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 413"));
    // The provider sees that it was no whole request.
    let mut rest = Vec::new();
    soon(upstream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
    assert_eq!(fixture.call().await.sent, 800);
}

#[tokio::test]
async fn only_so_many_requests_are_under_way_at_once() {
    let (listener, port) = listen().await;
    let settings = Settings { max_requests: 2, ..Settings::default() };
    let mut fixture = Fixture::anthropic(settings, port);
    let request = "GET /anthropic/v1/x HTTP/1.1\r\nHost: g\r\n\r\n";
    let mut first = fixture.send(request).await;
    let mut upstream = accept(&listener).await;
    let _second = fixture.send(request).await;
    let _other = accept(&listener).await;
    let answer = fixture.ask("GET /anthropic/v1/x", "", "").await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
    assert!(answer.head.contains("retry-after: 1\r\n"), "{}", answer.head);
    assert_eq!(fixture.call().await.status, Some(429));

    // An answer that is still coming is under way.
    read_head(&mut upstream).await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").await.unwrap();
    read_head(&mut first).await;
    assert_eq!(fixture.ask("GET /anthropic/v1/x", "", "").await.status(), 429);
    assert_eq!(fixture.call().await.status, Some(429));
    upstream.write_all(b"cd").await.unwrap();
    let mut body = [0; 4];
    soon(first.read_exact(&mut body)).await.unwrap();
    assert_eq!(fixture.call().await.end, End::Complete);
    let _third = fixture.send(request).await;
    let _upstream = accept(&listener).await;
}

#[tokio::test]
async fn too_many_connections_are_closed() {
    let port = mirror("200 OK", "").await;
    let settings = Settings { max_connections: 1, ..Settings::default() };
    let fixture = Fixture::anthropic(settings, port);
    let mut first = fixture.send("GET /anthropic/v1/x HTTP/1.1\r\nHost: g\r\n\r\n").await;
    read_head(&mut first).await;
    let mut second = fixture.connect().await;
    assert_eq!(soon(second.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_silent_provider_is_given_up() {
    let (listener, port) = listen().await;
    let idle_after = Duration::from_millis(80);
    let mut fixture = Fixture::anthropic(Settings { idle_after, ..Settings::default() }, port);
    let request = "GET /anthropic/v1/x HTTP/1.1\r\nHost: g\r\n\r\n";

    // Before its head: an answer of ours.
    let mut client = fixture.send(request).await;
    let mut upstream = accept(&listener).await;
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 504"));
    read_head(&mut upstream).await;
    assert_eq!(soon(upstream.read(&mut [0])).await.unwrap(), 0);
    assert_eq!(fixture.call().await.status, Some(504));

    // In its body: the answer breaks off.
    let mut client = fixture.send(request).await;
    let mut upstream = accept(&listener).await;
    read_head(&mut upstream).await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    write_chunk(&mut upstream, "data: 1\n\n").await;
    read_head(&mut client).await;
    assert_eq!(read_chunk(&mut client).await.unwrap(), "data: 1\n\n");
    assert!(read_chunk(&mut client).await.is_err());
    assert!(matches!(fixture.call().await.end, End::Broken(why) if why.contains("no byte")));
    assert_eq!(soon(upstream.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let port = mirror("200 OK", "").await;
    let head_within = Duration::from_millis(50);
    let fixture = Fixture::anthropic(Settings { head_within, ..Settings::default() }, port);
    let mut client = fixture.send("GET /anthropic/v1").await;
    let mut answer = Vec::new();
    soon(client.read_to_end(&mut answer)).await.unwrap();
}
