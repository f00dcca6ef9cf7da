//! The check that a repository's environment names: a command that says whether an attempt's work
//! is good, run in the attempt's workspace when its result has been taken.
//!
//! It does not change the attempt's state; it tells which of several attempts is the best. It runs
//! within the job that ends the attempt. A server that dies meanwhile takes the command along (the
//! end of a link ends its commands), and the next one runs it again: never two at once.

use std::time::Duration;

use boatyard_api::task::{CheckResult, CheckState};
use boatyard_link::message::{ExecExit, ExecRequest};
use boatyard_store::{AttemptRow, SessionRow};

use super::{
    attempt::Phases,
    environments,
    shown::{Shown, title},
};
use crate::{app::App, hub::HubError, mirrors::environment::Check};

/// How long a check may take where the environment does not say.
pub(crate) const TIME: Duration = Duration::from_secs(600);
/// What is kept of its output: the end, in bytes.
const KEPT: usize = 8 << 10;

/// Runs the check, if there is one; none as well if the attempt is cancelled meanwhile.
pub(super) async fn run(
    app: &App,
    session: &SessionRow,
    attempt: &AttemptRow,
    turn: u32,
    phases: &mut Phases<'_>,
) -> Option<CheckResult> {
    let workspace = match app.store.workspace(session.workspace).await {
        Ok(workspace) => workspace,
        Err(error) => return untold(&error.into()),
    };
    let environment = match environments::of(app, &workspace).await {
        Ok(environment) => environment,
        Err(error) => return untold(&error.into()),
    };
    let Check { command, time } = environment.check?;
    let cwd = workspace.folder.as_ref().map(|folder| format!("/work/{folder}"));
    let cancelled = app.places.watch(attempt.id);
    phases.begin("check").await;
    let mut variables = app.connections.variables(
        workspace.owner.organization,
        Some(workspace.owner.member),
        workspace.id,
    );
    variables.extend(environment.variables);
    let request = ExecRequest {
        command: command.clone(),
        environment: variables,
        cwd,
        deadline_millis: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)),
        stdin: false,
    };
    let shown =
        Shown { app, session, tool: format!("check-{turn}"), limit: time, what: "the check" };
    let outcome = tokio::select! {
        outcome = shown_in(app, session, &shown, request) => Some(outcome),
        () = cancelled.cancelled() => None,
    };
    app.places.end(attempt.id);
    let Some(outcome) = outcome else {
        phases.end("given up: the task was cancelled").await;
        return None;
    };
    let result = match outcome {
        Ok(outcome) => CheckResult {
            command: title(&command),
            state: match outcome.exit {
                ExecExit::Exited { code: 0 } => CheckState::Passed,
                ExecExit::Exited { .. } | ExecExit::Signalled { .. } => CheckState::Failed,
                ExecExit::TimedOut => CheckState::TimedOut,
                ExecExit::NotStarted { .. } => CheckState::NotStarted,
            },
            exit_code: match outcome.exit {
                ExecExit::Exited { code } => Some(code),
                _ => None,
            },
            millis: u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
            output: match outcome.exit {
                ExecExit::NotStarted { message } => message,
                _ => end_of(&outcome.output).to_owned(),
            },
        },
        Err(error) => CheckResult {
            command: title(&command),
            state: CheckState::NotStarted,
            exit_code: None,
            millis: 0,
            output: format!("the workspace was lost: {}", crate::chain(&error)),
        },
    };
    phases.end(result.state.as_str()).await;
    Some(result)
}

async fn shown_in(
    app: &App,
    session: &SessionRow,
    shown: &Shown<'_>,
    request: ExecRequest,
) -> Result<super::shown::Outcome, HubError> {
    let attached = app.hub.wake(session.workspace).await?;
    shown.run(&attached, request).await
}

/// Without a check the attempt is as good as one whose repository names none.
fn untold(error: &HubError) -> Option<CheckResult> {
    tracing::error!(error = %crate::chain(error), "a check can't be looked for");
    None
}

fn end_of(text: &str) -> &str {
    let mut from = text.len().saturating_sub(KEPT);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
