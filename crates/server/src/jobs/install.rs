//! Installing agents: packages of npm or PyPI, put together in a throw-away workspace, kept as a
//! folder that every workspace sees read-only.
//!
//! ```text
//!   tool row `installing` ─► node ─► packages ─► check ─► keep ─► try ─► `ready`
//!                            (its    (npm, pip   (without (renamed (started once,
//!                            own job) as id 1000) network) whole)  asked what it offers)
//! ```
//!
//! What a package runs while it is installed runs in a workspace that holds nothing: no secret, no
//! repository, no way out but to the package sources. Nothing of it ever runs on the host.
//!
//! The job begins anew from its first step after a crash; the tool's folder appears by one rename,
//! so that there is never half of one. A failed installation is told in its row and not tried again
//! by itself. [`recipe`] says what is installed, `builder` where, `trial` starts the agent once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use boatyard_agent::catalogue::{Entry, Install, Package, Protocol};
use boatyard_model::{ToolId, name::AgentName};
use boatyard_store::{
    Again, NewJob, NewTool, Owner, Reason, ToolKind, ToolMade, ToolRow, ToolState,
};
use serde_json::{Value, json};

use self::{
    builder::{Builder, Way},
    recipe::{Recipe, Source},
};
use super::{Done, prepare::store_failed};
use crate::{agents, app::App};

mod builder;
mod reason;
pub mod recipe;
pub mod trial;

/// Installs a tool. Its payload is `{"tool"}`.
pub const JOB: &str = "install";
/// How a tool that is a Node is called.
const NODE: &str = "node";
/// How long the check of an installed program may take.
const CHECK: Duration = Duration::from_secs(120);
/// When it is looked again whether there is a place to install in.
const TURN: Duration = Duration::from_secs(2);
/// The largest `package.json` that is read, in bytes.
const MANIFEST_MAX: usize = 1 << 20;

/// The job for a tool.
pub fn job(owner: Owner, tool: ToolId) -> NewJob {
    let mut job = NewJob::new(JOB, json!({ "tool": tool })).about(tool);
    job.owner = owner;
    job.once_for(format!("{JOB}:{tool}"))
}

/// Asks for a tool, with the job that installs it, unless it is there or under way.
///
/// # Errors
/// When the store refuses.
pub async fn wish(
    app: &App,
    owner: Owner,
    kind: ToolKind,
    name: &str,
    recipe: &Recipe,
    again: Again,
) -> boatyard_store::Result<ToolId> {
    let new = NewTool {
        id: ToolId::new(),
        owner,
        kind,
        name: name.to_owned(),
        version: recipe.first().1.to_owned(),
        recipe: recipe.text(),
    };
    let wished = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let wished = tx.install_tool(new, again).await?;
                if let boatyard_store::Wished::New(id) = wished {
                    tx.enqueue(job(owner, id)).await?;
                }
                Ok(wished)
            })
        })
        .await?;
    app.agents.refresh(&app.store).await?;
    Ok(wished.id())
}

/// Installs what the payload names.
///
/// # Errors
/// What went wrong and may go well another time: the store's and the stop's.
pub async fn run(app: &App, payload: &Value) -> anyhow::Result<Done> {
    let id: ToolId = serde_json::from_value(payload["tool"].clone())?;
    let row = match app.store.tool(id).await {
        Ok(row) if row.state == ToolState::Installing => row,
        Ok(_) | Err(boatyard_store::Error::NotFound { .. }) => return Ok(Done::Yes),
        Err(error) => return Err(error.into()),
    };
    // One that waits keeps no worker: agents' turns are brought by the same. A Node needs no place,
    // since an agent that has one waits for it.
    let place = match row.kind {
        ToolKind::Node => None,
        ToolKind::Agent => match app.agents.try_build() {
            Some(place) => Some(place),
            None => return Ok(Done::Later(TURN)),
        },
    };
    let made = install(app, &row).await;
    drop(place);
    if app.stopping.is_cancelled() && made.is_err() {
        anyhow::bail!("the server is going down");
    }
    let made = match made {
        Ok(made) => made,
        Err(reason) => {
            // A folder that was kept just before belongs to nothing.
            if let Err(error) = app.runtime.remove_tool(id).await {
                tracing::warn!(tool.id = %id, error = %crate::chain(&error), "a tool's folder was not removed");
            }
            let text = reason.text;
            app.store.write(move |tx| Box::pin(tx.tool_failed(id, text))).await?;
            app.agents.refresh(&app.store).await?;
            return Ok(Done::Yes);
        }
    };
    let (organization, recipe) = (row.owner.organization, row.recipe);
    let older: Vec<ToolId> = app
        .store
        .list_tools(organization)
        .await?
        .into_iter()
        .filter(|other| {
            other.id != id
                && (other.kind, &other.name, &other.recipe) == (row.kind, &row.name, &recipe)
        })
        .map(|other| other.id)
        .collect();
    app.store
        .write(move |tx| {
            Box::pin(async move {
                tx.tool_ready(id, made).await?;
                // What was installed anew replaces what it was before, and failures before it. What
                // a session still runs on stays until it is removed.
                for other in older {
                    tx.delete_tool_if_unused(other).await?;
                }
                Ok(())
            })
        })
        .await?;
    app.agents.refresh(&app.store).await?;
    sweep_deleted(app).await?;
    Ok(Done::Yes)
}

async fn install(app: &App, row: &ToolRow) -> Result<ToolMade, Reason> {
    let id = row.id;
    let deadline = Instant::now() + app.settings.limits.install_time.duration();
    // What an earlier try kept before its server died.
    app.runtime.remove_tool(id).await.map_err(super::prepare::runtime_failed)?;
    let recipe = Recipe::parse(&row.recipe).map_err(|error| failed(error.to_string()))?;
    if app.settings.egress.offline {
        return Err(failed(
            "Nothing may leave this server: `[egress] offline` is set in boatyard.toml. Install \
             while it is not, or use an agent of this machine: `boatyard agent add NAME --from-host \
             PROGRAM`.",
        ));
    }
    let node = match &recipe.node {
        None => None,
        Some(version) => {
            phase(app, id, "node").await?;
            Some(brought_node(app, row.owner, version, deadline).await?)
        }
    };
    let program = program_of(app, row, &recipe)?;
    phase(app, id, "packages").await?;
    let builder = Builder::start(app, Way::Packages).await?;
    let made = async {
        let ran = builder.run(&command(&recipe), node, deadline).await;
        ran.map_err(|why| Reason { text: reason::explained(&recipe, &why.text), ..why })?;
        phase(app, id, "check").await?;
        builder.close_way();
        let version = found_version(&builder, &recipe, deadline).await;
        if let Some(program) = &program {
            check(&builder, program, &recipe, node, deadline.min(Instant::now() + CHECK)).await?;
        }
        phase(app, id, "keep").await?;
        builder.keep(id).await?;
        Ok(version)
    };
    let made = made.await;
    builder.end().await;
    let version = made?.unwrap_or_else(|| recipe.first().1.to_owned());
    let usage = app.runtime.tool_usage(id).await.map_err(super::prepare::runtime_failed)?;
    let mut tool = ToolMade { version, node, bytes: usage.bytes, offers: None, reason: None };
    if let Some((name, entry)) = known(app, row).filter(|(_, e)| e.protocol == Protocol::Acp) {
        phase(app, id, "try").await?;
        let installed =
            agents::InstalledTool { id, version: tool.version.clone(), node, offers: None };
        match trial::offers(app, &name, &entry, Some(&installed)).await {
            Ok(offers) => tool.offers = Some(offers),
            // It is whole all the same; what hinders it may be a setting.
            Err(reason) => tool.reason = Some(reason.text),
        }
    }
    Ok(tool)
}

/// The agent of a tool, if the catalogue still has it.
fn known(app: &App, row: &ToolRow) -> Option<(AgentName, Entry)> {
    if row.kind != ToolKind::Agent {
        return None;
    }
    let name: AgentName = row.name.parse().ok()?;
    let entry = app.agents.current().get(&name).ok()?.clone();
    Some((name, entry))
}

/// What is checked after the installation.
struct Program {
    /// Below the folder.
    bin: String,
    arguments: Vec<String>,
    prints: Option<String>,
}

fn program_of(app: &App, row: &ToolRow, recipe: &Recipe) -> Result<Option<Program>, Reason> {
    if row.kind == ToolKind::Node {
        let version = recipe.first().1;
        return Ok(Some(Program {
            bin: "node_modules/node/bin/node".to_owned(),
            arguments: vec!["--version".to_owned()],
            prints: Some(format!("v{version}")),
        }));
    }
    let Some((_, entry)) = known(app, row) else {
        return Err(failed(format!("There is no agent `{}` any more.", row.name)));
    };
    let (Install::Npm(package) | Install::Pypi(package)) = &entry.install else {
        return Err(failed(format!(
            "The agent `{}` is not installed from packages any more.",
            row.name
        )));
    };
    Ok(Some(Program {
        bin: package.program(),
        arguments: package.check.clone(),
        prints: package.prints.as_deref().map(|prints| printed(prints, package, recipe)),
    }))
}

/// What a check must print when other versions are installed than those that the entry pins.
fn printed(prints: &str, package: &Package, recipe: &Recipe) -> String {
    let installed: BTreeMap<&str, &str> =
        recipe.packages.iter().filter_map(|text| recipe::split(text)).collect();
    let pinned = package.specs();
    let pinned = pinned.iter().filter_map(|text| recipe::split(text));
    pinned.fold(prints.to_owned(), |text, (name, version)| match installed.get(name) {
        Some(other) if *other != version => text.replace(version, other),
        _ => text,
    })
}

/// What installs the packages, as an argument vector.
fn command(recipe: &Recipe) -> Vec<String> {
    let fixed: &[&str] = match recipe.source {
        Source::Npm => &[
            "npm",
            "install",
            "--prefix",
            builder::PLACE,
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            "--no-progress",
            // What a package runs is confined by the workspace; some are nothing without it.
            "--ignore-scripts=false",
        ],
        Source::Pypi => &[
            "python3",
            "-m",
            "pip",
            "install",
            "--target",
            builder::PLACE,
            "--no-input",
            "--disable-pip-version-check",
            "--no-warn-script-location",
            "--progress-bar=off",
            "--root-user-action=ignore",
        ],
    };
    let mut argv: Vec<String> = fixed.iter().map(|&text| text.to_owned()).collect();
    if recipe.omit_optional && recipe.source == Source::Npm {
        argv.push("--omit=optional".to_owned());
    }
    argv.extend(recipe.packages.iter().map(|package| match recipe.source {
        Source::Npm => package.clone(),
        Source::Pypi => package.replacen('@', "==", 1),
    }));
    argv
}

/// The version that the first package turned out to be: a pin may be a part of one.
async fn found_version(
    builder: &Builder<'_>,
    recipe: &Recipe,
    deadline: Instant,
) -> Option<String> {
    if recipe.source == Source::Pypi {
        return None;
    }
    let manifest = format!("{}/node_modules/{}/package.json", builder::PLACE, recipe.first().0);
    let command = ["cat".to_owned(), manifest];
    let text = builder.output(&command, None, deadline, MANIFEST_MAX).await.ok()?;
    let version = serde_json::from_str::<Value>(&text).ok()?["version"].as_str()?.to_owned();
    let is_version = version.len() <= 100
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+_".contains(&b));
    is_version.then_some(version)
}

/// Runs the program as its entry says and looks at what it prints.
async fn check(
    builder: &Builder<'_>,
    program: &Program,
    recipe: &Recipe,
    node: Option<ToolId>,
    deadline: Instant,
) -> Result<(), Reason> {
    let path = format!("{}/{}", builder::PLACE, program.bin);
    let mut argv = if program.arguments.is_empty() {
        vec!["test".to_owned(), "-e".to_owned(), path]
    } else if [".js", ".mjs", ".cjs"].iter().any(|end| path.ends_with(end)) {
        vec![NODE.to_owned(), path]
    } else {
        vec![path]
    };
    argv.extend(program.arguments.iter().cloned());
    let said = builder.run(&argv, node, deadline).await.map_err(|reason| Reason {
        text: format!(
            "{} was installed, but its check failed: {}",
            recipe.packages.join(" "),
            reason.text
        ),
        ..reason
    })?;
    match &program.prints {
        Some(prints) if !said.contains(prints.as_str()) => Err(failed(format!(
            "{} was installed, but `{}` does not print `{prints}`; it printed:\n{said}",
            recipe.packages.join(" "),
            argv.join(" "),
        ))),
        _ => Ok(()),
    }
}

/// The Node of this version: the one that is there, or the one that a job of its own installs.
async fn brought_node(
    app: &App,
    owner: Owner,
    version: &str,
    deadline: Instant,
) -> Result<ToolId, Reason> {
    let recipe = Recipe::node(version);
    let wished = wish(app, owner, ToolKind::Node, NODE, &recipe, Again::No).await;
    let id = wished.map_err(store_failed)?;
    let mut views = app.agents.watch();
    let settled = views.wait_for(|view| {
        let row = view.tools.iter().find(|row| row.id == id);
        row.is_none_or(|row| row.state != ToolState::Installing)
    });
    let view = tokio::select! {
        () = app.stopping.cancelled() => return Err(failed("The server is going down.")),
        view = tokio::time::timeout_at(deadline.into(), settled) => view,
    };
    let row = match &view {
        Ok(Ok(view)) => view.tools.iter().find(|row| row.id == id),
        Ok(Err(_)) => None,
        Err(_) => return Err(failed(format!("Node {version} took too long to install."))),
    };
    match row {
        Some(row) if row.state == ToolState::Ready => Ok(id),
        row => {
            let why = row.and_then(|row| row.reason.as_deref()).unwrap_or("it was removed");
            Err(failed(format!("Node {version}, which it runs on, could not be installed: {why}")))
        }
    }
}

async fn phase(app: &App, id: ToolId, phase: &'static str) -> Result<(), Reason> {
    app.store.write(move |tx| Box::pin(tx.tool_phase(id, phase))).await.map_err(store_failed)?;
    app.agents.refresh(&app.store).await.map_err(store_failed)
}

fn failed(text: impl Into<String>) -> Reason {
    Reason { code: "install_failed".to_owned(), text: text.into() }
}

/// At the start and once a day: folders that no row names, rows whose folder is gone, and what was
/// marked to go.
///
/// # Errors
/// When the store or the runtime refuses.
pub async fn tidy(app: &App) -> anyhow::Result<()> {
    sweep_deleted(app).await?;
    // Rows first: what becomes ready after that has its folder.
    let ready = app.store.tools_in(ToolState::Ready).await?;
    let there: std::collections::HashSet<ToolId> =
        app.runtime.list_tools().await?.into_iter().collect();
    for row in ready {
        if !there.contains(&row.id) {
            tracing::warn!(tool.id = %row.id, tool.name = row.name, "an installed tool's files are gone");
            let id = row.id;
            app.store.write(move |tx| Box::pin(tx.tool_lost(id))).await?;
        }
    }
    for id in there {
        match app.store.tool(id).await {
            // One under way looks for itself.
            Ok(row) if matches!(row.state, ToolState::Ready | ToolState::Installing) => {}
            Ok(_) | Err(boatyard_store::Error::NotFound { .. }) => {
                app.runtime.remove_tool(id).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    app.agents.refresh(&app.store).await?;
    Ok(())
}

/// Removes the files of what was marked to go, then its row.
///
/// # Errors
/// When the store or the runtime refuses.
pub async fn sweep_deleted(app: &App) -> anyhow::Result<()> {
    for row in app.store.tools_in(ToolState::Deleted).await? {
        app.runtime.remove_tool(row.id).await?;
        let id = row.id;
        app.store.write(move |tx| Box::pin(tx.remove_tool(id))).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_expects_the_version_that_is_installed() {
        let package = Package {
            packages: vec!["it@1.2.3".into(), "more@4.0.0".into()],
            bin: "x".into(),
            node: None,
            omit_optional: false,
            check: Vec::new(),
            prints: None,
        };
        let recipe = Recipe {
            source: Source::Npm,
            packages: vec!["it@1.3.0".into(), "more@4.0.0".into()],
            omit_optional: true,
            node: None,
        };
        assert_eq!(printed("it 1.2.3 (4.0.0)", &package, &recipe), "it 1.3.0 (4.0.0)");
        let argv = command(&recipe);
        assert_eq!(argv[argv.len() - 3..], ["--omit=optional", "it@1.3.0", "more@4.0.0"]);
        let argv = command(&Recipe { source: Source::Pypi, ..recipe });
        assert_eq!(argv[argv.len() - 2..], ["it==1.3.0", "more==4.0.0"]);
    }
}
