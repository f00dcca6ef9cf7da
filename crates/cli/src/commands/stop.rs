//! `boatyard stop` and `boatyard cancel`.

use anyhow::Result;

use super::Context;
use crate::{failure::Exit, ids};

/// Stops what the agent of a session does, within 100 ms. Files and conversation stay.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    #[arg(help = ids::HELP)]
    id: String,
    /// The attempt at a task, by its number; the best one if absent
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

/// Cancels a task with all its attempts. The work so far is kept.
#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    #[arg(help = ids::HELP)]
    id: String,
}

pub(crate) async fn stop(args: StopArgs, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let id = ids::session(client, &args.id, args.attempt).await?;
    let stopped = client.stop_session(id).await?;
    if output.is_json() {
        output.json(&stopped)?;
    } else if stopped.ran {
        output.line(format!("Stopped in {} ms.", stopped.millis))?;
    } else {
        output.line("Nothing was running.")?;
    }
    Ok(Exit::Done)
}

pub(crate) async fn cancel(args: CancelArgs, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let id = ids::task(client, &args.id).await?;
    let task = client.cancel_task(id).await?;
    if output.is_json() {
        output.json(&task)?;
    } else {
        output.line(format!("{} {}", task.id, task.state))?;
    }
    Ok(Exit::Done)
}
