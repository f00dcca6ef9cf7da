//! `boatyard doctor`: what this machine can do, and how to mend what it can't; with `--escape`,
//! whether its workspaces hold ([`escape`]).

mod escape;

use anyhow::{Context as _, Result};
use boatyard_runtime::{
    capabilities::{Check, Outcome},
    native::{
        doctor::{Diagnosis, examine},
        launch::SpawnerSettings,
    },
};

use boatyard_server::checks;

use super::bench::server::until_interrupted;
use crate::{args::Global, failure::Exit, output::Output, sources, text::clean_line};

/// Makes a throw-away sandbox and says what this machine can do, and how to mend what it can't.
///
/// Needs no server and disturbs none. Ends with 1 if Boatyard can't make sandboxes here.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The settings file
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Attack workspaces from inside, in every way that is known, and say what came of each
    ///
    /// By a server and workspaces of its own, which are removed again. Ends with 1 if an attack
    /// got out. Takes about two minutes.
    #[arg(long)]
    escape: bool,
}

pub(crate) fn run(args: Args, global: &Global, output: &Output) -> Result<Exit> {
    let (resolved, data) =
        sources::resolve(args.config.as_deref(), global.data.as_deref(), Vec::new())?;
    let mut settings = SpawnerSettings::new(data.clone());
    settings.tools.clone_from(&resolved.settings.tools.paths);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the async runtime can't be started")?;
    let Diagnosis { isolation, mut checks } = runtime.block_on(examine(&settings));
    checks.extend(runtime.block_on(checks::network(&resolved.settings, &data)));
    let blocked =
        isolation.is_none() || checks.iter().any(|check| check.outcome == Outcome::Blocks);
    if args.escape
        && let (Some(isolation), false) = (isolation, blocked)
    {
        let work = escape::run(isolation, &checks, output);
        let done = runtime.block_on(until_interrupted(work, output))?;
        return done.unwrap_or(Ok(Exit::Interrupted));
    }
    if output.is_json() {
        output.json(&serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ready": !blocked,
            "isolation": isolation,
            "data": data,
            "checks": checks,
        }))?;
    } else {
        for check in &checks {
            output.line(line(check, output))?;
        }
        output.line("")?;
        output.line(match (&isolation, blocked) {
            (Some(isolation), false) => {
                format!(
                    "{} Boatyard runs here. Isolation: {}",
                    output.out.good("✓"),
                    output.out.bold(isolation)
                )
            }
            _ => format!("{} Boatyard can't make sandboxes here yet.", output.out.bad("✗")),
        })?;
    }
    Ok(if blocked { Exit::Failed } else { Exit::Done })
}

fn line(check: &Check, output: &Output) -> String {
    let look = output.out;
    let mark = match check.outcome {
        Outcome::Works => look.good("✓"),
        Outcome::Missing => look.warn("!"),
        Outcome::Blocks => look.bad("✗"),
    };
    let name = format!("{:<22}", clean_line(&check.name));
    let mut line = format!("{mark} {} {}", look.bold(name), clean_line(&check.detail));
    if !check.hint.is_empty() {
        line.push_str(&format!("\n    {} {}", look.name("→"), clean_line(&check.hint)));
    }
    line
}
