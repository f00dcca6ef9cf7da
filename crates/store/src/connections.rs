//! Credentials for outside services, and the keys of the vault that seals them. Nothing here can
//! read a value: it comes sealed and goes so.

use std::time::Duration;

use boatyard_model::{ConnectionId, OrganizationId, Timestamp};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, list, read_all, read_one},
    row::record,
    state::words,
};

/// How exactly the last use of a connection is known.
pub const USE_NOTED: Duration = Duration::from_secs(60);

words! {
    /// What a key of the vault is for.
    VaultKeyPurpose {
        /// It seals values.
        Data = "data",
        /// Placeholders are derived from it.
        Placeholder = "placeholder",
    }
}

record! {
    /// A key of the vault, wrapped.
    #[derive(Debug, Clone)]
    pub struct VaultKeyRow [owned] {
        /// Its id.
        pub id: String,
        /// What it is for.
        pub purpose: VaultKeyPurpose,
        /// The wrapped key, in base 64.
        pub wrapped: String,
        /// Which master key wraps it.
        pub master: String,
        /// When it was made.
        pub created: Timestamp,
        /// When another took its place.
        pub retired: Option<Timestamp>,
    }
}

record! {
    /// A connection.
    #[derive(Debug, Clone)]
    pub struct ConnectionRow [owned] {
        /// Its id.
        pub id: ConnectionId,
        /// What people call it.
        pub name: String,
        /// `github`, `npm`, …
        pub kind: String,
        /// Where it goes, as JSON.
        pub binding: String,
        /// The sealed value; empty once it is removed.
        pub sealed: String,
        /// The key that sealed it.
        pub sealed_by: String,
        /// When it was made.
        pub created: Timestamp,
        /// When its value was given last.
        pub rotated: Timestamp,
        /// When it ceases to work by itself.
        pub expires: Option<Timestamp>,
        /// When it was removed.
        pub removed: Option<Timestamp>,
        /// When it was used last, roughly.
        pub last_used: Option<Timestamp>,
        /// When its service said last that it does not know the value.
        pub last_refused: Option<Timestamp>,
        /// Whether it is its owner's alone.
        pub personal: bool,
        /// The provider of models that it takes the place of the organization's key for.
        pub provider: Option<String>,
    }
}

/// A key of the vault to be stored.
#[derive(Debug, Clone)]
pub struct NewVaultKey {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub owner: Owner,
    /// What it is for.
    pub purpose: VaultKeyPurpose,
    /// The wrapped key.
    pub wrapped: String,
    /// Which master key wraps it.
    pub master: String,
}

/// A connection to be stored.
#[derive(Debug, Clone)]
pub struct NewConnection {
    /// Its id: the value is sealed for it.
    pub id: ConnectionId,
    /// Whose it is.
    pub owner: Owner,
    /// What people call it.
    pub name: String,
    /// `github`, `npm`, …
    pub kind: String,
    /// Where it goes, as JSON.
    pub binding: String,
    /// The sealed value.
    pub sealed: String,
    /// The key that sealed it.
    pub sealed_by: String,
    /// When it ceases to work by itself.
    pub expires: Option<Timestamp>,
    /// Whether it is its owner's alone.
    pub personal: bool,
    /// The provider of models that it is for.
    pub provider: Option<String>,
}

impl Tx {
    /// Stores a key of the vault; one of the same purpose that seals until now only opens from here
    /// on.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_vault_key(&mut self, new: NewVaultKey) -> Result<()> {
        exec!(
            self,
            "UPDATE vault_key SET retired = $2 WHERE purpose = $1 AND retired IS NULL",
            new.purpose,
            self.now(),
        )?;
        exec!(
            self,
            "INSERT INTO vault_key (id, organization, owner, purpose, wrapped, master, created)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            new.id,
            new.owner.organization,
            new.owner.member,
            new.purpose,
            new.wrapped,
            new.master,
            self.now(),
        )?;
        Ok(())
    }

    /// Stores a key of the vault as another master key wraps it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn rewrap_vault_key(
        &mut self,
        id: &str,
        wrapped: String,
        master: String,
    ) -> Result<()> {
        let sql = "UPDATE vault_key SET wrapped = $2, master = $3 WHERE id = $1";
        match exec!(self, sql, id, wrapped, master)? {
            0 => Err(Error::not_found("key of the vault", id)),
            _ => Ok(()),
        }
    }

    /// Forgets keys of the vault that are not used any more: retired, with nothing that they sealed.
    ///
    /// # Errors
    /// When they can't be removed.
    pub async fn remove_unused_vault_keys(&mut self) -> Result<u64> {
        exec!(
            self,
            "DELETE FROM vault_key WHERE retired IS NOT NULL AND NOT EXISTS
                (SELECT 1 FROM connection
                 WHERE connection.sealed_by = vault_key.id AND connection.removed IS NULL)
             AND NOT EXISTS (SELECT 1 FROM git_key WHERE git_key.sealed_by = vault_key.id)
             AND NOT EXISTS
                (SELECT 1 FROM sign_in_provider WHERE sign_in_provider.sealed_by = vault_key.id)",
        )
    }

    /// Forgets a key of the vault that can't be opened any more.
    ///
    /// # Errors
    /// When it can't be removed.
    pub async fn forget_vault_key(&mut self, id: &str) -> Result<()> {
        exec!(self, "DELETE FROM vault_key WHERE id = $1", id)?;
        Ok(())
    }

    /// Stores a connection.
    ///
    /// # Errors
    /// [`Error::IllegalState`] when one of this name is there.
    pub async fn create_connection(&mut self, new: NewConnection) -> Result<ConnectionRow> {
        let there = find!(
            self,
            (ConnectionId,),
            "SELECT id FROM connection WHERE organization = $1 AND name = $2 AND removed IS NULL
             AND personal = $3 AND (personal = FALSE OR owner = $4)",
            new.owner.organization,
            new.name,
            new.personal,
            new.owner.member,
        )?;
        if there.is_some() {
            return Err(Error::IllegalState {
                kind: "the connection",
                id: new.name,
                from: "there already",
                to: "made again",
            });
        }
        self.note("connection", new.id);
        self.note("name", &new.name);
        self.note("kind", &new.kind);
        exec!(
            self,
            "INSERT INTO connection (id, organization, owner, name, kind, binding, sealed,
                sealed_by, created, rotated, expires, personal, provider)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12)",
            new.id,
            new.owner.organization,
            new.owner.member,
            new.name,
            new.kind,
            new.binding,
            new.sealed,
            new.sealed_by,
            self.now(),
            new.expires,
            new.personal,
            new.provider,
        )?;
        self.changed_connection(new.id, 1, "connection.added").await
    }

    /// Gives a connection another value, and another end.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, or it was removed.
    pub async fn rotate_connection(
        &mut self,
        id: ConnectionId,
        sealed: String,
        sealed_by: String,
        expires: Option<Timestamp>,
    ) -> Result<ConnectionRow> {
        let touched = exec!(
            self,
            "UPDATE connection SET sealed = $2, sealed_by = $3, expires = $4, rotated = $5,
                last_refused = NULL
             WHERE id = $1 AND removed IS NULL",
            id,
            sealed,
            sealed_by,
            expires,
            self.now(),
        )?;
        self.changed_connection(id, touched, "connection.rotated").await
    }

    /// Stores a connection's value as another key seals it, unless it was changed meanwhile:
    /// whether it did.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn reseal_connection(
        &mut self,
        id: ConnectionId,
        was: String,
        sealed: String,
        sealed_by: String,
    ) -> Result<bool> {
        let touched = exec!(
            self,
            "UPDATE connection SET sealed = $3, sealed_by = $4 WHERE id = $1 AND sealed = $2",
            id,
            was,
            sealed,
            sealed_by,
        )?;
        Ok(touched > 0)
    }

    /// Removes a connection: its value is gone, and what is left tells those who still use it.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, or it was removed before.
    pub async fn remove_connection(&mut self, id: ConnectionId) -> Result<ConnectionRow> {
        let touched = exec!(
            self,
            "UPDATE connection SET sealed = '', removed = $2 WHERE id = $1 AND removed IS NULL",
            id,
            self.now(),
        )?;
        self.changed_connection(id, touched, "connection.removed").await
    }

    /// Notes that a connection is used, unless that was noted less than [`USE_NOTED`] ago.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn touch_connection(&mut self, id: ConnectionId) -> Result<()> {
        exec!(
            self,
            "UPDATE connection SET last_used = $2
             WHERE id = $1 AND (last_used IS NULL OR last_used + $3 <= $2)",
            id,
            self.now(),
            USE_NOTED.as_secs() * 1000,
        )?;
        Ok(())
    }

    /// Notes that a connection's service does not know its value.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn connection_refused(&mut self, id: ConnectionId) -> Result<()> {
        let touched = exec!(
            self,
            "UPDATE connection SET last_refused = $2
             WHERE id = $1 AND removed IS NULL
               AND (last_refused IS NULL OR last_refused + $3 <= $2)",
            id,
            self.now(),
            USE_NOTED.as_secs() * 1000,
        )?;
        if touched > 0 {
            self.changed_connection(id, touched, "connection.refused").await?;
        }
        Ok(())
    }

    /// Every connection that a key of the vault other than this one sealed.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn connections_not_sealed_by(&mut self, key: &str) -> Result<Vec<ConnectionRow>> {
        let sql = format!(
            "SELECT {} FROM connection WHERE removed IS NULL AND sealed_by <> $1 ORDER BY id",
            ConnectionRow::COLUMNS
        );
        Ok(list!(self, ConnectionRow, sql, key)?)
    }

    async fn changed_connection(
        &mut self,
        id: ConnectionId,
        touched: u64,
        what: &'static str,
    ) -> Result<ConnectionRow> {
        let sql = format!("SELECT {} FROM connection WHERE id = $1", ConnectionRow::COLUMNS);
        let row = if touched == 0 { None } else { find!(self, ConnectionRow, sql, id)? };
        let row = row.ok_or_else(|| Error::not_found("connection", id))?;
        // What is somebody's own is nobody else's news.
        if !row.personal {
            self.feed(row.owner, what, about(&row)).await?;
        }
        Ok(row)
    }
}

/// What the feed tells of a connection.
fn about(row: &ConnectionRow) -> serde_json::Value {
    serde_json::json!({ "connection": row.id, "name": row.name, "kind": row.kind })
}

impl Store {
    /// The keys of the vault, the newest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn vault_keys(&self) -> Result<Vec<VaultKeyRow>> {
        let sql = format!(
            "SELECT {} FROM vault_key ORDER BY retired IS NOT NULL, created DESC, id DESC",
            VaultKeyRow::COLUMNS
        );
        read_all!(self, VaultKeyRow, sql)
    }

    /// All connections, also of other organizations: those that are there, and those that were
    /// removed after `since`.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn connections(&self, since: Timestamp) -> Result<Vec<ConnectionRow>> {
        let sql = format!(
            "SELECT {} FROM connection WHERE removed IS NULL OR removed > $1 ORDER BY id",
            ConnectionRow::COLUMNS
        );
        read_all!(self, ConnectionRow, sql, since)
    }

    /// Whether anything is sealed by the vault.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn seals_anything(&self) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM connection WHERE removed IS NULL)
                       OR EXISTS (SELECT 1 FROM git_key)
                       OR EXISTS (SELECT 1 FROM sign_in_provider)";
        let found = read_one!(self, (bool,), sql)?;
        Ok(found.is_some_and(|(found,)| found))
    }

    /// A connection that is there.
    ///
    /// # Errors
    /// [`Error::NotFound`], also for one that was removed.
    pub async fn connection(&self, id: ConnectionId) -> Result<ConnectionRow> {
        let sql = format!(
            "SELECT {} FROM connection WHERE id = $1 AND removed IS NULL",
            ConnectionRow::COLUMNS
        );
        read_one!(self, ConnectionRow, sql, id)?.ok_or_else(|| Error::not_found("connection", id))
    }

    /// The connections of an organization that are there.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_connections(
        &self,
        organization: OrganizationId,
    ) -> Result<Vec<ConnectionRow>> {
        let sql = format!(
            "SELECT {} FROM connection WHERE organization = $1 AND removed IS NULL ORDER BY name",
            ConnectionRow::COLUMNS
        );
        read_all!(self, ConnectionRow, sql, organization)
    }

    /// Notes that a connection is used, in the background.
    pub fn note_connection_use(&self, id: ConnectionId) {
        self.write_unwatched(move |tx| Box::pin(tx.touch_connection(id)));
    }

    /// Notes that a connection's service does not know its value, in the background.
    pub fn note_connection_refused(&self, id: ConnectionId) {
        self.write_unwatched(move |tx| Box::pin(tx.connection_refused(id)));
    }
}
