//! One session: its state, and what the server may ask of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use boatyard_agent::driver::{self, Command, Input};
use boatyard_link::{
    message::{Failure, FailureCode, OpenSession, Reply, SessionStatus},
    spool::SessionEntry,
};
use boatyard_model::{
    AgentOffers, Content, PermissionId, PromptId, QuestionId, SessionId, Timestamp, TurnOutcome,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{Context, Table, launch, pump, turn::Before};
use crate::process::Group;

/// How long a stopped agent may take to end its turn before it is killed.
const STOP_GRACE: Duration = Duration::from_millis(50);

/// How long a cancelled agent may take before the driver kills it.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// How long a closed agent may take to end by itself.
const CLOSE_GRACE: Duration = Duration::from_millis(500);

/// How long killed processes may take to be dead: those in an uninterruptible wait end last.
const DEATH: Duration = Duration::from_secs(5);

/// How long an agent may take to start: what its driver gives it, and a little for our own part.
const START: Duration = driver::START.saturating_add(Duration::from_secs(10));

/// How long a driver may take to take a command; it always does, unless it is stuck.
const COMMAND: Duration = Duration::from_secs(10);

/// How long a message waits for a tool boundary.
const STEER: Duration = Duration::from_secs(3600);

/// How many delivered messages are remembered, for repetitions.
const STEERED_MAX: usize = 64;

/// One conversation with an agent.
#[derive(Debug)]
pub struct Session {
    pub(super) context: Arc<Context>,
    pub(super) table: Arc<Table>,
    pub(super) id: SessionId,
    /// The repository of which checkpoints are made.
    pub(super) checkpoint: Option<String>,
    group: Arc<Group>,
    commands: mpsc::Sender<Command>,
    state: Mutex<State>,
    /// Prompts are begun one at a time.
    prompting: tokio::sync::Mutex<()>,
    pub(super) opened: watch::Sender<Opened>,
    /// Counts the turns whose end the driver has told.
    pub(super) turns_ended: watch::Sender<u64>,
    /// Whether the driver is over.
    pub(super) over: watch::Sender<bool>,
}

/// How far the agent's start is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Opened {
    Starting,
    Open { agent_session: Option<String>, resumed: bool, offers: AgentOffers },
    Failed(String),
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) last_turn: u32,
    pub(super) turn: Option<Turn>,
    pub(super) agent_session: Option<String>,
    /// Its processes were killed on purpose: their end is no news.
    pub(super) stopped: bool,
    steers: HashMap<PromptId, oneshot::Sender<Result<bool, Failure>>>,
    pub(super) steered: Vec<(PromptId, bool)>,
    pub(super) steer_content: HashMap<PromptId, Vec<Content>>,
}

/// The turn under way.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) number: u32,
    pub(super) began: Timestamp,
    pub(super) clock: Instant,
    pub(super) before: Option<Before>,
    /// How it is to be recorded, whatever the driver says.
    pub(super) outcome: Option<TurnOutcome>,
    /// The driver has the prompt.
    delivered: bool,
    /// Its end is being written.
    pub(super) concluding: bool,
}

impl Session {
    /// Starts the agent. Turns up to `seen` are not begun again.
    pub(super) fn begin(
        context: Arc<Context>,
        table: Arc<Table>,
        open: OpenSession,
        seen: u32,
    ) -> Result<Arc<Self>, Failure> {
        let group = context.starter.group("ses").map_err(|error| Failure {
            code: FailureCode::Internal,
            message: format!("no process group can be made: {error}"),
        })?;
        let driver = launch::start(&context, &open, group.clone())?;
        let session = Arc::new(Self {
            context,
            table,
            id: open.session,
            checkpoint: open.checkpoint,
            group,
            commands: driver.commands.clone(),
            state: Mutex::new(State {
                last_turn: seen,
                agent_session: open.resume.map(|resume| resume.id),
                ..State::default()
            }),
            prompting: tokio::sync::Mutex::default(),
            opened: watch::Sender::new(Opened::Starting),
            turns_ended: watch::Sender::new(0),
            over: watch::Sender::new(false),
        });
        tokio::spawn(pump::run(session.clone(), driver));
        Ok(session)
    }

    /// Which session it is.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Where it stands.
    pub fn status(&self) -> SessionStatus {
        let state = self.state();
        SessionStatus {
            session: self.id,
            turn: state.turn.as_ref().map(|turn| turn.number),
            last_turn: state.last_turn,
            agent_session: state.agent_session.clone(),
        }
    }

    /// What the next runner must know of it.
    pub fn entry(&self) -> SessionEntry {
        let state = self.state();
        let began = state.turn.as_ref().map(|turn| turn.began);
        SessionEntry { session: self.id, last_turn: state.last_turn, began }
    }

    /// Whether its processes are in the group of this name.
    pub fn is_group(&self, name: &str) -> bool {
        self.group.is_named(name)
    }

    /// Whether a process of it lives, or a turn is not yet over.
    pub fn is_alive(&self) -> bool {
        self.group.has_leader() || self.state().turn.is_some()
    }

    /// Waits until the agent is up.
    ///
    /// # Errors
    /// When it could not be started.
    pub async fn opened(&self) -> Result<Reply, Failure> {
        let mut opened = self.opened.subscribe();
        let waited = timeout(START, opened.wait_for(|opened| *opened != Opened::Starting)).await;
        let failed = |message| Failure { code: FailureCode::Agent, message };
        match waited.map(|outcome| outcome.map(|opened| opened.clone())) {
            Ok(Ok(Opened::Open { agent_session, resumed, offers })) => {
                Ok(Reply::SessionOpen { agent_session, resumed, offers })
            }
            Ok(Ok(Opened::Failed(_))) if self.state().stopped => Err(Failure {
                code: FailureCode::Stopped,
                message: "the agent was stopped while it started".into(),
            }),
            Ok(Ok(Opened::Failed(text))) => Err(failed(text)),
            Ok(Ok(Opened::Starting) | Err(_)) => Err(failed("the agent's driver is gone".into())),
            Err(_) => Err(Failure {
                code: FailureCode::Timeout,
                message: format!("the agent did not start within {} s", START.as_secs()),
            }),
        }
    }

    /// Begins a turn. One that was begun is not begun again.
    ///
    /// # Errors
    /// When another turn is under way, a picture is missing, or the driver is gone.
    pub async fn prompt(&self, number: u32, content: Vec<Content>) -> Result<(), Failure> {
        let _one = self.prompting.lock().await;
        if number <= self.state().last_turn {
            return Ok(());
        }
        let content = self.inputs(&content)?;
        {
            let mut state = self.state();
            if let Some(turn) = &state.turn {
                let message = format!("turn {} is under way", turn.number);
                return Err(Failure { code: FailureCode::Conflict, message });
            }
            state.last_turn = number;
            state.stopped = false;
            state.turn = Some(Turn {
                number,
                began: self.context.now(),
                clock: Instant::now(),
                before: None,
                outcome: None,
                delivered: false,
                concluding: false,
            });
        }
        self.table.keep(&self.context);
        let before = self.look_before(number).await;
        let stopped_meanwhile = {
            let mut state = self.state();
            state.turn.as_mut().and_then(|turn| {
                turn.before = before;
                turn.delivered = turn.outcome.is_none();
                turn.outcome
            })
        };
        if let Some(outcome) = stopped_meanwhile {
            self.conclude(number, outcome, None).await;
            return Ok(());
        }
        if let Err(failure) = self.command(Command::Prompt { turn: number, content }).await {
            self.conclude(number, TurnOutcome::Failed, Some(failure.message)).await;
        }
        Ok(())
    }

    /// Delivers a message into the running turn; tells whether that restarted it.
    ///
    /// # Errors
    /// When that turn does not run any more.
    pub async fn steer(
        &self,
        number: u32,
        prompt: PromptId,
        content: Vec<Content>,
    ) -> Result<bool, Failure> {
        let inputs = self.inputs(&content)?;
        let (tell, told) = oneshot::channel();
        let again = {
            let mut state = self.state();
            if let Some((_, restarted)) = state.steered.iter().find(|(id, _)| *id == prompt) {
                return Ok(*restarted);
            }
            if state.turn.as_ref().is_none_or(|turn| turn.number != number) {
                return Err(not_running(number));
            }
            // A repetition takes the place of the one who asked before: that link is gone.
            state.steer_content.insert(prompt, content);
            state.steers.insert(prompt, tell).is_some()
        };
        if again {
            return self.steered(prompt, told).await;
        }
        if let Err(failure) = self.command(Command::Steer { prompt, content: inputs }).await {
            self.resolve_steer(prompt, Err(failure));
        }
        self.steered(prompt, told).await
    }

    async fn steered(
        &self,
        prompt: PromptId,
        told: oneshot::Receiver<Result<bool, Failure>>,
    ) -> Result<bool, Failure> {
        match timeout(STEER, told).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Failure {
                code: FailureCode::Conflict,
                message: "somebody else asked for the same message".into(),
            }),
            Err(_) => {
                self.state().steers.remove(&prompt);
                Err(Failure {
                    code: FailureCode::Timeout,
                    message: "the agent came to no tool boundary".into(),
                })
            }
        }
    }

    /// Tells whoever waits how a message fared.
    pub(super) fn resolve_steer(&self, prompt: PromptId, outcome: Result<bool, Failure>) {
        let mut state = self.state();
        if let Ok(restarted) = outcome {
            if state.steered.len() == STEERED_MAX {
                state.steered.remove(0);
            }
            state.steered.push((prompt, restarted));
        }
        state.steer_content.remove(&prompt);
        if let Some(tell) = state.steers.remove(&prompt) {
            // Whoever asked may be gone.
            let _ = tell.send(outcome);
        }
    }

    /// Tells everybody who waits with a message that the turn is over.
    pub(super) fn refuse_steers(&self, number: u32) {
        let waiting: Vec<PromptId> = self.state().steer_content.keys().copied().collect();
        for prompt in waiting {
            self.resolve_steer(prompt, Err(not_running(number)));
        }
    }

    /// Asks the agent to end the turn; its process goes on.
    ///
    /// # Errors
    /// When the driver is gone.
    pub async fn cancel(&self) -> Result<(), Failure> {
        {
            let mut state = self.state();
            match &mut state.turn {
                None => return Ok(()),
                // The prompt is not with the driver yet: it will not get there.
                Some(turn) if !turn.delivered => {
                    turn.outcome.get_or_insert(TurnOutcome::Cancelled);
                    return Ok(());
                }
                Some(_) => {}
            }
        }
        self.command(Command::Cancel { grace: CANCEL_GRACE }).await
    }

    /// Ends every process of the session. Gives the time until all were dead.
    ///
    /// # Errors
    /// When one outlives its kill.
    pub async fn stop(&self, outcome: TurnOutcome) -> Result<Duration, Failure> {
        let begin = Instant::now();
        let mut ended = self.turns_ended.subscribe();
        ended.mark_unchanged();
        let delivered = {
            let mut state = self.state();
            state.stopped = true;
            state.turn.as_mut().is_some_and(|turn| {
                turn.outcome.get_or_insert(outcome);
                turn.delivered
            })
        };
        // A driver that is too busy to take it is killed with its agent.
        if delivered && self.commands.try_send(Command::Cancel { grace: STOP_GRACE }).is_ok() {
            // Ended or not: the kill follows.
            let _ = timeout(STOP_GRACE, ended.changed()).await;
        }
        self.end_group().await?;
        Ok(begin.elapsed())
    }

    /// Ends the turn, the agent and all its processes.
    ///
    /// # Errors
    /// When one outlives its kill.
    pub async fn close(&self) -> Result<(), Failure> {
        {
            let mut state = self.state();
            state.stopped = true;
            if let Some(turn) = &mut state.turn {
                turn.outcome.get_or_insert(TurnOutcome::Cancelled);
            }
        }
        let mut over = self.over.subscribe();
        let order = Command::Close { grace: CLOSE_GRACE };
        if self.commands.try_send(order).is_ok() {
            // With a full spool it can't tell its end before somebody reads; the kill is what counts.
            let _ = timeout(2 * CLOSE_GRACE, over.wait_for(|over| *over)).await;
        }
        self.end_group().await
    }

    async fn end_group(&self) -> Result<(), Failure> {
        self.group.end(DEATH).await.map(|_| ()).map_err(|error| Failure {
            code: FailureCode::Internal,
            message: format!("not every process could be ended: {error}"),
        })
    }

    /// Chooses one of the agent's modes; what comes of it is told as an event.
    ///
    /// # Errors
    /// When the driver is gone.
    pub async fn set_mode(&self, mode: String) -> Result<(), Failure> {
        self.command(Command::SetMode(mode)).await
    }

    /// Chooses one of the agent's models; what comes of it is told as an event.
    ///
    /// # Errors
    /// When the driver is gone.
    pub async fn set_model(&self, model: String) -> Result<(), Failure> {
        self.command(Command::SetModel(model)).await
    }

    /// Hands the agent a person's decision.
    ///
    /// # Errors
    /// When the driver is gone.
    pub async fn answer_permission(
        &self,
        permission: PermissionId,
        option: Option<String>,
    ) -> Result<(), Failure> {
        self.command(Command::AnswerPermission { permission, option }).await
    }

    /// Hands the agent a person's answer.
    ///
    /// # Errors
    /// When the driver is gone.
    pub async fn answer_question(
        &self,
        question: QuestionId,
        answer: Option<String>,
    ) -> Result<(), Failure> {
        self.command(Command::AnswerQuestion { question, answer }).await
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn command(&self, command: Command) -> Result<(), Failure> {
        let failed = |message: &str| Failure { code: FailureCode::Agent, message: message.into() };
        match timeout(COMMAND, self.commands.send(command)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(failed("the agent's driver is gone")),
            Err(_) => Err(failed("the agent's driver takes no commands")),
        }
    }

    fn inputs(&self, content: &[Content]) -> Result<Vec<Input>, Failure> {
        let input = |piece: &Content| match piece {
            Content::Text { text } => Ok(Input::Text(text.clone())),
            Content::Image { blob, mime } => {
                let bytes = self.context.blobs.get(*blob).ok_or_else(|| Failure {
                    code: FailureCode::NotFound,
                    message: format!("the picture {blob} was not sent"),
                })?;
                Ok(Input::Image { mime: mime.clone(), bytes })
            }
        };
        content.iter().map(input).collect()
    }
}

fn not_running(turn: u32) -> Failure {
    Failure { code: FailureCode::Conflict, message: format!("turn {turn} is over") }
}
