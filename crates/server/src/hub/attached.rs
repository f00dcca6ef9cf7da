//! A live link with its control stream.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use boatyard_link::{
    GoAwayCode, Link, Options, Role, Stream,
    message::{FromRunner, Header, MESSAGE_MAX, Reply, Request, Status, ToRunner},
};
use boatyard_runtime::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::HubError;

/// How long a runner has to answer what it can answer at once.
const ANSWER: Duration = Duration::from_secs(30);
/// How long an agent has to come up: longer than the runner gives it, which knows why not.
const OPEN_SESSION: Duration =
    boatyard_agent::driver::START.saturating_add(Duration::from_secs(30));
/// How long a prompt may take to be with the agent: the runner looks at the files first, for 20 s at
/// most, and then has 10 s to hand it over.
const PROMPT: Duration = Duration::from_secs(60);
/// How long a steered message may wait for a tool boundary.
const STEER: Duration = Duration::from_secs(600);
/// How long the streams of a link that is closed may take to end.
const CLOSE: Duration = Duration::from_millis(200);
/// Requests that wait for the control stream.
const REQUESTS: usize = 256;

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A workspace of the store.
    Workspace,
    /// A workspace that only makes a layer: it has no sessions.
    Builder,
}

/// A live link.
pub struct Attached {
    link: Link,
    requests: mpsc::Sender<Pending>,
    live: Arc<AtomicBool>,
    ended: CancellationToken,
    /// What this link is for.
    pub purpose: Purpose,
}

struct Pending {
    request: Request,
    reply: oneshot::Sender<Result<Reply, HubError>>,
}

impl Attached {
    /// Begins a link on a connection, and its control stream.
    ///
    /// # Errors
    /// When the other side does not speak the protocol.
    pub async fn start(connection: Connection, purpose: Purpose) -> Result<Arc<Self>, HubError> {
        let options = Options::new(concat!("boatyard ", env!("CARGO_PKG_VERSION")));
        // The kernel tells when a process on this host ends.
        let options = Options { keepalive: None, ..options };
        let (link, driver) = Link::start(connection, Role::Connector, options);
        tokio::spawn(driver);
        link.peer().await?;
        let control = link.open(&Header::Control)?;
        let (requests, received) = mpsc::channel(REQUESTS);
        let live = Arc::new(AtomicBool::new(true));
        let ended = CancellationToken::new();
        let attached = Arc::new(Self {
            link: link.clone(),
            requests,
            live: Arc::clone(&live),
            ended: ended.clone(),
            purpose,
        });
        tokio::spawn(converse(control, received));
        tokio::spawn(async move {
            let error = link.ended().await;
            tracing::debug!(%error, "a link ended");
            live.store(false, Ordering::Release);
            ended.cancel();
        });
        Ok(attached)
    }

    /// Whether it can still be used.
    pub fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Done when it has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// How many streams are open beside control and events.
    pub fn streams(&self) -> usize {
        self.link.streams().saturating_sub(2)
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// When the link has ended.
    pub fn open(&self, header: &Header) -> Result<Stream, HubError> {
        Ok(self.link.open(header)?)
    }

    /// Asks the runner for something.
    ///
    /// # Errors
    /// The runner's own, or that there was no answer.
    pub async fn ask(&self, request: Request) -> Result<Reply, HubError> {
        let deadline = match &request {
            Request::OpenSession(_) => OPEN_SESSION,
            Request::Prompt { .. } => PROMPT,
            Request::Steer { .. } => STEER,
            _ => ANSWER,
        };
        let (reply, answer) = oneshot::channel();
        let asked = async {
            let closed = || HubError::Link(boatyard_link::Error::Closed);
            self.requests.send(Pending { request, reply }).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())?
        };
        tokio::time::timeout(deadline, asked)
            .await
            .unwrap_or(Err(HubError::Timeout(deadline.as_secs())))
    }

    /// What runs there.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn status(&self) -> Result<Status, HubError> {
        match self.ask(Request::Status).await? {
            Reply::Status(status) => Ok(status),
            _ => Err(HubError::Protocol("a status request")),
        }
    }

    /// Ends the link, in good order if the other side is quick.
    pub async fn close(&self, code: GoAwayCode, why: &str) {
        self.link.close(code, Duration::ZERO, why);
        if tokio::time::timeout(CLOSE, self.link.ended()).await.is_err() {
            self.link.abort();
        }
        self.live.store(false, Ordering::Release);
    }
}

/// Sends requests and hands out answers until either side goes.
async fn converse(control: Stream, mut requests: mpsc::Receiver<Pending>) {
    let (mut send, mut receive) = control.split();
    let mut waiting: HashMap<u64, oneshot::Sender<Result<Reply, HubError>>> = HashMap::new();
    let mut next = 0;
    loop {
        tokio::select! {
            pending = requests.recv() => {
                let Some(Pending { request, reply }) = pending else { return };
                next += 1;
                // Those whose asker gave up are forgotten here, so that the map stays small.
                waiting.retain(|_, reply| !reply.is_closed());
                waiting.insert(next, reply);
                if let Err(error) = send.send_message(&ToRunner { id: next, request }).await {
                    if let Some(reply) = waiting.remove(&next) {
                        let _ = reply.send(Err(error.into()));
                    }
                    return;
                }
            }
            message = receive.recv_message::<FromRunner>(MESSAGE_MAX) => match message {
                Ok(Some(FromRunner::Reply { id, result })) => {
                    if let Some(reply) = waiting.remove(&id) {
                        // An asker that gave up doesn't want to know.
                        let _ = reply.send(result.map_err(HubError::from));
                    }
                }
                Ok(None) | Err(_) => return,
            },
        }
    }
}
