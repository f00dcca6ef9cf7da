//! API keys. Only the hash of a secret is kept.

use boatyard_model::{KeyId, OrganizationId, Timestamp};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, read_all, read_one},
    row::record,
};

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
        if touched == 0 { Err(Error::not_found("key", id)) } else { Ok(()) }
    }

    /// Notes that a key was used. To be called now and then, not at every use.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn touch_key(&mut self, id: KeyId) -> Result<()> {
        exec!(self, "UPDATE api_key SET last_used = $2 WHERE id = $1", id, self.now())?;
        Ok(())
    }
}

impl Store {
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
