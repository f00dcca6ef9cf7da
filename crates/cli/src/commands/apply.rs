//! `boatyard apply`: what a task changed, into the user's own checkout.

use std::path::PathBuf;

use anyhow::Result;
use boatyard_api::model::name::Branch;

use super::Context;
use crate::{
    checkout::{
        Checkout,
        bring::{Brought, Bundle},
    },
    failure::{Exit, Failure},
    ids,
    text::{clean_line, count},
    watch::stat,
};

/// Brings what a task changed into your own checkout.
///
/// Without --branch, the changes are applied to the working tree, uncommitted, by a three-way
/// merge. With it, the result's commits become a branch. Work of yours that is in no commit is
/// never lost: where it would be, nothing is done.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(help = ids::HELP)]
    id: String,
    /// Make it a branch of this name; the result's own name if none is given
    #[arg(long, value_name = "NAME", num_args = 0..=1)]
    branch: Option<Option<Branch>>,
    /// The attempt, by its number; the best one if absent
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// The checkout
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
}

pub(crate) async fn run(args: Args, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let id = ids::task(client, &args.id).await?;
    let checkout = Checkout::find(&args.repo).await?;
    let result = client.find_task_result(id, args.attempt).await?;
    if result.head == result.base {
        return Err(Failure::new(format!("task {id} changed nothing"))
            .next(format!("say more with `boatyard prompt {id} \"…\"`"))
            .into());
    }
    let bundle = Bundle::download(client, id, Some(result.attempt)).await?;
    let (brought, branch) = match args.branch {
        Some(name) => {
            let name = match name {
                Some(name) => name,
                None => result.branch.parse()?,
            };
            let brought =
                checkout.bring_branch(&bundle, &result.branch, &result.base, &name).await?;
            (brought, Some(name))
        }
        None => {
            let brought =
                checkout.bring_changes(&bundle, &result.branch, &result.base, &result.head).await?;
            (brought, None)
        }
    };
    if output.is_json() {
        let conflicts = match &brought {
            Brought::Changes { conflicts } => conflicts.clone(),
            Brought::Branch => Vec::new(),
        };
        output.json(&serde_json::json!({
            "task": id, "attempt": result.attempt, "head": result.head,
            "branch": branch, "conflicts": conflicts,
        }))?;
    } else {
        for line in stat::diffstat(&result.files, output.out) {
            output.line(line)?;
        }
        output.line(format!(" {}", stat::sum(&result)))?;
    }
    match (brought, branch) {
        (Brought::Changes { conflicts }, _) if !conflicts.is_empty() => {
            let names: Vec<String> = conflicts.iter().map(|path| clean_line(path)).collect();
            output.warning(format!(
                "{} with conflicts, marked in place: {}",
                count(conflicts.len() as u64, "file"),
                names.join(", ")
            ));
            Ok(Exit::Failed)
        }
        (_, Some(name)) => {
            output.note(format!("\nIt is the branch {name}: git switch {name}"));
            Ok(Exit::Done)
        }
        _ => {
            output.note("\nThe changes are in your working tree: git diff HEAD");
            Ok(Exit::Done)
        }
    }
}
