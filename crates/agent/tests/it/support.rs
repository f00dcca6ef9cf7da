//! What the tests share: spawners, launches, and a driver that is followed to the end of a turn.

use std::{
    io,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use boatyard_agent::{
    Command, Driver, Exit, Input, Launch, Output, Process, ProcessControl, ProcessSpec, Program,
    Protocol, Spawner, Stdin,
    catalogue::{Catalogue, Places},
};
use boatyard_model::{Autonomy, EventBody, TurnOutcome, time::SystemClock};
use tokio::{io::DuplexStream, time::timeout};

/// No step of a test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Starts real processes on this machine, each in a process group of its own.
#[derive(Default)]
pub(crate) struct Local {
    pub(crate) spawned: AtomicUsize,
}

#[async_trait::async_trait]
impl Spawner for Local {
    async fn spawn(&self, spec: ProcessSpec) -> io::Result<Process> {
        self.spawned.fetch_add(1, Ordering::Relaxed);
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
        Ok(Process {
            stdin: child.stdin.take().map(|stdin| Box::new(stdin) as _),
            stdout: Box::new(child.stdout.take().unwrap()),
            stderr: Box::new(child.stderr.take().unwrap()),
            exit: Box::pin(async move {
                use std::os::unix::process::ExitStatusExt;
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

/// A process group, as the tests' stand-in for a control group.
struct Group(u32);

impl Group {
    fn signal(&self, signal: &str) {
        let target = format!("-{}", self.0);
        let status = std::process::Command::new("/bin/kill")
            .args([signal, "--", &target])
            .stderr(Stdio::null())
            .status();
        assert!(status.is_ok(), "kill can be run");
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

/// An agent played by the test: gives the two ends of its standard streams.
pub(crate) struct Played {
    agents: Mutex<Vec<DuplexStream>>,
}

impl Played {
    /// A spawner that hands these streams to the driver, one for each start.
    pub(crate) fn new(mut streams: Vec<DuplexStream>) -> Arc<Self> {
        streams.reverse();
        Arc::new(Self { agents: Mutex::new(streams) })
    }
}

#[async_trait::async_trait]
impl Spawner for Played {
    async fn spawn(&self, _: ProcessSpec) -> io::Result<Process> {
        let stream = self.agents.lock().unwrap().pop();
        let stream = stream.ok_or_else(|| io::Error::other("no more agents to play"))?;
        let (stdout, stdin) = tokio::io::split(stream);
        Ok(Process {
            stdin: Some(Box::new(stdin)),
            stdout: Box::new(stdout),
            stderr: Box::new(tokio::io::empty()),
            // It is over when its output is.
            exit: Box::pin(std::future::pending()),
            control: Arc::new(Nothing),
        })
    }
}

struct Nothing;

impl ProcessControl for Nothing {
    fn terminate(&self) {}
    fn kill(&self) {}
}

/// A program of this protocol and command, as a custom agent of the settings.
pub(crate) fn program(protocol: Protocol, argv: &[&str], more: &str) -> Program {
    let protocol = match protocol {
        Protocol::Acp => "acp",
        Protocol::Text => "text",
    };
    let command = serde_json::to_string(argv).unwrap();
    let text = format!("[mine]\nprotocol = '{protocol}'\ncommand = {command}\n{more}");
    let catalogue = Catalogue::with_settings(&text.parse().unwrap()).unwrap();
    let name = "mine".parse().unwrap();
    let places = Places::default();
    catalogue.get(&name).unwrap().program(&name, &places, None).unwrap()
}

/// How to launch it in this folder, which is its home as well.
pub(crate) fn launch(program: Program, folder: &Path) -> Launch {
    let home = folder.to_str().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap();
    Launch {
        program,
        env: vec![("HOME".into(), home), ("PATH".into(), path), ("LANG".into(), "C".into())],
        cwd: folder.to_owned(),
        resume: None,
        seed: None,
        model: None,
        mode: None,
        autonomy: Autonomy::Ask,
        mcp_servers: Default::default(),
        instructions: None,
        ask_timeout: PATIENCE,
        clock: Arc::new(SystemClock),
    }
}

/// The demo agent as a real process.
pub(crate) fn demo(folder: &Path) -> Launch {
    launch(program(Protocol::Acp, &[env!("CARGO_BIN_EXE_boatyard-demo-agent")], ""), folder)
}

pub(crate) async fn send(driver: &Driver, command: Command) {
    timeout(PATIENCE, driver.commands.send(command)).await.expect("taken").expect("runs");
}

pub(crate) async fn prompt(driver: &Driver, turn: u32, text: &str) {
    send(driver, Command::Prompt { turn, content: vec![Input::Text(text.into())] }).await;
}

pub(crate) async fn next(driver: &mut Driver) -> Option<Output> {
    timeout(PATIENCE, driver.outputs.recv()).await.expect("an output in time")
}

/// A turn as its outputs.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) outputs: Vec<Output>,
    pub(crate) outcome: TurnOutcome,
    pub(crate) error: Option<String>,
}

impl Turn {
    pub(crate) fn events(&self) -> impl Iterator<Item = &EventBody> {
        self.outputs.iter().filter_map(|output| match output {
            Output::Event { body, .. } => Some(body),
            _ => None,
        })
    }

    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<_> = self.events().map(EventBody::kind).collect();
        kinds.dedup();
        kinds
    }

    /// All that was said, as completed.
    pub(crate) fn said(&self) -> String {
        let texts = self.events().filter_map(|event| match event {
            EventBody::MessageCompleted { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("|")
    }

    pub(crate) fn notices(&self) -> Vec<&str> {
        let codes = self.events().filter_map(|event| match event {
            EventBody::Notice { code, .. } => Some(code.as_str()),
            _ => None,
        });
        codes.collect()
    }
}

/// Follows a turn to its end, letting `react` answer each output with commands.
pub(crate) async fn follow(
    driver: &mut Driver,
    number: u32,
    mut react: impl FnMut(&Output) -> Option<Command>,
) -> Turn {
    let mut outputs = Vec::new();
    loop {
        let output = next(driver).await.expect("the driver goes on");
        if let Some(command) = react(&output) {
            send(driver, command).await;
        }
        if let Output::TurnEnded { turn, outcome, error } = output {
            assert_eq!(turn, number);
            let turn = Turn { outputs, outcome, error };
            check(&turn, number);
            return turn;
        }
        outputs.push(output);
    }
}

pub(crate) async fn run(driver: &mut Driver, number: u32, text: &str) -> Turn {
    prompt(driver, number, text).await;
    follow(driver, number, |_| None).await
}

/// What holds for every turn of every agent.
fn check(turn: &Turn, number: u32) {
    use std::collections::HashMap;
    let mut texts: HashMap<&str, String> = HashMap::new();
    let mut tools: HashMap<&str, bool> = HashMap::new();
    let mut blobs = Vec::new();
    for output in &turn.outputs {
        let body = match output {
            Output::Event { turn, body } => {
                assert!(turn.is_none_or(|turn| turn == number), "{output:?}");
                body
            }
            Output::Blob(blob) => {
                assert!(blob.bytes.len() <= 17 << 20);
                blobs.push(blob.id);
                continue;
            }
            _ => continue,
        };
        assert!(serde_json::to_vec(body).unwrap().len() <= 2 << 20, "a bounded event");
        match body {
            EventBody::MessageDelta { message: item, text }
            | EventBody::ThoughtDelta { thought: item, text } => {
                texts.entry(item).or_default().push_str(text);
            }
            EventBody::MessageCompleted { message: item, text, .. }
            | EventBody::ThoughtCompleted { thought: item, text } => {
                let said = texts.remove(item.as_str()).expect("deltas before the whole");
                assert!(text.is_empty() || *text == said || said.len() > 256 << 10, "{text:?}");
            }
            EventBody::ToolStarted { tool } => {
                assert!(tools.insert(&tool.tool, false).is_none(), "started once");
            }
            EventBody::ToolUpdated { tool } => {
                assert_eq!(tools.get(tool.tool.as_str()), Some(&false))
            }
            EventBody::ToolCompleted { tool, output_blob, .. } => {
                assert_eq!(tools.insert(&tool.tool, true), Some(false), "completed once");
                assert!(output_blob.is_none_or(|id| blobs.contains(&id)), "the blob comes first");
                assert!(tool.images.iter().all(|id| blobs.contains(id)));
            }
            _ => {}
        }
    }
    assert!(texts.is_empty(), "every text is completed: {texts:?}");
    assert!(tools.values().all(|done| *done), "every tool is completed: {tools:?}");
}
