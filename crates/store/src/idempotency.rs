//! The same request twice is done once.
//!
//! A client names a request by a key of its own. Within the transaction that does the work,
//! [`Tx::idempotent`] says whether it was done before; [`Tx::remember`] keeps the answer with it.

use boatyard_model::{OrganizationId, Timestamp};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, read_one},
};

/// A client's name for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// What is asked for, as `POST /api/tasks`.
    pub route: String,
    /// The client's key.
    pub key: String,
    /// A hash of the request: the same key for another one is refused.
    pub request_hash: String,
}

impl Tx {
    /// What was remembered for this key; none if it is new.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the key was used for another request.
    pub async fn idempotent(
        &mut self,
        organization: OrganizationId,
        key: &IdempotencyKey,
    ) -> Result<Option<String>> {
        let row = find!(
            self,
            (String, String),
            "SELECT request_hash, response FROM idempotency
             WHERE organization = $1 AND route = $2 AND client_key = $3",
            organization,
            key.route,
            key.key,
        )?;
        match row {
            None => Ok(None),
            Some((hash, response)) if hash == key.request_hash => Ok(Some(response)),
            Some(_) => Err(Error::Conflict { key: key.key.clone() }),
        }
    }

    /// Keeps the answer to a request: the id of what it made, or the whole of it.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn remember(
        &mut self,
        owner: Owner,
        key: &IdempotencyKey,
        response: &str,
    ) -> Result<()> {
        exec!(
            self,
            "INSERT INTO idempotency
                (organization, owner, route, client_key, request_hash, response, created)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            owner.organization,
            owner.member,
            key.route,
            key.key,
            key.request_hash,
            response,
            self.now(),
        )?;
        Ok(())
    }

    /// Forgets keys that were used before this time, at most `limit`.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn forget_keys(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        exec!(
            self,
            "DELETE FROM idempotency WHERE (organization, route, client_key) IN (
                SELECT organization, route, client_key FROM idempotency
                WHERE created < $1 ORDER BY created LIMIT $2)",
            before,
            limit,
        )
    }
}

impl Store {
    /// What was remembered for this key, without doing anything.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the key was used for another request.
    pub async fn idempotent(
        &self,
        organization: OrganizationId,
        key: &IdempotencyKey,
    ) -> Result<Option<String>> {
        let row = read_one!(
            self,
            (String, String),
            "SELECT request_hash, response FROM idempotency
             WHERE organization = $1 AND route = $2 AND client_key = $3",
            organization,
            key.route,
            key.key,
        )?;
        match row {
            None => Ok(None),
            Some((hash, response)) if hash == key.request_hash => Ok(Some(response)),
            Some(_) => Err(Error::Conflict { key: key.key.clone() }),
        }
    }
}
