//! From nothing to a session that can be prompted: spawn, initialize, resume or begin, choose mode
//! and model.

use std::time::Duration;

use boatyard_model::event::NoticeLevel;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    Actor, Step, Stop,
    connection::Connection,
    normal::rpc_text,
    wire::{Incoming, RpcError},
};
use crate::{
    capture::prefix,
    catalogue::Steer,
    driver::{AgentSession, Choice, Command, Output, Resumed},
    process::{ProcessSpec, Stdin},
};

/// Starting a process.
const SPAWN: Duration = Duration::from_secs(30);
/// The first answer. The slowest agent was seen to need 8 s on a busy machine.
const INITIALIZE: Duration = Duration::from_secs(90);
/// Beginning a session; an agent that loads one replays all of it first.
const SESSION: Duration = Duration::from_secs(120);
/// Choosing a mode or model.
const SETTING: Duration = Duration::from_secs(15);
/// How long a replay that comes after its answer is waited for (Gemini), and how long a silence ends
/// it.
const REPLAY: Duration = Duration::from_secs(2);
const REPLAY_PAUSE: Duration = Duration::from_millis(300);
/// How many modes or models are passed on.
const CHOICES: usize = 200;

/// What the agent of the present process offers.
#[derive(Debug, Default)]
pub(super) struct Offers {
    pub(super) images: bool,
    /// It takes a second prompt in mid-turn.
    pub(super) queues_prompts: bool,
    modes: Vec<Choice>,
    mode: Option<String>,
    models: Vec<Choice>,
    model: Option<String>,
    /// How modes and models are chosen.
    mode_by: By,
    model_by: By,
}

/// How something is chosen.
#[derive(Debug, Default, Clone)]
enum By {
    /// Not at all.
    #[default]
    Nothing,
    /// By a request of its own.
    Method,
    /// As a configuration option with this id.
    Option(String),
}

/// What is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    Mode,
    Model,
}

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
        let hello = hello.map_err(|e| self.start_error(&rpc_text(&e)))?;
        if hello["protocolVersion"].as_u64() != Some(1) {
            let text = format!(
                "it speaks version {} of the Agent Client Protocol, not 1",
                hello["protocolVersion"]
            );
            return Err(self.start_error(&text));
        }
        let (session, resumed) = self.session(&hello).await?;
        self.offers = Offers::read(&hello, &session);
        let hints = self.launch.program.capabilities;
        self.offers.images &= hints.images;
        self.offers.queues_prompts = match hints.steer {
            Steer::Probe => self.offers.queues_prompts,
            Steer::Prompt => true,
            Steer::Restart => false,
        };
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
            let text = if self.seed.is_some() {
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
            version: version(&hello["agentInfo"]),
            modes: self.offers.modes.clone(),
            mode: self.offers.mode.clone(),
            models: self.offers.models.clone(),
            model: self.offers.model.clone(),
            takes_images: self.offers.images,
        }));
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
        self.settings.clear();
        self.session.clear();
        self.link = Some(Connection::new(process));
        Ok(())
    }

    /// Resumes the earlier session where the agent can, else begins one.
    async fn session(&mut self, hello: &Value) -> Result<(Value, Resumed), Stop> {
        let place = json!({ "cwd": self.launch.cwd, "mcpServers": [] });
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
                // What is replayed now we have already: it is dropped, since no turn runs.
                self.session.clone_from(&id);
                match self.call(method, params, SESSION).await? {
                    Ok(session) => {
                        if method == "session/load" {
                            self.skip_replay().await?;
                        }
                        return Ok((session, Resumed::Native));
                    }
                    Err(_) => self.session.clear(),
                }
            }
            resumed = Resumed::Lost;
        }
        // What was said before the driver started, and since.
        let before = self.launch.seed.as_deref().unwrap_or_default();
        let seed = format!("{before}\n{}", self.normal.transcript());
        self.seed = Some(seed.trim().to_owned()).filter(|seed| !seed.is_empty());
        let session = match self.call("session/new", place, SESSION).await? {
            Ok(session) => session,
            Err(error) => {
                let text = super::normal::with_next_step(&rpc_text(&error));
                return Err(self.start_error(&text));
            }
        };
        match session["sessionId"].as_str().filter(|id| !id.is_empty() && id.len() <= 1024) {
            Some(id) => self.session = id.to_owned(),
            None => return Err(self.start_error("it began a session without an id")),
        }
        Ok((session, resumed))
    }

    /// Reads over a replay that comes after the answer to `session/load`.
    async fn skip_replay(&mut self) -> Result<(), Stop> {
        let end = Instant::now() + REPLAY;
        let mut quiet = Instant::now() + REPLAY_PAUSE;
        loop {
            match self.step(Some(quiet.min(end))).await {
                Step::Deadline => return Ok(()),
                Step::Message(message) => {
                    self.message(message);
                    quiet = Instant::now() + REPLAY_PAUSE;
                }
                other => self.starting(other)?,
            }
        }
    }

    /// Sends a request and waits for its answer, serving everything else meanwhile.
    async fn call(&mut self, method: &str, params: Value, limit: Duration) -> Result<Answer, Stop> {
        let id = self.request(method, params);
        let deadline = Instant::now() + limit;
        loop {
            match self.step(Some(deadline)).await {
                Step::Message(Incoming::Response { id: answered, result })
                    if Some(answered) == id =>
                {
                    return Ok(result);
                }
                Step::Message(message) => self.message(message),
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
        Stop::Agent(self.named(&format!("it could not be started: {reason}")))
    }

    /// An error of the agent, with its name.
    pub(super) fn named(&self, text: &str) -> String {
        format!("Agent `{}`: {text}", self.launch.program.name)
    }

    /// Chooses and waits for it to be done.
    async fn choose_now(&mut self, setting: Setting, value: &str) -> Result<(), Stop> {
        if self.offers.has(setting, value) == Some(true) {
            return Ok(());
        }
        let Some((method, params)) = self.choice(setting, value) else { return Ok(()) };
        if let Err(error) = self.call(method, params, SETTING).await? {
            let what = setting.name(value);
            let text = format!("The agent did not take {what}: {}", rpc_text(&error));
            self.normal.sink.notice(NoticeLevel::Warning, "setting_refused", text);
            return Ok(());
        }
        *self.offers.current(setting) = Some(value.to_owned());
        Ok(())
    }

    /// Chooses without waiting; a refusal is told later.
    pub(super) fn choose(&mut self, setting: Setting, value: &str) {
        if self.link.is_none() {
            return;
        }
        if let Some((method, params)) = self.choice(setting, value)
            && let Some(id) = self.request(method, params)
        {
            self.settings.insert(id, setting.name(value));
        }
    }

    fn choice(&mut self, setting: Setting, value: &str) -> Option<(&'static str, Value)> {
        let session = &self.session;
        let (by, method, key) = match setting {
            Setting::Mode => (&self.offers.mode_by, "session/set_mode", "modeId"),
            Setting::Model => (&self.offers.model_by, "session/set_model", "modelId"),
        };
        match by {
            By::Method => Some((method, json!({ "sessionId": session, key: value }))),
            By::Option(id) => Some((
                "session/set_config_option",
                json!({ "sessionId": session, "configId": id, "value": value }),
            )),
            By::Nothing => {
                let text = format!("The agent offers no choice of {}.", setting.word());
                self.normal.sink.notice(NoticeLevel::Warning, "setting_refused", text);
                None
            }
        }
    }
}

impl Setting {
    fn word(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::Model => "model",
        }
    }

    fn name(self, value: &str) -> String {
        format!("the {} `{}`", self.word(), prefix(value, 200))
    }
}

impl Offers {
    fn read(hello: &Value, session: &Value) -> Self {
        let can = &hello["agentCapabilities"];
        let queues = |meta: &Value| {
            meta.as_object().is_some_and(|m| m.values().any(|v| v["promptQueueing"] == true))
        };
        let mut offers = Self {
            images: can["promptCapabilities"]["image"] == true,
            queues_prompts: queues(&can["_meta"]),
            ..Self::default()
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let modes = &session["modes"];
        if modes["availableModes"].is_array() {
            offers.modes = choices(&modes["availableModes"], "id");
            offers.mode = text(&modes["currentModeId"]);
            offers.mode_by = By::Method;
        }
        let models = &session["models"];
        if models["availableModels"].is_array() {
            offers.models = choices(&models["availableModels"], "modelId");
            offers.model = text(&models["currentModelId"]);
            offers.model_by = By::Method;
        }
        for option in session["configOptions"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let Some(id) = text(&option["id"]) else { continue };
            let (by, list, current) = match option["category"].as_str() {
                Some("mode") => (&mut offers.mode_by, &mut offers.modes, &mut offers.mode),
                Some("model") => (&mut offers.model_by, &mut offers.models, &mut offers.model),
                _ => continue,
            };
            if matches!(by, By::Nothing) {
                *by = By::Option(id);
                *list = choices(&option["options"], "value");
                *current = text(&option["currentValue"]);
            }
        }
        offers
    }

    /// Whether this is chosen already; none if it is not known what is.
    fn has(&self, setting: Setting, value: &str) -> Option<bool> {
        let current = match setting {
            Setting::Mode => &self.mode,
            Setting::Model => &self.model,
        };
        current.as_deref().map(|current| current == value)
    }

    fn current(&mut self, setting: Setting) -> &mut Option<String> {
        match setting {
            Setting::Mode => &mut self.mode,
            Setting::Model => &mut self.model,
        }
    }
}

fn choices(list: &Value, key: &str) -> Vec<Choice> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let list = list.iter().take(CHOICES).filter_map(|choice| {
        let id = choice[key].as_str()?;
        let name = choice["name"].as_str().unwrap_or(id);
        Some(Choice { id: prefix(id, 200).to_owned(), name: prefix(name, 200).to_owned() })
    });
    list.collect()
}

fn version(info: &Value) -> Option<String> {
    let name = info["title"].as_str().or(info["name"].as_str())?;
    let text = match info["version"].as_str() {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    };
    Some(prefix(&text, 200).to_owned())
}

/// What we can do: no files, no terminals (an agent works in the workspace itself), but we want to
/// hear of failures as claude and codex tell them to those who ask, and we take questions.
fn initialize() -> Value {
    json!({
        "protocolVersion": 1,
        "clientCapabilities": {
            "fs": { "readTextFile": false, "writeTextFile": false },
            "terminal": false,
            "_meta": {
                "jetbrains": { "air": { "version": 1, "capabilities": ["sessionFailure"] } },
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
