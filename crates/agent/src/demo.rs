//! The built-in demo agent: an ACP agent that needs no model, no key and no installation.
//!
//! It runs in a workspace as `boatyard-runner demo-agent`, over its standard streams. Whatever it is
//! asked, it says what it is, edits the repository in a small way, runs a command and sums up, so
//! that the whole way from order to diff can be seen and tested. A prompt that holds `/demo` and
//! names of scenes plays those instead, in order:
//!
//! ```text
//! /demo text thought plan edit command permission question image usage   one kind of event each
//! /demo slow [seconds] | huge [MiB] | tools [n]                          time and size
//! /demo failure | crash | garbage | children | hang                      what agents do wrong
//! ```
//!
//! The same prompt in the same files gives the same events. Nothing waits but `slow` and `hang`; a
//! cancel ends every scene but `hang`, which is deaf to it. It takes a second prompt in mid-turn and
//! answers it at the next tool boundary. Sessions are kept under `$HOME/.boatyard-demo/`, and can be
//! resumed and loaded. In mode `ask` it asks before it edits or runs; in mode `free` (its default)
//! only the scene `permission` asks. Questions go through the extension `_boatyard/question`
//! (`{sessionId, question, options}` → `{answer}`), where the client offers it.
//!
//! - `script`: what a prompt means.  - `scene`: what it then does.  - `stage`: how a scene
//!   speaks to the client.  - `memory`: what it remembers of a session.

mod memory;
mod scene;
mod script;
mod stage;

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

use self::{
    memory::Memory,
    stage::{End, Stage, Steered},
};
use crate::acp::wire::{self, Incoming, Line, Lines, METHOD_NOT_FOUND};

/// JSON-RPC's code for parameters that make no sense.
const INVALID_PARAMS: i64 = -32602;
/// JSON-RPC's code for what went wrong inside.
const INTERNAL: i64 = -32603;
/// The exit code of a crash (`EX_SOFTWARE`).
const CRASH: u8 = 70;
/// How many messages may wait for the client to read them; then scenes wait.
const OUTGOING: usize = 64;

/// Runs the agent over standard input and output, until the input ends.
pub fn main() -> ExitCode {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("demo agent: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let streams = (stream(std::io::stdin().as_fd()), stream(std::io::stdout().as_fd()));
    let (Ok(stdin), Ok(stdout)) = streams else {
        eprintln!("demo agent: standard input or output is closed");
        return ExitCode::FAILURE;
    };
    let end = runtime.block_on(serve(stdin, stdout, &home));
    // The thread that reads standard input can't be joined: it may wait for ever.
    runtime.shutdown_background();
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(Crash) => {
            eprintln!("demo agent: thread 'main' panicked at 'the scene `crash` was asked for'");
            eprintln!("demo agent: this is what a crash looks like; nothing is broken");
            ExitCode::from(CRASH)
        }
    }
}

/// A standard stream as a file: tokio reads and writes it on its pool of threads.
fn stream(fd: BorrowedFd<'_>) -> std::io::Result<tokio::fs::File> {
    Ok(tokio::fs::File::from_std(fd.try_clone_to_owned()?.into()))
}

/// The scene `crash` was played: the process is to end without a word to the client.
#[derive(Debug)]
pub struct Crash;

/// Serves a client until its end of `reader` is closed. Sessions are kept below `home`.
///
/// # Errors
/// [`Crash`], when a scene asked for one.
pub async fn serve(
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin + Send + 'static,
    home: &Path,
) -> Result<(), Crash> {
    let (outgoing, messages) = mpsc::channel(OUTGOING);
    let mut writing = tokio::spawn(wire::write_all(writer, messages));
    let (crash, mut crashes) = mpsc::channel(1);
    let mut agent = Agent {
        outgoing,
        crash,
        memory: Memory::below(home),
        sessions: HashMap::new(),
        stages: HashMap::new(),
        questions: false,
    };
    let mut lines = Lines::new(reader);
    let crashed = loop {
        tokio::select! {
            line = lines.next() => match line {
                Ok(Line::Text(line)) => agent.message(Incoming::parse(&line)).await,
                Ok(Line::TooLong | Line::End) | Err(_) => break false,
            },
            Some(()) = crashes.recv() => break true,
            // The client reads no more.
            _ = &mut writing => return Ok(()),
        }
    };
    // Scenes hold the channel; without them what was said is written, and that is all.
    drop(agent);
    let _written = tokio::time::timeout(std::time::Duration::from_secs(2), writing).await;
    if crashed { Err(Crash) } else { Ok(()) }
}

struct Agent {
    outgoing: mpsc::Sender<Bytes>,
    /// Tells the main loop that a scene wants the process to end.
    crash: mpsc::Sender<()>,
    memory: Memory,
    sessions: HashMap<String, memory::Session>,
    /// The turns that run, by session.
    stages: HashMap<String, Running>,
    /// The client takes questions.
    questions: bool,
}

/// A turn that runs. Dropping it ends it.
struct Running {
    stage: Arc<Stage>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Answer = Result<Value, (i64, String)>;

impl Agent {
    async fn message(&mut self, message: Incoming) {
        match message {
            Incoming::Request { id, method, params } if method == "session/prompt" => {
                if let Err((code, text)) = self.prompt(id.clone(), &params).await {
                    self.send(wire::refusal(&id, code, &text)).await;
                }
            }
            Incoming::Request { id, method, params } => {
                let answer = match method.as_str() {
                    "initialize" => Ok(self.initialize(&params)),
                    "session/new" => self.begin(&params),
                    "session/resume" => self.resume(&params),
                    "session/load" => self.load(&params).await,
                    "session/set_mode" => self.set(&params, "modeId", &["ask", "free"]),
                    "session/set_model" => {
                        self.set(&params, "modelId", &["demo-small", "demo-large"])
                    }
                    method => Err((METHOD_NOT_FOUND, format!("not offered: {method}"))),
                };
                let line = match answer {
                    Ok(result) => wire::response(&id, result),
                    Err((code, text)) => wire::refusal(&id, code, &text),
                };
                self.send(line).await;
            }
            Incoming::Notification { method, params } if method == "session/cancel" => {
                let session = params["sessionId"].as_str().unwrap_or_default();
                if let Some(running) = self.stages.get(session) {
                    running.stage.cancel();
                }
            }
            Incoming::Response { id, result } => {
                for running in self.stages.values() {
                    running.stage.answered(id, result.clone().ok());
                }
            }
            Incoming::Notification { .. } | Incoming::Garbage(_) => {}
        }
    }

    async fn send(&self, line: Bytes) {
        // When the client is gone, the end of its input follows.
        drop(self.outgoing.send(line).await);
    }

    fn initialize(&mut self, params: &Value) -> Value {
        let meta = &params["clientCapabilities"]["_meta"];
        self.questions = meta["boatyard"]["question"] == true;
        json!({
            "protocolVersion": 1,
            "agentCapabilities": {
                "loadSession": true,
                "promptCapabilities": { "image": true, "embeddedContext": true },
                "sessionCapabilities": { "resume": {} },
                "_meta": { "boatyard": { "promptQueueing": true } },
            },
            "agentInfo": {
                "name": "boatyard-demo",
                "title": "Boatyard demo agent",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "authMethods": [],
        })
    }

    fn begin(&mut self, params: &Value) -> Answer {
        let session = memory::Session::new(cwd(params)?);
        let id = memory::new_id();
        let mut offers = offers(&session);
        offers["sessionId"] = json!(id);
        self.memory.write(&id, &session).map_err(|e| (INTERNAL, e.to_string()))?;
        self.sessions.insert(id, session);
        Ok(offers)
    }

    fn resume(&mut self, params: &Value) -> Answer {
        let id = params["sessionId"].as_str().unwrap_or_default();
        let mut session = self
            .memory
            .read(id)
            .ok_or_else(|| (INVALID_PARAMS, format!("Session not found: {id}")))?;
        session.cwd = cwd(params)?;
        let offers = offers(&session);
        self.sessions.insert(id.to_owned(), session);
        Ok(offers)
    }

    async fn load(&mut self, params: &Value) -> Answer {
        let offers = self.resume(params)?;
        let id = params["sessionId"].as_str().unwrap_or_default();
        let turns = self.sessions.get(id).map(|s| s.turns.clone()).unwrap_or_default();
        for turn in turns {
            for (kind, text) in
                [("user_message_chunk", turn.prompt), ("agent_message_chunk", turn.answer)]
            {
                let content = json!({ "type": "text", "text": text });
                let update = json!({ "sessionUpdate": kind, "content": content });
                let params = json!({ "sessionId": id, "update": update });
                self.send(wire::notification("session/update", params)).await;
            }
        }
        Ok(offers)
    }

    fn set(&mut self, params: &Value, key: &str, known: &[&str]) -> Answer {
        let id = params["sessionId"].as_str().unwrap_or_default();
        let session = self
            .sessions
            .get_mut(id)
            .ok_or_else(|| (INVALID_PARAMS, format!("Session not found: {id}")))?;
        let value = params[key].as_str().unwrap_or_default();
        if !known.contains(&value) {
            let text = format!("`{value}` is not one of {}", known.join(", "));
            return Err((INVALID_PARAMS, text));
        }
        let place = if key == "modeId" { &mut session.mode } else { &mut session.model };
        value.clone_into(place);
        self.memory.write(id, session).map_err(|e| (INTERNAL, e.to_string()))?;
        Ok(json!({}))
    }

    /// Begins a turn, or gives the prompt to the one that runs.
    async fn prompt(&mut self, request: Value, params: &Value) -> Result<(), (i64, String)> {
        let id = params["sessionId"].as_str().unwrap_or_default().to_owned();
        let blocks = params["prompt"].as_array().map(Vec::as_slice).unwrap_or_default();
        let texts: Vec<&str> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
        let text = texts.join("\n\n");
        self.stages.retain(|_, running| !running.task.is_finished());
        let steered = Steered { request: request.clone(), text: text.clone() };
        if self.stages.get(&id).is_some_and(|running| running.stage.steer(steered)) {
            return Ok(());
        }
        // From its file: the turn before has written what it added.
        let session = self
            .sessions
            .contains_key(&id)
            .then(|| self.memory.read(&id))
            .flatten()
            .ok_or_else(|| (INVALID_PARAMS, format!("Session not found: {id}")))?;
        let stage =
            Arc::new(Stage::new(id.clone(), session, self.outgoing.clone(), self.questions));
        let pictures: Vec<Value> =
            blocks.iter().filter(|block| block["type"] == "image").cloned().collect();
        let (playing, crash, memory) = (stage.clone(), self.crash.clone(), self.memory.clone());
        let task = tokio::spawn(async move {
            let end = playing.play(&text, &pictures, &memory).await;
            if end == End::Crash {
                // The main loop may be over already.
                let _told = crash.send(()).await;
            } else {
                playing.answer(request, &end).await;
            }
        });
        self.stages.insert(id, Running { stage, task });
        Ok(())
    }
}

fn cwd(params: &Value) -> Result<PathBuf, (i64, String)> {
    let cwd = PathBuf::from(params["cwd"].as_str().unwrap_or_default());
    if cwd.is_absolute() && cwd.is_dir() {
        Ok(cwd)
    } else {
        Err((INVALID_PARAMS, format!("cwd `{}` is not a folder", cwd.display())))
    }
}

fn offers(session: &memory::Session) -> Value {
    json!({
        "modes": {
            "currentModeId": session.mode,
            "availableModes": [
                { "id": "ask", "name": "Ask", "description": "Asks before it edits or runs" },
                { "id": "free", "name": "Free", "description": "Asks only in the scene `permission`" },
            ],
        },
        "models": {
            "currentModelId": session.model,
            "availableModels": [
                { "modelId": "demo-small", "name": "Demo (no model)" },
                { "modelId": "demo-large", "name": "Demo, large (no model either)" },
            ],
        },
    })
}
