//! The setup that a repository asks for: run once for a base tree and a setup file, kept as a
//! layer, shown as it runs.

use std::time::{Duration, Instant};

use boatyard_link::message::{ExecExit, ExecRequest};
use boatyard_model::{
    EventBody, LayerId,
    event::{ToolCall, ToolKind, ToolStatus},
};
use boatyard_store::{LayerKind, NewEvent, NewLayer, Reason, RepositoryRow, SessionRow};

use super::prepare::{Wanted, build, stack, store_failed, workspace_failed};
use crate::{
    app::App,
    hub::{Attached, exec::Piece},
    mirrors::{environment::Environment, fetch::Base},
};

/// Output that is kept of one command, in bytes: its beginning and its end.
const KEPT: usize = 64 << 10;
/// Lines of a failed command's end that its reason repeats.
const LINES: usize = 12;
/// What a layer depends on beside tree and file; raised when the base of sandboxes changes.
const ROOT_VERSION: u32 = 1;

/// The layers with the setup done, and how that came about.
///
/// # Errors
/// Which command failed, with the end of what it said.
pub(super) async fn layers(
    app: &App,
    wanted: &Wanted,
    row: &RepositoryRow,
    base: &Base,
    environment: &Environment,
    below: Vec<LayerId>,
    session: &SessionRow,
) -> Result<(Vec<LayerId>, String), Reason> {
    let key = format!("setup:{ROOT_VERSION}:{}:{}:{}", row.folder, base.tree, environment.hash);
    let organization = wanted.owner.organization;
    if let Some(found) = app.store.find_layer(organization, &key).await.map_err(store_failed)? {
        return Ok((stack(found.id, found.parents), "from the cache".to_owned()));
    }
    let new = NewLayer {
        id: LayerId::new(),
        owner: wanted.owner,
        repository: Some(row.id),
        kind: LayerKind::Setup,
        cache_key: Some(key),
        parents: below.clone(),
    };
    let deadline = Instant::now() + wanted.setup_time;
    let layer = build(app, new, wanted.limits, async |attached: &Attached| {
        for (i, command) in environment.setup.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let run = Run {
                app,
                session,
                tool: format!("setup-{}", i + 1),
                file: &environment.path,
                command,
            };
            let request = ExecRequest {
                command: command.clone(),
                environment: environment.variables.clone(),
                cwd: Some(format!("/work/{}", row.folder)),
                deadline_millis: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)),
                stdin: false,
            };
            run.shown(attached, request, wanted.setup_time).await?;
        }
        Ok(())
    })
    .await?;
    let n = environment.setup.len();
    let how = if n == 1 { "1 command".to_owned() } else { format!("{n} commands") };
    Ok((stack(layer, below), how))
}

/// One command of a setup, shown as a tool call of the session.
struct Run<'a> {
    app: &'a App,
    session: &'a SessionRow,
    tool: String,
    /// The file that asks for it, in the repository.
    file: &'a str,
    command: &'a [String],
}

impl Run<'_> {
    async fn shown(
        &self,
        attached: &Attached,
        request: ExecRequest,
        limit: Duration,
    ) -> Result<(), Reason> {
        let title = match self.command {
            [sh, c, line] if sh == "/bin/sh" && c == "-c" => line.clone(),
            command => command.join(" "),
        };
        let tool = ToolCall {
            tool: self.tool.clone(),
            kind: Some(ToolKind::Execute),
            title: Some(title.clone()),
            ..ToolCall::default()
        };
        self.tell(EventBody::ToolStarted { tool: tool.clone() }).await?;
        let mut exec = attached.exec(request, None).await.map_err(workspace_failed)?;
        let mut output = Kept::default();
        let exit = loop {
            match exec.next().await.map_err(workspace_failed)? {
                Piece::Stdout(bytes) | Piece::Stderr(bytes) => {
                    output.push(&bytes);
                    let text = Some(String::from_utf8_lossy(&bytes).into_owned());
                    let more =
                        ToolCall { tool: self.tool.clone(), output: text, ..ToolCall::default() };
                    self.tell(EventBody::ToolUpdated { tool: more }).await?;
                }
                Piece::Exit(exit, _) => break exit,
            }
        };
        let (status, exit_code, why) = match &exit {
            ExecExit::Exited { code: 0 } => (ToolStatus::Completed, Some(0), None),
            ExecExit::Exited { code } => {
                (ToolStatus::Failed, Some(*code), Some(format!("ended with code {code}")))
            }
            ExecExit::Signalled { signal } => {
                (ToolStatus::Failed, None, Some(format!("was ended by signal {signal}")))
            }
            ExecExit::TimedOut => (
                ToolStatus::Failed,
                None,
                Some(format!("took longer than the setup may ({} s)", limit.as_secs())),
            ),
            ExecExit::NotStarted { message } => {
                (ToolStatus::Failed, None, Some(format!("could not be started: {message}")))
            }
        };
        let text = output.text();
        let done = ToolCall { output: Some(text.clone()), ..tool };
        let completed =
            EventBody::ToolCompleted { tool: done, status, exit_code, output_blob: None };
        self.tell(completed).await?;
        match why {
            None => Ok(()),
            Some(why) => {
                let lines: Vec<&str> = text.lines().collect();
                let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
                Err(Reason {
                    code: "setup_failed".to_owned(),
                    text: format!(
                        "The setup command `{title}` {why}. Mend {} or what it runs, and run the \
                         task again.\n{end}",
                        self.file
                    ),
                })
            }
        }
    }

    async fn tell(&self, body: EventBody) -> Result<(), Reason> {
        let event = NewEvent::own(self.session.id, self.app.store.now(), None, body);
        self.app.store.append(vec![event]).await.map(drop).map_err(store_failed)
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
