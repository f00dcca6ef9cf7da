//! `boatyard-runner`: the program inside a workspace.
//!
//! - `init`: the first process, started by the spawner; when there is something to do, a fork of it
//!   becomes `serve`, which is everything else.
//! - `-Y …`, `git-key`: how git signs with a key that the server has.
//! - `demo-agent`: the built-in agent that needs no model.
//! - `escape`: the attacks of `boatyard doctor --escape`, and what they look for in another workspace.

use std::process::ExitCode;

use anyhow::bail;
use boatyard_sandbox::escape;

fn main() -> anyhow::Result<ExitCode> {
    let command = std::env::args_os().nth(1);
    match command.as_ref().and_then(|command| command.to_str()) {
        Some("init") => boatyard_sandbox::init::main(boatyard_runner::serve::main),
        Some("demo-agent") => Ok(boatyard_agent::demo::main()),
        Some(escape::ARGUMENT) => Ok(escape::main()),
        Some(escape::NEIGHBOUR_ARGUMENT) => Ok(escape::neighbour()),
        Some(escape::FORGER_ARGUMENT) => Ok(escape::forger()),
        Some("-Y") => boatyard_runner::signing::main(std::env::args_os().skip(1).collect()),
        Some("git-key") => boatyard_runner::signing::key(),
        _ => bail!("usage: boatyard-runner init | demo-agent | git-key | -Y sign …"),
    }
}
