//! Who calls: API keys, the page's session, and where a request may come from.
//!
//! A caller proves itself in one of two ways:
//!
//! - `Authorization: Bearer by_…`: an API key. The database holds its SHA-256 only; what is looked
//!   up is the hash, so that the time it takes tells nothing about a key.
//! - the page's cookie ([`cookie`]): signed by the server, HttpOnly and SameSite=Strict, given for
//!   a key or for the one-time code of a printed link. A request with it that changes something
//!   must also carry `X-Boatyard-CSRF`.
//!
//! Before either counts, the request must have been meant for this server ([`origin`]): a page of
//! another site can't speak as the person who looks at it.
//!
//! There is one organization with one member in this release; every request has a [`Caller`] all
//! the same, and every operation takes it.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use boatyard_api::{Problem, identity::KEY_PREFIX};
use boatyard_model::{DeviceId, KeyId, PersonId, Role, Scopes, Timestamp, time::Clock};
use boatyard_store::{KeyRow, Owner, Store};
use http::{HeaderMap, Method, header};
use sha2::{Digest as _, Sha256};

pub mod code;
pub mod cookie;
pub mod origin;

pub use code::Codes;
pub use cookie::Signer;
pub use origin::Hosts;

/// How long a key that was found counts without asking the database again. One that is revoked
/// through this server's store dies at once, by another program's hand within this time.
const CACHED_FOR: Duration = Duration::from_secs(5);

/// How many keys are remembered at a time.
const CACHED_KEYS: usize = 1024;

/// The longest secret that is hashed, in bytes; ours have 46.
const SECRET_MAX: usize = 200;

/// What the one member there is in this release is called; people bring their own names.
const OWNER_NAME: &str = "Owner";

/// Random bytes in a key.
const KEY_BYTES: usize = 32;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose the rows are that follow from it: the organization, and the member of it.
    pub owner: Owner,
    /// The person behind the member; none for a key of the organization's own, and for the server.
    pub person: Option<PersonId>,
    /// What the member may do in the organization.
    pub role: Role,
    /// Whether the person may run this server.
    pub operator: bool,
    /// What the key may be used for; everything for a browser.
    pub scopes: Scopes,
    /// Where the request came from; none for the server itself.
    pub address: Option<IpAddr>,
    /// As shown to people.
    pub name: Arc<str>,
    /// How the caller proved itself.
    pub via: Via,
}

/// How a caller proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// With an API key.
    Key(KeyId),
    /// With the page's cookie, which was given for this key.
    Session(KeyId),
    /// In a browser, as a person.
    Device(DeviceId),
    /// It is the server itself: a job, a schedule.
    Server,
}

impl Caller {
    /// The built-in member, who may do everything.
    fn local(name: &str) -> Self {
        Self {
            owner: Owner::BUILT_IN,
            person: None,
            role: Role::Owner,
            operator: true,
            scopes: Scopes::ALL,
            address: None,
            name: name.into(),
            via: Via::Server,
        }
    }

    /// The server itself, for the one who owns everything.
    pub fn server() -> Self {
        Self { via: Via::Server, ..Self::local("Boatyard") }
    }
}

/// A caller with what the page needs to prove itself.
#[derive(Debug, Clone)]
pub struct Known {
    /// Who.
    pub caller: Caller,
    /// What `X-Boatyard-CSRF` must say, for a caller with a cookie.
    pub csrf: Option<String>,
}

/// Why nobody was found behind a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It carries nothing that says who.
    Missing,
    /// What it carries is not known, or no longer.
    Unknown,
    /// It changes something by cookie, without the page's proof.
    Csrf,
}

impl Refusal {
    /// The answer to the client.
    pub fn problem(self) -> Problem {
        match self {
            Self::Missing => Problem::unauthenticated("this needs an API key or a session"),
            Self::Unknown => Problem::unauthenticated("this key or session is not known, or over"),
            Self::Csrf => Problem::not_allowed("a change by the page needs its proof")
                .at("header.x-boatyard-csrf")
                .with_next("Reload the page."),
        }
    }
}

/// Tells who calls.
pub struct Auth {
    store: Store,
    clock: Arc<dyn Clock>,
    signer: Signer,
    codes: Codes,
    cache: Mutex<HashMap<[u8; 32], Remembered>>,
}

/// A caller that was found.
struct Remembered {
    caller: Caller,
    since: Instant,
    /// How many keys the store had revoked before it was looked up.
    revocations: u64,
}

impl Auth {
    /// With the keys of the store and the signing secret of the data folder, which is made at the
    /// first start.
    ///
    /// # Errors
    /// When the secret can't be read or written.
    pub fn open(store: Store, clock: Arc<dyn Clock>, data: &Path) -> std::io::Result<Self> {
        let signer = Signer::open(&data.join("session.key"))?;
        Ok(Self {
            store,
            codes: Codes::new(Arc::clone(&clock)),
            clock,
            signer,
            cache: Mutex::new(HashMap::new()),
        })
    }

    /// Who sent a request with these headers.
    ///
    /// # Errors
    /// When nobody is found; see [`Refusal`]. A database that fails is a problem of its own.
    pub async fn identify(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Result<Known, Refusal>, Problem> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let Some(secret) = bearer(value) else { return Ok(Err(Refusal::Unknown)) };
            let caller = self.by_secret(secret).await?;
            return Ok(caller.map(|caller| Known { caller, csrf: None }).ok_or(Refusal::Unknown));
        }
        let Some(text) = self.signer.find(headers) else { return Ok(Err(Refusal::Missing)) };
        let Some(key) = self.signer.verify(text, self.clock.now()) else {
            return Ok(Err(Refusal::Unknown));
        };
        let Some(mut caller) = self.by_id(key).await? else { return Ok(Err(Refusal::Unknown)) };
        caller.via = Via::Session(key);
        let csrf = self.signer.csrf(text);
        if !method.is_safe() && !cookie::has_proof(headers, &csrf) {
            return Ok(Err(Refusal::Csrf));
        }
        Ok(Ok(Known { caller, csrf: Some(csrf) }))
    }

    /// The cookie for somebody who showed a key or the code of a link, and the proof that the page
    /// needs.
    ///
    /// # Errors
    /// When it is neither; when the database fails.
    pub async fn sign_in(&self, secret: &str) -> Result<(String, Known), Problem> {
        let found = match self.codes.take(secret) {
            Some(key) => self.by_id(key).await?,
            None => self.by_secret(secret).await?,
        };
        let refused = || {
            Problem::unauthenticated("this key or link is not known, or was used before")
                .at("key")
                .with_next("The key in `client.toml` of the data folder signs in; a restart prints a new link.")
        };
        let mut caller = found.ok_or_else(refused)?;
        let (Via::Key(key) | Via::Session(key)) = caller.via else { return Err(refused()) };
        caller.via = Via::Session(key);
        let value = self.signer.sign(key, self.clock.now());
        let csrf = self.signer.csrf(&value);
        Ok((value, Known { caller, csrf: Some(csrf) }))
    }

    /// What signs the sessions, for setting and clearing the cookie.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// A code for a link that signs a browser in once, for the owner of this key, and until when
    /// it works.
    pub fn issue_code(&self, key: KeyId) -> (String, Timestamp) {
        self.codes.issue(key)
    }

    async fn by_secret(&self, secret: &str) -> Result<Option<Caller>, Problem> {
        if !secret.starts_with(KEY_PREFIX) || secret.len() > SECRET_MAX {
            return Ok(None);
        }
        let hash: [u8; 32] = Sha256::digest(secret).into();
        if let Some(caller) = self.cached(hash) {
            return Ok(Some(caller));
        }
        let revocations = self.store.revocations();
        let row = self.store.find_key_by_hash(&hex(&hash)).await.map_err(Problem::internal)?;
        Ok(row.map(|row| self.remember(hash, row, revocations)))
    }

    /// The owner of a key that is still good.
    async fn by_id(&self, key: KeyId) -> Result<Option<Caller>, Problem> {
        // The same cache under a name that no secret hashes to but by accident.
        let name: [u8; 32] = Sha256::digest(key.to_string()).into();
        if let Some(caller) = self.cached(name) {
            return Ok(Some(caller));
        }
        let revocations = self.store.revocations();
        let row = self.store.find_key(key).await.map_err(Problem::internal)?;
        Ok(row.map(|row| self.remember(name, row, revocations)))
    }

    fn cached(&self, hash: [u8; 32]) -> Option<Caller> {
        let revocations = self.store.revocations();
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let found = cache.get(&hash)?;
        found.counts(revocations).then(|| found.caller.clone())
    }

    /// Whose key was found. Its use is noted, now and then and behind the request's back.
    fn remember(&self, hash: [u8; 32], row: KeyRow, revocations: u64) -> Caller {
        if row.use_is_news(self.store.now()) {
            self.store.note_key_use(row.id);
        }
        let caller = caller_of(row);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_KEYS {
            cache.retain(|_, found| found.counts(revocations));
        }
        if cache.len() < CACHED_KEYS {
            let found = Remembered { caller: caller.clone(), since: Instant::now(), revocations };
            cache.insert(hash, found);
        }
        caller
    }
}

impl Remembered {
    fn counts(&self, revocations: u64) -> bool {
        self.revocations == revocations && self.since.elapsed() < CACHED_FOR
    }
}

/// A fresh API key: the secret for its owner, shown once, and the hash for the database.
pub fn new_key() -> (String, String) {
    let secret = format!("{KEY_PREFIX}{}", hex(&random::<KEY_BYTES>()));
    let hash = hex(&Sha256::digest(&secret));
    (secret, hash)
}

/// The hash under which the database knows a key.
pub fn hash_of(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

fn caller_of(row: KeyRow) -> Caller {
    Caller { owner: row.owner, via: Via::Key(row.id), ..Caller::local(OWNER_NAME) }
}

fn bearer(value: &http::HeaderValue) -> Option<&str> {
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// Random bytes from the operating system's generator.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut bytes);
    bytes
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a string can't fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use boatyard_model::time::SystemClock;
    use boatyard_store::{NewKey, Options};

    use super::*;

    #[tokio::test]
    async fn a_revoked_key_dies_at_once_and_its_use_is_noted() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(data.path().join("boatyard.db"))).await.unwrap();
        let (secret, hash) = new_key();
        let (name, prefix) = ("test".to_owned(), secret[..8].to_owned());
        let new = NewKey::local(Owner::BUILT_IN, name, prefix, hash);
        let key = store.write(|tx| Box::pin(tx.create_key(new))).await.unwrap();
        let auth = Auth::open(store.clone(), Arc::new(SystemClock), data.path()).unwrap();
        let mut headers = HeaderMap::new();
        let value = format!("Bearer {secret}").parse().unwrap();
        headers.insert(header::AUTHORIZATION, value);
        for _ in 0..2 {
            let known = auth.identify(&Method::GET, &headers).await.unwrap().unwrap();
            assert_eq!(known.caller.via, Via::Key(key));
        }
        assert!(auth.by_id(key).await.unwrap().is_some());
        // Waits its turn behind the note.
        store.write(|_| Box::pin(async { Ok(()) })).await.unwrap();
        assert!(store.find_key(key).await.unwrap().unwrap().last_used.is_some());
        store.write(move |tx| Box::pin(tx.revoke_key(key))).await.unwrap();
        let refused = auth.identify(&Method::GET, &headers).await.unwrap();
        assert_eq!(refused.unwrap_err(), Refusal::Unknown);
        assert!(auth.by_id(key).await.unwrap().is_none(), "nor by its cookie");
    }
}
