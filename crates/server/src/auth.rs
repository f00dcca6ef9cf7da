//! Who calls: API keys, signed-in browsers, and where a request may come from.
//!
//! A caller proves itself in one of two ways:
//!
//! - `Authorization: Bearer by_…`: an API key.
//! - the page's cookie ([`cookie`]): a browser in which a person is signed in, by a password
//!   ([`password`]), a passkey, a provider, a key, or the one-time code of a printed link
//!   ([`code`]). A request with it that changes something must also carry `X-Boatyard-CSRF`.
//!
//! The database holds the SHA-256 of either only; what is looked up is the hash, so that the time it
//! takes tells nothing about a key. What was found is remembered for a moment, and forgotten as soon
//! as anybody's rights are taken away ([`find`]).
//!
//! Before either counts, the request must have been meant for this server ([`origin`]): a page of
//! another site can't speak as the person who looks at it. For whom the server is, and how people
//! may sign in, is in [`ways`].

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use boatyard_api::{Problem, identity::KEY_PREFIX, identity::ServerState};
use boatyard_model::{DeviceId, KeyId, PersonId, Role, Scopes, ShareId, Timestamp, time::Clock};
use boatyard_store::{Owner, Store};
use sha2::{Digest as _, Sha256};

use crate::{
    rates::Rates,
    settings::{Settings, SignIn},
};

pub mod admin;
pub mod code;
pub mod cookie;
pub mod enter;
pub mod find;
mod guest;
mod key;
pub mod origin;
pub mod passkeys;
pub mod password;
pub mod providers;
pub mod ways;

pub use admin::Admin;
pub use code::{Codes, Holder, SetupCode};
pub use cookie::Signer;
pub use enter::{Entrance, SignedIn, Visitor};
pub use find::Asked;
pub use origin::{Hosts, Site};
pub use password::Passwords;
pub use ways::{Audience, StoredWays, Ways};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// With an API key.
    Key(KeyId),
    /// In a browser, as a person.
    Device(DeviceId),
    /// In a browser that has the link of this share, as nobody: to look at what it shares.
    Guest(ShareId),
    /// It is the server itself: a job, a schedule.
    Server,
}

impl Caller {
    /// The server itself, for the one who owns everything.
    pub fn server() -> Self {
        Self {
            owner: Owner::BUILT_IN,
            person: None,
            role: Role::Owner,
            operator: true,
            scopes: Scopes::ALL,
            address: None,
            name: "Boatyard".into(),
            via: Via::Server,
        }
    }
}

/// A caller with what the page needs to prove itself.
#[derive(Debug, Clone)]
pub struct Known {
    /// Who.
    pub caller: Caller,
    /// What `X-Boatyard-CSRF` must say, for a caller with a cookie.
    pub csrf: Option<String>,
    /// When what it proved itself with ends by itself.
    pub until: Option<Timestamp>,
}

/// Why nobody was found behind a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It carries nothing that says who.
    Missing,
    /// What it carries is not known.
    Unknown,
    /// Its key was revoked.
    Revoked,
    /// Its key's time is over.
    Expired,
    /// The browser was signed out, or was not used for long.
    SignedOut,
    /// The person is no member of the organization that the request is about.
    NoMember,
    /// It changes something by cookie, without the page's proof.
    Csrf,
}

impl Refusal {
    /// The answer to the client.
    pub fn problem(self) -> Problem {
        match self {
            Self::Missing => Problem::unauthenticated("this needs an API key or a session"),
            Self::Unknown => Problem::unauthenticated("this key is not known"),
            Self::Revoked => Problem::unauthenticated("this key was revoked")
                .with_next("Make another one, or ask an admin of the organization for one."),
            Self::Expired => Problem::unauthenticated("this key has expired")
                .with_next("Make another one, or ask an admin of the organization for one."),
            Self::SignedOut => Problem::unauthenticated("this browser is not signed in any more")
                .with_next("Sign in again."),
            Self::NoMember => {
                Problem::unauthenticated("you are no member of this organization (any more)")
                    .with_next("Ask one of its admins for an invitation.")
            }
            Self::Csrf => Problem::not_allowed("a change by the page needs its proof")
                .at("header.x-boatyard-csrf")
                .with_next("Reload the page."),
        }
    }

    /// A word for it, for programs that follow a stream.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::SignedOut => "signed_out",
            Self::NoMember => "no_member",
            Self::Csrf => "csrf",
        }
    }
}

/// Tells who calls, and signs people in.
pub struct Auth {
    store: Store,
    clock: Arc<dyn Clock>,
    signer: Signer,
    codes: Codes,
    setup: SetupCode,
    /// Works on passwords.
    pub passwords: Passwords,
    /// How often something may be asked for.
    pub rates: Rates,
    audience: Audience,
    claimed: AtomicBool,
    settings: SignIn,
    ways: RwLock<Arc<Ways>>,
    remembered: find::Remembered,
}

impl Auth {
    /// With the keys and people of the store and the secret of the data folder, which is made at
    /// the first start; for one person on this machine until [`Auth::prepare`] says otherwise.
    ///
    /// # Errors
    /// When the secret can't be read or written.
    pub fn open(store: Store, clock: Arc<dyn Clock>, data: &Path) -> std::io::Result<Self> {
        let settings = SignIn::default();
        let ways = Arc::new(Ways::new(&settings, &StoredWays::default()));
        Ok(Self {
            signer: Signer::open(&data.join("session.key"))?,
            store,
            codes: Codes::new(Arc::clone(&clock)),
            setup: SetupCode::default(),
            clock,
            passwords: Passwords::default(),
            rates: Rates::default(),
            audience: Audience::One,
            claimed: AtomicBool::new(false),
            settings,
            ways: RwLock::new(ways),
            remembered: find::Remembered::default(),
        })
    }

    /// Finds out for whom the server is, and which ways of signing in count.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn prepare(
        &mut self,
        settings: &Settings,
        listening: SocketAddr,
    ) -> Result<(), boatyard_store::Error> {
        self.audience = Audience::of(settings, listening);
        self.settings = settings.sign_in.clone();
        self.rates = Rates::new(&settings.rates);
        self.claimed.store(self.store.is_claimed().await?, Ordering::Release);
        let stored = self.stored_ways().await?;
        self.use_ways(&stored);
        Ok(())
    }

    /// Refuses a server that nobody could sign in to, or that a network could reach without anybody
    /// having to.
    ///
    /// # Errors
    /// When no way of signing in is switched on, with what to set.
    pub fn check_ways(&self, settings: &Settings, providers: usize) -> Result<(), NoWay> {
        let ways = self.ways();
        let known = settings.sign_in_providers.values().filter(|one| one.enabled).count();
        let any = ways.password || ways.passkeys || providers + known > 0;
        if any || self.audience == Audience::One { Ok(()) } else { Err(NoWay) }
    }

    /// For whom the server is now.
    pub fn state(&self) -> ServerState {
        self.audience.state(self.claimed.load(Ordering::Acquire))
    }

    /// The server is somebody's from now on.
    pub(crate) fn claimed(&self) {
        self.claimed.store(true, Ordering::Release);
        self.setup.spend();
    }

    /// What counts of the settings and of what was set on the page.
    pub fn ways(&self) -> Arc<Ways> {
        Arc::clone(&self.ways.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the settings file says, which goes before the page.
    pub const fn settings(&self) -> &SignIn {
        &self.settings
    }

    /// What was set on the page.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn stored_ways(&self) -> Result<StoredWays, boatyard_store::Error> {
        let text = self.store.meta(ways::STORED).await?;
        Ok(text.map_or_else(StoredWays::default, |text| {
            serde_json::from_str(&text).unwrap_or_else(|error| {
                tracing::error!(%error, "what was set about signing in can't be read; the settings count");
                StoredWays::default()
            })
        }))
    }

    /// Keeps what is set on the page, and uses it from now on.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn store_ways(&self, stored: StoredWays) -> Result<(), Problem> {
        let text = serde_json::to_string(&stored).map_err(Problem::internal)?;
        self.store
            .write(move |tx| Box::pin(async move { tx.set_meta(ways::STORED, &text).await }))
            .await
            .map_err(crate::operations::store_problem)?;
        self.use_ways(&stored);
        Ok(())
    }

    fn use_ways(&self, stored: &StoredWays) {
        let ways = Arc::new(Ways::new(&self.settings, stored));
        *self.ways.write().unwrap_or_else(PoisonError::into_inner) = ways;
    }

    /// Everything that is remembered.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// What makes the page's proofs, for setting and clearing the cookie.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// A code for a link that signs a browser in once, and until when it works.
    pub fn issue_code(&self, holder: Holder) -> (String, Timestamp) {
        self.codes.issue(holder)
    }

    /// The links of a person that were not used yet are worth nothing any more.
    pub fn forget_codes(&self, person: PersonId) {
        self.codes.forget(person);
    }

    /// The code with which the server is set up.
    pub const fn setup(&self) -> &SetupCode {
        &self.setup
    }
}

/// Nobody could sign in.
#[derive(Debug, thiserror::Error)]
#[error(
    "no way of signing in is switched on: set `password = true` or `passkeys = true` in [sign_in] of \
     boatyard.toml, or set up a provider there; or listen on 127.0.0.1 only, for yourself alone"
)]
pub struct NoWay;

/// A fresh API key: the secret for its owner, shown once, and the hash for the database.
pub fn new_key() -> (String, String) {
    let secret = format!("{KEY_PREFIX}{}", hex(&random::<KEY_BYTES>()));
    let hash = hash_of(&secret);
    (secret, hash)
}

/// The hash under which the database knows a key, a cookie or a code.
pub fn hash_of(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

/// Random bytes from the operating system's generator.
pub(crate) fn random<const N: usize>() -> [u8; N] {
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
mod tests;
