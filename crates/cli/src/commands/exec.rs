//! `boatyard workspace exec` and `boatyard shell`: a command in a workspace.

use std::collections::BTreeMap;

use anyhow::Result;
use boatyard_api::{
    model::WorkspaceId,
    workspace::{ExecExit, ExecOutput, ExecRequest},
};

use super::Context;
use crate::{
    failure::{Exit, Failure},
    ids,
    text::clean,
};

/// Runs a command in a workspace. Its output comes as it goes; the exit code is the command's.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// A workspace or a task: an id, a unique part of it, or @last
    id: String,
    /// The folder, below /work or /home; the checkout if absent
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// A variable beside those that every process of a workspace has
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = pair)]
    environment: Vec<(String, String)>,
    /// Kill it after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// Give it what comes on standard input
    #[arg(long)]
    stdin: bool,
    /// Program and arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs a shell command in a workspace, as `sh -c` would.
///
/// A terminal in a workspace is not there yet: without a COMMAND this refuses.
#[derive(Debug, clap::Args)]
pub(crate) struct ShellArgs {
    /// A workspace or a task: an id, a unique part of it, or @last
    id: String,
    /// What the shell runs
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) async fn exec(args: ExecArgs, context: &Context<'_>) -> Result<Exit> {
    let id = ids::workspace(&context.client, &args.id).await?;
    let stdin = args.stdin.then(|| std::io::read_to_string(std::io::stdin())).transpose()?;
    let request = ExecRequest {
        command: args.command,
        environment: args.environment.into_iter().collect(),
        cwd: args.cwd,
        timeout: args.timeout,
        stdin,
    };
    stream(id, &request, context).await
}

pub(crate) async fn shell(args: ShellArgs, context: &Context<'_>) -> Result<Exit> {
    if args.command.is_empty() {
        return Err(Failure::usage("a terminal in a workspace is not there yet in this release")
            .next(format!("run single commands: boatyard shell {} -- ls -la", args.id))
            .into());
    }
    let id = ids::workspace(&context.client, &args.id).await?;
    let command = match args.command {
        one if one.len() == 1 => vec!["sh".into(), "-c".into(), one.into_iter().collect()],
        many => many,
    };
    let request = ExecRequest { command, environment: BTreeMap::new(), ..ExecRequest::default() };
    stream(id, &request, context).await
}

async fn stream(id: WorkspaceId, request: &ExecRequest, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    if output.is_json() {
        let result = client.exec_in_workspace(id, request).await?;
        output.json(&result)?;
        return Ok(code(&result.exit));
    }
    let mut pieces = client.exec_streaming(id, request).await?;
    while let Some(piece) = pieces.next().await {
        match piece? {
            // A terminal is protected; a file or a pipe gets what the command wrote.
            ExecOutput::Stdout { text } if output.out.terminal => output.data(clean(&text))?,
            ExecOutput::Stdout { text } => output.data(text)?,
            ExecOutput::Stderr { text } => {
                use std::io::Write as _;
                let text = if output.err.terminal { clean(&text) } else { text };
                std::io::stderr().write_all(text.as_bytes())?;
            }
            ExecOutput::Exit { exit, .. } => {
                match &exit {
                    ExecExit::TimedOut => {
                        output.warning("it took too long and was killed; --timeout gives more");
                    }
                    ExecExit::NotStarted { message } => {
                        output.warning(format!("it could not be started: {}", clean(message)));
                    }
                    ExecExit::Exited { .. } | ExecExit::Signalled { .. } => {}
                }
                return Ok(code(&exit));
            }
        }
    }
    Err(Failure::new("the connection ended before the command did")
        .next("see whether the server runs, and try again")
        .into())
}

fn code(exit: &ExecExit) -> Exit {
    match exit.shell_code() {
        0 => Exit::Done,
        code => Exit::Other(u8::try_from(code).unwrap_or(255)),
    }
}
