//! Codes by which a device without a browser is let in (RFC 8628).
//!
//! ```text
//! program ─ POST /api/auth/device/code ──► its code, and one for a person
//! person  ─ GET  /api/auth/device/{code} ► what asks, and from where;  POST: yes or no
//! program ─ POST /api/auth/device/token ─► "wait", … then its key, once
//! ```
//!
//! What programs send and get is as the RFC has it, errors included ([`DeviceError`]); both a form
//! and JSON are taken.

use std::fmt;

use boatyard_model::{KeyId, Scopes, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The grant type of a question for the key (RFC 8628, 3.4).
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The letters of codes that people type: no vowels, so that they are no words, and nothing that
/// looks like something else (RFC 8628, 6.1).
pub const ALPHABET: &str = "BCDFGHJKLMNPQRSTVWXZ";

/// Letters in such a code.
pub const LENGTH: usize = 8;

/// A wish to be let in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DeviceCodeRequest {
    /// What kind of program asks; `boatyard` for the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What it is to be called: `boatyard on laptop`. It becomes the key's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_name: Option<String>,
    /// What it asks to be allowed: scopes apart by spaces; everything that the person may if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// The codes for a program (RFC 8628, 3.2).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceCodes {
    /// What the program asks with.
    pub device_code: String,
    /// What a person types: `BCDF-GHJK`.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same, with the code in it.
    pub verification_uri_complete: String,
    /// For how many seconds the codes are good.
    pub expires_in: u64,
    /// How many seconds to wait between two questions.
    pub interval: u64,
}

impl fmt::Debug for DeviceCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCodes")
            .field("expires_in", &self.expires_in)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// A question for the key (RFC 8628, 3.4).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DeviceTokenRequest {
    /// `urn:ietf:params:oauth:grant-type:device_code`.
    pub grant_type: String,
    /// The program's code.
    pub device_code: String,
    /// As in the wish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

impl fmt::Debug for DeviceTokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceTokenRequest")
            .field("grant_type", &self.grant_type)
            .finish_non_exhaustive()
    }
}

/// The program's key. It is shown here, and never again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceToken {
    /// What to send as `Authorization: Bearer …`.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: String,
    /// In how many seconds it ceases to work.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_in: Option<u64>,
    /// What it may be used for, apart by spaces.
    pub scope: String,
    /// The key's id.
    pub key: KeyId,
}

impl fmt::Debug for DeviceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceToken")
            .field("scope", &self.scope)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Why there is no key, or none yet (RFC 6749, 5.2, and RFC 8628, 3.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceError {
    /// `authorization_pending`, `slow_down`, `access_denied`, `expired_token`, `invalid_grant`,
    /// `invalid_request`, `invalid_scope`, `unsupported_grant_type`, `temporarily_unavailable`.
    pub error: String,
    /// The same in a sentence.
    #[serde(default)]
    pub error_description: String,
}

/// Where a program that wants to be let in stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceCodeState {
    /// Nobody has decided.
    Pending,
    /// It is let in.
    Approved,
    /// It is not.
    Denied,
    /// Nobody decided in time.
    Expired,
}

/// A program that wants to be let in: what a person should know before deciding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceCodeDetail {
    /// What it calls itself.
    pub client: String,
    /// What it is, as its `User-Agent` says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
    /// Where it asked from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// What it asks to be allowed; it never gets more than the person who lets it in may do.
    pub scopes: Scopes,
    /// Where it stands.
    pub state: DeviceCodeState,
    /// When it asked.
    pub created: Timestamp,
    /// Until when one can decide.
    pub expires: Timestamp,
}

/// What a person decides about a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceDecision {
    /// Whether it is let in, as the person who decides and in the organization that this is asked
    /// in.
    pub approve: bool,
    /// What it is allowed, if that is less than it asks for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scopes: Option<Scopes>,
    /// When its key ceases to work; in 90 days if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<Timestamp>,
}
