//! `boatyard-runner`: the program inside a workspace.
//!
//! - `init`: the first process, started by the spawner.
//! - `serve`: everything else, started by `init` when there is something to do.
//! - `demo-agent`: the built-in agent that needs no model.

use std::process::ExitCode;

use anyhow::{Context as _, bail};

fn main() -> anyhow::Result<ExitCode> {
    let command = std::env::args_os().nth(1);
    match command.as_ref().and_then(|command| command.to_str()) {
        Some("init") => boatyard_sandbox::init::main(),
        Some("serve") => {
            boatyard_runner::serve::main().context("the runner can't go on")?;
            Ok(ExitCode::SUCCESS)
        }
        Some("demo-agent") => Ok(boatyard_agent::demo::main()),
        _ => bail!("usage: boatyard-runner init | serve | demo-agent"),
    }
}
