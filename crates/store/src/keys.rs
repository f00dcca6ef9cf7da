//! API keys, and what was called with them. Only the hash of a secret is kept.
//!
//! A key works until it is revoked, its time is over, or its member is not one any more. A key of the
//! organization's own (a service key) has a member of its own, behind whom no person is: what is
//! made with it is that member's, and stays when whoever made the key goes.

use std::{sync::atomic::Ordering, time::Duration};

use boatyard_model::{KeyId, KeyKind, MemberId, OrganizationId, Role, Scopes, Timestamp};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, read_all, read_one},
    row::record,
};

mod calls;

pub use calls::KeyCallRow;

/// How exactly the last use of a key is known: often enough to see which one nobody needs, seldom
/// enough to cost nothing.
pub const USE_NOTED: Duration = Duration::from_secs(60);

record! {
    /// An API key.
    #[derive(Debug, Clone)]
    pub struct KeyRow [owned] {
        /// Its id.
        pub id: KeyId,
        /// Whom it speaks for.
        pub kind: KeyKind,
        /// What it is for, as its owner calls it.
        pub name: String,
        /// What it may be used for.
        pub scopes: Scopes,
        /// The first characters of the secret, to recognize it by.
        pub prefix: String,
        /// When it was made.
        pub created: Timestamp,
        /// When it was used last, roughly.
        pub last_used: Option<Timestamp>,
        /// From where it was used last.
        pub last_address: Option<String>,
        /// When it ceases to work by itself.
        pub expires: Option<Timestamp>,
        /// When it ceased to work.
        pub revoked: Option<Timestamp>,
    }
}

record! {
    /// A key with what is known of its member.
    #[derive(Debug, Clone)]
    pub struct SeenKeyRow [owned] {
        /// Its id.
        pub id: KeyId,
        /// Whom it speaks for.
        pub kind: KeyKind,
        /// What it is for, as its owner calls it.
        pub name: String,
        /// What it may be used for.
        pub scopes: Scopes,
        /// The first characters of the secret.
        pub prefix: String,
        /// When it was made.
        pub created: Timestamp,
        /// When it was used last, roughly.
        pub last_used: Option<Timestamp>,
        /// From where it was used last.
        pub last_address: Option<String>,
        /// When it ceases to work by itself.
        pub expires: Option<Timestamp>,
        /// When it ceased to work.
        pub revoked: Option<Timestamp>,
        /// The member, as shown to people.
        pub member_name: String,
        /// What the member may do; nothing if it is not one any more.
        pub role: Option<Role>,
    }
}

/// A key to be stored.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose it is.
    pub owner: Owner,
    /// Whom it speaks for.
    pub kind: KeyKind,
    /// What it is for.
    pub name: String,
    /// The first characters of the secret.
    pub prefix: String,
    /// The SHA-256 of the secret, in small hexadecimal digits.
    pub hash: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it ceases to work by itself.
    pub expires: Option<Timestamp>,
}

impl NewKey {
    /// One that the server makes for its own account: for everything, without an end.
    pub const fn local(owner: Owner, name: String, prefix: String, hash: String) -> Self {
        let (kind, scopes) = (KeyKind::Local, Scopes::ALL);
        Self { owner, kind, name, prefix, hash, scopes, expires: None }
    }
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
            "INSERT INTO api_key
                (id, organization, owner, kind, name, prefix, hash, scopes, expires, created)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            id,
            new.owner.organization,
            new.owner.member,
            new.kind,
            new.name,
            new.prefix,
            new.hash,
            new.scopes,
            new.expires,
            self.now(),
        )?;
        self.note("key", id);
        self.note("key_name", &new.name);
        self.note("scopes", new.scopes);
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

    /// Makes a member behind whom no person is, for a service key.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_service_member(
        &mut self,
        organization: OrganizationId,
        name: &str,
        role: Role,
    ) -> Result<MemberId> {
        let id = MemberId::new();
        exec!(
            self,
            "INSERT INTO member (id, organization, name, role, created)
             VALUES ($1, $2, $3, $4, $5)",
            id,
            organization,
            name,
            role,
            self.now(),
        )?;
        Ok(id)
    }

    /// Takes the member behind a service key out of its organization; what it made stays.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn retire_service_member(&mut self, owner: Owner) -> Result<()> {
        exec!(
            self,
            "UPDATE member SET removed = COALESCE(removed, $3)
             WHERE organization = $1 AND id = $2 AND person IS NULL",
            owner.organization,
            owner.member,
            self.now(),
        )?;
        Ok(())
    }

    /// Makes all keys of a member cease to work: how many there were. The server's own account keeps
    /// its keys.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn revoke_keys_of(&mut self, owner: Owner) -> Result<u64> {
        let gone = exec!(
            self,
            "UPDATE api_key SET revoked = $3 WHERE organization = $1 AND owner = $2
             AND revoked IS NULL AND kind NOT IN ('local', 'bootstrap')",
            owner.organization,
            owner.member,
            self.now(),
        )?;
        self.effects.keys = true;
        Ok(gone)
    }

    /// How many keys of an organization work, and how many of them are this member's.
    ///
    /// # Errors
    /// When they can't be counted.
    pub async fn count_keys(&mut self, owner: Owner) -> Result<(u64, u64)> {
        let sql = "SELECT COUNT(*), COALESCE(SUM(CASE WHEN owner = $2 THEN 1 ELSE 0 END), 0)
             FROM api_key WHERE organization = $1 AND revoked IS NULL
             AND (expires IS NULL OR expires > $3)";
        let row = find!(self, (u64, u64), sql, owner.organization, owner.member, self.now())?;
        Ok(row.unwrap_or_default())
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
    /// Whether it works at this time.
    pub fn works(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }

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

    /// The same number, for those who go on for long by what they found once: they wait for it to
    /// rise, and look again.
    pub fn rights(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared().rights.subscribe()
    }

    /// The key whose secret has this hash, if it still works.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_key_by_hash(&self, hash: &str) -> Result<Option<KeyRow>> {
        let row = self.find_any_key_by_hash(hash).await?;
        Ok(row.filter(|row| row.works(self.now())))
    }

    /// The key whose secret has this hash, whether it works or not.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_any_key_by_hash(&self, hash: &str) -> Result<Option<KeyRow>> {
        read_one!(
            self,
            KeyRow,
            format!("SELECT {} FROM api_key WHERE hash = $1", KeyRow::COLUMNS),
            hash,
        )
    }

    /// A key, whether it works or not.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_any_key(&self, id: KeyId) -> Result<Option<KeyRow>> {
        read_one!(
            self,
            KeyRow,
            format!("SELECT {} FROM api_key WHERE id = $1", KeyRow::COLUMNS),
            id,
        )
    }

    /// Keys of an organization, or of one member of it: those that work first, the newest first.
    /// With `over` also those that were revoked or whose time is over.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn keys_of(
        &self,
        organization: OrganizationId,
        member: Option<MemberId>,
        over: bool,
        limit: u32,
    ) -> Result<Vec<SeenKeyRow>> {
        let columns = SeenKeyRow::COLUMNS;
        read_all!(
            self,
            SeenKeyRow,
            format!(
                "SELECT {columns} FROM api_key_seen
                 WHERE organization = $1 AND ($2 IS NULL OR owner = $2)
                 AND ($3 = 1 OR (revoked IS NULL AND (expires IS NULL OR expires > $4)))
                 ORDER BY CASE WHEN revoked IS NULL AND (expires IS NULL OR expires > $4)
                    THEN 0 ELSE 1 END, id DESC LIMIT $5"
            ),
            organization,
            member,
            u32::from(over),
            self.now(),
            limit,
        )
    }

    /// A key of an organization, whether it works or not.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_seen_key(
        &self,
        organization: OrganizationId,
        id: KeyId,
    ) -> Result<Option<SeenKeyRow>> {
        let columns = SeenKeyRow::COLUMNS;
        read_one!(
            self,
            SeenKeyRow,
            format!("SELECT {columns} FROM api_key_seen WHERE organization = $1 AND id = $2"),
            organization,
            id,
        )
    }

    /// A key, if it still works.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_key(&self, id: KeyId) -> Result<Option<KeyRow>> {
        let row = self.find_any_key(id).await?;
        Ok(row.filter(|row| row.works(self.now())))
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
