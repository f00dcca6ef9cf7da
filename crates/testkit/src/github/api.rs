//! The part of GitHub's interface that gives out tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs1KeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::{APP_ID, APP_KEY, Answer, Rights, State, plain};

/// How long its tokens live, as it says: so long that no test comes to their end.
const ENDS: &str = "2099-01-01T00:00:00Z";

pub(super) async fn answer(
    state: &State,
    path: &str,
    token: Option<String>,
    request: Request<Incoming>,
) -> Answer {
    if !token.is_some_and(|jwt| is_app(&jwt)) {
        return told(StatusCode::UNAUTHORIZED, &json!({ "message": "Bad credentials" }));
    }
    if let Some(rest) = path.strip_prefix("/repos/")
        && let Some(repository) = rest.strip_suffix("/installation")
    {
        return match state.lock().installed.contains(repository) {
            true => told(StatusCode::OK, &json!({ "id": 1, "app_id": APP_ID })),
            false => told(StatusCode::NOT_FOUND, &json!({ "message": "Not Found" })),
        };
    }
    if path == "/app/installations/1/access_tokens" {
        let Some(wanted) = read(request).await.and_then(|body| serde_json::from_str(&body).ok())
        else {
            return told(StatusCode::BAD_REQUEST, &json!({ "message": "no JSON" }));
        };
        return token_for(state, &wanted);
    }
    told(StatusCode::NOT_FOUND, &json!({ "message": "Not Found" }))
}

fn token_for(state: &State, wanted: &Value) -> Answer {
    let repository = wanted["repositories"][0].as_str().map(str::to_owned);
    let mut state = state.lock();
    let is_there = repository.as_ref().is_some_and(|name| {
        state.installed.iter().any(|whole| whole.rsplit('/').next() == Some(name))
    });
    if !is_there {
        return told(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "message": "not there" }));
    }
    state.made += 1;
    let token = format!("ghs_made{}", state.made);
    let writes = wanted["permissions"]["contents"] == "write";
    state.tokens.insert(token.clone(), Rights { repository, writes });
    told(StatusCode::CREATED, &json!({ "token": token, "expires_at": ENDS }))
}

/// Whether it is a JSON Web Token of the app's.
fn is_app(jwt: &str) -> bool {
    let Some((signed, signature)) = jwt.rsplit_once('.') else { return false };
    let key = PrivatePkcs1KeyDer::from_pem_slice(APP_KEY.as_bytes()).expect("our own key");
    let key = RsaKeyPair::from_der(key.secret_pkcs1_der()).expect("our own key");
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let claims = signed.split_once('.').map(|(_, claims)| decode(claims)).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
    claims["iss"].as_str() == Some(&*APP_ID.to_string())
        && public.verify(signed.as_bytes(), &decode(signature)).is_ok()
}

/// Gives a token for a refresh token, which is worth nothing afterwards, and the next.
pub(super) async fn refresh(state: &State, request: Request<Incoming>) -> Answer {
    let body = read(request).await.unwrap_or_default();
    let given = url::form_urlencoded::parse(body.as_bytes())
        .find(|(name, _)| name == "refresh_token")
        .map(|(_, value)| value.into_owned());
    let mut state = state.lock();
    if !given.is_some_and(|given| state.refresh.remove(&given)) {
        return told(StatusCode::OK, &json!({ "error": "bad_refresh_token" }));
    }
    state.made += 1;
    let (token, next) = (format!("ghu_made{}", state.made), format!("ghr_made{}", state.made));
    state.tokens.insert(token.clone(), Rights { repository: None, writes: true });
    state.refresh.insert(next.clone());
    let told_of = json!({ "access_token": token, "expires_in": 28800, "refresh_token": next });
    told(StatusCode::OK, &told_of)
}

async fn read(request: Request<Incoming>) -> Option<String> {
    let body = request.into_body().collect().await.ok()?.to_bytes();
    String::from_utf8(body.into()).ok()
}

fn told(status: StatusCode, value: &Value) -> Answer {
    let mut response = plain(status, &value.to_string());
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
