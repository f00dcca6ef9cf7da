//! What a client can't do: send for ever, wait for ever, open without end.

use std::{sync::Arc, time::Duration};

use boatyard_egress::{Outcome, Settings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use crate::fixture::{Fixture, echo, origin, read_head, rule, settings, soon};

#[tokio::test]
async fn a_head_that_trickles_is_cut_off() {
    let head_within = Duration::from_millis(200);
    let fixture = Fixture::start(Settings { head_within, ..settings() }, Vec::new());
    let mut stream = fixture.connect().await;
    stream.write_all(b"GET http://origin.example/ HTTP/1.1\r\n").await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let trickle = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while write.write_all(b"X-A: b\r\n").await.is_ok() {
            pace.tick().await;
        }
    });
    let mut answer = Vec::new();
    // Whether it ends by a close or a reset depends on what was on its way.
    let _ = soon(read.read_to_end(&mut answer)).await;
    soon(trickle).await.unwrap();
    // A connection that says nothing at all ends as well.
    let mut silent = fixture.connect().await;
    assert_eq!(soon(silent.read(&mut [0; 9])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let fixture = Fixture::start(settings(), Vec::new());
    let mut stream = fixture.connect().await;
    stream.write_all(b"GET http://origin.example/ HTTP/1.1\r\nX-Long: ").await.unwrap();
    let filler = vec![b'x'; 80_000];
    let _ = stream.write_all(&filler).await;
    let mut answer = [0; 12];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}

#[tokio::test]
async fn connections_are_limited_and_come_back() {
    let port = echo().await;
    let settings = Settings { max_connections: 2, ..settings() };
    let mut fixture = Fixture::start(settings, vec![rule("echo", "*", port)]);
    let target = format!("origin.example:{port}");
    let first = fixture.tunnel(&target).await;
    let _second = fixture.tunnel(&target).await;
    let mut third = fixture.connect().await;
    let mut answer = String::new();
    soon(third.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nThis workspace has too many connections open\n"));
    drop(first);
    fixture.record().await;
    soon(async {
        while fixture.proxy.connections() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    fixture.tunnel(&target).await;
}

#[tokio::test]
async fn requests_are_limited_over_all_connections_and_room_comes_back() {
    // An answer stays under way until it is told to end.
    let end = Arc::new(Notify::new());
    let told = Arc::clone(&end);
    let port = origin(move |mut stream| {
        let told = Arc::clone(&told);
        async move {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
            let _ = stream.write_all(head).await;
            told.notified().await;
            let _ = stream.write_all(b"0\r\n\r\n").await;
        }
    })
    .await;
    let head_within = Duration::from_millis(200);
    let settings = Settings { max_requests: 1, head_within, ..settings() };
    let mut fixture = Fixture::start(settings, vec![rule("origin", "*", port)]);
    let request = format!("GET http://origin.example:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n");
    let ask = async |fixture: &Fixture| {
        let mut stream = fixture.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        (stream, head)
    };
    let (_first, head) = ask(&fixture).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (_second, head) = ask(&fixture).await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    let Outcome::Failed { reason } = fixture.record().await.outcome else { panic!("passed") };
    assert_eq!(reason, "This workspace has 1 requests under way already");
    end.notify_one();
    fixture.record().await;
    let (_third, head) = ask(&fixture).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn a_quiet_tunnel_is_ended() {
    let port = echo().await;
    let settings = Settings { idle_after: Duration::from_millis(100), ..settings() };
    let mut fixture = Fixture::start(settings, vec![rule("echo", "*", port)]);
    let mut stream = fixture.tunnel(&format!("origin.example:{port}")).await;
    assert!(soon(stream.read_u8()).await.is_err());
    let Outcome::Failed { reason } = fixture.record().await.outcome else { panic!("not ended") };
    assert_eq!(reason, "no byte passed for too long");
}

#[tokio::test]
async fn shutting_down_drains_and_then_cuts() {
    let port = echo().await;
    let settings = Settings { drain_within: Duration::from_millis(300), ..settings() };
    let mut fixture = Fixture::start(settings, vec![rule("echo", "*", port)]);
    let target = format!("origin.example:{port}");
    let mut stream = fixture.tunnel(&target).await;
    let mut stays = fixture.tunnel(&target).await;
    fixture.stop.take().unwrap().send(()).unwrap();
    // What is open goes on for a while.
    stream.write_all(b"x").await.unwrap();
    assert_eq!(soon(stream.read_u8()).await.unwrap(), b'x');
    stream.shutdown().await.unwrap();
    assert_eq!(soon(stream.read(&mut [0; 9])).await.unwrap(), 0);
    soon(&mut fixture.serving).await.unwrap().unwrap();
    assert!(soon(stays.read_u8()).await.is_err());
    assert!(tokio::net::TcpStream::connect(fixture.address).await.is_err());
    assert_eq!(fixture.record().await.outcome, Outcome::Passed { status: 200 });
    assert!(matches!(fixture.record().await.outcome, Outcome::Failed { .. }));
    assert_eq!(fixture.proxy.connections(), 0);
}

#[tokio::test]
async fn a_listener_that_is_shut_down_from_inside_ends_the_loop() {
    let fixture = Fixture::start(settings(), Vec::new());
    drop(fixture);
    let (policy, watched) = tokio::sync::watch::channel(Default::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let inside = listener.try_clone().unwrap();
    let (sink, _records) = boatyard_egress::log::Channel::new(1);
    let resolver = std::sync::Arc::new(boatyard_egress::resolve::System);
    let proxy = boatyard_egress::Proxy::new(settings(), resolver, sink);
    let workspace = boatyard_model::WorkspaceId::new();
    let serving = proxy.serve(workspace, listener.into(), watched, std::future::pending());
    socket2::SockRef::from(&inside).shutdown(std::net::Shutdown::Both).unwrap();
    let ended = soon(serving).await.unwrap_err();
    assert!(ended.to_string().contains("listen"), "{ended}");
    drop(policy);
}
