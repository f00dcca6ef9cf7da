//! The driver for agents that speak the Agent Client Protocol, version 1.
//!
//! It speaks JSON-RPC itself, in some 200 lines ([`wire`]), instead of through the crate
//! `agent-client-protocol`: that one puts every incoming message on an unbounded queue (so a slow
//! consumer would not slow the agent), has no limit on a line, and drops malformed updates silently.
//! The crate is used by the tests, to check that what we send and what our own agent says is what
//! the protocol means.
//!
//! - [`wire`]: messages as lines.  - [`connection`]: one life of the agent's process.
//! - [`mcp`]: the MCP servers that it gets.  - [`steer`]: messages into a running turn.
//! - [`offers`]: the modes and models that it offers.
//! - [`session`]: from a fresh process to a session that can be prompted.
//! - [`turn`]: from a prompt to its end.
//! - [`normal`], [`tools`], [`patch`]: what the agent says, made into events.  - [`asks`]: what it asks.
//! - [`failure`]: what its failures mean.
//!
//! One task runs all of it. Its heart is [`Actor::step`]: hand out what is to be handed out, take
//! commands, and only when nothing waits to be handed out, read from the agent.

mod asks;
mod connection;
mod failure;
mod mcp;
mod normal;
mod offers;
mod patch;
mod session;
mod steer;
mod tools;
mod turn;
pub(crate) mod wire;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use boatyard_model::{Timestamp, TurnOutcome, event::NoticeLevel};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::{
    asks::Asks,
    connection::{Connection, Event},
    failure::{Blame, rpc_text},
    normal::Normal,
    offers::{Choosing, Offers, Setting},
    wire::{INVALID_PARAMS, Incoming, METHOD_NOT_FOUND},
};
use crate::{
    driver::{Command, Launch, Output},
    process::Spawner,
};

/// How many commands are put aside while another is served; more wait in the channel.
const BACKLOG: usize = 64;

pub(crate) use session::START;

/// Runs until it is told to close, or its handle is gone.
pub(crate) async fn run(
    launch: Launch,
    spawner: Arc<dyn Spawner>,
    commands: mpsc::Receiver<Command>,
    outputs: mpsc::Sender<Output>,
) {
    let program = &launch.program;
    let blame = Blame::new(program.name.as_str(), program.provider.as_deref());
    let begun = launch.resume.as_ref().and_then(|earlier| earlier.begun);
    let mut actor = Actor {
        normal: Normal::new(program.capabilities.usage, blame),
        asks: Asks::new(launch.autonomy, launch.ask_timeout),
        resume: launch.resume.as_ref().map(|earlier| earlier.id.clone()),
        preface: Vec::new(),
        up: false,
        mcp_told: false,
        launch,
        spawner,
        commands,
        outputs,
        backlog: VecDeque::new(),
        link: None,
        session: String::new(),
        begun,
        offers: Offers::default(),
        settings: HashMap::new(),
    };
    let grace = match actor.serve().await {
        Stop::Close { grace } => grace,
        _ => Duration::ZERO,
    };
    if let Some(link) = actor.link.take() {
        link.close(grace).await;
    }
    actor.normal.settle();
    // The last outputs, as long as somebody takes them.
    while !actor.normal.sink.is_empty() {
        if actor.normal.sink.hand_out(&actor.outputs).await.is_err() {
            break;
        }
    }
}

/// Why what was going on can't go on.
#[derive(Debug)]
enum Stop {
    /// The driver is to end.
    Close { grace: Duration },
    /// Nobody takes the outputs any more.
    Abandoned,
    /// The turn is to end.
    Cancelled,
    /// The agent is gone, or did not do what it must. Why, for people.
    Agent(String),
}

/// What happened.
#[derive(Debug)]
enum Step {
    /// A command came.
    Command(Command),
    /// The agent said something.
    Message(Incoming),
    /// The agent is gone.
    Gone(String),
    /// The caller's deadline passed.
    Deadline,
    /// Nobody takes the outputs any more.
    Abandoned,
}

struct Actor {
    launch: Launch,
    spawner: Arc<dyn Spawner>,
    commands: mpsc::Receiver<Command>,
    outputs: mpsc::Sender<Output>,
    /// Commands that must wait for the end of what is going on.
    backlog: VecDeque<Command>,
    normal: Normal,
    asks: Asks,
    link: Option<Connection>,
    /// The agent's session; only valid with a link.
    session: String,
    /// When the conversation was begun, where that is known.
    begun: Option<Timestamp>,
    /// The session to go on with in the next process.
    resume: Option<String>,
    /// What is to be put before the next prompt.
    preface: Vec<String>,
    /// The present process has a session that was told of.
    up: bool,
    /// The person knows which MCP servers the agent does not take.
    mcp_told: bool,
    offers: Offers,
    /// Requests that choose a mode or model and whose answer is awaited by nobody.
    settings: HashMap<u64, Choosing>,
}

impl Actor {
    /// Between turns.
    async fn serve(&mut self) -> Stop {
        match self.connect().await {
            Ok(()) => {}
            Err(Stop::Agent(error)) => {
                // A prompt that waits is told; else it is tried again for the next.
                if let Some(Command::Prompt { turn, .. }) = self.backlog.front() {
                    let turn = *turn;
                    self.backlog.pop_front();
                    self.fail(turn, error);
                } else {
                    self.normal.sink.notice(NoticeLevel::Error, "agent_start_failed", error);
                }
            }
            // The prompt that waited for the start is what was cancelled.
            Err(Stop::Cancelled) => {
                if let Some(Command::Prompt { turn, .. }) = self.backlog.front() {
                    let turn = *turn;
                    self.backlog.pop_front();
                    self.normal.begin(turn);
                    self.normal.end((TurnOutcome::Cancelled, None));
                }
            }
            Err(stop) => return stop,
        }
        loop {
            let step = match self.backlog.pop_front() {
                Some(command) => Step::Command(command),
                None => self.step(None).await,
            };
            match step {
                Step::Command(Command::Prompt { turn, content }) => {
                    if let Err(stop) = self.turn(turn, content).await {
                        return stop;
                    }
                }
                Step::Command(Command::Close { grace }) => return Stop::Close { grace },
                Step::Command(Command::Steer { prompt, .. }) => {
                    self.normal.sink.output(Output::SteerRefused { prompt });
                }
                Step::Command(command) => self.command(command),
                Step::Message(message) => self.message(message),
                Step::Gone(reason) => {
                    self.link = None;
                    let text = format!(
                        "The agent's process is gone ({reason}). The next prompt starts it again."
                    );
                    self.normal.sink.notice(NoticeLevel::Warning, "agent_gone", text);
                }
                Step::Deadline => {}
                Step::Abandoned => return Stop::Abandoned,
            }
        }
    }

    /// Hands out what waits, and gives the next thing that happens. The agent is read only when
    /// nothing waits to be handed out; commands are taken always.
    async fn step(&mut self, deadline: Option<Instant>) -> Step {
        loop {
            let now = Instant::now();
            if self.asks.next_deadline().is_some_and(|at| at <= now) {
                let answers = self.asks.expire(now, &mut self.normal);
                self.send_all(answers);
                continue;
            }
            let wake = [deadline, self.asks.next_deadline()].into_iter().flatten().min();
            let hand_out = !self.normal.sink.is_empty();
            tokio::select! {
                biased;
                command = self.commands.recv(), if self.backlog.len() < BACKLOG => {
                    // A dropped handle is an order to end at once.
                    let command = command.unwrap_or(Command::Close { grace: Duration::ZERO });
                    return Step::Command(command);
                }
                handed = self.normal.sink.hand_out(&self.outputs), if hand_out => {
                    if handed.is_err() {
                        return Step::Abandoned;
                    }
                }
                event = next(&mut self.link), if !hand_out => return match event {
                    Event::Message(message) => Step::Message(message),
                    Event::Gone(reason) => Step::Gone(reason),
                },
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {
                    if deadline.is_some_and(|at| at <= Instant::now()) {
                        return Step::Deadline;
                    }
                }
            }
        }
    }

    /// A command that means the same in every state.
    fn command(&mut self, command: Command) {
        match command {
            Command::AnswerPermission { permission, option } => {
                let answer = self.asks.answer_permission(permission, option.as_deref());
                self.send_all(answer);
            }
            Command::AnswerQuestion { question, answer } => {
                let answer = self.asks.answer_question(question, answer.as_deref());
                self.send_all(answer);
            }
            Command::SetMode(mode) => {
                self.choose(Setting::Mode, &mode);
                self.launch.mode = Some(mode);
            }
            Command::SetModel(model) => {
                self.choose(Setting::Model, &model);
                self.launch.model = Some(model);
            }
            // What is about a turn is served where there is one.
            Command::Prompt { .. }
            | Command::Steer { .. }
            | Command::Cancel { .. }
            | Command::Close { .. } => {}
        }
    }

    /// A message that means the same in every state.
    fn message(&mut self, message: Incoming) {
        match message {
            Incoming::Notification { method, params } => match method.as_str() {
                "session/update" if params["sessionId"] == self.session.as_str() => {
                    self.changed(&params["update"]);
                    if self.normal.is_live() {
                        self.normal.update(&params["update"]);
                    } else {
                        self.normal.quiet_update(&params["update"]);
                    }
                }
                "$/cancel_request" => {
                    let answer = self.asks.withdraw(&params["requestId"], &mut self.normal);
                    self.send_all(answer);
                }
                "_claude/sdkMessage"
                    if self.normal.sink.turn.is_some()
                        && params["sessionId"] == self.session.as_str() =>
                {
                    self.normal.claude_message(&params["message"]);
                }
                method => {
                    tracing::debug!(method = crate::capture::prefix(method, 100), "left out");
                }
            },
            Incoming::Request { id, method, params } => {
                let in_turn = self.normal.sink.turn.is_some();
                let clock = self.launch.clock.clone();
                let ours = params["sessionId"] == self.session.as_str();
                let answer = match method.as_str() {
                    // Somebody would be asked about something that is not in what they see.
                    "session/request_permission" | "_boatyard/question" if !ours => {
                        let text = "`sessionId` is not the session of this conversation";
                        Some(wire::refusal(&id, INVALID_PARAMS, text))
                    }
                    "session/request_permission" if in_turn => {
                        self.asks.permission(id, &params, &mut self.normal, &*clock)
                    }
                    "session/request_permission" => {
                        let nobody = json!({ "outcome": { "outcome": "cancelled" } });
                        Some(wire::response(&id, nobody))
                    }
                    "_boatyard/question" if in_turn => {
                        self.asks.question(id, &params, &mut self.normal, &*clock)
                    }
                    method => {
                        let text = format!("not offered: {}", crate::capture::prefix(method, 100));
                        Some(wire::refusal(&id, METHOD_NOT_FOUND, &text))
                    }
                };
                self.send_all(answer);
            }
            Incoming::Response { id, result } => {
                if let Some(choosing) = self.settings.remove(&id) {
                    match result {
                        Ok(result) => self.setting_taken(choosing, &result),
                        Err(error) => self.setting_refused(choosing, &rpc_text(&error)),
                    }
                }
            }
            Incoming::Garbage(line) => self.normal.garbage(line),
        }
    }

    fn request(&mut self, method: &str, params: Value) -> Option<u64> {
        self.link.as_mut().map(|link| link.request(method, params))
    }

    fn send_all(&mut self, messages: impl IntoIterator<Item = bytes::Bytes>) {
        if let Some(link) = &mut self.link {
            for message in messages {
                link.send(message);
            }
        }
    }
}

/// What the agent does next; never, where there is none.
async fn next(link: &mut Option<Connection>) -> Event {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}
