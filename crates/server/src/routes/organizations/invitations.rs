//! `/api/invitations`, and what everybody may ask of one whose link they have.

use axum::extract::State;
use boatyard_api::organization::{
    Invitation, InvitationCode, InvitationFilter, InvitationPage, InvitationPreview, Invited,
    Joined, NewInvitation,
};
use boatyard_model::InvitationId;
use http::StatusCode;

use crate::{
    app::App,
    auth::Caller,
    operations::organizations::invitations,
    routes::{
        Api,
        answer::{Answer, Created, Json},
        described::{Routes, routes},
        extract::{self, Path, Query},
    },
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(list_invitations, create_invitation))
        .routes(routes!(accept_invitation))
        .routes(routes!(find_invitation, withdraw_invitation))
        .routes(routes!(preview_invitation))
}

/// Lists invitations, the newest first.
#[utoipa::path(get, path = "/api/invitations", tag = "organizations", params(InvitationFilter),
    responses((status = 200, description = "A page.", body = InvitationPage)))]
async fn list_invitations(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<InvitationFilter>,
) -> Answer<Json<InvitationPage>> {
    Ok(Json(invitations::list_invitations(&app, &caller, filter).await?))
}

/// Gives an invitation into the organization. Its link is in the answer, and never again.
#[utoipa::path(post, path = "/api/invitations", tag = "organizations",
    request_body = NewInvitation,
    responses((status = 201, description = "The invitation and its link.", body = Invited)))]
async fn create_invitation(
    State(api): State<Api>,
    caller: Caller,
    extract::Json(new): extract::Json<NewInvitation>,
) -> Answer<Created<Invited>> {
    if api.app.mail.is_some() && new.mail != Some(false) && new.email.is_some() {
        api.gate.auth.rates.mail(&caller)?;
    }
    let body = invitations::create_invitation(&api.app, &caller, new, &api.url).await?;
    Ok(Created { location: format!("/api/invitations/{}", body.invitation.id), body })
}

/// An invitation, without its code.
#[utoipa::path(get, path = "/api/invitations/{id}", tag = "organizations",
    params(("id" = InvitationId, Path)),
    responses((status = 200, description = "The invitation.", body = Invitation)))]
async fn find_invitation(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<InvitationId>,
) -> Answer<Json<Invitation>> {
    Ok(Json(invitations::find_invitation(&app, &caller, id).await?))
}

/// Withdraws an invitation: its link ceases to work.
#[utoipa::path(delete, path = "/api/invitations/{id}", tag = "organizations",
    params(("id" = InvitationId, Path)), responses((status = 204, description = "Withdrawn.")))]
async fn withdraw_invitation(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<InvitationId>,
) -> Answer<StatusCode> {
    invitations::withdraw_invitation(&app, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Uses an invitation: the caller is a member of its organization then.
#[utoipa::path(post, path = "/api/invitations/accept", tag = "organizations",
    request_body = InvitationCode,
    responses((status = 200, description = "What the caller is now.", body = Joined)))]
async fn accept_invitation(
    State(app): State<App>,
    caller: Caller,
    extract::Json(code): extract::Json<InvitationCode>,
) -> Answer<Json<Joined>> {
    Ok(Json(invitations::accept_invitation(&app, &caller, code).await?))
}

/// What an invitation is to, for whoever has its link.
#[utoipa::path(get, path = "/api/auth/invitation", tag = "organizations", params(InvitationCode),
    responses((status = 200, description = "What it is to.", body = InvitationPreview)))]
async fn preview_invitation(
    State(app): State<App>,
    Query(code): Query<InvitationCode>,
) -> Answer<Json<InvitationPreview>> {
    Ok(Json(invitations::preview_invitation(&app, &code).await?))
}
