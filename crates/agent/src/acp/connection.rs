//! One life of an agent's process, and the messages to and from it.
//!
//! A connection has its process killed when it is dropped. It is over ([`Event::Gone`]) when the
//! process has ended and all that it printed was read, when it closed its output, or when it broke
//! the framing. Children that hold the pipes open do not keep it alive.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::wire::{self, Incoming, LINE, Line, Lines};
use crate::{
    capture::LastWords,
    process::{Exit, Process, ProcessControl, Reader},
};

/// How many messages may wait for the agent to read them. It is we who answer it; an agent that asks
/// this often without reading the answers is broken.
const OUTGOING: usize = 256;
/// How many lines in a row may be no messages. What prints more is no ACP agent, or has lost its mind.
const GARBAGE: usize = 10_000;
/// How long the rest of the output of an ended process is waited for: its children may hold the
/// pipe.
const DRAIN: Duration = Duration::from_millis(500);
/// How long a process that has closed its output may take to end.
const LINGER: Duration = Duration::from_secs(2);

/// What came from the agent.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message.
    Message(Incoming),
    /// The process is gone, or is to be given up. Why, for people, with its last words.
    Gone(String),
}

/// A running agent.
pub(crate) struct Connection {
    outgoing: Option<mpsc::Sender<Bytes>>,
    writer: JoinHandle<io::Result<()>>,
    lines: Lines<Reader>,
    end_of_lines: bool,
    /// Lines in a row that were no messages.
    garbage: usize,
    stderr: JoinHandle<()>,
    stderr_ended: bool,
    last_words: Arc<Mutex<LastWords>>,
    exit: BoxFuture<'static, io::Result<Exit>>,
    ended: Option<String>,
    give_up: Option<Instant>,
    broken: Option<String>,
    control: Arc<dyn ProcessControl>,
    next_id: u64,
}

impl Connection {
    /// Takes over a process that was started with a pipe as its standard input.
    pub(crate) fn new(process: Process) -> Self {
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        let writer = match process.stdin {
            Some(stdin) => tokio::spawn(wire::write_all(stdin, messages)),
            None => tokio::spawn(wire::write_all(tokio::io::sink(), messages)),
        };
        let last_words = Arc::<Mutex<LastWords>>::default();
        let stderr = tokio::spawn(keep_last_words(process.stderr, last_words.clone()));
        Self {
            outgoing: Some(outgoing),
            writer,
            lines: Lines::new(process.stdout),
            end_of_lines: false,
            garbage: 0,
            stderr,
            stderr_ended: false,
            last_words,
            exit: process.exit,
            ended: None,
            give_up: None,
            broken: None,
            control: process.control,
            next_id: 1,
        }
    }

    /// Sends a request; its answer will come with this id.
    pub(crate) fn request(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(wire::request(id, method, params));
        id
    }

    /// Sends a message. If the agent does not read, the connection breaks.
    pub(crate) fn send(&mut self, message: Bytes) {
        if let Some(outgoing) = &self.outgoing
            && let Err(mpsc::error::TrySendError::Full(_)) = outgoing.try_send(message)
        {
            self.broken = Some("it does not read what it is sent".into());
        }
    }

    /// Whether it is over, or about to be: nothing that is sent now will be answered.
    pub(crate) fn is_ending(&self) -> bool {
        self.end_of_lines || self.ended.is_some() || self.broken.is_some()
    }

    /// What comes next. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            if let Some(reason) = &self.broken {
                return Event::Gone(self.describe(reason));
            }
            let all_read = self.end_of_lines && self.stderr_ended;
            if all_read && let Some(ended) = &self.ended {
                return Event::Gone(self.describe(ended));
            }
            tokio::select! {
                biased;
                line = self.lines.next(), if !self.end_of_lines => match line {
                    Ok(Line::Text(line)) => {
                        let message = Incoming::parse(&line);
                        let garbage = matches!(message, Incoming::Garbage(_));
                        self.garbage = if garbage { self.garbage + 1 } else { 0 };
                        if self.garbage > GARBAGE {
                            self.broken = Some(format!("it printed {GARBAGE} lines that are no messages"));
                        }
                        return Event::Message(message);
                    }
                    Ok(Line::TooLong) => {
                        self.broken =
                            Some(format!("it sent a line of more than {} MB", LINE >> 20));
                    }
                    Ok(Line::End) | Err(_) => {
                        self.end_of_lines = true;
                        self.give_up.get_or_insert(Instant::now() + LINGER);
                    }
                },
                exit = &mut self.exit, if self.ended.is_none() => {
                    self.ended = Some(match exit {
                        Ok(exit) => format!("it ended with {exit}"),
                        Err(error) => format!("it ended in an unknown way ({error})"),
                    });
                    self.give_up = Some(Instant::now() + DRAIN);
                }
                _ = &mut self.stderr, if !self.stderr_ended => self.stderr_ended = true,
                () = sleep_until(self.give_up.unwrap_or_else(Instant::now)), if self.give_up.is_some() => {
                    let reason = self.ended.clone();
                    self.broken = Some(reason.unwrap_or_else(|| "it closed its output".into()));
                }
            }
        }
    }

    fn describe(&self, reason: &str) -> String {
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner).text();
        match words {
            Some(words) => {
                format!("{reason}; the last that it wrote to its standard error:\n{words}")
            }
            None => reason.to_owned(),
        }
    }

    /// Ends it: closes its input, gives it `grace` to end by itself, then kills what is left.
    pub(crate) async fn close(mut self, grace: Duration) {
        self.outgoing = None;
        if self.ended.is_some() {
            return;
        }
        let nothing = Lines::new(Box::new(tokio::io::empty()) as Reader);
        let mut rest = std::mem::replace(&mut self.lines, nothing);
        // Its output must be read, or it may never come to its end.
        let drain = async move {
            let mut buffer = [0; 4096];
            while rest.discard(&mut buffer).await {}
            std::future::pending::<()>().await;
        };
        let ended = async {
            tokio::select! {
                _ = &mut self.exit => {}
                () = drain => {}
            }
        };
        // In time or not, the guard kills what is left.
        let _in_time = tokio::time::timeout(grace, ended).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.control.kill();
        self.writer.abort();
        self.stderr.abort();
    }
}

async fn keep_last_words(mut stderr: Reader, words: Arc<Mutex<LastWords>>) {
    let mut buffer = vec![0; 8 << 10];
    while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
        words.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..n]);
    }
}
