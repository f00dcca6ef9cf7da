//! How long entries are kept: what is older goes from the oldest on, and the rest can be checked as
//! before.

use std::collections::BTreeMap;

use boatyard_model::{AuditOutcome, OrganizationId, Timestamp, audit::BEGINNING};

use super::{Actor, Unsealed, chain_name};
use crate::{
    Result, Store, Tx,
    conn::{exec, find, read_all},
    row::record,
};

record! {
    struct Kept {
        organization: String,
        keep_days: Option<u32>,
    }
}

impl Tx {
    /// Removes the entries of a chain that are older than this, at most `limit` of the oldest, and
    /// says so in an entry: until which one, and which hash that had. The number that were removed;
    /// call again while it is `limit`.
    ///
    /// # Errors
    /// When they can't be removed.
    pub async fn trim_audit(
        &mut self,
        organization: Option<OrganizationId>,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64> {
        let chain = chain_name(organization);
        let ends = find!(
            self,
            (u64, u64),
            "SELECT first, number FROM audit_chain WHERE organization = $1",
            chain,
        )?;
        let Some((first, number)) = ends else { return Ok(0) };
        // By place, up to the first that stays: a clock that was set back makes no hole.
        let kept = find!(
            self,
            (Option<u64>,),
            "SELECT MIN(number) FROM audit_entry WHERE organization = $1 AND time >= $2",
            chain,
            before,
        )?;
        let until = match kept {
            Some((Some(kept),)) => kept.saturating_sub(1),
            _ => number,
        };
        let until = until.min(first.saturating_add(u64::from(limit)).saturating_sub(1));
        let last = find!(
            self,
            (String,),
            "SELECT hash FROM audit_entry WHERE organization = $1 AND number = $2",
            chain,
            until,
        )?;
        let Some((hash,)) = last.filter(|_| until >= first) else { return Ok(0) };
        let gone = exec!(
            self,
            "DELETE FROM audit_entry WHERE organization = $1 AND number <= $2",
            chain,
            until,
        )?;
        exec!(
            self,
            "UPDATE audit_chain SET first = $2, anchor = $3 WHERE organization = $1",
            chain,
            until + 1,
            hash,
        )?;
        let details = [("removed", gone.to_string()), ("until", until.to_string()), ("hash", hash)];
        self.append_audit(Unsealed {
            actor: Actor::server(organization),
            operation: "trim_audit".to_owned(),
            outcome: AuditOutcome::Allowed,
            reason: None,
            subjects: BTreeMap::new(),
            details: details.into_iter().map(|(key, text)| (key.to_owned(), text)).collect(),
            request: None,
        })?;
        Ok(gone)
    }

    /// Chooses for how many days a chain's entries are kept; none is what the settings say.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn keep_audit(
        &mut self,
        organization: Option<OrganizationId>,
        days: Option<u32>,
    ) -> Result<()> {
        exec!(
            self,
            "INSERT INTO audit_chain (organization, number, hash, first, anchor, keep_days)
             VALUES ($1, 0, $2, 1, $2, $3)
             ON CONFLICT (organization) DO UPDATE SET keep_days = excluded.keep_days",
            chain_name(organization),
            BEGINNING,
            days,
        )?;
        Ok(())
    }
}

impl Store {
    /// Every chain that there is, with the days for which it is kept where that was chosen.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn audit_chains(&self) -> Result<Vec<(Option<OrganizationId>, Option<u32>)>> {
        let rows = read_all!(
            self,
            Kept,
            format!("SELECT {} FROM audit_chain ORDER BY organization", Kept::COLUMNS),
        )?;
        Ok(rows.into_iter().map(|row| (row.organization.parse().ok(), row.keep_days)).collect())
    }
}
