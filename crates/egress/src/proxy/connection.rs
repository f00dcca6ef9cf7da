//! One connection from a workspace over which HTTP is spoken, in either version: requests one
//! after another or beside each other, or one tunnel, or one upgrade.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use http::{Method, Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::sleep,
};

use super::{
    Place, aim,
    answer::{Answer, Notice, Wants},
    exchange, forward,
    inside::Inside,
    tunnel::{self, Tunnel},
    upgrade::{self, Upgrade},
    upstream::Wire,
};
use crate::{
    log::{Pending, Traffic, Who},
    rules::Target,
};

/// How many requests may be under way on one HTTP/2 connection.
const STREAMS: u32 = 128;
/// What a program may have sent that its destination has not taken, for one request.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all requests of a connection.
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// What is made ready to be sent, for one request.
const SEND_BUFFER: usize = 64 * 1024;

/// What the requests of one connection share.
pub(super) struct Connection {
    pub(super) place: Place,
    pub(super) front: Front,
    /// The program's connection, to be watched.
    pub(super) stream: Arc<TcpStream>,
    /// Its own end, where it is known.
    pub(super) peer: Option<SocketAddr>,
    /// The program behind it, when that is found out.
    pub(super) who: Option<Who>,
    /// Changes whenever anything passes or begins.
    pub(super) activity: Arc<AtomicU64>,
    /// How many requests wait for a person.
    pub(super) held: AtomicUsize,
    /// What begins when the last answer is out.
    pub(super) after: Mutex<Option<After>>,
}

/// What a client takes us for.
pub(super) enum Front {
    /// A proxy: each request says where it goes.
    Proxy,
    /// The one server that the connection leads to.
    Origin(Origin),
    /// The same, of which it may have nothing.
    Refused(Notice),
}

/// Where a connection leads.
pub(super) struct Origin {
    pub(super) target: Target,
    pub(super) wire: Wire,
    /// The rule by which a person has let the connection pass already.
    pub(super) granted: Option<Arc<str>>,
    /// A connection that was made before it was known what the client speaks.
    pub(super) outside: Mutex<Option<TcpStream>>,
}

/// What a connection becomes.
pub(super) enum After {
    Tunnel(Tunnel),
    Upgrade(Upgrade),
}

/// In which version a client speaks HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
}

/// Serves a connection to the proxy to its end.
pub(super) async fn run(stream: TcpStream, place: Place) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let peer = stream.peer_addr().ok();
    let stream = Arc::new(stream);
    let inside = Inside::new(Arc::clone(&stream), Vec::new());
    let connection = Connection::new(place, Front::Proxy, stream, peer);
    serve(inside, Speaks::Http1, connection).await;
}

/// Serves HTTP over `io` until it ends, and what comes after it.
pub(super) async fn serve<S>(io: S, speaks: Speaks, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = Arc::new(connection);
    let place = &connection.place;
    let settings = &place.parts.settings;
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request| {
            let connection = Arc::clone(&connection);
            async move { Ok::<_, Infallible>(answer(&connection, request).await) }
        })
    };
    let mut closing = place.closing.clone();
    let closed = async {
        // An error here means that the proxy itself is gone, which is the same.
        let _ = closing.wait_for(|closing| *closing).await;
    };
    let idle = until_idle(settings.idle_after, || connection.activity());
    let served = match speaks {
        Speaks::Http1 => {
            // A client that closes its side is gone: what it asked for ends there, however long the
            // destination is silent. (One that closes only its writing half can't be told from that,
            // and programs that do so before they have read an answer are hardly to be found.)
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(settings.head_within)
                .max_buf_size(settings.max_head)
                .serve_connection(TokioIo::new(io), service)
                .with_upgrades();
            let mut serving = pin!(serving);
            tokio::select! {
                served = serving.as_mut() => served,
                () = idle => return,
                () = closed => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            }
        }
        Speaks::Http2 => {
            let serving = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buf_size(SEND_BUFFER)
                .max_header_list_size(u32::try_from(settings.max_head).unwrap_or(u32::MAX))
                .serve_connection(TokioIo::new(io), service);
            let mut serving = pin!(serving);
            tokio::select! {
                served = serving.as_mut() => served,
                () = idle => return,
                () = closed => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            }
        }
    };
    if let Err(error) = served {
        // Most often the client went away; what it asked for has its own record.
        tracing::debug!(workspace.id = %place.workspace, %error, "connection from a workspace");
    }
    let after = lock(&connection.after).take();
    match after {
        Some(After::Tunnel(granted)) => tunnel::begin(granted, place).await,
        Some(After::Upgrade(granted)) => upgrade::run(granted, place).await,
        None => {}
    }
}

async fn answer(connection: &Connection, request: Request<Incoming>) -> Response<Answer> {
    connection.activity.fetch_add(1, Ordering::Relaxed);
    let parts = &connection.place.parts;
    let record = || {
        let log = Arc::clone(&parts.log);
        Pending::new(connection.place.workspace, request.method().as_str(), log)
            .by(connection.who.as_ref())
    };
    match &connection.front {
        Front::Proxy if request.method() == Method::CONNECT => {
            let record = record();
            aim::connect(connection, request, record).await
        }
        Front::Proxy => {
            let record = record();
            forward::answer(connection, request, record).await
        }
        Front::Origin(origin) => {
            let record = record();
            exchange::to_origin(connection, origin, request, record).await
        }
        // It was recorded when it was decided.
        Front::Refused(notice) => notice.answer(Wants::of(request.headers())),
    }
}

impl Connection {
    pub(super) fn new(
        place: Place,
        front: Front,
        stream: Arc<TcpStream>,
        peer: Option<SocketAddr>,
    ) -> Self {
        let who = peer.and_then(|peer| {
            place.parts.log.begun(place.workspace, peer, stream.local_addr().ok())
        });
        Self {
            place,
            front,
            stream,
            peer,
            who,
            activity: Arc::default(),
            held: AtomicUsize::new(0),
            after: Mutex::default(),
        }
    }

    /// A number that changes while the connection is in use.
    fn activity(&self) -> u64 {
        if self.held.load(Ordering::Relaxed) > 0 {
            // A person may take their time.
            self.activity.fetch_add(1, Ordering::Relaxed);
        }
        self.activity.load(Ordering::Relaxed)
    }

    pub(super) fn meter(&self, traffic: &Arc<Traffic>) -> super::answer::Meter {
        super::answer::Meter { traffic: Arc::clone(traffic), activity: Arc::clone(&self.activity) }
    }
}

/// Waits until `activity` gives the same number twice, `idle_after` apart.
pub(super) async fn until_idle(idle_after: std::time::Duration, activity: impl Fn() -> u64) {
    let mut before = activity();
    loop {
        sleep(idle_after).await;
        let now = activity();
        if now == before {
            return;
        }
        before = now;
    }
}

/// A lock that is never held across anything that can panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(dead_code, reason = "checked by the compiler only: connections are spawned")]
fn is_send(stream: TcpStream, place: Place) -> impl Future<Output = ()> + Send {
    run(stream, place)
}
