//! The endpoints of the audit log.

use std::time::Duration;

use reqwest::Method;

use super::{Client, Result};
use crate::audit::{
    AuditEntryPage, AuditFilter, AuditPlace, AuditReport, AuditRetention, SetAuditRetention,
};

/// How long the whole log may take to be read.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

#[expect(clippy::missing_errors_doc, reason = "all fail as the other endpoints do")]
impl Client {
    /// A page of the log, the newest first.
    pub async fn list_audit(&self, filter: &AuditFilter) -> Result<AuditEntryPage> {
        self.json(self.call(Method::GET, "api/audit").query(filter)).await
    }

    /// The whole log, the oldest first, an entry in each line, to be read piece by piece (`chunk`).
    pub async fn export_audit(&self, filter: &AuditFilter) -> Result<reqwest::Response> {
        let call = self.call(Method::GET, "api/audit").query(filter).accept("application/x-ndjson");
        self.send(call.within(WHOLE_TIMEOUT)).await
    }

    /// Has the server read the whole log and compare every hash.
    pub async fn check_audit(&self, place: AuditPlace) -> Result<AuditReport> {
        let call = self.call(Method::GET, "api/audit/check").query(&place);
        self.json(call.within(WHOLE_TIMEOUT)).await
    }

    /// For how long entries are kept.
    pub async fn find_audit_retention(&self, place: AuditPlace) -> Result<AuditRetention> {
        self.json(self.call(Method::GET, "api/audit/retention").query(&place)).await
    }

    /// Chooses for how long entries are kept.
    pub async fn set_audit_retention(
        &self,
        place: AuditPlace,
        set: SetAuditRetention,
    ) -> Result<AuditRetention> {
        self.json(self.call(Method::PUT, "api/audit/retention").query(&place).json(&set)).await
    }
}
