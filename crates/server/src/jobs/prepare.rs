//! Making a workspace with a repository in it: from the mirror, through a prepared checkout and
//! the setup's layer, to a branch.
//!
//! ```text
//!   mirror ──► base commit ──► prepared layer ──► setup layer ──► workspace, branch
//!   (fetched)                  (one checkout,     (setup run once, (an overlay: milliseconds)
//!                               then shared)       then shared)
//! ```
//!
//! A layer is made in a workspace of its own (a builder), which is then frozen. The builder has no
//! row: what a crash leaves of one is removed at the next start.

use std::time::Duration;

use boatyard_link::message::{GitAuthor, GitRequest};
use boatyard_model::{
    LayerId, RepositoryId, WorkspaceId, WorkspaceLimits,
    name::{CommitId, EnvironmentName, RepositorySource},
};
use boatyard_runtime::{SnapshotKind, StartSpec};
use boatyard_store::{
    LayerKind, LayerState, NewLayer, OrderRow, Owner, Reason, RepositoryRow, WorkspaceUpdate,
};

use super::{attempt::Phases, disk, setup};
use crate::{
    app::App,
    hub::{Attached, HubError, attached::Purpose},
    mirrors::{
        environment::{Environment, EnvironmentError},
        fetch::{Base, FetchError, Fetched},
    },
    policies::Whose,
};

/// Prepared checkouts that stand on each other; past it, one is made afresh.
const DEPTH: usize = 8;

/// What is wanted of a workspace.
pub struct Wanted {
    /// Whose it is.
    pub owner: Owner,
    /// Its row is there already.
    pub workspace: WorkspaceId,
    /// What it works on.
    pub repository: Option<RepositoryId>,
    /// Where work begins.
    pub base: Option<String>,
    /// The branch to begin.
    pub branch: Option<String>,
    /// The environment that the repository describes under this name.
    pub environment: EnvironmentName,
    /// How long the setup may take.
    pub setup_time: Duration,
    /// What it may use.
    pub limits: WorkspaceLimits,
}

/// A workspace that is ready.
pub struct Prepared {
    /// The commit that work begins at; none in an empty repository.
    pub base: Option<CommitId>,
}

/// Makes the workspace ready, phase by phase.
///
/// # Errors
/// Why it can't be, with the next step.
pub async fn workspace(
    app: &App,
    wanted: Wanted,
    phases: &mut Phases<'_>,
) -> Result<Prepared, Reason> {
    let Some(repository) = wanted.repository else {
        phases.begin("workspace").await;
        start(app, &wanted, Vec::new(), None).await?;
        phases.end("empty").await;
        return Ok(Prepared { base: None });
    };
    phases.begin("repository").await;
    let row = app.store.repository(repository).await.map_err(store_failed)?;
    let base = base(app, &row, wanted.base.as_deref()).await?;
    let environment = match &base.commit {
        Some(commit) => {
            let found = app.mirrors.environment(repository, commit, &wanted.environment).await;
            found.map_err(environment_failed)?
        }
        None if wanted.environment.is_default() => Environment::default(),
        None => {
            let (name, there) = (wanted.environment.clone(), vec![EnvironmentName::default()]);
            return Err(environment_failed(EnvironmentError::Unknown { name, there }));
        }
    };
    let (mut layers, how) = checkout_layers(app, &wanted, &row, &base).await?;
    phases.end(how).await;
    if !environment.setup.is_empty() {
        phases.begin("setup").await;
        let (with_setup, how) =
            setup::layers(app, &wanted, &row, &base, &environment, layers, phases.session())
                .await?;
        layers = with_setup;
        phases.end(how).await;
    }
    phases.begin("workspace").await;
    let attached = start(app, &wanted, layers, base.commit.as_ref()).await?;
    if let (Some(branch), Some(commit)) = (&wanted.branch, &base.commit) {
        let request = GitRequest::Branch {
            folder: row.folder.clone(),
            branch: branch.clone(),
            commit: commit.to_string(),
            author: author(app, wanted.owner).await.map_err(store_failed)?,
        };
        attached.git(request).await.map_err(workspace_failed)?;
    }
    phases.end(isolation(app).await?).await;
    Ok(Prepared { base: base.commit })
}

/// The environment that an order asks for.
pub(super) fn environment_name(order: &OrderRow) -> EnvironmentName {
    // Written by us, from a name.
    order.environment.as_deref().and_then(|name| name.parse().ok()).unwrap_or_default()
}

fn environment_failed(error: EnvironmentError) -> Reason {
    let (code, next) = match &error {
        EnvironmentError::Unknown { .. } => (
            "environment_unknown",
            "Name one of these, or add that file to the repository, and run the task again.",
        ),
        _ => ("environment_invalid", "Mend it in the repository and run the task again."),
    };
    Reason { code: code.to_owned(), text: format!("{}. {next}", sentence(&crate::chain(&error))) }
}

/// With a capital letter at its beginning.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        // A path stays as it is.
        Some(first) if first.is_ascii_lowercase() => {
            format!("{}{}", first.to_ascii_uppercase(), chars.as_str())
        }
        _ => text.to_owned(),
    }
}

/// Makes a workspace ready that belongs to no task: a checkout, detached, without its setup.
///
/// # Errors
/// Why it can't be, with the next step.
pub async fn bare_workspace(
    app: &App,
    owner: Owner,
    workspace: WorkspaceId,
    row: &RepositoryRow,
    base_wanted: Option<&str>,
    limits: WorkspaceLimits,
) -> Result<(), Reason> {
    let wanted = Wanted {
        owner,
        workspace,
        repository: Some(row.id),
        base: base_wanted.map(str::to_owned),
        branch: None,
        environment: EnvironmentName::default(),
        setup_time: Duration::ZERO,
        limits,
    };
    let base = base(app, row, base_wanted).await?;
    let (layers, _) = checkout_layers(app, &wanted, row, &base).await?;
    start(app, &wanted, layers, base.commit.as_ref()).await.map(drop)
}

/// Brings the mirror up to date and finds the base in it.
///
/// # Errors
/// Why it can't be fetched, or that it has no such base.
pub async fn base(app: &App, row: &RepositoryRow, wanted: Option<&str>) -> Result<Base, Reason> {
    let failed = |error: &crate::mirrors::fetch::FetchError| Reason {
        code: "repository_failed".to_owned(),
        text: format!("{}.", crate::chain(error)),
    };
    let source = source(app, row)?;
    let found = async { app.mirrors.base(row.id, wanted).await.map_err(|error| failed(&error)) };
    if matches!(source, RepositorySource::Sent(_)) {
        return found.await;
    }
    let fetched = app.mirrors.fetch(row.id, &source, &app.network.of(row.owner)).await;
    let (noted, found) = tokio::join!(note(app, row, &fetched), found);
    noted.map_err(store_failed)?;
    fetched.map_err(|error| failed(&error))?;
    found
}

/// Keeps what became of a fetch.
async fn note(
    app: &App,
    row: &RepositoryRow,
    fetched: &Result<Fetched, FetchError>,
) -> boatyard_store::Result<()> {
    let id = row.id;
    let outcome = fetched.as_ref().map(|_| ()).map_err(|error| crate::chain(error));
    let branch = app.mirrors.default_branch(id).await.ok().flatten().map(|b| b.to_string());
    let bytes = match fetched {
        Ok(Fetched::Nothing) => row.bytes,
        Ok(Fetched::New) | Err(_) => app.mirrors.bytes(id).await,
    };
    app.store
        .write(move |tx| {
            Box::pin(async move {
                match outcome {
                    Ok(()) => tx.repository_fetched(id, branch, bytes).await,
                    Err(error) => tx.repository_failed(id, error).await,
                }
            })
        })
        .await
}

/// The address of a known repository.
///
/// # Errors
/// When what is stored is no address any more.
pub fn source(app: &App, row: &RepositoryRow) -> Result<RepositorySource, Reason> {
    RepositorySource::parse(&row.source, &app.settings.repositories.default_host)
        .map_err(|error| Reason { code: "repository_failed".to_owned(), text: error.to_string() })
}

/// The layers with a checkout of the base, and how they came about.
async fn checkout_layers(
    app: &App,
    wanted: &Wanted,
    row: &RepositoryRow,
    base: &Base,
) -> Result<(Vec<LayerId>, &'static str), Reason> {
    let commit = base.commit.as_ref().map_or("", CommitId::as_str);
    let key = format!("prepared:{}:{commit}", row.id);
    let organization = wanted.owner.organization;
    if let Some(found) = app.store.find_layer(organization, &key).await.map_err(store_failed)? {
        return Ok((stack(found.id, found.parents), "prepared checkout"));
    }
    let ready = app.store.layers_in(LayerState::Ready).await.map_err(store_failed)?;
    // Another attempt may have made it since.
    if let Some(made) = ready.iter().find(|layer| layer.cache_key.as_ref() == Some(&key)) {
        return Ok((stack(made.id, made.parents.clone()), "prepared checkout"));
    }
    let below = ready
        .into_iter()
        .filter(|layer| layer.kind == LayerKind::Prepared && layer.repository == Some(row.id))
        .filter(|layer| layer.parents.len() + 1 < DEPTH)
        .max_by_key(|layer| layer.created);
    let (parents, how) = match below {
        Some(layer) => (stack(layer.id, layer.parents), "checkout brought up to date"),
        None => (Vec::new(), "fresh checkout"),
    };
    let request = GitRequest::Checkout {
        folder: row.folder.clone(),
        commit: commit.to_owned(),
        origin: row.source.clone(),
    };
    let new = NewLayer {
        id: LayerId::new(),
        owner: wanted.owner,
        repository: Some(row.id),
        kind: LayerKind::Prepared,
        cache_key: Some(key),
        parents,
    };
    let limits = wanted.limits;
    let layers = build(app, new, limits, async |attached: &Attached, _| {
        attached.git(request).await.map_err(workspace_failed)?;
        Ok(())
    })
    .await?;
    Ok((layers, how))
}

/// A layer on top of those below it, the nearest first.
pub fn stack(layer: LayerId, parents: Vec<LayerId>) -> Vec<LayerId> {
    std::iter::once(layer).chain(parents).collect()
}

/// Makes a layer: `work` in a workspace of its own, then frozen. The layer with those below it, the
/// nearest first: its own, or that of somebody who made the same meanwhile, which stands on others.
///
/// # Errors
/// The work's own, or that the machine refused; nothing is left then.
pub async fn build(
    app: &App,
    new: NewLayer,
    limits: WorkspaceLimits,
    work: impl AsyncFnOnce(&Attached, WorkspaceId) -> Result<(), Reason>,
) -> Result<Vec<LayerId>, Reason> {
    let (layer, builder) = (new.id, WorkspaceId::new());
    let whose = Whose {
        organization: new.owner.organization,
        member: new.owner.member,
        repository: new.repository,
        workspace: builder,
    };
    let spec =
        StartSpec { generation: 1, layers: new.parents.clone(), mirror: new.repository, limits };
    app.store
        .write(move |tx| Box::pin(async move { tx.create_layer(new).await }))
        .await
        .map_err(store_failed)?;
    let built = async {
        app.runtime.create(builder).await.map_err(runtime_failed)?;
        app.runtime.start(builder, &spec).await.map_err(runtime_failed)?;
        let connection = app.runtime.connect(builder).await.map_err(runtime_failed)?;
        let attached =
            Attached::start(connection, Purpose::Builder).await.map_err(workspace_failed)?;
        let egress = app.hub.serve_builder(whose).await.map_err(workspace_failed)?;
        let worked = tokio::select! {
            worked = work(&attached, builder) => worked,
            bytes = disk::taken_too_much(app, builder, limits.disk_bytes) => Err(Reason {
                code: "limit_disk".to_owned(),
                text: format!(
                    "What is prepared takes {}, more than the {} that a workspace may take \
                     (`[limits] disk` in boatyard.toml).",
                    disk::mib(bytes),
                    disk::mib(limits.disk_bytes)
                ),
            }),
        };
        drop(egress);
        worked?;
        app.runtime.kill(builder).await.map_err(runtime_failed)?;
        let usage = app.runtime.disk_usage(builder).await.map_err(runtime_failed)?;
        app.runtime.snapshot(builder, layer, SnapshotKind::Moved).await.map_err(runtime_failed)?;
        Ok::<u64, Reason>(usage.bytes)
    };
    let built = built.await;
    if let Err(error) = app.runtime.kill(builder).await {
        tracing::warn!(workspace.id = %builder, error = %crate::chain(&error), "a builder was not ended");
    }
    match app.runtime.remove(builder).await {
        Ok(()) | Err(boatyard_runtime::Error::NotFound(_)) => {}
        Err(error) => {
            tracing::warn!(workspace.id = %builder, error = %crate::chain(&error), "a builder was not removed");
        }
    }
    let made = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                match built {
                    Ok(bytes) => Ok(Ok(tx.layer_ready(layer, bytes).await?)),
                    Err(reason) => {
                        tx.delete_layer(layer).await?;
                        Ok(Err(reason))
                    }
                }
            })
        })
        .await
        .map_err(store_failed)??;
    let made = app.store.layer(made).await.map_err(store_failed)?;
    Ok(stack(made.id, made.parents))
}

/// Starts the workspace on these layers.
async fn start(
    app: &App,
    wanted: &Wanted,
    layers: Vec<LayerId>,
    base: Option<&CommitId>,
) -> Result<std::sync::Arc<Attached>, Reason> {
    let workspace = wanted.workspace;
    let base_commit = base.map(ToString::to_string);
    let used = layers.clone();
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let known = WorkspaceUpdate {
                    lowers: Some(layers),
                    base_commit,
                    ..WorkspaceUpdate::default()
                };
                tx.touch_layers(&used).await?;
                tx.update_workspace(workspace, known).await
            })
        })
        .await
        .map_err(store_failed)?;
    match app.runtime.create(workspace).await {
        Ok(()) | Err(boatyard_runtime::Error::Exists(_)) => {}
        Err(error) => return Err(runtime_failed(error)),
    }
    app.hub.wake(workspace).await.map_err(workspace_failed)
}

/// Removes what an earlier server had made of a workspace that is begun anew.
///
/// # Errors
/// When the machine refuses.
pub async fn clear(app: &App, workspace: WorkspaceId) -> Result<(), Reason> {
    app.hub.kill(workspace).await.map_err(workspace_failed)?;
    match app.runtime.remove(workspace).await {
        Ok(()) | Err(boatyard_runtime::Error::NotFound(_)) => Ok(()),
        Err(error) => Err(runtime_failed(error)),
    }
}

/// Who commits in somebody's workspaces.
///
/// # Errors
/// When the store can't be read.
pub async fn author(app: &App, owner: Owner) -> boatyard_store::Result<GitAuthor> {
    let (name, email) = app.hub.git().signing.author(owner).await?;
    Ok(GitAuthor { name, email, signs: app.settings.git.sign })
}

pub(super) fn store_failed(error: boatyard_store::Error) -> Reason {
    let text = match error.is_full() {
        true => "The disk is full. Free some space, or run `boatyard gc`, and run the task again."
            .to_owned(),
        false => format!("The database failed: {}.", crate::chain(&error)),
    };
    Reason { code: "store_failed".to_owned(), text }
}

pub(super) fn runtime_failed(error: boatyard_runtime::Error) -> Reason {
    let text = format!("The workspace could not be made: {}.", crate::chain(&error));
    Reason { code: "workspace_failed".to_owned(), text }
}

/// How strongly workspaces are shut off here.
pub(super) async fn isolation(app: &App) -> Result<String, Reason> {
    let known = app.runtime.capabilities().await;
    Ok(known.map_err(|error| workspace_failed(error.into()))?.isolation.to_string())
}

pub(super) fn workspace_failed(error: HubError) -> Reason {
    Reason { code: "workspace_failed".to_owned(), text: format!("{}.", crate::chain(&error)) }
}
