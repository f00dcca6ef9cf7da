//! `boatyard diff`: what a task changed.

use anyhow::Result;
use boatyard_api::{
    session::Session,
    task::{AttemptDiffQuery, Diff},
    workspace::WorkspaceDiffQuery,
};

use super::Context;
use crate::{
    failure::Exit,
    ids::{self, Target},
    output::Look,
    text::{clean, count},
    watch::stat,
};

/// Shows what a task changed, as a patch that `git apply` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(help = ids::HELP)]
    id: String,
    /// Only which files, and how much of each
    #[arg(long)]
    stat: bool,
    /// The attempt at a task, by its number; the best one if absent
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Lines of context around each change
    #[arg(short = 'U', long = "unified", value_name = "LINES")]
    context: Option<u32>,
}

pub(crate) async fn run(args: Args, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let diff: Diff = match ids::target(client, &args.id).await? {
        Target::Task(id) => {
            let query = AttemptDiffQuery { attempt: args.attempt, context: args.context };
            client.read_attempt_diff(id, &query).await?
        }
        Target::Session(id) => {
            let session: Session = client.find_session(id).await?;
            let query =
                WorkspaceDiffQuery { context: args.context, ..WorkspaceDiffQuery::default() };
            client.read_workspace_diff(session.workspace, &query).await?
        }
    };
    if output.is_json() {
        output.json(&diff)?;
    } else if args.stat {
        let lines = stat::diffstat(&diff.files, output.out);
        if !lines.is_empty() {
            output.line(lines.join("\n"))?;
        }
        output.note(format!("{} changed", count(diff.files.len() as u64, "file")));
    } else if output.out.terminal || output.out.color {
        output.data(colored(&diff.patch, output.out))?;
    } else {
        // As it is, so that `git apply` takes it.
        output.data(&diff.patch)?;
    }
    if diff.files.is_empty() {
        output.note("Nothing changed.");
    }
    if diff.cut {
        output.warning(
            "the difference is too large to show in full; `boatyard apply` brings all of it",
        );
    }
    Ok(Exit::Done)
}

/// A patch for people: coloured, and harmless to a terminal.
fn colored(patch: &str, look: Look) -> String {
    let mut out = String::with_capacity(patch.len());
    let mut in_header = false;
    for line in patch.lines() {
        let line = clean(line);
        if line.starts_with("diff --git ") {
            in_header = true;
        } else if line.starts_with("@@") {
            in_header = false;
        }
        let line = match line.as_bytes().first() {
            _ if in_header => look.bold(&line),
            Some(b'@') => look.name(&line),
            Some(b'+') => look.good(&line),
            Some(b'-') => look.bad(&line),
            _ => line,
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}
