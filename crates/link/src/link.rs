//! One live link: opening and accepting streams, and how it ends.

use std::{
    future::{Future, poll_fn},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, watch},
};

use crate::{
    driver::Driver,
    error::Error,
    frame::{GoAwayCode, ResetCode, StreamId},
    handshake::{PROTOCOL, PROTOCOL_MIN, Peer, Welcome},
    mux::{Config, Event, Farewell, Mux, Role},
    stream::Stream,
};

/// How a link behaves. [`Options::new`] has what suits a workspace.
#[derive(Debug, Clone)]
pub struct Options {
    /// Program and release, told to the other side.
    pub software: String,
    /// The generation of the workspace, where this side is a runner.
    pub epoch: u64,
    /// How much a stream may send before its reader has taken any of it, in bytes. A quarter of
    /// a mebibyte keeps a unix socket busy and a link over the Internet at 40 ms at 6 MB/s.
    pub window: u32,
    /// How many streams the other side may have open.
    pub max_streams: u32,
    /// How much a stream's writer may be ahead of the wire, in bytes.
    pub send_buffer: usize,
    /// How much all streams together may hold that nobody reads, in bytes.
    pub memory: usize,
    /// How long the other side has to say Welcome.
    pub welcome_within: Duration,
    /// Whether silence is noticed. `None` where the kernel tells of the other side's end.
    pub keepalive: Option<Keepalive>,
}

/// When a silent link is asked, and when it is given up.
#[derive(Debug, Clone, Copy)]
pub struct Keepalive {
    /// After how much silence a Ping is sent.
    pub interval: Duration,
    /// After how much silence the link is dead.
    pub dead_after: Duration,
}

impl Options {
    /// The defaults, and the name and release that the other side will log.
    pub fn new(software: impl Into<String>) -> Self {
        Self {
            software: software.into(),
            epoch: 0,
            window: 256 * 1024,
            max_streams: 16_384,
            send_buffer: 64 * 1024,
            memory: 64 * 1024 * 1024,
            welcome_within: Duration::from_secs(10),
            keepalive: Some(Keepalive {
                interval: Duration::from_secs(15),
                dead_after: Duration::from_secs(30),
            }),
        }
    }

    /// With this generation.
    pub fn epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }

    fn config(&self, role: Role) -> Config {
        Config {
            role,
            welcome: Welcome {
                protocol: PROTOCOL,
                min: PROTOCOL_MIN,
                software: self.software.clone(),
                epoch: self.epoch,
                window: self.window,
                max_streams: self.max_streams,
            },
            send_buffer: self.send_buffer,
            memory: self.memory,
        }
    }
}

/// A handle on a link; cheap to clone. When the last one is dropped, the link closes as by
/// [`Link::close`], so streams that are open go on to their own end.
#[derive(Debug, Clone)]
pub struct Link {
    shared: Arc<Shared>,
    _last: Arc<CloseOnDrop>,
}

/// A stream that the other side opened.
#[derive(Debug)]
pub struct Incoming {
    /// What it says it is for, as it came.
    pub header: Bytes,
    /// The stream. Dropping it refuses it.
    pub stream: Stream,
}

impl Incoming {
    /// The header as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is not a `T`: a kind of a later release, say. The stream is
    /// then best reset with [`ResetCode::UNSUPPORTED`].
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.header)
            .map_err(|source| Error::Malformed { what: "stream header", source: Arc::new(source) })
    }

    /// Refuses the stream.
    pub fn refuse(mut self, code: ResetCode, text: &str) {
        self.stream.reset(code, text);
    }
}

impl Link {
    /// A link over `io`, which has to be a fresh, reliable, ordered connection; what precedes the
    /// link on it (the `Hello` of the sandbox) has been read.
    ///
    /// Nothing happens until the [`Driver`] is polled: spawn it. It ends with the link; dropping
    /// it ends the link.
    pub fn start<T>(io: T, role: Role, options: Options) -> (Self, Driver<T>)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                mux: Mux::new(options.config(role)),
                driver: None,
                is_parked: false,
                ended: None,
            }),
            incoming: Notify::new(),
            stage: watch::Sender::new(Stage::Connecting),
        });
        let driver = Driver::new(io, Arc::clone(&shared), &options);
        let last = Arc::new(CloseOnDrop(Arc::clone(&shared)));
        (Self { shared, _last: last }, driver)
    }

    /// Opens a stream for what `header` says, as JSON. It can be written to at once.
    ///
    /// # Errors
    ///
    /// When the link has ended or goes away, or as many streams are open as the other side takes.
    pub fn open<T: Serialize + ?Sized>(&self, header: &T) -> Result<Stream, Error> {
        let json = serde_json::to_vec(header).map_err(|source| Error::Malformed {
            what: "stream header",
            source: Arc::new(source),
        })?;
        self.open_raw(json.into())
    }

    /// Opens a stream with a header that is already encoded.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_raw(&self, header: Bytes) -> Result<Stream, Error> {
        let id = self.shared.act(|inner| match &inner.ended {
            Some(error) => Err(error.clone()),
            None => inner.mux.open(header),
        })?;
        Ok(Stream::new(Arc::clone(&self.shared), id))
    }

    /// The next stream that the other side opens; nothing once the link has ended. May be called
    /// from several tasks and dropped at any time.
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let notified = self.shared.incoming.notified();
            tokio::pin!(notified);
            // From here on no wake-up is missed.
            notified.as_mut().enable();
            let (next, has_more) = self.shared.act(|inner| match inner.ended {
                Some(_) => (Some(None), false),
                None => (inner.mux.accept().map(Some), inner.mux.has_incoming()),
            });
            if has_more {
                // One wake-up may stand for several streams: pass it on.
                self.shared.incoming.notify_one();
            }
            match next {
                Some(None) => return None,
                Some(Some((id, header))) => {
                    let stream = Stream::new(Arc::clone(&self.shared), id);
                    return Some(Incoming { header, stream });
                }
                None => notified.await,
            }
        }
    }

    /// The other side, once it has said Welcome.
    ///
    /// # Errors
    ///
    /// Why the link ended before that.
    pub async fn peer(&self) -> Result<Peer, Error> {
        self.until(|stage| match stage {
            Stage::Connecting => None,
            Stage::Up(peer) | Stage::GoingAway(Some(peer)) => Some(Ok(Peer::clone(peer))),
            Stage::GoingAway(None) => None,
            Stage::Ended(error) => Some(Err(error.clone())),
        })
        .await
    }

    /// Waits until the other side wants no new streams, and says why and when to come back;
    /// nothing when the link ended without that.
    pub async fn going_away(&self) -> Option<Farewell> {
        self.until(|stage| match stage {
            Stage::Connecting | Stage::Up(_) => None,
            Stage::GoingAway(_) | Stage::Ended(_) => Some(()),
        })
        .await;
        self.shared.lock().mux.farewell().cloned()
    }

    /// Waits until the link has ended and says why.
    pub async fn ended(&self) -> Error {
        self.until(|stage| match stage {
            Stage::Ended(error) => Some(error.clone()),
            _ => None,
        })
        .await
    }

    /// Opens and accepts no more streams, lets those that are open end, and then ends the link in
    /// good order. `retry_after` tells the other side when to come back; zero for at once.
    pub fn close(&self, code: GoAwayCode, retry_after: Duration, text: &str) {
        let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        self.shared.act(|inner| inner.mux.go_away(code, retry_after_ms, text));
    }

    /// Ends the link now; streams that are open fail with [`Error::Closed`] on this side.
    pub fn abort(&self) {
        self.shared.end(Error::Closed);
    }

    /// How many streams are open, in both directions.
    pub fn streams(&self) -> usize {
        self.shared.lock().mux.streams()
    }

    async fn until<T>(&self, found: impl Fn(&Stage) -> Option<T>) -> T {
        let mut stages = self.shared.stage.subscribe();
        loop {
            if let Some(found) = found(&stages.borrow_and_update()) {
                return found;
            }
            if stages.changed().await.is_err() {
                unreachable!("the sender lives in `self`");
            }
        }
    }
}

/// How far a link is.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    Connecting,
    Up(Arc<Peer>),
    GoingAway(Option<Arc<Peer>>),
    Ended(Error),
}

/// Who waits for a stream.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
}

/// What the handles, the streams and the driver of a link share.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    incoming: Notify,
    stage: watch::Sender<Stage>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) mux: Mux<Wakers>,
    /// How to wake the driver.
    pub(crate) driver: Option<Waker>,
    /// Whether the driver waits for work from the streams. Whoever has some clears it, so that a
    /// burst wakes it once.
    pub(crate) is_parked: bool,
    /// Why the link is over.
    pub(crate) ended: Option<Error>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock is a bug in the state machine; the streams that are left shall
        // find their end rather than another panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `action` on the state, then wakes whoever it concerns, outside the lock.
    pub(crate) fn act<T>(&self, action: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = action(&mut inner);
        let has_work = !inner.mux.is_drained() || inner.is_finished();
        let driver = if has_work && std::mem::take(&mut inner.is_parked) {
            inner.driver.clone()
        } else {
            None
        };
        let mut wakers = Vec::new();
        self.collect(&mut inner, &mut wakers);
        drop(inner);
        for waker in wakers.into_iter().chain(driver) {
            waker.wake();
        }
        result
    }

    /// Turns the state machine's events into wakers to call.
    pub(crate) fn collect(&self, inner: &mut Inner, wakers: &mut Vec<Waker>) {
        let mut events = inner.mux.take_events();
        for event in events.drain(..) {
            match event {
                Event::Readable(id) => {
                    wakers.extend(inner.mux.attachment(id).and_then(|a| a.reader.take()));
                }
                Event::Writable(id) => {
                    wakers.extend(inner.mux.attachment(id).and_then(|a| a.writer.take()));
                }
                Event::Incoming => self.incoming.notify_one(),
                Event::Welcome => {
                    if let Some(peer) = inner.mux.peer() {
                        self.stage.send_replace(Stage::Up(Arc::new(peer.clone())));
                    }
                }
                Event::GoAway => {
                    let peer = inner.mux.peer().cloned().map(Arc::new);
                    self.stage.send_replace(Stage::GoingAway(peer));
                }
                Event::Pong(_) => {}
            }
        }
        inner.mux.give_back(events);
    }

    /// Ends the link for everybody who waits on it. The first reason stays.
    pub(crate) fn end(&self, error: Error) {
        let mut inner = self.lock();
        if inner.ended.is_some() {
            return;
        }
        inner.ended = Some(error.clone());
        let mut wakers: Vec<Waker> = inner.driver.take().into_iter().collect();
        self.collect(&mut inner, &mut wakers);
        for waiting in inner.mux.attachments() {
            wakers.extend(waiting.reader.take());
            wakers.extend(waiting.writer.take());
        }
        drop(inner);
        self.stage.send_replace(Stage::Ended(error));
        for waker in wakers {
            waker.wake();
        }
        self.incoming.notify_waiters();
    }
}

impl Inner {
    /// Whether this side closes the link and nothing is left to be done on it.
    pub(crate) fn is_finished(&self) -> bool {
        self.mux.is_closing() && self.mux.is_drained() && self.mux.streams() == 0
    }
}

#[derive(Debug)]
struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.act(|inner| inner.mux.go_away(GoAwayCode::CLOSING, 0, ""));
    }
}

/// Asks the state of one stream, and where it has nothing yet leaves the caller's waker behind.
pub(crate) async fn wait<T>(
    shared: &Shared,
    id: StreamId,
    mut poll: impl FnMut(&Shared, StreamId, &mut std::task::Context<'_>) -> std::task::Poll<T>,
) -> T {
    poll_fn(|cx| poll(shared, id, cx)).await
}

#[expect(dead_code, reason = "checked by the compiler only: both kinds of runtime can drive it")]
fn everything_is_send<T: AsyncRead + AsyncWrite + Unpin + Send>(link: Link, driver: Driver<T>) {
    fn check(_: impl Send) {}
    fn check_future<F: Future + Send>(_: F) {}
    check(link);
    check_future(driver);
}
