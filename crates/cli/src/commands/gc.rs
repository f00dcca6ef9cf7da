//! `boatyard gc`: remove what nothing refers to any more.

use anyhow::Result;
use boatyard_api::system::GarbageRequest;

use super::Context;
use crate::{
    failure::Exit,
    text::{bytes, count},
};

/// Removes workspaces, layers, mirrors and blobs that nothing refers to any more.
///
/// Boatyard does it once a day, and when the disk runs full. Work that was never pushed or applied
/// stays.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: Args, context: &Context<'_>) -> Result<Exit> {
    let output = context.output;
    let request = GarbageRequest { dry_run: args.dry_run };
    let report = context.client.collect_garbage(&request).await?;
    if output.is_json() {
        output.json(&report)?;
        return Ok(Exit::Done);
    }
    let what = [
        (report.workspaces, "workspace"),
        (report.layers, "layer"),
        (report.mirrors, "mirror"),
        (report.blobs, "blob"),
    ];
    let parts: Vec<String> =
        what.iter().filter(|(n, _)| *n > 0).map(|(n, name)| count(*n, name)).collect();
    let verb = if report.dry_run { "Would remove" } else { "Removed" };
    output.line(if parts.is_empty() {
        "Nothing to remove.".to_owned()
    } else {
        format!("{verb} {} ({}).", parts.join(", "), bytes(report.bytes))
    })?;
    Ok(Exit::Done)
}
