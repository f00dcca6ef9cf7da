//! A conversation, followed live.

use anyhow::Result;
use boatyard_api::{
    Client,
    client::{Follow, Step},
    model::{
        Event, EventBody, SessionId, TaskId, Timestamp, TurnOutcome,
        time::{Clock as _, SystemClock},
    },
    task::Task,
};
use tokio::time::MissedTickBehavior;

use super::{
    TICK,
    ask::{Asks, Typed},
    interrupts,
    render::{Detail, Renderer},
    screen::Screen,
    task,
};
use crate::{
    failure::Exit,
    output::{Look, Output, Verbosity},
};

/// The state of a task is asked for every so many ticks while its agent works: the events say
/// more. Half as long as a person waits before wondering.
const TICKS_WHILE_WORKING: u32 = 16;
/// The same when a turn has ended, when its state is about to change.
const TICKS_WHEN_QUIET: u32 = 2;

/// When to stop following.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// When the attempt at the task is over.
    AttemptOver(TaskId, u32),
    /// When the agent has nothing to do after this prompt's turn.
    Idle,
    /// When the session is over.
    SessionOver,
}

/// How following ended.
#[derive(Debug)]
pub(crate) enum End {
    /// What was waited for has come.
    Over,
    /// Ctrl-C.
    Detached,
    /// Something waits for a person, and nobody can answer here: these commands would.
    Waiting(Vec<String>),
}

/// What was learnt on the way.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) end: End,
    /// The task as it was last seen.
    pub(crate) task: Option<Task>,
    /// How the last turn ended that was seen to end.
    pub(crate) outcome: Option<TurnOutcome>,
}

impl End {
    /// The code to end with, what is to be said being said.
    pub(crate) fn exit(&self, output: &Output, how_to_watch: &str) -> Option<Exit> {
        match self {
            Self::Over => None,
            Self::Detached => {
                output.note(how_to_watch);
                Some(Exit::Interrupted)
            }
            Self::Waiting(commands) => {
                let lines: Vec<String> = commands.iter().map(|line| format!("  {line}")).collect();
                output.note(format!("It waits for a person. Answer with:\n{}", lines.join("\n")));
                Some(Exit::Waiting)
            }
        }
    }
}

/// How much the verbosity shows.
pub(crate) fn detail(output: &Output) -> Detail {
    if output.verbosity >= Verbosity::Verbose { Detail::Everything } else { Detail::Normal }
}

/// Follows a session from the event after `after` on.
pub(crate) async fn follow(
    client: &Client,
    output: &Output,
    screen: &mut Screen,
    session: SessionId,
    after: u64,
    until: Until,
) -> Result<Followed> {
    let mut follower = Follower {
        client,
        look: output.err,
        session,
        until,
        renderer: Renderer::new(output.err, detail(output)),
        asks: Asks::default(),
        typing: false,
        interactive: Typed::possible(output.err) && screen.is_live(),
        quiet: false,
        turn_seen: false,
        task: None,
        outcome: None,
    };
    let mut events = client.follow_session(session, after);
    let end = follower.run(screen, &mut events).await?;
    if matches!(end, End::Over) {
        // The task may be over before its last events came: they are stored.
        let mut rest = client.read_session(session, events.last());
        while let Some(step) = rest.next().await {
            if let Step::Item(event) = step? {
                follower.renderer.event(&event);
            }
        }
    }
    follower.renderer.finish();
    screen.show(&follower.renderer.take(), &[]);
    Ok(Followed { end, task: follower.task, outcome: follower.outcome })
}

struct Follower<'a> {
    client: &'a Client,
    look: Look,
    session: SessionId,
    until: Until,
    renderer: Renderer,
    asks: Asks,
    /// A question stands on the last line, with the cursor behind it.
    typing: bool,
    interactive: bool,
    /// The agent has nothing to do.
    quiet: bool,
    turn_seen: bool,
    task: Option<Task>,
    outcome: Option<TurnOutcome>,
}

impl Follower<'_> {
    async fn run(&mut self, screen: &mut Screen, events: &mut Follow<Event>) -> Result<End> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut typed = Typed::default();
        let mut interrupt = interrupts()?;
        let mut ticks = 0;
        let mut lost = false;
        loop {
            tokio::select! {
                step = events.next() => match step {
                    Some(Ok(Step::Item(event))) => {
                        self.event(&event);
                        self.draw(screen);
                        if self.is_over_by(&event) {
                            return Ok(End::Over);
                        }
                    }
                    Some(Ok(Step::Lost(_))) => {
                        lost = true;
                        let line = self.look.dim("  … the server is away; waiting for it");
                        screen.show(&[line], &[]);
                        self.typing = false;
                    }
                    Some(Ok(Step::Resumed)) => {
                        lost = false;
                        screen.show(&[self.look.dim("  … it is back")], &[]);
                    }
                    Some(Err(error)) => return Err(error.into()),
                    None => {
                        self.look_at_task().await?;
                        return Ok(End::Over);
                    }
                },
                _ = tick.tick() => {
                    ticks += 1;
                    let every = match self.renderer.is_at_work() {
                        true => TICKS_WHILE_WORKING,
                        false => TICKS_WHEN_QUIET,
                    };
                    if !lost && ticks % every == 0 && self.look_at_task().await? {
                        return Ok(End::Over);
                    }
                    self.draw(screen);
                }
                line = typed.line(), if self.typing => {
                    self.typing = false;
                    self.answer(screen, &line).await?;
                }
                _ = interrupt.recv() => {
                    return Ok(End::Detached);
                }
            }
            if let (Some(ask), false) = (self.asks.first(), self.interactive) {
                // Events that are stored already may hold the answer: look at what waits itself.
                if ask.is_open(self.client, self.session).await? {
                    return Ok(End::Waiting(vec![ask.command()]));
                }
            }
        }
    }

    fn event(&mut self, event: &Event) {
        match event.body {
            EventBody::TurnStarted { .. } => {
                self.quiet = false;
                self.turn_seen = true;
            }
            EventBody::TurnCompleted { outcome, .. } => {
                self.quiet = true;
                self.outcome = Some(outcome);
            }
            _ => {}
        }
        self.renderer.event(event);
        if self.asks.event(event) {
            self.typing = false;
        }
    }

    fn is_over_by(&self, event: &Event) -> bool {
        use boatyard_api::model::SessionState;
        match (&event.body, self.until) {
            (
                EventBody::SessionState { state: SessionState::Ended, .. },
                Until::SessionOver | Until::Idle,
            ) => true,
            (EventBody::SessionState { state: SessionState::Idle, .. }, Until::Idle) => {
                self.turn_seen && self.quiet
            }
            _ => false,
        }
    }

    /// Prints what is new; asks where something waits for a person.
    fn draw(&mut self, screen: &mut Screen) {
        let lines = self.renderer.take();
        let ask = self.asks.first().filter(|_| self.interactive);
        let Some(ask) = ask else {
            let now: Timestamp = SystemClock.now();
            let mut live = self.renderer.live(now);
            if !self.renderer.is_at_work() {
                live.extend(self.phase_under_way(now));
            }
            screen.show(&lines, &live);
            return;
        };
        if self.typing && lines.is_empty() {
            return;
        }
        screen.show(&lines, &[]);
        if !self.typing {
            screen.show(&ask.choices(self.look), &[]);
        }
        screen.ask(&ask.cursor());
        self.typing = true;
    }

    /// The phase of the attempt before and after its turn.
    fn phase_under_way(&self, now: Timestamp) -> Option<String> {
        let Until::AttemptOver(_, number) = self.until else { return None };
        let task = self.task.as_ref()?;
        let attempt = task.attempts.iter().find(|attempt| attempt.n == number)?;
        task::under_way(attempt, self.look, now)
    }

    async fn answer(&mut self, screen: &mut Screen, typed: &str) -> Result<()> {
        let Some(ask) = self.asks.first() else { return Ok(()) };
        match ask.answer(self.client, self.session, typed).await {
            Some(Ok(())) => self.asks.answered(),
            // Somebody else was faster; the event says so.
            Some(Err(boatyard_api::Error::Problem(problem))) if problem.status == 409 => {}
            Some(Err(error)) => return Err(error.into()),
            None => {
                let line = self.look.warn("    That is none of the answers.");
                screen.show(&[line], &[]);
            }
        }
        Ok(())
    }

    /// Asks for the task's state. Answers whether the attempt is over.
    async fn look_at_task(&mut self) -> Result<bool> {
        let Until::AttemptOver(task, number) = self.until else { return Ok(false) };
        match self.client.find_task(task).await {
            Ok(task) => {
                let attempt = task.attempts.iter().find(|attempt| attempt.n == number);
                let over = attempt.is_none_or(|attempt| attempt.state.is_terminal());
                self.task = Some(task);
                Ok(over)
            }
            Err(error) if error.is_transient() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
