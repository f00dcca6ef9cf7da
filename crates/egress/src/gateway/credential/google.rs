//! Google's service accounts: their key signs a claim, for which Google gives a token for an hour.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use rustls::pki_types::{PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{Grant, Made, NoGrant, tokens::refusal};
use crate::gateway::{Parts, secret::Secret, upstream};

const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long a claim holds: the most that Google takes.
const CLAIM: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
struct Account {
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
}

/// A token for the service account that the material is the key of.
pub(super) async fn grant(
    material: &Secret,
    url: Option<&str>,
    parts: &Parts,
) -> Result<Made, NoGrant> {
    let no_key = "it is no key of a Google service account, a JSON document with `client_email` \
                  and `private_key`";
    let account: Account =
        serde_json::from_str(material.expose()).map_err(|_| NoGrant(no_key.to_owned()))?;
    // Not the one in the document: what signs is not to be sent where that says.
    let url = url.unwrap_or(TOKEN_URL);
    let claim =
        signed(&account, url, SystemTime::now()).ok_or_else(|| NoGrant(no_key.to_owned()))?;
    let url = Url::parse(url).map_err(|_| NoGrant("its token_url is no URL".to_owned()))?;
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", GRANT_TYPE)
        .append_pair("assertion", &claim)
        .finish();
    let kind = "application/x-www-form-urlencoded";
    let asked = upstream::ask(parts, &url, kind, form.into()).await;
    let (status, answer) = asked.map_err(NoGrant)?;
    let token = answer["access_token"].as_str().filter(|_| status == 200);
    let token = token.ok_or_else(|| NoGrant(refusal(status, &answer)))?;
    let token = Secret::new(token.to_owned());
    if !token.is_key() {
        return Err(NoGrant("the service gave something that is no token".to_owned()));
    }
    let seconds = answer["expires_in"].as_u64().unwrap_or(CLAIM.as_secs());
    let until = Some(SystemTime::now() + Duration::from_secs(seconds));
    Ok(Made { grant: Grant::bearer(token), until, renewed: None })
}

/// The claim, as a JSON Web Token; none where the key is none.
fn signed(account: &Account, url: &str, now: SystemTime) -> Option<String> {
    let pem = account.private_key.as_bytes();
    let key = match PrivatePkcs8KeyDer::from_pem_slice(pem) {
        Ok(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?,
        Err(_) => {
            let der = PrivatePkcs1KeyDer::from_pem_slice(pem).ok()?;
            KeyPair::from_der(der.secret_pkcs1_der()).ok()?
        }
    };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut head = json!({ "alg": "RS256", "typ": "JWT" });
    if let Some(id) = &account.private_key_id {
        head["kid"] = id.as_str().into();
    }
    let claims = json!({
        "iss": account.client_email,
        "scope": SCOPE,
        "aud": url,
        "iat": now.as_secs(),
        "exp": (now + CLAIM).as_secs(),
    });
    let text = format!("{}.{}", encode(&head), encode(&claims));
    let mut signature = vec![0; key.public().modulus_len()];
    let random = SystemRandom::new();
    key.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).ok()?;
    Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
