//! What repositories are reached with, and what commits are signed with.

use std::sync::Arc;

use boatyard_api::{
    Problem,
    git::{GitConnection, GitIdentity, GitKey, GitPlace, NewGitConnection, NewGitIdentity},
};
use boatyard_egress::git::sign::SigningKey;
use boatyard_model::Role;
use boatyard_store::{ConnectionRow, GIT_BINDINGS_MAX, GitBindingRow};

use super::store_problem;
use crate::{
    app::App,
    auth::Caller,
    git::{place::Place, signing::SigningError},
};

async fn connections(app: &App, caller: &Caller) -> Result<Vec<ConnectionRow>, Problem> {
    let mut rows =
        app.store.list_connections(caller.owner.organization).await.map_err(store_problem)?;
    rows.retain(|row| !row.personal || row.owner.member == caller.owner.member);
    // Of two of the same name, one's own is meant.
    rows.sort_by_key(|row| !row.personal);
    Ok(rows)
}

/// Whose a binding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The organization's.
    All,
    /// The caller's own.
    Own,
}

fn shown(row: GitBindingRow, known: &[ConnectionRow], whose: Whose) -> GitConnection {
    let name = known.iter().find(|known| known.id == row.connection).map(|row| row.name.clone());
    let gone = || "the connection was removed".to_owned();
    GitConnection {
        place: row.place,
        connection: row.connection,
        shared: row.shared,
        own: whose == Whose::Own,
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
    let own = app.store.own_git_bindings(caller.owner).await.map_err(store_problem)?;
    let own = own.into_iter().map(|row| shown(row, &known, Whose::Own));
    Ok(own.chain(rows.into_iter().map(|row| shown(row, &known, Whose::All))).collect())
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
    let (owner, is_own) = (caller.owner, connection.personal);
    if is_own {
        return connect_own(app, caller, &place, connection.id, new.shared, &known).await;
    }
    for_all(caller)?;
    let rows = app.store.git_bindings(caller.owner.organization).await.map_err(store_problem)?;
    if rows.len() >= GIT_BINDINGS_MAX {
        let detail = format!("{GIT_BINDINGS_MAX} repositories have connections, as many as may");
        return Err(
            Problem::conflict(detail).with_next("Bind one to all below a place: host/owner/*.")
        );
    }
    let (connection, shared) = (connection.id, new.shared);
    let bound = place.clone();
    let write = app.store.write(move |tx| {
        let bound = bound.clone();
        Box::pin(async move { tx.bind_git(owner, bound.as_str(), connection, shared).await })
    });
    write.await.map_err(store_problem)?;
    let rows = app.store.git_bindings(owner.organization).await.map_err(store_problem)?;
    let row = rows.into_iter().find(|row| row.place == place.as_str());
    let row = row.ok_or_else(|| Problem::not_found("connection of", &place))?;
    Ok(shown(row, &known, Whose::All))
}

/// Refuses who may not decide for the organization.
fn for_all(caller: &Caller) -> Result<(), Problem> {
    match caller.role >= Role::Admin {
        true => Ok(()),
        false => Err(Problem::not_allowed("this is for an administrator of the organization")
            .with_next(
                "Bind a connection of your own: `boatyard connection add git --mine`, and then \
                 `boatyard repository connect`.",
            )),
    }
}

/// Binds a person's own connection, for that person's workspaces alone.
async fn connect_own(
    app: &App,
    caller: &Caller,
    place: &Place,
    connection: boatyard_model::ConnectionId,
    shared: bool,
    known: &[ConnectionRow],
) -> Result<GitConnection, Problem> {
    if shared {
        let detail = "a connection of one's own goes with one's own repositories alone";
        return Err(Problem::invalid("shared", detail));
    }
    let owner = caller.owner;
    let there = app.store.own_git_bindings(owner).await.map_err(store_problem)?;
    if there.len() >= GIT_BINDINGS_MAX {
        let detail = format!("{GIT_BINDINGS_MAX} repositories have connections, as many as may");
        return Err(Problem::conflict(detail));
    }
    let bound = place.clone();
    let write = app.store.write(move |tx| {
        let bound = bound.clone();
        Box::pin(async move { tx.bind_own_git(owner, bound.as_str(), connection).await })
    });
    write.await.map_err(store_problem)?;
    let rows = app.store.own_git_bindings(owner).await.map_err(store_problem)?;
    let row = rows.into_iter().find(|row| row.place == place.as_str());
    let row = row.ok_or_else(|| Problem::not_found("connection of", place))?;
    Ok(shown(row, known, Whose::Own))
}

/// The longest name or address of an identity, in characters.
const IDENTITY_MAX: usize = 200;

/// In whose name the caller's workspaces commit.
///
/// # Errors
/// When it can't be read.
pub async fn find_git_identity(app: &App, caller: &Caller) -> Result<GitIdentity, Problem> {
    let own = app.store.git_identity(caller.owner).await.map_err(store_problem)?;
    let author = &app.settings.author;
    Ok(match own {
        Some(identity) => GitIdentity { name: identity.name, email: identity.email, own: true },
        None => GitIdentity { name: author.name.clone(), email: author.email.clone(), own: false },
    })
}

/// Has the caller's workspaces commit in this name from their next start on.
///
/// # Errors
/// When it is no name or no address that git takes.
pub async fn set_git_identity(
    app: &App,
    caller: &Caller,
    new: NewGitIdentity,
) -> Result<GitIdentity, Problem> {
    let (name, email) = (new.name.trim().to_owned(), new.email.trim().to_owned());
    for (field, text) in [("name", &name), ("email", &email)] {
        let is_odd = |c: char| c.is_control() || matches!(c, '<' | '>');
        if text.is_empty() || text.chars().count() > IDENTITY_MAX || text.contains(is_odd) {
            let detail = format!(
                "it must have 1 to {IDENTITY_MAX} characters, none of them `<`, `>` or a line's end"
            );
            return Err(Problem::invalid(field, detail));
        }
    }
    if email.contains(char::is_whitespace) || !email.contains('@') {
        return Err(Problem::invalid("email", format!("`{email}` is no address")));
    }
    let owner = caller.owner;
    keep_identity(app, owner, Some((name, email))).await?;
    find_git_identity(app, caller).await
}

/// Has the caller's workspaces commit in the server's name again.
///
/// # Errors
/// When it can't be stored.
pub async fn clear_git_identity(app: &App, caller: &Caller) -> Result<(), Problem> {
    keep_identity(app, caller.owner, None).await
}

async fn keep_identity(
    app: &App,
    owner: boatyard_store::Owner,
    identity: Option<(String, String)>,
) -> Result<(), Problem> {
    let write = app.store.write(move |tx| {
        let identity = identity.clone();
        Box::pin(async move { tx.set_git_identity(owner, identity).await })
    });
    write.await.map_err(store_problem)
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
    if from.own {
        let owner = caller.owner;
        let write = app.store.write(move |tx| {
            let place = place.clone();
            Box::pin(async move { tx.unbind_own_git(owner, place.as_str()).await })
        });
        return write.await.map_err(store_problem);
    }
    for_all(caller)?;
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
