//! The vault: what is secret and must be kept is sealed here.
//!
//! ```text
//! master key ── wraps ──► data key ── seals ──► values, in rows of the database
//!  (a file, a variable,      └────► placeholder key, from which placeholders are derived
//!   a command, D/vault.key)
//! ```
//!
//! The master key is never in the database, the others are there wrapped only. Each value is sealed
//! for what it is: in another row it does not open. Both kinds of keys change while the server runs:
//! a new data key seals from then on, and what was sealed by earlier ones is sealed anew; another
//! master key wraps the same data keys. Placeholders stay what they are through all of that.
//!
//! A vault whose master key is missing is *locked*: what it sealed is refused with a sentence that
//! says so, nothing is sealed, and the rest of the server goes on.
//!
//! - [`Master`]: where the master key comes from.
//! - [`Vault`]: [`Vault::seal`], [`Vault::open`], [`Vault::rekey`].

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use boatyard_egress::broker::Placeholders;
use boatyard_store::{NewVaultKey, Owner, Store, VaultKeyPurpose, VaultKeyRow};
use ulid::Ulid;
use zeroize::Zeroizing;

mod master;
mod seal;

pub use master::{Error as MasterError, FILE, Master, VARIABLE};
use master::{MasterKey, Source};
pub(crate) use seal::Key;

/// Why the vault can't do what is wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The master key is not there.
    #[error("the vault is locked: {0}")]
    Locked(String),
    /// What is to be opened was sealed by a key that is gone, or for something else, or was changed.
    #[error("it can't be opened: it was sealed by another key, or changed since")]
    Damaged,
    /// The master key can't be read again.
    #[error("the master key can't be read")]
    Master(#[source] MasterError),
    /// There is no other master key to change to.
    #[error("{0}")]
    Same(String),
    /// Our own master key can't be kept.
    #[error("vault.key in the data folder can't be written")]
    Unwritable(#[source] std::io::Error),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] boatyard_store::Error),
}

/// A sealed value.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The value, sealed.
    pub text: String,
    /// The id of the key that sealed it.
    pub by: String,
}

/// Seals and opens. A cheap clone.
#[derive(Debug, Clone)]
pub struct Vault(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    data: Arc<Path>,
    source: Source,
    state: RwLock<State>,
    /// One change of keys at a time.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    masters: Vec<MasterKey>,
    /// By their ids.
    open: HashMap<String, Arc<Key>>,
    /// Seals.
    current: Option<String>,
    placeholders: Option<Arc<Placeholders>>,
    /// Why nothing can be sealed, and some things not be opened.
    locked: Option<String>,
}

/// What a change of keys did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rekeyed {
    /// Keys that another master key wraps now.
    pub rewrapped: usize,
    /// The master key in use, as it is called.
    pub master: String,
}

impl Vault {
    /// A vault that is locked until [`Vault::unlock`].
    pub fn new(store: Store, data: Arc<Path>, master: Master) -> Self {
        let state = State {
            masters: master.keys,
            open: HashMap::new(),
            current: None,
            placeholders: None,
            locked: Some("the server has not begun yet".to_owned()),
        };
        let changing = tokio::sync::Mutex::default();
        Self(Arc::new(Shared { store, data, source: master.source, state: state.into(), changing }))
    }

    /// Opens the keys, and makes them in a new installation. A vault that can't be opened stays
    /// locked, which is said in the log.
    ///
    /// # Errors
    /// When the store can't be used, or a key not be kept.
    pub async fn unlock(&self) -> Result<(), Error> {
        let shared = &self.0;
        let _changing = shared.changing.lock().await;
        let rows = shared.store.vault_keys().await?;
        if shared.source == Source::Generated {
            let keys = match master::read(&Source::Generated, &shared.data) {
                Ok(keys) => keys,
                Err(MasterError::Unreadable { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound && rows.is_empty() =>
                {
                    let key = MasterKey::random();
                    master::write(&shared.data, &[&key]).map_err(Error::Unwritable)?;
                    vec![key]
                }
                Err(error) => {
                    self.lock(&rows, &crate::chain(&error));
                    return self.without_loss().await;
                }
            };
            self.write().masters = keys;
        }
        if rows.is_empty() {
            return self.begin().await;
        }
        let locked = self.load(&rows);
        if locked > 0 && shared.source == Source::Generated {
            self.lock(&rows, &format!("{} holds another master key", shared.source.words()));
            self.without_loss().await?;
        } else if locked > 0 {
            self.lock(&rows, &format!("{} holds another master key", shared.source.words()));
        } else {
            self.write().locked = None;
            self.rewrap(&rows).await?;
        }
        Ok(())
    }

    /// Begins anew with a master key of our own where nothing is lost by that, as in what was
    /// restored from a backup without it.
    async fn without_loss(&self) -> Result<(), Error> {
        if self.0.store.seals_anything().await? {
            return Ok(());
        }
        self.anew().await
    }

    /// Makes the first keys.
    async fn begin(&self) -> Result<(), Error> {
        for purpose in [VaultKeyPurpose::Data, VaultKeyPurpose::Placeholder] {
            self.make_key(purpose).await?;
        }
        self.write().locked = None;
        Ok(())
    }

    /// Opens what the master keys open: how many of the rows they do not.
    fn load(&self, rows: &[VaultKeyRow]) -> usize {
        let mut state = self.write();
        let mut locked = 0;
        // The newest first: the first of each purpose is the one in use.
        for row in rows {
            let master = state.masters.iter().find(|master| master.id == row.master);
            let opened = master.and_then(|master| master.key.open(&wrapped_for(row), &row.wrapped));
            let key = opened
                .and_then(|bytes| Some(Zeroizing::new(<[u8; 32]>::try_from(&bytes[..]).ok()?)));
            let Some(key) = key else {
                locked += 1;
                continue;
            };
            match row.purpose {
                VaultKeyPurpose::Placeholder => {
                    if row.retired.is_none() {
                        state.placeholders = Some(Arc::new(Placeholders::new(key)));
                    }
                }
                VaultKeyPurpose::Data => {
                    if row.retired.is_none() {
                        state.current = Some(row.id.clone());
                    }
                    state.open.insert(row.id.clone(), Arc::new(Key::new(key)));
                }
            }
        }
        locked
    }

    fn lock(&self, rows: &[VaultKeyRow], why: &str) {
        let wanted = rows.first().map(|row| row.master.clone()).unwrap_or_default();
        let why = format!(
            "{why}, and its keys are wrapped by the master key {wanted}; give that one and start \
             the server again, or begin anew by `boatyard connection rekey --forget`, which loses \
             every stored value"
        );
        tracing::error!("the vault is locked: {why}");
        self.write().locked = Some(why);
    }

    /// Makes a key of a purpose the one in use.
    async fn make_key(&self, purpose: VaultKeyPurpose) -> Result<String, Error> {
        let key = Key::random();
        let id = Ulid::generate().to_string();
        let new = {
            let state = self.read();
            let Some(master) = state.masters.first() else {
                return Err(Error::Locked("there is no master key".to_owned()));
            };
            // The vault is the server's; what a value is sealed for names its organization.
            let owner = Owner::BUILT_IN;
            let wrapped = master.key.seal(&wrapping(&id, purpose, owner), key.bytes());
            NewVaultKey { id: id.clone(), owner, purpose, wrapped, master: master.id.clone() }
        };
        self.0.store.write(move |tx| Box::pin(tx.create_vault_key(new))).await?;
        let mut state = self.write();
        match purpose {
            VaultKeyPurpose::Data => {
                state.open.insert(id.clone(), Arc::new(key));
                state.current = Some(id.clone());
            }
            VaultKeyPurpose::Placeholder => {
                let bytes = Zeroizing::new(*key.bytes());
                state.placeholders = Some(Arc::new(Placeholders::new(bytes)));
            }
        }
        Ok(id)
    }

    /// Has the first master key wrap every key that another wraps: how many those were.
    async fn rewrap(&self, rows: &[VaultKeyRow]) -> Result<usize, Error> {
        let work: Vec<(String, String, String)> = {
            let state = self.read();
            let Some(first) = state.masters.first() else { return Ok(0) };
            let others = rows.iter().filter(|row| row.master != first.id);
            others
                .filter_map(|row| {
                    let what_for = wrapped_for(row);
                    let master = state.masters.iter().find(|master| master.id == row.master)?;
                    let bytes = master.key.open(&what_for, &row.wrapped)?;
                    Some((row.id.clone(), first.key.seal(&what_for, &bytes), first.id.clone()))
                })
                .collect()
        };
        let count = work.len();
        if count > 0 {
            let write = self.0.store.write(move |tx| {
                Box::pin(async move {
                    for (id, wrapped, master) in work.clone() {
                        tx.rewrap_vault_key(&id, wrapped, master).await?;
                    }
                    Ok(())
                })
            });
            write.await?;
            tracing::info!(keys = count, "the vault's keys are wrapped by another master key now");
        }
        Ok(count)
    }

    /// Seals a value for one thing.
    ///
    /// # Errors
    /// [`Error::Locked`].
    pub fn seal(&self, what_for: &str, value: &[u8]) -> Result<Sealed, Error> {
        let state = self.read();
        if let Some(why) = &state.locked {
            return Err(Error::Locked(why.clone()));
        }
        let current = state.current.as_ref().and_then(|id| Some((id, state.open.get(id)?)));
        let Some((id, key)) = current else {
            return Err(Error::Locked("it has no key".to_owned()));
        };
        Ok(Sealed { text: key.seal(what_for, value), by: id.clone() })
    }

    /// Opens what was sealed for the same thing.
    ///
    /// # Errors
    /// [`Error::Locked`] and [`Error::Damaged`].
    pub fn open(
        &self,
        what_for: &str,
        sealed: &str,
        by: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let key = {
            let state = self.read();
            match (state.open.get(by), &state.locked) {
                (Some(key), _) => Arc::clone(key),
                (None, Some(why)) => return Err(Error::Locked(why.clone())),
                (None, None) => return Err(Error::Damaged),
            }
        };
        key.open(what_for, sealed).ok_or(Error::Damaged)
    }

    /// What knows placeholders; none while the vault is locked.
    pub fn placeholders(&self) -> Option<Arc<Placeholders>> {
        self.read().placeholders.clone()
    }

    /// Why the vault is locked, if it is.
    pub fn locked(&self) -> Option<String> {
        self.read().locked.clone()
    }

    /// The id of the key that seals.
    pub fn current(&self) -> Option<String> {
        self.read().current.clone()
    }

    /// Makes a new data key, which seals from now on. What others sealed is for whoever keeps it to
    /// seal anew.
    ///
    /// # Errors
    /// [`Error::Locked`].
    pub async fn renew(&self) -> Result<String, Error> {
        let _changing = self.0.changing.lock().await;
        if let Some(why) = self.locked() {
            return Err(Error::Locked(why));
        }
        self.make_key(VaultKeyPurpose::Data).await
    }

    /// Forgets data keys that nothing is sealed by any more.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn forget_unused(&self) -> Result<(), Error> {
        let _changing = self.0.changing.lock().await;
        self.0.store.write(|tx| Box::pin(tx.remove_unused_vault_keys())).await?;
        let rows = self.0.store.vault_keys().await?;
        self.write().open.retain(|id, _| rows.iter().any(|row| row.id == *id));
        Ok(())
    }

    /// Changes to another master key: to a new one where it is our own, else to the first that its
    /// source has now.
    ///
    /// # Errors
    /// When the source can't be read again, or has no other.
    pub async fn change_master(&self) -> Result<Rekeyed, Error> {
        let shared = &self.0;
        let _changing = shared.changing.lock().await;
        if let Some(why) = self.locked() {
            return Err(Error::Locked(why));
        }
        let place = shared.source.words();
        let keys = match &shared.source {
            Source::Variable => {
                return Err(Error::Same(format!(
                    "a variable can't be read again: start the server with {VARIABLE}=NEW,OLD, and \
                     then with NEW alone"
                )));
            }
            Source::Generated => {
                let mut keys = vec![MasterKey::random()];
                keys.extend(master::read(&Source::Generated, &shared.data).map_err(Error::Master)?);
                // Both, until nothing needs the old one: whatever happens in between, what is there
                // can be opened.
                let both: Vec<&MasterKey> = keys.iter().collect();
                master::write(&shared.data, &both).map_err(Error::Unwritable)?;
                keys
            }
            Source::File(_) | Source::Command(_) => {
                let (source, data) = (shared.source.clone(), Arc::clone(&shared.data));
                let read = tokio::task::spawn_blocking(move || master::read(&source, &data));
                let read = read.await.map_err(|error| Error::Locked(error.to_string()))?;
                read.map_err(Error::Master)?
            }
        };
        let rows = shared.store.vault_keys().await?;
        let is_needed = |row: &VaultKeyRow| keys.iter().all(|key| key.id != row.master);
        if let Some(row) = rows.iter().find(|row| is_needed(row)) {
            return Err(Error::Same(format!(
                "{place} must still hold the master key {}, behind the new one: it is needed once \
                 more",
                row.master
            )));
        }
        if rows.iter().all(|row| keys.first().is_some_and(|first| first.id == row.master)) {
            return Err(Error::Same(format!(
                "the first key that {place} holds is the one in use: put the new one before it"
            )));
        }
        self.write().masters = keys;
        let rewrapped = self.rewrap(&rows).await?;
        let first = {
            let mut state = self.write();
            state.masters.truncate(1);
            state.masters.first().map(|key| key.id.clone()).unwrap_or_default()
        };
        if shared.source == Source::Generated {
            let state = self.read();
            let kept: Vec<&MasterKey> = state.masters.iter().collect();
            master::write(&shared.data, &kept).map_err(Error::Unwritable)?;
        }
        Ok(Rekeyed { rewrapped, master: first })
    }

    /// Begins anew with the master key that is there, where the one that is needed is gone: every
    /// key that can't be opened is forgotten, and with it what it sealed.
    ///
    /// # Errors
    /// When the vault is not locked.
    pub async fn begin_anew(&self) -> Result<(), Error> {
        let _changing = self.0.changing.lock().await;
        if self.locked().is_none() {
            let detail = "the vault is not locked: nothing need be forgotten";
            return Err(Error::Same(detail.to_owned()));
        }
        self.anew().await
    }

    async fn anew(&self) -> Result<(), Error> {
        let shared = &self.0;
        if shared.source == Source::Generated {
            let keys = match master::read(&Source::Generated, &shared.data) {
                Ok(keys) => keys,
                Err(_) => {
                    let key = MasterKey::random();
                    master::write(&shared.data, &[&key]).map_err(Error::Unwritable)?;
                    vec![key]
                }
            };
            self.write().masters = keys;
        }
        for row in shared.store.vault_keys().await? {
            let is_open = self.read().masters.iter().any(|master| master.id == row.master);
            if !is_open {
                let id = row.id.clone();
                let forget = shared.store.write(move |tx| {
                    let id = id.clone();
                    Box::pin(async move { tx.forget_vault_key(&id).await })
                });
                forget.await?;
            }
        }
        let rows = shared.store.vault_keys().await?;
        let _all_open = self.load(&rows);
        let has = |purpose| rows.iter().any(|row| row.purpose == purpose && row.retired.is_none());
        for purpose in [VaultKeyPurpose::Data, VaultKeyPurpose::Placeholder] {
            if !has(purpose) {
                self.make_key(purpose).await?;
            }
        }
        self.write().locked = None;
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.0.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a key of the vault is wrapped for.
fn wrapping(id: &str, purpose: VaultKeyPurpose, owner: Owner) -> String {
    format!("boatyard vault key {id} {} {}", purpose.as_str(), owner.organization)
}

fn wrapped_for(row: &VaultKeyRow) -> String {
    wrapping(&row.id, row.purpose, row.owner)
}

#[cfg(test)]
mod tests;
