//! What repositories are reached with, and what commits are signed with.

use std::sync::Arc;

use boatyard_api::{
    Problem,
    git::{GitConnection, GitKey, GitPlace, NewGitConnection},
};
use boatyard_egress::git::sign::SigningKey;
use boatyard_store::{ConnectionRow, GIT_BINDINGS_MAX, GitBindingRow};

use super::store_problem;
use crate::{
    app::App,
    auth::Caller,
    git::{place::Place, signing::SigningError},
};

async fn connections(app: &App, caller: &Caller) -> Result<Vec<ConnectionRow>, Problem> {
    app.store.list_connections(caller.owner.organization).await.map_err(store_problem)
}

fn shown(row: GitBindingRow, known: &[ConnectionRow]) -> GitConnection {
    let name = known.iter().find(|known| known.id == row.connection).map(|row| row.name.clone());
    let gone = || "the connection was removed".to_owned();
    GitConnection {
        place: row.place,
        connection: row.connection,
        shared: row.shared,
        created: row.created,
        problem: row.problem.or_else(|| name.is_none().then(gone)),
        name,
        problem_since: row.problem_since,
    }
}

/// The connections of repositories, by place.
///
/// # Errors
/// When they can't be read.
pub async fn list_git_connections(
    app: &App,
    caller: &Caller,
) -> Result<Vec<GitConnection>, Problem> {
    let known = connections(app, caller).await?;
    let rows = app.store.git_bindings(caller.owner.organization).await.map_err(store_problem)?;
    Ok(rows.into_iter().map(|row| shown(row, &known)).collect())
}

fn place(app: &App, text: &str, field: &str) -> Result<Place, Problem> {
    Place::parse(text, &app.settings.repositories.default_host)
        .map_err(|error| Problem::invalid(field, error))
}

/// Binds a connection to a repository, or to all below a place.
///
/// # Errors
/// When there is no such connection, or the place is none.
pub async fn connect_repository(
    app: &App,
    caller: &Caller,
    new: NewGitConnection,
) -> Result<GitConnection, Problem> {
    let place = place(app, &new.place, "place")?;
    let known = connections(app, caller).await?;
    let wanted = new.connection.as_str();
    let found = known.iter().find(|row| row.name == wanted || row.id.to_string() == wanted);
    let Some(connection) = found else {
        let names: Vec<&str> = known.iter().map(|row| row.name.as_str()).collect();
        let there = match names.is_empty() {
            true => "there are none yet".to_owned(),
            false => format!("there is {}", names.join(", ")),
        };
        let detail = format!("there is no connection `{wanted}`; {there}");
        let next = "`boatyard connection add git --name NAME` adds a token.";
        return Err(Problem::invalid("connection", detail).with_next(next));
    };
    let rows = app.store.git_bindings(caller.owner.organization).await.map_err(store_problem)?;
    if rows.len() >= GIT_BINDINGS_MAX {
        let detail = format!("{GIT_BINDINGS_MAX} repositories have connections, as many as may");
        return Err(
            Problem::conflict(detail).with_next("Bind one to all below a place: host/owner/*.")
        );
    }
    let (owner, connection, shared) = (caller.owner, connection.id, new.shared);
    let bound = place.clone();
    let write = app.store.write(move |tx| {
        let bound = bound.clone();
        Box::pin(async move { tx.bind_git(owner, bound.as_str(), connection, shared).await })
    });
    write.await.map_err(store_problem)?;
    let rows = app.store.git_bindings(owner.organization).await.map_err(store_problem)?;
    let row = rows.into_iter().find(|row| row.place == place.as_str());
    let row = row.ok_or_else(|| Problem::not_found("connection of", &place))?;
    Ok(shown(row, &known))
}

/// Takes a connection from a repository.
///
/// # Errors
/// When it has none.
pub async fn disconnect_repository(
    app: &App,
    caller: &Caller,
    from: GitPlace,
) -> Result<(), Problem> {
    let place = place(app, &from.place, "query.place")?;
    let organization = caller.owner.organization;
    let write = app.store.write(move |tx| {
        let place = place.clone();
        Box::pin(async move { tx.unbind_git(organization, place.as_str()).await })
    });
    write.await.map_err(store_problem)
}

/// The key that commits are signed with; made when it is first asked for.
///
/// # Errors
/// When it can't be opened.
pub async fn find_git_key(app: &App, caller: &Caller) -> Result<GitKey, Problem> {
    let key = app.hub.git().signing.key(caller.owner).await.map_err(key_problem)?;
    Ok(key_shown(app, &key))
}

/// Makes another key the one that commits are signed with.
///
/// # Errors
/// When none can be made.
pub async fn renew_git_key(app: &App, caller: &Caller) -> Result<GitKey, Problem> {
    let key = app.hub.git().signing.renew(caller.owner).await.map_err(key_problem)?;
    Ok(key_shown(app, &key))
}

fn key_shown(app: &App, key: &Arc<SigningKey>) -> GitKey {
    let public_key = key.public();
    let allowed_signer = format!("{} namespaces=\"git\" {public_key}", app.settings.author.email);
    GitKey { public_key, allowed_signer, signs: app.settings.git.sign }
}

fn key_problem(error: SigningError) -> Problem {
    match error {
        SigningError::Store(error) => store_problem(error),
        error => Problem::unavailable(error.to_string()),
    }
}
