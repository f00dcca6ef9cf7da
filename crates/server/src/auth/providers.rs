//! Other people's word for who somebody is: GitHub, Google, any OpenID Connect provider.
//!
//! ```text
//! [sign_in.providers.NAME] ─┐
//!                           ├─► book ─► begin ─ browser ─► provider ─ browser ─► finish ─► Account
//! the API, sealed ──────────┘           state, nonce, PKCE: in a sealed cookie (flow)
//! ```
//!
//! What an [`Account`] means here, whose it is and what it may do, is decided by
//! `operations::sign_in`.
//!
//! - [`SignIn`]: the providers, as they are now.
//! - [`flow`]: what a browser carries meanwhile.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use boatyard_api::sign_in::{ProviderKind, ProviderSettings, SetBy};
use boatyard_store::{Store, identities::SignInProviderRow};
use url::Url;
use zeroize::Zeroizing;

use self::{fault::Fault, flow::Flows, outside::Outside, spec::Grant};
use crate::{
    auth::passkeys::Passkeys,
    settings::Settings,
    vault::{self, Vault},
};

pub(crate) mod fault;
pub(crate) mod flow;
mod github;
mod oidc;
mod outside;
pub(crate) mod spec;

/// The most providers.
pub(crate) const PROVIDERS_MAX: usize = 50;

/// A provider.
pub(crate) struct Provider {
    /// Its name, in addresses.
    pub(crate) name: String,
    /// What it is.
    pub(crate) settings: ProviderSettings,
    /// Where it is.
    pub(crate) issuer: String,
    /// What the button says.
    pub(crate) label: String,
    /// What its groups are in organizations.
    pub(crate) grants: Vec<Grant>,
    /// Where it was set up.
    pub(crate) set_by: SetBy,
    /// The client's secret, or why it can't be had.
    secret: Result<Zeroizing<String>, String>,
    known: oidc::Known,
}

/// Where a browser is sent, and what must be kept until it is back.
pub(crate) struct Away {
    pub(crate) url: Url,
    pub(crate) nonce: String,
    pub(crate) verifier: String,
}

/// With what a browser is back.
pub(crate) struct Back<'a> {
    pub(crate) code: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) verifier: &'a str,
}

/// An account, as its provider tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Who says so.
    pub(crate) issuer: String,
    /// Whom that means, for ever.
    pub(crate) subject: String,
    /// The address.
    pub(crate) email: Option<String>,
    /// Whether the provider says that the address is the person's.
    pub(crate) verified: bool,
    /// The name.
    pub(crate) name: Option<String>,
    /// The groups, as the provider calls them.
    pub(crate) groups: Vec<String>,
}

impl Provider {
    /// # Errors
    /// Why there is no secret.
    fn secret(&self) -> Result<&str, Fault> {
        self.secret.as_ref().map(|secret| secret.as_str()).map_err(|why| {
            Fault::Unreachable(format!("the secret of {} can't be used: {why}", self.name))
        })
    }

    /// Why it can't be used, if so.
    pub(crate) fn locked(&self) -> Option<&str> {
        self.secret.as_ref().err().map(String::as_str)
    }
}

/// How people sign in, as it is now. A cheap clone.
#[derive(Clone)]
pub struct SignIn(Arc<Shared>);

struct Shared {
    store: Store,
    vault: Vault,
    settings: Arc<Settings>,
    outside: Arc<Outside>,
    flows: Flows,
    passkeys: Passkeys,
    url: OnceLock<Arc<str>>,
    book: RwLock<Arc<Book>>,
    /// One reading at a time, so that an older one never takes a newer one's place.
    reading: tokio::sync::Mutex<()>,
}

/// All of it, read at once.
#[derive(Default)]
struct Book {
    providers: Vec<Arc<Provider>>,
}

/// What a provider's secret is sealed for.
pub(crate) fn sealed_for(name: &str) -> String {
    format!("boatyard sign-in provider {name}")
}

impl SignIn {
    /// With the providers of the settings; those of the database are read by [`SignIn::begin`].
    pub(crate) fn new(store: Store, vault: Vault, settings: Arc<Settings>) -> Self {
        Self(Arc::new(Shared {
            outside: Arc::new(Outside::new(settings.egress.clone())),
            store,
            vault,
            settings,
            flows: Flows::new(),
            passkeys: Passkeys::new(),
            url: OnceLock::new(),
            book: RwLock::default(),
            reading: tokio::sync::Mutex::default(),
        }))
    }

    /// Says once under which address browsers reach the server, without a slash at its end, and
    /// reads what there is.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn begin(&self, url: &str) -> Result<(), boatyard_store::Error> {
        // Twice is once.
        let _ = self.0.url.set(url.into());
        self.read().await
    }

    /// Reads again what the database has.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) async fn read(&self) -> Result<(), boatyard_store::Error> {
        let shared = &self.0;
        let _reading = shared.reading.lock().await;
        let rows = shared.store.sign_in_providers().await?;
        let before = self.book();
        let mut providers = Vec::new();
        for (name, section) in &shared.settings.sign_in_providers {
            let secret = match &section.client_secret {
                Some(secret) => Ok(Zeroizing::new(secret.expose().to_owned())),
                None => Err("it has none; set `client_secret`".to_owned()),
            };
            if let Some(provider) = provider(name, section.settings(name), secret, SetBy::File) {
                providers.push(kept(&before, provider));
            }
        }
        for row in rows {
            // What the file says wins.
            if shared.settings.sign_in_providers.contains_key(&row.name) {
                continue;
            }
            let settings = match serde_json::from_str::<ProviderSettings>(&row.settings) {
                Ok(settings) => settings,
                Err(error) => {
                    tracing::error!(provider = row.name, %error, "a provider can't be read");
                    continue;
                }
            };
            let secret = self.open(&row);
            if let Some(provider) = provider(&row.name, settings, secret, SetBy::Api) {
                providers.push(kept(&before, provider));
            }
        }
        providers.sort_by(|a, b| a.name.cmp(&b.name));
        let book = Arc::new(Book { providers });
        *shared.book.write().unwrap_or_else(PoisonError::into_inner) = book;
        Ok(())
    }

    fn open(&self, row: &SignInProviderRow) -> Result<Zeroizing<String>, String> {
        let opened = self.0.vault.open(&sealed_for(&row.name), &row.sealed, &row.sealed_by);
        let bytes = opened.map_err(|error| error.to_string())?;
        let text = String::from_utf8(bytes.to_vec()).map_err(|_| "it is no text".to_owned())?;
        Ok(Zeroizing::new(text))
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.0.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Seals a provider's secret.
    pub(crate) fn seal(&self, name: &str, secret: &str) -> Result<vault::Sealed, vault::Error> {
        self.0.vault.seal(&sealed_for(name), secret.as_bytes())
    }

    /// Seals by the vault's newest key what an earlier one sealed: how many secrets.
    ///
    /// # Errors
    /// When the store or the vault can't be used.
    pub(crate) async fn reseal(&self) -> Result<u64, vault::Error> {
        let shared = &self.0;
        let Some(current) = shared.vault.current() else { return Ok(0) };
        let mut sealed = 0;
        for row in shared.store.sign_in_providers().await? {
            if row.sealed_by == current {
                continue;
            }
            let value = match shared.vault.open(&sealed_for(&row.name), &row.sealed, &row.sealed_by)
            {
                Ok(value) => value,
                Err(error) => {
                    tracing::error!(provider = row.name, %error, "a secret can't be sealed anew");
                    continue;
                }
            };
            let anew = shared.vault.seal(&sealed_for(&row.name), &value)?;
            let write = shared.store.write(move |tx| {
                Box::pin(async move {
                    tx.reseal_sign_in_provider(&row.name, &row.sealed, &anew.text, &anew.by).await
                })
            });
            sealed += u64::from(write.await?);
        }
        Ok(sealed)
    }

    /// All providers, by name.
    pub(crate) fn providers(&self) -> Vec<Arc<Provider>> {
        self.book().providers.clone()
    }

    /// The provider of this name.
    pub(crate) fn provider(&self, name: &str) -> Option<Arc<Provider>> {
        self.book().providers.iter().find(|provider| provider.name == name).cloned()
    }

    /// Where browsers reach the server.
    pub(crate) fn url(&self) -> &str {
        self.0.url.get().map_or("", |url| url)
    }

    /// The address to which a provider leads people back.
    pub(crate) fn callback(&self, provider: &str) -> String {
        format!("{}/api/auth/callback/{provider}", self.url())
    }

    /// What browsers carry meanwhile.
    pub(crate) fn flows(&self) -> &Flows {
        &self.0.flows
    }

    /// Passkeys.
    pub(crate) fn passkeys(&self) -> &Passkeys {
        &self.0.passkeys
    }

    /// Where a browser is sent to sign in.
    ///
    /// # Errors
    /// When the provider can't be asked, or can't be believed.
    pub(crate) async fn away(&self, provider: &Provider, state: &str) -> Result<Away, Fault> {
        let callback = self.callback(&provider.name);
        match provider.settings.kind {
            ProviderKind::Github => github::begin(provider, &callback, state),
            ProviderKind::Oidc | ProviderKind::Google => {
                oidc::begin(provider, &self.0.outside, &callback, state).await
            }
        }
    }

    /// Who came back.
    ///
    /// # Errors
    /// When the provider can't be asked, does not know the code, or can't be believed.
    pub(crate) async fn back(
        &self,
        provider: &Provider,
        back: &Back<'_>,
    ) -> Result<Account, Fault> {
        let callback = self.callback(&provider.name);
        let outside = &self.0.outside;
        match provider.settings.kind {
            ProviderKind::Github => github::finish(provider, outside, &callback, back).await,
            ProviderKind::Oidc | ProviderKind::Google => {
                oidc::finish(provider, outside, &callback, back).await
            }
        }
    }

    /// What a provider says to being asked without anybody signing in.
    ///
    /// # Errors
    /// When it can't be asked, or can't be believed.
    pub(crate) async fn check(&self, provider: &Provider) -> Result<Vec<String>, Fault> {
        match provider.settings.kind {
            ProviderKind::Github => github::check(provider, &self.0.outside).await,
            ProviderKind::Oidc | ProviderKind::Google => {
                oidc::check(provider, &self.0.outside).await
            }
        }
    }
}

fn provider(
    name: &str,
    settings: ProviderSettings,
    secret: Result<Zeroizing<String>, String>,
    set_by: SetBy,
) -> Option<Provider> {
    match spec::compile(name, &settings) {
        Ok(spec::Compiled { issuer, label, grants }) => Some(Provider {
            name: name.to_owned(),
            settings,
            issuer,
            label,
            grants,
            set_by,
            secret,
            known: oidc::Known::default(),
        }),
        // The file's were looked over when it was read.
        Err((field, reason)) => {
            tracing::error!(provider = name, "a provider can't be used: {field}: {reason}");
            None
        }
    }
}

/// A provider that is as it was goes on with what is known of it.
fn kept(before: &Book, provider: Provider) -> Arc<Provider> {
    let same = before.providers.iter().find(|was| {
        was.name == provider.name
            && was.settings == provider.settings
            && was.set_by == provider.set_by
            && was.secret == provider.secret
    });
    same.map_or_else(|| Arc::new(provider), Arc::clone)
}
