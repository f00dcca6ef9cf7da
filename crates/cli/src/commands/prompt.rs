//! `boatyard prompt`: say something to an agent.

use std::path::PathBuf;

use anyhow::Result;
use boatyard_api::{
    IdempotencyKey,
    model::{PromptMode, TurnOutcome},
    session::NewPrompt,
};

use super::{
    Context,
    run::{read_prompt, upload_images},
};
use crate::{
    failure::Exit,
    ids,
    watch::{
        screen::Screen,
        session::{self, Until},
    },
};

/// Says something to the agent of a task or session, and follows its turn.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(help = ids::HELP)]
    id: String,
    /// What to say; `-` reads it from standard input
    text: String,
    /// If it works at the moment: after the turn, into it, or instead of it
    #[arg(long, default_value = "queue", value_parser = ["queue", "steer", "interrupt"])]
    mode: String,
    /// A picture to go with it; may be given several times
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Don't follow the turn
    #[arg(short, long)]
    detach: bool,
    /// The attempt at a task, by its number; the best one if absent
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

pub(crate) async fn run(args: Args, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let text = read_prompt(&args.text)?;
    let id = ids::session(client, &args.id, args.attempt).await?;
    let images = upload_images(client, &args.images).await?;
    let mode: PromptMode = args.mode.parse()?;
    let before = client.find_session(id).await?.last_seq;
    let prompt = NewPrompt { text, images, mode };
    let prompt = client.create_prompt(id, &prompt, Some(&IdempotencyKey::random())).await?;
    if args.detach || output.is_json() {
        if output.is_json() {
            output.json(&prompt)?;
        } else {
            output.line(prompt.id.to_string())?;
            output.note(format!("It is {}. Watch: boatyard attach {id}", prompt.state));
        }
        return Ok(Exit::Done);
    }
    let mut screen = Screen::new(output.err);
    let followed = session::follow(client, output, &mut screen, id, before, Until::Idle).await?;
    drop(screen);
    let how = format!("Detached: it goes on. Watch it again: boatyard attach {id}");
    let over = match followed.outcome {
        Some(TurnOutcome::Completed) | None => Exit::Done,
        Some(_) => Exit::Failed,
    };
    Ok(followed.end.exit(output, &how).unwrap_or(over))
}
