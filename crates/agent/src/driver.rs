//! Drives one agent for one session.
//!
//! [`Driver::start`] starts one task, which owns the agent. It takes [`Command`]s and gives
//! [`Output`]s, both through bounded channels. The task ends after [`Command::Close`], or when the
//! [`Driver`] is dropped; whatever it had started is killed then.
//!
//! ```text
//!            ┌────────────────── Prompt ──────────────────┐
//!            ▼                                            │
//!  starting ───► idle ───── Prompt ────► running ── end ──┴─► idle
//!     │            ▲                        │
//!     │            └──── TurnEnded ◄────────┤ Cancel, crash, exit: the process is gone; the next
//!     └─ failure: the next Prompt tries     │ Prompt starts it again and resumes the conversation
//!        again and reports                  ▼
//! ```
//!
//! For each `Prompt` exactly one [`Output::TurnEnded`] with its turn comes out, and no event of the
//! turn comes after it. `turn.started`, `turn.steered` and `turn.completed` are the caller's to
//! make (it knows the prompts' ids, and the checkpoint comes between the end and the event).

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

pub use boatyard_model::agent::Choice;
use boatyard_model::{
    AgentOffers, Autonomy, BlobId, EventBody, PermissionId, PromptId, QuestionId, Timestamp,
    TurnOutcome, agent::McpServer, event::PermissionOutcome, time::Clock,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    acp,
    catalogue::{Program, Protocol},
    process::Spawner,
    text,
};

/// How many commands may wait: more than a person can give while one is taken.
const COMMANDS: usize = 32;
/// How many outputs may wait. Beyond it the agent's output is not read.
const OUTPUTS: usize = 64;

/// The longest that an agent may take to start, all phases of it together. Whoever waits for
/// [`Output::Session`] waits so long.
pub const START: Duration = acp::START;

/// All that a driver needs to know.
#[derive(Clone)]
pub struct Launch {
    /// What to run and how to talk to it.
    pub program: Program,
    /// The whole environment of the agent: the workspace's, then the program's own.
    pub env: Vec<(String, String)>,
    /// Where the agent works.
    pub cwd: PathBuf,
    /// The native session to go on with, as [`Output::Session`] gave it earlier. It is an
    /// optimisation: where it fails, a fresh one is begun and said so.
    pub resume: Option<Conversation>,
    /// The conversation so far as text, put before the first prompt when there is an earlier
    /// conversation and it could not be resumed natively.
    pub seed: Option<String>,
    /// The model to choose; none leaves the agent's default.
    pub model: Option<String>,
    /// The agent's mode to choose; none leaves the agent's default.
    pub mode: Option<String>,
    /// What is answered when the agent asks for permission.
    pub autonomy: Autonomy,
    /// The MCP servers that it gets, by name. What the agent can't take is left out and said so.
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// Put before the first prompt of a conversation, and of one that the agent has forgotten.
    pub instructions: Option<String>,
    /// How long a permission or a question waits for a person.
    pub ask_timeout: Duration,
    /// Where the time in deadlines comes from.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Launch {
    /// Without the environment's values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("agent", &self.program.name)
            .field("cwd", &self.cwd)
            .field("resume", &self.resume)
            .field("model", &self.model)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// A conversation that an agent has, or had in an earlier process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The agent's own id of it.
    pub id: String,
    /// When it was begun, where that is known.
    pub begun: Option<Timestamp>,
}

impl From<String> for Conversation {
    /// One of which the id alone is known.
    fn from(id: String) -> Self {
        Self { id, begun: None }
    }
}

/// A piece of what is said to the agent.
#[derive(Clone, PartialEq, Eq)]
pub enum Input {
    /// Words.
    Text(String),
    /// A picture.
    Image {
        /// As `image/png`.
        mime: String,
        /// The file.
        bytes: Bytes,
    },
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.debug_tuple("Text").field(text).finish(),
            Self::Image { mime, bytes } => write!(f, "Image({mime}, {} bytes)", bytes.len()),
        }
    }
}

/// What a driver is told to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Begins a turn. While one runs, it waits for that one's end.
    Prompt {
        /// The turn's number, given back in everything that belongs to it.
        turn: u32,
        /// What is said.
        content: Vec<Input>,
    },
    /// Delivers this into the running turn at the next tool boundary; [`Output::Steered`] says when
    /// and how. Without a running turn it is [`Output::SteerRefused`].
    Steer {
        /// Given back in the answer.
        prompt: PromptId,
        /// What is said.
        content: Vec<Input>,
    },
    /// Ends the running turn as cancelled. An agent that has not stopped after `grace` is killed;
    /// the next prompt starts it again and resumes.
    Cancel {
        /// How long it may take to stop by itself.
        grace: Duration,
    },
    /// Answers a permission request with one of its options; none withdraws it.
    AnswerPermission {
        /// Which.
        permission: PermissionId,
        /// The option's id.
        option: Option<String>,
    },
    /// Answers a question; none means that nobody will.
    AnswerQuestion {
        /// Which.
        question: QuestionId,
        /// What was said.
        answer: Option<String>,
    },
    /// Chooses one of the agent's modes.
    SetMode(String),
    /// Chooses one of the agent's models.
    SetModel(String),
    /// Ends the running turn as cancelled and the agent with it. The driver's task is over then.
    Close {
        /// How long the agent may take to stop by itself.
        grace: Duration,
    },
}

/// What comes out of a driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Something to be logged.
    Event {
        /// The turn it belongs to; none between turns.
        turn: Option<u32>,
        /// What happened.
        body: EventBody,
    },
    /// Bytes that the event after it names by id: a picture, the whole of a large output.
    Blob(Blob),
    /// The agent is up and has this session.
    Session(AgentSession),
    /// What it offers, or what of it is chosen, has changed since.
    Offers(AgentOffers),
    /// A steered prompt was delivered.
    Steered {
        /// Which.
        prompt: PromptId,
        /// The turn had to be cancelled and begun again with the message.
        restarted: bool,
    },
    /// A steered prompt was not delivered, since the turn ended first: prompt again with it.
    SteerRefused {
        /// Which.
        prompt: PromptId,
    },
    /// A permission or question is no longer waited for, without an answer having been given.
    AskClosed {
        /// Which.
        ask: Ask,
        /// [`PermissionOutcome::Expired`] or [`PermissionOutcome::Cancelled`].
        outcome: PermissionOutcome,
    },
    /// The agent's own title for the conversation.
    Title(String),
    /// The turn is over; nothing of it comes after this.
    TurnEnded {
        /// Which.
        turn: u32,
        /// How.
        outcome: TurnOutcome,
        /// What went wrong, and what to do next.
        error: Option<String>,
    },
}

/// What waited for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// A permission.
    Permission(PermissionId),
    /// A question.
    Question(QuestionId),
}

/// Bytes that an event names.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob {
    /// The id in the event.
    pub id: BlobId,
    /// What they are: `image/png`, `text/plain; charset=utf-8`.
    pub mime: String,
    /// At most 16 MiB.
    pub bytes: Bytes,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({}, {}, {} bytes)", self.id, self.mime, self.bytes.len())
    }
}

/// The agent's own session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSession {
    /// Its id, to be given as [`Launch::resume`] later; none for an agent that keeps nothing.
    pub id: Option<String>,
    /// Whether it is the one that was asked for.
    pub resumed: Resumed,
    /// What it offers.
    pub offers: AgentOffers,
}

/// How a session stands to the one that was to be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resumed {
    /// There was none to resume.
    Fresh,
    /// The agent remembers the conversation.
    Native,
    /// The agent does not remember: a fresh session was begun, seeded with [`Launch::seed`] if
    /// there was one.
    Lost,
}

/// A running driver. Dropping it kills the agent.
#[derive(Debug)]
pub struct Driver {
    /// Takes commands. When it is full the driver is busy writing to the agent; sending waits.
    pub commands: mpsc::Sender<Command>,
    /// Gives outputs; ends when the driver does.
    pub outputs: mpsc::Receiver<Output>,
    task: JoinHandle<()>,
}

impl Driver {
    /// Starts the driver, and with it the agent (for ACP; a text agent starts at each prompt). Must
    /// be called within a tokio runtime.
    pub fn start(launch: Launch, spawner: Arc<dyn Spawner>) -> Self {
        let (commands, commands_in) = mpsc::channel(COMMANDS);
        let (outputs_out, outputs) = mpsc::channel(OUTPUTS);
        let task = match launch.program.protocol {
            Protocol::Acp => tokio::spawn(acp::run(launch, spawner, commands_in, outputs_out)),
            Protocol::Text => tokio::spawn(text::run(launch, spawner, commands_in, outputs_out)),
        };
        Self { commands, outputs, task }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Dropping the task drops its guard on the agent's process, which kills it.
        self.task.abort();
    }
}
