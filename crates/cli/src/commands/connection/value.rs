//! The value of a credential: typed, piped in, or from a file.

use std::{
    io::{IsTerminal as _, Read as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use boatyard_api::connection::SecretText;

use crate::failure::Failure;

/// The most that is read, in bytes: more than any credential has.
const MOST: u64 = 64 * 1024;

/// Reads the value.
pub(super) fn read(file: Option<&Path>) -> Result<SecretText> {
    let text = match file {
        Some(path) if path != Path::new("-") => {
            let shown = path.display();
            let opened = std::fs::File::open(path);
            let text = opened.and_then(bounded);
            text.with_context(|| format!("{shown} can't be read"))?
        }
        _ if std::io::stdin().is_terminal() => {
            let terminal = console::Term::stderr();
            terminal.write_str("Value (not shown): ")?;
            terminal.read_secure_line().context("the value can't be read")?
        }
        _ => bounded(std::io::stdin()).context("standard input can't be read")?,
    };
    if text.trim().is_empty() {
        return Err(Failure::usage("there is no value")
            .next("pipe it in, type it, or name its file with --value-file")
            .into());
    }
    Ok(SecretText::new(text))
}

fn bounded(from: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::with_capacity(1024);
    from.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST {
        return Err(std::io::Error::other("it is larger than a credential can be"));
    }
    Ok(text)
}

/// Refuses a value on the command line, without repeating it.
pub(super) fn no_argument(rest: &[String]) -> Result<()> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(
        "a value is not taken from the command line, where other programs see it and the shell keeps it",
    )
    .next("pipe it in, type it when asked, or name its file with --value-file; and change this one")
    .into())
}
