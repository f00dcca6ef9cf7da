//! Messages into a running turn, for agents that take no second prompt.
//!
//! ```text
//!  Steer ─► waiting ── no tool runs, or it took too long ──┬─ Request: offered ── injected ─► told
//!              ▲                                           │             └─ not: turn over, or waiting
//!              │                                           └─ Restart: cancel ─► answer ─► prompt
//! ```
//!
//! A message waits for the end of a running tool call even where the agent would take it at once:
//! Claude moves the command that runs into the background for it.

use std::time::Duration;

use boatyard_model::PromptId;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Actor, Stop, normal::Verdict, offers::Steering, tools::Cancelling, turn::Turn, wire::RpcError,
};
use crate::driver::{Input, Output};

/// How long a tool call may go on that a steered message waits for.
const WAIT: Duration = Duration::from_secs(120);
/// How long an agent may take to stop for a steered message, or to say whether it takes it.
const STOP: Duration = Duration::from_secs(10);

/// Messages that are to get into the turn together.
pub(super) struct Message {
    prompts: Vec<PromptId>,
    content: Vec<Input>,
    /// The agent was told to stop for it.
    stopping: bool,
    /// The agent was asked to take it and did not: it is to stop.
    refused: bool,
    /// What happens next happens by then in any case.
    by: Instant,
}

impl Turn {
    /// A message waits for a tool boundary.
    pub(super) fn wait_with(&mut self, prompt: PromptId, content: Vec<Input>) {
        let message = self.waiting.get_or_insert_with(|| Message {
            prompts: Vec::new(),
            content: Vec::new(),
            stopping: false,
            refused: false,
            by: Instant::now() + WAIT,
        });
        message.prompts.push(prompt);
        message.content.extend(content);
    }

    /// When something is to be done though nothing happens.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let messages = self.waiting.iter().chain(self.offered.values());
        messages.map(|message| message.by).chain(self.kill_at).min()
    }
}

impl Actor {
    /// Gives a waiting message to the agent, or tells it to stop for it, once no tool runs.
    pub(super) fn steer_at_boundary(&mut self, turn: &mut Turn) {
        if self.normal.running_tools() == 0 && turn.kill_at.is_none() {
            self.steer_now(turn);
        }
    }

    fn steer_now(&mut self, turn: &mut Turn) {
        let by_request = self.offers.steering == Steering::Request;
        let Some(message) = turn.waiting.as_mut().filter(|message| !message.stopping) else {
            return;
        };
        if !by_request || message.refused {
            message.stopping = true;
            message.by = Instant::now() + STOP;
            self.tell_to_stop();
            return;
        }
        let Some(mut message) = turn.waiting.take() else { return };
        message.by = Instant::now() + STOP;
        let params = json!({
            "sessionId": self.session,
            "prompt": self.blocks(message.content.clone()),
            // Where the turn is over, the message is the next turn's.
            "_meta": { "steering": { "idleBehavior": "promptRequired" } },
        });
        match self.request("_session/steering", params) {
            Some(id) => {
                turn.offered.insert(id, message);
            }
            None => turn.waiting = Some(message),
        }
    }

    /// The agent has said whether it takes a message. Gives the verdict of a turn that waited for it.
    pub(super) fn offer_answered(
        &mut self,
        turn: &mut Turn,
        id: u64,
        result: Result<Value, RpcError>,
    ) -> Option<Verdict> {
        let mut message = turn.offered.remove(&id)?;
        let outcome = result.ok().and_then(|result| result["outcome"].as_str().map(str::to_owned));
        if outcome.as_deref() == Some("injected") {
            self.told(message.prompts, false);
        } else if turn.ended.is_some() || turn.kill_at.is_some() {
            self.refuse(message);
        } else {
            message.refused = true;
            // Its turn is over then: the answer to the prompt is on its way.
            message.stopping = outcome.as_deref() == Some("promptRequired");
            match &mut turn.waiting {
                // One that came later goes the same way.
                Some(waiting) => {
                    message.prompts.append(&mut waiting.prompts);
                    message.content.append(&mut waiting.content);
                    waiting.prompts = message.prompts;
                    waiting.content = message.content;
                    waiting.refused = true;
                    waiting.stopping = message.stopping;
                }
                None => turn.waiting = Some(message),
            }
        }
        if turn.offered.is_empty() { turn.ended.take() } else { None }
    }

    /// A message waited too long: for a tool, for the agent to stop, or for its answer.
    pub(super) async fn steer_overdue(&mut self, turn: &mut Turn) -> Result<Option<Verdict>, Stop> {
        let now = Instant::now();
        let late = turn.offered.iter().find(|(_, message)| message.by <= now).map(|(id, _)| *id);
        if let Some(id) = late {
            // It may have taken it: told so, lest it hears it twice.
            let taken = Ok(json!({ "outcome": "injected" }));
            return Ok(self.offer_answered(turn, id, taken));
        }
        match &turn.waiting {
            Some(message) if message.by <= now && !message.stopping => self.steer_now(turn),
            Some(message) if message.by <= now => self.restart(turn).await?,
            _ => {}
        }
        Ok(None)
    }

    /// The agent does not stop: its process ends, and the next one goes on with the message.
    async fn restart(&mut self, turn: &mut Turn) -> Result<(), Stop> {
        let Some(message) = turn.waiting.take() else { return Ok(()) };
        turn.open.clear();
        self.link = None;
        match self.connect().await {
            Ok(()) => self.begin_again(turn, message, true),
            Err(stop) => {
                // The turn's end gives the message back.
                turn.waiting = Some(message);
                return Err(stop);
            }
        }
        Ok(())
    }

    /// Goes on with the turn by prompting again.
    pub(super) fn begin_again(&mut self, turn: &mut Turn, message: Message, restarted: bool) {
        self.normal.settle();
        self.normal.cancelling = Cancelling::No;
        self.prompt(turn, message.content);
        self.told(message.prompts, restarted);
    }

    /// The turn takes no more messages.
    pub(super) fn refuse_all(&mut self, turn: &mut Turn) {
        let offered = turn.offered.drain().map(|(_, message)| message);
        for message in turn.waiting.take().into_iter().chain(offered) {
            self.refuse(message);
        }
    }

    fn refuse(&mut self, message: Message) {
        for prompt in message.prompts {
            self.normal.sink.output(Output::SteerRefused { prompt });
        }
    }

    fn told(&mut self, prompts: Vec<PromptId>, restarted: bool) {
        for prompt in prompts {
            self.normal.sink.output(Output::Steered { prompt, restarted });
        }
    }
}
