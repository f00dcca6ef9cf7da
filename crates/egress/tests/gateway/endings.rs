//! Requests that end early: at the provider, at the client, by shutting down.

use boatyard_egress::gateway::{End, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{Fixture, accept, listen, read_chunk, read_head, soon, write_chunk};

const REQUEST: &str =
    "POST /anthropic/v1/messages HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}";
const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn an_answer_that_is_cut_is_cut_for_the_client() {
    let (listener, port) = listen().await;
    let mut fixture = Fixture::anthropic(Settings::default(), port);
    let mut client = fixture.send(REQUEST).await;
    let mut upstream = accept(&listener).await;
    read_head(&mut upstream).await;
    upstream.write_all(STREAM).await.unwrap();
    write_chunk(&mut upstream, "data: 1\n\n").await;
    read_head(&mut client).await;
    assert_eq!(read_chunk(&mut client).await.unwrap(), "data: 1\n\n");
    drop(upstream);
    // No last chunk: nobody takes the part for the whole.
    assert!(read_chunk(&mut client).await.is_err());
    let call = fixture.call().await;
    assert!(matches!(&call.end, End::Broken(why) if why.contains("broke off")), "{call:?}");
    assert_eq!((call.status, call.received), (Some(200), 9));
}

#[tokio::test]
async fn a_provider_that_hangs_up_without_an_answer_is_told() {
    let (listener, port) = listen().await;
    let mut fixture = Fixture::anthropic(Settings::default(), port);
    let mut client = fixture.send(REQUEST).await;
    let mut upstream = accept(&listener).await;
    read_head(&mut upstream).await;
    upstream.read_exact(&mut [0; 2]).await.unwrap();
    drop(upstream);
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 502"));
    let call = fixture.call().await;
    assert!(matches!(&call.end, End::Refused(why) if why.contains("no whole answer")), "{call:?}");
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_at_the_provider() {
    let (listener, port) = listen().await;
    let mut fixture = Fixture::anthropic(Settings::default(), port);

    // Before there is an answer.
    let client = fixture.send(REQUEST).await;
    let mut upstream = accept(&listener).await;
    read_head(&mut upstream).await;
    upstream.read_exact(&mut [0; 2]).await.unwrap();
    drop(client);
    assert_eq!(soon(upstream.read(&mut [0])).await.unwrap(), 0);
    let call = fixture.call().await;
    assert_eq!((call.status, call.end), (None, End::Cancelled));

    // While the answer comes.
    let mut client = fixture.send(REQUEST).await;
    let mut upstream = accept(&listener).await;
    read_head(&mut upstream).await;
    upstream.read_exact(&mut [0; 2]).await.unwrap();
    upstream.write_all(STREAM).await.unwrap();
    write_chunk(&mut upstream, "data: 1\n\n").await;
    read_head(&mut client).await;
    read_chunk(&mut client).await.unwrap();
    drop(client);
    assert_eq!(soon(upstream.read(&mut [0])).await.unwrap(), 0);
    let call = fixture.call().await;
    assert_eq!((call.status, call.end), (Some(200), End::Cancelled));
}

#[tokio::test]
async fn shutting_down_lets_an_answer_end() {
    let (listener, port) = listen().await;
    let mut fixture = Fixture::anthropic(Settings::default(), port);
    let mut client = fixture.send(REQUEST).await;
    let mut upstream = accept(&listener).await;
    read_head(&mut upstream).await;
    fixture.stop.take().unwrap().send(()).unwrap();
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    soon(&mut fixture.serving).await.unwrap().unwrap();
}
