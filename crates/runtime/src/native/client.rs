//! The async side of the spawner's socket.
//!
//! ```text
//! callers ── send ──► socket ══► spawner
//!    ▲                               │
//!    └─ oneshot by id ── reader task ◄┘ replies in any order, notices with id 0
//! ```
//!
//! One [`Spawner`] outlives many spawner processes: when one dies, its requests in flight fail,
//! and those that may be asked twice are asked of the next one, which [`Source`] delivers. Every
//! wait has a deadline, and at most [`IN_FLIGHT_MAX`] requests are under way.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use boatyard_sandbox::{
    client::{Received, receive, send},
    protocol::{Failure, Ready, Reply, Request},
};
use tokio::{
    io::Interest,
    net::UnixStream,
    sync::{Semaphore, broadcast, oneshot, watch},
    time::{Instant, timeout_at},
};

use super::source::{Source, watched};

/// Requests under way at one time; more wait for a place. The spawner works off one start after
/// the other, so more would only lengthen its queue.
const IN_FLIGHT_MAX: usize = 64;
/// How many ends of workspaces a slow listener may miss before it is told that it did.
const EXITS_KEPT: usize = 1024;
/// A spawner looks for running workspaces before it is ready; ten thousand take a second or two.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// A workspace's first process that ended without being asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exited {
    /// Which workspace.
    pub workspace: boatyard_model::WorkspaceId,
    /// Of which start.
    pub generation: u64,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// The spawner said no.
    Refused(Failure),
    /// There is no spawner, or it died over the request and the request may not be repeated.
    Gone,
    /// The deadline passed.
    Late,
    /// The socket failed.
    Io(io::Error),
}

/// An answer, with the descriptor that came with it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) fd: Option<OwnedFd>,
    /// An earlier spawner died over the same request, which it may have carried out.
    pub(super) repeated: bool,
}

/// The spawner, whichever process that is just now.
#[derive(Debug)]
pub(super) struct Spawner {
    current: watch::Receiver<Option<Arc<Line>>>,
    places: Semaphore,
    exits: broadcast::Sender<Exited>,
    keeper: tokio::task::JoinHandle<()>,
}

impl Spawner {
    /// Takes the first spawner of `source`, at once: what is asked before that is ready waits for
    /// it. What it says first, or why it says nothing, comes over the channel.
    pub(super) fn begin(mut source: Source) -> (Self, oneshot::Receiver<Result<Ready, CallError>>) {
        let (exits, _) = broadcast::channel(EXITS_KEPT);
        let (publish, current) = watch::channel(None);
        let (tell, told) = oneshot::channel();
        let keeper = tokio::spawn({
            let exits = exits.clone();
            async move {
                // In both cases: nobody may wait to be told.
                match first(&mut source, &exits).await {
                    Ok((line, ready)) => {
                        publish.send_replace(Some(line.clone()));
                        let _ = tell.send(Ok(ready));
                        keep(line, source, publish, exits).await;
                    }
                    Err(error) => drop(tell.send(Err(error))),
                }
            }
        });
        (Self { current, places: Semaphore::new(IN_FLIGHT_MAX), exits, keeper }, told)
    }

    /// As [`Self::begin`], and waits until the spawner is ready.
    #[cfg(test)]
    async fn connect(source: Source) -> Result<(Self, Ready), CallError> {
        let (spawner, told) = Self::begin(source);
        let ready = told.await.map_err(|_| CallError::Gone)??;
        Ok((spawner, ready))
    }

    /// Tells of workspaces that end by themselves.
    pub(super) fn exits(&self) -> broadcast::Receiver<Exited> {
        self.exits.subscribe()
    }

    /// Asks; the answer must come before `limit` has passed.
    pub(super) async fn call(
        &self,
        request: &Request,
        limit: Duration,
        again: Again,
    ) -> Result<Answer, CallError> {
        let deadline = Instant::now() + limit;
        let place = timeout_at(deadline, self.places.acquire()).await;
        // The semaphore is never closed.
        let _place = place.map_err(|_| CallError::Late)?.map_err(|_| CallError::Gone)?;
        let mut repeated = false;
        loop {
            let line = timeout_at(deadline, self.line()).await.map_err(|_| CallError::Late)??;
            match timeout_at(deadline, line.call(request)).await.map_err(|_| CallError::Late)? {
                Ok(Received { reply: Reply::Failed(failure), .. }) if !repeated => {
                    return Err(CallError::Refused(failure));
                }
                Ok(Received { reply, fd, .. }) => return Ok(Answer { reply, fd, repeated }),
                Err(Lost::BeforeSending) => {}
                Err(Lost::Underway) if again == Again::Allowed => repeated = true,
                Err(Lost::Underway) => return Err(CallError::Gone),
                Err(Lost::Io(error)) => return Err(CallError::Io(error)),
            }
        }
    }

    /// The line to the living spawner, waiting for the first or next one while there is none.
    async fn line(&self) -> Result<Arc<Line>, CallError> {
        let mut current = self.current.clone();
        let line = current
            .wait_for(|line| line.as_ref().is_some_and(|line| !line.is_dead()))
            .await
            // The keeper has ended: there will be no other.
            .map_err(|_| CallError::Gone)?;
        line.clone().ok_or(CallError::Gone)
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Whether a request may be asked of the next spawner when one died over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// It does no harm twice.
    Allowed,
    /// Whoever asked must find out first.
    Refused,
}

/// The first spawner, once it is ready.
async fn first(
    source: &mut Source,
    exits: &broadcast::Sender<Exited>,
) -> Result<(Arc<Line>, Ready), CallError> {
    let first = async {
        let socket = source.next().await.ok_or(CallError::Gone)?;
        let line = Arc::new(Line::new(socket)?);
        let ready = line.ready(exits).await?;
        Ok((line, ready))
    };
    timeout_at(Instant::now() + READY_DEADLINE, first).await.map_err(|_| CallError::Late)?
}

/// Reads one spawner's replies until it dies, then takes the next one; ends when there is none.
async fn keep(
    mut line: Arc<Line>,
    mut source: Source,
    publish: watch::Sender<Option<Arc<Line>>>,
    exits: broadcast::Sender<Exited>,
) {
    loop {
        let end = line.read(&exits).await;
        line.die();
        publish.send_replace(None);
        tracing::warn!(error = %end, "the spawner has ended; waiting for the next one");
        line = loop {
            let Some(socket) = source.next().await else {
                tracing::error!("no further spawner will come");
                return;
            };
            match Line::new(socket).map(Arc::new) {
                Ok(next) => match tokio::time::timeout(READY_DEADLINE, next.ready(&exits)).await {
                    Ok(Ok(ready)) => {
                        tracing::info!(running = ready.running, "a new spawner is ready");
                        break next;
                    }
                    Ok(Err(error)) => tracing::warn!(?error, "a new spawner can't work"),
                    Err(_) => tracing::warn!("a new spawner is not ready in time"),
                },
                Err(CallError::Io(error)) => {
                    tracing::warn!(%error, "a new spawner's socket can't be used");
                }
                Err(_) => {}
            }
        };
        publish.send_replace(Some(line.clone()));
    }
}

/// The socket to one spawner process.
#[derive(Debug)]
struct Line {
    socket: UnixStream,
    next: AtomicU64,
    /// Who waits for which answer; nothing once the spawner is dead.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Received>>>>,
}

/// Why a line gave no answer.
enum Lost {
    /// It was dead already: nothing was asked.
    BeforeSending,
    /// It died before it answered.
    Underway,
    /// It could not be asked.
    Io(io::Error),
}

impl Line {
    fn new(socket: OwnedFd) -> Result<Self, CallError> {
        Ok(Self {
            socket: watched(socket).map_err(CallError::Io)?,
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(HashMap::new())),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Received>>>> {
        // A map is whole between two calls of it, whatever panicked in between.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_dead(&self) -> bool {
        self.waiting().is_none()
    }

    /// Fails everything in flight.
    fn die(&self) {
        drop(self.waiting().take());
    }

    async fn call(&self, request: &Request) -> Result<Received, Lost> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match self.waiting().as_mut() {
            Some(waiting) => waiting.insert(id, answer),
            None => return Err(Lost::BeforeSending),
        };
        let _forget = Forget { line: self, id };
        let sent = self.socket.async_io(Interest::WRITABLE, || {
            match send(self.socket.as_fd(), id, request) {
                Err(boatyard_sandbox::Error::System { source, .. })
                    if source.kind() == io::ErrorKind::WouldBlock =>
                {
                    Err(source)
                }
                sent => Ok(sent),
            }
        });
        match sent.await.map_err(Lost::Io)? {
            Ok(()) => {}
            // A spawner that died before it took the message did nothing; the reader finds out as
            // well.
            Err(boatyard_sandbox::Error::SpawnerGone) => {
                self.die();
                return Err(Lost::BeforeSending);
            }
            Err(error) => return Err(Lost::Io(io::Error::other(error))),
        }
        answered.await.map_err(|_| Lost::Underway)
    }

    async fn receive(&self) -> Result<Received, boatyard_sandbox::Error> {
        let received = self.socket.async_io(Interest::READABLE, || {
            receive(self.socket.as_fd()).transpose().ok_or(io::ErrorKind::WouldBlock.into())
        });
        received.await.map_err(|source| boatyard_sandbox::Error::System {
            step: "wait for the spawner".into(),
            source,
        })?
    }

    /// Waits for the spawner's first words.
    async fn ready(&self, exits: &broadcast::Sender<Exited>) -> Result<Ready, CallError> {
        loop {
            match self.receive().await {
                Ok(Received { id: 0, reply: Reply::Ready(ready), .. }) => return Ok(ready),
                Ok(Received { id: 0, reply: Reply::Failed(failure), .. }) => {
                    return Err(CallError::Refused(failure));
                }
                Ok(received) => self.deliver(received, exits),
                Err(boatyard_sandbox::Error::SpawnerGone) => return Err(CallError::Gone),
                Err(error) => return Err(CallError::Io(io::Error::other(error))),
            }
        }
    }

    /// Delivers answers until the spawner is gone; returns how it ended.
    async fn read(&self, exits: &broadcast::Sender<Exited>) -> boatyard_sandbox::Error {
        loop {
            match self.receive().await {
                Ok(received) => self.deliver(received, exits),
                Err(error) => return error,
            }
        }
    }

    fn deliver(&self, received: Received, exits: &broadcast::Sender<Exited>) {
        if received.id == 0 {
            if let Reply::Exited { ws, generation } = received.reply {
                let workspace = boatyard_model::WorkspaceId::from_u128(ws);
                // Nobody may be listening.
                let _ = exits.send(Exited { workspace, generation });
            }
            return;
        }
        let waiting = self.waiting().as_mut().and_then(|waiting| waiting.remove(&received.id));
        if let Some(waiting) = waiting {
            // Whoever asked may have given up in this moment.
            let _ = waiting.send(received);
        }
    }
}

/// Takes a waiting caller off the list when it gives up.
struct Forget<'l> {
    line: &'l Line,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.line.waiting().as_mut() {
            waiting.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::BorrowedFd,
        task::Poll,
        thread::{self, JoinHandle},
    };

    use boatyard_sandbox::protocol::{
        FailureKind, Isolation, LimitsBy, REQUEST_MAX, decode_request, encode_reply,
    };
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
    };
    use tokio::sync::mpsc;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// The spawner's end of a line, spoken by hand.
    struct Hand(OwnedFd);

    impl Hand {
        /// A line whose spawner has said that it is ready.
        fn ready() -> (Self, OwnedFd) {
            let kind = SocketType::SEQPACKET;
            let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
            let hand = Self(pair.0);
            let ready =
                Ready { isolation: Isolation::Full, limits: LimitsBy::CgroupV2, running: 0 };
            hand.say(0, &Reply::Ready(ready));
            (hand, pair.1)
        }

        fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }

        fn say(&self, id: u64, reply: &Reply) {
            send(self.fd(), &encode_reply(id, reply), SendFlags::NOSIGNAL).unwrap();
        }

        /// The next request; nothing when the client has closed.
        fn hear(&self) -> Option<(u64, Request)> {
            let mut buffer = vec![0; REQUEST_MAX];
            let (length, _) = recv(self.fd(), &mut buffer, RecvFlags::empty()).unwrap();
            (length > 0).then(|| decode_request(&buffer[..length]).unwrap())
        }
    }

    fn on_thread<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        thread::spawn(act)
    }

    fn kill(ws: u128) -> Request {
        Request::Kill { ws }
    }

    #[tokio::test]
    async fn answers_find_their_questions_in_any_order() {
        let (hand, socket) = Hand::ready();
        let (spawner, _) = Spawner::connect(Source::single(socket)).await.unwrap();
        let peer = on_thread(move || {
            let mut asked: Vec<_> = (0..8).map(|_| hand.hear().unwrap()).collect();
            asked.reverse();
            for (id, request) in asked {
                let Request::Kill { ws } = request else { panic!("{request:?}") };
                hand.say(id, &Reply::Usage { bytes: ws as u64, inodes: 0 });
            }
            hand
        });
        let requests: Vec<_> = (1..9).map(kill).collect();
        let calls = requests.iter().map(|request| spawner.call(request, LIMIT, Again::Refused));
        let mut calls: Vec<_> = calls.map(Box::pin).collect();
        let mut found = Vec::new();
        std::future::poll_fn(|cx| {
            calls.retain_mut(|call| match call.as_mut().poll(cx) {
                Poll::Ready(answer) => {
                    found.push(answer.unwrap().reply);
                    false
                }
                Poll::Pending => true,
            });
            if calls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        peer.join().unwrap();
        found.sort_by_key(|reply| match reply {
            Reply::Usage { bytes, .. } => *bytes,
            other => panic!("{other:?}"),
        });
        let expected: Vec<_> = (1..9).map(|bytes| Reply::Usage { bytes, inodes: 0 }).collect();
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_request_is_asked_of_the_next_spawner_when_one_dies_over_it() {
        let (next, sockets) = mpsc::channel(2);
        let (first, socket) = Hand::ready();
        next.send(socket).await.unwrap();
        let (spawner, _) = Spawner::connect(Source::channel(sockets)).await.unwrap();
        let peer = on_thread(move || {
            // Dies with the request read and no answer given.
            first.hear().unwrap();
        });
        let request = kill(1);
        let again = spawner.call(&request, LIMIT, Again::Allowed);
        let second = async {
            tokio::task::spawn_blocking(move || peer.join().unwrap()).await.unwrap();
            let (second, socket) = Hand::ready();
            next.send(socket).await.unwrap();
            on_thread(move || {
                let (id, request) = second.hear().unwrap();
                second.say(id, &Reply::Done);
                (request, second)
            })
        };
        let (answer, second) = tokio::join!(again, second);
        let answer = answer.unwrap();
        assert!(answer.repeated && answer.reply == Reply::Done);
        let (request, second) = second.join().unwrap();
        assert_eq!(request, kill(1));

        // One that may not be repeated fails.
        let peer = on_thread(move || drop((second.hear().unwrap(), second)));
        let refused = spawner.call(&kill(2), LIMIT, Again::Refused).await;
        assert!(matches!(refused, Err(CallError::Gone)), "{refused:?}");
        peer.join().unwrap();

        // Without another spawner everything fails at once.
        drop(next);
        let refused = spawner.call(&kill(3), LIMIT, Again::Allowed).await;
        assert!(matches!(refused, Err(CallError::Gone)), "{refused:?}");
    }

    #[tokio::test]
    async fn refusals_and_exits_are_told_and_silence_has_a_deadline() {
        let (hand, socket) = Hand::ready();
        let (spawner, _) = Spawner::connect(Source::single(socket)).await.unwrap();
        let mut exits = spawner.exits();
        let peer = on_thread(move || {
            let (id, _) = hand.hear().unwrap();
            hand.say(0, &Reply::Exited { ws: 5, generation: 3 });
            let failure = Failure {
                kind: FailureKind::Running,
                step: "workspace".into(),
                errno: 0,
                hint: String::new(),
            };
            hand.say(id, &Reply::Failed(failure));
            // The second gets no answer while it waits, and one too late.
            let (late, _) = hand.hear().unwrap();
            let (id, _) = hand.hear().unwrap();
            hand.say(late, &Reply::Done);
            hand.say(id, &Reply::Usage { bytes: 1, inodes: 1 });
            hand
        });
        let refused = spawner.call(&kill(1), LIMIT, Again::Refused).await;
        assert!(matches!(
            refused,
            Err(CallError::Refused(Failure { kind: FailureKind::Running, .. }))
        ));
        let workspace = boatyard_model::WorkspaceId::from_u128(5);
        assert_eq!(exits.recv().await.unwrap(), Exited { workspace, generation: 3 });
        let silent = spawner.call(&kill(2), Duration::from_millis(1), Again::Refused).await;
        assert!(matches!(silent, Err(CallError::Late)), "{silent:?}");
        let answer = spawner.call(&kill(3), LIMIT, Again::Refused).await.unwrap();
        assert_eq!(answer.reply, Reply::Usage { bytes: 1, inodes: 1 });
        peer.join().unwrap();
    }

    #[tokio::test]
    async fn a_spawner_that_can_not_work_says_why() {
        let kind = SocketType::SEQPACKET;
        let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        let failure = Failure {
            kind: FailureKind::System,
            step: "overlay mount".into(),
            errno: 22,
            hint: "not on an overlay".into(),
        };
        Hand(pair.0).say(0, &Reply::Failed(failure.clone()));
        match Spawner::connect(Source::single(pair.1)).await {
            Err(CallError::Refused(refused)) => assert_eq!(refused, failure),
            other => panic!("{:?}", other.err()),
        }
    }
}
