//! `boatyard internal`: for building and testing Boatyard itself.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use boatyard_server::settings::document;

use crate::{failure::Exit, output::Output};

pub(crate) mod fetch;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write boatyard.toml and docs/configuration.md from the declarations of the settings
    Docs {
        /// The root of the repository
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
    /// Fetch something again and again, and say how long it took
    Fetch(fetch::Args),
}

pub(crate) fn run(command: Command, output: &Output) -> Result<Exit> {
    match command {
        Command::Fetch(args) => output.json(&fetch::fetch(&args)?)?,
        Command::Docs { root } => {
            write(output, &root.join("boatyard.toml"), &document::annotated())?;
            write(output, &root.join("docs/configuration.md"), &document::configuration())?;
        }
    }
    Ok(Exit::Done)
}

fn write(output: &Output, path: &Path, text: &str) -> Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::write(path, text).with_context(|| format!("{} can't be written", path.display()))?;
    output.note(format!("Wrote {}.", path.display()));
    Ok(())
}
