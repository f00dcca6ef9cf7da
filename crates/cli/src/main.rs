//! The binary `boatyard`: arguments → settings → the whole product, or a client of it.
//!
//! ```text
//! arguments ─► up ──────► settings ─► data folder ─► supervisor ─► server
//!      └─────► others ──► where the server is ─► boatyard_api::Client ─► data on stdout
//! ```
//!
//! - [`args`]: what may be typed; one file per subcommand under [`commands`].
//! - [`failure`]: how a command ends: the codes, and errors as sentences with a next step.
//! - [`output`]: data to standard output, everything else to standard error.
//! - [`watch`]: following a session live.
//! - [`credentials`]: what `boatyard login` stored: servers elsewhere, with a key for each.
//! - [`data`]: the data folder: format, lock, mode.
//!
//! Nothing here knows how something is done; that is the server's. What a client command does, the
//! API can do.

mod args;
mod checkout;
mod commands;
mod connect;
mod credentials;
mod data;
mod export;
mod failure;
mod ids;
mod logging;
mod output;
mod port;
mod sources;
mod text;
mod watch;
mod words;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // This program is also the process that makes sandboxes: it is started again as that.
    boatyard_runtime::native::launch::run_if_spawner();
    let args = args::Args::parse();
    let output = output::Output::new(&args.global);
    match commands::run(args, &output) {
        Ok(exit) => exit.into(),
        Err(error) => failure::report(&error, &output).into(),
    }
}
