//! Passkeys: public keys with which people sign in.

use boatyard_model::{PasskeyId, PersonId, Timestamp};

use crate::{
    Error, Result, Store, Tx,
    conn::{exec, find, read_all, read_one},
    row::record,
};

/// How many passkeys a person may have: one for each device, and room for lost ones.
pub const PASSKEYS_MAX: usize = 50;

record! {
    /// A passkey.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PasskeyRow {
        /// Its id.
        pub id: PasskeyId,
        /// Whose it is.
        pub person: PersonId,
        /// As its owner calls it.
        pub name: String,
        /// What the authenticator calls it, in base 64 for URLs.
        pub credential_id: String,
        /// The public key and its counter, as JSON.
        pub credential: String,
        /// When it was made.
        pub created: Timestamp,
        /// When it was used last.
        pub last_used: Option<Timestamp>,
    }
}

/// What became of a passkey that was to be stored.
#[derive(Debug, Clone)]
pub enum Kept {
    /// It is stored.
    Now(PasskeyRow),
    /// It was there before.
    Before,
    /// The person has [`PASSKEYS_MAX`].
    TooMany,
}

impl Tx {
    /// Stores a passkey.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_passkey(
        &mut self,
        person: PersonId,
        name: &str,
        credential_id: &str,
        credential: &str,
    ) -> Result<Kept> {
        let taken = "SELECT id FROM passkey WHERE credential_id = $1";
        if find!(self, (PasskeyId,), taken, credential_id)?.is_some() {
            return Ok(Kept::Before);
        }
        if self.count_passkeys(person).await? >= PASSKEYS_MAX as u64 {
            return Ok(Kept::TooMany);
        }
        let row = PasskeyRow {
            id: PasskeyId::new(),
            person,
            name: name.to_owned(),
            credential_id: credential_id.to_owned(),
            credential: credential.to_owned(),
            created: self.now(),
            last_used: None,
        };
        self.note("passkey", row.id);
        exec!(
            self,
            "INSERT INTO passkey (id, person, name, credential_id, credential, created)
             VALUES ($1, $2, $3, $4, $5, $6)",
            row.id,
            row.person,
            row.name,
            row.credential_id,
            row.credential,
            row.created,
        )?;
        Ok(Kept::Now(row))
    }

    /// Notes that a passkey was used, with its new counter. It must still be as it was when it was
    /// checked, so that of two uses of a copied key one is refused: whether it was.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn use_passkey(&mut self, id: PasskeyId, was: &str, is: &str) -> Result<bool> {
        let touched = exec!(
            self,
            "UPDATE passkey SET credential = $3, last_used = $4 WHERE id = $1 AND credential = $2",
            id,
            was,
            is,
            self.now(),
        )?;
        Ok(touched > 0)
    }

    /// How many passkeys a person has.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn count_passkeys(&mut self, person: PersonId) -> Result<u64> {
        let sql = "SELECT COUNT(*) FROM passkey WHERE person = $1";
        Ok(find!(self, (u64,), sql, person)?.map_or(0, |(count,)| count))
    }

    /// Whether a person has this passkey.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_passkey(&mut self, person: PersonId, id: PasskeyId) -> Result<bool> {
        let sql = "SELECT COUNT(*) FROM passkey WHERE person = $1 AND id = $2";
        Ok(find!(self, (u64,), sql, person, id)?.is_some_and(|(count,)| count > 0))
    }

    /// Removes a person's passkey.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the person has no such.
    pub async fn remove_passkey(&mut self, person: PersonId, id: PasskeyId) -> Result<()> {
        let touched = exec!(self, "DELETE FROM passkey WHERE id = $1 AND person = $2", id, person)?;
        if touched == 0 { Err(Error::not_found("passkey", id)) } else { Ok(()) }
    }
}

impl Store {
    /// The passkey that an authenticator calls so.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn passkey_by_credential(&self, credential_id: &str) -> Result<Option<PasskeyRow>> {
        let sql = format!("SELECT {} FROM passkey WHERE credential_id = $1", PasskeyRow::COLUMNS);
        read_one!(self, PasskeyRow, sql, credential_id)
    }

    /// A person's passkeys, oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_passkeys(&self, person: PersonId) -> Result<Vec<PasskeyRow>> {
        let sql =
            format!("SELECT {} FROM passkey WHERE person = $1 ORDER BY id", PasskeyRow::COLUMNS);
        read_all!(self, PasskeyRow, sql, person)
    }
}
