//! Server-Sent Events: logs that are followed live by many.
//!
//! ```text
//! store ─► fan-out of a log ─┬─► socket of a watcher that keeps up   (one write of shared bytes)
//!              ▲             └─► …
//!              │ joins when it has caught up
//!          catch-up of a watcher that is new or slow ─► its socket   (reads the table)
//! ```
//!
//! - A stream begins with `retry:`, then has one frame for each entry (`id: <seq>`, `data: <json>`),
//!   a comment when nothing happens for a while, and at its end `event: end` (it is complete),
//!   `event: goodbye` (the server is going down; connect again and go on after the last id), or
//!   `event: closed` (the right to it is gone, for the reason that it gives).
//! - Each batch of entries is encoded once, and written to the sockets of all watchers by the one
//!   task of that log ([`fanout`]). A parked watcher is a socket and a number: no task, no buffer.
//!   For that the connection is taken out of the HTTP server after the head was written
//!   ([`socket`]).
//! - A watcher whose socket is full leaves the fan-out: a task of its own writes the rest, reads
//!   what it missed from the table, and lets it join again. It delays nobody, and what it costs is
//!   bounded by one batch.
//! - Each watcher holds a [lease](crate::access::leases): the task that writes to it says why and
//!   parts with it as soon as that is over. Who is present in a session is told in its stream, by
//!   events `presence` without an id.
//! - Where the connection can't be taken (HTTP/1.0, TLS), or not everybody may see every entry, the same entries come as an ordinary body
//!   ([`body`]).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, extract::Request, response::Response};
use boatyard_api::Problem;
use boatyard_store::{
    Store,
    events::StoredEvent,
    feed::FeedEntry,
    follow::{Follower, Source},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Version, header};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

mod body;
mod catch_up;
mod fanout;
mod frame;
mod parked;
pub mod socket;
#[cfg(test)]
mod tests;

pub use body::pieces;

use self::{fanout::Fanouts, socket::Socket};
use crate::access::leases::{Lease, Leases};

/// A comment is sent when nothing was for so long: proxies and clients take silence for death.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A watcher that takes not one byte for so long is dropped; it may connect again.
const STALLED: Duration = Duration::from_secs(60);

/// Watchers of one server at a time: each is a descriptor and a few hundred bytes.
const WATCHERS_MAX: usize = 50_000;

/// A log that can be followed.
pub trait Log: Source {
    /// Opens a cursor after this place.
    fn follow(store: &Store, key: Self::Key, after: u64) -> Follower<Self>;

    /// The entry as JSON, in one line.
    fn json(&self) -> &str;

    /// Whether nothing can follow this entry.
    fn ends(&self) -> bool;

    /// What is told beside a log's entries, from now on; nothing for most.
    fn asides(_leases: &Leases, _key: Self::Key) -> Option<broadcast::Receiver<Bytes>> {
        None
    }

    /// Somebody began to follow a log who was told no asides yet.
    fn joined(_leases: &Leases, _key: Self::Key) {}
}

/// The next of what is told beside a log's entries. Never, where nothing is.
async fn aside(from: &mut Option<broadcast::Receiver<Bytes>>) -> Bytes {
    loop {
        match from {
            Some(asides) => match asides.recv().await {
                Ok(bytes) => return bytes,
                // Each says everything anew.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => *from = None,
            },
            None => std::future::pending().await,
        }
    }
}

impl Log for StoredEvent {
    fn follow(store: &Store, key: Self::Key, after: u64) -> Follower<Self> {
        store.follow_session(key, after)
    }

    fn json(&self) -> &str {
        &self.json
    }

    fn ends(&self) -> bool {
        &*self.kind == "session.state" && self.json.contains(r#""state":"ended""#)
    }

    fn asides(leases: &Leases, key: Self::Key) -> Option<broadcast::Receiver<Bytes>> {
        Some(leases.presences.listen(key))
    }

    fn joined(leases: &Leases, key: Self::Key) {
        leases.presences.tell_again(key);
    }
}

impl Log for FeedEntry {
    fn follow(store: &Store, key: Self::Key, after: u64) -> Follower<Self> {
        store.follow_feed(key, after)
    }

    fn json(&self) -> &str {
        &self.json
    }

    fn ends(&self) -> bool {
        false
    }
}

/// Whether somebody may see an entry.
pub type Sees<T> = Arc<dyn Fn(T) -> BoxFuture<'static, Result<bool, Problem>> + Send + Sync>;

/// Whether to wait for what is yet to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Following {
    /// Until the log's end.
    Live,
    /// Only what is stored.
    Stored,
}

/// Everybody who follows something.
pub struct Watchers {
    /// The rights that they follow by.
    pub leases: Arc<Leases>,
    /// The logs of sessions.
    pub sessions: Watched<StoredEvent>,
    /// The feeds of organizations.
    pub feeds: Watched<FeedEntry>,
}

impl Watchers {
    /// Nobody yet. Everybody is sent away when `stopping` is cancelled.
    pub fn new(store: &Store, stopping: &CancellationToken) -> Self {
        let count = Count::default();
        let leases = Arc::new(Leases::default());
        Self {
            sessions: Watched::new(store, stopping, &count, &leases),
            feeds: Watched::new(store, stopping, &count, &leases),
            leases,
        }
    }

    /// How many watch at this moment.
    pub fn count(&self) -> usize {
        self.sessions.context.count.0.load(Ordering::Relaxed)
    }
}

/// Everybody who follows a log of one kind.
pub struct Watched<T: Log> {
    context: Context<T>,
}

/// What the tasks of watchers share.
struct Context<T: Log> {
    store: Store,
    stopping: CancellationToken,
    fanouts: Arc<Fanouts<T>>,
    count: Count,
    leases: Arc<Leases>,
}

impl<T: Log> Clone for Context<T> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            stopping: self.stopping.clone(),
            fanouts: Arc::clone(&self.fanouts),
            count: self.count.clone(),
            leases: Arc::clone(&self.leases),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn one_more(&self) -> Option<Counted> {
        let counted = Counted(Arc::clone(&self.0));
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!("boatyard_watchers").increment(1.0);
        (before < WATCHERS_MAX).then_some(counted)
    }
}

/// One watcher, counted until it is dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("boatyard_watchers").decrement(1.0);
    }
}

impl<T: Log> Watched<T>
where
    T::Key: std::hash::Hash + Eq + 'static,
{
    fn new(
        store: &Store,
        stopping: &CancellationToken,
        count: &Count,
        leases: &Arc<Leases>,
    ) -> Self {
        let context = Context {
            store: store.clone(),
            stopping: stopping.clone(),
            fanouts: Arc::default(),
            count: count.clone(),
            leases: Arc::clone(leases),
        };
        Self { context }
    }

    /// The answer to somebody who wants the entries after this place, for as long as the lease
    /// lasts; only those that `sees` lets pass, if it is given.
    ///
    /// # Errors
    /// When there are too many watchers.
    pub fn answer(
        &self,
        key: T::Key,
        after: u64,
        following: Following,
        request: &Request,
        lease: Arc<Lease>,
        sees: Option<Sees<T>>,
    ) -> Result<Response, Problem> {
        let too_many = || Problem::unavailable("too many streams are open").advised();
        let counted = self.context.count.one_more().ok_or_else(too_many)?;
        let context = self.context.clone();
        let socket = request.extensions().get::<Arc<Socket>>();
        let direct = socket.filter(|_| request.version() == Version::HTTP_11 && sees.is_none());
        let body = match direct {
            Some(socket) => {
                let start = move |socket: Arc<Socket>| {
                    let watcher = catch_up::Watcher { socket, after, lease, _counted: counted };
                    tokio::spawn(catch_up::run(context, key, watcher, following, None));
                };
                Body::new(parked::Parked::new(Arc::clone(socket), Box::new(start)))
            }
            None => {
                let watcher = body::Watcher { after, following, lease, sees, _counted: counted };
                body::following(context, key, watcher)
            }
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        let mime = HeaderValue::from_static("text/event-stream; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, mime);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // nginx holds back what it thinks is a small body otherwise.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        if direct.is_some() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}
