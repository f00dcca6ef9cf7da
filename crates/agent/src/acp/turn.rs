//! One turn: from a prompt to its end.
//!
//! ```text
//!  prompt sent ──► running ── answer ─────────────────────────────► judged ──► TurnEnded
//!                   │  │ ▲                                             ▲
//!                   │  │ └── second prompt (steer, where it is taken) ─┤ when all are answered
//!                   │  └── steer otherwise: see `steer`
//!                   ├── Cancel ─► cancel ─► answer, or killed after the grace ─► cancelled
//!                   └── process gone ─► failed, or cancelled if that was wanted
//! ```

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use boatyard_model::{TurnOutcome, event::NoticeLevel};
use futures::FutureExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Actor, Step, Stop,
    connection::Event,
    normal::Verdict,
    offers::Steering,
    steer::Message,
    tools::Cancelling,
    wire::{self, Incoming, RpcError},
};
use crate::driver::{Command, Input, Output};

/// A turn under way.
#[derive(Default)]
pub(super) struct Turn {
    /// Prompts that are not answered yet.
    pub(super) open: HashSet<u64>,
    /// Somebody wants the turn to end; the agent is killed then.
    pub(super) kill_at: Option<Instant>,
    /// The driver is to end after the turn.
    close: Option<Duration>,
    /// Messages that wait for a tool boundary, or for the agent to stop.
    pub(super) waiting: Option<Message>,
    /// Messages that the agent was asked to take, by the request; it has until then to answer.
    pub(super) offered: HashMap<u64, Message>,
    /// How the turn ended, if a message that was offered is not answered yet.
    pub(super) ended: Option<Verdict>,
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
        self.refuse_all(&mut turn);
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
            let deadline = turn.next_deadline();
            match self.step(deadline).await {
                Step::Command(command) => self.turn_command(turn, command),
                Step::Message(Incoming::Response { id, result }) if turn.open.remove(&id) => {
                    if let Some(verdict) = self.answered(turn, result) {
                        return Ok(verdict);
                    }
                }
                Step::Message(Incoming::Response { id, result })
                    if turn.offered.contains_key(&id) =>
                {
                    if let Some(verdict) = self.offer_answered(turn, id, result) {
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
                    if let Some(verdict) = self.steer_overdue(turn).await? {
                        return Ok(verdict);
                    }
                }
                Step::Abandoned => return Err(Stop::Abandoned),
            }
            self.steer_at_boundary(turn);
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
                } else if self.offers.steering == Steering::Prompt {
                    self.prompt(turn, content);
                    self.normal.sink.output(Output::Steered { prompt, restarted: false });
                } else {
                    turn.wait_with(prompt, content);
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
            self.refuse_all(turn);
        }
        turn.kill_at = Some(turn.kill_at.map_or(at, |before| before.min(at)));
    }

    pub(super) fn tell_to_stop(&mut self) {
        self.normal.cancelling = Cancelling::Yes;
        let answers = self.asks.cancel(&mut self.normal);
        self.send_all(answers);
        let session = json!({ "sessionId": self.session });
        self.send_all([wire::notification("session/cancel", session)]);
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
            && let Some(message) = turn.waiting.take()
        {
            // Either it stopped for the message, or it was done: it gets the message in any case.
            self.begin_again(turn, message, result["stopReason"] == "cancelled");
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
        if turn.offered.is_empty() {
            return Some(verdict);
        }
        turn.ended = Some(verdict);
        None
    }

    pub(super) fn prompt(&mut self, turn: &mut Turn, content: Vec<Input>) {
        let preface = std::mem::take(&mut self.preface);
        if !preface.is_empty() {
            self.normal.prefaced(&preface);
        }
        let preface = preface.into_iter().map(|text| json!({ "type": "text", "text": text }));
        let blocks: Vec<Value> = preface.chain(self.blocks(content)).collect();
        let params = json!({ "sessionId": self.session, "prompt": blocks });
        turn.open.extend(self.request("session/prompt", params));
    }

    /// What a person says, as the protocol has it.
    pub(super) fn blocks(&mut self, content: Vec<Input>) -> Vec<Value> {
        for part in &content {
            if let Input::Text(text) = part {
                self.normal.person_said(text);
            }
        }
        let mut blocks = Vec::new();
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
        blocks
    }
}
