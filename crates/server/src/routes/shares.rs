//! `/api/shares`, and what is for whom where nobody says.

use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use boatyard_api::share::{
    NewShare, Presence, PresenceUpdate, Share, ShareFilter, SharePage, Sharing, TakeShare,
    TakenShare,
};
use boatyard_model::{SessionId, ShareId, Wish};
use boatyard_store::Taker;

use super::{
    Api,
    answer::{Answer, Created, Json},
    described::{Routes, routes},
    extract::{self, Path, Query},
    identity::with_cookie,
};
use crate::{
    app::App,
    auth::{Caller, Known, Signer, Via, Visitor},
    operations::{sessions, shares},
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(create_share, list_shares))
        .routes(routes!(take_share))
        .routes(routes!(enter_as_guest))
        .routes(routes!(find_share, revoke_share))
        .routes(routes!(find_sharing, set_sharing))
        .routes(routes!(find_presence, set_presence))
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

/// Takes what a link gives to this browser, without an account: to look. A browser in which
/// somebody is signed in takes it for that person.
#[utoipa::path(post, path = "/api/auth/guest", tag = "shares", request_body = TakeShare,
    responses((status = 200, description = "Given; the cookie is set.", body = TakenShare)))]
async fn enter_as_guest(
    State(api): State<Api>,
    State(app): State<App>,
    known: Option<Extension<Known>>,
    visitor: Visitor,
    extract::Json(take): extract::Json<TakeShare>,
) -> Answer<Response> {
    let signed_in = known.map(|Extension(known)| known.caller);
    if let Some(caller) = signed_in.filter(|caller| !matches!(caller.via, Via::Guest(_))) {
        let taker = Taker::Known { owner: caller.owner, person: caller.person };
        return Ok(Json(shares::take_share(&app, take, taker).await?).into_response());
    }
    let token = Signer::token();
    let taker = Taker::Guest {
        hash: shares::hash_of(&token),
        address: visitor.address.map(|address| address.to_string()),
        agent: visitor.program,
    };
    let taken = shares::take_share(&app, take, taker).await?;
    let age = taken.expires.since(app.store.now());
    let cookie = api.gate.auth.signer().set(&token, age, api.transport);
    Ok(with_cookie(Json(taken).into_response(), &cookie)?)
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

/// Who is present in a session: who follows it, and who writes a prompt. Those who follow it are
/// told of changes by `presence` events in its stream.
#[utoipa::path(get, path = "/api/sessions/{id}/presence", tag = "sessions",
    params(("id" = SessionId, Path)),
    responses((status = 200, description = "They.", body = Presence)))]
async fn find_presence(
    State(api): State<Api>,
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SessionId>,
) -> Answer<Json<Presence>> {
    sessions::row(&app, &caller, id, Wish::Look).await?;
    Ok(Json(api.watchers.leases.presences.of(id)))
}

/// Says that one writes a prompt, or no more: for those who may, and follow the session.
#[utoipa::path(post, path = "/api/sessions/{id}/presence", tag = "sessions",
    params(("id" = SessionId, Path)), request_body = PresenceUpdate,
    responses((status = 200, description = "Who is present.", body = Presence)))]
async fn set_presence(
    State(api): State<Api>,
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SessionId>,
    extract::Json(update): extract::Json<PresenceUpdate>,
) -> Answer<Json<Presence>> {
    let wish = if update.typing { Wish::Act } else { Wish::Look };
    sessions::row(&app, &caller, id, wish).await?;
    Ok(Json(api.watchers.leases.presences.types(id, &caller, update.typing)))
}
