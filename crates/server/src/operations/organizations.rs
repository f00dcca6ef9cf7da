//! Organizations: made, changed, left, given to another owner, deleted.
//!
//! What is asked of an organization is judged by what the caller is in that one, whichever it looks
//! at. A key is a key of one organization: the others don't exist for it.

use boatyard_api::{
    Problem,
    organization::{
        Member, NAME_MAX, NewOrganization, Organization, OrganizationFilter, OrganizationTransfer,
        OrganizationUpdate,
    },
};
use boatyard_model::{KeyKind, MemberId, OrganizationId, Role};
use boatyard_store::{OrganizationRow, Owner, audit};

use super::store_problem;
use crate::{
    app::App,
    auth::{Caller, Via},
};

pub mod access;
pub mod invitations;
pub mod members;

/// The caller's organizations, by name; or every one of the server, for who runs it.
///
/// # Errors
/// When all are wanted by somebody who does not run the server.
pub async fn list_organizations(
    app: &App,
    caller: &Caller,
    filter: OrganizationFilter,
) -> Result<Vec<Organization>, Problem> {
    if filter.all == Some(true) && !caller.operator {
        return Err(Problem::not_allowed(
            "the list of all organizations is for those who run the server",
        )
        .at("query.all")
        .with_next("Leave `all` out: your own organizations are listed then."));
    }
    let mut rows = app.store.organizations().await.map_err(store_problem)?;
    let own = standings(app, caller).await?;
    if filter.all != Some(true) {
        rows.retain(|row| own.iter().any(|(organization, ..)| *organization == row.id));
        rows.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    }
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let standing = own.iter().find(|(organization, ..)| *organization == row.id);
        items.push(shown(app, row, standing.map(|(_, role, member)| (*role, *member))).await?);
    }
    Ok(items)
}

/// What the caller is, and where.
async fn standings(
    app: &App,
    caller: &Caller,
) -> Result<Vec<(OrganizationId, Role, MemberId)>, Problem> {
    let here = (caller.owner.organization, caller.role, caller.owner.member);
    let Some(person) = caller.person else { return Ok(vec![here]) };
    if !is_everywhere(app, caller).await? {
        return Ok(vec![here]);
    }
    let rows = app.store.list_standings(person).await.map_err(store_problem)?;
    Ok(rows.into_iter().map(|row| (row.owner.organization, row.role, row.owner.member)).collect())
}

/// Whether the caller is its person in every organization: in a browser, or with the key of the
/// server's own account. Other keys are for the organization that they were made in.
async fn is_everywhere(app: &App, caller: &Caller) -> Result<bool, Problem> {
    let key = match caller.via {
        Via::Device(id) => match app.store.find_device(id).await.map_err(store_problem)? {
            Some(device) => match device.api_key {
                Some(key) => key,
                None => return Ok(true),
            },
            None => return Ok(false),
        },
        Via::Key(id) => id,
        Via::Guest(_) | Via::Server => return Ok(false),
    };
    let key = app.store.find_key(key).await.map_err(store_problem)?;
    Ok(key.is_some_and(|key| key.kind == KeyKind::Local))
}

async fn shown(
    app: &App,
    row: OrganizationRow,
    standing: Option<(Role, MemberId)>,
) -> Result<Organization, Problem> {
    let members = app.store.count_members(row.id).await.map_err(store_problem)?;
    Ok(Organization {
        id: row.id,
        name: row.name,
        visibility: row.visibility,
        members,
        role: standing.map(|(role, _)| role),
        member: standing.map(|(_, member)| member),
        created: row.created,
    })
}

/// An organization, and what the caller is in it.
async fn find(
    app: &App,
    caller: &Caller,
    id: OrganizationId,
) -> Result<(OrganizationRow, Option<(Role, MemberId)>), Problem> {
    let own = standings(app, caller).await?;
    let standing = own.into_iter().find(|(organization, ..)| *organization == id);
    if standing.is_none() && !caller.operator {
        return Err(Problem::not_found("organization", id));
    }
    let row = app.store.organization(id).await.map_err(store_problem)?;
    Ok((row, standing.map(|(_, role, member)| (role, member))))
}

/// The same for somebody who is to decide about it.
async fn decide(
    app: &App,
    caller: &Caller,
    id: OrganizationId,
    least: Role,
) -> Result<(OrganizationRow, Option<(Role, MemberId)>), Problem> {
    let (row, standing) = find(app, caller, id).await?;
    let may = standing.is_some_and(|(role, _)| role.includes(least)) || caller.operator;
    if !may {
        let yours = standing.map_or("none", |(role, _)| role.as_str());
        let detail = format!("this needs the role `{least}` there; yours is `{yours}`");
        return Err(Problem::not_allowed(detail).with_next("Ask one of its owners."));
    }
    audit::concerns(Some(id));
    Ok((row, standing))
}

/// An organization.
///
/// # Errors
/// When there is none, or the caller is not in it.
pub async fn find_organization(
    app: &App,
    caller: &Caller,
    id: OrganizationId,
) -> Result<Organization, Problem> {
    let (row, standing) = find(app, caller, id).await?;
    shown(app, row, standing).await
}

/// Makes an organization, whose first owner is the caller.
///
/// # Errors
/// When the name can't be one or is taken, or no person calls.
pub async fn create_organization(
    app: &App,
    caller: &Caller,
    new: NewOrganization,
) -> Result<Organization, Problem> {
    let name = name(&new.name)?;
    let Some(person) = caller.person else {
        return Err(Problem::not_allowed(
            "an organization has an owner who is a person, and this key has none behind it",
        )
        .with_next("Use the key of a person, or sign in."));
    };
    audit::note("name", &name);
    let write = app.store.write(move |tx| {
        Box::pin(async move { tx.create_organization(&name, Some(person)).await })
    });
    let (row, owner) = write.await.map_err(taken)?;
    shown(app, row, owner.map(|owner| (owner.role, owner.id))).await
}

/// Changes an organization.
///
/// # Errors
/// When the caller is no admin of it, or the name can't be one or is taken.
pub async fn update_organization(
    app: &App,
    caller: &Caller,
    id: OrganizationId,
    update: OrganizationUpdate,
) -> Result<Organization, Problem> {
    let (_, standing) = decide(app, caller, id, Role::Admin).await?;
    let changed = update.name.as_deref().map(name).transpose()?;
    if let Some(name) = &changed {
        audit::note("name", name);
    }
    if let Some(visibility) = update.visibility {
        audit::note("visibility", visibility);
    }
    let by = caller.owner;
    let write = app.store.write(move |tx| {
        Box::pin(async move { tx.change_organization(by, id, changed, update.visibility).await })
    });
    let row = write.await.map_err(taken)?;
    shown(app, row, standing).await
}

/// Deletes an organization in which nothing is left.
///
/// # Errors
/// When the caller does not own it, or something is left, with what.
pub async fn delete_organization(
    app: &App,
    caller: &Caller,
    id: OrganizationId,
) -> Result<(), Problem> {
    let (row, _) = decide(app, caller, id, Role::Owner).await?;
    audit::note("name", &row.name);
    let write = app.store.write(move |tx| Box::pin(tx.delete_organization(id)));
    write.await.map_err(|error| match error {
        boatyard_store::Error::Refused { .. } => {
            store_problem(error).with_next("Take out what is left in it, then delete it.")
        }
        error => store_problem(error),
    })?;
    // Its credentials are gone.
    app.connections.changed(id).await.map_err(store_problem)
}

/// Leaves an organization. What the caller made stays the caller's own there.
///
/// # Errors
/// When the caller is not in it, or is its last owner.
pub async fn leave_organization(
    app: &App,
    caller: &Caller,
    id: OrganizationId,
) -> Result<(), Problem> {
    let (_, standing) = find(app, caller, id).await?;
    let Some((_, member)) = standing else { return Err(Problem::not_found("organization", id)) };
    audit::concerns(Some(id));
    let write = app.store.write(move |tx| {
        Box::pin(async move { tx.remove_member(id, member, None).await.map(drop) })
    });
    write.await.map_err(last_owner)?;
    members::follow(app, id).await
}

/// Makes another member an owner in the caller's stead, who is an admin then.
///
/// # Errors
/// When the caller does not own it, or there is no such member.
pub async fn transfer_organization(
    app: &App,
    caller: &Caller,
    id: OrganizationId,
    transfer: OrganizationTransfer,
) -> Result<Member, Problem> {
    let (_, standing) = decide(app, caller, id, Role::Owner).await?;
    let heir = transfer.member;
    audit::note("member", heir);
    // Who runs the server and is not in it gives it an owner, and takes it from nobody.
    let by = standing.map_or(heir, |(_, member)| member);
    let by = Owner { organization: id, member: by };
    let write = app
        .store
        .write(move |tx| Box::pin(async move { tx.transfer_organization(by, heir).await }));
    let row = write.await.map_err(|error| store_problem(error).at("member"))?;
    Ok(members::shown(caller, row))
}

/// What the store says to a name.
fn taken(error: boatyard_store::Error) -> Problem {
    match error {
        boatyard_store::Error::Refused { detail } => {
            Problem::already_exists(detail).at("name").with_next("Choose another name.")
        }
        error => store_problem(error),
    }
}

/// What the store says to a change that may leave no owner.
fn last_owner(error: boatyard_store::Error) -> Problem {
    match error {
        boatyard_store::Error::Refused { .. } => store_problem(error)
            .with_next("Make another member an owner first: `boatyard member role MEMBER owner`."),
        error => store_problem(error),
    }
}

/// A name as it is kept.
fn name(text: &str) -> Result<String, Problem> {
    let name = text.trim();
    if name.is_empty() {
        return Err(Problem::invalid("name", "an organization needs a name"));
    }
    if name.len() > NAME_MAX {
        let detail = format!("a name has at most {NAME_MAX} bytes; this has {}", name.len());
        return Err(Problem::invalid("name", detail));
    }
    if name.chars().any(char::is_control) {
        return Err(Problem::invalid("name", "a name holds no control characters"));
    }
    Ok(name.to_owned())
}
