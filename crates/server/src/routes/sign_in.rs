//! `/api/sign-in` and `/api/auth` of providers and passkeys: how people sign in.

use axum::{
    Extension,
    extract::{RawQuery, State},
    response::{IntoResponse as _, Redirect, Response},
};
use boatyard_api::{
    Problem,
    identity::Identity,
    sign_in::{
        LinkedAccountList, NewPasskey, NewSignInProvider, Passkey, PasskeyChallenge, PasskeyList,
        PasskeyLogin, ProviderName, Refusal, SignInProvider, SignInProviderCheck,
        SignInProviderList, SignInProviderUpdate, SignInSettings, SignInUpdate,
    },
};
use boatyard_model::{IdentityId, PasskeyId};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Api,
    answer::{Answer, Created, Json},
    described::{Routes, routes},
    extract::{self, Path, Query},
    identity,
};
use crate::{
    auth::{Caller, Entrance, Known, Visitor, providers::flow::Flows},
    operations::sign_in::{
        self as operations, accounts, passkeys, providers,
        travel::{self, Arrived, Returned},
    },
};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(find_sign_in, change_sign_in))
        .routes(routes!(list_sign_in_providers, create_sign_in_provider))
        .routes(routes!(find_sign_in_provider, change_sign_in_provider, remove_sign_in_provider))
        .routes(routes!(check_sign_in_provider))
        .routes(routes!(begin_sign_in))
        .routes(routes!(finish_sign_in))
        .routes(routes!(list_accounts))
        .routes(routes!(remove_account))
        .routes(routes!(list_passkeys))
        .routes(routes!(remove_passkey))
        .routes(routes!(begin_passkey))
        .routes(routes!(finish_passkey))
        .routes(routes!(begin_passkey_login))
        .routes(routes!(finish_passkey_login))
}

/// What is switched on, and who said so.
#[utoipa::path(get, path = "/api/sign-in", tag = "identity",
    responses((status = 200, description = "How people sign in.", body = SignInSettings)))]
async fn find_sign_in(State(api): State<Api>) -> Answer<Json<SignInSettings>> {
    Ok(Json(operations::find_sign_in(&api.app, &api.gate.auth).await?))
}

/// Switches ways of signing in on and off. What the settings file says goes first.
#[utoipa::path(put, path = "/api/sign-in", tag = "identity", request_body = SignInUpdate,
    responses((status = 200, description = "How people sign in now.", body = SignInSettings)))]
async fn change_sign_in(
    State(api): State<Api>,
    extract::Json(update): extract::Json<SignInUpdate>,
) -> Answer<Json<SignInSettings>> {
    Ok(Json(operations::change_sign_in(&api.app, &api.gate.auth, update).await?))
}

/// The providers by which people sign in, without their secrets.
#[utoipa::path(get, path = "/api/sign-in/providers", tag = "identity",
    responses((status = 200, description = "By name.", body = SignInProviderList)))]
async fn list_sign_in_providers(State(api): State<Api>) -> Json<SignInProviderList> {
    Json(SignInProviderList { items: providers::list_sign_in_providers(&api.app) })
}

/// Sets a provider up. Its secret is sealed, and can't be read again.
#[utoipa::path(post, path = "/api/sign-in/providers", tag = "identity",
    request_body = NewSignInProvider,
    responses((status = 201, description = "The provider.", body = SignInProvider)))]
async fn create_sign_in_provider(
    State(api): State<Api>,
    caller: Caller,
    extract::Json(new): extract::Json<NewSignInProvider>,
) -> Answer<Created<SignInProvider>> {
    let body = providers::create_sign_in_provider(&api.app, &caller, new).await?;
    let location = format!("/api/sign-in/providers/{}", body.name);
    Ok(Created { body, location })
}

/// A provider.
#[utoipa::path(get, path = "/api/sign-in/providers/{name}", tag = "identity",
    params(("name" = String, Path)),
    responses((status = 200, description = "The provider.", body = SignInProvider)))]
async fn find_sign_in_provider(
    State(api): State<Api>,
    Path(name): Path<ProviderName>,
) -> Answer<Json<SignInProvider>> {
    Ok(Json(providers::find_sign_in_provider(&api.app, name.as_str())?))
}

/// Changes a provider.
#[utoipa::path(put, path = "/api/sign-in/providers/{name}", tag = "identity",
    request_body = SignInProviderUpdate, params(("name" = String, Path)),
    responses((status = 200, description = "The provider.", body = SignInProvider)))]
async fn change_sign_in_provider(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<ProviderName>,
    extract::Json(update): extract::Json<SignInProviderUpdate>,
) -> Answer<Json<SignInProvider>> {
    let auth = &api.gate.auth;
    Ok(Json(
        providers::change_sign_in_provider(&api.app, auth, &caller, name.as_str(), update).await?,
    ))
}

/// Removes a provider: nobody signs in by it any more.
#[utoipa::path(delete, path = "/api/sign-in/providers/{name}", tag = "identity",
    params(("name" = String, Path)), responses((status = 204, description = "Gone.")))]
async fn remove_sign_in_provider(
    State(api): State<Api>,
    Path(name): Path<ProviderName>,
) -> Answer<StatusCode> {
    providers::remove_sign_in_provider(&api.app, &api.gate.auth, name.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks a provider whether it is there, as far as that goes without anybody signing in.
#[utoipa::path(post, path = "/api/sign-in/providers/{name}/check", tag = "identity",
    params(("name" = String, Path)),
    responses((status = 200, description = "What was found.", body = SignInProviderCheck)))]
async fn check_sign_in_provider(
    State(api): State<Api>,
    Path(name): Path<ProviderName>,
) -> Answer<Json<SignInProviderCheck>> {
    Ok(Json(providers::check_sign_in_provider(&api.app, name.as_str()).await?))
}

/// What a browser wants that sets out to a provider.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Start {
    /// Where in the page one wants to go in the end: a path.
    next: Option<String>,
    /// The code of an invitation.
    invitation: Option<String>,
    /// Links the account to who is signed in, instead of signing in.
    link: Option<bool>,
}

/// Leads the browser to a provider.
#[utoipa::path(get, path = "/api/auth/start/{provider}", tag = "identity",
    params(("provider" = String, Path), Start),
    responses((status = 303, description = "To the provider, or to `/?refused=CODE`.")))]
async fn begin_sign_in(
    State(api): State<Api>,
    known: Option<Extension<Known>>,
    Path(provider): Path<String>,
    Query(start): Query<Start>,
) -> Answer<Response> {
    let known = known.as_ref().map(|Extension(known)| known);
    let wanted = travel::Start {
        next: start.next.as_deref(),
        invitation: start.invitation.as_deref(),
        link: start.link.unwrap_or(false),
    };
    let auth = &api.gate.auth;
    Ok(match travel::set_out(&api.app, auth, &provider, wanted, known, api.transport).await {
        Ok(sent) => with_cookie(leave(&sent.url), &sent.cookie)?,
        Err(refusal) => refused(&api, &provider, refusal),
    })
}

/// Takes the browser in that a provider leads back, and leads it on to the page.
#[utoipa::path(get, path = "/api/auth/callback/{provider}", tag = "identity",
    params(("provider" = String, Path)),
    responses((status = 303, description = "To the page, or to `/?refused=CODE`.")))]
async fn finish_sign_in(
    State(api): State<Api>,
    visitor: Visitor,
    Path(provider): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer<Response> {
    // Providers add what they like; what stands there twice counts once.
    let mut back = Returned::default();
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let place = match &*name {
            "code" => &mut back.code,
            "state" => &mut back.state,
            "error" => &mut back.error,
            "iss" => &mut back.issuer,
            _ => continue,
        };
        place.get_or_insert_with(|| value.into_owned());
    }
    let auth = &api.gate.auth;
    let arrived = travel::arrive(&api.app, auth, &provider, &back, &headers, &visitor).await?;
    let response = match arrived {
        Ok(Arrived { next, signed_in: Some(signed_in) }) => {
            identity::entered(&api, &signed_in, leave(&next))?
        }
        Ok(Arrived { next, signed_in: None }) => leave(&next),
        Err(refusal) => refused(&api, &provider, refusal),
    };
    let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match back.state.as_deref() {
        Some(state) if is_name(state) && is_name(&provider) => {
            let cleared = Flows::clear(&provider, state, api.transport);
            Ok(with_cookie(response, &cleared)?)
        }
        _ => Ok(response),
    }
}

/// The browser goes elsewhere, and nobody keeps the way.
fn leave(to: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    response
}

/// Back to the page, which says why. The audit log finds the reason beside the answer.
fn refused(api: &Api, provider: &str, refusal: Refusal) -> Response {
    let code = refusal.as_str();
    let to = match api.app.sign_in.provider(provider) {
        Some(known) => format!("/?refused={code}&provider={}", known.name),
        None => format!("/?refused={code}"),
    };
    let mut response = leave(&to);
    response.extensions_mut().insert(Problem::not_allowed(refusal.sentence()));
    response
}

fn with_cookie(mut response: Response, cookie: &str) -> Result<Response, Problem> {
    let value = HeaderValue::from_str(cookie).map_err(Problem::internal)?;
    response.headers_mut().append(header::SET_COOKIE, value);
    Ok(response)
}

/// One's own accounts at providers.
#[utoipa::path(get, path = "/api/auth/accounts", tag = "identity",
    responses((status = 200, description = "Oldest first.", body = LinkedAccountList)))]
async fn list_accounts(State(api): State<Api>, caller: Caller) -> Answer<Json<LinkedAccountList>> {
    Ok(Json(LinkedAccountList { items: accounts::list_accounts(&api.app, &caller).await? }))
}

/// Takes an account away from oneself: it signs in nobody any more.
#[utoipa::path(delete, path = "/api/auth/accounts/{id}", tag = "identity",
    params(("id" = IdentityId, Path)), responses((status = 204, description = "Gone.")))]
async fn remove_account(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<IdentityId>,
) -> Answer<StatusCode> {
    accounts::remove_account(&api.app, &api.gate.auth, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One's own passkeys.
#[utoipa::path(get, path = "/api/auth/passkeys", tag = "identity",
    responses((status = 200, description = "Oldest first.", body = PasskeyList)))]
async fn list_passkeys(State(api): State<Api>, caller: Caller) -> Answer<Json<PasskeyList>> {
    Ok(Json(PasskeyList { items: passkeys::list_passkeys(&api.app, &caller).await? }))
}

/// Removes one's passkey: it signs in nobody any more.
#[utoipa::path(delete, path = "/api/auth/passkeys/{id}", tag = "identity",
    params(("id" = PasskeyId, Path)), responses((status = 204, description = "Gone.")))]
async fn remove_passkey(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<PasskeyId>,
) -> Answer<StatusCode> {
    passkeys::remove_passkey(&api.app, &api.gate.auth, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What one's authenticator is to be asked for a new passkey.
#[utoipa::path(post, path = "/api/auth/passkeys/register/begin", tag = "identity",
    responses((status = 200, description = "The challenge.", body = PasskeyChallenge)))]
async fn begin_passkey(State(api): State<Api>, caller: Caller) -> Answer<Json<PasskeyChallenge>> {
    Ok(Json(passkeys::begin_passkey(&api.app, &api.gate.auth, &caller).await?))
}

/// Keeps the passkey that one's authenticator made.
#[utoipa::path(post, path = "/api/auth/passkeys/register/finish", tag = "identity",
    request_body = NewPasskey,
    responses((status = 200, description = "The passkey.", body = Passkey)))]
async fn finish_passkey(
    State(api): State<Api>,
    caller: Caller,
    extract::Json(new): extract::Json<NewPasskey>,
) -> Answer<Json<Passkey>> {
    Ok(Json(passkeys::finish_passkey(&api.app, &api.gate.auth, &caller, new).await?))
}

/// What an authenticator is to be asked of who wants to sign in.
#[utoipa::path(post, path = "/api/auth/passkeys/login/begin", tag = "identity",
    responses((status = 200, description = "The challenge.", body = PasskeyChallenge)))]
async fn begin_passkey_login(State(api): State<Api>) -> Answer<Json<PasskeyChallenge>> {
    Ok(Json(passkeys::begin_passkey_login(&api.app, &api.gate.auth)?))
}

/// Signs in who has shown a passkey.
#[utoipa::path(post, path = "/api/auth/passkeys/login/finish", tag = "identity",
    request_body = PasskeyLogin,
    responses((status = 200, description = "Signed in; the cookie is set.", body = Identity)))]
async fn finish_passkey_login(
    State(api): State<Api>,
    visitor: Visitor,
    extract::Json(login): extract::Json<PasskeyLogin>,
) -> Answer<Response> {
    let auth = &api.gate.auth;
    let person = passkeys::finish_passkey_login(&api.app, auth, login).await?;
    let signed_in = auth.enter(Entrance::of(person, "passkey"), &visitor).await?;
    identity::welcome(&api, &signed_in).await
}
