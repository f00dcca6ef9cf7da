//! What is exported, on its way into a file or to standard output, piece by piece.

use std::{fs::File, io::Write, path::Path};

use anyhow::{Context as _, Result};

use crate::{failure::Exit, output::Output, text::bytes};

/// Writes an answer into a file, or to standard output without one.
pub(crate) async fn into(
    mut response: reqwest::Response,
    file: Option<&Path>,
    output: &Output,
) -> Result<Exit> {
    let mut sum = 0;
    let mut into: Box<dyn Write> = match file {
        Some(path) => {
            let created = File::create(path);
            Box::new(created.with_context(|| format!("{} can't be written", path.display()))?)
        }
        None => Box::new(std::io::stdout().lock()),
    };
    while let Some(piece) = response.chunk().await.context("the export ended early")? {
        sum += piece.len() as u64;
        match into.write_all(&piece) {
            Ok(()) => {}
            // Who reads has read enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            Err(error) => return Err(error).context("the export can't be written"),
        }
    }
    into.flush().context("the export can't be written")?;
    if let Some(path) = file {
        output.note(format!("Wrote {} into {}.", bytes(sum), path.display()));
    }
    Ok(Exit::Done)
}
