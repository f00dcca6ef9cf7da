//! Whether a chain is as it was written.

use boatyard_model::{
    OrganizationId,
    audit::{AuditFault, Walk},
};

use super::{AuditChain, AuditFilter, AuditPage, chain_name};
use crate::{Result, Store, conn::read_one};

/// Entries that a check reads at a time.
const CHECK_PAGE: u32 = 1000;

/// What a check of a chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditCheck {
    /// The chain's ends, as they are written down.
    pub chain: AuditChain,
    /// How many entries are as they were written, from the oldest on.
    pub entries: u64,
    /// Where the chain is not what it should be.
    pub fault: Option<AuditFault>,
}

impl Store {
    /// Walks along a chain as it is now and compares every hash, both ends included.
    ///
    /// # Errors
    /// When it can't be read; what is wrong with the chain is in the answer.
    pub async fn check_audit(&self, organization: Option<OrganizationId>) -> Result<AuditCheck> {
        loop {
            let chain = self.audit_chain(organization).await?;
            let check = self.walk(organization, &chain).await?;
            // Entries that were removed by choice meanwhile are missing at the beginning only.
            let now = self.audit_chain(organization).await?;
            if check.fault.is_none() || now.first == chain.first {
                return Ok(check);
            }
        }
    }

    async fn walk(
        &self,
        organization: Option<OrganizationId>,
        chain: &AuditChain,
    ) -> Result<AuditCheck> {
        let mut walk = Walk::after(chain.first.saturating_sub(1), chain.anchor.clone());
        let mut fault = None;
        while walk.last < chain.number && fault.is_none() {
            let page = AuditPage::After(walk.last);
            let entries =
                self.list_audit(organization, &AuditFilter::default(), page, CHECK_PAGE).await?;
            if entries.is_empty() {
                let reason = "it is missing: the log ends before it".to_owned();
                fault = Some(AuditFault { number: walk.last + 1, reason });
            }
            for entry in entries.iter().take_while(|entry| entry.number <= chain.number) {
                if let Err(found) = walk.step(entry) {
                    fault = Some(found);
                    break;
                }
            }
            if fault.is_none() && entries.iter().all(|entry| entry.number > chain.number) {
                let reason = "it is missing: a later one comes in its place".to_owned();
                fault = Some(AuditFault { number: walk.last + 1, reason });
            }
        }
        if fault.is_none() && walk.hash != chain.hash {
            let reason = "it is not the entry that was written last".to_owned();
            fault = Some(AuditFault { number: chain.number, reason });
        }
        if fault.is_none() {
            let strays = read_one!(
                self,
                (Option<u64>,),
                "SELECT MIN(number) FROM audit_entry WHERE organization = $1 AND number < $2",
                chain_name(organization),
                chain.first,
            )?;
            if let Some((Some(number),)) = strays {
                let reason = "it should have been removed".to_owned();
                fault = Some(AuditFault { number, reason });
            }
        }
        Ok(AuditCheck { chain: chain.clone(), entries: walk.entries, fault })
    }
}
