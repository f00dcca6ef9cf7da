//! `boatyard egress`: what may leave workspaces, what waits for a person, and what left.

use anyhow::Result;

use super::{Context, requests, rules};
use crate::failure::Exit;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Rules(rules::Command),
    #[command(flatten)]
    Requests(requests::Command),
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    match command {
        Command::Rules(command) => rules::run(command, context).await,
        Command::Requests(command) => requests::run(command, context).await,
    }
}
