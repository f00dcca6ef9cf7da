//! OpenID Connect: who somebody is, by the word of a provider that signs it.
//!
//! ```text
//! begin:  the provider's document ─► address with state, nonce and a PKCE challenge
//! finish: code and verifier ─► token endpoint ─► identity token: its signature, issuer, audience,
//!         end and nonce are checked ─► what it lacks is asked of the user-info endpoint
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthType, AuthorizationCode, ClaimsVerificationError,
    ClientId, ClientSecret, CsrfToken, DiscoveryError, EndpointMaybeSet, EndpointNotSet,
    EndpointSet, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RequestTokenError, Scope, SignatureVerificationError, TokenResponse as _,
    UserInfoClaims, UserInfoError,
    core::{
        CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreErrorResponseType,
        CoreGenderClaim, CoreIdToken, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::{
    Account, Away, Provider,
    fault::{Fault, Unasked},
    outside::{Outside, asking},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use boatyard_api::sign_in::ProviderKind;

/// How long a provider's document and its keys are believed without asking again. A key that is not
/// among them is asked for at once.
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// How soon a provider is asked for its keys again, however many tokens name one that it lacks.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// How long one waits for the answer that another asked for.
const WAIT: Duration = Duration::from_secs(15);
/// What is asked for beside `openid`.
const SCOPES: [&str; 2] = ["email", "profile"];
/// The claim that lists groups, if nobody says another.
const GROUPS: &str = "groups";
/// The most groups of a person that are looked at.
const GROUPS_MAX: usize = 2000;

/// Signatures that are believed: of a key pair, never of a shared secret, never none.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// What a provider said of itself last.
#[derive(Default)]
pub(super) struct Known(tokio::sync::Mutex<Option<(Instant, CoreProviderMetadata)>>);

/// All claims of an answer, whatever they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Every {
    #[serde(flatten)]
    claims: Map<String, Value>,
}

impl AdditionalClaims for Every {}

impl Known {
    /// The provider's document and keys: asked for, if what is known is older than `age`.
    pub(super) async fn document(
        &self,
        outside: &Arc<Outside>,
        issuer: &str,
        age: Duration,
    ) -> Result<CoreProviderMetadata, Fault> {
        // Who comes while somebody asks waits for the same answer, but not for ever.
        let late = |_| Fault::Unreachable("it was asked and has not answered yet".to_owned());
        let mut known = timeout(WAIT, self.0.lock()).await.map_err(late)?;
        if let Some((since, document)) = &*known
            && since.elapsed() < age
        {
            return Ok(document.clone());
        }
        let url = IssuerUrl::new(issuer.to_owned())
            .map_err(|error| Fault::nonsense("its issuer is no address", &error))?;
        let http = asking(outside, issuer);
        let document =
            CoreProviderMetadata::discover_async(url, &http).await.map_err(undiscovered)?;
        *known = Some((Instant::now(), document.clone()));
        Ok(document)
    }
}

fn undiscovered(error: DiscoveryError<Unasked>) -> Fault {
    match error {
        DiscoveryError::Request(error) => error.into(),
        DiscoveryError::Response(status, _, reason) if status.is_server_error() => {
            Fault::Unreachable(format!("its document is not there: {reason}"))
        }
        error => Fault::nonsense(
            "its document (/.well-known/openid-configuration) or its keys \
                                  can't be used",
            &error,
        ),
    }
}

fn client(
    provider: &Provider,
    document: &CoreProviderMetadata,
    callback: &str,
) -> Result<Client, Fault> {
    let callback = RedirectUrl::new(callback.to_owned())
        .map_err(|error| Fault::nonsense("the server's own address is none", &error))?;
    let secret = ClientSecret::new(provider.secret()?.to_string());
    let id = ClientId::new(provider.settings.client_id.clone());
    let client = CoreClient::from_provider_metadata(document.clone(), id, Some(secret));
    let methods = document.token_endpoint_auth_methods_supported();
    let only_in_body = methods.is_some_and(|methods| {
        !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
            && methods.contains(&CoreClientAuthMethod::ClientSecretPost)
    });
    let auth = if only_in_body { AuthType::RequestBody } else { AuthType::BasicAuth };
    Ok(client.set_auth_type(auth).set_redirect_uri(callback))
}

/// Where a browser is sent.
pub(super) async fn begin(
    provider: &Provider,
    outside: &Arc<Outside>,
    callback: &str,
    state: &str,
) -> Result<Away, Fault> {
    let document = provider.known.document(outside, &provider.issuer, KNOWN_FOR).await?;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let client = client(provider, &document, callback)?;
    let token = CsrfToken::new(state.to_owned());
    let wanted = SCOPES.iter().copied().chain(provider.settings.scopes.iter().map(String::as_str));
    let (url, _, nonce) = client
        .authorize_url(CoreAuthenticationFlow::AuthorizationCode, move || token, Nonce::new_random)
        .add_scopes(wanted.map(|scope| Scope::new(scope.to_owned())))
        .set_pkce_challenge(challenge)
        .url();
    if url.scheme() != "https" {
        let what = "its document sends people to an address that is not https://";
        return Err(Fault::Nonsense(what.to_owned()));
    }
    Ok(Away { url, nonce: nonce.secret().clone(), verifier: verifier.secret().clone() })
}

/// Who the code is for.
pub(super) async fn finish(
    provider: &Provider,
    outside: &Arc<Outside>,
    callback: &str,
    back: &super::Back<'_>,
) -> Result<Account, Fault> {
    let issuer = &*provider.issuer;
    let document = provider.known.document(outside, issuer, KNOWN_FOR).await?;
    let client = client(provider, &document, callback)?;
    let http = asking(outside, issuer);
    let token = client
        .exchange_code(AuthorizationCode::new(back.code.to_owned()))
        .map_err(|error| Fault::nonsense("its document names no token endpoint", &error))?
        .set_pkce_verifier(PkceCodeVerifier::new(back.verifier.to_owned()))
        .request_async(&http)
        .await
        .map_err(no_token)?;
    let word = token.id_token().ok_or_else(|| {
        Fault::Nonsense("it gave no identity token; is `openid` allowed to this client?".to_owned())
    })?;
    let nonce = Nonce::new(back.nonce.to_owned());
    let client = match checked(&client, word, &nonce) {
        // It may have changed its keys since.
        Err(ClaimsVerificationError::SignatureVerification(
            SignatureVerificationError::NoMatchingKey,
        )) => {
            let document = provider.known.document(outside, issuer, AGAIN_AFTER).await?;
            let anew = self::client(provider, &document, callback)?;
            checked(&anew, word, &nonce).map_err(unbelievable)?;
            anew
        }
        Err(error) => return Err(unbelievable(error)),
        Ok(()) => client,
    };
    let verifier = client.id_token_verifier().set_allowed_algs(ALGORITHMS);
    let claims = word.claims(&verifier, &nonce).map_err(unbelievable)?;
    if let Some(hash) = claims.access_token_hash() {
        let unsigned = |error| unbelievable(ClaimsVerificationError::SignatureVerification(error));
        let algorithm = word.signing_alg().map_err(unsigned)?;
        let key = word.signing_key(&verifier).map_err(unsigned)?;
        let ours = AccessTokenHash::from_token(token.access_token(), algorithm, key);
        let ours =
            ours.map_err(|error| Fault::nonsense("its token's hash can't be made", &error))?;
        if ours != *hash {
            let what = "its access token is not the one that its identity token names";
            return Err(Fault::Nonsense(what.to_owned()));
        }
    }
    let mut told = payload(word)?;
    let subject = claims.subject().clone();
    let lacks = |claim: &str| !told.contains_key(claim);
    let wants_groups = !provider.grants.is_empty() && provider.settings.kind == ProviderKind::Oidc;
    let wanted =
        lacks("email") || lacks("name") || (wants_groups && find(&told, claim(provider)).is_none());
    if wanted
        && let Ok(request) = client.user_info(token.access_token().clone(), Some(subject.clone()))
    {
        let more: UserInfoClaims<Every, CoreGenderClaim> =
            request.request_async(&http).await.map_err(no_user_info)?;
        let more = serde_json::to_value(&more)
            .map_err(|error| Fault::nonsense("what it says of the person can't be read", &error))?;
        if let Value::Object(more) = more {
            for (claim, value) in more {
                // What is signed goes first.
                told.entry(claim).or_insert(value);
            }
        }
    }
    Ok(account(provider, &document, subject.to_string(), &told))
}

fn checked(
    client: &Client,
    word: &CoreIdToken,
    nonce: &Nonce,
) -> Result<(), ClaimsVerificationError> {
    let verifier = client.id_token_verifier().set_allowed_algs(ALGORITHMS);
    word.claims(&verifier, nonce).map(|_| ())
}

/// All claims of an identity token that was checked.
fn payload(word: &CoreIdToken) -> Result<Map<String, Value>, Fault> {
    let text = word.to_string();
    let broken = || Fault::Nonsense("its identity token has no claims".to_owned());
    let middle = text.split('.').nth(1).ok_or_else(broken)?;
    let json = URL_SAFE_NO_PAD.decode(middle).map_err(|_| broken())?;
    serde_json::from_slice(&json).map_err(|_| broken())
}

fn account(
    provider: &Provider,
    document: &CoreProviderMetadata,
    subject: String,
    told: &Map<String, Value>,
) -> Account {
    let text = |claim: &str| told.get(claim).and_then(Value::as_str).map(str::to_owned);
    let verified = match told.get("email_verified") {
        Some(Value::Bool(yes)) => *yes,
        Some(Value::String(text)) => text == "true",
        _ => false,
    };
    let groups = match provider.settings.kind {
        // The domain of a Workspace is all that Google tells.
        ProviderKind::Google => text("hd").into_iter().collect(),
        ProviderKind::Oidc | ProviderKind::Github => groups(find(told, claim(provider))),
    };
    let name = text("name").or_else(|| text("preferred_username"));
    Account {
        issuer: document.issuer().as_str().to_owned(),
        subject,
        email: text("email"),
        verified,
        name,
        groups,
    }
}

fn claim(provider: &Provider) -> &str {
    provider.settings.groups_claim.as_deref().unwrap_or(GROUPS)
}

/// A claim by its name, or by a path of names with dots between.
fn find<'t>(told: &'t Map<String, Value>, claim: &str) -> Option<&'t Value> {
    if let Some(found) = told.get(claim) {
        return Some(found);
    }
    let (first, rest) = claim.split_once('.')?;
    rest.split('.').try_fold(told.get(first)?, |value, name| value.get(name))
}

fn groups(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => {
            let texts = many.iter().take(GROUPS_MAX).filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

fn unbelievable(error: ClaimsVerificationError) -> Fault {
    Fault::nonsense("its identity token can't be believed", &error)
}

fn no_token(
    error: RequestTokenError<Unasked, openidconnect::StandardErrorResponse<CoreErrorResponseType>>,
) -> Fault {
    match error {
        RequestTokenError::Request(error) => error.into(),
        RequestTokenError::ServerResponse(answer) => match answer.error() {
            CoreErrorResponseType::InvalidGrant => {
                Fault::Code(format!("it does not know the code: {answer}"))
            }
            _ => Fault::Nonsense(format!("it gives no token for the code: {answer}")),
        },
        RequestTokenError::Parse(error, _) => {
            Fault::nonsense("its token endpoint gave no token", &error)
        }
        RequestTokenError::Other(reason) => {
            Fault::Nonsense(format!("its token endpoint gave no token: {reason}"))
        }
    }
}

fn no_user_info(error: UserInfoError<Unasked>) -> Fault {
    match error {
        UserInfoError::Request(error) => error.into(),
        error => Fault::nonsense("what it says of the person can't be used", &error),
    }
}

/// Whether the provider can be asked, and what it says of itself.
pub(super) async fn check(
    provider: &Provider,
    outside: &Arc<Outside>,
) -> Result<Vec<String>, Fault> {
    let document = provider.known.document(outside, &provider.issuer, Duration::ZERO).await?;
    let mut found = vec![
        format!("{} answers, and is who it should be.", document.issuer().as_str()),
        format!("It has {} keys.", document.jwks().keys().len()),
    ];
    if document.token_endpoint().is_none() {
        let what = "its document names no token endpoint";
        return Err(Fault::Nonsense(what.to_owned()));
    }
    let wanted = document.scopes_supported();
    let lacks =
        |scope: &&str| wanted.is_some_and(|all| !all.iter().any(|known| known.as_str() == *scope));
    let own = provider.settings.scopes.iter().map(String::as_str);
    for scope in SCOPES.iter().copied().chain(own).filter(lacks) {
        found.push(format!("It does not say that it knows the scope `{scope}`."));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn groups_are_found_by_name_and_by_path() {
        let told = json!({
            "groups": ["a", 1, "b"],
            "https://example.com/groups": ["c"],
            "realm_access": { "roles": ["d"] },
            "role": "e",
        });
        let Value::Object(told) = told else { unreachable!() };
        for (claim, expected) in [
            ("groups", &["a", "b"][..]),
            ("https://example.com/groups", &["c"]),
            ("realm_access.roles", &["d"]),
            ("role", &["e"]),
            ("none", &[]),
            ("realm_access.none", &[]),
        ] {
            assert_eq!(groups(find(&told, claim)), expected, "{claim}");
        }
    }
}
