//! TLS that the proxy opens: each request within is judged, and passed on as it is.

use std::{sync::atomic::Ordering, time::Duration};

use boatyard_egress::{Outcome, Settings};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    fixture::{Fixture, soon},
    house::{Client, House, begin, empty, opening, read, reading, spec},
};

#[tokio::test]
async fn each_request_is_judged_in_every_version() {
    let house = House::new();
    for server in ["http/1.1", "h2"] {
        for client in ["http/1.1", "h2"] {
            let origin = house.serve(&["origin.example"], &[server]).await;
            let (settings, trusted) = opening(&house);
            let rules = vec![reading("origin.example", origin.port)];
            let mut fixture = Fixture::start(settings, rules);
            let mut requests = Client::through(&fixture, origin.port, &trusted, client).await;
            let (status, text) = requests.ask(origin.port, "GET", "/a?b=c", "").await;
            assert_eq!(status, 200, "{client} {server}: {text}");
            assert!(!text.contains("alt-svc"), "{text}");
            let record = fixture.record().await;
            assert_eq!((&*record.method, record.path.as_deref()), ("GET", Some("/a")));
            assert_eq!(record.outcome, Outcome::Passed { status: 200 });
            assert_eq!(record.rule.as_deref(), Some("reading"));

            let (status, text) = requests.ask(origin.port, "POST", "/a", "secret").await;
            assert_eq!(status, 403, "{client} {server}");
            assert!(text.contains("rule `reading` allows this host for other"), "{text}");
            let how = format!(
                "boatyard egress allow origin.example:{} --workspace {}",
                origin.port, fixture.workspace
            );
            assert!(text.contains(&how), "{text}");
            let record = fixture.record().await;
            assert!(matches!(record.outcome, Outcome::Denied { .. }), "{record:?}");
            // The connection goes on.
            let (status, _) = requests.ask(origin.port, "GET", "/again", "").await;
            assert_eq!(status, 200);
            let version = if server == "h2" { "HTTP/2.0" } else { "HTTP/1.1" };
            let seen = origin.seen();
            assert_eq!(seen, [format!("GET /a {version}"), format!("GET /again {version}")]);
            assert_eq!(origin.connections.load(Ordering::Relaxed), 1, "it is kept");
        }
    }
}

#[tokio::test]
async fn a_refusal_is_json_for_who_reads_json() {
    let house = House::new();
    let origin = house.serve(&["origin.example"], &["h2", "http/1.1"]).await;
    let (settings, trusted) = opening(&house);
    let fixture = Fixture::start(settings, vec![reading("origin.example", origin.port)]);
    let mut client = Client::through(&fixture, origin.port, &trusted, "h2").await;
    let request = Request::delete("/thing").header(header::ACCEPT, "application/json, */*");
    let response = client.send(origin.port, request.body(empty()).unwrap()).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let status = response.headers()["proxy-status"].to_str().unwrap();
    assert!(status.starts_with("boatyard; error=http_request_denied; details="), "{status}");
    assert!(status.ends_with("; rule=\"reading\""), "{status}");
    let (_, text) = read(response).await;
    let problem: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (problem["status"].as_u64(), problem["rule"].as_str()),
        (Some(403), Some("reading"))
    );
    assert!(problem["mend"][0].as_str().unwrap().contains("boatyard egress allow"), "{problem}");
}

#[tokio::test]
async fn nobody_speaks_with_one_host_under_the_name_of_another() {
    let house = House::new();
    let origin = house.serve(&["origin.example", "other.example"], &["h2", "http/1.1"]).await;
    let (settings, trusted) = opening(&house);
    let mut fixture = Fixture::start(settings, vec![reading("origin.example", origin.port)]);
    for protocol in ["http/1.1", "h2"] {
        let mut client = Client::through(&fixture, origin.port, &trusted, protocol).await;
        let request = Request::get("/").header(header::HOST, "other.example");
        let response = client.send(origin.port, request.body(empty()).unwrap()).await;
        let (status, text) = read(response).await;
        assert_eq!(status, 421, "{text}");
        assert!(text.contains("but the request is for `other.example`"), "{text}");
        assert!(matches!(fixture.record().await.outcome, Outcome::Denied { .. }));
    }
    let stream = fixture.tunnel(&format!("origin.example:{}", origin.port)).await;
    begin(stream, "other.example", &trusted, &["h2"]).await.unwrap_err();
    let Outcome::Denied { reason } = fixture.record().await.outcome else { panic!("not denied") };
    assert_eq!(reason, "its TLS asks for `other.example` and not for `origin.example`");
    // Another name's certificate is none for this one, and there is no other.
    let stream = fixture.tunnel(&format!("origin.example:{}", origin.port)).await;
    let failed = begin(stream, "127.0.0.1", &trusted, &["h2"]).await.unwrap_err();
    assert!(failed.to_string().contains("not valid for name"), "{failed}");
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_hello_without_a_name_gets_the_host_of_its_tunnel() {
    let house = House::new();
    let origin = house.serve(&["127.0.0.1"], &["http/1.1"]).await;
    let (settings, trusted) = opening(&house);
    let fixture = Fixture::start(settings, vec![reading("127.0.0.1", origin.port)]);
    let stream = fixture.tunnel(&format!("127.0.0.1:{}", origin.port)).await;
    let mut client = Client::over(begin(stream, "127.0.0.1", &trusted, &[]).await.unwrap()).await;
    let request = Request::get("/").header(header::HOST, format!("127.0.0.1:{}", origin.port));
    let response = client.send(origin.port, request.body(empty()).unwrap()).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_told_and_harms_nobody_else() {
    let house = House::new();
    let wrong = house.serve(&["other.example"], &["h2", "http/1.1"]).await;
    let stranger = House::new().serve(&["origin.example"], &["h2"]).await;
    let right = house.serve(&["origin.example"], &["h2"]).await;
    let (settings, trusted) = opening(&house);
    let rules = [&wrong, &stranger, &right].map(|origin| reading("origin.example", origin.port));
    let mut fixture = Fixture::start(settings, rules.into());
    for (origin, why) in [(&wrong, "other.example"), (&stranger, "UnknownIssuer")] {
        let mut client = Client::through(&fixture, origin.port, &trusted, "h2").await;
        let (status, text) = client.ask(origin.port, "GET", "/", "").await;
        assert_eq!(status, 502);
        assert!(text.contains("can't be trusted") && text.contains(why), "{text}");
        assert!(text.contains("[egress] ca_file"), "{text}");
        assert!(matches!(fixture.record().await.outcome, Outcome::Failed { .. }));
        assert!(origin.seen().is_empty());
    }
    let mut client = Client::through(&fixture, right.port, &trusted, "h2").await;
    assert_eq!(client.ask(right.port, "GET", "/", "").await.0, 200);
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let house = House::new();
    for (client, server) in [("h2", "h2"), ("http/1.1", "http/1.1")] {
        let origin = house.serve(&["origin.example"], &[server]).await;
        let (settings, trusted) = opening(&house);
        let rule = spec(
            "calls",
            serde_json::json!({
                "host": "origin.example", "ports": [origin.port], "paths": ["/trailers"],
            }),
        );
        let fixture = Fixture::start(settings, vec![rule]);
        let mut requests = Client::through(&fixture, origin.port, &trusted, client).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        let frames = [Ok(Frame::data(Bytes::from_static(b"call"))), Ok(Frame::trailers(trailers))];
        let request = Request::post("/trailers")
            .header(header::TE, "trailers")
            .header(header::TRAILER, "x-sum")
            .header(header::CONTENT_TYPE, "application/grpc")
            .body(StreamBody::new(stream::iter(frames)).boxed_unsync())
            .unwrap();
        let response = requests.send(origin.port, request).await;
        let whole = soon(response.into_body().collect()).await.unwrap();
        let trailers = whole.trailers().cloned().expect("trailers");
        assert_eq!(
            (&trailers["grpc-status"], &trailers["x-sum"]),
            (&HeaderValue::from_static("0"), &HeaderValue::from_static("42"))
        );
        assert_eq!(whole.to_bytes(), "call");
    }
}

#[tokio::test]
async fn bodies_pass_piece_by_piece_in_both_directions_at_once() {
    let house = House::new();
    for (client, server) in [("h2", "http/1.1"), ("http/1.1", "h2"), ("h2", "h2")] {
        let origin = house.serve(&["origin.example"], &[server]).await;
        let (settings, trusted) = opening(&house);
        let rule = spec(
            "echo",
            serde_json::json!({
                "host": "origin.example", "ports": [origin.port], "paths": ["/echo"],
            }),
        );
        let fixture = Fixture::start(settings, vec![rule]);
        let mut requests = Client::through(&fixture, origin.port, &trusted, client).await;
        let (pieces, body) = tokio::sync::mpsc::channel::<&'static [u8]>(1);
        let body = stream::unfold(body, |mut body| async move {
            let piece = body.recv().await?;
            Some((Ok(Frame::data(Bytes::from_static(piece))), body))
        });
        pieces.send(b"first").await.unwrap();
        let request = Request::post("/echo").body(StreamBody::new(body).boxed_unsync()).unwrap();
        let mut response = requests.send(origin.port, request).await;
        let mut next = async || {
            let frame = soon(response.frame()).await.expect("a piece").unwrap();
            frame.into_data().unwrap()
        };
        assert_eq!(next().await, "first");
        pieces.send(b"second").await.unwrap();
        assert_eq!(next().await, "second");
    }
}

#[tokio::test]
async fn a_slow_reader_costs_little_memory() {
    let house = House::new();
    for (client, server) in [("h2", "h2"), ("http/1.1", "http/1.1"), ("h2", "http/1.1")] {
        let origin = house.serve(&["origin.example"], &[server]).await;
        let (settings, trusted) = opening(&house);
        let fixture = Fixture::start(settings, vec![reading("origin.example", origin.port)]);
        let mut requests = Client::through(&fixture, origin.port, &trusted, client).await;
        let request = Request::get("/endless").body(empty()).unwrap();
        let mut response = requests.send(origin.port, request).await;
        // Nobody reads: what the origin could make fills buffers, and then it stands still.
        let mut before = usize::MAX;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let made = origin.made.load(Ordering::Relaxed);
            if made == before {
                break;
            }
            before = made;
        }
        assert!(before < 24 << 20, "{before} bytes are under way");
        // It goes on for who reads, and its memory does not grow.
        let resident = resident();
        let mut left = 256_usize << 20;
        while left > 0 {
            let frame = soon(response.frame()).await.expect("more").unwrap();
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        }
        let grown = self::resident().saturating_sub(resident);
        assert!(grown < 32 << 10, "{grown} KiB more");
    }
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn who_waits_to_be_told_to_go_on_is_told_after_judgement() {
    let house = House::new();
    let origin = house.serve(&["origin.example"], &["http/1.1"]).await;
    let (settings, trusted) = opening(&house);
    let rule = spec(
        "count",
        serde_json::json!({
            "host": "origin.example", "ports": [origin.port], "paths": ["/count"],
        }),
    );
    let fixture = Fixture::start(settings, vec![rule]);
    let target = format!("origin.example:{}", origin.port);
    for (path, expected) in [("/count", "HTTP/1.1 100 "), ("/other", "HTTP/1.1 403 ")] {
        let stream = fixture.tunnel(&target).await;
        let mut tls = begin(stream, "origin.example", &trusted, &["http/1.1"]).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {target}\r\nContent-Length: 5\r\n\
             Expect: 100-continue\r\n\r\n"
        );
        tls.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; expected.len()];
        soon(tls.read_exact(&mut answer)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), expected);
        if path == "/count" {
            tls.write_all(b"12345").await.unwrap();
            let mut rest = vec![0; 4096];
            let mut all = String::new();
            while !all.ends_with("\r\n\r\n5") {
                let count = soon(tls.read(&mut rest)).await.unwrap();
                assert!(count > 0, "{all}");
                all.push_str(&String::from_utf8_lossy(&rest[..count]));
            }
        }
    }
}

#[tokio::test]
async fn a_head_has_no_body_and_a_large_refused_body_can_still_read_why() {
    let house = House::new();
    let origin = house.serve(&["origin.example"], &["http/1.1"]).await;
    let (settings, trusted) = opening(&house);
    let fixture = Fixture::start(settings, vec![reading("origin.example", origin.port)]);
    let mut client = Client::through(&fixture, origin.port, &trusted, "http/1.1").await;
    assert_eq!(client.ask(origin.port, "HEAD", "/x", "").await, (200, String::new()));
    let (status, text) = client.ask(origin.port, "PUT", "/x", &"x".repeat(700_000)).await;
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("rule `reading`"), "{text}");
}

#[tokio::test]
async fn a_web_socket_goes_through_and_ends_with_its_rule() {
    let house = House::new();
    let origin = house.serve(&["origin.example"], &["h2", "http/1.1"]).await;
    let (settings, trusted) = opening(&house);
    let mut fixture = Fixture::start(settings, vec![reading("origin.example", origin.port)]);
    let target = format!("origin.example:{}", origin.port);
    let stream = fixture.tunnel(&target).await;
    let mut tls = begin(stream, "origin.example", &trusted, &["http/1.1"]).await.unwrap();
    let head = format!(
        "GET /socket HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    tls.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon(tls.read_u8()).await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    for word in ["hello", "again"] {
        tls.write_all(word.as_bytes()).await.unwrap();
        let mut back = [0; 5];
        soon(tls.read_exact(&mut back)).await.unwrap();
        assert_eq!(back, word.as_bytes());
    }
    fixture.policy.send_replace(Default::default());
    let ended = soon(tls.read(&mut [0; 9])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let record = fixture.record().await;
    assert_eq!((record.sent, record.received), (10, 10));
    let reason = "the rule that allowed it was withdrawn".to_owned();
    assert_eq!(record.outcome, Outcome::Denied { reason });
}

#[tokio::test]
async fn a_redirect_elsewhere_is_passed_on_and_its_aim_judged() {
    let house = House::new();
    let origin = house.serve(&["origin.example"], &["http/1.1"]).await;
    let (settings, trusted) = opening(&house);
    let fixture = Fixture::start(settings, vec![reading("origin.example", origin.port)]);
    let mut client = Client::through(&fixture, origin.port, &trusted, "http/1.1").await;
    let request = Request::get("/redirect").body(empty()).unwrap();
    let response = client.send(origin.port, request).await;
    assert_eq!(response.status(), 302);
    assert_eq!(response.headers()[header::LOCATION], "https://elsewhere.example/");
    let answer = fixture.ask("CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test]
async fn a_request_that_never_ends_is_ended() {
    let house = House::new();
    let origin = house.serve(&["origin.example"], &["http/1.1"]).await;
    let (settings, trusted) = opening(&house);
    let settings = Settings {
        head_within: Duration::from_millis(200),
        idle_after: Duration::from_millis(300),
        ..settings
    };
    let rule = spec(
        "count",
        serde_json::json!({
            "host": "origin.example", "ports": [origin.port], "paths": ["/count"],
        }),
    );
    let fixture = Fixture::start(settings, vec![rule]);
    let target = format!("origin.example:{}", origin.port);
    let body = format!("POST /count HTTP/1.1\r\nHost: {target}\r\nContent-Length: 9\r\n\r\nx");
    for begun in ["", "GET / HTTP/1.1\r\nHost:", &body] {
        let stream = fixture.tunnel(&target).await;
        let mut tls = begin(stream, "origin.example", &trusted, &["http/1.1"]).await.unwrap();
        tls.write_all(begun.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // An answer that it took too long, or none: the connection is over.
        let _ = soon(tls.read_to_end(&mut rest)).await;
    }
    // A hello that is never whole.
    let mut stream = fixture.tunnel(&target).await;
    stream.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    assert!(soon(stream.read_u8()).await.is_err());
}

#[tokio::test]
async fn connections_to_a_destination_are_shared_by_a_workspace() {
    let house = House::new();
    for server in ["http/1.1", "h2"] {
        let origin = house.serve(&["origin.example"], &[server]).await;
        let (settings, trusted) = opening(&house);
        let fixture = Fixture::start(settings, vec![reading("origin.example", origin.port)]);
        for _ in 0..20 {
            let mut client = Client::through(&fixture, origin.port, &trusted, "h2").await;
            assert_eq!(client.ask(origin.port, "GET", "/", "").await.0, 200);
        }
        assert_eq!(origin.connections.load(Ordering::Relaxed), 1, "{server}");
    }
}

#[tokio::test]
async fn without_an_authority_nothing_is_opened() {
    let house = House::new();
    let origin = house.serve(&["origin.example"], &["http/1.1"]).await;
    let (settings, _) = opening(&house);
    let settings = Settings { opener: None, ..settings };
    let fixture = Fixture::start(settings, vec![reading("origin.example", origin.port)]);
    let request = format!("CONNECT origin.example:{} HTTP/1.1\r\nHost: x\r\n\r\n", origin.port);
    let answer = fixture.ask(&request).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("which a tunnel hides"), "{answer}");
}
