//! Repositories.

use boatyard_api::{
    Cursor, Problem,
    page::limit,
    repository::{
        BUNDLE_MAX, NewRepository, Ref, Repository, RepositoryFilter, RepositoryKind,
        RepositoryPage,
    },
};
use boatyard_model::{RepositoryId, Wish, name::RepositorySource};
use boatyard_store::{BUILT_IN_ORGANIZATION, RepositoryRow};
use tokio_util::io::StreamReader;

use super::store_problem;
use crate::{
    access::{self, things},
    app::App,
    auth::Caller,
    mirrors::fetch::{FetchError, below_roots},
    stream::ByteStream,
};

/// Registers a repository, or finds it.
///
/// # Errors
/// When its address makes no sense.
pub async fn create_repository(
    app: &App,
    caller: &Caller,
    new: NewRepository,
) -> Result<Repository, Problem> {
    let row = resolve_as(app, caller, &new.source, "source", Wish::Look).await?;
    repository(app, row).await
}

/// The repository that a task names: an address, or the id of one that is known.
pub(crate) async fn resolve(
    app: &App,
    caller: &Caller,
    text: &str,
    wish: Wish,
) -> Result<RepositoryRow, Problem> {
    resolve_as(app, caller, text, "repository", wish).await
}

async fn resolve_as(
    app: &App,
    caller: &Caller,
    text: &str,
    field: &str,
    wish: Wish,
) -> Result<RepositoryRow, Problem> {
    if let Ok(id) = text.parse::<RepositoryId>() {
        let row = app.store.repository(id).await.map_err(|e| store_problem(e).at(field))?;
        things::repository(app, caller, &row, wish).await.map_err(|e| e.at(field))?;
        return Ok(row);
    }
    let host = &app.settings.repositories.default_host;
    let source =
        RepositorySource::parse(text, host).map_err(|error| Problem::invalid(field, error))?;
    if let RepositorySource::Path(path) = &source {
        if caller.owner.organization != BUILT_IN_ORGANIZATION {
            let detail = "folders of the server's machine are for the server's first organization";
            return Err(Problem::repository_unusable(detail).at(field).with_next(
                "Name an address, or use the command line, which sends the repository.",
            ));
        }
        below_roots(path, &app.settings).await.map_err(|error| {
            Problem::repository_unusable(error.to_string()).at(field).with_next(
                "Name its folder under [repositories] roots, or use the command line, which sends it.",
            )
        })?;
    }
    if things::at_address(app, caller, &source).await?.is_none() {
        return Err(Problem::not_found("repository", text).at(field));
    }
    let owner = caller.owner;
    let row = app
        .store
        .write(move |tx| {
            Box::pin(async move { tx.find_or_create_repository(owner, &source).await })
        })
        .await
        .map_err(store_problem)?;
    things::repository(app, caller, &row, wish).await.map_err(|e| e.at(field))?;
    Ok(row)
}

async fn repository(app: &App, row: RepositoryRow) -> Result<Repository, Problem> {
    let refs = app.mirrors.references(row.id).await.map_err(Problem::internal)?;
    Ok(Repository {
        refs: refs
            .into_iter()
            .map(|(name, commit)| Ref { name, commit: commit.to_string() })
            .collect(),
        ..brief(row)
    })
}

fn brief(row: RepositoryRow) -> Repository {
    Repository {
        id: row.id,
        kind: match row.kind {
            boatyard_store::RepositoryKind::Https => RepositoryKind::Https,
            boatyard_store::RepositoryKind::Ssh => RepositoryKind::Ssh,
            boatyard_store::RepositoryKind::Path => RepositoryKind::Path,
            boatyard_store::RepositoryKind::Sent => RepositoryKind::Sent,
        },
        source: row.source,
        folder: row.folder,
        default_branch: row.default_branch,
        refs: Vec::new(),
        fetched: row.fetched,
        created: row.created,
    }
}

/// Repositories, the newest first.
///
/// # Errors
/// When the filter makes no sense.
pub async fn list_repositories(
    app: &App,
    caller: &Caller,
    filter: RepositoryFilter,
) -> Result<RepositoryPage, Problem> {
    let limit = limit(filter.limit)?;
    let before = super::tasks::cursor_id(filter.cursor.as_ref())?;
    let rows = app
        .store
        .list_repositories(caller.owner.organization, before, limit, access::viewer(caller))
        .await
        .map_err(store_problem)?;
    let full = rows.len() == limit as usize;
    let next_cursor = rows.last().filter(|_| full).map(|row| Cursor::after(&row.id.to_string()));
    Ok(RepositoryPage { items: rows.into_iter().map(brief).collect(), next_cursor })
}

async fn row(
    app: &App,
    caller: &Caller,
    id: RepositoryId,
    wish: Wish,
) -> Result<RepositoryRow, Problem> {
    let row = app.store.repository(id).await.map_err(store_problem)?;
    things::repository(app, caller, &row, wish).await?;
    Ok(row)
}

/// One repository, with what its mirror has.
///
/// # Errors
/// When there is none.
pub async fn find_repository(
    app: &App,
    caller: &Caller,
    id: RepositoryId,
) -> Result<Repository, Problem> {
    let row = row(app, caller, id, Wish::Look).await?;
    repository(app, row).await
}

/// Removes a repository that nothing uses, with its mirror.
///
/// # Errors
/// When there is none, or something uses it.
pub async fn delete_repository(
    app: &App,
    caller: &Caller,
    id: RepositoryId,
) -> Result<(), Problem> {
    row(app, caller, id, Wish::Manage).await?;
    let removed = app
        .store
        .write(move |tx| Box::pin(async move { tx.remove_repository(id).await }))
        .await
        .map_err(store_problem)?;
    if !removed {
        let next = "Delete its workspaces first: `boatyard workspace list` shows them.";
        return Err(Problem::conflict("workspaces, layers or tasks still use it").with_next(next));
    }
    app.mirrors.remove(id).await.map_err(Problem::internal)
}

/// Takes in a bundle from a client's machine.
///
/// # Errors
/// When it is not whole, or needs commits that the mirror lacks.
pub async fn send_bundle(
    app: &App,
    caller: &Caller,
    id: RepositoryId,
    stream: ByteStream,
) -> Result<Repository, Problem> {
    let row = row(app, caller, id, Wish::Act).await?;
    if row.kind != boatyard_store::RepositoryKind::Sent {
        let detail = "this repository has an address; the server fetches it by itself";
        return Err(Problem::conflict(detail));
    }
    let max = app.settings.repositories.max_size.bytes().min(BUNDLE_MAX);
    let taken = app.mirrors.take_bundle(id, StreamReader::new(stream), max).await;
    taken.map_err(|error| match error {
        FetchError::Bundle(detail) => Problem::repository_unusable(detail),
        FetchError::Disk(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            Problem::disk_full()
        }
        error => Problem::internal(error),
    })?;
    let branch = app.mirrors.default_branch(id).await.ok().flatten().map(|b| b.to_string());
    let bytes = app.mirrors.bytes(id).await;
    let row = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                tx.repository_fetched(id, branch, bytes).await?;
                Ok(())
            })
        })
        .await
        .map_err(store_problem);
    row?;
    find_repository(app, caller, id).await
}
