//! Codes by which a device without a browser is let in (RFC 8628).
//!
//! ```text
//! create ─► pending ─┬─ decide ─► approved ─ redeem ─► used   (a key is made in that transaction)
//!                    ├─ decide ─► denied
//!                    └─ time ───► expired  (no state of its own: `expires` says so)
//! ```
//!
//! A code that is over is kept for a day, so that who still asks with it hears what became of it.

use boatyard_model::{KeyId, KeyKind, MemberId, OrganizationId, Scopes, Timestamp};

use crate::{
    Error, NewKey, Owner, Result, Store, Tx,
    conn::{exec, find, read_one},
    row::record,
    state::words,
};

/// Codes that may wait at a time, on the whole server.
pub const PENDING_MAX: u64 = 5000;
/// Codes that may wait at a time for programs at one address.
pub const PENDING_OF_ADDRESS_MAX: u64 = 200;
/// What is added to the pause of a program that asks too often, in seconds (RFC 8628, 3.5).
const SLOWER: u64 = 5;
/// The longest pause that a program can bring upon itself, in seconds.
const PAUSE_MAX: u64 = 60;
/// How much too early a program may ask, in milliseconds: clocks and networks are no metronomes.
const EARLY: u64 = 500;

words! {
    /// Where a code stands.
    DeviceCodeState {
        /// Nobody has decided.
        Pending = "pending",
        /// Somebody let the program in; it has not asked since.
        Approved = "approved",
        /// Somebody refused it.
        Denied = "denied",
        /// The program has its key.
        Used = "used",
    }
}

record! {
    /// A program that waits to be let in.
    #[derive(Debug, Clone)]
    pub struct DeviceCodeRow {
        /// The SHA-256 of the code that the program has.
        pub hash: String,
        /// What it calls itself.
        pub client: String,
        /// What it is, as its `User-Agent` says.
        pub agent: Option<String>,
        /// Where it asked from.
        pub address: Option<String>,
        /// What it asks to be allowed; what it is allowed once that is decided.
        pub scopes: Scopes,
        /// Where it stands.
        pub state: DeviceCodeState,
        /// How long it is to wait between two questions, in seconds.
        pub pause: u64,
        /// When it asked last.
        pub polled: Option<Timestamp>,
        /// When it began.
        pub created: Timestamp,
        /// Until when somebody may decide, and the program fetch its key.
        pub expires: Timestamp,
        /// When the key ends that it gets.
        pub key_expires: Option<Timestamp>,
    }
}

/// A code to be stored.
#[derive(Debug, Clone)]
pub struct NewDeviceCode {
    /// The SHA-256 of the code that the program gets.
    pub hash: String,
    /// The SHA-256 of the code that a person types.
    pub user_hash: String,
    /// What the program calls itself.
    pub client: String,
    /// Its `User-Agent`.
    pub agent: Option<String>,
    /// Where it asked from.
    pub address: Option<String>,
    /// What it asks to be allowed.
    pub scopes: Scopes,
    /// How long it is to wait between two questions, in seconds.
    pub pause: u64,
    /// Until when it may be used.
    pub expires: Timestamp,
}

/// What became of a wish for a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issued {
    /// It is stored.
    Yes,
    /// Another one that is not over has the same code for people: try another.
    Taken,
    /// Too many wait, at this address or at all.
    TooMany,
}

/// What a person decides about a program.
#[derive(Debug, Clone, Copy)]
pub enum Decision {
    /// It is let in, for as much and as long.
    Approve {
        /// What it is allowed.
        scopes: Scopes,
        /// When its key ends.
        key_expires: Option<Timestamp>,
    },
    /// It is not.
    Deny,
}

/// What a program hears that asks for its key.
#[derive(Debug, Clone)]
pub enum Polled {
    /// There is no such code.
    Unknown,
    /// Nobody has decided.
    Pending,
    /// It asks too often: this many seconds from now on.
    TooFast(u64),
    /// Somebody refused it.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// It has its key already.
    Used,
    /// It is let in, and may have its key.
    Ready {
        /// Whose it will be.
        owner: Owner,
        /// What the program calls itself.
        client: String,
    },
    /// Its key is stored.
    Key {
        /// The key.
        id: KeyId,
        /// What it may do.
        scopes: Scopes,
        /// When it ends.
        expires: Option<Timestamp>,
    },
}

/// Where a code stands for the program that asks.
enum Look {
    Pending(DeviceCodeRow),
    Approved(DeviceCodeRow, Owner),
    Over(Polled),
}

impl Tx {
    /// Stores a code.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_device_code(&mut self, new: NewDeviceCode) -> Result<Issued> {
        let now = self.now();
        let count = "SELECT COUNT(*), COALESCE(SUM(CASE WHEN address = $2 THEN 1 ELSE 0 END), 0)
             FROM device_code WHERE state = 'pending' AND expires > $1";
        let waiting = find!(self, (i64, i64), count, now, new.address)?;
        let (all, here) =
            waiting.map_or((0, 0), |(all, here)| (all.unsigned_abs(), here.unsigned_abs()));
        if all >= PENDING_MAX || here >= PENDING_OF_ADDRESS_MAX {
            return Ok(Issued::TooMany);
        }
        let stored = exec!(
            self,
            "INSERT INTO device_code
                (hash, user_hash, client, agent, address, scopes, state, pause, created, expires)
             VALUES ($1, $2, $3, $4, $5, $6, 'pending', $7, $8, $9) ON CONFLICT DO NOTHING",
            new.hash,
            new.user_hash,
            new.client,
            new.agent,
            new.address,
            new.scopes,
            new.pause,
            now,
            new.expires,
        )?;
        Ok(if stored == 1 { Issued::Yes } else { Issued::Taken })
    }

    /// Decides about the program behind a code, once and in time.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for one that is over, [`Error::AlreadyResolved`].
    pub async fn decide_device_code(
        &mut self,
        user_hash: &str,
        by: Owner,
        decision: Decision,
    ) -> Result<()> {
        let now = self.now();
        let sql =
            format!("SELECT {} FROM device_code WHERE user_hash = $1", DeviceCodeRow::COLUMNS);
        let row = find!(self, DeviceCodeRow, sql, user_hash)?;
        let row = row.filter(|row| row.expires > now);
        // The code itself is nobody's business in a log.
        let row = row.ok_or_else(|| Error::not_found("device code", "of this kind"))?;
        if row.state != DeviceCodeState::Pending {
            return Err(Error::AlreadyResolved {
                kind: "device code",
                id: "of this kind".to_owned(),
                outcome: row.state.as_str().to_owned(),
            });
        }
        let (state, scopes, key_expires) = match decision {
            Decision::Approve { scopes, key_expires } => {
                (DeviceCodeState::Approved, scopes, key_expires)
            }
            Decision::Deny => (DeviceCodeState::Denied, row.scopes, None),
        };
        exec!(
            self,
            "UPDATE device_code SET state = $2, scopes = $3, key_expires = $4, organization = $5,
                owner = $6, decided = $7 WHERE hash = $1 AND state = 'pending'",
            row.hash,
            state,
            scopes,
            key_expires,
            by.organization,
            by.member,
            now,
        )?;
        Ok(())
    }

    /// The key of a program that was let in: stored, and the code used up, in one transaction.
    /// `secret` is what may be shown of the secret that the caller made for it, and its hash. What a
    /// program hears that was not, or was already, is as [`Store::poll_device_code`] tells.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn redeem_device_code(
        &mut self,
        hash: &str,
        secret: (String, String),
    ) -> Result<Polled> {
        let (row, owner) = match self.look_at_device_code(hash).await? {
            Look::Approved(row, owner) => (row, owner),
            Look::Pending(_) => return Ok(Polled::Pending),
            Look::Over(polled) => return Ok(polled),
        };
        let (prefix, key_hash) = secret;
        let new = NewKey {
            owner,
            kind: KeyKind::Login,
            name: row.client,
            prefix,
            hash: key_hash,
            scopes: row.scopes,
            expires: row.key_expires,
        };
        let id = self.create_key(new).await?;
        exec!(
            self,
            "UPDATE device_code SET state = 'used', polled = $2 WHERE hash = $1",
            hash,
            self.now(),
        )?;
        Ok(Polled::Key { id, scopes: row.scopes, expires: row.key_expires })
    }

    /// Notes that a program asked, and how often.
    async fn poll_device_code(&mut self, hash: &str) -> Result<Polled> {
        let row = match self.look_at_device_code(hash).await? {
            Look::Approved(row, owner) => return Ok(Polled::Ready { owner, client: row.client }),
            Look::Over(polled) => return Ok(polled),
            Look::Pending(row) => row,
        };
        let now = self.now();
        let early = row.polled.is_some_and(|polled| {
            let waited = u64::try_from(now.since(polled).as_millis()).unwrap_or(u64::MAX);
            waited.saturating_add(EARLY) < row.pause * 1000
        });
        let pause = if early { (row.pause + SLOWER).min(PAUSE_MAX) } else { row.pause };
        exec!(
            self,
            "UPDATE device_code SET polled = $2, pause = $3 WHERE hash = $1",
            hash,
            now,
            pause,
        )?;
        Ok(if early { Polled::TooFast(pause) } else { Polled::Pending })
    }

    async fn look_at_device_code(&mut self, hash: &str) -> Result<Look> {
        let sql = format!("SELECT {} FROM device_code WHERE hash = $1", DeviceCodeRow::COLUMNS);
        let Some(row) = find!(self, DeviceCodeRow, sql, hash)? else {
            return Ok(Look::Over(Polled::Unknown));
        };
        match row.state {
            DeviceCodeState::Denied => return Ok(Look::Over(Polled::Denied)),
            DeviceCodeState::Used => return Ok(Look::Over(Polled::Used)),
            _ if row.expires <= self.now() => return Ok(Look::Over(Polled::Expired)),
            DeviceCodeState::Pending => return Ok(Look::Pending(row)),
            DeviceCodeState::Approved => {}
        }
        let sql = "SELECT organization, owner FROM device_code WHERE hash = $1
             AND organization IS NOT NULL AND owner IS NOT NULL";
        let owner = find!(self, (OrganizationId, MemberId), sql, hash)?;
        Ok(match owner {
            Some((organization, member)) => Look::Approved(row, Owner { organization, member }),
            None => Look::Over(Polled::Unknown),
        })
    }

    /// Forgets codes that ended before this time: how many.
    ///
    /// # Errors
    /// When they can't be removed.
    pub async fn forget_device_codes(&mut self, before: Timestamp) -> Result<u64> {
        exec!(self, "DELETE FROM device_code WHERE expires < $1", before)
    }
}

impl Store {
    /// What a program hears that asks for its key; that it asked is noted.
    ///
    /// # Errors
    /// When that can't be stored.
    pub async fn poll_device_code(&self, hash: &str) -> Result<Polled> {
        let hash = hash.to_owned();
        self.write_aside(move |tx| Box::pin(async move { tx.poll_device_code(&hash).await })).await
    }

    /// The program behind a code that a person typed, whatever became of it.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_device_code(&self, user_hash: &str) -> Result<Option<DeviceCodeRow>> {
        read_one!(
            self,
            DeviceCodeRow,
            format!("SELECT {} FROM device_code WHERE user_hash = $1", DeviceCodeRow::COLUMNS),
            user_hash,
        )
    }
}
