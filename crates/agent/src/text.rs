//! The driver for agents without a protocol: each prompt is a process, what it prints is shown.
//!
//! With [`Show::Tool`] (the built-in `shell`) the turn is one tool call: the prompt is its command,
//! standard output and error are its output as they come, and the exit code decides the turn. With
//! [`Show::Message`] standard output is what the agent says; the end of standard error explains a
//! failure.
//!
//! A process that ends while its children hold its output does not hold up the turn: what is there
//! is read, the rest is left to them, and a notice says so.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use boatyard_model::{
    AgentOffers, EventBody, TurnOutcome,
    event::{NoticeLevel, ToolCall, ToolKind, ToolStatus},
};
use futures::future::BoxFuture;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    capture::{Capture, LastWords, Utf8, WHOLE, plain, prefix},
    catalogue::{PromptBy, Show, Steer, replace_placeholders},
    driver::{AgentSession, Command, Input, Launch, Output, Resumed},
    process::{Exit, Process, ProcessControl, ProcessSpec, Reader, Spawner, Stdin},
    sink::Sink,
    speech::{Kind, Speech},
};

/// Starting a process.
const SPAWN: Duration = Duration::from_secs(30);
/// How much is read at once; a live event is at most this large.
const CHUNK: usize = 16 << 10;
/// How long the output of an ended process is waited for, if children hold it open.
const DRAIN: Duration = Duration::from_millis(500);
/// How much is read after its end: the largest pipe that a process can make holds this.
const DRAIN_BYTES: usize = 1 << 20;
/// How long a killed process may take to be reaped.
const REAP: Duration = Duration::from_secs(5);
/// The kernel takes no longer argument (`MAX_ARG_STRLEN`, with the zero at its end).
const ARGUMENT: usize = 128 << 10;
/// How many prompts may wait for the present turn's end.
const BACKLOG: usize = 64;
/// A title.
const TITLE: usize = 200;

/// Runs until it is told to close, or its handle is gone.
pub(crate) async fn run(
    launch: Launch,
    spawner: Arc<dyn Spawner>,
    commands: mpsc::Receiver<Command>,
    outputs: mpsc::Sender<Output>,
) {
    let mut actor = Actor {
        launch,
        spawner,
        commands,
        outputs,
        backlog: VecDeque::new(),
        sink: Sink::default(),
        speech: Speech::default(),
    };
    actor.sink.output(Output::Session(AgentSession {
        id: None,
        resumed: Resumed::Fresh,
        offers: AgentOffers { steer: Steer::Restart, ..AgentOffers::default() },
    }));
    actor.serve().await;
    while !actor.sink.is_empty() {
        if actor.sink.hand_out(&actor.outputs).await.is_err() {
            break;
        }
    }
}

struct Actor {
    launch: Launch,
    spawner: Arc<dyn Spawner>,
    commands: mpsc::Receiver<Command>,
    outputs: mpsc::Sender<Output>,
    backlog: VecDeque<Command>,
    sink: Sink,
    speech: Speech,
}

/// Whether the driver goes on after a turn.
enum Then {
    GoOn,
    End,
}

/// Kills the process, and what it started, when the driver's task is dropped in mid-turn.
struct Guard {
    control: Arc<dyn ProcessControl>,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            self.control.kill();
        }
    }
}

/// A process under way.
struct Running {
    stdout: Stream,
    stderr: Stream,
    exit: BoxFuture<'static, io::Result<Exit>>,
    ended: Option<io::Result<Exit>>,
    guard: Guard,
    feeder: Option<JoinHandle<()>>,
    last_words: LastWords,
    output: Capture,
    /// Somebody wants it to end.
    cancelled: bool,
    kill_at: Option<Instant>,
    /// After its end: what is not read by then stays unread.
    give_up: Option<Instant>,
    read_after_end: usize,
}

struct Stream {
    reader: Reader,
    text: Utf8,
    open: bool,
}

impl Stream {
    fn new(reader: Reader) -> Self {
        Self { reader, text: Utf8::default(), open: true }
    }
}

enum From {
    Stdout,
    Stderr,
}

/// What happens next while a process runs.
enum Next {
    Command(Option<Command>),
    Abandoned,
    Read(From, usize),
    Ended(io::Result<Exit>),
    Deadline,
}

impl Actor {
    async fn serve(&mut self) {
        loop {
            let command = match self.backlog.pop_front() {
                Some(command) => Some(command),
                None => tokio::select! {
                    biased;
                    command = self.commands.recv() => command,
                    handed = self.sink.hand_out(&self.outputs), if !self.sink.is_empty() => {
                        if handed.is_err() {
                            return;
                        }
                        continue;
                    }
                },
            };
            match command {
                Some(Command::Prompt { turn, content }) => {
                    if let Then::End = self.turn(turn, content).await {
                        return;
                    }
                }
                None | Some(Command::Close { .. }) => return,
                Some(command) => self.command(command),
            }
        }
    }

    /// A command that means the same in every state.
    fn command(&mut self, command: Command) {
        match command {
            Command::Steer { prompt, .. } => self.sink.output(Output::SteerRefused { prompt }),
            Command::SetMode(_) | Command::SetModel(_) => {
                let text = "This agent offers no choice of mode or model while it runs.";
                self.sink.notice(NoticeLevel::Warning, "setting_refused", text);
            }
            // It asks nothing; and what is about a turn is served where there is one.
            Command::AnswerPermission { .. }
            | Command::AnswerQuestion { .. }
            | Command::Prompt { .. }
            | Command::Cancel { .. }
            | Command::Close { .. } => {}
        }
    }

    async fn turn(&mut self, turn: u32, content: Vec<Input>) -> Then {
        self.sink.turn = Some(turn);
        let (outcome, error, then) = match self.start(&content).await {
            Ok((prompt, process)) => self.run_process(turn, &prompt, process).await,
            Err(error) => (TurnOutcome::Failed, Some(error), Then::GoOn),
        };
        self.speech.close(&mut self.sink);
        self.sink.turn = None;
        self.sink.output(Output::TurnEnded { turn, outcome, error });
        then
    }

    /// Starts the process for a prompt.
    async fn start(&mut self, content: &[Input]) -> Result<(String, Process), String> {
        let mut texts = Vec::new();
        // Each prompt is a conversation of its own. A script gets none: it would be run.
        if self.launch.program.text.show == Show::Message {
            texts
                .extend(self.launch.instructions.as_deref().filter(|text| !text.trim().is_empty()));
        }
        for part in content {
            match part {
                Input::Text(text) => texts.push(text.as_str()),
                Input::Image { .. } => {
                    let text = "This agent takes no pictures; the picture was left out.";
                    self.sink.notice(NoticeLevel::Warning, "image_left_out", text);
                }
            }
        }
        let prompt = texts.join("\n\n");
        let program = &self.launch.program;
        let by_argument = program.text.prompt == PromptBy::Argument;
        if by_argument && prompt.contains('\0') {
            return Err("The prompt holds a zero byte, which no argument can. Take it out.".into());
        }
        if by_argument && prompt.len() >= ARGUMENT {
            return Err(format!(
                "The prompt has {} bytes, and an argument of a command holds {} at most. Put the text into a file, or set text = {{ prompt = \"stdin\" }} for agent `{}`.",
                prompt.len(),
                ARGUMENT - 1,
                program.name
            ));
        }
        let mut named = false;
        let mut argv = Vec::with_capacity(program.argv.len() + 1);
        for arg in &program.argv {
            let arg = replace_placeholders(arg, |name| {
                Ok::<_, std::convert::Infallible>(if name == "prompt" {
                    named = true;
                    prompt.clone()
                } else {
                    format!("{{{name}}}")
                })
            });
            argv.push(match arg {
                Ok(arg) => arg,
                Err(never) => match never {},
            });
        }
        if by_argument && !named {
            argv.push(prompt.clone());
        }
        let spec = ProcessSpec {
            argv,
            env: self.launch.env.clone(),
            cwd: self.launch.cwd.clone(),
            stdin: if by_argument { Stdin::Null } else { Stdin::Pipe },
        };
        let name = spec.argv.first().cloned().unwrap_or_default();
        match timeout(SPAWN, self.spawner.spawn(spec)).await {
            Ok(Ok(process)) => Ok((prompt, process)),
            Ok(Err(error)) => Err(format!(
                "`{name}` could not be started: {error}. Check `command` of [agents.{}] in the settings, and that the program is there in the workspace.",
                program.name
            )),
            Err(_) => Err(format!("`{name}` was not started within {} s.", SPAWN.as_secs())),
        }
    }

    async fn run_process(
        &mut self,
        turn: u32,
        prompt: &str,
        process: Process,
    ) -> (TurnOutcome, Option<String>, Then) {
        let tool = format!("command-{turn}");
        if self.launch.program.text.show == Show::Tool {
            let first = prompt.trim().lines().next().unwrap_or_default();
            self.sink.event(EventBody::ToolStarted {
                tool: ToolCall {
                    tool: tool.clone(),
                    kind: Some(ToolKind::Execute),
                    title: Some(prefix(first, TITLE).to_owned()),
                    input: Some(json!({ "command": prefix(prompt, CHUNK * 4) })),
                    ..ToolCall::default()
                },
            });
        }
        let by_stdin = self.launch.program.text.prompt == PromptBy::Stdin;
        let mut running = Running {
            stdout: Stream::new(process.stdout),
            stderr: Stream::new(process.stderr),
            exit: process.exit,
            ended: None,
            guard: Guard { control: process.control, armed: true },
            feeder: process.stdin.filter(|_| by_stdin).map(|mut stdin| {
                let text = prompt.to_owned();
                tokio::spawn(async move {
                    // A program may well end, or close it, without having read all.
                    if stdin.write_all(text.as_bytes()).await.is_ok() {
                        drop(stdin.shutdown().await);
                    }
                })
            }),
            last_words: LastWords::default(),
            output: Capture::default(),
            cancelled: false,
            kill_at: None,
            give_up: None,
            read_after_end: 0,
        };
        let then = self.read_to_end(&mut running, &tool).await;
        if let Some(feeder) = running.feeder.take() {
            feeder.abort();
        }
        let left_open = running.stdout.open || running.stderr.open;
        if running.cancelled {
            running.guard.control.kill();
        } else if left_open {
            let text = "The command ended, but processes that it started still hold its output. They go on until the session is stopped; what they print is not shown.";
            self.sink.notice(NoticeLevel::Warning, "children_left", text);
        }
        running.guard.armed = false;
        let (outcome, error) = self.verdict(&running);
        self.complete(tool, running);
        (outcome, error, then)
    }

    /// Hands out what the process prints until it has ended and all is read.
    async fn read_to_end(&mut self, run: &mut Running, tool: &str) -> Then {
        let mut then = Then::GoOn;
        let mut out = vec![0; CHUNK];
        let mut err = vec![0; CHUNK];
        loop {
            let drained = !run.stdout.open && !run.stderr.open;
            let enough = run.read_after_end > DRAIN_BYTES;
            if run.ended.is_some() && (drained || enough) {
                return then;
            }
            let idle = self.sink.is_empty();
            let wake = [run.kill_at, run.give_up.filter(|_| idle)].into_iter().flatten().min();
            let next = tokio::select! {
                biased;
                command = self.commands.recv(), if self.backlog.len() < BACKLOG => {
                    Next::Command(command)
                }
                handed = self.sink.hand_out(&self.outputs), if !idle => match handed {
                    Ok(()) => continue,
                    Err(_) => Next::Abandoned,
                },
                read = run.stdout.reader.read(&mut out), if idle && run.stdout.open => {
                    Next::Read(From::Stdout, read.unwrap_or(0))
                }
                read = run.stderr.reader.read(&mut err), if idle && run.stderr.open => {
                    Next::Read(From::Stderr, read.unwrap_or(0))
                }
                exit = &mut run.exit, if run.ended.is_none() => Next::Ended(exit),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    Next::Deadline
                }
            };
            match next {
                Next::Command(Some(command @ Command::Prompt { .. })) => {
                    self.backlog.push_back(command);
                }
                Next::Command(Some(Command::Cancel { grace })) => run.cancel(grace),
                Next::Command(Some(Command::Close { grace })) => {
                    then = Then::End;
                    run.cancel(grace);
                }
                Next::Command(Some(command)) => self.command(command),
                Next::Command(None) => {
                    // The handle is gone: the guard kills.
                    run.cancelled = true;
                    return Then::End;
                }
                Next::Abandoned => {
                    run.cancelled = true;
                    return Then::End;
                }
                Next::Read(From::Stdout, n) => self.take(run, &From::Stdout, &out[..n], tool),
                Next::Read(From::Stderr, n) => self.take(run, &From::Stderr, &err[..n], tool),
                Next::Ended(exit) => {
                    run.ended = Some(exit);
                    run.kill_at = None;
                    run.give_up = Some(Instant::now() + DRAIN);
                    if run.cancelled {
                        // What it started shall not outlive a stop.
                        run.guard.control.kill();
                    }
                }
                Next::Deadline => {
                    let now = Instant::now();
                    if run.give_up.is_some_and(|at| at <= now) {
                        if run.ended.is_none() {
                            run.ended = Some(Err(io::Error::other("it could not be killed")));
                        }
                        return then;
                    }
                    if run.kill_at.is_some_and(|at| at <= now) {
                        run.kill_at = None;
                        run.guard.control.kill();
                        run.give_up = Some(now + REAP);
                    }
                }
            }
        }
    }

    /// Takes a piece of output; an empty one is its end.
    fn take(&mut self, run: &mut Running, from: &From, bytes: &[u8], tool: &str) {
        let stream = match from {
            From::Stdout => &mut run.stdout,
            From::Stderr => &mut run.stderr,
        };
        let text = if bytes.is_empty() {
            stream.open = false;
            stream.text.finish().to_owned()
        } else {
            stream.text.push(bytes)
        };
        if run.ended.is_some() {
            run.read_after_end += bytes.len();
        }
        if let From::Stderr = from {
            run.last_words.push(bytes);
        }
        match (self.launch.program.text.show, from) {
            (Show::Tool, _) => {
                if let Some(live) = run.output.push(&text, WHOLE, Instant::now()) {
                    self.sink.event(EventBody::ToolUpdated {
                        tool: ToolCall {
                            tool: tool.to_owned(),
                            output: Some(live),
                            ..ToolCall::default()
                        },
                    });
                }
            }
            (Show::Message, From::Stdout) => {
                let text = plain(&text);
                if !text.is_empty() {
                    self.speech.push(Kind::Message, None, &text, &mut self.sink);
                }
            }
            (Show::Message, From::Stderr) => {}
        }
    }

    fn verdict(&self, run: &Running) -> (TurnOutcome, Option<String>) {
        if run.cancelled {
            return (TurnOutcome::Cancelled, None);
        }
        let how = match &run.ended {
            Some(Ok(Exit::Code(0))) => return (TurnOutcome::Completed, None),
            Some(Ok(Exit::Signal(9))) => {
                "ended by signal 9, perhaps since it used more memory than it may".to_owned()
            }
            Some(Ok(exit)) => format!("ended with {exit}"),
            Some(Err(error)) => format!("ended in an unknown way: {error}"),
            None => "did not end".to_owned(),
        };
        let words = run.last_words.text();
        let words = words.map(|w| format!(" The last of its standard error:\n{w}\n"));
        let error = format!(
            "The command {how}.{} Prompt again with what mends it.",
            words.as_deref().unwrap_or_default()
        );
        (TurnOutcome::Failed, Some(error))
    }

    fn complete(&mut self, tool: String, run: Running) {
        if self.launch.program.text.show == Show::Message {
            return;
        }
        let (status, exit_code) = match run.ended {
            _ if run.cancelled => (ToolStatus::Cancelled, None),
            Some(Ok(Exit::Code(0))) => (ToolStatus::Completed, Some(0)),
            Some(Ok(Exit::Code(code))) => (ToolStatus::Failed, Some(code)),
            // As a shell tells it.
            Some(Ok(Exit::Signal(signal))) => (ToolStatus::Failed, Some(128 + signal)),
            Some(Err(_)) | None => (ToolStatus::Failed, None),
        };
        let captured = run.output.finish();
        let whole = captured.whole;
        let output_blob = whole.map(|all| self.sink.blob("text/plain; charset=utf-8", all));
        self.sink.event(EventBody::ToolCompleted {
            tool: ToolCall { tool, output: captured.text, ..ToolCall::default() },
            status,
            exit_code,
            output_blob,
        });
    }
}

impl Running {
    fn cancel(&mut self, grace: Duration) {
        if !self.cancelled {
            self.cancelled = true;
            self.guard.control.terminate();
        }
        if self.ended.is_none() && self.give_up.is_none() {
            let at = Instant::now() + grace;
            self.kill_at = Some(self.kill_at.map_or(at, |before| before.min(at)));
        }
    }
}
