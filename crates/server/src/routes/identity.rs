//! `/api/auth`: how one signs in, and one's own account. `/api/people`: everybody's.

use axum::{
    Extension,
    extract::{FromRequestParts, State},
    response::{IntoResponse as _, Redirect, Response},
};
use boatyard_api::{
    Problem,
    identity::{
        DeviceChoice, Devices, Identity, IdentityChange, Login, LoginLink, NewAccount,
        OrganizationChoice, PasswordChange, Person, PersonChange, PersonFilter, PersonPage, Setup,
        Ways,
    },
};
use boatyard_model::{DeviceId, PersonId, Scopes};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use serde::Deserialize;

use super::{
    Api,
    answer::{Answer, Json},
    described::{Routes, routes},
    extract::{self, Path, Query},
};
use crate::{
    auth::{Caller, Holder, Known, SignedIn, Via, Visitor, code::Purpose},
    gate,
    operations::{people, sign_in},
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(list_ways))
        .routes(routes!(sign_in))
        .routes(routes!(sign_out))
        .routes(routes!(set_up))
        .routes(routes!(sign_up))
        .routes(routes!(find_identity, change_identity))
        .routes(routes!(set_password))
        .routes(routes!(list_devices, end_devices))
        .routes(routes!(end_device))
        .routes(routes!(choose_organization))
        .routes(routes!(create_login_link))
        .routes(routes!(list_people))
        .routes(routes!(find_person, update_person))
        .routes(routes!(create_person_link))
}

/// The browser that sent the request.
impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let address = gate::address(&parts.extensions);
        Ok(Self::of(&parts.headers, address, parts.extensions.get::<Known>()))
    }
}

pub(super) fn with_cookie(mut response: Response, cookie: &str) -> Result<Response, Problem> {
    let value = HeaderValue::from_str(cookie).map_err(Problem::internal)?;
    response.headers_mut().append(header::SET_COOKIE, value);
    Ok(response)
}

/// The answer to a browser that is signed in now: its cookie, and where it goes on.
pub(super) fn entered(api: &Api, signed_in: &SignedIn, response: Response) -> Answer<Response> {
    let age = api.gate.auth.ways().device_lifetime;
    let cookie = api.gate.auth.signer().set(&signed_in.token, age, api.transport);
    Ok(with_cookie(response, &cookie)?)
}

/// The same, with who one is.
pub(super) async fn welcome(api: &Api, signed_in: &SignedIn) -> Answer<Response> {
    let identity = people::identity(&api.gate.auth, &signed_in.known).await?;
    entered(api, signed_in, Json(identity).into_response())
}

/// How one may sign in here.
#[utoipa::path(get, path = "/api/auth/ways", tag = "identity",
    responses((status = 200, description = "The ways that are switched on.", body = Ways)))]
async fn list_ways(State(api): State<Api>) -> Answer<Json<Ways>> {
    let auth = &api.gate.auth;
    let ways = auth.ways();
    Ok(Json(Ways {
        state: auth.state(),
        password: ways.password,
        passkeys: sign_in::offers_passkeys(&api.app, &ways),
        providers: sign_in::ways_of_providers(&api.app),
        sign_up: ways.sign_up,
    }))
}

/// Signs the page in: with an address and a password, with a key, or with a link's code.
#[utoipa::path(post, path = "/api/auth/login", tag = "identity", request_body = Login,
    responses((status = 200, description = "Signed in; the cookie is set.", body = Identity)))]
async fn sign_in(
    State(api): State<Api>,
    visitor: Visitor,
    extract::Json(login): extract::Json<Login>,
) -> Answer<Response> {
    let signed_in = people::sign_in(&api.gate.auth, &login, &visitor).await?;
    welcome(&api, &signed_in).await
}

/// Signs the page out.
#[utoipa::path(post, path = "/api/auth/logout", tag = "identity",
    responses((status = 204, description = "Signed out; the cookie is gone.")))]
async fn sign_out(State(api): State<Api>, known: Option<Extension<Known>>) -> Answer<Response> {
    if let Some(Extension(known)) = known {
        people::sign_out(&api.gate.auth, &known.caller).await?;
    }
    Ok(signed_out(&api)?)
}

fn signed_out(api: &Api) -> Result<Response, Problem> {
    let cookie = api.gate.auth.signer().clear(api.transport);
    with_cookie(StatusCode::NO_CONTENT.into_response(), &cookie)
}

/// Sets the server up: whoever has the printed code first becomes its owner and operator.
#[utoipa::path(post, path = "/api/auth/setup", tag = "identity", request_body = Setup,
    responses((status = 200, description = "It is yours; the cookie is set.", body = Identity)))]
async fn set_up(
    State(api): State<Api>,
    visitor: Visitor,
    extract::Json(setup): extract::Json<Setup>,
) -> Answer<Response> {
    let signed_in = people::set_up(&api.gate.auth, &setup, &visitor).await?;
    welcome(&api, &signed_in).await
}

/// Makes an account: by an invitation, or where that is allowed without one.
#[utoipa::path(post, path = "/api/auth/sign-up", tag = "identity", request_body = NewAccount,
    responses((status = 200, description = "Signed in; the cookie is set.", body = Identity)))]
async fn sign_up(
    State(api): State<Api>,
    visitor: Visitor,
    extract::Json(account): extract::Json<NewAccount>,
) -> Answer<Response> {
    let signed_in = people::sign_up(&api.gate.auth, &account, &visitor).await?;
    welcome(&api, &signed_in).await
}

/// Who the server takes the caller for. A browser stays signed in for longer by that.
#[utoipa::path(get, path = "/api/auth/me", tag = "identity",
    responses((status = 200, description = "The caller.", body = Identity)))]
async fn find_identity(
    State(api): State<Api>,
    Extension(known): Extension<Known>,
    headers: HeaderMap,
) -> Answer<Response> {
    let auth = &api.gate.auth;
    let response = Json(people::identity(auth, &known).await?).into_response();
    // The cookie's time in the browser runs from here again, as that of the device does.
    match (known.csrf.is_some(), auth.signer().find(&headers)) {
        (true, Some(token)) => {
            let cookie = auth.signer().set(token, auth.ways().device_lifetime, api.transport);
            Ok(with_cookie(response, &cookie)?)
        }
        (true, None) | (false, _) => Ok(response),
    }
}

/// Changes one's own account.
#[utoipa::path(patch, path = "/api/auth/me", tag = "identity", request_body = IdentityChange,
    responses((status = 200, description = "The caller.", body = Identity)))]
async fn change_identity(
    State(api): State<Api>,
    Extension(mut known): Extension<Known>,
    extract::Json(change): extract::Json<IdentityChange>,
) -> Answer<Json<Identity>> {
    let auth = &api.gate.auth;
    people::change_identity(auth, &known.caller, &change).await?;
    if let Ok(now) = auth.again(&known.caller).await? {
        known.caller = now.caller;
    }
    Ok(Json(people::identity(auth, &known).await?))
}

/// Sets one's password; other browsers are signed out.
#[utoipa::path(post, path = "/api/auth/password", tag = "identity", request_body = PasswordChange,
    responses((status = 204, description = "It is set.")))]
async fn set_password(
    State(api): State<Api>,
    caller: Caller,
    extract::Json(change): extract::Json<PasswordChange>,
) -> Answer<StatusCode> {
    people::change_password(&api.gate.auth, &caller, &change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The browsers in which one is signed in.
#[utoipa::path(get, path = "/api/auth/devices", tag = "identity",
    responses((status = 200, description = "They, the one seen last first.", body = Devices)))]
async fn list_devices(State(api): State<Api>, caller: Caller) -> Answer<Json<Devices>> {
    Ok(Json(people::list_devices(&api.gate.auth, &caller).await?))
}

/// Signs oneself out everywhere, or everywhere else.
#[utoipa::path(delete, path = "/api/auth/devices", tag = "identity", params(DeviceChoice),
    responses((status = 204, description = "Signed out.")))]
async fn end_devices(
    State(api): State<Api>,
    caller: Caller,
    Query(choice): Query<DeviceChoice>,
) -> Answer<Response> {
    let keep = match caller.via {
        Via::Device(id) if choice.others => Some(id),
        Via::Device(_) | Via::Guest(_) | Via::Key(_) | Via::Server => None,
    };
    people::end_devices(&api.gate.auth, &caller, keep).await?;
    match keep {
        Some(_) => Ok(StatusCode::NO_CONTENT.into_response()),
        None => Ok(signed_out(&api)?),
    }
}

/// Signs one of one's own browsers out.
#[utoipa::path(delete, path = "/api/auth/devices/{id}", tag = "identity",
    params(("id" = DeviceId, Path)),
    responses((status = 204, description = "It is signed out.")))]
async fn end_device(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<DeviceId>,
) -> Answer<StatusCode> {
    people::end_device(&api.gate.auth, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has this browser look at another organization.
#[utoipa::path(post, path = "/api/auth/organization", tag = "identity",
    request_body = OrganizationChoice,
    responses((status = 200, description = "The caller, there.", body = Identity)))]
async fn choose_organization(
    State(api): State<Api>,
    Extension(mut known): Extension<Known>,
    extract::Json(choice): extract::Json<OrganizationChoice>,
) -> Answer<Json<Identity>> {
    let auth = &api.gate.auth;
    people::choose_organization(auth, &known.caller, choice.organization).await?;
    known.caller.owner.organization = choice.organization;
    let there = auth.again(&known.caller).await?.map_err(crate::auth::Refusal::problem)?;
    known.caller = there.caller;
    Ok(Json(people::identity(auth, &known).await?))
}

/// A link that signs a browser in once, as oneself.
#[utoipa::path(post, path = "/api/auth/links", tag = "identity",
    responses((status = 201, description = "The link.", body = LoginLink)))]
async fn create_login_link(
    State(api): State<Api>,
    caller: Caller,
) -> Answer<(StatusCode, Json<LoginLink>)> {
    let Some(person) = caller.person else {
        return Err(Problem::not_allowed("a key of the organization's own has no account").into());
    };
    let key = match caller.via {
        Via::Key(key) => Some(key),
        Via::Device(id) => {
            let row = api.app.store.find_device(id).await.map_err(Problem::internal)?;
            row.and_then(|row| row.api_key)
        }
        Via::Guest(_) | Via::Server => None,
    };
    let holder = Holder { person, key, purpose: Purpose::SignIn };
    Ok((StatusCode::CREATED, Json(api.login_link(holder))))
}

/// The accounts of this server, the oldest first.
#[utoipa::path(get, path = "/api/people", tag = "identity", params(PersonFilter),
    responses((status = 200, description = "A page of them.", body = PersonPage)))]
async fn list_people(
    State(api): State<Api>,
    Query(filter): Query<PersonFilter>,
) -> Answer<Json<PersonPage>> {
    Ok(Json(people::list_people(&api.gate.auth, &filter).await?))
}

/// One account.
#[utoipa::path(get, path = "/api/people/{id}", tag = "identity", params(("id" = PersonId, Path)),
    responses((status = 200, description = "It.", body = Person)))]
async fn find_person(State(api): State<Api>, Path(id): Path<PersonId>) -> Answer<Json<Person>> {
    Ok(Json(people::find_person(&api.gate.auth, id).await?))
}

/// Changes an account: its name, whether it runs the server, whether it may sign in.
#[utoipa::path(patch, path = "/api/people/{id}", tag = "identity", request_body = PersonChange,
    params(("id" = PersonId, Path)),
    responses((status = 200, description = "It, as it is now.", body = Person)))]
async fn update_person(
    State(api): State<Api>,
    Path(id): Path<PersonId>,
    extract::Json(change): extract::Json<PersonChange>,
) -> Answer<Json<Person>> {
    Ok(Json(people::update_person(&api.gate.auth, id, &change).await?))
}

/// A link by which somebody signs in once and sets a new password.
#[utoipa::path(post, path = "/api/people/{id}/links", tag = "identity",
    params(("id" = PersonId, Path)),
    responses((status = 201, description = "The link.", body = LoginLink)))]
async fn create_person_link(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<PersonId>,
) -> Answer<(StatusCode, Json<LoginLink>)> {
    // It signs in, and that is for everything.
    if caller.scopes != Scopes::ALL {
        return Err(Problem::not_allowed("a key for some things only makes no link for all")
            .with_next("Use one for everything, or a browser in which you are signed in.")
            .into());
    }
    let link = people::create_person_link(&api.gate.auth, &api.url, id).await?;
    Ok((StatusCode::CREATED, Json(link)))
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
    visitor: Visitor,
    method: Method,
    Query(query): Query<Code>,
    headers: HeaderMap,
) -> Answer<Response> {
    // Whoever only looks whether there is a page does not use the link up.
    let Some(code) = query.code.filter(|_| method == Method::GET) else {
        return Ok(super::documents::page("index.html", &headers));
    };
    // Signed in already: the link need not be good any more. A guest is nobody yet.
    let known = known.filter(|Extension(known)| !matches!(known.caller.via, Via::Guest(_)));
    if known.is_some() {
        return Ok(Redirect::to("/").into_response());
    }
    match api.gate.auth.enter_by_code(code.trim(), &visitor).await {
        Ok(signed_in) => entered(&api, &signed_in, Redirect::to("/").into_response()),
        // The page asks for a key and says that the link was of no use.
        Err(problem) if problem.status == 401 => {
            let mut led_away = Redirect::to("/?link=used").into_response();
            // For the audit log: it was no sign-in.
            led_away.extensions_mut().insert(problem);
            Ok(led_away)
        }
        Err(problem) => Err(problem.into()),
    }
}
