//! Drives an agent of the catalogue on this machine, to see what it does: no sandbox, no server.
//!
//! ```text
//!   cargo run -p boatyard-agent --example drive -- AGENT FOLDER PROVIDER [KEY=VALUE…] STEP…
//! ```
//!
//! FOLDER is what the agent was installed into, with a `home` and a `work` made in it. Keys:
//! `node`, `model`, `autonomy`, `mode`, `mcp` (JSON), `instructions`, `resume`, `home`. Steps:
//! `say:TEXT` (prompt and wait for the turn's end), `begin:TEXT`, `image:FILE`, `steer:TEXT`,
//! `cancel`, `mode:ID`, `model:ID`, `until:KIND`, `wait:MILLISECONDS`, `end`, `yes`, `no`, `again`
//! (a new process that resumes), `lost` (one that can't). Outputs are printed as they come.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, Write as _},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use boatyard_agent::{
    Catalogue, Command, Driver, Exit, Input, Launch, Output, Process, ProcessControl, ProcessSpec,
    Spawner, Stdin, catalogue::Places,
};
use boatyard_model::{Autonomy, EventBody, PromptId, event::PermissionKind, time::SystemClock};
use tokio::time::timeout;

/// No step takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

struct Local;

#[async_trait::async_trait]
impl Spawner for Local {
    async fn spawn(&self, spec: ProcessSpec) -> io::Result<Process> {
        let mut child = tokio::process::Command::new(&spec.argv[0])
            .args(&spec.argv[1..])
            .env_clear()
            .envs(spec.env)
            .current_dir(spec.cwd)
            .stdin(if spec.stdin == Stdin::Pipe { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = child.id().ok_or_else(|| io::Error::other("ended at once"))?;
        let missing = || io::Error::other("no pipe");
        Ok(Process {
            stdin: child.stdin.take().map(|stdin| Box::new(stdin) as _),
            stdout: Box::new(child.stdout.take().ok_or_else(missing)?),
            stderr: Box::new(child.stderr.take().ok_or_else(missing)?),
            exit: Box::pin(async move {
                use std::os::unix::process::ExitStatusExt as _;
                let status = child.wait().await?;
                Ok(match status.code() {
                    Some(code) => Exit::Code(code),
                    None => Exit::Signal(status.signal().unwrap_or(0)),
                })
            }),
            control: Arc::new(Group(group)),
        })
    }
}

struct Group(u32);

impl Group {
    fn signal(&self, signal: &str) {
        let target = format!("-{}", self.0);
        let sent = std::process::Command::new("kill")
            .args([signal, "--", &target])
            .stderr(Stdio::null())
            .status();
        if let Err(error) = sent {
            tracing::warn!(%error, "kill can't be run");
        }
    }
}

impl ProcessControl for Group {
    fn terminate(&self) {
        self.signal("-TERM");
    }
    fn kill(&self) {
        self.signal("-KILL");
    }
}

/// One life of a driver, and what it said.
struct Play {
    launch: Launch,
    driver: Driver,
    begin: Instant,
    turn: u32,
    session: Option<String>,
    answer: Option<PermissionKind>,
    running: bool,
}

impl Play {
    async fn send(&self, command: Command) -> Result<(), Box<dyn Error>> {
        Ok(timeout(PATIENCE, self.driver.commands.send(command)).await??)
    }

    /// Takes one output and prints it.
    async fn take(&mut self, limit: Duration) -> Result<Option<&'static str>, Box<dyn Error>> {
        let Ok(output) = timeout(limit, self.driver.outputs.recv()).await else { return Ok(None) };
        let Some(output) = output else { return Err("the driver is over".into()) };
        let at = self.begin.elapsed().as_secs_f64();
        let text = match &output {
            Output::Event { body, .. } => serde_json::to_string(body)?,
            other => format!("{other:?}"),
        };
        let text: String = text.chars().take(1200).collect();
        writeln!(io::stdout(), "{at:7.2} {text}")?;
        Ok(Some(match output {
            Output::Event {
                body: EventBody::PermissionRequested { permission, options, .. },
                ..
            } => {
                if let Some(kind) = self.answer {
                    let option = options.iter().find(|option| option.kind == kind);
                    let option = option.map(|option| option.id.clone());
                    self.send(Command::AnswerPermission { permission, option }).await?;
                }
                "permission.requested"
            }
            Output::Event { body, .. } => body.kind(),
            Output::Session(session) => {
                self.session = session.id;
                "session"
            }
            Output::TurnEnded { .. } => {
                self.running = false;
                "ended"
            }
            _ => "other",
        }))
    }

    async fn until(&mut self, kind: &str) -> Result<(), Box<dyn Error>> {
        loop {
            match self.take(PATIENCE).await? {
                None => return Err(format!("no `{kind}` in time").into()),
                Some(found) if found == kind => return Ok(()),
                Some("ended") => return Ok(()),
                Some(_) => {}
            }
        }
    }

    async fn begin(&mut self, content: Vec<Input>) -> Result<(), Box<dyn Error>> {
        self.turn += 1;
        self.running = true;
        self.send(Command::Prompt { turn: self.turn, content }).await
    }

    async fn step(&mut self, verb: &str, rest: &str) -> Result<(), Box<dyn Error>> {
        let text = || vec![Input::Text(rest.replace("\\n", "\n"))];
        match verb {
            "say" => {
                self.begin(text()).await?;
                self.until("ended").await
            }
            "begin" => self.begin(text()).await,
            "image" => {
                let bytes = std::fs::read(rest)?.into();
                let image = Input::Image { mime: "image/png".into(), bytes };
                self.begin(vec![Input::Text("What is in it?".into()), image]).await?;
                self.until("ended").await
            }
            "steer" => self.send(Command::Steer { prompt: PromptId::new(), content: text() }).await,
            "cancel" => self.send(Command::Cancel { grace: Duration::from_secs(10) }).await,
            "mode" => self.send(Command::SetMode(rest.into())).await,
            "model" => self.send(Command::SetModel(rest.into())).await,
            "until" => self.until(rest).await,
            "end" if self.running => self.until("ended").await,
            "end" => Ok(()),
            "wait" => {
                let end = Instant::now() + Duration::from_millis(rest.parse()?);
                while let Some(left) = end.checked_duration_since(Instant::now()) {
                    self.take(left).await?;
                }
                Ok(())
            }
            "yes" => {
                self.answer = Some(PermissionKind::AllowOnce);
                Ok(())
            }
            "no" => {
                self.answer = Some(PermissionKind::RejectOnce);
                Ok(())
            }
            "again" | "lost" => {
                self.send(Command::Close { grace: Duration::from_secs(2) }).await?;
                while timeout(PATIENCE, self.driver.outputs.recv()).await?.is_some() {}
                self.launch.resume = self.session.clone().map(Into::into);
                if verb == "lost" {
                    self.launch.resume =
                        Some("00000000-0000-4000-8000-000000000000".to_owned().into());
                    self.launch.seed = Some("The person: my name is Ada.".into());
                }
                self.driver = Driver::start(self.launch.clone(), Arc::new(Local));
                self.until("session").await
            }
            _ => Err(format!("`{verb}` is no step").into()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or("expected AGENT FOLDER PROVIDER STEP…");
    let (agent, folder, provider) = (next()?, PathBuf::from(next()?), next()?);
    let mut keys = BTreeMap::new();
    let mut steps = Vec::new();
    for arg in args {
        match arg.split_once('=') {
            Some((key, value)) if key.bytes().all(|b| b.is_ascii_lowercase()) => {
                keys.insert(key.to_owned(), value.to_owned());
            }
            _ => steps.push(arg),
        }
    }
    let key = |name: &str| keys.get(name).cloned();
    let name = agent.parse()?;
    let catalogue = Catalogue::builtin();
    let entry = catalogue.get(&name)?;
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let home = key("home").map_or_else(|| folder.join("home"), PathBuf::from);
    let cwd = folder.join("work");
    for folder in [&home, &cwd] {
        std::fs::create_dir_all(folder)?;
    }
    let places = Places {
        runner: None,
        package: Some(text(&folder)),
        node: key("node"),
        home: Some(text(&home)),
        cwd: Some(text(&cwd)),
        provider: Some(provider),
        models: Vec::new(),
    };
    let model = key("model").or_else(|| entry.demo_model.clone());
    let program = entry.program(&name, &places, model.as_deref())?;
    for file in &program.home {
        let path = home.join(&file.path);
        if let Some(parent) = path.parent().filter(|_| !path.exists()) {
            std::fs::create_dir_all(parent)?;
            std::fs::write(&path, &file.content)?;
        }
    }
    let autonomy: Autonomy = key("autonomy").map_or(Ok(Autonomy::Free), |text| text.parse())?;
    let (autonomy, mode) = entry.autonomy(Some(autonomy), Autonomy::Free);
    let mut env: BTreeMap<String, String> = [
        ("HOME", text(&home)),
        ("PATH", std::env::var("PATH")?),
        ("LANG", "C.UTF-8".into()),
        ("TERM", "xterm-256color".into()),
        ("TMPDIR", "/var/tmp".into()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    env.extend(program.env.clone());
    let launch = Launch {
        model: model.filter(|_| !entry.starts_with_model()),
        mode: key("mode").or_else(|| mode.map(str::to_owned)),
        program,
        env: env.into_iter().collect(),
        cwd,
        resume: key("resume").map(Into::into),
        seed: None,
        autonomy,
        mcp_servers: key("mcp").map_or(Ok(BTreeMap::new()), |text| serde_json::from_str(&text))?,
        instructions: key("instructions"),
        ask_timeout: PATIENCE,
        clock: Arc::new(SystemClock),
    };
    let driver = Driver::start(launch.clone(), Arc::new(Local));
    let mut play = Play {
        launch,
        driver,
        begin: Instant::now(),
        turn: 0,
        session: None,
        answer: None,
        running: false,
    };
    play.until("session").await?;
    for step in steps {
        writeln!(io::stdout(), "{:7.2} > {step}", play.begin.elapsed().as_secs_f64())?;
        let (verb, rest) = step.split_once(':').unwrap_or((&step, ""));
        play.step(verb, rest).await?;
    }
    play.send(Command::Close { grace: Duration::from_secs(2) }).await?;
    while let Ok(Some(_)) = timeout(PATIENCE, play.driver.outputs.recv()).await {}
    Ok(())
}
