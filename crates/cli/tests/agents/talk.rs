//! A conversation with the agent, followed as a client follows it.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use boatyard_api::{
    client::{Follow, Step},
    session::{NewPrompt, Session},
    task::Task,
    workspace::{ExecExit, ExecRequest},
};
use boatyard_model::{
    AttemptState, BlobId, Event, EventBody, PromptMode, SessionId, TaskId, TurnOutcome,
    WorkspaceId,
    event::{ToolCall, ToolStatus},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use crate::house::House;

/// How long one step may take, with two agents at work beside it on two cores.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// How long an agent may try again and again before it gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(280);

/// How long an order may wait for a place: those that are retried for ever hold theirs long.
const QUEUED: Duration = Duration::from_secs(600);

/// How often is looked at what nothing tells of.
const LOOK: Duration = Duration::from_millis(50);

/// A scenario's place in the house.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) house: Arc<House>,
    pub(crate) name: &'static str,
}

/// A task's session.
pub(crate) struct Talk {
    house: Arc<House>,
    pub(crate) task: TaskId,
    pub(crate) session: SessionId,
    pub(crate) workspace: WorkspaceId,
    /// All events so far.
    pub(crate) events: Vec<Event>,
    /// How many of them were waited for.
    read: usize,
    /// Locked by nobody: it makes what it holds shareable.
    follow: Mutex<Follow<Event>>,
}

impl Scene {
    /// Orders a task with this prompt; the rest of the order may be given.
    pub(crate) async fn order(&self, prompt: &str, more: Value) -> Talk {
        let mut order = json!({
            "prompt": prompt,
            "repository": self.house.repository(),
            "agent": self.house.agent.name,
            "push": "never",
        });
        order.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let client = self.house.client();
        let order = serde_json::from_value(order).unwrap();
        let task = client.create_task(&order, None).await.unwrap().id;
        let limit = Instant::now() + QUEUED;
        let (session, workspace) = loop {
            let found = client.find_task(task).await.unwrap();
            let attempt = &found.attempts[0];
            if let (Some(session), Some(workspace)) = (attempt.session, attempt.workspace) {
                break (session, workspace);
            }
            assert!(attempt.reason.is_none(), "{:?}", attempt.reason);
            assert!(Instant::now() < limit, "the task has no session: {found:?}");
            sleep(LOOK).await;
        };
        self.house.note(self.name, session);
        let follow = Mutex::new(client.follow_session(session, 0));
        let house = Arc::clone(&self.house);
        Talk { house, task, session, workspace, events: Vec::new(), read: 0, follow }
    }

    /// A word that is in no other scenario of this house.
    pub(crate) fn word(&self, what: &str) -> String {
        format!("{}-{what}-{}", self.name, self.house.agent.name)
    }
}

impl Talk {
    /// The next event, whatever it is.
    async fn next(&mut self, what: &str, deadline: Instant) -> usize {
        while self.read >= self.events.len() {
            let step = timeout_at(deadline, self.follow.get_mut().unwrap().next()).await;
            match step.unwrap_or_else(|_| panic!("no {what} in time")) {
                Some(Ok(Step::Item(event))) => self.events.push(event),
                Some(Ok(Step::Lost(_) | Step::Resumed)) => {}
                Some(Err(error)) => panic!("no {what}: {error}"),
                None => panic!("no {what}: the session is over"),
            }
        }
        self.read += 1;
        self.read - 1
    }

    /// Reads on to an event that is so.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        is: impl Fn(&EventBody) -> bool,
    ) -> EventBody {
        let deadline = Instant::now() + limit;
        loop {
            let at = self.next(what, deadline).await;
            if is(&self.events[at].body) {
                return self.events[at].body.clone();
            }
            let over = matches!(&self.events[at].body, EventBody::TurnCompleted { .. });
            assert!(!over, "the turn ended without {what}: {:?}", self.events[at].body);
        }
    }

    /// Reads on to the end of this turn.
    pub(crate) async fn turn(&mut self, number: u32) -> Turn {
        self.turn_within(number, LIMIT).await
    }

    /// The same, for an agent that may take its time.
    pub(crate) async fn turn_within(&mut self, number: u32, limit: Duration) -> Turn {
        let deadline = Instant::now() + limit;
        loop {
            let at = self.next(&format!("end of turn {number}"), deadline).await;
            let event = &self.events[at];
            if let EventBody::TurnCompleted { outcome, error, .. } = &event.body
                && event.turn == Some(number)
            {
                let (outcome, error) = (*outcome, error.clone());
                let of = |event: &&Event| event.turn == Some(number);
                let events = self.events.iter().filter(of).map(|event| event.body.clone());
                return Turn { outcome, error, events: events.collect() };
            }
        }
    }

    /// Says something more.
    pub(crate) async fn prompt(&self, text: &str, mode: PromptMode) {
        let prompt = NewPrompt { text: text.to_owned(), images: Vec::<BlobId>::new(), mode };
        self.house.client().create_prompt(self.session, &prompt, None).await.unwrap();
    }

    /// The task when nothing is to come any more.
    pub(crate) async fn settled(&self) -> Task {
        let deadline = Instant::now() + LIMIT;
        loop {
            let task = self.house.client().find_task(self.task).await.unwrap();
            use AttemptState::{Cancelled, Failed, Succeeded};
            if matches!(task.state, Succeeded | Failed | Cancelled) {
                return task;
            }
            assert!(Instant::now() < deadline, "the task does not end: {task:?}");
            sleep(LOOK).await;
        }
    }

    /// The session as it is now.
    pub(crate) async fn session(&self) -> Session {
        self.house.client().find_session(self.session).await.unwrap()
    }

    /// Runs a script in the workspace.
    pub(crate) async fn sh(&self, script: &str) -> String {
        self.sh_with(script, "").await
    }

    /// The same, with something for it to read.
    pub(crate) async fn sh_with(&self, script: &str, stdin: &str) -> String {
        sh(&self.house, self.workspace, script, stdin).await
    }

    /// Follows the session anew, from its beginning, at the server that runs now.
    pub(crate) fn follow_again(&mut self) {
        self.events.clear();
        self.read = 0;
        self.follow = Mutex::new(self.house.client().follow_session(self.session, 0));
    }
}

/// Runs a script in a workspace, which must end well.
pub(crate) async fn sh(house: &House, workspace: WorkspaceId, script: &str, stdin: &str) -> String {
    let request = ExecRequest {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        environment: Default::default(),
        cwd: None,
        timeout: Some(60),
        stdin: Some(stdin.to_owned()),
    };
    let ran = house.client().exec_in_workspace(workspace, &request).await.unwrap();
    assert_eq!(ran.exit, ExecExit::Exited { code: 0 }, "{script}: {}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// A turn that is over.
pub(crate) struct Turn {
    pub(crate) outcome: TurnOutcome,
    pub(crate) error: Option<String>,
    pub(crate) events: Vec<EventBody>,
}

impl fmt::Debug for Turn {
    /// Without the pieces of what is whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} {:?}", self.outcome, self.error)?;
        for body in &self.events {
            use EventBody::{MessageDelta, ThoughtDelta, ToolUpdated, Usage};
            if !matches!(
                body,
                MessageDelta { .. } | ThoughtDelta { .. } | ToolUpdated { .. } | Usage { .. }
            ) {
                let shown = format!("{body:?}");
                writeln!(f, "{}", &shown[..shown.floor_char_boundary(400)])?;
            }
        }
        Ok(())
    }
}

/// A tool call that is over.
#[derive(Debug)]
pub(crate) struct Used<'e> {
    pub(crate) tool: &'e ToolCall,
    pub(crate) status: ToolStatus,
    pub(crate) exit_code: Option<i32>,
}

impl Turn {
    /// It ended well.
    pub(crate) fn completed(&self) -> &Self {
        assert_eq!(self.outcome, TurnOutcome::Completed, "{:?}", self.error);
        self
    }

    /// The messages of the agent, whole ones only.
    pub(crate) fn messages(&self) -> Vec<&str> {
        let texts = self.events.iter().filter_map(|body| match body {
            EventBody::MessageCompleted { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// All that the agent said.
    pub(crate) fn said(&self) -> String {
        self.messages().join("\n")
    }

    /// The tool calls that are over.
    pub(crate) fn tools(&self) -> Vec<Used<'_>> {
        let used = self.events.iter().filter_map(|body| match body {
            EventBody::ToolCompleted { tool, status, exit_code, .. } => {
                Some(Used { tool, status: *status, exit_code: *exit_code })
            }
            _ => None,
        });
        used.collect()
    }

    /// The texts of the notices of this code.
    pub(crate) fn notices(&self, code: &str) -> Vec<&str> {
        let texts = self.events.iter().filter_map(|body| match body {
            EventBody::Notice { code: found, text, .. } if found == code => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }
}
