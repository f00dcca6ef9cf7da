//! How a scene speaks to the client, and how it is ended.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    INTERNAL,
    memory::{Memory, Session},
    scene, script,
};
use crate::acp::wire;

/// How much the demo agent's context holds, in tokens, as it claims.
const CONTEXT: u64 = 200_000;
/// What a session begins with: the tokens of the instructions that it does not have.
const INSTRUCTIONS: u64 = 100;
/// How many prompts may be given to a turn that runs.
const STEERED: usize = 32;

/// Numbers our requests; all sessions of the process share the client.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// How a turn ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    Done,
    Cancelled,
    Failed(String),
    Crash,
}

/// A prompt that came in mid-turn.
#[derive(Debug)]
pub(super) struct Steered {
    pub(super) request: Value,
    pub(super) text: String,
}

/// Prompts that came in mid-turn; none of the list once the turn is over.
#[derive(Debug, Default)]
struct Inbox {
    waiting: Vec<Steered>,
    /// Those that were taken notice of, to be answered at the end.
    taken: Vec<Value>,
    closed: bool,
}

/// One turn.
pub(super) struct Stage {
    session_id: String,
    session: Session,
    outgoing: mpsc::Sender<Bytes>,
    /// The client takes questions.
    pub(super) questions: bool,
    cancel: watch::Sender<bool>,
    deaf: AtomicBool,
    pending: Mutex<HashMap<u64, oneshot::Sender<Option<Value>>>>,
    inbox: Mutex<Inbox>,
    said: Mutex<String>,
    tools: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    pub(super) fn new(
        session_id: String,
        session: Session,
        outgoing: mpsc::Sender<Bytes>,
        questions: bool,
    ) -> Self {
        Self {
            session_id,
            session,
            outgoing,
            questions,
            cancel: watch::Sender::new(false),
            deaf: AtomicBool::new(false),
            pending: Mutex::default(),
            inbox: Mutex::default(),
            said: Mutex::default(),
            tools: AtomicU64::new(0),
        }
    }

    /// Plays what the prompt asks for, and remembers it.
    pub(super) async fn play(&self, prompt: &str, pictures: &[Value], memory: &Memory) -> End {
        let scenes = script::scenes(prompt);
        let end = tokio::select! {
            end = scene::play(self, &scenes, prompt, pictures) => end,
            () = self.cancelled() => End::Cancelled,
        };
        if end == End::Done && !prompt.trim().is_empty() {
            let title: String = prompt.split_whitespace().take(8).collect::<Vec<_>>().join(" ");
            self.update(json!({ "sessionUpdate": "session_info_update", "title": title })).await;
        }
        let mut session = self.session.clone();
        session.remember(prompt, &lock(&self.said));
        if let Err(error) = memory.write(&self.session_id, &session) {
            return End::Failed(format!("the session could not be kept: {error}"));
        }
        end
    }

    /// Answers the prompt, and those that came in mid-turn.
    pub(super) async fn answer(&self, request: Value, end: &End) {
        let requests = {
            let mut inbox = lock(&self.inbox);
            inbox.closed = true;
            let late = std::mem::take(&mut inbox.waiting).into_iter().map(|s| s.request);
            let taken = std::mem::take(&mut inbox.taken);
            [request].into_iter().chain(taken).chain(late).collect::<Vec<_>>()
        };
        let reason = match end {
            End::Cancelled => "cancelled",
            _ => "end_turn",
        };
        let mut usage = self.turn_usage();
        for request in requests {
            let line = match end {
                End::Failed(text) => wire::refusal(&request, INTERNAL, text),
                _ => wire::response(&request, json!({ "stopReason": reason, "usage": usage })),
            };
            // What the turn used is told once.
            usage = json!({
                "inputTokens": 0, "outputTokens": 0, "cachedReadTokens": 0, "totalTokens": 0,
            });
            self.send(line).await;
        }
    }

    /// Takes a prompt in mid-turn; false when the turn is over already.
    pub(super) fn steer(&self, steered: Steered) -> bool {
        let mut inbox = lock(&self.inbox);
        let takes = !inbox.closed && inbox.waiting.len() < STEERED;
        if takes {
            inbox.waiting.push(steered);
        }
        takes
    }

    /// The words that came in mid-turn since the last time.
    pub(super) fn heard(&self) -> Vec<String> {
        let mut inbox = lock(&self.inbox);
        let waiting = std::mem::take(&mut inbox.waiting);
        let (requests, texts): (Vec<_>, Vec<_>) =
            waiting.into_iter().map(|steered| (steered.request, steered.text)).unzip();
        inbox.taken.extend(requests);
        texts
    }

    /// Ends the turn as cancelled, unless it is deaf.
    pub(super) fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    /// From now on a cancel changes nothing.
    pub(super) fn be_deaf(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    async fn cancelled(&self) {
        let mut cancel = self.cancel.subscribe();
        loop {
            if *cancel.borrow_and_update() && !self.deaf.load(Ordering::Relaxed) {
                return;
            }
            if cancel.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn cwd(&self) -> &PathBuf {
        &self.session.cwd
    }

    /// How many turns there were before this one.
    pub(super) fn turns(&self) -> usize {
        self.session.turns.len()
    }

    /// Whether it must ask before it changes something.
    pub(super) fn must_ask(&self) -> bool {
        self.session.mode == "ask"
    }

    pub(super) async fn send(&self, line: Bytes) {
        // When the client is gone, the end of its input follows.
        drop(self.outgoing.send(line).await);
    }

    pub(super) async fn update(&self, update: Value) {
        let params = json!({ "sessionId": self.session_id, "update": update });
        self.send(wire::notification("session/update", params)).await;
    }

    /// Says something, a few words at a time.
    pub(super) async fn say(&self, kind: Speech, text: &str) {
        let kind = match kind {
            Speech::Message => {
                lock(&self.said).push_str(text);
                "agent_message_chunk"
            }
            Speech::Thought => "agent_thought_chunk",
        };
        let words: Vec<&str> = text.split_inclusive(' ').collect();
        for piece in words.chunks(4) {
            let content = json!({ "type": "text", "text": piece.concat() });
            self.update(json!({ "sessionUpdate": kind, "content": content })).await;
        }
    }

    /// A new tool call's id.
    pub(super) fn tool_id(&self) -> String {
        let n = self.tools.fetch_add(1, Ordering::Relaxed) + 1;
        format!("demo-{}-{n}", self.turns() + 1)
    }

    /// Asks the client, and waits for its answer; none if it has none.
    pub(super) async fn ask(&self, method: &str, mut params: Value) -> Option<Value> {
        params["sessionId"] = json!(self.session_id);
        let id = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        lock(&self.pending).insert(id, tell);
        self.send(wire::request(id, method, params)).await;
        told.await.ok().flatten()
    }

    pub(super) fn answered(&self, id: u64, result: Option<Value>) {
        if let Some(tell) = lock(&self.pending).remove(&id) {
            drop(tell.send(result));
        }
    }

    /// Tells how full the context is, and what it cost: nothing.
    pub(super) async fn usage(&self) {
        let used = self.turn_usage()["totalTokens"].as_u64().unwrap_or(0);
        let used = (used + self.turns() as u64 * INSTRUCTIONS).min(CONTEXT);
        self.update(json!({
            "sessionUpdate": "usage_update",
            "used": used,
            "size": CONTEXT,
            "cost": { "amount": 0.0, "currency": "USD" },
        }))
        .await;
    }

    /// The turn's tokens, by the rule of thumb of four letters each.
    fn turn_usage(&self) -> Value {
        let output = lock(&self.said).len() as u64 / 4;
        json!({
            "inputTokens": INSTRUCTIONS,
            "outputTokens": output,
            "cachedReadTokens": 0,
            "totalTokens": INSTRUCTIONS + output,
        })
    }
}

/// Who speaks to whom.
#[derive(Debug, Clone, Copy)]
pub(super) enum Speech {
    /// The agent to the person.
    Message,
    /// The agent to itself.
    Thought,
}
