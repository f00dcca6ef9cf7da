//! Checks and generators that are not part of the product: `cargo xtask <command>`.
//!
//! - `tidy`: the rules of the tree that no compiler knows ([`tidy`]); `cargo test -p xtask` runs
//!   the same as tests.
//! - `gen`: writes everything anew that is generated and committed ([`generate`]).

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};

mod generate;
mod tidy;

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let outcome = match command.as_str() {
        "tidy" => tidy::run(),
        "gen" => generate::run(),
        _ => {
            eprintln!("usage: cargo xtask tidy | gen");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// Runs a program in the root and passes its output on.
fn call(program: &str, args: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let shown = format!("{program} {}", args.join(" "));
    eprintln!("{shown}");
    let status = Command::new(program)
        .args(args)
        .envs(environment.iter().copied())
        .current_dir(root())
        .status()
        .with_context(|| format!("`{shown}` could not be started"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}
