//! GitHub, as far as git and its tokens go, on loopback with TLS.
//!
//! ```text
//! /OWNER/REPO[.git]/…                       real git (`git http-backend`), with a token
//! /api/v3/repos/OWNER/REPO/installation     for an app's JWT: whether it is installed there
//! /api/v3/app/installations/1/access_tokens a token for the repositories and rights asked for
//! /login/oauth/access_token                 a token for a refresh token, and the next of those
//! ```
//!
//! Its certificate is vouched for by [`AUTHORITY`]. Tokens are what a test says, or what it gave
//! out; a test can have them end.

mod api;
mod backend;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Who vouches for its certificate, in PEM form. Made for tests, valid until 2120.
pub const AUTHORITY: &str = include_str!("github/certificates/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("github/certificates/localhost.pem");
const PRIVATE_KEY: &[u8] = include_bytes!("github/certificates/localhost.key");

/// An app's private key, in PEM form. Made for tests.
pub const APP_KEY: &str = include_str!("github/app.pem");
/// The app's number.
pub const APP_ID: u64 = 4711;

/// What an answer's body is.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// A stand-in for GitHub. It ends with the runtime that it was started on.
#[derive(Debug)]
pub struct GitHub {
    folder: tempfile::TempDir,
    port: u16,
    state: Arc<State>,
}

/// What a request brought.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method and path, with the query.
    pub line: String,
    /// The password or token in it.
    pub token: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    root: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// Tokens that are taken, with what they are for.
    tokens: BTreeMap<String, Rights>,
    /// Repositories that anybody may read.
    public: BTreeSet<String>,
    /// Where the app is installed.
    installed: BTreeSet<String>,
    /// Refresh tokens that are taken.
    refresh: BTreeSet<String>,
    /// Paths that lead elsewhere.
    redirects: BTreeMap<String, String>,
    seen: Vec<Seen>,
    made: u32,
}

/// What a token is for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rights {
    /// Only this repository's name; any if none.
    repository: Option<String>,
    writes: bool,
}

impl State {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GitHub {
    /// Starts one, with nothing in it.
    ///
    /// # Panics
    /// When loopback or the disk refuses.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = Arc::new(State { root: folder.path().to_owned(), inner: Mutex::default() });
        let key = PrivateKeyDer::from_pem_slice(PRIVATE_KEY).expect("our own key");
        let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE).expect("our own certificate")];
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    // A client that does not trust us ends here.
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let service = service_fn(move |request| {
                        let state = Arc::clone(&state);
                        async move { Ok::<_, Infallible>(answer(&state, request).await) }
                    });
                    // How it ends, the client sees.
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { folder, port, state }
    }

    /// Its host and port.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// A repository's address.
    pub fn url(&self, repository: &str) -> String {
        format!("https://{}/{repository}", self.host())
    }

    /// Where a repository is on disk.
    pub fn path(&self, repository: &str) -> PathBuf {
        self.folder.path().join(format!("{repository}.git"))
    }

    /// Makes a repository with one commit on `main`, which has `README.md`.
    ///
    /// # Panics
    /// When git fails.
    pub fn create(&self, repository: &str) {
        let path = self.path(repository);
        std::fs::create_dir_all(&path).expect("a folder");
        git(&path, &["init", "-q", "--bare", "-b", "main"]);
        git(&path, &["config", "http.receivepack", "true"]);
        let seed = tempfile::tempdir().expect("a folder");
        git(seed.path(), &["init", "-q", "-b", "main"]);
        std::fs::write(seed.path().join("README.md"), "# An example\n").expect("a file");
        git(seed.path(), &["add", "-A"]);
        git(seed.path(), &["commit", "-q", "-m", "First"]);
        let to = path.to_str().expect("a path of letters");
        git(seed.path(), &["push", "-q", to, "main"]);
    }

    /// Runs git in a repository of it, and gives what it printed.
    ///
    /// # Panics
    /// When git fails.
    pub fn git(&self, repository: &str, args: &[&str]) -> String {
        git(&self.path(repository), args)
    }

    /// Lets anybody read a repository.
    pub fn publish(&self, repository: &str) {
        self.state.lock().public.insert(repository.to_owned());
    }

    /// Takes a token for everything from now on.
    pub fn take(&self, token: &str) {
        let rights = Rights { repository: None, writes: true };
        self.state.lock().tokens.insert(token.to_owned(), rights);
    }

    /// Takes a token no more.
    pub fn revoke(&self, token: &str) {
        self.state.lock().tokens.remove(token);
    }

    /// Ends every token that there is.
    pub fn revoke_all(&self) {
        self.state.lock().tokens.clear();
    }

    /// Installs the app on a repository.
    pub fn install(&self, repository: &str) {
        self.state.lock().installed.insert(repository.to_owned());
    }

    /// Takes the app away from everywhere.
    pub fn uninstall(&self) {
        self.state.lock().installed.clear();
    }

    /// Takes a refresh token, once.
    pub fn take_refresh(&self, token: &str) {
        self.state.lock().refresh.insert(token.to_owned());
    }

    /// Has what is asked of a repository lead to another address.
    pub fn redirect(&self, repository: &str, to: &str) {
        self.state.lock().redirects.insert(repository.to_owned(), to.to_owned());
    }

    /// What was asked of it so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().seen.clone()
    }
}

async fn answer(state: &State, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let line = format!("{} {}", request.method(), request.uri());
    let token = token_of(request.headers());
    state.lock().seen.push(Seen { line, token: token.clone() });
    if path == "/login/oauth/access_token" {
        return api::refresh(state, request).await;
    }
    if let Some(path) = path.strip_prefix("/api/v3") {
        let path = path.to_owned();
        return api::answer(state, &path, token, request).await;
    }
    let parts: Vec<&str> = path.splitn(4, '/').collect();
    let [_, owner, name, rest] = parts[..] else { return plain(StatusCode::NOT_FOUND, "") };
    let repository = format!("{owner}/{}", name.strip_suffix(".git").unwrap_or(name));
    let redirect = state.lock().redirects.get(&repository).cloned();
    if let Some(to) = redirect {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut response = plain(StatusCode::MOVED_PERMANENTLY, "");
        let to = format!("{to}/{rest}{query}").parse().expect("an address");
        response.headers_mut().insert(header::LOCATION, to);
        return response;
    }
    let writes = rest == "git-receive-pack"
        || request.uri().query().is_some_and(|query| query.contains("git-receive-pack"));
    match may(state, &repository, token.as_deref(), writes) {
        Ok(()) => backend::serve(&state.root, &repository, rest, request).await,
        Err(status) => plain(status, "not so"),
    }
}

/// Whether a token is for this, as GitHub says it.
fn may(
    state: &State,
    repository: &str,
    token: Option<&str>,
    writes: bool,
) -> Result<(), StatusCode> {
    let state = state.lock();
    let Some(token) = token else {
        let is_public = state.public.contains(repository) && !writes;
        return if is_public { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) };
    };
    let Some(rights) = state.tokens.get(token) else { return Err(StatusCode::UNAUTHORIZED) };
    let name = repository.rsplit('/').next().unwrap_or_default();
    if rights.repository.as_deref().is_some_and(|only| only != name) {
        return Err(StatusCode::NOT_FOUND);
    }
    if writes && !rights.writes {
        return Err(StatusCode::FORBIDDEN);
    }
    Ok(())
}

/// The password of a basic authorization, or the token of a bearer's.
fn token_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    if let Some(token) = value.strip_prefix("Bearer ") {
        return Some(token.to_owned());
    }
    let pair = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    Some(pair.split_once(':')?.1.to_owned())
}

pub(crate) fn plain(status: StatusCode, text: &str) -> Answer {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=T", "-c", "user.email=t@example.com"])
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
