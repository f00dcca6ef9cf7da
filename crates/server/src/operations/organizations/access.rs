//! Who may do what in one repository, where that is less than in the organization.

use std::collections::HashSet;

use boatyard_api::{
    Problem,
    organization::{RepositoryAccess, RepositoryMember},
};
use boatyard_model::RepositoryId;
use boatyard_store::{REPOSITORY_ROLES_MAX, audit};

use super::store_problem;
use crate::{app::App, auth::Caller, operations::own};

/// What is said of a repository.
///
/// # Errors
/// When there is no such repository.
pub async fn repository_access(
    app: &App,
    caller: &Caller,
    id: RepositoryId,
) -> Result<RepositoryAccess, Problem> {
    let repository = app.store.repository(id).await.map_err(store_problem)?;
    own(caller, repository.owner, "repository", id)?;
    let rows = app.store.repository_roles(id).await.map_err(store_problem)?;
    let mut access = RepositoryAccess::default();
    for row in rows {
        let Some(member) = row.of() else {
            access.everybody = Some(row.role);
            continue;
        };
        let who = app.store.member(row.owner.organization, member).await.map_err(store_problem)?;
        access.members.push(RepositoryMember { member, role: row.role, name: Some(who.name) });
    }
    Ok(access)
}

/// Says who may do what in a repository, in the stead of what was said. It holds at once, for what
/// is under way too.
///
/// # Errors
/// When there is no such repository or member, or somebody is named twice.
pub async fn set_repository_access(
    app: &App,
    caller: &Caller,
    id: RepositoryId,
    access: RepositoryAccess,
) -> Result<RepositoryAccess, Problem> {
    let repository = app.store.repository(id).await.map_err(store_problem)?;
    own(caller, repository.owner, "repository", id)?;
    if access.members.len() > REPOSITORY_ROLES_MAX {
        let detail = format!("at most {REPOSITORY_ROLES_MAX} members can be named");
        return Err(Problem::invalid("members", detail));
    }
    let mut named = HashSet::new();
    for (place, one) in access.members.iter().enumerate() {
        let field = format!("members[{place}].member");
        if !named.insert(one.member) {
            let detail = format!("{} is named twice", one.member);
            return Err(Problem::invalid(field, detail));
        }
        let row = app.store.member(caller.owner.organization, one.member).await;
        let row = row.map_err(|error| store_problem(error).at(&*field))?;
        if row.removed.is_some() {
            return Err(Problem::invalid(field, format!("{} is no member any more", row.name)));
        }
    }
    audit::note(
        "everybody",
        access.everybody.map_or("as in the organization", |role| role.as_str()),
    );
    let said: Vec<String> =
        access.members.iter().map(|one| format!("{} {}", one.member, one.role)).collect();
    audit::note("members", said.join(", "));
    let by = caller.owner;
    let members = access.members.iter().map(|one| (one.member, one.role)).collect();
    let write = app
        .store
        .write(move |tx| Box::pin(tx.set_repository_roles(by, id, access.everybody, members)));
    write.await.map_err(store_problem)?;
    repository_access(app, caller, id).await
}
