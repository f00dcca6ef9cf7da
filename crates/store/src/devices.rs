//! Browsers in which people are signed in. Only the hash of what a cookie holds is kept.

use std::time::Duration;

use boatyard_model::{DeviceId, KeyId, OrganizationId, PersonId, Timestamp};

use crate::{
    Error, Result, Store, Tx,
    conn::{exec, read_all, read_one},
    row::record,
};

/// How exactly the last use of a browser is known.
pub const SEEN_NOTED: Duration = Duration::from_secs(60);

/// Browsers that a person may be signed in with at a time: the one seen longest ago makes room.
pub const DEVICES_MAX: u32 = 100;

/// How long one that is over is still known.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

record! {
    /// A browser in which somebody is signed in.
    #[derive(Debug, Clone)]
    pub struct DeviceRow {
        /// Its id.
        pub id: DeviceId,
        /// Who.
        pub person: PersonId,
        /// The organization that it looks at.
        pub organization: OrganizationId,
        /// What the person proved itself with: `password`, `link`, `key`, `passkey`, or a
        /// provider's name.
        pub way: String,
        /// The key that it was signed in with: it can do no more, and dies with it.
        pub api_key: Option<KeyId>,
        /// Where it was seen last.
        pub address: Option<String>,
        /// What it calls itself: its `User-Agent`.
        pub program: Option<String>,
        /// When it was signed in.
        pub created: Timestamp,
        /// When it was seen last, roughly.
        pub last_seen: Timestamp,
        /// Until when it is signed in, if it isn't seen again.
        pub expires: Timestamp,
        /// When it was signed out.
        pub revoked: Option<Timestamp>,
    }
}

/// A browser to be stored.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// Who is signed in.
    pub person: PersonId,
    /// The organization that it looks at.
    pub organization: OrganizationId,
    /// The SHA-256 of what its cookie holds, in small hexadecimal digits.
    pub hash: String,
    /// What the person proved itself with.
    pub way: String,
    /// The key that it was signed in with.
    pub api_key: Option<KeyId>,
    /// Where it is.
    pub address: Option<String>,
    /// What it calls itself.
    pub program: Option<String>,
    /// Until when it is signed in, if it isn't seen again.
    pub expires: Timestamp,
}

impl Tx {
    /// Stores a browser. What of the person's is over for long is forgotten.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_device(&mut self, new: &NewDevice) -> Result<DeviceId> {
        let (id, now) = (DeviceId::new(), self.now());
        exec!(
            self,
            "DELETE FROM device WHERE person = $1 AND COALESCE(revoked, expires) + $3 < $2",
            new.person,
            now,
            KEPT.as_secs() * 1000,
        )?;
        let crowded = exec!(
            self,
            "UPDATE device SET revoked = $2 WHERE revoked IS NULL AND id IN
                (SELECT id FROM device WHERE person = $1 AND revoked IS NULL AND expires > $2
                 ORDER BY last_seen DESC, id DESC LIMIT 1000000 OFFSET $3)",
            new.person,
            now,
            DEVICES_MAX - 1,
        )?;
        if crowded > 0 {
            self.rights_changed();
        }
        self.note("device", id);
        exec!(
            self,
            "INSERT INTO device (id, person, organization, hash, way, api_key, address, program,
                created, last_seen, expires)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)",
            id,
            new.person,
            new.organization,
            new.hash,
            new.way,
            new.api_key,
            new.address,
            new.program,
            now,
            new.expires,
        )?;
        exec!(self, "UPDATE person SET last_seen = $2 WHERE id = $1", new.person, now)?;
        Ok(id)
    }

    /// Notes that a browser is used, and until when it is signed in by that.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn touch_device(
        &mut self,
        id: DeviceId,
        address: Option<&str>,
        expires: Timestamp,
    ) -> Result<()> {
        let now = self.now();
        exec!(
            self,
            "UPDATE device SET last_seen = $2, expires = $4, address = COALESCE($3, address)
             WHERE id = $1 AND revoked IS NULL AND expires > $2",
            id,
            now,
            address,
            expires,
        )?;
        exec!(
            self,
            "UPDATE person SET last_seen = $2 WHERE id = (SELECT person FROM device WHERE id = $1)",
            id,
            now,
        )?;
        Ok(())
    }

    /// Has a browser look at another organization.
    ///
    /// # Errors
    /// [`Error::NotFound`]; when it can't be stored.
    pub async fn switch_device(
        &mut self,
        id: DeviceId,
        organization: OrganizationId,
    ) -> Result<()> {
        let touched =
            exec!(self, "UPDATE device SET organization = $2 WHERE id = $1", id, organization,)?;
        self.rights_changed();
        if touched == 0 { Err(Error::not_found("device", id)) } else { Ok(()) }
    }

    /// Signs a browser of a person out.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is none of the person's; when it can't be stored.
    pub async fn revoke_device(&mut self, person: PersonId, id: DeviceId) -> Result<()> {
        let touched = exec!(
            self,
            "UPDATE device SET revoked = COALESCE(revoked, $3) WHERE id = $1 AND person = $2",
            id,
            person,
            self.now(),
        )?;
        self.rights_changed();
        if touched == 0 { Err(Error::not_found("device", id)) } else { Ok(()) }
    }

    /// Signs a browser out, whosever it is, because something takes its place.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn end_device(&mut self, id: DeviceId) -> Result<()> {
        exec!(
            self,
            "UPDATE device SET revoked = COALESCE(revoked, $2) WHERE id = $1",
            id,
            self.now(),
        )?;
        self.rights_changed();
        Ok(())
    }

    /// Signs all browsers of a person out but `keep`: how many.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn revoke_devices(
        &mut self,
        person: PersonId,
        keep: Option<DeviceId>,
    ) -> Result<u64> {
        let touched = exec!(
            self,
            "UPDATE device SET revoked = $3
             WHERE person = $1 AND revoked IS NULL AND id <> $2",
            person,
            keep.map_or_else(String::new, |id| id.to_string()),
            self.now(),
        )?;
        self.rights_changed();
        Ok(touched)
    }

    /// Signs all browsers out that were signed in with a key: how many.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn revoke_devices_of_key(&mut self, key: KeyId) -> Result<u64> {
        let touched = exec!(
            self,
            "UPDATE device SET revoked = $2 WHERE api_key = $1 AND revoked IS NULL",
            key,
            self.now(),
        )?;
        self.rights_changed();
        Ok(touched)
    }
}

impl DeviceRow {
    /// Whether a use at this time is worth noting.
    pub fn use_is_news(&self, now: Timestamp) -> bool {
        now.since(self.last_seen) >= SEEN_NOTED
    }
}

impl Store {
    /// Notes that a browser is used, in the background.
    pub fn note_device_use(&self, id: DeviceId, address: Option<String>, expires: Timestamp) {
        self.write_unwatched(move |tx| {
            Box::pin(async move { tx.touch_device(id, address.as_deref(), expires).await })
        });
    }

    /// The browser whose cookie has this hash, if it is signed in.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_device_by_hash(&self, hash: &str) -> Result<Option<DeviceRow>> {
        read_one!(
            self,
            DeviceRow,
            format!(
                "SELECT {} FROM device WHERE hash = $1 AND revoked IS NULL AND expires > $2",
                DeviceRow::COLUMNS
            ),
            hash,
            self.now(),
        )
    }

    /// A browser, if it is signed in.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_device(&self, id: DeviceId) -> Result<Option<DeviceRow>> {
        read_one!(
            self,
            DeviceRow,
            format!(
                "SELECT {} FROM device WHERE id = $1 AND revoked IS NULL AND expires > $2",
                DeviceRow::COLUMNS
            ),
            id,
            self.now(),
        )
    }

    /// From where a person was signed in lately, the newest first; also by browsers that are signed
    /// out by now.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn addresses_of(&self, person: PersonId) -> Result<Vec<String>> {
        let rows = read_all!(
            self,
            (String,),
            "SELECT address FROM device WHERE person = $1 AND address IS NOT NULL
             GROUP BY address ORDER BY MAX(last_seen) DESC LIMIT 100",
            person,
        )?;
        Ok(rows.into_iter().map(|(address,)| address).collect())
    }

    /// The browsers in which a person is signed in, the one seen last first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_devices(&self, person: PersonId) -> Result<Vec<DeviceRow>> {
        read_all!(
            self,
            DeviceRow,
            format!(
                "SELECT {} FROM device WHERE person = $1 AND revoked IS NULL AND expires > $2
                 ORDER BY last_seen DESC, id DESC",
                DeviceRow::COLUMNS
            ),
            person,
            self.now(),
        )
    }
}
