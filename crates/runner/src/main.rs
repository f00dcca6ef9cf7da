//! `boatyard-runner`: the program inside a workspace.
//!
//! - `init`: the first process, started by the spawner; when there is something to do, a fork of it
//!   becomes `serve`, which is everything else.
//! - `demo-agent`: the built-in agent that needs no model.

use std::process::ExitCode;

use anyhow::bail;

fn main() -> anyhow::Result<ExitCode> {
    let command = std::env::args_os().nth(1);
    match command.as_ref().and_then(|command| command.to_str()) {
        Some("init") => boatyard_sandbox::init::main(boatyard_runner::serve::main),
        Some("demo-agent") => Ok(boatyard_agent::demo::main()),
        _ => bail!("usage: boatyard-runner init | demo-agent"),
    }
}
