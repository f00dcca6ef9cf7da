//! `boatyard push`: a task's branch to the repository's origin.

use anyhow::Result;
use boatyard_api::task::PushState;

use super::Context;
use crate::{
    failure::{Exit, Failure},
    ids,
    text::clean_line,
};

/// Pushes what a task changed to the repository's origin, as a branch.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(help = ids::HELP)]
    id: String,
    /// The attempt, by its number; the best one if absent
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

pub(crate) async fn run(args: Args, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let id = ids::task(client, &args.id).await?;
    let task = client.push_attempt(id, args.attempt).await?;
    let pushed = ids::attempt_of(&task, args.attempt)?.result.as_ref().map(|r| r.pushed.clone());
    if output.is_json() {
        output.json(&task)?;
    }
    match pushed {
        Some(PushState::Pushed { remote, branch, .. }) => {
            if !output.is_json() {
                output.line(format!("{} {}", clean_line(&remote), clean_line(&branch)))?;
            }
            Ok(Exit::Done)
        }
        Some(PushState::Refused { reason }) => {
            Err(Failure::new(format!("it was not pushed: {}", clean_line(&reason)))
                .next(format!("bring it into your checkout instead: boatyard apply {id}"))
                .into())
        }
        Some(PushState::NotPushed) | None => {
            Err(Failure::new(format!("task {id} has nothing to push"))
                .next(format!("see how far it is with `boatyard task show {id}`"))
                .into())
        }
    }
}
