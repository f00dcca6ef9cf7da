//! The key that commits and tags are signed with: one for each organization, made when it is first
//! needed, sealed by the vault, and never in a workspace.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use boatyard_egress::git::{
    RefusalKind,
    sign::{self, SignError, SigningKey},
};
use boatyard_model::OrganizationId;
use boatyard_store::{GitKeyRow, Owner, Store};

use crate::{settings::Settings, vault::Vault};

/// Why nothing is signed. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The settings do not want it.
    #[error(
        "Boatyard signs no commits here: the operator turns it on by `sign = true` in [git] of \
         boatyard.toml."
    )]
    Off,
    /// It is nothing that is signed.
    #[error("Boatyard does not sign this: {0}. Commit as {who}.", who = .1)]
    Refused(#[source] SignError, String),
    /// There is no key to be had.
    #[error("Boatyard has no key to sign with: {0}.")]
    Key(String),
    /// The store refused.
    #[error("Boatyard can't look up its key for now. Try again.")]
    Store(#[from] boatyard_store::Error),
}

impl SigningError {
    pub(super) fn kind(&self) -> RefusalKind {
        match self {
            Self::Off | Self::Refused(..) => RefusalKind::Forbidden,
            Self::Key(_) | Self::Store(_) => RefusalKind::Failed,
        }
    }
}

/// Signs. A cheap clone.
#[derive(Clone)]
pub struct Signing(Arc<Shared>);

struct Shared {
    store: Store,
    settings: Arc<Settings>,
    vault: Vault,
    /// Keys that were opened, with the text that they were opened from.
    opened: Mutex<HashMap<OrganizationId, (String, Arc<SigningKey>)>>,
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signing")
    }
}

impl Signing {
    /// Signs as the settings say, with keys that the vault seals.
    pub fn new(store: Store, settings: Arc<Settings>, vault: Vault) -> Self {
        Self(Arc::new(Shared { store, settings, vault, opened: Mutex::default() }))
    }

    /// Whether commits are signed.
    pub fn is_on(&self) -> bool {
        self.0.settings.git.sign
    }

    /// The key that a workspace's commits are signed with.
    pub(super) async fn for_workspace(
        &self,
        owner: Owner,
    ) -> Result<Arc<SigningKey>, SigningError> {
        if !self.is_on() {
            return Err(SigningError::Off);
        }
        self.key(owner).await
    }

    /// Signs a commit or tag that is made in the name under which workspaces commit.
    pub(super) async fn sign(&self, owner: Owner, object: &[u8]) -> Result<String, SigningError> {
        let key = self.for_workspace(owner).await?;
        let (name, email) = self.author(owner).await?;
        sign::check(object, &name, &email)
            .map_err(|error| SigningError::Refused(error, format!("{name} <{email}>")))?;
        Ok(key.sign(object))
    }

    /// The name and address in which somebody's workspaces commit: their own, or the server's.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn author(&self, owner: Owner) -> boatyard_store::Result<(String, String)> {
        let author = &self.0.settings.author;
        let own = self.0.store.git_identity(owner).await?;
        Ok(own.map_or_else(
            || (author.name.clone(), author.email.clone()),
            |identity| (identity.name, identity.email),
        ))
    }

    /// An organization's key; made if there is none.
    ///
    /// # Errors
    /// When it can't be opened or made.
    pub async fn key(&self, owner: Owner) -> Result<Arc<SigningKey>, SigningError> {
        if let Some(row) = self.0.store.git_key(owner.organization).await? {
            return self.open(&row).await;
        }
        let unmade = |error: SignError| SigningError::Key(error.to_string());
        let (key, kept) = SigningKey::generate().map_err(unmade)?;
        let sealed = self.0.vault.seal(&sealed_for(owner.organization), &kept).map_err(closed)?;
        let public = key.public();
        let keep = self.0.store.write(move |tx| {
            let (public, sealed) = (public.clone(), sealed.clone());
            Box::pin(async move { tx.keep_git_key(owner, &public, &sealed.text, &sealed.by).await })
        });
        keep.await?;
        // Another may have been first.
        match self.0.store.git_key(owner.organization).await? {
            Some(row) => self.open(&row).await,
            None => Err(SigningError::Key("it was forgotten just now; try again".to_owned())),
        }
    }

    async fn open(&self, row: &GitKeyRow) -> Result<Arc<SigningKey>, SigningError> {
        let organization = row.owner.organization;
        {
            let opened = self.0.opened.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((from, key)) = opened.get(&organization)
                && *from == row.sealed
            {
                return Ok(Arc::clone(key));
            }
        }
        let what_for = sealed_for(organization);
        let kept = self.0.vault.open(&what_for, &row.sealed, &row.sealed_by).map_err(closed)?;
        let key = SigningKey::from_pkcs8(&kept);
        let key = Arc::new(key.map_err(|error| SigningError::Key(error.to_string()))?);
        let mut from = row.sealed.clone();
        if self.0.vault.current().is_some_and(|current| current != row.sealed_by) {
            let sealed = self.0.vault.seal(&what_for, &kept).map_err(closed)?;
            from.clone_from(&sealed.text);
            let reseal = self.0.store.write(move |tx| {
                let sealed = sealed.clone();
                Box::pin(
                    async move { tx.reseal_git_key(organization, &sealed.text, &sealed.by).await },
                )
            });
            reseal.await?;
        }
        let mut opened = self.0.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.insert(organization, (from, Arc::clone(&key)));
        Ok(key)
    }

    /// Makes another key the organization's; what the one before has signed stays signed by it.
    ///
    /// # Errors
    /// As [`Signing::key`].
    pub async fn renew(&self, owner: Owner) -> Result<Arc<SigningKey>, SigningError> {
        let forget = self
            .0
            .store
            .write(move |tx| Box::pin(async move { tx.forget_git_key(owner.organization).await }));
        forget.await?;
        self.key(owner).await
    }
}

/// What a key is sealed for, so that it opens as nothing else.
fn sealed_for(organization: OrganizationId) -> String {
    format!("git signing key {organization}")
}

fn closed(error: crate::vault::Error) -> SigningError {
    SigningError::Key(crate::chain(&error))
}
