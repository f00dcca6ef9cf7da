//! Requests and connections that are made to be read in two ways.

use boatyard_egress::{Outcome, Rule};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use crate::{
    fixture::{Fixture, origin, read_head, rule, settings, soon},
    house::spec,
};

/// An origin that tells what it gets, byte by byte, and answers each connection once.
async fn listener() -> (u16, mpsc::UnboundedReceiver<String>) {
    let (tell, told) = mpsc::unbounded_channel();
    let port = origin(move |mut stream| {
        let tell = tell.clone();
        async move {
            let mut got = Vec::new();
            while !got.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read_buf(&mut got).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            // What follows the head comes before the other side ends, which it does on this.
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut got).await;
            let _ = tell.send(String::from_utf8_lossy(&got).into_owned());
        }
    })
    .await;
    (port, told)
}

#[tokio::test]
async fn a_length_beside_chunks_does_not_travel_on() {
    let (port, mut told) = listener().await;
    let fixture = Fixture::start(settings(), vec![rule("origin", "origin.example", port)]);
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: origin.example\r\n\r\n";
        let request = format!(
            "POST http://origin.example:{port}/ HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n\
             {:x}\r\n{smuggled}\r\n0\r\n\r\n",
            smuggled.len(),
        );
        let mut stream = fixture.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        if head.starts_with("HTTP/1.1 400") {
            continue;
        }
        drop(stream);
        let got = soon(told.recv()).await.unwrap().to_ascii_lowercase();
        assert!(!got.contains("content-length"), "{got}");
        assert_eq!(got.matches("transfer-encoding: chunked").count(), 1, "{got}");
    }
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_answered_400() {
    let (port, mut told) = listener().await;
    let fixture = Fixture::start(settings(), vec![rule("origin", "origin.example", port)]);
    for lines in [
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: +4",
        "Content-Length: 4, 4",
        "Content-Length: 0x4",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Header: a\r\n folded: b",
        "X: a\rTransfer-Encoding: chunked",
        "X: a\0b",
    ] {
        let request = format!(
            "POST http://origin.example:{port}/ HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\nabcd"
        );
        let answer = fixture.ask(&request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{lines:?}: {answer}");
    }
    assert!(told.try_recv().is_err(), "nothing got through");
}

fn forbidding(port: u16) -> Vec<Rule> {
    let deny = serde_json::json!({
        "action": "deny", "host": "origin.example", "ports": [port], "methods": ["POST", "GET"],
    });
    vec![rule("all", "origin.example", port), spec("no", deny)]
}

#[tokio::test]
async fn a_method_in_small_letters_is_forbidden_as_well() {
    let (port, mut told) = listener().await;
    let mut fixture = Fixture::start(settings(), forbidding(port));
    for method in ["POST", "post", "Post", "head"] {
        let request = format!(
            "{method} http://origin.example:{port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        );
        let answer = fixture.ask(&request).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{method}: {answer}");
        assert!(matches!(fixture.record().await.outcome, Outcome::Denied { .. }), "{method}");
    }
    assert!(told.try_recv().is_err(), "nothing got through");
}

#[tokio::test]
async fn a_header_can_not_be_asked_to_be_left_out_that_says_where_to() {
    let (port, mut told) = listener().await;
    let fixture = Fixture::start(settings(), vec![rule("origin", "origin.example", port)]);
    let request = format!(
        "POST http://origin.example:{port}/ HTTP/1.1\r\nHost: other.example\r\n\
         Connection: host, content-length\r\nContent-Length: 2\r\n\r\nab"
    );
    let mut stream = fixture.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    drop(stream);
    let got = soon(told.recv()).await.unwrap().to_ascii_lowercase();
    assert!(got.contains(&format!("host: origin.example:{port}\r\n")), "{got}");
    assert!(got.contains("content-length: 2\r\n") && !got.contains("other"), "{got}");
}

#[tokio::test]
async fn only_a_get_becomes_a_websocket() {
    let (port, mut told) = listener().await;
    let fixture = Fixture::start(settings(), vec![rule("origin", "origin.example", port)]);
    let request = format!(
        "POST http://origin.example:{port}/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nContent-Length: 0\r\n\r\n"
    );
    let mut stream = fixture.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    drop(stream);
    let got = soon(told.recv()).await.unwrap().to_ascii_lowercase();
    assert!(!got.contains("upgrade"), "{got}");
}

#[tokio::test]
async fn every_spelling_of_an_address_is_that_address() {
    let guarded = boatyard_egress::Settings::default();
    let everything: Vec<Rule> = ["*", "0.0.0.0/0", "::/0"]
        .map(|host| {
            Rule::new(
                "all",
                host.parse().unwrap(),
                boatyard_egress::rules::Ports::from(&[80, 443][..]),
            )
        })
        .into();
    let mut fixture = Fixture::start(guarded, everything);
    for host in [
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "0",
        "[::]",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[fd00:ec2::254]",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "%31%32%37.0.0.1",
        "[::1%25lo]",
        "[fe80::1%25eth0]",
    ] {
        for request in [
            format!("CONNECT {host}:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("GET http://{host}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ] {
            let answer = fixture.ask(&request).await;
            let is_refused = answer.is_empty()
                || ["HTTP/1.1 403", "HTTP/1.1 400"].iter().any(|start| answer.starts_with(start));
            assert!(is_refused, "{host}: {answer}");
        }
    }
    assert!(fixture.names.asked.lock().unwrap().is_empty(), "none is a name");
    while let Ok(record) = fixture.records.try_recv() {
        assert!(!matches!(record.outcome, Outcome::Passed { .. }), "{record:?}");
    }
}

#[tokio::test]
async fn names_are_compared_in_their_one_spelling() {
    let (port, _told) = listener().await;
    let mut fixture = Fixture::start(settings(), forbidding(port));
    for host in ["ORIGIN.example", "origin.example.", "origin%2eexample", "ｏrigin.example"] {
        let request =
            format!("POST http://{host}:{port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = fixture.ask(&request).await;
        let is_refused = answer.is_empty()
            || ["HTTP/1.1 403", "HTTP/1.1 400"].iter().any(|start| answer.starts_with(start));
        assert!(is_refused, "{host}: {answer}");
    }
    let record = fixture.record().await;
    assert_eq!((&*record.host, record.rule.as_deref()), ("origin.example", Some("no")));
}
