//! Commands of a repository's environment, shown in the session as calls of a tool while they run:
//! its setup, and the check of an attempt's work.

use std::time::Duration;

use boatyard_link::message::{ExecExit, ExecRequest};
use boatyard_model::{
    EventBody,
    event::{ToolCall, ToolKind, ToolStatus},
};
use boatyard_store::{NewEvent, SessionRow};

use crate::{
    app::App,
    hub::{Attached, HubError, exec::Piece},
};

/// Output that is kept of one command, in bytes: its beginning and its end.
const KEPT: usize = 64 << 10;
/// Output of one command that is shown while it runs, in bytes. What comes after is in the end only.
const LIVE: usize = 1 << 20;

/// One command, to be shown.
pub struct Shown<'a> {
    /// The application.
    pub app: &'a App,
    /// Where it is shown.
    pub session: &'a SessionRow,
    /// Names the call in the session.
    pub tool: String,
    /// How long it may take, for the sentence that says that it took longer.
    pub limit: Duration,
    /// What may take that long: `the setup`.
    pub what: &'a str,
}

/// What came of it.
pub struct Outcome {
    /// How it ended.
    pub exit: ExecExit,
    /// Why that is not well, in words: `ended with code 2`; none if it is.
    pub fault: Option<String>,
    /// The beginning and the end of its output.
    pub output: String,
    /// How long it took.
    pub took: Duration,
}

/// A command as people read it.
pub fn title(command: &[String]) -> String {
    match command {
        [sh, c, line] if sh == "/bin/sh" && c == "-c" => line.clone(),
        command => command.join(" "),
    }
}

impl Shown<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    /// When the workspace is lost, or the store can't be written.
    pub async fn run(
        &self,
        attached: &Attached,
        request: ExecRequest,
    ) -> Result<Outcome, HubError> {
        let tool = ToolCall {
            tool: self.tool.clone(),
            kind: Some(ToolKind::Execute),
            title: Some(title(&request.command)),
            ..ToolCall::default()
        };
        self.tell(EventBody::ToolStarted { tool: tool.clone() }).await?;
        let mut exec = attached.exec(request, None).await?;
        let mut output = Kept::default();
        let mut live = LIVE;
        let (exit, took) = loop {
            match exec.next().await? {
                Piece::Stdout(bytes) | Piece::Stderr(bytes) => {
                    output.push(&bytes);
                    if bytes.len() > live {
                        live = 0;
                        continue;
                    }
                    live -= bytes.len();
                    let text = Some(String::from_utf8_lossy(&bytes).into_owned());
                    let more =
                        ToolCall { tool: self.tool.clone(), output: text, ..ToolCall::default() };
                    self.tell(EventBody::ToolUpdated { tool: more }).await?;
                }
                Piece::Exit(exit, took) => break (exit, took),
            }
        };
        let (exit_code, fault) = match &exit {
            ExecExit::Exited { code: 0 } => (Some(0), None),
            ExecExit::Exited { code } => (Some(*code), Some(format!("ended with code {code}"))),
            ExecExit::Signalled { signal } => (None, Some(format!("was ended by signal {signal}"))),
            ExecExit::TimedOut => {
                let (what, limit) = (self.what, self.limit.as_secs());
                (None, Some(format!("took longer than {what} may ({limit} s)")))
            }
            ExecExit::NotStarted { message } => {
                (None, Some(format!("could not be started: {message}")))
            }
        };
        let status = if fault.is_none() { ToolStatus::Completed } else { ToolStatus::Failed };
        let text = output.text();
        let done = ToolCall { output: Some(text.clone()), ..tool };
        self.tell(EventBody::ToolCompleted { tool: done, status, exit_code, output_blob: None })
            .await?;
        Ok(Outcome { exit, fault, output: text, took })
    }

    async fn tell(&self, body: EventBody) -> Result<(), HubError> {
        let event = NewEvent::own(self.session.id, self.app.store.now(), None, body);
        self.app.store.append(vec![event]).await?;
        Ok(())
    }
}

/// The beginning and the end of an output.
#[derive(Default)]
struct Kept {
    head: Vec<u8>,
    tail: Vec<u8>,
    left_out: u64,
}

impl Kept {
    fn push(&mut self, bytes: &[u8]) {
        let room = (KEPT / 2).saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.tail.extend_from_slice(&bytes[room..]);
        if self.tail.len() > KEPT {
            let cut = self.tail.len() - KEPT / 2;
            self.tail.drain(..cut);
            self.left_out += cut as u64;
        }
    }

    fn text(&self) -> String {
        let head = String::from_utf8_lossy(&self.head);
        let tail = String::from_utf8_lossy(&self.tail);
        match self.left_out {
            0 => format!("{head}{tail}"),
            n => format!("{head}\n… {n} bytes left out …\n{tail}"),
        }
    }
}
