//! `/api/organizations`, `/api/members`, `/api/invitations`, and who may do what in a repository.

use axum::extract::State;
use boatyard_api::organization::{
    Member, NewOrganization, Organization, OrganizationFilter, OrganizationList,
    OrganizationTransfer, OrganizationUpdate, RepositoryAccess,
};
use boatyard_model::{OrganizationId, RepositoryId};
use http::StatusCode;

use super::{
    answer::{Answer, Created, Json},
    described::{Routes, routes},
    extract::{self, Path, Query},
};
use crate::{
    app::App,
    auth::Caller,
    operations::organizations::{self, access},
};

mod invitations;
mod members;

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(list_organizations, create_organization))
        .routes(routes!(find_organization, update_organization, delete_organization))
        .routes(routes!(leave_organization))
        .routes(routes!(transfer_organization))
        .routes(routes!(find_repository_access, set_repository_access))
        .merge(members::router())
        .merge(invitations::router())
}

/// The caller's organizations, or every one of the server for who runs it.
#[utoipa::path(get, path = "/api/organizations", tag = "organizations", params(OrganizationFilter),
    responses((status = 200, description = "By name.", body = OrganizationList)))]
async fn list_organizations(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<OrganizationFilter>,
) -> Answer<Json<OrganizationList>> {
    let items = organizations::list_organizations(&app, &caller, filter).await?;
    Ok(Json(OrganizationList { items }))
}

/// Makes an organization; its first owner is the caller.
#[utoipa::path(post, path = "/api/organizations", tag = "organizations",
    request_body = NewOrganization,
    responses((status = 201, description = "The organization.", body = Organization)))]
async fn create_organization(
    State(app): State<App>,
    caller: Caller,
    extract::Json(new): extract::Json<NewOrganization>,
) -> Answer<Created<Organization>> {
    let body = organizations::create_organization(&app, &caller, new).await?;
    Ok(Created { location: format!("/api/organizations/{}", body.id), body })
}

/// An organization that the caller is in.
#[utoipa::path(get, path = "/api/organizations/{id}", tag = "organizations",
    params(("id" = OrganizationId, Path)),
    responses((status = 200, description = "The organization.", body = Organization)))]
async fn find_organization(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<OrganizationId>,
) -> Answer<Json<Organization>> {
    Ok(Json(organizations::find_organization(&app, &caller, id).await?))
}

/// Changes an organization's name, or what is in it for others when nobody says. For its admins.
#[utoipa::path(patch, path = "/api/organizations/{id}", tag = "organizations",
    request_body = OrganizationUpdate, params(("id" = OrganizationId, Path)),
    responses((status = 200, description = "The organization.", body = Organization)))]
async fn update_organization(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<OrganizationId>,
    extract::Json(update): extract::Json<OrganizationUpdate>,
) -> Answer<Json<Organization>> {
    Ok(Json(organizations::update_organization(&app, &caller, id, update).await?))
}

/// Deletes an organization in which nothing is left: no other member, no workspace, no task under
/// way. For its owners.
#[utoipa::path(delete, path = "/api/organizations/{id}", tag = "organizations",
    params(("id" = OrganizationId, Path)), responses((status = 204, description = "Gone.")))]
async fn delete_organization(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<OrganizationId>,
) -> Answer<StatusCode> {
    organizations::delete_organization(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Leaves an organization. What the caller made there stays the caller's own; the last owner can't
/// leave.
#[utoipa::path(post, path = "/api/organizations/{id}/leave", tag = "organizations",
    params(("id" = OrganizationId, Path)), responses((status = 204, description = "Left.")))]
async fn leave_organization(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<OrganizationId>,
) -> Answer<StatusCode> {
    organizations::leave_organization(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes another member an owner in the caller's stead, who is an admin then. For its owners.
#[utoipa::path(post, path = "/api/organizations/{id}/transfer", tag = "organizations",
    request_body = OrganizationTransfer, params(("id" = OrganizationId, Path)),
    responses((status = 200, description = "The owner.", body = Member)))]
async fn transfer_organization(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<OrganizationId>,
    extract::Json(transfer): extract::Json<OrganizationTransfer>,
) -> Answer<Json<Member>> {
    Ok(Json(organizations::transfer_organization(&app, &caller, id, transfer).await?))
}

/// Who may do what in a repository, where that is less than in the organization.
#[utoipa::path(get, path = "/api/repositories/{id}/access", tag = "organizations",
    params(("id" = RepositoryId, Path)),
    responses((status = 200, description = "Who is named.", body = RepositoryAccess)))]
async fn find_repository_access(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RepositoryId>,
) -> Answer<Json<RepositoryAccess>> {
    Ok(Json(access::repository_access(&app, &caller, id).await?))
}

/// Says who may do what in a repository, in the stead of what was said. It holds at once.
#[utoipa::path(put, path = "/api/repositories/{id}/access", tag = "organizations",
    request_body = RepositoryAccess, params(("id" = RepositoryId, Path)),
    responses((status = 200, description = "Who is named.", body = RepositoryAccess)))]
async fn set_repository_access(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RepositoryId>,
    extract::Json(access): extract::Json<RepositoryAccess>,
) -> Answer<Json<RepositoryAccess>> {
    Ok(Json(access::set_repository_access(&app, &caller, id, access).await?))
}
