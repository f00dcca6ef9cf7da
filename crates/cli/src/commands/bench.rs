//! `boatyard bench`: what this machine does, in percentiles.
//!
//! Each suite goes the product's own way, in a temporary data folder that is removed again: what a
//! server does is asked of a real one in a process of its own ([`server`]), what the store does of a
//! real database on the same disk. Nothing here is a threshold: figures are for reading, tests don't
//! look at them.
//!
//! - [`measure`]: samples → percentiles.
//! - [`workspaces`]: create, exec, fork, stop, idle, reattach.
//! - [`storage`]: events, watch, jobs.
//! - [`fanout`]: watch, of a real server.
//! - [`lists`]: list, of tasks and of sessions.
//! - [`answers`]: server, repository.
//! - [`egress`]: egress, large and small.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use self::{
    measure::{Machine, Measured},
    server::{Server, until_interrupted},
};
use crate::{
    args::Global,
    failure::Exit,
    output::{Output, table::Table},
};

mod answers;
mod egress;
mod fanout;
mod lists;
mod measure;
pub(super) mod server;
mod storage;
mod workspaces;

/// Measures this machine, in a temporary data folder that is removed again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which suite; all of them if none is named
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// How many at once in the crowd of the suite `create`
    #[arg(long, value_name = "N", default_value_t = 1000)]
    crowd: usize,
    /// A tenth of the samples: a look rather than a measurement
    #[arg(long)]
    quick: bool,
    /// Where the temporary data folder is made; the disk matters
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// A workspace from the request to its first command done: one after the other, and many at once
    Create,
    /// A command in a workspace that runs
    Exec,
    /// A fork of a quiet workspace with 10,000 files
    Fork,
    /// A workspace with processes, from the request to every process dead
    Stop,
    /// The memory of a workspace in which nothing happens
    Idle,
    /// A new server after kill -9, until it has its workspaces again
    Reattach,
    /// Events stored durably: many, and one alone
    Events,
    /// An event from the store to somebody who watches, and to many
    Watch,
    /// Jobs: enqueued, claimed and completed, begun
    Jobs,
    /// The server: first answer, memory and wake-ups at rest
    Server,
    /// A list of 50 tasks or sessions, of 100,000
    List,
    /// A repository of 100 MB, ready in a workspace
    Repository,
    /// What leaves a workspace by the rules, beside the same without a workspace
    Egress,
}

/// How much is done for a suite.
#[derive(Debug, Clone, Copy)]
struct Effort {
    quick: bool,
    crowd: usize,
}

impl Effort {
    /// So many samples, or a tenth.
    fn samples(self, n: usize) -> usize {
        if self.quick { (n / 10).max(3) } else { n }
    }
}

pub(crate) fn run(args: Args, _: &Global, output: &Output) -> Result<Exit> {
    let suites = match args.suites.is_empty() {
        true => Suite::value_variants().to_vec(),
        false => args.suites.clone(),
    };
    let effort = Effort { quick: args.quick, crowd: args.crowd };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime can't be started")?;
    let mut results = Vec::new();
    let mut failed = false;
    for suite in suites {
        let name = suite.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
        output.note(output.err.dim(format!("{name} …")));
        let work = measure(suite, effort, args.folder.as_deref());
        let Some(done) = runtime.block_on(until_interrupted(work, output))? else {
            return Ok(Exit::Interrupted);
        };
        match done {
            Ok(measured) => results.extend(measured),
            // One that can't be measured here does not hide the others.
            Err(error) => {
                failed = true;
                output.error(&error.context(format!("{name} could not be measured")), None);
            }
        }
    }
    if output.is_json() {
        output.json(&serde_json::json!({ "machine": Machine::look(), "results": results }))?;
    } else {
        output.line(table(&results).render(output.out))?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

async fn measure(
    suite: Suite,
    effort: Effort,
    folder: Option<&std::path::Path>,
) -> Result<Vec<Measured>> {
    match suite {
        Suite::Events => storage::events(folder, effort).await,
        Suite::Jobs => storage::jobs(folder, effort).await,
        Suite::Egress => egress::egress(folder, effort).await,
        _ => {
            let mut server = Server::start(folder).await?;
            let result = match suite {
                Suite::Create => workspaces::create(&server, effort).await,
                Suite::Exec => workspaces::exec(&server, effort).await,
                Suite::Fork => workspaces::fork(&server, effort).await,
                Suite::Stop => workspaces::stop(&server, effort).await,
                Suite::Idle => workspaces::idle(&server, effort).await,
                Suite::Reattach => workspaces::reattach(&mut server, effort).await,
                Suite::Server => answers::server(&mut server, effort).await,
                Suite::Watch => match storage::watch(folder, effort).await {
                    Ok(mut told) => fanout::fanout(&server, effort).await.map(|many| {
                        told.extend(many);
                        told
                    }),
                    refused => refused,
                },
                Suite::List => lists::lists(&mut server, effort).await,
                Suite::Repository => answers::repository(&server, effort).await,
                Suite::Events | Suite::Jobs | Suite::Egress => unreachable!("measured above"),
            };
            server.end().await?;
            result
        }
    }
}

fn table(results: &[Measured]) -> Table {
    let header = ["SUITE", "WHAT", "UNIT", "N", "P50", "P90", "P99", "MAX", "PER SECOND"];
    let mut table = Table::new(&header, 1);
    for result in results {
        table.row(vec![
            result.suite.to_owned(),
            result.name.clone(),
            result.unit.to_owned(),
            result.n.to_string(),
            figure(result.p50),
            figure(result.p90),
            figure(result.p99),
            figure(result.max),
            result.per_second.map(figure).unwrap_or_default(),
        ]);
    }
    table
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
