//! `boatyard logs`: what happened in a session.

use anyhow::Result;
use boatyard_api::client::Step;

use super::Context;
use crate::{
    failure::Exit,
    ids,
    watch::{interrupts, render::Renderer, session::detail},
};

/// Prints what happened in a session. -v shows checkpoints and every command's output.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(help = ids::HELP)]
    id: String,
    /// Go on with what happens, until the session is over
    #[arg(short, long)]
    follow: bool,
    /// Begin after this event
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
    /// The attempt at a task, by its number; the best one if absent
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

pub(crate) async fn run(args: Args, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let session = ids::session(client, &args.id, args.attempt).await?;
    let mut events = match args.follow {
        true => client.follow_session(session, args.after),
        false => client.read_session(session, args.after),
    };
    let mut renderer = Renderer::new(output.out, detail(output));
    let mut seen = false;
    let mut interrupt = interrupts()?;
    loop {
        let step = tokio::select! {
            step = events.next() => step,
            _ = interrupt.recv() => {
                return Ok(Exit::Interrupted);
            }
        };
        match step {
            Some(Ok(Step::Item(event))) if output.is_json() => output.json_line(&event)?,
            Some(Ok(Step::Item(event))) => {
                seen = true;
                renderer.event(&event);
                for line in renderer.take() {
                    output.line(line)?;
                }
            }
            Some(Ok(Step::Lost(_))) => output.detail("The server is away; waiting for it."),
            Some(Ok(Step::Resumed)) => output.detail("It is back."),
            Some(Err(error)) => return Err(error.into()),
            None => break,
        }
    }
    renderer.finish();
    for line in renderer.take() {
        output.line(line)?;
    }
    if !seen && !output.is_json() {
        output.note("Nothing has happened yet.");
    }
    Ok(Exit::Done)
}
