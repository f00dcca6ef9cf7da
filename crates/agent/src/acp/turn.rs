//! One turn: from a prompt to its end.
//!
//! ```text
//!  prompt sent ──► running ── answer ─────────────────────────────► judged ──► TurnEnded
//!                   │  │ ▲                                             ▲
//!                   │  │ └── second prompt (steer, where it is taken) ─┤ when all are answered
//!                   │  └── steer otherwise: no tool runs ─► cancel ─► answer ─► prompt again
//!                   ├── Cancel ─► cancel ─► answer, or killed after the grace ─► cancelled
//!                   └── process gone ─► failed, or cancelled if that was wanted
//! ```

use std::{collections::HashSet, time::Duration};

use boatyard_model::{PromptId, TurnOutcome, event::NoticeLevel};
use futures::FutureExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Actor, Step, Stop,
    connection::Event,
    normal::Verdict,
    tools::Cancelling,
    wire::{self, Incoming, RpcError},
};
use crate::driver::{Command, Input, Output};

/// How long a tool call may go on that a steered message waits for.
const STEER_WAIT: Duration = Duration::from_secs(120);
/// How long an agent may take to stop for a steered message.
const STEER_STOP: Duration = Duration::from_secs(10);

/// A turn under way.
#[derive(Default)]
struct Turn {
    /// Prompts that are not answered yet.
    open: HashSet<u64>,
    /// Somebody wants the turn to end; the agent is killed then.
    kill_at: Option<Instant>,
    /// The driver is to end after the turn.
    close: Option<Duration>,
    /// Messages that the turn is to be begun again with.
    restart: Option<Restart>,
}

struct Restart {
    prompts: Vec<PromptId>,
    content: Vec<Input>,
    /// The agent was told to stop for it.
    stopping: bool,
    /// The agent is told to stop, or killed, then.
    by: Instant,
}

impl Actor {
    /// Runs a turn to its end.
    ///
    /// # Errors
    /// When the driver is to end after it.
    pub(super) async fn turn(&mut self, number: u32, content: Vec<Input>) -> Result<(), Stop> {
        self.catch_up();
        self.normal.begin(number);
        let mut turn = Turn::default();
        let (verdict, stop) = match self.run_turn(&mut turn, content).await {
            Ok(verdict) => (verdict, None),
            Err(Stop::Cancelled) => ((TurnOutcome::Cancelled, None), None),
            Err(Stop::Agent(error)) => {
                self.link = None;
                let text = format!("{error}\nPrompt again: the agent is started anew and goes on.");
                ((TurnOutcome::Failed, Some(text)), None)
            }
            Err(stop) => ((TurnOutcome::Cancelled, None), Some(stop)),
        };
        let answers = self.asks.cancel(&mut self.normal);
        self.send_all(answers);
        self.refuse(turn.restart.take());
        self.normal.end(verdict);
        match (stop, turn.close) {
            (Some(stop), _) => Err(stop),
            (None, Some(grace)) => Err(Stop::Close { grace }),
            (None, None) => Ok(()),
        }
    }

    /// Takes what came since the last time, the agent's end above all.
    fn catch_up(&mut self) {
        while let Some(link) = &mut self.link {
            match link.next().now_or_never() {
                Some(Event::Message(message)) => self.message(message),
                Some(Event::Gone(_)) => self.link = None,
                None => break,
            }
        }
        self.link.take_if(|link| link.is_ending());
    }

    /// Ends a turn that did not begin.
    pub(super) fn fail(&mut self, number: u32, error: String) {
        self.normal.begin(number);
        self.normal.end((TurnOutcome::Failed, Some(error)));
    }

    async fn run_turn(&mut self, turn: &mut Turn, content: Vec<Input>) -> Result<Verdict, Stop> {
        if self.link.is_none() {
            self.connect().await?;
        }
        self.prompt(turn, content);
        loop {
            let restart_by = turn.restart.as_ref().map(|restart| restart.by);
            let deadline = [turn.kill_at, restart_by].into_iter().flatten().min();
            match self.step(deadline).await {
                Step::Command(command) => self.turn_command(turn, command),
                Step::Message(Incoming::Response { id, result }) if turn.open.remove(&id) => {
                    if let Some(verdict) = self.answered(turn, result) {
                        return Ok(verdict);
                    }
                }
                Step::Message(message) => self.message(message),
                Step::Gone(_) if turn.kill_at.is_some() => {
                    self.link = None;
                    return Ok((TurnOutcome::Cancelled, None));
                }
                Step::Gone(reason) => {
                    let text = format!("it was lost in mid-turn: {reason}");
                    return Err(Stop::Agent(self.named(&text)));
                }
                Step::Deadline => {
                    let now = Instant::now();
                    if turn.kill_at.is_some_and(|at| at <= now) {
                        // Dropping the connection kills the process; the next prompt resumes.
                        self.link = None;
                        return Ok((TurnOutcome::Cancelled, None));
                    }
                    self.restart_overdue(turn).await?;
                }
                Step::Abandoned => return Err(Stop::Abandoned),
            }
            self.stop_for_restart(turn);
        }
    }

    fn turn_command(&mut self, turn: &mut Turn, command: Command) {
        match command {
            Command::Cancel { grace } => self.cancel(turn, grace),
            Command::Close { grace } => {
                turn.close = Some(grace);
                self.cancel(turn, grace);
            }
            Command::Steer { prompt, content } => {
                if turn.kill_at.is_some() {
                    self.normal.sink.output(Output::SteerRefused { prompt });
                } else if self.offers.queues_prompts {
                    self.prompt(turn, content);
                    self.normal.sink.output(Output::Steered { prompt, restarted: false });
                } else {
                    let restart = turn.restart.get_or_insert_with(|| Restart {
                        prompts: Vec::new(),
                        content: Vec::new(),
                        stopping: false,
                        by: Instant::now() + STEER_WAIT,
                    });
                    restart.prompts.push(prompt);
                    restart.content.extend(content);
                }
            }
            Command::Prompt { .. } => self.backlog.push_back(command),
            command => self.command(command),
        }
    }

    fn cancel(&mut self, turn: &mut Turn, grace: Duration) {
        let at = Instant::now() + grace;
        if turn.kill_at.is_none() {
            self.tell_to_stop();
            self.refuse(turn.restart.take());
        }
        turn.kill_at = Some(turn.kill_at.map_or(at, |before| before.min(at)));
    }

    fn tell_to_stop(&mut self) {
        self.normal.cancelling = Cancelling::Yes;
        let answers = self.asks.cancel(&mut self.normal);
        self.send_all(answers);
        let session = json!({ "sessionId": self.session });
        self.send_all([wire::notification("session/cancel", session)]);
    }

    fn refuse(&mut self, restart: Option<Restart>) {
        for prompt in restart.into_iter().flat_map(|restart| restart.prompts) {
            self.normal.sink.output(Output::SteerRefused { prompt });
        }
    }

    /// A prompt was answered. Gives the verdict when it was the last.
    fn answered(&mut self, turn: &mut Turn, result: Result<Value, RpcError>) -> Option<Verdict> {
        let result = match result {
            Ok(result) => result,
            Err(_) if turn.kill_at.is_some() => {
                return turn.open.is_empty().then_some((TurnOutcome::Cancelled, None));
            }
            Err(error) => return Some(self.normal.refused(&error)),
        };
        self.normal.result_usage(&result);
        if !turn.open.is_empty() {
            return None;
        }
        if turn.kill_at.is_none()
            && let Some(restart) = turn.restart.take()
        {
            // Either it stopped for the message, or it was done: it gets the message in any case.
            self.begin_again(turn, restart, result["stopReason"] == "cancelled");
            return None;
        }
        let verdict = self.normal.verdict(&result);
        if turn.kill_at.is_some() {
            return Some((TurnOutcome::Cancelled, None));
        }
        if verdict.0 == TurnOutcome::Cancelled {
            // Nobody asked for it here: Codex ends a turn so when a permission is refused.
            let text =
                "The agent ended the turn by itself, as it does when a permission is refused.";
            self.normal.sink.notice(NoticeLevel::Info, "ended_by_agent", text);
        }
        Some(verdict)
    }

    fn begin_again(&mut self, turn: &mut Turn, restart: Restart, restarted: bool) {
        self.normal.settle();
        self.normal.cancelling = Cancelling::No;
        self.prompt(turn, restart.content);
        for prompt in restart.prompts {
            self.normal.sink.output(Output::Steered { prompt, restarted });
        }
    }

    /// Tells the agent to stop for a steered message, once no tool runs.
    fn stop_for_restart(&mut self, turn: &mut Turn) {
        let at_boundary = self.normal.running_tools() == 0;
        if let Some(restart) = turn.restart.as_mut().filter(|r| !r.stopping && at_boundary) {
            restart.stopping = true;
            restart.by = Instant::now() + STEER_STOP;
            self.tell_to_stop();
        }
    }

    /// A steered message waited too long: for a tool, or for the agent to stop.
    async fn restart_overdue(&mut self, turn: &mut Turn) -> Result<(), Stop> {
        let Some(restart) = turn.restart.as_mut() else { return Ok(()) };
        if !restart.stopping {
            restart.stopping = true;
            restart.by = Instant::now() + STEER_STOP;
            self.tell_to_stop();
            return Ok(());
        }
        let Some(restart) = turn.restart.take() else { return Ok(()) };
        turn.open.clear();
        self.link = None;
        match self.connect().await {
            Ok(()) => self.begin_again(turn, restart, true),
            Err(stop) => {
                // The turn's end gives the message back.
                turn.restart = Some(restart);
                return Err(stop);
            }
        }
        Ok(())
    }

    fn prompt(&mut self, turn: &mut Turn, content: Vec<Input>) {
        for part in &content {
            if let Input::Text(text) = part {
                self.normal.person_said(text);
            }
        }
        let mut blocks = Vec::new();
        if let Some(seed) = self.seed.take() {
            let text = format!("{SEED}\n\n{seed}\n\n{SEED_END}");
            blocks.push(json!({ "type": "text", "text": text }));
        }
        for part in content {
            match part {
                Input::Text(text) => blocks.push(json!({ "type": "text", "text": text })),
                Input::Image { mime, bytes } if self.offers.images => {
                    use base64::Engine as _;
                    let data = base64::engine::general_purpose::STANDARD.encode(&bytes);
                    blocks.push(json!({ "type": "image", "mimeType": mime, "data": data }));
                }
                Input::Image { .. } => {
                    let text = "This agent takes no pictures; the picture was left out.";
                    self.normal.sink.notice(NoticeLevel::Warning, "image_left_out", text);
                }
            }
        }
        let params = json!({ "sessionId": self.session, "prompt": blocks });
        turn.open.extend(self.request("session/prompt", params));
    }
}

/// What the agent is told about a conversation that it does not remember.
const SEED: &str = "This conversation began earlier, in a session that is gone. What was said and done so far, for you to go on from:";
const SEED_END: &str = "(End of what was said and done so far. The new message:)";
