//! TLS: the server's certificate, from files that may change or from an authority.
//!
//! ```text
//! files ──► read, looked at every few seconds ──┐
//!                                               ├─► Certificates ──► each handshake
//! acme ───► got, renewed, kept in D/acme ───────┘      ▲ challenges, while one is got
//! ```
//!
//! A new certificate is for the next connection; those that are open stay as they are. What can't
//! be read or does not fit together leaves the old one in use, and says so in the log.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub mod acme;

/// The protocol by which an authority looks whether a host is ours (RFC 8737).
pub(crate) const CHALLENGE: &[u8] = b"acme-tls/1";

/// How often it is looked whether the files are others.
const LOOK: Duration = Duration::from_secs(5);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{} can't be read", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM form", .path.display())]
    Nothing {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// They are no certificate and its key.
    #[error("the certificate and the key don't belong together, or can't be used")]
    Unfit(#[from] rustls::Error),
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// Since when it is good.
    since: Option<SystemTime>,
    /// Until when it is good; none where it does not say so in a way that is understood.
    pub until: Option<SystemTime>,
    /// The names that it is for.
    pub names: Vec<String>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Certificate {
    /// Reads it from files.
    ///
    /// # Errors
    /// When one can't be read, or they don't fit together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            let source = |source| TlsError::Unreadable { path: path.to_owned(), source };
            std::fs::read(path).map_err(source)
        };
        let nothing = |path: &Path, what| TlsError::Nothing { path: path.to_owned(), what };
        let chain = read(certificate)?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
            .collect::<Result<_, _>>()
            .map_err(|_| nothing(certificate, "certificate"))?;
        if chain.is_empty() {
            return Err(nothing(certificate, "certificate"));
        }
        let secret = zeroize::Zeroizing::new(read(key)?);
        let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|_| nothing(key, "key"))?;
        Self::new(chain, secret)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let told = chain.first().and_then(|first| told(first));
        let Told { since, until, names } = told.unwrap_or_default();
        let key = CertifiedKey::from_der(chain, key, &provider())?;
        Ok(Self { key: Arc::new(key), since, until, names })
    }

    /// For how long it is good still; nothing if it is over.
    pub fn left(&self) -> Option<Duration> {
        let until = self.until?;
        Some(until.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// For how long it is good in all.
    fn lasts(&self) -> Option<Duration> {
        self.until?.duration_since(self.since?).ok()
    }

    /// Whether it is for this host.
    pub fn is_for(&self, host: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(domain) => {
                host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain))
            }
            None => name.eq_ignore_ascii_case(host),
        })
    }
}

/// What a certificate says of itself.
#[derive(Default)]
struct Told {
    since: Option<SystemTime>,
    until: Option<SystemTime>,
    names: Vec<String>,
}

fn told(certificate: &CertificateDer<'_>) -> Option<Told> {
    use x509_parser::{extensions::GeneralName, time::ASN1Time};
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let time = |time: ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).ok()?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    };
    let validity = parsed.validity();
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map(|names| &names.value.general_names).into_iter().flatten();
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(std::net::IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            16 => Some(std::net::IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    });
    let (since, until) = (time(validity.not_before), time(validity.not_after));
    Some(Told { since, until, names: names.collect() })
}

/// The certificate of the moment, for handshakes.
#[derive(Debug, Default)]
pub struct Certificates {
    current: RwLock<Option<Certificate>>,
    /// What an authority is shown that looks whether a host is ours, by the host.
    shown: Mutex<HashMap<String, Arc<CertifiedKey>>>,
    /// What it is told over http, by the word that it asks with.
    told: Mutex<HashMap<String, String>>,
}

impl Certificates {
    /// Uses this from now on.
    pub fn set(&self, certificate: Certificate) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(certificate);
    }

    /// The one in use.
    pub fn current(&self) -> Option<Certificate> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, host: &str, key: Arc<CertifiedKey>) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), key);
    }

    fn tell(&self, word: &str, answer: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(word.to_owned(), answer.to_owned());
    }

    /// Nobody looks any more.
    fn forget(&self) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What an authority is to be told that asks with this word.
    pub fn answer(&self, word: &str) -> Option<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get(word).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let looks = hello.alpn().is_some_and(|mut offered| offered.any(|one| one == CHALLENGE));
        if looks {
            let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            return shown.get(hello.server_name()?).cloned();
        }
        self.current().map(|certificate| certificate.key)
    }
}

/// How the server speaks https. A cheap clone.
#[derive(Clone)]
pub struct Tls {
    /// What handshakes show.
    pub certificates: Arc<Certificates>,
    pub(crate) acceptor: TlsAcceptor,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// With no certificate yet.
    ///
    /// # Errors
    /// When the machine's cryptography does not suffice.
    pub fn new() -> Result<Self, TlsError> {
        let certificates = Arc::<Certificates>::default();
        let resolver = Arc::clone(&certificates);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec(), CHALLENGE.to_vec()];
        Ok(Self { certificates, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Reads the files anew whenever they change, until `stopping`.
    pub async fn follow(self, certificate: PathBuf, key: PathBuf, stopping: CancellationToken) {
        let mut when = interval_at(Instant::now() + LOOK, LOOK);
        when.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = looks(&certificate, &key);
        while stopping.run_until_cancelled(when.tick()).await.is_some() {
            let now = looks(&certificate, &key);
            if now == seen {
                continue;
            }
            match Certificate::read(&certificate, &key) {
                Ok(new) => {
                    let names = new.names.join(", ");
                    tracing::info!(names, "a new certificate is in use");
                    self.certificates.set(new);
                    seen = now;
                }
                Err(error) => {
                    // The other of the two may follow in a moment: it is looked at again then. The
                    // same fault is told once.
                    tracing::error!(
                        error = %crate::chain(&error),
                        "the new certificate can't be used; the one before is used on"
                    );
                    seen = now;
                }
            }
        }
    }
}

/// What changes when a file does.
type Look = Option<(SystemTime, u64, u64)>;

fn looks(certificate: &Path, key: &Path) -> (Look, Look) {
    use std::os::unix::fs::MetadataExt as _;
    let look = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.ino(), meta.len()))
    };
    (look(certificate), look(key))
}

#[cfg(test)]
mod tests;
