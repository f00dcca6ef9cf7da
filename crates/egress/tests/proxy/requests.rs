//! Plain HTTP requests.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use boatyard_egress::{Outcome, Rule};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use crate::fixture::{Fixture, origin, read_head, rule, settings, soon};

type Body = BoxBody<Bytes, Infallible>;

/// An origin that tells what it was asked. `/big/<n>` gives n bytes, `/count` counts those sent.
async fn http_origin(connections: Arc<AtomicUsize>) -> u16 {
    origin(move |stream| {
        connections.fetch_add(1, Ordering::Relaxed);
        async move {
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(reply))
                .await;
        }
    })
    .await
}

async fn reply(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let full = |text: String| Response::new(Full::new(Bytes::from(text)).boxed());
    if let Some(size) = path.strip_prefix("/big/") {
        let mut left: usize = size.parse().unwrap();
        let pieces = std::iter::from_fn(move || {
            let piece = left.min(65_536);
            left -= piece;
            (piece > 0).then(|| Ok(Frame::data(Bytes::from(vec![b'b'; piece]))))
        });
        return Ok(Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(
            pieces,
        )))));
    }
    if path == "/count" {
        let mut body = request.into_body();
        let mut count = 0;
        while let Some(Ok(frame)) = body.frame().await {
            count += frame.data_ref().map_or(0, Bytes::len);
        }
        return Ok(full(count.to_string()));
    }
    let mut told = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        told.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    let mut response = full(told);
    let headers = response.headers_mut();
    headers.insert("connection", "x-private".parse().unwrap());
    headers.insert("x-private", "1".parse().unwrap());
    headers.append("set-cookie", "a=1".parse().unwrap());
    headers.append("set-cookie", "b=2".parse().unwrap());
    Ok(response)
}

#[tokio::test]
async fn a_request_is_passed_on_without_what_is_the_proxys() {
    let connections = Arc::new(AtomicUsize::new(0));
    let port = http_origin(Arc::clone(&connections)).await;
    let mut fixture = Fixture::start(settings(), vec![rule("web", "origin.example", port)]);
    let mut stream = fixture.connect().await;
    for n in 0..2 {
        let request = format!(
            "GET http://origin.example:{port}/a/b?secret={n} HTTP/1.1\r\nHost: other.example\r\n\
             Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\nTE: trailers\r\n\
             Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic abc\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("set-cookie: a=1\r\nset-cookie: b=2"), "{head}");
        assert!(!head.contains("x-private"), "{head}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map(|length| length.parse::<usize>().unwrap())
            .unwrap();
        let mut body = vec![0; length];
        soon(stream.read_exact(&mut body)).await.unwrap();
        let told = String::from_utf8(body).unwrap();
        let expected = format!(
            "GET /a/b?secret={n}\nhost: origin.example:{port}\nx-end: 2\nte: trailers\n\
             connection: te\n"
        );
        assert_eq!(told, expected);
        let record = fixture.record().await;
        assert_eq!(record.path.as_deref(), Some("/a/b"));
        assert_eq!(record.outcome, Outcome::Passed { status: 200 });
        assert_eq!((record.sent, record.received), (0, length as u64));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1, "the second went over the same connection");
}

#[tokio::test]
async fn methods_and_paths_are_judged() {
    let port = http_origin(Arc::default()).await;
    let read: Rule = serde_json::from_value(serde_json::json!({
        "name": "read", "host": "origin.example", "ports": [port],
        "methods": ["GET"], "paths": ["/open/*"],
    }))
    .unwrap();
    let fixture = Fixture::start(settings(), vec![read]);
    let ask = |method: &str, path: &str| {
        format!("{method} http://origin.example:{port}{path} HTTP/1.1\r\nHost: x\r\n\r\n")
    };
    for (method, path, status) in [
        ("GET", "/open/a", 200),
        ("HEAD", "/open/a", 200),
        ("POST", "/open/a", 403),
        ("GET", "/closed", 403),
        ("GET", "/open/../closed", 403),
        ("GET", "/open/%2E%2E/closed", 403),
    ] {
        let answer = fixture.ask(&ask(method, path)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {answer}");
        assert!(status == 200 || answer.contains("rule=\"read\""), "{answer}");
    }
    let tunnel = format!("CONNECT origin.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(fixture.ask(&tunnel).await.contains("looks at methods or paths, which a tunnel hides"));
}

#[tokio::test]
async fn what_is_no_proxy_request_is_refused() {
    let fixture = Fixture::start(settings(), vec![rule("all", "*", 80)]);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: origin.example\r\n\r\n", 400),
        ("GET https://origin.example/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET ftp://origin.example/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET http://me@origin.example/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET http://origin.example:0/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET http://a..b/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("TRACE http://origin.example/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        (
            "POST http://origin.example/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
        ),
    ] {
        let answer = fixture.ask(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_stream_both_ways() {
    let port = http_origin(Arc::default()).await;
    let mut fixture = Fixture::start(settings(), vec![rule("web", "*", port)]);
    let size = 48_000_000;
    let mut stream = fixture.connect().await;
    let get = format!(
        "GET http://origin.example:{port}/big/{size} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(get.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    soon(stream.read_to_end(&mut all)).await.unwrap();
    let bodies = all.iter().filter(|byte| **byte == b'b').count();
    assert!(bodies >= size, "{bodies}");
    assert_eq!(fixture.record().await.received, size as u64);

    let mut stream = fixture.connect().await;
    let post = format!(
        "POST http://origin.example:{port}/count HTTP/1.1\r\nHost: x\r\n\
         Content-Length: {size}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(post.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 100"));
    stream.write_all(&vec![b'u'; size]).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with(&size.to_string()), "{answer}");
    assert_eq!(fixture.record().await.sent, size as u64);
}

#[tokio::test]
async fn a_cut_answer_is_cut_for_the_client_too() {
    let port = origin(|mut stream| async move {
        let _ = read_head(&mut stream).await;
        let part = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart";
        stream.write_all(part).await.unwrap();
    })
    .await;
    let fixture = Fixture::start(settings(), vec![rule("web", "*", port)]);
    let ask = format!("GET http://origin.example:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = fixture.ask(&ask).await;
    assert!(answer.contains("content-length: 100") && answer.ends_with("part"), "{answer}");

    let port = origin(|mut stream| async move {
        let _ = read_head(&mut stream).await;
        let _ = stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            )
            .await;
    })
    .await;
    let fixture = Fixture::start(settings(), vec![rule("web", "*", port)]);
    let ask = format!("GET http://origin.example:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(fixture.ask(&ask).await.starts_with("HTTP/1.1 502"));
}

/// An origin that says when it was asked, begins an answer if it is told to, and says when the other
/// side has gone.
async fn silent(begun: &'static [u8]) -> (u16, mpsc::UnboundedReceiver<&'static str>) {
    let (tell, told) = mpsc::unbounded_channel();
    let port = origin(move |mut stream| {
        let tell = tell.clone();
        async move {
            let _ = read_head(&mut stream).await;
            stream.write_all(begun).await.unwrap();
            tell.send("asked").unwrap();
            // A reset is an end, too.
            while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
            tell.send("gone").unwrap();
        }
    })
    .await;
    (port, told)
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed_while_the_answer_is_awaited() {
    let begun: [&[u8]; 2] = [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart"];
    for begun in begun {
        let (port, mut told) = silent(begun).await;
        let mut fixture = Fixture::start(settings(), vec![rule("web", "origin.example", port)]);
        // By the proxy, and in a tunnel in which plain HTTP is spoken.
        for is_tunnel in [false, true] {
            let mut stream = match is_tunnel {
                false => fixture.connect().await,
                true => fixture.tunnel(&format!("origin.example:{port}")).await,
            };
            let place = if is_tunnel { "" } else { &*format!("http://origin.example:{port}") };
            let request = format!("GET {place}/ HTTP/1.1\r\nHost: origin.example:{port}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(soon(told.recv()).await, Some("asked"));
            if !begun.is_empty() {
                read_head(&mut stream).await;
            }
            drop(stream);
            assert_eq!(soon(told.recv()).await, Some("gone"));
            let record = fixture.record().await;
            assert_eq!((&*record.method, record.path.as_deref()), ("GET", Some("/")));
            let expected = match begun {
                [] => Outcome::Failed { reason: "cut short".into() },
                _ => Outcome::Passed { status: 200 },
            };
            assert_eq!(record.outcome, expected);
        }
    }
}
