//! The setup that a repository asks for: run once for a base tree and a setup file, kept as a
//! layer, shown as it runs.

use std::time::Instant;

use boatyard_link::message::ExecRequest;
use boatyard_model::LayerId;
use boatyard_store::{LayerKind, NewLayer, Reason, RepositoryRow, SessionRow};

use super::{
    prepare::{Wanted, build, stack, store_failed, workspace_failed},
    shown::{Shown, title},
};
use crate::{
    app::App,
    hub::Attached,
    mirrors::{environment::Environment, fetch::Base},
};

/// Lines of a failed command's end that its reason repeats.
const LINES: usize = 12;
/// What a layer depends on beside tree and file; raised when the base of sandboxes changes.
const ROOT_VERSION: u32 = 1;

/// The layers with the setup done, and how that came about.
///
/// # Errors
/// Which command failed, with the end of what it said.
pub(super) async fn layers(
    app: &App,
    wanted: &Wanted,
    row: &RepositoryRow,
    base: &Base,
    environment: &Environment,
    below: Vec<LayerId>,
    session: &SessionRow,
) -> Result<(Vec<LayerId>, String), Reason> {
    let key = format!("setup:{ROOT_VERSION}:{}:{}:{}", row.folder, base.tree, environment.hash);
    let organization = wanted.owner.organization;
    if let Some(found) = app.store.find_layer(organization, &key).await.map_err(store_failed)? {
        return Ok((stack(found.id, found.parents), "from the cache".to_owned()));
    }
    let new = NewLayer {
        id: LayerId::new(),
        owner: wanted.owner,
        repository: Some(row.id),
        kind: LayerKind::Setup,
        cache_key: Some(key),
        parents: below,
    };
    let deadline = Instant::now() + wanted.setup_time;
    let layers = build(app, new, wanted.limits, async |attached: &Attached, builder| {
        // What it makes is for all of the organization: nobody's own goes into it.
        let mut variables = app.connections.variables(organization, None, builder);
        variables.extend(environment.variables.clone());
        for (i, command) in environment.setup.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let shown = Shown {
                app,
                session,
                tool: format!("setup-{}", i + 1),
                limit: wanted.setup_time,
                what: "the setup",
            };
            let request = ExecRequest {
                command: command.clone(),
                environment: variables.clone(),
                cwd: Some(format!("/work/{}", row.folder)),
                deadline_millis: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)),
                stdin: false,
            };
            let outcome = shown.run(attached, request).await.map_err(workspace_failed)?;
            if let Some(fault) = outcome.fault {
                let lines: Vec<&str> = outcome.output.lines().collect();
                let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
                return Err(Reason {
                    code: "setup_failed".to_owned(),
                    text: format!(
                        "The setup command `{}` {fault}. Mend {} or what it runs, and run the task \
                         again.\n{end}",
                        title(command),
                        environment.path
                    ),
                });
            }
        }
        Ok(())
    })
    .await?;
    let n = environment.setup.len();
    let how = if n == 1 { "1 command".to_owned() } else { format!("{n} commands") };
    Ok((layers, how))
}
