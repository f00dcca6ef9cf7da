//! GitHub: who somebody is, by what its API says to a token that the person allowed.
//!
//! GitHub signs no word of who somebody is, so the token is used once, to ask, and thrown away. An
//! address counts only if GitHub has verified it; of several, the first one is taken. The number of
//! an account is what it is known by: its name may pass to somebody else.

use std::sync::Arc;

use http::{Request, header};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    TokenResponse as _, TokenUrl,
    basic::{BasicClient, BasicErrorResponse, BasicErrorResponseType},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Account, Away, Back, Provider,
    fault::{Fault, Unasked},
    outside::{Outside, asking},
    spec::GITHUB,
};

/// What is asked for: who one is, and one's addresses.
const SCOPES: [&str; 2] = ["read:user", "user:email"];
/// What is asked for where groups count: in which organizations and teams one is.
const GROUPS_SCOPE: &str = "read:org";
/// Entries of a page of a list; GitHub's limit.
const PAGE: usize = 100;
/// The most pages of a list that are read.
const PAGES_MAX: usize = 5;
/// The form of the API that is spoken.
const FORM: &str = "2022-11-28";

type Client = BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

#[derive(Debug, Deserialize)]
struct User {
    id: u64,
    login: String,
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Email {
    email: String,
    primary: bool,
    verified: bool,
}

#[derive(Debug, Deserialize)]
struct Organization {
    login: String,
}

#[derive(Debug, Deserialize)]
struct Team {
    slug: String,
    organization: Organization,
}

fn client(provider: &Provider, callback: &str) -> Result<Client, Fault> {
    let base = &provider.issuer;
    let wrong = |error: oauth2::url::ParseError| Fault::nonsense("an address is none", &error);
    Ok(BasicClient::new(ClientId::new(provider.settings.client_id.clone()))
        .set_client_secret(ClientSecret::new(provider.secret()?.to_string()))
        .set_auth_uri(AuthUrl::new(format!("{base}/login/oauth/authorize")).map_err(wrong)?)
        .set_token_uri(TokenUrl::new(format!("{base}/login/oauth/access_token")).map_err(wrong)?)
        .set_redirect_uri(RedirectUrl::new(callback.to_owned()).map_err(wrong)?)
        .set_auth_type(AuthType::RequestBody))
}

/// Where a browser is sent.
pub(super) fn begin(provider: &Provider, callback: &str, state: &str) -> Result<Away, Fault> {
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let groups = (!provider.grants.is_empty()).then_some(GROUPS_SCOPE);
    let own = provider.settings.scopes.iter().map(String::as_str);
    let wanted = SCOPES.into_iter().chain(groups).chain(own);
    let client = client(provider, callback)?;
    let (url, _) = client
        .authorize_url(|| CsrfToken::new(state.to_owned()))
        .add_scopes(wanted.map(|scope| Scope::new(scope.to_owned())))
        .set_pkce_challenge(challenge)
        .url();
    Ok(Away { url, nonce: String::new(), verifier: verifier.secret().clone() })
}

/// Who the code is for.
pub(super) async fn finish(
    provider: &Provider,
    outside: &Arc<Outside>,
    callback: &str,
    back: &Back<'_>,
) -> Result<Account, Fault> {
    let http = asking(outside, &provider.issuer);
    let token = client(provider, callback)?
        .exchange_code(AuthorizationCode::new(back.code.to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(back.verifier.to_owned()))
        .request_async(&http)
        .await
        .map_err(no_token)?;
    let api = Api { provider, outside, token: token.access_token().secret() };
    let user: User = api.get("/user").await?;
    let emails: Vec<Email> = api.get("/user/emails").await?;
    let email = emails.into_iter().find(|email| email.primary && email.verified);
    let mut groups = Vec::new();
    if !provider.grants.is_empty() {
        let organizations: Vec<Organization> = api.all("/user/orgs").await?;
        groups.extend(organizations.into_iter().map(|one| one.login));
        let teams: Vec<Team> = api.all("/user/teams").await?;
        groups.extend(teams.into_iter().map(|t| format!("{}/{}", t.organization.login, t.slug)));
    }
    Ok(Account {
        issuer: provider.issuer.clone(),
        subject: user.id.to_string(),
        verified: email.is_some(),
        email: email.map(|email| email.email),
        name: user.name.filter(|name| !name.trim().is_empty()).or(Some(user.login)),
        groups,
    })
}

/// The API, asked as the person.
struct Api<'a> {
    provider: &'a Provider,
    outside: &'a Arc<Outside>,
    token: &'a str,
}

impl Api<'_> {
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fault> {
        let issuer = &*self.provider.issuer;
        let base = match issuer {
            GITHUB => "https://api.github.com".to_owned(),
            own => format!("{own}/api/v3"),
        };
        let request = Request::get(format!("{base}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", FORM)
            .body(Vec::new())
            .map_err(|error| Fault::nonsense("its token can't be used", &error))?;
        let answer = self.outside.ask(issuer, request).await?;
        let status = answer.status();
        if status.is_server_error() {
            return Err(Fault::Unreachable(format!("its API answers {status} at {path}")));
        }
        if !status.is_success() {
            return Err(Fault::Nonsense(format!("its API answers {status} at {path}")));
        }
        serde_json::from_slice(answer.body())
            .map_err(|error| Fault::nonsense(&format!("its API's answer at {path}"), &error))
    }

    async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Fault> {
        let mut all = Vec::new();
        for page in 1..=PAGES_MAX {
            let more: Vec<T> = self.get(&format!("{path}?per_page={PAGE}&page={page}")).await?;
            let is_last = more.len() < PAGE;
            all.extend(more);
            if is_last {
                break;
            }
        }
        Ok(all)
    }
}

/// What GitHub says to a code that it does not know, with a status of 200.
#[derive(Deserialize)]
struct Refused {
    error: String,
}

fn no_token(error: RequestTokenError<Unasked, BasicErrorResponse>) -> Fault {
    let refused = |error: &str| match error {
        "bad_verification_code" | "invalid_grant" => {
            Fault::Code(format!("it does not know the code: {error}"))
        }
        error => {
            let shown: String = error.chars().take(100).collect();
            Fault::Nonsense(format!("it gives no token for the code: {shown}"))
        }
    };
    match error {
        RequestTokenError::Request(error) => error.into(),
        RequestTokenError::ServerResponse(answer) => match answer.error() {
            BasicErrorResponseType::InvalidGrant => refused("invalid_grant"),
            _ => refused(&answer.to_string()),
        },
        RequestTokenError::Parse(error, body) => match serde_json::from_slice::<Refused>(&body) {
            Ok(answer) => refused(&answer.error),
            Err(_) => Fault::nonsense("it gave no token", &error),
        },
        RequestTokenError::Other(reason) => Fault::Nonsense(format!("it gave no token: {reason}")),
    }
}

/// Whether GitHub can be asked.
pub(super) async fn check(
    provider: &Provider,
    outside: &Arc<Outside>,
) -> Result<Vec<String>, Fault> {
    let path = match &*provider.issuer {
        GITHUB => "https://api.github.com/meta".to_owned(),
        own => format!("{own}/api/v3/meta"),
    };
    let request = Request::get(&path)
        .header(header::ACCEPT, "application/vnd.github+json")
        .body(Vec::new())
        .map_err(|error| Fault::nonsense("its address is none", &error))?;
    let status = outside.ask(&provider.issuer, request).await?.status();
    if status.is_server_error() {
        return Err(Fault::Unreachable(format!("{path} answers {status}")));
    }
    // A server of one's own may ask who one is before it says that.
    if !status.is_success() && !matches!(status.as_u16(), 401 | 403) {
        return Err(Fault::Nonsense(format!("{path} answers {status}: is that GitHub?")));
    }
    Ok(vec![
        format!("{path} answers {status}."),
        "Only a sign-in tells whether it knows the client and its secret.".to_owned(),
    ])
}
