//! What a provider is asked with, and how it is kept fresh.
//!
//! ```text
//!  Source (a file, a connection) ─► material ─► Auth: how it is used ─► Grant: one request's
//!      ▲                                             │                      │
//!      └── renewed (what was rotated) ◄── token service ◄── refused, run out ┘
//! ```
//!
//! The material is a key, or a document that holds tokens or a service account's key. A [`Grant`]
//! is what goes into a request; it is made when it is first needed and used until it runs out or
//! the provider refuses it. Then the material is read again: a person may have mended it meanwhile.

mod aws;
mod google;
mod grant;
mod tokens;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use super::{
    Later, Parts,
    secret::{KeyFileError, Secret},
};
pub(super) use grant::Grant;

/// How much earlier than it runs out a token is renewed.
const EARLY: Duration = Duration::from_secs(120);
/// How long what could not be had is not asked for again: a service that is down, or a refresh
/// token that is refused, must not be asked by each request.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How the material of a credential is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// A key, where the provider's protocol has it.
    Key,
    /// A key or token that goes as `Authorization: Bearer`, whatever the protocol.
    Bearer,
    /// A token of a Claude subscription: alone (`claude setup-token`), or with the one that renews
    /// it, as `.credentials.json` of Claude Code.
    Claude,
    /// A token of a ChatGPT subscription, as `auth.json` of Codex.
    ChatGpt,
    /// An access key of AWS: requests are signed for this region.
    Aws {
        /// As `us-east-1`.
        region: String,
    },
    /// The key of a Google service account, a JSON document.
    Google,
    /// As the material looks: one of the documents above, a token of a Claude subscription, or a
    /// key.
    Found,
}

impl Auth {
    /// The one of this name in settings; AWS has a region besides.
    pub fn from_name(name: &str, region: Option<&str>) -> Result<Self, String> {
        Ok(match name {
            "key" => Self::Key,
            "bearer" => Self::Bearer,
            "claude" => Self::Claude,
            "chatgpt" => Self::ChatGpt,
            "google" => Self::Google,
            "aws" => match region {
                Some(region) => Self::Aws { region: region.to_owned() },
                None => return Err("`auth = \"aws\"` needs `region`, as \"us-east-1\"".to_owned()),
            },
            other => {
                return Err(format!(
                    "there is no auth \"{other}\"; there is \"key\", \"bearer\", \"claude\", \
                     \"chatgpt\", \"aws\" and \"google\""
                ));
            }
        })
    }

    /// Whether its material is a document and not one key.
    pub fn is_document(&self) -> bool {
        !matches!(self, Self::Key | Self::Bearer)
    }
}

/// Where the material of a credential comes from.
pub trait Source: fmt::Debug + Send + Sync {
    /// Changes whenever the material does, as far as that is known without reading it.
    fn version(&self) -> u64 {
        0
    }

    /// Whether there is any.
    fn is_there(&self) -> bool {
        true
    }

    /// The material as it is now.
    fn read(&self) -> Later<Result<Secret, String>>;

    /// Keeps a renewed one in its place: what renewed it is of no more use.
    fn keep(&self, material: Secret) -> Later<Result<(), String>>;

    /// What a person does about one that is refused or missing, as `rotate it by …`.
    fn remedy(&self) -> String;
}

/// Why there is nothing to ask with: in a sentence, without what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoGrant(pub(super) String);

/// A credential that is read when it is needed.
#[derive(Debug)]
pub struct Managed {
    auth: Auth,
    source: Arc<dyn Source>,
    /// Where tokens are renewed, if not where that is by itself.
    token_url: Option<String>,
    current: RwLock<Option<Current>>,
    /// Held while it is read or renewed, so that one does it for all.
    making: tokio::sync::Mutex<Making>,
}

#[derive(Debug, Clone)]
struct Current {
    grant: Arc<Grant>,
    version: u64,
    until: Option<SystemTime>,
}

impl Current {
    fn is_good(&self, version: u64, now: SystemTime) -> bool {
        self.version == version && self.until.is_none_or(|until| now + EARLY < until)
    }
}

#[derive(Debug, Default)]
struct Making {
    /// Of what the last grant was made; to see whether it was mended since. Only its sum.
    material: Option<[u8; 32]>,
    /// When it last failed, and how.
    failed: Option<(tokio::time::Instant, NoGrant)>,
}

/// What was made of material.
struct Made {
    grant: Grant,
    until: Option<SystemTime>,
    /// What takes the material's place.
    renewed: Option<Secret>,
}

impl Managed {
    /// What is used as `auth` says and comes from `source`.
    pub fn new(auth: Auth, source: Arc<dyn Source>) -> Self {
        let (current, making) = (RwLock::default(), tokio::sync::Mutex::default());
        Self { auth, source, token_url: None, current, making }
    }

    /// The same, renewed at another address.
    #[must_use]
    pub fn renewed_at(self, token_url: Option<String>) -> Self {
        Self { token_url, ..self }
    }

    pub(super) fn is_there(&self) -> bool {
        self.source.is_there()
    }

    pub(super) fn remedy(&self) -> String {
        self.source.remedy()
    }

    fn good(&self) -> Option<Arc<Grant>> {
        let version = self.source.version();
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let current = current.as_ref().filter(|one| one.is_good(version, SystemTime::now()))?;
        Some(Arc::clone(&current.grant))
    }

    /// What the next request goes with.
    pub(super) async fn grant(&self, parts: &Parts) -> Result<Arc<Grant>, NoGrant> {
        if let Some(grant) = self.good() {
            return Ok(grant);
        }
        let mut making = self.making.lock().await;
        // Somebody else may have made it meanwhile.
        if let Some(grant) = self.good() {
            return Ok(grant);
        }
        self.make(&mut making, parts, Why::Needed).await
    }

    /// Another than this one, which the provider refused; none if there is no other.
    pub(super) async fn another(
        &self,
        refused: &Arc<Grant>,
        parts: &Parts,
    ) -> Result<Option<Arc<Grant>>, NoGrant> {
        let mut making = self.making.lock().await;
        if let Some(grant) = self.good().filter(|grant| !Arc::ptr_eq(grant, refused)) {
            return Ok(Some(grant));
        }
        let before = making.material;
        let material = self.source.read().await.map_err(NoGrant)?;
        let is_same = before == Some(sum(&material));
        if is_same && !self.auth.renews(&material) {
            return Ok(None);
        }
        let why = if is_same { Why::Refused } else { Why::Needed };
        self.make(&mut making, parts, why).await.map(Some)
    }

    async fn make(
        &self,
        making: &mut Making,
        parts: &Parts,
        why: Why,
    ) -> Result<Arc<Grant>, NoGrant> {
        if let Some((when, error)) = &making.failed
            && when.elapsed() < AGAIN_AFTER
        {
            return Err(error.clone());
        }
        let version = self.source.version();
        let made = self.made(making, parts, why).await;
        match made {
            Ok(made) => {
                making.failed = None;
                let grant = Arc::new(made.grant);
                let current = Current { grant: Arc::clone(&grant), version, until: made.until };
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(current);
                Ok(grant)
            }
            Err(error) => {
                making.failed = Some((tokio::time::Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn made(&self, making: &mut Making, parts: &Parts, why: Why) -> Result<Made, NoGrant> {
        let material = self.source.read().await.map_err(NoGrant)?;
        let url = self.token_url.as_deref();
        let mut made = match &self.auth {
            Auth::Key => Made::lasting(Grant::key(material.copy())),
            Auth::Bearer => Made::lasting(Grant::bearer(material.copy())),
            Auth::Claude => tokens::claude(&material, why, url, parts).await?,
            Auth::ChatGpt => tokens::chatgpt(&material, why, url, parts).await?,
            Auth::Aws { region } => Made::lasting(aws::grant(&material, region)?),
            Auth::Google => google::grant(&material, url, parts).await?,
            Auth::Found => match tokens::look(&material) {
                tokens::Look::Claude => tokens::claude(&material, why, url, parts).await?,
                tokens::Look::ChatGpt => tokens::chatgpt(&material, why, url, parts).await?,
                tokens::Look::Google => google::grant(&material, url, parts).await?,
                tokens::Look::Key => Made::lasting(Grant::key(material.copy())),
            },
        };
        making.material = Some(sum(&material));
        if let Some(renewed) = made.renewed.take() {
            making.material = Some(sum(&renewed));
            if let Err(error) = self.source.keep(renewed).await {
                // It works until the server is started again.
                tracing::warn!(%error, "a renewed token of a model provider could not be kept");
            }
        }
        Ok(made)
    }
}

/// Why a grant is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// There is none, or it runs out.
    Needed,
    /// The provider does not take the one that there is.
    Refused,
}

impl Auth {
    /// Whether a grant can be made anew of the same material.
    fn renews(&self, material: &Secret) -> bool {
        match self {
            Self::Claude | Self::ChatGpt => tokens::can_renew(material),
            Self::Google => true,
            Self::Found => {
                tokens::can_renew(material) || tokens::look(material) == tokens::Look::Google
            }
            Self::Key | Self::Bearer | Self::Aws { .. } => false,
        }
    }
}

impl Made {
    fn lasting(grant: Grant) -> Self {
        Self { grant, until: None, renewed: None }
    }
}

fn sum(material: &Secret) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(material.expose().as_bytes()).into()
}

/// Material in a file. It was read when the server still had the right to; where it has it still,
/// it is read again when it changes.
pub struct FileSource {
    path: std::path::PathBuf,
    is_document: bool,
    held: Arc<std::sync::Mutex<Held>>,
    remedy: String,
}

/// What a file held, and what took its place.
struct Held {
    material: Secret,
    /// The sum of what was in the file when it was last read or written.
    file: [u8; 32],
}

impl Held {
    fn new(read: Secret) -> Self {
        Self { file: sum(&read), material: read }
    }

    /// The file has this. It counts if somebody has put it there since: what was there before may
    /// have been renewed, and a file that can't be written still has the one before.
    fn read(&mut self, fresh: Secret) {
        if sum(&fresh) != self.file {
            *self = Self::new(fresh);
        }
    }
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FileSource {
    /// What was read from this file.
    pub fn new(path: &std::path::Path, auth: &Auth, read: Secret) -> Self {
        let remedy = format!(
            "put a good one into {} and, if the server may not read that file, start it again",
            path.display()
        );
        let held = Arc::new(std::sync::Mutex::new(Held::new(read)));
        let path = path.to_owned();
        Self { path, is_document: auth.is_document(), held, remedy }
    }
}

impl Source for FileSource {
    fn read(&self) -> Later<Result<Secret, String>> {
        let (path, held, is_document) =
            (self.path.clone(), Arc::clone(&self.held), self.is_document);
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || match is_document {
                true => Secret::document_from_file(&path),
                false => Secret::from_file(&path),
            });
            let held = match read.await {
                Ok(Ok((fresh, _))) => {
                    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
                    held.read(fresh);
                    held
                }
                // Most often the server has no right to it any more: what was read at first holds.
                Ok(Err(KeyFileError::Unreadable(_))) => {
                    held.lock().unwrap_or_else(PoisonError::into_inner)
                }
                Ok(Err(error)) => return Err(error.to_string()),
                Err(error) => return Err(error.to_string()),
            };
            Ok(held.material.copy())
        })
    }

    fn keep(&self, material: Secret) -> Later<Result<(), String>> {
        let (path, held) = (self.path.clone(), Arc::clone(&self.held));
        Box::pin(async move {
            let (text, written_sum) = (material.copy(), sum(&material));
            held.lock().unwrap_or_else(PoisonError::into_inner).material = material;
            let write = move || std::fs::write(&path, text.expose()).map_err(|error| (path, error));
            let written = tokio::task::spawn_blocking(write).await;
            let written = written.map_err(|error| error.to_string())?;
            written.map_err(|(path, error)| format!("{}: {error}", path.display()))?;
            held.lock().unwrap_or_else(PoisonError::into_inner).file = written_sum;
            Ok(())
        })
    }

    fn remedy(&self) -> String {
        self.remedy.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_renewed_counts_until_somebody_changes_the_file() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let mut held = Held::new(secret("first"));
        // It could not be written.
        held.material = secret("renewed");
        held.read(secret("first"));
        assert_eq!(held.material.expose(), "renewed");
        held.read(secret("by hand"));
        assert_eq!(held.material.expose(), "by hand");
    }
}
