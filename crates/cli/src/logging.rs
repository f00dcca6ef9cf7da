//! The server's log: levels, text or JSON, files of a day each or the journal.

use std::{io::IsTerminal as _, path::Path};

use anyhow::{Context as _, Result};
use boatyard_server::settings::{Log, LogFormat, LogTarget};
use tracing_appender::{
    non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard},
    rolling::{RollingFileAppender, Rotation},
};
use tracing_subscriber::{EnvFilter, Layer, Registry, filter::LevelFilter, fmt, prelude::*};

use crate::failure::Failure;

/// Lines that may wait for the disk; more are counted and dropped rather than hold up the server.
/// Places for all of them are made at the start, 32 bytes each.
const LINES_WAITING: usize = 8 * 1024;

/// Where the log goes, after looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Files in this folder; failures also on standard error.
    Files(std::path::PathBuf),
    /// Standard error.
    Stderr,
    /// Standard error, which the journal reads: it adds the time itself.
    Journal,
}

/// Keeps the writer of the log; dropping it writes what waits.
#[derive(Debug)]
pub(crate) struct Guard(#[expect(dead_code, reason = "held for its drop")] Vec<WorkerGuard>);

/// Where the settings send the log.
pub(crate) fn destination(log: &Log, folder: &Path) -> Destination {
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    match log.target {
        LogTarget::Auto if under_systemd => Destination::Journal,
        LogTarget::Auto | LogTarget::Files => Destination::Files(folder.to_owned()),
        LogTarget::Stderr => Destination::Stderr,
    }
}

/// Starts the log. `extra` is the level that the command line asked for.
pub(crate) fn start(log: &Log, destination: &Destination, extra: Option<&str>) -> Result<Guard> {
    let mut directives = vec![extra.unwrap_or(log.level.as_str()).to_owned()];
    // They say nothing below a warning that anybody needs, and a lot.
    directives.extend(["hyper=warn", "sqlx=warn", "rustls=warn", "h2=warn"].map(str::to_owned));
    directives.extend(log.parts.iter().cloned());
    let filter = EnvFilter::builder().parse(directives.join(",")).map_err(|error| {
        Failure::usage("`log.parts` can't be read")
            .next("write each as part=level, such as \"boatyard_server::hub=debug\"")
            .because(error)
    })?;
    let mut guards = Vec::new();
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = Vec::new();
    match destination {
        Destination::Files(folder) => {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("the folder {} can't be made", folder.display()))?;
            let files = RollingFileAppender::builder()
                .rotation(Rotation::DAILY)
                .filename_prefix("boatyard")
                .filename_suffix("log")
                .max_log_files(log.keep_files.max(1) as usize)
                .build(folder)
                .with_context(|| format!("no log can be written to {}", folder.display()))?;
            let writer = background(files, &mut guards);
            layers.push(match log.format {
                LogFormat::Text => fmt::layer().with_writer(writer).with_ansi(false).boxed(),
                LogFormat::Json => {
                    fmt::layer().json().flatten_event(true).with_writer(writer).boxed()
                }
            });
            // What needs somebody is also said where somebody may look.
            let loud = fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false)
                .compact()
                .with_filter(LevelFilter::ERROR);
            layers.push(loud.boxed());
        }
        Destination::Stderr | Destination::Journal => {
            let writer = background(std::io::stderr(), &mut guards);
            let colors = *destination == Destination::Stderr && std::io::stderr().is_terminal();
            layers.push(match (log.format, destination) {
                (LogFormat::Json, _) => {
                    fmt::layer().json().flatten_event(true).with_writer(writer).boxed()
                }
                (LogFormat::Text, Destination::Journal) => {
                    fmt::layer().without_time().with_ansi(false).with_writer(writer).boxed()
                }
                (LogFormat::Text, _) => fmt::layer().with_ansi(colors).with_writer(writer).boxed(),
            });
        }
    }
    tracing_subscriber::registry()
        .with(layers)
        .with(filter)
        .try_init()
        .context("the log can't be started")?;
    Ok(Guard(guards))
}

fn background(
    writer: impl std::io::Write + Send + 'static,
    guards: &mut Vec<WorkerGuard>,
) -> NonBlocking {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LINES_WAITING).finish(writer);
    guards.push(guard);
    writer
}
