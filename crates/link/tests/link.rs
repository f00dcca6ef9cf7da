//! Two links over real sockets and in-memory pipes.

use std::{sync::Arc, time::Duration};

use boatyard_link::{
    Driver, Error, GoAwayCode, Incoming, Keepalive, Link, Options, ResetCode, Role,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::UnixStream,
    task::JoinHandle,
};

/// Far beyond what any of this takes; a hang becomes a failure.
const DEADLINE: Duration = Duration::from_secs(30);

type Ending = JoinHandle<Result<(), Error>>;

fn options() -> Options {
    Options::new("test 1")
}

fn pair_with(a: Options, b: Options) -> ((Link, Ending), (Link, Ending)) {
    let (left, right) = UnixStream::pair().unwrap();
    let (a, a_driver) = Link::start(left, Role::Connector, a);
    let (b, b_driver) = Link::start(right, Role::Acceptor, b);
    ((a, tokio::spawn(a_driver)), (b, tokio::spawn(b_driver)))
}

fn pair() -> ((Link, Ending), (Link, Ending)) {
    pair_with(options(), options())
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

async fn accept(link: &Link) -> Incoming {
    soon(link.accept()).await.expect("a stream")
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stream", rename_all = "snake_case")]
enum Header {
    Echo { name: String },
}

#[tokio::test]
async fn headers_bytes_and_ends_go_both_ways() {
    let ((a, _), (b, _)) = pair();
    let header = Header::Echo { name: "x".into() };
    let mut stream = a.open(&header).unwrap();
    stream.write_all(b"to there").await.unwrap();
    stream.shutdown().await.unwrap();
    let incoming = accept(&b).await;
    assert_eq!(incoming.parse::<Header>().unwrap(), header);
    let mut other = incoming.stream;
    let mut text = String::new();
    soon(other.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "to there");
    // The other half is still open.
    other.write_all(b"and back").await.unwrap();
    other.shutdown().await.unwrap();
    text.clear();
    soon(stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "and back");
    drop((stream, other));
    let mut opposite = b.open(&header).unwrap();
    opposite.send_message(&[1, 2, 3]).await.unwrap();
    let mut stream = accept(&a).await.stream;
    assert_eq!(soon(stream.recv_message::<Vec<u8>>(100)).await.unwrap(), Some(vec![1, 2, 3]));
}

#[tokio::test]
async fn messages_of_all_sizes_arrive_whole() {
    let ((a, _), (b, _)) = pair();
    let mut stream = a.open("messages").unwrap();
    let sizes = [0, 1, 100, 4_000, 16_384, 65_536, 300_000, 3_000_000];
    let sender = tokio::spawn(async move {
        for size in sizes {
            stream.send_message(&"m".repeat(size)).await.unwrap();
        }
        stream.finish().unwrap();
        stream
    });
    let mut stream = accept(&b).await.stream;
    for size in sizes {
        let message: String = soon(stream.recv_message(4_000_000)).await.unwrap().unwrap();
        assert_eq!(message.len(), size);
    }
    assert_eq!(soon(stream.recv_message::<String>(10)).await.unwrap(), None);
    soon(sender).await.unwrap();
}

#[tokio::test]
async fn messages_are_bounded_and_cut_ones_are_noticed() {
    let ((a, _), (b, _)) = pair();
    let mut stream = a.open("messages").unwrap();
    stream.send_message(&"m".repeat(1000)).await.unwrap();
    let mut other = accept(&b).await.stream;
    let refused = soon(other.recv_message::<String>(999)).await.unwrap_err();
    assert!(matches!(refused, Error::TooLong { length: 1002, limit: 999, .. }), "{refused}");

    let mut stream = a.open("messages").unwrap();
    stream.write_all(&[200, 0, 0, 0, b'"']).await.unwrap();
    stream.finish().unwrap();
    let mut other = accept(&b).await.stream;
    let cut = soon(other.recv_message::<String>(999)).await.unwrap_err();
    assert!(matches!(cut, Error::Truncated), "{cut}");

    let mut stream = a.open("messages").unwrap();
    stream.write_all(&[1, 0, 0, 0, b'{']).await.unwrap();
    let mut other = accept(&b).await.stream;
    let bad = soon(other.recv_message::<String>(999)).await.unwrap_err();
    assert!(matches!(bad, Error::Malformed { .. }), "{bad}");
}

#[tokio::test]
async fn a_message_that_is_waited_for_twice_is_not_lost() {
    let ((a, _), (b, _)) = pair();
    let mut stream = a.open("messages").unwrap();
    stream.write_all(&[5, 0, 0, 0, b'"', b'a']).await.unwrap();
    let mut other = accept(&b).await.stream;
    // The first wait takes the beginning and is given up when this message comes.
    let mut signal = a.open("signal").unwrap();
    let mut arrived = accept(&b).await.stream;
    signal.send_message(&1).await.unwrap();
    tokio::select! {
        biased;
        _ = other.recv_message::<String>(99) => panic!("not whole"),
        message = arrived.recv_message::<u8>(99) => assert_eq!(message.unwrap(), Some(1)),
    }
    stream.write_all(b"bc\"").await.unwrap();
    assert_eq!(soon(other.recv_message::<String>(99)).await.unwrap().unwrap(), "abc");
}

#[tokio::test]
async fn a_dropped_writer_resets_and_a_finished_one_does_not() {
    let ((a, _), (b, _)) = pair();
    let mut stream = a.open("part").unwrap();
    stream.write_all(b"part of").await.unwrap();
    let mut other = accept(&b).await.stream;
    let mut first = [0; 7];
    soon(other.read_exact(&mut first)).await.unwrap();
    drop(stream);
    let error = soon(other.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let mut stream = a.open("whole").unwrap();
    stream.write_all(b"whole").await.unwrap();
    stream.finish().unwrap();
    drop(stream);
    let mut other = accept(&b).await.stream;
    let mut text = String::new();
    soon(other.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "whole");
    // Nobody reads our half any more; we learn it when we write.
    let told = soon(async {
        loop {
            if let Err(error) = other.write_all(&[0; 1000]).await {
                break error;
            }
        }
    });
    assert_eq!(told.await.kind(), std::io::ErrorKind::ConnectionReset);
    drop(other);
    let mut reset = a.open("reset").unwrap();
    let mut other = accept(&b).await.stream;
    other.reset(ResetCode::NOT_FOUND, "no such file");
    let Err(Error::Reset { code, text }) = soon(reset.recv_message::<u8>(9)).await else {
        panic!("not reset")
    };
    assert_eq!((code, &*text), (ResetCode::NOT_FOUND, "no such file"));
}

#[tokio::test]
async fn a_stream_nobody_accepts_can_be_refused() {
    let ((a, _), (b, _)) = pair();
    let mut stream = a.open("whatever").unwrap();
    accept(&b).await.refuse(ResetCode::UNSUPPORTED, "no such kind");
    let error = soon(stream.recv_message::<u8>(9)).await.unwrap_err();
    assert_eq!(error.to_string(), "the stream was reset: unsupported: no such kind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_in_both_directions_beside_a_stalled_stream() {
    let ((a, _), (b, _)) = pair();
    let mut stalled = a.open("stalled").unwrap();
    let _unread = accept(&b).await.stream;
    // Fills window and queue and then waits, for ever.
    let stalled = tokio::spawn(async move { stalled.write_all(&vec![0; 10 << 20]).await });
    let mut tasks = Vec::new();
    for n in 0..4_u8 {
        let stream = a.open("bulk").unwrap();
        let other = accept(&b).await.stream;
        tasks.push(tokio::spawn(async move {
            let (mut recv, mut send) = tokio::io::split(other);
            tokio::io::copy(&mut recv, &mut send).await.unwrap();
            send.shutdown().await.unwrap();
        }));
        tasks.push(tokio::spawn(async move {
            let bytes: Vec<u8> = (0..8_000_000_u32).map(|i| (i >> 8) as u8 ^ n).collect();
            let bytes = Arc::new(bytes);
            let sent = Arc::clone(&bytes);
            let (mut send, mut recv) = stream.split();
            let writer = tokio::spawn(async move {
                send.write_all(&sent).await.unwrap();
                send.shutdown().await.unwrap();
            });
            let mut back = Vec::new();
            recv.read_to_end(&mut back).await.unwrap();
            assert!(back == *bytes);
            writer.await.unwrap();
        }));
    }
    for task in tasks {
        soon(task).await.unwrap();
    }
    assert!(!stalled.is_finished());
    stalled.abort();
}

#[tokio::test]
async fn closing_lets_streams_end_and_then_ends_in_good_order() {
    let ((a, a_end), (b, b_end)) = pair();
    let mut stream = a.open("long").unwrap();
    let mut other = accept(&b).await.stream;
    a.close(GoAwayCode::CLOSING, Duration::from_secs(3), "restart");
    let farewell = soon(b.going_away()).await.unwrap();
    assert_eq!(farewell.retry_after, Duration::from_secs(3));
    assert_eq!((farewell.code, &*farewell.text), (GoAwayCode::CLOSING, "restart"));
    assert!(matches!(b.open("late"), Err(Error::GoingAway { .. })));
    assert!(matches!(a.open("late"), Err(Error::Closed)));
    stream.send_message("still here").await.unwrap();
    stream.finish().unwrap();
    let message: Option<String> = soon(other.recv_message(99)).await.unwrap();
    assert_eq!(message.unwrap(), "still here");
    other.finish().unwrap();
    drop((stream, other));
    soon(a_end).await.unwrap().unwrap();
    soon(b_end).await.unwrap().unwrap();
    assert!(matches!(soon(b.ended()).await, Error::Closed));
    assert!(soon(b.accept()).await.is_none());
}

#[tokio::test]
async fn dropping_the_last_handle_closes() {
    let ((a, a_end), (b, b_end)) = pair();
    soon(a.peer()).await.unwrap();
    drop(a);
    soon(a_end).await.unwrap().unwrap();
    soon(b_end).await.unwrap().unwrap();
    drop(b);
}

#[tokio::test]
async fn a_lost_connection_fails_everything_that_waits() {
    let ((a, a_end), (b, b_end)) = pair();
    let mut stream = a.open("x").unwrap();
    let _other = accept(&b).await.stream;
    let reader = tokio::spawn(async move { stream.recv_message::<u8>(9).await });
    let acceptor = {
        let a = a.clone();
        tokio::spawn(async move { a.accept().await.is_none() })
    };
    b_end.abort();
    let ended = soon(a_end).await.unwrap().unwrap_err();
    assert!(matches!(ended, Error::Lost), "{ended}");
    assert!(matches!(soon(reader).await.unwrap(), Err(Error::Lost)));
    assert!(soon(acceptor).await.unwrap());
    assert!(matches!(a.open("y"), Err(Error::Lost)));
    assert!(matches!(b.open("y"), Err(Error::Closed)));
}

#[tokio::test]
async fn an_abort_is_noticed_while_the_socket_is_full() {
    let (left, _right) = UnixStream::pair().unwrap();
    let (raw_left, mut raw) = UnixStream::pair().unwrap();
    drop(left);
    let (link, driver) = Link::start(raw_left, Role::Connector, options());
    let end = tokio::spawn(driver);
    // A peer that grants much and then reads nothing.
    let welcome = br#"{"protocol":1,"min":1,"software":"x","window":1000000000,"max_streams":9}"#;
    let mut hello = vec![0, 0, 0, 0, 1];
    hello.extend(&(welcome.len() as u32).to_le_bytes()[..3]);
    hello.extend(welcome);
    raw.write_all(&hello).await.unwrap();
    let mut stream = link.open("x").unwrap();
    let mut writer = tokio::spawn(async move { stream.write_all(&vec![0; 100 << 20]).await });
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut writer).await.is_err());
    link.abort();
    soon(end).await.unwrap().unwrap();
    assert!(soon(writer).await.unwrap().is_err());
}

#[tokio::test]
async fn streams_are_limited_and_come_back() {
    let ((a, _), (b, _)) = pair_with(options(), Options { max_streams: 3, ..options() });
    soon(a.peer()).await.unwrap();
    let open: Vec<_> = (0..3).map(|_| a.open("x").unwrap()).collect();
    assert!(matches!(a.open("x"), Err(Error::TooManyStreams { limit: 3 })));
    drop(open);
    let mut again = a.open("again").unwrap();
    // Those that were withdrawn before anybody accepted them are not seen at all.
    let mut other = accept(&b).await;
    assert_eq!(&other.header[..], b"\"again\"");
    other.stream.send_message(&7).await.unwrap();
    assert_eq!(soon(again.recv_message::<u8>(9)).await.unwrap(), Some(7));
}

/// A raw connection to a link.
fn raw(options: Options) -> (DuplexStream, Link, Driver<DuplexStream>) {
    let (left, right) = duplex(1 << 16);
    let (link, driver) = Link::start(right, Role::Acceptor, options);
    (left, link, driver)
}

#[tokio::test]
async fn another_version_is_refused_with_a_reason_on_both_sides() {
    let (mut raw, link, driver) = raw(options());
    let welcome = br#"{"protocol":9,"min":8,"software":"future 9","window":65536,"max_streams":9}"#;
    let mut hello = vec![0, 0, 0, 0, 1];
    hello.extend(&(welcome.len() as u32).to_le_bytes()[..3]);
    hello.extend(welcome);
    raw.write_all(&hello).await.unwrap();
    let error = soon(driver).await.unwrap_err();
    assert!(matches!(error, Error::Version { their_min: 8, .. }), "{error}");
    assert!(matches!(soon(link.peer()).await, Err(Error::Version { .. })));
    let mut said = Vec::new();
    soon(raw.read_to_end(&mut said)).await.unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("`future 9` speaks 8 to 9"), "{said}");
}

#[tokio::test]
async fn a_side_that_is_told_off_does_not_take_it_for_a_good_end() {
    let (mut raw, _link, driver) = raw_welcomed(options()).await;
    let mut frame = vec![0, 0, 0, 0, 9, 11, 0, 0, 4, 0, 0, 0, 0, 0];
    frame.extend(b"why\x07?");
    raw.write_all(&frame).await.unwrap();
    drop(raw);
    let error = soon(driver).await.unwrap_err();
    assert_eq!(error.to_string(), "the other side of the link is going away: why ?");
}

#[tokio::test]
async fn a_link_runs_over_tcp_as_well() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    boatyard_link::transport::tune_tcp(&dialled).unwrap();
    boatyard_link::transport::tune_tcp(&accepted).unwrap();
    let (a, a_driver) = Link::start(dialled, Role::Connector, options());
    let (b, b_driver) = Link::start(accepted, Role::Acceptor, options());
    tokio::spawn(a_driver);
    tokio::spawn(b_driver);
    let mut stream = a.open("x").unwrap();
    let sender = tokio::spawn(async move {
        stream.send_half().send_bytes(vec![5; 5_000_000].into()).await.unwrap();
        stream.finish().unwrap();
        stream
    });
    let mut all = Vec::new();
    soon(accept(&b).await.stream.read_to_end(&mut all)).await.unwrap();
    assert!(all.len() == 5_000_000 && all.iter().all(|byte| *byte == 5));
    soon(sender).await.unwrap();
    assert!(
        boatyard_link::transport::tune_tcp(&std::fs::File::open("/dev/null").unwrap()).is_err()
    );
}

#[tokio::test]
async fn nonsense_ends_the_link() {
    let (mut raw, _link, driver) = raw(options());
    raw.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(matches!(soon(driver).await, Err(Error::Violation(_))));
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed() {
    let (_raw, _link, driver) = raw(options());
    assert!(matches!(driver.await, Err(Error::NoWelcome { .. })));

    let keepalive =
        Keepalive { interval: Duration::from_secs(15), dead_after: Duration::from_secs(30) };
    let options = Options { keepalive: Some(keepalive), ..options() };
    let (mut raw, _link, driver) = raw_welcomed(options).await;
    let begin = tokio::time::Instant::now();
    let error = driver.await.unwrap_err();
    assert!(matches!(error, Error::Silent { .. }), "{error}");
    // One interval in which the Welcome was heard, then two of silence.
    assert_eq!(begin.elapsed(), Duration::from_secs(45));
    let mut said = Vec::new();
    raw.read_to_end(&mut said).await.unwrap();
    assert_eq!(said[said.len() - 16..said.len() - 8], [0, 0, 0, 0, 7, 8, 0, 0], "a Ping");
}

async fn raw_welcomed(options: Options) -> (DuplexStream, Link, Driver<DuplexStream>) {
    let (mut raw, link, driver) = raw(options);
    let welcome = br#"{"protocol":1,"min":1,"software":"x","window":65536,"max_streams":9}"#;
    let mut hello = vec![0, 0, 0, 0, 1];
    hello.extend(&(welcome.len() as u32).to_le_bytes()[..3]);
    hello.extend(welcome);
    raw.write_all(&hello).await.unwrap();
    (raw, link, driver)
}

#[tokio::test(start_paused = true)]
async fn two_idle_links_keep_each_other_alive() {
    let (left, right) = duplex(1 << 16);
    let (a, a_driver) = Link::start(left, Role::Connector, options());
    let (b, b_driver) = Link::start(right, Role::Acceptor, options());
    let mut a_end = tokio::spawn(a_driver);
    let _b_end = tokio::spawn(b_driver);
    assert!(tokio::time::timeout(Duration::from_secs(3600), &mut a_end).await.is_err());
    let mut stream = a.open("x").unwrap();
    stream.send_message(&1).await.unwrap();
    let mut other = b.accept().await.unwrap().stream;
    assert_eq!(other.recv_message::<u8>(9).await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_current_thread_runtime_with_local_tasks_suffices() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let (left, right) = UnixStream::pair().unwrap();
            let (a, a_driver) = Link::start(left, Role::Connector, options().epoch(4));
            let (b, b_driver) = Link::start(right, Role::Acceptor, options());
            tokio::task::spawn_local(a_driver);
            tokio::task::spawn_local(b_driver);
            let peer = soon(b.peer()).await.unwrap();
            assert_eq!((peer.epoch, &*peer.software), (4, "test 1"));
            let mut stream = b.open(&Header::Echo { name: "n".into() }).unwrap();
            stream.send_message("hi").await.unwrap();
            let mut other = accept(&a).await.stream;
            assert_eq!(soon(other.recv_message::<String>(9)).await.unwrap().unwrap(), "hi");
        })
        .await;
}
