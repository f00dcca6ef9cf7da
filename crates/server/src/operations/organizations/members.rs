//! Members of the organization that the caller looks at.

use boatyard_api::{
    Cursor, Problem,
    organization::{
        Member, MemberFilter, MemberPage, MemberRemoval, MemberUpdate, Transferred, WorkTransfer,
    },
    page::limit,
};
use boatyard_model::{MemberId, OrganizationId, Role};
use boatyard_store::{MemberRow, Moved, Which, audit};

use super::{last_owner, store_problem};
use crate::{app::App, auth::Caller};

/// Members, the one who joined first before the others.
///
/// # Errors
/// When the filter makes no sense.
pub async fn list_members(
    app: &App,
    caller: &Caller,
    filter: MemberFilter,
) -> Result<MemberPage, Problem> {
    let limit = limit(filter.limit)?;
    let after: Option<MemberId> = crate::operations::tasks::cursor_id(filter.cursor.as_ref())?;
    let which = if filter.removed == Some(true) { Which::All } else { Which::Active };
    let rows = app.store.members(caller.owner.organization, after, which, limit).await;
    let rows = rows.map_err(store_problem)?;
    let full = rows.len() == limit as usize;
    let next_cursor = rows.last().filter(|_| full).map(|row| Cursor::after(&row.id.to_string()));
    Ok(MemberPage { items: rows.into_iter().map(|row| shown(caller, row)).collect(), next_cursor })
}

/// A member, removed or not.
///
/// # Errors
/// When there is none.
pub async fn find_member(app: &App, caller: &Caller, id: MemberId) -> Result<Member, Problem> {
    find(app, caller, id).await.map(|row| shown(caller, row))
}

async fn find(app: &App, caller: &Caller, id: MemberId) -> Result<MemberRow, Problem> {
    app.store.member(caller.owner.organization, id).await.map_err(store_problem)
}

/// Gives a member another role.
///
/// # Errors
/// When there is none, only an owner may do that, or no owner would be left.
pub async fn update_member(
    app: &App,
    caller: &Caller,
    id: MemberId,
    update: MemberUpdate,
) -> Result<Member, Problem> {
    let row = find(app, caller, id).await?;
    owners_only(caller, row.role.max(update.role))?;
    let organization = caller.owner.organization;
    let write = app.store.write(move |tx| {
        Box::pin(async move { tx.set_member_role(organization, id, update.role).await })
    });
    Ok(shown(caller, write.await.map_err(last_owner)?))
}

/// Removes a member: its keys, browsers and invitations in the organization cease to work at once.
/// What it made stays, as its own or as the heir's.
///
/// # Errors
/// When there is none, only an owner may do that, or no owner would be left.
pub async fn remove_member(
    app: &App,
    caller: &Caller,
    id: MemberId,
    removal: MemberRemoval,
) -> Result<Transferred, Problem> {
    let row = find(app, caller, id).await?;
    owners_only(caller, row.role)?;
    audit::note("member", &row.name);
    if let Some(heir) = removal.heir {
        audit::note("heir", heir);
        may_inherit(app, caller, heir, "query.heir").await?;
    }
    let organization = caller.owner.organization;
    let write = app.store.write(move |tx| {
        Box::pin(async move { tx.remove_member(organization, id, removal.heir).await })
    });
    let moved = write.await.map_err(last_owner)?;
    follow(app, organization).await?;
    Ok(transferred(moved))
}

/// Gives what a member works on to another: an admin's to decide, because the heir's own
/// credentials go along with it from then on, and the heir pays.
///
/// # Errors
/// When there is no such member, or the heir can't go on with it.
pub async fn transfer_work(
    app: &App,
    caller: &Caller,
    id: MemberId,
    transfer: WorkTransfer,
) -> Result<Transferred, Problem> {
    find(app, caller, id).await?;
    may_inherit(app, caller, transfer.to, "to").await?;
    audit::note("to", transfer.to);
    let organization = caller.owner.organization;
    let write = app.store.write(move |tx| {
        Box::pin(async move { tx.transfer_work(organization, id, transfer.to).await })
    });
    let moved = write.await.map_err(store_problem)?;
    follow(app, organization).await?;
    Ok(transferred(moved))
}

/// Has what goes out of workspaces follow the change of their owners: whose credentials go along.
pub(super) async fn follow(app: &App, organization: OrganizationId) -> Result<(), Problem> {
    app.hub.policies().changed_owners(organization).await.map_err(store_problem)?;
    app.hub.ledger().changed(organization);
    app.connections.changed(organization).await.map_err(store_problem)
}

/// Whether a member can go on with another's work.
async fn may_inherit(
    app: &App,
    caller: &Caller,
    heir: MemberId,
    field: &str,
) -> Result<(), Problem> {
    let row = find(app, caller, heir).await.map_err(|problem| problem.at(field))?;
    let refused = |detail: String| Err(Problem::invalid(field, detail));
    if !row.is_active() {
        return refused(format!("{} is no member any more", row.name));
    }
    if !row.role.includes(Role::Member) {
        return refused(format!("{} is a viewer, who can't go on with it", row.name));
    }
    Ok(())
}

/// What concerns an owner is an owner's business.
fn owners_only(caller: &Caller, concerned: Role) -> Result<(), Problem> {
    if concerned == Role::Owner && caller.role != Role::Owner {
        return Err(Problem::not_allowed("only an owner decides who else is one")
            .with_next("Ask an owner of the organization."));
    }
    Ok(())
}

fn transferred(moved: Moved) -> Transferred {
    Transferred { tasks: moved.tasks, sessions: moved.sessions, workspaces: moved.workspaces }
}

/// A member as the caller sees it.
pub(super) fn shown(caller: &Caller, row: MemberRow) -> Member {
    Member {
        you: row.id == caller.owner.member,
        id: row.id,
        person: row.person,
        name: row.name,
        email: row.email,
        role: row.role,
        created: row.created,
        removed: row.removed,
        disabled: row.disabled.is_some(),
        last_seen: row.last_seen,
    }
}
