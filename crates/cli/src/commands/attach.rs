//! `boatyard attach`: follow a session live.

use anyhow::Result;
use boatyard_api::client::Step;

use super::Context;
use crate::{
    failure::Exit,
    ids::{self, Target},
    watch::{
        interrupts,
        screen::Screen,
        session::{self, Until},
        task,
    },
};

/// Follows a task or a session live, and takes answers to what the agent asks.
///
/// Ctrl-C detaches; what runs goes on. With --json, each event is a line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(help = ids::HELP)]
    id: String,
    /// The attempt at a task, by its number; the best one if absent
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

pub(crate) async fn run(args: Args, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let target = ids::target(client, &args.id).await?;
    if output.is_json() {
        let session = ids::session(client, &args.id, args.attempt).await?;
        let mut events = client.follow_session(session, 0);
        let mut interrupt = interrupts()?;
        loop {
            tokio::select! {
                step = events.next() => match step {
                    Some(Ok(Step::Item(event))) => output.json_line(&event)?,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => return Ok(Exit::Done),
                },
                _ = interrupt.recv() => {
                    return Ok(Exit::Interrupted);
                }
            }
        }
    }
    if let (Target::Task(id), None) = (target, args.attempt) {
        let (task, exit) = task::follow(client, output, client.find_task(id).await?).await?;
        if matches!(exit, Exit::Done | Exit::Failed) {
            output.line(task::ending(&task, output.out).join("\n"))?;
            output.note(task::next_steps(&task));
        }
        return Ok(exit);
    }
    let id = ids::session(client, &args.id, args.attempt).await?;
    let until = match target {
        Target::Task(task) => {
            let task = client.find_task(task).await?;
            Until::AttemptOver(task.id, ids::attempt_of(&task, args.attempt)?.n)
        }
        Target::Session(_) => Until::SessionOver,
    };
    let mut screen = Screen::new(output.err);
    let followed = session::follow(client, output, &mut screen, id, 0, until).await?;
    drop(screen);
    let how = format!("Detached: it goes on. Watch it again: boatyard attach {id}");
    Ok(followed.end.exit(output, &how).unwrap_or(Exit::Done))
}
