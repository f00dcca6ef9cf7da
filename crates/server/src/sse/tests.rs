//! Streams over real connections, from a real store.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{Path, Query, Request, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use boatyard_api::client::{Parser, Step};
use boatyard_model::SessionId;
use boatyard_store::ThingId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;
use crate::{
    access::{
        leases::{About, Want},
        table,
    },
    auth::{Caller, Known},
    routes::answer::Failure,
};

/// Nothing here takes longer; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(30);

struct Server {
    address: SocketAddr,
    store: Store,
    watchers: Arc<Watchers>,
    stopping: CancellationToken,
    session: SessionId,
    served: tokio::task::JoinHandle<()>,
    _data: tempfile::TempDir,
}

async fn follow(
    State(watchers): State<Arc<Watchers>>,
    Path(id): Path<SessionId>,
    Query(query): Query<BTreeMap<String, u64>>,
    request: Request,
) -> Response {
    let after = query.get("after").copied().unwrap_or(0);
    let following = if query.contains_key("stored") { Following::Stored } else { Following::Live };
    let known = Known { caller: Caller::server(), csrf: None, until: None };
    let about = About::Thing(ThingId::Session(id), Want::Look);
    let entry = table::named("follow_session").unwrap();
    let lease = watchers.leases.take(&known, entry, about);
    let answer = watchers.sessions.answer(id, after, following, &request, lease, None);
    answer.unwrap_or_else(|problem| Failure(problem).into_response())
}

async fn server() -> Server {
    let (store, session, data) = helper::store().await;
    start("127.0.0.1:0".parse().unwrap(), store, session, data).await
}

async fn start(
    address: SocketAddr,
    store: Store,
    session: SessionId,
    data: tempfile::TempDir,
) -> Server {
    let stopping = CancellationToken::new();
    let watchers = Arc::new(Watchers::new(&store, &stopping));
    let router = Router::new()
        .route("/{id}", get(follow))
        .route("/api/sessions/{id}/events", get(follow))
        .route("/plain", get(|| async { "plain" }))
        .with_state(Arc::clone(&watchers));
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(crate::listener::serve(listener, router, stopping.clone()));
    Server { address, store, watchers, stopping, session, served, _data: data }
}

/// One connection that follows, with the chunks of its body taken off.
struct Viewer {
    stream: TcpStream,
    raw: Vec<u8>,
    parser: Parser,
    /// Chunked framing is used.
    chunked: bool,
    over: bool,
}

impl Viewer {
    async fn open(server: &Server, query: &str, version: &str) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        Self::on(stream, server, query, version).await
    }

    async fn on(mut stream: TcpStream, server: &Server, query: &str, version: &str) -> Self {
        let request =
            format!("GET /{}{query} HTTP/{version}\r\nHost: localhost\r\n\r\n", server.session);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        let head = loop {
            if let Some(at) = raw.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = raw.split_off(at + 4);
                break String::from_utf8(std::mem::replace(&mut raw, rest)).unwrap();
            }
            assert_ne!(timeout(LONG, stream.read_buf(&mut raw)).await.unwrap().unwrap(), 0);
        };
        assert!(head.contains("200 OK") && head.contains("text/event-stream"), "{head}");
        let chunked = head.contains("transfer-encoding: chunked");
        Self { stream, raw, parser: Parser::default(), chunked, over: false }
    }

    /// The next frame as (id, event, data); none when the connection is at its end.
    async fn next(&mut self) -> Option<(Option<u64>, Option<String>, String)> {
        loop {
            while let Some(frame) = self.parser.frame().unwrap() {
                if frame.event.is_some() || !frame.data.is_empty() {
                    return Some((frame.id.map(|id| id.parse().unwrap()), frame.event, frame.data));
                }
            }
            while let Some(chunk) = self.chunk() {
                self.parser.push(&chunk).unwrap();
                if chunk.is_empty() {
                    self.over = true;
                }
            }
            if let Some(frame) = self.parser.frame().unwrap() {
                if frame.event.is_some() || !frame.data.is_empty() {
                    return Some((frame.id.map(|id| id.parse().unwrap()), frame.event, frame.data));
                }
                continue;
            }
            let read = timeout(LONG, self.stream.read_buf(&mut self.raw)).await.unwrap();
            if read.unwrap() == 0 {
                return None;
            }
        }
    }

    fn chunk(&mut self) -> Option<Vec<u8>> {
        if !self.chunked {
            return (!self.raw.is_empty()).then(|| std::mem::take(&mut self.raw));
        }
        let end = self.raw.windows(2).position(|w| w == b"\r\n")?;
        let length = std::str::from_utf8(&self.raw[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if self.raw.len() < end + 2 + length + 2 {
            return None;
        }
        let rest = self.raw.split_off(end + 2 + length + 2);
        let chunk = std::mem::replace(&mut self.raw, rest);
        assert!(chunk.ends_with(b"\r\n"));
        Some(chunk[end + 2..end + 2 + length].to_vec())
    }

    async fn ids(&mut self, until: u64) -> Vec<u64> {
        let mut ids = Vec::new();
        while ids.last() != Some(&until) {
            let (id, event, _) = self.next().await.expect("an event");
            assert_eq!(event, None);
            ids.push(id.unwrap());
        }
        ids
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_sees_everything_once_in_order() {
    let server = server().await;
    let first = helper::append(&server, 5).await;
    let mut early = Viewer::open(&server, "", "1.1").await;
    let mut resumed = Viewer::open(&server, "?after=3", "1.1").await;
    let old = Viewer::open(&server, "", "1.0").await;
    assert!(early.chunked && !old.chunked);
    assert_eq!(early.ids(first).await, (1..=first).collect::<Vec<_>>());
    assert_eq!(resumed.ids(first).await, (4..=first).collect::<Vec<_>>());
    let mut viewers = vec![early, resumed, old];
    // Others come while entries are written.
    let mut expected = first;
    for round in 0..20 {
        expected = helper::append(&server, 1 + round % 3).await;
        if round % 4 == 0 {
            viewers.push(Viewer::open(&server, &format!("?after={expected}"), "1.1").await);
        }
    }
    let expected = helper::append(&server, 1).await.max(expected);
    for (n, viewer) in viewers.iter_mut().enumerate() {
        let ids = viewer.ids(expected).await;
        let from = ids[0];
        assert_eq!(ids, (from..=expected).collect::<Vec<_>>(), "viewer {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stands_still_holds_up_nobody_and_misses_nothing() {
    let server = server().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let stream = socket.connect(server.address).await.unwrap();
    let before = helper::append(&server, 1).await;
    let after = format!("?after={before}");
    let mut slow = Viewer::on(stream, &server, &after, "1.1").await;
    let mut quick = Viewer::open(&server, &after, "1.1").await;
    // More than any socket's buffers hold.
    let mut last = 0;
    for _ in 0..24 {
        last = helper::append_large(&server, 256 << 10).await;
        assert_eq!(quick.ids(last).await, [last]);
    }
    assert_eq!(slow.ids(last).await, (before + 1..=last).collect::<Vec<_>>());
    // In step again.
    let last = helper::append(&server, 1).await;
    assert_eq!(slow.ids(last).await, [last]);
    assert_eq!(quick.ids(last).await, [last]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_what_is_stored_ends_and_says_so() {
    let server = server().await;
    let last = helper::append(&server, 3).await;
    for version in ["1.1", "1.0"] {
        let mut viewer = Viewer::open(&server, "?stored=1", version).await;
        viewer.ids(last).await;
        assert_eq!(viewer.next().await.unwrap().1.as_deref(), Some("end"));
        assert_eq!(viewer.next().await, None);
        assert_eq!(viewer.over, viewer.chunked);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_session_ends_its_streams() {
    let server = server().await;
    let mut viewers = Vec::new();
    for version in ["1.1", "1.1", "1.0"] {
        viewers.push(Viewer::open(&server, "", version).await);
    }
    let before = helper::append(&server, 1).await;
    for viewer in &mut viewers {
        viewer.ids(before).await;
    }
    let last = helper::end(&server).await;
    for viewer in &mut viewers {
        viewer.ids(last).await;
        assert_eq!(viewer.next().await.unwrap().1.as_deref(), Some("end"));
        assert_eq!(viewer.next().await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_says_goodbye_and_is_gone() {
    let server = server().await;
    let mut viewers = Vec::new();
    for version in ["1.1", "1.1", "1.0"] {
        viewers.push(Viewer::open(&server, "", version).await);
    }
    let last = helper::append(&server, 1).await;
    for viewer in &mut viewers {
        viewer.ids(last).await;
    }
    assert_eq!(server.watchers.count(), 3);
    server.stopping.cancel();
    for viewer in &mut viewers {
        assert_eq!(viewer.next().await.unwrap().1.as_deref(), Some("goodbye"));
        assert_eq!(viewer.next().await, None);
    }
    timeout(LONG, server.served).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_may_follow_other_requests_on_a_connection() {
    let server = server().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let plain = "GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(plain.as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        while !raw.ends_with(b"\r\n\r\nplain") {
            timeout(LONG, stream.read_buf(&mut raw)).await.unwrap().unwrap();
        }
    }
    let last = helper::append(&server, 2).await;
    let mut viewer = Viewer::on(stream, &server, "", "1.1").await;
    assert_eq!(viewer.ids(last).await, (1..=last).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_goes_on_over_a_restart_of_the_server() {
    let mut server = server().await;
    let client = boatyard_api::Client::new(&format!("http://{}", server.address), None).unwrap();
    let mut follow = client.follow_session(server.session, 0);
    let (mut seen, mut lost) = (Vec::new(), 0);
    let mut last = 0;
    for round in 0..3 {
        last = helper::append(&server, 3).await;
        while seen.last() != Some(&last) {
            match timeout(LONG, follow.next()).await.unwrap().unwrap().unwrap() {
                Step::Item(event) => seen.push(event.seq),
                Step::Lost(_) => lost += 1,
                Step::Resumed => {}
            }
        }
        if round < 2 {
            server.stopping.cancel();
            timeout(LONG, &mut server.served).await.unwrap().unwrap();
            // Something happens while nobody listens.
            helper::append(&server, 2).await;
            let Server { address, store, session, _data, .. } = server;
            server = start(address, store, session, _data).await;
        }
    }
    assert_eq!(seen, (1..=last).collect::<Vec<_>>());
    assert_eq!(lost, 2);
    helper::end(&server).await;
    while let Some(step) = timeout(LONG, follow.next()).await.unwrap() {
        step.unwrap();
    }
}

mod helper {
    use boatyard_model::{
        EventBody, Timestamp, WorkspaceId, WorkspaceKind, WorkspaceLimits, event::NoticeLevel,
    };
    use boatyard_store::{NewEvent, NewSession, Options, Owner, workspaces::NewWorkspace};

    use super::*;

    /// A store with a session that has no events yet.
    pub(super) async fn store() -> (Store, SessionId, tempfile::TempDir) {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(data.path().join("boatyard.db"))).await.unwrap();
        let (owner, workspace, session) = (Owner::BUILT_IN, WorkspaceId::new(), SessionId::new());
        let new_workspace = NewWorkspace {
            id: workspace,
            owner,
            name: None,
            kind: WorkspaceKind::Sandbox,
            runtime: "native".to_owned(),
            isolation: None,
            lowers: Vec::new(),
            repository: None,
            folder: None,
            base_commit: None,
            branch: None,
            limits: WorkspaceLimits::default(),
            task: None,
            forked_from: None,
            begins: boatyard_store::Begins::Later,
        };
        let new_session = NewSession {
            settings: boatyard_model::AgentSettings::default(),
            id: session,
            owner,
            workspace,
            attempt: None,
            agent: "demo".to_owned(),
            model: None,
            cwd: "/work".to_owned(),
            client_key: None,
        };
        let work = store.write(|tx| {
            Box::pin(async move {
                tx.create_workspace(new_workspace).await?;
                tx.create_session(new_session).await
            })
        });
        work.await.unwrap();
        (store, session, data)
    }

    async fn append_texts(server: &Server, texts: Vec<String>) -> u64 {
        let event = |text| {
            let (level, code) = (NoticeLevel::Info, "test".to_owned());
            let body = EventBody::Notice { level, code, text, data: None };
            NewEvent::own(server.session, Timestamp(0), None, body)
        };
        let stored = server.store.append(texts.into_iter().map(event).collect()).await.unwrap();
        let Some(boatyard_store::Appended::Stored(last)) = stored.last() else {
            panic!("not stored: {stored:?}")
        };
        *last
    }

    /// Stores so many events; gives the last one's number.
    pub(super) async fn append(server: &Server, n: usize) -> u64 {
        append_texts(server, vec!["small".to_owned(); n]).await
    }

    /// Stores one event of this size.
    pub(super) async fn append_large(server: &Server, bytes: usize) -> u64 {
        append_texts(server, vec!["y".repeat(bytes)]).await
    }

    /// Ends the session; gives the last event's number.
    pub(super) async fn end(server: &Server) -> u64 {
        let session = server.session;
        let work = server.store.write(move |tx| Box::pin(tx.end_session(session, None)));
        work.await.unwrap();
        let events = server.store.read_events(session, 0, 1000).await.unwrap();
        events.last().unwrap().seq
    }
}
