//! Tokens that are made fresh: those of a GitHub App for one repository and one purpose, and those
//! that OAuth gives for a refresh token.
//!
//! ```text
//! App: number + private key ─► JWT (RS256, 9 min) ─► installation of the repository
//!                                                ─► token: that repository, read or write, 1 h
//! OAuth: refresh token ─► token, and at times the refresh token for the next time
//! ```

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use boatyard_model::Timestamp;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use ring::{rand::SystemRandom, rsa, signature::RSA_PKCS1_SHA256};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Direction, Remote};
use crate::{
    gateway::{Secret, body::chain},
    https::{Https, HttpsError},
    resolve::Guard,
};

/// How long a service that gives out tokens may take.
const WITHIN: Duration = Duration::from_secs(20);
/// The most bytes of its answer.
const ANSWER: usize = 256 * 1024;
/// How long we say that we are who we are, in seconds. GitHub takes no more than ten minutes.
const JWT_LIFE: i64 = 540;
/// How far clocks may differ, in seconds.
const JWT_SKEW: i64 = 60;
/// The version of GitHub's interface.
const GITHUB_VERSION: &str = "2022-11-28";
/// Who asks; GitHub wants to know.
const AGENT: &str = concat!("boatyard/", env!("CARGO_PKG_VERSION"));

/// A token.
#[derive(Debug)]
pub struct Token {
    /// It.
    pub value: Secret,
    /// When it ends, if it does.
    pub expires: Option<Timestamp>,
}

/// What a refresh token gave.
#[derive(Debug)]
pub struct Refreshed {
    /// The token.
    pub token: Token,
    /// The refresh token for the next time, where it is another one: it is to be kept.
    pub next: Option<Secret>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A connection's value is neither a token nor something that makes them.
    #[error(
        "its value is neither a token, nor an app (`app_id`, `private_key`), nor OAuth's \
         (`token_url`, `client_id`, `refresh_token`)"
    )]
    Value,
    /// The private key is none.
    #[error("its private key is no RSA key in PEM form")]
    Key,
    /// The service could not be asked.
    #[error("{host} can't be asked for a token: {}", chain(.source))]
    Unreachable {
        /// Which.
        host: String,
        /// Why.
        #[source]
        source: HttpsError,
    },
    /// The service does not know us.
    #[error("{host} does not take it (status {status}): it has ended or was revoked")]
    NotTaken {
        /// Which.
        host: String,
        /// Its word.
        status: u16,
    },
    /// The app may not work on the repository.
    #[error("the app is not installed on {repository}")]
    NotInstalled {
        /// Which.
        repository: String,
    },
    /// The app may not do so much.
    #[error("the app may not {what} the contents of {repository}")]
    TooMuch {
        /// Which.
        repository: String,
        /// `read` or `write`.
        what: &'static str,
    },
    /// It answered in a way that is not understood.
    #[error("{host} gave no token: {what}")]
    Answer {
        /// Which.
        host: String,
        /// What it did.
        what: String,
    },
}

/// A GitHub App, as it shows itself.
pub struct GitHubApp {
    id: String,
    key: rsa::KeyPair,
}

impl fmt::Debug for GitHubApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GitHubApp({})", self.id)
    }
}

impl GitHubApp {
    /// The app with this number (or client id) and private key, in PEM form as GitHub hands it out.
    ///
    /// # Errors
    /// When the key is none.
    pub fn new(id: &str, private_key: &str) -> Result<Self, TokenError> {
        let key = PrivateKeyDer::from_pem_slice(private_key.as_bytes());
        let key = match key.map_err(|_| TokenError::Key)? {
            PrivateKeyDer::Pkcs1(key) => rsa::KeyPair::from_der(key.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(key) => rsa::KeyPair::from_pkcs8(key.secret_pkcs8_der()),
            _ => return Err(TokenError::Key),
        };
        Ok(Self { id: id.to_owned(), key: key.map_err(|_| TokenError::Key)? })
    }

    /// Says who we are, for some minutes.
    fn jwt(&self, now: Timestamp) -> Result<String, TokenError> {
        let now = now.0 / 1000;
        let claims = json!({ "iat": now - JWT_SKEW, "exp": now + JWT_LIFE, "iss": self.id });
        rs256(&self.key, &claims)
    }

    /// A token for one repository, to read or to write.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn token(
        &self,
        https: &Https,
        guard: &Guard,
        remote: &Remote,
        direction: Direction,
        now: Timestamp,
    ) -> Result<Token, TokenError> {
        let api = api_of(remote);
        let repository = remote.to_string();
        let path = remote.plain_path();
        let jwt = self.jwt(now)?;
        let service = Service { https, guard, host: remote.target.host.to_string() };
        let url = format!("{api}/repos{path}/installation");
        let request = github(Method::GET, &url, &jwt, Bytes::new());
        let (status, body) = service.ask(request).await?;
        let installation: Installation = match status {
            200 => service.read(&body)?,
            404 => return Err(TokenError::NotInstalled { repository }),
            status => return Err(service.failed(status, &body)),
        };
        let what = match direction {
            Direction::Fetch => "read",
            Direction::Push => "write",
        };
        let name = path.rsplit('/').next().unwrap_or_default();
        let wanted = json!({ "repositories": [name], "permissions": { "contents": what } });
        let url = format!("{api}/app/installations/{}/access_tokens", installation.id);
        let request = github(Method::POST, &url, &jwt, wanted.to_string().into());
        let (status, body) = service.ask(request).await?;
        match status {
            201 => {
                let given: Given = service.read(&body)?;
                let expires = given.expires_at.as_deref().and_then(|time| time.parse().ok());
                Ok(Token { value: Secret::new(given.token), expires })
            }
            404 => Err(TokenError::NotInstalled { repository }),
            403 | 422 => Err(TokenError::TooMuch { repository, what }),
            status => Err(service.failed(status, &body)),
        }
    }
}

/// What a connection's value is.
#[derive(Debug)]
pub enum Source {
    /// The token itself.
    Token,
    /// A GitHub App, which makes them: `{"app_id": …, "private_key": "…"}`.
    App(GitHubApp),
    /// Something to refresh one with:
    /// `{"token_url": "…", "client_id": "…", "client_secret": "…", "refresh_token": "…"}`.
    OAuth(OAuth),
}

/// What is needed to refresh a token of OAuth.
#[derive(Debug)]
pub struct OAuth {
    token_url: String,
    client_id: String,
    client_secret: Option<Secret>,
    refresh_token: Secret,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    App {
        app_id: Id,
        private_key: String,
    },
    OAuth {
        token_url: String,
        client_id: String,
        client_secret: Option<String>,
        refresh_token: String,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

impl Source {
    /// Reads a connection's value.
    ///
    /// # Errors
    /// When it looks like an app or a refresh token and is none.
    pub fn parse(value: &Secret) -> Result<Self, TokenError> {
        let text = value.expose();
        if !text.starts_with('{') {
            return Ok(Self::Token);
        }
        let written: Written = serde_json::from_str(text).map_err(|_| TokenError::Value)?;
        Ok(match written {
            Written::App { app_id, private_key } => {
                let id = match app_id {
                    Id::Number(number) => number.to_string(),
                    Id::Text(text) => text,
                };
                let private_key = Zeroizing::new(private_key);
                Self::App(GitHubApp::new(&id, &private_key)?)
            }
            Written::OAuth { token_url, client_id, client_secret, refresh_token } => {
                Self::OAuth(OAuth {
                    token_url,
                    client_id,
                    client_secret: client_secret.map(Secret::new),
                    refresh_token: Secret::new(refresh_token),
                })
            }
        })
    }
}

impl OAuth {
    /// The value for the next time, with the refresh token that came in the place of the last one.
    pub fn renewed(&self, next: &Secret) -> Secret {
        let client_secret = self.client_secret.as_ref().map(Secret::expose);
        let value = json!({
            "token_url": self.token_url,
            "client_id": self.client_id,
            "client_secret": client_secret,
            "refresh_token": next.expose(),
        });
        Secret::new(value.to_string())
    }
}

/// A JSON Web Token, signed with an RSA key.
///
/// # Errors
/// When the system has no random numbers, or the key is too small for it.
pub fn rs256(key: &rsa::KeyPair, claims: &serde_json::Value) -> Result<String, TokenError> {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    let signed = format!("{header}.{claims}");
    let mut signature = vec![0; key.public().modulus_len()];
    let random = SystemRandom::new();
    key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)
        .map_err(|_| TokenError::Key)?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

impl OAuth {
    fn form(&self) -> Bytes {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token")
            .append_pair("client_id", &self.client_id)
            .append_pair("refresh_token", self.refresh_token.expose());
        if let Some(secret) = &self.client_secret {
            form.append_pair("client_secret", secret.expose());
        }
        form.finish().into()
    }

    /// A fresh token.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn token(
        &self,
        https: &Https,
        guard: &Guard,
        now: Timestamp,
    ) -> Result<Refreshed, TokenError> {
        let url = url::Url::parse(&self.token_url).ok();
        let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default().to_owned();
        let service = Service { https, guard, host };
        let mut request = Request::new(self.form());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.token_url.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, kind);
        let (status, body) = service.ask(request).await?;
        if status != 200 {
            return Err(service.failed(status, &body));
        }
        let given: Refreshing = service.read(&body)?;
        let Some(token) = given.access_token else {
            // GitHub says so with the status of a success.
            return Err(match given.error.as_deref() {
                Some("bad_refresh_token" | "invalid_grant" | "unauthorized") => {
                    TokenError::NotTaken { host: service.host, status }
                }
                _ => TokenError::Answer { host: service.host, what: "it named none".into() },
            });
        };
        let expires = given.expires_in.map(|life| now.after(Duration::from_secs(life)));
        let token = Token { value: Secret::new(token), expires };
        Ok(Refreshed { token, next: given.refresh_token.map(Secret::new) })
    }
}

/// Where GitHub is asked: its own interface, or that of an installation of its own.
fn api_of(remote: &Remote) -> String {
    match &*remote.target.host.to_string() {
        "github.com" => "https://api.github.com".to_owned(),
        _ => format!("https://{}/api/v3", remote.authority()),
    }
}

fn github(method: Method, url: &str, jwt: &str, body: Bytes) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = url.parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(mut value) = HeaderValue::try_from(format!("Bearer {jwt}")) {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert("x-github-api-version", HeaderValue::from_static(GITHUB_VERSION));
    request
}

#[derive(Deserialize)]
struct Installation {
    id: u64,
}

#[derive(Deserialize)]
struct Given {
    token: String,
    expires_at: Option<String>,
}

#[derive(Deserialize)]
struct Refreshing {
    access_token: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
    error: Option<String>,
}

/// A service that gives out tokens.
struct Service<'a> {
    https: &'a Https,
    guard: &'a Guard,
    host: String,
}

impl Service<'_> {
    async fn ask(&self, request: Request<Bytes>) -> Result<(u16, Bytes), TokenError> {
        let answer = self.https.ask(request, self.guard, ANSWER, WITHIN).await;
        let answer =
            answer.map_err(|source| TokenError::Unreachable { host: self.host.clone(), source })?;
        Ok((answer.status().as_u16(), answer.into_body()))
    }

    /// Reads an answer. What is in it is not repeated: it may be a token.
    fn read<T: for<'de> Deserialize<'de>>(&self, body: &[u8]) -> Result<T, TokenError> {
        serde_json::from_slice(body).map_err(|_| TokenError::Answer {
            host: self.host.clone(),
            what: "its answer is not of the form that it should be".to_owned(),
        })
    }

    fn failed(&self, status: u16, body: &[u8]) -> TokenError {
        #[derive(Deserialize)]
        struct Message {
            message: Option<String>,
            error: Option<String>,
        }
        let host = self.host.clone();
        if matches!(status, 400 | 401 | 403) {
            return TokenError::NotTaken { host, status };
        }
        let said = serde_json::from_slice::<Message>(body).ok();
        let said = said.and_then(|said| said.message.or(said.error)).unwrap_or_default();
        let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
        TokenError::Answer { host, what: format!("status {status} {said}").trim().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    /// Made for tests.
    const KEY: &str = include_str!("token/app.pem");

    #[test]
    fn the_app_says_who_it_is() {
        let app = GitHubApp::new("12345", KEY).unwrap();
        assert_eq!(format!("{app:?}"), "GitHubApp(12345)");
        let jwt = app.jwt(Timestamp(1_700_000_000_000)).unwrap();
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, app.key.public().as_ref());
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        public.verify(signed.as_bytes(), &signature).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["iss"], "12345");
        let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert!(life <= 600, "{life}");
        assert!(matches!(GitHubApp::new("1", "nonsense"), Err(TokenError::Key)));
    }

    /// As `openssl dgst -sha256 -sign` has it: a signature of this kind is always the same.
    #[test]
    fn a_token_is_signed_as_openssl_signs_it() {
        let app = GitHubApp::new("12345", KEY).unwrap();
        let token = rs256(&app.key, &json!({ "iss": "12345" })).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(signed, "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiIxMjM0NSJ9");
        assert!(
            signature.starts_with("TRl4oAZ86h7UlY_hFNnmo-l8z9uBMHJI5spTbikH60GE9pwMFZF4PQlKrkP2")
        );
        assert!(signature.ends_with("I6p8kyYOdcQRxVAGB29JiN9C5gMP3uNvwd3qIkrLqLvg"));
    }

    #[test]
    fn a_value_is_a_token_or_makes_them() {
        let parse = |text: &str| Source::parse(&Secret::new(text.to_owned()));
        assert!(matches!(parse("ghp_x"), Ok(Source::Token)));
        let app = json!({ "app_id": 12, "private_key": KEY }).to_string();
        assert!(matches!(parse(&app), Ok(Source::App(app)) if app.id == "12"));
        let oauth = json!({
            "token_url": "https://x.example/token", "client_id": "c", "refresh_token": "secret-r",
        });
        let Ok(Source::OAuth(oauth)) = parse(&oauth.to_string()) else { panic!() };
        assert!(!format!("{oauth:?}").contains("secret-r"));
        let renewed = Source::parse(&oauth.renewed(&Secret::new("secret-n".to_owned())));
        assert!(
            matches!(renewed, Ok(Source::OAuth(next)) if next.refresh_token.expose() == "secret-n")
        );
        assert!(matches!(parse("{\"app_id\": 1}"), Err(TokenError::Value)));
        assert!(matches!(parse("{"), Err(TokenError::Value)));
    }
}
