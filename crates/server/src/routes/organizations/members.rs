//! `/api/members`: people of the organization that the caller looks at.

use axum::extract::State;
use boatyard_api::organization::{
    Member, MemberFilter, MemberPage, MemberRemoval, MemberUpdate, Transferred, WorkTransfer,
};
use boatyard_model::MemberId;

use crate::{
    app::App,
    auth::Caller,
    operations::organizations::members,
    routes::{
        answer::{Answer, Json},
        described::{Routes, routes},
        extract::{self, Path, Query},
    },
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(list_members))
        .routes(routes!(find_member, update_member, remove_member))
        .routes(routes!(transfer_work))
}

/// Lists members, the one who joined first before the others.
#[utoipa::path(get, path = "/api/members", tag = "organizations", params(MemberFilter),
    responses((status = 200, description = "A page.", body = MemberPage)))]
async fn list_members(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<MemberFilter>,
) -> Answer<Json<MemberPage>> {
    Ok(Json(members::list_members(&app, &caller, filter).await?))
}

/// A member, also one who was removed.
#[utoipa::path(get, path = "/api/members/{id}", tag = "organizations",
    params(("id" = MemberId, Path)),
    responses((status = 200, description = "The member.", body = Member)))]
async fn find_member(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<MemberId>,
) -> Answer<Json<Member>> {
    Ok(Json(members::find_member(&app, &caller, id).await?))
}

/// Gives a member another role. Only an owner makes an owner, or of an owner something else; the
/// last owner stays one.
#[utoipa::path(patch, path = "/api/members/{id}", tag = "organizations",
    request_body = MemberUpdate, params(("id" = MemberId, Path)),
    responses((status = 200, description = "The member.", body = Member)))]
async fn update_member(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<MemberId>,
    extract::Json(update): extract::Json<MemberUpdate>,
) -> Answer<Json<Member>> {
    Ok(Json(members::update_member(&app, &caller, id, update).await?))
}

/// Removes a member. Its keys, browsers and invitations cease to work at once; its tasks, sessions
/// and workspaces stay its own, or become the heir's.
#[utoipa::path(delete, path = "/api/members/{id}", tag = "organizations",
    params(("id" = MemberId, Path), MemberRemoval),
    responses((status = 200, description = "What the heir got.", body = Transferred)))]
async fn remove_member(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<MemberId>,
    Query(removal): Query<MemberRemoval>,
) -> Answer<Json<Transferred>> {
    Ok(Json(members::remove_member(&app, &caller, id, removal).await?))
}

/// Gives the tasks, sessions and workspaces of a member to another: one's own, or an admin
/// anybody's, also of one who was removed.
#[utoipa::path(post, path = "/api/members/{id}/transfer", tag = "organizations",
    request_body = WorkTransfer, params(("id" = MemberId, Path)),
    responses((status = 200, description = "What was given.", body = Transferred)))]
async fn transfer_work(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<MemberId>,
    extract::Json(transfer): extract::Json<WorkTransfer>,
) -> Answer<Json<Transferred>> {
    Ok(Json(members::transfer_work(&app, &caller, id, transfer).await?))
}
