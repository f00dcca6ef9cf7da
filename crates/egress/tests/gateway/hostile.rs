//! A workspace that wants the key, or what is not its own.

use boatyard_egress::gateway::{Api, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{
    Fixture, KEY, accept, listen, mirror, provider, read_chunk, read_head, soon, write_chunk,
};

/// As a provider does it that shows in an error what it was sent, or a server that shows anything.
#[tokio::test]
async fn a_key_that_comes_back_does_not_come_in() {
    let (listener, port) = listen().await;
    let mut fixture = Fixture::anthropic(Settings::default(), port);
    let request = "GET /anthropic/v1/headers HTTP/1.1\r\nHost: g\r\nAccept-Encoding: gzip\r\n\r\n";
    let mut client = fixture.send(request).await;
    let mut upstream = accept(&listener).await;
    let seen = read_head(&mut upstream).await;
    assert!(seen.contains(KEY) && seen.contains("accept-encoding: identity\r\n"), "{seen}");
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nX-You-Sent: x-api-key={KEY}\r\nX-Other: yes\r\n\
         Location: /v1/x?k={KEY}\r\nTrailer: X-Late\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    upstream.write_all(head.as_bytes()).await.unwrap();
    let (one, two) = KEY.split_at(7);
    write_chunk(&mut upstream, &format!("{KEY}, {one}")).await;
    write_chunk(&mut upstream, two).await;
    write_chunk(&mut upstream, &KEY[..17]).await;
    upstream.write_all(format!("0\r\nX-Late: {KEY}\r\n\r\n").as_bytes()).await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.contains("x-other: yes\r\n") && !head.contains(KEY), "{head}");
    let mut body = String::new();
    loop {
        let chunk = read_chunk(&mut client).await.unwrap();
        if chunk.is_empty() {
            break;
        }
        body.push_str(&chunk);
    }
    let paint = "*".repeat(KEY.len());
    assert_eq!(body, format!("{paint}, {paint}sk-real-*********"));
    assert_eq!(fixture.call().await.status, Some(400));

    // Of a length that was told before: it stays right, and the connection good.
    for _ in 0..2 {
        let mut client = fixture.send(request).await;
        let mut upstream = accept(&listener).await;
        read_head(&mut upstream).await;
        let text = format!("[{KEY}]{}", &KEY[..3]);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
        upstream.write_all(format!("{head}{text}").as_bytes()).await.unwrap();
        read_head(&mut client).await;
        let mut body = vec![0; text.len()];
        soon(client.read_exact(&mut body)).await.unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), format!("[{paint}]sk-"));
        assert_eq!(fixture.call().await.received, text.len() as u64);
    }
}

#[tokio::test]
async fn what_is_made_of_keys_is_not_passed_on() {
    let port = mirror("200 OK", "").await;
    let base_url = format!("http://127.0.0.1:{port}");
    let fixture =
        Fixture::start(Settings::default(), vec![provider("openai", Api::OpenAi, &base_url)]);
    for path in ["/v1/realtime/client_secrets", "/v1//organization/admin%5Fapi_keys"] {
        let answer = fixture.ask(&format!("POST /openai{path}"), "", "{}").await;
        assert_eq!(answer.status(), 403, "{path}");
        assert_eq!(answer.json()["error"]["code"], "credentials_not_passed_on");
    }
}

/// Two who read a request must find the same end of it.
#[tokio::test]
async fn a_request_has_one_end() {
    let port = mirror("200 OK", "").await;
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length: +5\r\n",
    ] {
        let fixture = Fixture::anthropic(Settings::default(), port);
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: g\r\n\r\n";
        let body = format!("0\r\n\r\n{smuggled}");
        let request = format!("POST /anthropic/v1/x HTTP/1.1\r\nHost: g\r\n{headers}\r\n{body}");
        let mut client = fixture.send(&request).await;
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        // Where the client has sent more than is read, its connection may be reset.
        let _ = soon(client.read_to_string(&mut answer)).await;
        assert!(!answer.contains("GET /smuggled"), "{headers}: {answer}");
        assert!(answer.matches("HTTP/1.1 200").count() <= 1, "{headers}: {answer}");
        assert!(!answer.contains("content-length: 5\r\n"), "{headers}: {answer}");
    }
}

/// Whatever host a client names, and however: its request goes to the provider.
#[tokio::test]
async fn no_request_goes_to_another_host() {
    let port = mirror("200 OK", "").await;
    let fixture = Fixture::anthropic(Settings::default(), port);
    for line in [
        "GET http://evil.example/anthropic/v1/x",
        "GET http://anthropic@evil.example:1/anthropic/v1/x",
        "GET /anthropic//evil.example/v1/x",
        "GET /anthropic/http://evil.example/v1/x",
        "GET /anthropic/@evil.example/v1/x",
        "GET /anthropic?//evil.example/v1/x",
    ] {
        let answer = fixture.ask(line, "X-Forwarded-Host: evil.example\r\n", "").await;
        assert_eq!(answer.status(), 200, "{line}");
        assert!(answer.body.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")), "{line}");
        assert!(answer.body.starts_with("GET /"), "{line}: {}", answer.body);
    }
    for (line, status) in [
        ("CONNECT evil.example:443", 400),
        ("CONNECT anthropic:443", 400),
        ("TRACE /anthropic/v1/x", 400),
        ("OPTIONS *", 404),
        ("GET /anthropic/..;/x", 400),
        ("GET /anthropic/%252e%252e/x", 400),
        ("GET /%61nthropic/v1/x", 404),
        ("GET //anthropic/v1/x", 404),
    ] {
        assert_eq!(fixture.ask(line, "", "").await.status(), status, "{line}");
    }
}
