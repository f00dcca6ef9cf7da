//! A certificate from an authority (ACME, RFC 8555), got and renewed without anybody's doing.
//!
//! ```text
//! kept? ─► good for more than a third of its time? ── yes ─► wait
//!   │ no                       ▲                              │ a third is left
//!   ▼                          │                              ▼
//! order ─► challenge: http-01 where there is a port for http, else tls-alpn-01 ─► key, request
//!          ─► certificate, kept in D/acme ─► in use           failed: again, ever later
//! ```

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use boatyard_egress::{Guard, Outgoing, https::Https, resolve::System};
use bytes::Bytes;
use http::Request;
use instant_acme::{
    Account, AccountCredentials, BodyWrapper, BytesResponse, ChallengeType, HttpClient, Identifier,
    NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{pki_types::PrivateKeyDer, sign::CertifiedKey};
use tokio_util::sync::CancellationToken;

use super::{Certificate, Certificates, TlsError, provider};
use crate::settings::Settings;

/// The most of an answer that is read, in bytes.
const ANSWER_MAX: usize = 1 << 20;
/// How long the authority may take for one answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long it may take until it has looked, and until it gives the certificate.
const PATIENCE: Duration = Duration::from_secs(120);
/// When it is tried again after it failed; the last goes on. Authorities refuse who fails often.
const AGAIN: [Duration; 4] = [
    Duration::from_secs(60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(6 * 3600),
];
/// How often it is looked whether it is time, at least: clocks are set, machines sleep.
const LOOK: Duration = Duration::from_secs(3600);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The way out can't be made.
    #[error("the authority can't be asked: {0}")]
    Setup(String),
    /// The authority can't be reached, or says no.
    #[error("the authority did not give it")]
    Authority(#[from] instant_acme::Error),
    /// It offers no way to show that the host is ours that we know.
    #[error("the authority offers no `{0}` challenge")]
    Challenge(&'static str),
    /// It looked, and did not find us.
    #[error("the authority could not make sure that {host} is this server: {why}")]
    NotOurs {
        /// The host.
        host: String,
        /// What it says.
        why: String,
    },
    /// The key or the request can't be made.
    #[error("the request can't be made")]
    Request(#[from] rcgen::Error),
    /// What it gave can't be used.
    #[error("the certificate that the authority gave can't be used")]
    Certificate(#[from] TlsError),
    /// It can't be kept.
    #[error("{} can't be written or read", .path.display())]
    Folder {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is kept of the account is no such thing.
    #[error("what is kept of the account can't be read")]
    Account(#[source] serde_json::Error),
}

/// By which of its questions the authority makes sure that a host is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// On port 80, over http.
    Http,
    /// On port 443, in a handshake.
    Tls,
}

/// Gets the certificate of one host.
pub struct Acme {
    folder: PathBuf,
    host: String,
    directory: String,
    email: Option<String>,
    question: Question,
    https: Https,
    certificates: Arc<Certificates>,
}

impl Acme {
    /// For the host of the server's address, with what is kept in the data folder.
    ///
    /// # Errors
    /// When the settings make no sense.
    pub fn new(
        settings: &Settings,
        data: &Path,
        question: Question,
        certificates: Arc<Certificates>,
    ) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let url = settings.server.url.as_deref().context("[tls] acme needs `[server] url`")?;
        let url = url::Url::parse(url).context("[server] url")?;
        let outgoing = match settings.egress.offline {
            true => Outgoing::offline(),
            false => Outgoing::from_env(|name| std::env::var(name).ok())?,
        };
        let authorities = match &settings.egress.ca_file {
            Some(file) => std::fs::read(file)
                .with_context(|| format!("[egress] ca_file: {} can't be read", file.display()))?,
            None => Vec::new(),
        };
        Ok(Self {
            folder: data.join("acme"),
            host: url.host_str().context("[server] url names no host")?.to_owned(),
            directory: settings.tls.acme_directory.clone(),
            email: settings.tls.acme_email.clone(),
            question,
            https: Https::new(outgoing, &authorities, Arc::new(System))?,
            certificates,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Uses the certificate that is kept, if there is a good one for this host.
    pub fn load(&self) {
        let (certificate, key) = (self.file("certificate.pem"), self.file("key.pem"));
        if !certificate.exists() {
            return;
        }
        match Certificate::read(&certificate, &key) {
            Ok(kept) if kept.is_for(&self.host) => self.certificates.set(kept),
            Ok(_) => tracing::info!("the kept certificate is for another host"),
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "the kept certificate can't be used");
            }
        }
    }

    /// Gets a certificate when there is none or the one in use ends soon, until `stopping`.
    pub async fn run(self, stopping: CancellationToken) {
        let mut failed = 0;
        loop {
            let wait = match self.due() {
                Some(wait) => wait.min(LOOK),
                None => match stopping.run_until_cancelled(self.obtain()).await {
                    None => return,
                    Some(Ok(())) => {
                        failed = 0;
                        tracing::info!(host = self.host, "the authority gave a certificate");
                        continue;
                    }
                    Some(Err(error)) => {
                        let wait = AGAIN[failed.min(AGAIN.len() - 1)];
                        failed += 1;
                        tracing::error!(
                            error = %crate::chain(&error),
                            host = self.host,
                            again_in_seconds = wait.as_secs(),
                            "there is no new certificate"
                        );
                        wait
                    }
                },
            };
            if stopping.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// In how long a new one is needed; none if that is now.
    fn due(&self) -> Option<Duration> {
        let current = self.certificates.current()?;
        let left = current.left()?;
        // Of ninety days, the last thirty; of six, the last two.
        let third = current.lasts()? / 3;
        left.checked_sub(third).filter(|wait| !wait.is_zero())
    }

    /// Gets a certificate, keeps and uses it.
    ///
    /// # Errors
    /// [`AcmeError`].
    pub async fn obtain(&self) -> Result<(), AcmeError> {
        let outcome = self.order().await;
        self.certificates.forget();
        let (chain, key) = outcome?;
        self.keep("key.pem", key.as_bytes())?;
        self.keep("certificate.pem", chain.as_bytes())?;
        let certificate = Certificate::read(&self.file("certificate.pem"), &self.file("key.pem"))?;
        self.certificates.set(certificate);
        Ok(())
    }

    async fn order(&self) -> Result<(String, String), AcmeError> {
        let account = self.account().await?;
        let names = [Identifier::Dns(self.host.clone())];
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == instant_acme::AuthorizationStatus::Valid {
                continue;
            }
            let (kind, name) = match self.question {
                Question::Http => (ChallengeType::Http01, "http-01"),
                Question::Tls => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
            };
            let mut challenge = authorization.challenge(kind).ok_or(AcmeError::Challenge(name))?;
            let answer = challenge.key_authorization();
            match self.question {
                Question::Http => self.certificates.tell(&challenge.token, answer.as_str()),
                Question::Tls => {
                    let digest = answer.digest();
                    self.certificates.show(&self.host, shown(&self.host, digest.as_ref())?);
                }
            }
            challenge.set_ready().await?;
        }
        let patience = RetryPolicy::default().timeout(PATIENCE);
        let own_words = match order.poll_ready(&patience).await {
            Ok(OrderStatus::Ready) => None,
            Ok(_) => Some(String::new()),
            Err(instant_acme::Error::Api(problem)) => Some(problem.to_string()),
            Err(error) => return Err(error.into()),
        };
        if let Some(own_words) = own_words {
            let why = refusal(&mut order, own_words).await;
            return Err(AcmeError::NotOurs { host: self.host.clone(), why });
        }
        let key = KeyPair::generate()?;
        let mut request = CertificateParams::new([self.host.clone()])?;
        request.distinguished_name = rcgen::DistinguishedName::new();
        let request = request.serialize_request(&key)?;
        order.finalize_csr(request.der()).await?;
        let chain = order.poll_certificate(&patience).await?;
        Ok((chain, key.serialize_pem()))
    }

    /// The account with the authority, made the first time.
    async fn account(&self) -> Result<Account, AcmeError> {
        let file = self.file("account.json");
        let builder = || {
            let client = Client(self.https.clone());
            Account::builder_with_http(Box::new(client))
        };
        let read = |source| AcmeError::Folder { path: file.clone(), source };
        match std::fs::read(&file) {
            Ok(bytes) => {
                let kept: Kept = serde_json::from_slice(&bytes).map_err(AcmeError::Account)?;
                if kept.directory == self.directory {
                    return Ok(builder().from_credentials(kept.account).await?);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(read(error)),
        }
        let contact = self.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.as_deref().into_iter().collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) = builder().create(&new, self.directory.clone(), None).await?;
        let kept = Kept { directory: self.directory.clone(), account: credentials };
        let text = serde_json::to_vec(&kept).map_err(AcmeError::Account)?;
        self.keep("account.json", &text)?;
        Ok(account)
    }

    /// Keeps a file for the server alone: whole, or as it was.
    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), AcmeError> {
        use std::{
            io::Write as _,
            os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
        };
        let path = self.file(name);
        let beside = self.file(&format!("{name}.new"));
        let write = || {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            match std::fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)
        };
        write().map_err(|source| AcmeError::Folder { path: path.clone(), source })
    }
}

/// What is kept of the account.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    directory: String,
    account: AccountCredentials,
}

/// What the authority says it found.
async fn refusal(order: &mut instant_acme::Order, own_words: String) -> String {
    let mut why = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let errors = authorization.challenges.iter().filter_map(|one| one.error.as_ref());
        why.extend(errors.map(ToString::to_string));
    }
    match (why.is_empty(), own_words.is_empty()) {
        (false, _) => why.join("; "),
        (true, false) => own_words,
        (true, true) => "it does not say why".to_owned(),
    }
}

/// The certificate that shows an authority that a host is ours (RFC 8737).
fn shown(host: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, AcmeError> {
    let mut parameters = CertificateParams::new([host.to_owned()])?;
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = provider().key_provider.load_private_key(der).map_err(TlsError::Unfit)?;
    // Unchecked: what it shows the authority is an extension that nobody else knows.
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

/// Asks the authority as the server asks everybody: through its proxy, or not at all.
struct Client(Https);

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let https = self.0.clone();
        let other =
            |error: Box<dyn std::error::Error + Send + Sync>| instant_acme::Error::Other(error);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(axum::body::Body::new(body), ANSWER_MAX).await;
            let request = Request::from_parts(parts, body.map_err(|error| other(error.into()))?);
            // Whom the operator names as the authority may be inside of their network.
            let ranges = ["0.0.0.0/0", "::/0"].iter().filter_map(|text| text.parse().ok());
            let guard = Guard::new(ranges.collect());
            let answer = https.ask(request, &guard, ANSWER_MAX, ANSWER).await;
            let (parts, body) = answer.map_err(|error| other(error.into()))?.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}
