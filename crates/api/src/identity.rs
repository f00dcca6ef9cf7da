//! Who calls, and how the page signs in.

use std::fmt;

use boatyard_model::{MemberId, OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What every API key begins with.
pub const KEY_PREFIX: &str = "by_";

/// The header with which the page proves that a change comes from itself.
pub const CSRF_HEADER: &str = "x-boatyard-csrf";

/// Signs the page in with a key; the answer sets the session's cookie.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// An API key, or the one-time code of a printed link.
    pub key: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login { key: <hidden> }")
    }
}

/// A link that signs a browser in once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginLink {
    /// Open it in a browser; it works once.
    pub url: String,
    /// Until when.
    pub expires: Timestamp,
}

impl fmt::Debug for LoginLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginLink {{ url: <hidden>, expires: {} }}", self.expires)
    }
}

/// Who the server takes the caller for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    /// The organization.
    pub organization: OrganizationId,
    /// The person.
    pub member: MemberId,
    /// The person's name, as shown to people.
    pub name: String,
    /// What the page must send as `X-Boatyard-CSRF` with every request that changes something;
    /// absent for callers with a key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub csrf: Option<String>,
}
