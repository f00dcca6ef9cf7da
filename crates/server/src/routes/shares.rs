//! `/api/shares`, and what is for whom where nobody says.

use axum::{extract::State, http::StatusCode};
use boatyard_api::share::{
    NewShare, Share, ShareFilter, SharePage, Sharing, TakeShare, TakenShare,
};
use boatyard_model::ShareId;
use boatyard_store::Taker;

use super::{
    Api,
    answer::{Answer, Created, Json},
    described::{Routes, routes},
    extract::{self, Path, Query},
};
use crate::{app::App, auth::Caller, operations::shares};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(create_share, list_shares))
        .routes(routes!(take_share))
        .routes(routes!(find_share, revoke_share))
        .routes(routes!(find_sharing, set_sharing))
}

/// Shares a task, a workspace or a session by a link, which is told in this answer alone.
#[utoipa::path(post, path = "/api/shares", tag = "shares", request_body = NewShare,
    responses((status = 201, description = "Made.", body = Share)))]
async fn create_share(
    State(api): State<Api>,
    State(app): State<App>,
    caller: Caller,
    extract::Json(new): extract::Json<NewShare>,
) -> Answer<Created<Share>> {
    let body = shares::create_share(&app, &caller, new, &api.url).await?;
    Ok(Created { location: format!("/api/shares/{}", body.id), body })
}

/// Lists shares, the newest first: one's own, those of a thing that one may decide about, and for
/// an admin all.
#[utoipa::path(get, path = "/api/shares", tag = "shares", params(ShareFilter),
    responses((status = 200, description = "A page.", body = SharePage)))]
async fn list_shares(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<ShareFilter>,
) -> Answer<Json<SharePage>> {
    Ok(Json(shares::list_shares(&app, &caller, filter).await?))
}

/// A share.
#[utoipa::path(get, path = "/api/shares/{id}", tag = "shares", params(("id" = ShareId, Path)),
    responses((status = 200, description = "The share.", body = Share)))]
async fn find_share(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ShareId>,
) -> Answer<Json<Share>> {
    Ok(Json(shares::find_share(&app, &caller, id).await?))
}

/// Takes a share back: what it gave, and every stream that is open by it, is over.
#[utoipa::path(delete, path = "/api/shares/{id}", tag = "shares", params(("id" = ShareId, Path)),
    responses((status = 200, description = "Taken back.", body = Share)))]
async fn revoke_share(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<ShareId>,
) -> Answer<Json<Share>> {
    Ok(Json(shares::revoke_share(&app, &caller, id).await?))
}

/// Takes what a link gives, for the caller. Once more gives the same.
#[utoipa::path(post, path = "/api/shares/redeem", tag = "shares", request_body = TakeShare,
    responses((status = 200, description = "Given.", body = TakenShare)))]
async fn take_share(
    State(app): State<App>,
    caller: Caller,
    extract::Json(take): extract::Json<TakeShare>,
) -> Answer<(StatusCode, Json<TakenShare>)> {
    let taker = Taker::Known { owner: caller.owner, person: caller.person };
    Ok((StatusCode::OK, Json(shares::take_share(&app, take, taker).await?)))
}

/// Who may see what is made in the organization, where nobody says.
#[utoipa::path(get, path = "/api/sharing", tag = "shares",
    responses((status = 200, description = "As it is.", body = Sharing)))]
async fn find_sharing(State(app): State<App>, caller: Caller) -> Answer<Json<Sharing>> {
    Ok(Json(shares::find_sharing(&app, &caller).await?))
}

/// Sets it, for what is made from now on.
#[utoipa::path(put, path = "/api/sharing", tag = "shares", request_body = Sharing,
    responses((status = 200, description = "Set.", body = Sharing)))]
async fn set_sharing(
    State(app): State<App>,
    caller: Caller,
    extract::Json(sharing): extract::Json<Sharing>,
) -> Answer<Json<Sharing>> {
    Ok(Json(shares::set_sharing(&app, &caller, sharing).await?))
}
