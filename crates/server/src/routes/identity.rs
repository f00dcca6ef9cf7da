//! `/api/auth`: how the page signs in, and who one is.

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use boatyard_api::{
    Problem,
    identity::{Identity, Login, LoginLink},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::{
    Api,
    answer::{Answer, Json},
    described::{Routes, routes},
    extract::{self, Query},
};
use crate::auth::{Caller, Known, Via};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(sign_in))
        .routes(routes!(sign_out))
        .routes(routes!(find_identity))
        .routes(routes!(create_login_link))
}

fn identity(known: Known) -> Identity {
    Identity {
        organization: known.caller.owner.organization,
        member: known.caller.owner.member,
        name: known.caller.name.to_string(),
        csrf: known.csrf,
    }
}

fn with_cookie(mut response: Response, cookie: &str) -> Result<Response, Problem> {
    let value = HeaderValue::from_str(cookie).map_err(Problem::internal)?;
    response.headers_mut().insert(header::SET_COOKIE, value);
    Ok(response)
}

/// Signs the page in with a key, or with the code of a printed link.
#[utoipa::path(post, path = "/api/auth/login", tag = "identity", request_body = Login,
    responses((status = 200, description = "Signed in; the cookie is set.", body = Identity)))]
async fn sign_in(
    State(api): State<Api>,
    extract::Json(login): extract::Json<Login>,
) -> Answer<Response> {
    let (value, known) = api.gate.auth.sign_in(login.key.trim()).await?;
    let cookie = api.gate.auth.signer().set(&value, api.transport);
    Ok(with_cookie(Json(identity(known)).into_response(), &cookie)?)
}

/// Signs the page out.
#[utoipa::path(post, path = "/api/auth/logout", tag = "identity",
    responses((status = 204, description = "Signed out; the cookie is gone.")))]
async fn sign_out(State(api): State<Api>) -> Answer<Response> {
    let cookie = api.gate.auth.signer().clear(api.transport);
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), &cookie)?)
}

/// Who the server takes the caller for.
#[utoipa::path(get, path = "/api/auth/me", tag = "identity",
    responses((status = 200, description = "The caller.", body = Identity)))]
async fn find_identity(Extension(known): Extension<Known>) -> Json<Identity> {
    Json(identity(known))
}

/// A link that signs a browser in once.
#[utoipa::path(post, path = "/api/auth/links", tag = "identity",
    responses((status = 201, description = "The link.", body = LoginLink)))]
async fn create_login_link(
    State(api): State<Api>,
    caller: Caller,
) -> Answer<(StatusCode, Json<LoginLink>)> {
    let (Via::Key(key) | Via::Session(key)) = caller.via else {
        return Err(Problem::not_allowed("the server itself needs no link").into());
    };
    Ok((StatusCode::CREATED, Json(api.login_link(key))))
}

#[derive(Debug, Deserialize)]
pub(super) struct Code {
    code: Option<String>,
}

/// The page itself, or the exchange of a printed link's code for a cookie: the code leaves the
/// address bar at once.
pub(super) async fn enter(
    State(api): State<Api>,
    known: Option<Extension<Known>>,
    Query(query): Query<Code>,
    headers: HeaderMap,
) -> Answer<Response> {
    let Some(code) = query.code else {
        return Ok(super::documents::page("index.html", &headers));
    };
    // Signed in already: the link need not be good any more.
    if known.is_some() {
        return Ok(Redirect::to("/").into_response());
    }
    match api.gate.auth.sign_in(code.trim()).await {
        Ok((value, _)) => {
            let cookie = api.gate.auth.signer().set(&value, api.transport);
            Ok(with_cookie(Redirect::to("/").into_response(), &cookie)?)
        }
        // The page asks for a key and says that the link was of no use.
        Err(problem) if problem.status == 401 => Ok(Redirect::to("/?link=used").into_response()),
        Err(problem) => Err(problem.into()),
    }
}
