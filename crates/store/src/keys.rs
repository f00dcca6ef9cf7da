//! API keys. Only the hash of a secret is kept.

use std::{sync::atomic::Ordering, time::Duration};

use boatyard_model::{KeyId, OrganizationId, Timestamp};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, read_all, read_one},
    row::record,
};

/// How exactly the last use of a key is known: often enough to see which one nobody needs, seldom
/// enough to cost nothing.
pub const USE_NOTED: Duration = Duration::from_secs(60);

record! {
    /// An API key.
    #[derive(Debug, Clone)]
    pub struct KeyRow [owned] {
        /// Its id.
        pub id: KeyId,
        /// What it is for, as its owner calls it.
        pub name: String,
        /// The first characters of the secret, to recognize it by.
        pub prefix: String,
        /// When it was made.
        pub created: Timestamp,
        /// When it was used last, roughly.
        pub last_used: Option<Timestamp>,
        /// When it ceased to work.
        pub revoked: Option<Timestamp>,
    }
}

/// A key to be stored.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose it is.
    pub owner: Owner,
    /// What it is for.
    pub name: String,
    /// The first characters of the secret.
    pub prefix: String,
    /// The SHA-256 of the secret, in small hexadecimal digits.
    pub hash: String,
}

impl Tx {
    /// Stores a key.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_key(&mut self, new: NewKey) -> Result<KeyId> {
        let id = KeyId::new();
        exec!(
            self,
            "INSERT INTO api_key (id, organization, owner, name, prefix, hash, created)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            id,
            new.owner.organization,
            new.owner.member,
            new.name,
            new.prefix,
            new.hash,
            self.now(),
        )?;
        Ok(id)
    }

    /// Makes a key cease to work.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn revoke_key(&mut self, id: KeyId) -> Result<()> {
        let touched = exec!(
            self,
            "UPDATE api_key SET revoked = COALESCE(revoked, $2) WHERE id = $1",
            id,
            self.now(),
        )?;
        self.effects.keys = true;
        if touched == 0 { Err(Error::not_found("key", id)) } else { Ok(()) }
    }

    /// Notes that a key is used, unless that was noted less than [`USE_NOTED`] ago.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn touch_key(&mut self, id: KeyId) -> Result<()> {
        exec!(
            self,
            "UPDATE api_key SET last_used = $2
             WHERE id = $1 AND (last_used IS NULL OR last_used + $3 <= $2)",
            id,
            self.now(),
            USE_NOTED.as_secs() * 1000,
        )?;
        Ok(())
    }
}

impl KeyRow {
    /// Whether a use at this time is worth noting.
    pub fn use_is_news(&self, now: Timestamp) -> bool {
        self.last_used.is_none_or(|last| now.since(last) >= USE_NOTED)
    }
}

impl Store {
    /// Notes that a key is used, in the background: nobody waits for it, and a writer that has a
    /// full queue does without.
    pub fn note_key_use(&self, id: KeyId) {
        self.write_unwatched(move |tx| Box::pin(tx.touch_key(id)));
    }

    /// How often keys ceased to work since the database was opened. Who remembers a key asks
    /// before it looks the key up, and forgets what it remembers when the number has changed: it
    /// rises before the one who revoked is answered.
    pub fn revocations(&self) -> u64 {
        self.shared().revocations.load(Ordering::Acquire)
    }

    /// The key whose secret has this hash, if it still works.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_key_by_hash(&self, hash: &str) -> Result<Option<KeyRow>> {
        read_one!(
            self,
            KeyRow,
            format!("SELECT {} FROM api_key WHERE hash = $1 AND revoked IS NULL", KeyRow::COLUMNS),
            hash,
        )
    }

    /// A key, if it still works.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_key(&self, id: KeyId) -> Result<Option<KeyRow>> {
        read_one!(
            self,
            KeyRow,
            format!("SELECT {} FROM api_key WHERE id = $1 AND revoked IS NULL", KeyRow::COLUMNS),
            id,
        )
    }

    /// All keys of an organization, oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_keys(&self, organization: OrganizationId) -> Result<Vec<KeyRow>> {
        read_all!(
            self,
            KeyRow,
            format!("SELECT {} FROM api_key WHERE organization = $1 ORDER BY id", KeyRow::COLUMNS),
            organization,
        )
    }

    /// A value that was kept under a name.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn meta(&self, name: &str) -> Result<Option<String>> {
        let row = read_one!(self, (String,), "SELECT value FROM meta WHERE name = $1", name)?;
        Ok(row.map(|(value,)| value))
    }
}
