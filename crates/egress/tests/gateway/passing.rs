//! What passes, and as what it arrives.

use boatyard_egress::gateway::{Api, Credential, End, Provider, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{
    Fixture, SEEN, accept, listen, mirror, provider, read_chunk, read_head, soon, write_chunk,
};

const CALLERS: &str = "Authorization: Bearer callers\r\nX-Api-Key: callers\r\n\
                       X-Goog-Api-Key: callers\r\nApi-Key: callers\r\nCookie: a=callers\r\n\
                       Proxy-Authorization: Basic callers\r\n";

#[tokio::test]
async fn a_request_arrives_as_it_was_but_for_its_credential() {
    let check = async |api: Api, expected: &str| {
        let port = mirror("200 OK", "X-Request-Id: 7\r\nSet-Cookie: a=b\r\n").await;
        let base_url = format!("http://127.0.0.1:{port}/base/");
        let mut fixture =
            Fixture::start(Settings::default(), vec![provider("mine", api, &base_url)]);
        let headers = format!(
            "{CALLERS}anthropic-beta: x,y\r\nContent-Type: application/json\r\n\
             X-Private: 1\r\nConnection: x-private, x-api-key\r\nTE: trailers\r\n"
        );
        let line = "POST /mine/v1beta/a%20b:stream?beta=true&key=callers&alt=sse";
        let answer = fixture.ask(line, &headers, "{\"say\": \"hé\"}").await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert!(answer.head.contains("x-request-id: 7\r\n"), "{}", answer.head);
        assert!(!answer.head.contains("set-cookie"), "{}", answer.head);
        let seen = answer.body;
        assert!(seen.starts_with("POST /base/v1beta/a%20b:stream?beta=true&alt=sse HTTP/1.1\r\n"));
        assert!(seen.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")), "{seen}");
        assert!(seen.contains("\r\nanthropic-beta: x,y\r\n"), "{seen}");
        assert!(seen.contains("\r\ncontent-type: application/json\r\n"), "{seen}");
        assert!(seen.contains(&format!("\r\n{expected}\r\n")), "{seen}");
        assert!(seen.ends_with("\r\n\r\n{\"say\": \"hé\"}"), "{seen}");
        assert_eq!(seen.matches(SEEN).count(), 1, "{seen}");
        for gone in ["callers", "x-private", "connection", "te: "] {
            assert!(!seen.contains(gone), "{gone} in {seen}");
        }

        let call = fixture.call().await;
        assert_eq!(call.workspace, fixture.workspace);
        assert_eq!((call.provider.as_str(), call.method.as_str()), ("mine", "POST"));
        assert_eq!(call.path, "/v1beta/a%20b:stream");
        assert_eq!((call.status, call.end), (Some(200), End::Complete));
        assert_eq!((call.sent, call.received), (14, seen.len() as u64));
    };
    check(Api::Anthropic, &format!("x-api-key: {SEEN}")).await;
    check(Api::OpenAi, &format!("authorization: Bearer {SEEN}")).await;
    check(Api::Gemini, &format!("x-goog-api-key: {SEEN}")).await;
}

#[tokio::test]
async fn a_provider_that_needs_no_key_gets_none() {
    let port = mirror("200 OK", "").await;
    let base_url = format!("http://127.0.0.1:{port}");
    let own = Provider::new("own", Api::OpenAi, &base_url, Credential::NotNeeded).unwrap();
    let fixture = Fixture::start(Settings::default(), vec![own]);
    let answer = fixture.ask("GET /own/v1/models", CALLERS, "").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.body.starts_with("GET /v1/models HTTP/1.1\r\n"), "{}", answer.body);
    assert!(!answer.body.contains("callers"), "{}", answer.body);
}

#[tokio::test]
async fn an_answer_streams_piece_by_piece() {
    let (listener, port) = listen().await;
    let mut fixture = Fixture::anthropic(Settings::default(), port);
    let mut client = fixture
        .send("POST /anthropic/v1/messages HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}")
        .await;
    let mut upstream = accept(&listener).await;
    read_head(&mut upstream).await;
    upstream.read_exact(&mut [0; 2]).await.unwrap();
    upstream
        .write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
              Transfer-Encoding: chunked\r\n\r\n",
        )
        .await
        .unwrap();
    // Each is read before the next is written, so nothing waits for what follows.
    let head = read_head(&mut client).await;
    assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
    for event in ["event: one\ndata: {}\n\n", "event: two\n", "data: {\"a\":1}\n\n"] {
        write_chunk(&mut upstream, event).await;
        assert_eq!(read_chunk(&mut client).await.unwrap(), event);
    }
    write_chunk(&mut upstream, "").await;
    assert_eq!(read_chunk(&mut client).await.unwrap(), "");
    let call = fixture.call().await;
    assert_eq!((call.status, call.end), (Some(200), End::Complete));
    assert_eq!((call.sent, call.received), (2, 47));

    // The next request goes over the same two connections.
    client.write_all(b"GET /anthropic/v1/models HTTP/1.1\r\nHost: g\r\n\r\n").await.unwrap();
    let head = read_head(&mut upstream).await;
    assert!(head.starts_with("GET /v1/models "), "{head}");
    upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 204"));

    // A connection that the provider has closed meanwhile is replaced.
    drop(upstream);
    client.write_all(b"GET /anthropic/v1/models HTTP/1.1\r\nHost: g\r\n\r\n").await.unwrap();
    let mut upstream = accept(&listener).await;
    read_head(&mut upstream).await;
    upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 204"));
}

#[tokio::test]
async fn a_request_streams_piece_by_piece() {
    let (listener, port) = listen().await;
    let fixture = Fixture::anthropic(Settings::default(), port);
    let mut client = fixture
        .send("POST /anthropic/v1/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    write_chunk(&mut client, "one").await;
    let mut upstream = accept(&listener).await;
    read_head(&mut upstream).await;
    assert_eq!(read_chunk(&mut upstream).await.unwrap(), "one");
    write_chunk(&mut client, "two").await;
    assert_eq!(read_chunk(&mut upstream).await.unwrap(), "two");
    write_chunk(&mut client, "").await;
    assert_eq!(read_chunk(&mut upstream).await.unwrap(), "");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_leads_nowhere_else() {
    let check = async |headers: &'static str, expected: Option<&str>| {
        let port = mirror("307 Temporary Redirect", headers).await;
        let fixture = Fixture::anthropic(Settings::default(), port);
        let answer = fixture.ask("GET /anthropic/v1/x", "", "").await;
        assert_eq!(answer.status(), 307);
        let location = answer.head.lines().find_map(|line| line.strip_prefix("location: "));
        assert_eq!(location, expected);
    };
    check("Location: https://evil.example/v1/x\r\n", None).await;
    check("Location: //evil.example/v1/x\r\n", None).await;
    check("Location: /v2/x?a=b\r\n", Some("/anthropic/v2/x?a=b")).await;
}

#[tokio::test]
async fn plain_requests_go_through_the_operators_proxy() {
    let (proxy, port) = listen().await;
    let url = format!("http://127.0.0.1:{port}");
    let outgoing = boatyard_egress::Outgoing::new(None, Some(&url), "").unwrap();
    let settings = Settings { outgoing, ..Settings::default() };
    let far = provider("far", Api::OpenAi, "http://192.0.2.1:8080/v1");
    let fixture = Fixture::start(settings, vec![far]);
    let mut client = fixture.send("GET /far/models HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut upstream = accept(&proxy).await;
    let head = read_head(&mut upstream).await;
    assert!(head.starts_with("GET http://192.0.2.1:8080/v1/models HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: 192.0.2.1:8080\r\n"), "{head}");
    upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert!(soon(read_head(&mut client)).await.starts_with("HTTP/1.1 204"));
}
