//! From nothing to a session that can be prompted: spawn, initialize, resume or begin, choose mode
//! and model.

use std::time::Duration;

use boatyard_model::event::NoticeLevel;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    Actor, Step, Stop,
    connection::Connection,
    failure::rpc_text,
    offers::{Offers, SETTING, Setting},
    wire::{Incoming, RpcError},
};
use crate::{
    driver::{AgentSession, Command, Output, Resumed},
    process::{ProcessSpec, Stdin},
};

/// Starting a process.
const SPAWN: Duration = Duration::from_secs(30);
/// The first answer. The slowest agent was seen to need 8 s on a busy machine.
const INITIALIZE: Duration = Duration::from_secs(90);
/// Beginning a session; an agent that loads one replays all of it first.
const SESSION: Duration = Duration::from_secs(120);
/// How long a replay that comes after its answer is waited for (Gemini), and how long a silence ends
/// it.
const REPLAY: Duration = Duration::from_secs(2);
const REPLAY_PAUSE: Duration = Duration::from_millis(300);
/// All of it: a conversation that can't be taken up is begun again, Gemini waits for the next minute,
/// and mode and model are chosen.
pub(crate) const START: Duration = Duration::from_secs(
    SPAWN.as_secs()
        + INITIALIZE.as_secs()
        + MINUTE_MAX
        + 2 * SESSION.as_secs()
        + REPLAY.as_secs()
        + 2 * SETTING.as_secs(),
);
/// A minute and [`MINUTE_MARGIN`].
const MINUTE_MAX: u64 = 61;
/// A start that takes longer is told.
const SLOW: Duration = Duration::from_secs(20);
/// What the agent is told about a conversation that it does not remember.
const SEED: &str = "This conversation began earlier, in a session that is gone. What was said and done so far, for you to go on from:";
const SEED_END: &str = "(End of what was said and done so far. The new message:)";
/// How Gemini names itself.
const GEMINI: &str = "gemini-cli";
/// How much longer than to the next minute is waited: clocks are read at different times.
const MINUTE_MARGIN: Duration = Duration::from_millis(200);

type Answer = Result<Value, RpcError>;

impl Actor {
    /// Starts the agent and gets a session.
    pub(super) async fn connect(&mut self) -> Result<(), Stop> {
        let result = self.try_connect().await;
        // One that is to be closed may end by itself.
        if matches!(&result, Err(stop) if !matches!(stop, Stop::Close { .. })) {
            self.link = None;
        }
        result
    }

    async fn try_connect(&mut self) -> Result<(), Stop> {
        self.spawn().await?;
        let hello = self.call("initialize", initialize(), INITIALIZE).await?;
        let hello = hello.map_err(|e| self.start_error(&self.normal.blame().refused(&e)))?;
        if hello["protocolVersion"].as_u64() != Some(1) {
            let text = format!(
                "it speaks version {} of the Agent Client Protocol, not 1",
                hello["protocolVersion"]
            );
            return Err(self.start_error(&text));
        }
        let (session, resumed, seeded) = self.session(&hello).await?;
        self.offers = Offers::read(&hello, &session);
        self.offers.limit(&self.launch.program.capabilities);
        let choices = [
            (Setting::Mode, self.launch.mode.clone()),
            (Setting::Model, self.launch.model.clone()),
        ];
        for (setting, wanted) in choices {
            if let Some(wanted) = wanted {
                self.choose_now(setting, &wanted).await?;
            }
        }
        if resumed == Resumed::Lost {
            let text = if seeded {
                "The agent could not go on with its own record of the conversation; it gets ours with the next prompt."
            } else {
                "The agent could not go on with its own record of the conversation and begins anew."
            };
            self.normal.sink.notice(NoticeLevel::Warning, "resume_lost", text);
        }
        self.resume = Some(self.session.clone());
        self.normal.sink.output(Output::Session(AgentSession {
            id: Some(self.session.clone()),
            resumed,
            offers: self.offers.told(),
        }));
        self.up = true;
        Ok(())
    }

    async fn spawn(&mut self) -> Result<(), Stop> {
        let spec = ProcessSpec {
            argv: self.launch.program.argv.clone(),
            env: self.launch.env.clone(),
            cwd: self.launch.cwd.clone(),
            stdin: Stdin::Pipe,
        };
        let program = spec.argv.first().cloned().unwrap_or_default();
        let process = match timeout(SPAWN, self.spawner.spawn(spec)).await {
            Ok(Ok(process)) => process,
            Ok(Err(error)) => {
                let text = format!(
                    "`{program}` could not be started: {error}. Check `command` of [agents.{}] in the settings, and that the program is there in the workspace",
                    self.launch.program.name
                );
                return Err(Stop::Agent(self.named(&text)));
            }
            Err(_) => {
                let text = format!("`{program}` was not started within {} s", SPAWN.as_secs());
                return Err(Stop::Agent(self.named(&text)));
            }
        };
        self.up = false;
        self.settings.clear();
        self.normal.no_replay();
        self.session.clear();
        self.link = Some(Connection::new(process));
        Ok(())
    }

    /// Resumes the earlier session where the agent can, else begins one. Tells as well whether it gets
    /// what was said before.
    async fn session(&mut self, hello: &Value) -> Result<(Value, Resumed, bool), Stop> {
        let servers = self.mcp_servers(hello);
        let mut place = json!({ "cwd": self.launch.cwd, "mcpServers": servers });
        let meta = &self.launch.program.session_meta;
        if !meta.is_empty() {
            place["_meta"] = Value::Object(meta.clone());
        }
        let mut resumed = Resumed::Fresh;
        if let Some(id) = self.resume.clone() {
            let can = &hello["agentCapabilities"];
            let method = if !self.launch.program.capabilities.resume {
                None
            } else if !can["sessionCapabilities"]["resume"].is_null() {
                Some("session/resume")
            } else if can["loadSession"] == true {
                Some("session/load")
            } else {
                None
            };
            if let Some(method) = method {
                let mut params = place.clone();
                params["sessionId"] = json!(id);
                // What is replayed now we have already: it is dropped.
                self.session.clone_from(&id);
                if method == "session/load" && hello["agentInfo"]["name"] == GEMINI {
                    self.next_minute().await?;
                }
                self.normal.begin_replay();
                match self.call(method, params, SESSION).await? {
                    Ok(session) => {
                        if method == "session/load" {
                            self.skip_replay().await?;
                        }
                        self.normal.end_replay();
                        return Ok((session, Resumed::Native, false));
                    }
                    Err(error) => {
                        tracing::debug!(error = rpc_text(&error), "the session is not resumed");
                        self.normal.no_replay();
                        self.session.clear();
                    }
                }
            }
            resumed = Resumed::Lost;
        }
        // What was said before the driver started, and since.
        let before = self.launch.seed.as_deref().unwrap_or_default();
        let seed = format!("{before}\n{}", self.normal.transcript());
        let seed = Some(seed.trim()).filter(|seed| !seed.is_empty());
        let seed = seed.map(|seed| format!("{SEED}\n\n{seed}\n\n{SEED_END}"));
        let seeded = seed.is_some();
        let instructions = self.launch.instructions.clone().filter(|text| !text.trim().is_empty());
        self.preface = instructions.into_iter().chain(seed).collect();
        let session = match self.call("session/new", place, SESSION).await? {
            Ok(session) => session,
            Err(error) => {
                let text = self.normal.blame().refused(&error);
                return Err(self.start_error(&text));
            }
        };
        match session["sessionId"].as_str().filter(|id| !id.is_empty() && id.len() <= 1024) {
            Some(id) => self.session = id.to_owned(),
            None => return Err(self.start_error("it began a session without an id")),
        }
        self.begun = Some(self.launch.clock.now());
        Ok((session, resumed, seeded))
    }

    /// Waits until the minute is over in which the session was begun.
    ///
    /// Gemini names the file of a conversation after the minute, and writes into it before it reads
    /// it: a process that loads a conversation in the minute of its beginning erases it.
    async fn next_minute(&mut self) -> Result<(), Stop> {
        const MINUTE: i64 = 60_000;
        let now = self.launch.clock.now().0;
        let minute = |time: i64| time.div_euclid(MINUTE);
        if self.begun.is_none_or(|begun| minute(begun.0) != minute(now)) {
            return Ok(());
        }
        let left = u64::try_from(MINUTE - now.rem_euclid(MINUTE)).unwrap_or_default();
        let text = format!(
            "The agent can take up its conversation only after the minute in which it began; waiting {} s.",
            left.div_ceil(1000)
        );
        self.normal.sink.notice(NoticeLevel::Info, "resume_waits", text);
        let until = Instant::now() + Duration::from_millis(left) + MINUTE_MARGIN;
        loop {
            match self.step(Some(until)).await {
                Step::Deadline => return Ok(()),
                other => self.starting(other)?,
            }
        }
    }

    /// Reads over a replay that comes after the answer to `session/load`. One that has come before
    /// it is all there is; else its beginning is waited for.
    async fn skip_replay(&mut self) -> Result<(), Stop> {
        let end = Instant::now() + REPLAY;
        let come = self.normal.has_replay();
        let mut quiet = if come { Instant::now() + REPLAY_PAUSE } else { end };
        loop {
            match self.step(Some(quiet.min(end))).await {
                Step::Deadline => return Ok(()),
                Step::Message(message) => {
                    self.message(message);
                    if self.normal.has_replay() {
                        quiet = Instant::now() + REPLAY_PAUSE;
                    }
                }
                other => self.starting(other)?,
            }
        }
    }

    /// Sends a request and waits for its answer, serving everything else meanwhile.
    pub(super) async fn call(
        &mut self,
        method: &str,
        params: Value,
        limit: Duration,
    ) -> Result<Answer, Stop> {
        let id = self.request(method, params);
        let begin = Instant::now();
        let deadline = begin + limit;
        let mut slow = Some(begin + SLOW).filter(|slow| *slow < deadline);
        loop {
            match self.step(Some(slow.unwrap_or(deadline))).await {
                Step::Message(Incoming::Response { id: answered, result })
                    if Some(answered) == id =>
                {
                    return Ok(result);
                }
                Step::Message(message) => self.message(message),
                Step::Deadline if slow.take().is_some() => {
                    let text = format!(
                        "The agent is slow to start: it has not answered `{method}` for {} s; it has {} s.",
                        SLOW.as_secs(),
                        limit.as_secs()
                    );
                    self.normal.sink.notice(NoticeLevel::Info, "slow_start", text);
                }
                Step::Deadline => {
                    let text = format!("it did not answer `{method}` within {} s", limit.as_secs());
                    return Err(self.start_error(&text));
                }
                other => self.starting(other)?,
            }
        }
    }

    /// What happens while the agent starts and is not an answer.
    fn starting(&mut self, step: Step) -> Result<(), Stop> {
        match step {
            Step::Command(Command::Cancel { .. }) => Err(Stop::Cancelled),
            Step::Command(Command::Close { grace }) => Err(Stop::Close { grace }),
            // Both are chosen when there is a session.
            Step::Command(Command::SetMode(mode)) => {
                self.launch.mode = Some(mode);
                Ok(())
            }
            Step::Command(Command::SetModel(model)) => {
                self.launch.model = Some(model);
                Ok(())
            }
            Step::Command(command) => {
                self.backlog.push_back(command);
                Ok(())
            }
            Step::Gone(reason) => Err(self.start_error(&reason)),
            Step::Abandoned => Err(Stop::Abandoned),
            Step::Message(message) => {
                self.message(message);
                Ok(())
            }
            Step::Deadline => Ok(()),
        }
    }

    fn start_error(&self, reason: &str) -> Stop {
        let text = format!(
            "it could not be started: {reason}\n`boatyard agent check {}` starts it alone and tells more.",
            self.launch.program.name
        );
        Stop::Agent(self.named(&text))
    }

    /// An error of the agent, with its name.
    pub(super) fn named(&self, text: &str) -> String {
        format!("Agent `{}`: {text}", self.launch.program.name)
    }
}

/// What we can do: no files, no terminals (an agent works in the workspace itself), but we want to
/// hear what commands print, and we take questions.
///
/// The capability `jetbrains.air`, by which Claude's and Codex's adapters tell failures, is not for us:
/// they take who has it for a certain editor and leave out a command's output and who called a tool.
fn initialize() -> Value {
    json!({
        "protocolVersion": 1,
        "clientCapabilities": {
            "fs": { "readTextFile": false, "writeTextFile": false },
            "terminal": false,
            "_meta": {
                // Codex sends what a command prints while it runs to those who ask.
                "terminal_output_delta": true,
                "boatyard": { "question": true },
            },
        },
        "clientInfo": {
            "name": "boatyard",
            "title": "Boatyard",
            "version": env!("CARGO_PKG_VERSION"),
        },
    })
}
