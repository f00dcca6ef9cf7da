//! `/api/auth/device`: programs that are let in by a code (RFC 8628).
//!
//! What programs ask is taken as a form, as the RFC has it, or as JSON, and answered with the RFC's
//! own errors, whatever is wrong; what people ask is answered as everywhere else.

use axum::{
    extract::{FromRequestParts, State},
    response::{IntoResponse as _, Response},
};
use boatyard_api::device_code::{
    DeviceCodeDetail, DeviceCodeRequest, DeviceCodes, DeviceDecision, DeviceError, DeviceToken,
    DeviceTokenRequest,
};
use http::{HeaderMap, StatusCode, header, request::Parts};
use serde::de::DeserializeOwned;

use super::{
    Api,
    answer::{Answer, AsItIs, Failure, Json},
    described::{Routes, routes},
    extract::{self, Path, Raw},
};
use crate::{
    app::App,
    auth::Caller,
    operations::device_codes::{self, Refused},
};

/// The longest question of a program, in bytes.
const BODY_MAX: u64 = 8 << 10;

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(create_device_code))
        .routes(routes!(redeem_device_code))
        .routes(routes!(find_device_code, decide_device_code))
}

/// Begins to let a program in: codes for it and for a person (RFC 8628, 3.1).
#[utoipa::path(post, path = "/api/auth/device/code", tag = "identity",
    request_body(content(
        (DeviceCodeRequest = "application/x-www-form-urlencoded"),
        (DeviceCodeRequest = "application/json"),
    )),
    responses(
        (status = 200, description = "The codes.", body = DeviceCodes),
        (status = 400, description = "Why there are none.", body = DeviceError),
    ))]
async fn create_device_code(
    State(api): State<Api>,
    from: extract::From,
    headers: HeaderMap,
    body: Raw<BODY_MAX>,
) -> Answer<Response> {
    let request = match parsed(&body) {
        Ok(request) => request,
        Err(refused) => return answered(refused),
    };
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let made = device_codes::create_device_code(&api.app, &api.url, request, agent, from.0).await;
    match made {
        Ok(codes) => Ok(Json(codes).into_response()),
        Err(refused) => answered(refused),
    }
}

/// The program's question for its key (RFC 8628, 3.4). The key is given once.
#[utoipa::path(post, path = "/api/auth/device/token", tag = "identity",
    request_body(content(
        (DeviceTokenRequest = "application/x-www-form-urlencoded"),
        (DeviceTokenRequest = "application/json"),
    )),
    responses(
        (status = 200, description = "The key.", body = DeviceToken),
        (status = 400, description = "Why there is none, or none yet.", body = DeviceError),
    ))]
async fn redeem_device_code(State(app): State<App>, body: Raw<BODY_MAX>) -> Answer<Response> {
    let request = match parsed(&body) {
        Ok(request) => request,
        Err(refused) => return answered(refused),
    };
    match device_codes::redeem_device_code(&app, request).await {
        Ok(token) => Ok(Json(token).into_response()),
        Err(refused) => answered(refused),
    }
}

/// What waits behind a code: which program, and from where.
#[utoipa::path(get, path = "/api/auth/device/{code}", tag = "identity",
    params(("code" = String, Path)),
    responses((status = 200, description = "The program.", body = DeviceCodeDetail)))]
async fn find_device_code(
    State(app): State<App>,
    _: Caller,
    UserCode(code): UserCode,
) -> Answer<Json<DeviceCodeDetail>> {
    Ok(Json(device_codes::find_device_code(&app, &code).await?))
}

/// Lets a program in, as oneself, or refuses it.
#[utoipa::path(post, path = "/api/auth/device/{code}", tag = "identity",
    request_body = DeviceDecision, params(("code" = String, Path)),
    responses((status = 200, description = "The program.", body = DeviceCodeDetail)))]
async fn decide_device_code(
    State(app): State<App>,
    caller: Caller,
    UserCode(code): UserCode,
    extract::Json(decision): extract::Json<DeviceDecision>,
) -> Answer<Json<DeviceCodeDetail>> {
    Ok(Json(device_codes::decide_device_code(&app, &caller, &code, decision).await?))
}

/// The code of a path, as a person typed it; looked at before anything else of the request.
struct UserCode(String);

impl FromRequestParts<Api> for UserCode {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let Path(code) = Path::<String>::from_request_parts(parts, api).await?;
        Ok(Self(device_codes::letters(&code)?))
    }
}

/// A question of a program, in either form.
fn parsed<T: DeserializeOwned>(body: &Raw<BODY_MAX>) -> Result<T, Refused> {
    let bad = |text: String| Refused::Said("invalid_request", text);
    match body.mime.as_str() {
        "application/x-www-form-urlencoded" => {
            serde_urlencoded::from_bytes(&body.bytes).map_err(|error| bad(error.to_string()))
        }
        "application/json" => {
            // Serde takes a list for a struct too.
            if body.bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
                return Err(bad("expected a JSON object".to_owned()));
            }
            serde_json::from_slice(&body.bytes).map_err(|error| bad(error.to_string()))
        }
        _ => Err(bad("expected `Content-Type: application/x-www-form-urlencoded`".to_owned())),
    }
}

/// Why a program gets nothing, in the RFC's form.
fn answered(refused: Refused) -> Answer<Response> {
    match refused {
        Refused::Problem(problem) => Err(problem.into()),
        Refused::Said(error, error_description) => {
            let error = DeviceError { error: error.to_owned(), error_description };
            let mut response = (StatusCode::BAD_REQUEST, Json(error)).into_response();
            response.extensions_mut().insert(AsItIs);
            Ok(response)
        }
    }
}
