//! A stream of events that is taken up again after a cut.
//!
//! ```text
//!            ┌─ cut, goodbye, silence ─► wait (back-off) ─┐
//! connect ─► reading ◄──────────────── connect (Last-Event-ID) ◄┘
//!            └─ `end` ─► over
//! ```
//!
//! The server ends a stream that is complete with an `end` event, and one whose right is gone with
//! a `closed` event, so that an end without either is a cut. The reader sees every event once, in order: what a server sends again is skipped by its
//! sequence number.

use std::{
    marker::PhantomData,
    pin::Pin,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde::de::DeserializeOwned;

use super::{Client, Error, Result, sse::Parser};
use crate::Problem;

/// The server sends something (a comment, if nothing else) every 15 s; three times nothing is a
/// dead connection.
const SILENCE: Duration = Duration::from_secs(45);

/// The first wait before a new connection.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The longest wait before a new connection.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// How long to try without a connection before giving up, unless the caller says otherwise.
const PATIENCE: Duration = Duration::from_secs(120);

/// What happened on a stream.
#[derive(Debug)]
pub enum Step<T> {
    /// An event.
    Item(T),
    /// The connection is gone; it is being made anew.
    Lost(Error),
    /// The connection stands again; nothing was missed.
    Resumed,
}

/// A stream of events that is taken up again after a cut.
pub struct Follow<T> {
    client: Client,
    path: String,
    follow: Following,
    after: u64,
    patience: Duration,
    delay: Duration,
    hint: Option<Duration>,
    /// Since when there is no connection.
    lost: Option<Instant>,
    /// When to try to connect again. Kept here, so that a caller who drops [`Follow::next`] to look
    /// at something else does not begin the wait anew.
    again: Option<tokio::time::Instant>,
    /// A connection that is being made; kept for the same reason.
    connecting: Option<Connecting>,
    body: Option<(reqwest::Response, Parser)>,
    over: bool,
    kind: PhantomData<fn() -> T>,
}

type Connecting = Pin<Box<dyn Future<Output = Result<reqwest::Response>> + Send>>;

/// Whether to wait for what is yet to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Following {
    /// Until the end.
    Live,
    /// Only what is stored.
    Stored,
}

impl<T: DeserializeOwned> Follow<T> {
    pub(super) fn new(client: Client, path: String, after: u64, follow: Following) -> Self {
        Self {
            client,
            path,
            follow,
            after,
            patience: PATIENCE,
            delay: FIRST_DELAY,
            hint: None,
            lost: None,
            again: None,
            connecting: None,
            body: None,
            over: false,
            kind: PhantomData,
        }
    }

    /// The same, giving up after so long without a connection.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The sequence number of the last event that was seen.
    pub fn last(&self) -> u64 {
        self.after
    }

    /// The next step; none when the stream is over. Safe to drop between steps and while it
    /// waits: the place is kept.
    ///
    /// # Errors
    /// When the server refuses (it is gone, or not allowed), or can't be reached for too long.
    pub async fn next(&mut self) -> Option<Result<Step<T>>> {
        if self.over {
            return None;
        }
        let step = self.advance().await;
        if matches!(step, None | Some(Err(_))) {
            self.over = true;
        }
        step
    }

    async fn advance(&mut self) -> Option<Result<Step<T>>> {
        loop {
            if self.body.is_none() {
                let was_lost = self.lost.is_some();
                if was_lost && self.connecting.is_none() {
                    let again = match self.again {
                        Some(again) => again,
                        None => {
                            let wait = self.hint.take().unwrap_or(self.delay);
                            self.delay = (self.delay * 2).min(LONGEST_DELAY);
                            *self.again.insert(tokio::time::Instant::now() + wait)
                        }
                    };
                    tokio::time::sleep_until(again).await;
                    self.again = None;
                }
                match self.connect().await {
                    Ok(()) if was_lost => return Some(Ok(Step::Resumed)),
                    Ok(()) => {}
                    // The first connection fails at once: the address may be wrong.
                    Err(error) if !was_lost || !self.may_wait(&error) => return Some(Err(error)),
                    Err(_) => continue,
                }
            }
            match self.read().await {
                Ok(Read::Item(item)) => return Some(Ok(Step::Item(item))),
                Ok(Read::End) => return None,
                Err(error @ Error::Unreachable { .. }) => {
                    self.body = None;
                    self.lost = Some(Instant::now());
                    return Some(Ok(Step::Lost(error)));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn may_wait(&self, error: &Error) -> bool {
        error.is_transient() && self.lost.is_some_and(|since| since.elapsed() < self.patience)
    }

    async fn connect(&mut self) -> Result<()> {
        let query = crate::session::FollowQuery {
            after: Some(self.after),
            follow: (self.follow == Following::Stored).then_some(false),
        };
        let (client, path) = (self.client.clone(), self.path.clone());
        let connecting = self.connecting.get_or_insert_with(|| {
            Box::pin(async move {
                let call = client.call(Method::GET, path).accept("text/event-stream").query(&query);
                match tokio::time::timeout(SILENCE, client.send_open(call, None)).await {
                    Ok(response) => response,
                    Err(_) => Err(silent(&client)),
                }
            })
        });
        let response = connecting.await;
        self.connecting = None;
        self.body = Some((response?, Parser::default()));
        self.lost = None;
        Ok(())
    }

    /// The next event of the connection that stands.
    async fn read(&mut self) -> Result<Read<T>> {
        loop {
            let Some((response, parser)) = &mut self.body else { return Err(self.cut()) };
            let too_large = |e: super::sse::TooLarge| self.client.protocol(e.to_string());
            let Some(frame) = parser.frame().map_err(too_large)? else {
                match tokio::time::timeout(SILENCE, response.chunk()).await {
                    Ok(Ok(Some(bytes))) => parser.push(&bytes).map_err(too_large)?,
                    Ok(Ok(None)) => return Err(self.cut()),
                    Ok(Err(error)) => return Err(self.client.unreachable(error)),
                    Err(_) => return Err(self.silent()),
                }
                continue;
            };
            if let Some(millis) = frame.retry {
                self.hint = Some(Duration::from_millis(millis).min(LONGEST_DELAY));
            }
            match frame.event.as_deref() {
                Some("end") => return Ok(Read::End),
                Some("goodbye") => return Err(self.cut()),
                Some("closed") => return Err(Error::Problem(closed(&frame.data))),
                // What is told beside the log: who is present.
                Some(name) if name != "message" => continue,
                _ if frame.data.is_empty() => continue,
                _ => {}
            }
            if let Some(seq) = frame.id.as_deref().and_then(|id| id.parse::<u64>().ok()) {
                if seq <= self.after {
                    continue;
                }
                self.after = seq;
            }
            self.delay = FIRST_DELAY;
            return serde_json::from_str(&frame.data)
                .map(Read::Item)
                .map_err(|e| self.client.protocol(format!("an event not as expected: {e}")));
        }
    }

    fn cut(&self) -> Error {
        broken(&self.client, "the server ended the stream before its end")
    }

    fn silent(&self) -> Error {
        silent(&self.client)
    }
}

fn silent(client: &Client) -> Error {
    broken(client, "the server fell silent")
}

fn broken(client: &Client, what: &str) -> Error {
    Error::Unreachable {
        server: client.base.to_string(),
        next: "the connection broke; try again",
        source: what.into(),
    }
}

/// Why the right to a stream is gone, as the server says it.
fn closed(data: &str) -> Problem {
    #[derive(serde::Deserialize)]
    struct Closed {
        reason: String,
    }
    let reason = serde_json::from_str(data).map(|Closed { reason }| reason);
    Problem::not_allowed(reason.unwrap_or_else(|_| "the right to this stream is gone".to_owned()))
}

enum Read<T> {
    Item(T),
    End,
}
