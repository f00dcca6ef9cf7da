//! Who changed what, when and from where.

use boatyard_model::{MemberId, OrganizationId, PersonId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use boatyard_model::audit::{AuditEntry, AuditFault, AuditOutcome};

use crate::{Cursor, page::page};

page! {
    /// A page of the audit log.
    AuditEntryPage of AuditEntry;
}

/// Which entries of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditFilter {
    /// Only those by this person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub person: Option<PersonId>,
    /// Only those by this member.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub member: Option<MemberId>,
    /// Only those of this operation, as the API's description calls it: `create_task`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<String>,
    /// Only those that ended so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[param(inline)]
    pub outcome: Option<AuditOutcome>,
    /// Only those about this: an id or a name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub about: Option<String>,
    /// Only those from this address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// Only that of this request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request: Option<String>,
    /// Only those at this time or later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<Timestamp>,
    /// Only those before this time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<Timestamp>,
    /// The server's own log instead of the organization's: sign-ins of people who are not known, and
    /// what belongs to no organization. For operators.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server: Option<bool>,
    /// At most so many, 1 to 200.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// Where the page begins: `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[param(value_type = Option<String>)]
    pub cursor: Option<Cursor>,
}

/// Which log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditPlace {
    /// The server's own log instead of the organization's. For operators.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server: Option<bool>,
}

/// What a check of the audit log found: every entry that is kept was read and its hash compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditReport {
    /// Whose log; absent for the server's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub organization: Option<OrganizationId>,
    /// Whether nothing was changed, removed or put in.
    pub whole: bool,
    /// How many entries are as they were written, from the oldest on.
    pub entries: u64,
    /// The number of the oldest entry that is kept.
    pub first: u64,
    /// The hash of the entry before that; zeros if nothing was ever removed.
    pub anchor: String,
    /// The number of the newest entry; 0 if there is none.
    pub last: u64,
    /// The hash of the newest entry. Keep it elsewhere, with its number: a log that was written anew
    /// from the beginning has another one.
    pub hash: String,
    /// Where the log is not what it should be.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fault: Option<AuditFault>,
}

/// For how long entries of the audit log are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRetention {
    /// Days; absent: for good.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub days: Option<u32>,
    /// Whether that was chosen for this log; otherwise it is what the server's settings say.
    pub chosen: bool,
}

/// Chooses for how long entries of the audit log are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAuditRetention {
    /// Days, 1 to 36500; 0 keeps them for good; null does what the server's settings say.
    #[schema(required)]
    pub days: Option<u32>,
}
